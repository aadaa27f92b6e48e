use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong on disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused a step. If it was a write or a sync, what is on disk is no
    /// longer known: see [`StoreError::is_fatal`].
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        step: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Bytes that were once written whole are no longer what they were.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the bad record starts.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A position that no file holds (pruned, renamed away, or never written).
    #[error("{} has no record at byte {offset}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The position asked for.
        offset: u64,
    },
    /// A part of a block was asked for that the block does not have.
    #[error("part of {len} bytes at {offset} exceeds the block's {size} bytes")]
    BadPart {
        /// First byte asked for.
        offset: u32,
        /// Bytes asked for.
        len: u32,
        /// Bytes of the block.
        size: u32,
    },
    /// A record larger than its kind may be.
    #[error("record of {len} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Bytes of the record.
        len: usize,
        /// The limit.
        limit: u32,
    },
    /// The folder holds another program's database; nothing was changed.
    #[error("{} holds a database of another program", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// The folder was written by a newer release, or for another purpose.
    #[error("{} has format {found:?}, this release reads {expected:?}", path.display())]
    Format {
        /// The folder.
        path: PathBuf,
        /// Its marker.
        found: String,
        /// The marker this release writes.
        expected: String,
    },
    /// `-blocksxor=0` on a folder with a random key. The text is Core's.
    #[error(
        "The blocksdir XOR-key can not be disabled when a random key was already stored! \
         Stored key: '{key}', stored path: '{}'.", path.display()
    )]
    XorKeyStored {
        /// The key in hex.
        key: String,
        /// The key's file.
        path: PathBuf,
    },
    /// An earlier write or sync failed, so this one was not tried: the system may have dropped
    /// the bytes while a second sync reports success.
    #[error("not written: an earlier write to {} failed", path.display())]
    Stopped {
        /// The folder or file.
        path: PathBuf,
    },
    /// The key-value store failed.
    #[error("key-value store {} failed", path.display())]
    Kv {
        /// Its folder.
        path: PathBuf,
        /// The store's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    pub(crate) fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { step, path: path.to_owned(), source }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, what: &'static str) -> Self {
        Self::Damaged { path: path.to_owned(), offset, what }
    }

    /// Whether the node must stop: a write or sync failed, or a database did. Reads that find
    /// nothing, damage in one old record, or a refused argument are not.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Io { step, .. } => *step != "read",
            Self::Stopped { .. } | Self::Kv { .. } => true,
            _ => false,
        }
    }

    /// Whether the disk is full (or the quota is).
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        let kind = match self {
            Self::Io { source, .. } => source.kind(),
            Self::Kv { source, .. } => {
                let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
                loop {
                    match cause {
                        None => return false,
                        Some(error) => match error.downcast_ref::<io::Error>() {
                            Some(error) => break error.kind(),
                            None => cause = error.source(),
                        },
                    }
                }
            }
            _ => return false,
        };
        matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether stored data is not what was written: the way out is to rebuild it from the
    /// block files or to fetch it again.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Missing { .. })
    }
}
