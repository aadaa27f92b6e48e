//! The door: flags, files, logs, build order, shutdown order; the binaries.

pub mod args;
pub mod datadir;
pub mod log;

/// The name clients compare in messages about this kind of program: lock errors, the notice in
/// `settings.json`. A drop-in answers to Bitcoin Core's.
pub const CLIENT_NAME: &str = "Bitcoin Core";
/// Version the node answers as: the release whose RPC results it gives (`getnetworkinfo`).
pub const CLIENT_VERSION: i32 = 310_000;
