use bitcoin::p2p::ServiceFlags;
use ironpeer_primitives::{LogCategory, PeerId};
use ironpeer_wire::{Command, DecodeError, Malformed, Message, SendCmpct, Service, Version, sanitize};

use crate::event::{Action, ConnectionKind};
use crate::limits::{
    CMPCTBLOCKS_VERSION, FEATURE_VERSION, LAST_ALERT_VERSION, MAX_ADDR_TO_SEND, MIN_PEER_PROTO_VERSION,
    NODE_NETWORK_LIMITED_ALLOW_CONN_BLOCKS, PROTOCOL_VERSION, SHORT_IDS_BLOCKS_VERSION, WTXID_RELAY_VERSION,
};
use crate::peer::TxRelay;
use crate::{Cx, Sync, micros};

/// The last message of the old alert system: it says that its key is compromised and makes peers
/// that still know the system ignore it for good.
const FINAL_ALERT: &str = "60010000000000000000000000ffffff7f00000000ffffff7ffeffff7f01ffffff7f00000000ffffff7f00ffffff7f002f555247454e543a20416c657274206b657920636f6d70726f6d697365642c2075706772616465207265717569726564004630440220653febd6410f470f6bae11cad19c48413becb1ac2c17f908fd0fd53bdc3abd5202206d0e9c96fe88d4a0f01ed9dedae2b6f9e00da94cad0fecaae66ecf689bf71b50";

/// Message types read before `verack`.
const HANDSHAKE_COMMANDS: [&str; 8] =
    ["version", "verack", "sendheaders", "sendcmpct", "wtxidrelay", "sendaddrv2", "feature", "sendtxrcncl"];

impl Sync {
    /// Services we want of an outbound peer that offers these (`GetDesirableServiceFlags`).
    fn desirable_services(&self, cx: &Cx<'_>, offered: ServiceFlags) -> ServiceFlags {
        let behind = (cx.unix() - self.tip_time) / self.config.params.pow_target_spacing.max(1);
        let mut wanted = ServiceFlags::WITNESS;
        if offered.has(ServiceFlags::NETWORK_LIMITED) && behind < NODE_NETWORK_LIMITED_ALLOW_CONN_BLOCKS {
            wanted.add(ServiceFlags::NETWORK_LIMITED);
        } else {
            wanted.add(ServiceFlags::NETWORK);
        }
        wanted
    }

    /// Whether these services are all we want of an outbound peer.
    pub(crate) fn has_desirable_services(&self, cx: &Cx<'_>, offered: ServiceFlags) -> bool {
        offered.has(self.desirable_services(cx, offered))
    }

    /// Whether transactions from this peer are a violation (`RejectIncomingTxs`).
    pub(crate) fn rejects_txs_from(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(|peer| {
            matches!(peer.connection.kind, ConnectionKind::BlockRelayOnly | ConnectionKind::Feeler)
                || (self.config.ignore_incoming_txs && !peer.connection.permissions.relay)
        })
    }

    /// For outbound connections our `version` comes first.
    pub(crate) fn open_handshake(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        if self.peers.get(&id).is_some_and(|peer| !peer.is_inbound() && !peer.sent_any) {
            self.send_version(cx, id);
        }
    }

    fn send_version(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let relay = !self.rejects_txs_from(id);
        let height = i32::try_from(self.tip_height.0).unwrap_or(i32::MAX);
        let Some(peer) = self.peers.get(&id) else { return };
        let addr = peer.connection.addr;
        let receiver = if addr.address.is_routable() && addr.address.is_v1_compatible() {
            addr
        } else {
            Service::INVALID
        };
        let version = Version {
            version: PROTOCOL_VERSION as i32,
            services: peer.our_services,
            timestamp: cx.unix(),
            receiver_services: peer.connection.services,
            receiver,
            nonce: peer.nonce,
            user_agent: self.config.user_agent.clone().into_bytes(),
            start_height: height,
            relay,
        };
        self.send(cx, id, Message::Version(version));
        let them = if self.config.log_ips { format!(", them={receiver}") } else { String::new() };
        cx.debug(LogCategory::Net, || {
            format!(
                "send version message: version={PROTOCOL_VERSION}, blocks={height}{them}, txrelay={}, peer={id}",
                u8::from(relay)
            )
        });
    }

    /// Takes what belongs to the handshake; gives back what may be looked at after it.
    pub(crate) fn on_handshake(&mut self, cx: &mut Cx<'_>, id: PeerId, message: Message) -> Option<Message> {
        let peer = self.peers.get(&id)?;
        let (version, connected) = (peer.version, peer.connected);
        let command = message.command();
        let in_handshake = command.known().is_some_and(|name| HANDSHAKE_COMMANDS.contains(&name));
        if version == 0 {
            match message {
                Message::Version(version) => self.on_version(cx, id, &version),
                Message::Malformed(malformed) if command.known() == Some("version") => {
                    self.on_malformed(cx, id, &malformed);
                }
                _ => cx.debug(LogCategory::Net, || {
                    format!(
                        "non-version message before version handshake. Message \"{command}\" from peer={id}"
                    )
                }),
            }
            return None;
        }
        match message {
            Message::Version(_) => {
                cx.debug(LogCategory::Net, || format!("redundant version message from peer={id}"));
            }
            Message::Verack => self.on_verack(cx, id),
            Message::SendHeaders => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.prefers_headers = true;
                }
            }
            Message::SendCmpct(request) => self.on_sendcmpct(cx, id, request),
            Message::WtxidRelay => self.on_wtxidrelay(cx, id),
            Message::SendAddrV2 if connected => self.drop_peer(cx, id, "sendaddrv2 received after verack"),
            Message::SendAddrV2 => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.wants_addrv2 = true;
                }
            }
            Message::Feature(feature) => {
                if self.feature_allowed(cx, id) {
                    let name = sanitize(&feature.id);
                    cx.debug(LogCategory::Net, || format!("unknown feature advertised: {name}"));
                }
            }
            Message::Malformed(Malformed { error: DecodeError::InvalidFeature, .. }) => {
                if self.feature_allowed(cx, id) {
                    self.drop_peer(cx, id, "invalid feature payload");
                }
            }
            Message::SendTxRcncl(_) => cx.debug(LogCategory::Net, || {
                format!(
                    "sendtxrcncl from peer={id} ignored, as our node does not have txreconciliation enabled"
                )
            }),
            Message::Malformed(malformed) if in_handshake => self.on_malformed(cx, id, &malformed),
            _ if !connected => cx.debug(LogCategory::Net, || {
                format!("Unsupported message \"{command}\" prior to verack from peer={id}")
            }),
            other => return Some(other),
        }
        None
    }

    /// A message that cannot be read costs the peer nothing, except for a `headers` message
    /// that promises too many.
    pub(crate) fn on_malformed(&mut self, cx: &mut Cx<'_>, id: PeerId, malformed: &Malformed) {
        if matches!(malformed.error, DecodeError::TooManyHeaders(_)) {
            if self.importing {
                cx.debug(LogCategory::Net, || format!("Unexpected headers message received from peer {id}"));
            } else {
                self.misbehaving(cx, id, &malformed.error.to_string());
            }
        } else {
            cx.debug(LogCategory::Net, || malformed.to_string());
        }
    }

    fn on_version(&mut self, cx: &mut Cx<'_>, id: PeerId, theirs: &Version) {
        let Some(peer) = self.peers.get(&id) else { return };
        let kind = peer.connection.kind;
        let inbound = peer.is_inbound();
        let services = theirs.services;
        let desirable = self.has_desirable_services(cx, services);
        if !inbound {
            cx.push(Action::SetServices { peer: id, services });
        }
        if kind.expects_services() && !desirable {
            let expected = self.desirable_services(cx, services);
            self.drop_peer(
                cx,
                id,
                &format!(
                    "peer does not offer the expected services ({:08x} offered, {:08x} expected)",
                    services.to_u64(),
                    expected.to_u64()
                ),
            );
            return;
        }
        let version = u32::try_from(theirs.version).unwrap_or(0);
        if version < MIN_PEER_PROTO_VERSION {
            self.drop_peer(cx, id, &format!("peer using obsolete version {}", theirs.version));
            return;
        }
        let to_self = self
            .peers
            .values()
            .any(|other| !other.connected && !other.is_inbound() && other.nonce == theirs.nonce);
        if inbound && to_self {
            let addr = peer.connection.addr;
            cx.info(format!("connected to self at {addr}, disconnecting"));
            self.disconnect(cx, id);
            return;
        }
        if inbound && theirs.receiver.address.is_routable() {
            cx.push(Action::SeenLocal { addr: theirs.receiver });
        }
        if inbound {
            self.send_version(cx, id);
        }
        let common = version.min(PROTOCOL_VERSION);
        let relays = !matches!(kind, ConnectionKind::BlockRelayOnly | ConnectionKind::Feeler);
        let relay = (relays && theirs.relay).then(|| TxRelay::new(true, &mut self.rng));
        let log_peer = self.log_peer(id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.common_version = common;
        peer.version = version;
        peer.has_wanted_services = desirable;
        peer.services = services;
        peer.addr_local = Some(theirs.receiver).filter(|receiver| receiver.address.is_valid());
        peer.starting_height = theirs.start_height;
        peer.subver = sanitize(&theirs.user_agent);
        peer.tx_relay = relay;
        let offers_bloom = peer.our_services.has(ServiceFlags::BLOOM);
        if relays && peer.tx_relay.is_none() && offers_bloom {
            peer.tx_relay = Some(TxRelay::new(false, &mut self.rng));
        }
        let subver = peer.subver.clone();
        cx.debug(LogCategory::Net, || {
            format!(
                "receive version message: {}: version {version}, blocks={}, us={}, txrelay={}, {log_peer}",
                if subver.is_empty() { "<no user agent>" } else { &subver },
                theirs.start_height,
                theirs.receiver,
                u8::from(theirs.relay),
            )
        });
        if common >= WTXID_RELAY_VERSION {
            self.send(cx, id, Message::WtxidRelay);
            self.send(cx, id, Message::SendAddrV2);
        }
        self.send(cx, id, Message::Verack);
        self.finish_version(cx, id, theirs.timestamp.max(0));
    }

    fn finish_version(&mut self, cx: &mut Cx<'_>, id: PeerId, their_time: i64) {
        let now = cx.unix();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let kind = peer.connection.kind;
        peer.preferred_download = (!peer.is_inbound() || peer.connection.permissions.no_ban)
            && kind != ConnectionKind::AddrFetch
            && peer.serves_blocks();
        peer.time_offset = their_time - now;
        let common = peer.common_version;
        self.preferred_peers += usize::from(peer.preferred_download);
        if kind != ConnectionKind::Inbound {
            if self.set_up_addr_relay(id) {
                self.send(cx, id, Message::GetAddr);
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.addr.getaddr_sent = true;
                    // The answer may hold this many beyond the usual allowance.
                    peer.addr.tokens += MAX_ADDR_TO_SEND as f64;
                }
            }
            cx.push(Action::MarkGood { peer: id });
        }
        if common <= LAST_ALERT_VERSION {
            use bitcoin::hex::FromHex;
            if let Ok(payload) = Vec::from_hex(FINAL_ALERT) {
                self.send(cx, id, Message::Unknown { command: Command::new("alert"), payload });
            }
        }
        if kind == ConnectionKind::Feeler {
            self.drop_peer(cx, id, "feeler connection completed");
        }
    }

    fn on_verack(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let log_peer = self.log_peer(id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.connected {
            cx.debug(LogCategory::Net, || format!("ignoring redundant verack message from peer={id}"));
            return;
        }
        peer.connected = true;
        let line = format!(
            "New {} peer connected: transport: v1, version: {}, {log_peer}",
            peer.connection.kind.name(),
            peer.version
        );
        // Anybody can cause inbound connections, as often as he likes.
        if peer.is_inbound() {
            cx.debug(LogCategory::Net, || line);
        } else {
            cx.info(line);
        }
        self.tx.connected(id, peer.preferred_download, peer.connection.permissions.relay, peer.wtxid_relay);
        if peer.common_version >= SHORT_IDS_BLOCKS_VERSION {
            self.send(cx, id, Message::SendCmpct(SendCmpct { announce: 0, version: CMPCTBLOCKS_VERSION }));
        }
    }

    fn on_sendcmpct(&mut self, cx: &mut Cx<'_>, id: PeerId, request: SendCmpct) {
        if request.announce > 1 {
            self.misbehaving(cx, id, "invalid sendcmpct announce field");
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if request.version == CMPCTBLOCKS_VERSION {
            peer.provides_cmpct = true;
            peer.wants_hb_cmpct = request.announce == 1;
        }
    }

    fn on_wtxidrelay(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let common = peer.common_version;
        if peer.connected {
            self.drop_peer(cx, id, "wtxidrelay received after verack");
        } else if common < WTXID_RELAY_VERSION {
            cx.debug(LogCategory::Net, || {
                format!("ignoring wtxidrelay due to old common version={common} from peer={id}")
            });
        } else if peer.wtxid_relay {
            cx.debug(LogCategory::Net, || format!("ignoring duplicate wtxidrelay from peer={id}"));
        } else {
            peer.wtxid_relay = true;
        }
    }

    /// Features are told between `version` and `verack`, by those who know BIP434.
    fn feature_allowed(&mut self, cx: &mut Cx<'_>, id: PeerId) -> bool {
        let Some(peer) = self.peers.get(&id) else { return false };
        let common = peer.common_version;
        if peer.connected {
            self.drop_peer(cx, id, "feature received after verack");
        } else if common < FEATURE_VERSION {
            self.drop_peer(cx, id, &format!("feature received with incompatible version {common}"));
        } else {
            return true;
        }
        false
    }

    /// Drops peers that do not get on with the handshake (Core's `InactivityCheck`).
    pub(crate) fn check_handshake_time(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let timeout = self.config.peer_timeout;
        let Some(peer) = self.peers.get(&id) else { return };
        if peer.disconnecting || peer.connected_at + micros(timeout) >= cx.now {
            return;
        }
        if !peer.received_any || !peer.sent_any {
            let received = if peer.received_any { "" } else { ", never received from peer" };
            let sent = if peer.sent_any { "" } else { ", never sent to peer" };
            let seconds = timeout.as_secs();
            self.drop_peer(cx, id, &format!("socket no message in first {seconds} seconds{received}{sent}"));
        } else if !peer.connected {
            self.drop_peer(cx, id, "version handshake timeout");
        }
    }
}
