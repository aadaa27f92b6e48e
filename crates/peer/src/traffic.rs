use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use ironpeer_primitives::UnixTime;
use ironpeer_wire::Command;

/// Name under which bytes of unknown messages are counted (`NET_MESSAGE_TYPE_OTHER`).
pub const OTHER: &str = "*other*";

/// Bytes of one direction of one connection.
#[derive(Debug)]
pub(crate) struct Counter {
    bytes: AtomicU64,
    last: AtomicI64,
    /// By the place of the type in [`Command::KNOWN`]; the last for all others.
    per_type: [AtomicU64; Command::KNOWN.len() + 1],
}

impl Counter {
    pub(crate) fn new() -> Self {
        Self {
            bytes: AtomicU64::new(0),
            last: AtomicI64::new(0),
            per_type: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Bytes passed, at this time.
    pub(crate) fn passed(&self, bytes: usize, now: UnixTime) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last.store(now, Ordering::Relaxed);
    }

    /// A message of a type, with its header; `None` for one that was dropped unread.
    pub(crate) fn message(&self, command: Option<Command>, bytes: usize) {
        let known = command
            .and_then(|command| Command::KNOWN.iter().position(|name| name.as_bytes() == command.name()));
        if let Some(count) = self.per_type.get(known.unwrap_or(Command::KNOWN.len())) {
            count.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn last(&self) -> UnixTime {
        self.last.load(Ordering::Relaxed)
    }

    /// Types with any bytes, in alphabetical order as Core's map.
    pub(crate) fn by_type(&self) -> Vec<(&'static str, u64)> {
        let names = Command::KNOWN.into_iter().chain([OTHER]);
        let mut counts: Vec<_> = names
            .zip(&self.per_type)
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
            .filter(|(_, bytes)| *bytes > 0)
            .collect();
        counts.sort_unstable();
        counts
    }
}
