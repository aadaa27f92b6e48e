//! Opening a chain: reading what is stored, and building from it what the writer needs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::consensus::encode;
use bitcoin::hashes::Hash;
use ironpeer_consensus::versionbits::VersionBits;
use ironpeer_consensus::{Checker, ScriptCache, decode_block, is_block_mutated};
use ironpeer_primitives::{Clock, LogLine, LogSink, UnixTime, decode_block_undo};
use ironpeer_store::{
    Batch, BlockFiles, BlockFilesConfig, Disk, Durability, FileKind, FjallConfig, FjallKv, HookedDisk,
    Journal, Kv, OsDisk, SpaceConfig, StoreError, claim_folder, destroy_folder, is_foreign_leveldb,
    move_aside,
};
use parking_lot::{Mutex, RwLock};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use tokio::sync::{Semaphore, watch};

use crate::coins::{BEST_BLOCK_KEY, CoinStore, HEAD_BLOCKS_KEY, MARKERS};
use crate::config::{Backends, Config, Location, Prune, Reindex};
use crate::core::{Core, Fatal, chained};
use crate::events::EventRing;
use crate::flush::{INDEX_META, PRUNED_KEY, REINDEX_KEY, ROWS, TIP_KEY, parse_head_blocks};
use crate::handle::ChainHandle;
use crate::limits;
use crate::rows::{Record, Row};
use crate::scripts::PoolChecker;
use crate::text;
use crate::tree::{GENESIS, HeaderTree, SEQUENCE_BEST_FROM_DISK, Validity};
use crate::view::Shared;
use crate::writer::ChainThread;

/// Format of our `blocks/index` and `chainstate` folders.
const FORMAT: u32 = 1;

/// Why a chain could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("{}", chained(.0))]
    Store(#[from] StoreError),
    /// Another program's database is there; nothing was changed.
    #[error(
        "{} holds the database of another Bitcoin node. It was left as it is. Use another -datadir (and \
         -loadblock to read the block files), or -reindex to build our own beside it", path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// What is stored does not fit together. `-reindex` builds it anew.
    #[error("{0}")]
    Corrupted(String),
    /// The block files belong to another network.
    #[error("Incorrect or no genesis block found. Wrong datadir for network?")]
    WrongGenesis,
    /// Repairing failed.
    #[error("{0}")]
    Failed(String),
}

impl From<Fatal> for OpenError {
    fn from(fatal: Fatal) -> Self {
        Self::Failed(fatal.0)
    }
}

/// Opens chains.
#[derive(Debug)]
pub struct Chain;

impl Chain {
    /// Opens a chain, repairs it if need be, and starts its writer thread. Scripts are checked on
    /// `pool`, consulting `script_cache`.
    ///
    /// # Errors
    /// If the data cannot be read, or is not ours.
    pub fn open(
        config: Config,
        clock: Arc<dyn Clock>,
        log: Arc<dyn LogSink>,
        pool: Arc<rayon::ThreadPool>,
        script_cache: Arc<ScriptCache>,
    ) -> Result<(ChainHandle, ChainThread), OpenError> {
        Self::open_with_checker(config, clock, log, pool, Arc::new(PoolChecker::new(script_cache)))
    }

    /// As [`open`](Self::open), with another way to check scripts.
    ///
    /// # Errors
    /// As there.
    pub fn open_with_checker(
        config: Config,
        clock: Arc<dyn Clock>,
        log: Arc<dyn LogSink>,
        pool: Arc<rayon::ThreadPool>,
        checker: Arc<dyn Checker>,
    ) -> Result<(ChainHandle, ChainThread), OpenError> {
        let core = open_core(config, clock, log, Arc::clone(&pool), checker)?;
        // Bounded by `queue_space`, of which each command holds a part. A bounded channel would keep
        // what a stopped writer leaves in it, and the callers waiting.
        let (commands, queue) = crossbeam_channel::unbounded();
        let handle = ChainHandle {
            shared: Arc::clone(&core.shared),
            commands,
            queue_space: Arc::new(Semaphore::new(limits::COMMAND_QUEUE_BYTES >> 10)),
            pool,
        };
        let thread = ChainThread::start(core, queue)?;
        Ok((handle, thread))
    }
}

/// Where everything is once opened.
struct Places {
    disk: Arc<dyn Disk>,
    files: BlockFiles,
    index: Arc<dyn Kv>,
    coins: Arc<dyn Kv>,
    journal: PathBuf,
}

fn open_files(disk: &Arc<dyn Disk>, dir: &Path, config: &Config) -> Result<BlockFiles, StoreError> {
    let settings = BlockFilesConfig {
        magic: config.params.magic,
        fresh_xor_key: config.xor_key,
        fast_prune: config.small_block_files,
    };
    BlockFiles::open(Arc::clone(disk), dir, settings)
}

fn places(config: &Config, log: &dyn LogSink) -> Result<Places, OpenError> {
    let hooked = |disk: Arc<dyn Disk>| match &config.fail_hook {
        Some(hook) => Arc::new(HookedDisk::new(disk, Arc::clone(hook))) as Arc<dyn Disk>,
        None => disk,
    };
    let given = |backends: &Backends| -> Result<Places, StoreError> {
        let disk = hooked(Arc::clone(&backends.disk));
        Ok(Places {
            files: open_files(&disk, Path::new("/blocks"), config)?,
            disk,
            index: Arc::clone(&backends.index),
            coins: Arc::clone(&backends.coins),
            journal: PathBuf::from("/journal.dat"),
        })
    };
    let places = match &config.location {
        Location::Memory => given(&Backends::in_memory())?,
        Location::Given(backends) => given(backends)?,
        Location::Disk { data_dir, blocks_dir } => {
            let disk = hooked(Arc::new(OsDisk));
            let index_parent = data_dir.join("blocks");
            disk.create_dir_all(&index_parent).map_err(|error| {
                OpenError::Failed(format!("cannot create {}: {error}", index_parent.display()))
            })?;
            let (index, coins) = (index_parent.join("index"), data_dir.join("chainstate"));
            let journal = index_parent.join("journal.dat");
            // Coins without index, or the reverse, are of no use: both are looked at first.
            for (dir, wipe) in
                [(&index, config.reindex == Reindex::All), (&coins, config.reindex != Reindex::No)]
            {
                if is_foreign_leveldb(disk.as_ref(), dir) {
                    if config.reindex != Reindex::All {
                        return Err(OpenError::Foreign { path: dir.clone() });
                    }
                    let kept = move_aside(dir)?;
                    log.log(LogLine::warning(format!(
                        "Another node's database was moved to {}; move it back to return to that node",
                        kept.display()
                    )));
                }
                if wipe {
                    destroy_folder(dir)?;
                }
            }
            if config.reindex == Reindex::All && disk.exists(&journal) {
                disk.remove(&journal).map_err(|error| OpenError::Failed(error.to_string()))?;
            }
            let memory = Memory::of(config);
            Places {
                // Before anything else lies in the folder: only an empty one gets a random key.
                files: open_files(&disk, blocks_dir, config)?,
                index: open_kv(disk.as_ref(), &index, "block index", config, memory.index)?,
                coins: open_kv(disk.as_ref(), &coins, "coins", config, memory.coins)?,
                journal,
                disk,
            }
        }
    };
    if !matches!(config.location, Location::Disk { .. }) {
        if config.reindex != Reindex::No {
            wipe(places.coins.as_ref(), &[crate::coins::COINS, MARKERS])?;
        }
        if config.reindex == Reindex::All {
            wipe(places.index.as_ref(), &[ROWS, INDEX_META])?;
            if places.disk.exists(&places.journal) {
                places.disk.remove(&places.journal).map_err(|error| OpenError::Failed(error.to_string()))?;
            }
        }
    }
    Ok(places)
}

/// What `-dbcache` is shared out to: the memory of the databases comes out of it.
struct Memory {
    coins: FjallConfig,
    index: FjallConfig,
    /// What is left for cached coins.
    cached_coins: usize,
}

impl Memory {
    fn of(config: &Config) -> Self {
        let total = config.cache_bytes;
        if config.params.mockable {
            return Self { coins: FjallConfig::small(), index: FjallConfig::small(), cached_coins: total };
        }
        let coins = (total / limits::COINS_DATABASE_SHARE).min(limits::COINS_DATABASE_MAX_BYTES);
        let index = (total / limits::INDEX_DATABASE_SHARE).min(limits::INDEX_DATABASE_MAX_BYTES);
        let large = |bytes: usize| FjallConfig::large(bytes as u64, bytes as u64);
        Self {
            coins: large(coins),
            index: large(index),
            // A block cache and a write buffer each.
            cached_coins: total - 2 * coins - 2 * index,
        }
    }
}

fn open_kv(
    disk: &dyn Disk,
    dir: &Path,
    kind: &str,
    config: &Config,
    mut settings: FjallConfig,
) -> Result<Arc<dyn Kv>, OpenError> {
    claim_folder(disk, dir, kind, FORMAT).map_err(|error| match error {
        StoreError::Foreign { path } => OpenError::Foreign { path },
        other => other.into(),
    })?;
    settings.hook.clone_from(&config.fail_hook);
    let spaces =
        [SpaceConfig { name: "rows", expect_hits: true }, SpaceConfig { name: "meta", expect_hits: true }];
    // The databases live in a folder of their own inside ours, beside the format marker.
    Ok(Arc::new(FjallKv::open(&dir.join("db"), &spaces, &settings)?))
}

fn wipe(kv: &dyn Kv, spaces: &[ironpeer_store::Space]) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    for space in spaces {
        for pair in kv.iter(*space) {
            batch.delete(*space, pair?.0);
        }
    }
    kv.commit(batch, Durability::Power)
}

/// What index and journal hold together.
struct Stored {
    rows: HashMap<BlockHash, Row>,
    /// Those the journal had.
    journaled: HashSet<BlockHash>,
    /// Those whose bytes may not have reached the disk.
    suspect: HashSet<BlockHash>,
    tip: Option<BlockHash>,
}

fn read_index(index: &dyn Kv, records: &[Vec<u8>]) -> Result<Stored, OpenError> {
    let damaged = || OpenError::Corrupted("Error loading block database".into());
    let mut stored =
        Stored { rows: HashMap::new(), journaled: HashSet::new(), suspect: HashSet::new(), tip: None };
    for pair in index.iter(ROWS) {
        let (key, value) = pair?;
        let row = Row::decode(&value).ok_or_else(damaged)?;
        let hash = BlockHash::from_slice(&key).map_err(|_| damaged())?;
        stored.rows.insert(hash, row);
    }
    if let Some(tip) = index.get(INDEX_META, TIP_KEY)? {
        stored.tip = Some(BlockHash::from_slice(&tip).map_err(|_| damaged())?);
    }
    for record in records {
        match Record::decode(record).ok_or_else(damaged)? {
            Record::Row(row) => {
                let hash = row.header.block_hash();
                stored.journaled.insert(hash);
                stored.suspect.insert(hash);
                stored.rows.insert(hash, row);
            }
            Record::Tip(hash) => stored.tip = Some(hash),
            Record::Synced => stored.suspect.clear(),
        }
    }
    Ok(stored)
}

/// Forgets bodies and undo records that the journal names but the disk does not hold: a power
/// loss took them, and they will be fetched again. Returns how many.
fn drop_lost_bytes(stored: &mut Stored, files: &BlockFiles, pool: &rayon::ThreadPool) -> usize {
    let suspects: Vec<(BlockHash, Row)> = stored
        .suspect
        .iter()
        .filter_map(|hash| stored.rows.get(hash).map(|row| (*hash, row.clone())))
        .filter(|(_, row)| row.data.is_some())
        .collect();
    let examine = |(hash, mut row): (BlockHash, Row)| {
        let block = row.data.and_then(|position| decode_block(&files.read_block(position).ok()?).ok());
        if !block.is_some_and(|block| block.block_hash() == hash && !is_block_mutated(&block, true)) {
            row = Row { data: None, undo: None, tx_count: 0, validity: Validity::Tree, ..row };
            return Some((hash, row));
        }
        let parent = row.header.prev_blockhash.to_byte_array();
        let undo = row.undo.map(|position| files.read_undo(position, &parent));
        if undo.is_some_and(|bytes| !bytes.is_ok_and(|bytes| decode_block_undo(&bytes).is_ok())) {
            row.undo = None;
            row.validity = row.validity.min(Validity::Transactions);
            return Some((hash, row));
        }
        None
    };
    let lost: Vec<(BlockHash, Row)> = pool.install(|| suspects.into_par_iter().filter_map(examine).collect());
    let count = lost.len();
    stored.rows.extend(lost);
    count
}

/// Builds the tree from rows, parents first.
fn build_tree(stored: &Stored, genesis: &bitcoin::Block) -> Result<HeaderTree, OpenError> {
    let mut tree = HeaderTree::new(genesis.header);
    let genesis_hash = tree.node(GENESIS).hash;
    if !stored.rows.is_empty() && !stored.rows.contains_key(&genesis_hash) {
        return Err(OpenError::WrongGenesis);
    }
    let mut children: HashMap<BlockHash, Vec<BlockHash>> = HashMap::new();
    for (hash, row) in &stored.rows {
        if *hash != genesis_hash {
            children.entry(row.header.prev_blockhash).or_default().push(*hash);
        }
    }
    for siblings in children.values_mut() {
        // The order of ids decides ties between branches whose arrival is not known any more.
        siblings.sort_unstable();
    }
    let mut queue = std::collections::VecDeque::from([(genesis_hash, GENESIS)]);
    while let Some((hash, id)) = queue.pop_front() {
        if let Some(row) = stored.rows.get(&hash) {
            let parent_tx =
                tree.node(id).parent.map_or(Some(0), |parent| match tree.node(parent).chain_tx_count {
                    0 => None,
                    count => Some(count),
                });
            let node = tree.node_mut(id);
            node.validity = row.validity;
            node.failed |= row.failed;
            node.tx_count = row.tx_count;
            node.data = row.data;
            node.undo = row.undo;
            if let (Some(before), true) = (parent_tx, row.tx_count > 0) {
                node.chain_tx_count = before + u64::from(row.tx_count);
            }
        }
        for child in children.remove(&hash).unwrap_or_default() {
            if let Some(row) = stored.rows.get(&child) {
                queue.push_back((child, tree.insert(row.header, child, id)));
            }
        }
    }
    Ok(tree)
}

pub(crate) fn open_core(
    mut config: Config,
    clock: Arc<dyn Clock>,
    log: Arc<dyn LogSink>,
    pool: Arc<rayon::ThreadPool>,
    checker: Arc<dyn Checker>,
) -> Result<Core, OpenError> {
    let places = places(&config, log.as_ref())?;
    if matches!(config.location, Location::Disk { .. }) {
        config.cache_bytes = Memory::of(&config).cached_coins;
    }
    let files = places.files;
    let opened = Journal::open(Arc::clone(&places.disk), &places.journal)?;
    let mut stored = read_index(places.index.as_ref(), &opened.records)?;
    let lost = drop_lost_bytes(&mut stored, &files, &pool);
    if lost > 0 {
        log.log(LogLine::warning(format!(
            "{lost} recent block or undo records did not reach the disk; they will be fetched again"
        )));
    }
    let mut tree = build_tree(&stored, &config.params.genesis)?;
    let have_pruned = places.index.get(INDEX_META, PRUNED_KEY)?.is_some();
    if have_pruned {
        log.log(LogLine::info("Loading block index db: Block files have previously been pruned"));
        if config.prune.is_none() {
            return Err(OpenError::Corrupted(
                "You need to rebuild the database using -reindex to go back to unpruned mode.  This will \
                 redownload the entire blockchain"
                    .into(),
            ));
        }
    }
    if config.reindex == Reindex::All {
        if config.prune.is_some() {
            log.log(LogLine::info(
                "Removing unusable blk?????.dat and rev?????.dat files for -reindex with -prune",
            ));
        }
        files.prepare_reindex(config.prune.is_some())?;
        let mut batch = Batch::new();
        batch.put(INDEX_META, REINDEX_KEY, [1u8].as_slice());
        places.index.commit(batch, Durability::Power)?;
    }
    let reindexing = places.index.get(INDEX_META, REINDEX_KEY)?.is_some();

    let known = |hash: &BlockHash, tree: &HeaderTree| {
        tree.id(hash).ok_or_else(|| {
            log.log(LogLine::error(format!(
                "The coins belong to block {hash}, which is not in the block index"
            )));
            OpenError::Corrupted("Error initializing block database".into())
        })
    };
    let heads = places.coins.get(MARKERS, HEAD_BLOCKS_KEY)?.and_then(|bytes| parse_head_blocks(&bytes));
    let best =
        places.coins.get(MARKERS, BEST_BLOCK_KEY)?.and_then(|bytes| BlockHash::from_slice(&bytes).ok());
    let coins_at = match &heads {
        Some((new, _)) => known(new, &tree)?,
        None => best.map_or(Ok(GENESIS), |hash| known(&hash, &tree))?,
    };
    tree.set_tip(coins_at);
    // The chain that was active wins every tie.
    let journal_tip = stored.tip.and_then(|hash| tree.id(&hash)).unwrap_or(coins_at);
    let mut at = Some(journal_tip);
    while let Some(id) = at {
        let node = tree.node_mut(id);
        node.sequence = SEQUENCE_BEST_FROM_DISK;
        at = node.parent;
    }
    tree.recalculate_best_header();

    let fatal = watch::Sender::new(None);
    let shared = Arc::new_cyclic(|weak: &std::sync::Weak<Shared>| {
        let weak = weak.clone();
        let failed = move |error: String| {
            if let Some(shared) = weak.upgrade() {
                shared.fail(format!("Error reading from database, shutting down: {error}"));
            }
        };
        let ring = EventRing::new(config.event_ring_bytes, tree.info(tree.tip()));
        Shared {
            params: Arc::clone(&config.params),
            minimum_chainwork: config.minimum_chainwork,
            coins: CoinStore::new(Arc::clone(&places.coins), tree.tip_node().hash, Box::new(failed)),
            tree: RwLock::new(tree),
            files,
            ring: Arc::new(ring),
            clock: Arc::clone(&clock),
            log,
            checker,
            fatal,
            stop_requested: watch::Sender::new(false),
            stopping: AtomicBool::new(false),
            initial_download: AtomicBool::new(true),
            reindexing: AtomicBool::new(reindexing),
            prune: config.prune,
            have_pruned: AtomicBool::new(have_pruned),
            prune_locks: Mutex::default(),
            warnings: watch::Sender::default(),
        }
    });
    let mut core = Core {
        flush_rng: config.seed | 1,
        config,
        pool,
        index: places.index,
        journal: opened.journal,
        candidates: BTreeSet::new(),
        unlinked: HashMap::new(),
        best_invalid: None,
        next_sequence: Core::FIRST_SEQUENCE,
        next_reverse_sequence: -1,
        last_precious_work: [0; 32],
        journal_due: Vec::new(),
        index_due: HashSet::new(),
        fresh: HashMap::new(),
        verdicts: HashMap::new(),
        trusted: Some(journal_tip),
        importing: false,
        journal_tip,
        version_bits: VersionBits::new(),
        last_script_reason: None,
        flush: None,
        coins_on_disk: heads.map_or(best, |(_, old)| old),
        next_flush: Duration::ZERO,
        last_sync: clock.steady(),
        unsynced: false,
        shared,
    };
    core.schedule_flush();
    {
        let tree = core.shared.tree.read();
        core.index_due = stored.journaled.iter().filter_map(|hash| tree.id(hash)).collect();
    }
    core.unlink_pruned_before()?;
    core.cut_torn_tails(&stored.journaled)?;
    if let Some((new, old)) = heads {
        core.replay(new, old)?;
    }
    core.store_genesis()?;
    core.find_loose_ends();
    core.populate_candidates();
    if core.config.reindex == Reindex::No {
        core.recover_tip(journal_tip)?;
    }
    // From here on every script counts; coins that are built anew are built by checking all.
    core.trusted = None;
    core.journal_tip = core.shared.tree.read().tip();
    if !core.index_due.is_empty() {
        // What only the journal knew (or was wrong about) goes into the index.
        core.write_index()?;
    }
    core.announce_loaded();
    match core.config.prune {
        Some(Prune::Manual) => core.log(LogLine::info(
            "Block pruning enabled. Use RPC call pruneblockchain(height) to manually prune block and undo files.",
        )),
        Some(Prune::Automatic(target)) => core.log(LogLine::info(format!(
            "Prune configured to target {} MiB on disk for block and undo files.",
            target >> 20
        ))),
        None => {}
    }
    if core.config.reindex == Reindex::No {
        core.check_stored()?;
    }
    Ok(core)
}

impl Core {
    /// The genesis block is stored first of all, as Core does. It is never connected.
    fn store_genesis(&mut self) -> Result<(), OpenError> {
        let shared = Arc::clone(&self.shared);
        if shared.tree.read().node(GENESIS).data.is_some() {
            return Ok(());
        }
        if shared.reindexing.load(Ordering::Relaxed) && !shared.files.files(FileKind::Block).is_empty() {
            // It will be found in the files. It counts as seen meanwhile.
            let mut tree = shared.tree.write();
            let node = tree.node_mut(GENESIS);
            node.tx_count = 1;
            node.chain_tx_count = 1;
            node.validity = Validity::Scripts;
            return Ok(());
        }
        let position = shared.files.append_block(&encode::serialize(&shared.params.genesis))?;
        self.received_body(GENESIS, shared.params.genesis.txdata.len() as u32, position);
        shared.tree.write().node_mut(GENESIS).validity = Validity::Scripts;
        self.write_journal_with_tip(GENESIS)?;
        Ok(())
    }

    /// Finds bodies whose parents' are missing, and the worst chain with the most work.
    fn find_loose_ends(&mut self) {
        let tree = self.shared.tree.read();
        for id in tree.ids() {
            let node = tree.node(id);
            if node.data.is_some()
                && node.chain_tx_count == 0
                && let Some(parent) = node.parent
            {
                self.unlinked.entry(parent).or_default().push(id);
            }
            if node.failed
                && self.best_invalid.is_none_or(|worst| node.chainwork > tree.node(worst).chainwork)
            {
                self.best_invalid = Some(id);
            }
        }
    }

    fn announce_loaded(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut tree = shared.tree.write();
        tree.event_seq = 0;
        let tip = tree.tip();
        shared.ring.restart(tree.info(tip));
        self.update_initial_download(&tree, tip);
        let node = tree.node(tip);
        self.log(LogLine::info(format!(
            "Loaded best chain: hashBestChain={} height={} date={} progress={:.6}",
            node.hash,
            node.height,
            text::iso8601(UnixTime::from(node.header.time)),
            shared.progress(&tree, tip)
        )));
    }
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
