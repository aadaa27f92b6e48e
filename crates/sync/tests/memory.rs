//! What peers can make the machine keep, in bytes. The allocator counts; logs are off, and what
//! the machine wants done is thrown away.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../wire/tests/allocations/mod.rs"]
mod allocations;
#[path = "machine/model.rs"]
mod model;
#[path = "machine/node.rs"]
mod node;

use std::sync::Arc;

use allocations::{HELD, Watching};
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid, Wtxid};
use ironpeer_primitives::{ChainRead, Height, PeerId, TxClass};
use ironpeer_sync::ConnectionKind;
use ironpeer_wire::{Inventory, Message};

use crate::model::{mine_chain, tx};
use crate::node::{Node, address, headers_of};

#[global_allocator]
static ALLOCATOR: Watching = Watching;

const KIB: isize = 1024;
const MIB: isize = 1024 * KIB;

fn quiet() -> Node {
    let mut node = Node::synced(1, 5);
    node.sync.set_debug(|_| false);
    node
}

/// Throws away what the test's node collects.
fn clear(node: &mut Node) {
    node.sent = Default::default();
    node.other = Vec::new();
    node.log = Vec::new();
    node.pool.refused.clear();
}

/// Bytes that `work` left behind.
fn growth(node: &mut Node, work: impl FnOnce(&mut Node)) -> isize {
    clear(node);
    let before = HELD.get();
    work(node);
    clear(node);
    HELD.get() - before
}

fn hash(n: u32) -> [u8; 32] {
    let mut hash = [0x5a; 32];
    hash[..4].copy_from_slice(&n.to_le_bytes());
    hash
}

/// A transaction of so many bytes whose coins nobody knows.
fn heavy(n: u32, bytes: usize) -> Arc<Transaction> {
    let unknown = OutPoint { txid: Txid::from_byte_array(hash(n)), vout: 0 };
    let mut heavy = (*tx(&[unknown], n)).clone();
    heavy.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x6a; bytes]);
    Arc::new(heavy)
}

/// LIMITS: an idle peer costs the node at most 150 KiB; the machine's part of it is small.
#[test]
fn an_idle_peer_takes_a_few_kibibytes() {
    let mut node = quiet();
    let grown = growth(&mut node, |node| {
        for _ in 0..1_000 {
            node.connect(ConnectionKind::Inbound);
        }
        for _ in 0..10 {
            node.wait_seconds(60);
            clear(node);
        }
    });
    assert!(grown / 1_000 <= 8 * KIB, "{} bytes a peer", grown / 1_000);
}

/// CVE-2018-17145: five peers announce half a million transactions that do not exist.
#[test]
fn cve_2018_17145_many_announcements_leave_a_bounded_rest() {
    let mut node = quiet();
    let peers: Vec<PeerId> = (0..5).map(|_| node.connect(ConnectionKind::Inbound)).collect();
    let mut next = 0;
    let mut flood = |node: &mut Node| {
        for peer in &peers {
            let items = (next..next + 50_000).map(|n| Inventory::wtx(Wtxid::from_byte_array(hash(n))));
            node.say(*peer, Message::Inv(items.collect()));
            next += 50_000;
        }
    };
    let first = growth(&mut node, &mut flood);
    let second = growth(&mut node, &mut flood);
    // 5,000 announcements, and a filter of what the peer knows.
    assert!(first <= 5 * 2 * MIB, "{first}");
    assert!(second <= 5 * MIB / 2, "{second}");
}

/// CVE-2013-4627: thirty megabytes of refused transactions leave nothing but their hashes.
#[test]
fn cve_2013_4627_refused_transactions_leave_their_hashes() {
    let mut node = quiet();
    let peer = node.connect(ConnectionKind::Inbound);
    let junk = |node: &mut Node, range: std::ops::Range<u32>| {
        for n in range {
            let junk = heavy(n, 100_000);
            node.pool.refused.insert(junk.compute_wtxid(), TxClass::NotStandard);
            node.say(peer, Message::Tx(junk));
            clear(node);
        }
    };
    // The first of them makes room for hashes.
    junk(&mut node, 0..10);
    let grown = growth(&mut node, |node| junk(node, 10..300));
    assert!(grown <= 64 * KIB, "{grown}");
}

/// Orphans: five peers send fifty megabytes of them.
#[test]
fn orphans_take_no_more_than_their_share() {
    let mut node = quiet();
    let peers: Vec<PeerId> = (0..5).map(|_| node.connect(ConnectionKind::Inbound)).collect();
    let grown = growth(&mut node, |node| {
        for n in 0..500u32 {
            node.say(peers[n as usize % 5], Message::Tx(heavy(n, 99_000)));
            clear(node);
        }
    });
    // 404,000 units of weight each are 101,000 bytes; the rest are requests for parents.
    assert!(!node.sync.orphans().is_empty());
    assert!(grown <= 5 * 101_000 + 2 * MIB, "{grown}");
    for peer in peers {
        node.event(ironpeer_sync::Event::Disconnected { peer });
    }
    assert!(node.sync.orphans().is_empty());
}

/// CVE-2024-52916, CVE-2019-25220: of a chain without work a bit every 275 headers is kept.
#[test]
fn cve_2024_52916_low_work_headers_leave_bits() {
    let mut node = Node::new(1);
    node.sync.set_debug(|_| false);
    let genesis = node.tree.params.genesis.header;
    let headers = headers_of(&mine_chain(&node.tree.params, &genesis, 0, 40_000, 1));
    node.micros += 40_000 * 600 * 1_000_000;
    node.tree.minimum_chainwork = genesis.work() + bitcoin::Work::from_be_bytes([0x7f; 32]);
    let peer = node.connect(ConnectionKind::OutboundFullRelay);
    let say = |node: &mut Node, part: &[bitcoin::block::Header]| {
        for batch in part.chunks(2_000) {
            node.say(peer, Message::Headers(batch.to_vec()));
        }
    };
    say(&mut node, &headers[..2_000]);
    let grown = growth(&mut node, |node| say(node, &headers[2_000..]));
    assert_eq!(node.stats(peer).presynced_headers, 40_000);
    assert_eq!(node.tree.best_header().height, Height(0));
    assert!(grown <= 4 * KIB, "{grown}");
}

/// Addresses: two hundred thousand from a peer that may send any number leave no more at others
/// than one message each.
#[test]
fn addresses_waiting_for_a_peer_are_a_message_at_most() {
    let mut node = quiet();
    let trusted = ironpeer_sync::Permissions { addr: true, ..Default::default() };
    let source = node.connect_as(ConnectionKind::Inbound, trusted);
    let others: Vec<PeerId> = (0..10).map(|_| node.connect(ConnectionKind::Inbound)).collect();
    for other in &others {
        node.say(*other, Message::GetAddr);
    }
    let mut next = 0u32;
    let mut flood = |node: &mut Node| {
        for _ in 0..10_000 {
            let now = node.now().unix();
            let mut told = vec![address(0, now); 10];
            for one in &mut told {
                next += 1;
                let [_, b, c, d] = next.to_be_bytes();
                one.service.address = ironpeer_wire::NetAddress::Ipv4([9, b, c, d].into());
            }
            node.say(source, Message::AddrV2(told));
            clear(node);
        }
    };
    let first = growth(&mut node, &mut flood);
    let second = growth(&mut node, &mut flood);
    assert!(first <= MIB, "{first}");
    assert!(second <= 64 * KIB, "{second}");
}
