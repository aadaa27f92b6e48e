//! The few verbs of disk: flat files, key-value batches, journal, atomic files, locks.
//!
//! This room does not know what a block means. It keeps bytes where they were put, says which
//! of them survive a killed process and which survive a power loss, and answers damage with a
//! typed error. It has no runtime, no clock and no randomness of its own.
//!
//! Everything but the key-value store goes through the [`Disk`] trait: [`OsDisk`] is the real
//! one, [`MemDisk`] lives in memory and can lose power, [`HookedDisk`] lets a test fail any step.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod block_files;
mod block_scan;
mod disk;
mod error;
mod folder;
mod journal;
mod kv;
mod kv_fjall;
mod kv_mem;
pub mod limits;
mod lock;
mod mem_disk;

pub use block_files::{BlockFiles, BlockFilesConfig, FileKind, FilePos, XorKey};
pub use block_scan::{BlockScanner, ScannedBlock};
pub use disk::{Disk, DiskFile, DiskOp, FailHook, FailPoint, HookedDisk, OpenMode, OsDisk, write_atomic};
pub use error::StoreError;
pub use folder::{FolderState, claim_folder, destroy_folder, is_foreign_leveldb, move_aside};
pub use journal::{Journal, JournalOpened};
pub use kv::{Batch, BatchOp, Durability, Kv, KvIter, KvPair, KvRead, Space};
pub use kv_fjall::{FjallConfig, FjallKv, SpaceConfig};
pub use kv_mem::MemKv;
pub use lock::{DirLock, LockError};
pub use mem_disk::MemDisk;
