use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ironpeer_primitives::{Clock, LogSink};
use ironpeer_store::Disk;
use ironpeer_sync::Permissions;
use ironpeer_wire::{NetAddress, Service};

use crate::bans::Subnet;
use crate::limits;
use crate::listen::Listener;
use crate::network::Network;
use crate::rooms::Rooms;

/// What peers from a subnet may do beyond the usual (`-whitelist`).
#[derive(Clone, Copy, Debug)]
pub struct Whitelisted {
    /// Who.
    pub subnet: Subnet,
    /// What.
    pub permissions: Permissions,
    /// On connections they open.
    pub incoming: bool,
    /// On manual connections to them.
    pub outgoing: bool,
}

/// How the node meets others.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the protocol machine needs to know: network, services, user agent, time-outs.
    pub sync: ironpeer_sync::Config,
    /// Connections of all kinds but manual ones (`-maxconnections`).
    pub max_connections: usize,
    /// The only peers to connect to (`-connect`); an empty list for none at all (`-connect=0`),
    /// `None` to find peers by ourselves.
    pub connect: Option<Vec<String>>,
    /// Peers to stay connected to (`-addnode`).
    pub added_nodes: Vec<String>,
    /// Peers to ask for addresses once (`-seednode`).
    pub seed_nodes: Vec<String>,
    /// Ask the network's DNS seeds when peers are missing (`-dnsseed`).
    pub dns_seed: bool,
    /// Ask them even if there are peers (`-forcednsseed`).
    pub force_dns_seed: bool,
    /// Look names up at all (`-dns`).
    pub name_lookup: bool,
    /// Who may do more than others (`-whitelist`).
    pub whitelist: Vec<Whitelisted>,
    /// Our own addresses (`-externalip`).
    pub external_addresses: Vec<Service>,
    /// Where `peers.dat` and `banlist.json` are kept; `None` to keep nothing.
    pub data_dir: Option<PathBuf>,
    /// How long a ban by hand lasts (`-bantime`).
    pub ban_time: Duration,
    /// Time for a TCP connection to be made (`-timeout`).
    pub connect_timeout: Duration,
    /// All messages are written down beside the other files (`-capturemessages`).
    pub capture_messages: bool,
    /// Bytes to be sent in a day at most, as far as it goes; 0 for no limit (`-maxuploadtarget`).
    pub max_upload_target: u64,
    /// Queued bytes above which a peer's messages are not read (`-maxsendbuffer`).
    pub send_buffer_bytes: usize,
    /// Start with the network on (`-networkactive`).
    pub network_active: bool,
    /// Start while blocks are being imported: until [`crate::PeerHandle::import_done`] is
    /// called, no headers or blocks are asked for.
    pub importing: bool,
    /// Networks automatic connections are made to (`-onlynet`).
    pub reachable: Vec<Network>,
    /// Buckets of the address manager can be predicted (`-test=addrman`).
    pub deterministic_addrman: bool,
}

impl Config {
    /// Core's defaults, keeping nothing on disk.
    #[must_use]
    pub fn new(sync: ironpeer_sync::Config) -> Self {
        Self {
            sync,
            max_connections: limits::DEFAULT_MAX_CONNECTIONS,
            connect: None,
            added_nodes: Vec::new(),
            seed_nodes: Vec::new(),
            dns_seed: true,
            force_dns_seed: false,
            name_lookup: true,
            whitelist: Vec::new(),
            external_addresses: Vec::new(),
            data_dir: None,
            ban_time: limits::DEFAULT_BAN_TIME,
            connect_timeout: limits::CONNECT_TIMEOUT,
            capture_messages: false,
            max_upload_target: 0,
            send_buffer_bytes: limits::SEND_QUEUE_SOFT_BYTES,
            network_active: true,
            importing: false,
            reachable: vec![Network::Ipv4, Network::Ipv6],
            deterministic_addrman: false,
        }
    }

    /// What a peer may do by its address, on top of `permissions`.
    pub(crate) fn permissions_of(
        &self,
        address: &NetAddress,
        inbound: bool,
        permissions: Permissions,
    ) -> Permissions {
        let applies = |entry: &&Whitelisted| {
            (if inbound { entry.incoming } else { entry.outgoing }) && entry.subnet.contains(address)
        };
        self.whitelist.iter().filter(applies).fold(permissions, |all, entry| union(all, entry.permissions))
    }

    /// Full-relay connections opened by ourselves.
    pub(crate) fn max_full_outbound(&self) -> usize {
        limits::MAX_OUTBOUND_FULL_RELAY.min(self.max_connections)
    }

    /// Block-relay-only connections opened by ourselves.
    pub(crate) fn max_block_outbound(&self) -> usize {
        limits::MAX_OUTBOUND_BLOCK_RELAY.min(self.max_connections - self.max_full_outbound())
    }

    /// Connections opened by ourselves, feelers included.
    pub(crate) fn max_automatic_outbound(&self) -> usize {
        (self.max_full_outbound() + self.max_block_outbound() + limits::MAX_FEELERS).min(self.max_connections)
    }

    /// Connections opened by others.
    pub(crate) fn max_inbound(&self) -> usize {
        self.max_connections - self.max_automatic_outbound()
    }
}

const fn union(a: Permissions, b: Permissions) -> Permissions {
    Permissions {
        bloom_filter: a.bloom_filter || b.bloom_filter,
        relay: a.relay || b.relay,
        force_relay: a.force_relay || b.force_relay,
        download: a.download || b.download,
        no_ban: a.no_ban || b.no_ban,
        mempool: a.mempool || b.mempool,
        addr: a.addr || b.addr,
    }
}

/// Turns names into addresses. Injected, so that a test can say what exists.
pub trait Resolver: Send + Sync + 'static {
    /// All addresses of a host, with the port given.
    ///
    /// # Errors
    /// If the name cannot be resolved.
    fn lookup<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, std::io::Result<Vec<SocketAddr>>>;
}

/// The machine's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn lookup<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, std::io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// What the room needs of others.
pub struct Parts {
    /// The chain and the mempool.
    pub rooms: Rooms,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// `debug.log`.
    pub log: Arc<dyn LogSink>,
    /// Where its files are kept.
    pub disk: Arc<dyn Disk>,
    /// Names to addresses.
    pub resolver: Arc<dyn Resolver>,
    /// Sockets that listen already.
    pub listeners: Vec<Listener>,
    /// Seed of all its randomness.
    pub seed: [u8; 32],
}
