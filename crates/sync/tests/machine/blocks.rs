use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{Block, BlockHash};
use ironpeer_primitives::{ChainRead, Height, PeerId};
use ironpeer_sync::{ConnectionKind, Event};
use ironpeer_wire::Message;

use crate::model::mine_chain;
use crate::node::{Node, headers_of};

/// A node with the headers of a chain of which it has no block.
fn with_headers(length: u32, peers: usize) -> (Node, Vec<Arc<Block>>, Vec<PeerId>) {
    let mut node = Node::new(1);
    let genesis = node.tree.params.genesis.header;
    let blocks = mine_chain(&node.tree.params, &genesis, 0, length, 1);
    node.micros += (i64::from(length) * 600 + 60 * 60) * 1_000_000;
    let ids: Vec<PeerId> = (0..peers).map(|_| node.connect(ConnectionKind::OutboundFullRelay)).collect();
    for id in &ids {
        for batch in headers_of(&blocks).chunks(2_000) {
            node.say(*id, Message::Headers(batch.to_vec()));
        }
    }
    (node, blocks, ids)
}

#[test]
fn sixteen_blocks_are_asked_of_each_peer_and_none_twice() {
    let (mut node, blocks, peers) = with_headers(100, 3);
    let mut asked = BTreeSet::new();
    for peer in &peers {
        let requested = Node::requested(&node.heard(*peer));
        assert_eq!(requested.len(), 16);
        assert!(requested.into_iter().all(|hash| asked.insert(hash)));
        assert_eq!(node.stats(*peer).inflight.len(), 16);
    }
    let first: BTreeSet<BlockHash> = blocks[..48].iter().map(|block| block.block_hash()).collect();
    assert_eq!(asked, first, "in order");
    // One in, one more asked of that peer.
    node.say(peers[0], Message::Block(Arc::clone(&blocks[0])));
    assert_eq!(Node::requested(&node.heard(peers[0])), [blocks[48].block_hash()]);
    assert_eq!(node.tree.tip().height, Height(1));
}

#[test]
fn all_blocks_arrive_over_several_peers() {
    let (mut node, blocks, peers) = with_headers(300, 4);
    let by_hash: std::collections::BTreeMap<_, _> =
        blocks.iter().map(|block| (block.block_hash(), Arc::clone(block))).collect();
    for _ in 0..1_000 {
        let Some((peer, message)) = node.sent.pop_front() else { break };
        for hash in Node::requested(&[message]) {
            node.say(peer, Message::Block(Arc::clone(&by_hash[&hash])));
        }
    }
    assert_eq!(node.tree.tip().height, Height(300));
    assert!(peers.iter().all(|peer| node.stats(*peer).inflight.is_empty()));
    assert!(peers.iter().all(|peer| node.stats(*peer).last_block > 0));
}

#[test]
fn a_peer_that_leaves_gives_its_blocks_to_others() {
    let (mut node, blocks, peers) = with_headers(40, 2);
    node.sent.clear();
    node.event(Event::Disconnected { peer: peers[0] });
    // The other one is busy; as it gets on it takes them over.
    for block in &blocks[16..32] {
        node.say(peers[1], Message::Block(Arc::clone(block)));
    }
    let asked: BTreeSet<BlockHash> = Node::requested(&node.heard(peers[1])).into_iter().collect();
    assert!(blocks[..16].iter().all(|block| asked.contains(&block.block_hash())));
}

/// Lets `busy` deliver all it is asked for until it is asked for no more.
fn deliver(node: &mut Node, peer: PeerId, blocks: &[Arc<Block>]) {
    loop {
        let requested = Node::requested(&node.heard(peer));
        if requested.is_empty() {
            return;
        }
        for hash in requested {
            let block = blocks.iter().find(|block| block.block_hash() == hash).unwrap();
            node.say(peer, Message::Block(Arc::clone(block)));
        }
    }
}

#[test]
fn a_peer_that_stalls_the_window_loses_its_blocks_after_two_seconds() {
    let (mut node, blocks, peers) = with_headers(1_100, 2);
    node.heard(peers[0]);
    deliver(&mut node, peers[1], &blocks);
    assert!(node.logged("Stall started peer=0"));
    let held: usize = 1_024 - 16;
    assert_eq!(node.stats(peers[1]).last_block, node.now().unix());
    assert!(node.tree.header(&blocks[held + 15].block_hash()).unwrap().has_data);
    assert!(!node.tree.header(&blocks[1_024].block_hash()).unwrap().has_data, "the window is 1,024 wide");
    node.wait_seconds(2);
    assert!(node.is_connected(peers[0]));
    node.wait(std::time::Duration::from_millis(1));
    assert!(node.logged("Peer is stalling block download, disconnecting peer=0"));
    assert!(node.logged("Increased stalling timeout temporarily to 4 seconds"));
    node.wait(std::time::Duration::from_millis(100));
    deliver(&mut node, peers[1], &blocks);
    assert_eq!(node.tree.tip().height, Height(1_100));
    assert!(node.logged("Decreased stalling timeout to 3 seconds"));
    assert!(node.logged("Decreased stalling timeout to 2 seconds"));
}

#[test]
fn the_stalling_time_doubles_up_to_64_seconds() {
    let (mut node, blocks, peers) = with_headers(1_100, 1);
    node.heard(peers[0]);
    let mut staller = peers[0];
    for seconds in [2, 4, 8, 16, 32, 64, 64] {
        let busy = node.connect(ConnectionKind::OutboundFullRelay);
        node.say(busy, Message::Headers(headers_of(&blocks[1_099..])));
        deliver(&mut node, busy, &blocks[16..].iter().chain(&blocks[..16]).cloned().collect::<Vec<_>>());
        node.wait_seconds(seconds);
        assert!(node.is_connected(staller), "{seconds}");
        node.wait(std::time::Duration::from_millis(1));
        assert!(!node.is_connected(staller), "{seconds}");
        // The blocks it held go to the other, which now holds them in turn.
        staller = busy;
        node.wait(std::time::Duration::from_millis(100));
        node.sent.clear();
    }
}

#[test]
fn a_block_that_does_not_come_ends_the_connection() {
    let (mut node, _, peers) = with_headers(40, 3);
    // Ten minutes, and five more for each other peer that is downloading.
    node.wait_seconds(20 * 60);
    assert!(peers.iter().all(|peer| node.is_connected(*peer)));
    node.wait_seconds(1);
    assert!(!node.is_connected(peers[0]));
    assert!(node.logged("Timeout downloading block "));
}

#[test]
fn an_announced_block_is_fetched_at_once_near_the_tip() {
    let mut node = Node::synced(1, 5);
    let peer = node.connect(ConnectionKind::Inbound);
    let next = mine_chain(&node.tree.params, &node.tree.tip().header, 5, 3, 4);
    node.micros += 1_800 * 1_000_000;
    node.say(peer, Message::Headers(headers_of(&next)));
    let requested = Node::requested(&node.heard(peer));
    assert_eq!(requested, next.iter().map(|block| block.block_hash()).collect::<Vec<_>>());
    assert!(node.logged(&format!("Saw new header hash={} height=8 peer=0", next[2].block_hash())));
    assert!(node.logged("via headers direct fetch"));
    for block in &next {
        node.say(peer, Message::Block(Arc::clone(block)));
    }
    assert_eq!(node.tree.tip().height, Height(8));
}

#[test]
fn a_limited_peer_is_asked_for_its_last_blocks_only() {
    let mut node = Node::new(1);
    node.tree.initial_download = false;
    let genesis = node.tree.params.genesis.header;
    let blocks = mine_chain(&node.tree.params, &genesis, 0, 400, 1);
    node.micros += 400 * 600 * 1_000_000;
    let peer = node.open(ConnectionKind::Inbound);
    let mut services = bitcoin::p2p::ServiceFlags::NETWORK_LIMITED;
    services.add(bitcoin::p2p::ServiceFlags::WITNESS);
    node.say(peer, Message::Version(crate::node::version(services)));
    node.say(peer, Message::Verack);
    node.say(peer, Message::Headers(headers_of(&blocks)));
    let requested = Node::requested(&node.heard(peer));
    assert_eq!(requested.first(), Some(&blocks[400 - 286].block_hash()));
}

#[test]
fn an_invalid_block_is_punished_by_what_it_condemns() {
    let mut node = Node::synced(1, 5);
    let peer = node.connect(ConnectionKind::Inbound);
    let bad = mine_chain(&node.tree.params, &node.tree.tip().header, 5, 2, 4);
    node.tree.bad.insert(bad[0].block_hash());
    node.micros += 1_200 * 1_000_000;
    node.say(peer, Message::Headers(headers_of(&bad[..1])));
    node.say(peer, Message::Block(Arc::clone(&bad[0])));
    assert_eq!(node.discouraged, [peer]);
    assert_eq!(node.tree.tip().height, Height(5));
    // Known to be invalid now: those who come to us are told nothing, those we chose are dropped.
    let inbound = node.connect(ConnectionKind::Inbound);
    node.say(inbound, Message::Headers(headers_of(&bad[..1])));
    assert!(node.is_connected(inbound));
    let outbound = node.connect(ConnectionKind::OutboundFullRelay);
    node.say(outbound, Message::Headers(headers_of(&bad[..1])));
    assert!(!node.is_connected(outbound));
    assert!(
        node.logged("was previously marked invalid (received from peer=2). If this happens with all peers")
    );
    // Whoever builds on it is dropped in any case.
    node.say(inbound, Message::Headers(headers_of(&bad[1..])));
    assert!(!node.is_connected(inbound));
}

#[test]
fn a_block_that_turns_out_invalid_later_is_blamed_on_who_sent_it() {
    let mut node = Node::synced(1, 5);
    let (sender, other) = (node.connect(ConnectionKind::Inbound), node.connect(ConnectionKind::Inbound));
    let blocks = mine_chain(&node.tree.params, &node.tree.tip().header, 5, 2, 4);
    node.micros += 1_200 * 1_000_000;
    node.say(sender, Message::Headers(headers_of(&blocks)));
    node.say(sender, Message::Block(Arc::clone(&blocks[1])));
    let reject =
        ironpeer_primitives::BlockReject::new(ironpeer_primitives::BlockClass::Consensus, "bad-cb-amount");
    node.say(other, Message::Block(Arc::clone(&blocks[1])));
    node.event(Event::BlockInvalid { hash: blocks[1].block_hash(), reject });
    assert_eq!(node.discouraged, [sender]);
}

#[test]
fn an_unasked_block_with_little_work_is_not_kept() {
    let mut node = Node::synced(1, 300);
    let peer = node.connect(ConnectionKind::Inbound);
    let old = mine_chain(&node.tree.params, &node.tree.params.genesis.header, 0, 1, 9);
    node.say(peer, Message::Block(Arc::clone(&old[0])));
    assert!(node.is_connected(peer), "no crime");
    assert!(node.tree.header(&old[0].block_hash()).is_none());
}

#[test]
fn an_unconnected_block_is_misbehaviour() {
    let mut node = Node::synced(1, 3);
    let peer = node.connect(ConnectionKind::Inbound);
    let ahead = mine_chain(&node.tree.params, &node.tree.tip().header, 3, 2, 9);
    node.say(peer, Message::Block(Arc::clone(&ahead[1])));
    assert_eq!(node.discouraged, [peer]);
    assert!(node.tree.header(&ahead[1].block_hash()).is_none());
}

#[test]
fn the_user_can_fetch_a_block_from_a_peer() {
    let (mut node, blocks, peers) = with_headers(40, 1);
    let info = node.tree.header(&blocks[39].block_hash()).unwrap();
    let actions = node.sync.fetch_block(node.now(), peers[0], &info).unwrap();
    assert!(actions.iter().any(|action| matches!(
        action,
        ironpeer_sync::Action::Send { message: Message::GetData(items), .. } if items[0].block_hash() == info.hash
    )));
    assert!(node.stats(peers[0]).inflight.contains(&40));
    let error = node.sync.fetch_block(node.now(), PeerId(99), &info).unwrap_err();
    assert_eq!(error.to_string(), "Peer does not exist");
}
