//! The protocol machine against a model of the chain and mempool, alone and in networks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod addr;
mod blocks;
mod cases;
mod filters;
mod handshake;
mod headers;
mod model;
mod node;
mod relay;
mod serve;
mod sim;
