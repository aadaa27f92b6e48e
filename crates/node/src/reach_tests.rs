use super::*;
use crate::args::options;

fn networks(line: &str) -> Result<Vec<Network>, String> {
    let mut args = Args::new(&[options::CHAIN, options::DAEMON]);
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    args.parse_command_line(&words).unwrap();
    reachable(&args).map_err(|error| error.0)
}

#[test]
fn onlynet_leaves_the_networks_it_names() {
    assert_eq!(networks(""), Ok(DIRECT.to_vec()));
    assert_eq!(networks("-onlynet=IPv6"), Ok(vec![Network::Ipv6]));
    assert_eq!(networks("-onlynet=ipv4 -onlynet=ipv6 -noproxy -onion=0"), Ok(DIRECT.to_vec()));
}

#[test]
fn what_cannot_be_reached_or_hidden_is_an_error_in_cores_words() {
    for (line, error) in [
        ("-onlynet=net8", "Unknown network specified in -onlynet: 'net8'"),
        (
            "-onlynet=cjdns",
            "Outbound connections restricted to CJDNS (-onlynet=cjdns) but -cjdnsreachable is not provided",
        ),
        ("-onlynet=i2p", "Outbound connections restricted to i2p (-onlynet=i2p) but -i2psam is not provided"),
        (
            "-onlynet=ipv4 -onlynet=onion",
            "Outbound connections restricted to Tor (-onlynet=onion) but the proxy for reaching the Tor network is not provided: none of -proxy, -onion or -listenonion is given",
        ),
        (
            "-onlynet=onion -noonion",
            "Outbound connections restricted to Tor (-onlynet=onion) but the proxy for reaching the Tor network is explicitly forbidden: -onion=0",
        ),
        (
            "-onlynet=i2p -dnsseed",
            "Incompatible options: -dnsseed=1 was explicitly specified, but -onlynet forbids connections to IPv4/IPv6",
        ),
        ("-proxy=127.0.0.1:9050=", "Invalid -proxy address or hostname, ends with '=': '127.0.0.1:9050='"),
        ("-proxy=:9050", "Invalid -proxy address or hostname: ':9050'"),
        ("-proxy=127.0.0.1=tor", "Unrecognized network in -proxy='127.0.0.1=tor': 'tor'"),
        ("-onion=a:b", "Invalid -onion address or hostname: 'a:b'"),
        ("-i2psam=:1", "Invalid -i2psam address or hostname: ':1'"),
        (
            "-privatebroadcast",
            "Private broadcast of own transactions requested (-privatebroadcast), but none of Tor or I2P networks is reachable",
        ),
    ] {
        assert_eq!(networks(line), Err(error.to_owned()), "{line}");
    }
    for line in
        ["-proxy=127.0.0.1:9050=ipv6", "-proxy=unix:/tmp/tor", "-onion=[::1]:9050", "-i2psam=localhost"]
    {
        let error = networks(line).unwrap_err();
        assert!(error.contains("is not available in this version"), "{line}: {error}");
    }
}
