//! The seam to the chain and the mempool: everything peers cause there goes through here.

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::{Block, BlockHash, Transaction, Txid};
use ironpeer_chain::{ChainFollower, ChainHandle, ChainView, Followed, SubmitOptions};
use ironpeer_mempool::{MempoolHandle, PackageTx, SubmitTx};
use ironpeer_primitives::{
    BlockFilterRead, BlockReject, ChainEvent, ChainRead, ConnectedBlock, HeaderInfo, MempoolRead, PeerId,
    TxReject,
};
use ironpeer_sync::{BlockOutcome, TxAccepted};
use tokio::task::spawn_blocking;

/// The rooms whose services peers use.
#[derive(Clone)]
pub struct Rooms {
    chain: ChainHandle,
    view: ChainView,
    mempool: MempoolHandle,
    filters: Option<Arc<dyn BlockFilterRead>>,
}

impl Rooms {
    /// Takes their fronts.
    #[must_use]
    pub fn new(chain: ChainHandle, mempool: MempoolHandle) -> Self {
        Self { view: chain.view(), chain, mempool, filters: None }
    }

    /// Lets peers have filters of blocks, if the machine offers them.
    #[must_use]
    pub fn with_filters(mut self, filters: Arc<dyn BlockFilterRead>) -> Self {
        self.filters = Some(filters);
        self
    }

    pub(crate) fn filters(&self) -> Option<Arc<dyn BlockFilterRead>> {
        self.filters.clone()
    }

    pub(crate) fn chain(&self) -> &dyn ChainRead {
        &self.view
    }

    pub(crate) fn pool(&self) -> &dyn MempoolRead {
        &self.mempool
    }

    /// The changes from now on, and the number of the last one before.
    pub(crate) fn changes(&self) -> (Changes, u64) {
        let (follower, _) = self.chain.events();
        let changes = Changes { follower, view: self.view.clone(), mempool: self.mempool.clone() };
        (changes, self.change_seq())
    }

    /// Number of the chain event that led to the tip.
    pub(crate) fn change_seq(&self) -> u64 {
        self.view.tip_and_seq().1
    }

    /// `None` if the chain has stopped.
    pub(crate) async fn submit_headers(
        &self,
        headers: Vec<Header>,
        min_pow_checked: bool,
    ) -> Option<Result<HeaderInfo, BlockReject>> {
        let outcome = self.chain.submit_headers(headers, min_pow_checked).await.ok()?;
        match outcome.refused {
            Some(refused) => Some(Err(refused.reject)),
            None => outcome.last.map(Ok),
        }
    }

    /// What became of the block, and which earlier ones turned out invalid with it. `None` if the
    /// chain has stopped.
    pub(crate) async fn submit_block(
        &self,
        block: Arc<Block>,
        force_processing: bool,
        min_pow_checked: bool,
    ) -> Option<BlockAnswer> {
        let options = SubmitOptions { force_processing, min_pow_checked };
        let outcome = self.chain.submit_block(block, options).await.ok()?;
        Some((BlockOutcome { new: outcome.new, result: outcome.result }, outcome.others_refused))
    }

    pub(crate) async fn submit_tx(&self, peer: PeerId, tx: Arc<Transaction>) -> Result<TxAccepted, TxReject> {
        self.mempool.submit_tx(tx, SubmitTx { from: Some(peer), ..SubmitTx::default() }).await?;
        let info = self.mempool.info();
        Ok(TxAccepted { pool_txs: info.count, pool_bytes: info.usage as u64 })
    }

    /// Whether all of a package is in the mempool now, and what became of those that got a verdict
    /// of their own.
    pub(crate) async fn submit_package(
        &self,
        peer: PeerId,
        txs: Vec<Arc<Transaction>>,
    ) -> (bool, Vec<TxVerdict>) {
        let result = self.mempool.submit_package_from(Some(peer), txs.clone(), None).await;
        let info = self.mempool.info();
        let accepted = TxAccepted { pool_txs: info.count, pool_bytes: info.usage as u64 };
        let verdicts = result.txs.into_iter().filter_map(|(wtxid, tx)| {
            let verdict = match tx {
                PackageTx::Accepted { .. } => Ok(accepted.clone()),
                PackageTx::Refused(reject) => Err(reject),
                // Neither came with this package.
                PackageTx::AlreadyThere { .. } | PackageTx::OtherWitness(_) => return None,
            };
            let tx = txs.iter().find(|tx| tx.compute_wtxid() == wtxid)?;
            Some((Arc::clone(tx), verdict))
        });
        (result.error.is_none(), verdicts.collect())
    }

    /// A stored block; `None` if it cannot be read.
    pub(crate) async fn block(&self, hash: BlockHash) -> Option<Arc<Block>> {
        let view = self.view.clone();
        spawn_blocking(move || view.block(&hash).ok()).await.ok()?
    }

    /// A stored block's bytes, witnesses included; `None` if it cannot be read.
    pub(crate) async fn block_bytes(&self, hash: BlockHash) -> Option<Vec<u8>> {
        let view = self.view.clone();
        spawn_blocking(move || view.block_bytes(&hash).ok()).await.ok()?
    }

    /// A peer has asked for this transaction: it need not be announced again.
    pub(crate) fn broadcast(&self, txid: &Txid) {
        self.mempool.remove_unbroadcast(txid);
    }
}

/// What became of a block, and which earlier ones turned out invalid with it.
pub(crate) type BlockAnswer = (BlockOutcome, Vec<(BlockHash, BlockReject)>);

/// A transaction of a package and what became of it.
pub(crate) type TxVerdict = (Arc<Transaction>, Result<TxAccepted, TxReject>);

/// Follows the chain, each change once the mempool has applied it.
pub(crate) struct Changes {
    follower: ChainFollower,
    view: ChainView,
    mempool: MempoolHandle,
}

impl Changes {
    /// The next change; `None` once the chain has stopped. Not cancel-safe: to be awaited on a
    /// task of its own, or dropped with what it belongs to.
    pub(crate) async fn next(&mut self) -> Option<Arc<ChainEvent>> {
        let change = match self.follower.next().await {
            Followed::Event(change) => change,
            Followed::Lagged { seq, tip } => self.caught_up(seq, tip.hash).await,
            Followed::Closed => return None,
        };
        self.mempool.wait_for_seq(change.seq).await;
        Some(change)
    }

    /// Stands for all changes that were missed: peers need to hear of the newest block alone.
    async fn caught_up(&self, seq: u64, tip: BlockHash) -> Arc<ChainEvent> {
        let view = self.view.clone();
        let newest = spawn_blocking(move || {
            let (block, spent) = (view.block(&tip).ok()?, view.undo(&tip).ok()?);
            let height = view.header(&tip)?.height;
            Some(Arc::new(ConnectedBlock { hash: tip, height, block, spent }))
        });
        let connected = newest.await.ok().flatten().into_iter().collect();
        Arc::new(ChainEvent { seq, disconnected: Vec::new(), connected })
    }
}
