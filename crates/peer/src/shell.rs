//! What all connections share, and how the protocol machine's actions are carried out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bitcoin::BlockHash;
use bitcoin::p2p::{Magic, ServiceFlags};
use futures::future::BoxFuture;
use ironpeer_primitives::{Clock, LogCategory, LogLine, LogSink, PeerId, UnixTime};
use ironpeer_store::Disk;
use ironpeer_sync::{Action, Connection, ConnectionKind, Event, Now, Permissions, Sync, UploadLimits};
use ironpeer_wire::{Command, Message, NetAddress, PeerAddress, Service, encode, encode_frame};
use parking_lot::{Mutex, RwLock};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addrman::AddrMan;
use crate::bans::{BanList, Discouraged, Subnet};
use crate::budget::ReceiveBudget;
use crate::capture::Capture;
use crate::config::{Config, Parts, Resolver};
use crate::downloads::Downloads;
use crate::info::ConnectionCounts;
use crate::limits;
use crate::network::{Classify, Network};
use crate::outbox::{Level, Outbox, Outgoing};
use crate::rooms::{BlockAnswer, Rooms};
use crate::traffic::Counter;
use crate::upload::{Upload, UploadTarget};

/// Seconds by which gossiped addresses are taken to be older than they say.
const ADDRESS_PENALTY: i64 = 2 * 60 * 60;
/// How sure we are of an address the user gave us (Core's `LOCAL_MANUAL`).
const MANUAL_ADDRESS_SCORE: u32 = 4;

/// One connection.
pub(crate) struct Peer {
    pub id: PeerId,
    pub kind: ConnectionKind,
    pub service: Service,
    /// Services it was known to offer when the connection was opened.
    pub services: ServiceFlags,
    /// The name it was opened by, or the other end's address.
    pub name: String,
    pub bind: Option<Service>,
    pub network: Network,
    pub permissions: Permissions,
    pub connected_at: UnixTime,
    pub sent: Counter,
    pub received: Counter,
    pub outbox: Outbox,
    pub downloads: Arc<Downloads>,
    /// Its messages are written down.
    pub capture: Option<Arc<Capture>>,
    pub stop: CancellationToken,
    /// Slots it takes, given back when it is gone.
    _permits: Vec<OwnedSemaphorePermit>,
}

/// A connection about to be made known.
pub(crate) struct NewPeer {
    pub kind: ConnectionKind,
    pub service: Service,
    pub name: Option<String>,
    pub bind: Option<Service>,
    pub network: Network,
    pub permissions: Permissions,
    pub services: ServiceFlags,
    pub permits: Vec<OwnedSemaphorePermit>,
}

pub(crate) struct Bans {
    pub list: BanList,
    pub discouraged: Discouraged,
}

/// An answer to `getaddr` that is given again for a while.
struct CachedAddresses {
    until: UnixTime,
    addresses: Vec<PeerAddress>,
}

/// See the module.
pub(crate) struct Shell {
    pub config: Config,
    pub magic: Magic,
    pub rooms: Rooms,
    pub clock: Arc<dyn Clock>,
    pub log: Arc<dyn LogSink>,
    pub disk: Arc<dyn Disk>,
    pub resolver: Arc<dyn Resolver>,
    pub sync: Mutex<Sync>,
    pub peers: RwLock<BTreeMap<PeerId, Arc<Peer>>>,
    next_id: AtomicU64,
    pub addrman: Mutex<AddrMan>,
    pub bans: Mutex<Bans>,
    pub rng: Mutex<StdRng>,
    /// Keys the network groups told to the protocol machine, so that strangers cannot choose them.
    group_keys: (u64, u64),
    pub bytes_sent: AtomicU64,
    pub bytes_received: AtomicU64,
    pub upload: Mutex<Upload>,
    active: AtomicBool,
    pub receive_budget: ReceiveBudget,
    /// Kibibytes of room for blocks that wait for the chain.
    pub download_space: Arc<Semaphore>,
    pub inbound_sockets: Arc<Semaphore>,
    pub outbound_slots: Arc<Semaphore>,
    pub added_slots: Arc<Semaphore>,
    pub added: Mutex<Vec<String>>,
    pub added_changed: Notify,
    /// Peers of the last run to be tried first; the last of them first.
    pub anchors: Mutex<Vec<PeerAddress>>,
    pub address_fetches: Mutex<VecDeque<String>>,
    pub local_addresses: Mutex<BTreeMap<Service, u32>>,
    cached_addresses: Mutex<HashMap<(Network, Option<Service>), CachedAddresses>>,
    pub try_extra_outbound: AtomicBool,
    pub extra_block_relay: AtomicBool,
    pub panics: AtomicU64,
    /// Number of the last chain event the protocol machine has seen.
    pub applied: watch::Sender<u64>,
    pub stop: CancellationToken,
    pub tracker: TaskTracker,
}

impl Shell {
    pub(crate) fn new(config: Config, parts: Parts, addrman: AddrMan, bans: BanList) -> Self {
        let mut rng = StdRng::from_seed(parts.seed);
        let discouraged = Discouraged::new(rng.r#gen());
        let local: BTreeMap<Service, u32> = config
            .external_addresses
            .iter()
            .filter(|service| service.address.is_routable())
            .map(|service| (*service, MANUAL_ADDRESS_SCORE))
            .collect();
        for (service, score) in &local {
            parts.log.log(LogLine::info(format!("AddLocal({service},{score})")));
        }
        let magic = Magic::from_bytes(config.sync.params.magic);
        let mut sync = Sync::new(config.sync.clone(), rng.r#gen());
        sync.set_network_active(config.network_active);
        sync.set_importing(config.importing);
        sync.set_debug(|category| parts.log.enabled(category));
        sync.set_local_address(local.keys().next().map(|service| PeerAddress {
            time: u32::try_from(parts.clock.unix()).unwrap_or(0),
            services: config.sync.services,
            service: *service,
        }));
        Self {
            magic,
            sync: Mutex::new(sync),
            peers: RwLock::default(),
            next_id: AtomicU64::new(0),
            addrman: Mutex::new(addrman),
            bans: Mutex::new(Bans { list: bans, discouraged }),
            group_keys: rng.r#gen(),
            rng: Mutex::new(rng),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            upload: Mutex::new(Upload::new(config.max_upload_target)),
            active: AtomicBool::new(config.network_active),
            receive_budget: ReceiveBudget::new(),
            download_space: Arc::new(Semaphore::new(limits::DOWNLOAD_QUEUE_BYTES / 1024)),
            inbound_sockets: Arc::new(Semaphore::new(config.max_inbound() + limits::SPARE_INBOUND_SOCKETS)),
            outbound_slots: Arc::new(Semaphore::new(config.max_automatic_outbound())),
            added_slots: Arc::new(Semaphore::new(limits::MAX_ADDED_NODES)),
            added: Mutex::new(config.added_nodes.clone()),
            added_changed: Notify::new(),
            anchors: Mutex::default(),
            address_fetches: Mutex::default(),
            local_addresses: Mutex::new(local),
            cached_addresses: Mutex::default(),
            try_extra_outbound: AtomicBool::new(false),
            extra_block_relay: AtomicBool::new(false),
            panics: AtomicU64::new(0),
            applied: watch::Sender::new(0),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
            config,
            rooms: parts.rooms,
            clock: parts.clock,
            log: parts.log,
            disk: parts.disk,
            resolver: parts.resolver,
        }
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.clock.unix()
    }

    pub(crate) fn debug(&self, category: LogCategory, text: impl FnOnce() -> String) {
        if self.log.enabled(category) {
            self.log.log(LogLine::debug(category, text()));
        }
    }

    pub(crate) fn info(&self, text: String) {
        self.log.log(LogLine::info(text));
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    pub(crate) fn set_active(&self, active: bool) {
        self.info(format!("SetNetworkActive: {active}"));
        if self.active.swap(active, Ordering::Relaxed) == active {
            return;
        }
        self.sync.lock().set_network_active(active);
        if !active {
            for peer in self.all() {
                self.debug(LogCategory::Net, || format!("Network not active, {}", self.disconnecting(&peer)));
                peer.stop.cancel();
            }
        }
    }

    /// `disconnecting peer=3`, with the address under `-logips`.
    pub(crate) fn disconnecting(&self, peer: &Peer) -> String {
        if self.config.sync.log_ips {
            format!("disconnecting peer={}, peeraddr={}", peer.id, peer.service)
        } else {
            format!("disconnecting peer={}", peer.id)
        }
    }

    pub(crate) fn peer(&self, id: PeerId) -> Option<Arc<Peer>> {
        self.peers.read().get(&id).map(Arc::clone)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        self.peers.read().values().map(Arc::clone).collect()
    }

    pub(crate) fn counts(&self) -> ConnectionCounts {
        let peers = self.peers.read();
        let inbound = peers.values().filter(|peer| peer.kind == ConnectionKind::Inbound).count();
        ConnectionCounts { inbound, outbound: peers.len() - inbound }
    }

    pub(crate) fn count_of(&self, kind: ConnectionKind) -> usize {
        self.peers.read().values().filter(|peer| peer.kind == kind).count()
    }

    /// Whether an address is banned, and whether it is discouraged.
    pub(crate) fn is_unwanted(&self, address: &NetAddress) -> (bool, bool) {
        let now = self.now();
        let bans = self.bans.lock();
        (bans.list.is_banned(address, now), bans.discouraged.contains(address))
    }

    /// Locks the address manager for `work`, and writes what that logged.
    pub(crate) fn with_addrman<T>(&self, work: impl FnOnce(&mut AddrMan) -> T) -> T {
        let mut addrman = self.addrman.lock();
        let result = work(&mut addrman);
        let lines = addrman.take_log();
        drop(addrman);
        if self.log.enabled(LogCategory::Addrman) {
            lines.into_iter().for_each(|line| self.log.log(line));
        }
        result
    }

    /// Makes a connection known and starts its tasks.
    pub(crate) fn add_peer(self: &Arc<Self>, stream: TcpStream, new: NewPeer) {
        let id = PeerId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let peer = Arc::new(Peer {
            id,
            kind: new.kind,
            service: new.service,
            services: new.services,
            name: new.name.unwrap_or_else(|| new.service.to_string()),
            bind: new.bind,
            network: new.network,
            permissions: new.permissions,
            connected_at: self.now(),
            sent: Counter::new(),
            received: Counter::new(),
            outbox: Outbox::new(self.config.send_buffer_bytes, limits::SEND_QUEUE_HARD_BYTES),
            downloads: Arc::new(Downloads::new()),
            capture: self
                .config
                .data_dir
                .as_ref()
                .filter(|_| self.config.capture_messages)
                .map(|dir| Capture::new(Arc::clone(&self.disk), dir, &new.service)),
            stop: self.stop.child_token(),
            _permits: new.permits,
        });
        self.peers.write().insert(id, Arc::clone(&peer));
        self.debug(LogCategory::Net, || {
            if self.config.sync.log_ips {
                format!("Added connection to {} peer={id}", peer.name)
            } else {
                format!("Added connection peer={id}")
            }
        });
        let connection = Connection {
            kind: new.kind,
            addr: new.service,
            services: new.services,
            permissions: new.permissions,
            network_group: self.keyed_group(&new.service.address),
        };
        // Known to the machine before anybody can ask about it; the tasks carry out the answer.
        let actions = self.feed(Event::Connected { peer: id, connection });
        self.start_peer(stream, peer, actions);
    }

    pub(crate) fn keyed_group(&self, address: &NetAddress) -> u64 {
        use std::hash::Hasher;
        let mut hasher = siphasher::sip::SipHasher24::new_with_keys(self.group_keys.0, self.group_keys.1);
        hasher.write(&address.group());
        hasher.finish()
    }

    /// Hands an event to the protocol machine.
    pub(crate) fn feed(&self, event: Event) -> Vec<Action> {
        let now = Now::of(self.clock.as_ref());
        let upload = self.limited_upload(now.unix());
        let mut sync = self.sync.lock();
        if let Some(upload) = upload {
            sync.set_upload_limits(UploadLimits {
                reached: upload.reached,
                historical_reached: !upload.serves_historical_blocks,
            });
        }
        sync.handle(now, event, self.rooms.chain(), self.rooms.pool())
    }

    /// How far the upload target is reached, if there is one.
    fn limited_upload(&self, now: UnixTime) -> Option<UploadTarget> {
        let upload = self.upload.lock();
        upload.is_limited().then(|| upload.state(now))
    }

    /// As [`Shell::feed`], where no peer's task can be ended for a panic: it is counted, and the
    /// event is lost.
    pub(crate) fn feed_guarded(&self, event: Event) -> Vec<Action> {
        catch_unwind(AssertUnwindSafe(|| self.feed(event))).unwrap_or_else(|_| {
            self.note_panic("the protocol machine");
            Vec::new()
        })
    }

    pub(crate) fn note_panic(&self, place: &str) {
        self.panics.fetch_add(1, Ordering::Relaxed);
        let line =
            LogLine::error(format!("A panic in {place} was contained; this is a bug, please report it"));
        // The log itself may be what panics.
        let _ = catch_unwind(AssertUnwindSafe(|| self.log.log(line)));
    }

    /// Carries out actions that no peer's message waits for. Those that take time go to a task of
    /// their own, so that the caller is never held up.
    pub(crate) fn dispatch(self: &Arc<Self>, actions: Vec<Action>) {
        if actions.is_empty() {
            return;
        }
        if actions.iter().any(takes_time) {
            let shell = Arc::clone(self);
            self.tracker.spawn(async move {
                use futures::FutureExt;
                if AssertUnwindSafe(shell.carry_out(actions)).catch_unwind().await.is_err() {
                    shell.note_panic("a relay task");
                }
            });
        } else {
            for action in actions {
                let more = self.carry_out_now(action);
                self.dispatch(more);
            }
        }
    }

    /// Carries out actions in order. What answers lead to comes before what was left.
    pub(crate) async fn carry_out(self: &Arc<Self>, actions: Vec<Action>) {
        let mut queue: VecDeque<Action> = actions.into();
        let mut continued: VecDeque<PeerId> = VecDeque::new();
        loop {
            let action = match queue.pop_front() {
                Some(Action::Continue { peer }) => {
                    continued.push_back(peer);
                    continue;
                }
                Some(action) => action,
                None => {
                    let Some(peer) = continued.pop_front() else { return };
                    // Long work of one peer lets other tasks have their turn.
                    tokio::task::yield_now().await;
                    queue.extend(self.feed(Event::Continue { peer }));
                    continue;
                }
            };
            let more = if takes_time(&action) {
                self.carry_out_slow(action).await
            } else {
                self.carry_out_now(action)
            };
            for action in more.into_iter().rev() {
                queue.push_front(action);
            }
        }
    }

    /// As [`Shell::carry_out`], for tasks that are begun inside it.
    pub(crate) fn carry_out_boxed(self: &Arc<Self>, actions: Vec<Action>) -> BoxFuture<'static, ()> {
        let shell = Arc::clone(self);
        Box::pin(async move { shell.carry_out(actions).await })
    }

    /// What the chain said of a block, and what follows from it once peers know the new tip.
    pub(crate) async fn block_answered(
        &self,
        peer: PeerId,
        hash: BlockHash,
        answer: Option<BlockAnswer>,
    ) -> Vec<Action> {
        let Some((outcome, others_refused)) = answer else { return Vec::new() };
        let mut actions = self.feed(Event::BlockDone { peer, hash, outcome });
        for (hash, reject) in others_refused {
            actions.extend(self.feed(Event::BlockInvalid { hash, reject }));
        }
        self.tip_applied().await;
        actions
    }

    /// Actions that wait for the chain, the mempool or the disk.
    async fn carry_out_slow(self: &Arc<Self>, action: Action) -> Vec<Action> {
        match action {
            Action::SubmitHeaders { peer, headers, min_pow_checked } => {
                match self.rooms.submit_headers(headers, min_pow_checked).await {
                    Some(result) => self.feed(Event::HeadersDone { peer, result }),
                    None => Vec::new(),
                }
            }
            Action::CheckMutation { peer, block, check_witness_root } => {
                let small = block.total_size() <= limits::DECODE_INLINE_BYTES;
                let check = move || {
                    let result = ironpeer_sync::check_block_mutation(&block, check_witness_root);
                    Event::MutationChecked { peer, block, result }
                };
                if small {
                    return self.feed(check());
                }
                let checked = tokio::task::spawn_blocking(check);
                // Fails only when the runtime is shutting down.
                checked.await.map_or_else(|_| Vec::new(), |event| self.feed(event))
            }
            Action::SubmitBlock { peer, block, force, min_pow_checked, download } => {
                match self.peer(peer) {
                    Some(state) if download => {
                        self.queue_download(state, block, force, min_pow_checked).await;
                        return Vec::new();
                    }
                    Some(state) => state.downloads.idle().await,
                    None => {}
                }
                let hash = block.block_hash();
                let answer = self.rooms.submit_block(block, force, min_pow_checked).await;
                self.block_answered(peer, hash, answer).await
            }
            Action::SubmitTx { peer, tx } => {
                let result = self.rooms.submit_tx(peer, Arc::clone(&tx)).await;
                self.feed(Event::TxDone { peer, tx, result })
            }
            Action::SubmitPackage { peer, txs } => {
                let (accepted, results) = self.rooms.submit_package(peer, txs.clone()).await;
                self.feed(Event::PackageDone { peer, txs, accepted, results })
            }
            Action::LoadBlock { peer, hash } => {
                let block = self.rooms.block(hash).await;
                self.feed(Event::BlockLoaded { peer, hash, block })
            }
            Action::SendFilters { peer, reply, start, stop } => match self.peer(peer) {
                Some(state) => self.send_filters(&state, reply, start, stop).await,
                None => Vec::new(),
            },
            Action::SendBlock { peer, hash, witness } => {
                let Some(state) = self.peer(peer) else { return Vec::new() };
                if witness {
                    if let Some(bytes) = self.rooms.block_bytes(hash).await {
                        let command = Command::new("block");
                        return self.queue(&state, command, encode_frame(command, &bytes, self.magic));
                    }
                } else if let Some(block) = self.rooms.block(hash).await {
                    let message = Message::Block(Arc::new(without_witnesses(&block)));
                    return self.queue(&state, message.command(), encode(&message, self.magic));
                }
                self.debug(LogCategory::Net, || {
                    format!("Block was pruned before it could be read, {}", self.disconnecting(&state))
                });
                state.stop.cancel();
                Vec::new()
            }
            other => self.carry_out_now(other),
        }
    }

    /// Waits until the protocol machine knows of the tip that the chain has now, so that what a
    /// peer hears next follows from it.
    async fn tip_applied(&self) {
        let seq = self.rooms.change_seq();
        let mut applied = self.applied.subscribe();
        tokio::select! {
            // Fails only with the shell itself.
            _ = applied.wait_for(|applied| *applied >= seq) => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn carry_out_now(&self, action: Action) -> Vec<Action> {
        match action {
            Action::Send { peer, message } => {
                let Some(peer) = self.peer(peer) else { return Vec::new() };
                return self.queue(&peer, message.command(), encode(&message, self.magic));
            }
            Action::Disconnect { peer } => {
                if let Some(peer) = self.peer(peer) {
                    peer.stop.cancel();
                }
            }
            Action::Discourage { peer } => {
                if let Some(peer) = self.peer(peer) {
                    self.bans.lock().discouraged.insert(&peer.service.address);
                    self.disconnect_subnet(&Subnet::single(peer.service.address));
                }
            }
            Action::AddAddrs { peer, addrs } => {
                if let Some(peer) = self.peer(peer) {
                    let (now, source) = (self.now(), peer.service.address);
                    self.with_addrman(|addrman| addrman.add(&addrs, &source, ADDRESS_PENALTY, now));
                }
            }
            Action::AskAddrs { peer, uncached } => {
                let addrs =
                    self.peer(peer).map(|peer| self.addresses_for(&peer, uncached)).unwrap_or_default();
                return self.feed(Event::Addrs { peer, addrs });
            }
            Action::MarkGood { peer } => {
                if let Some(peer) = self.peer(peer) {
                    let now = self.now();
                    self.with_addrman(|addrman| addrman.good(&peer.service, now));
                }
            }
            Action::MarkConnected { addr } => {
                let now = self.now();
                self.with_addrman(|addrman| addrman.connected(&addr, now));
            }
            Action::SetServices { peer, services } => {
                if let Some(peer) = self.peer(peer) {
                    self.with_addrman(|addrman| addrman.set_services(&peer.service, services));
                }
            }
            Action::SeenLocal { addr } => {
                if let Some(score) = self.local_addresses.lock().get_mut(&addr) {
                    *score = score.saturating_add(1);
                }
            }
            Action::Broadcast { txid } => self.rooms.broadcast(&txid),
            Action::TryExtraOutbound(wanted) => {
                self.try_extra_outbound.store(wanted, Ordering::Relaxed);
                self.debug(LogCategory::Net, || format!("setting try another outbound peer={wanted}"));
            }
            Action::StartExtraBlockRelay => {
                self.debug(LogCategory::Net, || "enabling extra block-relay-only peers".to_owned());
                self.extra_block_relay.store(true, Ordering::Relaxed);
            }
            Action::Log(line) => self.log.log(line),
            Action::Continue { .. }
            | Action::SendBlock { .. }
            | Action::SendFilters { .. }
            | Action::LoadBlock { .. }
            | Action::SubmitHeaders { .. }
            | Action::CheckMutation { .. }
            | Action::SubmitBlock { .. }
            | Action::SubmitTx { .. }
            | Action::SubmitPackage { .. } => {}
        }
        Vec::new()
    }

    /// Queues a message for a peer; never waits.
    pub(crate) fn queue(&self, peer: &Peer, command: Command, bytes: Vec<u8>) -> Vec<Action> {
        self.debug(LogCategory::Net, || {
            let payload = bytes.len() - ironpeer_wire::limits::V1_HEADER_BYTES;
            format!("sending {command} ({payload} bytes) peer={}", peer.id)
        });
        match peer.outbox.push(Outgoing { command, bytes }) {
            Level::Full => self.feed(Event::SendQueue { peer: peer.id, paused: true }),
            Level::Overflow => {
                if !peer.stop.is_cancelled() {
                    self.debug(LogCategory::Net, || {
                        format!("send queue overflow, {}", self.disconnecting(peer))
                    });
                    peer.stop.cancel();
                }
                Vec::new()
            }
            Level::Room => Vec::new(),
        }
    }

    /// The answer to `getaddr`: the same for all that ask over one network at one of our
    /// addresses, for most of a day, so that nobody maps our address manager by asking often.
    fn addresses_for(&self, peer: &Peer, uncached: bool) -> Vec<PeerAddress> {
        let now = self.now();
        let draw = || {
            let drawn = self.with_addrman(|addrman| {
                addrman.addresses(limits::MAX_GETADDR, limits::MAX_GETADDR_PERCENT, None, false, now)
            });
            let bans = self.bans.lock();
            let wanted = |address: &PeerAddress| {
                let address = &address.service.address;
                !bans.list.is_banned(address, now) && !bans.discouraged.contains(address)
            };
            drawn.into_iter().filter(wanted).collect::<Vec<_>>()
        };
        if uncached {
            return draw();
        }
        let key = (peer.network, peer.bind);
        if let Some(cached) = self.cached_addresses.lock().get(&key).filter(|cached| now < cached.until) {
            return cached.addresses.clone();
        }
        let addresses = draw();
        let lifetime = limits::GETADDR_CACHE.as_secs() + self.rng.lock().gen_range(0..6 * 60 * 60);
        let until = now.saturating_add(i64::try_from(lifetime).unwrap_or(0));
        self.cached_addresses.lock().insert(key, CachedAddresses { until, addresses: addresses.clone() });
        addresses
    }

    /// Closes all connections to a subnet. Returns whether there were any.
    pub(crate) fn disconnect_subnet(&self, subnet: &Subnet) -> bool {
        let mut any = false;
        for peer in self.all().iter().filter(|peer| subnet.contains(&peer.service.address)) {
            let which = if self.config.sync.log_ips { format!("={subnet}") } else { String::new() };
            self.debug(LogCategory::Net, || {
                format!("disconnect by subnet{which} match, {}", self.disconnecting(peer))
            });
            peer.stop.cancel();
            any = true;
        }
        any
    }

    /// Makes room for an inbound connection by closing one that contributes least.
    pub(crate) fn evict_inbound(&self) -> bool {
        let Some(peer) = crate::eviction::choose(self) else { return false };
        self.debug(LogCategory::Net, || {
            format!("selected {} connection for eviction, {}", peer.kind.name(), self.disconnecting(&peer))
        });
        peer.stop.cancel();
        true
    }
}

/// Whether carrying it out waits for something other than a short lock.
const fn takes_time(action: &Action) -> bool {
    matches!(
        action,
        Action::SubmitHeaders { .. }
            | Action::CheckMutation { .. }
            | Action::SubmitBlock { .. }
            | Action::SubmitTx { .. }
            | Action::SubmitPackage { .. }
            | Action::LoadBlock { .. }
            | Action::SendBlock { .. }
            | Action::SendFilters { .. }
            | Action::Continue { .. }
    )
}

fn without_witnesses(block: &bitcoin::Block) -> bitcoin::Block {
    let mut stripped = block.clone();
    for input in stripped.txdata.iter_mut().flat_map(|tx| &mut tx.input) {
        input.witness.clear();
    }
    stripped
}
