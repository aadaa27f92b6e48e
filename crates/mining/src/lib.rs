//! Block templates, cancellable proof of work and the mining guard.
//!
//! [`Template::assemble`], [`Work`] and [`MiningGuard`] know no chain and no clock.
//!
//! Invariants: one search at a time; at most one batch of hashes after a search is cancelled; a
//! found block is submitted whatever is cancelled meanwhile.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod config;
mod guard;
pub mod limits;
mod pow;
mod template;

pub use config::{AutoMine, AutoMineError, Config, anyone_can_spend};
pub use guard::{MiningBusy, MiningGuard, MiningPermit};
pub use pow::{SearchEnd, Tries, Work};
pub use template::{MissingHeaders, Template, TemplateSource, minimum_time, update_time};
