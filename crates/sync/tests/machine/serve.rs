use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use ironpeer_primitives::{ChainRead, Height};
use ironpeer_sync::{ConnectionKind, Event};
use ironpeer_wire::{BlockTxnRequest, InvType, Inventory, Locator, Message, SendCmpct};

use crate::model::{child, coin, mine_chain, tx};
use crate::node::{Node, headers_of};

fn from(hash: BlockHash) -> Locator {
    Locator { hashes: vec![hash], stop: BlockHash::all_zeros() }
}

#[test]
fn headers_are_served_after_the_locator() {
    let mut node = Node::synced(1, 10);
    let peer = node.connect(ConnectionKind::Inbound);
    let at = |node: &Node, height| node.tree.active_at(Height(height)).unwrap();
    node.say(peer, Message::GetHeaders(from(at(&node, 4).hash)));
    let Some(Message::Headers(headers)) = node.heard(peer).pop() else { panic!("no headers") };
    assert_eq!(headers.len(), 6);
    assert_eq!(headers[0], at(&node, 5).header);
    let stop = Locator { stop: at(&node, 6).hash, ..from(at(&node, 4).hash) };
    node.say(peer, Message::GetHeaders(stop));
    let Some(Message::Headers(headers)) = node.heard(peer).pop() else { panic!("no headers") };
    assert_eq!(headers.len(), 2);
    // Without a locator: this one and what follows it.
    node.say(peer, Message::GetHeaders(Locator { hashes: vec![], stop: at(&node, 7).hash }));
    let Some(Message::Headers(headers)) = node.heard(peer).pop() else { panic!("no headers") };
    assert_eq!(headers, [at(&node, 7).header]);
    node.say(peer, Message::GetHeaders(from(at(&node, 10).hash)));
    assert_eq!(node.heard(peer), [Message::Headers(vec![])]);
}

#[test]
fn a_locator_of_more_than_101_hashes_ends_the_connection() {
    for (name, message) in [("getheaders", 0), ("getblocks", 1)] {
        let mut node = Node::synced(1, 1);
        let peer = node.connect(ConnectionKind::Inbound);
        let locator = |n| Locator { hashes: vec![BlockHash::all_zeros(); n], stop: BlockHash::all_zeros() };
        let ask =
            |n| if message == 0 { Message::GetHeaders(locator(n)) } else { Message::GetBlocks(locator(n)) };
        node.say(peer, ask(101));
        assert!(node.is_connected(peer));
        node.say(peer, ask(102));
        assert!(node.logged(&format!("{name} locator size 102 > 101, disconnecting peer=0")));
        assert!(!node.is_connected(peer));
    }
}

#[test]
fn nothing_but_an_empty_answer_comes_from_a_chain_with_too_little_work() {
    let mut node = Node::synced(1, 3);
    node.tree.minimum_chainwork = node.tree.tip().chainwork + node.tree.tip().chainwork;
    let peer = node.connect(ConnectionKind::Inbound);
    let genesis = node.tree.params.genesis_hash;
    node.say(peer, Message::GetHeaders(from(genesis)));
    assert_eq!(node.heard(peer), [Message::Headers(vec![])]);
}

#[test]
fn getblocks_gives_500_and_goes_on_when_the_last_is_fetched() {
    let mut node = Node::synced(1, 700);
    let peer = node.connect(ConnectionKind::Inbound);
    node.say(peer, Message::GetBlocks(from(node.tree.params.genesis_hash)));
    let inv = |messages: Vec<Message>| {
        messages
            .into_iter()
            .find_map(|message| match message {
                Message::Inv(items) => Some(items),
                _ => None,
            })
            .unwrap()
    };
    let items = inv(node.heard(peer));
    assert_eq!(items.len(), 500);
    let last = node.tree.active_at(Height(500)).unwrap().hash;
    assert_eq!(items.last(), Some(&Inventory::block(last)));
    node.say(peer, Message::GetData(vec![Inventory::block(last)]));
    let answer = node.heard(peer);
    assert!(matches!(answer[0], Message::Block(_)), "first the block");
    assert_eq!(answer[1], Message::Inv(vec![Inventory::block(node.tree.tip().hash)]), "then the bait");
}

/// Known failure "Peer fingerprint" (p2p_fingerprint): old stale blocks are served to nobody.
#[test]
fn peer_fingerprint_old_stale_blocks_are_not_served() {
    let mut node = Node::synced(1, 10);
    let fork = node.tree.active_at(Height(8)).unwrap().header;
    let stale = mine_chain(&node.tree.params, &fork, 8, 2, 5);
    let peer = node.connect(ConnectionKind::Inbound);
    // Valid once: it was the tip of the active chain for a while.
    let longer = mine_chain(&node.tree.params, &fork, 8, 3, 5);
    node.micros += 3_600 * 1_000_000;
    let now = node.now().unix();
    for block in &longer {
        if let Some(event) = node.tree.accept_block(block.clone(), true, true, now).1 {
            node.tip_changed(event);
        }
    }
    assert_eq!(stale[0].block_hash(), longer[0].block_hash());
    let former = node.tree.header(&node.tree.block(&longer[0].block_hash()).unwrap().block_hash()).unwrap();
    assert!(former.active);
    node.heard(peer);
    // The chain it replaced is stale, recent and valid: served.
    let replaced = node.log.len();
    let old = mine_chain(&node.tree.params, &fork, 8, 1, 0)[0].block_hash();
    node.say(peer, Message::GetData(vec![Inventory::witness_block(old)]));
    assert!(matches!(node.heard(peer)[..], [Message::Block(_)]), "{:?}", &node.log[replaced..]);
    // A month later it is not, and neither is its header.
    node.mine(1);
    node.micros += 31 * 24 * 60 * 60 * 1_000_000;
    let tip = node.tree.tip();
    let mut late = mine_chain(&node.tree.params, &tip.header, tip.height.0, 1, 6);
    let block = std::sync::Arc::make_mut(&mut late[0]);
    block.header.time += 31 * 24 * 60 * 60;
    while ironpeer_consensus::check_header(&block.header, &node.tree.params).is_err() {
        block.header.nonce += 1;
    }
    let now = node.now().unix();
    let event = node.tree.accept_block(late[0].clone(), true, true, now).1.unwrap();
    node.tip_changed(event);
    node.heard(peer);
    node.say(peer, Message::GetData(vec![Inventory::witness_block(old)]));
    node.say(peer, Message::GetHeaders(Locator { hashes: vec![], stop: old }));
    let answer: Vec<String> = node.names(peer);
    assert!(!answer.iter().any(|name| name == "block" || name == "headers"), "{answer:?}");
    assert!(node.logged("ignoring request from peer=0 for old block that isn't in the main chain"));
    assert!(node.logged("ignoring request from peer=0 for old block header that isn't in the main chain"));
    // What is on the main chain is always served.
    let first = node.tree.active_at(Height(1)).unwrap().hash;
    node.say(peer, Message::GetData(vec![Inventory::block(first)]));
    assert!(node.names(peer).contains(&"block".to_owned()));
}

/// CVE-2024-52920: a getdata of unknown types does not spin, and what follows is answered.
#[test]
fn cve_2024_52920_unknown_types_cost_one_step() {
    let mut node = Node::synced(1, 2);
    let peer = node.connect(ConnectionKind::Inbound);
    let unknown = |n: u32| Inventory { kind: InvType(100 + n % 50), hash: [n as u8; 32] };
    let mut items: Vec<Inventory> = (0..49_999).map(unknown).collect();
    items.push(Inventory::witness_block(node.tree.tip().hash));
    node.say(peer, Message::GetData(items));
    assert_eq!(node.names(peer), ["block"]);
    let too_many: Vec<Inventory> = (0..50_001).map(unknown).collect();
    node.say(peer, Message::GetData(too_many));
    assert!(node.logged("Misbehaving: peer=0: getdata message size = 50001"));
}

#[test]
fn blocks_wait_while_the_send_queue_is_full() {
    let mut node = Node::synced(1, 20);
    let peer = node.connect(ConnectionKind::Inbound);
    node.event(Event::SendQueue { peer, paused: true });
    let items: Vec<Inventory> = (1..=20)
        .map(|height| Inventory::witness_block(node.tree.active_at(Height(height)).unwrap().hash))
        .collect();
    node.say(peer, Message::GetData(items));
    assert_eq!(node.names(peer), [""; 0]);
    node.event(Event::SendQueue { peer, paused: false });
    assert_eq!(node.names(peer), ["block"; 20]);
}

#[test]
fn a_transaction_is_served_only_after_it_could_have_been_announced() {
    let mut node = Node::synced(1, 2);
    let peer = node.connect(ConnectionKind::Inbound);
    let parent = tx(&[coin(1)], 1);
    let other = child(&parent, 0, 2);
    node.submit_local(&parent);
    node.say(peer, Message::GetData(vec![Inventory::wtx(parent.compute_wtxid())]));
    assert_eq!(node.heard(peer), [Message::NotFound(vec![Inventory::wtx(parent.compute_wtxid())])]);
    node.wait_seconds(60);
    assert!(node.names(peer).contains(&"inv".to_owned()));
    node.submit_local(&other);
    let ask = vec![
        Inventory::wtx(parent.compute_wtxid()),
        Inventory::wtx(other.compute_wtxid()),
        Inventory::tx(parent.compute_txid()),
    ];
    node.say(peer, Message::GetData(ask));
    let answer = node.heard(peer);
    let Message::Tx(with) = &answer[0] else { panic!("{answer:?}") };
    assert_eq!(**with, *parent);
    let Message::Tx(without) = &answer[1] else { panic!("{answer:?}") };
    assert!(without.input[0].witness.is_empty());
    assert_eq!(answer[2], Message::NotFound(vec![Inventory::wtx(other.compute_wtxid())]));
    // Mined, it is served from the last block.
    let tip = node.tree.tip();
    let block =
        crate::model::mine(&node.tree.params, &tip.header, tip.height.0 + 1, 3, std::slice::from_ref(&other));
    node.micros += 1_200 * 1_000_000;
    let now = node.now().unix();
    let event = node.tree.accept_block(std::sync::Arc::new(block), true, true, now).1.unwrap();
    node.tip_changed(event);
    node.heard(peer);
    node.say(peer, Message::GetData(vec![Inventory::wtx(other.compute_wtxid())]));
    assert_eq!(node.heard(peer), [Message::Tx(other)]);
}

#[test]
fn compact_blocks_are_served_to_those_who_ask() {
    let mut node = Node::synced(1, 30);
    let peer = node.connect(ConnectionKind::Inbound);
    let at = |node: &Node, height| node.tree.active_at(Height(height)).unwrap().hash;
    for (height, name) in [(30, "cmpctblock"), (25, "cmpctblock"), (24, "block")] {
        node.say(peer, Message::GetData(vec![Inventory::cmpct_block(at(&node, height))]));
        assert_eq!(node.names(peer), [name], "{height}");
    }
    let ask = |hash, indexes: &[u16]| {
        Message::GetBlockTxn(BlockTxnRequest { block_hash: hash, indexes: indexes.to_vec() })
    };
    node.say(peer, ask(at(&node, 20), &[0]));
    assert_eq!(node.names(peer), ["blocktxn"]);
    node.say(peer, ask(at(&node, 19), &[0]));
    assert_eq!(node.names(peer), ["block"], "an old one whole");
    node.say(peer, ask(at(&node, 30), &[1]));
    assert!(node.logged("Misbehaving: peer=0: getblocktxn with out-of-bounds tx indices"));
    assert!(!node.is_connected(peer));
    // Those who want them at once get the next block so.
    let peer = node.connect(ConnectionKind::Inbound);
    node.say(peer, Message::SendCmpct(SendCmpct { announce: 1, version: 2 }));
    node.say(peer, Message::GetHeaders(from(at(&node, 29))));
    node.heard(peer);
    node.mine(1);
    assert_eq!(node.names(peer), ["cmpctblock"]);
    node.unreadable = true;
    node.say(peer, Message::GetData(vec![Inventory::cmpct_block(at(&node, 28))]));
    assert!(node.logged("Cannot load block from disk, disconnecting peer=1"));
    assert!(!node.is_connected(peer));
}

#[test]
fn new_blocks_are_announced_as_the_peer_likes_them() {
    let mut node = Node::synced(1, 3);
    let by_inv = node.connect(ConnectionKind::Inbound);
    let by_headers = node.connect(ConnectionKind::Inbound);
    node.say(by_headers, Message::SendHeaders);
    for peer in [by_inv, by_headers] {
        node.say(peer, Message::GetHeaders(from(node.tree.params.genesis_hash)));
        node.heard(peer);
    }
    node.mine(1);
    let tip = node.tree.tip();
    assert_eq!(node.heard(by_inv), [Message::Inv(vec![Inventory::block(tip.hash)])]);
    assert_eq!(node.heard(by_headers), [Message::Headers(vec![tip.header])]);
    // What a peer announced itself is not announced to it.
    let next = mine_chain(&node.tree.params, &tip.header, tip.height.0, 1, 8);
    node.micros += 1_200 * 1_000_000;
    node.say(by_headers, Message::Headers(headers_of(&next)));
    node.say(by_headers, Message::Block(next[0].clone()));
    assert!(!node.names(by_headers).contains(&"headers".to_owned()));
    assert_eq!(node.heard(by_inv), [Message::Inv(vec![Inventory::block(next[0].block_hash())])]);
    // A peer that may not connect them gets an inv of the last.
    let stranger = node.connect(ConnectionKind::Inbound);
    node.say(stranger, Message::SendHeaders);
    node.mine(1);
    assert_eq!(node.heard(stranger), [Message::Inv(vec![Inventory::block(node.tree.tip().hash)])]);
}

#[test]
fn a_reorganisation_of_up_to_eight_blocks_is_announced_by_headers() {
    for (length, name) in [(8u32, "headers"), (9, "inv")] {
        let mut node = Node::synced(1, 3);
        let peer = node.connect(ConnectionKind::Inbound);
        node.say(peer, Message::SendHeaders);
        node.say(peer, Message::GetHeaders(from(node.tree.params.genesis_hash)));
        node.heard(peer);
        let fork = node.tree.active_at(Height(2)).unwrap().header;
        let branch = mine_chain(&node.tree.params, &fork, 2, length, 7);
        node.micros += i64::from(length) * 600 * 1_000_000;
        let now = node.now().unix();
        // The bodies come last first, so that it is one change of the tip.
        node.tree.accept_headers(&headers_of(&branch), now).unwrap();
        for block in branch.iter().rev() {
            if let Some(event) = node.tree.accept_block(block.clone(), true, true, now).1 {
                node.tip_changed(event);
            }
        }
        assert_eq!(node.tree.tip().hash, branch.last().unwrap().block_hash());
        let names: Vec<String> = node.names(peer).into_iter().filter(|name| name != "feefilter").collect();
        assert_eq!(names, [name], "{length}");
    }
}
