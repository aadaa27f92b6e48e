//! Damage in the files of the key-value store: right values or a named error, never a panic.

use std::fs;
use std::path::{Path, PathBuf};

use ironpeer_store::{Batch, Durability, FjallConfig, FjallKv, Kv, KvRead, Space, SpaceConfig, StoreError};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SPACES: [SpaceConfig; 1] = [SpaceConfig { name: "coins", expect_hits: true }];
const COINS: Space = Space(0);

fn config() -> FjallConfig {
    // A tiny write buffer, so that tables exist beside the log.
    FjallConfig { memtable_bytes: 16 * 1024, ..FjallConfig::small() }
}

fn value(key: u32) -> Vec<u8> {
    key.to_le_bytes().repeat(10)
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, out) } else { out.push(path) }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            let bytes = fs::read(entry.path()).unwrap();
            // The log is allocated ahead; keep the copies small.
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            fs::write(&to, &bytes[..used]).unwrap();
            fs::File::options().write(true).open(&to).unwrap().set_len(bytes.len() as u64).unwrap();
        }
    }
}

/// Opens and reads everything; an error is fine, a wrong value or a panic is not.
fn read_all(dir: &Path) -> Result<usize, StoreError> {
    let kv = FjallKv::open(dir, &SPACES, &config())?;
    let mut found = 0;
    for pair in kv.iter(COINS) {
        let (key, bytes) = pair?;
        let key = u32::from_be_bytes(key.try_into().expect("a key that was never written"));
        assert_eq!(bytes, value(key));
        found += 1;
    }
    for key in (0u32..6000).step_by(97) {
        if let Some(bytes) = kv.get(COINS, &key.to_be_bytes())? {
            assert_eq!(bytes, value(key));
        }
    }
    Ok(found)
}

#[test]
fn damaged_files_give_right_values_or_a_named_error() {
    let root = tempfile::tempdir().unwrap();
    let original = root.path().join("original");
    {
        let kv = FjallKv::open(&original, &SPACES, &config()).unwrap();
        for start in (0u32..6000).step_by(200) {
            let mut batch = Batch::new();
            for key in start..start + 200 {
                batch.put(COINS, key.to_be_bytes(), value(key));
            }
            kv.commit(batch, Durability::Process).unwrap();
        }
        kv.sync().unwrap();
    }
    assert_eq!(read_all(&original).unwrap(), 6000);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut noticed = 0;
    for round in 0..60 {
        let dir = root.path().join(format!("{round}"));
        copy(&original, &dir);
        let mut names = Vec::new();
        files(&dir, &mut names);
        names.retain(|name| name.metadata().unwrap().len() > 0);
        names.sort();
        let victim = &names[rng.gen_range(0..names.len())];
        let mut bytes = fs::read(victim).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        let at = rng.gen_range(0..used);
        let end = (at + rng.gen_range(1..512)).min(used);
        match rng.gen_range(0..3) {
            0 => bytes[at] ^= 1 << rng.gen_range(0..8),
            1 => bytes[at..end].fill(0),
            _ => bytes.truncate(at),
        }
        fs::write(victim, &bytes).unwrap();
        match read_all(&dir) {
            Ok(found) => noticed += usize::from(found < 6000),
            Err(_) => noticed += 1,
        }
        fs::remove_dir_all(&dir).unwrap();
    }
    assert!(noticed > 10, "only {noticed} of 60 were noticed: the damage misses what is read");
}
