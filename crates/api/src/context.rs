use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ironpeer_primitives::{Clock, LogSink};
use tokio_util::sync::CancellationToken;

/// The node's log as the `logging` method sees it.
pub trait LogControl: LogSink {
    /// Every category by name, in Core's order, and whether its debug lines are written.
    fn categories(&self) -> Vec<(&'static str, bool)>;

    /// Switches a category (or `all`, `1`) on or off. False if there is none of that name.
    fn set_category(&self, name: &str, on: bool) -> bool;

    /// The file lines go to.
    fn path(&self) -> PathBuf;
}

/// What the node was started with, as far as callers are told.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `clock.steady()` when the process began.
    pub started: Duration,
    /// Core's name of the network: `main`, `test`, `testnet4`, `signet`, `regtest`.
    pub chain_name: String,
    /// The network is regtest: time may be mocked.
    pub mockable: bool,
    /// User agent, as in `version` messages.
    pub subversion: String,
    /// Methods and fields switched on by `-deprecatedrpc`.
    pub deprecated: BTreeSet<String>,
    /// `-blocknotify`-like warnings shown by `getblockchaininfo` and others.
    pub warnings: Vec<String>,
}

/// The handles that methods work on. Built by the node; no method reaches a lock or file of
/// another room through it.
pub struct ApiContext {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// `debug.log`.
    pub log: Arc<dyn LogControl>,
    /// Cancelled by `stop`; cancels waiting methods.
    pub shutdown: CancellationToken,
    /// What the node was started with.
    pub facts: Facts,
}

impl std::fmt::Debug for ApiContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiContext").field("facts", &self.facts).finish_non_exhaustive()
    }
}
