use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{Transaction, Wtxid};
use ironpeer_primitives::{PeerId, TxClass};
use ironpeer_sync::{ConnectionKind, Permissions};
use ironpeer_wire::{Inventory, Message};

use crate::model::{child, coin, tx};
use crate::node::{Node, full_node, version};

fn inv(txs: &[&Arc<Transaction>]) -> Message {
    Message::Inv(txs.iter().map(|tx| Inventory::wtx(tx.compute_wtxid())).collect())
}

/// The transactions announced in these messages.
fn announced(messages: &[Message]) -> Vec<[u8; 32]> {
    messages
        .iter()
        .filter_map(|message| match message {
            Message::Inv(items) => Some(items),
            _ => None,
        })
        .flatten()
        .filter(|item| item.is_transaction())
        .map(|item| item.hash)
        .collect()
}

/// The transactions asked for in these messages.
fn requested(messages: &[Message]) -> Vec<Inventory> {
    messages
        .iter()
        .filter_map(|message| match message {
            Message::GetData(items) => Some(items.clone()),
            _ => None,
        })
        .flatten()
        .filter(Inventory::is_transaction)
        .collect()
}

#[test]
fn a_transaction_goes_from_peer_to_peer_by_wtxid() {
    let mut node = Node::synced(1, 2);
    let (from, to) = (node.connect(ConnectionKind::OutboundFullRelay), node.connect(ConnectionKind::Inbound));
    let payment = tx(&[coin(1)], 1);
    node.say(from, inv(&[&payment]));
    assert_eq!(requested(&node.heard(from)), [Inventory::wtx(payment.compute_wtxid())]);
    node.say(from, Message::Tx(Arc::clone(&payment)));
    assert_eq!(node.pool.len(), 1);
    assert_eq!(node.stats(from).last_transaction, node.now().unix());
    let id = payment.compute_txid();
    assert!(node.logged(&format!(
        "AcceptToMemoryPool: peer=0: accepted {id} (wtxid={}) (poolsz 1 txn, 0 kB)",
        payment.compute_wtxid()
    )));
    node.wait_seconds(60);
    assert_eq!(announced(&node.heard(to)), [payment.compute_wtxid().to_byte_array()]);
    assert!(announced(&node.heard(from)).is_empty(), "never back to where it came from");
}

#[test]
fn a_peer_without_wtxid_relay_is_told_txids() {
    let mut node = Node::synced(1, 2);
    let peer = node.open(ConnectionKind::Inbound);
    let mut old = version(full_node());
    old.version = 70_015;
    node.say(peer, Message::Version(old));
    node.say(peer, Message::Verack);
    node.heard(peer);
    let payment = tx(&[coin(1)], 1);
    node.submit_local(&payment);
    node.wait_seconds(60);
    assert_eq!(announced(&node.heard(peer)), [payment.compute_txid().to_byte_array()]);
    // Its announcements by wtxid are not heard, those by txid are.
    let other = tx(&[coin(2)], 2);
    node.say(peer, inv(&[&other]));
    node.wait_seconds(5);
    assert!(requested(&node.heard(peer)).is_empty());
    node.say(peer, Message::Inv(vec![Inventory::tx(other.compute_txid())]));
    node.wait_seconds(5);
    assert_eq!(requested(&node.heard(peer)), [Inventory::witness_tx(other.compute_txid())]);
}

#[test]
fn requests_wait_two_seconds_for_peers_we_did_not_choose() {
    let mut node = Node::synced(1, 2);
    let inbound = node.connect(ConnectionKind::Inbound);
    let payment = tx(&[coin(1)], 1);
    node.say(inbound, inv(&[&payment]));
    node.wait(Duration::from_millis(1_999));
    assert!(requested(&node.heard(inbound)).is_empty());
    node.wait(Duration::from_millis(1));
    assert_eq!(requested(&node.heard(inbound)).len(), 1);
    // By txid two more, while somebody relays by wtxid.
    let old = node.open(ConnectionKind::Inbound);
    node.say(old, Message::Version(version(full_node())));
    node.say(old, Message::Verack);
    let other = tx(&[coin(2)], 2);
    node.say(old, Message::Inv(vec![Inventory::tx(other.compute_txid())]));
    node.wait(Duration::from_millis(3_999));
    assert!(requested(&node.heard(old)).is_empty());
    node.wait(Duration::from_millis(1));
    assert_eq!(requested(&node.heard(old)).len(), 1);
}

/// CVE-2024-52913: a peer that announces first and does not deliver delays a transaction by 60
/// seconds, and by 2 more if the next peer is not of our choosing.
#[test]
fn cve_2024_52913_a_silent_announcer_cannot_keep_a_transaction_away() {
    let mut node = Node::synced(1, 2);
    let attacker = node.connect(ConnectionKind::OutboundFullRelay);
    let honest = node.connect(ConnectionKind::Inbound);
    let payment = tx(&[coin(1)], 1);
    node.say(attacker, inv(&[&payment]));
    assert_eq!(requested(&node.heard(attacker)).len(), 1);
    // It goes on announcing all the time.
    let mut noise = 0u32;
    node.say(honest, inv(&[&payment]));
    let mut waited = 0;
    while requested(&node.heard(honest)).is_empty() {
        let junk = (0..100).map(|n| Inventory::wtx(Wtxid::from_byte_array([(noise + n) as u8; 32])));
        node.say(attacker, Message::Inv(junk.collect()));
        noise += 100;
        node.say(attacker, inv(&[&payment]));
        node.wait_seconds(1);
        waited += 1;
        assert!(waited <= 62, "still not asked");
    }
    node.say(honest, Message::Tx(payment));
    assert_eq!(node.pool.len(), 1);
    assert!(node.logged("timeout of inflight wtx"));
}

/// CVE-2018-17145 (InvDoS): what is remembered of a peer's announcements has an end.
#[test]
fn cve_2018_17145_announcements_of_a_peer_are_limited_to_5000() {
    let mut node = Node::synced(1, 2);
    let peer = node.connect(ConnectionKind::Inbound);
    let item = |n: u32| {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_le_bytes());
        hash[31] = 1;
        Inventory::wtx(Wtxid::from_byte_array(hash))
    };
    for batch in 0..4 {
        node.say(peer, Message::Inv((batch * 50_000..(batch + 1) * 50_000).map(item).collect()));
    }
    // All that were kept are asked for once they are due: 100 at once and more later.
    let mut asked = BTreeSet::new();
    for _ in 0..20 {
        node.wait_seconds(2);
        asked.extend(requested(&node.heard(peer)).into_iter().map(|item| item.hash));
    }
    assert_eq!(asked.len(), 5_000);
    node.say(peer, Message::Inv((0..50_001).map(item).collect()));
    assert!(node.logged("Misbehaving: peer=0: inv message size = 50001"));
}

#[test]
fn notfound_turns_to_the_next_peer() {
    let mut node = Node::synced(1, 2);
    let first = node.connect(ConnectionKind::OutboundFullRelay);
    let second = node.connect(ConnectionKind::OutboundFullRelay);
    let payment = tx(&[coin(1)], 1);
    for peer in [first, second] {
        node.say(peer, inv(&[&payment]));
    }
    let asked = requested(&node.heard(first));
    assert_eq!(asked.len(), 1);
    node.say(first, Message::NotFound(asked));
    node.wait(Duration::from_millis(100));
    assert_eq!(requested(&node.heard(second)).len(), 1);
}

#[test]
fn an_orphan_brings_its_parents_and_is_tried_again() {
    let mut node = Node::synced(1, 2);
    let peer = node.connect(ConnectionKind::OutboundFullRelay);
    let parent = tx(&[coin(1)], 1);
    let orphan = child(&parent, 0, 2);
    let grandchild = child(&orphan, 0, 3);
    for lost in [&grandchild, &orphan] {
        node.say(peer, Message::Tx(Arc::clone(lost)));
    }
    assert_eq!(node.sync.orphans().len(), 2);
    node.wait_seconds(2);
    let asked = requested(&node.heard(peer));
    assert_eq!(asked, [Inventory::witness_tx(parent.compute_txid())], "by txid, and only what is unknown");
    node.say(peer, Message::Tx(parent));
    node.wait(Duration::from_millis(100));
    assert_eq!(node.pool.len(), 3, "and so did its own child");
    assert!(node.sync.orphans().is_empty());
    assert!(node.logged("   accepted orphan tx"));
}

#[test]
fn a_refused_transaction_is_not_fetched_again_until_the_tip_changes() {
    let mut node = Node::synced(1, 2);
    let peer = node.connect(ConnectionKind::OutboundFullRelay);
    let bad = tx(&[coin(1)], 1);
    node.pool.refused.insert(bad.compute_wtxid(), TxClass::NotStandard);
    node.say(peer, Message::Tx(Arc::clone(&bad)));
    assert!(node.logged("was not accepted: refused"));
    node.heard(peer);
    node.say(peer, inv(&[&bad]));
    node.wait_seconds(10);
    assert!(requested(&node.heard(peer)).is_empty());
    node.say(peer, Message::Tx(Arc::clone(&bad)));
    assert_eq!(node.pool.checked, 1, "nor looked at again");
    // A child of it is not kept either, if it is refused whatever its witness.
    node.mine(1);
    node.say(peer, inv(&[&bad]));
    node.wait_seconds(1);
    assert_eq!(requested(&node.heard(peer)).len(), 1);
    assert!(node.is_connected(peer), "a bad transaction is no crime");
}

#[test]
fn a_parent_refused_for_its_fee_gets_in_with_its_child() {
    let mut node = Node::synced(1, 2);
    let peer = node.connect(ConnectionKind::OutboundFullRelay);
    let parent = tx(&[coin(1)], 1);
    let payer = child(&parent, 0, 2);
    node.pool.refused.insert(parent.compute_wtxid(), TxClass::Reconsiderable);
    node.say(peer, Message::Tx(Arc::clone(&payer)));
    node.say(peer, Message::Tx(Arc::clone(&parent)));
    assert_eq!(node.pool.len(), 2);
    assert!(node.logged("looking for child in orphanage"));
    assert!(node.logged("package accepted"));
    assert!(node.sync.orphans().is_empty());
}

#[test]
fn the_other_way_round_the_child_finds_the_refused_parent() {
    let mut node = Node::synced(1, 2);
    let peer = node.connect(ConnectionKind::OutboundFullRelay);
    let parent = tx(&[coin(1)], 1);
    let payer = child(&parent, 0, 2);
    node.pool.refused.insert(parent.compute_wtxid(), TxClass::Reconsiderable);
    node.say(peer, Message::Tx(Arc::clone(&parent)));
    assert_eq!(node.pool.len(), 0);
    node.say(peer, Message::Tx(Arc::clone(&payer)));
    node.wait_seconds(2);
    assert_eq!(requested(&node.heard(peer)), [Inventory::witness_tx(parent.compute_txid())]);
    node.say(peer, Message::Tx(parent));
    assert_eq!(node.pool.len(), 2);
}

#[test]
fn announcements_are_70_at_a_time_best_first_and_parents_before_children() {
    let mut node = Node::synced(1, 2);
    let peer = node.connect(ConnectionKind::Inbound);
    node.wait_seconds(60);
    node.heard(peer);
    let mut txs = Vec::new();
    for n in 0..100 {
        let payment = tx(&[coin(n)], n);
        node.pool.fees.insert(payment.compute_wtxid(), 1_000 + u64::from(n));
        txs.push(payment);
    }
    let poor_parent = tx(&[coin(200)], 200);
    let rich_child = child(&poor_parent, 0, 201);
    node.pool.fees.insert(poor_parent.compute_wtxid(), 10);
    node.pool.fees.insert(rich_child.compute_wtxid(), 1_000_000);
    txs.push(Arc::clone(&poor_parent));
    txs.push(Arc::clone(&rich_child));
    for payment in &txs {
        node.submit_local(payment);
    }
    let mut batches = Vec::new();
    for _ in 0..120 {
        node.wait_seconds(1);
        let batch = announced(&node.heard(peer));
        if !batch.is_empty() {
            batches.push(batch);
        }
    }
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [70, 32]);
    assert_eq!(batches[0][0], poor_parent.compute_wtxid().to_byte_array());
    assert_eq!(batches[0][1], rich_child.compute_wtxid().to_byte_array());
    assert_eq!(batches[0][2], txs[99].compute_wtxid().to_byte_array());
}

/// CVE-2024-55563 and the like: a flood does not keep our own transaction back.
#[test]
fn cve_2024_55563_our_own_transaction_is_announced_during_a_flood() {
    let mut node = Node::synced(1, 2);
    let attacker = node.connect(ConnectionKind::OutboundFullRelay);
    let peer = node.connect(ConnectionKind::OutboundFullRelay);
    let own = tx(&[coin(0)], 7);
    node.pool.fees.insert(own.compute_wtxid(), 5_000);
    let mut next = 1;
    for second in 0..20u32 {
        for _ in 0..14 {
            node.say(attacker, Message::Tx(tx(&[coin(next)], next)));
            next += 1;
        }
        if second == 5 {
            node.submit_local(&own);
        }
        node.wait_seconds(1);
    }
    let hash = own.compute_wtxid().to_byte_array();
    assert!(announced(&node.heard(peer)).contains(&hash));
}

#[test]
fn inbound_peers_of_one_group_are_told_together_and_outbound_ones_sooner() {
    let mut node = Node::synced(3, 2);
    let mut count = |kind| {
        let peer = node.connect(kind);
        node.wait_seconds(60);
        let mut told = 0;
        for n in 0..2_000u32 {
            let payment = tx(&[coin(100_000 + u32::try_from(peer.0).unwrap() * 10_000 + n)], n);
            node.submit_local(&payment);
            node.wait(Duration::from_millis(500));
            told += usize::from(!announced(&node.heard(peer)).is_empty());
        }
        told
    };
    // 1,000 seconds: about 500 announcements every two seconds, 200 every five.
    let outbound = count(ConnectionKind::OutboundFullRelay);
    let inbound = count(ConnectionKind::Inbound);
    assert!((330..480).contains(&outbound), "{outbound}");
    assert!((140..230).contains(&inbound), "{inbound}");
}

#[test]
fn a_fee_filter_is_kept_and_sent() {
    let mut node = Node::synced(1, 2);
    let peer = node.open(ConnectionKind::Inbound);
    node.say(peer, Message::Version(version(full_node())));
    node.say(peer, Message::WtxidRelay);
    node.say(peer, Message::Verack);
    let filters = |messages: &[Message]| {
        messages
            .iter()
            .filter_map(|message| match message {
                Message::FeeFilter(fee) => Some(*fee),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(filters(&node.heard(peer)), [100]);
    node.say(peer, Message::FeeFilter(20_000));
    assert!(node.logged("received: feefilter of 0.00020000 BTC/kvB from peer=0"));
    assert_eq!(node.stats(peer).min_fee_filter, 20_000);
    let (poor, rich) = (tx(&[coin(1)], 1), tx(&[coin(2)], 2));
    node.pool.fees.insert(rich.compute_wtxid(), 100_000);
    node.submit_local(&poor);
    node.submit_local(&rich);
    node.wait_seconds(60);
    assert_eq!(announced(&node.heard(peer)), [rich.compute_wtxid().to_byte_array()]);
    // Nonsense is not kept.
    node.say(peer, Message::FeeFilter(-1));
    node.say(peer, Message::FeeFilter(i64::MAX));
    assert_eq!(node.stats(peer).min_fee_filter, 20_000);
    // A strong change is told within five minutes.
    node.pool.min_fee = 5_000;
    let mut told = None;
    for second in 0..301 {
        node.wait_seconds(1);
        if let Some(fee) = filters(&node.heard(peer)).first() {
            told = Some((second, *fee));
            break;
        }
    }
    let (_, fee) = told.expect("within five minutes");
    assert!((4_500..5_500).contains(&fee), "{fee}");
}

#[test]
fn during_the_initial_download_nobody_shall_send_transactions() {
    let mut node = Node::new(1);
    let peer = node.open(ConnectionKind::OutboundFullRelay);
    node.say(peer, Message::Version(version(full_node())));
    node.say(peer, Message::WtxidRelay);
    node.say(peer, Message::Verack);
    let filter = node.heard(peer).into_iter().find_map(|message| match message {
        Message::FeeFilter(fee) => Some(fee),
        _ => None,
    });
    assert_eq!(filter, Some(9_936_506), "the highest step below 0.1 BTC");
    node.say(peer, inv(&[&tx(&[coin(1)], 1)]));
    node.say(peer, Message::Tx(tx(&[coin(1)], 1)));
    node.wait_seconds(5);
    assert!(requested(&node.heard(peer)).is_empty());
    assert_eq!((node.pool.checked, node.is_connected(peer)), (0, true));
}

#[test]
fn transactions_where_none_are_wanted_end_the_connection() {
    let payment = tx(&[coin(1)], 1);
    let mut node = Node::with(1, |config| config.ignore_incoming_txs = true);
    node.tree.initial_download = false;
    let peer = node.connect(ConnectionKind::Inbound);
    node.say(peer, inv(&[&payment]));
    assert!(node.logged("inv sent in violation of protocol, disconnecting peer=0"));
    let peer = node.connect(ConnectionKind::Inbound);
    node.say(peer, Message::Tx(Arc::clone(&payment)));
    assert!(node.logged("transaction sent in violation of protocol, disconnecting peer=1"));
    let friend = node.connect_as(ConnectionKind::Inbound, Permissions { relay: true, ..Default::default() });
    node.say(friend, Message::Tx(Arc::clone(&payment)));
    assert_eq!((node.pool.len(), node.is_connected(friend)), (1, true));
    let mut node = Node::synced(1, 1);
    let peer = node.connect(ConnectionKind::BlockRelayOnly);
    node.say(peer, inv(&[&payment]));
    assert!(!node.is_connected(peer));
}

#[test]
fn a_trusted_peer_gets_the_whole_mempool() {
    let mut node = Node::synced(1, 2);
    let permissions = Permissions { mempool: true, ..Default::default() };
    for n in 0..5 {
        node.submit_local(&tx(&[coin(n)], n));
    }
    let peer = node.connect_as(ConnectionKind::Inbound, permissions);
    node.wait_seconds(60);
    assert!(announced(&node.heard(peer)).is_empty(), "what came before it is not announced");
    node.say(peer, Message::Mempool);
    node.wait_seconds(60);
    assert_eq!(announced(&node.heard(peer)).len(), 5);
}

#[test]
fn a_force_relay_peer_can_announce_again() {
    let mut node = Node::synced(1, 2);
    let gateway =
        node.connect_as(ConnectionKind::Inbound, Permissions { force_relay: true, ..Default::default() });
    let known = tx(&[coin(1)], 1);
    node.submit_local(&known);
    let late = node.connect(ConnectionKind::Inbound);
    node.wait_seconds(60);
    node.heard(late);
    node.say(gateway, Message::Tx(Arc::clone(&known)));
    assert!(node.logged("Force relaying tx"));
    node.wait_seconds(60);
    assert_eq!(announced(&node.heard(late)).len(), 1);
}

/// CVE-2024-52914: one parent with many orphans: each is tried in its turn, one at a time.
#[test]
fn cve_2024_52914_orphans_are_tried_one_at_a_time() {
    let mut node = Node::synced(1, 2);
    let peers: Vec<PeerId> = (0..2).map(|_| node.connect(ConnectionKind::OutboundFullRelay)).collect();
    let parent = tx(&[coin(1)], 1);
    let mut orphans = Vec::new();
    for n in 0..100 {
        let orphan = tx(
            &[
                bitcoin::OutPoint { txid: parent.compute_txid(), vout: n % 2 },
                bitcoin::OutPoint { txid: bitcoin::Txid::from_byte_array([9; 32]), vout: n },
            ],
            n,
        );
        node.say(peers[0], Message::Tx(Arc::clone(&orphan)));
        orphans.push(orphan);
    }
    let before = node.pool.checked;
    // Nothing of this is answered here: count what is asked of the mempool by one event.
    let now = node.now();
    let actions = node.sync.handle(
        now,
        ironpeer_sync::Event::TxDone {
            peer: peers[0],
            tx: Arc::clone(&parent),
            result: Ok(Default::default()),
        },
        &node.tree,
        &node.pool,
    );
    let submitted =
        actions.iter().filter(|action| matches!(action, ironpeer_sync::Action::SubmitTx { .. })).count();
    assert_eq!(submitted, 1);
    assert_eq!(node.pool.checked, before);
    // Another peer's ping is answered meanwhile.
    node.say(peers[1], Message::Ping(5));
    assert!(node.heard(peers[1]).contains(&Message::Pong(Some(5))));
}

#[test]
fn a_clock_that_is_set_forward_counts_for_every_peer_at_once() {
    let mut node = Node::synced(1, 2);
    let (told, speaker) = (node.connect(ConnectionKind::Inbound), node.connect(ConnectionKind::Inbound));
    node.wait_seconds(1);
    node.submit_local(&tx(&[coin(1)], 1));
    // No tick, only a word from somebody else.
    node.micros += 60 * 1_000_000;
    node.say(speaker, Message::Ping(1));
    assert_eq!(announced(&node.heard(told)).len(), 1);
}
