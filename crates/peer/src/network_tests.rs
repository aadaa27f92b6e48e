use ironpeer_wire::NetAddress;

use super::*;

fn ip(text: &str) -> NetAddress {
    NetAddress::from_ip(text.parse().unwrap())
}

#[test]
fn only_routable_addresses_have_a_network() {
    for text in ["10.0.0.1", "127.0.0.1", "255.255.255.255", "::1", "::", "fd00::1", "2001:db8::1"] {
        assert_eq!(ip(text).network(), Network::Unroutable, "{text}");
    }
    for (text, network) in [
        ("8.8.8.8", Network::Ipv4),
        ("172.32.0.1", Network::Ipv4),
        ("2001:41d0::1", Network::Ipv6),
        ("::ffff:8.8.8.8", Network::Ipv4),
    ] {
        assert_eq!(ip(text).network(), network, "{text}");
    }
    assert_eq!(NetAddress::TorV3([1; 32]).network(), Network::Onion);
}

/// The expectations of Core's `netbase_getgroup`.
#[test]
fn groups_as_core() {
    assert_eq!(ip("127.0.0.1").group(), [0]);
    assert_eq!(ip("10.0.0.1").group(), [0]);
    assert_eq!(ip("169.254.1.1").group(), [0]);
    assert_eq!(ip("1.2.3.4").group(), [1, 1, 2]);
    assert_eq!(ip("::ffff:0:102:304").group(), [1, 1, 2]);
    assert_eq!(ip("64:ff9b::102:304").group(), [1, 1, 2]);
    assert_eq!(ip("2002:102:304:9999:9999:9999:9999:9999").group(), [1, 1, 2]);
    assert_eq!(ip("2001:0:9999:9999:9999:9999:fefd:fcfb").group(), [1, 1, 2]);
    assert_eq!(ip("2001:470:abcd:9999:9999:9999:9999:9999").group(), [2, 0x20, 0x01, 0x04, 0x70, 0xaf]);
    assert_eq!(ip("2001:2001:9999:9999:9999:9999:9999:9999").group(), [2, 0x20, 0x01, 0x20, 0x01]);
    assert_eq!(NetAddress::TorV3([0x12; 32]).group(), [3, 0x1f]);
}
