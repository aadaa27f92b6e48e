//! The mempool without tasks.

use std::sync::Arc;

use bitcoin::Transaction;
use ironpeer_primitives::{ChainEvent, HeaderInfo, TxReject};

use crate::handle::{MempoolHandle, Parts, unavailable};
use crate::package::{PackageAdmission, PackageResult};
use crate::shared::Admission;
use crate::types::{Accepted, SubmitTx};

/// The mempool as a synchronous machine: a call returns when its work is done, scripts included,
/// so a simulation that drives this one replays exactly. [`MempoolHandle`] runs the same steps on
/// the pool and waits for the chain where this one, told of tip changes in time, need not.
pub struct InlineMempool {
    handle: MempoolHandle,
}

impl InlineMempool {
    /// An empty mempool on `tip`, to which chain event `seq` led.
    #[must_use]
    pub fn new(parts: Parts, tip: HeaderInfo, seq: u64) -> Self {
        Self { handle: MempoolHandle::new(parts, tip, seq) }
    }

    /// The readers' front.
    #[must_use]
    pub fn reader(&self) -> &MempoolHandle {
        &self.handle
    }

    /// As [`MempoolHandle::submit_tx`].
    ///
    /// # Errors
    /// As there; also if a tip change has not been applied.
    pub fn submit_tx(&self, tx: &Arc<Transaction>, how: SubmitTx) -> Result<Accepted, TxReject> {
        match self.handle.shared.submit(tx, how) {
            Admission::Done(result) => result,
            Admission::Behind => Err(unavailable()),
        }
    }

    /// As [`MempoolHandle::submit_package`], without a greatest feerate.
    #[must_use]
    pub fn submit_package(&self, txs: &[Arc<Transaction>]) -> PackageResult {
        match self.handle.shared.admit_package(txs, None) {
            PackageAdmission::Done(result) => result,
            PackageAdmission::Behind => PackageResult::unavailable(),
        }
    }

    /// As [`MempoolHandle::apply`].
    pub fn apply(&self, event: &ChainEvent) {
        if event.seq > self.handle.view().seq
            && let Some(change) = self.handle.shared.tip_change(event)
        {
            self.handle.shared.apply(&change.disconnected, &change.connected, change.tip, event.seq);
        }
    }
}
