//! Whom the user banned (`banlist.json`), and whom the node itself would rather not have.

use std::collections::HashSet;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::Hasher;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ironpeer_primitives::UnixTime;
use ironpeer_wire::NetAddress;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use crate::limits::MAX_DISCOURAGED;
use crate::network::Classify;

/// An address, or all that share its first bits (Core's `CSubNet`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subnet {
    /// IPv4 addresses; the mask may have holes.
    V4 {
        /// The address, masked.
        network: Ipv4Addr,
        /// Bits that count.
        mask: Ipv4Addr,
    },
    /// IPv6 addresses.
    V6 {
        /// The address, masked.
        network: Ipv6Addr,
        /// How many bits count.
        bits: u8,
    },
    /// One address of another network.
    Single(NetAddress),
}

/// Text that is no address or subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid IP/Subnet")]
pub struct InvalidSubnet;

impl Subnet {
    /// The subnet of one address.
    #[must_use]
    pub const fn single(address: NetAddress) -> Self {
        match address {
            NetAddress::Ipv4(network) => Self::V4 { network, mask: Ipv4Addr::BROADCAST },
            NetAddress::Ipv6(network) => Self::V6 { network, bits: 128 },
            other => Self::Single(other),
        }
    }

    fn v4(ip: Ipv4Addr, mask: u32) -> Self {
        Self::V4 { network: Ipv4Addr::from_bits(ip.to_bits() & mask), mask: Ipv4Addr::from_bits(mask) }
    }

    /// Whether it holds the address.
    #[must_use]
    pub fn contains(&self, address: &NetAddress) -> bool {
        match (self, address) {
            (Self::V4 { network, mask }, NetAddress::Ipv4(ip)) => {
                ip.to_bits() & mask.to_bits() == network.to_bits()
            }
            (Self::V6 { network, bits }, NetAddress::Ipv6(ip)) => {
                ip.to_bits() & mask_v6(*bits) == network.to_bits()
            }
            (Self::Single(one), other) => one == other,
            _ => false,
        }
    }
}

const fn mask_v6(bits: u8) -> u128 {
    match 128u32.checked_sub(bits as u32) {
        Some(128) => 0,
        Some(hidden) => u128::MAX << hidden,
        None => u128::MAX,
    }
}

impl FromStr for Subnet {
    type Err = InvalidSubnet;

    /// `ADDRESS`, or of IP addresses also `ADDRESS/BITS` and `ADDRESS/MASK`.
    fn from_str(text: &str) -> Result<Self, InvalidSubnet> {
        let (host, mask) = match text.split_once('/') {
            Some((host, mask)) => (host, Some(mask)),
            None => (text, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let address: NetAddress = host.parse().map_err(|_| InvalidSubnet)?;
        if !address.is_valid() && mask.is_none() {
            return Err(InvalidSubnet);
        }
        let Some(mask) = mask else { return Ok(Self::single(address)) };
        match address {
            NetAddress::Ipv4(ip) => {
                let mask = match mask.parse::<u32>() {
                    Ok(bits @ 0..=32) => u32::MAX.checked_shl(32 - bits).unwrap_or(0),
                    Ok(_) => return Err(InvalidSubnet),
                    Err(_) => mask.parse::<Ipv4Addr>().map_err(|_| InvalidSubnet)?.to_bits(),
                };
                if mask.leading_ones() + mask.trailing_zeros() < 32 {
                    return Err(InvalidSubnet);
                }
                Ok(Self::v4(ip, mask))
            }
            NetAddress::Ipv6(ip) => {
                let bits = match mask.parse::<u8>() {
                    Ok(bits @ 0..=128) => bits,
                    Ok(_) => return Err(InvalidSubnet),
                    Err(_) => {
                        let mask = mask.parse::<Ipv6Addr>().map_err(|_| InvalidSubnet)?.to_bits();
                        let ones = mask.leading_ones();
                        if ones + mask.trailing_zeros() < 128 {
                            return Err(InvalidSubnet);
                        }
                        u8::try_from(ones).map_err(|_| InvalidSubnet)?
                    }
                };
                Ok(Self::V6 { network: Ipv6Addr::from_bits(ip.to_bits() & mask_v6(bits)), bits })
            }
            _ => Err(InvalidSubnet),
        }
    }
}

impl fmt::Display for Subnet {
    /// As Core's `CSubNet::ToString`: always with the number of bits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4 { network, mask } => write!(f, "{network}/{}", mask.to_bits().leading_ones()),
            Self::V6 { network, bits } => write!(f, "{network}/{bits}"),
            Self::Single(address) => address.fmt(f),
        }
    }
}

/// When a ban was made and when it ends, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// When it was made.
    pub created: UnixTime,
    /// When it ends.
    pub until: UnixTime,
}

/// An entry of `banlist.json`.
#[derive(Serialize, Deserialize)]
struct BanEntry {
    version: i64,
    ban_created: i64,
    banned_until: i64,
    address: String,
}

#[derive(Serialize, Deserialize)]
struct BanFile {
    banned_nets: Vec<BanEntry>,
}

/// Version of an entry (`CBanEntry::CURRENT_VERSION`).
const BAN_ENTRY_VERSION: i64 = 1;

/// The user's bans.
#[derive(Clone, Debug, Default)]
pub struct BanList {
    bans: BTreeMap<Subnet, Ban>,
}

impl BanList {
    /// Reads `banlist.json`. Entries of another version or without a valid subnet are dropped;
    /// returned is one log text for each.
    ///
    /// # Errors
    /// If it is no such JSON; the text says where.
    pub fn from_json(bytes: &[u8]) -> Result<(Self, Vec<String>), String> {
        let file: BanFile = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let mut dropped = Vec::new();
        let mut bans = BTreeMap::new();
        for entry in file.banned_nets {
            if entry.version != BAN_ENTRY_VERSION {
                dropped
                    .push(format!("Dropping entry with unknown version ({}) from ban list", entry.version));
                continue;
            }
            match entry.address.parse::<Subnet>() {
                Ok(subnet) => {
                    bans.insert(subnet, Ban { created: entry.ban_created, until: entry.banned_until });
                }
                Err(InvalidSubnet) => dropped.push(format!(
                    "Dropping entry with unparseable address or subnet ({}) from ban list",
                    entry.address
                )),
            }
        }
        Ok((Self { bans }, dropped))
    }

    /// The contents of `banlist.json`.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let entry = |(subnet, ban): (&Subnet, &Ban)| BanEntry {
            version: BAN_ENTRY_VERSION,
            ban_created: ban.created,
            banned_until: ban.until,
            address: subnet.to_string(),
        };
        let file = BanFile { banned_nets: self.bans.iter().map(entry).collect() };
        serde_json::to_vec_pretty(&file).unwrap_or_default()
    }

    /// Whether the address is banned now.
    #[must_use]
    pub fn is_banned(&self, address: &NetAddress, now: UnixTime) -> bool {
        self.bans.iter().any(|(subnet, ban)| now < ban.until && subnet.contains(address))
    }

    /// Whether exactly this subnet is banned now.
    #[must_use]
    pub fn has(&self, subnet: &Subnet, now: UnixTime) -> bool {
        self.bans.get(subnet).is_some_and(|ban| now < ban.until)
    }

    /// Whether a subnet of one address lies in a banned one.
    #[must_use]
    pub fn covers(&self, subnet: &Subnet, now: UnixTime) -> bool {
        let single = match *subnet {
            Subnet::V4 { network, mask: Ipv4Addr::BROADCAST } => NetAddress::Ipv4(network),
            Subnet::V6 { network, bits: 128 } => NetAddress::Ipv6(network),
            Subnet::Single(address) => address,
            Subnet::V4 { .. } | Subnet::V6 { .. } => return false,
        };
        self.is_banned(&single, now)
    }

    /// Bans until a moment, unless it is banned for longer. Returns whether something changed.
    pub fn ban(&mut self, subnet: Subnet, until: UnixTime, now: UnixTime) -> bool {
        let longer = self.bans.get(&subnet).is_none_or(|ban| ban.until < until);
        if longer {
            self.bans.insert(subnet, Ban { created: now, until });
        }
        longer
    }

    /// Lifts a ban. Returns whether there was one.
    pub fn unban(&mut self, subnet: &Subnet) -> bool {
        self.bans.remove(subnet).is_some()
    }

    /// Lifts all bans.
    pub fn clear(&mut self) {
        self.bans.clear();
    }

    /// Forgets bans that have ended, and returns which.
    pub fn sweep(&mut self, now: UnixTime) -> Vec<Subnet> {
        let ended: Vec<Subnet> =
            self.bans.iter().filter(|(_, ban)| now > ban.until).map(|(net, _)| *net).collect();
        for subnet in &ended {
            self.bans.remove(subnet);
        }
        ended
    }

    /// All bans, ordered by subnet.
    pub fn iter(&self) -> impl Iterator<Item = (Subnet, Ban)> + '_ {
        self.bans.iter().map(|(subnet, ban)| (*subnet, *ban))
    }

    /// How many bans there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bans.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bans.is_empty()
    }
}

/// The last [`MAX_DISCOURAGED`] addresses that misbehaved, by keyed hash. Its size is fixed, so
/// no flood of addresses grows it (CVE-2020-14198).
pub(crate) struct Discouraged {
    keys: (u64, u64),
    hashes: HashSet<u64>,
    oldest_first: VecDeque<u64>,
}

impl Discouraged {
    pub(crate) fn new(keys: (u64, u64)) -> Self {
        Self { keys, hashes: HashSet::new(), oldest_first: VecDeque::new() }
    }

    fn hash(&self, address: &NetAddress) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.keys.0, self.keys.1);
        hasher.write(&address.key_bytes());
        hasher.finish()
    }

    pub(crate) fn insert(&mut self, address: &NetAddress) {
        let hash = self.hash(address);
        if !self.hashes.insert(hash) {
            return;
        }
        self.oldest_first.push_back(hash);
        if self.oldest_first.len() > MAX_DISCOURAGED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.hashes.remove(&oldest);
        }
    }

    pub(crate) fn contains(&self, address: &NetAddress) -> bool {
        self.hashes.contains(&self.hash(address))
    }
}

#[cfg(test)]
#[path = "bans_tests.rs"]
mod tests;
