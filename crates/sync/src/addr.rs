use std::hash::Hasher;

use bitcoin::p2p::ServiceFlags;
use ironpeer_primitives::{LogCategory, PeerId};
use ironpeer_wire::{Message, NetAddress, PeerAddress, Service};
use rand::Rng;
use rand::seq::SliceRandom;
use siphasher::sip::SipHasher24;

use crate::bloom::RollingBloom;
use crate::event::{Action, ConnectionKind};
use crate::limits::{
    ADDR_FILTER_FALSE_POSITIVE, ADDRESS_BROADCAST_INTERVAL, KNOWN_ADDR_FILTER,
    LOCAL_ADDRESS_BROADCAST_INTERVAL, MAX_ADDR_RATE_PER_SECOND, MAX_ADDR_TO_SEND, MAX_ADDR_TOKENS,
    ROTATE_ADDR_RELAY_DEST_INTERVAL,
};
use crate::peer::{Micros, Peer};
use crate::relay::exponential_delay;
use crate::{Cx, Sync, micros};

/// An address seen longer ago than this is not gossiped, in seconds.
const GOSSIP_AGE: i64 = 10 * 60;
/// Longest message whose addresses are gossiped: longer ones answer `getaddr`.
const MAX_GOSSIP_BATCH: usize = 10;
/// Times before this are taken for nonsense, Unix seconds.
const LEAST_SENSIBLE_TIME: i64 = 100_000_000;
/// Addresses with a nonsense time count as this old, in seconds.
const NONSENSE_TIME_AGE: i64 = 5 * 24 * 60 * 60;

/// The bytes that name an address and port.
fn key(service: &Service) -> Vec<u8> {
    let mut key = match service.address {
        NetAddress::Ipv4(_) | NetAddress::Ipv6(_) | NetAddress::Cjdns(_) => service.address.to_v1().to_vec(),
        NetAddress::TorV3(bytes) | NetAddress::I2p(bytes) => bytes.to_vec(),
    };
    key.extend(service.port.to_be_bytes());
    key
}

/// Addresses exchanged with one peer.
#[derive(Debug)]
pub struct AddrRelay {
    /// Addresses it knows; there once addresses are relayed with it at all.
    known: Option<RollingBloom>,
    /// Waiting to be sent.
    to_send: Vec<PeerAddress>,
    /// It was asked for addresses, and its answer is not complete.
    pub getaddr_sent: bool,
    /// It asked for addresses: it may do so once.
    getaddr_received: bool,
    /// The answer to that is being drawn; it goes out as soon as it is there.
    drawing: bool,
    /// How many addresses it may send now. Begins at one, for its own.
    pub tokens: f64,
    tokens_at: Micros,
    pub rate_limited: u64,
    pub processed: u64,
    next_send: Micros,
    next_local_send: Micros,
}

impl AddrRelay {
    pub const fn new(now: Micros) -> Self {
        Self {
            known: None,
            to_send: Vec::new(),
            getaddr_sent: false,
            getaddr_received: false,
            drawing: false,
            tokens: 1.0,
            tokens_at: now,
            rate_limited: 0,
            processed: 0,
            next_send: 0,
            next_local_send: 0,
        }
    }

    /// Whether addresses are relayed with this peer.
    pub const fn enabled(&self) -> bool {
        self.known.is_some()
    }
}

impl Peer {
    fn takes_address(&self, address: &PeerAddress) -> bool {
        self.wants_addrv2 || address.service.address.is_v1_compatible()
    }

    fn push_address(&mut self, address: PeerAddress, rng: &mut impl Rng) {
        let takes = self.takes_address(&address) && address.service.address.is_valid();
        let Some(known) = &self.addr.known else { return };
        if !takes || known.contains(&key(&address.service)) {
            return;
        }
        let queue = &mut self.addr.to_send;
        if queue.len() < MAX_ADDR_TO_SEND {
            queue.push(address);
        } else if let Some(slot) = queue.choose_mut(rng) {
            *slot = address;
        }
    }
}

impl Sync {
    /// Whether addresses are relayed with a peer; from now on, if that is allowed.
    pub(crate) fn set_up_addr_relay(&mut self, id: PeerId) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        // A block-relay-only link shall not show in the flow of addresses, and a feeler is gone
        // before an answer comes.
        if matches!(peer.connection.kind, ConnectionKind::BlockRelayOnly | ConnectionKind::Feeler) {
            return false;
        }
        if peer.addr.known.is_none() {
            peer.addr.known =
                Some(RollingBloom::new(KNOWN_ADDR_FILTER, ADDR_FILTER_FALSE_POSITIVE, &mut self.rng));
        }
        true
    }

    pub(crate) fn on_addr(&mut self, cx: &mut Cx<'_>, id: PeerId, name: &str, mut addrs: Vec<PeerAddress>) {
        if !self.set_up_addr_relay(id) {
            let kind = self.peers.get(&id).map_or("", |peer| peer.connection.kind.name());
            cx.debug(LogCategory::Net, || format!("ignoring {name} message from {kind} peer={id}"));
            return;
        }
        if addrs.len() > MAX_ADDR_TO_SEND {
            self.misbehaving(cx, id, &format!("{name} message size = {}", addrs.len()));
            return;
        }
        let now = cx.unix();
        let total = addrs.len();
        addrs.shuffle(&mut self.rng);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.addr.tokens < MAX_ADDR_TOKENS {
            let seconds = ((cx.now - peer.addr.tokens_at) as f64 / 1e6).max(0.0);
            peer.addr.tokens = (peer.addr.tokens + seconds * MAX_ADDR_RATE_PER_SECOND).min(MAX_ADDR_TOKENS);
        }
        peer.addr.tokens_at = cx.now;
        let unlimited = peer.connection.permissions.addr;
        let gossips = !peer.addr.getaddr_sent && total <= MAX_GOSSIP_BATCH;
        let (mut processed, mut limited) = (0u64, 0u64);
        let mut kept = Vec::new();
        for mut address in addrs {
            let Some(peer) = self.peers.get_mut(&id) else { return };
            if peer.addr.tokens >= 1.0 {
                peer.addr.tokens -= 1.0;
            } else if !unlimited {
                limited += 1;
                continue;
            }
            // Only full nodes are worth remembering.
            let useful = address.services.has(ServiceFlags::NETWORK)
                || address.services.has(ServiceFlags::NETWORK_LIMITED);
            if !useful {
                continue;
            }
            let time = i64::from(address.time);
            if time <= LEAST_SENSIBLE_TIME || time > now + GOSSIP_AGE {
                address.time = u32::try_from(now - NONSENSE_TIME_AGE).unwrap_or(0);
            }
            if let Some(known) = &mut peer.addr.known {
                known.insert(&key(&address.service));
            }
            processed += 1;
            let reachable = address.service.address.ip().is_some();
            if gossips && i64::from(address.time) > now - GOSSIP_AGE && address.service.address.is_routable()
            {
                self.relay_address(cx, id, address, reachable);
            }
            if reachable {
                kept.push(address);
            }
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.addr.processed += processed;
        peer.addr.rate_limited += limited;
        if total < MAX_ADDR_TO_SEND {
            peer.addr.getaddr_sent = false;
        }
        let is_fetch = peer.connection.kind == ConnectionKind::AddrFetch;
        cx.debug(LogCategory::Net, || {
            format!(
                "Received addr: {total} addresses ({processed} processed, {limited} rate-limited) from peer={id}"
            )
        });
        if !kept.is_empty() {
            cx.push(Action::AddAddrs { peer: id, addrs: kept });
        }
        // A single address is the peer's own, no answer.
        if is_fetch && total > 1 {
            self.drop_peer(cx, id, "addrfetch connection completed");
        }
    }

    /// Passes an address on to one or two peers, the same ones for a day, so that nobody can
    /// spread his address by sending it again and again.
    fn relay_address(&mut self, cx: &Cx<'_>, from: PeerId, address: PeerAddress, reachable: bool) {
        let mut hasher = SipHasher24::new_with_keys(0, 0);
        hasher.write(&key(&address.service));
        let address_hash = hasher.finish();
        // Not all addresses change their targets at once.
        let period =
            (cx.unix().unsigned_abs().wrapping_add(address_hash)) / ROTATE_ADDR_RELAY_DEST_INTERVAL as u64;
        let mut hasher = SipHasher24::new_with_keys(self.addr_relay_key.0, self.addr_relay_key.1);
        hasher.write_u64(address_hash);
        hasher.write_u64(period);
        let targets = if reachable || hasher.finish() & 1 == 1 { 2 } else { 1 };
        let mut ranked: Vec<(u64, PeerId)> = self
            .peers
            .values()
            .filter(|peer| peer.addr.enabled() && peer.id != from && peer.takes_address(&address))
            .map(|peer| {
                let mut hasher = hasher;
                hasher.write_u64(peer.id.0);
                (hasher.finish(), peer.id)
            })
            .collect();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in ranked.into_iter().take(targets) {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.push_address(address, &mut self.rng);
            }
        }
    }

    pub(crate) fn on_getaddr(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        // Answering those we connected to would let them find us again by addresses they sent.
        if !peer.is_inbound() {
            let kind = peer.connection.kind.name();
            cx.debug(LogCategory::Net, || format!("Ignoring \"getaddr\" from {kind} connection. peer={id}"));
            return;
        }
        self.set_up_addr_relay(id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.addr.getaddr_received {
            cx.debug(LogCategory::Net, || format!("Ignoring repeated \"getaddr\". peer={id}"));
            return;
        }
        peer.addr.getaddr_received = true;
        peer.addr.drawing = true;
        peer.addr.to_send.clear();
        cx.push(Action::AskAddrs { peer: id, uncached: peer.connection.permissions.addr });
    }

    pub(crate) fn on_addrs_drawn(&mut self, id: PeerId, addrs: Vec<PeerAddress>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.addr.drawing = false;
        for address in addrs {
            peer.push_address(address, &mut self.rng);
        }
    }

    /// Sends what addresses wait, now and then, and our own once a day.
    pub(crate) fn maybe_send_addr(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let local = self.local_address.filter(|_| self.config.listen);
        let (listen, now) = (self.config.listen, cx.unix());
        let Some(peer) = self.peers.get_mut(&id) else { return };
        // What is being drawn comes in a moment, and ours goes before it.
        if !peer.addr.enabled() || peer.addr.drawing {
            return;
        }
        let mut first = None;
        if listen && peer.addr.next_local_send < cx.now && !cx.chain.is_initial_block_download() {
            let is_first = peer.addr.next_local_send == 0;
            // What we announced before must not count as known.
            if !is_first && let Some(known) = &mut peer.addr.known {
                known.clear();
            }
            if let Some(mut local) = local {
                let service = local.service;
                cx.debug(LogCategory::Net, || format!("Advertising address {service} to peer={id}"));
                local.time = u32::try_from(now).unwrap_or(u32::MAX);
                local.services = peer.our_services;
                if is_first {
                    // Alone, so that the peer's limit does not drop it among others.
                    first = peer.takes_address(&local).then_some(local);
                } else {
                    peer.push_address(local, &mut self.rng);
                }
            }
            peer.addr.next_local_send =
                cx.now + exponential_delay(&mut self.rng, LOCAL_ADDRESS_BROADCAST_INTERVAL);
        }
        let v2 = peer.wants_addrv2;
        let message = |addrs| if v2 { Message::AddrV2(addrs) } else { Message::Addr(addrs) };
        let mut batch = Vec::new();
        if cx.now > peer.addr.next_send {
            peer.addr.next_send = cx.now + exponential_delay(&mut self.rng, ADDRESS_BROADCAST_INTERVAL);
            batch = std::mem::take(&mut peer.addr.to_send);
            if let Some(known) = &mut peer.addr.known {
                batch.retain(|address| {
                    let key = key(&address.service);
                    let new = !known.contains(&key);
                    if new {
                        known.insert(&key);
                    }
                    new
                });
            }
        }
        if let Some(local) = first {
            self.send(cx, id, message(vec![local]));
        }
        if !batch.is_empty() {
            self.send(cx, id, message(batch));
        }
    }

    /// Ends a connection made for addresses that brought none. Returns whether it did.
    pub(crate) fn check_addr_fetch_time(&mut self, cx: &mut Cx<'_>, id: PeerId) -> bool {
        let Some(peer) = self.peers.get(&id) else { return false };
        let late = peer.connection.kind == ConnectionKind::AddrFetch
            && cx.now - peer.connected_at > 10 * micros(ADDRESS_BROADCAST_INTERVAL);
        if late {
            self.drop_peer(cx, id, "addrfetch connection timeout");
        }
        late
    }
}
