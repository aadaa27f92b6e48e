//! What an address is good for (Core's `src/netaddress.cpp` and `src/netgroup.cpp`).

use std::fmt;
use std::net::Ipv4Addr;

use ironpeer_wire::{NetAddress, Service};

/// The networks Core tells apart, with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Network {
    /// Reaches nobody beyond this machine or its local network.
    Unroutable = 0,
    /// IPv4.
    Ipv4 = 1,
    /// IPv6.
    Ipv6 = 2,
    /// Tor onion services.
    Onion = 3,
    /// I2P.
    I2p = 4,
    /// CJDNS.
    Cjdns = 5,
}

impl Network {
    /// Those an address can be reached over, in Core's order.
    pub const ROUTABLE: [Self; 5] = [Self::Ipv4, Self::Ipv6, Self::Onion, Self::I2p, Self::Cjdns];

    /// The name in options and RPC answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unroutable => "not_publicly_routable",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Onion => "onion",
            Self::I2p => "i2p",
            Self::Cjdns => "cjdns",
        }
    }

    /// The routable network of a name in options and RPC calls.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Self::ROUTABLE.into_iter().find(|network| network.name() == name)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Core's questions to an address.
pub trait Classify {
    /// The network it is written in, routable or not.
    fn written_network(&self) -> Network;

    /// The network it is reached over (`GetNetwork`).
    fn network(&self) -> Network;

    /// As [`Classify::network`], but tunnelled IPv4 counts as IPv4 (`GetNetClass`).
    fn network_class(&self) -> Network;

    /// Its bytes (`GetAddrBytes`).
    fn key_bytes(&self) -> Vec<u8>;

    /// What it shares with its neighbours, who may be one attacker (`GetGroup` without a map of
    /// autonomous systems).
    fn group(&self) -> Vec<u8>;
}

impl Classify for NetAddress {
    fn written_network(&self) -> Network {
        match self {
            Self::Ipv4(_) => Network::Ipv4,
            Self::Ipv6(_) => Network::Ipv6,
            Self::TorV3(_) => Network::Onion,
            Self::I2p(_) => Network::I2p,
            Self::Cjdns(_) => Network::Cjdns,
        }
    }

    fn network(&self) -> Network {
        if self.is_routable() { self.written_network() } else { Network::Unroutable }
    }

    fn network_class(&self) -> Network {
        match self.network() {
            Network::Ipv6 if linked_v4(self).is_some() => Network::Ipv4,
            network => network,
        }
    }

    fn key_bytes(&self) -> Vec<u8> {
        match self {
            Self::Ipv4(_) | Self::Ipv6(_) => self.to_v1().to_vec(),
            Self::TorV3(bytes) | Self::I2p(bytes) => bytes.to_vec(),
            Self::Cjdns(ip) => ip.octets().to_vec(),
        }
    }

    fn group(&self) -> Vec<u8> {
        let mut group = vec![self.network_class() as u8];
        if self.is_local() || !self.is_routable() {
            return group;
        }
        if let Some(ip) = linked_v4(self) {
            group.extend(ip.octets().iter().take(2));
            return group;
        }
        let bits = match self {
            Self::TorV3(_) | Self::I2p(_) => 4,
            // The first eight bits are the same everywhere.
            Self::Cjdns(_) => 12,
            // Hurricane Electric gives everybody a /48 and itself has a /32.
            Self::Ipv6(ip) if ip.octets().starts_with(&[0x20, 0x01, 0x04, 0x70]) => 36,
            Self::Ipv4(_) | Self::Ipv6(_) => 32,
        };
        let bytes = self.key_bytes();
        group.extend(bytes.iter().take(bits / 8));
        if bits % 8 != 0
            && let Some(last) = bytes.get(bits / 8)
        {
            group.push(last | ((1 << (8 - bits % 8)) - 1));
        }
        group
    }
}

/// The address and port as the address manager hashes them (`CService::GetKey`).
pub(crate) fn service_key(service: &Service) -> Vec<u8> {
    let mut key = service.address.key_bytes();
    key.extend(service.port.to_be_bytes());
    key
}

/// The IPv4 address that is meant, written plainly or inside IPv6 (RFC6145, RFC6052, RFC3964,
/// RFC4380); only of routable addresses.
fn linked_v4(address: &NetAddress) -> Option<Ipv4Addr> {
    if !address.is_routable() {
        return None;
    }
    let ip = match address {
        NetAddress::Ipv4(ip) => return Some(*ip),
        NetAddress::Ipv6(ip) => ip,
        _ => return None,
    };
    match ip.octets() {
        [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, a, b, c, d]
        | [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
        | [0x20, 0x02, a, b, c, d, ..] => Some(Ipv4Addr::new(a, b, c, d)),
        [0x20, 0x01, 0, 0, .., a, b, c, d] => Some(Ipv4Addr::new(!a, !b, !c, !d)),
        _ => None,
    }
}

/// Ports that belong to other services, which nobody should be made to knock on (Core's
/// `IsBadPort`).
#[must_use]
pub const fn is_bad_port(port: u16) -> bool {
    matches!(
        port,
        1 | 7 | 9 | 11 | 13 | 15 | 17 | 19..=23 | 25 | 37 | 42 | 43 | 53 | 69 | 77 | 79 | 87 | 95 | 101..=104
            | 109..=111 | 113 | 115 | 117 | 119 | 123 | 135 | 137 | 139 | 143 | 161 | 179 | 389 | 427 | 465
            | 512..=515 | 526 | 530..=532 | 540 | 548 | 554 | 556 | 563 | 587 | 601 | 636 | 989 | 990 | 993
            | 995 | 1719 | 1720 | 1723 | 2049 | 3306 | 3389 | 3659 | 4045 | 5060 | 5061 | 5432 | 5900 | 6000
            | 6566 | 6665..=6669 | 6697 | 10080 | 27017
    )
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
