use std::sync::Arc;

use ironpeer_chain::ChainView;
use ironpeer_primitives::{LogLine, LogSink};
use tokio::sync::watch;

use crate::core::BlockRef;

/// How far an index is, as far as its rows can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStatus {
    /// The last block in it.
    pub tip: Option<BlockRef>,
    /// It has been at the chain's tip in this run, and follows it.
    pub synced: bool,
    /// Number of the last event of the chain whose blocks are in.
    pub seq: u64,
}

/// What all indexes have in common: how far they are. Cheap to clone.
#[derive(Clone)]
pub struct IndexHandle {
    pub(crate) name: &'static str,
    pub(crate) status: watch::Receiver<IndexStatus>,
    pub(crate) view: ChainView,
    pub(crate) log: Arc<dyn LogSink>,
}

impl std::fmt::Debug for IndexHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexHandle").field("name", &self.name).finish_non_exhaustive()
    }
}

impl IndexHandle {
    /// Its name in `getindexinfo`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How far it is.
    #[must_use]
    pub fn status(&self) -> IndexStatus {
        *self.status.borrow()
    }

    /// How far it is, now and whenever that changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<IndexStatus> {
        self.status.clone()
    }

    /// Waits, however long it takes, until it follows the chain and has what that did before this
    /// call. False if it has stopped.
    pub async fn wait_caught_up(&self) -> bool {
        let (_, seq) = self.view.tip_and_seq();
        let mut status = self.status.clone();
        status.wait_for(|status| status.synced && status.seq >= seq).await.is_ok()
    }

    /// Waits until it has what the chain did before this call. False if it is still catching up,
    /// which may take long, or has stopped (Core's `BlockUntilSyncedToCurrentChain`).
    pub async fn wait_synced(&self) -> bool {
        let (_, seq) = self.view.tip_and_seq();
        let status = self.status();
        if status.synced && status.seq < seq {
            self.log.log(LogLine::info(format!("{} is catching up on block notifications", self.name)));
        }
        self.wait_for_seq(seq).await
    }

    /// Waits until it has the blocks of the chain's event `seq`. False as for
    /// [`wait_synced`](Self::wait_synced).
    pub async fn wait_for_seq(&self, seq: u64) -> bool {
        let mut status = self.status.clone();
        let waited = status.wait_for(|status| !status.synced || status.seq >= seq).await;
        waited.is_ok_and(|status| status.synced)
    }
}
