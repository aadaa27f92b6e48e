//! Sockets, per-peer tasks, connection and address management: the Tokio shell around the
//! protocol machine of `ironpeer-sync`.
//!
//! Each connection has a task that reads and a task that writes. The reader hands one message at
//! a time to the machine and carries out everything that answers it, validation included, before
//! it takes the next; so a pong follows the effects of all that came before the ping, while other
//! peers go on. What is to be sent is put into the receiver's own queue and never waited for, so
//! a slow peer delays nobody. A panic in a peer's task ends that peer alone.
//!
//! Nothing here decides on validity: blocks and transactions go to the chain and the mempool.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod addrman;
mod anchors;
mod automatic;
mod bans;
mod budget;
mod capture;
mod config;
mod connect;
mod downloads;
mod eviction;
mod files;
mod handle;
mod info;
pub mod limits;
mod listen;
mod network;
mod outbox;
mod rooms;
mod serve_filters;
mod session;
mod shell;
mod traffic;
mod upload;

pub use addrman::{AddrMan, AddressCounts, AddressInfo, AddressPosition, PeersFileError};
pub use bans::{Ban, BanList, InvalidSubnet, Subnet};
pub use config::{Config, Parts, Resolver, SystemResolver, Whitelisted};
pub use handle::{BanUntil, PeerHandle};
pub use info::{
    AddAddressError, AddNodeError, AddedNode, AtCapacity, BanError, BindError, ConnectionCounts,
    KnownAddress, NetTotals, PeerInfo, StartError,
};
pub use listen::Listener;
pub use network::{Classify, Network, is_bad_port};
pub use rooms::Rooms;
pub use traffic::OTHER;
pub use upload::UploadTarget;
