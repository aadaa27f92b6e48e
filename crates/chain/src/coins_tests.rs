use bitcoin::{Amount, ScriptBuf, TxOut};
use ironpeer_primitives::Height;
use ironpeer_store::MemKv;

use super::*;

fn outpoint(n: u8) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([n; 32]), vout: u32::from(n) }
}

fn coin(sats: u64, is_coinbase: bool) -> Coin {
    let output = TxOut { value: Amount::from_sat(sats), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) };
    Coin { output, height: Height(7), is_coinbase }
}

fn store() -> CoinStore {
    CoinStore::new(Arc::new(MemKv::new()), BlockHash::all_zeros(), Box::new(|error| panic!("{error}")))
}

/// Writes the frozen layer as a flush does, without markers.
fn write(store: &CoinStore, layer: &Layer) {
    let mut batch = ironpeer_store::Batch::new();
    for (outpoint, slot) in &layer.slots {
        match slot.coin() {
            Some(coin) => {
                let mut bytes = Vec::new();
                ironpeer_primitives::encode_coin(&mut bytes, coin);
                batch.put(COINS, coin_key(outpoint).as_slice(), bytes);
            }
            None => batch.delete(COINS, coin_key(outpoint).as_slice()),
        }
    }
    store.db.commit(batch, ironpeer_store::Durability::Process).unwrap();
}

#[test]
fn keys_sort_by_transaction_then_index() {
    let txid = Txid::from_byte_array([3; 32]);
    let keys: Vec<_> = [0u32, 1, 255, 256, u32::MAX].map(|vout| coin_key(&OutPoint { txid, vout })).to_vec();
    assert!(keys.is_sorted());
    assert_eq!(outpoint_of_key(&keys[3]), Some(OutPoint { txid, vout: 256 }));
    assert_eq!(outpoint_of_key(&keys[3][..35]), None);
}

#[test]
fn a_coin_made_and_spent_between_flushes_leaves_no_trace() {
    let store = store();
    store.merge([(outpoint(1), Some(coin(5, false)))], BlockHash::all_zeros());
    assert_eq!(store.coin(&outpoint(1)), Some(coin(5, false)));
    store.merge([(outpoint(1), None)], BlockHash::all_zeros());
    assert_eq!(store.coin(&outpoint(1)), None);
    assert_eq!(store.size(), (0, 0));
}

#[test]
fn a_coinbase_may_overwrite_one_on_disk_so_its_spending_is_remembered() {
    let store = store();
    store.merge([(outpoint(1), Some(coin(5, true)))], BlockHash::all_zeros());
    let (layer, _) = store.freeze();
    write(&store, &layer);
    store.flushed(0);
    store.merge([(outpoint(1), Some(coin(6, true)))], BlockHash::all_zeros());
    store.merge([(outpoint(1), None)], BlockHash::all_zeros());
    assert_eq!(store.coin(&outpoint(1)), None, "the older coin on disk must not show through");
}

#[test]
fn changes_during_a_flush_hide_what_is_being_written() {
    for keep in [0, usize::MAX] {
        let store = store();
        store.merge((1..4).map(|n| (outpoint(n), Some(coin(u64::from(n), false)))), BlockHash::all_zeros());
        let (layer, _) = store.freeze();
        assert_eq!(store.coin(&outpoint(1)), Some(coin(1, false)));
        store.merge([(outpoint(2), None), (outpoint(9), Some(coin(9, false)))], BlockHash::all_zeros());
        write(&store, &layer);
        assert_eq!(store.coin(&outpoint(2)), None);
        store.flushed(keep);
        assert_eq!(store.coin(&outpoint(1)), Some(coin(1, false)));
        assert_eq!(store.coin(&outpoint(2)), None);
        assert_eq!(store.coin(&outpoint(9)), Some(coin(9, false)));
        // Taken back by a reorganisation and spent anew.
        store.merge([(outpoint(2), Some(coin(2, false)))], BlockHash::all_zeros());
        assert_eq!(store.coin(&outpoint(2)), Some(coin(2, false)));
        store.merge([(outpoint(2), None)], BlockHash::all_zeros());
        assert_eq!(store.coin(&outpoint(2)), None);
        let (layer, _) = store.freeze();
        write(&store, &layer);
        store.flushed(0);
        assert_eq!(store.coin(&outpoint(2)), None);
        assert_eq!(store.db.iter(COINS).count(), 3);
    }
}

#[test]
fn what_was_read_ahead_is_not_trusted_across_a_flush() {
    let store = store();
    store.merge([(outpoint(1), Some(coin(1, false)))], BlockHash::all_zeros());
    let (layer, _) = store.freeze();
    write(&store, &layer);
    store.flushed(0);
    let ahead = store.prefetch(&[outpoint(1), outpoint(2)]);
    assert_eq!(store.coin_with(&outpoint(1), &ahead), Some(coin(1, false)));
    // Spent by a block in between, and flushed: no layer remembers it.
    store.merge([(outpoint(1), None)], BlockHash::all_zeros());
    assert_eq!(store.coin_with(&outpoint(1), &ahead), None);
    let (layer, _) = store.freeze();
    write(&store, &layer);
    store.flushed(0);
    assert_eq!(store.coin_with(&outpoint(1), &ahead), None);
}

#[test]
fn coins_read_together_belong_to_one_tip() {
    let store = Arc::new(store());
    let writer = Arc::clone(&store);
    let tip = |n: u8| BlockHash::from_byte_array([n; 32]);
    // At every tip either both coins are there or neither.
    let thread = std::thread::spawn(move || {
        for n in 0..200u8 {
            let change = (n % 2 == 0).then(|| coin(1, false));
            writer.merge([(outpoint(1), change.clone()), (outpoint(2), change)], tip(n));
        }
    });
    loop {
        let (best, coins) = store.coins(&[outpoint(1), outpoint(2)]);
        assert_eq!(coins[0].is_some(), coins[1].is_some(), "at {best}");
        if best == tip(199) {
            break;
        }
    }
    thread.join().unwrap();
}
