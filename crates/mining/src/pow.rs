use std::sync::atomic::{AtomicU64, Ordering};

use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize;
use bitcoin_hashes::sha256;
use ironpeer_consensus::target_from_bits;

use crate::limits::NONCE_BATCH;

/// Hashes a search may still try, shared by its threads.
#[derive(Debug)]
pub struct Tries {
    left: AtomicU64,
    done: AtomicU64,
}

impl Tries {
    /// A budget of this many hashes.
    #[must_use]
    pub fn new(tries: u64) -> Self {
        Self { left: AtomicU64::new(tries), done: AtomicU64::new(0) }
    }

    /// Hashes done so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Hashes left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes up to a batch from the budget.
    fn take(&self, want: u32) -> u32 {
        let want = u64::from(want);
        let take = |left: u64| Some(left - left.min(want));
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        u32::try_from(before.min(want)).unwrap_or(u32::MAX)
    }

    fn give_back(&self, unused: u32) {
        self.left.fetch_add(u64::from(unused), Ordering::Relaxed);
    }

    fn count(&self, hashes: u32) {
        self.done.fetch_add(u64::from(hashes), Ordering::Relaxed);
    }
}

/// How a search over one space of nonces ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchEnd {
    /// This nonce meets the target.
    Found(u32),
    /// No nonce does.
    Exhausted,
    /// The budget of hashes is used up.
    OutOfTries,
    /// It was told to stop.
    Cancelled,
}

/// A header with the hash state of its first 64 bytes worked out: only the last 16, which hold
/// the nonce, are hashed again for each try.
#[derive(Clone)]
pub struct Work {
    midstate: sha256::HashEngine,
    /// Merkle root's last four bytes, time and bits.
    tail: [u8; 12],
    /// Target, most significant byte first.
    target: [u8; 32],
}

impl Work {
    /// `None` if the header's bits name no target.
    #[must_use]
    pub fn new(header: &Header) -> Option<Self> {
        use bitcoin_hashes::HashEngine;
        let bytes = serialize(header);
        let (head, rest) = bytes.split_first_chunk::<64>()?;
        let tail = *rest.first_chunk::<12>()?;
        let target = target_from_bits(header.bits)?.to_be_bytes();
        let mut midstate = sha256::HashEngine::default();
        midstate.input(head);
        Some(Self { midstate, tail, target })
    }

    fn meets_target(&self, nonce: u32) -> bool {
        use bitcoin_hashes::HashEngine;
        let mut engine = self.midstate.clone();
        let mut last = [0; 16];
        last.iter_mut()
            .zip(self.tail.into_iter().chain(nonce.to_le_bytes()))
            .for_each(|(to, from)| *to = from);
        engine.input(&last);
        let hash = sha256::Hash::from_engine(engine).hash_again().to_byte_array();
        // The hash is a little-endian number.
        hash.iter().rev().le(self.target.iter())
    }

    /// Tries nonces from `first` to `last`, looking at `cancelled` before every batch of
    /// [`NONCE_BATCH`]: after it says yes not one more batch is begun.
    pub fn search(&self, first: u32, last: u32, tries: &Tries, cancelled: impl Fn() -> bool) -> SearchEnd {
        let mut next = u64::from(first);
        let end = u64::from(last) + 1;
        while next < end {
            if cancelled() {
                return SearchEnd::Cancelled;
            }
            let batch = tries.take(u32::try_from(end - next).unwrap_or(u32::MAX).min(NONCE_BATCH));
            if batch == 0 {
                return SearchEnd::OutOfTries;
            }
            let stop = next + u64::from(batch);
            let found =
                (next..stop).filter_map(|nonce| u32::try_from(nonce).ok()).find(|n| self.meets_target(*n));
            if let Some(nonce) = found {
                let used = u32::try_from(u64::from(nonce) + 1 - next).unwrap_or(batch);
                tries.count(used);
                tries.give_back(batch - used);
                return SearchEnd::Found(nonce);
            }
            tries.count(batch);
            next = stop;
        }
        SearchEnd::Exhausted
    }
}

#[cfg(test)]
#[path = "pow_tests.rs"]
mod tests;
