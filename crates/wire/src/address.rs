use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use bitcoin::p2p::ServiceFlags;

use crate::encode::put_compact;
use crate::limits::MAX_ADDRV2_BYTES;
use crate::{DecodeError, Reader};

/// Where a node can be reached (Core's `CNetAddr`). What Core reads as an invalid address is
/// [`NetAddress::INVALID`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NetAddress {
    /// An IPv4 address, mapped ones included.
    Ipv4(Ipv4Addr),
    /// An IPv6 address that maps no other network.
    Ipv6(Ipv6Addr),
    /// The public key of a Tor onion service, version 3.
    TorV3([u8; 32]),
    /// The hash of an I2P destination.
    I2p([u8; 32]),
    /// An address of a CJDNS network, inside `fc00::/8`.
    Cjdns(Ipv6Addr),
}

/// An address with a port (Core's `CService`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Service {
    /// The host.
    pub address: NetAddress,
    /// The TCP port.
    pub port: u16,
}

/// An entry of `addr` or `addrv2` (Core's `CAddress`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// When the node was last seen, in Unix seconds.
    pub time: u32,
    /// The services it is said to offer.
    pub services: ServiceFlags,
    /// Where it listens.
    pub service: Service,
}

/// First ten bytes of a Tor version 2 address inside IPv6 (OnionCat), long out of use.
const TOR_V2_PREFIX: [u8; 6] = [0xfd, 0x87, 0xd8, 0x7e, 0xeb, 0x43];
/// Prefix under which Core keeps names it has not resolved; never on the network.
const INTERNAL_PREFIX: [u8; 6] = [0xfd, 0x6b, 0x88, 0xc0, 0x87, 0x24];

impl NetAddress {
    /// What an unreadable or unsupported address becomes: valid for nothing.
    pub const INVALID: Self = Self::Ipv6(Ipv6Addr::UNSPECIFIED);

    /// From an IP address; an IPv4 address mapped into IPv6 becomes IPv4 again, so that one host
    /// has one name.
    #[must_use]
    pub const fn from_ip(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::Ipv4(ip),
            IpAddr::V6(ip) => Self::Ipv6(ip),
        }
    }

    /// The IP address, where there is one.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ipv4(ip) => Some(IpAddr::V4(*ip)),
            Self::Ipv6(ip) | Self::Cjdns(ip) => Some(IpAddr::V6(*ip)),
            Self::TorV3(_) | Self::I2p(_) => None,
        }
    }

    /// The 16 bytes of `addr` and `version`; zero for what they cannot express.
    #[must_use]
    pub const fn to_v1(&self) -> [u8; 16] {
        match self {
            Self::Ipv4(ip) => ip.to_ipv6_mapped().octets(),
            Self::Ipv6(ip) | Self::Cjdns(ip) => ip.octets(),
            Self::TorV3(_) | Self::I2p(_) => [0; 16],
        }
    }

    /// Whether `addr` can express it (Core's `IsAddrV1Compatible`).
    #[must_use]
    pub const fn is_v1_compatible(&self) -> bool {
        matches!(self, Self::Ipv4(_) | Self::Ipv6(_))
    }

    /// Whether it can be anybody's address at all (Core's `IsValid`).
    #[must_use]
    pub fn is_valid(&self) -> bool {
        match self {
            Self::Ipv4(ip) => !ip.is_unspecified() && !ip.is_broadcast(),
            Self::Ipv6(ip) => !ip.is_unspecified() && !ip.octets().starts_with(&[0x20, 0x01, 0x0d, 0xb8]),
            Self::Cjdns(ip) => ip.octets().starts_with(&[0xfc]),
            Self::TorV3(_) | Self::I2p(_) => true,
        }
    }

    /// Whether it is this machine (Core's `IsLocal`).
    #[must_use]
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Ipv4(ip) => matches!(ip.octets(), [127 | 0, ..]),
            Self::Ipv6(ip) => ip.is_loopback(),
            Self::Cjdns(_) | Self::TorV3(_) | Self::I2p(_) => false,
        }
    }

    /// Whether it can be reached from anywhere (Core's `IsRoutable`).
    #[must_use]
    pub fn is_routable(&self) -> bool {
        let reserved = match self {
            Self::Ipv4(ip) => reserved_v4(*ip),
            Self::Ipv6(ip) => reserved_v6(*ip),
            Self::Cjdns(_) | Self::TorV3(_) | Self::I2p(_) => false,
        };
        self.is_valid() && !self.is_local() && !reserved
    }

    /// Reads the 16 bytes of `addr` and `version` (Core's `SetLegacyIPv6`).
    #[must_use]
    pub fn from_v1(bytes: [u8; 16]) -> Self {
        if bytes.starts_with(&TOR_V2_PREFIX) || bytes.starts_with(&INTERNAL_PREFIX) {
            return Self::INVALID;
        }
        let ip = Ipv6Addr::from(bytes);
        ip.to_ipv4_mapped().map_or(Self::Ipv6(ip), Self::Ipv4)
    }

    /// Reads network and address of an `addrv2` entry. Unknown networks and addresses that hide
    /// another network become [`NetAddress::INVALID`], so that the entries behind them count.
    ///
    /// # Errors
    /// If the bytes end, or the address has a length its network does not have.
    pub fn read_v2(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let network = r.u8()?;
        let len = r.compact_size()?;
        if len > MAX_ADDRV2_BYTES {
            return Err(DecodeError::AddressTooLong(len));
        }
        let expect = |name, expected| {
            if len == expected {
                Ok(())
            } else {
                Err(DecodeError::AddressLength { network: name, length: len, expected })
            }
        };
        match network {
            1 => {
                expect("IPv4", 4)?;
                Ok(Self::Ipv4(r.array::<4>()?.into()))
            }
            2 => {
                expect("IPv6", 16)?;
                let bytes = r.array::<16>()?;
                match Self::from_v1(bytes) {
                    ip @ Self::Ipv6(_) => Ok(ip),
                    _ => Ok(Self::INVALID),
                }
            }
            4 => {
                expect("TORv3", 32)?;
                Ok(Self::TorV3(r.array()?))
            }
            5 => {
                expect("I2P", 32)?;
                Ok(Self::I2p(r.array()?))
            }
            6 => {
                expect("CJDNS", 16)?;
                Ok(Self::Cjdns(r.array::<16>()?.into()))
            }
            _ => {
                r.bytes(usize::try_from(len).map_err(|_| DecodeError::SizeTooLarge)?)?;
                Ok(Self::INVALID)
            }
        }
    }

    /// Appends network and address as in `addrv2`.
    pub fn put_v2(&self, out: &mut Vec<u8>) {
        let mut put = |network: u8, bytes: &[u8]| {
            out.push(network);
            put_compact(out, bytes.len() as u64);
            out.extend(bytes);
        };
        match self {
            Self::Ipv4(ip) => put(1, &ip.octets()),
            Self::Ipv6(ip) => put(2, &ip.octets()),
            Self::TorV3(key) => put(4, key),
            Self::I2p(hash) => put(5, hash),
            Self::Cjdns(ip) => put(6, &ip.octets()),
        }
    }
}

/// IPv4 ranges that are not on the public network.
const fn reserved_v4(ip: Ipv4Addr) -> bool {
    matches!(
        ip.octets(),
        // RFC1918, RFC2544, RFC3927, RFC6598 and RFC5737, in this order.
        [10, ..]
            | [192, 168, ..]
            | [172, 16..=31, ..]
            | [198, 18 | 19, ..]
            | [169, 254, ..]
            | [100, 64..=127, ..]
            | [192, 0, 2, _]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

/// IPv6 ranges that are not on the public network.
const fn reserved_v6(ip: Ipv6Addr) -> bool {
    matches!(
        ip.octets(),
        // RFC4862, RFC4193, RFC4843 and RFC7343, in this order.
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, ..] | [0xfc | 0xfd, ..] | [0x20, 0x01, 0x00, 0x10..=0x2f, ..]
    )
}

impl Service {
    /// An address that reaches nobody.
    pub const INVALID: Self = Self { address: NetAddress::INVALID, port: 0 };

    /// The socket address, where there is one.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.address.ip().map(|ip| SocketAddr::new(ip, self.port))
    }

    /// Reads the form of `addr` and `version`.
    pub(crate) fn read_v1(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { address: NetAddress::from_v1(r.array()?), port: r.port()? })
    }

    /// Appends the form of `addr` and `version`.
    pub(crate) fn put_v1(&self, out: &mut Vec<u8>) {
        out.extend(self.address.to_v1());
        out.extend(self.port.to_be_bytes());
    }
}

impl From<SocketAddr> for Service {
    fn from(addr: SocketAddr) -> Self {
        Self { address: NetAddress::from_ip(addr.ip()), port: addr.port() }
    }
}

impl PeerAddress {
    pub(crate) fn read_v1(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { time: r.u32()?, services: ServiceFlags::from(r.u64()?), service: Service::read_v1(r)? })
    }

    pub(crate) fn put_v1(&self, out: &mut Vec<u8>) {
        out.extend(self.time.to_le_bytes());
        out.extend(self.services.to_u64().to_le_bytes());
        self.service.put_v1(out);
    }

    /// Reads an `addrv2` entry (BIP155); Core's address file has the same form.
    ///
    /// # Errors
    /// If the bytes end, or an address has a length its network does not have.
    pub fn read_v2(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let time = r.u32()?;
        let services = ServiceFlags::from(r.compact_number()?);
        let address = NetAddress::read_v2(r)?;
        Ok(Self { time, services, service: Service { address, port: r.port()? } })
    }

    /// Appends an `addrv2` entry (BIP155).
    pub fn put_v2(&self, out: &mut Vec<u8>) {
        out.extend(self.time.to_le_bytes());
        put_compact(out, self.services.to_u64());
        self.service.address.put_v2(out);
        out.extend(self.service.port.to_be_bytes());
    }
}

/// Lower-case RFC 4648 base32 without padding, as onion and I2P names use it.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut name = String::new();
    for chunk in bytes.chunks(5) {
        let mut group = [0u8; 8];
        for (to, from) in group.iter_mut().skip(3).zip(chunk) {
            *to = *from;
        }
        let bits = u64::from_be_bytes(group);
        let letters = chunk.len().saturating_mul(8).div_ceil(5);
        for shift in [35, 30, 25, 20, 15, 10, 5, 0].into_iter().take(letters) {
            let index = usize::try_from((bits >> shift) & 31).unwrap_or(0);
            name.push(char::from(ALPHABET.get(index).copied().unwrap_or(b'a')));
        }
    }
    name
}

/// Reads [`base32`]; `None` for other characters or bits left over.
fn from_base32(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for chunk in name.as_bytes().chunks(8) {
        let mut bits = 0u64;
        for letter in chunk {
            let value = match letter.to_ascii_lowercase() {
                letter @ b'a'..=b'z' => letter.checked_sub(b'a')?,
                letter @ b'2'..=b'7' => letter.checked_sub(b'2')?.checked_add(26)?,
                _ => return None,
            };
            bits = (bits << 5) | u64::from(value);
        }
        let width = chunk.len().checked_mul(5)?;
        let [_, _, _, group @ ..] = (bits << 40usize.checked_sub(width)?).to_be_bytes();
        let (whole, rest) = group.split_at_checked(width.checked_div(8)?)?;
        if rest.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend(whole);
    }
    Some(bytes)
}

/// Text that is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no IP, onion or I2P address")]
pub struct InvalidAddress;

impl FromStr for NetAddress {
    type Err = InvalidAddress;

    /// An IP address, an onion name of version 3, or the base32 name of an I2P destination
    /// (Core's `LookupHost` without a resolver).
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if let Some(name) = text.strip_suffix(".onion") {
            let decoded = from_base32(name).ok_or(InvalidAddress)?;
            let (key, tail) = decoded.split_first_chunk::<32>().ok_or(InvalidAddress)?;
            let [first, second] = onion_checksum(key);
            return if tail == [first, second, 3] { Ok(Self::TorV3(*key)) } else { Err(InvalidAddress) };
        }
        if let Some(name) = text.strip_suffix(".b32.i2p") {
            let decoded = from_base32(name).ok_or(InvalidAddress)?;
            return decoded.try_into().map(Self::I2p).map_err(|_| InvalidAddress);
        }
        text.parse().map(Self::from_ip).map_err(|_| InvalidAddress)
    }
}

impl fmt::Display for NetAddress {
    /// As Core's `ToStringAddr`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(ip) => ip.fmt(f),
            Self::Ipv6(ip) | Self::Cjdns(ip) => ip.fmt(f),
            Self::TorV3(key) => {
                let checksum = onion_checksum(key);
                let name: Vec<u8> = key.iter().chain(&checksum).chain(&[3]).copied().collect();
                write!(f, "{}.onion", base32(&name))
            }
            Self::I2p(hash) => write!(f, "{}.b32.i2p", base32(hash)),
        }
    }
}

/// First two bytes of the checksum in an onion name (Tor's rend-spec-v3, section 6).
fn onion_checksum(key: &[u8; 32]) -> [u8; 2] {
    use sha3::{Digest, Sha3_256};
    let digest: [u8; 32] = Sha3_256::new()
        .chain_update(b".onion checksum")
        .chain_update(key)
        .chain_update([3])
        .finalize()
        .into();
    let [first, second, ..] = digest;
    [first, second]
}

impl fmt::Display for Service {
    /// As Core's `ToStringAddrPort`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            NetAddress::Ipv4(_) | NetAddress::TorV3(_) | NetAddress::I2p(_) => {
                write!(f, "{}:{}", self.address, self.port)
            }
            NetAddress::Ipv6(_) | NetAddress::Cjdns(_) => write!(f, "[{}]:{}", self.address, self.port),
        }
    }
}
