//! Light clients with bloom filters (BIP37), and the upload target.

use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::{BlockHash, Txid};
use ironpeer_primitives::{ChainRead, Height, PeerId};
use ironpeer_sync::{Action, ConnectionKind, FilterReply, Permissions, UploadLimits};
use ironpeer_wire::{BloomFilter, CFilterRange, InvType, Inventory, Message};

use crate::model::{coin, mine_at, tx};
use crate::node::{Node, full_node, version};

/// A node that serves filters, past the initial download.
fn serving() -> Node {
    let mut node = Node::with(1, |config| {
        config.services.add(ServiceFlags::BLOOM);
    });
    node.tree.initial_download = false;
    node.mine(2);
    node
}

/// A filter of one hash function: with all bits set everything matches, with none nothing.
fn filter(bits: u8) -> Message {
    Message::FilterLoad(BloomFilter { data: vec![bits; 10], hash_funcs: 1, tweak: 0, flags: 0 })
}

fn announced(node: &mut Node, peer: PeerId) -> usize {
    let count = |message: &Message| match message {
        Message::Inv(items) => items.iter().filter(|item| item.is_transaction()).count(),
        _ => 0,
    };
    node.heard(peer).iter().map(count).sum()
}

fn filtered(node: &Node) -> Message {
    Message::GetData(vec![Inventory {
        kind: InvType::FILTERED_BLOCK,
        ..Inventory::block(node.tree.tip().hash)
    }])
}

#[test]
fn only_what_matches_the_filter_is_announced() {
    let mut node = serving();
    let peer = node.open(ConnectionKind::Inbound);
    let mut quiet = version(full_node());
    quiet.relay = false;
    node.say(peer, Message::Version(quiet));
    node.say(peer, Message::Verack);
    node.wait_seconds(60);
    node.heard(peer);
    // A client that asked for silence hears nothing until it has set a filter.
    node.submit_local(&tx(&[coin(1)], 1));
    node.wait_seconds(60);
    assert_eq!((announced(&mut node, peer), node.stats(peer).relay_txs), (0, false));
    node.say(peer, filter(0));
    assert!(node.stats(peer).relay_txs && node.stats(peer).has_filter);
    node.submit_local(&tx(&[coin(2)], 2));
    node.wait_seconds(60);
    assert_eq!(announced(&mut node, peer), 0);
    let wanted = tx(&[coin(3)], 3);
    node.say(peer, Message::FilterAdd(wanted.compute_txid().to_byte_array().to_vec()));
    node.submit_local(&wanted);
    node.wait_seconds(60);
    assert_eq!(announced(&mut node, peer), 1);
    node.say(peer, Message::FilterClear);
    assert!(node.stats(peer).relay_txs && !node.stats(peer).has_filter);
    node.submit_local(&tx(&[coin(4)], 4));
    node.wait_seconds(60);
    assert_eq!(announced(&mut node, peer), 1);
    // All of the mempool, as far as it matches.
    node.say(peer, filter(0));
    node.say(peer, Message::Mempool);
    node.wait_seconds(60);
    assert_eq!(announced(&mut node, peer), 0);
    node.say(peer, filter(0xff));
    node.say(peer, Message::Mempool);
    node.wait_seconds(60);
    assert_eq!(announced(&mut node, peer), 4);
}

#[test]
fn a_filtered_block_is_its_matches_and_the_proof_of_them() {
    let mut node = serving();
    let peer = node.connect(ConnectionKind::Inbound);
    // Without a filter there is no answer.
    let ask = filtered(&node);
    node.say(peer, ask.clone());
    assert_eq!(node.names(peer), [""; 0]);
    node.say(peer, filter(0xff));
    node.say(peer, ask.clone());
    let heard = node.heard(peer);
    let [Message::MerkleBlock(reduced), Message::Tx(coinbase)] = heard.as_slice() else {
        panic!("{heard:?}")
    };
    let mut matches: Vec<Txid> = Vec::new();
    reduced.extract_matches(&mut matches, &mut Vec::new()).unwrap();
    assert_eq!(matches, [coinbase.compute_txid()]);
    assert!(coinbase.input[0].witness.is_empty());
    node.say(peer, filter(0));
    node.say(peer, ask);
    let heard = node.heard(peer);
    let [Message::MerkleBlock(reduced)] = heard.as_slice() else { panic!("{heard:?}") };
    let mut matches = Vec::new();
    reduced.extract_matches(&mut matches, &mut Vec::new()).unwrap();
    assert_eq!(matches, []);
}

#[test]
fn too_large_filters_and_elements_are_misbehaviour() {
    for (message, text) in [
        (
            Message::FilterLoad(BloomFilter { data: vec![0; 36_001], hash_funcs: 1, tweak: 0, flags: 0 }),
            "too-large bloom filter",
        ),
        (
            Message::FilterLoad(BloomFilter { data: vec![0], hash_funcs: 51, tweak: 0, flags: 0 }),
            "too-large bloom filter",
        ),
        (Message::FilterAdd(vec![0; 521]), "bad filteradd message"),
        (Message::FilterAdd(vec![0; 5]), "bad filteradd message"),
    ] {
        let mut node = serving();
        let peer = node.connect(ConnectionKind::Inbound);
        node.say(peer, message);
        assert!(node.logged(&format!("Misbehaving: peer=0: {text}")));
        assert!(!node.is_connected(peer));
    }
}

/// Old and filtered blocks, and the whole mempool, are no longer sent once the target is reached;
/// new blocks are.
#[test]
fn the_upload_target_spares_new_blocks() {
    const WEEK: u32 = 7 * 24 * 60 * 60;
    let mut node = serving();
    let old = node.tree.tip();
    let params = Arc::clone(&node.tree.params);
    let time = old.header.time + WEEK + 1;
    let recent = Arc::new(mine_at(&params, &old.header, old.height.0 + 1, 9, &[], time));
    node.micros = i64::from(time) * 1_000_000;
    let change = node.tree.accept_block(Arc::clone(&recent), true, true, i64::from(time)).1;
    node.tip_changed(change.unwrap());
    let ask = |hash| Message::GetData(vec![Inventory::witness_block(hash)]);
    let answered = |node: &mut Node, peer, message: Message| {
        node.say(peer, message);
        node.names(peer).iter().any(|name| name == "block")
    };
    let peer = node.connect(ConnectionKind::Inbound);
    assert!(answered(&mut node, peer, ask(old.hash)));
    node.sync.set_upload_limits(UploadLimits { reached: true, historical_reached: true });
    assert!(answered(&mut node, peer, ask(recent.block_hash())));
    let download = Permissions { download: true, ..Permissions::default() };
    let friend = node.connect_as(ConnectionKind::Inbound, download);
    node.say(friend, Message::Mempool);
    assert!(node.logged("mempool request with bandwidth limit reached, disconnecting peer=1"));
    let filtered = filtered(&node);
    node.say(peer, filtered);
    assert!(node.logged("historical block serving limit reached, disconnecting peer=0"));
}

/// BIP157, within Core's limits; the shell reads what is to be sent.
#[test]
fn filters_of_blocks_are_served_to_those_who_ask_for_no_more_than_they_may() {
    let mut node = Node::with(1, |config| {
        config.services.add(ServiceFlags::COMPACT_FILTERS);
    });
    node.tree.initial_download = false;
    node.mine(1_205);
    let tip = node.tree.tip().hash;
    let stop = |node: &Node, height| node.tree.active_at(Height(height)).unwrap().hash;
    let range = |start_height, stop_hash| CFilterRange { filter_type: 0, start_height, stop_hash };
    let peer = node.connect(ConnectionKind::Inbound);
    let (last, middle) = (stop(&node, 1_004), stop(&node, 1_104));
    for (message, reply, start, stop) in [
        (Message::GetCFilters(range(5, last)), FilterReply::Filters, 5, last),
        (Message::GetCFHeaders(range(0, tip)), FilterReply::Headers, 0, tip),
        (Message::GetCFCheckpt { filter_type: 0, stop_hash: middle }, FilterReply::Checkpoints, 0, middle),
    ] {
        node.other.clear();
        node.say(peer, message);
        let sent = node.other.iter().any(|action| {
            matches!(action, Action::SendFilters { peer: to, reply: kind, start: from, stop: to_block }
                if (*to, *kind, from.0, *to_block) == (peer, reply, start, stop))
        });
        assert!(sent, "{reply:?}: {:?}", node.other);
    }
    assert!(node.is_connected(peer));
    let unknown = BlockHash::from_byte_array([7; 32]);
    for (message, why) in [
        (
            Message::GetCFilters(CFilterRange { filter_type: 1, ..range(0, tip) }),
            "peer requested unsupported block filter type: 1".to_owned(),
        ),
        (Message::GetCFilters(range(0, unknown)), format!("peer requested invalid block hash: {unknown}")),
        (
            Message::GetCFilters(range(1_005, last)),
            "peer sent invalid getcfilters/getcfheaders with start height 1005 and stop height 1004".into(),
        ),
        (
            Message::GetCFilters(range(4, last)),
            "peer requested too many cfilters/cfheaders: 1001 / 1000".into(),
        ),
    ] {
        node.other.clear();
        let peer = node.connect(ConnectionKind::Inbound);
        node.say(peer, message);
        assert!(node.logged(&format!("{why}, disconnecting peer={peer}")), "{why}");
        assert!(!node.is_connected(peer));
        assert!(!node.other.iter().any(|action| matches!(action, Action::SendFilters { .. })));
    }
}
