use std::sync::atomic::{AtomicBool, Ordering};

use bitcoin::Wtxid;
use bitcoin::hashes::Hash;
use bitcoin_hashes::sha256;
use parking_lot::Mutex;

use crate::ScriptFlags;

/// Entries a bucket holds; with its cursor it fills 256 bytes.
const WAYS: usize = 7;
/// Locks over which the buckets are spread, so that checking threads rarely meet.
const SHARDS: usize = 64;

/// Remembers which transactions' scripts passed under which rules, so that a block does not run
/// them again. Shared by mempool and chain.
///
/// An entry is a salted hash of the transaction's hash *with* witness and the exact rules. It
/// speaks for scripts alone, and only because the outputs spent were read from our coins under
/// the outpoints that the hash covers. Full buckets forget their oldest entry. Memory is taken
/// when the first entries come: the initial download makes none.
#[derive(Debug)]
pub struct ScriptCache {
    salt: [u8; 32],
    /// Buckets of each shard once it has an entry; it has none before.
    buckets: usize,
    shards: Vec<Mutex<Vec<Bucket>>>,
    used: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    entries: [[u8; 32]; WAYS],
    /// Where the next entry goes.
    next: usize,
}

impl ScriptCache {
    /// An empty cache of at most `bytes` bytes. `salt` is random, so that nobody can aim
    /// transactions at a bucket.
    #[must_use]
    pub fn new(bytes: usize, salt: [u8; 32]) -> Self {
        let buckets = bytes / SHARDS / size_of::<Bucket>();
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Self { salt, buckets, shards, used: AtomicBool::new(false) }
    }

    /// Most entries it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shards.len() * self.buckets * WAYS
    }

    fn key(&self, wtxid: &Wtxid, flags: ScriptFlags) -> [u8; 32] {
        let flags = flags.bits().to_le_bytes();
        sha256::Hash::hash_byte_chunks([self.salt.as_slice(), wtxid.as_byte_array(), &flags]).to_byte_array()
    }

    /// Runs `act` on the bucket a key belongs to; `None` if there is none.
    fn with_bucket<T>(&self, key: &[u8; 32], make: bool, act: impl FnOnce(&mut Bucket) -> T) -> Option<T> {
        let (&[shard, a, b, c, d, ..], _) = key.split_first_chunk::<5>()?;
        let mut buckets = self.shards.get(usize::from(shard) % SHARDS)?.lock();
        if buckets.is_empty() && make {
            buckets.resize(self.buckets, Bucket::default());
        }
        let place = (u32::from_le_bytes([a, b, c, d]) as usize).checked_rem(buckets.len())?;
        buckets.get_mut(place).map(act)
    }

    /// Whether nothing was ever remembered, so that asking is not worth hashing for.
    pub(crate) fn is_unused(&self) -> bool {
        !self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn contains(&self, wtxid: &Wtxid, flags: ScriptFlags) -> bool {
        let key = self.key(wtxid, flags);
        self.with_bucket(&key, false, |bucket| bucket.entries.contains(&key)).unwrap_or(false)
    }

    pub(crate) fn insert(&self, wtxid: &Wtxid, flags: ScriptFlags) {
        let key = self.key(wtxid, flags);
        self.used.store(true, Ordering::Relaxed);
        self.with_bucket(&key, true, |bucket| {
            if bucket.entries.contains(&key) {
                return;
            }
            if let Some(entry) = bucket.entries.get_mut(bucket.next) {
                *entry = key;
            }
            bucket.next = (bucket.next + 1) % WAYS;
        });
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
