use std::sync::Arc;
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::p2p::ServiceFlags;
use bitcoin::{Block, BlockHash, Transaction, Txid, Wtxid};
use ironpeer_primitives::{
    BlockReject, ChainEvent, Clock, HeaderInfo, Height, LogLine, PeerId, TxReject, UnixTime,
};
use ironpeer_wire::{Message, PeerAddress, Service};

/// The moment an event happened, on the clock that follows `setmocktime`, as everything in
/// Core's `net_processing.cpp` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Microseconds since the Unix epoch.
    pub unix_micros: i64,
}

impl Now {
    /// Reads a clock.
    pub fn of(clock: &dyn Clock) -> Self {
        Self { unix_micros: clock.unix_micros() }
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn unix(self) -> UnixTime {
        self.unix_micros.div_euclid(1_000_000)
    }
}

/// Why a connection exists (Core's `ConnectionType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionKind {
    /// The peer connected to us.
    Inbound,
    /// Opened by ourselves; relays blocks, transactions and addresses.
    OutboundFullRelay,
    /// Asked for by the user (`-connect`, `-addnode`, `addnode`).
    Manual,
    /// Short: only tests whether an address is alive.
    Feeler,
    /// Opened by ourselves; relays blocks alone.
    BlockRelayOnly,
    /// Short: only asks for addresses (`-seednode`).
    AddrFetch,
}

impl ConnectionKind {
    /// The name in `getpeerinfo` and in Core's log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::OutboundFullRelay => "outbound-full-relay",
            Self::Manual => "manual",
            Self::Feeler => "feeler",
            Self::BlockRelayOnly => "block-relay-only",
            Self::AddrFetch => "addr-fetch",
        }
    }

    /// Whether the node chose the peer itself and may replace it for a bad chain
    /// (`IsOutboundOrBlockRelayConn`).
    #[must_use]
    pub const fn is_automatic_sync(self) -> bool {
        matches!(self, Self::OutboundFullRelay | Self::BlockRelayOnly)
    }

    /// Whether the peer must offer the services we want (`ExpectServicesFromConn`).
    #[must_use]
    pub const fn expects_services(self) -> bool {
        matches!(self, Self::OutboundFullRelay | Self::BlockRelayOnly | Self::AddrFetch)
    }
}

/// What a peer may do beyond the usual (`-whitelist`, `-whitebind`; Core's `NetPermissions`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// May use BIP37 filters.
    pub bloom_filter: bool,
    /// May send transactions in `-blocksonly` mode; no limits on its announcements.
    pub relay: bool,
    /// Its transactions are announced even if they are in the mempool already.
    pub force_relay: bool,
    /// May get more blocks than `-maxuploadtarget` allows.
    pub download: bool,
    /// Is never disconnected or discouraged for bad behaviour.
    pub no_ban: bool,
    /// May ask for the whole mempool.
    pub mempool: bool,
    /// No limit on addresses from it, and an uncached answer to `getaddr`.
    pub addr: bool,
}

/// A new connection, as the shell knows it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Why it exists.
    pub kind: ConnectionKind,
    /// The other end.
    pub addr: Service,
    /// Services the address manager knows of the other end; none for inbound.
    pub services: ServiceFlags,
    /// What the peer may do.
    pub permissions: Permissions,
    /// A keyed hash of the peer's network group; inbound peers of one group share announcement
    /// times, so that no spy gains by connecting twice.
    pub network_group: u64,
}

/// What happened. Everything that changes the machine's state goes through this type.
#[derive(Clone, Debug)]
pub enum Event {
    /// A connection was opened. For outbound ones the answer holds our `version`.
    Connected {
        /// Its number.
        peer: PeerId,
        /// What it is.
        connection: Connection,
    },
    /// A connection is gone; the number does not come back.
    Disconnected {
        /// Whose.
        peer: PeerId,
    },
    /// A well-framed message came, readable or not. To be handed in only after every action of
    /// the peer's previous event was carried out (but see [`Action::SubmitBlock`]), and not while
    /// its send queue is full.
    Message {
        /// From whom.
        peer: PeerId,
        /// What.
        message: Message,
    },
    /// The answer to [`Action::SubmitHeaders`].
    HeadersDone {
        /// Whose headers.
        peer: PeerId,
        /// The last header, or why one was refused.
        result: Result<HeaderInfo, BlockReject>,
    },
    /// The answer to [`Action::CheckMutation`].
    MutationChecked {
        /// Whose block.
        peer: PeerId,
        /// The block.
        block: Arc<Block>,
        /// How its body was changed on the way, if it was.
        result: Result<(), BlockReject>,
    },
    /// The answer to [`Action::SubmitBlock`].
    BlockDone {
        /// Whose block.
        peer: PeerId,
        /// Which.
        hash: BlockHash,
        /// What became of it.
        outcome: BlockOutcome,
    },
    /// The answer to [`Action::SubmitTx`].
    TxDone {
        /// Whose transaction.
        peer: PeerId,
        /// Which.
        tx: Arc<Transaction>,
        /// What became of it.
        result: Result<TxAccepted, TxReject>,
    },
    /// The answer to [`Action::SubmitPackage`].
    PackageDone {
        /// Whose package.
        peer: PeerId,
        /// Parent, child.
        txs: Vec<Arc<Transaction>>,
        /// Whether all of it is in the mempool now.
        accepted: bool,
        /// One entry for each transaction that got a result of its own, in package order.
        results: Vec<(Arc<Transaction>, Result<TxAccepted, TxReject>)>,
    },
    /// The active chain changed. The header tree and mempool given with it are at least as new.
    TipChanged {
        /// How.
        change: Arc<ChainEvent>,
    },
    /// A block that was stored earlier turned out invalid when its parents came (Core's
    /// `BlockChecked` of a block other than the one submitted).
    BlockInvalid {
        /// Which.
        hash: BlockHash,
        /// Why.
        reject: BlockReject,
    },
    /// A transaction entered the mempool by RPC, or shall be announced again.
    TxAdded {
        /// Its hash without witness.
        txid: Txid,
        /// Its hash with witness.
        wtxid: Wtxid,
    },
    /// The peer's send queue passed its limit (`paused`), or fell below it again.
    SendQueue {
        /// Whose.
        peer: PeerId,
        /// Whether there is no room now.
        paused: bool,
    },
    /// Go on with work that was cut into pieces ([`Action::Continue`]).
    Continue {
        /// Whose work.
        peer: PeerId,
    },
    /// The answer to [`Action::AskAddrs`].
    Addrs {
        /// Who asked.
        peer: PeerId,
        /// At most 1,000 addresses, at most 23 % of those known.
        addrs: Vec<PeerAddress>,
    },
    /// The answer to [`Action::LoadBlock`].
    BlockLoaded {
        /// Who asked.
        peer: PeerId,
        /// Which.
        hash: BlockHash,
        /// The block; `None` if it cannot be read (pruned, or gone).
        block: Option<Arc<Block>>,
    },
    /// The `ping` RPC: every peer is pinged with its next tick.
    PingAll,
    /// Time passed: all that waits for a moment is looked at. Due about every 100 ms.
    Tick,
}

/// What became of a submitted block.
#[derive(Clone, Debug)]
pub struct BlockOutcome {
    /// It was stored now (and was not before).
    pub new: bool,
    /// `Err` if it, or its header, was found invalid. A block not looked at (known already, or
    /// not wanted) is `Ok`.
    pub result: Result<(), BlockReject>,
}

/// What entering the mempool did.
#[derive(Clone, Debug, Default)]
pub struct TxAccepted {
    /// Transactions in the mempool now.
    pub pool_txs: usize,
    /// Bytes of memory they take.
    pub pool_bytes: u64,
}

/// The answer to one of BIP157's questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterReply {
    /// A `cfilter` each.
    Filters,
    /// One `cfheaders`.
    Headers,
    /// One `cfcheckpt`.
    Checkpoints,
}

/// What the shell is to do, in this order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Encode and queue a message.
    Send {
        /// To whom.
        peer: PeerId,
        /// What.
        message: Message,
    },
    /// Read a block's bytes and queue them as a `block` message (before whatever follows for
    /// this peer). If it cannot be read, disconnect the peer as Core does.
    SendBlock {
        /// To whom.
        peer: PeerId,
        /// Which.
        hash: BlockHash,
        /// With witnesses.
        witness: bool,
    },
    /// Read filters of blocks, or what stands for them, and queue the answer (before whatever
    /// follows for this peer). If they are not there, nothing is sent.
    SendFilters {
        /// To whom.
        peer: PeerId,
        /// Which answer.
        reply: FilterReply,
        /// The first block's height.
        start: Height,
        /// The last block, of the chain meant.
        stop: BlockHash,
    },
    /// Read a block and hand it back ([`Event::BlockLoaded`]).
    LoadBlock {
        /// For whom.
        peer: PeerId,
        /// Which.
        hash: BlockHash,
    },
    /// Close the connection.
    Disconnect {
        /// Whose.
        peer: PeerId,
    },
    /// Remember the peer's address as discouraged and close all its connections.
    Discourage {
        /// Whose.
        peer: PeerId,
    },
    /// Give headers to the chain ([`Event::HeadersDone`]).
    SubmitHeaders {
        /// Whose.
        peer: PeerId,
        /// Connected to each other and to a known header.
        headers: Vec<Header>,
        /// The chain they end has enough work to be kept.
        min_pow_checked: bool,
    },
    /// Find out whether a block's body belongs to its header, by
    /// [`check_block_mutation`](crate::check_block_mutation) ([`Event::MutationChecked`]). It hashes the
    /// whole block, so it is no work for a moment when others wait.
    CheckMutation {
        /// Whose.
        peer: PeerId,
        /// The block.
        block: Arc<Block>,
        /// Its witnesses are to be checked, too.
        check_witness_root: bool,
    },
    /// Give a block to the chain ([`Event::BlockDone`]).
    SubmitBlock {
        /// Whose.
        peer: PeerId,
        /// The block.
        block: Arc<Block>,
        /// It was asked for: keep it even if it has less work than the tip.
        force: bool,
        /// The chain it ends has enough work to be kept.
        min_pow_checked: bool,
        /// It was asked of this peer. The peer's next block may be handed in before this one is
        /// answered for, if the answers come in the order of the blocks; any other message of
        /// the peer waits as usual.
        download: bool,
    },
    /// Give a transaction to the mempool ([`Event::TxDone`]).
    SubmitTx {
        /// Whose.
        peer: PeerId,
        /// The transaction.
        tx: Arc<Transaction>,
    },
    /// Give a parent and its child to the mempool as a package ([`Event::PackageDone`]).
    SubmitPackage {
        /// Whose.
        peer: PeerId,
        /// Parent, child.
        txs: Vec<Arc<Transaction>>,
    },
    /// Put addresses into the address manager, two hours older than they say.
    AddAddrs {
        /// Who sent them.
        peer: PeerId,
        /// The addresses.
        addrs: Vec<PeerAddress>,
    },
    /// Draw addresses for a `getaddr` answer ([`Event::Addrs`]).
    AskAddrs {
        /// Who asked.
        peer: PeerId,
        /// Draw anew instead of from the cache.
        uncached: bool,
    },
    /// The outbound peer's handshake succeeded (Core's `AddrMan::Good`).
    MarkGood {
        /// Whose address.
        peer: PeerId,
    },
    /// An outbound peer that had been in use is gone (Core's `AddrMan::Connected`).
    MarkConnected {
        /// Its address.
        addr: Service,
    },
    /// The outbound peer said what it serves (Core's `AddrMan::SetServices`).
    SetServices {
        /// Whose address.
        peer: PeerId,
        /// What it said.
        services: ServiceFlags,
    },
    /// A peer saw us under this address (Core's `SeenLocal`).
    SeenLocal {
        /// The address.
        addr: Service,
    },
    /// A peer fetched one of our own transactions: it counts as broadcast.
    Broadcast {
        /// Which.
        txid: Txid,
    },
    /// Give [`Event::Continue`] back before the peer's next message.
    Continue {
        /// Whose.
        peer: PeerId,
    },
    /// Whether one outbound peer beyond the usual number should be tried (stale tip).
    TryExtraOutbound(bool),
    /// Initial sync is over: from now on a block-relay-only peer beyond the usual number may be
    /// tried now and then (Core's `StartExtraBlockRelayPeers`).
    StartExtraBlockRelay,
    /// Write a log line.
    Log(LogLine),
}

/// What `getpeerinfo` shows of a peer and only the machine knows.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStats {
    /// Services the peer offers.
    pub services: ServiceFlags,
    /// Protocol version it sent; 0 before.
    pub version: u32,
    /// Its user agent, cleaned of odd characters.
    pub subver: String,
    /// It wants transaction announcements (`relaytxes`).
    pub relay_txs: bool,
    /// Transactions waiting to be announced (`inv_to_send`).
    pub inv_to_send: usize,
    /// Mempool sequence at the last announcement (`last_inv_sequence`).
    pub last_inv_sequence: u64,
    /// When it last sent a transaction that entered the mempool, Unix seconds; 0 for never.
    pub last_transaction: UnixTime,
    /// When it last sent a block that was new, Unix seconds; 0 for never.
    pub last_block: UnixTime,
    /// Seconds its clock is ahead of ours, as of the handshake.
    pub time_offset: i64,
    /// Last round trip.
    pub ping_time: Option<Duration>,
    /// Shortest round trip.
    pub min_ping: Option<Duration>,
    /// How long a ping has been unanswered.
    pub ping_wait: Option<Duration>,
    /// It announces to us with compact blocks.
    pub bip152_hb_to: bool,
    /// We announce to it with compact blocks.
    pub bip152_hb_from: bool,
    /// Height reached in the presync of a chain with little work so far; -1 for none.
    pub presynced_headers: i64,
    /// Height of the best header it has; -1 for unknown.
    pub synced_headers: i64,
    /// Height of the last block we both have; -1 for unknown.
    pub synced_blocks: i64,
    /// Heights of the blocks asked of it.
    pub inflight: Vec<u32>,
    /// Addresses are relayed with it.
    pub addr_relay_enabled: bool,
    /// Addresses taken from it.
    pub addr_processed: u64,
    /// Addresses dropped because there were too many.
    pub addr_rate_limited: u64,
    /// Least feerate it wants, in satoshi per 1,000 vbytes.
    pub min_fee_filter: u64,
    /// It wants only transactions that match a filter (BIP37).
    pub has_filter: bool,
    /// Both `verack`s were exchanged.
    pub handshake_done: bool,
    /// The handshake offered all services we want of an outbound peer.
    pub has_wanted_services: bool,
    /// Our address as the peer sees it.
    pub addr_local: Option<Service>,
    /// The height it began with; -1 before it has said so.
    pub starting_height: i32,
}

/// An orphan in `getorphantxs`.
#[derive(Clone, Debug)]
pub struct OrphanInfo {
    /// The transaction.
    pub tx: Arc<Transaction>,
    /// Who announced it.
    pub from: Vec<PeerId>,
}
