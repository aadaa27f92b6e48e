//! Opening the indexes that are asked for, and stopping them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use ironpeer_chain::{ChainHandle, ChainView};
use ironpeer_primitives::{ChainRead, Clock, Height, LogLine, LogSink};
use ironpeer_store::{
    FailHook, FjallConfig, FjallKv, Kv, MemKv, OsDisk, SpaceConfig, StoreError, claim_folder, destroy_folder,
};
use tokio::sync::watch;

use crate::addresses::{AddressIndex, AddressRows};
use crate::coin_stats::{CoinStatsIndex, StatsRows};
use crate::core::{BlockRef, IndexCore, IndexError, IndexWriter};
use crate::filters::{FilterIndex, FilterRows};
use crate::follow::Follower;
use crate::handle::{IndexHandle, IndexStatus};
use crate::limits::{CACHE_BYTES, LOG_BYTES, MEMTABLE_BYTES};
use crate::overlay::MempoolScripts;
use crate::spenders::{SpenderIndex, SpenderRows};
use crate::tx::{TxIndex, TxRows};

/// Format of the folders here.
const FORMAT: u32 = 1;

/// Where indexes keep their rows.
#[derive(Clone, Debug)]
pub enum Location {
    /// Below this folder (Core's `indexes/`), each in one of its own.
    Disk(PathBuf),
    /// Nowhere, for nodes that keep nothing.
    Memory,
}

/// Which indexes there are, and how they are opened.
#[derive(Clone)]
pub struct Config {
    /// Where they are.
    pub location: Location,
    /// Whether many nodes share the process, or a chain is small.
    pub small: bool,
    /// Throw away what is there (`-reindex`).
    pub rebuild: bool,
    /// Transactions by id (`-txindex`).
    pub tx: bool,
    /// Basic filters of blocks (`-blockfilterindex`).
    pub filters: bool,
    /// The coin set in numbers (`-coinstatsindex`).
    pub coin_stats: bool,
    /// What spent each output (`-txospenderindex`).
    pub spenders: bool,
    /// Histories of output scripts (`-addressindex`).
    pub addresses: bool,
    /// Asked before every commit; for crash tests.
    pub fail_hook: Option<FailHook>,
}

impl Config {
    /// No index at all.
    #[must_use]
    pub fn none() -> Self {
        Self {
            location: Location::Memory,
            small: true,
            rebuild: false,
            tx: false,
            filters: false,
            coin_stats: false,
            spenders: false,
            addresses: false,
            fail_hook: None,
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(location: Location) -> Self {
        Self {
            location,
            tx: true,
            filters: true,
            coin_stats: true,
            spenders: true,
            addresses: true,
            ..Self::none()
        }
    }
}

/// What indexes follow and use.
#[derive(Clone)]
pub struct Parts {
    /// The chain.
    pub chain: ChainHandle,
    /// Time, for progress in the log.
    pub clock: Arc<dyn Clock>,
    /// `debug.log`.
    pub log: Arc<dyn LogSink>,
}

/// The indexes' readers: cheap to clone. What was not asked for is not there.
#[derive(Clone, Debug, Default)]
pub struct Indexes {
    /// Transactions by id.
    pub tx: Option<TxIndex>,
    /// Basic filters of blocks.
    pub filters: Option<FilterIndex>,
    /// The coin set in numbers.
    pub coin_stats: Option<CoinStatsIndex>,
    /// What spent each output.
    pub spenders: Option<SpenderIndex>,
    /// Histories of output scripts.
    pub addresses: Option<AddressIndex>,
    /// What the mempool does to scripts; the owner of both puts it there.
    pub mempool_scripts: Option<MempoolScripts>,
}

/// The threads behind the indexes.
#[derive(Debug)]
pub struct IndexThreads {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl IndexThreads {
    /// Ends whatever catches up, at the next block. The others end with the chain.
    pub fn interrupt(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Blocks until all have ended. To be called once the chain has stopped.
    pub fn join(self) {
        for thread in self.threads {
            // A panic in one has stopped the node already.
            let _ = thread.join();
        }
    }
}

impl Indexes {
    /// How far each one is, in the order of `getindexinfo`.
    #[must_use]
    pub fn handles(&self) -> Vec<&IndexHandle> {
        [
            self.tx.as_ref().map(TxIndex::handle),
            self.coin_stats.as_ref().map(CoinStatsIndex::handle),
            self.spenders.as_ref().map(SpenderIndex::handle),
            self.filters.as_ref().map(FilterIndex::handle),
            self.addresses.as_ref().map(AddressIndex::handle),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Opens what `config` asks for, and lets it follow the chain.
    ///
    /// # Errors
    /// If a database cannot be opened, or the blocks that one needs are pruned.
    pub fn open(config: &Config, parts: &Parts) -> Result<(Self, IndexThreads), IndexError> {
        let mut opening = Opening {
            config,
            parts,
            threads: IndexThreads { stop: Arc::default(), threads: Vec::new() },
            followers: Vec::new(),
        };
        let mut indexes = Self::default();
        if config.tx {
            let (kv, handle) = opening.add("txindex", &["tx", "blocks"], |_| Box::new(TxRows::new()))?;
            indexes.tx = Some(TxIndex::new(kv, handle));
        }
        if config.spenders {
            let (kv, handle) =
                opening.add("txospenderindex", &["spenders", "blocks"], |_| Box::new(SpenderRows))?;
            indexes.spenders = Some(SpenderIndex::new(kv, handle));
        }
        if config.filters {
            let rows = |kv| Box::new(FilterRows::new(kv)) as Box<dyn IndexCore>;
            let (kv, handle) = opening.add("blockfilter/basic", &["headers", "filters"], rows)?;
            indexes.filters = Some(FilterIndex::new(kv, handle));
        }
        if config.coin_stats {
            let params = parts.chain.view().params().clone();
            let rows = |kv| Box::new(StatsRows::new(kv, Arc::clone(&params))) as Box<dyn IndexCore>;
            let (kv, handle) = opening.add("coinstatsindex", &["stats"], rows)?;
            indexes.coin_stats = Some(CoinStatsIndex::new(kv, handle));
        }
        if config.addresses {
            let spaces = ["history", "unspent", "txs", "blocks"];
            let (kv, handle) = opening.add("addressindex", &spaces, |_| Box::new(AddressRows))?;
            indexes.addresses = Some(AddressIndex::new(kv, handle));
        }
        let Opening { mut threads, followers, .. } = opening;
        // Only once nothing can fail any more: else the threads would have to be stopped again.
        for (name, follower) in followers {
            let panics = Panics { view: parts.chain.view() };
            let run = move || {
                follower.run();
                drop(panics);
            };
            let thread = std::thread::Builder::new().name(name).spawn(run);
            threads.threads.push(thread.map_err(IndexError::Thread)?);
        }
        Ok((indexes, threads))
    }
}

/// Stops the node if the thread that holds it panics.
struct Panics {
    view: ChainView,
}

impl Drop for Panics {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.view.fail("an index's thread panicked");
        }
    }
}

struct Opening<'a> {
    config: &'a Config,
    parts: &'a Parts,
    threads: IndexThreads,
    followers: Vec<(String, Follower)>,
}

impl Opening<'_> {
    /// Opens one index in its folder, ready to follow the chain.
    fn add(
        &mut self,
        folder: &'static str,
        spaces: &[&'static str],
        core: impl Fn(Arc<dyn Kv>) -> Box<dyn IndexCore>,
    ) -> Result<(Arc<dyn Kv>, IndexHandle), IndexError> {
        let view = self.parts.chain.view();
        let mut kv = self.open_kv(folder, spaces, self.config.rebuild)?;
        let mut writer = IndexWriter::open(core(Arc::clone(&kv)), Arc::clone(&kv))?;
        let tip = view.tip();
        let lost = writer.tip().filter(|at| at.height <= tip.height && view.header(&at.hash).is_none());
        if lost.is_some() && view.prune_mode().is_none() {
            self.parts.log.log(LogLine::warning(format!(
                "The chain has lost the best block of {}, which is built anew",
                writer.name()
            )));
            drop((writer, kv));
            kv = self.open_kv(folder, spaces, true)?;
            writer = IndexWriter::open(core(Arc::clone(&kv)), Arc::clone(&kv))?;
        }
        let name = writer.name();
        let at = writer.tip();
        let synced =
            at.is_some_and(|at| at.hash == tip.hash) || (at.is_none() && tip.height == Height::GENESIS);
        if !synced {
            self.check_blocks(name, at)?;
        }
        if view.prune_mode().is_some() {
            view.set_prune_lock(name, at.map_or(Height::GENESIS, |at| at.height));
        }
        // Its events begin after this, and what came before is read from disk.
        let (events, _) = self.parts.chain.events();
        let (sender, status) = watch::channel(IndexStatus { tip: at, synced, seq: 0 });
        let handle = IndexHandle { name, status, view: view.clone(), log: Arc::clone(&self.parts.log) };
        let follower = Follower {
            writer,
            view,
            events,
            clock: Arc::clone(&self.parts.clock),
            log: Arc::clone(&self.parts.log),
            status: sender,
            stop: Arc::clone(&self.threads.stop),
            seq: 0,
            synced,
            waiting: false,
        };
        self.followers.push((folder.replace('/', "-"), follower));
        Ok((kv, handle))
    }

    /// Fails if the chain no longer has the blocks from where the index is (Core's
    /// `StartIndexBackgroundSync`).
    fn check_blocks(&self, name: &'static str, at: Option<BlockRef>) -> Result<(), IndexError> {
        let view = self.parts.chain.view();
        if view.prune_mode().is_none() {
            return Ok(());
        }
        let tip = view.tip();
        let fork = at.and_then(|at| view.common_ancestor(&at.hash, &tip.hash));
        let from = fork.map_or(Height::GENESIS, |fork| fork.height);
        if view.prune_height().is_some_and(|pruned| pruned >= from) {
            return Err(IndexError::Pruned(name));
        }
        Ok(())
    }

    fn open_kv(&self, folder: &str, spaces: &[&'static str], wipe: bool) -> Result<Arc<dyn Kv>, StoreError> {
        let Location::Disk(root) = &self.config.location else { return Ok(Arc::new(MemKv::new())) };
        let dir = root.join(folder);
        if wipe {
            destroy_folder(&dir)?;
        }
        claim_folder(&OsDisk, &dir, "index", FORMAT)?;
        let mut settings = if self.config.small {
            FjallConfig::small()
        } else {
            FjallConfig {
                log_bytes: LOG_BYTES,
                workers: 1,
                ..FjallConfig::large(CACHE_BYTES, MEMTABLE_BYTES)
            }
        };
        settings.hook.clone_from(&self.config.fail_hook);
        let spaces: Vec<SpaceConfig> = std::iter::once("meta")
            .chain(spaces.iter().copied())
            .map(|name| SpaceConfig { name, expect_hits: false })
            .collect();
        Ok(Arc::new(FjallKv::open(&dir.join("db"), &spaces, &settings)?))
    }
}
