use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::{Block, BlockHash, Transaction, Txid, Wtxid};
use ironpeer_consensus::{BuriedDeployment, Params};
use ironpeer_primitives::{
    ChainRead, ConnectedBlock, HeaderInfo, Height, LogCategory, LogLine, MempoolRead, PeerId, UnixTime,
};
use ironpeer_wire::{Inventory, Message, PeerAddress};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::cx::{Cx, Debug, micros};
use crate::download::TxDownload;
use crate::event::{Action, Connection, ConnectionKind, Event, FilterReply, Now, OrphanInfo, PeerStats};
use crate::limits::{BLOCK_STALLING_TIMEOUT_DEFAULT, DEFAULT_PEER_TIMEOUT, EXTRA_PEER_CHECK_INTERVAL};
use crate::peer::{KnownBlock, Micros, Peer};

/// Without a tick for this long the wall clock must have jumped (`setmocktime`).
const CLOCK_JUMP: Micros = micros(Duration::from_secs(1));

/// How the node is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The network's rules.
    pub params: Arc<Params>,
    /// Services we offer.
    pub services: ServiceFlags,
    /// Old blocks are deleted (`-prune`).
    pub pruned: bool,
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
    #[must_use]
    pub fn new(params: Arc<Params>) -> Self {
        let mut services = ServiceFlags::NETWORK;
        services.add(ServiceFlags::WITNESS);
        services.add(ServiceFlags::NETWORK_LIMITED);
        Self {
            params,
            services,
            pruned: false,
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

/// Which of `-maxuploadtarget`'s limits are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadLimits {
    /// No whole mempool is announced any more.
    pub reached: bool,
    /// Nor are blocks served that are older than a week, or filtered: what is left is for new ones.
    pub historical_reached: bool,
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

/// Both hashes of each transaction of a block, worked out once.
pub struct TxIds(pub Vec<([u8; 32], [u8; 32])>);

impl TxIds {
    pub fn of(block: &Block) -> Self {
        let ids = |tx: &Transaction| (tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
        Self(block.txdata.iter().map(ids).collect())
    }
}

/// The newest block of the active chain, kept at hand: it is what most peers ask for.
#[derive(Debug)]
pub struct RecentBlock {
    pub hash: BlockHash,
    pub block: Arc<Block>,
    /// Its transactions, by both hashes.
    pub positions: BTreeMap<[u8; 32], usize>,
}

impl RecentBlock {
    pub fn new(connected: &ConnectedBlock, ids: &TxIds) -> Self {
        let positions = ids
            .0
            .iter()
            .enumerate()
            .flat_map(|(position, (txid, wtxid))| [(*txid, position), (*wtxid, position)]);
        Self { hash: connected.hash, block: Arc::clone(&connected.block), positions: positions.collect() }
    }
}

/// The machine. See the crate's documentation.
#[derive(Debug)]
pub struct Sync {
    pub(crate) config: Config,
    pub(crate) rng: ChaCha12Rng,
    pub(crate) peers: BTreeMap<PeerId, Peer>,
    debug: Debug,
    /// Blocks are being imported or reindexed: peers' blocks and headers are not looked at.
    pub(crate) importing: bool,
    pub(crate) network_active: bool,
    pub(crate) upload: UploadLimits,
    /// Our own address, as it should be told to peers.
    pub(crate) local_address: Option<PeerAddress>,
    pub(crate) tip_height: Height,
    pub(crate) tip_time: UnixTime,
    /// When the tip last changed, Unix seconds; 0 for not since start.
    pub(crate) last_tip_update: UnixTime,

    /// Whom a block is being fetched from.
    pub(crate) in_flight: BTreeMap<BlockHash, PeerId>,
    /// Blocks given to the chain and not answered yet: neither here nor missing.
    pub(crate) submitted: BTreeMap<BlockHash, PeerId>,
    /// Who sent a block that is stored but not connected yet.
    pub(crate) block_sources: BTreeMap<BlockHash, PeerId>,
    /// Peers header download was begun with.
    pub(crate) syncing_peers: usize,
    /// Peers blocks are downloaded from first.
    pub(crate) preferred_peers: usize,
    pub(crate) stalling_timeout: Duration,
    pub(crate) last_inv_headers_sync: Option<BlockHash>,
    pub(crate) recent_block: Option<RecentBlock>,
    pub(crate) try_extra_outbound: bool,
    pub(crate) initial_sync_finished: bool,
    pub(crate) stale_tip_check: UnixTime,
    next_eviction_check: Micros,
    last_tick: Micros,

    pub(crate) tx: TxDownload,
    /// When inbound peers of a network group get their next announcement.
    pub(crate) inbound_inv_times: BTreeMap<u64, Micros>,
    pub(crate) addr_relay_key: (u64, u64),
}

impl Sync {
    /// A machine without peers. All its randomness comes from `seed`.
    #[must_use]
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        Self {
            tx: TxDownload::new(&mut rng),
            addr_relay_key: (rng.next_u64(), rng.next_u64()),
            config,
            rng,
            peers: BTreeMap::new(),
            debug: Debug::ALL,
            importing: false,
            network_active: true,
            upload: UploadLimits::default(),
            local_address: None,
            tip_height: Height::GENESIS,
            tip_time: 0,
            last_tip_update: 0,
            in_flight: BTreeMap::new(),
            submitted: BTreeMap::new(),
            block_sources: BTreeMap::new(),
            syncing_peers: 0,
            preferred_peers: 0,
            stalling_timeout: BLOCK_STALLING_TIMEOUT_DEFAULT,
            last_inv_headers_sync: None,
            recent_block: None,
            try_extra_outbound: false,
            initial_sync_finished: false,
            stale_tip_check: 0,
            next_eviction_check: 0,
            last_tick: 0,
            inbound_inv_times: BTreeMap::new(),
        }
    }

    /// Tells which debug lines are worth building; all are at first.
    pub fn set_debug(&mut self, enabled: impl Fn(LogCategory) -> bool) {
        self.debug = Debug::of(enabled);
    }

    /// Whether blocks are being imported or reindexed (Core's `LoadingBlocks`). To be set before
    /// there are peers: an answer that comes meanwhile is lost, and not asked for again.
    pub const fn set_importing(&mut self, importing: bool) {
        self.importing = importing;
    }

    /// Whether the network is switched on (`setnetworkactive`).
    pub const fn set_network_active(&mut self, active: bool) {
        self.network_active = active;
    }

    /// How much may still be sent.
    pub const fn set_upload_limits(&mut self, limits: UploadLimits) {
        self.upload = limits;
    }

    /// Our own address, to be told to peers; `None` if we know none.
    pub const fn set_local_address(&mut self, address: Option<PeerAddress>) {
        self.local_address = address;
    }

    /// Takes an event in and says what is to be done about it, in order.
    pub fn handle(
        &mut self,
        now: Now,
        event: Event,
        chain: &dyn ChainRead,
        pool: &dyn MempoolRead,
    ) -> Vec<Action> {
        let mut cx = Cx { now: now.unix_micros, chain, pool, actions: Vec::new(), debug: self.debug };
        let tip = chain.tip();
        self.tip_height = tip.height;
        self.tip_time = UnixTime::from(tip.header.time);
        // Ticks come several times a second: more time without one means that the clock was set,
        // and what is due now is done before the event, as if the time had passed.
        if cx.now - self.last_tick > CLOCK_JUMP && !matches!(event, Event::Tick) {
            self.tick(&mut cx);
        }
        self.dispatch(&mut cx, event);
        cx.actions
    }

    fn dispatch(&mut self, cx: &mut Cx<'_>, event: Event) {
        let peer = match event {
            Event::Connected { peer, connection } => {
                self.on_connected(cx, peer, connection);
                peer
            }
            Event::Disconnected { peer } => {
                self.on_disconnected(cx, peer);
                return;
            }
            Event::Message { peer, message } => {
                if !self.is_open(peer) {
                    return;
                }
                self.on_message(cx, peer, message);
                peer
            }
            Event::HeadersDone { peer, result } => {
                self.on_headers_done(cx, peer, result);
                peer
            }
            Event::MutationChecked { peer, block, result } => {
                self.on_mutation_checked(cx, peer, block, result);
                peer
            }
            Event::BlockDone { peer, hash, outcome } => {
                self.on_block_done(cx, peer, hash, outcome);
                peer
            }
            Event::BlockInvalid { hash, reject } => {
                let Some(source) = self.block_sources.remove(&hash) else { return };
                self.maybe_punish_for_block(cx, source, &reject, "");
                source
            }
            Event::TxDone { peer, tx, result } => {
                self.on_tx_done(cx, peer, &tx, result);
                self.start_orphans(cx);
                self.announce_at_once(cx);
                peer
            }
            Event::PackageDone { peer, txs, accepted, results } => {
                self.on_package_done(cx, peer, &txs, accepted, results);
                self.start_orphans(cx);
                self.announce_at_once(cx);
                peer
            }
            Event::TipChanged { change } => {
                self.on_tip_changed(cx, &change);
                self.send_all(cx);
                return;
            }
            Event::TxAdded { txid, wtxid } => {
                self.announce_tx(txid, wtxid);
                self.announce_at_once(cx);
                return;
            }
            Event::SendQueue { peer, paused } => {
                if let Some(state) = self.peers.get_mut(&peer) {
                    state.paused = paused;
                }
                peer
            }
            Event::Continue { peer } => peer,
            Event::Addrs { peer, addrs } => {
                self.on_addrs_drawn(peer, addrs);
                peer
            }
            Event::BlockLoaded { peer, hash, block } => {
                self.on_block_loaded(cx, peer, hash, block);
                peer
            }
            Event::PingAll => {
                for peer in self.peers.values_mut() {
                    peer.ping.queued = true;
                }
                self.send_all(cx);
                return;
            }
            Event::Tick => {
                self.tick(cx);
                return;
            }
        };
        self.work(cx, peer);
        self.send_messages(cx, peer);
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        self.last_tick = cx.now;
        for id in self.ids() {
            self.check_handshake_time(cx, id);
            if let Some(relay) = self.peers.get_mut(&id).and_then(|peer| peer.tx_relay.as_mut()) {
                relay.since_tick = 0;
            }
            // Requests go on by themselves, in their order: by `Continue` and `SendQueue`.
            if self.is_open(id) {
                self.process_orphan(cx, id);
            }
            self.send_messages(cx, id);
        }
        if cx.now >= self.next_eviction_check {
            if self.next_eviction_check != 0 {
                self.check_stale_tip_and_evict(cx);
            }
            // A time that is over counts as none; nobody shall fill this by connecting from everywhere.
            let now = cx.now;
            self.inbound_inv_times.retain(|_, time| *time >= now);
            self.next_eviction_check = cx.now + micros(EXTRA_PEER_CHECK_INTERVAL);
        }
    }

    fn send_all(&mut self, cx: &mut Cx<'_>) {
        for id in self.ids() {
            self.send_messages(cx, id);
        }
    }

    /// Whether requests of a peer, or those it may yet make, wait until its send queue has room.
    /// Once it has, [`Event::SendQueue`] goes on with them.
    #[must_use]
    pub fn waits_for_room(&self, id: PeerId) -> bool {
        self.peers
            .get(&id)
            .is_some_and(|peer| !peer.disconnecting && (peer.paused || !peer.getdata.is_empty()))
    }

    pub(crate) fn ids(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    /// Whether the connection is there and not about to be closed.
    pub(crate) fn is_open(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(|peer| !peer.disconnecting)
    }

    fn on_connected(&mut self, cx: &mut Cx<'_>, id: PeerId, connection: Connection) {
        let nonce = self.rng.next_u64();
        let peer = Peer::new(id, connection, self.config.services, nonce, cx.now);
        self.peers.insert(id, peer);
    }

    fn on_disconnected(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let Some(peer) = self.peers.remove(&id) else { return };
        self.syncing_peers -= usize::from(peer.sync_started);
        self.preferred_peers -= usize::from(peer.preferred_download);
        self.in_flight.retain(|_, owner| *owner != id);
        self.submitted.retain(|_, owner| *owner != id);
        self.block_sources.retain(|_, owner| *owner != id);
        self.tx.disconnected(id);
        self.tx.write_log(cx);
        let keeps_up_addrman = matches!(
            peer.connection.kind,
            ConnectionKind::OutboundFullRelay | ConnectionKind::Manual | ConnectionKind::AddrFetch
        );
        if peer.connected && keeps_up_addrman {
            cx.push(Action::MarkConnected { addr: peer.connection.addr });
        }
        cx.debug(LogCategory::Net, || format!("Cleared nodestate for peer={id}"));
    }

    /// Work that was left over: requests not answered yet, orphans to be tried again.
    fn work(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        if !self.is_open(id) {
            return;
        }
        self.process_getdata(cx, id);
        self.process_orphan(cx, id);
    }

    pub(crate) fn send(&mut self, cx: &mut Cx<'_>, id: PeerId, message: Message) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.disconnecting {
            return;
        }
        peer.sent_any = true;
        cx.push(Action::Send { peer: id, message });
    }

    /// `disconnecting peer=3`, with the address under `-logips`.
    pub(crate) fn disconnect_msg(&self, id: PeerId) -> String {
        format!("disconnecting {}", self.log_peer(id))
    }

    /// `peer=3`, with the address under `-logips`.
    pub(crate) fn log_peer(&self, id: PeerId) -> String {
        match self.peers.get(&id) {
            Some(peer) if self.config.log_ips => {
                format!("peer={id}, peeraddr={}", peer.connection.addr)
            }
            _ => format!("peer={id}"),
        }
    }

    pub(crate) fn disconnect(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !peer.disconnecting {
            peer.disconnecting = true;
            cx.push(Action::Disconnect { peer: id });
        }
    }

    /// Logs why, then disconnects.
    pub(crate) fn drop_peer(&mut self, cx: &mut Cx<'_>, id: PeerId, why: &str) {
        let text = self.disconnect_msg(id);
        cx.debug(LogCategory::Net, || format!("{why}, {text}"));
        self.disconnect(cx, id);
    }

    /// Marks a peer that broke the rules; it is dealt with before anything else is sent to it.
    pub(crate) fn misbehaving(&mut self, cx: &mut Cx<'_>, id: PeerId, message: &str) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.misbehaved = true;
        cx.debug(LogCategory::Net, || {
            if message.is_empty() {
                format!("Misbehaving: peer={id}")
            } else {
                format!("Misbehaving: peer={id}: {message}")
            }
        });
    }

    /// Acts on misbehaviour. Returns whether the connection is being closed.
    fn maybe_discourage(&mut self, cx: &mut Cx<'_>, id: PeerId) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return true };
        if !std::mem::take(&mut peer.misbehaved) {
            return false;
        }
        if peer.connection.permissions.no_ban {
            cx.warning(format!("Not punishing noban peer {id}!"));
            return false;
        }
        if peer.connection.kind == ConnectionKind::Manual {
            cx.warning(format!("Not punishing manually connected peer {id}!"));
            return false;
        }
        if peer.connection.addr.address.is_local() {
            cx.debug(LogCategory::Net, || {
                format!("Warning: disconnecting but not discouraging local peer {id}!")
            });
            self.disconnect(cx, id);
            return true;
        }
        peer.disconnecting = true;
        cx.debug(LogCategory::Net, || format!("Disconnecting and discouraging peer {id}!"));
        cx.push(Action::Discourage { peer: id });
        true
    }

    /// Everything that is due to one peer (Core's `SendMessages`).
    fn send_messages(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        if !self.is_open(id) || self.maybe_discourage(cx, id) {
            return;
        }
        self.open_handshake(cx, id);
        let Some(peer) = self.peers.get(&id) else { return };
        // What a message asked the chain or mempool comes first.
        if !peer.connected || peer.pending_headers.is_some() {
            return;
        }
        if self.check_addr_fetch_time(cx, id) {
            return;
        }
        self.maybe_send_ping(cx, id);
        if !self.is_open(id) {
            return;
        }
        self.maybe_send_addr(cx, id);
        self.answer_late(cx, id);
        self.maybe_send_sendheaders(cx, id);
        self.start_headers_sync(cx, id);
        self.announce_blocks(cx, id);
        self.send_inventory(cx, id);
        if self.check_download_times(cx, id) {
            return;
        }
        self.consider_eviction(cx, id);
        if !self.is_open(id) {
            return;
        }
        self.request_data(cx, id);
        self.maybe_send_feefilter(cx, id);
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, id: PeerId, message: Message) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.received_any = true;
        let Some(message) = self.on_handshake(cx, id, message) else { return };
        match message {
            Message::Addr(addrs) => self.on_addr(cx, id, "addr", addrs),
            Message::AddrV2(addrs) => self.on_addr(cx, id, "addrv2", addrs),
            Message::GetAddr => self.on_getaddr(cx, id),
            Message::Inv(inv) => self.on_inv(cx, id, &inv),
            Message::GetData(inv) => self.on_getdata(cx, id, inv),
            Message::NotFound(inv) => self.on_notfound(id, &inv),
            Message::GetBlocks(locator) => self.on_getblocks(cx, id, &locator),
            Message::GetHeaders(locator) => self.on_getheaders(cx, id, &locator),
            Message::GetBlockTxn(request) => self.on_getblocktxn(cx, id, request),
            Message::Tx(tx) => self.on_tx(cx, id, &tx),
            Message::Headers(headers) => self.on_headers(cx, id, headers),
            Message::Block(block) => self.on_block(cx, id, block),
            Message::CmpctBlock(block) => self.on_cmpctblock(cx, id, &block.header),
            Message::BlockTxn(_) => cx.debug(LogCategory::Net, || {
                format!("Peer {id} sent us block transactions for block we weren't expecting")
            }),
            Message::Mempool => self.on_mempool(cx, id),
            Message::Ping(nonce) => {
                let speaks =
                    self.peers.get(&id).is_some_and(|p| p.common_version > crate::limits::BIP0031_VERSION);
                if speaks {
                    self.send(cx, id, Message::Pong(Some(nonce)));
                }
            }
            Message::Pong(nonce) => {
                let size = if nonce.is_some() { 8 } else { 0 };
                self.on_pong(cx, id, nonce, size);
            }
            message @ (Message::FilterLoad(_) | Message::FilterAdd(_) | Message::FilterClear) => {
                self.on_filter(cx, id, message);
            }
            Message::FeeFilter(fee) => self.on_feefilter(cx, id, fee),
            Message::GetCFilters(r) => {
                self.on_filter_request(
                    cx,
                    id,
                    r.filter_type,
                    r.start_height,
                    r.stop_hash,
                    FilterReply::Filters,
                );
            }
            Message::GetCFHeaders(r) => {
                self.on_filter_request(
                    cx,
                    id,
                    r.filter_type,
                    r.start_height,
                    r.stop_hash,
                    FilterReply::Headers,
                );
            }
            Message::GetCFCheckpt { filter_type, stop_hash } => {
                self.on_filter_request(cx, id, filter_type, 0, stop_hash, FilterReply::Checkpoints);
            }
            Message::Malformed(malformed) => self.on_malformed(cx, id, &malformed),
            Message::MerkleBlock(_)
            | Message::CFilter(_)
            | Message::CFHeaders(_)
            | Message::CFCheckpt(_)
            | Message::Unknown { .. } => {
                cx.debug(LogCategory::Net, || {
                    format!("Unknown message type \"{}\" from peer={id}", message.command())
                });
            }
            // Taken by the handshake.
            Message::Version(_)
            | Message::Verack
            | Message::WtxidRelay
            | Message::SendAddrV2
            | Message::SendHeaders
            | Message::SendCmpct(_)
            | Message::SendTxRcncl(_)
            | Message::Feature(_) => {}
        }
    }

    /// Whether a rule has force at a height.
    pub(crate) fn segwit_active_at(&self, height: Height) -> bool {
        self.config.params.is_active(BuriedDeployment::Segwit, height)
    }

    /// The tip is recent enough to fetch announced blocks at once (Core's `CanDirectFetch`).
    pub(crate) fn can_direct_fetch(&self, cx: &Cx<'_>) -> bool {
        let spacing = self.config.params.pow_target_spacing;
        let tip = cx.chain.tip();
        UnixTime::from(tip.header.time) * 1_000_000
            > cx.now - spacing * 1_000_000 * i64::from(crate::limits::DIRECT_FETCH_BLOCKS)
    }

    /// Asks a peer for a block the user wants (`getblockfrompeer`).
    ///
    /// # Errors
    /// If the peer cannot be asked.
    pub fn fetch_block(
        &mut self,
        now: Now,
        peer: PeerId,
        block: &HeaderInfo,
    ) -> Result<Vec<Action>, FetchBlockError> {
        if self.importing {
            return Err(FetchBlockError::Loading);
        }
        let state = self.peers.get(&peer).filter(|p| !p.disconnecting).ok_or(FetchBlockError::NoPeer)?;
        if !state.serves_witnesses() {
            return Err(FetchBlockError::PreSegwit);
        }
        if !state.connected {
            return Err(FetchBlockError::NotConnected);
        }
        self.forget_block_request(now.unix_micros, &block.hash, None);
        self.block_requested(now.unix_micros, peer, block.hash, block.height);
        let mut actions = vec![Action::Send {
            peer,
            message: Message::GetData(vec![Inventory::witness_block(block.hash)]),
        }];
        if self.debug.enabled(LogCategory::Net) {
            let text = format!("Requesting block {} from peer={peer}", block.hash);
            actions.push(Action::Log(LogLine::debug(LogCategory::Net, text)));
        }
        Ok(actions)
    }

    /// What `getpeerinfo` shows of a peer; `None` if there is none with this number.
    #[must_use]
    pub fn peer_stats(&self, now: Now, id: PeerId) -> Option<PeerStats> {
        let peer = self.peers.get(&id)?;
        let height = |block: Option<KnownBlock>| block.map_or(-1, |block| i64::from(block.height.0));
        let relay = peer.tx_relay.as_ref();
        let wait = u64::try_from(now.unix_micros - peer.ping.start).ok().filter(|wait| *wait > 0);
        Some(PeerStats {
            services: peer.services,
            version: peer.version,
            subver: peer.subver.clone(),
            relay_txs: relay.is_some_and(|relay| relay.relay_txs),
            inv_to_send: relay.map_or(0, |relay| relay.to_send.len()),
            last_inv_sequence: relay.map_or(0, |relay| relay.last_sequence),
            last_transaction: peer.last_tx,
            last_block: peer.last_block,
            time_offset: peer.time_offset,
            ping_time: peer.ping.last,
            min_ping: peer.ping.min,
            ping_wait: wait.filter(|_| peer.ping.nonce != 0).map(Duration::from_micros),
            bip152_hb_to: false,
            bip152_hb_from: peer.wants_hb_cmpct,
            presynced_headers: peer.presync.as_ref().map_or(-1, |presync| presync.height()),
            synced_headers: height(peer.best_known),
            synced_blocks: height(peer.last_common),
            inflight: peer.in_flight.iter().map(|(_, height)| height.0).collect(),
            addr_relay_enabled: peer.addr.enabled(),
            addr_processed: peer.addr.processed,
            addr_rate_limited: peer.addr.rate_limited,
            min_fee_filter: relay.map_or(0, |relay| relay.fee_filter),
            has_filter: relay.is_some_and(|relay| relay.filter.is_some()),
            handshake_done: peer.connected,
            has_wanted_services: peer.has_wanted_services,
            addr_local: peer.addr_local,
            starting_height: peer.starting_height,
        })
    }

    /// All orphans, for `getorphantxs`.
    #[must_use]
    pub fn orphans(&self) -> Vec<OrphanInfo> {
        self.tx.orphanage.list()
    }

    /// Peers for whom nothing is held back do not wait for their next turn either.
    fn announce_at_once(&mut self, cx: &mut Cx<'_>) {
        let waits = |peer: &&Peer| {
            peer.connection.permissions.no_ban
                && peer.tx_relay.as_ref().is_some_and(|relay| !relay.to_send.is_empty())
        };
        let ids: Vec<PeerId> = self.peers.values().filter(waits).map(|peer| peer.id).collect();
        for id in ids {
            self.send_messages(cx, id);
        }
    }

    /// Announces a transaction of the mempool to every peer that does not know it.
    pub(crate) fn announce_tx(&mut self, txid: Txid, wtxid: Wtxid) {
        for peer in self.peers.values_mut() {
            let hash = if peer.wtxid_relay { wtxid.to_byte_array() } else { txid.to_byte_array() };
            let Some(relay) = &mut peer.tx_relay else { continue };
            // Before the handshake ends nothing is queued: its time of arrival would leak.
            if relay.next_send.is_some() && !relay.known.contains(&hash) {
                relay.to_send.insert(wtxid);
            }
        }
    }
}
