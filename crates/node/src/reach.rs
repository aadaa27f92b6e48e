//! Which networks the node may use, and the options that must not be ignored because somebody's
//! privacy rests on them (Core's `AppInitMain`, step 6).

use ironpeer_peer::Network;

use crate::args::{Args, ArgsError};
use crate::cli::split_host_port;

/// Networks that can be reached without a proxy.
const DIRECT: [Network; 2] = [Network::Ipv4, Network::Ipv6];

fn fail<T>(text: impl Into<String>) -> Result<T, ArgsError> {
    Err(ArgsError(text.into()))
}

/// The networks of `-onlynet`, or all.
fn wanted(args: &Args) -> Result<Vec<Network>, ArgsError> {
    let names = args.list("onlynet");
    if names.is_empty() {
        return Ok(Network::ROUTABLE.to_vec());
    }
    names
        .iter()
        .map(|name| {
            Network::from_name(name)
                .ok_or_else(|| ArgsError(format!("Unknown network specified in -onlynet: '{name}'")))
        })
        .collect()
}

/// The networks automatic connections are made to.
///
/// # Errors
/// In Core's words, if the options contradict each other or name what cannot be reached.
pub fn reachable(args: &Args) -> Result<Vec<Network>, ArgsError> {
    let wanted = wanted(args)?;
    let restricted = !args.list("onlynet").is_empty();
    if restricted && wanted.contains(&Network::Cjdns) {
        if args.is_set("cjdnsreachable") {
            return not_available("onlynet=cjdns");
        }
        return fail(
            "Outbound connections restricted to CJDNS (-onlynet=cjdns) but -cjdnsreachable is not provided",
        );
    }
    let direct: Vec<Network> = DIRECT.into_iter().filter(|network| wanted.contains(network)).collect();
    if args.bool("dnsseed") == Some(true) && direct.is_empty() {
        return fail(
            "Incompatible options: -dnsseed=1 was explicitly specified, but -onlynet forbids connections to IPv4/IPv6",
        );
    }
    for value in args.list("proxy") {
        check_proxy(&value)?;
    }
    let onion = args.text("onion").unwrap_or_default();
    let only_onion = restricted && wanted.contains(&Network::Onion);
    match onion.as_str() {
        "" => {}
        "0" if only_onion => {
            return fail(
                "Outbound connections restricted to Tor (-onlynet=onion) but the proxy for reaching the Tor network is explicitly forbidden: -onion=0",
            );
        }
        "0" => {}
        address if is_address(address) => return not_available("onion"),
        address => return fail(format!("Invalid -onion address or hostname: '{address}'")),
    }
    if only_onion {
        return fail(
            "Outbound connections restricted to Tor (-onlynet=onion) but the proxy for reaching the Tor network is not provided: none of -proxy, -onion or -listenonion is given",
        );
    }
    match args.text("i2psam").as_deref() {
        None | Some("" | "0") => {}
        Some(address) if is_address(address) => return not_available("i2psam"),
        Some(address) => return fail(format!("Invalid -i2psam address or hostname: '{address}'")),
    }
    if restricted && wanted.contains(&Network::I2p) {
        return fail("Outbound connections restricted to i2p (-onlynet=i2p) but -i2psam is not provided");
    }
    if args.bool("privatebroadcast") == Some(true) {
        return fail(
            "Private broadcast of own transactions requested (-privatebroadcast), but none of Tor or I2P networks is reachable",
        );
    }
    Ok(direct)
}

fn not_available<T>(option: &str) -> Result<T, ArgsError> {
    fail(format!(
        "-{option} is not available in this version, and leaving it out silently would break what it promises."
    ))
}

/// A path of a Unix socket, or a host with or without a port.
fn is_address(text: &str) -> bool {
    match text.strip_prefix("unix:") {
        Some(path) => !path.is_empty(),
        None => split_host_port(text)
            .is_some_and(|(host, _)| !host.is_empty() && !host.contains(|c: char| c.is_whitespace())),
    }
}

/// One `-proxy`: nothing, or an address, perhaps with `=network`.
fn check_proxy(value: &str) -> Result<(), ArgsError> {
    let (proxy, network) = match value.rsplit_once('=') {
        Some((_, "")) => {
            return fail(format!("Invalid -proxy address or hostname, ends with '=': '{value}'"));
        }
        Some((proxy, network)) => (proxy, Some(network.to_ascii_lowercase())),
        None => (value, None),
    };
    let off = proxy.is_empty() || proxy == "0";
    if !off && !is_address(proxy) {
        return fail(format!("Invalid -proxy address or hostname: '{proxy}'"));
    }
    match network.as_deref() {
        Some("ipv4" | "ipv6" | "onion" | "cjdns") | None => {}
        Some(other) => return fail(format!("Unrecognized network in -proxy='{value}': '{other}'")),
    }
    if off { Ok(()) } else { not_available("proxy") }
}

#[cfg(test)]
#[path = "reach_tests.rs"]
mod tests;
