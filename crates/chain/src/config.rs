use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::{BlockHash, Work};
use ironpeer_consensus::Params;
use ironpeer_primitives::Height;
use ironpeer_store::{Disk, FailHook, Kv, MemDisk, MemKv};

use crate::limits;

/// Where the chain keeps its data.
#[derive(Clone)]
pub enum Location {
    /// On disk, laid out as Core does.
    Disk {
        /// The network's own directory; holds `chainstate/` and `blocks/index/`.
        data_dir: PathBuf,
        /// Holds `blk*.dat` and `rev*.dat`; Core's `<-blocksdir>/<network>/blocks`.
        blocks_dir: PathBuf,
    },
    /// Nowhere: the same code on memory backends, for tests and simulations. Nothing survives.
    Memory,
    /// On backends that the caller keeps, so that a test can open them again.
    Given(Backends),
}

/// Places to keep data in that need not be a disk.
#[derive(Clone)]
pub struct Backends {
    /// Block files and the journal.
    pub disk: Arc<dyn Disk>,
    /// The block index; needs two keyspaces.
    pub index: Arc<dyn Kv>,
    /// The coins; needs two keyspaces.
    pub coins: Arc<dyn Kv>,
}

impl Backends {
    /// Empty ones in memory.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { disk: Arc::new(MemDisk::new()), index: Arc::new(MemKv::new()), coins: Arc::new(MemKv::new()) }
    }
}

/// What is thrown away at start and built anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reindex {
    /// Nothing.
    #[default]
    No,
    /// The coins (`-reindex-chainstate`).
    Coins,
    /// The block index and the coins (`-reindex`); [`reindex`](crate::ChainHandle::reindex)
    /// then reads the block files.
    All,
}

/// Whether old block files are deleted (`-prune`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prune {
    /// Only when asked to (`-prune=1`, `pruneblockchain`).
    Manual,
    /// So that block and undo files stay below this many bytes.
    Automatic(u64),
}

/// Called when `-dbcrashratio` strikes; should not return.
pub type CrashHook = Arc<dyn Fn() + Send + Sync>;

/// Deliberate crashes in the middle of writing coins (`-dbcrashratio`).
#[derive(Clone)]
pub struct SimulatedCrash {
    /// One of so many batches but the last is followed by a crash.
    pub one_in: u64,
    /// What to do then.
    pub crash: CrashHook,
}

/// How a chain is opened.
#[derive(Clone)]
pub struct Config {
    /// The network.
    pub params: Arc<Params>,
    /// Where its data is.
    pub location: Location,
    /// Bytes of the coin cache (`-dbcache`).
    pub cache_bytes: usize,
    /// Bytes of one coins batch (`-dbbatchsize`).
    pub batch_bytes: usize,
    /// Scripts of this block's ancestors are assumed good (`-assumevalid`); `None` checks all.
    pub assume_valid: Option<BlockHash>,
    /// Least work of a chain worth following (`-minimumchainwork`).
    pub minimum_chainwork: Work,
    /// Age in seconds beyond which a tip means initial download (`-maxtipage`).
    pub max_tip_age: i64,
    /// What to rebuild.
    pub reindex: Reindex,
    /// Blocks checked at start (`-checkblocks`); 0 checks all.
    pub check_blocks: u32,
    /// How thoroughly they are checked, 0 to 4 (`-checklevel`).
    pub check_level: u8,
    /// The user asked for that check, so it must not be cut short.
    pub check_required: bool,
    /// Stop when the tip has this height (`-stopatheight`).
    pub stop_at_height: Option<Height>,
    /// Bytes of blocks kept for followers.
    pub event_ring_bytes: usize,
    /// Picks the moments of periodic flushes.
    pub seed: u64,
    /// Small block files (`-fastprune`).
    pub small_block_files: bool,
    /// Whether old block files are deleted.
    pub prune: Option<Prune>,
    /// `-dbcrashratio`.
    pub simulated_crash: Option<SimulatedCrash>,
    /// Key that a new block directory's files are XORed with, from the caller's randomness;
    /// `None` for none (`-blocksxor=0`).
    pub xor_key: Option<[u8; 8]>,
    /// Asked before every step on disk; for crash tests.
    pub fail_hook: Option<FailHook>,
}

impl Config {
    /// Defaults of the network, in memory.
    #[must_use]
    pub fn in_memory(params: Arc<Params>) -> Self {
        Self::at(Location::Memory, params)
    }

    /// Defaults of the network, below one directory.
    #[must_use]
    pub fn on_disk(params: Arc<Params>, data_dir: &Path) -> Self {
        let location = Location::Disk { data_dir: data_dir.to_owned(), blocks_dir: data_dir.join("blocks") };
        Self::at(location, params)
    }

    fn at(location: Location, params: Arc<Params>) -> Self {
        Self {
            location,
            cache_bytes: limits::DEFAULT_CACHE_BYTES,
            batch_bytes: limits::DEFAULT_BATCH_BYTES,
            assume_valid: params.assume_valid,
            minimum_chainwork: params.minimum_chainwork,
            max_tip_age: limits::DEFAULT_MAX_TIP_AGE,
            reindex: Reindex::No,
            check_blocks: limits::DEFAULT_CHECK_BLOCKS,
            check_level: limits::DEFAULT_CHECK_LEVEL,
            check_required: false,
            stop_at_height: None,
            event_ring_bytes: limits::EVENT_RING_BYTES,
            seed: 0,
            small_block_files: false,
            prune: None,
            simulated_crash: None,
            xor_key: None,
            fail_hook: None,
            params,
        }
    }
}
