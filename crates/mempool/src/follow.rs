//! The mempool on the real chain.

use std::sync::Arc;

use bitcoin::{Block, BlockHash, OutPoint};
use ironpeer_chain::{ChainFollower, ChainHandle, ChainView, Followed};
use ironpeer_primitives::Coin;

use crate::handle::{MempoolHandle, Parts};
use crate::types::ChainSource;

impl ChainSource for ChainView {
    fn coins(&self, outpoints: &[OutPoint]) -> (BlockHash, Vec<Option<Coin>>) {
        Self::coins(self, outpoints)
    }

    fn block(&self, hash: &BlockHash) -> Option<Arc<Block>> {
        Self::block(self, hash).ok()
    }
}

impl MempoolHandle {
    /// An empty mempool on the chain's present tip, and the follower to hand to
    /// [`follow`](Self::follow). `parts.chain` is this chain's view.
    #[must_use]
    pub fn on_chain(parts: Parts, chain: &ChainHandle) -> (Self, ChainFollower) {
        // In this order: what comes between the two calls is in both, and is skipped.
        let (follower, _) = chain.events();
        let (tip, seq) = chain.view().tip_and_seq();
        (Self::new(parts, tip, seq), follower)
    }

    /// Follows the chain until it stops.
    pub async fn follow(&self, mut follower: ChainFollower) {
        loop {
            match follower.next().await {
                Followed::Event(event) => self.apply(event).await,
                Followed::Lagged { seq, tip } => self.catch_up(tip, seq).await,
                Followed::Closed => break,
            }
        }
        self.close();
    }
}
