//! What the tests of this room share.
#![allow(dead_code)]

use std::sync::Arc;

use ironpeer_chain::{Chain, ChainHandle, ChainThread, ChainView, Config, OpenError};
use ironpeer_consensus::{Checker, ScriptCache};
use ironpeer_primitives::{Clock, FixedClock, NullLog};

/// 2026-01-01, well after every block here.
pub const NOW: i64 = 1_767_225_600;

pub fn pool() -> Arc<rayon::ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap())
}

/// An open chain.
pub struct Node {
    pub handle: ChainHandle,
    pub clock: Arc<FixedClock>,
    thread: ChainThread,
}

impl Node {
    pub fn open(config: Config) -> Self {
        Self::try_open(config).unwrap()
    }

    pub fn try_open(config: Config) -> Result<Self, OpenError> {
        let clock = Arc::new(FixedClock::at(NOW));
        let cache = Arc::new(ScriptCache::new(1 << 20, [7; 32]));
        let (handle, thread) =
            Chain::open(config, Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(NullLog), pool(), cache)?;
        Ok(Self { handle, clock, thread })
    }

    pub fn with_checker(config: Config, checker: Arc<dyn Checker>) -> Self {
        let clock = Arc::new(FixedClock::at(NOW));
        let (handle, thread) = Chain::open_with_checker(
            config,
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::new(NullLog),
            pool(),
            checker,
        )
        .unwrap();
        Self { handle, clock, thread }
    }

    pub fn view(&self) -> ChainView {
        self.handle.view()
    }

    pub fn stop(self) {
        self.handle.shutdown_blocking().unwrap();
        self.thread.join();
    }

    /// Goes away without a flush, as a killed process does.
    pub fn kill(self) {
        drop(self.handle);
    }
}
