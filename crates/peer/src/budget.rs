//! Memory that the messages of all peers share. A peer's small messages are its own affair; for a
//! large one it takes a part of what is common, first for the bytes as they come in, then for what
//! they are decoded to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ironpeer_wire::limits::{MAX_DECODED_FACTOR, MAX_MESSAGE_BYTES};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::limits;

/// Bytes behind one permit: permits are counted in 32 bits.
const UNIT_BYTES: usize = 1024;

// The largest message must fit, or it would be waited for without end.
const _: () = assert!(MAX_MESSAGE_BYTES as usize * MAX_DECODED_FACTOR <= limits::DECODED_BYTES);

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

/// Bytes some peers share, first come, first served.
#[derive(Debug)]
struct Pool {
    units: Arc<Semaphore>,
    /// Peers that wait for a part.
    waiting: AtomicUsize,
}

impl Pool {
    fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { units: Arc::new(Semaphore::new(bytes / UNIT_BYTES)), waiting: AtomicUsize::new(0) })
    }

    /// Waits for a part. Cancel-safe. `None` only if the pool were closed, which it never is.
    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = units(bytes);
        if let Ok(permit) = Arc::clone(&self.units).try_acquire_many_owned(units) {
            return Some(permit);
        }
        let _waiting = Waiting::new(&self.waiting);
        Arc::clone(&self.units).acquire_many_owned(units).await.ok()
    }
}

/// Counts one who waits, for as long as it is there.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See the module. Who connects to us shares one pool and whom we chose another, so that no
/// number of strangers keeps blocks away that we asked of peers of our own choosing.
#[derive(Debug)]
pub(crate) struct ReceiveBudget {
    inbound: Arc<Pool>,
    chosen: Arc<Pool>,
    decoded: Arc<Pool>,
}

impl ReceiveBudget {
    pub(crate) fn new() -> Self {
        Self {
            inbound: Pool::new(limits::INBOUND_RECEIVE_BYTES),
            chosen: Pool::new(limits::CHOSEN_RECEIVE_BYTES),
            decoded: Pool::new(limits::DECODED_BYTES),
        }
    }

    /// Bytes that are held now.
    pub(crate) fn in_use(&self) -> usize {
        let pools = [
            (&self.inbound, limits::INBOUND_RECEIVE_BYTES),
            (&self.chosen, limits::CHOSEN_RECEIVE_BYTES),
            (&self.decoded, limits::DECODED_BYTES),
        ];
        pools.map(|(pool, all)| all - pool.units.available_permits() * UNIT_BYTES).iter().sum()
    }

    /// Waits for room for a message in progress that announces so many bytes. All of it is taken
    /// at once, so that what was begun can always be finished.
    pub(crate) async fn begin(&self, inbound: bool, announced: usize) -> Option<Partial> {
        let pool = if inbound { &self.inbound } else { &self.chosen };
        let permit = pool.take(announced).await?;
        Some(Partial { _permit: permit, pool: Arc::clone(pool), since: Instant::now() })
    }

    /// Waits for room to decode a payload, whatever is in it.
    pub(crate) async fn decode(&self, payload: usize) -> Option<Decoded> {
        Some(Decoded(self.decoded.take(payload.saturating_mul(MAX_DECODED_FACTOR)).await?))
    }
}

/// The part a message in progress holds, given back when dropped.
#[derive(Debug)]
pub(crate) struct Partial {
    _permit: OwnedSemaphorePermit,
    pool: Arc<Pool>,
    since: Instant,
}

impl Partial {
    /// Completes when the message has taken too long: less long if others wait for its part.
    pub(crate) async fn overdue(&self) {
        let deadline = self.since + limits::LARGE_MESSAGE_TIMEOUT;
        let mut look = self.since + limits::LARGE_MESSAGE_UNDER_PRESSURE;
        loop {
            tokio::time::sleep_until(look.min(deadline)).await;
            if Instant::now() >= deadline || self.pool.waiting.load(Ordering::Relaxed) > 0 {
                return;
            }
            look = Instant::now() + limits::PRESSURE_CHECK_INTERVAL;
        }
    }
}

/// The part a decoded message holds until it is dealt with, given back when dropped.
#[derive(Debug)]
pub(crate) struct Decoded(OwnedSemaphorePermit);

impl Decoded {
    /// The message is decoded and holds only so many bytes: gives the rest back.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let held = self.0.num_permits();
        let needed = usize::try_from(units(bytes)).unwrap_or(held);
        if let Some(rest) = held.checked_sub(needed).and_then(|rest| self.0.split(rest)) {
            drop(rest);
        }
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
