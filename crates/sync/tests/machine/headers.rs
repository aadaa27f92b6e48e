use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Work};
use ironpeer_primitives::{ChainRead, Height};
use ironpeer_sync::{ConnectionKind, Permissions};
use ironpeer_wire::{DecodeError, Inventory, Locator, Malformed, Message};

use crate::model::{mine_chain, params};
use crate::node::{Node, headers_of};

/// A node whose clock stands well after a chain of `length` blocks it does not have.
fn behind(length: u32) -> (Node, Vec<Header>) {
    let mut node = Node::new(1);
    let genesis = node.tree.params.genesis.header;
    let headers = headers_of(&mine_chain(&node.tree.params, &genesis, 0, length, 1));
    node.micros += i64::from(length) * 600 * 1_000_000;
    (node, headers)
}

fn getheaders(messages: &[Message]) -> Option<bitcoin::BlockHash> {
    messages.iter().find_map(|message| match message {
        Message::GetHeaders(locator) => locator.hashes.first().copied(),
        _ => None,
    })
}

#[test]
fn headers_come_in_full_messages_until_a_short_one() {
    let (mut node, headers) = behind(4_100);
    let peer = node.open(ConnectionKind::OutboundFullRelay);
    node.say(peer, Message::Version(crate::node::version(crate::node::full_node())));
    node.say(peer, Message::Verack);
    assert_eq!(getheaders(&node.heard(peer)), Some(node.tree.params.genesis_hash));
    for batch in headers.chunks(2_000) {
        node.say(peer, Message::Headers(batch.to_vec()));
        let expected = (batch.len() == 2_000).then(|| batch.last().unwrap().block_hash());
        assert_eq!(getheaders(&node.heard(peer)), expected);
    }
    assert_eq!(node.tree.best_header().height, Height(4_100));
    assert_eq!(node.stats(peer).synced_headers, 4_100);
    assert!(node.logged("Protecting outbound peer=0 from eviction"));
}

#[test]
fn one_peer_is_asked_at_first_and_all_near_today() {
    let (mut node, _) = behind(2_000);
    let first = node.open(ConnectionKind::OutboundFullRelay);
    let second = node.open(ConnectionKind::OutboundFullRelay);
    for peer in [first, second] {
        node.say(peer, Message::Version(crate::node::version(crate::node::full_node())));
        node.say(peer, Message::Verack);
    }
    assert!(getheaders(&node.heard(first)).is_some());
    assert_eq!(getheaders(&node.heard(second)), None);
    // A new block may be asked of one more.
    let inv = Message::Inv(vec![Inventory::block(bitcoin::BlockHash::from_byte_array([7; 32]))]);
    node.say(second, inv.clone());
    assert!(getheaders(&node.heard(second)).is_some());
    let third = node.connect(ConnectionKind::OutboundFullRelay);
    node.say(third, inv);
    assert_eq!(getheaders(&node.heard(third)), None, "the same block turns to nobody else");
    // Close to today everybody is asked.
    let mut node = Node::synced(1, 10);
    for _ in 0..3 {
        let peer = node.open(ConnectionKind::Inbound);
        node.say(peer, Message::Version(crate::node::version(crate::node::full_node())));
        node.say(peer, Message::Verack);
        let one_back = node.tree.active_at(Height(9)).unwrap().hash;
        assert_eq!(getheaders(&node.heard(peer)), Some(one_back), "so that the answer is not empty");
    }
}

#[test]
fn headers_that_do_not_connect_are_asked_about_once_in_two_minutes() {
    let mut node = Node::synced(1, 3);
    let tip = node.tree.tip();
    let unknown = mine_chain(&node.tree.params, &tip.header, 3, 5, 9);
    let peer = node.connect(ConnectionKind::Inbound);
    node.say(peer, Message::Headers(vec![]));
    node.heard(peer);
    node.say(peer, Message::Headers(headers_of(&unknown[4..])));
    assert_eq!(getheaders(&node.heard(peer)), Some(tip.hash));
    assert!(node.logged("missing prev block"));
    node.say(peer, Message::Headers(headers_of(&unknown[3..])));
    assert_eq!(getheaders(&node.heard(peer)), None);
    node.wait_seconds(121);
    node.heard(peer);
    node.say(peer, Message::Headers(headers_of(&unknown[3..])));
    assert_eq!(getheaders(&node.heard(peer)), Some(tip.hash));
    // Once they connect, the peer counts as having them all.
    node.say(peer, Message::Headers(headers_of(&unknown)));
    assert_eq!(node.stats(peer).synced_headers, 8);
    assert!(node.is_connected(peer));
}

#[test]
fn bad_headers_are_misbehaviour() {
    let (node, headers) = behind(3);
    drop(node);
    let bad_proof = {
        let mut header = headers[0];
        while ironpeer_consensus::check_header(&header, &params()).is_ok() {
            header.nonce += 1;
        }
        vec![header]
    };
    let too_many = Malformed {
        command: Message::Headers(vec![]).command(),
        payload: vec![],
        error: DecodeError::TooManyHeaders(2_001),
    };
    let mut bad_bits = headers[0];
    bad_bits.bits = bitcoin::CompactTarget::from_consensus(0x207f_fffe);
    while ironpeer_consensus::check_header(&bad_bits, &params()).is_err() {
        bad_bits.nonce += 1;
    }
    for (message, line) in [
        (Message::Headers(bad_proof), "header with invalid proof of work"),
        (Message::Headers(vec![headers[0], headers[2]]), "non-continuous headers sequence"),
        (Message::Malformed(too_many), "headers message size = 2001"),
        (Message::Headers(vec![bad_bits]), "invalid header received"),
    ] {
        let (mut node, _) = behind(3);
        let peer = node.connect(ConnectionKind::Inbound);
        node.say(peer, message);
        assert!(node.logged(&format!("Misbehaving: peer=0: {line}")), "{line}: {:?}", node.log);
        assert_eq!(node.discouraged, [peer]);
    }
}

#[test]
fn a_header_from_the_future_is_refused_without_blame() {
    let (mut node, headers) = behind(3);
    node.micros = (i64::from(headers[0].time) - 2 * 60 * 60 - 1) * 1_000_000;
    let peer = node.connect(ConnectionKind::Inbound);
    node.say(peer, Message::Headers(vec![headers[0]]));
    assert!(node.is_connected(peer));
    assert!(node.logged("peer=0: invalid header received"));
    assert_eq!(node.tree.best_header().height, Height(0));
}

/// CVE-2019-25220, the short form: headers of a chain without enough work are not kept.
#[test]
fn headers_of_a_low_work_chain_are_not_kept() {
    let (mut node, headers) = behind(50);
    let all = headers.iter().fold(node.tree.tip().chainwork, |sum: Work, header| sum + header.work());
    node.tree.minimum_chainwork = all + all;
    let peer = node.connect(ConnectionKind::Inbound);
    node.say(peer, Message::Headers(headers.clone()));
    assert_eq!(node.tree.best_header().height, Height(0));
    assert!(node.logged("Ignoring low-work chain (height=50) from peer=0"));
    // Somebody trusted is believed.
    let trusted =
        node.connect_as(ConnectionKind::Inbound, Permissions { no_ban: true, ..Default::default() });
    node.say(trusted, Message::Headers(headers.clone()));
    assert_eq!(node.tree.best_header().height, Height(50));
    // An outbound peer that has nothing better is of no help.
    let ours = node.connect(ConnectionKind::OutboundFullRelay);
    node.say(ours, Message::Headers(headers));
    assert!(node.logged("outbound peer headers chain has insufficient work, disconnecting peer=2"));
    assert!(!node.is_connected(ours));
}

/// CVE-2024-52916: a long chain of easy headers is counted and fetched twice before it is kept.
#[test]
fn cve_2024_52916_a_full_message_of_low_work_starts_the_two_phase_sync() {
    let (mut node, headers) = behind(6_000);
    let enough =
        headers[..5_000].iter().fold(node.tree.tip().chainwork, |sum: Work, header| sum + header.work());
    node.tree.minimum_chainwork = enough;
    let peer = node.connect(ConnectionKind::OutboundFullRelay);
    for batch in headers.chunks(2_000) {
        node.say(peer, Message::Headers(batch.to_vec()));
        assert_eq!(node.tree.best_header().height, Height(0), "nothing is kept in the first phase");
        let next = if node.stats(peer).presynced_headers == -1 {
            node.tree.params.genesis_hash
        } else {
            batch.last().unwrap().block_hash()
        };
        assert_eq!(getheaders(&node.heard(peer)), Some(next));
    }
    for batch in headers.chunks(2_000) {
        node.say(peer, Message::Headers(batch.to_vec()));
    }
    assert_eq!(node.tree.best_header().height, Height(6_000));
    assert!(node.is_connected(peer));
}

#[test]
fn a_slow_header_peer_is_left_for_another() {
    let (mut node, _) = behind(30_000);
    let slow = node.connect(ConnectionKind::OutboundFullRelay);
    let limit = 15 * 60 + 30;
    node.wait_seconds(limit + 10);
    assert!(node.is_connected(slow), "there is no other");
    let other = node.connect(ConnectionKind::OutboundFullRelay);
    node.wait_seconds(1);
    assert!(node.logged("Timeout downloading headers, disconnecting peer=0"));
    assert!(!node.is_connected(slow));
    node.wait_seconds(1);
    assert!(getheaders(&node.heard(other)).is_some());
}

#[test]
fn an_outbound_peer_on_an_old_chain_is_dropped_after_a_last_question() {
    let mut node = Node::synced(1, 10);
    let early = headers_of(&[node.tree.block(&node.tree.active_at(Height(3)).unwrap().hash).unwrap()]);
    let peer = node.connect(ConnectionKind::BlockRelayOnly);
    node.say(peer, Message::Headers(early));
    node.wait_seconds(20 * 60);
    node.heard(peer);
    node.wait_seconds(1);
    assert!(getheaders(&node.heard(peer)).is_some(), "asked once more");
    assert!(node.logged("to verify chain work"));
    node.wait_seconds(120);
    assert!(node.is_connected(peer));
    node.wait_seconds(1);
    assert!(node.logged("Outbound peer has old chain, best known block = "));
    assert!(!node.is_connected(peer));
}

#[test]
fn nothing_is_taken_from_peers_while_blocks_are_imported() {
    let (mut node, headers) = behind(3);
    let peer = node.connect(ConnectionKind::Inbound);
    node.sync.set_importing(true);
    node.say(peer, Message::Headers(headers));
    assert!(node.logged("Unexpected headers message received from peer 0"));
    let genesis = node.tree.params.genesis.clone();
    node.say(peer, Message::Block(Arc::new(genesis)));
    assert!(node.logged("Unexpected block message received from peer 0"));
    assert_eq!(node.tree.best_header().height, Height(0));
}

/// A node that asks before our import ends is not left without an answer.
#[test]
fn requests_for_headers_are_answered_once_blocks_are_imported() {
    let (mut node, _) = behind(3);
    let genesis = node.tree.params.genesis.block_hash();
    node.sync.set_importing(true);
    let peer = node.connect(ConnectionKind::Inbound);
    node.say(peer, Message::GetHeaders(Locator { hashes: vec![genesis], stop: BlockHash::all_zeros() }));
    assert!(node.logged("Ignoring getheaders from peer=0 while importing/reindexing"));
    node.wait_seconds(1);
    let headers =
        |heard: Vec<Message>| heard.into_iter().filter(|m| matches!(m, Message::Headers(_))).count();
    assert_eq!(headers(node.heard(peer)), 0);
    node.sync.set_importing(false);
    node.wait_seconds(1);
    assert_eq!(headers(node.heard(peer)), 1);
    node.wait_seconds(1);
    assert_eq!(headers(node.heard(peer)), 0, "once");
}

/// Headers asked for before an import would come when they are not looked at.
#[test]
fn no_headers_are_asked_for_before_blocks_are_imported() {
    let (mut node, _) = behind(3);
    node.sync.set_importing(true);
    let peer = node.connect(ConnectionKind::OutboundFullRelay);
    node.wait_seconds(1);
    assert!(getheaders(&node.heard(peer)).is_none());
    node.sync.set_importing(false);
    node.wait_seconds(1);
    assert!(getheaders(&node.heard(peer)).is_some());
}
