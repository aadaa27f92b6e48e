use std::sync::atomic::{AtomicU64, Ordering};

use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize;
use bitcoin_hashes::sha256::Midstate;
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

/// A header with the hash state of its first 64 bytes worked out: for each try only the block
/// that holds the nonce is hashed again, and the hash of that.
#[derive(Clone)]
pub struct Work {
    midstate: Midstate,
    /// The last 16 bytes of the header, padded to a block as SHA-256 prescribes.
    tail: [u8; BLOCK],
    /// Target, most significant byte first.
    target: [u8; 32],
}

/// Bytes of a SHA-256 block.
const BLOCK: usize = 64;
/// Where the nonce stands in the header's last block.
const NONCE_AT: usize = 12;
/// Bits hashed by the first round, whose length ends the padding: a header's 80 bytes.
const HEADER_BITS: [u8; 2] = 640u16.to_be_bytes();
/// Bits hashed by the second round: a hash's 32 bytes.
const HASH_BITS: [u8; 2] = 256u16.to_be_bytes();

/// The last block of a message of `content` bytes in it and `bits` in all.
fn padded(content: &[u8], bits: [u8; 2]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let end = content.iter().copied().chain(std::iter::once(0x80));
    block.iter_mut().zip(end).for_each(|(to, from)| *to = from);
    block.iter_mut().rev().zip(bits.into_iter().rev()).for_each(|(to, from)| *to = from);
    block
}

impl Work {
    /// `None` if the header's bits name no target.
    #[must_use]
    pub fn new(header: &Header) -> Option<Self> {
        let bytes = serialize(header);
        let (head, tail) = bytes.split_first_chunk::<BLOCK>()?;
        Some(Self {
            midstate: Midstate::SHA256_IV.update_64(head),
            tail: padded(tail, HEADER_BITS),
            target: target_from_bits(header.bits)?.to_be_bytes(),
        })
    }

    /// Tries a batch of nonces.
    fn find(&self, first: u64, end: u64) -> Option<u32> {
        let mut header_end = self.tail;
        let mut again = padded(&[0; 32], HASH_BITS);
        for nonce in first..end {
            let nonce = u32::try_from(nonce).ok()?;
            if let Some(place) = header_end.get_mut(NONCE_AT..NONCE_AT + 4) {
                place.copy_from_slice(&nonce.to_le_bytes());
            }
            if let Some(place) = again.first_chunk_mut::<32>() {
                *place = self.midstate.update_64(&header_end).to_parts().0;
            }
            let (hash, _) = Midstate::SHA256_IV.update_64(&again).to_parts();
            // The hash is a little-endian number.
            if hash.iter().rev().le(self.target.iter()) {
                return Some(nonce);
            }
        }
        None
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
            if let Some(nonce) = self.find(next, stop) {
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
