use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bitcoin::{BlockHash, OutPoint, Transaction, Txid, Wtxid};
use ironpeer_consensus::Params;
use ironpeer_primitives::{
    ChainEvent, Clock, HeaderInfo, LogLine, LogSink, MempoolRead, PeerId, PoolTx, TxClass, TxReject, UnixTime,
};
use ironpeer_store::{Disk, OpenMode, StoreError, write_atomic};
use tokio::sync::{broadcast, oneshot};

use crate::config::Config;
use crate::core::MempoolCore;
use crate::feerate::FeeRate;
use crate::gate::Source;
use crate::limits;
use crate::package::{PackageAdmission, PackageResult};
use crate::persist::{self, Marks, Reader, Saved};
use crate::pool::Entry;
use crate::scripts::TxChecker;
use crate::shared::{Admission, Shared};
use crate::types::{
    Accepted, ChainSource, Chunk, ChunkTx, ClusterInfo, EntryInfo, LoadOptions, LoadStats, MempoolEvent,
    MempoolInfo, NodeView, Prioritised, SubmitTx,
};

/// What a mempool is made of.
#[derive(Clone)]
pub struct Parts {
    /// The options.
    pub config: Config,
    /// The network.
    pub params: Arc<Params>,
    /// The chain it stands on.
    pub chain: Arc<dyn ChainSource>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// `debug.log`.
    pub log: Arc<dyn LogSink>,
    /// Where script checks run.
    pub pool: Arc<rayon::ThreadPool>,
    /// The kernel: the node's `ScriptCache`, shared with the chain.
    pub checker: Arc<dyn TxChecker>,
    /// Where `mempool.dat` is kept.
    pub disk: Arc<dyn Disk>,
}

/// The front of the mempool: cheap to clone, usable from any task. Readers wait for short
/// sections only, never for a script check.
#[derive(Clone)]
pub struct MempoolHandle {
    pub(crate) shared: Arc<Shared>,
}

/// Why the mempool was not written to disk.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The disk refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The runtime is going down.
    #[error("the node is shutting down")]
    Stopped,
}

/// A caller's answer when the node is going down or something broke.
pub(crate) fn unavailable() -> TxReject {
    TxReject::new(TxClass::Unknown, "mempool not available")
}

impl MempoolHandle {
    /// An empty mempool on `tip`, to which chain event `seq` led.
    #[must_use]
    pub fn new(parts: Parts, tip: HeaderInfo, seq: u64) -> Self {
        Self { shared: Arc::new(Shared::new(parts, tip, seq)) }
    }

    /// Checks a transaction against consensus and policy and takes it (Core's
    /// `AcceptToMemoryPool`). Script checks run on the pool; once handed over, the admission
    /// is finished even if the caller goes away.
    ///
    /// # Errors
    /// With Core's reason.
    pub async fn submit_tx(&self, tx: Arc<Transaction>, how: SubmitTx) -> Result<Accepted, TxReject> {
        let bytes = tx.total_size();
        let done = self.on_pool(how.from, bytes, move |shared| match shared.submit(&tx, how) {
            Admission::Done(result) => Some(result),
            Admission::Behind => None,
        });
        done.await.unwrap_or_else(|| Err(unavailable()))
    }

    /// Runs `judge` on the pool until it comes to a result; each time it does not, waits for the
    /// mempool to catch up with the chain. `None` if too much is waiting, the node is going down
    /// or `judge` broke.
    async fn on_pool<T: Send + 'static>(
        &self,
        source: Source,
        bytes: usize,
        judge: impl Fn(&Shared) -> Option<T> + Clone + Send + 'static,
    ) -> Option<T> {
        let permit = Arc::new(self.shared.gate.enter(source, bytes).await.ok()?);
        for _ in 0..limits::ADMISSION_RETRIES {
            let (reply, answer) = oneshot::channel();
            let (shared, judge) = (Arc::clone(&self.shared), judge.clone());
            // It is in progress until it is done, not until its caller goes.
            let permit = Arc::clone(&permit);
            self.shared.parts.pool.spawn(move || {
                // A panic must not take the pool with it; the caller sees the channel close.
                if let Ok(result) = catch_unwind(AssertUnwindSafe(|| judge(&shared))) {
                    // Nobody may be waiting any more.
                    let _ = reply.send(result);
                }
                drop(permit);
            });
            match answer.await {
                Ok(Some(result)) => return Some(result),
                Ok(None) => self.caught_up().await,
                Err(_) => return None,
            }
        }
        None
    }

    /// Judges a child with its parents, the child last, and takes what passes (Core's
    /// `ProcessNewPackage`): a parent below the minimum feerate comes in if the child pays for it.
    /// Above `max_feerate` a transaction is refused.
    pub async fn submit_package(
        &self,
        txs: Vec<Arc<Transaction>>,
        max_feerate: Option<FeeRate>,
    ) -> PackageResult {
        self.submit_package_from(None, txs, max_feerate).await
    }

    /// The same of a package that a peer sent, out of its share of what may be in progress.
    pub async fn submit_package_from(
        &self,
        peer: Option<PeerId>,
        txs: Vec<Arc<Transaction>>,
        max_feerate: Option<FeeRate>,
    ) -> PackageResult {
        let bytes = txs.iter().map(|tx| tx.total_size()).sum();
        let done = self.on_pool(peer, bytes, move |shared| match shared.admit_package(&txs, max_feerate) {
            PackageAdmission::Done(result) => Some(result),
            PackageAdmission::Behind => None,
        });
        done.await.unwrap_or_else(PackageResult::unavailable)
    }

    /// Says what would become of transactions submitted in this order, without replacements
    /// (`testmempoolaccept` of several).
    pub async fn test_package(&self, txs: Vec<Arc<Transaction>>) -> PackageResult {
        let bytes = txs.iter().map(|tx| tx.total_size()).sum();
        let done = self.on_pool(None, bytes, move |shared| match shared.test_package(&txs) {
            PackageAdmission::Done(result) => Some(result),
            PackageAdmission::Behind => None,
        });
        done.await.unwrap_or_else(PackageResult::unavailable)
    }

    /// Waits until the mempool stands on the chain's tip, or no more events will come.
    async fn caught_up(&self) {
        let mut applied = self.shared.applied.subscribe();
        loop {
            let closed = applied.borrow_and_update().closed;
            if closed || self.shared.is_current() || applied.changed().await.is_err() {
                return;
            }
        }
    }

    /// Applies one tip change; changes already applied are left alone.
    pub async fn apply(&self, event: Arc<ChainEvent>) {
        if event.seq <= self.view().seq {
            return;
        }
        let Some(change) = self.shared.tip_change(&event) else { return };
        self.apply_blocks(change.disconnected, change.connected, change.tip, event.seq).await;
    }

    async fn apply_blocks(
        &self,
        disconnected: Vec<Arc<bitcoin::Block>>,
        connected: Vec<Arc<bitcoin::Block>>,
        tip: HeaderInfo,
        seq: u64,
    ) {
        if disconnected.is_empty() && self.shared.is_idle() {
            self.shared.apply(&[], &connected, tip, seq);
            return;
        }
        let shared = Arc::clone(&self.shared);
        let work = move || shared.apply(&disconnected, &connected, tip, seq);
        // Hashing a block's transactions takes milliseconds, a reorganisation may run scripts.
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            self.shared
                .parts
                .log
                .log(LogLine::error(format!("mempool: following the chain failed: {error}")));
        }
    }

    /// Finds the way to `tip`, number `seq`, after events were missed.
    pub async fn catch_up(&self, tip: HeaderInfo, seq: u64) {
        if self.shared.is_idle() {
            self.shared.skip_to(tip.height);
            self.shared.apply(&[], &[], tip, seq);
            return;
        }
        let chain = Arc::clone(&self.shared.parts.chain);
        let from = self.view().tip;
        let block = |hash: &BlockHash| chain.block(hash).into_iter().collect::<Vec<_>>();
        let mut fork = from;
        while chain.ancestor(&tip.hash, fork.height).is_none_or(|ancestor| ancestor.hash != fork.hash) {
            let Some(parent) = chain.header(&fork.header.prev_blockhash) else { return };
            self.apply_blocks(block(&fork.hash), Vec::new(), parent, self.view().seq).await;
            fork = parent;
        }
        for height in fork.height.0 + 1..=tip.height.0 {
            let Some(next) = chain.ancestor(&tip.hash, ironpeer_primitives::Height(height)) else { return };
            let seq = if next.hash == tip.hash { seq } else { self.view().seq };
            self.apply_blocks(Vec::new(), block(&next.hash), next, seq).await;
        }
        if fork.hash == tip.hash {
            self.apply_blocks(Vec::new(), Vec::new(), tip, seq).await;
        }
    }

    /// Says that no more tip changes will come, so that nobody waits for one.
    pub fn close(&self) {
        self.shared.applied.send_modify(|applied| applied.closed = true);
    }

    /// Chain and mempool of one tip, as last published.
    #[must_use]
    pub fn view(&self) -> Arc<NodeView> {
        self.shared.view.load_full()
    }

    /// Waits until the chain event numbered `seq` has been applied.
    pub async fn wait_for_seq(&self, seq: u64) {
        let mut applied = self.shared.applied.subscribe();
        // The sender lives as long as this handle.
        let _ = applied.wait_for(|applied| applied.seq >= seq || applied.closed).await;
    }

    /// Every change from now on. A subscriber that lies too far behind loses the oldest.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<MempoolEvent> {
        self.shared.events.subscribe()
    }

    /// A transaction by its hash without witness.
    #[must_use]
    pub fn tx(&self, txid: &Txid) -> Option<Arc<Transaction>> {
        self.shared.read(|core, _| core.pool.get(txid).map(|entry| Arc::clone(&entry.tx)))
    }

    /// The hashes of all transactions in mining order, and the number of the next change.
    #[must_use]
    pub fn txids(&self) -> (Vec<Txid>, u64) {
        self.shared.read(|core, _| (core.pool.in_order().map(|entry| entry.txid).collect(), core.sequence()))
    }

    /// What an API shows of one transaction.
    #[must_use]
    pub fn entry(&self, txid: &Txid) -> Option<EntryInfo> {
        self.shared.read(|core, _| core.entry_info(txid))
    }

    /// The same of all, in mining order.
    #[must_use]
    pub fn entries(&self) -> Vec<EntryInfo> {
        self.shared
            .read(|core, _| core.pool.in_order().filter_map(|entry| core.entry_info(&entry.txid)).collect())
    }

    fn relatives(
        &self,
        txid: &Txid,
        relatives: impl FnOnce(&MempoolCore) -> std::collections::BTreeSet<Txid>,
    ) -> Option<Vec<Txid>> {
        self.shared.read(|core, _| {
            core.pool
                .contains(txid)
                .then(|| relatives(core).into_iter().filter(|other| other != txid).collect())
        })
    }

    /// Ancestors in the mempool, itself left out; `None` if it is not there.
    #[must_use]
    pub fn ancestors(&self, txid: &Txid) -> Option<Vec<Txid>> {
        self.relatives(txid, |core| core.pool.with_ancestors([*txid]))
    }

    /// Descendants in the mempool, itself left out; `None` if it is not there.
    #[must_use]
    pub fn descendants(&self, txid: &Txid) -> Option<Vec<Txid>> {
        self.relatives(txid, |core| core.pool.with_descendants([*txid]))
    }

    /// The cluster a transaction is in.
    #[must_use]
    pub fn cluster(&self, txid: &Txid) -> Option<ClusterInfo> {
        self.shared.read(|core, _| {
            core.pool.cluster_of(txid).map(|cluster| ClusterInfo {
                weight: cluster.weight,
                tx_count: cluster.order.len(),
                chunks: cluster.chunks().map(|(frac, txids)| (frac, txids.to_vec())).collect(),
            })
        })
    }

    /// The transaction in the mempool that spends an output.
    #[must_use]
    pub fn spender(&self, outpoint: &OutPoint) -> Option<Arc<Transaction>> {
        self.shared.read(|core, _| core.pool.spender(outpoint).map(|entry| Arc::clone(&entry.tx)))
    }

    /// Totals and limits.
    #[must_use]
    pub fn info(&self) -> MempoolInfo {
        self.shared.read(MempoolCore::info)
    }

    /// The view and every chunk in mining order, all of one moment.
    #[must_use]
    pub fn chunks(&self) -> (NodeView, Vec<Chunk>) {
        let chunk_tx = |entry: &Entry| ChunkTx {
            tx: Arc::clone(&entry.tx),
            txid: entry.txid,
            wtxid: entry.wtxid,
            fee: entry.fee,
            weight: entry.weight,
            sigop_cost: entry.sigop_cost,
        };
        self.shared.read(|core, _| {
            let chunks = core.pool.chunks().map(|(fee, txids)| Chunk {
                fee,
                txs: txids.iter().filter_map(|txid| core.pool.get(txid)).map(chunk_tx).collect(),
            });
            (core.view(), chunks.collect())
        })
    }

    /// Adds to a transaction's fee for the purposes of policy and mining, whether it is here or
    /// not.
    pub fn prioritise(&self, txid: Txid, delta: i64) {
        self.shared.change(|core, _| core.prioritise(txid, delta));
    }

    /// Whether a transaction's fee may be changed for policy: one here that has an output not worth
    /// spending must go without any.
    #[must_use]
    pub fn may_prioritise(&self, txid: &Txid) -> bool {
        self.shared.read(|core, _| core.may_prioritise(txid))
    }

    /// All deltas set.
    #[must_use]
    pub fn prioritised(&self) -> Vec<Prioritised> {
        self.shared.read(|core, _| core.prioritised())
    }

    /// Transactions made here that no peer has asked for yet.
    #[must_use]
    pub fn unbroadcast(&self) -> Vec<(Txid, Wtxid)> {
        self.shared.read(|core, _| {
            let entries = core.pool.unbroadcast.iter().filter_map(|txid| core.pool.get(txid));
            entries.map(|entry| (entry.txid, entry.wtxid)).collect()
        })
    }

    /// Marks a transaction of the mempool as made here.
    pub fn add_unbroadcast(&self, txid: Txid) {
        self.shared.change(|core, _| {
            if core.pool.contains(&txid) {
                core.pool.unbroadcast.insert(txid);
            }
        });
    }

    /// A peer has asked for it.
    pub fn remove_unbroadcast(&self, txid: &Txid) {
        self.shared.change(|core, _| core.forget_unbroadcast(txid, false));
    }

    /// Writes `mempool.dat` (Core's `DumpMempool`).
    ///
    /// # Errors
    /// If the disk fails; the old file stays.
    pub async fn save(&self, path: &Path) -> Result<(), SaveError> {
        let (shared, path) = (Arc::clone(&self.shared), path.to_owned());
        let work = move || {
            let result = save(&shared, &path);
            if let Err(error) = &result {
                let text = format!("Failed to dump mempool: {error}. Continuing anyway.");
                shared.parts.log.log(LogLine::info(text));
            }
            result
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(SaveError::Stopped))
    }

    /// Reads `mempool.dat` (Core's `LoadMempool`). A missing or damaged file is logged and gives
    /// `None`; what was read before the damage stays.
    pub async fn load(&self, path: &Path, options: LoadOptions) -> Option<LoadStats> {
        let log = Arc::clone(&self.shared.parts.log);
        let (disk, path) = (Arc::clone(&self.shared.parts.disk), path.to_owned());
        let Ok(Ok(bytes)) =
            tokio::task::spawn_blocking(move || read_file(disk.as_ref(), &path, limits::MAX_PERSISTED_BYTES))
                .await
        else {
            log.log(LogLine::info("Failed to open mempool file. Continuing anyway."));
            return None;
        };
        match self.load_from(bytes, options).await {
            Ok(stats) => {
                log.log(LogLine::info(format!(
                    "Imported mempool transactions from file: {} succeeded, {} failed, {} expired, {} already there, {} waiting for initial broadcast",
                    stats.accepted, stats.failed, stats.expired, stats.already_there, stats.unbroadcast
                )));
                Some(stats)
            }
            // Core says nothing about a version it does not know.
            Err(persist::PersistError::Version(_)) => None,
            Err(error) => {
                log.log(LogLine::info(format!(
                    "Failed to deserialize mempool data on file: {error}. Continuing anyway."
                )));
                None
            }
        }
    }

    async fn load_from(
        &self,
        bytes: Vec<u8>,
        options: LoadOptions,
    ) -> Result<LoadStats, persist::PersistError> {
        let log = &self.shared.parts.log;
        let mut reader = Reader::new(bytes)?;
        let total = reader.left();
        log.log(LogLine::info(format!("Loading {total} mempool transactions from file...")));
        let now: UnixTime = self.shared.parts.clock.unix();
        let mut stats = LoadStats::default();
        let mut tenth = 0;
        loop {
            let tried = total - reader.left();
            let percent = u128::from(tried) * 100 / u128::from(total.max(1));
            if tried < total && tenth < percent / 10 {
                tenth = percent / 10;
                log.log(LogLine::info(format!(
                    "Progress loading mempool transactions from file: {percent}% (tried {tried}, {} remaining)",
                    reader.left()
                )));
            }
            let Some((tx, time, delta)) = reader.next_tx()? else { break };
            let time = if options.use_current_time { now } else { time };
            let (tx, txid) = (Arc::new(tx.clone()), tx.compute_txid());
            if delta != 0 && options.apply_fee_deltas {
                self.prioritise(txid, delta);
            }
            if time <= now - self.shared.parts.config.expiry_seconds {
                stats.expired += 1;
                continue;
            }
            let how = SubmitTx { time: Some(time), ..SubmitTx::default() };
            match self.submit_tx(tx, how).await {
                Ok(_) => stats.accepted += 1,
                Err(_) if self.tx(&txid).is_some() => stats.already_there += 1,
                Err(_) => stats.failed += 1,
            }
        }
        let Marks { deltas, unbroadcast } = reader.marks()?;
        if options.apply_fee_deltas {
            for (txid, delta) in deltas {
                self.prioritise(txid, delta);
            }
        }
        if options.apply_unbroadcast {
            stats.unbroadcast = unbroadcast.len();
            for txid in unbroadcast {
                self.add_unbroadcast(txid);
            }
        }
        Ok(stats)
    }

    /// Says that loading was tried, successful or not (`getmempoolinfo.loaded`).
    pub fn set_loaded(&self) {
        self.shared.change(|core, _| core.loaded = true);
    }
}

fn save(shared: &Shared, path: &Path) -> Result<(), SaveError> {
    let (clock, log) = (&shared.parts.clock, &shared.parts.log);
    let start = clock.steady();
    let saved = shared.read(|core, _| Saved {
        txs: core.pool.in_order().map(|entry| ((*entry.tx).clone(), entry.time, entry.delta)).collect(),
        marks: Marks {
            deltas: core
                .pool
                .deltas
                .iter()
                .filter(|(txid, _)| !core.pool.contains(txid))
                .map(|(txid, delta)| (*txid, *delta))
                .collect(),
            unbroadcast: core.pool.unbroadcast.iter().copied().collect(),
        },
    });
    let copied = clock.steady();
    log.log(LogLine::info(format!("Writing {} mempool transactions to file...", saved.txs.len())));
    log.log(LogLine::info(format!(
        "Writing {} unbroadcast transactions to file.",
        saved.marks.unbroadcast.len()
    )));
    let key = (!shared.parts.config.persist_v1).then(rand::random::<[u8; 8]>);
    let bytes = persist::encode(&saved, key);
    write_atomic(shared.parts.disk.as_ref(), path, &bytes)?;
    log.log(LogLine::info(format!(
        "Dumped mempool: {:.3}s to copy, {:.3}s to dump, {} bytes dumped to file",
        copied.saturating_sub(start).as_secs_f64(),
        clock.steady().saturating_sub(copied).as_secs_f64(),
        bytes.len()
    )));
    Ok(())
}

/// A whole file of at most `most` bytes.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let size = file.size()?;
    if size > most {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

impl MempoolRead for MempoolHandle {
    fn by_wtxid(&self, wtxid: &Wtxid) -> Option<PoolTx> {
        self.shared.read(|core, _| core.pool.by_wtxid(wtxid).map(Entry::pool_tx))
    }

    fn by_txid(&self, txid: &Txid) -> Option<PoolTx> {
        self.shared.read(|core, _| core.pool.get(txid).map(Entry::pool_tx))
    }

    fn all(&self) -> Vec<PoolTx> {
        self.shared.read(|core, _| core.pool.in_order().map(Entry::pool_tx).collect())
    }

    fn sequence(&self) -> u64 {
        self.shared.read(|core, _| core.sequence())
    }

    fn min_fee_per_kvb(&self) -> u64 {
        self.shared.read(|core, now| core.min_fee(now).sat_per_kvb())
    }
}
