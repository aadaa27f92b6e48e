//! Taking blocks from files: `-loadblock`, and `-reindex` over our own block files.
//!
//! A first pass finds every block's header and place, whatever their order and whatever lies
//! between them (Core's `LoadExternalBlockFile`). The headers go in first, so that the tree knows
//! how far the chain reaches; then the bodies follow, parents before children, decoded and checked
//! on the pool while the writer connects the batch before.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::consensus::Decodable;
use ironpeer_primitives::{ChainRead, LogLine};
use ironpeer_store::{BlockScanner, FileKind, FilePos, OsDisk, ScannedBlock, StoreError, XorKey};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::handle::{ChainHandle, ChainStopped, block_on};
use crate::limits;
use crate::prepare::Prepared;

/// Headers handed to the writer at once.
const HEADER_BATCH: usize = 2000;
/// The file beside Core's block files that holds their XOR key.
const XOR_FILE: &str = "xor.dat";

/// Why a file of blocks could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Io(#[source] io::Error),
    /// The block files cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// See [`ChainStopped`].
    #[error(transparent)]
    Stopped(#[from] ChainStopped),
}

/// What a file held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportStats {
    /// Blocks found.
    pub found: usize,
    /// Of them, those whose chain back to genesis is neither in the file nor known.
    pub without_parent: usize,
    /// Of them, those stored (and perhaps connected) by this import.
    pub new: usize,
    /// How long it took.
    pub took: Duration,
}

/// A block in a file.
struct Found {
    hash: BlockHash,
    header: Header,
    file: u32,
    offset: u64,
    len: usize,
}

impl Found {
    fn new(file: u32, scanned: &ScannedBlock) -> Option<Self> {
        let header = Header::consensus_decode(&mut scanned.bytes.as_slice()).ok()?;
        let len = scanned.bytes.len();
        Some(Self { hash: header.block_hash(), header, file, offset: scanned.offset, len })
    }
}

/// Where bodies are read from in the second pass.
enum Source<'a> {
    Elsewhere { file: File, key: XorKey },
    Own(&'a ChainHandle),
}

impl Source<'_> {
    fn prepare(&self, found: &Found, handle: &ChainHandle) -> Option<Prepared> {
        let (bytes, position) = match self {
            Self::Elsewhere { file, key } => {
                let mut bytes = vec![0; found.len];
                file.read_exact_at(&mut bytes, found.offset).ok()?;
                key.apply(&mut bytes, found.offset);
                (bytes, None)
            }
            Self::Own(handle) => {
                let position = FilePos { file: found.file, offset: u32::try_from(found.offset).ok()? };
                (handle.shared.files.read_block(position).ok()?, Some(position))
            }
        };
        Prepared::decode(&bytes, position, &handle.shared.params)
    }
}

/// Takes in a file from elsewhere.
pub(crate) fn from_file(handle: &ChainHandle, path: &Path) -> Result<ImportStats, ImportError> {
    let log = &handle.shared.log;
    log.log(LogLine::info(format!("Importing blocks file {}...", path.display())));
    let key = key_beside(path).map_err(ImportError::Io)?;
    let file = File::open(path).map_err(ImportError::Io)?;
    let mut found = Vec::new();
    for scanned in BlockScanner::open(&OsDisk, path, handle.shared.params.magic, key)? {
        found.extend(Found::new(0, &scanned?));
    }
    let stats = during_import(handle, false, || take_in(handle, &found, &Source::Elsewhere { file, key }))?;
    log.log(LogLine::info(format!(
        "Loaded {} blocks from external file in {}ms",
        stats.new,
        stats.took.as_millis()
    )));
    Ok(stats)
}

/// The key of a block file that lies in a node's own folder, if it is one.
fn key_beside(path: &Path) -> io::Result<XorKey> {
    let is_block_file = path
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("blk") && name.ends_with(".dat"));
    let beside: PathBuf = path.with_file_name(XOR_FILE);
    if !is_block_file || !beside.exists() {
        return Ok(XorKey::default());
    }
    let key = std::fs::read(beside)?;
    Ok(key.try_into().map(XorKey).unwrap_or_default())
}

/// Builds the index anew from our own block files.
pub(crate) fn reindex(handle: &ChainHandle) -> Result<ImportStats, ImportError> {
    let log = &handle.shared.log;
    let files = &handle.shared.files;
    during_import(handle, true, || {
        let mut found = Vec::new();
        let numbers = files.files(FileKind::Block);
        for (place, (number, _)) in numbers.iter().enumerate() {
            let percent = place * 100 / numbers.len().max(1);
            log.log(LogLine::info(format!(
                "Reindexing block file {} ({percent}% complete)...",
                FileKind::Block.file_name(*number)
            )));
            for scanned in files.scan(*number)? {
                found.extend(Found::new(*number, &scanned?));
            }
        }
        let stats = take_in(handle, &found, &Source::Own(handle))?;
        log.log(LogLine::info("Reindexing finished"));
        Ok(stats)
    })
}

/// Keeps the node in initial download while `work` runs.
fn during_import(
    handle: &ChainHandle,
    reindex: bool,
    work: impl FnOnce() -> Result<ImportStats, ImportError>,
) -> Result<ImportStats, ImportError> {
    handle.import_begins()?;
    let result = work();
    handle.import_ends(reindex && result.is_ok())?;
    result
}

/// Puts parents before children; drops those that lead nowhere.
fn in_order<'a>(handle: &ChainHandle, found: &'a [Found]) -> Vec<&'a Found> {
    let view = handle.view();
    let genesis = handle.shared.params.genesis_hash;
    let mut placed: HashSet<BlockHash> = HashSet::new();
    let mut waiting: HashMap<BlockHash, Vec<&Found>> = HashMap::new();
    let mut order = Vec::with_capacity(found.len());
    for block in found {
        let parent = block.header.prev_blockhash;
        if block.hash != genesis && !placed.contains(&parent) && view.header(&parent).is_none() {
            waiting.entry(parent).or_default().push(block);
            continue;
        }
        let mut queue = VecDeque::from([block]);
        while let Some(block) = queue.pop_front() {
            if placed.insert(block.hash) {
                order.push(block);
            }
            queue.extend(waiting.remove(&block.hash).unwrap_or_default());
        }
    }
    order
}

fn take_in(handle: &ChainHandle, found: &[Found], source: &Source<'_>) -> Result<ImportStats, ImportError> {
    let started = handle.shared.clock.steady();
    let order = in_order(handle, found);
    let mut stats = ImportStats {
        found: found.len(),
        without_parent: found.len() - order.len(),
        ..ImportStats::default()
    };
    for batch in order.chunks(HEADER_BATCH) {
        let headers: Vec<Header> = batch.iter().map(|block| block.header).collect();
        let mut rest = headers.as_slice();
        // A bad header ends its message; those after it are still wanted.
        while !rest.is_empty() {
            rest = match handle.submit_headers_blocking(rest.to_vec(), true)?.refused {
                Some(refused) => rest.get(refused.index + 1..).unwrap_or_default(),
                None => &[],
            };
        }
    }
    let view = handle.view();
    let mut answers = Vec::new();
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(limits::IMPORT_BATCH_BLOCKS).take_while(|block| {
            bytes += block.len;
            bytes <= limits::IMPORT_BATCH_BYTES
        });
        let (batch, after) = rest.split_at(fits.count().max(1));
        rest = after;
        let wanted: Vec<&Found> = batch
            .iter()
            .copied()
            .filter(|block| view.header(&block.hash).is_some_and(|known| !known.has_data))
            .collect();
        let blocks: Vec<Prepared> = handle
            .pool
            .install(|| wanted.par_iter().filter_map(|block| source.prepare(block, handle)).collect());
        if !blocks.is_empty() {
            answers.push(handle.import_blocks(blocks)?);
        }
    }
    for answer in answers {
        stats.new += block_on(answer).map_err(|_| ChainStopped)?;
    }
    stats.took = handle.shared.clock.steady().saturating_sub(started);
    Ok(stats)
}
