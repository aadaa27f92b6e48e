//! Known failures of nodes like ours, named after their ids.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Wtxid};
use ironpeer_primitives::{ChainRead, Height};
use ironpeer_sync::ConnectionKind;
use ironpeer_wire::{BlockTxn, BlockTxnRequest, BloomFilter, Command, CompactBlock, Inventory, Message};

use crate::model::{coin, mine, mine_chain, tx};
use crate::node::{Node, full_node, headers_of, version};

/// CVE-2024-52915: one inv of 50,000 unknown blocks asks for headers once.
#[test]
fn cve_2024_52915_one_inv_makes_one_getheaders() {
    let mut node = Node::synced(1, 2);
    let peer = node.connect(ConnectionKind::Inbound);
    node.say(peer, Message::Headers(vec![]));
    node.heard(peer);
    let block = |n: u32| {
        let mut hash = [1; 32];
        hash[..4].copy_from_slice(&n.to_le_bytes());
        Inventory::block(BlockHash::from_byte_array(hash))
    };
    node.say(peer, Message::Inv((0..50_000).map(block).collect()));
    assert_eq!(node.names(peer), ["getheaders"]);
    node.say(peer, Message::Inv((0..50_000).map(block).collect()));
    assert_eq!(node.names(peer), [""; 0], "nor a second one soon");
}

/// CVE-2012-2459 and CVE-2024-52921: a mutated block from one peer neither condemns the block
/// nor takes it off those asked of another.
#[test]
fn cve_2024_52921_a_mutated_block_disturbs_no_other_peers_download() {
    let mut node = Node::synced(1, 5);
    let (honest, attacker) = (node.connect(ConnectionKind::Inbound), node.connect(ConnectionKind::Inbound));
    let tip = node.tree.tip();
    let txs = [tx(&[coin(1)], 1), tx(&[coin(2)], 2)];
    let block = Arc::new(mine(&node.tree.params, &tip.header, tip.height.0 + 1, 4, &txs));
    node.micros += 1_200 * 1_000_000;
    node.say(honest, Message::Headers(vec![block.header]));
    assert_eq!(Node::requested(&node.heard(honest)), [block.block_hash()]);
    // Same root: the last transaction stands twice.
    let mut mutated = (*block).clone();
    mutated.txdata.push(mutated.txdata[2].clone());
    assert_eq!(mutated.compute_merkle_root(), Some(mutated.header.merkle_root));
    node.say(attacker, Message::Block(Arc::new(mutated)));
    assert!(node.logged("Misbehaving: peer=1: mutated block"));
    assert_eq!(node.discouraged, [attacker]);
    assert_eq!(node.stats(honest).inflight, [6], "still asked of the other");
    node.say(honest, Message::Block(Arc::clone(&block)));
    assert_eq!(node.tree.tip().hash, block.block_hash());
    assert_eq!(node.discouraged, [attacker]);
}

/// GHSA-x93j, GHSA-qhr3: after a bad body for a good header the honest body is taken at once,
/// and who brings it is not blamed.
#[test]
fn ghsa_x93j_a_bad_body_poisons_nothing() {
    let mut node = Node::synced(1, 5);
    let (honest, attacker) = (node.connect(ConnectionKind::Inbound), node.connect(ConnectionKind::Inbound));
    let block = Arc::clone(&mine_chain(&node.tree.params, &node.tree.tip().header, 5, 1, 4)[0]);
    node.micros += 1_200 * 1_000_000;
    node.say(attacker, Message::Headers(vec![block.header]));
    let mut bad = (*block).clone();
    bad.txdata[0].output[0].value = bitcoin::Amount::from_sat(1);
    node.say(attacker, Message::Block(Arc::new(bad)));
    assert_eq!(node.discouraged, [attacker]);
    node.say(honest, Message::Headers(vec![block.header]));
    assert_eq!(Node::requested(&node.heard(honest)), [block.block_hash()]);
    node.say(honest, Message::Block(Arc::clone(&block)));
    assert_eq!(node.tree.tip().hash, block.block_hash());
    assert!(node.is_connected(honest));
}

/// CVE-2024-52912: times at the ends of the range change nothing and break nothing.
#[test]
fn cve_2024_52912_extreme_times_are_only_noted() {
    let mut node = Node::synced(1, 2);
    let times = [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX];
    for n in 0..200 {
        let kind = if n % 2 == 0 { ConnectionKind::OutboundFullRelay } else { ConnectionKind::Inbound };
        let peer = node.open(kind);
        let mut strange = version(full_node());
        strange.timestamp = times[n % times.len()];
        node.say(peer, Message::Version(strange));
        node.say(peer, Message::Verack);
        assert_eq!(node.stats(peer).time_offset, times[n % times.len()].max(0) - node.now().unix());
    }
    let before = node.tree.tip().height;
    node.mine(1);
    assert_eq!(node.tree.tip().height, before.next());
}

/// CVE-2012-4683, CVE-2012-4684: alerts and other unknown types leave nothing behind.
#[test]
fn cve_2012_4683_unknown_messages_are_dropped() {
    let mut node = Node::synced(1, 2);
    let peer = node.connect(ConnectionKind::Inbound);
    for n in 0..10_000u32 {
        let command = if n % 2 == 0 { "alert".to_owned() } else { format!("x{n}") };
        node.say(peer, Message::Unknown { command: Command::new(&command), payload: vec![0; 64] });
    }
    assert!(node.is_connected(peer));
    assert_eq!(node.names(peer), [""; 0]);
    assert!(node.logged("Unknown message type \"alert\" from peer=0"));
}

/// CVE-2013-5700: no bloom filter, of whatever size, is ever evaluated.
#[test]
fn cve_2013_5700_bloom_filters_of_any_size_are_refused() {
    for (size, hash_funcs) in [(0, 0), (0, 50), (1, 0), (36_000, 50), (36_001, 51)] {
        let mut node = Node::synced(1, 2);
        let peer = node.connect(ConnectionKind::Inbound);
        let filter = BloomFilter { data: vec![0xff; size], hash_funcs, tweak: u32::MAX, flags: 255 };
        node.say(peer, Message::FilterLoad(filter));
        assert!(node.logged("filterload received despite not offering bloom services"));
        assert!(!node.is_connected(peer));
    }
}

/// CVE-2013-4627: junk transactions are not kept in any form that grows.
#[test]
fn cve_2013_4627_refused_transactions_leave_no_trace() {
    let mut node = Node::synced(1, 2);
    let peer = node.connect(ConnectionKind::Inbound);
    for n in 0..2_000 {
        let junk = tx(&[coin(n)], n);
        node.pool.refused.insert(junk.compute_wtxid(), ironpeer_primitives::TxClass::NotStandard);
        node.say(peer, Message::Tx(junk));
    }
    assert_eq!(node.sync.orphans().len(), 0);
    assert_eq!(node.pool.len(), 0);
}

/// CVE-2023-33297: a huge set to announce is worked off in small parts. What is asked of the
/// mempool to order it is one look a waiting transaction.
#[test]
fn cve_2023_33297_a_large_backlog_is_announced_in_bounded_parts() {
    let mut node = Node::synced(1, 2);
    let peers: Vec<_> = (0..10).map(|_| node.connect(ConnectionKind::OutboundFullRelay)).collect();
    for n in 0..10_000 {
        node.submit_local(&tx(&[coin(n)], n));
    }
    node.wait_seconds(30);
    for peer in peers {
        let batch: usize = node
            .heard(peer)
            .iter()
            .map(|message| match message {
                Message::Inv(items) => items.len(),
                _ => 0,
            })
            .sum();
        // 70, and five more for each thousand that wait.
        assert_eq!(batch, 70 + 10 * 5);
    }
}

/// GHSA-4fc2, GHSA-m9xx: pushing blocks and transactions gives a peer no more than announcing
/// them would.
#[test]
fn ghsa_4fc2_pushed_transactions_are_looked_at_once() {
    let mut node = Node::synced(1, 2);
    let peer = node.connect(ConnectionKind::Inbound);
    let bad = tx(&[coin(1)], 1);
    node.pool.refused.insert(bad.compute_wtxid(), ironpeer_primitives::TxClass::NotStandard);
    for _ in 0..1_000 {
        node.say(peer, Message::Tx(Arc::clone(&bad)));
    }
    assert_eq!(node.pool.checked, 1);
}

/// Two runs from one seed do the same, message for message.
#[test]
fn a_run_is_repeated_by_its_seed() {
    let run = |seed| {
        let mut node = Node::synced(seed, 20);
        let peers: Vec<_> = (0..5).map(|_| node.connect(ConnectionKind::Inbound)).collect();
        for n in 0..50u32 {
            let peer = peers[n as usize % 5];
            node.say(peer, Message::Inv(vec![Inventory::wtx(Wtxid::from_byte_array([n as u8; 32]))]));
            node.submit_local(&tx(&[coin(n)], n));
            node.wait_seconds(1);
        }
        node.mine(2);
        (node.sent, node.log)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0);
}

/// CVE-2024-35202 and the like: nothing a peer says before or after the handshake, in any order
/// and twice, breaks the machine.
#[test]
fn cve_2024_35202_any_order_of_messages_is_survived() {
    let mut node = Node::synced(1, 5);
    let tip = node.tree.tip();
    let blocks = mine_chain(&node.tree.params, &tip.header, 5, 3, 4);
    let payment = tx(&[coin(1)], 1);
    let all = || {
        let hash = tip.hash;
        vec![
            Message::Version(version(full_node())),
            Message::Verack,
            Message::SendHeaders,
            Message::WtxidRelay,
            Message::GetAddr,
            Message::Ping(0),
            Message::Pong(None),
            Message::Headers(headers_of(&blocks)),
            Message::Block(Arc::clone(&blocks[2])),
            Message::Block(Arc::clone(&blocks[0])),
            Message::Block(Arc::clone(&blocks[1])),
            Message::Tx(Arc::clone(&payment)),
            Message::Inv(vec![Inventory::block(hash), Inventory::wtx(payment.compute_wtxid())]),
            Message::GetData(vec![Inventory::block(hash), Inventory::cmpct_block(hash)]),
            Message::NotFound(vec![Inventory::tx(payment.compute_txid())]),
            Message::CmpctBlock(CompactBlock::from_block(&blocks[1], 7)),
            Message::BlockTxn(BlockTxn { block_hash: blocks[1].block_hash(), txs: vec![] }),
            Message::GetBlockTxn(BlockTxnRequest { block_hash: hash, indexes: vec![0] }),
        ]
    };
    let count = all().len();
    for first in 0..count {
        for second in 0..count {
            let peer = node.open(ConnectionKind::Inbound);
            let messages = all();
            for pick in [first, second, 0, 1, second, first, second] {
                if node.is_connected(peer) {
                    node.say(peer, messages[pick].clone());
                }
            }
        }
        node.wait_seconds(90);
    }
    assert_eq!(node.tree.tip().height, Height(8));
    let left: BTreeSet<_> = node.disconnected.iter().collect();
    assert_eq!(left.len(), node.disconnected.len(), "nobody is disconnected twice");
}
