use std::io;
use std::ops::Bound;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};

use crate::limits::{
    KV_LOG_BYTES, KV_OPEN_FILES, SMALL_KV_CACHE_BYTES, SMALL_KV_LOG_BYTES, SMALL_KV_MEMTABLE_BYTES,
};
use crate::{
    Batch, BatchOp, Disk, DiskOp, Durability, FailHook, FailPoint, Kv, KvIter, KvRead, OsDisk, Space,
    StoreError,
};

/// A keyspace to open.
#[derive(Clone, Copy, Debug)]
pub struct SpaceConfig {
    /// Its name on disk.
    pub name: &'static str,
    /// Most keys asked for are there (as coins are), so the bloom filters of the last level,
    /// the bulk of their memory, are left out.
    pub expect_hits: bool,
}

/// How much memory and how many threads a store may use.
#[derive(Clone)]
pub struct FjallConfig {
    /// Block cache in bytes, shared by all keyspaces.
    pub cache_bytes: u64,
    /// Write buffer of each keyspace in bytes.
    pub memtable_bytes: u64,
    /// Write-ahead log in bytes.
    pub log_bytes: u64,
    /// Threads that flush and compact.
    pub workers: usize,
    /// Asked before each commit and sync.
    pub hook: Option<FailHook>,
}

impl FjallConfig {
    /// For regtest: a hundred of these fit in one process.
    #[must_use]
    pub fn small() -> Self {
        Self {
            cache_bytes: SMALL_KV_CACHE_BYTES,
            memtable_bytes: SMALL_KV_MEMTABLE_BYTES,
            log_bytes: SMALL_KV_LOG_BYTES,
            workers: 1,
            hook: None,
        }
    }

    /// For a public network.
    #[must_use]
    pub fn large(cache_bytes: u64, memtable_bytes: u64) -> Self {
        Self { cache_bytes, memtable_bytes, log_bytes: KV_LOG_BYTES, workers: 2, hook: None }
    }
}

/// A key-value store on disk, in a folder of its own.
pub struct FjallKv {
    database: Database,
    spaces: Vec<Keyspace>,
    path: PathBuf,
    hook: Option<FailHook>,
}

struct FjallSnapshot {
    snapshot: Snapshot,
    spaces: Vec<Keyspace>,
    path: PathBuf,
}

fn failed(path: &Path) -> impl FnOnce(fjall::Error) -> StoreError {
    move |source| StoreError::Kv { path: path.to_owned(), source: Box::new(source) }
}

fn unknown_space(path: &Path) -> StoreError {
    StoreError::Kv { path: path.to_owned(), source: "keyspace was not opened".into() }
}

fn iter(pairs: fjall::Iter, reverse: bool, path: PathBuf) -> KvIter {
    let pair = move |guard: fjall::Guard| {
        let (key, value) = guard.into_inner().map_err(failed(&path))?;
        Ok((key.to_vec(), value.to_vec()))
    };
    if reverse { Box::new(pairs.rev().map(pair)) } else { Box::new(pairs.map(pair)) }
}

impl FjallKv {
    /// Opens the store in `dir`, making it if needed. [`Space`] numbers follow `spaces`.
    ///
    /// # Errors
    /// If another store has the folder open, or it cannot be read.
    pub fn open(dir: &Path, spaces: &[SpaceConfig], config: &FjallConfig) -> Result<Self, StoreError> {
        // The database asserts on some damaged bytes in its log where an error is due. Nothing of
        // it is left behind by the unwinding, so the assertion can be given back as one.
        std::panic::catch_unwind(AssertUnwindSafe(|| Self::open_trusting(dir, spaces, config)))
            .unwrap_or_else(|_| Err(StoreError::damaged(dir, 0, "the key-value store cannot be replayed")))
    }

    fn open_trusting(dir: &Path, spaces: &[SpaceConfig], config: &FjallConfig) -> Result<Self, StoreError> {
        if !dir.exists() {
            Self::create(dir, spaces, config)?;
        }
        Self::open_at(dir, spaces, config)
    }

    /// Makes an empty store beside `dir` and puts it in place whole: the database cannot open one
    /// that it was killed while making.
    fn create(dir: &Path, spaces: &[SpaceConfig], config: &FjallConfig) -> Result<(), StoreError> {
        let mut name = dir.as_os_str().to_owned();
        name.push(".new");
        let fresh = PathBuf::from(name);
        match std::fs::remove_dir_all(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &fresh)(error));
            }
            _ => {}
        }
        Self::open_at(&fresh, spaces, config)?.sync()?;
        OsDisk.rename(&fresh, dir).map_err(StoreError::io("rename to", dir))?;
        let parent = dir.parent().unwrap_or(Path::new("."));
        OsDisk.sync_dir(parent).map_err(StoreError::io("sync folder", parent))
    }

    fn open_at(dir: &Path, spaces: &[SpaceConfig], config: &FjallConfig) -> Result<Self, StoreError> {
        let database = Database::builder(dir)
            .cache_size(config.cache_bytes)
            .worker_threads(config.workers.max(1))
            .max_journaling_size(config.log_bytes.max(SMALL_KV_LOG_BYTES))
            .max_cached_files(Some(KV_OPEN_FILES))
            .open()
            .map_err(failed(dir))?;
        let spaces = spaces
            .iter()
            .map(|space| {
                let options = || {
                    KeyspaceCreateOptions::default()
                        .max_memtable_size(config.memtable_bytes)
                        .expect_point_read_hits(space.expect_hits)
                };
                database.keyspace(space.name, options)
            })
            .collect::<Result<_, _>>()
            .map_err(failed(dir))?;
        Ok(Self { database, spaces, path: dir.to_owned(), hook: config.hook.clone() })
    }

    fn ask(&self, op: DiskOp) -> Result<(), StoreError> {
        match &self.hook {
            Some(hook) => {
                let step = if op == DiskOp::KvSync { "sync" } else { "write" };
                hook(&FailPoint { op, path: &self.path }).map_err(StoreError::io(step, &self.path))
            }
            None => Ok(()),
        }
    }
}

impl KvRead for FjallKv {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let space = self.spaces.get(space.0).ok_or_else(|| unknown_space(&self.path))?;
        Ok(space.get(key).map_err(failed(&self.path))?.map(|value| value.to_vec()))
    }

    fn range(&self, space: Space, from: Bound<&[u8]>, to: Bound<&[u8]>, reverse: bool) -> KvIter {
        match self.spaces.get(space.0) {
            Some(space) => iter(space.range::<&[u8], _>((from, to)), reverse, self.path.clone()),
            None => Box::new(std::iter::once(Err(unknown_space(&self.path)))),
        }
    }
}

impl KvRead for FjallSnapshot {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let space = self.spaces.get(space.0).ok_or_else(|| unknown_space(&self.path))?;
        let value = self.snapshot.get(space, key).map_err(failed(&self.path))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn range(&self, space: Space, from: Bound<&[u8]>, to: Bound<&[u8]>, reverse: bool) -> KvIter {
        match self.spaces.get(space.0) {
            Some(space) => {
                let pairs = self.snapshot.range::<&[u8], _>(space, (from, to));
                iter(pairs, reverse, self.path.clone())
            }
            None => Box::new(std::iter::once(Err(unknown_space(&self.path)))),
        }
    }
}

impl Kv for FjallKv {
    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        self.ask(DiskOp::KvCommit)?;
        let mode = match durability {
            Durability::Process => PersistMode::Buffer,
            Durability::Power => PersistMode::SyncAll,
        };
        let mut write = self.database.batch().durability(Some(mode));
        for op in batch.into_ops() {
            let (BatchOp::Put(space, ..) | BatchOp::Delete(space, _)) = &op;
            let space = self.spaces.get(space.0).ok_or_else(|| unknown_space(&self.path))?;
            match op {
                BatchOp::Put(_, key, value) => write.insert(space, key, value),
                BatchOp::Delete(_, key) => write.remove(space, key),
            }
        }
        write.commit().map_err(failed(&self.path))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.ask(DiskOp::KvSync)?;
        self.database.persist(PersistMode::SyncAll).map_err(failed(&self.path))
    }

    fn snapshot(&self) -> Box<dyn KvRead> {
        Box::new(FjallSnapshot {
            snapshot: self.database.snapshot(),
            spaces: self.spaces.clone(),
            path: self.path.clone(),
        })
    }

    /// The tables. How long the log file is says nothing: the database makes it 64 MiB long at once
    /// and fills it over time.
    fn bytes_on_disk(&self) -> u64 {
        self.spaces.iter().map(Keyspace::disk_space).sum()
    }
}
