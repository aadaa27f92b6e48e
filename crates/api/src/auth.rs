//! Who may call: credentials, whitelists and source addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine;
use hmac::{Hmac, Mac};
use rand::RngCore;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// One user: the password's HMAC-SHA256 keyed by the salt, as in `-rpcauth=USER:SALT$HMAC`.
#[derive(Clone)]
struct Login {
    user: String,
    salt: String,
    mac_hex: String,
}

/// Everybody who may call, and what.
#[derive(Clone, Default)]
pub struct Credentials {
    logins: Vec<Login>,
    whitelist: BTreeMap<String, BTreeSet<String>>,
    whitelist_default: bool,
}

impl std::fmt::Debug for Credentials {
    /// Names only: neither salts nor hashes belong in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.logins.iter().map(|login| &login.user)).finish()
    }
}

/// A `-rpcauth` value that is not `USER:SALT$HMAC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid -rpcauth argument.")]
pub struct BadRpcAuth;

fn password_mac(salt: &str, password: &str) -> String {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(salt.as_bytes()) else { return String::new() };
    mac.update(password.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

impl Credentials {
    /// Nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a user with a password (`-rpcuser`/`-rpcpassword` or the cookie). Only its hash under
    /// a fresh salt is kept.
    pub fn add_password(&mut self, user: &str, password: &str) {
        let mut salt = [0u8; 16];
        rand::rngs::OsRng.fill_bytes(&mut salt);
        let salt = hex::encode(salt);
        let mac_hex = password_mac(&salt, password);
        self.logins.push(Login { user: user.into(), salt, mac_hex });
    }

    /// Adds a user from `-rpcauth=USER:SALT$HMAC`.
    ///
    /// # Errors
    /// If the value has another form.
    pub fn add_rpcauth(&mut self, value: &str) -> Result<(), BadRpcAuth> {
        let fields: Vec<&str> = value.split(':').collect();
        let [user, salted] = fields.as_slice() else { return Err(BadRpcAuth) };
        let parts: Vec<&str> = salted.split('$').collect();
        let [salt, mac] = parts.as_slice() else { return Err(BadRpcAuth) };
        self.logins.push(Login { user: (*user).into(), salt: (*salt).into(), mac_hex: (*mac).into() });
        Ok(())
    }

    /// Adds a `-rpcwhitelist=USER:method,method`. A second list for a user leaves what both name.
    pub fn add_whitelist(&mut self, value: &str) {
        let (user, methods) = match value.split_once(':') {
            Some((user, methods)) => (user, Some(methods)),
            None => (value, None),
        };
        let before = self.whitelist.get(user).cloned();
        let entry = self.whitelist.entry(user.into()).or_default();
        if let Some(methods) = methods {
            let named: BTreeSet<String> = methods.split([',', ' ']).map(str::to_owned).collect();
            *entry = match before {
                Some(before) => named.intersection(&before).cloned().collect(),
                None => named,
            };
        }
    }

    /// Whether users without a whitelist may call nothing (`-rpcwhitelistdefault`).
    pub fn set_whitelist_default(&mut self, on: bool) {
        self.whitelist_default = on;
    }

    /// Checks an `Authorization` header. Hashes are compared in constant time, whichever byte
    /// differs, and every login is tried.
    ///
    /// Returns the user, and whether the password is right; `None` if the header is not
    /// `Basic base64(user:password)`.
    #[must_use]
    pub fn check(&self, header: &str) -> Option<(String, bool)> {
        let encoded = header.strip_prefix("Basic ")?.trim();
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
        let text = String::from_utf8_lossy(&decoded);
        let (user, password) = text.split_once(':')?;
        let mut right = false;
        for login in &self.logins {
            let same_user = bool::from(login.user.as_bytes().ct_eq(user.as_bytes()));
            let mac = password_mac(&login.salt, password);
            right |= same_user & bool::from(mac.as_bytes().ct_eq(login.mac_hex.as_bytes()));
        }
        Some((user.to_owned(), right))
    }

    /// The methods a user may call: `None` for all, an empty set for none.
    #[must_use]
    pub fn allowed(&self, user: &str) -> Option<BTreeSet<String>> {
        match self.whitelist.get(user) {
            Some(methods) => Some(methods.clone()),
            None if self.whitelist_default => Some(BTreeSet::new()),
            None => None,
        }
    }

    /// Whether the user has a whitelist of its own.
    #[must_use]
    pub fn has_whitelist(&self, user: &str) -> bool {
        self.whitelist.contains_key(user)
    }
}

/// A range of addresses that may call (`-rpcallowip`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    base: u128,
    mask: u128,
    v4: bool,
}

impl Subnet {
    /// 127.0.0.0/8, always allowed.
    pub const LOCAL_V4: Self = Self { base: 0x7f00_0000 << 96, mask: 0xff00_0000 << 96, v4: true };
    /// ::1, always allowed.
    pub const LOCAL_V6: Self = Self { base: 1, mask: u128::MAX, v4: false };

    /// Reads one address, `NETWORK/BITS` or `NETWORK/NETMASK` as Core's `LookupSubNet`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, mask) = match text.split_once('/') {
            Some((address, mask)) => (address, Some(mask)),
            None => (text, None),
        };
        let address: IpAddr = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        // An IPv4 address inside IPv6 is an IPv4 address, here as in `contains`.
        let (value, v4) = spread(address.to_canonical());
        let width = if v4 { 32 } else { 128 };
        let mask = match mask {
            None => bits_mask(width),
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
                let bits: u32 = text.parse().ok()?;
                if bits > width {
                    return None;
                }
                bits_mask(bits)
            }
            Some(text) => {
                let (mask, mask_v4) = spread(text.parse().ok()?);
                // Ones, then zeros, as Core asks.
                if mask_v4 != v4 || mask.leading_ones() != mask.count_ones() {
                    return None;
                }
                mask
            }
        };
        Some(Self { base: value & mask, mask, v4 })
    }

    /// Whether it holds the address. An IPv4 address inside IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (value, v4) = spread(address.to_canonical());
        v4 == self.v4 && value & self.mask == self.base
    }
}

/// Network bits first, so that masks of both families are made alike.
fn spread(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, true),
        IpAddr::V6(v6) => (u128::from(v6), false),
    }
}

fn bits_mask(bits: u32) -> u128 {
    u128::MAX.checked_shl(128 - bits).unwrap_or(0)
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bits = self.mask.count_ones();
        if self.v4 {
            write!(f, "{}/{bits}", Ipv4Addr::from((self.base >> 96) as u32))
        } else {
            write!(f, "{}/{bits}", Ipv6Addr::from(self.base))
        }
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
