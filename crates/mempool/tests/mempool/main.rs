//! The mempool on a real chain in memory, with the real kernel.

mod admission;
mod chain_following;
mod concurrency;
mod costs;
mod fees;
mod limits;
mod logs;
mod packages;
mod persistence;
mod properties;
mod replacement;
mod scripts;
mod support;
