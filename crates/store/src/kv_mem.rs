use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::{Batch, BatchOp, Durability, Kv, KvIter, KvRead, Space, StoreError};

type Table = Arc<BTreeMap<Vec<u8>, Vec<u8>>>;

/// A key-value store in memory, for tests and nodes that keep nothing. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemKv {
    tables: Arc<RwLock<Vec<Table>>>,
}

impl MemKv {
    /// An empty store; keyspaces come to be when they are written to.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn table(&self, space: Space) -> Table {
        self.tables.read().get(space.0).cloned().unwrap_or_default()
    }
}

struct MemSnapshot(Vec<Table>);

fn range(table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, reverse: bool) -> KvIter {
    // `BTreeMap::range` panics on bounds that cross.
    let crossed = match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
        _ => false,
    };
    if crossed {
        return Box::new(std::iter::empty());
    }
    // Walks key by key, for the iterator must own its table.
    let mut low = from.map(<[u8]>::to_vec);
    let mut high = to.map(<[u8]>::to_vec);
    let mut done = false;
    Box::new(std::iter::from_fn(move || {
        if done {
            return None;
        }
        let mut found = table.range::<Vec<u8>, _>((low.as_ref(), high.as_ref()));
        let pair = if reverse { found.next_back() } else { found.next() };
        let pair = pair.map(|(key, value)| (key.clone(), value.clone()));
        match &pair {
            None => done = true,
            Some((key, _)) => {
                let bound = Bound::Excluded(key.clone());
                if reverse {
                    high = bound
                } else {
                    low = bound
                }
                done = matches!((&low, &high), (Bound::Excluded(low), Bound::Excluded(high)) if low >= high)
                    || matches!((&low, &high), (Bound::Included(low), Bound::Excluded(high)) if low >= high)
                    || matches!((&low, &high), (Bound::Excluded(low), Bound::Included(high)) if low >= high);
            }
        }
        pair.map(Ok)
    }))
}

impl KvRead for MemKv {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables.read().get(space.0).and_then(|table| table.get(key).cloned()))
    }

    fn range(&self, space: Space, from: Bound<&[u8]>, to: Bound<&[u8]>, reverse: bool) -> KvIter {
        range(self.table(space), from, to, reverse)
    }
}

impl KvRead for MemSnapshot {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(space.0).and_then(|table| table.get(key).cloned()))
    }

    fn range(&self, space: Space, from: Bound<&[u8]>, to: Bound<&[u8]>, reverse: bool) -> KvIter {
        range(self.0.get(space.0).cloned().unwrap_or_default(), from, to, reverse)
    }
}

impl Kv for MemKv {
    fn commit(&self, batch: Batch, _: Durability) -> Result<(), StoreError> {
        let mut tables = self.tables.write();
        for op in batch.into_ops() {
            let (BatchOp::Put(space, ..) | BatchOp::Delete(space, _)) = &op;
            let index = space.0;
            if tables.len() <= index {
                tables.resize_with(index + 1, Table::default);
            }
            // A live snapshot makes this copy the table once.
            let Some(table) = tables.get_mut(index).map(Arc::make_mut) else { continue };
            match op {
                BatchOp::Put(_, key, value) => table.insert(key, value),
                BatchOp::Delete(_, key) => table.remove(&key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn snapshot(&self) -> Box<dyn KvRead> {
        Box::new(MemSnapshot(self.tables.read().clone()))
    }

    fn bytes_on_disk(&self) -> u64 {
        0
    }
}
