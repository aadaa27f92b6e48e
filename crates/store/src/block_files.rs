use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bitcoin::hashes::{Hash, HashEngine, sha256d};
use parking_lot::Mutex;

use crate::block_scan::BlockScanner;
use crate::disk::read_all;
use crate::limits::{
    BLOCK_CHUNK_BYTES, FAST_PRUNE_CHUNK_BYTES, FAST_PRUNE_FILE_BYTES, MAX_BLOCK_BYTES, MAX_BLOCK_FILE_BYTES,
    MAX_RECORD_BYTES, MAX_UNSYNCED_FILES, UNDO_CHUNK_BYTES,
};
use crate::{Disk, DiskFile, OpenMode, StoreError, write_atomic};

/// Bytes before each record: network magic and length (Core's `STORAGE_HEADER_BYTES`).
pub(crate) const HEADER_BYTES: u32 = 8;

/// Bytes after each undo record: its checksum.
const CHECKSUM_BYTES: u32 = 32;

/// Where a record's payload starts: file number and the byte after magic and length (Core's
/// `FlatFilePos`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePos {
    /// The number in `blkNNNNN.dat` or `revNNNNN.dat`.
    pub file: u32,
    /// Byte in that file.
    pub offset: u32,
}

impl fmt::Display for FilePos {
    /// As Core's `FlatFilePos::ToString`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlatFilePos(nFile={}, nPos={})", self.file, self.offset)
    }
}

/// Which of the two files of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// `blkNNNNN.dat`: blocks in the order they came.
    Block,
    /// `revNNNNN.dat`: what the blocks of the same file number spent.
    Undo,
}

impl FileKind {
    /// The file's name.
    #[must_use]
    pub fn file_name(self, number: u32) -> String {
        let prefix = match self {
            Self::Block => "blk",
            Self::Undo => "rev",
        };
        format!("{prefix}{number:05}.dat")
    }

    fn parse(name: &str) -> Option<(Self, u32)> {
        let stem = name.strip_suffix(".dat")?;
        let (kind, digits) = stem
            .strip_prefix("blk")
            .map(|digits| (Self::Block, digits))
            .or_else(|| stem.strip_prefix("rev").map(|digits| (Self::Undo, digits)))?;
        let plain = digits.len() >= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse().ok().filter(|_| plain)?;
        (kind.file_name(number) == name).then_some((kind, number))
    }
}

/// The bytes every block and undo file is XORed with, by file offset (`xor.dat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XorKey(pub [u8; 8]);

impl XorKey {
    /// Applies the key to bytes that stand at `offset` of their file.
    pub fn apply(self, bytes: &mut [u8], offset: u64) {
        if self.0 == [0; 8] {
            return;
        }
        let mut key = self.0;
        key.rotate_left((offset % 8) as usize);
        let word = u64::from_ne_bytes(key);
        let (chunks, rest) = bytes.as_chunks_mut::<8>();
        for chunk in chunks {
            *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
        }
        for (byte, key) in rest.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
}

/// How a folder of block files is opened.
#[derive(Clone, Copy, Debug)]
pub struct BlockFilesConfig {
    /// The network's message start bytes.
    pub magic: [u8; 4],
    /// Key for a folder's very first start; `None` is `-blocksxor=0`. Random bytes come from the
    /// caller, for this room has none.
    pub fresh_xor_key: Option<[u8; 8]>,
    /// `-fastprune`: files of 64 KiB, grown for a block that needs more.
    pub fast_prune: bool,
}

/// The block and undo files of one node, in Bitcoin Core's format. Clones share them; any thread
/// may read while one appends.
#[derive(Clone)]
pub struct BlockFiles {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    config: BlockFilesConfig,
    key: XorKey,
    state: Mutex<State>,
    /// A write or sync failed: nothing more is written.
    stopped: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Number of the file that the next block goes to.
    current: u32,
    /// Where each file's data ends.
    ends: BTreeMap<(FileKind, u32), u32>,
    /// Files written to since their last sync. The handle that wrote is the one that syncs, so
    /// that it hears of a write-back error.
    unsynced: BTreeMap<(FileKind, u32), Arc<dyn DiskFile>>,
    /// A file was made since the folder's last sync.
    new_names: bool,
    /// A file went past a multiple of its chunk since somebody asked.
    grown: bool,
}

impl BlockFiles {
    /// Opens the folder, making it if needed, and its `xor.dat` as Core does: a stored key wins,
    /// a folder with nothing but hidden files gets the fresh key, any other the zero key.
    ///
    /// # Errors
    /// If the folder cannot be used, or a random key is stored and the caller wants none.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, config: BlockFilesConfig) -> Result<Self, StoreError> {
        disk.create_dir_all(dir).map_err(StoreError::io("create", dir))?;
        let names = disk.list(dir).map_err(StoreError::io("read", dir))?;
        let key = xor_key(disk.as_ref(), dir, &names, config.fresh_xor_key)?;
        let mut state = State::default();
        for (name, _) in names {
            let Some((kind, number)) = FileKind::parse(&name) else { continue };
            let path = dir.join(&name);
            let size = disk
                .open(&path, OpenMode::Read)
                .and_then(|file| file.size())
                .map_err(StoreError::io("read", &path))?;
            let end = u32::try_from(size)
                .map_err(|_| StoreError::damaged(&path, size, "file is longer than 4 GiB"))?;
            state.ends.insert((kind, number), end);
            if kind == FileKind::Block {
                state.current = state.current.max(number);
            }
        }
        let inner = Inner {
            disk,
            dir: dir.to_owned(),
            config,
            key,
            state: Mutex::new(state),
            stopped: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The key that the files are XORed with.
    #[must_use]
    pub fn xor_key(&self) -> XorKey {
        self.inner.key
    }

    /// The path of a file.
    #[must_use]
    pub fn path(&self, kind: FileKind, number: u32) -> PathBuf {
        self.inner.dir.join(kind.file_name(number))
    }

    /// Numbers of the files of a kind, rising, with the byte where each one's data ends.
    #[must_use]
    pub fn files(&self, kind: FileKind) -> Vec<(u32, u32)> {
        let state = self.inner.state.lock();
        state.ends.iter().filter(|((k, _), _)| *k == kind).map(|((_, n), end)| (*n, *end)).collect()
    }

    /// Bytes of all block and undo data (Core's `CalculateCurrentUsage`, `size_on_disk`).
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        self.inner.state.lock().ends.values().map(|end| u64::from(*end)).sum()
    }

    /// Writes a serialized block at the end of the current file, or of a new one if it would
    /// not fit. It survives a killed process when this returns, a power loss after the next
    /// [`BlockFiles::sync`].
    ///
    /// # Errors
    /// If it is too large, or a write failed, now or earlier.
    pub fn append_block(&self, block: &[u8]) -> Result<FilePos, StoreError> {
        let len = payload_len(block, MAX_BLOCK_BYTES)?;
        let record = self.record(block, len, None);
        let mut state = self.inner.state.lock();
        let added = len + HEADER_BYTES;
        let limit = match self.inner.config.fast_prune {
            false => MAX_BLOCK_FILE_BYTES,
            true => FAST_PRUNE_FILE_BYTES.max(added + 1),
        };
        let end = |state: &State| state.ends.get(&(FileKind::Block, state.current)).copied().unwrap_or(0);
        if end(&state).saturating_add(added) >= limit {
            // The file is complete: make it durable before the next one begins.
            self.sync_some(&mut state)?;
            state.current += 1;
        }
        let number = state.current;
        self.append(&mut state, FileKind::Block, number, record)
    }

    /// Writes the undo record of the block at `block`, whose parent is `prev_hash` (in the order
    /// of its bytes on the wire), to the undo file of the same number.
    ///
    /// # Errors
    /// If it is too large, or a write failed, now or earlier.
    pub fn append_undo(
        &self,
        block: FilePos,
        prev_hash: &[u8; 32],
        undo: &[u8],
    ) -> Result<FilePos, StoreError> {
        let len = payload_len(undo, MAX_RECORD_BYTES)?;
        let record = self.record(undo, len, Some(undo_checksum(prev_hash, undo)));
        let mut state = self.inner.state.lock();
        self.append(&mut state, FileKind::Undo, block.file, record)
    }

    /// Magic, length, payload and checksum in one buffer, so that each record is one write.
    fn record(&self, payload: &[u8], len: u32, checksum: Option<[u8; 32]>) -> Vec<u8> {
        let mut record = Vec::with_capacity(payload.len() + (HEADER_BYTES + CHECKSUM_BYTES) as usize);
        record.extend(self.inner.config.magic);
        record.extend(len.to_le_bytes());
        record.extend(payload);
        record.extend(checksum.iter().flatten());
        record
    }

    fn append(
        &self,
        state: &mut State,
        kind: FileKind,
        number: u32,
        mut record: Vec<u8>,
    ) -> Result<FilePos, StoreError> {
        self.check_running()?;
        let path = self.path(kind, number);
        let end = state.ends.get(&(kind, number)).copied().unwrap_or(0);
        let new_end = u32::try_from(record.len())
            .ok()
            .and_then(|len| end.checked_add(len))
            .ok_or(StoreError::TooLarge { len: record.len(), limit: u32::MAX })?;
        let file = match state.unsynced.get(&(kind, number)) {
            Some(file) => Arc::clone(file),
            None => {
                if state.unsynced.len() >= MAX_UNSYNCED_FILES {
                    self.sync_some(state)?;
                }
                let file = self.failing("open", &path, self.inner.disk.open(&path, OpenMode::Write))?;
                state.unsynced.insert((kind, number), Arc::clone(&file));
                state.new_names |= !state.ends.contains_key(&(kind, number));
                file
            }
        };
        self.inner.key.apply(&mut record, u64::from(end));
        self.failing("write", &path, file.write_at(&record, u64::from(end)))?;
        if kind == FileKind::Block && end == 0 && !state.ends.contains_key(&(FileKind::Undo, number)) {
            // As in Core, the two files of a number are there together.
            let undo = self.path(FileKind::Undo, number);
            self.failing("create", &undo, self.inner.disk.open(&undo, OpenMode::Write))?;
            state.ends.insert((FileKind::Undo, number), 0);
        }
        let chunk = match (kind, self.inner.config.fast_prune) {
            (FileKind::Block, true) => FAST_PRUNE_CHUNK_BYTES,
            (FileKind::Block, false) => BLOCK_CHUNK_BYTES,
            (FileKind::Undo, _) => UNDO_CHUNK_BYTES,
        };
        state.grown |= end.div_ceil(chunk) != new_end.div_ceil(chunk);
        state.ends.insert((kind, number), new_end);
        Ok(FilePos { file: number, offset: end + HEADER_BYTES })
    }

    /// Returns when everything appended before the call would survive a power loss.
    ///
    /// # Errors
    /// If a sync failed, now or earlier; the node must stop then.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.check_running()?;
        let (files, new_names) = {
            let mut state = self.inner.state.lock();
            (std::mem::take(&mut state.unsynced), std::mem::take(&mut state.new_names))
        };
        self.sync_files(files, new_names)
    }

    /// As `sync`, for a caller that holds the lock.
    fn sync_some(&self, state: &mut State) -> Result<(), StoreError> {
        let files = std::mem::take(&mut state.unsynced);
        let new_names = std::mem::take(&mut state.new_names);
        self.sync_files(files, new_names)
    }

    fn sync_files(
        &self,
        files: BTreeMap<(FileKind, u32), Arc<dyn DiskFile>>,
        new_names: bool,
    ) -> Result<(), StoreError> {
        for ((kind, number), file) in files {
            self.failing("sync", &self.path(kind, number), file.sync())?;
        }
        if new_names {
            self.failing("sync folder", &self.inner.dir, self.inner.disk.sync_dir(&self.inner.dir))?;
        }
        Ok(())
    }

    /// Cuts a file's data to `end`, where its owner knows the last good record ends; what is
    /// behind it was being written when the node died. The next append starts there.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the file is shorter than that, or the system's.
    pub fn truncate(&self, kind: FileKind, number: u32, end: u32) -> Result<(), StoreError> {
        self.check_running()?;
        let path = self.path(kind, number);
        let mut state = self.inner.state.lock();
        let old = state.ends.get(&(kind, number)).copied().unwrap_or(0);
        if old < end {
            return Err(StoreError::damaged(&path, u64::from(old), "file is shorter than its records"));
        }
        if old > end {
            let file = self.failing("open", &path, self.inner.disk.open(&path, OpenMode::Write))?;
            self.failing("truncate", &path, file.set_size(u64::from(end)))?;
            state.ends.insert((kind, number), end);
            state.unsynced.insert((kind, number), file);
        }
        Ok(())
    }

    /// Whether, since the last call, a file went past a multiple of the chunk that Core would
    /// allocate for it: the moment to look whether old files are to be pruned.
    #[must_use]
    pub fn take_grown(&self) -> bool {
        std::mem::take(&mut self.inner.state.lock().grown)
    }

    /// The number of the file that the next block goes to. It is never pruned.
    #[must_use]
    pub fn current(&self) -> u32 {
        self.inner.state.lock().current
    }

    /// The byte after a stored record, its checksum included.
    ///
    /// # Errors
    /// As [`BlockFiles::read_block`].
    pub fn record_end(&self, kind: FileKind, pos: FilePos) -> Result<u32, StoreError> {
        let (_, _, len) = self.open_record(kind, pos)?;
        let checksum = if kind == FileKind::Undo { CHECKSUM_BYTES } else { 0 };
        Ok(pos.offset.saturating_add(len).saturating_add(checksum))
    }

    /// Deletes the block and undo file of a number (pruning). No error if they are not there.
    /// Says whether one was.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, number: u32) -> Result<bool, StoreError> {
        let mut state = self.inner.state.lock();
        let block = self.remove_one(&mut state, FileKind::Block, number)?;
        let undo = self.remove_one(&mut state, FileKind::Undo, number)?;
        Ok(block || undo)
    }

    fn remove_one(&self, state: &mut State, kind: FileKind, number: u32) -> Result<bool, StoreError> {
        state.ends.remove(&(kind, number));
        state.unsynced.remove(&(kind, number));
        let path = self.path(kind, number);
        match self.inner.disk.remove(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => self.failing("remove", &path, Err(error)),
        }
    }

    /// Makes ready for reading all block files anew: undo data will be written again, from the
    /// front of its files. A pruned node (Core's `CleanupBlockRevFiles`) also loses the block
    /// files behind a gap, for the chain cannot be followed across it.
    ///
    /// # Errors
    /// The system's.
    pub fn prepare_reindex(&self, pruned: bool) -> Result<(), StoreError> {
        if !pruned {
            return self
                .files(FileKind::Undo)
                .into_iter()
                .try_for_each(|(number, _)| self.truncate(FileKind::Undo, number, 0));
        }
        let mut state = self.inner.state.lock();
        let names: Vec<(FileKind, u32)> = state.ends.keys().copied().collect();
        let mut next = 0;
        for (kind, number) in names {
            if kind == FileKind::Block && number == next {
                next += 1;
            } else {
                self.remove_one(&mut state, kind, number)?;
            }
        }
        state.current = next.saturating_sub(1);
        Ok(())
    }

    /// The serialized block at `pos`. Its header's hash and merkle root are the checksum, which
    /// the caller must compare.
    ///
    /// # Errors
    /// If nothing is there, the framing is wrong, or the system's.
    pub fn read_block(&self, pos: FilePos) -> Result<Vec<u8>, StoreError> {
        let (file, path, len) = self.open_record(FileKind::Block, pos)?;
        self.read(file.as_ref(), &path, pos.offset, len)
    }

    /// `len` bytes of the block at `pos`, from byte `offset` of it (Core's `ReadRawBlock` with a
    /// part).
    ///
    /// # Errors
    /// [`StoreError::BadPart`] if the block is shorter or `len` is 0; else as `read_block`.
    pub fn read_block_part(&self, pos: FilePos, offset: u32, len: u32) -> Result<Vec<u8>, StoreError> {
        let (file, path, size) = self.open_record(FileKind::Block, pos)?;
        if len == 0 || offset.saturating_add(len) > size {
            return Err(StoreError::BadPart { offset, len, size });
        }
        self.read(file.as_ref(), &path, pos.offset.saturating_add(offset), len)
    }

    /// The undo record at `pos` of a block whose parent is `prev_hash`, checksum verified.
    ///
    /// # Errors
    /// If nothing is there, the framing or the checksum is wrong, or the system's.
    pub fn read_undo(&self, pos: FilePos, prev_hash: &[u8; 32]) -> Result<Vec<u8>, StoreError> {
        let (file, path, len) = self.open_record(FileKind::Undo, pos)?;
        let mut bytes = self.read(file.as_ref(), &path, pos.offset, len + CHECKSUM_BYTES)?;
        let checksum = bytes.split_off(len as usize);
        if checksum != undo_checksum(prev_hash, &bytes) {
            return Err(StoreError::damaged(&path, u64::from(pos.offset), "undo checksum mismatch"));
        }
        Ok(bytes)
    }

    /// Opens a record's file and reads its frame. The file is opened anew each time, as Core
    /// does: operators and tests rename these files under a running node.
    fn open_record(
        &self,
        kind: FileKind,
        pos: FilePos,
    ) -> Result<(Arc<dyn DiskFile>, PathBuf, u32), StoreError> {
        let path = self.path(kind, pos.file);
        let missing = || StoreError::Missing { path: path.clone(), offset: u64::from(pos.offset) };
        let start = pos.offset.checked_sub(HEADER_BYTES).ok_or_else(missing)?;
        let file = match self.inner.disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        let frame = self.read(file.as_ref(), &path, start, HEADER_BYTES)?;
        let Some((magic, size)) = frame.split_first_chunk::<4>() else { return Err(missing()) };
        if *magic != self.inner.config.magic {
            return Err(StoreError::damaged(&path, u64::from(start), "magic mismatch"));
        }
        let len = u32::from_le_bytes(size.try_into().unwrap_or_default());
        if len > MAX_RECORD_BYTES {
            return Err(StoreError::damaged(&path, u64::from(start), "length exceeds any record"));
        }
        Ok((file, path, len))
    }

    fn read(&self, file: &dyn DiskFile, path: &Path, offset: u32, len: u32) -> Result<Vec<u8>, StoreError> {
        let offset = u64::from(offset);
        // A damaged length must not allocate what the file cannot hold.
        let size = file.size().map_err(StoreError::io("read", path))?;
        if offset.saturating_add(u64::from(len)) > size {
            return Err(StoreError::damaged(path, offset, "record runs past the end of the file"));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, offset).map_err(StoreError::io("read", path))?;
        self.inner.key.apply(&mut bytes, offset);
        Ok(bytes)
    }

    /// Finds every block in a block file, for `-reindex`.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn scan(&self, number: u32) -> Result<BlockScanner, StoreError> {
        let path = self.path(FileKind::Block, number);
        BlockScanner::open(self.inner.disk.as_ref(), &path, self.inner.config.magic, self.inner.key)
    }

    /// Bytes still free on the disk of the files.
    ///
    /// # Errors
    /// The system's.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let dir = &self.inner.dir;
        self.inner.disk.free_bytes(dir).map_err(StoreError::io("read", dir))
    }

    fn check_running(&self) -> Result<(), StoreError> {
        if self.inner.stopped.load(Ordering::Relaxed) {
            return Err(StoreError::Stopped { path: self.inner.dir.clone() });
        }
        Ok(())
    }

    /// Remembers the first failure of a step that changes the disk.
    fn failing<T>(&self, step: &'static str, path: &Path, result: io::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| {
            self.inner.stopped.store(true, Ordering::Relaxed);
            StoreError::io(step, path)(error)
        })
    }
}

fn payload_len(payload: &[u8], limit: u32) -> Result<u32, StoreError> {
    u32::try_from(payload.len())
        .ok()
        .filter(|len| *len <= limit)
        .ok_or(StoreError::TooLarge { len: payload.len(), limit })
}

fn undo_checksum(prev_hash: &[u8; 32], undo: &[u8]) -> [u8; 32] {
    let mut engine = sha256d::Hash::engine();
    engine.input(prev_hash);
    engine.input(undo);
    sha256d::Hash::from_engine(engine).to_byte_array()
}

fn xor_key(
    disk: &dyn Disk,
    dir: &Path,
    names: &[(String, bool)],
    fresh: Option<[u8; 8]>,
) -> Result<XorKey, StoreError> {
    let path = dir.join("xor.dat");
    let key = if disk.exists(&path) {
        let bytes = read_all(disk, &path).map_err(StoreError::io("read", &path))?;
        let key = bytes.first_chunk::<8>().ok_or(StoreError::damaged(&path, 0, "key is not 8 bytes long"))?;
        XorKey(*key)
    } else {
        // An interrupted first start may have left the key's temporary file.
        let first_start =
            names.iter().all(|(name, is_file)| *is_file && (name.starts_with('.') || name == "xor.dat.new"));
        let key = XorKey(fresh.filter(|_| first_start).unwrap_or_default());
        write_atomic(disk, &path, &key.0)?;
        key
    };
    if fresh.is_none() && key != XorKey::default() {
        let key = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
        return Err(StoreError::XorKeyStored { key, path });
    }
    Ok(key)
}

#[cfg(test)]
#[path = "block_files_tests.rs"]
mod tests;
