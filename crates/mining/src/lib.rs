//! Block templates, cancellable proof of work and the mining guard.
//!
//! [`Template::assemble`], [`Work`] and [`MiningGuard`] know no chain and no clock. The shell
//! around them is [`MiningHandle`]: it reads chain and mempool as of one tip, searches on threads
//! of its own, and hands a found block to the chain as anyone would.
//!
//! Invariants: one search at a time; at most one batch of hashes after a search is cancelled; a
//! found block is submitted whatever is cancelled meanwhile.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod auto;
mod config;
mod guard;
mod handle;
pub mod limits;
mod pow;
mod search;
mod template;

pub use auto::Trigger;
pub use config::{AutoMine, AutoMineError, Config, anyone_can_spend};
pub use guard::{MiningBusy, MiningGuard, MiningPermit};
pub use handle::{
    BlockSearch, LastTemplate, MiningError, MiningHandle, MiningStats, Parts, SearchOutcome, TemplateOptions,
};
pub use pow::{SearchEnd, Tries, Work};
pub use template::{MissingHeaders, Template, TemplateSource, minimum_time, update_time};
