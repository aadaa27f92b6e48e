use std::path::{Path, PathBuf};

use crate::disk::read_all;
use crate::{Disk, StoreError, write_atomic};

/// The file that says which format a folder of ours has.
const MARKER: &str = "IRONPEER";

/// The file every LevelDB database has.
const LEVELDB_CURRENT: &str = "CURRENT";

/// What [`claim_folder`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderState {
    /// Nothing was there; the folder is ours now.
    Fresh,
    /// Ours, in the format asked for.
    Existing,
}

fn marker_text(kind: &str, version: u32) -> String {
    format!("{kind} {version}\n")
}

/// Makes sure that the database in `dir` is ours: one of format `kind`, `version`, or none at
/// all, in which case the marker is written before anything else.
///
/// # Errors
/// [`StoreError::Foreign`] if something without our marker is there (nothing is changed then),
/// [`StoreError::Format`] if the marker is another, or the system's.
pub fn claim_folder(
    disk: &dyn Disk,
    dir: &Path,
    kind: &str,
    version: u32,
) -> Result<FolderState, StoreError> {
    let expected = marker_text(kind, version);
    let marker = dir.join(MARKER);
    if disk.exists(&marker) {
        let found = read_all(disk, &marker).map_err(StoreError::io("read", &marker))?;
        if found == expected.as_bytes() {
            return Ok(FolderState::Existing);
        }
        return Err(StoreError::Format {
            path: dir.to_owned(),
            found: String::from_utf8_lossy(&found).trim_end().to_owned(),
            expected: expected.trim_end().to_owned(),
        });
    }
    disk.create_dir_all(dir).map_err(StoreError::io("create", dir))?;
    let names = disk.list(dir).map_err(StoreError::io("read", dir))?;
    // A half-written marker is ours; hidden files belong to locks and desktops.
    let unknown = |name: &str| !name.starts_with('.') && !name.starts_with(MARKER);
    if names.iter().any(|(name, _)| unknown(name)) {
        return Err(StoreError::Foreign { path: dir.to_owned() });
    }
    write_atomic(disk, &marker, expected.as_bytes())?;
    Ok(FolderState::Fresh)
}

/// Whether `dir` holds a LevelDB database, such as Bitcoin Core's, and not ours.
pub fn is_foreign_leveldb(disk: &dyn Disk, dir: &Path) -> bool {
    disk.exists(&dir.join(LEVELDB_CURRENT)) && !disk.exists(&dir.join(MARKER))
}

/// Deletes a folder of ours with everything in it, for a rebuild. No error if it is not there.
///
/// # Errors
/// [`StoreError::Foreign`] if the folder does not carry our marker, or the system's.
pub fn destroy_folder(dir: &Path) -> Result<(), StoreError> {
    if !dir.exists() {
        return Ok(());
    }
    let empty = std::fs::read_dir(dir).map_err(StoreError::io("read", dir))?.next().is_none();
    if !empty && !dir.join(MARKER).exists() {
        return Err(StoreError::Foreign { path: dir.to_owned() });
    }
    // The marker goes last, so that a crash half-way leaves a folder that can be deleted again.
    for entry in std::fs::read_dir(dir).map_err(StoreError::io("read", dir))? {
        let entry = entry.map_err(StoreError::io("read", dir))?;
        if entry.file_name() == MARKER {
            continue;
        }
        let path = entry.path();
        let is_dir = entry.file_type().map_err(StoreError::io("read", &path))?.is_dir();
        if is_dir { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }
            .map_err(StoreError::io("remove", &path))?;
    }
    std::fs::remove_dir_all(dir).map_err(StoreError::io("remove", dir))
}

/// Renames another program's folder to `NAME.foreign` (or `.foreign-2`, ...) so that a rebuild
/// can take its place and its owner can have it back. Returns the new path.
///
/// # Errors
/// The system's.
pub fn move_aside(dir: &Path) -> Result<PathBuf, StoreError> {
    let base = dir.as_os_str().to_owned();
    let mut n = 1u32;
    let target = loop {
        let mut name = base.clone();
        name.push(".foreign");
        if n > 1 {
            name.push(format!("-{n}"));
        }
        let target = PathBuf::from(name);
        if !target.exists() {
            break target;
        }
        n = n.saturating_add(1);
    };
    std::fs::rename(dir, &target).map_err(StoreError::io("rename", dir))?;
    Ok(target)
}
