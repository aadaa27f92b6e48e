use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bitcoin::p2p::ServiceFlags;
use bitcoin::{Txid, Wtxid};
use ironpeer_primitives::{ChainEvent, HeaderInfo, LogCategory, PeerId, UnixTime};
use ironpeer_sync::{Action, ConnectionKind, Event, FetchBlockError, Now, OrphanInfo};
use ironpeer_wire::{Command, Message, NetAddress, PeerAddress, Service};
use tokio::task::spawn_blocking;

use crate::addrman::{AddrMan, AddressCounts, AddressInfo, AddressPosition};
use crate::bans::{Ban, Subnet};
use crate::config::{Config, Parts};
use crate::connect::{Target, numeric};
use crate::files::{load_addrman, load_bans};
use crate::info::{
    AddAddressError, AddNodeError, AddedNode, AtCapacity, BanError, ConnectionCounts, KnownAddress,
    NetTotals, PeerInfo, StartError,
};
use crate::limits;
use crate::network::Network;
use crate::rooms::Changes;
use crate::shell::Shell;
use crate::upload::UploadTarget;

/// Until when a ban lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BanUntil {
    /// `-bantime` from now.
    Default,
    /// So many seconds from now.
    In(i64),
    /// A moment, in Unix seconds.
    At(UnixTime),
}

/// The front of the peers: cheap to clone, usable from any task.
#[derive(Clone)]
pub struct PeerHandle {
    shell: Arc<Shell>,
}

impl fmt::Debug for PeerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerHandle").field("connections", &self.counts()).finish()
    }
}

impl PeerHandle {
    /// Reads `peers.dat` and `banlist.json` and starts everything: listening, opening
    /// connections, relaying. To be called on a runtime.
    ///
    /// # Errors
    /// If `peers.dat` is damaged, or a listening socket cannot be used.
    pub fn start(config: Config, mut parts: Parts) -> Result<Self, StartError> {
        let deterministic = config.deterministic_addrman;
        let seed = parts.seed;
        let fresh = || if deterministic { AddrMan::deterministic() } else { AddrMan::new(seed) };
        let magic = bitcoin::p2p::Magic::from_bytes(config.sync.params.magic);
        let (addrman, bans) = match &config.data_dir {
            Some(dir) => {
                let (disk, log, clock) = (parts.disk.as_ref(), parts.log.as_ref(), parts.clock.as_ref());
                let addrman = load_addrman(dir, disk, magic, fresh, seed, log, clock)?;
                (addrman, load_bans(dir, disk, log, clock.unix()))
            }
            None => (fresh(), crate::BanList::default()),
        };
        let listeners: Result<Vec<_>, _> = std::mem::take(&mut parts.listeners)
            .into_iter()
            .map(crate::listen::Listener::into_parts)
            .collect();
        let listeners = listeners?;
        let shell = Arc::new(Shell::new(config, parts, addrman, bans));
        for (listener, address, onion, permissions) in listeners {
            shell.info(format!("Bound to {}", Service::from(address)));
            shell.tracker.spawn(Arc::clone(&shell).accept_loop(listener, onion, permissions));
        }
        let (changes, seq) = shell.rooms.changes();
        shell.applied.send_replace(seq);
        shell.tracker.spawn(Arc::clone(&shell).follow_chain(changes));
        shell.tracker.spawn(Arc::clone(&shell).tick_loop());
        shell.tracker.spawn(Arc::clone(&shell).dump_loop());
        shell.tracker.spawn(Arc::clone(&shell).added_nodes_loop());
        match shell.config.connect.clone() {
            Some(targets) if !targets.is_empty() => {
                shell.tracker.spawn(Arc::clone(&shell).connect_loop(targets));
            }
            Some(_) => {}
            None => {
                shell.load_anchors();
                shell.tracker.spawn(Arc::clone(&shell).automatic_loop());
                if shell.config.dns_seed {
                    shell.tracker.spawn(Arc::clone(&shell).dns_seed_loop());
                } else {
                    shell.info("DNS seeding disabled".to_owned());
                }
            }
        }
        Ok(Self { shell })
    }

    /// Closes all connections and listening sockets, and writes `peers.dat`, `anchors.dat` and
    /// `banlist.json`.
    /// Afterwards the ports are free.
    pub async fn shutdown(&self) {
        for peer in self.shell.all() {
            self.shell
                .debug(LogCategory::Net, || format!("Stopping node, {}", self.shell.disconnecting(&peer)));
        }
        let anchors = self.shell.config.connect.is_none().then(|| self.shell.current_anchors());
        self.shell.stop.cancel();
        self.shell.tracker.close();
        if tokio::time::timeout(limits::SHUTDOWN_TIMEOUT, self.shell.tracker.wait()).await.is_err() {
            self.shell.info("Peers' tasks did not end in time; going on without them".to_owned());
        }
        let shell = Arc::clone(&self.shell);
        self.blocking(move || {
            shell.dump_addresses();
            if let Some(anchors) = anchors {
                shell.dump_anchors(&anchors);
            }
            shell.dump_bans();
        })
        .await;
    }

    async fn blocking(&self, work: impl FnOnce() + Send + 'static) {
        if spawn_blocking(work).await.is_err() {
            self.shell.note_panic("a disk task");
        }
    }

    /// All connections, by rising number.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        let shell = &self.shell;
        let now = Now::of(shell.clock.as_ref());
        let info = |peer: Arc<crate::shell::Peer>| {
            let stats = shell.sync.lock().peer_stats(now, peer.id)?;
            Some(PeerInfo {
                id: peer.id,
                addr: peer.name.clone(),
                service: peer.service,
                bind: peer.bind,
                network: peer.network,
                kind: peer.kind,
                permissions: peer.permissions,
                last_send: peer.sent.last(),
                last_recv: peer.received.last(),
                bytes_sent: peer.sent.bytes(),
                bytes_recv: peer.received.bytes(),
                bytes_sent_per_msg: peer.sent.by_type(),
                bytes_recv_per_msg: peer.received.by_type(),
                connected_at: peer.connected_at,
                transport: "v1",
                stats,
            })
        };
        shell.all().into_iter().filter_map(info).collect()
    }

    /// How many connections there are.
    #[must_use]
    pub fn counts(&self) -> ConnectionCounts {
        self.shell.counts()
    }

    /// Bytes over all connections since start.
    #[must_use]
    pub fn totals(&self) -> NetTotals {
        NetTotals {
            bytes_recv: self.shell.bytes_received.load(Ordering::Relaxed),
            bytes_sent: self.shell.bytes_sent.load(Ordering::Relaxed),
        }
    }

    /// How far `-maxuploadtarget` is reached.
    #[must_use]
    pub fn upload_target(&self) -> UploadTarget {
        self.shell.upload.lock().state(self.shell.now())
    }

    /// Bytes of the memory common to all peers that their large messages hold now.
    #[must_use]
    pub fn receive_memory(&self) -> usize {
        self.shell.receive_budget.in_use()
    }

    /// Services we offer.
    #[must_use]
    pub fn local_services(&self) -> ServiceFlags {
        self.shell.config.sync.services
    }

    /// What we call ourselves.
    #[must_use]
    pub fn user_agent(&self) -> &str {
        &self.shell.config.sync.user_agent
    }

    /// Our own addresses, with how sure we are of each.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<(Service, u32)> {
        self.shell.local_addresses.lock().iter().map(|(service, score)| (*service, *score)).collect()
    }

    /// Whether automatic connections are made to a network.
    #[must_use]
    pub fn is_reachable(&self, network: Network) -> bool {
        self.shell.config.reachable.contains(&network)
    }

    /// Whether connections are allowed at all.
    #[must_use]
    pub fn network_active(&self) -> bool {
        self.shell.is_active()
    }

    /// Allows connections, or closes all and allows none.
    pub fn set_network_active(&self, active: bool) {
        self.shell.set_active(active);
    }

    /// Panics of peers' tasks so far; each cost one connection and nothing else.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.shell.panics.load(Ordering::Relaxed)
    }

    /// Pings every peer.
    pub fn ping_all(&self) {
        let actions = self.shell.feed_guarded(Event::PingAll);
        self.shell.dispatch(actions);
    }

    /// Announces a transaction of the mempool to all peers that do not know it.
    pub fn announce_tx(&self, txid: Txid, wtxid: Wtxid) {
        let actions = self.shell.feed_guarded(Event::TxAdded { txid, wtxid });
        self.shell.dispatch(actions);
    }

    /// Blocks are imported or reindexed no more (see [`crate::Config::importing`]): peers' headers
    /// and blocks are looked at from now on.
    pub fn import_done(&self) {
        self.shell.sync.lock().set_importing(false);
    }

    /// Asks a peer for a block (`getblockfrompeer`).
    ///
    /// # Errors
    /// If the peer cannot be asked.
    pub fn fetch_block(&self, peer: PeerId, block: &HeaderInfo) -> Result<(), FetchBlockError> {
        let now = Now::of(self.shell.clock.as_ref());
        let actions = self.shell.sync.lock().fetch_block(now, peer, block)?;
        self.shell.dispatch(actions);
        Ok(())
    }

    /// Sends a peer a message of any type and payload (`sendmsgtopeer`). Returns whether there is
    /// such a peer.
    pub fn send_message(&self, peer: PeerId, kind: &str, payload: Vec<u8>) -> bool {
        let known = self.shell.peer(peer).is_some();
        if known {
            let message = Message::Unknown { command: Command::new(kind), payload };
            self.shell.dispatch(vec![Action::Send { peer, message }]);
        }
        known
    }

    /// All orphan transactions (`getorphantxs`).
    #[must_use]
    pub fn orphans(&self) -> Vec<OrphanInfo> {
        self.shell.sync.lock().orphans()
    }

    /// Waits until peers have been told of chain event `seq`.
    pub async fn wait_for_seq(&self, seq: u64) {
        let mut applied = self.shell.applied.subscribe();
        // Fails only with the shell itself.
        let _ = applied.wait_for(|applied| *applied >= seq).await;
    }

    /// Tries to connect once; returns when the attempt is over (`addnode onetry`).
    pub async fn try_node(&self, node: &str) {
        self.shell.open(&Target::Name(node.to_owned()), ConnectionKind::Manual, false, None).await;
    }

    /// Stays connected to a node from now on.
    ///
    /// # Errors
    /// If it is in the list.
    pub fn add_node(&self, node: &str) -> Result<(), AddNodeError> {
        let port = self.shell.default_port();
        let service = numeric(node, port);
        let mut added = self.shell.added.lock();
        if added.iter().any(|other| other == node || (service.is_some() && numeric(other, port) == service)) {
            return Err(AddNodeError::AlreadyAdded);
        }
        added.push(node.to_owned());
        drop(added);
        self.shell.added_changed.notify_one();
        Ok(())
    }

    /// Takes a node off the list; a connection to it goes on.
    ///
    /// # Errors
    /// If it is not in the list.
    pub fn remove_node(&self, node: &str) -> Result<(), AddNodeError> {
        let mut added = self.shell.added.lock();
        let before = added.len();
        added.retain(|other| other != node);
        if added.len() == before { Err(AddNodeError::NotAdded) } else { Ok(()) }
    }

    /// The list of nodes to stay connected to.
    #[must_use]
    pub fn added_nodes(&self) -> Vec<AddedNode> {
        self.shell.added_nodes()
    }

    /// Opens a connection of a kind that is otherwise opened automatically; returns when the
    /// attempt is over (`addconnection`).
    ///
    /// # Errors
    /// If all slots for that kind are taken.
    pub async fn add_connection(&self, address: &str, kind: ConnectionKind) -> Result<(), AtCapacity> {
        let shell = &self.shell;
        let most = match kind {
            ConnectionKind::OutboundFullRelay => Some(shell.config.max_full_outbound()),
            ConnectionKind::BlockRelayOnly => Some(shell.config.max_block_outbound()),
            ConnectionKind::AddrFetch | ConnectionKind::Feeler => None,
            ConnectionKind::Inbound | ConnectionKind::Manual => return Err(AtCapacity),
        };
        if most.is_some_and(|most| shell.count_of(kind) >= most) {
            return Err(AtCapacity);
        }
        let permit = Arc::clone(&shell.outbound_slots).try_acquire_owned().map_err(|_| AtCapacity)?;
        shell.open(&Target::Name(address.to_owned()), kind, false, Some(permit)).await;
        Ok(())
    }

    /// Closes the connection to an address or name as `getpeerinfo` shows it. Returns whether
    /// there was one.
    pub fn disconnect_address(&self, address: &str) -> bool {
        let shell = &self.shell;
        let found = shell.all().into_iter().find(|peer| peer.name == address);
        if let Some(peer) = &found {
            let which = if shell.config.sync.log_ips { format!("={address}") } else { String::new() };
            shell.debug(LogCategory::Net, || {
                format!("disconnect by address{which} match, {}", shell.disconnecting(peer))
            });
            peer.stop.cancel();
        }
        found.is_some()
    }

    /// Closes a connection by number. Returns whether there was one.
    pub fn disconnect_id(&self, id: PeerId) -> bool {
        let shell = &self.shell;
        let found = shell.peer(id);
        if let Some(peer) = &found {
            shell.debug(LogCategory::Net, || format!("disconnect by id, {}", shell.disconnecting(peer)));
            peer.stop.cancel();
        }
        found.is_some()
    }

    /// Bans a subnet and closes its connections (`setban add`).
    ///
    /// # Errors
    /// If exactly this subnet, or the single address, is banned, or the moment is past.
    pub async fn ban(&self, subnet: Subnet, until: BanUntil) -> Result<(), BanError> {
        let now = self.shell.now();
        let default = i64::try_from(self.shell.config.ban_time.as_secs()).unwrap_or(i64::MAX);
        let until = match until {
            BanUntil::At(until) if until < now => return Err(BanError::InThePast),
            BanUntil::At(until) if until > 0 => until,
            BanUntil::In(seconds) if seconds > 0 => now.saturating_add(seconds),
            BanUntil::Default | BanUntil::In(_) | BanUntil::At(_) => now.saturating_add(default),
        };
        {
            let mut bans = self.shell.bans.lock();
            if bans.list.has(&subnet, now) || bans.list.covers(&subnet, now) {
                return Err(BanError::AlreadyBanned);
            }
            bans.list.ban(subnet, until, now);
        }
        self.save_bans().await;
        self.shell.disconnect_subnet(&subnet);
        Ok(())
    }

    /// Lifts a ban (`setban remove`).
    ///
    /// # Errors
    /// If there is none on exactly this subnet.
    pub async fn unban(&self, subnet: Subnet) -> Result<(), BanError> {
        if !self.shell.bans.lock().list.unban(&subnet) {
            return Err(BanError::NotBanned);
        }
        self.save_bans().await;
        Ok(())
    }

    /// Lifts all bans.
    pub async fn clear_bans(&self) {
        self.shell.bans.lock().list.clear();
        self.save_bans().await;
    }

    async fn save_bans(&self) {
        let shell = Arc::clone(&self.shell);
        self.blocking(move || shell.dump_bans()).await;
    }

    /// All bans that have not ended, by subnet.
    #[must_use]
    pub fn bans(&self) -> Vec<(Subnet, Ban)> {
        let now = self.shell.now();
        let mut bans = self.shell.bans.lock();
        bans.list.sweep(now);
        bans.list.iter().collect()
    }

    /// Random known addresses: at most `count`, or all with 0 (`getnodeaddresses`).
    #[must_use]
    pub fn node_addresses(&self, count: usize, network: Option<Network>) -> Vec<KnownAddress> {
        let now = self.shell.now();
        self.shell.with_addrman(|addrman| addrman.addresses(count, 0, network, false, now))
    }

    /// Makes an address known as if it had announced itself (`addpeeraddress`).
    ///
    /// # Errors
    /// If a table does not take it.
    pub fn add_address(&self, address: NetAddress, port: u16, tried: bool) -> Result<(), AddAddressError> {
        let now = self.shell.now();
        let service = Service { address, port };
        let services = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
        let address = PeerAddress { time: u32::try_from(now).unwrap_or(0), services, service };
        self.shell.with_addrman(|addrman| {
            if !addrman.add(&[address], &service.address, 0, now) {
                return Err(AddAddressError::New);
            }
            if tried && !addrman.good(&service, now) {
                return Err(AddAddressError::Tried);
            }
            Ok(())
        })
    }

    /// How many addresses are known, of one network or of all (`getaddrmaninfo`).
    #[must_use]
    pub fn address_counts(&self, network: Option<Network>) -> AddressCounts {
        self.shell.with_addrman(|addrman| addrman.counts(network))
    }

    /// All addresses of a table (`getrawaddrman`).
    #[must_use]
    pub fn address_table(&self, tried: bool) -> Vec<(AddressInfo, AddressPosition)> {
        self.shell.with_addrman(|addrman| addrman.table(tried))
    }
}

impl Shell {
    /// Tells the protocol machine of every change of the chain's tip.
    async fn follow_chain(self: Arc<Self>, mut changes: Changes) {
        loop {
            let change: Option<Arc<ChainEvent>> = tokio::select! {
                () = self.stop.cancelled() => return,
                change = changes.next() => change,
            };
            let Some(change) = change else { return };
            let seq = change.seq;
            let actions = self.feed_guarded(Event::TipChanged { change });
            self.dispatch(actions);
            self.applied.send_replace(seq);
        }
    }

    /// Looks at all that waits for a moment.
    async fn tick_loop(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(limits::TICK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let actions = self.feed_guarded(Event::Tick);
            self.dispatch(actions);
            self.close_silent_peers();
        }
    }

    /// Core's `InactivityCheck`, as far as the sockets alone show it.
    fn close_silent_peers(&self) {
        let now = self.now();
        let most = i64::try_from(limits::INACTIVITY_TIMEOUT.as_secs()).unwrap_or(i64::MAX);
        let handshake = i64::try_from(self.config.sync.peer_timeout.as_secs()).unwrap_or(i64::MAX);
        for peer in self.all() {
            if peer.connected_at.saturating_add(handshake) >= now || peer.stop.is_cancelled() {
                continue;
            }
            for (last, what) in [(peer.sent.last(), "sending"), (peer.received.last(), "receive")] {
                let silent = now.saturating_sub(last);
                if last != 0 && silent > most {
                    self.debug(LogCategory::Net, || {
                        format!("socket {what} timeout: {silent}s, {}", self.disconnecting(&peer))
                    });
                    peer.stop.cancel();
                    break;
                }
            }
        }
    }

    async fn dump_loop(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(limits::DUMP_PEERS_INTERVAL) => {}
            }
            let shell = Arc::clone(&self);
            if spawn_blocking(move || {
                shell.dump_addresses();
                shell.dump_bans();
            })
            .await
            .is_err()
            {
                self.note_panic("a disk task");
            }
        }
    }
}
