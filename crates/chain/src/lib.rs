//! The header tree, the coin set and the active chain: one writer thread, many readers.
//!
//! [`Chain::open`] repairs what a crash left half done and starts the writer. All changes go
//! through a [`ChainHandle`] to that one thread and come back as typed answers; readers take what
//! they need from a [`ChainView`] and never wait for validation; tip changes are read from a
//! [`ChainFollower`].
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod activate;
mod coins;
mod command;
mod config;
mod core;
mod events;
mod flush;
mod handle;
mod import;
mod inline;
pub mod limits;
mod marks;
mod muhash;
mod open;
mod pool;
mod prepare;
mod prune;
mod recover;
mod rows;
mod scripts;
mod snapshot_file;
mod text;
mod tree;
mod utxo_info;
mod verify;
mod view;
mod writer;

pub use config::{Backends, Config, CrashHook, Location, Prune, Reindex, SimulatedCrash};
pub use events::{ChainFollower, Followed};
pub use handle::{
    BlockOutcome, ChainHandle, ChainStopped, HeaderFailure, HeadersOutcome, MarkError, SubmitOptions,
};
pub use import::{ImportError, ImportStats};
pub use inline::InlineChain;
pub use muhash::MuHash;
pub use open::{Chain, OpenError};
pub use scripts::PoolChecker;
pub use snapshot_file::{CoinsAt, SnapshotError, SnapshotSummary};
pub use utxo_info::{CoinScan, UtxoHashKind, UtxoSetInfo, bogo_size, encode_for_hash};
pub use verify::VerifyError;
pub use view::{ChainAncestry, ChainTip, ChainTipStatus, ChainView, ChainWarnings, ReadError};
pub use writer::ChainThread;
