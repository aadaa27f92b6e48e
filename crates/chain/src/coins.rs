//! The coin set: a database, and above it the changes since the last flush.
//!
//! Changes gather in `recent`. A flush freezes that map as `frozen` and a background thread writes
//! it; readers look through both, so neither they nor the writer wait. A frozen map that has been
//! written stays as a read cache while it fits in the budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint, Txid};
use ironpeer_consensus::{CoinChanges, CoinSource, OutpointMap};
use ironpeer_primitives::{Coin, decode_coin};
use ironpeer_store::{Kv, Space};
use parking_lot::RwLock;

use crate::core::chained;
use crate::limits;

/// The keyspace of coins.
pub(crate) const COINS: Space = Space(0);
/// The keyspace of the two markers below.
pub(crate) const MARKERS: Space = Space(1);
/// Key of the block the coins on disk belong to, as Core's `DB_BEST_BLOCK`.
pub(crate) const BEST_BLOCK_KEY: &[u8] = b"B";
/// Key of the two blocks a flush goes between while it is under way, as Core's `DB_HEAD_BLOCKS`.
pub(crate) const HEAD_BLOCKS_KEY: &[u8] = b"H";

/// What happened to an outpoint since the last flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Made since; the database does not have it, so it may vanish without trace.
    Fresh(Coin),
    /// Made or restored; the database may have it already.
    Changed(Coin),
    /// Spent; the database may have it still.
    Spent,
}

impl Slot {
    pub(crate) fn coin(&self) -> Option<&Coin> {
        match self {
            Self::Fresh(coin) | Self::Changed(coin) => Some(coin),
            Self::Spent => None,
        }
    }

    fn bytes(&self) -> usize {
        // A table entry at usual load, and the script on the heap.
        const ENTRY: usize = 128;
        ENTRY + self.coin().map_or(0, |coin| coin.output.script_pubkey.len() + 16)
    }
}

/// Changes of many outpoints.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    pub slots: OutpointMap<Slot>,
    bytes: usize,
}

impl Layer {
    fn put(&mut self, outpoint: OutPoint, slot: Slot) {
        self.bytes += slot.bytes();
        if let Some(old) = self.slots.insert(outpoint, slot) {
            self.bytes -= old.bytes();
        }
    }

    fn apply(&mut self, outpoint: OutPoint, change: Option<Coin>) {
        match (change, self.slots.get(&outpoint)) {
            (None, Some(Slot::Fresh(_))) => {
                if let Some(old) = self.slots.remove(&outpoint) {
                    self.bytes -= old.bytes();
                }
            }
            (None, _) => self.put(outpoint, Slot::Spent),
            // Only a coin never seen before can be fresh. A coinbase may overwrite one of the same
            // id (BIP30), so it never counts as such.
            (Some(coin), None) if !coin.is_coinbase => self.put(outpoint, Slot::Fresh(coin)),
            (Some(coin), Some(Slot::Fresh(_))) => self.put(outpoint, Slot::Fresh(coin)),
            (Some(coin), _) => self.put(outpoint, Slot::Changed(coin)),
        }
    }

    /// As [`apply`](Self::apply), for changes that may undo or repeat earlier ones.
    fn apply_again(&mut self, outpoint: OutPoint, change: Option<Coin>) {
        self.put(outpoint, change.map_or(Slot::Spent, Slot::Changed));
    }
}

#[derive(Debug)]
struct Layers {
    recent: Layer,
    frozen: Option<Arc<Layer>>,
    /// The block all this belongs to.
    best: BlockHash,
    /// Counts finished flushes: a coin read from the database stays true only within one.
    flushes: u64,
}

/// The coin set as of the active tip.
pub(crate) struct CoinStore {
    layers: RwLock<Layers>,
    db: Arc<dyn Kv>,
    failed: Box<dyn Fn(String) + Send + Sync>,
    /// Changes merged so far, so that a reader of many coins can tell that all are of one tip.
    version: AtomicU64,
}

/// Where a lookup ended.
enum Found {
    Coin(Coin),
    Spent,
    Unknown,
}

/// The key of a coin: the order is that of the transaction ids' bytes, then of the index.
pub(crate) fn coin_key(outpoint: &OutPoint) -> [u8; 36] {
    let mut key = [0u8; 36];
    let (txid, index) = key.split_at_mut(32);
    txid.copy_from_slice(outpoint.txid.as_byte_array());
    index.copy_from_slice(&outpoint.vout.to_be_bytes());
    key
}

/// Undoes [`coin_key`].
pub(crate) fn outpoint_of_key(key: &[u8]) -> Option<OutPoint> {
    let (txid, index) = key.split_at_checked(32)?;
    let txid = Txid::from_slice(txid).ok()?;
    Some(OutPoint { txid, vout: u32::from_be_bytes(index.try_into().ok()?) })
}

impl CoinStore {
    /// Coins in `db`, which belong to block `best`. A read error is given to `failed`, once, and
    /// must stop the node: no verdict may come of it.
    pub(crate) fn new(db: Arc<dyn Kv>, best: BlockHash, failed: Box<dyn Fn(String) + Send + Sync>) -> Self {
        let layers = Layers { recent: Layer::default(), frozen: None, best, flushes: 0 };
        Self { layers: RwLock::new(layers), db, failed, version: AtomicU64::new(0) }
    }

    fn look(layers: &Layers, outpoint: &OutPoint) -> Found {
        let slot = layers
            .recent
            .slots
            .get(outpoint)
            .or_else(|| layers.frozen.as_ref().and_then(|frozen| frozen.slots.get(outpoint)));
        match slot {
            None => Found::Unknown,
            Some(Slot::Spent) => Found::Spent,
            Some(Slot::Fresh(coin) | Slot::Changed(coin)) => Found::Coin(coin.clone()),
        }
    }

    fn read_db(&self, outpoint: &OutPoint) -> Option<Coin> {
        let bytes = match self.db.get(COINS, &coin_key(outpoint)) {
            Ok(bytes) => bytes?,
            Err(error) => {
                (self.failed)(chained(&error));
                return None;
            }
        };
        match decode_coin(&bytes) {
            Ok(coin) => Some(coin),
            Err(error) => {
                (self.failed)(format!("coin {outpoint}: {error}"));
                None
            }
        }
    }

    /// One coin as of some moment during the call.
    pub(crate) fn coin(&self, outpoint: &OutPoint) -> Option<Coin> {
        // A flush that ends between the two lookups only moves the coin from the first place to
        // the second.
        match Self::look(&self.layers.read(), outpoint) {
            Found::Coin(coin) => Some(coin),
            Found::Spent => None,
            Found::Unknown => self.read_db(outpoint),
        }
    }

    /// Several coins, all as of one block, which comes with them.
    pub(crate) fn coins(&self, outpoints: &[OutPoint]) -> (BlockHash, Vec<Option<Coin>>) {
        for _ in 0..limits::COIN_READ_ATTEMPTS {
            let version = self.version.load(Ordering::Acquire);
            let best = self.layers.read().best;
            let coins = outpoints.iter().map(|outpoint| self.coin(outpoint)).collect();
            if self.version.load(Ordering::Acquire) == version {
                return (best, coins);
            }
        }
        let layers = self.layers.read();
        let coins = outpoints
            .iter()
            .map(|outpoint| match Self::look(&layers, outpoint) {
                Found::Coin(coin) => Some(coin),
                Found::Spent => None,
                Found::Unknown => self.read_db(outpoint),
            })
            .collect();
        (layers.best, coins)
    }

    /// Reads those of `outpoints` from the database that no layer knows.
    pub(crate) fn prefetch(&self, outpoints: &[OutPoint]) -> Prefetched {
        let (flushes, unknown) = {
            let layers = self.layers.read();
            let unknown: Vec<&OutPoint> = outpoints
                .iter()
                .filter(|outpoint| matches!(Self::look(&layers, outpoint), Found::Unknown))
                .collect();
            (layers.flushes, unknown)
        };
        let read = |outpoint: &&OutPoint| self.read_db(outpoint).map(|coin| (**outpoint, coin));
        let coins = if unknown.len() < limits::PREFETCH_MIN_INPUTS {
            unknown.iter().filter_map(read).collect()
        } else {
            use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
            unknown.par_iter().filter_map(read).collect()
        };
        Prefetched { flushes, coins }
    }

    /// A lookup for the writer: what a block's prefetch found spares the database, as long as no
    /// flush has ended since.
    pub(crate) fn coin_with(&self, outpoint: &OutPoint, prefetched: &Prefetched) -> Option<Coin> {
        {
            let layers = self.layers.read();
            match Self::look(&layers, outpoint) {
                Found::Coin(coin) => return Some(coin),
                Found::Spent => return None,
                Found::Unknown if layers.flushes == prefetched.flushes => {
                    if let Some(coin) = prefetched.coins.get(outpoint) {
                        return Some(coin.clone());
                    }
                }
                Found::Unknown => {}
            }
        }
        self.read_db(outpoint)
    }

    /// Merges the changes of a step to block `best`. The only moment a reader can wait for.
    pub(crate) fn merge(&self, changes: impl IntoIterator<Item = (OutPoint, Option<Coin>)>, best: BlockHash) {
        let mut layers = self.layers.write();
        for (outpoint, change) in changes {
            layers.recent.apply(outpoint, change);
        }
        layers.best = best;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Merges changes that the database may hold in part already; for recovery.
    pub(crate) fn merge_again(&self, changes: CoinChanges, best: BlockHash) {
        let mut layers = self.layers.write();
        for (outpoint, change) in changes {
            layers.recent.apply_again(outpoint, change);
        }
        layers.best = best;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Bytes and entries held in memory.
    pub(crate) fn size(&self) -> (usize, usize) {
        let layers = self.layers.read();
        let (bytes, count) =
            layers.frozen.as_ref().map_or((0, 0), |frozen| (frozen.bytes, frozen.slots.len()));
        (layers.recent.bytes + bytes, layers.recent.slots.len() + count)
    }

    /// Bytes of changes that the next flush would write.
    pub(crate) fn unflushed_bytes(&self) -> usize {
        self.layers.read().recent.bytes
    }

    /// Freezes the recent changes for a flush. The one before must have ended.
    pub(crate) fn freeze(&self) -> (Arc<Layer>, BlockHash) {
        let mut layers = self.layers.write();
        let frozen = Arc::new(std::mem::take(&mut layers.recent));
        layers.frozen = Some(Arc::clone(&frozen));
        (frozen, layers.best)
    }

    /// The frozen layer is in the database now. It stays as a read cache if it has at most
    /// `keep_bytes`.
    pub(crate) fn flushed(&self, keep_bytes: usize) {
        let mut layers = self.layers.write();
        layers.flushes += 1;
        if layers.frozen.as_ref().is_some_and(|frozen| frozen.bytes > keep_bytes) {
            layers.frozen = None;
        }
    }

    pub(crate) fn db(&self) -> &Arc<dyn Kv> {
        &self.db
    }
}

/// Coins read ahead for a block.
#[derive(Debug, Default)]
pub(crate) struct Prefetched {
    flushes: u64,
    coins: OutpointMap<Coin>,
}

/// Number of a block's changes in an [`Overlay`], rising in the order they were applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(u64);

/// Coins as they will be after blocks that are applied but not committed.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    changes: OutpointMap<(Mark, Option<Coin>)>,
    last: Mark,
}

impl Overlay {
    pub(crate) fn apply(&mut self, changes: &CoinChanges) -> Mark {
        self.last.0 += 1;
        let mark = self.last;
        self.changes.extend(changes.iter().map(|(outpoint, change)| (*outpoint, (mark, change.clone()))));
        mark
    }

    /// Forgets changes that the coin set has now: those of blocks up to `committed`, unless a
    /// later one changed the same coin again.
    pub(crate) fn retire(&mut self, changes: &CoinChanges, committed: Mark) {
        for outpoint in changes.keys() {
            if self.changes.get(outpoint).is_some_and(|(mark, _)| *mark <= committed) {
                self.changes.remove(outpoint);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.changes.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }
}

/// What the next block to be applied sees.
pub(crate) struct OverlaidCoins<'a> {
    pub overlay: &'a Overlay,
    pub coins: &'a CoinStore,
    pub prefetched: &'a Prefetched,
}

impl CoinSource for OverlaidCoins<'_> {
    fn coin(&self, outpoint: &OutPoint) -> Option<Coin> {
        match self.overlay.changes.get(outpoint) {
            Some((_, change)) => change.clone(),
            None => self.coins.coin_with(outpoint, self.prefetched),
        }
    }
}

#[cfg(test)]
#[path = "coins_tests.rs"]
mod tests;
