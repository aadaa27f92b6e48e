use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{ScriptBuf, TxIn, TxOut};

use super::*;

fn script(n: u8) -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51, n])
}

fn hash(n: u8) -> ScriptHash {
    ScriptHash::of(&script(n))
}

fn pooled(from: OutPoint, to: &[(u8, u64)]) -> PoolTx {
    let output = |(n, sats): &(u8, u64)| TxOut { value: Amount::from_sat(*sats), script_pubkey: script(*n) };
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output: from, ..TxIn::default() }],
        output: to.iter().map(output).collect(),
    };
    let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
    PoolTx { tx: Arc::new(tx), txid, wtxid, fee: Amount::from_sat(7), vsize: 100, time: 0, sequence: 0 }
}

fn coin(n: u8, sats: u64) -> Coin {
    let output = TxOut { value: Amount::from_sat(sats), script_pubkey: script(n) };
    Coin { output, height: Height(1), is_coinbase: false }
}

#[test]
fn a_script_sees_what_pays_it_and_what_spends_it_until_that_leaves() {
    let mut overlay = Overlay::default();
    let confirmed = OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 };
    let parent = pooled(confirmed, &[(1, 600), (1, 300), (2, 90)]);
    let child = pooled(OutPoint { txid: parent.txid, vout: 0 }, &[(2, 500)]);
    overlay.add(parent.clone(), &[coin(3, 1_000)]);
    overlay.add(child.clone(), &[coin(1, 600)]);
    // Told twice, as when the mempool is read while it changes.
    overlay.add(parent.clone(), &[coin(3, 1_000)]);

    let of_one = overlay.history(&hash(1));
    let find = |txid: Txid| of_one.iter().find(|entry| entry.txid == txid).unwrap();
    assert_eq!(of_one.len(), 2);
    assert_eq!(find(parent.txid).moved, Moved { received: 2, received_sats: 900, spent: 0, spent_sats: 0 });
    assert_eq!(find(child.txid).moved, Moved { spent: 1, spent_sats: 600, ..Moved::default() });
    assert!(find(child.txid).unconfirmed_parents && !find(parent.txid).unconfirmed_parents);
    assert_eq!(overlay.history(&hash(3)).len(), 1);
    let outputs = overlay.outputs(&hash(2));
    assert_eq!(outputs.iter().map(|(_, amount)| amount.to_sat()).sum::<u64>(), 590);

    overlay.remove(&parent.txid);
    assert!(!overlay.history(&hash(1))[0].unconfirmed_parents);
    overlay.remove(&child.txid);
    overlay.remove(&child.txid);
    assert!(overlay.scripts.is_empty() && overlay.txs.is_empty());
}
