use std::sync::Arc;

use bitcoin::{Amount, Transaction, Txid, Wtxid};

use crate::UnixTime;

/// A transaction in the mempool, as relay sees it.
#[derive(Clone, Debug)]
pub struct PoolTx {
    /// The transaction.
    pub tx: Arc<Transaction>,
    /// Its hash without witness.
    pub txid: Txid,
    /// Its hash with witness; relay goes by this one (BIP339).
    pub wtxid: Wtxid,
    /// What it pays.
    pub fee: Amount,
    /// Virtual size in vbytes, adjusted for sigops.
    pub vsize: u64,
    /// When it entered, in Unix seconds.
    pub time: UnixTime,
    /// Counts up with each entry; "was it there when I last announced" is answered by this.
    pub sequence: u64,
}

/// A reader's front on the mempool for the protocol machines.
pub trait MempoolRead {
    /// By hash with witness.
    fn by_wtxid(&self, wtxid: &Wtxid) -> Option<PoolTx>;

    /// By hash without witness.
    fn by_txid(&self, txid: &Txid) -> Option<PoolTx>;

    /// Everything, parents before children, best feerate first where that is free.
    fn all(&self) -> Vec<PoolTx>;

    /// The sequence the next entry will get: everything in the mempool now is below it.
    fn sequence(&self) -> u64;

    /// Least feerate accepted now, in satoshi per 1,000 vbytes (`feefilter`, BIP133).
    fn min_fee_per_kvb(&self) -> u64;
}
