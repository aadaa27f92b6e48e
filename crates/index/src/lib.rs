//! What is looked up by something else than a block's hash: followers of the chain, each with a
//! database and a checkpoint of its own.
//!
//! Each index is a synchronous core that turns a block, and what it spent, into a batch of rows,
//! and back. One shell drives them all: it takes the chain's events, and walks over stored blocks
//! from the checkpoint where it has missed some or was switched on later. Rows and checkpoint are
//! committed together, so an index survives being killed anywhere; the chain waits for none.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod addresses;
mod coin_stats;
mod core;
mod filters;
mod follow;
mod handle;
pub mod limits;
mod open;
mod overlay;
mod spenders;
mod tx;

pub use addresses::{
    AddressIndex, AddressSnapshot, HistoryEntry, Moved, Order, ScriptHash, ScriptTotals, TxPosition, Unspent,
};
pub use coin_stats::{CoinStats, CoinStatsIndex, CoinTotals};
pub use core::{BlockRef, IndexError};
pub use filters::{FilterIndex, FilterRow};
pub use handle::{IndexHandle, IndexStatus};
pub use open::{Config, IndexThreads, Indexes, Location, Parts};
pub use overlay::{MempoolScripts, UnconfirmedEntry};
pub use spenders::{Spender, SpenderIndex};
pub use tx::{TxIndex, TxPlace};
