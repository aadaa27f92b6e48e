use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::MemDisk;

const PATH: &str = "/index/journal";

fn disk() -> MemDisk {
    let disk = MemDisk::with_power_loss();
    disk.create_dir_all(Path::new("/index")).unwrap();
    disk
}

fn open(disk: &MemDisk) -> Result<JournalOpened, StoreError> {
    Journal::open(Arc::new(disk.clone()), Path::new(PATH))
}

fn payload(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.gen_range(1..300)];
    rng.fill_bytes(&mut bytes);
    bytes
}

#[test]
fn records_come_back_in_order_until_reset() {
    let disk = disk();
    let mut journal = open(&disk).unwrap().journal;
    assert!(journal.is_empty());
    journal.append([&b"one"[..], b"two"]).unwrap();
    journal.sync().unwrap();
    journal.append([&b"three"[..]]).unwrap();
    let opened = open(&disk).unwrap();
    assert_eq!(opened.records, [&b"one"[..], b"two", b"three"]);
    assert_eq!(opened.cut_bytes, 0);

    let mut journal = opened.journal;
    journal.reset().unwrap();
    journal.append([&b"four"[..]]).unwrap();
    assert_eq!(open(&disk).unwrap().records, [b"four"]);
    assert!(matches!(journal.append([&b""[..]]), Err(StoreError::TooLarge { .. })));
    assert_eq!(open(&disk).unwrap().records, [b"four"]);
}

#[test]
fn leftovers_of_an_earlier_generation_are_no_records() {
    let disk = disk();
    let mut journal = open(&disk).unwrap().journal;
    journal.append([&[1; 100][..], &[2; 100]]).unwrap();
    journal.sync().unwrap();
    let old = read_all(&disk, Path::new(PATH)).unwrap();
    journal.reset().unwrap();
    journal.append([&[3; 100][..]]).unwrap();
    let end = journal.len() as usize;
    disk.damage(Path::new(PATH), |bytes| bytes.extend(&old[end..]));
    let opened = open(&disk).unwrap();
    assert_eq!(opened.records, [[3; 100]]);
    assert_eq!(opened.cut_bytes as usize, old.len() - end);
}

#[test]
fn a_torn_tail_is_cut_and_writing_goes_on() {
    let disk = disk();
    let mut journal = open(&disk).unwrap().journal;
    journal.append([&[1; 50][..]]).unwrap();
    let whole = journal.len() as usize;
    journal.append([&[2; 50][..]]).unwrap();
    let full = read_all(&disk, Path::new(PATH)).unwrap();
    for cut in whole..full.len() {
        disk.damage(Path::new(PATH), |bytes| *bytes = full[..cut].to_vec());
        let opened = open(&disk).unwrap();
        assert_eq!(opened.records, [[1; 50]]);
        assert_eq!(opened.cut_bytes as usize, cut - whole);
        let mut journal = opened.journal;
        journal.append([&[4; 9][..]]).unwrap();
        assert_eq!(open(&disk).unwrap().records, [&[1; 50][..], &[4; 9]]);
    }
}

#[test]
fn damage_is_named_or_only_costs_what_was_not_synced() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..2000 {
        let disk = disk();
        let mut journal = open(&disk).unwrap().journal;
        let (mut records, mut synced) = (Vec::new(), 0);
        for _ in 0..rng.gen_range(2..12) {
            records.push(payload(&mut rng));
            journal.append([&records.last().unwrap()[..]]).unwrap();
            if rng.gen_bool(0.3) {
                journal.sync().unwrap();
                synced = records.len();
            }
        }
        let kind = rng.gen_range(0..4);
        disk.damage(Path::new(PATH), |bytes| {
            let at = rng.gen_range(0..bytes.len());
            let end = (at + rng.gen_range(1..100)).min(bytes.len());
            match kind {
                0 => bytes[at] ^= 1 << rng.gen_range(0..8),
                1 => bytes[at..end].fill(0),
                2 => bytes.truncate(at),
                _ => {
                    let to = rng.gen_range(0..=bytes.len() - (end - at));
                    bytes.copy_within(at..end, to);
                }
            }
        });
        match open(&disk) {
            Err(error) => assert!(error.is_damage(), "{error}"),
            Ok(opened) => {
                assert!(records.starts_with(&opened.records), "a wrong record was read");
                // Wider damage may take the last sync's witness along: then nothing tells it
                // from a torn tail.
                assert!(kind != 0 || opened.records.len() >= synced);
            }
        }
    }
}

#[test]
fn damage_before_a_later_sync_is_never_taken_for_a_torn_tail() {
    let disk = disk();
    let mut journal = open(&disk).unwrap().journal;
    journal.append([&[1; 40][..], &[2; 40]]).unwrap();
    journal.sync().unwrap();
    let data_end = 24 + 2 * 64;
    let clean = read_all(&disk, Path::new(PATH)).unwrap();
    assert_eq!(clean.len(), data_end + 24, "two records and the witness of their sync");
    for at in 24..data_end {
        // The four bytes after each checksum, and the padding, carry nothing.
        let within = (at - 24) % 64;
        disk.damage(Path::new(PATH), |bytes| {
            bytes.clone_from(&clean);
            bytes[at] ^= 0x10;
        });
        match open(&disk) {
            Ok(opened) => {
                assert!((20..24).contains(&within), "byte {at} was taken for good");
                assert_eq!(opened.records.len(), 2);
            }
            Err(error) => assert!(matches!(error, StoreError::Damaged { .. }), "{error}"),
        }
    }
}

#[test]
fn power_loss_costs_only_unsynced_records_and_never_reports_damage() {
    for seed in 0..1000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let disk = disk();
        let mut journal = open(&disk).unwrap().journal;
        let (mut records, mut synced, mut before) = (Vec::new(), 0, None);
        for _ in 0..rng.gen_range(0..40) {
            match rng.gen_range(0..10) {
                0 => {
                    before = Some(std::mem::take(&mut records));
                    journal.reset().unwrap();
                    synced = 0;
                }
                1 | 2 => {
                    journal.sync().unwrap();
                    synced = records.len();
                }
                _ => {
                    records.push(payload(&mut rng));
                    journal.append([&records.last().unwrap()[..]]).unwrap();
                }
            }
        }
        drop(before);
        let found = open(&disk.lose_power(|| rng.r#gen())).unwrap().records;
        assert!(records.starts_with(&found));
        assert!(found.len() >= synced, "seed {seed}: {} of {synced} synced records", found.len());
    }
}

#[test]
fn nothing_is_written_after_a_failed_sync() {
    let hook = |point: &crate::FailPoint<'_>| match point.op {
        crate::DiskOp::Sync if point.path == Path::new(PATH) => Err(std::io::ErrorKind::Other.into()),
        _ => Ok(()),
    };
    let hooked: Arc<dyn Disk> = Arc::new(crate::HookedDisk::new(Arc::new(disk()), Arc::new(hook)));
    let mut journal = Journal::open(hooked, Path::new(PATH)).unwrap().journal;
    journal.append([&[1][..]]).unwrap();
    assert!(journal.sync().unwrap_err().is_fatal());
    assert!(matches!(journal.append([&[1][..]]), Err(StoreError::Stopped { .. })));
    assert!(matches!(journal.sync(), Err(StoreError::Stopped { .. })));
    assert!(matches!(journal.reset(), Err(StoreError::Stopped { .. })));
}
