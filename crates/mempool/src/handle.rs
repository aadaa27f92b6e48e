#![allow(clippy::unimplemented)]
use std::path::Path;
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid, Wtxid};
use ironpeer_consensus::{Params, ScriptCache, ScriptFailure, TxScriptCheck};
use ironpeer_primitives::{ChainEvent, Clock, HeaderInfo, LogSink, MempoolRead, PoolTx, TxReject};
use ironpeer_store::{Disk, StoreError};
use tokio::sync::broadcast;

use crate::config::Config;
use crate::types::{
    Accepted, ChainSource, Chunk, ClusterInfo, EntryInfo, LoadOptions, LoadStats, MempoolEvent, MempoolInfo,
    NodeView, Prioritised, SubmitTx,
};

/// Who runs the kernel over a transaction's scripts.
pub trait TxChecker: Send + Sync + 'static {
    /// Checks every input; what passes may be remembered.
    ///
    /// # Errors
    /// The first input that fails.
    fn check(&self, check: &TxScriptCheck) -> Result<(), ScriptFailure>;
}

impl TxChecker for ScriptCache {
    fn check(&self, check: &TxScriptCheck) -> Result<(), ScriptFailure> {
        check.verify_and_remember(self)
    }
}

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
    /// The kernel: the node's [`ScriptCache`], shared with the chain.
    pub checker: Arc<dyn TxChecker>,
    /// Where `mempool.dat` is kept.
    pub disk: Arc<dyn Disk>,
}

/// The front of the mempool: cheap to clone, usable from any task. Readers wait for short
/// sections only, never for a script check.
#[derive(Clone)]
pub struct MempoolHandle {}

impl MempoolHandle {
    /// An empty mempool on `tip`, to which chain event `seq` led.
    #[must_use]
    pub fn new(_parts: Parts, _tip: HeaderInfo, _seq: u64) -> Self {
        unimplemented!()
    }

    /// Checks a transaction against consensus and policy and takes it (Core's
    /// `AcceptToMemoryPool`). Script checks run on the pool; once handed over, the admission
    /// is finished even if the caller goes away.
    ///
    /// # Errors
    /// With Core's reason.
    pub async fn submit_tx(&self, _tx: Arc<Transaction>, _how: SubmitTx) -> Result<Accepted, TxReject> {
        unimplemented!()
    }

    /// [`submit_tx`](Self::submit_tx) for plain threads.
    ///
    /// # Errors
    /// As there.
    pub fn submit_tx_blocking(&self, _tx: Arc<Transaction>, _how: SubmitTx) -> Result<Accepted, TxReject> {
        unimplemented!()
    }

    /// Applies one tip change; changes already applied are left alone.
    pub async fn apply(&self, _event: Arc<ChainEvent>) {
        unimplemented!()
    }

    /// Chain and mempool of one tip, as last published.
    #[must_use]
    pub fn view(&self) -> Arc<NodeView> {
        unimplemented!()
    }

    /// Waits until the chain event numbered `seq` has been applied.
    pub async fn wait_for_seq(&self, _seq: u64) {
        unimplemented!()
    }

    /// Every change from now on. A subscriber that lies too far behind loses the oldest.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<MempoolEvent> {
        unimplemented!()
    }

    /// A transaction by its hash without witness.
    #[must_use]
    pub fn tx(&self, _txid: &Txid) -> Option<Arc<Transaction>> {
        unimplemented!()
    }

    /// The hashes of all transactions in mining order, and the number of the next change.
    #[must_use]
    pub fn txids(&self) -> (Vec<Txid>, u64) {
        unimplemented!()
    }

    /// What an API shows of one transaction.
    #[must_use]
    pub fn entry(&self, _txid: &Txid) -> Option<EntryInfo> {
        unimplemented!()
    }

    /// The same of all, in mining order.
    #[must_use]
    pub fn entries(&self) -> Vec<EntryInfo> {
        unimplemented!()
    }

    /// Ancestors in the mempool, itself left out; `None` if it is not there.
    #[must_use]
    pub fn ancestors(&self, _txid: &Txid) -> Option<Vec<Txid>> {
        unimplemented!()
    }

    /// Descendants in the mempool, itself left out; `None` if it is not there.
    #[must_use]
    pub fn descendants(&self, _txid: &Txid) -> Option<Vec<Txid>> {
        unimplemented!()
    }

    /// The cluster a transaction is in.
    #[must_use]
    pub fn cluster(&self, _txid: &Txid) -> Option<ClusterInfo> {
        unimplemented!()
    }

    /// The transaction in the mempool that spends an output.
    #[must_use]
    pub fn spender(&self, _outpoint: &OutPoint) -> Option<Arc<Transaction>> {
        unimplemented!()
    }

    /// Totals and limits.
    #[must_use]
    pub fn info(&self) -> MempoolInfo {
        unimplemented!()
    }

    /// The view and every chunk in mining order, all of one moment.
    #[must_use]
    pub fn chunks(&self) -> (NodeView, Vec<Chunk>) {
        unimplemented!()
    }

    /// Adds to a transaction's fee for the purposes of policy and mining, whether it is here or
    /// not.
    pub fn prioritise(&self, _txid: Txid, _delta: i64) {
        unimplemented!()
    }

    /// All deltas set.
    #[must_use]
    pub fn prioritised(&self) -> Vec<Prioritised> {
        unimplemented!()
    }

    /// Transactions made here that no peer has asked for yet.
    #[must_use]
    pub fn unbroadcast(&self) -> Vec<(Txid, Wtxid)> {
        unimplemented!()
    }

    /// Marks a transaction of the mempool as made here.
    pub fn add_unbroadcast(&self, _txid: Txid) {
        unimplemented!()
    }

    /// A peer has asked for it.
    pub fn remove_unbroadcast(&self, _txid: &Txid) {
        unimplemented!()
    }

    /// Writes `mempool.dat` (Core's `DumpMempool`).
    ///
    /// # Errors
    /// If the disk fails; the old file stays.
    pub async fn save(&self, _path: &Path) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Reads `mempool.dat` (Core's `LoadMempool`). A missing or damaged file is logged and gives
    /// `None`; what was read before the damage stays.
    pub async fn load(&self, _path: &Path, _options: LoadOptions) -> Option<LoadStats> {
        unimplemented!()
    }

    /// Says that loading was tried, successful or not (`getmempoolinfo.loaded`).
    pub fn set_loaded(&self) {
        unimplemented!()
    }
}

impl MempoolRead for MempoolHandle {
    fn by_wtxid(&self, _wtxid: &Wtxid) -> Option<PoolTx> {
        unimplemented!()
    }

    fn by_txid(&self, _txid: &Txid) -> Option<PoolTx> {
        unimplemented!()
    }

    fn all(&self) -> Vec<PoolTx> {
        unimplemented!()
    }

    fn sequence(&self) -> u64 {
        unimplemented!()
    }

    fn min_fee_per_kvb(&self) -> u64 {
        unimplemented!()
    }
}
