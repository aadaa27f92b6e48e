use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use ironpeer_primitives::{ChainRead, HeaderInfo, LogCategory, MempoolRead, PeerId};
use ironpeer_wire::PeerAddress;

use crate::event::{Action, Event, Now, OrphanInfo, PeerStats};
use crate::limits::DEFAULT_PEER_TIMEOUT;

/// How the node is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Services we offer.
    pub services: ServiceFlags,
    /// What we call ourselves, such as `/Ironpeer:0.1.0/`.
    pub user_agent: String,
    /// Inbound connections are accepted (`-listen`).
    pub listen: bool,
    /// No transactions are taken from peers (`-blocksonly`).
    pub ignore_incoming_txs: bool,
    /// Time for a peer to finish the handshake (`-peertimeout`).
    pub peer_timeout: Duration,
    /// Least feerate relayed, in satoshi per 1,000 vbytes (`-minrelaytxfee`).
    pub min_relay_fee_per_kvb: u64,
    /// Outbound connections are opened by ourselves (no `-connect`).
    pub automatic_outbound: bool,
    /// Full-relay connections opened by ourselves.
    pub max_full_outbound: usize,
    /// Block-relay-only connections opened by ourselves.
    pub max_block_relay_only: usize,
    /// Log lines name addresses (`-logips`).
    pub log_ips: bool,
}

impl Config {
    /// Core's defaults on a network.
    #[allow(clippy::new_without_default)]
    #[must_use]
    pub fn new() -> Self {
        let mut services = ServiceFlags::NETWORK;
        services.add(ServiceFlags::WITNESS);
        services.add(ServiceFlags::NETWORK_LIMITED);
        Self {
            services,
            user_agent: "/Ironpeer:0.1.0/".to_owned(),
            listen: true,
            ignore_incoming_txs: false,
            peer_timeout: DEFAULT_PEER_TIMEOUT,
            min_relay_fee_per_kvb: 100,
            automatic_outbound: true,
            max_full_outbound: 8,
            max_block_relay_only: 2,
            log_ips: false,
        }
    }
}

/// Why `getblockfrompeer` cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchBlockError {
    /// Blocks are being imported.
    #[error("Loading blocks ...")]
    Loading,
    /// No such connection.
    #[error("Peer does not exist")]
    NoPeer,
    /// It serves no witnesses.
    #[error("Pre-SegWit peer")]
    PreSegwit,
    /// The handshake is not done.
    #[error("Peer not fully connected")]
    NotConnected,
}

/// The machine. See the crate's documentation.
#[derive(Debug)]
#[allow(dead_code)]
pub struct Sync {
    config: Config,
    seed: [u8; 32],
}

#[allow(clippy::unimplemented, clippy::unused_self, missing_docs, clippy::missing_errors_doc)]
impl Sync {
    /// A machine without peers. All its randomness comes from `seed`.
    #[must_use]
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Self { config, seed }
    }

    /// Tells which debug lines are worth building; all are at first.
    pub fn set_debug(&mut self, enabled: impl Fn(LogCategory) -> bool) {
        let _ = enabled(LogCategory::Net);
    }

    /// Whether blocks are being imported or reindexed (Core's `LoadingBlocks`).
    pub fn set_importing(&mut self, _importing: bool) {}

    /// Whether the network is switched on (`setnetworkactive`).
    pub fn set_network_active(&mut self, _active: bool) {}

    /// Our own address, to be told to peers; `None` if we know none.
    pub fn set_local_address(&mut self, _address: Option<PeerAddress>) {}

    /// Takes an event in and says what is to be done about it, in order.
    pub fn handle(
        &mut self,
        _now: Now,
        _event: Event,
        _chain: &dyn ChainRead,
        _pool: &dyn MempoolRead,
    ) -> Vec<Action> {
        unimplemented!()
    }

    /// Asks a peer for a block the user wants (`getblockfrompeer`).
    pub fn fetch_block(
        &mut self,
        _now: Now,
        _peer: PeerId,
        _block: &HeaderInfo,
    ) -> Result<Vec<Action>, FetchBlockError> {
        unimplemented!()
    }

    /// What `getpeerinfo` shows of a peer; `None` if there is none with this number.
    #[must_use]
    pub fn peer_stats(&self, _now: Now, _id: PeerId) -> Option<PeerStats> {
        unimplemented!()
    }

    /// All orphans, for `getorphantxs`.
    #[must_use]
    pub fn orphans(&self) -> Vec<OrphanInfo> {
        unimplemented!()
    }
}
