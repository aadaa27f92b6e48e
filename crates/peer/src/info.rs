use std::net::SocketAddr;

use ironpeer_primitives::{PeerId, UnixTime};
use ironpeer_sync::{ConnectionKind, PeerStats, Permissions};
use ironpeer_wire::{PeerAddress, Service};

use crate::network::Network;

/// One connection, as `getpeerinfo` shows it.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its number.
    pub id: PeerId,
    /// The name it was opened by, or the other end's address.
    pub addr: String,
    /// The other end.
    pub service: Service,
    /// Our end.
    pub bind: Option<Service>,
    /// The network it came over.
    pub network: Network,
    /// Why it exists.
    pub kind: ConnectionKind,
    /// What the peer may do.
    pub permissions: Permissions,
    /// When something was last sent, in Unix seconds; 0 for never.
    pub last_send: UnixTime,
    /// When something last came, in Unix seconds; 0 for never.
    pub last_recv: UnixTime,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_recv: u64,
    /// Bytes sent by message type, headers included.
    pub bytes_sent_per_msg: Vec<(&'static str, u64)>,
    /// Bytes received by message type, headers included.
    pub bytes_recv_per_msg: Vec<(&'static str, u64)>,
    /// When it was made, in Unix seconds.
    pub connected_at: UnixTime,
    /// `v1`: the encrypted transport is not spoken yet.
    pub transport: &'static str,
    /// What the protocol machine knows.
    pub stats: PeerStats,
}

impl PeerInfo {
    /// Whether the peer connected to us.
    #[must_use]
    pub fn inbound(&self) -> bool {
        self.kind == ConnectionKind::Inbound
    }
}

/// Bytes over all connections since start (`getnettotals`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetTotals {
    /// Received.
    pub bytes_recv: u64,
    /// Sent.
    pub bytes_sent: u64,
}

/// How many connections there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Opened by others.
    pub inbound: usize,
    /// Opened by us.
    pub outbound: usize,
}

/// A node that shall stay connected (`getaddednodeinfo`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedNode {
    /// As it was given.
    pub node: String,
    /// Its address and whether it connected to us, if it is connected.
    pub connected: Option<(Service, bool)>,
}

/// Why a node was not added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddNodeError {
    /// It is in the list.
    #[error("Error: Node already added")]
    AlreadyAdded,
    /// It is not in the list.
    #[error("Error: Node could not be removed. It has not been added previously.")]
    NotAdded,
}

/// All slots for connections of that kind are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Error: Already at capacity for specified connection type.")]
pub struct AtCapacity;

/// Why a ban was not made or lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BanError {
    /// It is banned.
    #[error("Error: IP/Subnet already banned")]
    AlreadyBanned,
    /// It shall end before now.
    #[error("Error: Absolute timestamp is in the past")]
    InThePast,
    /// It was not banned.
    #[error("Error: Unban failed. Requested address/subnet was not previously manually banned.")]
    NotBanned,
}

/// Why `addpeeraddress` failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddAddressError {
    /// The new table did not take it.
    #[error("failed-adding-to-new")]
    New,
    /// The tried table did not take it.
    #[error("failed-adding-to-tried")]
    Tried,
}

/// An address drawn from the address manager (`getnodeaddresses`).
pub type KnownAddress = PeerAddress;

/// Why a socket cannot be listened on. The texts are Core's.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program, or another node, has it.
    #[error("Unable to bind to {0} on this computer. Bitcoin Core is probably already running.")]
    InUse(SocketAddr),
    /// The system refuses.
    #[error("Unable to bind to {0} on this computer (bind returned error {1})")]
    Refused(SocketAddr, std::io::Error),
    /// It is bound but cannot be listened on.
    #[error("Listening for incoming connections failed (listen returned error {0})")]
    Listen(std::io::Error),
}

/// Why the room cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `peers.dat` cannot be used. The text is Core's.
    #[error(
        "Invalid or corrupt peers.dat ({error}). If you believe this is a bug, please report it to the project. \
         As a workaround, you can move the file (\"{path}\") out of the way (rename, move, or delete) to have a \
         new one created on the next start."
    )]
    PeersFile {
        /// What is wrong with it.
        error: String,
        /// Where it is.
        path: String,
    },
    /// `peers.dat` is too new and cannot be set aside.
    #[error("Failed to rename invalid peers.dat file. Please move or delete it and try again.")]
    SetAside,
    /// A listening socket cannot be handed to the runtime.
    #[error(transparent)]
    Socket(#[from] std::io::Error),
}
