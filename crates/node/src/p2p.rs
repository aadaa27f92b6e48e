//! Where and whom the node meets: listening addresses, permissions and the peers' settings, out
//! of the options.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use ironpeer_consensus::Params;
use ironpeer_peer::{BindError, Listener, Whitelisted};
use ironpeer_sync::Permissions;
use ironpeer_wire::{NetAddress, Service};

use crate::args::{Args, ArgsError};
use crate::cli::split_host_port;
use crate::init::DEFAULT_MAX_CONNECTIONS;
use crate::reach;

/// `-timeout` in milliseconds (Core's `DEFAULT_CONNECT_TIMEOUT`).
const DEFAULT_CONNECT_TIMEOUT: i64 = 5_000;

/// A listening address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Where.
    pub address: SocketAddr,
    /// What comes in here came through Tor.
    pub onion: bool,
    /// What peers that come in here may do.
    pub permissions: Permissions,
    /// The start fails if it cannot be had.
    pub required: bool,
}

/// How the node meets others.
#[derive(Clone, Debug)]
pub struct P2pConfig {
    /// Where to listen; nowhere with `-listen=0`.
    pub binds: Vec<Bind>,
    /// The peers' own settings.
    pub peer: ironpeer_peer::Config,
}

impl P2pConfig {
    /// Reads the connection options.
    ///
    /// # Errors
    /// The text that follows `Error: `.
    pub fn from_args(
        args: &Args,
        params: &Arc<Params>,
        user_agent: &str,
        min_relay_fee_per_kvb: u64,
        data_dir: PathBuf,
    ) -> Result<Self, ArgsError> {
        let on = |name: &str, default: bool| args.bool(name).unwrap_or(default);
        let seconds = |name: &str, default: Duration| {
            args.int(name).and_then(|value| u64::try_from(value).ok()).map_or(default, Duration::from_secs)
        };
        let connect = args.list("connect");
        let connect = match connect.as_slice() {
            [] if !args.is_negated("connect") => None,
            [only] if only == "0" => Some(Vec::new()),
            _ => Some(connect),
        };
        let listen = on("listen", true);
        let mut sync = ironpeer_sync::Config::new(Arc::clone(params));
        user_agent.clone_into(&mut sync.user_agent);
        sync.listen = listen;
        sync.ignore_incoming_txs = on("blocksonly", false);
        if args.int("prune").unwrap_or(0) != 0 {
            // Only the last blocks can be had from us.
            sync.pruned = true;
            sync.services.remove(ServiceFlags::NETWORK);
        }
        sync.peer_timeout = seconds("peertimeout", sync.peer_timeout);
        sync.min_relay_fee_per_kvb = min_relay_fee_per_kvb;
        sync.automatic_outbound = connect.is_none();
        sync.log_ips = on("logips", false);
        if on("peerbloomfilters", false) {
            sync.services.add(ServiceFlags::BLOOM);
        }
        if on("peerblockfilters", false) {
            sync.services.add(ServiceFlags::COMPACT_FILTERS);
        }
        let mut peer = ironpeer_peer::Config::new(sync);
        peer.max_connections =
            usize::try_from(args.int("maxconnections").unwrap_or(DEFAULT_MAX_CONNECTIONS)).unwrap_or(0);
        peer.connect = connect;
        peer.added_nodes = args.list("addnode");
        peer.external_addresses = external(args, params.default_port)?;
        peer.seed_nodes = args.list("seednode");
        peer.dns_seed = on("dnsseed", true);
        peer.force_dns_seed = on("forcednsseed", false);
        peer.name_lookup = on("dns", true);
        peer.whitelist =
            args.list("whitelist").iter().map(|text| whitelisted(args, text)).collect::<Result<_, _>>()?;
        peer.data_dir = Some(data_dir);
        peer.ban_time = seconds("bantime", peer.ban_time);
        let timeout = args.int("timeout").filter(|millis| *millis > 0).unwrap_or(DEFAULT_CONNECT_TIMEOUT);
        peer.connect_timeout = Duration::from_millis(timeout.unsigned_abs());
        peer.capture_messages = on("capturemessages", false);
        let target = args.text("maxuploadtarget").unwrap_or_else(|| "0".to_owned());
        peer.max_upload_target = byte_units(&target)
            .ok_or_else(|| ArgsError(format!("Unable to parse -maxuploadtarget: '{target}'")))?;
        peer.network_active = on("networkactive", true);
        peer.reachable = reach::reachable(args)?;
        if let Some(kilobytes) = args.int("maxsendbuffer") {
            peer.send_buffer_bytes = usize::try_from(kilobytes).unwrap_or(0).saturating_mul(1_000);
        }
        peer.deterministic_addrman = args.list("test").iter().any(|option| option == "addrman");
        Ok(Self { binds: if listen { binds(args, params.default_port)? } else { Vec::new() }, peer })
    }

    /// Listens on every address.
    ///
    /// # Errors
    /// If one cannot be had, in Core's words.
    pub fn listen(&self) -> Result<Vec<Listener>, ArgsError> {
        let mut listeners = Vec::new();
        let mut last = None;
        for bind in &self.binds {
            match Listener::bind(bind.address) {
                Ok(listener) => {
                    let listener = if bind.onion { listener.onion() } else { listener };
                    listeners.push(listener.with_permissions(bind.permissions));
                }
                Err(error) if bind.required => return Err(failed(&error)),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if listeners.is_empty() => Err(failed(&error)),
            _ => Ok(listeners),
        }
    }
}

/// Bytes with a unit: lower case counts in thousands, upper case in 1,024s, none means `M` (Core's
/// `ParseByteUnits`).
fn byte_units(text: &str) -> Option<u64> {
    const UNITS: [(char, u64); 8] = [
        ('k', 1_000),
        ('K', 1 << 10),
        ('m', 1_000_000),
        ('M', 1 << 20),
        ('g', 1_000_000_000),
        ('G', 1 << 30),
        ('t', 1_000_000_000_000),
        ('T', 1 << 40),
    ];
    let unit = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(*name)?, *unit)));
    let (number, unit) = unit.unwrap_or((text, 1 << 20));
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| digits)?.checked_mul(unit)
}

fn failed(error: &BindError) -> ArgsError {
    ArgsError(format!("{error}\nError: Failed to listen on any port. Use -listen=0 if you want this."))
}

fn numeric(text: &str, port: u16) -> Option<SocketAddr> {
    let (host, own) = split_host_port(text)?;
    Some(SocketAddr::new(host.parse().ok()?, own.unwrap_or(port)))
}

/// `-externalip`, with the listening port unless it has its own.
fn external(args: &Args, default_port: u16) -> Result<Vec<Service>, ArgsError> {
    let port = args.text("port").and_then(|port| port.parse().ok()).unwrap_or(default_port);
    let read = |text: String| {
        let named = |address: NetAddress| Service { address, port };
        numeric(&text, port)
            .map(Service::from)
            .or_else(|| text.parse().ok().map(named))
            .ok_or_else(|| ArgsError(format!("Cannot resolve -externalip address: '{text}'")))
    };
    args.list("externalip").into_iter().map(read).collect()
}

/// `-bind` and `-whitebind`, or any address if there are none.
fn binds(args: &Args, default_port: u16) -> Result<Vec<Bind>, ArgsError> {
    let port = args.text("port").and_then(|port| port.parse().ok()).unwrap_or(default_port);
    let onion_port = port.wrapping_add(1);
    let plain = |address| Bind { address, onion: false, permissions: Permissions::default(), required: true };
    let (given, white) = (args.list("bind"), args.list("whitebind"));
    if given.is_empty() && white.is_empty() {
        let any = |ip: IpAddr| Bind { required: false, ..plain(SocketAddr::new(ip, port)) };
        let tor = SocketAddr::from((Ipv4Addr::LOCALHOST, onion_port));
        return Ok(vec![
            any(Ipv6Addr::UNSPECIFIED.into()),
            any(Ipv4Addr::UNSPECIFIED.into()),
            Bind { onion: true, ..plain(tor) },
        ]);
    }
    let mut binds = Vec::new();
    for text in white {
        let (permissions, address) = permissions(args, &text)?;
        let unresolved = || ArgsError(format!("Cannot resolve -whitebind address: '{address}'"));
        let address_port = numeric(address, 0).ok_or_else(unresolved)?;
        if address_port.port() == 0 {
            return Err(ArgsError(format!("Need to specify a port with -whitebind: '{address}'")));
        }
        binds.push(Bind { permissions, ..plain(address_port) });
    }
    for text in given {
        let unresolved = || ArgsError(format!("Cannot resolve -bind address: '{text}'"));
        let bind = match text.rsplit_once('=') {
            None => plain(numeric(&text, port).ok_or_else(unresolved)?),
            Some((address, "onion")) => {
                Bind { onion: true, ..plain(numeric(address, onion_port).ok_or_else(unresolved)?) }
            }
            Some(_) => return Err(unresolved()),
        };
        binds.push(bind);
    }
    let twice = binds
        .iter()
        .enumerate()
        .find(|(index, bind)| binds.iter().take(*index).any(|before| before.address == bind.address));
    match twice {
        None => Ok(binds),
        Some((_, bind)) => Err(ArgsError(format!(
            "Duplicate binding configuration for address {}. Please check your -bind, -bind=...=onion and -whitebind settings.",
            bind.address
        ))),
    }
}

/// Permissions, and which direction they are for.
struct Granted {
    permissions: Permissions,
    incoming: bool,
    outgoing: bool,
}

/// The permissions before the `@`, or the usual ones, and what follows (Core's
/// `TryParsePermissionFlags`).
fn granted<'a>(args: &Args, text: &'a str) -> Result<(Granted, &'a str), ArgsError> {
    let Some((names, address)) = text.split_once('@') else {
        let permissions = Permissions {
            no_ban: true,
            download: true,
            mempool: true,
            force_relay: args.bool("whitelistforcerelay") == Some(true),
            relay: args.bool("whitelistrelay") != Some(false),
            ..Permissions::default()
        };
        return Ok((Granted { permissions, incoming: true, outgoing: false }, text));
    };
    let mut found = Permissions::default();
    let (mut incoming, mut outgoing) = (false, false);
    for name in names.split(',') {
        match name {
            "bloomfilter" | "bloom" => found.bloom_filter = true,
            "noban" => (found.no_ban, found.download) = (true, true),
            "forcerelay" => (found.force_relay, found.relay) = (true, true),
            "mempool" => found.mempool = true,
            "download" => found.download = true,
            "relay" => found.relay = true,
            "addr" => found.addr = true,
            "all" => {
                found = Permissions {
                    bloom_filter: true,
                    relay: true,
                    force_relay: true,
                    download: true,
                    no_ban: true,
                    mempool: true,
                    addr: true,
                }
            }
            "in" => incoming = true,
            "out" => outgoing = true,
            "" => {}
            other => return Err(ArgsError(format!("Invalid P2P permission: '{other}'"))),
        }
    }
    if !incoming && !outgoing {
        incoming = true;
    } else if found == Permissions::default() {
        return Err(ArgsError(format!("Only direction was set, no permissions: '{text}'")));
    }
    Ok((Granted { permissions: found, incoming, outgoing }, address))
}

/// A `-whitebind`: incoming connections only.
fn permissions<'a>(args: &Args, text: &'a str) -> Result<(Permissions, &'a str), ArgsError> {
    let (granted, address) = granted(args, text)?;
    if granted.outgoing {
        return Err(ArgsError(
            "whitebind may only be used for incoming connections (\"out\" was passed)".to_owned(),
        ));
    }
    Ok((granted.permissions, address))
}

/// A `-whitelist`.
fn whitelisted(args: &Args, text: &str) -> Result<Whitelisted, ArgsError> {
    let (granted, subnet) = granted(args, text)?;
    let subnet = subnet
        .parse()
        .map_err(|_| ArgsError(format!("Invalid netmask specified in -whitelist: '{subnet}'")))?;
    let Granted { permissions, incoming, outgoing } = granted;
    Ok(Whitelisted { subnet, permissions, incoming, outgoing })
}

#[cfg(test)]
#[path = "p2p_tests.rs"]
mod tests;
