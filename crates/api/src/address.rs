//! Addresses with Core's error texts and guesses of where a typing error is (`key_io.cpp`,
//! `bech32.cpp`).

use std::collections::HashMap;

use bitcoin::base58;
use bitcoin::hashes::Hash;
use bitcoin::{Address, Network, PubkeyHash, Script, ScriptBuf, ScriptHash, WitnessProgram, WitnessVersion};
use ironpeer_script::{Solution, solve};
use serde_json::Value;

use crate::json::Object;

/// Why a text is no address of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadAddress {
    /// Core's text.
    pub message: String,
    /// Places of the characters that are likely wrong.
    pub locations: Vec<usize>,
}

impl BadAddress {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), locations: Vec::new() }
    }
}

/// Longest bech32 text of an address (`CharLimit::BECH32`).
const BECH32_LEN: usize = 90;
/// Characters of a bech32 checksum.
const CHECKSUM_LEN: usize = 6;
/// Longest witness program, in bytes (BIP141).
const PROGRAM_MAX: usize = 40;
/// Longest base58 text tried without its checksum.
const BASE58_MAX: usize = 100;

const CHARSET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const BECH32: u32 = 1;
const BECH32M: u32 = 0x2bc8_30a3;

/// The first part of a segwit address.
pub(crate) const fn hrp(network: Network) -> &'static str {
    match network {
        Network::Bitcoin => "bc",
        Network::Regtest => "bcrt",
        _ => "tb",
    }
}

const fn base58_prefixes(network: Network) -> (u8, u8) {
    match network {
        Network::Bitcoin => (0, 5),
        _ => (111, 196),
    }
}

/// The output script an address stands for (Core's `DecodeDestination`).
pub(crate) fn decode(text: &str, network: Network) -> Result<ScriptBuf, BadAddress> {
    let hrp = hrp(network);
    let is_bech32 = text.get(..hrp.len()).is_some_and(|head| head.eq_ignore_ascii_case(hrp));
    if is_bech32 { decode_segwit(text, hrp) } else { decode_base58(text, network) }
}

fn decode_base58(text: &str, network: Network) -> Result<ScriptBuf, BadAddress> {
    let (key_prefix, script_prefix) = base58_prefixes(network);
    if text.len() > BASE58_MAX * 2 {
        return Err(BadAddress::new("Invalid or unsupported Segwit (Bech32) or Base58 encoding."));
    }
    match base58::decode_check(text.trim()) {
        Ok(data) if data.len() <= 21 => match data.split_first() {
            Some((prefix, hash)) if *prefix == key_prefix || *prefix == script_prefix => {
                let hash: [u8; 20] = hash
                    .try_into()
                    .map_err(|_| BadAddress::new("Invalid length for Base58 address (P2PKH or P2SH)"))?;
                Ok(if *prefix == key_prefix {
                    ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(hash))
                } else {
                    ScriptBuf::new_p2sh(&ScriptHash::from_byte_array(hash))
                })
            }
            _ => Err(BadAddress::new("Invalid or unsupported Base58-encoded address.")),
        },
        _ => match base58::decode(text.trim()) {
            Ok(data) if data.len() <= BASE58_MAX => {
                Err(BadAddress::new("Invalid checksum or length of Base58 address (P2PKH or P2SH)"))
            }
            _ => Err(BadAddress::new("Invalid or unsupported Segwit (Bech32) or Base58 encoding.")),
        },
    }
}

fn decode_segwit(text: &str, expected: &str) -> Result<ScriptBuf, BadAddress> {
    let parts = Bech32Parts::read(text)?;
    let constant = parts.checksum();
    if constant != BECH32 && constant != BECH32M {
        return Err(parts.locate(text.len()));
    }
    let data = parts.values.get(..parts.values.len() - CHECKSUM_LEN).unwrap_or(&[]);
    let Some((version, program)) = data.split_first() else {
        return Err(BadAddress::new("Empty Bech32 data section"));
    };
    if parts.hrp != expected {
        return Err(BadAddress::new(format!(
            "Invalid or unsupported prefix for Segwit (Bech32) address (expected {expected}, got {}).",
            parts.hrp
        )));
    }
    if *version == 0 && constant != BECH32 {
        return Err(BadAddress::new("Version 0 witness address must use Bech32 checksum"));
    }
    if *version != 0 && constant != BECH32M {
        return Err(BadAddress::new("Version 1+ witness address must use Bech32m checksum"));
    }
    let Some(program) = to_bytes(program) else {
        return Err(BadAddress::new("Invalid padding in Bech32 data section"));
    };
    let size = program.len();
    let bytes = if size == 1 { "byte" } else { "bytes" };
    if *version == 0 && size != 20 && size != 32 {
        return Err(BadAddress::new(format!(
            "Invalid Bech32 v0 address program size ({size} {bytes}), per BIP141"
        )));
    }
    let Ok(version) = WitnessVersion::try_from(*version) else {
        return Err(BadAddress::new("Invalid Bech32 address witness version"));
    };
    if !(2..=PROGRAM_MAX).contains(&size) {
        return Err(BadAddress::new(format!("Invalid Bech32 address program size ({size} {bytes})")));
    }
    let program = WitnessProgram::new(version, &program)
        .map_err(|_| BadAddress::new(format!("Invalid Bech32 address program size ({size} {bytes})")))?;
    Ok(ScriptBuf::new_witness_program(&program))
}

/// Five-bit groups to bytes; at most four bits of zero padding.
fn to_bytes(groups: &[u8]) -> Option<Vec<u8>> {
    let (mut held, mut bits) = (0u32, 0u32);
    let mut out = Vec::with_capacity(groups.len() * 5 / 8);
    for group in groups {
        held = (held << 5 | u32::from(*group)) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
        }
    }
    (bits < 5 && held & ((1 << bits) - 1) == 0).then_some(out)
}

struct Bech32Parts {
    hrp: String,
    values: Vec<u8>,
}

impl Bech32Parts {
    fn read(text: &str) -> Result<Self, BadAddress> {
        let at = |message: &str, locations: Vec<usize>| BadAddress { message: message.into(), locations };
        let bytes = text.as_bytes();
        if bytes.len() > BECH32_LEN {
            return Err(at("Bech32 string too long", (BECH32_LEN..bytes.len()).collect()));
        }
        let wrong = wrong_characters(bytes);
        if !wrong.is_empty() {
            return Err(at("Invalid character or mixed case", wrong));
        }
        let Some(separator) = text.rfind('1') else { return Err(at("Missing separator", Vec::new())) };
        if separator == 0 || separator + CHECKSUM_LEN >= bytes.len() {
            return Err(at("Invalid separator position", vec![separator]));
        }
        let (head, tail) = text.split_at(separator);
        let mut values = Vec::with_capacity(tail.len());
        for (i, c) in tail.bytes().enumerate().skip(1) {
            let lower = c.to_ascii_lowercase();
            match CHARSET.iter().position(|known| *known == lower) {
                Some(value) => values.push(value as u8),
                None => return Err(at("Invalid Base 32 character", vec![separator + i])),
            }
        }
        Ok(Self { hrp: head.to_ascii_lowercase(), values })
    }

    fn checksum(&self) -> u32 {
        let high = self.hrp.bytes().map(|c| c >> 5);
        let low = self.hrp.bytes().map(|c| c & 31);
        polymod(high.chain([0]).chain(low).chain(self.values.iter().copied()))
    }

    /// Which one or two characters, if changed, would make the checksum right. The checksum is
    /// linear, so what one changed character adds to it is looked up instead of solved for.
    fn locate(&self, text_len: usize) -> BadAddress {
        let length = self.values.len();
        // What value `v` at `p` places from the right adds.
        let effect = |p: usize, v: u8| polymod_from(0, std::iter::once(v).chain(std::iter::repeat_n(0, p)));
        let mut single: HashMap<u32, usize> = HashMap::new();
        for p in 0..length {
            for v in 1..32 {
                single.insert(effect(p, v), p);
            }
        }
        let place = |p: usize| text_len - 1 - p;
        let mut locations: Vec<usize> = Vec::new();
        let mut message = "Invalid checksum";
        for (constant, named) in [(BECH32, "Invalid Bech32 checksum"), (BECH32M, "Invalid Bech32m checksum")]
        {
            let residue = self.checksum() ^ constant;
            let found = match single.get(&residue) {
                Some(p) => vec![place(*p)],
                None => single
                    .iter()
                    .find_map(|(one, p)| {
                        let q = single.get(&(residue ^ one)).filter(|q| *q != p)?;
                        Some(vec![place(*p.max(q)), place(*p.min(q))])
                    })
                    .unwrap_or_default(),
            };
            if !found.is_empty() && (locations.is_empty() || found.len() < locations.len()) {
                locations = found;
                message = named;
            }
        }
        BadAddress { message: message.into(), locations }
    }
}

/// Characters outside printable ASCII, and those of the case that came second.
fn wrong_characters(bytes: &[u8]) -> Vec<usize> {
    let (mut lower, mut upper) = (false, false);
    let mut wrong = Vec::new();
    for (i, c) in bytes.iter().enumerate() {
        match c {
            b'a'..=b'z' if upper => wrong.push(i),
            b'a'..=b'z' => lower = true,
            b'A'..=b'Z' if lower => wrong.push(i),
            b'A'..=b'Z' => upper = true,
            33..=126 => {}
            _ => wrong.push(i),
        }
    }
    wrong
}

fn polymod(values: impl Iterator<Item = u8>) -> u32 {
    polymod_from(1, values)
}

/// The BCH checksum of BIP173.
fn polymod_from(start: u32, values: impl Iterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.fold(start, |checksum, value| {
        let top = checksum >> 25;
        let next = (checksum & 0x01ff_ffff) << 5 ^ u32::from(value);
        GENERATOR
            .iter()
            .enumerate()
            .filter(|(bit, _)| top >> bit & 1 == 1)
            .fold(next, |next, (_, generator)| next ^ generator)
    })
}

/// The address of an output script, if it has one; bare public keys have none.
pub(crate) fn of_script(script: &Script, network: Network) -> Option<String> {
    of_solution(script, &solve(script), network)
}

/// The same for a script that has been looked at.
pub(crate) fn of_solution(script: &Script, solution: &Solution<'_>, network: Network) -> Option<String> {
    match solution {
        Solution::PubKeyHash(_)
        | Solution::ScriptHash(_)
        | Solution::WitnessV0KeyHash(_)
        | Solution::WitnessV0ScriptHash(_)
        | Solution::WitnessV1Taproot(_)
        | Solution::Anchor
        | Solution::WitnessUnknown { .. } => {
            Address::from_script(script, network).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// `isscript`, `iswitness` and the witness program (Core's `DescribeAddress`).
pub(crate) fn describe(script: &Script) -> Object {
    let mut out = Object::new();
    let mut put = |isscript: Option<bool>, iswitness: bool, witness: Option<(u8, &[u8])>| {
        out.push_some("isscript", isscript).push("iswitness", iswitness);
        if let Some((version, program)) = witness {
            out.push("witness_version", version).push("witness_program", hex::encode(program));
        }
    };
    match solve(script) {
        Solution::PubKeyHash(_) => put(Some(false), false, None),
        Solution::ScriptHash(_) => put(Some(true), false, None),
        Solution::WitnessV0KeyHash(program) => put(Some(false), true, Some((0, program))),
        Solution::WitnessV0ScriptHash(program) => put(Some(true), true, Some((0, program))),
        Solution::WitnessV1Taproot(program) => put(Some(true), true, Some((1, program))),
        Solution::Anchor => put(Some(true), true, None),
        Solution::WitnessUnknown { version, program } => put(None, true, Some((version, program))),
        _ => {}
    }
    out
}

/// The answer of `validateaddress`.
pub(crate) fn validate(text: &str, network: Network) -> Value {
    let mut out = Object::new();
    match decode(text, network) {
        Ok(script) => {
            out.push("isvalid", true);
            out.push_some("address", of_script(&script, network));
            out.push("scriptPubKey", hex::encode(script.as_bytes()));
            out.extend(describe(&script));
        }
        Err(bad) => {
            out.push("isvalid", false);
            out.push("error_locations", bad.locations.into_iter().map(Value::from).collect::<Vec<_>>());
            out.push("error", bad.message);
        }
    }
    out.into()
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
