use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Txid, Wtxid};
use ironpeer_chain::{ChainHandle, ChainView};
use ironpeer_consensus::Params;
use ironpeer_index::Indexes;
use ironpeer_mempool::MempoolHandle;
use ironpeer_mining::MiningHandle;
use ironpeer_peer::PeerHandle;
use ironpeer_primitives::{Clock, LogSink};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::methods::scan::ScanState;
use crate::zmq::ZmqNotifier;

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
    /// The network is regtest: time may be mocked.
    pub mockable: bool,
    /// User agent, as in `version` messages.
    pub subversion: String,
    /// Methods and fields switched on by `-deprecatedrpc`.
    pub deprecated: BTreeSet<String>,
    /// Warnings shown by `getblockchaininfo` and others.
    pub warnings: Vec<String>,
    /// Transactions are not taken from peers (`-blocksonly`).
    pub blocks_only: bool,
    /// Every reply is held against its method's description (`-rpcdoccheck`).
    pub check_replies: bool,
    /// Where `mempool.dat` is.
    pub mempool_file: PathBuf,
    /// What is published over ZMQ (`getzmqnotifications`).
    pub zmq: Vec<ZmqNotifier>,
}

/// Lets the node's scheduler take so much time for passed (`mockscheduler`).
#[derive(Debug)]
pub struct Forward {
    /// How much.
    pub by: Duration,
    /// Told when everything that became due by it has run.
    pub done: oneshot::Sender<()>,
}

/// The handles that methods work on. Built by the node; no method reaches a lock or file of
/// another room through it.
pub struct ApiContext {
    /// The network.
    pub params: Arc<Params>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// `debug.log`.
    pub log: Arc<dyn LogControl>,
    /// The chain.
    pub chain: ChainHandle,
    /// The mempool.
    pub mempool: MempoolHandle,
    /// The miner.
    pub mining: MiningHandle,
    /// The peers, if there are any.
    pub peers: Option<PeerHandle>,
    /// Cancelled by `stop`; cancels waiting methods.
    pub shutdown: CancellationToken,
    /// What the node was started with.
    pub facts: Facts,
    /// The node's scheduler, if it has one.
    pub scheduler: Option<mpsc::Sender<Forward>>,
    /// The scan of the coin set that may be running.
    pub scan: Arc<ScanState>,
    /// The scan of filters that may be running.
    pub filter_scan: Arc<ScanState>,
    /// What can be looked up beside blocks and coins.
    pub indexes: Indexes,
}

impl std::fmt::Debug for ApiContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiContext").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl ApiContext {
    /// The chain's readers' front.
    pub(crate) fn view(&self) -> ChainView {
        self.chain.view()
    }

    pub(crate) fn network(&self) -> bitcoin::Network {
        self.params.network
    }

    /// Waits until mempool and peers have seen chain event `seq`, or the node stops.
    pub(crate) async fn wait_for_followers(&self, seq: u64) {
        let followed = async {
            self.mempool.wait_for_seq(seq).await;
            if let Some(peers) = &self.peers {
                peers.wait_for_seq(seq).await;
            }
        };
        tokio::select! {
            () = followed => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    /// Waits until everybody has seen what the chain did so far.
    pub(crate) async fn settle(&self) {
        let (_, seq) = self.view().tip_and_seq();
        self.wait_for_followers(seq).await;
    }

    /// Waits for the indexes, too, as far as they are in step with the chain.
    pub(crate) async fn settle_indexes(&self) {
        let (_, seq) = self.view().tip_and_seq();
        self.settle().await;
        for index in self.indexes.handles() {
            tokio::select! {
                _ = index.wait_for_seq(seq) => {}
                () = self.shutdown.cancelled() => {}
            }
        }
    }

    /// Tells the peers of a mempool transaction.
    pub(crate) fn announce(&self, txid: Txid, wtxid: Wtxid) {
        if let Some(peers) = &self.peers {
            peers.announce_tx(txid, wtxid);
        }
    }
}
