//! Peers (`rpc/net.cpp`).

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::p2p::ServiceFlags;
use ironpeer_peer::{AddNodeError, BanError, BanUntil, Classify, Network, PeerHandle, PeerInfo, Subnet};
use ironpeer_primitives::{ChainRead, PeerId};
use ironpeer_sync::{ConnectionKind, Permissions};
use ironpeer_wire::NetAddress;
use serde_json::{Map, Value};

use super::blockchain::warnings;
use super::mempool::feerate;
use crate::call::{Call, integer};
use crate::error::{RpcError, RpcResult, code};
use crate::json::{self, Object};
use crate::table::{self, Arg, Kind, Method, method};

/// Core's number of release 31.0, which clients compare.
const CLIENT_VERSION: u32 = 310_000;

pub(crate) static METHODS: &[Method] = &[
    method!(
        "network",
        "addnode",
        [
            Arg::req("node", Kind::Str, "Address or name, and port"),
            Arg::req("command", Kind::Str, "add, remove or onetry"),
            Arg::opt("v2transport", Kind::Bool, "Whether to encrypt (BIP324)"),
        ],
        "Keeps a node connected, no longer does, or connects to it once.",
        add_node
    ),
    method!("network", "clearbanned", [], "Ends all bans.", clear_banned),
    method!(
        "network",
        "disconnectnode",
        [
            Arg::opt("address", Kind::Str, "The peer's address and port"),
            Arg::opt("nodeid", Kind::Num, "The peer's number"),
        ],
        "Ends a connection.",
        disconnect_node
    ),
    method!(
        "hidden",
        "sendmsgtopeer",
        [
            Arg::req("peer_id", Kind::Num, "The peer's number"),
            Arg::req("msg_type", Kind::Str, "The message's type"),
            Arg::req("msg", Kind::Hex, "Its payload in hex"),
        ],
        "Sends a peer a message of any kind, for tests.",
        send_message
    ),
    method!(
        "network",
        "getaddednodeinfo",
        [Arg::opt("node", Kind::Str, "Only this node")],
        "The nodes that are kept connected.",
        added_node_info
    ),
    method!("network", "getaddrmaninfo", [], "How many addresses are known, by network.", addrman_info),
    method!("network", "getconnectioncount", [], "How many connections there are.", connection_count),
    method!("network", "getnettotals", [], "Traffic so far.", net_totals),
    method!("network", "getnetworkinfo", [], "How this node stands in the network.", network_info),
    method!(
        "network",
        "getnodeaddresses",
        [
            Arg::def("count", Kind::Num, "1", "At most so many; 0 for all"),
            Arg::opt("network", Kind::Str, "Only of this network"),
        ],
        "Known addresses of other nodes.",
        node_addresses
    ),
    method!("network", "getpeerinfo", [], "All connections.", peer_info),
    method!("network", "listbanned", [], "All bans.", list_banned),
    method!("network", "ping", [], "Sends a ping to every peer; getpeerinfo shows the times.", ping),
    method!(
        "network",
        "setban",
        [
            Arg::req("subnet", Kind::Str, "An address, or a network and its mask"),
            Arg::req("command", Kind::Str, "add or remove"),
            Arg::def("bantime", Kind::Num, "0", "Seconds, or with absolute the time it ends; 0 for a day"),
            Arg::def("absolute", Kind::Bool, "false", "Whether bantime is a time"),
        ],
        "Makes or ends a ban.",
        set_ban
    ),
    method!(
        "network",
        "setnetworkactive",
        [Arg::req("state", Kind::Bool, "true for on")],
        "Switches the network on or off.",
        set_network_active
    ),
    method!(
        "blockchain",
        "getblockfrompeer",
        [
            Arg::req("blockhash", Kind::Hex, "The block's hash; its header must be known"),
            Arg::req("peer_id", Kind::Num, "The peer to ask"),
        ],
        "Asks a peer for a block.",
        block_from_peer
    ),
    method!(
        "hidden",
        "addconnection",
        [
            Arg::req("address", Kind::Str, "Address and port"),
            Arg::req(
                "connection_type",
                Kind::Str,
                "outbound-full-relay, block-relay-only, addr-fetch or feeler"
            ),
            Arg::req("v2transport", Kind::Bool, "Whether to encrypt (BIP324)"),
        ],
        "Opens an outbound connection of a kind (regtest only).",
        add_connection
    ),
    method!(
        "hidden",
        "addpeeraddress",
        [
            Arg::req("address", Kind::Str, "The address"),
            Arg::req("port", Kind::Num, "The port"),
            Arg::def("tried", Kind::Bool, "false", "Whether to put it into the tried table"),
        ],
        "Adds an address of a possible peer.",
        add_peer_address
    ),
    method!(
        "hidden",
        "getorphantxs",
        [Arg::def("verbosity", Kind::Num, "0", "0 for ids, 1 for details, 2 with hex").any_type()],
        "Transactions kept although their parents are missing.",
        orphan_txs
    ),
    method!("hidden", "getrawaddrman", [], "The tables of known addresses.", raw_addrman),
];

fn peers(call: &Call) -> Result<&PeerHandle, RpcError> {
    call.ctx.peers.as_ref().ok_or_else(|| {
        RpcError::new(code::CLIENT_P2P_DISABLED, "Error: Peer-to-peer functionality missing or disabled")
    })
}

/// Core's names of the service bits, lowest first (`serviceFlagsToStr`).
fn service_names(services: ServiceFlags) -> Vec<Value> {
    let bits = services.to_u64();
    (0..64u32)
        .filter(|bit| bits >> bit & 1 == 1)
        .map(|bit| match bit {
            0 => "NETWORK".into(),
            2 => "BLOOM".into(),
            3 => "WITNESS".into(),
            6 => "COMPACT_FILTERS".into(),
            10 => "NETWORK_LIMITED".into(),
            11 => "P2P_V2".into(),
            bit => Value::from(format!("UNKNOWN[2^{bit}]")),
        })
        .collect()
}

fn services_hex(services: ServiceFlags) -> String {
    format!("{:016x}", services.to_u64())
}

fn permission_names(permissions: Permissions) -> Vec<Value> {
    [
        (permissions.bloom_filter, "bloomfilter"),
        (permissions.no_ban, "noban"),
        (permissions.force_relay, "forcerelay"),
        (permissions.relay, "relay"),
        (permissions.mempool, "mempool"),
        (permissions.download, "download"),
        (permissions.addr, "addr"),
    ]
    .into_iter()
    .filter(|(on, _)| *on)
    .map(|(_, name)| name.into())
    .collect()
}

fn seconds(duration: Option<std::time::Duration>) -> Option<Value> {
    duration.filter(|duration| !duration.is_zero()).map(|duration| json::real(duration.as_secs_f64()))
}

fn per_message(bytes: Vec<(&'static str, u64)>) -> Value {
    let shown = bytes.into_iter().filter(|(_, bytes)| *bytes > 0);
    Value::Object(shown.map(|(name, bytes)| (name.to_owned(), bytes.into())).collect::<Map<_, _>>())
}

/// `starting_height` is shown on request only.
fn peer_object(peer: PeerInfo, starting_height: bool) -> Value {
    let inbound = peer.inbound();
    let stats = peer.stats;
    let mut out = Object::new();
    out.push("id", peer.id.0);
    out.push("addr", peer.addr);
    out.push_some("addrbind", peer.bind.map(|bind| bind.to_string()));
    out.push_some("addrlocal", stats.addr_local.map(|addr| addr.to_string()));
    out.push("network", peer.network.name());
    out.push("services", services_hex(stats.services));
    out.push("servicesnames", service_names(stats.services));
    out.push("relaytxes", stats.relay_txs);
    out.push("last_inv_sequence", stats.last_inv_sequence);
    out.push("inv_to_send", stats.inv_to_send);
    out.push("lastsend", peer.last_send);
    out.push("lastrecv", peer.last_recv);
    out.push("last_transaction", stats.last_transaction);
    out.push("last_block", stats.last_block);
    out.push("bytessent", peer.bytes_sent);
    out.push("bytesrecv", peer.bytes_recv);
    out.push("conntime", peer.connected_at);
    out.push("timeoffset", stats.time_offset);
    out.push_some("pingtime", seconds(stats.ping_time));
    out.push_some("minping", stats.min_ping.map(|ping| json::real(ping.as_secs_f64())));
    out.push_some("pingwait", seconds(stats.ping_wait));
    out.push("version", stats.version);
    out.push("subver", stats.subver);
    out.push("inbound", inbound);
    out.push("bip152_hb_to", stats.bip152_hb_to);
    out.push("bip152_hb_from", stats.bip152_hb_from);
    out.push_some("startingheight", starting_height.then_some(stats.starting_height));
    out.push("presynced_headers", stats.presynced_headers);
    out.push("synced_headers", stats.synced_headers);
    out.push("synced_blocks", stats.synced_blocks);
    out.push("inflight", stats.inflight);
    out.push("addr_relay_enabled", stats.addr_relay_enabled);
    out.push("addr_processed", stats.addr_processed);
    out.push("addr_rate_limited", stats.addr_rate_limited);
    out.push("permissions", permission_names(peer.permissions));
    out.push("minfeefilter", json::sats(i64::try_from(stats.min_fee_filter).unwrap_or(i64::MAX)));
    out.push("bytessent_per_msg", per_message(peer.bytes_sent_per_msg));
    out.push("bytesrecv_per_msg", per_message(peer.bytes_recv_per_msg));
    out.push("connection_type", peer.kind.name());
    out.push("transport_protocol_type", peer.transport);
    // Only encrypted connections have one.
    out.push("session_id", "");
    out.into()
}

async fn peer_info(call: Call) -> RpcResult {
    let starting_height = call.ctx.facts.deprecated.contains("startingheight");
    Ok(peers(&call)?.peers().into_iter().map(|peer| peer_object(peer, starting_height)).collect())
}

async fn connection_count(call: Call) -> RpcResult {
    let counts = peers(&call)?.counts();
    Ok((counts.inbound + counts.outbound).into())
}

async fn ping(call: Call) -> RpcResult {
    peers(&call)?.ping_all();
    Ok(Value::Null)
}

async fn net_totals(call: Call) -> RpcResult {
    let totals = peers(&call)?.totals();
    let upload = peers(&call)?.upload_target();
    let mut target = Object::new();
    target.push("timeframe", ironpeer_peer::limits::UPLOAD_TIMEFRAME);
    target.push("target", upload.target);
    target.push("target_reached", upload.reached);
    target.push("serve_historical_blocks", upload.serves_historical_blocks);
    target.push("bytes_left_in_cycle", upload.bytes_left);
    target.push("time_left_in_cycle", upload.seconds_left);
    let mut out = Object::new();
    out.push("totalbytesrecv", totals.bytes_recv);
    out.push("totalbytessent", totals.bytes_sent);
    out.push("timemillis", call.ctx.clock.unix_micros() / 1000);
    out.push("uploadtarget", Value::from(target));
    Ok(out.into())
}

async fn network_info(call: Call) -> RpcResult {
    let ctx = &call.ctx;
    let mut out = Object::new();
    out.push("version", CLIENT_VERSION);
    out.push("subversion", ctx.facts.subversion.as_str());
    out.push("protocolversion", ironpeer_wire::PROTOCOL_VERSION);
    if let Some(peers) = &ctx.peers {
        let services = peers.local_services();
        let counts = peers.counts();
        out.push("localservices", services_hex(services));
        out.push("localservicesnames", service_names(services));
        out.push("localrelay", !ctx.facts.blocks_only);
        out.push("timeoffset", median_offset(peers.peers()));
        out.push("networkactive", peers.network_active());
        out.push("connections", counts.inbound + counts.outbound);
        out.push("connections_in", counts.inbound);
        out.push("connections_out", counts.outbound);
    }
    let networks = Network::ROUTABLE.iter().map(|network| {
        let reachable = ctx.peers.as_ref().is_some_and(|peers| peers.is_reachable(*network));
        let mut entry = Object::new();
        entry.push("name", network.name());
        entry.push("limited", !reachable);
        entry.push("reachable", reachable);
        entry.push("proxy", "");
        entry.push("proxy_randomize_credentials", false);
        Value::from(entry)
    });
    out.push("networks", networks.collect::<Vec<_>>());
    let info = ctx.mempool.info();
    out.push("relayfee", feerate(info.min_relay));
    out.push("incrementalfee", feerate(info.incremental));
    let local = ctx.peers.as_ref().map(PeerHandle::local_addresses).unwrap_or_default();
    let local = local.into_iter().map(|(service, score)| {
        let mut entry = Object::new();
        entry.push("address", service.address.to_string());
        entry.push("port", service.port).push("score", score);
        Value::from(entry)
    });
    out.push("localaddresses", local.collect::<Vec<_>>());
    out.push("warnings", warnings(ctx));
    Ok(out.into())
}

/// Median clock offset of outbound peers, 0 below five of them (Core's `TimeOffsets::Median`).
fn median_offset(peers: Vec<PeerInfo>) -> i64 {
    const NEEDED: usize = 5;
    let outbound = |peer: &PeerInfo| !peer.inbound() && peer.stats.handshake_done;
    let mut offsets: Vec<i64> =
        peers.iter().filter(|peer| outbound(peer)).map(|peer| peer.stats.time_offset).collect();
    offsets.sort_unstable();
    if offsets.len() < NEEDED { 0 } else { offsets.get(offsets.len() / 2).copied().unwrap_or(0) }
}

async fn add_node(call: Call) -> RpcResult {
    let command = call.params.str(1)?;
    if !["add", "remove", "onetry"].contains(&command) {
        let help = table::find("addnode").map(Method::full_help).unwrap_or_default();
        return Err(RpcError::misc(help));
    }
    let peers = peers(&call)?;
    if call.params.opt_bool(2)?.unwrap_or(false) && !peers.local_services().has(ServiceFlags::P2P_V2) {
        return Err(RpcError::parameter("Error: v2transport requested but not enabled (see -v2transport)"));
    }
    let node = call.params.str(0)?;
    match command {
        "onetry" => {
            peers.try_node(node).await;
            Ok(())
        }
        "add" => peers.add_node(node),
        _ => peers.remove_node(node),
    }
    .map_err(|error| {
        let code = match error {
            AddNodeError::AlreadyAdded => code::CLIENT_NODE_ALREADY_ADDED,
            AddNodeError::NotAdded => code::CLIENT_NODE_NOT_ADDED,
        };
        RpcError::new(code, error.to_string())
    })?;
    Ok(Value::Null)
}

async fn add_connection(call: Call) -> RpcResult {
    if !call.ctx.facts.mockable {
        return Err(RpcError::misc("addconnection is for regression testing (-regtest mode) only."));
    }
    let address = call.params.str(0)?;
    let asked = call.params.str(1)?.trim();
    let kind = match asked {
        "outbound-full-relay" => ConnectionKind::OutboundFullRelay,
        "block-relay-only" => ConnectionKind::BlockRelayOnly,
        "addr-fetch" => ConnectionKind::AddrFetch,
        "feeler" => ConnectionKind::Feeler,
        _ => {
            let help = table::find("addconnection").map(Method::full_help).unwrap_or_default();
            return Err(RpcError::parameter(help));
        }
    };
    let peers = peers(&call)?;
    if call.params.opt_bool(2)?.unwrap_or(false) && !peers.local_services().has(ServiceFlags::P2P_V2) {
        return Err(RpcError::parameter(
            "Error: Adding v2transport connections requires -v2transport init flag to be set.",
        ));
    }
    peers
        .add_connection(address, kind)
        .await
        .map_err(|error| RpcError::new(code::CLIENT_NODE_CAPACITY_REACHED, error.to_string()))?;
    let mut out = Object::new();
    out.push("address", address).push("connection_type", asked);
    Ok(out.into())
}

async fn disconnect_node(call: Call) -> RpcResult {
    let peers = peers(&call)?;
    let address = call.params.opt_str(0)?;
    let id: Option<i64> = call.params.given(1).then(|| call.params.int64(1)).transpose()?;
    let found = match (address, id) {
        (Some(address), None) => peers.disconnect_address(address),
        (None | Some(""), Some(id)) => u64::try_from(id).is_ok_and(|id| peers.disconnect_id(PeerId(id))),
        _ => {
            return Err(RpcError::new(
                code::INVALID_PARAMS,
                "Only one of address and nodeid should be provided.",
            ));
        }
    };
    if !found {
        return Err(RpcError::new(code::CLIENT_NODE_NOT_CONNECTED, "Node not found in connected nodes"));
    }
    Ok(Value::Null)
}

/// Message types have at most so many bytes.
const MESSAGE_TYPE_BYTES: usize = 12;

async fn send_message(call: Call) -> RpcResult {
    let peer = call.params.int64(0)?;
    let kind = call.params.str(1)?;
    if kind.len() > MESSAGE_TYPE_BYTES {
        return Err(RpcError::parameter(format!(
            "Error: msg_type too long, max length is {MESSAGE_TYPE_BYTES}"
        )));
    }
    let payload =
        hex::decode(call.params.str(2)?).map_err(|_| RpcError::parameter("Error parsing input for msg"))?;
    let peers = peers(&call)?;
    if !u64::try_from(peer).is_ok_and(|peer| peers.send_message(PeerId(peer), kind, payload)) {
        return Err(RpcError::misc("Error: Could not send message to peer"));
    }
    Ok(Object::new().into())
}

async fn added_node_info(call: Call) -> RpcResult {
    let mut nodes = peers(&call)?.added_nodes();
    if let Some(wanted) = call.params.opt_str(0)? {
        nodes.retain(|node| node.node == wanted);
        if nodes.is_empty() {
            return Err(RpcError::new(code::CLIENT_NODE_NOT_ADDED, "Error: Node has not been added."));
        }
    }
    let nodes = nodes.into_iter().map(|node| {
        let mut out = Object::new();
        out.push("addednode", node.node);
        out.push("connected", node.connected.is_some());
        let addresses = node.connected.into_iter().map(|(service, inbound)| {
            let mut out = Object::new();
            out.push("address", service.to_string());
            out.push("connected", if inbound { "inbound" } else { "outbound" });
            Value::from(out)
        });
        out.push("addresses", addresses.collect::<Vec<_>>());
        Value::from(out)
    });
    Ok(nodes.collect())
}

fn ban_error(error: BanError) -> RpcError {
    let code = match error {
        BanError::AlreadyBanned => code::CLIENT_NODE_ALREADY_ADDED,
        BanError::InThePast => code::INVALID_PARAMETER,
        BanError::NotBanned => code::CLIENT_INVALID_IP_OR_SUBNET,
    };
    RpcError::new(code, error.to_string())
}

async fn set_ban(call: Call) -> RpcResult {
    let command = call.params.str(1)?;
    if command != "add" && command != "remove" {
        let help = table::find("setban").map(Method::full_help).unwrap_or_default();
        return Err(RpcError::misc(help));
    }
    let peers = peers(&call)?;
    let subnet: Subnet = call
        .params
        .str(0)?
        .parse()
        .map_err(|_| RpcError::new(code::CLIENT_INVALID_IP_OR_SUBNET, "Error: Invalid IP/Subnet"))?;
    if command == "remove" {
        peers.unban(subnet).await.map_err(ban_error)?;
        return Ok(Value::Null);
    }
    let time = if call.params.given(2) { call.params.int64(2)? } else { 0 };
    let until = match call.params.opt_bool(3)?.unwrap_or(false) {
        true => BanUntil::At(time),
        false if time > 0 => BanUntil::In(time),
        false => BanUntil::Default,
    };
    peers.ban(subnet, until).await.map_err(ban_error)?;
    Ok(Value::Null)
}

async fn list_banned(call: Call) -> RpcResult {
    let now = call.ctx.clock.unix();
    let bans = peers(&call)?.bans().into_iter().map(|(subnet, ban)| {
        let mut out = Object::new();
        out.push("address", subnet.to_string());
        out.push("ban_created", ban.created);
        out.push("banned_until", ban.until);
        out.push("ban_duration", ban.until - ban.created);
        out.push("time_remaining", ban.until - now);
        Value::from(out)
    });
    Ok(bans.collect())
}

async fn clear_banned(call: Call) -> RpcResult {
    peers(&call)?.clear_bans().await;
    Ok(Value::Null)
}

async fn set_network_active(call: Call) -> RpcResult {
    let peers = peers(&call)?;
    peers.set_network_active(call.params.opt_bool(0)?.unwrap_or(true));
    Ok(peers.network_active().into())
}

async fn node_addresses(call: Call) -> RpcResult {
    let count = usize::try_from(call.params.opt_int(0)?.unwrap_or(1))
        .map_err(|_| RpcError::parameter("Address count out of range"))?;
    let only = call.params.opt_str(1)?;
    let network = only
        .map(|name| {
            Network::from_name(name)
                .ok_or_else(|| RpcError::parameter(format!("Network not recognized: {name}")))
        })
        .transpose()?;
    let addresses = peers(&call)?.node_addresses(count, network).into_iter().map(|known| {
        let address = &known.service.address;
        let mut out = Object::new();
        out.push("time", known.time);
        out.push("services", known.services.to_u64());
        out.push("address", address.to_string());
        out.push("port", known.service.port);
        out.push("network", address.network_class().name());
        Value::from(out)
    });
    Ok(addresses.collect())
}

async fn add_peer_address(call: Call) -> RpcResult {
    let address: NetAddress = call
        .params
        .str(0)?
        .parse()
        .map_err(|_| RpcError::new(code::CLIENT_INVALID_IP_OR_SUBNET, "Invalid IP address"))?;
    let port: u16 = integer(call.params.value(1))?;
    let tried = call.params.opt_bool(2)?.unwrap_or(false);
    let added = peers(&call)?.add_address(address, port, tried);
    let mut out = Object::new();
    out.push_some("error", added.err().map(|error| error.to_string()));
    out.push("success", added.is_ok());
    Ok(out.into())
}

async fn addrman_info(call: Call) -> RpcResult {
    let peers = peers(&call)?;
    let entry = |network: Option<Network>| {
        let counts = peers.address_counts(network);
        let mut entry = Object::new();
        entry.push("new", counts.new).push("tried", counts.tried);
        entry.push("total", counts.new + counts.tried);
        Value::from(entry)
    };
    let mut out = Object::new();
    for network in Network::ROUTABLE {
        out.push(network.name(), entry(Some(network)));
    }
    out.push("all_networks", entry(None));
    Ok(out.into())
}

async fn raw_addrman(call: Call) -> RpcResult {
    let peers = peers(&call)?;
    let table = |tried: bool| {
        let mut out = Object::new();
        for (info, position) in peers.address_table(tried) {
            let service = &info.address.service;
            let mut entry = Object::new();
            entry.push("address", service.address.to_string());
            entry.push("port", service.port);
            entry.push("services", info.address.services.to_u64());
            entry.push("time", info.address.time);
            entry.push("network", service.address.network_class().name());
            entry.push("source", info.source.to_string());
            entry.push("source_network", info.source.network_class().name());
            out.push(format!("{}/{}", position.bucket, position.position), Value::from(entry));
        }
        Value::from(out)
    };
    let mut out = Object::new();
    out.push("new", table(false)).push("tried", table(true));
    Ok(out.into())
}

async fn block_from_peer(call: Call) -> RpcResult {
    let hash = call.params.hash(0, "blockhash")?;
    let peer = call.params.int64(1)?;
    let info = call.ctx.view().header(&hash).ok_or_else(|| RpcError::misc("Block header missing"))?;
    if call.ctx.view().prune_mode().is_some() && info.height > call.ctx.view().tip().height {
        return Err(RpcError::misc(
            "In prune mode, only blocks that the node has already synced previously can be fetched from a peer",
        ));
    }
    if info.has_data {
        return Err(RpcError::misc("Block already downloaded"));
    }
    let peer = u64::try_from(peer).map_err(|_| RpcError::misc("Peer does not exist"))?;
    peers(&call)?.fetch_block(PeerId(peer), &info).map_err(|error| RpcError::misc(error.to_string()))?;
    Ok(Object::new().into())
}

async fn orphan_txs(call: Call) -> RpcResult {
    let orphans = peers(&call)?.orphans();
    let verbosity = call.params.verbosity(0, 0, false)?;
    if !(0..=2).contains(&verbosity) {
        return Err(RpcError::parameter(format!("Invalid verbosity value {verbosity}")));
    }
    let shown = orphans.into_iter().map(|orphan| {
        let tx = &orphan.tx;
        if verbosity == 0 {
            return Value::from(tx.compute_txid().to_string());
        }
        let weight = tx.weight().to_wu();
        let mut out = Object::new();
        out.push("txid", tx.compute_txid().to_string());
        out.push("wtxid", tx.compute_wtxid().to_string());
        out.push("bytes", tx.total_size());
        out.push("vsize", weight.div_ceil(4));
        out.push("weight", weight);
        out.push("from", orphan.from.iter().map(|peer| Value::from(peer.0)).collect::<Vec<_>>());
        if verbosity == 2 {
            out.push("hex", serialize_hex(&**tx));
        }
        out.into()
    });
    Ok(shown.collect())
}
