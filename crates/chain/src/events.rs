//! The stream of tip changes: a ring bounded in bytes that any number of followers read at their
//! own pace. The writer never waits for them; who falls out of the ring is told so. An event that
//! all followers have taken is dropped, so that the ring holds memory only for those behind.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ironpeer_primitives::{ChainEvent, HeaderInfo};
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

/// What a follower gets next.
#[derive(Clone, Debug)]
pub enum Followed {
    /// The tip changed.
    Event(Arc<ChainEvent>),
    /// Events were missed. The follower must find its own way to `tip`; the next event it gets
    /// is the one numbered `seq + 1`.
    Lagged {
        /// Number of the last event that led to `tip`.
        seq: u64,
        /// The tip to catch up with.
        tip: HeaderInfo,
    },
    /// The chain has stopped; nothing follows.
    Closed,
}

#[derive(Debug)]
struct Held {
    events: VecDeque<(Arc<ChainEvent>, usize)>,
    bytes: usize,
    /// Number of the newest event.
    last: u64,
    tip: HeaderInfo,
    closed: bool,
    /// Each follower's next event, by the follower's number.
    followers: BTreeMap<u64, u64>,
    next_follower: u64,
}

impl Held {
    fn new(tip: HeaderInfo) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            last: 0,
            tip,
            closed: false,
            followers: BTreeMap::new(),
            next_follower: 0,
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, freed)) = self.events.pop_front() {
            self.bytes -= freed;
        }
    }

    /// Drops what no follower will ask for.
    fn trim(&mut self) {
        let wanted = self.followers.values().copied().min().unwrap_or(u64::MAX);
        while self.events.front().is_some_and(|(event, _)| event.seq < wanted) {
            self.drop_oldest();
        }
    }
}

/// The ring itself; the writer's end.
#[derive(Debug)]
pub(crate) struct EventRing {
    held: Mutex<Held>,
    limit: usize,
    wake: Condvar,
    wake_async: watch::Sender<u64>,
}

impl EventRing {
    pub(crate) fn new(limit: usize, tip: HeaderInfo) -> Self {
        let wake_async = watch::Sender::new(0);
        Self { held: Mutex::new(Held::new(tip)), limit, wake: Condvar::new(), wake_async }
    }

    /// Adds the event, of `bytes` size, that led to `tip`; drops the oldest beyond the limit.
    pub(crate) fn push(&self, event: Arc<ChainEvent>, bytes: usize, tip: HeaderInfo) {
        let mut held = self.held.lock();
        held.last = event.seq;
        held.tip = tip;
        if !held.followers.is_empty() {
            held.bytes += bytes;
            held.events.push_back((event, bytes));
        }
        while held.bytes > self.limit && held.events.len() > 1 {
            held.drop_oldest();
        }
        let last = held.last;
        drop(held);
        self.wake.notify_all();
        self.wake_async.send_replace(last);
    }

    /// Forgets everything: the tip found at start is where the first follower begins.
    pub(crate) fn restart(&self, tip: HeaderInfo) {
        *self.held.lock() = Held::new(tip);
    }

    /// Tells all followers that nothing more comes.
    pub(crate) fn close(&self) {
        self.held.lock().closed = true;
        self.wake.notify_all();
        self.wake_async.send_modify(|_| ());
    }
}

/// One reader of the stream, starting with the event after its creation.
#[derive(Debug)]
pub struct ChainFollower {
    ring: Arc<EventRing>,
    woken: watch::Receiver<u64>,
    number: u64,
    next: u64,
}

impl ChainFollower {
    /// A follower, and the tip from which its first event starts.
    pub(crate) fn new(ring: Arc<EventRing>) -> (Self, HeaderInfo) {
        let woken = ring.wake_async.subscribe();
        let mut held = ring.held.lock();
        let (next, tip, number) = (held.last + 1, held.tip, held.next_follower);
        held.next_follower += 1;
        held.followers.insert(number, next);
        drop(held);
        (Self { ring, woken, number, next }, tip)
    }

    fn take(&mut self, held: &mut Held) -> Option<Followed> {
        if self.next > held.last {
            return held.closed.then_some(Followed::Closed);
        }
        let followed = self.take_due(held);
        held.followers.insert(self.number, self.next);
        held.trim();
        Some(followed)
    }

    /// The event that is there for it, or the news that it is there no more.
    fn take_due(&mut self, held: &Held) -> Followed {
        let back = usize::try_from(held.last - self.next).unwrap_or(usize::MAX);
        let at = held.events.len().checked_sub(1).and_then(|newest| newest.checked_sub(back));
        match at.and_then(|at| held.events.get(at)) {
            Some((event, _)) => {
                self.next += 1;
                Followed::Event(Arc::clone(event))
            }
            None => {
                self.next = held.last + 1;
                Followed::Lagged { seq: held.last, tip: held.tip }
            }
        }
    }

    /// The next event if it is there already.
    pub fn try_next(&mut self) -> Option<Followed> {
        let ring = Arc::clone(&self.ring);
        let mut held = ring.held.lock();
        self.take(&mut held)
    }

    /// Waits for the next event. Cancel-safe.
    pub async fn next(&mut self) -> Followed {
        loop {
            self.woken.mark_unchanged();
            if let Some(followed) = self.try_next() {
                return followed;
            }
            if self.woken.changed().await.is_err() {
                return Followed::Closed;
            }
        }
    }

    /// Blocks the calling thread until the next event.
    pub fn next_blocking(&mut self) -> Followed {
        let ring = Arc::clone(&self.ring);
        let mut held = ring.held.lock();
        loop {
            if let Some(followed) = self.take(&mut held) {
                return followed;
            }
            ring.wake.wait(&mut held);
        }
    }
}

impl Drop for ChainFollower {
    fn drop(&mut self) {
        let mut held = self.ring.held.lock();
        held.followers.remove(&self.number);
        held.trim();
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
