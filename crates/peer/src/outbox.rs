//! What waits to be written to one peer. Putting something in never waits, so a slow peer delays
//! nobody but itself.

use std::collections::VecDeque;

use ironpeer_wire::Command;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A message in bytes, header included.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub command: Command,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Outgoing>,
    /// Bytes queued or being written.
    bytes: usize,
}

/// How full the queue is after a message was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Below the soft limit.
    Room,
    /// Above it: the peer's messages are not read, and its requests not answered, until it takes
    /// what is there.
    Full,
    /// The hard limit was passed before: the peer takes nothing and must go.
    Overflow,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    soft: usize,
    hard: usize,
    filled: Notify,
    drained: Notify,
}

impl Outbox {
    pub(crate) fn new(soft: usize, hard: usize) -> Self {
        Self { queue: Mutex::default(), soft, hard, filled: Notify::new(), drained: Notify::new() }
    }

    pub(crate) fn push(&self, message: Outgoing) -> Level {
        let mut queue = self.queue.lock();
        let before = queue.bytes;
        if before > self.hard {
            return Level::Overflow;
        }
        queue.bytes += message.bytes.len();
        queue.messages.push_back(message);
        let after = queue.bytes;
        drop(queue);
        self.filled.notify_one();
        if after > self.soft { Level::Full } else { Level::Room }
    }

    /// Takes queued messages of at most `limit` bytes together (at least one). Cancel-safe.
    pub(crate) async fn take(&self, limit: usize) -> Vec<Outgoing> {
        loop {
            let batch = self.try_take(limit);
            if !batch.is_empty() {
                return batch;
            }
            self.filled.notified().await;
        }
    }

    pub(crate) fn try_take(&self, limit: usize) -> Vec<Outgoing> {
        let mut queue = self.queue.lock();
        let mut batch = Vec::new();
        let mut bytes = 0usize;
        while let Some(next) = queue.messages.front() {
            bytes = bytes.saturating_add(next.bytes.len());
            if bytes > limit && !batch.is_empty() {
                break;
            }
            batch.extend(queue.messages.pop_front());
        }
        batch
    }

    /// These bytes were written.
    pub(crate) fn written(&self, bytes: usize) {
        let mut queue = self.queue.lock();
        let before = queue.bytes;
        queue.bytes = before.saturating_sub(bytes);
        let room = before > self.soft && queue.bytes <= self.soft;
        drop(queue);
        if room {
            self.drained.notify_waiters();
        }
    }

    /// Waits while the queue is above the soft limit. Cancel-safe.
    pub(crate) async fn has_room(&self) {
        loop {
            let drained = self.drained.notified();
            if self.queue.lock().bytes <= self.soft {
                return;
            }
            drained.await;
        }
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
