//! What a node says to its peers, when, and what it makes of what they say: one pure machine for
//! all peers, the counterpart of Bitcoin Core's `net_processing.cpp`.
//!
//! [`Sync::handle`] takes the time and an [`Event`] and returns [`Action`]s to be carried out in
//! order. The machine reads no clock and no system randomness, so a run is repeated by its seed
//! and its events. Log lines and the choice of whom to punish are Core's, since clients and
//! tests compare them.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod addr;
mod announce;
mod blocks;
mod bloom;
mod compact_filters;
mod cx;
mod download;
mod event;
mod evict;
mod filter;
mod handshake;
mod headers;
pub mod limits;
mod machine;
mod orphanage;
mod peer;
mod ping;
mod presync;
mod relay;
mod request;
mod serve;

pub use event::{
    Action, BlockOutcome, Connection, ConnectionKind, Event, FilterReply, Now, OrphanInfo, PeerStats,
    Permissions, TxAccepted,
};
pub use ironpeer_consensus::check_block_mutation;
pub use machine::{Config, FetchBlockError, Sync, UploadLimits};

pub(crate) use cx::{Cx, micros};
