use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, Notify};

/// Another search holds the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a block search is already running")]
pub struct MiningBusy;

/// Lets one search run at a time. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MiningGuard {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    busy: AtomicBool,
    freed: Notify,
    /// Those who wait do so in the order they came.
    turn: Mutex<()>,
}

/// The right to search; given back when dropped, on errors and panics too.
#[derive(Debug)]
pub struct MiningPermit {
    state: Arc<State>,
}

impl MiningGuard {
    /// Takes the guard, or fails at once.
    ///
    /// # Errors
    /// If a search is running.
    pub fn try_acquire(&self) -> Result<MiningPermit, MiningBusy> {
        match self.state.busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(MiningPermit { state: Arc::clone(&self.state) }),
            Err(_) => Err(MiningBusy),
        }
    }

    /// Waits for the guard, first come first served.
    pub async fn acquire(&self) -> MiningPermit {
        let _turn = self.state.turn.lock().await;
        loop {
            // Whoever lets go leaves a wake-up behind, so none is missed between these lines.
            match self.try_acquire() {
                Ok(permit) => return permit,
                Err(MiningBusy) => self.state.freed.notified().await,
            }
        }
    }

    /// Whether a search is running.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.state.busy.load(Ordering::Relaxed)
    }
}

impl Drop for MiningPermit {
    fn drop(&mut self) {
        self.state.busy.store(false, Ordering::Release);
        self.state.freed.notify_one();
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
