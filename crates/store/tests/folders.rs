//! Locks, markers and atomic replacement on real folders.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ironpeer_store::{
    DirLock, Disk, FailPoint, FolderState, HookedDisk, LockError, MemDisk, OpenMode, OsDisk, StoreError,
    claim_folder, destroy_folder, is_foreign_leveldb, move_aside, write_atomic,
};

#[test]
fn one_holder_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(dir.path()).unwrap();
    assert!(matches!(DirLock::acquire(dir.path()), Err(LockError::Held)));
    drop(lock);
    drop(DirLock::acquire(dir.path()).unwrap());
    assert!(dir.path().join(".lock").exists());
    assert!(matches!(DirLock::acquire(&dir.path().join("missing")), Err(LockError::Unwritable(_))));
}

#[test]
fn a_claimed_folder_is_recognised() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("chainstate");
    assert_eq!(claim_folder(&OsDisk, &dir, "chainstate", 1).unwrap(), FolderState::Fresh);
    assert_eq!(claim_folder(&OsDisk, &dir, "chainstate", 1).unwrap(), FolderState::Existing);
    for (kind, version) in [("chainstate", 2), ("index", 1)] {
        assert!(matches!(claim_folder(&OsDisk, &dir, kind, version), Err(StoreError::Format { .. })));
    }
    fs::write(dir.join("data"), "x").unwrap();
    fs::create_dir(dir.join("keyspaces")).unwrap();
    destroy_folder(&dir).unwrap();
    assert!(!dir.exists());
    destroy_folder(&dir).unwrap();
}

#[test]
fn another_programs_database_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("chainstate");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("CURRENT"), "MANIFEST-000002\n").unwrap();
    assert!(is_foreign_leveldb(&OsDisk, &dir));
    assert!(matches!(claim_folder(&OsDisk, &dir, "chainstate", 1), Err(StoreError::Foreign { .. })));
    assert!(matches!(destroy_folder(&dir), Err(StoreError::Foreign { .. })));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);

    let aside = move_aside(&dir).unwrap();
    assert_eq!(aside, root.path().join("chainstate.foreign"));
    assert_eq!(fs::read_to_string(aside.join("CURRENT")).unwrap(), "MANIFEST-000002\n");
    assert_eq!(claim_folder(&OsDisk, &dir, "chainstate", 1).unwrap(), FolderState::Fresh);
    assert_eq!(move_aside(&dir).unwrap(), root.path().join("chainstate.foreign-2"));
}

fn content(disk: &MemDisk, path: &Path) -> Option<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read).ok()?;
    let mut bytes = vec![0; file.size().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

#[test]
fn a_crash_at_any_step_of_a_replacement_leaves_the_old_or_the_new_file() {
    let path = Path::new("/data/peers.dat");
    let (old, new) = (vec![1; 3000], vec![2; 5000]);
    let mut steps_seen = 0;
    for fail_at in 0..=6 {
        for seed in 0..50u64 {
            let disk = MemDisk::with_power_loss();
            disk.create_dir_all(Path::new("/data")).unwrap();
            write_atomic(&disk, path, &old).unwrap();
            let step = Arc::new(AtomicUsize::new(0));
            let hook = {
                let step = Arc::clone(&step);
                move |_: &FailPoint<'_>| {
                    if step.fetch_add(1, Ordering::Relaxed) == fail_at {
                        return Err(std::io::ErrorKind::Other.into());
                    }
                    Ok(())
                }
            };
            let hooked = HookedDisk::new(Arc::new(disk.clone()), Arc::new(hook));
            let result = write_atomic(&hooked, path, &new);
            steps_seen = steps_seen.max(step.load(Ordering::Relaxed));
            let mut state = seed;
            let after = disk.lose_power(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 63 == 1
            });
            let found = content(&after, path).unwrap();
            if result.is_ok() {
                assert_eq!(found, new);
            } else {
                assert!(found == old || found == new, "torn at step {fail_at}");
            }
        }
    }
    assert_eq!(steps_seen, 5, "create, write, sync, rename, sync folder");
}
