use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use rustix::fs::FlockOperation;

/// A folder that belongs to this node until the value is dropped, by a lock on its `.lock` file
/// (Core's `LockDirectory`). The file stays.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

/// Why a folder could not be locked. The caller words the message.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another node has it.
    #[error("the directory is locked by another node")]
    Held,
    /// `.lock` cannot be made or opened.
    #[error("the directory cannot be written to")]
    Unwritable(#[source] std::io::Error),
}

impl DirLock {
    /// Locks `dir`, which must exist.
    ///
    /// Two locks are taken: `flock`, which also keeps two nodes of one process apart, and the
    /// record lock that Bitcoin Core takes, so that it and this node exclude each other.
    ///
    /// # Errors
    /// If another node holds it, or the file cannot be opened for writing.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(".lock"))
            .map_err(LockError::Unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held),
            Err(TryLockError::Error(error)) => return Err(LockError::Unwritable(error)),
        }
        match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Err(LockError::Held),
            Err(error) => Err(LockError::Unwritable(error.into())),
        }
    }
}
