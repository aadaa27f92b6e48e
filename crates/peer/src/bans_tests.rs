use super::*;

fn net(text: &str) -> Subnet {
    text.parse().unwrap()
}

fn ip(text: &str) -> NetAddress {
    NetAddress::from_ip(text.parse().unwrap())
}

#[test]
fn subnets_read_and_print_as_core() {
    for (text, printed) in [
        ("127.0.0.1", "127.0.0.1/32"),
        ("192.168.7.9/24", "192.168.7.0/24"),
        ("1.2.3.4/255.255.0.0", "1.2.0.0/16"),
        ("1.2.3.4/0", "0.0.0.0/0"),
        ("::ffff:1.2.3.4", "1.2.3.4/32"),
        ("2001:db9::1", "2001:db9::1/128"),
        ("2001:4d48:ac57:400:cacf:e9ff:fe1d:9c63/19", "2001:4000::/19"),
        ("2001:4d48::/ffff:ffff::", "2001:4d48::/32"),
        (
            "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion",
            "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion",
        ),
    ] {
        assert_eq!(net(text).to_string(), printed);
    }
    for text in ["", "1.2.3.4/33", "1.2.3.4/255.0.255.0", "::1/129", "host.example", "1.2.3.4/", "1.2.3.4/-1"]
    {
        assert_eq!(text.parse::<Subnet>(), Err(InvalidSubnet), "{text}");
    }
}

#[test]
fn subnets_hold_their_addresses() {
    assert!(net("192.168.0.0/16").contains(&ip("192.168.200.1")));
    assert!(!net("192.168.0.0/16").contains(&ip("192.169.0.1")));
    assert!(net("2001:db9::/32").contains(&ip("2001:db9:1::5")));
    assert!(!net("0.0.0.0/0").contains(&ip("2001:db9::1")));
    // GHSA-63wg: a mapped address is the same host.
    assert!(net("1.2.3.4").contains(&ip("::ffff:1.2.3.4")));
}

#[test]
fn bans_end() {
    let mut bans = BanList::default();
    assert!(bans.ban(net("1.2.3.0/24"), 2_000, 1_000));
    assert!(!bans.ban(net("1.2.3.0/24"), 1_500, 1_000), "the longer ban stays");
    assert!(bans.is_banned(&ip("1.2.3.4"), 1_999));
    assert!(!bans.is_banned(&ip("1.2.3.4"), 2_000));
    assert!(bans.covers(&net("1.2.3.4"), 1_500));
    assert!(!bans.has(&net("1.2.3.4"), 1_500));
    assert_eq!(bans.sweep(2_001), [net("1.2.3.0/24")]);
    assert!(bans.is_empty());
}

#[test]
fn banlist_json_is_cores() {
    let mut bans = BanList::default();
    bans.ban(net("1.2.3.4"), 2_000, 1_000);
    let json = String::from_utf8(bans.to_json()).unwrap();
    let compact: String = json.split_whitespace().collect();
    assert_eq!(
        compact,
        r#"{"banned_nets":[{"version":1,"ban_created":1000,"banned_until":2000,"address":"1.2.3.4/32"}]}"#
    );
    let (read, dropped) = BanList::from_json(json.as_bytes()).unwrap();
    assert_eq!(read.iter().collect::<Vec<_>>(), bans.iter().collect::<Vec<_>>());
    assert!(dropped.is_empty());

    let odd = br#"{"banned_nets":[{"version":2,"ban_created":0,"banned_until":0,"address":"1.1.1.1"},
        {"version":1,"ban_created":0,"banned_until":0,"address":"aaaaa"}]}"#;
    let (read, dropped) = BanList::from_json(odd).unwrap();
    assert!(read.is_empty());
    assert_eq!(
        dropped,
        [
            "Dropping entry with unknown version (2) from ban list",
            "Dropping entry with unparseable address or subnet (aaaaa) from ban list"
        ]
    );
    assert!(BanList::from_json(b"{").is_err());
}

/// CVE-2020-14198: a flood of misbehaving addresses leaves a fixed number behind.
#[test]
fn cve_2020_14198_discouraged_set_is_bounded() {
    let mut discouraged = Discouraged::new((1, 2));
    let nth = |n: u32| NetAddress::Ipv4(std::net::Ipv4Addr::from_bits(n));
    for n in 0..1_000_000 {
        discouraged.insert(&nth(n));
    }
    assert_eq!(discouraged.hashes.len(), MAX_DISCOURAGED);
    assert_eq!(discouraged.oldest_first.len(), MAX_DISCOURAGED);
    assert!(discouraged.contains(&nth(999_999)));
    assert!(!discouraged.contains(&nth(0)));
}
