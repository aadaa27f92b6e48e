use std::sync::atomic::{AtomicUsize, Ordering};

use ironpeer_store::{Durability, KvIter, MemKv, StoreError};

use super::*;

/// Counts the rows that are looked at.
struct Counting {
    rows: Box<dyn KvRead>,
    seen: Arc<AtomicUsize>,
}

impl KvRead for Counting {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.seen.fetch_add(1, Ordering::Relaxed);
        self.rows.get(space, key)
    }

    fn range(&self, space: Space, from: Bound<&[u8]>, to: Bound<&[u8]>, reverse: bool) -> KvIter {
        let seen = Arc::clone(&self.seen);
        Box::new(self.rows.range(space, from, to, reverse).inspect(move |_| {
            seen.fetch_add(1, Ordering::Relaxed);
        }))
    }
}

const ENTRIES: u32 = 10_000;

/// Something to tell blocks of one height apart by.
fn block(height: Height, branch: u8) -> [u8; 32] {
    let mut hash = [branch; 32];
    hash[..4].copy_from_slice(&height.0.to_be_bytes());
    hash
}

/// One script with many transactions, two in a block, between two others that begin alike.
fn busy() -> (ScriptHash, MemKv) {
    let kv = MemKv::new();
    let script = ScriptHash([7; 32]);
    let mut neighbours = [script; 2];
    neighbours[0].0[SCRIPT_BYTES - 1] = 6;
    neighbours[1].0[SCRIPT_BYTES - 1] = 8;
    let mut batch = Batch::new();
    for n in 0..ENTRIES {
        let position = TxPosition { height: Height(n / 2), index: n % 2 };
        let txid = sha256::Hash::hash(&n.to_be_bytes()).to_byte_array();
        let mut row = txid.to_vec();
        row.extend([0; 8]);
        batch.put(TXS, position.key(), row);
        batch.put(BLOCKS, position.height.0.to_be_bytes(), block(position.height, 0));
        let outpoint = OutPoint { txid: Txid::from_byte_array(txid), vout: n };
        for owner in [script, neighbours[0], neighbours[1]] {
            let moved = Moved { received: 1, received_sats: u64::from(n), ..Moved::default() };
            batch.put(HISTORY, history_key(&owner, position), moved.encode());
            let value = unspent_value(position.height, Amount::from_sat(u64::from(n)));
            batch.put(UNSPENT, unspent_key(&owner, &outpoint), value);
        }
    }
    kv.commit(batch, Durability::Process).unwrap();
    (script, kv)
}

#[test]
fn a_page_costs_its_own_rows_however_long_the_history_is() {
    let (script, kv) = busy();
    let seen = Arc::new(AtomicUsize::new(0));
    let rows = Box::new(Counting { rows: kv.snapshot(), seen: Arc::clone(&seen) });
    let snapshot = AddressSnapshot { rows, totals: Totals::default() };
    let position = |n: u32| TxPosition { height: Height(n / 2), index: n % 2 };

    let page = snapshot.history(&script, Order::NewestFirst, None, 25).unwrap();
    assert_eq!(page.len(), 25);
    assert_eq!((page[0].position, page[24].position), (position(ENTRIES - 1), position(ENTRIES - 25)));
    let next = snapshot.history(&script, Order::NewestFirst, Some(page[24].position), 25).unwrap();
    assert_eq!(next[0].position, position(ENTRIES - 26));
    let oldest = snapshot.history(&script, Order::OldestFirst, Some(position(99)), 25).unwrap();
    assert_eq!(oldest[0].position, position(100));
    let coins = snapshot.unspent(&script, None, 25).unwrap();
    assert_eq!(coins.len(), 25);
    let more = snapshot.unspent(&script, Some(coins[24].outpoint), 25).unwrap();
    assert!(more[0].outpoint > coins[24].outpoint);
    // A row and the id it stands for.
    assert!(seen.load(Ordering::Relaxed) <= 5 * 25 * 2);
}

#[test]
fn all_pages_together_are_the_whole_and_nothing_of_the_neighbours() {
    let (script, kv) = busy();
    let snapshot = AddressSnapshot { rows: kv.snapshot(), totals: Totals::default() };
    let (mut count, mut cursor) = (0, None);
    loop {
        let page = snapshot.unspent(&script, cursor, 999).unwrap();
        let Some(last) = page.last() else { break };
        (count, cursor) = (count + page.len(), Some(last.outpoint));
    }
    assert_eq!(count, ENTRIES as usize);
    let totals = snapshot.totals(&script).unwrap();
    let sats = u64::from(ENTRIES) * u64::from(ENTRIES - 1) / 2;
    assert_eq!((totals.txs, totals.balance()), (u64::from(ENTRIES), sats));
}

#[test]
fn totals_are_added_up_once_and_anew_after_a_reorganisation() {
    let (script, kv) = busy();
    let seen = Arc::new(AtomicUsize::new(0));
    let shared = Totals::default();
    let totals = || {
        let rows = Box::new(Counting { rows: kv.snapshot(), seen: Arc::clone(&seen) });
        seen.store(0, Ordering::Relaxed);
        let totals = AddressSnapshot { rows, totals: Arc::clone(&shared) }.totals(&script).unwrap();
        (totals, seen.load(Ordering::Relaxed))
    };
    let (first, rows) = totals();
    assert!(rows >= ENTRIES as usize);
    let more = |batch: &mut Batch, height: u32, branch: u8| {
        let position = TxPosition { height: Height(height), index: 0 };
        let moved = Moved { spent: 1, spent_sats: 3, ..Moved::default() };
        batch.put(HISTORY, history_key(&script, position), moved.encode());
        batch.put(BLOCKS, height.to_be_bytes(), block(Height(height), branch));
    };
    let mut batch = Batch::new();
    more(&mut batch, ENTRIES, 0);
    kv.commit(batch, Durability::Process).unwrap();
    let (second, rows) = totals();
    assert_eq!((second.txs, second.balance()), (first.txs + 1, first.balance() - 3));
    assert!(rows < 10, "{rows}");

    // The last counted block is another now, with one transaction less of this script.
    let mut batch = Batch::new();
    let height = (ENTRIES - 1) / 2;
    batch.delete(HISTORY, history_key(&script, TxPosition { height: Height(height), index: 1 }));
    more(&mut batch, height, 1);
    kv.commit(batch, Durability::Process).unwrap();
    let (third, rows) = totals();
    assert!(rows >= ENTRIES as usize - 1, "{rows}");
    let gone = u64::from(ENTRIES - 1) + u64::from(ENTRIES - 2);
    assert_eq!((third.txs, third.balance()), (second.txs - 1, second.balance() - gone - 3));
}
