use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, OutPoint, Work};
use ironpeer_consensus::{Ancestry, Checker, Params, decode_block};
use ironpeer_primitives::{
    BlockUndo, ChainRead, Clock, Coin, HeaderInfo, Height, LogLine, LogSink, UnixTime, decode_block_undo,
};
use ironpeer_store::{BlockFiles, StoreError};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::coins::CoinStore;
use crate::config::Prune;
use crate::events::EventRing;
use crate::tree::{GENESIS, HeaderTree, Node, NodeId, Validity};

/// Why a stored block could not be given.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its body (or undo data) is not stored.
    #[error("block not available")]
    NotStored,
    /// It was stored once and has been pruned.
    #[error("block not available (pruned data)")]
    Pruned,
    /// The disk failed, or holds no such record.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes stored are not those of the block or coin they should be.
    #[error("{0}")]
    Damaged(String),
}

/// The state of a branch, named as `getchaintips` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainTipStatus {
    /// The active chain.
    Active,
    /// It holds an invalid block.
    Invalid,
    /// Some of its blocks' bodies are missing.
    HeadersOnly,
    /// Fully validated, but not active.
    ValidFork,
    /// All bodies are there, but it was never fully validated.
    ValidHeaders,
}

impl ChainTipStatus {
    /// The name in `getchaintips`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Invalid => "invalid",
            Self::HeadersOnly => "headers-only",
            Self::ValidFork => "valid-fork",
            Self::ValidHeaders => "valid-headers",
        }
    }
}

/// The end of a branch.
#[derive(Clone, Copy, Debug)]
pub struct ChainTip {
    /// Its last header.
    pub header: HeaderInfo,
    /// Blocks since it left the active chain; 0 for the active tip.
    pub branch_len: u32,
    /// What is known of it.
    pub status: ChainTipStatus,
}

/// What the chain warns its operator of (Core's `kernel::Warning`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainWarnings {
    /// An invalid chain has more than six blocks' work more than ours.
    pub large_invalid_chain: bool,
    /// Version bits by which rules unknown to us became active, the first one first.
    pub unknown_rules: Vec<u8>,
}

impl ChainWarnings {
    /// Core's texts, in its order.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        let rules = self.unknown_rules.first();
        let rules = rules.map(|bit| format!("Unknown new rules activated (versionbit {bit})"));
        let invalid = self.large_invalid_chain.then(|| LARGE_INVALID_CHAIN.to_owned());
        rules.into_iter().chain(invalid).collect()
    }
}

const LARGE_INVALID_CHAIN: &str = "Warning: Found invalid chain more than 6 blocks longer than our best chain. This could be due to database corruption or consensus incompatibility with peers.";

/// What the writer and the readers share.
pub(crate) struct Shared {
    pub params: Arc<Params>,
    pub minimum_chainwork: Work,
    /// Written by the writer alone, for moments; read by all.
    pub tree: RwLock<HeaderTree>,
    pub coins: CoinStore,
    pub files: BlockFiles,
    pub ring: Arc<EventRing>,
    pub clock: Arc<dyn Clock>,
    pub log: Arc<dyn LogSink>,
    pub checker: Arc<dyn Checker>,
    pub fatal: watch::Sender<Option<Arc<str>>>,
    pub stop_requested: watch::Sender<bool>,
    /// The node is shutting down: long work ends between two blocks.
    pub stopping: AtomicBool,
    pub initial_download: AtomicBool,
    pub reindexing: AtomicBool,
    /// Whether old block files are deleted.
    pub prune: Option<Prune>,
    /// Some were (Core's `m_have_pruned`).
    pub have_pruned: AtomicBool,
    /// Who still needs blocks from which height on.
    pub prune_locks: Mutex<BTreeMap<&'static str, Height>>,
    pub warnings: watch::Sender<ChainWarnings>,
}

impl Shared {
    /// Says that the node cannot go on, the first time with a log line.
    pub(crate) fn fail(&self, message: String) {
        self.fatal.send_if_modified(|fatal| {
            if fatal.is_some() {
                return false;
            }
            self.log.log(LogLine::error(format!("*** {message}")));
            *fatal = Some(message.into());
            true
        });
    }

    pub(crate) fn failed(&self) -> bool {
        self.fatal.borrow().is_some()
    }

    /// Reads, decodes and identifies a stored block.
    pub(crate) fn read_block(&self, hash: &BlockHash) -> Result<Block, ReadError> {
        let bytes = self.read_block_bytes(hash)?;
        let block =
            decode_block(&bytes).map_err(|error| ReadError::Damaged(format!("block {hash}: {error}")))?;
        if block.block_hash() != *hash {
            return Err(ReadError::Damaged(format!("block {hash}: another block is stored there")));
        }
        Ok(block)
    }

    pub(crate) fn read_block_bytes(&self, hash: &BlockHash) -> Result<Vec<u8>, ReadError> {
        let position = {
            let tree = self.tree.read();
            let node = tree.id(hash).map(|id| tree.node(id)).ok_or(ReadError::NotStored)?;
            node.data.ok_or_else(|| self.missing(node))?
        };
        Ok(self.files.read_block(position)?)
    }

    /// Why a known block's data is not there.
    fn missing(&self, node: &Node) -> ReadError {
        // A body once seen leaves its number of transactions behind.
        let pruned = self.have_pruned.load(Ordering::Relaxed) && node.data.is_none() && node.tx_count > 0;
        if pruned { ReadError::Pruned } else { ReadError::NotStored }
    }

    fn read_block_part(&self, hash: &BlockHash, offset: u32, len: u32) -> Result<Vec<u8>, ReadError> {
        let position = {
            let tree = self.tree.read();
            let node = tree.id(hash).map(|id| tree.node(id)).ok_or(ReadError::NotStored)?;
            node.data.ok_or_else(|| self.missing(node))?
        };
        Ok(self.files.read_block_part(position, offset, len)?)
    }

    pub(crate) fn read_undo(&self, hash: &BlockHash) -> Result<BlockUndo, ReadError> {
        let (position, parent) = {
            let tree = self.tree.read();
            let node = tree.id(hash).map(|id| tree.node(id)).ok_or(ReadError::NotStored)?;
            if node.parent.is_none() {
                return Ok(BlockUndo::default());
            }
            (node.undo.ok_or_else(|| self.missing(node))?, node.header.prev_blockhash)
        };
        let bytes = self.files.read_undo(position, &parent.to_byte_array())?;
        decode_block_undo(&bytes)
            .map_err(|error| ReadError::Damaged(format!("undo data of block {hash}: {error}")))
    }

    /// Core's `GuessVerificationProgress`.
    pub(crate) fn progress(&self, tree: &HeaderTree, id: NodeId) -> f64 {
        const RECENT: i64 = 2 * 60 * 60;
        let node = tree.node(id);
        if node.chain_tx_count == 0 {
            return 0.0;
        }
        let now = self.clock.unix();
        let best = tree.node(tree.best_header());
        let block_time = i64::from(node.header.time);
        let time = if (now - block_time).abs() <= RECENT && best.height >= node.height {
            now - i64::from(best.height.0 - node.height.0) * self.params.pow_target_spacing
        } else {
            block_time
        };
        let data = &self.params.chain_tx_data;
        let done = node.chain_tx_count as f64;
        let total = if node.chain_tx_count <= data.tx_count {
            data.tx_count as f64 + (now - data.time) as f64 * data.tx_rate
        } else {
            done + (now - time) as f64 * data.tx_rate
        };
        (done / total).min(1.0)
    }
}

/// The readers' front: headers, coins and blocks. Cheap to clone. A reader waits at most while
/// the writer merges one block that is already validated.
#[derive(Clone)]
pub struct ChainView {
    shared: Arc<Shared>,
}

impl ChainView {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The network.
    #[must_use]
    pub fn params(&self) -> &Arc<Params> {
        &self.shared.params
    }

    /// The tip and the number of the event that led to it.
    #[must_use]
    pub fn tip_and_seq(&self) -> (HeaderInfo, u64) {
        let tree = self.shared.tree.read();
        (tree.info(tree.tip()), tree.event_seq)
    }

    /// A coin as of the tip. `None` if it is spent or never was.
    #[must_use]
    pub fn coin(&self, outpoint: &OutPoint) -> Option<Coin> {
        self.shared.coins.coin(outpoint)
    }

    /// Several coins, all as of one tip, whose hash comes with them.
    #[must_use]
    pub fn coins(&self, outpoints: &[OutPoint]) -> (BlockHash, Vec<Option<Coin>>) {
        self.shared.coins.coins(outpoints)
    }

    /// A stored block.
    ///
    /// # Errors
    /// If it is not stored, or cannot be read.
    pub fn block(&self, hash: &BlockHash) -> Result<Arc<Block>, ReadError> {
        self.shared.read_block(hash).map(Arc::new)
    }

    /// A stored block's bytes, witness included.
    ///
    /// # Errors
    /// If it is not stored, or cannot be read.
    pub fn block_bytes(&self, hash: &BlockHash) -> Result<Vec<u8>, ReadError> {
        self.shared.read_block_bytes(hash)
    }

    /// `len` bytes of a stored block from byte `offset` of it, not checked against its hash.
    ///
    /// # Errors
    /// If it is not stored, is shorter, or cannot be read.
    pub fn block_part(&self, hash: &BlockHash, offset: u32, len: u32) -> Result<Vec<u8>, ReadError> {
        self.shared.read_block_part(hash, offset, len)
    }

    /// The coins a once connected block spent; empty for the genesis block.
    ///
    /// # Errors
    /// If they are not stored, or cannot be read.
    pub fn undo(&self, hash: &BlockHash) -> Result<Arc<BlockUndo>, ReadError> {
        self.shared.read_undo(hash).map(Arc::new)
    }

    /// Transactions in the chain up to and including a block; 0 while a body on the way is
    /// missing (Core's `m_chain_tx_count`).
    #[must_use]
    pub fn chain_tx_count(&self, hash: &BlockHash) -> Option<u64> {
        let tree = self.shared.tree.read();
        tree.id(hash).map(|id| tree.node(id).chain_tx_count)
    }

    /// The ends of all branches (`getchaintips`), in no order.
    #[must_use]
    pub fn chain_tips(&self) -> Vec<ChainTip> {
        let tree = self.shared.tree.read();
        let tip = |id: NodeId| {
            let node = tree.node(id);
            let fork = tree.node(tree.fork_with_active(id)).height;
            let status = if tree.is_active(id) {
                ChainTipStatus::Active
            } else if node.failed {
                ChainTipStatus::Invalid
            } else if node.chain_tx_count == 0 {
                ChainTipStatus::HeadersOnly
            } else if node.validity == Validity::Scripts {
                ChainTipStatus::ValidFork
            } else {
                ChainTipStatus::ValidHeaders
            };
            ChainTip { header: tree.info(id), branch_len: node.height.0 - fork.0, status }
        };
        tree.branch_ends().into_iter().map(tip).collect()
    }

    /// The last common ancestor of two known headers.
    #[must_use]
    pub fn common_ancestor(&self, a: &BlockHash, b: &BlockHash) -> Option<HeaderInfo> {
        let tree = self.shared.tree.read();
        let (a, b) = (tree.id(a)?, tree.id(b)?);
        Some(tree.info(tree.common_ancestor(a, b)))
    }

    /// The chain ending at a known header, for the contextual rules of `consensus`.
    #[must_use]
    pub fn ancestry(&self, hash: &BlockHash) -> Option<ChainAncestry> {
        let end = self.shared.tree.read().id(hash)?;
        Some(ChainAncestry { shared: Arc::clone(&self.shared), end })
    }

    /// How much of the chain's transactions a block's chain holds, from 0 to 1, as guessed from
    /// the clock (`verificationprogress`).
    #[must_use]
    pub fn verification_progress(&self, hash: &BlockHash) -> Option<f64> {
        let tree = self.shared.tree.read();
        tree.id(hash).map(|id| self.shared.progress(&tree, id))
    }

    /// Headers known, branches included.
    #[must_use]
    pub fn header_count(&self) -> usize {
        self.shared.tree.read().len()
    }

    /// Bytes of block and undo files (`size_on_disk`).
    #[must_use]
    pub fn size_on_disk(&self) -> u64 {
        self.shared.files.bytes_on_disk()
    }

    /// Whether old block files are deleted, and when.
    #[must_use]
    pub fn prune_mode(&self) -> Option<Prune> {
        self.shared.prune
    }

    /// The highest block of the active chain whose bytes or undo data are gone (Core's
    /// `GetPruneHeight`); `None` if none is. Walks down from the tip.
    #[must_use]
    pub fn prune_height(&self) -> Option<Height> {
        let tree = self.shared.tree.read();
        // The genesis block has no undo data.
        (1..=tree.tip_node().height.0).rev().map(Height).find(|height| {
            let node = tree.active_at(*height).map(|id| tree.node(id));
            node.is_some_and(|node| node.data.is_none() || node.undo.is_none())
        })
    }

    /// The first block of the active chain whose time is at least `time` (Core's
    /// `FindEarliestAtLeast`).
    #[must_use]
    pub fn earliest_at_least(&self, time: UnixTime) -> Option<HeaderInfo> {
        let tree = self.shared.tree.read();
        (0..=tree.tip_node().height.0)
            .filter_map(|height| tree.active_at(Height(height)))
            .find(|id| i64::from(tree.node(*id).header.time) >= time)
            .map(|id| tree.info(id))
    }

    /// Bytes and entries of the coin cache.
    #[must_use]
    pub fn coin_cache_size(&self) -> (usize, usize) {
        self.shared.coins.size()
    }

    /// Keeps the blocks that `name`, a follower which has got to `height`, needs to go on and to
    /// go back, from being pruned (Core's `UpdatePruneLock`).
    pub fn set_prune_lock(&self, name: &'static str, height: Height) {
        self.shared.prune_locks.lock().insert(name, height);
    }

    /// Says that the node cannot go on, for a follower that cannot: what happens when the chain
    /// itself breaks down happens (see [`ChainHandle::fatal`](crate::ChainHandle::fatal)).
    pub fn fail(&self, message: impl Into<String>) {
        self.shared.fail(message.into());
    }

    /// The block files must be read again (`-reindex`, or one that was interrupted): call
    /// [`ChainHandle::reindex`](crate::ChainHandle::reindex).
    #[must_use]
    pub fn reindexing(&self) -> bool {
        self.shared.reindexing.load(Ordering::Relaxed)
    }

    /// What the operator is warned of at present.
    #[must_use]
    pub fn warnings(&self) -> ChainWarnings {
        self.shared.warnings.borrow().clone()
    }
}

impl ChainRead for ChainView {
    fn tip(&self) -> HeaderInfo {
        self.tip_and_seq().0
    }

    fn best_header(&self) -> HeaderInfo {
        let tree = self.shared.tree.read();
        tree.info(tree.best_header())
    }

    fn header(&self, hash: &BlockHash) -> Option<HeaderInfo> {
        let tree = self.shared.tree.read();
        tree.id(hash).map(|id| tree.info(id))
    }

    fn active_at(&self, height: Height) -> Option<HeaderInfo> {
        let tree = self.shared.tree.read();
        tree.active_at(height).map(|id| tree.info(id))
    }

    fn ancestor(&self, of: &BlockHash, height: Height) -> Option<HeaderInfo> {
        let tree = self.shared.tree.read();
        let id = tree.ancestor(tree.id(of)?, height)?;
        Some(tree.info(id))
    }

    fn locator(&self, from: &BlockHash) -> Vec<BlockHash> {
        let tree = self.shared.tree.read();
        tree.locator(tree.id(from).unwrap_or(GENESIS))
    }

    fn find_fork(&self, locator: &[BlockHash]) -> HeaderInfo {
        let tree = self.shared.tree.read();
        tree.info(tree.find_fork(locator))
    }

    fn is_initial_block_download(&self) -> bool {
        self.shared.initial_download.load(Ordering::Relaxed)
    }

    fn minimum_chainwork(&self) -> Work {
        self.shared.minimum_chainwork
    }
}

/// A chain in the tree, ending at a fixed header. Each question takes the tree's lock for itself.
#[derive(Clone)]
pub struct ChainAncestry {
    shared: Arc<Shared>,
    end: NodeId,
}

impl Ancestry for ChainAncestry {
    fn height(&self) -> Height {
        self.shared.tree.read().node(self.end).height
    }

    fn header_at(&self, height: Height) -> Option<(BlockHash, Header)> {
        self.shared.tree.read().chain_of(self.end).header_at(height)
    }

    fn median_time_past_at(&self, height: Height) -> Option<UnixTime> {
        self.shared.tree.read().chain_of(self.end).median_time_past_at(height)
    }
}
