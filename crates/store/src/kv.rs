use std::ops::Bound;

use crate::StoreError;

/// A keyspace, by its place in the list given when the store was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space(pub usize);

/// How far a commit has got when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It survives a killed process.
    Process,
    /// It survives a power loss.
    Power,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchOp {
    /// Sets a key's value.
    Put(Space, Vec<u8>, Vec<u8>),
    /// Removes a key; nothing happens if it is not there.
    Delete(Space, Vec<u8>),
}

/// Changes that become visible, and durable, all together. A later change to the same key wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<BatchOp>,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key's value.
    pub fn put(&mut self, space: Space, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.ops.push(BatchOp::Put(space, key, value));
    }

    /// Removes a key.
    pub fn delete(&mut self, space: Space, key: impl Into<Vec<u8>>) {
        let key = key.into();
        self.bytes += key.len();
        self.ops.push(BatchOp::Delete(space, key));
    }

    /// Bytes of all keys and values, for an owner that commits in parts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is no change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The changes, in order.
    #[must_use]
    pub fn into_ops(self) -> Vec<BatchOp> {
        self.ops
    }
}

/// A key and its value.
pub type KvPair = (Vec<u8>, Vec<u8>);

/// Pairs in key order. Owns what it reads: it may outlive later commits and see none of them.
pub type KvIter = Box<dyn Iterator<Item = Result<KvPair, StoreError>> + Send>;

/// Reading side of a key-value store or of a snapshot of one.
pub trait KvRead: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// If the store failed.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Pairs between two keys, in rising order, or falling if `reverse`.
    fn range(&self, space: Space, from: Bound<&[u8]>, to: Bound<&[u8]>, reverse: bool) -> KvIter;

    /// All pairs of a keyspace in rising order.
    fn iter(&self, space: Space) -> KvIter {
        self.range(space, Bound::Unbounded, Bound::Unbounded, false)
    }

    /// All pairs whose key starts with `prefix`, in rising order.
    fn prefix(&self, space: Space, prefix: &[u8]) -> KvIter {
        match prefix_end(prefix) {
            Some(end) => self.range(space, Bound::Included(prefix), Bound::Excluded(&end), false),
            None => self.range(space, Bound::Included(prefix), Bound::Unbounded, false),
        }
    }
}

/// An ordered key-value store with atomic batches over several keyspaces. Any thread may read;
/// `commit` may wait for the disk and belongs on a thread that can.
pub trait Kv: KvRead {
    /// Applies a batch whole or not at all.
    ///
    /// # Errors
    /// If the store failed; the node must stop then.
    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError>;

    /// Returns when every commit so far would survive a power loss.
    ///
    /// # Errors
    /// If the store failed; the node must stop then.
    fn sync(&self) -> Result<(), StoreError>;

    /// The store as it is now, unmoved by later commits.
    fn snapshot(&self) -> Box<dyn KvRead>;

    /// Bytes on disk of what has been put in order; 0 for a store in memory.
    fn bytes_on_disk(&self) -> u64;
}

/// The first key after all that start with `prefix`.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
#[path = "kv_tests.rs"]
mod tests;
