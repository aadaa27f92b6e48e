use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Disk, DiskFile, OpenMode};

/// What a drive writes at once: a power loss tears between sectors.
const SECTOR_BYTES: usize = 512;

/// A disk in memory. Clones share it. One made by [`MemDisk::with_power_loss`] also remembers
/// what was synced, and [`MemDisk::lose_power`] gives the disk as the next start may find it.
#[derive(Clone, Default)]
pub struct MemDisk {
    tree: Arc<Mutex<Tree>>,
    tracked: bool,
}

#[derive(Default)]
struct Tree {
    dirs: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, MemFile>,
    /// Names that a sync of their folder made durable.
    durable: BTreeMap<PathBuf, MemFile>,
    /// Bytes said to be free; without it there is no end to them.
    free: Option<u64>,
}

#[derive(Clone, Default)]
struct MemFile {
    bytes: Arc<Mutex<Content>>,
    tracked: bool,
}

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
}

impl MemDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty disk that keeps a second copy of what was synced.
    #[must_use]
    pub fn with_power_loss() -> Self {
        Self { tree: Arc::default(), tracked: true }
    }

    /// The disk after power was lost now. `coin` decides for each sector (and each name) that
    /// was not synced whether the new or the old one is found.
    #[must_use]
    pub fn lose_power(&self, mut coin: impl FnMut() -> bool) -> Self {
        let tree = self.tree.lock();
        let names: BTreeSet<&PathBuf> = tree.files.keys().chain(tree.durable.keys()).collect();
        let mut files = BTreeMap::new();
        for name in names {
            let (live, durable) = (tree.files.get(name), tree.durable.get(name));
            let same =
                matches!((live, durable), (Some(live), Some(old)) if Arc::ptr_eq(&live.bytes, &old.bytes));
            let found = if same || coin() { live } else { durable };
            if let Some(file) = found {
                let content = file.bytes.lock();
                let bytes = torn(&content.synced, &content.now, &mut coin);
                let content = Content { synced: bytes.clone(), now: bytes };
                files.insert(name.clone(), MemFile { bytes: Arc::new(Mutex::new(content)), tracked: true });
            }
        }
        let tree = Tree { dirs: tree.dirs.clone(), durable: files.clone(), files, free: tree.free };
        Self { tree: Arc::new(Mutex::new(tree)), tracked: true }
    }

    /// Says from now on that so many bytes are free. Nothing is held to it.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.tree.lock().free = Some(bytes);
    }

    /// Changes a file's bytes behind everyone's back, as damage does.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(file) = self.tree.lock().files.get(path) {
            change(&mut file.bytes.lock().now);
        }
    }
}

/// A file whose sectors are each the old or the new ones; its length too may be either.
fn torn(old: &[u8], new: &[u8], coin: &mut impl FnMut() -> bool) -> Vec<u8> {
    if old == new {
        return new.to_vec();
    }
    let len = if coin() { new.len() } else { old.len() };
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let at = bytes.len();
        let end = (at + SECTOR_BYTES).min(len);
        let sector = |from: &[u8]| {
            let mut sector = from.get(at..end.min(from.len())).unwrap_or_default().to_vec();
            sector.resize(end - at, 0);
            sector
        };
        let (before, after) = (sector(old), sector(new));
        bytes.extend(if before == after || coin() { after } else { before });
    }
    bytes
}

impl DiskFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.bytes.lock();
        let from = usize::try_from(offset).ok().and_then(|at| content.now.get(at..)).unwrap_or_default();
        let n = from.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), from.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let too_large = || io::Error::from(io::ErrorKind::FileTooLarge);
        let at = usize::try_from(offset).map_err(|_| too_large())?;
        let end = at.checked_add(bytes.len()).ok_or_else(too_large)?;
        let mut content = self.bytes.lock();
        if content.now.len() < end {
            content.now.resize(end, 0);
        }
        if let Some(to) = content.now.get_mut(at..end) {
            to.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().now.len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let size = usize::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.bytes.lock().now.resize(size, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.tracked {
            let content = &mut *self.bytes.lock();
            content.synced.clone_from(&content.now);
        }
        Ok(())
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut tree = self.tree.lock();
        if mode == OpenMode::Read {
            let file = tree.files.get(path).ok_or(io::ErrorKind::NotFound)?;
            return Ok(Arc::new(file.clone()));
        }
        if path.parent().is_some_and(|dir| !dir.as_os_str().is_empty() && !tree.dirs.contains(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = tree
            .files
            .entry(path.to_owned())
            .or_insert_with(|| MemFile { bytes: Arc::default(), tracked: self.tracked });
        if mode == OpenMode::Truncate {
            file.bytes.lock().now.clear();
        }
        Ok(Arc::new(file.clone()))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.tree.lock().dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, bool)>> {
        let tree = self.tree.lock();
        if !tree.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let below = |path: &PathBuf| {
            let name = path.file_name().filter(|_| path.parent() == Some(dir))?;
            Some(name.to_string_lossy().into_owned())
        };
        let files = tree.files.keys().filter_map(below).map(|name| (name, true));
        let dirs = tree.dirs.iter().filter_map(below).map(|name| (name, false));
        Ok(files.chain(dirs).collect())
    }

    fn exists(&self, path: &Path) -> bool {
        let tree = self.tree.lock();
        tree.files.contains_key(path) || tree.dirs.contains(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.tree.lock().files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree.lock();
        let file = tree.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        tree.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.tracked {
            let tree = &mut *self.tree.lock();
            tree.durable.retain(|path, _| path.parent() != Some(dir));
            let here = tree.files.iter().filter(|(path, _)| path.parent() == Some(dir));
            tree.durable.extend(here.map(|(path, file)| (path.clone(), file.clone())));
        }
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.tree.lock().free.unwrap_or(u64::MAX))
    }
}
