//! The protocol machine of one node against a model of the chain and mempool. Networks of whole
//! nodes are simulated in `testkit/tests/simulation`.
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
