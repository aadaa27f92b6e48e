//! Transaction policy, replacement and eviction.
//!
//! `MempoolCore` is the mempool itself: synchronous, told the time and the chain's coins, giving
//! back what changed. [`MempoolHandle`] is the thin shell around it: it runs script checks on the
//! CPU pool with no lock held, follows the chain, and publishes a [`NodeView`] in which chain and
//! mempool are of one tip.

mod admission;
mod config;
mod core;
mod feerate;
mod fees;
mod follow;
mod gate;
mod handle;
mod inline;
pub mod limits;
mod linearise;
mod package;
mod persist;
mod policy;
mod pool;
mod scripts;
mod shared;
mod truc;
mod types;

pub use config::{Config, ConfigError};
pub use feerate::{FeeFrac, FeeRate, compare_diagrams};
pub use fees::{BucketRange, FeeHorizon, RawEstimate, SmartEstimate};
pub use handle::{MempoolHandle, Parts, SaveError};
pub use inline::InlineMempool;
pub use package::{PackageReject, PackageResult, PackageTx};
pub use policy::{dust_threshold, is_dust};
pub use scripts::TxChecker;
pub use types::{
    Accepted, ChainSource, Chunk, ChunkTx, ClusterInfo, EntryInfo, LoadOptions, LoadStats, MempoolEvent,
    MempoolInfo, NodeView, Prioritised, RemovalReason, SubmitTx,
};
