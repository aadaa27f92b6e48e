use std::collections::{BTreeSet, VecDeque};

use bitcoin::p2p::ServiceFlags;
use bitcoin::{BlockHash, Transaction, Work, Wtxid};
use ironpeer_primitives::{HeaderInfo, Height, PeerId, UnixTime};
use ironpeer_wire::{Inventory, Locator, Service};
use rand::RngCore;

use crate::addr::AddrRelay;
use crate::bloom::RollingBloom;
use crate::event::Connection;
use crate::filter::PeerFilter;
use crate::limits::{KNOWN_TX_FILTER, TX_FILTER_FALSE_POSITIVE};
use crate::ping::Ping;
use crate::presync::Presync;

/// Microseconds since the Unix epoch.
pub type Micros = i64;

/// A header in the tree, without the parts of [`HeaderInfo`] that change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownBlock {
    pub hash: BlockHash,
    pub height: Height,
    pub work: Work,
}

impl From<HeaderInfo> for KnownBlock {
    fn from(info: HeaderInfo) -> Self {
        Self { hash: info.hash, height: info.height, work: info.chainwork }
    }
}

/// Whether an outbound peer's chain keeps up with ours (Core's `ChainSyncTimeoutState`).
#[derive(Debug, Default)]
pub struct ChainSync {
    /// Seconds; when to act.
    pub timeout: Option<UnixTime>,
    /// What the peer has to reach.
    pub work_header: Option<KnownBlock>,
    /// It was asked; no answer within the timeout ends the connection.
    pub sent_getheaders: bool,
    /// Never dropped for lagging.
    pub protect: bool,
}

/// Transaction announcements to one peer (Core's `Peer::TxRelay`).
#[derive(Debug)]
pub struct TxRelay {
    /// The peer wants them.
    pub relay_txs: bool,
    /// Hashes the peer announced to us, or we to it.
    pub known: RollingBloom,
    /// The peer wants only what matches this (BIP37).
    pub filter: Option<PeerFilter>,
    /// Waiting to be announced.
    pub to_send: BTreeSet<Wtxid>,
    /// The peer asked for the whole mempool.
    pub send_mempool: bool,
    /// When to announce next; `None` until the handshake is done, and nothing is queued before.
    pub next_send: Option<Micros>,
    /// Announced since the last tick.
    pub since_tick: usize,
    /// Mempool sequence at the last announcement: what is older may be fetched.
    pub last_sequence: u64,
    /// Least feerate the peer wants, in satoshi per 1,000 vbytes.
    pub fee_filter: u64,
}

impl TxRelay {
    pub fn new(relay_txs: bool, rng: &mut impl RngCore) -> Self {
        Self {
            relay_txs,
            known: RollingBloom::new(KNOWN_TX_FILTER, TX_FILTER_FALSE_POSITIVE, rng),
            filter: None,
            to_send: BTreeSet::new(),
            send_mempool: false,
            next_send: None,
            since_tick: 0,
            last_sequence: 1,
            fee_filter: 0,
        }
    }
}

impl TxRelay {
    /// Whether the peer's filter, if it set one, lets a transaction through.
    pub fn wants(&mut self, tx: &Transaction) -> bool {
        self.filter.as_mut().is_none_or(|filter| filter.matches(tx))
    }
}

/// Headers given to the chain, and what is needed when it answers.
#[derive(Debug)]
pub struct PendingHeaders {
    /// The peer's message was full: it may have more.
    pub may_have_more: bool,
    /// The last header was not known before.
    pub new_header: bool,
    /// A low-work sync goes on by itself.
    pub in_presync: bool,
}

/// Why a block is being read.
#[derive(Debug)]
pub enum LoadFor {
    /// `getdata` of a compact block.
    Compact,
    /// `getdata` of a block reduced by the peer's filter.
    Filtered,
    /// `getblocktxn` with these positions.
    Transactions(Vec<u16>),
    /// Announcing the tip to a peer that wants compact blocks at once.
    Announce,
}

/// Everything known of one connection.
#[derive(Debug)]
pub struct Peer {
    pub id: PeerId,
    pub connection: Connection,
    pub connected_at: Micros,
    /// Services we offer to this peer.
    pub our_services: ServiceFlags,
    /// In our `version`; the same number coming in means we connected to ourselves.
    pub nonce: u64,
    /// A message came from it.
    pub received_any: bool,
    /// A message went to it.
    pub sent_any: bool,
    /// Its connection is being closed: nothing is sent or handled any more.
    pub disconnecting: bool,
    /// It broke the rules; acted on after the current event.
    pub misbehaved: bool,

    /// Protocol version it sent; 0 before.
    pub version: u32,
    /// The lower of its and our version.
    pub common_version: u32,
    pub services: ServiceFlags,
    pub subver: String,
    pub time_offset: i64,
    pub has_wanted_services: bool,
    pub addr_local: Option<Service>,
    /// The height it began with; -1 before it has said so.
    pub starting_height: i32,
    /// Both `verack`s are exchanged (Core's `fSuccessfullyConnected`).
    pub connected: bool,
    pub wtxid_relay: bool,
    pub wants_addrv2: bool,
    pub prefers_headers: bool,
    pub sent_sendheaders: bool,
    pub provides_cmpct: bool,
    pub wants_hb_cmpct: bool,
    pub ping: Ping,

    /// The best header the peer is known to have.
    pub best_known: Option<KnownBlock>,
    /// The last block it announced whose header we do not have.
    pub last_unknown: Option<BlockHash>,
    /// The last block both have.
    pub last_common: Option<KnownBlock>,
    /// The best header we sent it.
    pub best_sent: Option<KnownBlock>,
    pub sync_started: bool,
    /// When header download takes too long; `None` after it once caught up.
    pub headers_sync_timeout: Option<Micros>,
    pub last_getheaders: Option<Micros>,
    /// Its last request for headers that came while blocks were being imported.
    pub unanswered_getheaders: Option<Locator>,
    pub inv_triggered_getheaders: bool,
    pub presync: Option<Box<Presync>>,
    pub pending_headers: Option<PendingHeaders>,
    /// Blocks download from it first.
    pub preferred_download: bool,
    /// Blocks asked of it, oldest request first.
    pub in_flight: VecDeque<(BlockHash, Height)>,
    /// Since when it holds up all others.
    pub stalling_since: Option<Micros>,
    /// When the first block in flight began.
    pub downloading_since: Micros,
    pub chain_sync: ChainSync,
    pub last_block_announcement: UnixTime,
    pub last_block: UnixTime,

    /// New blocks to announce, by headers if it goes.
    pub announce: Vec<BlockHash>,
    /// Blocks to announce by `inv`.
    pub announce_inv: Vec<BlockHash>,
    /// When this block is fetched, the next `inv` batch is due (`getblocks`).
    pub continuation: Option<BlockHash>,
    /// What it asked for and has not got yet.
    pub getdata: VecDeque<Inventory>,
    /// A block being read for it.
    pub loading: Option<(BlockHash, LoadFor)>,
    /// Its send queue is full.
    pub paused: bool,

    pub tx_relay: Option<TxRelay>,
    pub last_tx: UnixTime,
    /// Orphan given to the mempool in this peer's turn.
    pub orphan_pending: Option<Wtxid>,
    /// Least feerate we last told it, in satoshi per 1,000 vbytes.
    pub fee_filter_sent: u64,
    pub next_feefilter: Micros,

    pub addr: AddrRelay,
}

impl Peer {
    pub fn new(
        id: PeerId,
        connection: Connection,
        mut our_services: ServiceFlags,
        nonce: u64,
        now: Micros,
    ) -> Self {
        if connection.permissions.bloom_filter {
            our_services.add(ServiceFlags::BLOOM);
        }
        Self {
            id,
            connection,
            connected_at: now,
            our_services,
            nonce,
            received_any: false,
            sent_any: false,
            disconnecting: false,
            misbehaved: false,
            version: 0,
            common_version: 0,
            services: ServiceFlags::NONE,
            subver: String::new(),
            time_offset: 0,
            has_wanted_services: false,
            addr_local: None,
            starting_height: -1,
            connected: false,
            wtxid_relay: false,
            wants_addrv2: false,
            prefers_headers: false,
            sent_sendheaders: false,
            provides_cmpct: false,
            wants_hb_cmpct: false,
            ping: Ping::default(),
            best_known: None,
            last_unknown: None,
            last_common: None,
            best_sent: None,
            sync_started: false,
            headers_sync_timeout: None,
            last_getheaders: None,
            unanswered_getheaders: None,
            inv_triggered_getheaders: false,
            presync: None,
            pending_headers: None,
            preferred_download: false,
            in_flight: VecDeque::new(),
            stalling_since: None,
            downloading_since: 0,
            chain_sync: ChainSync::default(),
            last_block_announcement: 0,
            last_block: 0,
            announce: Vec::new(),
            announce_inv: Vec::new(),
            continuation: None,
            getdata: VecDeque::new(),
            loading: None,
            paused: false,
            tx_relay: None,
            last_tx: 0,
            orphan_pending: None,
            fee_filter_sent: 0,
            next_feefilter: 0,
            addr: AddrRelay::new(now),
        }
    }

    /// Whether it offers all of these services.
    pub fn has(&self, services: ServiceFlags) -> bool {
        self.services.has(services)
    }

    /// Whether blocks may be asked of it at all.
    pub fn serves_blocks(&self) -> bool {
        self.has(ServiceFlags::NETWORK) || self.has(ServiceFlags::NETWORK_LIMITED)
    }

    /// Whether it keeps recent blocks only.
    pub fn is_limited(&self) -> bool {
        !self.has(ServiceFlags::NETWORK) && self.has(ServiceFlags::NETWORK_LIMITED)
    }

    /// Whether it serves witnesses.
    pub fn serves_witnesses(&self) -> bool {
        self.has(ServiceFlags::WITNESS)
    }

    pub fn is_inbound(&self) -> bool {
        self.connection.kind == crate::ConnectionKind::Inbound
    }

    /// Takes the oldest request, if it is one of these.
    pub fn take_request(&mut self, wanted: impl Fn(&Inventory) -> bool) -> Option<Inventory> {
        if self.getdata.front().is_some_and(wanted) { self.getdata.pop_front() } else { None }
    }

    /// Remembers a (w)txid the peer knows.
    pub fn add_known_tx(&mut self, hash: &[u8; 32]) {
        if let Some(relay) = &mut self.tx_relay {
            relay.known.insert(hash);
        }
    }
}
