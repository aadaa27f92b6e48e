use bitcoin::p2p::ServiceFlags;
use ironpeer_sync::{Action, ConnectionKind, Event, Permissions};
use ironpeer_wire::{Command, Feature, Message, SendCmpct};

use crate::node::{Node, full_node, version};

#[test]
fn an_outbound_handshake_is_said_in_cores_order() {
    let mut node = Node::new(1);
    let peer = node.open(ConnectionKind::OutboundFullRelay);
    let ours = node.heard(peer);
    let [Message::Version(ours)] = &ours[..] else { panic!("{ours:?}") };
    assert_eq!((ours.version, ours.relay), (70_017, true));
    assert_eq!(ours.user_agent, b"/Ironpeer:0.1.0/");
    node.say(peer, Message::Version(version(full_node())));
    assert_eq!(node.names(peer), ["wtxidrelay", "sendaddrv2", "verack", "getaddr"]);
    assert!(node.other.iter().any(|action| matches!(action, Action::MarkGood { .. })));
    node.say(peer, Message::WtxidRelay);
    node.say(peer, Message::SendAddrV2);
    assert_eq!(node.names(peer), [""; 0]);
    node.say(peer, Message::Verack);
    assert_eq!(node.names(peer), ["sendcmpct", "ping", "getheaders", "feefilter"]);
    assert!(node.logged("New outbound-full-relay peer connected: transport: v1, version: 70016, peer=0"));
}

/// Known failure "Peer fingerprint/leak" (p2p_leak): nothing is said before the version, and nothing
/// but the handshake before the verack.
#[test]
fn peer_leak_nothing_is_answered_before_the_handshake() {
    let mut node = Node::synced(1, 3);
    let peer = node.open(ConnectionKind::Inbound);
    let early = [
        Message::Verack,
        Message::Ping(3),
        Message::GetAddr,
        Message::SendHeaders,
        Message::WtxidRelay,
        Message::Mempool,
        Message::Unknown { command: Command::new("nonsense"), payload: vec![] },
    ];
    for message in early.clone() {
        node.say(peer, message);
    }
    assert!(node.heard(peer).is_empty());
    assert!(node.logged("non-version message before version handshake. Message \"ping\" from peer=0"));
    node.say(peer, Message::Version(version(full_node())));
    assert_eq!(node.names(peer), ["version", "wtxidrelay", "sendaddrv2", "verack"]);
    for message in [Message::Ping(3), Message::GetAddr, Message::Mempool] {
        node.say(peer, message);
    }
    node.wait_seconds(30);
    assert!(node.heard(peer).is_empty());
    assert!(node.logged("Unsupported message \"getaddr\" prior to verack from peer=0"));
    assert!(node.is_connected(peer));
}

#[test]
fn an_older_peer_is_spoken_to_in_its_version() {
    let mut node = Node::new(1);
    let peer = node.open(ConnectionKind::Inbound);
    let mut old = version(full_node());
    old.version = 70_012;
    old.start_height = 9;
    assert_eq!(node.stats(peer).starting_height, -1);
    node.say(peer, Message::Version(old));
    assert_eq!(node.stats(peer).starting_height, 9);
    assert_eq!(node.names(peer), ["version", "verack", "alert"]);
    node.say(peer, Message::Verack);
    assert_eq!(node.names(peer), ["ping", "getheaders"]);
    let peer = node.open(ConnectionKind::Inbound);
    let mut obsolete = version(full_node());
    obsolete.version = 31_799;
    node.say(peer, Message::Version(obsolete));
    assert!(!node.is_connected(peer));
    assert!(node.logged("peer using obsolete version 31799, disconnecting peer=1"));
}

#[test]
fn a_second_version_or_verack_changes_nothing() {
    let mut node = Node::new(1);
    let peer = node.connect(ConnectionKind::Inbound);
    let mut again = version(ServiceFlags::NONE);
    again.version = 60_000;
    node.say(peer, Message::Version(again));
    node.say(peer, Message::Verack);
    assert_eq!(node.stats(peer).version, 70_016);
    assert_eq!(node.stats(peer).services, full_node());
    assert!(node.logged("redundant version message from peer=0"));
    assert!(node.logged("ignoring redundant verack message from peer=0"));
}

#[test]
fn a_peer_of_ours_must_serve_what_we_want() {
    let mut node = Node::new(1);
    let peer = node.open(ConnectionKind::OutboundFullRelay);
    node.say(peer, Message::Version(version(ServiceFlags::NETWORK)));
    assert!(!node.is_connected(peer));
    assert!(node.logged(
        "peer does not offer the expected services (00000001 offered, 00000009 expected), disconnecting peer=0"
    ));
    // Whom the user chose, and who comes by himself, may offer what he likes.
    for kind in [ConnectionKind::Manual, ConnectionKind::Inbound] {
        let peer = node.open(kind);
        node.say(peer, Message::Version(version(ServiceFlags::NONE)));
        assert!(node.is_connected(peer));
    }
    // Near the tip a node that keeps few blocks will do.
    let mut limited = ServiceFlags::NETWORK_LIMITED;
    limited.add(ServiceFlags::WITNESS);
    let peer = node.open(ConnectionKind::OutboundFullRelay);
    node.say(peer, Message::Version(version(limited)));
    assert!(node.is_connected(peer));
    node.wait_seconds(144 * 600);
    let peer = node.open(ConnectionKind::OutboundFullRelay);
    node.say(peer, Message::Version(version(limited)));
    assert!(!node.is_connected(peer));
}

#[test]
fn a_connection_to_ourselves_is_closed() {
    let mut node = Node::new(1);
    let out = node.open(ConnectionKind::OutboundFullRelay);
    let Some(Message::Version(ours)) = node.heard(out).pop() else { panic!("no version") };
    let back = node.open(ConnectionKind::Inbound);
    node.say(back, Message::Version(ours));
    assert!(!node.is_connected(back));
    assert!(node.logged("connected to self at 8.8.4.1:8333, disconnecting"));
    assert!(node.heard(back).is_empty());
}

#[test]
fn whoever_does_not_finish_the_handshake_in_time_is_dropped() {
    let mut node = Node::new(1);
    let silent = node.open(ConnectionKind::Inbound);
    let no_version = node.open(ConnectionKind::Inbound);
    node.say(no_version, Message::Ping(1));
    let no_verack = node.open(ConnectionKind::Inbound);
    node.say(no_verack, Message::Version(version(full_node())));
    let good = node.connect(ConnectionKind::Inbound);
    node.wait_seconds(60);
    assert!(node.disconnected.is_empty());
    node.wait_seconds(1);
    assert_eq!(node.disconnected, [silent, no_version, no_verack]);
    assert!(node.is_connected(good));
    assert!(node.logged("socket no message in first 60 seconds, never received from peer, never sent to peer, disconnecting peer=0"));
    assert!(node.logged("socket no message in first 60 seconds, never sent to peer, disconnecting peer=1"));
    assert!(node.logged("version handshake timeout, disconnecting peer=2"));
}

#[test]
fn negotiation_after_the_verack_ends_the_connection() {
    let mut node = Node::new(1);
    let feature = Message::Feature(Feature { id: b"test".to_vec(), data: vec![] });
    for (message, line) in [
        (Message::WtxidRelay, "wtxidrelay received after verack"),
        (Message::SendAddrV2, "sendaddrv2 received after verack"),
        (feature.clone(), "feature received after verack"),
    ] {
        let peer = node.connect(ConnectionKind::Inbound);
        node.say(peer, message);
        assert!(!node.is_connected(peer));
        assert!(node.logged(&format!("{line}, disconnecting peer={peer}")));
    }
    // Features are for those who know of them.
    let peer = node.open(ConnectionKind::Inbound);
    node.say(peer, Message::Version(version(full_node())));
    node.say(peer, feature.clone());
    assert!(node.logged("feature received with incompatible version 70016"));
    let peer = node.open(ConnectionKind::Inbound);
    let mut new = version(full_node());
    new.version = 70_017;
    node.say(peer, Message::Version(new));
    node.say(peer, feature);
    assert!(node.is_connected(peer));
    assert!(node.logged("unknown feature advertised: test"));
}

#[test]
fn a_feeler_ends_after_the_version_and_asks_for_nothing() {
    let mut node = Node::new(1);
    let peer = node.open(ConnectionKind::Feeler);
    assert_eq!(node.names(peer), ["version"]);
    node.say(peer, Message::Version(version(full_node())));
    assert!(!node.names(peer).contains(&"getaddr".to_owned()));
    assert_eq!(node.disconnected, [peer]);
    assert!(node.logged("feeler connection completed, disconnecting peer=0"));
}

#[test]
fn a_block_relay_peer_is_asked_for_no_transactions_or_addresses() {
    let mut node = Node::synced(1, 1);
    let peer = node.open(ConnectionKind::BlockRelayOnly);
    let Some(Message::Version(ours)) = node.heard(peer).pop() else { panic!("no version") };
    assert!(!ours.relay);
    node.say(peer, Message::Version(version(full_node())));
    node.say(peer, Message::Verack);
    let names = node.names(peer);
    assert!(!names.contains(&"getaddr".to_owned()) && !names.contains(&"feefilter".to_owned()), "{names:?}");
    assert!(!node.stats(peer).relay_txs);
}

#[test]
fn misbehaviour_costs_by_who_it_is() {
    let bad = Message::SendCmpct(SendCmpct { announce: 2, version: 2 });
    let mut node = Node::new(1);
    let stranger = node.connect(ConnectionKind::Inbound);
    node.say(stranger, bad.clone());
    assert_eq!(node.discouraged, [stranger]);
    assert!(node.logged("Misbehaving: peer=0: invalid sendcmpct announce field"));
    assert!(node.logged("Disconnecting and discouraging peer 0!"));
    let chosen = node.connect(ConnectionKind::Manual);
    node.say(chosen, bad.clone());
    assert!(node.logged("Not punishing manually connected peer 1!"));
    let trusted =
        node.connect_as(ConnectionKind::Inbound, Permissions { no_ban: true, ..Default::default() });
    node.say(trusted, bad);
    assert!(node.logged("Not punishing noban peer 2!"));
    assert!(node.is_connected(chosen) && node.is_connected(trusted));
    assert_eq!(node.discouraged, [stranger]);
}

#[test]
fn pings_measure_and_find_the_dead() {
    let mut node = Node::new(1);
    let peer = node.open(ConnectionKind::Inbound);
    node.say(peer, Message::Version(version(full_node())));
    node.say(peer, Message::Verack);
    let nonce = |messages: &[Message]| {
        messages.iter().find_map(|message| match message {
            Message::Ping(nonce) => Some(*nonce),
            _ => None,
        })
    };
    let first = nonce(&node.heard(peer)).expect("the first ping goes out at once");
    node.micros += 3_000_000;
    node.say(peer, Message::Pong(Some(first + 1)));
    assert!(node.logged("Nonce mismatch"));
    assert!(node.stats(peer).ping_wait.is_some());
    node.say(peer, Message::Pong(Some(first)));
    assert_eq!(node.stats(peer).ping_time.unwrap().as_secs(), 3);
    assert_eq!(node.stats(peer).min_ping.unwrap().as_secs(), 3);
    node.say(peer, Message::Pong(Some(first)));
    assert!(node.logged("Unsolicited pong without ping"));
    node.wait_seconds(117);
    assert_eq!(nonce(&node.heard(peer)), None);
    node.wait_seconds(1);
    assert!(nonce(&node.heard(peer)).is_some(), "two minutes after the last");
    node.say(peer, Message::Pong(None));
    assert!(node.logged("Short payload"));
    assert_eq!(node.stats(peer).ping_wait, None);
    node.event(Event::PingAll);
    assert!(nonce(&node.heard(peer)).is_some());
    node.wait_seconds(20 * 60);
    assert!(node.is_connected(peer));
    node.wait_seconds(1);
    assert!(node.logged("ping timeout: 1201.000000s, disconnecting peer=0"));
    assert!(!node.is_connected(peer));
}

#[test]
fn filters_nobody_offered_end_the_connection() {
    let mut node = Node::new(1);
    let peer = node.connect(ConnectionKind::Inbound);
    node.say(peer, Message::FilterClear);
    assert!(node.logged("filterclear received despite not offering bloom services, disconnecting peer=0"));
    let peer = node.connect(ConnectionKind::Inbound);
    node.say(peer, Message::GetCFCheckpt { filter_type: 0, stop_hash: node.tree.params.genesis_hash });
    assert!(node.logged("peer requested unsupported block filter type: 0, disconnecting peer=1"));
    let peer = node.connect(ConnectionKind::Inbound);
    node.say(peer, Message::Mempool);
    assert!(node.logged("mempool request with bloom filters disabled, disconnecting peer=2"));
    assert!(!node.is_connected(peer));
}
