//! The chain without its thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bitcoin::Block;
use bitcoin::block::Header;
use ironpeer_consensus::Checker;
use ironpeer_primitives::{Clock, HeaderInfo, LogSink};

use crate::config::Config;
use crate::core::{Core, Fatal};
use crate::events::ChainFollower;
use crate::handle::{BlockOutcome, ChainStopped, HeadersOutcome, SubmitOptions};
use crate::open::{OpenError, open_core};
use crate::prepare::Prepared;
use crate::utxo_info::{UtxoHashKind, UtxoSetInfo};
use crate::view::ChainView;

/// The chain as a synchronous machine: a call returns when its work is done and its tip changes
/// are told. The same calls always have the same outcome, so a simulation that drives this one
/// replays exactly. [`Chain`](crate::Chain) puts a thread and a queue around the same machine.
pub struct InlineChain {
    core: Core,
}

impl InlineChain {
    /// Opens a chain as [`Chain::open`](crate::Chain::open) does.
    ///
    /// # Errors
    /// As there.
    pub fn open(
        config: Config,
        clock: Arc<dyn Clock>,
        log: Arc<dyn LogSink>,
        pool: Arc<rayon::ThreadPool>,
        checker: Arc<dyn Checker>,
    ) -> Result<Self, OpenError> {
        let mut core = open_core(config, clock, log, pool, checker)?;
        if !core.shared.reindexing.load(Ordering::Relaxed) {
            core.activate_best_chain()?;
            core.fresh.clear();
            core.verdicts.clear();
        }
        Ok(Self { core })
    }

    fn run<T>(&mut self, command: impl FnOnce(&mut Core) -> Result<T, Fatal>) -> Result<T, ChainStopped> {
        if self.core.shared.failed() {
            return Err(ChainStopped);
        }
        let done = command(&mut self.core).and_then(|value| self.core.tick().map(|()| value));
        done.map_err(|Fatal(message)| {
            self.core.shared.fail(message);
            ChainStopped
        })
    }

    /// The readers' front.
    #[must_use]
    pub fn view(&self) -> ChainView {
        ChainView::new(Arc::clone(&self.core.shared))
    }

    /// A follower of tip changes from now on, and the tip its first event starts from.
    #[must_use]
    pub fn events(&self) -> (ChainFollower, HeaderInfo) {
        ChainFollower::new(Arc::clone(&self.core.shared.ring))
    }

    /// As [`ChainHandle::submit_block`](crate::ChainHandle::submit_block).
    ///
    /// # Errors
    /// As there.
    pub fn submit_block(
        &mut self,
        block: Arc<Block>,
        options: SubmitOptions,
    ) -> Result<BlockOutcome, ChainStopped> {
        let block = Box::new(Prepared::new(block, &self.core.shared.params));
        self.run(|core| core.submit_blocks(vec![(block, options)]))?.pop().ok_or(ChainStopped)
    }

    /// As [`ChainHandle::submit_headers`](crate::ChainHandle::submit_headers).
    ///
    /// # Errors
    /// As there.
    pub fn submit_headers(
        &mut self,
        headers: &[Header],
        min_pow_checked: bool,
    ) -> Result<HeadersOutcome, ChainStopped> {
        self.run(|core| core.submit_headers(headers, min_pow_checked))
    }

    /// As [`ChainHandle::utxo_set_info`](crate::ChainHandle::utxo_set_info).
    ///
    /// # Errors
    /// As there.
    pub fn utxo_set_info(&mut self, kind: UtxoHashKind) -> Result<UtxoSetInfo, ChainStopped> {
        self.run(|core| {
            let scan = core.scan_coins()?;
            scan.info(kind).map_err(|error| Fatal(format!("Error reading from database: {error}")))
        })
    }
}

impl Drop for InlineChain {
    /// Waits for a flush under way, so that nothing is written any more once it is gone.
    fn drop(&mut self) {
        if let Some(flush) = self.core.flush.take() {
            // What went wrong in it was told by `Shared::fail`.
            let _ = flush.join();
        }
    }
}
