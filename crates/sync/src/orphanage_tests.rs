use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use ironpeer_primitives::PeerId;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::Orphanage;
use crate::limits::{MAX_ORPHANAGE_LATENCY_SCORE, RESERVED_ORPHAN_WEIGHT_PER_PEER};

fn tx(parents: &[OutPoint], tag: u32, padding: usize) -> Arc<Transaction> {
    let input = |previous_output| TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    Arc::new(Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(tag),
        input: parents.iter().copied().map(input).collect(),
        output: vec![TxOut {
            value: Amount::from_sat(1),
            script_pubkey: ScriptBuf::from_bytes(vec![0; padding]),
        }],
    })
}

fn unknown(n: u32) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([0xee; 32]), vout: n }
}

#[test]
fn an_orphan_waits_for_its_parent_and_is_tried_once_for_each() {
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    let mut orphanage = Orphanage::default();
    let parent = tx(&[unknown(0)], 1, 10);
    let child = tx(&[OutPoint { txid: parent.compute_txid(), vout: 0 }], 2, 10);
    assert!(orphanage.add(&child, PeerId(4)));
    assert!(!orphanage.add(&child, PeerId(5)), "kept once");
    assert!(!orphanage.has_work(PeerId(4)) && !orphanage.has_work(PeerId(5)));
    orphanage.parent_arrived(&parent, &mut rng);
    let turn = if orphanage.has_work(PeerId(4)) { PeerId(4) } else { PeerId(5) };
    assert_eq!(orphanage.next_to_reconsider(turn), Some(Arc::clone(&child)));
    assert_eq!(orphanage.next_to_reconsider(turn), None, "not again before another parent comes");
    assert!(orphanage.erase(&child.compute_wtxid()));
    assert_eq!((orphanage.len(), orphanage.total_weight(), orphanage.latency_score()), (0, 0, 0));
    assert!(orphanage.spenders.is_empty() && orphanage.peers.is_empty());
}

/// Known failure "orphans": one peer cannot push out another's, whatever it sends.
#[test]
fn orphans_one_peer_cannot_evict_anothers() {
    let mut orphanage = Orphanage::default();
    let honest: Vec<_> = (0..20).map(|n| tx(&[unknown(n)], n, 100)).collect();
    for orphan in &honest {
        orphanage.add(orphan, PeerId(0));
    }
    // Many small ones, then heavy ones.
    for n in 1_000..9_000 {
        orphanage.add(&tx(&[unknown(n)], n, 10), PeerId(1));
        assert!(orphanage.latency_score() <= MAX_ORPHANAGE_LATENCY_SCORE);
    }
    for n in 10_000..10_050 {
        orphanage.add(&tx(&[unknown(n)], n, 90_000), PeerId(1));
        assert!(orphanage.total_weight() <= 2 * RESERVED_ORPHAN_WEIGHT_PER_PEER);
    }
    for orphan in &honest {
        assert!(orphanage.announced_by(&orphan.compute_wtxid(), PeerId(0)));
    }
    orphanage.erase_peer(PeerId(1));
    assert_eq!(orphanage.len(), honest.len());
}

#[test]
fn a_transaction_too_heavy_to_relay_is_not_kept() {
    let mut orphanage = Orphanage::default();
    assert!(!orphanage.add(&tx(&[unknown(0)], 0, 100_001), PeerId(0)));
    assert_eq!(orphanage.len(), 0);
}

#[test]
fn a_block_takes_what_it_spends() {
    let mut orphanage = Orphanage::default();
    let orphan = tx(&[unknown(0), unknown(1)], 0, 10);
    let other = tx(&[unknown(2)], 0, 10);
    orphanage.add(&orphan, PeerId(0));
    orphanage.add(&other, PeerId(0));
    let mut block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
    block.txdata.push((*tx(&[unknown(1)], 9, 10)).clone());
    orphanage.erase_block(&block);
    assert!(!orphanage.contains(&orphan.compute_wtxid()));
    assert!(orphanage.contains(&other.compute_wtxid()));
}

#[test]
fn children_of_one_peer_come_newest_first() {
    let mut orphanage = Orphanage::default();
    let parent = tx(&[unknown(0)], 1, 10);
    let from = OutPoint { txid: parent.compute_txid(), vout: 0 };
    let (old, new, foreign) = (tx(&[from], 2, 10), tx(&[from], 3, 10), tx(&[from], 4, 10));
    orphanage.add(&old, PeerId(0));
    orphanage.add(&new, PeerId(0));
    orphanage.add(&foreign, PeerId(1));
    assert_eq!(orphanage.children_from(&parent, PeerId(0)), [new, old]);
}
