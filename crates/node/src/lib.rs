//! The door: flags, files, logs, build order, shutdown order; the binaries.

pub mod args;
pub mod background;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod datadir;
pub mod files;
pub mod init;
pub mod log;
pub mod node;
pub mod notify;
pub mod p2p;
pub mod reach;
pub mod rpc;
pub mod scheduler;
pub mod tools;

/// The name clients compare in messages about this kind of program: lock errors, the notice in
/// `settings.json`. A drop-in answers to Bitcoin Core's.
pub const CLIENT_NAME: &str = "Bitcoin Core";
/// Version the node answers as: the release whose RPC results it gives (`getnetworkinfo`).
pub const CLIENT_VERSION: i32 = 310_000;
/// Name in the user agent.
pub const USER_AGENT_NAME: &str = "Ironpeer";

/// The version as text, as in `-version` and the first line of the log.
#[must_use]
pub fn full_version() -> String {
    format!("v31.0.0 (Ironpeer {})", env!("CARGO_PKG_VERSION"))
}
