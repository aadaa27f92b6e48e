use std::collections::BTreeMap;
use std::ops::Bound;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{FjallConfig, FjallKv, MemKv, SpaceConfig};

const SPACES: [SpaceConfig; 2] =
    [SpaceConfig { name: "coins", expect_hits: true }, SpaceConfig { name: "meta", expect_hits: false }];
const A: Space = Space(0);
const B: Space = Space(1);

fn key(rng: &mut ChaCha8Rng) -> Vec<u8> {
    (0..rng.gen_range(1..4)).map(|_| [0, 1, 7, 255][rng.gen_range(0..4)]).collect()
}

fn bound(rng: &mut ChaCha8Rng) -> Bound<Vec<u8>> {
    match rng.gen_range(0..3) {
        0 => Bound::Unbounded,
        1 => Bound::Included(key(rng)),
        _ => Bound::Excluded(key(rng)),
    }
}

fn inside(key: &[u8], from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
    let above = match from {
        Bound::Unbounded => true,
        Bound::Included(from) => key >= &from[..],
        Bound::Excluded(from) => key > &from[..],
    };
    above
        && match to {
            Bound::Unbounded => true,
            Bound::Included(to) => key <= &to[..],
            Bound::Excluded(to) => key < &to[..],
        }
}

type Model = [BTreeMap<Vec<u8>, Vec<u8>>; 2];

fn compare(kv: &dyn KvRead, model: &Model, rng: &mut ChaCha8Rng) {
    let as_bound = |bound: &Bound<Vec<u8>>| bound.clone();
    for (space, table) in [(A, &model[0]), (B, &model[1])] {
        let probe = key(rng);
        assert_eq!(kv.get(space, &probe).unwrap().as_ref(), table.get(&probe));
        let (from, to, reverse) = (bound(rng), bound(rng), rng.r#gen());
        let mut expected: Vec<KvPair> = table
            .iter()
            .filter(|(key, _)| inside(key, &from, &to))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if reverse {
            expected.reverse();
        }
        let (low, high) = (as_bound(&from), as_bound(&to));
        let found = kv.range(space, low.as_ref().map(|b| &b[..]), high.as_ref().map(|b| &b[..]), reverse);
        assert_eq!(found.collect::<Result<Vec<_>, _>>().unwrap(), expected, "{from:?} {to:?} {reverse}");
        let prefix = key(rng);
        let found = kv.prefix(space, &prefix).map(|pair| pair.unwrap().0);
        assert!(found.eq(table.keys().filter(|key| key.starts_with(&prefix)).cloned()));
    }
}

fn behaves_like_a_map(kv: &dyn Kv, seed: u64, rounds: usize) -> Model {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut model = Model::default();
    let mut older: Option<(Box<dyn KvRead>, Model)> = None;
    for _ in 0..rounds {
        let mut batch = Batch::new();
        for _ in 0..rng.gen_range(0..20) {
            let (space, key) = (rng.gen_range(0..2), key(&mut rng));
            if rng.gen_bool(0.6) {
                let value = vec![rng.r#gen(); rng.gen_range(0..50)];
                batch.put(Space(space), key.clone(), value.clone());
                model[space].insert(key, value);
            } else {
                batch.delete(Space(space), key.clone());
                model[space].remove(&key);
            }
        }
        let durability = if rng.gen_bool(0.1) { Durability::Power } else { Durability::Process };
        kv.commit(batch, durability).unwrap();
        compare(kv, &model, &mut rng);
        if let Some((snapshot, then)) = &older {
            compare(snapshot.as_ref(), then, &mut rng);
        }
        if rng.gen_bool(0.2) {
            older = Some((kv.snapshot(), model.clone()));
        }
    }
    model
}

#[test]
fn memory_store_behaves_like_a_map() {
    for seed in 0..20 {
        behaves_like_a_map(&MemKv::new(), seed, 60);
    }
}

#[test]
fn disk_store_behaves_like_a_map_and_remembers() {
    let dir = tempfile::tempdir().unwrap();
    let kv = FjallKv::open(dir.path(), &SPACES, &FjallConfig::small()).unwrap();
    let model = behaves_like_a_map(&kv, 5, 200);
    kv.sync().unwrap();
    drop(kv);
    let kv = FjallKv::open(dir.path(), &SPACES, &FjallConfig::small()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for _ in 0..50 {
        compare(&kv, &model, &mut rng);
    }
    // How long the log was made does not count.
    assert!(kv.bytes_on_disk() < 8 << 20);
}

#[test]
fn a_second_opening_and_an_unknown_space_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let kv = FjallKv::open(dir.path(), &SPACES, &FjallConfig::small()).unwrap();
    let second = FjallKv::open(dir.path(), &SPACES, &FjallConfig::small()).err().unwrap();
    assert!(matches!(second, StoreError::Kv { .. }));
    assert!(kv.get(Space(2), b"key").is_err());
    assert!(kv.iter(Space(2)).next().unwrap().is_err());
    let mut batch = Batch::new();
    batch.put(A, *b"whole", *b"or not at all");
    batch.put(Space(2), *b"key", *b"value");
    assert!(kv.commit(batch, Durability::Process).is_err());
    assert_eq!(kv.get(A, b"whole").unwrap(), None);
}

#[test]
fn a_hook_can_fail_commit_and_sync() {
    let dir = tempfile::tempdir().unwrap();
    let hook: crate::FailHook = std::sync::Arc::new(|_| Err(std::io::ErrorKind::StorageFull.into()));
    let config = FjallConfig { hook: Some(hook), ..FjallConfig::small() };
    let kv = FjallKv::open(dir.path(), &SPACES, &config).unwrap();
    let mut batch = Batch::new();
    batch.put(A, *b"key", *b"value");
    assert_eq!((batch.len(), batch.bytes()), (1, 8));
    let error = kv.commit(batch, Durability::Process).unwrap_err();
    assert!(error.is_fatal() && error.is_out_of_space());
    assert!(kv.sync().unwrap_err().is_fatal());
    assert_eq!(kv.get(A, b"key").unwrap(), None);
}

#[test]
fn prefixes_of_full_bytes_have_no_end() {
    assert_eq!(prefix_end(&[1, 255, 255]), Some(vec![2]));
    assert_eq!(prefix_end(&[255]), None);
    assert_eq!(prefix_end(&[]), None);
}
