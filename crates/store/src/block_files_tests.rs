use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::disk::{DiskOp, HookedDisk};
use crate::{MemDisk, OsDisk};

const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];
const KEY: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 0xff];

fn config() -> BlockFilesConfig {
    BlockFilesConfig { magic: MAGIC, fresh_xor_key: Some(KEY), fast_prune: false }
}

fn open(disk: &MemDisk) -> BlockFiles {
    BlockFiles::open(Arc::new(disk.clone()), Path::new("/blocks"), config()).unwrap()
}

fn payload(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.gen_range(80..900)];
    rng.fill_bytes(&mut bytes);
    bytes
}

#[test]
fn xor_by_any_offset_equals_xor_byte_by_byte() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for offset in 0..20u64 {
        let plain = payload(&mut rng);
        let mut mine = plain.clone();
        XorKey(KEY).apply(&mut mine, offset);
        let theirs = plain.iter().zip(offset..).map(|(byte, at)| byte ^ KEY[(at % 8) as usize]);
        assert!(theirs.eq(mine));
    }
}

#[test]
fn files_have_cores_framing() {
    let disk = MemDisk::new();
    let files = open(&disk);
    let block = vec![7; 100];
    let pos = files.append_block(&block).unwrap();
    assert_eq!(pos, FilePos { file: 0, offset: 8 });
    assert_eq!(pos.to_string(), "FlatFilePos(nFile=0, nPos=8)");
    let undo = files.append_undo(pos, &[9; 32], b"undo").unwrap();

    let raw = |name: &str| {
        let mut bytes = read_all(&disk, &Path::new("/blocks").join(name)).unwrap();
        XorKey(KEY).apply(&mut bytes, 0);
        bytes
    };
    assert_eq!(raw("blk00000.dat"), [&MAGIC[..], &[100, 0, 0, 0], &block].concat());
    let checksum = sha256d::Hash::hash(&[&[9; 32][..], b"undo"].concat()).to_byte_array();
    assert_eq!(raw("rev00000.dat"), [&MAGIC[..], &[4, 0, 0, 0], b"undo", &checksum].concat());
    assert_eq!(read_all(&disk, Path::new("/blocks/xor.dat")).unwrap(), KEY);
    assert_eq!(files.read_undo(undo, &[9; 32]).unwrap(), b"undo");
    assert!(matches!(files.read_undo(undo, &[8; 32]), Err(StoreError::Damaged { .. })));
    assert_eq!(files.bytes_on_disk(), 108 + 44);
}

#[test]
fn parts_of_blocks_as_core_gives_them() {
    let files = open(&MemDisk::new());
    files.append_block(&[1; 90]).unwrap();
    let pos = files.append_block(&(0..100).collect::<Vec<u8>>()).unwrap();
    assert_eq!(files.read_block_part(pos, 0, 1).unwrap(), [0]);
    assert_eq!(files.read_block_part(pos, 97, 3).unwrap(), [97, 98, 99]);
    for (offset, len) in [(0, 0), (0, 101), (100, 1), (u32::MAX, 2), (2, u32::MAX)] {
        assert!(matches!(files.read_block_part(pos, offset, len), Err(StoreError::BadPart { .. })));
    }
    for pos in [FilePos { file: 0, offset: 7 }, FilePos { file: 1, offset: 8 }] {
        assert!(matches!(files.read_block(pos), Err(StoreError::Missing { .. })));
    }
}

#[test]
fn fast_prune_opens_small_files_and_grows_one_for_a_large_block() {
    let config = BlockFilesConfig { fast_prune: true, ..config() };
    let files = BlockFiles::open(Arc::new(MemDisk::new()), Path::new("/blocks"), config).unwrap();
    let numbers: Vec<u32> = [30_000, 30_000, 30_000, 200_000, 100]
        .map(|len| files.append_block(&vec![1; len]).unwrap().file)
        .to_vec();
    assert_eq!(numbers, [0, 0, 1, 2, 3]);
    files.append_undo(FilePos { file: 1, offset: 8 }, &[0; 32], &[1]).unwrap();
    // Each block file has its undo file from the start.
    assert_eq!(files.files(FileKind::Undo), [(0, 0), (1, 41), (2, 0), (3, 0)]);
    files.remove(1).unwrap();
    files.remove(1).unwrap();
    assert_eq!(files.files(FileKind::Block).iter().map(|(n, _)| *n).collect::<Vec<_>>(), [0, 2, 3]);
    assert!(matches!(files.read_block(FilePos { file: 1, offset: 8 }), Err(StoreError::Missing { .. })));
}

#[test]
fn a_folder_in_use_without_a_key_keeps_the_zero_key() {
    let disk = MemDisk::new();
    let dir = Path::new("/blocks");
    disk.create_dir_all(dir).unwrap();
    disk.open(&dir.join("blk00000.dat"), OpenMode::Write).unwrap();
    assert_eq!(open(&disk).xor_key(), XorKey([0; 8]));
    assert_eq!(open(&disk).xor_key(), XorKey([0; 8]));

    let hidden = MemDisk::new();
    hidden.create_dir_all(dir).unwrap();
    hidden.open(&dir.join(".lock"), OpenMode::Write).unwrap();
    assert_eq!(open(&hidden).xor_key(), XorKey(KEY));

    let off = BlockFilesConfig { fresh_xor_key: None, ..config() };
    let refused = BlockFiles::open(Arc::new(hidden), dir, off).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "The blocksdir XOR-key can not be disabled when a random key was already stored! \
         Stored key: '01020304050607ff', stored path: '/blocks/xor.dat'."
    );
    BlockFiles::open(Arc::new(disk), dir, off).unwrap();
}

#[test]
fn scan_finds_every_block_between_garbage() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..20 {
        let disk = MemDisk::new();
        let files = open(&disk);
        let mut expected = Vec::new();
        let mut raw = Vec::new();
        for _ in 0..rng.gen_range(1..30) {
            match rng.gen_range(0..5) {
                0 => raw.extend(vec![0; rng.gen_range(0..5000)]),
                1 => raw.extend(MAGIC),
                2 => raw.extend([&MAGIC[..], &[79, 0, 0, 0]].concat()),
                3 => raw.extend([&MAGIC[..], &[0xff; 4], &MAGIC[..2]].concat()),
                _ => {
                    let block = payload(&mut rng);
                    raw.extend(MAGIC);
                    raw.extend((block.len() as u32).to_le_bytes());
                    expected.push((raw.len() as u64, block.clone()));
                    raw.extend(&block);
                }
            }
        }
        // A torn block at the end.
        raw.extend([&MAGIC[..], &[200, 0, 0, 0], &[5; 100]].concat());
        XorKey(KEY).apply(&mut raw, 0);
        let file = disk.open(Path::new("/blocks/blk00000.dat"), OpenMode::Write).unwrap();
        file.write_at(&raw, 0).unwrap();
        let mut scan = files.scan(0).unwrap();
        let found: Vec<_> = scan.by_ref().map(|found| found.unwrap()).map(|b| (b.offset, b.bytes)).collect();
        assert_eq!(scan.end(), expected.last().map_or(0, |(at, block)| at + block.len() as u64));
        assert_eq!(found, expected);
    }
}

#[test]
fn scan_crosses_its_own_window() {
    let disk = MemDisk::new();
    let files = open(&disk);
    let blocks: Vec<Vec<u8>> = (0..8).map(|n| vec![n; 700_000 + usize::from(n)]).collect();
    for block in &blocks {
        files.append_block(block).unwrap();
    }
    let found = files.scan(0).unwrap().map(|found| found.unwrap().bytes);
    assert!(found.eq(blocks));
}

#[test]
fn damage_gives_the_right_bytes_or_a_named_error() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for round in 0..1000 {
        let disk = MemDisk::new();
        let files = open(&disk);
        let mut blocks = Vec::new();
        for _ in 0..6 {
            let (block, undo) = (payload(&mut rng), payload(&mut rng));
            let at = files.append_block(&block).unwrap();
            let undo_at = files.append_undo(at, &[3; 32], &undo).unwrap();
            blocks.push((at, block, undo_at, undo));
        }
        let kind = if round % 2 == 0 { FileKind::Block } else { FileKind::Undo };
        disk.damage(&files.path(kind, 0), |bytes| {
            let at = rng.gen_range(0..bytes.len());
            let end = (at + rng.gen_range(1..600)).min(bytes.len());
            match rng.gen_range(0..4) {
                0 => bytes[at] ^= 1 << rng.gen_range(0..8),
                1 => bytes[at..end].fill(0),
                2 => bytes.truncate(at),
                _ => bytes.copy_within(at..end, 0),
            }
        });
        let again = open(&disk);
        for (at, block, undo_at, undo) in &blocks {
            // A block's own hashes are its checksum, so only its length is promised here.
            match again.read_block(*at) {
                Ok(found) => assert!(kind == FileKind::Block || found == *block),
                Err(error) => assert!(error.is_damage(), "{error}"),
            }
            match again.read_undo(*undo_at, &[3; 32]) {
                Ok(found) => assert_eq!(found, *undo),
                Err(error) => assert!(error.is_damage(), "{error}"),
            }
        }
        for found in again.scan(0).unwrap() {
            found.unwrap();
        }
    }
}

#[test]
fn what_was_synced_survives_power_loss_and_appending_goes_on() {
    for seed in 0..200 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let disk = MemDisk::with_power_loss();
        let files = open(&disk);
        let mut kept = Vec::new();
        for _ in 0..rng.gen_range(0..5) {
            let block = payload(&mut rng);
            kept.push((files.append_block(&block).unwrap(), block));
        }
        files.sync().unwrap();
        let end = files.files(FileKind::Block).first().map_or(0, |(_, end)| *end);
        for _ in 0..rng.gen_range(0..5) {
            files.append_block(&payload(&mut rng)).unwrap();
        }
        let disk = disk.lose_power(|| rng.r#gen());
        let files = open(&disk);
        files.truncate(FileKind::Block, 0, end).unwrap();
        let block = vec![1; 80];
        kept.push((files.append_block(&block).unwrap(), block));
        for (at, block) in &kept {
            assert_eq!(files.read_block(*at).unwrap(), *block);
        }
        assert_eq!(files.scan(0).unwrap().count(), kept.len());
        assert!(matches!(files.truncate(FileKind::Block, 0, u32::MAX), Err(StoreError::Damaged { .. })));
    }
}

#[test]
fn a_failed_step_is_fatal_and_never_tried_again() {
    for failing in [DiskOp::Write, DiskOp::Sync, DiskOp::SyncDir, DiskOp::Open] {
        let armed = Arc::new(AtomicBool::new(false));
        let hook = {
            let armed = Arc::clone(&armed);
            Arc::new(move |point: &crate::FailPoint<'_>| {
                if point.op == failing && armed.swap(false, Ordering::Relaxed) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                Ok(())
            })
        };
        let disk = HookedDisk::new(Arc::new(MemDisk::new()), hook);
        let files = BlockFiles::open(Arc::new(disk), Path::new("/blocks"), config()).unwrap();
        armed.store(true, Ordering::Relaxed);
        let error = files.append_block(&[1; 80]).and_then(|_| files.sync()).err().unwrap();
        assert!(error.is_fatal() && error.is_out_of_space(), "{error}");
        assert!(!armed.load(Ordering::Relaxed), "{failing:?} did not happen");
        assert!(matches!(files.append_block(&[1; 80]), Err(StoreError::Stopped { .. })));
        assert!(matches!(files.sync(), Err(StoreError::Stopped { .. })));
    }
}

#[test]
fn many_threads_read_while_one_appends_to_real_files() {
    let dir = tempfile::tempdir().unwrap();
    let files = BlockFiles::open(Arc::new(OsDisk), dir.path(), config()).unwrap();
    let block = |n: u32| n.to_le_bytes().repeat(50);
    let positions = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let seen: Vec<FilePos> = positions.lock().clone();
                    for (n, at) in (0..).zip(&seen) {
                        assert_eq!(files.read_block(*at).unwrap(), block(n));
                    }
                    if seen.len() == 200 {
                        break;
                    }
                }
            });
        }
        for n in 0..200 {
            let at = files.append_block(&block(n)).unwrap();
            positions.lock().push(at);
            if n % 50 == 0 {
                files.sync().unwrap();
            }
        }
    });
    let again = BlockFiles::open(Arc::new(OsDisk), dir.path(), config()).unwrap();
    assert_eq!(again.files(FileKind::Block), [(0, 200 * 208)]);
    assert_eq!(again.append_block(&block(0)).unwrap().offset, 200 * 208 + 8);
    assert!(again.free_bytes().unwrap() > 0);
}
