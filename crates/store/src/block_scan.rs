use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::block_files::{HEADER_BYTES, XorKey};
use crate::limits::{MAX_BLOCK_BYTES, MIN_BLOCK_BYTES, SCAN_CHUNK_BYTES};
use crate::{Disk, DiskFile, OpenMode, StoreError};

/// A block found by a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedBlock {
    /// First byte of the block in the file, after magic and length.
    pub offset: u64,
    /// The bytes. Nothing but their framing has been checked.
    pub bytes: Vec<u8>,
}

/// Walks through a file of framed blocks, stepping over whatever is between them: zeros that
/// were allocated ahead, and remains of torn writes (Core's `LoadExternalBlockFile`).
pub struct BlockScanner {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    magic: [u8; 4],
    key: XorKey,
    size: u64,
    /// Where the search goes on.
    at: u64,
    /// Where the last block found ends.
    end: u64,
    /// Bytes of the file from `window_at`, without the XOR.
    window: Vec<u8>,
    window_at: u64,
}

impl BlockScanner {
    /// Starts at the front of `path`. A file from elsewhere (`-loadblock`) has the zero key.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(disk: &dyn Disk, path: &Path, magic: [u8; 4], key: XorKey) -> Result<Self, StoreError> {
        let file = disk.open(path, OpenMode::Read).map_err(StoreError::io("read", path))?;
        let size = file.size().map_err(StoreError::io("read", path))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            magic,
            key,
            size,
            at: 0,
            end: 0,
            window: Vec::new(),
            window_at: 0,
        })
    }

    /// Where the last block found so far ends; 0 before the first.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The bytes from `at`, at least `want` of them unless the file ends before.
    fn bytes(&mut self, at: u64, want: usize) -> Result<&[u8], StoreError> {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let want = want.min(left);
        let within = |start: u64, len: usize| {
            let skip = usize::try_from(at.checked_sub(start)?).ok()?;
            (skip <= len && len - skip >= want).then_some(skip)
        };
        let skip = match within(self.window_at, self.window.len()) {
            Some(skip) => skip,
            None => {
                self.window.resize(want.max(SCAN_CHUNK_BYTES).min(left), 0);
                self.file.read_exact_at(&mut self.window, at).map_err(StoreError::io("read", &self.path))?;
                self.key.apply(&mut self.window, at);
                self.window_at = at;
                0
            }
        };
        Ok(self.window.get(skip..).unwrap_or_default())
    }

    fn find(&mut self) -> Result<Option<ScannedBlock>, StoreError> {
        loop {
            let (magic, at) = (self.magic, self.at);
            let seen = self.bytes(at, HEADER_BYTES as usize)?;
            if seen.len() < HEADER_BYTES as usize {
                return Ok(None);
            }
            let Some(skip) = seen.windows(4).position(|window| window == magic) else {
                self.at += (seen.len() - 3) as u64;
                continue;
            };
            let start = at + skip as u64;
            // Should this prove to be no block, the search goes on one byte later.
            self.at = start + 1;
            let frame = self.bytes(start, HEADER_BYTES as usize)?;
            let Some(len) = frame.get(4..).and_then(|rest| rest.first_chunk::<4>()) else {
                return Ok(None);
            };
            let len = u32::from_le_bytes(*len);
            let offset = start + u64::from(HEADER_BYTES);
            if !(MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&len) || offset + u64::from(len) > self.size {
                continue;
            }
            if let Some(bytes) = self.bytes(offset, len as usize)?.get(..len as usize) {
                let bytes = bytes.to_vec();
                self.at = offset + u64::from(len);
                self.end = self.at;
                return Ok(Some(ScannedBlock { offset, bytes }));
            }
        }
    }
}

impl Iterator for BlockScanner {
    type Item = Result<ScannedBlock, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.find().transpose()
    }
}
