//! Connections the node opens by itself (Core's `ThreadOpenConnections`,
//! `ThreadOpenAddedConnections` and `ThreadDNSAddressSeed`).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use ironpeer_primitives::{LogCategory, UnixTime};
use ironpeer_sync::ConnectionKind;
use ironpeer_wire::{NetAddress, PeerAddress, Service};
use rand::Rng;
use rand::seq::SliceRandom;
use tokio::sync::OwnedSemaphorePermit;

use crate::connect::{Target, numeric};
use crate::limits;
use crate::network::{Classify, is_bad_port};
use crate::shell::Shell;

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60 * MINUTE;
/// Peers with which DNS seeds are no longer needed.
const ENOUGH_PEERS: usize = 2;
/// DNS seeds asked before looking whether that was enough.
const SEEDS_AT_ONCE: usize = 3;
/// Steps by which the pause between rounds of `-connect` grows, and their most.
const CONNECT_PAUSES: u32 = 10;

impl Shell {
    /// Returns false when the node stops before the time is up.
    async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(time) => true,
        }
    }

    /// Keeps up the connections of `-connect`.
    pub(crate) async fn connect_loop(self: Arc<Self>, targets: Vec<String>) {
        let mut round = 0;
        loop {
            for target in &targets {
                self.open(&Target::Name(target.clone()), ConnectionKind::Manual, false, None).await;
                if !self.pause(limits::OPEN_CONNECTION_INTERVAL * round).await {
                    return;
                }
            }
            round = (round + 1).min(CONNECT_PAUSES);
            if !self.pause(limits::OPEN_CONNECTION_INTERVAL).await {
                return;
            }
        }
    }

    /// Keeps up the connections of `-addnode` and `addnode add`.
    pub(crate) async fn added_nodes_loop(self: Arc<Self>) {
        loop {
            let missing: Vec<String> = self
                .added_nodes()
                .into_iter()
                .filter(|node| node.connected.is_none())
                .map(|node| node.node)
                .collect();
            let tried = !missing.is_empty();
            for node in missing {
                let Ok(permit) = Arc::clone(&self.added_slots).try_acquire_owned() else { break };
                self.open(&Target::Name(node), ConnectionKind::Manual, false, Some(permit)).await;
                if !self.pause(limits::OPEN_CONNECTION_INTERVAL).await {
                    return;
                }
            }
            let wait = if tried { limits::ADDED_NODES_RETRY } else { limits::ADDED_NODES_IDLE };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.added_changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    pub(crate) fn added_nodes(&self) -> Vec<crate::info::AddedNode> {
        let added = self.added.lock().clone();
        let peers = self.all();
        let find = |node: String| {
            let service = numeric(&node, self.default_port());
            let found = peers.iter().find(|peer| match service {
                Some(service) => peer.service == service,
                None => peer.name == node,
            });
            let connected = found.map(|peer| (peer.service, peer.kind == ConnectionKind::Inbound));
            crate::info::AddedNode { node, connected }
        };
        added.into_iter().map(find).collect()
    }

    /// Fills the DNS seeds' addresses in, if peers are missing.
    pub(crate) async fn dns_seed_loop(self: Arc<Self>) {
        let mut seeds = self.config.sync.params.dns_seeds.clone();
        seeds.shuffle(&mut *self.rng.lock());
        let urgent = self.config.force_dns_seed || self.with_addrman(|addrman| addrman.is_empty());
        let mut found = 0;
        for (asked, seed) in seeds.iter().enumerate() {
            if !urgent && asked % SEEDS_AT_ONCE == 0 {
                self.info(format!(
                    "Waiting {} seconds before querying DNS seeds.",
                    limits::DNS_SEED_DELAY.as_secs()
                ));
                if !self.pause(limits::DNS_SEED_DELAY).await {
                    return;
                }
                if self.full_relay_peers() >= ENOUGH_PEERS {
                    self.info(match found {
                        0 => "P2P peers available. Skipped DNS seeding.".to_owned(),
                        _ => "P2P peers available. Finished DNS seeding.".to_owned(),
                    });
                    return;
                }
            }
            if self.stop.is_cancelled() {
                return;
            }
            self.info(format!("Loading addresses from DNS seed {seed}"));
            found += self.ask_seed(seed).await;
        }
        self.info(format!("{found} addresses found from DNS seeds"));
    }

    /// Returns how many addresses the seed gave.
    async fn ask_seed(&self, seed: &str) -> usize {
        let wanted = self.wanted_services();
        let addresses: Vec<Service> = self.resolve(&format!("x{:x}.{seed}", wanted.to_u64())).await;
        if addresses.is_empty() {
            // It may not know how to choose by services, and be asked for addresses itself.
            self.address_fetches.lock().push_back(seed.to_owned());
            return 0;
        }
        let now = self.now();
        let entries: Vec<PeerAddress> = addresses
            .into_iter()
            .take(limits::MAX_ADDRESSES_PER_SEED)
            .map(|service| {
                let age = self.rng.lock().gen_range(3 * DAY..7 * DAY);
                PeerAddress { time: u32::try_from(now - age).unwrap_or(0), services: wanted, service }
            })
            .collect();
        // All seeds count as one source that is no address.
        self.with_addrman(|addrman| addrman.add(&entries, &NetAddress::INVALID, 0, now));
        entries.len()
    }

    fn full_relay_peers(&self) -> usize {
        self.count_of(ConnectionKind::OutboundFullRelay) + self.count_of(ConnectionKind::Manual)
    }

    fn wanted_services(&self) -> ServiceFlags {
        ServiceFlags::NETWORK | ServiceFlags::WITNESS
    }

    /// Whether blocks can be downloaded from who offers this, if only the last ones.
    pub(crate) fn serves_blocks(&self, offered: ServiceFlags) -> bool {
        offered.has(self.wanted_services())
            || offered.has(ServiceFlags::NETWORK_LIMITED | ServiceFlags::WITNESS)
    }

    /// Opens connections to anchors, then to addresses of the address manager, as long as any are missing.
    pub(crate) async fn automatic_loop(self: Arc<Self>) {
        let mut seeds = self.config.seed_nodes.clone();
        let mut next_seed = self.clock.steady();
        let mut next_feeler = self.clock.steady() + self.random_interval(limits::FEELER_INTERVAL);
        let mut next_extra = self.clock.steady() + self.random_interval(limits::EXTRA_BLOCK_RELAY_INTERVAL);
        while self.pause(limits::OPEN_CONNECTION_INTERVAL).await {
            let now = self.clock.steady();
            let empty = self.with_addrman(|addrman| addrman.is_empty());
            if now >= next_seed && (empty || self.full_relay_peers() == 0) && !seeds.is_empty() {
                next_seed = now + limits::NEXT_SEED_NODE;
                self.add_seed_node(&mut seeds, empty);
            }
            self.fetch_addresses().await;
            let Ok(permit) = Arc::clone(&self.outbound_slots).try_acquire_owned() else { continue };
            if let Some(anchor) = self.next_anchor() {
                self.open_automatic(ConnectionKind::BlockRelayOnly, Some(anchor), permit).await;
                continue;
            }
            let Some(kind) = self.missing_kind(now, &mut next_feeler, &mut next_extra) else { continue };
            self.open_automatic(kind, None, permit).await;
        }
    }

    fn add_seed_node(&self, seeds: &mut Vec<String>, empty: bool) {
        let Some(seed) = seeds.pop() else { return };
        self.info(if empty {
            format!("Empty addrman, adding seednode ({seed}) to addrfetch")
        } else {
            let seconds = limits::NEXT_SEED_NODE.as_secs();
            format!("Couldn't connect to peers from addrman after {seconds} seconds. Adding seednode ({seed}) to addrfetch")
        });
        self.address_fetches.lock().push_back(seed);
    }

    async fn fetch_addresses(self: &Arc<Self>) {
        let next = self.address_fetches.lock().pop_front();
        let Some(name) = next else { return };
        let Ok(permit) = Arc::clone(&self.outbound_slots).try_acquire_owned() else {
            self.address_fetches.lock().push_front(name);
            return;
        };
        self.open(&Target::Name(name), ConnectionKind::AddrFetch, false, Some(permit)).await;
    }

    fn random_interval(&self, mean: Duration) -> Duration {
        let uniform: f64 = self.rng.lock().gen_range(f64::EPSILON..1.0);
        mean.mul_f64(-uniform.ln())
    }

    /// Which kind of connection should be opened now.
    fn missing_kind(
        &self,
        now: Duration,
        next_feeler: &mut Duration,
        next_extra: &mut Duration,
    ) -> Option<ConnectionKind> {
        let full = self.count_of(ConnectionKind::OutboundFullRelay);
        let block_only = self.count_of(ConnectionKind::BlockRelayOnly);
        if full < self.config.max_full_outbound() {
            Some(ConnectionKind::OutboundFullRelay)
        } else if block_only < self.config.max_block_outbound() {
            Some(ConnectionKind::BlockRelayOnly)
        } else if self.try_extra_outbound.load(Ordering::Relaxed) {
            Some(ConnectionKind::OutboundFullRelay)
        } else if now > *next_extra && self.extra_block_relay.load(Ordering::Relaxed) {
            *next_extra = now + self.random_interval(limits::EXTRA_BLOCK_RELAY_INTERVAL);
            Some(ConnectionKind::BlockRelayOnly)
        } else if now > *next_feeler {
            *next_feeler = now + self.random_interval(limits::FEELER_INTERVAL);
            Some(ConnectionKind::Feeler)
        } else {
            None
        }
    }

    /// Opens a connection to `address`, or to one of the address manager.
    async fn open_automatic(
        self: &Arc<Self>,
        kind: ConnectionKind,
        address: Option<PeerAddress>,
        permit: OwnedSemaphorePermit,
    ) {
        let now = self.now();
        self.with_addrman(|addrman| addrman.resolve_collisions(now));
        let groups = self.outbound_groups();
        let Some(address) = address.or_else(|| self.choose_address(kind, &groups, now)) else { return };
        if kind == ConnectionKind::Feeler {
            // A little noise, so that connections of nodes do not fall together.
            let noise = Duration::from_millis(self.rng.lock().gen_range(0..1_000));
            if !self.pause(noise).await {
                return;
            }
            self.debug(LogCategory::Net, || format!("Making feeler connection to {}", address.service));
        }
        // Failures count only while we are online, which two groups of peers show.
        let count_failure = groups.len() >= self.config.max_automatic_outbound().saturating_sub(1).min(2);
        self.open(&Target::Address(address), kind, count_failure, Some(permit)).await;
    }

    /// Network groups we have lasting outbound connections to: each is used once.
    pub(crate) fn outbound_groups(&self) -> HashSet<Vec<u8>> {
        let lasting = |kind| {
            matches!(
                kind,
                ConnectionKind::OutboundFullRelay | ConnectionKind::BlockRelayOnly | ConnectionKind::Manual
            )
        };
        let peers = self.all();
        peers.iter().filter(|peer| lasting(peer.kind)).map(|peer| peer.service.address.group()).collect()
    }

    fn choose_address(
        &self,
        kind: ConnectionKind,
        groups: &HashSet<Vec<u8>>,
        now: UnixTime,
    ) -> Option<PeerAddress> {
        let feeler = kind == ConnectionKind::Feeler;
        let added: Vec<Service> =
            self.added.lock().iter().filter_map(|node| numeric(node, self.default_port())).collect();
        for tries in 1..=limits::MAX_SELECT_TRIES {
            let (address, last_try) = if feeler {
                self.feeler_address(now)
            } else {
                self.with_addrman(|addrman| addrman.select(false, &self.config.reachable, now))
            }?;
            let service = address.service;
            if !feeler && groups.contains(&service.address.group()) {
                continue;
            }
            if !service.address.is_valid() || self.is_own_address(&service) {
                return None;
            }
            if now - last_try < 10 * MINUTE && tries < 30 {
                continue;
            }
            let offers = |wanted: ServiceFlags| address.services.has(wanted);
            let limited = ServiceFlags::NETWORK_LIMITED;
            let useful = if feeler {
                offers(ServiceFlags::NETWORK) || offers(limited)
            } else {
                self.serves_blocks(address.services)
            };
            if !useful || (tries < 50 && is_bad_port(service.port)) {
                continue;
            }
            if added.contains(&service) {
                self.debug(LogCategory::Net, || {
                    format!(
                        "Not making automatic {} connection to {} peer selected for manual (addnode) connection",
                        kind.name(),
                        service.address.network()
                    )
                });
                continue;
            }
            return Some(address);
        }
        None
    }

    /// An address that waits to be displaced is tested before a new one.
    fn feeler_address(&self, now: UnixTime) -> Option<(PeerAddress, UnixTime)> {
        match self.with_addrman(|addrman| addrman.select_collision()) {
            Some((old, _)) if self.is_connected_to_address(&old.service.address) => {
                self.with_addrman(|addrman| addrman.good(&old.service, now));
                self.with_addrman(|addrman| addrman.select(true, &self.config.reachable, now))
            }
            Some(old) => Some(old),
            None => self.with_addrman(|addrman| addrman.select(true, &self.config.reachable, now)),
        }
    }
}
