use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::read_all;
use crate::limits::MAX_JOURNAL_RECORD_BYTES;
use crate::{Disk, DiskFile, OpenMode, StoreError, write_atomic};

const FILE_MAGIC: [u8; 8] = *b"IPJRNL\x00\x01";
const FILE_HEADER_BYTES: u64 = 24;

/// Starts every record, on a multiple of eight, so that records behind damage can be found.
const RECORD_MARK: [u8; 4] = *b"\xf5JR\x0a";
const RECORD_HEADER_BYTES: usize = 24;

/// An append-only file of small records. Each record names its place and its file's generation
/// under a checksum, so a misdirected or leftover write is not taken for one, and each says up
/// to which byte the file had been synced when it was written. That last number tells, at the
/// next start, the two kinds of bad bytes apart: what no later record calls synced was lost with
/// the power (or the process) and is cut off; what one does was good once, and is damage.
///
/// A record survives a killed process once [`Journal::append`] returned, and a power loss once
/// [`Journal::sync`] did.
pub struct Journal {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    generation: u64,
    end: u64,
    /// Everything before this byte is synced.
    synced: u64,
    /// Where the file ended after the last sync and its witness.
    witnessed: u64,
    stopped: bool,
}

/// A journal with what it held.
pub struct JournalOpened {
    /// The journal, ready for more.
    pub journal: Journal,
    /// Its records, oldest first.
    pub records: Vec<Vec<u8>>,
    /// Bytes of a torn tail that were cut off.
    pub cut_bytes: u64,
}

impl Journal {
    /// Opens the journal at `path`, or makes an empty one, and reads it to its end.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if bytes that were synced, or the head of the file, are bad; or
    /// the system's.
    pub fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<JournalOpened, StoreError> {
        if !disk.exists(path) {
            let journal = Self::create(disk, path, 1)?;
            return Ok(JournalOpened { journal, records: Vec::new(), cut_bytes: 0 });
        }
        let bytes = read_all(disk.as_ref(), path).map_err(StoreError::io("read", path))?;
        let generation =
            parse_file_header(&bytes).ok_or(StoreError::damaged(path, 0, "file header is bad"))?;
        let mut records = Vec::new();
        let mut at = FILE_HEADER_BYTES as usize;
        while let Some(record) = Record::parse(&bytes, at, generation) {
            if !record.payload.is_empty() {
                records.push(record.payload.to_vec());
            }
            at = record.end;
        }
        let end = at as u64;
        let synced_past_here = (at..bytes.len())
            .step_by(8)
            .any(|later| Record::parse(&bytes, later, generation).is_some_and(|record| record.synced > end));
        if synced_past_here {
            return Err(StoreError::damaged(path, end, "record is bad though later ones are good"));
        }
        let file = disk.open(path, OpenMode::Write).map_err(StoreError::io("open", path))?;
        let cut_bytes = (bytes.len() as u64).saturating_sub(end);
        if cut_bytes > 0 {
            file.set_size(end).map_err(StoreError::io("truncate", path))?;
        }
        file.sync().map_err(StoreError::io("sync", path))?;
        let journal = Self {
            disk,
            path: path.to_owned(),
            file,
            generation,
            end,
            synced: end,
            witnessed: end,
            stopped: false,
        };
        Ok(JournalOpened { journal, records, cut_bytes })
    }

    fn create(disk: Arc<dyn Disk>, path: &Path, generation: u64) -> Result<Self, StoreError> {
        write_atomic(disk.as_ref(), path, &file_header(generation))?;
        let file = disk.open(path, OpenMode::Write).map_err(StoreError::io("open", path))?;
        let end = FILE_HEADER_BYTES;
        Ok(Self {
            disk,
            path: path.to_owned(),
            file,
            generation,
            end,
            synced: end,
            witnessed: end,
            stopped: false,
        })
    }

    /// Adds records, in one write.
    ///
    /// # Errors
    /// If one is empty or too large (nothing is written then), or a write failed, now or earlier.
    pub fn append<'a>(&mut self, payloads: impl IntoIterator<Item = &'a [u8]>) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        for payload in payloads {
            let len = u32::try_from(payload.len())
                .ok()
                .filter(|len| (1..=MAX_JOURNAL_RECORD_BYTES).contains(len))
                .ok_or(StoreError::TooLarge { len: payload.len(), limit: MAX_JOURNAL_RECORD_BYTES })?;
            self.encode(&mut bytes, len, payload);
        }
        self.write(&bytes)
    }

    fn encode(&self, out: &mut Vec<u8>, len: u32, payload: &[u8]) {
        let position = self.end + out.len() as u64;
        let crc = record_crc(self.generation, position, len, self.synced, payload);
        out.extend(RECORD_MARK);
        out.extend(len.to_le_bytes());
        out.extend(self.synced.to_le_bytes());
        out.extend(crc.to_le_bytes());
        out.extend([0; 4]);
        out.extend(payload);
        out.resize(out.len().next_multiple_of(8), 0);
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.stopped {
            return Err(StoreError::Stopped { path: self.path.clone() });
        }
        let result = self.file.write_at(bytes, self.end);
        self.note(result, "write")?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn note(&mut self, result: std::io::Result<()>, step: &'static str) -> Result<(), StoreError> {
        self.stopped |= result.is_err();
        result.map_err(StoreError::io(step, &self.path))
    }

    /// Returns when every record appended so far would survive a power loss. Does nothing if
    /// nothing was appended since the last time.
    ///
    /// # Errors
    /// If a write or sync failed, now or earlier.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if self.stopped {
            return Err(StoreError::Stopped { path: self.path.clone() });
        }
        if self.witnessed == self.end {
            return Ok(());
        }
        let result = self.file.sync();
        self.note(result, "sync")?;
        self.synced = self.end;
        // An empty record, not synced itself, witnesses the sync in case no other one follows.
        let mut witness = Vec::new();
        self.encode(&mut witness, 0, &[]);
        self.write(&witness)?;
        self.witnessed = self.end;
        Ok(())
    }

    /// Bytes of the journal.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Whether it holds no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end <= FILE_HEADER_BYTES
    }

    /// Empties the journal, whose records now live elsewhere. After a crash either all records
    /// or none are found.
    ///
    /// # Errors
    /// If a step failed, now or earlier.
    pub fn reset(&mut self) -> Result<(), StoreError> {
        if self.stopped {
            return Err(StoreError::Stopped { path: self.path.clone() });
        }
        if self.is_empty() {
            return Ok(());
        }
        match Self::create(Arc::clone(&self.disk), &self.path, self.generation.wrapping_add(1)) {
            Ok(fresh) => *self = fresh,
            Err(error) => {
                self.stopped = true;
                return Err(error);
            }
        }
        Ok(())
    }
}

fn file_header(generation: u64) -> [u8; FILE_HEADER_BYTES as usize] {
    let mut header = [0; FILE_HEADER_BYTES as usize];
    let crc = crc32fast::hash(&generation.to_le_bytes());
    let fields = FILE_MAGIC.into_iter().chain(generation.to_le_bytes()).chain(crc.to_le_bytes());
    header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    header
}

fn parse_file_header(bytes: &[u8]) -> Option<u64> {
    let header = bytes.get(..FILE_HEADER_BYTES as usize)?;
    let generation = u64::from_le_bytes(*header.get(8..)?.first_chunk()?);
    (file_header(generation) == header).then_some(generation)
}

fn record_crc(generation: u64, position: u64, len: u32, synced: u64, payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&generation.to_le_bytes());
    crc.update(&position.to_le_bytes());
    crc.update(&len.to_le_bytes());
    crc.update(&synced.to_le_bytes());
    crc.update(payload);
    crc.finalize()
}

struct Record<'a> {
    payload: &'a [u8],
    synced: u64,
    end: usize,
}

impl<'a> Record<'a> {
    /// The record at byte `at`, if a good one is there.
    fn parse(bytes: &'a [u8], at: usize, generation: u64) -> Option<Self> {
        let record = bytes.get(at..)?;
        let (mark, rest) = record.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (synced, rest) = rest.split_first_chunk::<8>()?;
        let (crc, _) = rest.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes(*len);
        if *mark != RECORD_MARK || len > MAX_JOURNAL_RECORD_BYTES {
            return None;
        }
        let synced = u64::from_le_bytes(*synced);
        let payload_end = RECORD_HEADER_BYTES + len as usize;
        let payload = record.get(RECORD_HEADER_BYTES..payload_end)?;
        let end = at + payload_end.next_multiple_of(8);
        let good = record_crc(generation, at as u64, len, synced, payload) == u32::from_le_bytes(*crc);
        (good && end <= bytes.len()).then_some(Self { payload, synced, end })
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
