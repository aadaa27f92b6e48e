//! How much may be under way into the mempool at a time, and whose turn it is.
//!
//! Admissions in progress are bounded in number and in bytes, together and for each source: a
//! peer, or the node's own interfaces. Who finds no room waits. When room comes free, the source
//! with the least under way goes next, so that one that sends without end delays itself only.

use std::collections::HashMap;
use std::sync::Arc;

use ironpeer_primitives::PeerId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::limits;

/// Where transactions come from; `None` is the node itself and its interfaces.
pub type Source = Option<PeerId>;

/// What is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    count: usize,
    bytes: usize,
}

impl Load {
    /// Whether there is room for `bytes` more. One admission alone always has it.
    const fn has_room(self, bytes: usize, most: Self) -> bool {
        self.count == 0 || (self.count < most.count && self.bytes.saturating_add(bytes) <= most.bytes)
    }

    const fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    const fn remove(&mut self, bytes: usize) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

const ALL: Load = Load { count: limits::MAX_ADMISSIONS, bytes: limits::MAX_ADMISSION_BYTES };
const EACH: Load = Load { count: limits::MAX_SOURCE_ADMISSIONS, bytes: limits::MAX_SOURCE_ADMISSION_BYTES };

struct Waiter {
    source: Source,
    bytes: usize,
    go: oneshot::Sender<Permit>,
}

#[derive(Default)]
struct State {
    all: Load,
    sources: HashMap<Source, Load>,
    /// In the order they came.
    waiting: Vec<Waiter>,
}

impl State {
    fn load(&self, source: Source) -> Load {
        self.sources.get(&source).copied().unwrap_or_default()
    }

    /// Whether its source has room for it; all together may have none.
    fn is_ready(&self, waiter: &Waiter) -> bool {
        self.load(waiter.source).has_room(waiter.bytes, EACH)
    }

    /// Whether a newcomer may go at once, before whoever waits.
    fn may_pass(&self, source: Source, bytes: usize) -> bool {
        self.all.has_room(bytes, ALL)
            && self.load(source).has_room(bytes, EACH)
            && !self.waiting.iter().any(|waiter| waiter.source == source || self.is_ready(waiter))
    }

    fn enter(&mut self, source: Source, bytes: usize) {
        self.all.add(bytes);
        self.sources.entry(source).or_default().add(bytes);
    }

    fn leave(&mut self, source: Source, bytes: usize) {
        self.all.remove(bytes);
        if let Some(load) = self.sources.get_mut(&source) {
            load.remove(bytes);
            if load.count == 0 {
                self.sources.remove(&source);
            }
        }
    }

    /// Whose turn it is: of the sources with room of their own the one with the least under way,
    /// and of those the one that came first. If there is no room for it, nobody goes: small
    /// transactions would keep a large one waiting for ever.
    fn next(&mut self) -> Option<Waiter> {
        self.waiting.retain(|waiter| !waiter.go.is_closed());
        let ready = self.waiting.iter().enumerate().filter(|(_, waiter)| self.is_ready(waiter));
        let (place, waiter) = ready.min_by_key(|(_, waiter)| {
            let load = self.load(waiter.source);
            (load.bytes, load.count)
        })?;
        let fits = self.all.has_room(waiter.bytes, ALL);
        fits.then(|| self.waiting.remove(place))
    }
}

/// Lets admissions in.
#[derive(Clone, Default)]
pub struct Gate {
    state: Arc<Mutex<State>>,
}

/// Leave to be under way; gives the room back when dropped.
pub struct Permit {
    gate: Gate,
    source: Source,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.state.lock().leave(self.source, self.bytes);
        self.gate.let_in();
    }
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Gate {
    /// Returns once there is room; dropping it gives up the place in the queue.
    ///
    /// # Errors
    /// At once, if the queue is as long as it may be.
    pub async fn enter(&self, source: Source, bytes: usize) -> Result<Permit, Full> {
        let go = {
            let mut state = self.state.lock();
            if state.may_pass(source, bytes) {
                state.enter(source, bytes);
                return Ok(self.permit(source, bytes));
            }
            let own = state.waiting.iter().filter(|waiter| waiter.source == source).count();
            if own >= limits::MAX_SOURCE_WAITING || state.waiting.len() >= limits::MAX_WAITING {
                return Err(Full);
            }
            let (go, turn) = oneshot::channel();
            state.waiting.push(Waiter { source, bytes, go });
            turn
        };
        // The other end goes only with the gate, which is held here.
        go.await.map_err(|_| Full)
    }

    fn permit(&self, source: Source, bytes: usize) -> Permit {
        Permit { gate: self.clone(), source, bytes }
    }

    /// Lets in everybody for whom there is room now.
    fn let_in(&self) {
        loop {
            let mut state = self.state.lock();
            let Some(waiter) = state.next() else { return };
            state.enter(waiter.source, waiter.bytes);
            drop(state);
            // One that has given up in this moment gives its room back by dropping the permit.
            let _ = waiter.go.send(self.permit(waiter.source, waiter.bytes));
        }
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
