//! Peers that mean harm, on real sockets.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::cell::Cell;
use std::sync::Arc;

use common::{Client, MemoryLog, World, patiently, version};
use ironpeer_primitives::NullLog;
use ironpeer_wire::{Command, Inventory, Message, encode, encode_frame};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Requests that wait because the peer does not take the answers are all it may leave here: its
/// next message is not looked at before. So they cannot pile up, and answers keep their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_do_not_pile_up_behind_a_full_send_queue() {
    let world = World::new();
    let mut config = world.config();
    // Room for less than one block.
    config.send_buffer_bytes = 100;
    let node = world.node_with(1, config, Arc::new(NullLog));
    let hash = node.mine().await;
    let mut client = Client::join(&world, &node).await;
    client.send(&Message::GetData(vec![Inventory::witness_block(hash); 300])).await;
    client.send(&Message::Ping(5)).await;
    client.send(&Message::GetData(vec![Inventory::witness_block(hash); 300])).await;
    client.send(&Message::Ping(6)).await;
    for nonce in [5, 6] {
        let blocks = Cell::new(0);
        let is_pong = |message: &Message| {
            blocks.set(blocks.get() + u32::from(matches!(message, Message::Block(_))));
            *message == Message::Pong(Some(nonce))
        };
        client.receive("the pong", is_pong).await;
        assert_eq!(blocks.get(), 300, "before pong {nonce}");
    }
    node.stop().await;
}

/// Zebra GHSA-h72h: until the handshake is done, messages are small, and a message of many bytes
/// that are none of the handshake's business costs only itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghsa_h72h_strangers_send_nothing_large() {
    let world = World::new();
    let log = MemoryLog::new(None);
    let node = world.node_with(1, world.config(), log.clone());
    for (peer, size) in [2_049, 4_000_000, u32::MAX].into_iter().enumerate() {
        let mut stranger = Client::over(&world, TcpStream::connect(node.address).await.unwrap());
        let mut head = encode(&Message::Verack, world.magic());
        head[16..20].copy_from_slice(&size.to_le_bytes());
        stranger.stream.write_all(&head).await.unwrap();
        stranger.closed().await;
        log.wait_for(&format!("Header error: Size too large (verack, {size} bytes), peer={peer}")).await;
    }
    let mut patient = Client::over(&world, TcpStream::connect(node.address).await.unwrap());
    let junk = encode_frame(Command::new("junk"), &[0; 2_048], world.magic());
    for _ in 0..1_000 {
        patient.stream.write_all(&junk).await.unwrap();
    }
    patient.send(&version()).await;
    patient.receive("verack", |message| matches!(message, Message::Verack)).await;
    // The version alone does not lift the limit.
    let mut head = encode(&Message::Verack, world.magic());
    head[16..20].copy_from_slice(&2_049u32.to_le_bytes());
    patient.stream.write_all(&head).await.unwrap();
    patient.closed().await;
    node.stop().await;
}

/// A large message that was dealt with holds nothing of the common memory, however long its
/// sender lets the answers wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_answers_hold_no_common_memory() {
    let world = World::new();
    let mut config = world.config();
    config.send_buffer_bytes = 100;
    let log = MemoryLog::new(None);
    let node = world.node_with(1, config, log.clone());
    let hash = node.mine().await;
    let mut client = Client::join(&world, &node).await;
    let socket = socket2::SockRef::from(&client.stream);
    socket.set_recv_buffer_size(4_096).unwrap();
    client.send(&Message::GetData(vec![Inventory::witness_block(hash); 50_000])).await;
    log.wait_for("received getdata (50000 invsz) peer=0").await;
    patiently("its memory", async {
        while node.peers.receive_memory() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    node.stop().await;
}
