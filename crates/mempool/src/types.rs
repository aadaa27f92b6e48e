use std::sync::Arc;

use bitcoin::{Amount, BlockHash, OutPoint, Transaction, Txid, Wtxid};
use ironpeer_primitives::{ChainRead, Coin, HeaderInfo, Height, PeerId, PoolTx, UnixTime};

use crate::feerate::{FeeFrac, FeeRate};

/// Where the mempool reads the chain it builds on.
pub trait ChainSource: ChainRead + Send + Sync + 'static {
    /// Several coins, all as of one tip, whose hash comes with them.
    fn coins(&self, outpoints: &[OutPoint]) -> (BlockHash, Vec<Option<Coin>>);

    /// A stored block's transactions, to catch up after events were missed.
    fn block(&self, hash: &BlockHash) -> Option<Arc<bitcoin::Block>>;
}

/// How a transaction is submitted.
#[derive(Clone, Copy, Debug, Default)]
pub struct SubmitTx {
    /// Only say what would happen (`testmempoolaccept`).
    pub test_accept: bool,
    /// Refuse above this feerate (`maxfeerate` of a package).
    pub max_feerate: Option<FeeRate>,
    /// Entry time in Unix seconds instead of now, for transactions read from disk.
    pub time: Option<UnixTime>,
    /// Keep announcing it until a peer asks for it: it was made here.
    pub local: bool,
    /// The peer it came from, whose share of what may be in progress it takes.
    pub from: Option<PeerId>,
}

/// A transaction that was taken (or would be).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its hash without witness.
    pub txid: Txid,
    /// Its hash with witness.
    pub wtxid: Wtxid,
    /// What it pays.
    pub fee: Amount,
    /// The same with the operator's delta, in satoshi.
    pub modified_fee: i64,
    /// Virtual size, adjusted for sigops.
    pub vsize: u64,
    /// What it pushed out under the replacement rules.
    pub replaced: Vec<Arc<Transaction>>,
}

impl Accepted {
    /// The feerate it was judged by, in satoshi per 1,000 vbytes.
    #[must_use]
    pub fn effective_feerate(&self) -> FeeRate {
        let fee = u64::try_from(self.modified_fee).unwrap_or(0);
        FeeRate::from_sat_per_kvb(fee.saturating_mul(1_000).checked_div(self.vsize).unwrap_or(0))
    }
}

/// Why a transaction left (Core's `MemPoolRemovalReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemovalReason {
    /// Too old.
    Expiry,
    /// The mempool was full.
    SizeLimit,
    /// No longer valid after a reorganisation.
    Reorg,
    /// Confirmed.
    Block,
    /// A block spent the same coin otherwise.
    Conflict,
    /// Another transaction replaced it.
    Replaced,
}

impl RemovalReason {
    /// Core's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expiry => "expiry",
            Self::SizeLimit => "sizelimit",
            Self::Reorg => "reorg",
            Self::Block => "block",
            Self::Conflict => "conflict",
            Self::Replaced => "replaced",
        }
    }
}

/// One change of the mempool, or a change of the chain's tip among them. `sequence` counts every
/// change of a run, as ZMQ's `sequence` topic and `getrawmempool`'s `mempool_sequence` do.
#[derive(Clone, Debug)]
pub enum MempoolEvent {
    /// A transaction came in.
    Added {
        /// The transaction.
        tx: PoolTx,
        /// The change's number.
        sequence: u64,
    },
    /// A transaction left.
    Removed {
        /// The transaction.
        tx: PoolTx,
        /// Why.
        reason: RemovalReason,
        /// The change's number.
        sequence: u64,
    },
    /// What follows, up to [`MempoolEvent::TipReached`], comes of a chain event: its blocks are
    /// off, the new ones not yet on.
    TipLeft {
        /// The chain event's number.
        seq: u64,
    },
    /// The mempool stands on the chain event's tip.
    TipReached {
        /// The chain event's number.
        seq: u64,
    },
}

/// What an API shows of one transaction (`getmempoolentry`).
#[derive(Clone, Debug)]
pub struct EntryInfo {
    /// The transaction.
    pub tx: Arc<Transaction>,
    /// Its hash without witness.
    pub txid: Txid,
    /// Its hash with witness.
    pub wtxid: Wtxid,
    /// Virtual size, adjusted for sigops.
    pub vsize: u64,
    /// Weight as it stands in a block.
    pub weight: u64,
    /// When it entered, in Unix seconds.
    pub time: UnixTime,
    /// The tip's height when it entered.
    pub height: Height,
    /// What it pays.
    pub fee: Amount,
    /// The same with the operator's delta, in satoshi.
    pub modified_fee: i64,
    /// Ancestors, itself among them.
    pub ancestor_count: usize,
    /// Their vbytes.
    pub ancestor_vsize: u64,
    /// Their modified fees.
    pub ancestor_fees: i64,
    /// Descendants, itself among them.
    pub descendant_count: usize,
    /// Their vbytes.
    pub descendant_vsize: u64,
    /// Their modified fees.
    pub descendant_fees: i64,
    /// Fee and weight of the chunk it would be mined in.
    pub chunk: FeeFrac,
    /// Parents in the mempool, sorted as they print.
    pub depends: Vec<Txid>,
    /// Children, in no particular order.
    pub spent_by: Vec<Txid>,
    /// No peer has asked for it yet.
    pub unbroadcast: bool,
    /// It or an unconfirmed ancestor signals replaceability (BIP125).
    pub bip125_replaceable: bool,
}

/// Totals (`getmempoolinfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MempoolInfo {
    /// The saved transactions have been read (or there were none to read).
    pub loaded: bool,
    /// Transactions.
    pub count: usize,
    /// Their vbytes.
    pub vbytes: u64,
    /// Memory taken, in bytes.
    pub usage: usize,
    /// What they pay.
    pub total_fee: Amount,
    /// Memory allowed, in bytes.
    pub max_bytes: usize,
    /// Least feerate accepted now: the greater of the rolling minimum and the relay minimum.
    pub min_fee: FeeRate,
    /// The relay minimum alone.
    pub min_relay: FeeRate,
    /// What a replacement must add.
    pub incremental: FeeRate,
    /// Transactions no peer has asked for yet.
    pub unbroadcast_count: usize,
    /// Every feerate is chunked optimally.
    pub optimal: bool,
    /// Cluster limit in transactions.
    pub cluster_count_limit: usize,
    /// Cluster limit in vbytes.
    pub cluster_vbytes_limit: u64,
    /// `-permitbaremultisig`.
    pub permit_bare_multisig: bool,
    /// `-datacarriersize`, 0 if off.
    pub max_datacarrier_bytes: u32,
}

/// Transactions that are mined together, best feerate first within a cluster.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Modified fee and sigop-adjusted weight.
    pub fee: FeeFrac,
    /// Its transactions, parents first.
    pub txs: Vec<ChunkTx>,
}

/// One transaction of a chunk, with what a block template needs.
#[derive(Clone, Debug)]
pub struct ChunkTx {
    /// The transaction.
    pub tx: Arc<Transaction>,
    /// Its hash without witness.
    pub txid: Txid,
    /// Its hash with witness.
    pub wtxid: Wtxid,
    /// What it pays, without deltas: what the coinbase may collect.
    pub fee: Amount,
    /// Weight in a block.
    pub weight: u64,
    /// Cost of its signature operations.
    pub sigop_cost: u64,
}

/// One connected set of transactions (`getmempoolcluster`).
#[derive(Clone, Debug)]
pub struct ClusterInfo {
    /// Sigop-adjusted weight.
    pub weight: u64,
    /// Transactions.
    pub tx_count: usize,
    /// In mining order.
    pub chunks: Vec<(FeeFrac, Vec<Txid>)>,
}

/// A fee delta an operator set (`prioritisetransaction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prioritised {
    /// The transaction.
    pub txid: Txid,
    /// Sum of the deltas in satoshi.
    pub delta: i64,
    /// Its modified fee, if it is in the mempool.
    pub modified_fee: Option<i64>,
}

/// Chain and mempool of one moment: both of the same tip.
#[derive(Clone, Copy, Debug)]
pub struct NodeView {
    /// The tip the mempool stands on.
    pub tip: HeaderInfo,
    /// Number of the chain event that led to it.
    pub seq: u64,
    /// Number of the next mempool change.
    pub mempool_sequence: u64,
    /// Counts up with every change that a block template could show.
    pub transactions_updated: u64,
    /// Transactions in the mempool.
    pub count: usize,
    /// Their vbytes.
    pub vbytes: u64,
    /// What they pay.
    pub total_fee: Amount,
}

/// What reading `mempool.dat` brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadStats {
    /// Taken.
    pub accepted: usize,
    /// Refused.
    pub failed: usize,
    /// Too old.
    pub expired: usize,
    /// There already.
    pub already_there: usize,
    /// Still to be announced.
    pub unbroadcast: usize,
}

/// How saved transactions are read (`importmempool`).
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Take the present as entry time.
    pub use_current_time: bool,
    /// Take the saved fee deltas.
    pub apply_fee_deltas: bool,
    /// Take the saved set of transactions still to be announced.
    pub apply_unbroadcast: bool,
}

impl Default for LoadOptions {
    /// As at start.
    fn default() -> Self {
        Self { use_current_time: false, apply_fee_deltas: true, apply_unbroadcast: true }
    }
}
