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
/// the outpoints that the hash covers. Full buckets forget their oldest entry.
#[derive(Debug)]
pub struct ScriptCache {
    salt: [u8; 32],
    shards: Vec<Mutex<Vec<Bucket>>>,
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
        let shard = || Mutex::new(vec![Bucket::default(); buckets]);
        Self { salt, shards: std::iter::repeat_with(shard).take(SHARDS).collect() }
    }

    /// Most entries it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len() * WAYS).sum()
    }

    fn key(&self, wtxid: &Wtxid, flags: ScriptFlags) -> [u8; 32] {
        let flags = flags.bits().to_le_bytes();
        sha256::Hash::hash_byte_chunks([self.salt.as_slice(), wtxid.as_byte_array(), &flags]).to_byte_array()
    }

    /// Runs `act` on the bucket a key belongs to; `None` if the cache has no room at all.
    fn with_bucket<T>(&self, key: &[u8; 32], act: impl FnOnce(&mut Bucket) -> T) -> Option<T> {
        let (&[shard, a, b, c, d, ..], _) = key.split_first_chunk::<5>()?;
        let mut buckets = self.shards.get(usize::from(shard) % SHARDS)?.lock();
        let place = (u32::from_le_bytes([a, b, c, d]) as usize).checked_rem(buckets.len())?;
        buckets.get_mut(place).map(act)
    }

    pub(crate) fn contains(&self, wtxid: &Wtxid, flags: ScriptFlags) -> bool {
        let key = self.key(wtxid, flags);
        self.with_bucket(&key, |bucket| bucket.entries.contains(&key)).unwrap_or(false)
    }

    pub(crate) fn insert(&self, wtxid: &Wtxid, flags: ScriptFlags) {
        let key = self.key(wtxid, flags);
        self.with_bucket(&key, |bucket| {
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
