//! Peers that mean harm, on real sockets.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::cell::Cell;
use std::sync::Arc;

use common::{Client, World};
use ironpeer_primitives::NullLog;
use ironpeer_wire::{Inventory, Message};

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
