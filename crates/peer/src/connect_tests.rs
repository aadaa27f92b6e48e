use super::*;

/// The expectations of Core's `netbase_splithost`.
#[test]
fn hosts_and_ports_split_as_core() {
    for (text, host, port) in [
        ("www.bitcoincore.org", "www.bitcoincore.org", 1),
        ("[www.bitcoincore.org]", "www.bitcoincore.org", 1),
        ("www.bitcoincore.org:80", "www.bitcoincore.org", 80),
        ("127.0.0.1", "127.0.0.1", 1),
        ("127.0.0.1:8333", "127.0.0.1", 8333),
        ("[127.0.0.1]:8333", "127.0.0.1", 8333),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", 1),
        ("[::ffff:127.0.0.1]:8333", "::ffff:127.0.0.1", 8333),
        ("::8333", "::8333", 1),
        (":8333", "", 8333),
        ("[]:8333", "", 8333),
        ("", "", 1),
    ] {
        assert_eq!(split_host_port(text, 1), (host, port), "{text}");
    }
}

#[test]
fn numeric_addresses_need_no_resolver() {
    assert_eq!(numeric("[::1]:5", 8333).unwrap().to_string(), "[::1]:5");
    assert_eq!(numeric("1.2.3.4", 8333).unwrap().to_string(), "1.2.3.4:8333");
    assert_eq!(numeric("example.org", 8333), None);
}
