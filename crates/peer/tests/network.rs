//! What the node promises about concurrency, on real sockets.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use bitcoin::bip158::FilterHash;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::p2p::ServiceFlags;
use common::{Client, MemoryLog, World, announces, block_on, patiently};
use ironpeer_peer::{BanUntil, BindError, Listener, Network, Subnet};
use ironpeer_primitives::ChainRead;
use ironpeer_store::{Disk, OpenMode, write_atomic};
use ironpeer_sync::ConnectionKind;
use ironpeer_wire::{CFilterRange, Command, Message, NetAddress, PeerAddress, Service, encode, encode_frame};
use tokio::io::AsyncWriteExt;

/// A peer that asks and does not read is not read either, and nobody else waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_peer_delays_no_announcement() {
    let world = World::new();
    let mut config = world.config();
    config.send_buffer_bytes = 10_000;
    let node = world.node_with(1, config, Arc::new(ironpeer_primitives::NullLog));
    // Blocks are announced once the node is no longer in initial download.
    node.mine().await;

    let mut slow = Client::join(&world, &node).await;
    let flood: Vec<u8> =
        (0..1_000_000u64).flat_map(|nonce| encode(&Message::Ping(nonce), world.magic())).collect();
    let flooding = tokio::spawn(async move {
        // Ends with the connection.
        let _ = slow.stream.write_all(&flood).await;
        slow
    });

    let mut healthy = Client::join(&world, &node).await;
    for _ in 0..3 {
        let hash = node.mine().await;
        healthy.receive("the announcement", |message| announces(message, hash)).await;
    }
    // 40 MB of pings are not taken from somebody who takes no pongs.
    assert!(!flooding.is_finished());
    node.stop().await;
    patiently("the flood to end", flooding).await.unwrap();
}

/// The log of this node panics at one message. Who sent it is gone; all others stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_peer_task_ends_that_peer_only() {
    let world = World::new();
    let log = MemoryLog::new(Some("received: boom"));
    let node = world.node_with(1, world.config(), log);
    let mut good = Client::join(&world, &node).await;
    let mut bad = Client::join(&world, &node).await;
    assert_eq!(node.peers.counts().inbound, 2);

    bad.stream.write_all(&encode_frame(Command::new("boom"), &[], world.magic())).await.unwrap();
    bad.closed().await;
    good.ping(1).await;
    assert_eq!(node.peers.panics(), 1);
    let hash = node.mine().await;
    good.receive("the announcement", |message| announces(message, hash)).await;

    // A new connection finds everything in order.
    Client::join(&world, &node).await.ping(2).await;
    node.stop().await;
}

#[test]
fn bind_error_is_returned() {
    let taken = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = Listener::bind(taken.address()).unwrap_err();
    assert!(matches!(error, BindError::InUse(_)));
    assert_eq!(
        error.to_string(),
        format!(
            "Unable to bind to {} on this computer. Bitcoin Core is probably already running.",
            taken.address()
        )
    );
    assert!(matches!(Listener::bind("203.0.113.1:0".parse().unwrap()), Err(BindError::Refused(..))));
}

#[tokio::test]
async fn port_is_free_after_shutdown() {
    let world = World::new();
    let node = world.node(1);
    let address = node.address;
    let mut client = Client::join(&world, &node).await;
    node.stop().await;
    client.closed().await;
    assert_eq!(Listener::bind(address).unwrap().address(), address);
}

/// One block, mined at the first of a hundred nodes in a row, reaches the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_nodes_in_one_process() {
    let world = World::new();
    let nodes: Vec<_> = (0..100).map(|number| world.node(number)).collect();
    let mut followers: Vec<_> = nodes.iter().map(|node| node.chain.events().0).collect();
    for pair in nodes.windows(2) {
        pair[1].peers.try_node(&pair[0].address.to_string()).await;
    }
    for _ in 0..2 {
        let hash = nodes[0].mine().await;
        for (node, follower) in nodes.iter().zip(&mut followers) {
            node.reach(follower, hash).await;
        }
    }
    for node in nodes {
        assert_eq!(node.peers.panics(), 0);
        node.stop().await;
    }
}

/// A pong says that everything sent before the ping has had its effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pong_follows_the_effects_of_what_came_before() {
    let world = World::new();
    let node = world.node(1);
    let mut client = Client::join(&world, &node).await;
    for nonce in 0..20 {
        let block = node.next_block();
        let hash = block.block_hash();
        client.send(&Message::Block(Arc::new(block))).await;
        client.ping(nonce).await;
        assert_eq!(node.chain.view().tip().hash, hash);
    }
    node.stop().await;
}

/// While the chain validates a block the peer is asked for the next ones, and they are taken in;
/// a pong waits for all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_not_idle_while_its_blocks_are_validated() {
    const IN_FLIGHT: usize = 16;
    let world = World::new();
    let node = world.node(1);
    let tip = node.chain.view().tip();
    let mut blocks = Vec::new();
    let (mut parent, mut time) = (tip.hash, tip.header.time);
    let now = world.clock.unix() as u32 - 1_000;
    for height in 1..=2 * IN_FLIGHT as u32 {
        let block = block_on(parent, height, time, now + height);
        (parent, time) = (block.block_hash(), block.header.time);
        blocks.push(Arc::new(block));
    }
    let mut client = Client::join(&world, &node).await;
    client.send(&Message::Headers(blocks.iter().map(|block| block.header).collect())).await;
    let mut asked = 0;
    while asked < IN_FLIGHT {
        asked += client.blocks_asked().await;
    }
    // Nothing gets through the pool, and so to the chain, until this is let go.
    let held = world.hold_pool();
    for block in &blocks[..IN_FLIGHT] {
        client.send(&Message::Block(Arc::clone(block))).await;
    }
    while asked < 2 * IN_FLIGHT {
        asked += client.blocks_asked().await;
    }
    assert_eq!(node.chain.view().tip().hash, tip.hash);
    for block in &blocks[IN_FLIGHT..] {
        client.send(&Message::Block(Arc::clone(block))).await;
    }
    client.send(&Message::Ping(9)).await;
    drop(held);
    client.receive("pong", |message| *message == Message::Pong(Some(9))).await;
    assert_eq!(node.chain.view().tip().hash, parent);
    node.stop().await;
}

/// Two nodes shake hands, ping each other, and know it of each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_described_as_core_does() {
    let world = World::new();
    let (log, other_log) = (MemoryLog::new(None), MemoryLog::new(None));
    let node = world.node_with(1, world.config(), log.clone());
    let other = world.node_with(2, world.config(), other_log.clone());
    let name = node.address.to_string();
    other.peers.try_node(&name).await;
    log.wait_for("Added connection peer=0").await;
    for log in [&log, &other_log] {
        log.wait_for("received: version (").await;
        log.wait_for("received: pong (8 bytes) peer=0").await;
    }
    // A second connection to the same node is not made.
    other.peers.try_node(&name).await;
    assert_eq!((other.peers.counts().inbound, other.peers.counts().outbound), (0, 1));

    let (here, there) = (node.peers.peers().remove(0), other.peers.peers().remove(0));
    assert_eq!((here.id.0, here.kind, there.kind), (0, ConnectionKind::Inbound, ConnectionKind::Manual));
    assert_eq!((there.addr.as_str(), there.service.to_string()), (name.as_str(), name.clone()));
    assert_eq!(here.addr, there.bind.unwrap().to_string());
    assert_eq!(here.stats.subver, "/Ironpeer:0.1.0/");
    for info in [here, there] {
        let pong = info.bytes_recv_per_msg.iter().find(|(name, _)| *name == "pong").unwrap();
        assert!(pong.1 >= 29);
        assert!(info.bytes_recv >= info.bytes_recv_per_msg.iter().map(|(_, bytes)| bytes).sum::<u64>());
    }

    assert!(other.peers.disconnect_address(&name));
    other_log.wait_for("disconnect by address match, disconnecting peer=0").await;
    log.wait_for("socket closed, disconnecting peer=0").await;
    node.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn banned_peers_are_cut_off_and_kept_out() {
    let world = World::new();
    let log = MemoryLog::new(None);
    let node = world.node_with(1, world.config(), log.clone());
    let mut client = Client::join(&world, &node).await;
    let subnet: Subnet = "127.0.0.0/24".parse().unwrap();
    node.peers.ban(subnet, BanUntil::Default).await.unwrap();
    assert!(node.peers.ban(subnet, BanUntil::Default).await.is_err());
    client.closed().await;
    log.wait_for("disconnect by subnet match, disconnecting peer=0").await;

    let mut refused = tokio::net::TcpStream::connect(node.address).await.unwrap();
    let mut byte = [0];
    let read = patiently("the refusal", tokio::io::AsyncReadExt::read(&mut refused, &mut byte)).await;
    assert!(matches!(read, Ok(0) | Err(_)));
    log.wait_for("dropped (banned)").await;

    node.peers.unban(subnet).await.unwrap();
    Client::join(&world, &node).await.ping(1).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switching_the_network_off_closes_everything() {
    let world = World::new();
    let log = MemoryLog::new(None);
    let node = world.node_with(1, world.config(), log.clone());
    let mut client = Client::join(&world, &node).await;
    node.peers.set_network_active(false);
    client.closed().await;
    log.wait_for("SetNetworkActive: false").await;
    log.wait_for("Network not active, disconnecting peer=0").await;
    node.peers.set_network_active(true);
    Client::join(&world, &node).await.ping(1).await;
    node.stop().await;
}

/// `addnode add` connects now and again after the connection was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_added_node_is_connected() {
    let world = World::new();
    let log = MemoryLog::new(None);
    let (node, other) = (world.node_with(1, world.config(), log.clone()), world.node(2));
    let name = node.address.to_string();
    other.peers.add_node(&name).unwrap();
    assert!(other.peers.add_node(&name).is_err());
    log.wait_for("received: verack (0 bytes) peer=0").await;
    assert_eq!(other.peers.added_nodes()[0].connected.unwrap().0.to_string(), name);
    other.peers.remove_node(&name).unwrap();
    assert!(other.peers.added_nodes().is_empty());
    node.stop().await;
    other.stop().await;
}

/// Zebra GHSA-h72h, CVE-2015-3641: headers that announce too much end the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_messages_end_the_connection() {
    let world = World::new();
    let log = MemoryLog::new(None);
    let node = world.node_with(1, world.config(), log.clone());
    let mut client = Client::join(&world, &node).await;
    let mut head = encode(&Message::Verack, world.magic());
    head[16..20].copy_from_slice(&4_000_001u32.to_le_bytes());
    client.stream.write_all(&head).await.unwrap();
    client.closed().await;
    log.wait_for("Header error: Size too large (verack, 4000001 bytes), peer=0").await;
    log.wait_for("receiving message bytes failed, disconnecting peer=0").await;

    // A wrong checksum costs the message, not the connection.
    let mut client = Client::join(&world, &node).await;
    let mut bad = encode(&Message::Ping(1), world.magic());
    bad[20] ^= 1;
    client.stream.write_all(&bad).await.unwrap();
    client.ping(2).await;
    log.wait_for("Header error: Wrong checksum (ping, 8 bytes)").await;
    node.stop().await;
}

/// CVE-2015-3641: many half-sent large messages hold no more than the common budget, and small
/// messages of others pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2015_3641_partial_messages_starve_nobody() {
    let world = World::new();
    let node = world.node(1);
    node.mine().await;
    let mut head = encode(&Message::Verack, world.magic());
    head[16..20].copy_from_slice(&3_900_000u32.to_le_bytes());
    head.push(0);
    let mut partial = Vec::new();
    for _ in 0..80 {
        let mut client = Client::join(&world, &node).await;
        client.stream.write_all(&head).await.unwrap();
        partial.push(client);
    }
    let mut healthy = Client::join(&world, &node).await;
    let hash = node.mine().await;
    healthy.receive("the announcement", |message| announces(message, hash)).await;
    healthy.ping(1).await;
    assert_eq!(node.peers.counts().inbound, 81);
    node.stop().await;
}

/// Knows one name.
struct OneName(std::net::SocketAddr);

impl ironpeer_peer::Resolver for OneName {
    fn lookup<'a>(
        &'a self,
        host: &'a str,
        _: u16,
    ) -> futures::future::BoxFuture<'a, std::io::Result<Vec<std::net::SocketAddr>>> {
        let found = if host == "seed.test" { vec![self.0] } else { Vec::new() };
        Box::pin(std::future::ready(Ok(found)))
    }
}

/// `-seednode`: a node without addresses asks the seed for some and leaves it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_node_is_asked_for_addresses() {
    let world = World::new();
    let seed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = world.config();
    config.connect = None;
    config.seed_nodes = vec!["seed.test".to_owned()];
    // Its own addresses are the ones it will hear of, so that it knocks on no stranger's door.
    let told = |n: u8| Service { address: NetAddress::Ipv4([8, n, 8, 8].into()), port: 8333 };
    config.external_addresses = (1..=50).map(told).collect();
    let resolver = Arc::new(OneName(seed.local_addr().unwrap()));
    let log = MemoryLog::new(None);
    let node = world.node_resolving(1, config, log.clone(), resolver);

    let (stream, _) = patiently("the connection", seed.accept()).await.unwrap();
    let mut client = Client::over(&world, stream);
    client.receive("version", |message| matches!(message, Message::Version(_))).await;
    client.send(&common::version()).await;
    client.send(&Message::SendAddrV2).await;
    client.send(&Message::Verack).await;
    client.receive("getaddr", |message| *message == Message::GetAddr).await;
    let entry = |n: u8| PeerAddress {
        time: u32::try_from(world.clock.unix()).unwrap(),
        services: ServiceFlags::NETWORK | ServiceFlags::WITNESS,
        service: told(n),
    };
    client.send(&Message::AddrV2((1..=50).map(entry).collect())).await;
    client.closed().await;
    log.wait_for("Empty addrman, adding seednode (seed.test) to addrfetch").await;
    assert!(node.peers.address_counts(Some(Network::Ipv4)).new > 0);
    node.stop().await;
}

/// `peers.dat` and `banlist.json` come back after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_and_bans_survive_a_restart() {
    let world = World::new();
    let disk = Arc::new(ironpeer_store::MemDisk::new());
    disk.create_dir_all("/node".as_ref()).unwrap();
    let mut config = world.config();
    config.data_dir = Some("/node".into());
    let subnet: Subnet = "9.9.0.0/16".parse().unwrap();

    let log = MemoryLog::new(None);
    let node = world.node_on_disk(1, config.clone(), log.clone(), disk.clone());
    log.wait_for("Creating peers.dat because the file was not found (\"/node/peers.dat\")").await;
    node.peers.add_address("8.8.8.8".parse().unwrap(), 8333, true).unwrap();
    node.peers.ban(subnet, BanUntil::In(1_000)).await.unwrap();
    node.stop().await;

    let log = MemoryLog::new(None);
    let node = world.node_on_disk(2, config, log.clone(), disk);
    log.wait_for("Loaded 1 addresses from peers.dat").await;
    assert_eq!(node.peers.address_counts(None).tried, 1);
    assert_eq!(node.peers.bans().len(), 1);
    assert_eq!(node.peers.bans()[0].0, subnet);
    node.stop().await;
}

/// Heilman et al. 2015: the block-relay-only peers of the last run are the first of the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anchors_are_tried_first_after_a_restart() {
    let world = World::new();
    let disk = Arc::new(ironpeer_store::MemDisk::new());
    disk.create_dir_all("/node".as_ref()).unwrap();
    let mut config = world.config();
    (config.connect, config.data_dir) = (None, Some("/node".into()));
    let anchor = world.node(3);
    let name = anchor.address.to_string();

    let log = MemoryLog::new(None);
    let node = world.node_on_disk(1, config.clone(), log.clone(), disk.clone());
    log.wait_for("0 block-relay-only anchors will be tried for connections.").await;
    node.peers.add_connection(&name, ConnectionKind::BlockRelayOnly).await.unwrap();
    node.stop().await;
    log.wait_for("DumpAnchors: Flush 1 outbound block-relay-only peer addresses to anchors.dat completed")
        .await;

    // What is connected by hand has no known services: they are put in, behind time and version.
    let path = std::path::Path::new("/node/anchors.dat");
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes[13] = 9;
    let contents = bytes.len() - 32;
    let hash = sha256d::Hash::hash(&bytes[..contents]).to_byte_array();
    bytes[contents..].copy_from_slice(&hash);
    write_atomic(disk.as_ref(), path, &bytes).unwrap();

    let log = MemoryLog::new(None);
    let node = world.node_on_disk(2, config, log.clone(), disk.clone());
    log.wait_for("Loaded 1 addresses from \"anchors.dat\"").await;
    log.wait_for(&format!("Trying to make an anchor connection to {name}")).await;
    log.wait_for("received: verack (0 bytes) peer=0").await;
    assert_eq!(node.peers.peers()[0].kind, ConnectionKind::BlockRelayOnly);
    assert!(!disk.exists(path), "only an orderly end leaves anchors");
    node.stop().await;
    anchor.stop().await;
}

/// A client that takes them slowly gets all filters, in order, and they are those of the headers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn block_filters_are_served_as_fast_as_they_are_taken() {
    const BLOCKS: u32 = 120;
    let world = World::new();
    let mut config = world.config();
    config.sync.services.add(ServiceFlags::COMPACT_FILTERS);
    // Less than two filters.
    config.send_buffer_bytes = 50;
    let node = world.node_with(1, config, Arc::new(ironpeer_primitives::NullLog));
    let mut hashes = vec![node.chain.view().params().genesis_hash];
    for _ in 0..BLOCKS {
        hashes.push(node.mine().await);
    }
    let index = node.filters.clone().unwrap();
    assert!(index.handle().wait_caught_up().await);
    let mut client = Client::join(&world, &node).await;
    let stop = hashes[BLOCKS as usize];
    let range = |start_height| CFilterRange { filter_type: 0, start_height, stop_hash: stop };
    client.send(&Message::GetCFHeaders(range(1))).await;
    let message = client.receive("headers", |message| matches!(message, Message::CFHeaders(_))).await;
    let Message::CFHeaders(headers) = message else { panic!() };
    assert_eq!(headers.hashes.len(), BLOCKS as usize);
    client.send(&Message::GetCFilters(range(1))).await;
    let mut header = headers.previous_header;
    for (block, expected) in hashes.iter().skip(1).zip(&headers.hashes) {
        let message = client.receive("a filter", |message| matches!(message, Message::CFilter(_))).await;
        let Message::CFilter(filter) = message else { panic!() };
        assert_eq!((filter.block_hash, FilterHash::hash(&filter.filter)), (*block, *expected));
        header = expected.filter_header(&header);
    }
    let row = index.header(ironpeer_primitives::Height(BLOCKS), &stop).unwrap().unwrap();
    assert_eq!(row.header, header);
    client.send(&Message::GetCFCheckpt { filter_type: 0, stop_hash: stop }).await;
    let message = client.receive("checkpoints", |message| matches!(message, Message::CFCheckpt(_))).await;
    let Message::CFCheckpt(checkpoints) = message else { panic!() };
    assert!(checkpoints.headers.is_empty());
    client.ping(1).await;
    node.stop().await;
}
