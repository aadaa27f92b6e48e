//! `-netinfo`: `getpeerinfo` and `getnetworkinfo` as a dashboard in Core's layout.

use std::fmt::Write as _;

use bitcoin::Network;
use serde_json::{Value, json};

use super::batch;
use crate::{CLIENT_NAME, full_version};

/// Highest level of detail.
const MAX_LEVEL: u8 = 4;
/// Servers before this do not tell a peer's network.
const LEAST_VERSION: i64 = 209_900;
const PEERS: usize = 0;
const NETWORK: usize = 1;
/// Networks a peer may have come over: their names and how they are headed.
const NETWORKS: [(&str, &str); 7] = [
    ("not_publicly_routable", "npr"),
    ("ipv4", "ipv4"),
    ("ipv6", "ipv6"),
    ("onion", "onion"),
    ("i2p", "i2p"),
    ("cjdns", "cjdns"),
    ("internal", "int"),
];
/// Networks shown only if somebody came over them, by their place in [`NETWORKS`].
const UNREACHABLE: [usize; 2] = [0, 6];

/// The text of `-netinfo help`.
pub(super) const HELP: &str = "\
-netinfo (level [outonly]) | help

Shows the node's peer connections, from getpeerinfo and getnetworkinfo. Made to be read by people;
its layout changes.

Arguments:
1. level     From 0 (default) to 4; a higher number up to 255 counts as 4.
             0 - how many peers there are, by network, and our own addresses
             1 - before it a list of the peers
             2 - like 1, with their addresses
             3 - like 1, with their versions
             4 - like 1, with both
2. outonly   \"outonly\" or \"o\": list only the peers we connected to. Needs a level above 0.

Columns of the list, which is sorted by direction and least ping time:
  <->      in - the peer connected to us; out - we connected to it
  type     full - relays everything; block - relays blocks only; manual - added by hand;
           feeler - tests an address; addr - fetches addresses; priv - broadcasts own transactions
  net      network the connection came over; npr is not publicly routable
  serv     services: n NETWORK, b BLOOM, w WITNESS, c COMPACT_FILTERS, l NETWORK_LIMITED, 2 P2P_V2,
           u unknown
  v        version of the transport
  mping    least ping time in milliseconds
  ping     last ping time in milliseconds
  send     seconds since something was last sent
  recv     seconds since something last came
  txn      minutes since the peer last brought a transaction we took; * we relay none to it
  blk      minutes since it last brought a block we took
  hb       compact blocks with high bandwidth: . we chose the peer, * the peer chose us
  addrp    addresses processed; . we relay no addresses to it
  addrl    addresses dropped by the rate limit
  age      minutes since it connected
  asmap    its autonomous system, with -asmap
  id       its number
  address  its address and port
  version  its protocol version and user agent

Examples:
> bitcoin-cli -netinfo
> bitcoin-cli -netinfo 4 outonly
> watch --interval 1 --no-title bitcoin-cli -netinfo 4
";

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    level: u8,
    outbound_only: bool,
}

impl Wanted {
    /// Reads the words after `-netinfo`.
    pub(super) fn parse(words: &[String]) -> Result<Self, String> {
        const MORE: &str = "For more information, run: bitcoin-cli -netinfo help";
        let Some(first) = words.first() else { return Ok(Self { level: 0, outbound_only: false }) };
        let plain = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
        let level: u8 = first
            .parse()
            .ok()
            .filter(|_| plain)
            .ok_or_else(|| format!("invalid -netinfo level argument: {first}\n{MORE}"))?;
        let outbound_only = match words.get(1).map(String::as_str) {
            None => false,
            Some("o" | "outonly") if level > 0 => true,
            Some(word) if level > 0 => {
                return Err(format!("invalid -netinfo outonly argument: {word}\n{MORE}"));
            }
            Some(word) => {
                return Err(format!(
                    "invalid -netinfo outonly argument: {word}\nThe outonly argument is only valid for a level greater than 0 (the first argument). {MORE}"
                ));
            }
        };
        Ok(Self { level: level.min(MAX_LEVEL), outbound_only })
    }

    const fn details(self) -> bool {
        self.level > 0
    }

    const fn addresses(self) -> bool {
        matches!(self.level, 2 | 4)
    }

    const fn versions(self) -> bool {
        matches!(self.level, 3 | 4)
    }
}

pub(super) fn request() -> Value {
    batch::request(&["getpeerinfo", "getnetworkinfo"])
}

/// One line of the list.
struct Peer {
    outbound: bool,
    min_ping: f64,
    cells: Cells,
}

/// Its cells, as they are printed.
struct Cells {
    kind: &'static str,
    network: &'static str,
    services: String,
    transport: char,
    mping: String,
    ping: String,
    send: String,
    recv: String,
    txn: String,
    blk: String,
    hb: String,
    processed: String,
    limited: String,
    age: String,
    mapped_as: Option<String>,
    id: String,
    address: String,
    version: String,
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn on(value: &Value) -> bool {
    value.as_bool() == Some(true)
}

fn kind(name: &str) -> &'static str {
    match name {
        "outbound-full-relay" => "full",
        "block-relay-only" => "block",
        "manual" => "manual",
        "feeler" => "feeler",
        "addr-fetch" => "addr",
        "private-broadcast" => "priv",
        _ => "",
    }
}

fn ping(seconds: Option<f64>) -> String {
    match seconds.map(|seconds| (1_000.0 * seconds).round()) {
        Some(millis) if millis > 999_999.0 => "-".to_owned(),
        Some(millis) if millis >= 0.0 => format!("{millis:.0}"),
        _ => String::new(),
    }
}

/// A letter a service.
fn letters(services: &Value) -> String {
    let letter = |name: &Value| match text(name) {
        "NETWORK_LIMITED" => 'l',
        "P2P_V2" => '2',
        name => name.chars().next().unwrap_or(' ').to_ascii_lowercase(),
    };
    services.as_array().into_iter().flatten().map(letter).collect()
}

fn service_names(services: &Value) -> String {
    let names: Vec<String> = services
        .as_array()
        .into_iter()
        .flatten()
        .map(|name| text(name).replace('_', " ").to_ascii_lowercase())
        .collect();
    names.join(", ")
}

fn network_id(name: &str) -> Option<usize> {
    NETWORKS.iter().position(|(known, _)| *known == name)
}

impl Peer {
    fn new(peer: &Value, network: usize, now: i64) -> Self {
        let since = |name: &str, unit: i64| match number(&peer[name]) {
            0 => String::new(),
            then => ((now - then) / unit).to_string(),
        };
        let count = |name: &str| match number(&peer[name]) {
            0 => String::new(),
            count => count.to_string(),
        };
        let relays_txs = peer["relaytxes"].as_bool().unwrap_or(true);
        let mut txn = since("last_transaction", 60);
        if txn.is_empty() && !relays_txs {
            txn.push('*');
        }
        let mut processed = count("addr_processed");
        if processed.is_empty() && !on(&peer["addr_relay_enabled"]) {
            processed.push('.');
        }
        let transport = peer["transport_protocol_type"].as_str().unwrap_or("v1");
        let mut transport = transport.strip_prefix('v').unwrap_or_default().chars();
        let (min_ping, last_ping) = (peer["minping"].as_f64(), peer["pingtime"].as_f64());
        let version = format!("{}{}", number(&peer["version"]), text(&peer["subver"]));
        Self {
            outbound: !on(&peer["inbound"]),
            min_ping: min_ping.unwrap_or(-1.0),
            cells: Cells {
                kind: kind(text(&peer["connection_type"])),
                network: NETWORKS[network].1,
                services: letters(&peer["servicesnames"]),
                transport: transport.next().filter(|_| transport.next().is_none()).unwrap_or(' '),
                mping: ping(min_ping),
                ping: ping(last_ping),
                send: since("lastsend", 1),
                recv: since("lastrecv", 1),
                txn,
                blk: since("last_block", 60),
                hb: [("bip152_hb_to", '.'), ("bip152_hb_from", '*')]
                    .map(|(name, mark)| if on(&peer[name]) { mark } else { ' ' })
                    .iter()
                    .collect(),
                processed,
                limited: count("addr_rate_limited"),
                age: since("conntime", 60),
                mapped_as: Some(number(&peer["mapped_as"])).filter(|id| *id != 0).map(|id| id.to_string()),
                id: number(&peer["id"]).to_string(),
                address: text(&peer["addr"]).to_owned(),
                version: if version == "0" { String::new() } else { version },
            },
        }
    }
}

/// How many peers there are: in, out, all; by network, and all last.
type Counts = [[usize; NETWORKS.len() + 1]; 3];

/// The dashboard out of the batch's two replies, or the first of them that is an error. `now` is
/// Unix time in seconds.
pub(super) fn collect(batch: &Value, wanted: Wanted, chain: Network, now: i64) -> Result<Value, String> {
    let replies = batch::replies(batch, 2)?;
    if let Some(failed) = replies.iter().find(|reply| !reply["error"].is_null()) {
        return Ok(failed.clone());
    }
    let info = &replies[NETWORK]["result"];
    if number(&info["version"]) < LEAST_VERSION {
        return Err("-netinfo requires bitcoind server to be running v0.21.0 and up".to_owned());
    }
    let mut counts: Counts = Default::default();
    let (mut block_relay, mut manual) = (0usize, 0usize);
    let mut peers = Vec::new();
    for peer in replies[PEERS]["result"].as_array().into_iter().flatten() {
        let Some(network) = network_id(text(&peer["network"])) else { continue };
        let outbound = !on(&peer["inbound"]);
        for row in [usize::from(outbound), 2] {
            counts[row][network] += 1;
            counts[row][NETWORKS.len()] += 1;
        }
        match text(&peer["connection_type"]) {
            "block-relay-only" => block_relay += 1,
            "manual" => manual += 1,
            _ => {}
        }
        if wanted.details() && (outbound || !wanted.outbound_only) {
            peers.push(Peer::new(peer, network, now));
        }
    }
    peers.sort_by(|a, b| a.outbound.cmp(&b.outbound).then(a.min_ping.total_cmp(&b.min_ping)));

    let services = &info["localservicesnames"];
    let mut out = format!("{CLIENT_NAME} client {}{}", full_version(), chain_name(chain));
    push(
        &mut out,
        format_args!(" - server {}{}", number(&info["protocolversion"]), text(&info["subversion"])),
    );
    if wanted.details() {
        push(&mut out, format_args!(" - services {}", letters(services)));
    }
    out.push_str("\n\n");
    if !peers.is_empty() {
        list(&mut out, &peers, wanted);
    }
    totals(&mut out, &counts, &info["networks"], block_relay, manual);
    if !wanted.details() {
        push(&mut out, format_args!("\n\nLocal services: {}", service_names(services)));
    }
    local_addresses(&mut out, &info["localaddresses"]);
    Ok(json!({"result": out, "error": null}))
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

fn chain_name(chain: Network) -> &'static str {
    match chain {
        Network::Bitcoin => "",
        Network::Testnet => " testnet",
        Network::Testnet4 => " testnet4",
        Network::Signet => " signet",
        Network::Regtest => " regtest",
    }
}

/// The list of peers, each column as wide as its widest cell.
fn list(out: &mut String, peers: &[Peer], wanted: Wanted) {
    let widest = |least: usize, cell: fn(&Cells) -> usize| {
        peers.iter().map(|peer| cell(&peer.cells)).max().unwrap_or(0).max(least)
    };
    let services = widest(6, |cells| cells.services.len());
    let processed = widest(5, |cells| cells.processed.len());
    let limited = widest(6, |cells| cells.limited.len());
    let age = widest(5, |cells| cells.age.len());
    let id = widest(2, |cells| cells.id.len());
    let address = if wanted.addresses() { widest(0, |cells| cells.address.len() + 1) } else { 0 };
    let mapped = peers.iter().any(|peer| peer.cells.mapped_as.is_some());
    let shown = |text: &'static str, on: bool| if on { text } else { "" };
    push(
        out,
        format_args!(
            "<->   type   net {:>services$}  v  mping   ping send recv  txn  blk  hb {:>processed$}{:>limited$}{:>age$} {}{:>id$} {:<address$}{}\n",
            "serv",
            "addrp",
            "addrl",
            "age",
            shown(" asmap ", mapped),
            "id",
            shown("address", wanted.addresses()),
            shown("version", wanted.versions()),
        ),
    );
    for peer in peers {
        let cells = &peer.cells;
        push(
            out,
            format_args!(
                "{:>3} {:>6} {:>5} {:>services$} {:>2}{:>7}{:>7}{:>5}{:>5}{:>5}{:>5}  {:>2} {:>processed$}{:>limited$}{:>age$}{:>asmap$} {:>id$} {:<address$}{}\n",
                if peer.outbound { "out" } else { "in" },
                cells.kind,
                cells.network,
                cells.services,
                cells.transport,
                cells.mping,
                cells.ping,
                cells.send,
                cells.recv,
                cells.txn,
                cells.blk,
                cells.hb,
                cells.processed,
                cells.limited,
                cells.age,
                cells.mapped_as.as_deref().unwrap_or_default(),
                cells.id,
                if wanted.addresses() { &cells.address } else { "" },
                if wanted.versions() { &cells.version } else { "" },
                asmap = if mapped { 7 } else { 0 },
            ),
        );
    }
    push(
        out,
        format_args!(
            "                {:services$}         ms     ms  sec  sec  min  min                {:>age$}\n\n",
            "", "min"
        ),
    );
}

/// The table of counts.
fn totals(out: &mut String, counts: &Counts, networks: &Value, block_relay: usize, manual: usize) {
    out.push_str("     ");
    let mut columns = Vec::new();
    for network in networks.as_array().into_iter().flatten().filter(|network| on(&network["reachable"])) {
        let name = text(&network["name"]);
        let Some(id) = network_id(name) else { continue };
        push(out, format_args!("{name:>8}"));
        columns.push(id);
    }
    for id in UNREACHABLE.into_iter().filter(|id| counts[2][*id] > 0) {
        push(out, format_args!("{:>8}", NETWORKS[id].1));
        columns.push(id);
    }
    out.push_str("   total   block");
    if manual > 0 {
        out.push_str("  manual");
    }
    for (row, name) in counts.iter().zip(["in", "out", "total"]) {
        push(out, format_args!("\n{name:<5}"));
        for id in &columns {
            push(out, format_args!("{:>8}", row[*id]));
        }
        push(out, format_args!("   {:>5}", row[NETWORKS.len()]));
        if name == "out" {
            push(out, format_args!("   {block_relay:>5}"));
            if manual > 0 {
                push(out, format_args!("   {manual:>5}"));
            }
        }
    }
}

fn local_addresses(out: &mut String, addresses: &Value) {
    out.push_str("\n\nLocal addresses");
    let addresses: Vec<&Value> = addresses.as_array().into_iter().flatten().collect();
    if addresses.is_empty() {
        out.push_str(": n/a\n");
        return;
    }
    let widest = addresses.iter().map(|entry| text(&entry["address"]).len() + 1).max().unwrap_or(0);
    for entry in addresses {
        push(
            out,
            format_args!(
                "\n{:<widest$}    port {:>6}    score {:>6}",
                text(&entry["address"]),
                number(&entry["port"]),
                number(&entry["score"])
            ),
        );
    }
}

#[cfg(test)]
#[path = "../cli_netinfo_tests.rs"]
mod tests;
