use ironpeer_sync::{Action, ConnectionKind, Permissions};
use ironpeer_wire::{Message, PeerAddress};

use crate::node::{Node, address};

fn addrs(message: &Message) -> &[PeerAddress] {
    match message {
        Message::Addr(addrs) | Message::AddrV2(addrs) => addrs,
        _ => &[],
    }
}

fn batch(node: &Node, from: u8, to: u8) -> Vec<PeerAddress> {
    (from..to).map(|n| address(n, node.now().unix())).collect()
}

#[test]
fn addresses_are_asked_for_once_and_only_by_those_who_came_to_us() {
    let mut node = Node::synced(1, 1);
    let inbound = node.connect(ConnectionKind::Inbound);
    node.say(inbound, Message::GetAddr);
    node.say(inbound, Message::GetAddr);
    let told: usize = node.heard(inbound).iter().map(|message| addrs(message).len()).sum();
    assert_eq!(told, 10);
    assert!(node.logged("Ignoring repeated \"getaddr\". peer=0"));
    let outbound = node.connect(ConnectionKind::OutboundFullRelay);
    node.say(outbound, Message::GetAddr);
    assert!(node.logged("Ignoring \"getaddr\" from outbound-full-relay connection. peer=1"));
}

/// CVE-2024-52919: a peer gives one address every ten seconds at most, a thousand after a rest.
#[test]
fn cve_2024_52919_addresses_are_limited_by_a_token_bucket() {
    let mut node = Node::patient(1);
    let peer = node.connect(ConnectionKind::Inbound);
    let twenty = batch(&node, 0, 20);
    node.say(peer, Message::AddrV2(twenty.clone()));
    assert_eq!((node.stats(peer).addr_processed, node.stats(peer).addr_rate_limited), (1, 19));
    assert!(node.logged("Received addr: 20 addresses (1 processed, 19 rate-limited) from peer=0"));
    node.wait_seconds(100);
    node.say(peer, Message::AddrV2(twenty.clone()));
    assert_eq!(node.stats(peer).addr_processed, 11);
    // The allowance does not grow without end.
    node.micros += 1_000_000 * 1_000_000;
    node.say(peer, Message::AddrV2((0..1_000u32).map(|n| address((n % 250) as u8, 1_400_000_000)).collect()));
    node.say(peer, Message::AddrV2(twenty.clone()));
    assert_eq!(node.stats(peer).addr_processed, 1_011);
    // What we asked for comes on top.
    let ours = node.connect(ConnectionKind::OutboundFullRelay);
    node.say(ours, Message::Addr((0..1_000u32).map(|n| address((n % 250) as u8, 1_400_000_000)).collect()));
    assert_eq!(node.stats(ours).addr_processed, 1_000);
    let trusted = node.connect_as(ConnectionKind::Inbound, Permissions { addr: true, ..Default::default() });
    node.say(trusted, Message::AddrV2(twenty));
    assert_eq!(node.stats(trusted).addr_processed, 20);
}

#[test]
fn more_than_a_thousand_addresses_are_misbehaviour() {
    let mut node = Node::synced(1, 1);
    let peer = node.connect(ConnectionKind::Inbound);
    node.say(peer, Message::Addr(vec![address(1, 1_400_000_000); 1_001]));
    assert!(node.logged("Misbehaving: peer=0: addr message size = 1001"));
    assert_eq!(node.discouraged, [peer]);
}

#[test]
fn a_fresh_address_is_passed_on_to_two_peers() {
    let mut node = Node::synced(1, 1);
    let from = node.connect(ConnectionKind::OutboundFullRelay);
    let others: Vec<_> = (0..6)
        .map(|_| {
            let peer = node.connect(ConnectionKind::Inbound);
            node.say(peer, Message::AddrV2(vec![]));
            peer
        })
        .collect();
    // Its answer to our getaddr is not gossip.
    node.say(from, Message::AddrV2(batch(&node, 50, 52)));
    node.say(from, Message::AddrV2(batch(&node, 1, 2)));
    assert!(matches!(node.other.last(), Some(Action::AddAddrs { .. })));
    node.wait_seconds(600);
    let told: Vec<usize> = others
        .iter()
        .map(|peer| node.heard(*peer).iter().map(|message| addrs(message).len()).sum())
        .collect();
    assert_eq!(told.iter().sum::<usize>(), 2, "{told:?}");
    assert!(node.heard(from).iter().all(|message| addrs(message).is_empty()));
    // An old one, and one in a large message, are not.
    let old = address(3, node.now().unix() - 601);
    node.say(from, Message::AddrV2(vec![old]));
    node.say(from, Message::AddrV2(batch(&node, 10, 21)));
    node.wait_seconds(600);
    let told: usize = others
        .iter()
        .map(|peer| node.heard(*peer).iter().map(|message| addrs(message).len()).sum::<usize>())
        .sum();
    assert_eq!(told, 0);
}

#[test]
fn block_relay_peers_are_left_out() {
    let mut node = Node::synced(1, 1);
    let peer = node.connect(ConnectionKind::BlockRelayOnly);
    node.say(peer, Message::Addr(batch(&node, 1, 3)));
    assert!(node.logged("ignoring addr message from block-relay-only peer=0"));
    assert!(!node.stats(peer).addr_relay_enabled);
}

#[test]
fn our_own_address_is_told_alone_and_again_after_a_day_or_so() {
    let mut node = Node::patient(1);
    let local = address(77, 0);
    node.sync.set_local_address(Some(local));
    let peer = node.open(ConnectionKind::Manual);
    node.say(peer, Message::Version(crate::node::version(crate::node::full_node())));
    node.say(peer, Message::Verack);
    let first = node.heard(peer);
    let told: Vec<_> = first.iter().flat_map(addrs).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].service, local.service);
    assert_eq!(i64::from(told[0].time), node.now().unix());
    let mut again = 0;
    for _ in 0..20 * 24 * 6 {
        node.wait_seconds(600);
        again += node.heard(peer).iter().map(|message| addrs(message).len()).sum::<usize>();
    }
    assert!((8..40).contains(&again), "{again} times in 20 days");
}

/// Among others it might fall to the limit of whoever asked.
#[test]
fn our_own_address_goes_before_those_that_are_asked_for() {
    let mut node = Node::patient(1);
    let local = address(77, 0);
    node.sync.set_local_address(Some(local));
    let peer = node.connect(ConnectionKind::Inbound);
    node.heard(peer);
    node.say(peer, Message::GetAddr);
    let heard = node.heard(peer);
    let told: Vec<_> = heard.iter().map(addrs).filter(|told| !told.is_empty()).collect();
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].len(), told[0][0].service), (1, local.service));
    assert!(told[1].len() > 1);
}

#[test]
fn a_connection_for_addresses_ends_when_they_came_or_in_five_minutes() {
    let mut node = Node::synced(1, 1);
    let peer = node.connect(ConnectionKind::AddrFetch);
    node.say(peer, Message::Addr(batch(&node, 1, 2)));
    assert!(node.is_connected(peer), "one is its own");
    node.say(peer, Message::Addr(batch(&node, 1, 30)));
    assert!(node.logged("addrfetch connection completed, disconnecting peer=0"));
    let slow = node.connect(ConnectionKind::AddrFetch);
    node.wait_seconds(300);
    assert!(node.is_connected(slow));
    node.wait_seconds(1);
    assert!(node.logged("addrfetch connection timeout, disconnecting peer=1"));
}
