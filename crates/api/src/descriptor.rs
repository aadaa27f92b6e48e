//! Output descriptors (BIP380 to 386): parsed by `miniscript`, plus the forms that are Core's
//! own: `addr`, `raw`, `rawtr` and `combo`.

use std::str::FromStr;

use bitcoin::bip32::{ChildNumber, DerivationPath};
use bitcoin::key::XOnlyPublicKey;
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::{Network, PrivateKey, PublicKey, Script, ScriptBuf};
use ironpeer_script::{Solution, solve};
use miniscript::descriptor::checksum::desc_checksum;
use miniscript::descriptor::{
    ConversionError, DefiniteDescriptorKey, Descriptor, DescriptorPublicKey, DescriptorSecretKey, KeyMap,
    SinglePub, SinglePubKey, Wildcard,
};
use miniscript::{ForEachKey, Miniscript, Segwitv0, TranslatePk, Translator};
use serde_json::Value;

use crate::address;
use crate::call::text;
use crate::error::RpcError;

/// Characters of a checksum.
const CHECKSUM_LEN: usize = 8;
/// Scripts a range may have at most (Core's `ParseDescriptorRange`).
const RANGE_MAX: i64 = 1_000_000;
/// Scripts of a ranged scan object without a range of its own.
const DEFAULT_RANGE_END: i64 = 1000;

/// A parsed descriptor.
pub(crate) struct ParsedDescriptor {
    form: Form,
    /// Without checksum, private keys made public.
    public_text: String,
    private_keys: bool,
}

enum Form {
    /// One fixed script nothing is known about.
    Script {
        script: ScriptBuf,
    },
    /// `rawtr(KEY)`, solvable though no tree is known.
    RawTaproot {
        script: ScriptBuf,
    },
    /// All scripts of one key.
    Combo {
        key: Box<Descriptor<DescriptorPublicKey>>,
    },
    Miniscript {
        descriptor: Box<Descriptor<DescriptorPublicKey>>,
    },
    /// A private key's hardened children: read anew for each position, with the number in place
    /// of the star.
    Hardened {
        private_text: String,
    },
}

/// A text with its checksum added.
pub(crate) fn with_checksum(payload: &str) -> String {
    desc_checksum(payload).map_or_else(|_| payload.to_owned(), |sum| format!("{payload}#{sum}"))
}

/// Splits off and checks the checksum (Core's `CheckChecksum`).
fn check_checksum(full: &str, required: bool) -> Result<&str, String> {
    let mut parts = full.split('#');
    let payload = parts.next().unwrap_or("");
    let given = parts.next();
    if parts.next().is_some() {
        return Err("Multiple '#' symbols".into());
    }
    if given.is_none() && required {
        return Err("Missing checksum".into());
    }
    if let Some(given) = given
        && given.len() != CHECKSUM_LEN
    {
        return Err(format!("Expected 8 character checksum, not {} characters", given.len()));
    }
    let computed = desc_checksum(payload).map_err(|_| "Invalid characters in payload".to_owned())?;
    match given {
        Some(given) if given != computed => {
            Err(format!("Provided checksum '{given}' does not match computed checksum '{computed}'"))
        }
        _ => Ok(payload),
    }
}

fn inner<'a>(payload: &'a str, function: &str) -> Option<&'a str> {
    payload.strip_prefix(function)?.strip_prefix('(')?.strip_suffix(')')
}

impl ParsedDescriptor {
    /// Reads a descriptor.
    ///
    /// # Errors
    /// Core's text where the failure is in a form or checksum Core names; else the parser's own.
    pub(crate) fn parse(
        full: &str,
        network: Network,
        checksum_required: bool,
        secp: &Secp256k1<All>,
    ) -> Result<Self, String> {
        let payload = check_checksum(full, checksum_required)?;
        let fixed = |script: ScriptBuf| {
            Ok(Self { form: Form::Script { script }, public_text: payload.into(), private_keys: false })
        };
        check_whitespace(payload)?;
        if let Some(text) = inner(payload, "addr") {
            return address::decode(text, network)
                .map_err(|_| "Address is not valid".to_owned())
                .and_then(fixed);
        }
        if let Some(text) = inner(payload, "raw") {
            let bytes = hex::decode(text).map_err(|_| "Raw script is not hex".to_owned())?;
            return fixed(ScriptBuf::from_bytes(bytes));
        }
        if let Some(text) = inner(payload, "rawtr") {
            let key =
                XOnlyPublicKey::from_str(text).map_err(|_| format!("rawtr(): Pubkey '{text}' is invalid"))?;
            let script =
                ScriptBuf::new_p2tr_tweaked(bitcoin::key::TweakedPublicKey::dangerous_assume_tweaked(key));
            let public_text = payload.into();
            return Ok(Self { form: Form::RawTaproot { script }, public_text, private_keys: false });
        }
        if let Some(text) = inner(payload, "combo") {
            let (key, keys) = parse_miniscript(&format!("pk({text})"), secp)?;
            let public = key.to_string();
            let public = public.split('#').next().unwrap_or("").replacen("pk(", "combo(", 1);
            let form = if has_hardened(&key) {
                Form::Hardened { private_text: payload.into() }
            } else {
                Form::Combo { key: Box::new(key) }
            };
            return Ok(Self { form, public_text: public, private_keys: !keys.is_empty() });
        }
        let function = payload.split('(').next().unwrap_or("");
        const KNOWN: [&str; 9] = ["pk", "pkh", "wpkh", "sh", "wsh", "tr", "multi", "sortedmulti", "multi_a"];
        if !KNOWN.contains(&function) || !payload.contains('(') {
            return Err(format!("'{payload}' is not a valid descriptor function"));
        }
        let (descriptor, keys) = parse_miniscript(payload, secp)?;
        let printed = descriptor.to_string();
        let printed = printed.split('#').next().unwrap_or("");
        // Hardened steps are printed as they were written.
        let public_text =
            if payload.contains('\'') { printed.to_owned() } else { printed.replace('\'', "h") };
        let form = if has_hardened(&descriptor) {
            Form::Hardened { private_text: payload.into() }
        } else {
            Form::Miniscript { descriptor: Box::new(descriptor) }
        };
        Ok(Self { form, public_text, private_keys: !keys.is_empty() })
    }

    /// With checksum, private keys made public.
    pub(crate) fn public(&self) -> String {
        with_checksum(&self.public_text)
    }

    pub(crate) fn has_private_keys(&self) -> bool {
        self.private_keys
    }

    /// Whether it stands for many scripts.
    pub(crate) fn is_range(&self) -> bool {
        match &self.form {
            Form::Miniscript { descriptor } | Form::Combo { key: descriptor } => descriptor.has_wildcard(),
            Form::Hardened { private_text } => private_text.contains('*'),
            _ => false,
        }
    }

    /// Whether it tells all that is needed to spend, keys aside.
    pub(crate) fn is_solvable(&self) -> bool {
        !matches!(self.form, Form::Script { .. })
    }

    /// `combo` has scripts without an address, which are passed over.
    pub(crate) fn is_combo(&self) -> bool {
        self.public_text.starts_with("combo(")
    }

    /// Its scripts at a position of the range.
    ///
    /// # Errors
    /// If it has steps that only a private key can take.
    pub(crate) fn scripts(&self, index: u32, secp: &Secp256k1<All>) -> Result<Vec<ScriptBuf>, RpcError> {
        Ok(self.described_scripts(index, secp)?.into_iter().map(|(script, _)| script).collect())
    }

    /// The same, each with the descriptor of that script alone, in which every key is written out
    /// behind where it comes from (what Core infers with the keys at hand).
    fn described_scripts(
        &self,
        index: u32,
        secp: &Secp256k1<All>,
    ) -> Result<Vec<(ScriptBuf, String)>, RpcError> {
        let underivable = || RpcError::unknown("Cannot derive script without private keys");
        match &self.form {
            Form::Script { script } | Form::RawTaproot { script } => {
                Ok(vec![(script.clone(), self.public())])
            }
            Form::Miniscript { descriptor } => {
                let one = concrete(descriptor, index, secp).ok_or_else(underivable)?;
                Ok(vec![one])
            }
            Form::Hardened { private_text } => {
                let numbered = private_text.replace('*', &index.to_string());
                // No address stands in it, so the network does not matter.
                let one = Self::parse(&numbered, Network::Regtest, false, secp).ok();
                let one = one.filter(|one| !matches!(one.form, Form::Hardened { .. }));
                one.ok_or_else(underivable)?.described_scripts(0, secp)
            }
            Form::Combo { key } => {
                let (p2pk, described) = concrete(key, index, secp).ok_or_else(underivable)?;
                let key_text =
                    inner(described.split('#').next().unwrap_or(""), "pk").unwrap_or("").to_owned();
                let Solution::PubKey(bytes) = solve(&p2pk) else { return Err(underivable()) };
                let public = PublicKey::from_slice(bytes).map_err(|_| underivable())?;
                let form = |script: ScriptBuf, text: String| (script, with_checksum(&text));
                let p2pkh = ScriptBuf::new_p2pkh(&public.pubkey_hash());
                let mut scripts =
                    vec![form(p2pk, format!("pk({key_text})")), form(p2pkh, format!("pkh({key_text})"))];
                if let Ok(hash) = public.wpubkey_hash() {
                    let bare = ScriptBuf::new_p2wpkh(&hash);
                    let wrapped = bare.to_p2sh();
                    scripts.push(form(bare, format!("wpkh({key_text})")));
                    scripts.push(form(wrapped, format!("sh(wpkh({key_text}))")));
                }
                Ok(scripts)
            }
        }
    }
}

/// Writes each key out behind its origin: a derived one's path, a plain one's own fingerprint.
struct WithOrigin<'a> {
    secp: &'a Secp256k1<All>,
    x_only: bool,
}

impl Translator<DefiniteDescriptorKey, DescriptorPublicKey, ConversionError> for WithOrigin<'_> {
    fn pk(&mut self, key: &DefiniteDescriptorKey) -> Result<DescriptorPublicKey, ConversionError> {
        let public = key.derive_public_key(self.secp)?;
        let own = DescriptorPublicKey::Single(SinglePub { origin: None, key: SinglePubKey::FullKey(public) });
        let origin = match key.as_descriptor_public_key() {
            DescriptorPublicKey::Single(single) => {
                single.origin.clone().unwrap_or_else(|| (own.master_fingerprint(), DerivationPath::master()))
            }
            _ => (key.master_fingerprint(), key.full_derivation_path().unwrap_or_default()),
        };
        let key = if self.x_only {
            SinglePubKey::XOnly(public.inner.x_only_public_key().0)
        } else {
            SinglePubKey::FullKey(public)
        };
        Ok(DescriptorPublicKey::Single(SinglePub { origin: Some(origin), key }))
    }

    miniscript::translate_hash_clone!(DefiniteDescriptorKey, DescriptorPublicKey, ConversionError);
}

/// One script of a descriptor and its own descriptor; `None` if only a private key can make it.
fn concrete(
    descriptor: &Descriptor<DescriptorPublicKey>,
    index: u32,
    secp: &Secp256k1<All>,
) -> Option<(ScriptBuf, String)> {
    // A hardened step below a public key makes miniscript panic.
    if has_hardened(descriptor) {
        return None;
    }
    let definite = descriptor.at_derivation_index(index).ok()?;
    let script = definite.derived_descriptor(secp).ok()?.script_pubkey();
    let x_only = matches!(definite, Descriptor::Tr(_));
    let named = definite.translate_pk(&mut WithOrigin { secp, x_only }).ok()?.to_string();
    let payload = named.split('#').next().unwrap_or("").replace('\'', "h");
    Some((script, with_checksum(&payload)))
}

/// Whether a step is left that only a private key can take.
fn has_hardened(descriptor: &Descriptor<DescriptorPublicKey>) -> bool {
    descriptor.for_any_key(|key| match key {
        DescriptorPublicKey::XPub(key) => {
            key.wildcard == Wildcard::Hardened
                || key.derivation_path.into_iter().any(|step| step.is_hardened())
        }
        DescriptorPublicKey::MultiXPub(key) => key.wildcard == Wildcard::Hardened,
        DescriptorPublicKey::Single(_) => false,
    })
}

/// Refuses blanks around a key, in Core's words.
fn check_whitespace(payload: &str) -> Result<(), String> {
    let mut function = "";
    for piece in payload.split_inclusive(['(', ',', ')']) {
        let token = piece.trim_end_matches(['(', ',', ')']);
        if piece.ends_with('(') {
            function = token;
        } else if token.starts_with(' ') || token.ends_with(' ') {
            let place = if function.contains("multi") { "Multi".to_owned() } else { format!("{function}()") };
            return Err(format!("{place}: Key '{token}' is invalid due to whitespace"));
        }
    }
    Ok(())
}

/// All descriptors that a text with multipath steps (BIP389) stands for; one for others.
///
/// # Errors
/// As [`ParsedDescriptor::parse`].
pub(crate) fn parse_all(
    full: &str,
    network: Network,
    checksum_required: bool,
    secp: &Secp256k1<All>,
) -> Result<Vec<ParsedDescriptor>, String> {
    let payload = check_checksum(full, checksum_required)?;
    let steps = |text: &str| -> Option<(String, Vec<String>, String)> {
        let (head, rest) = text.split_once('<')?;
        let (list, tail) = rest.split_once('>')?;
        Some((head.into(), list.split(';').map(str::to_owned).collect(), tail.into()))
    };
    let Some((_, first, _)) = steps(payload) else {
        return Ok(vec![ParsedDescriptor::parse(full, network, checksum_required, secp)?]);
    };
    let mut all = Vec::with_capacity(first.len());
    for place in 0..first.len() {
        let mut text = payload.to_owned();
        while let Some((head, list, tail)) = steps(&text) {
            let step = list
                .get(place)
                .filter(|_| list.len() == first.len())
                .ok_or("multi(): Multipath derivation paths have mismatched lengths")?;
            text = format!("{head}{step}{tail}");
        }
        all.push(ParsedDescriptor::parse(&text, network, false, secp)?);
    }
    Ok(all)
}

fn parse_miniscript(
    text: &str,
    secp: &Secp256k1<All>,
) -> Result<(Descriptor<DescriptorPublicKey>, KeyMap), String> {
    Descriptor::parse_descriptor(secp, text).map_err(|error| error.to_string())
}

/// First and last position of `[begin,end]` or `end` (Core's `ParseDescriptorRange`).
pub(crate) fn parse_range(value: &Value) -> Result<(u32, u32), RpcError> {
    let malformed = || RpcError::parameter("Range must be specified as end or as [begin,end]");
    let (low, high) = match value {
        Value::Number(_) => (0, crate::call::integer::<i64>(value)?),
        Value::Array(pair) => match pair.as_slice() {
            [low @ Value::Number(_), high @ Value::Number(_)] => {
                let (low, high) = (crate::call::integer::<i64>(low)?, crate::call::integer::<i64>(high)?);
                if low > high {
                    return Err(RpcError::parameter(
                        "Range specified as [begin,end] must not have begin after end",
                    ));
                }
                (low, high)
            }
            _ => return Err(malformed()),
        },
        _ => return Err(malformed()),
    };
    if low < 0 {
        return Err(RpcError::parameter("Range should be greater or equal than 0"));
    }
    if high >> 31 != 0 {
        return Err(RpcError::parameter("End of range is too high"));
    }
    if high >= low.saturating_add(RANGE_MAX) {
        return Err(RpcError::parameter("Range is too large"));
    }
    let narrow = |n: i64| u32::try_from(n).map_err(|_| RpcError::parameter("Range is too large"));
    Ok((narrow(low)?, narrow(high)?))
}

/// The scripts of a scan object: a descriptor, or an object with one and a range (Core's
/// `EvalDescriptorStringOrObject`).
pub(crate) fn scan_object_scripts(
    object: &Value,
    network: Network,
    secp: &Secp256k1<All>,
) -> Result<Vec<(ScriptBuf, String)>, RpcError> {
    let (full, range) = scan_object(object)?;
    let all = parse_all(full, network, false, secp).map_err(RpcError::unknown)?;
    let ranged = all.first().is_some_and(ParsedDescriptor::is_range);
    let (first, last) = if ranged { range } else { (0, 0) };
    let mut scripts = Vec::new();
    for (index, parsed) in (first..=last).flat_map(|index| all.iter().map(move |parsed| (index, parsed))) {
        scripts.extend(parsed.described_scripts(index, secp).map_err(|_| {
            RpcError::unknown(format!("Cannot derive script without private keys: '{full}'"))
        })?);
    }
    Ok(scripts)
}

/// A scan object's descriptor and range, if it has one.
fn scan_object(object: &Value) -> Result<(&str, (u32, u32)), RpcError> {
    let (full, range) = match object {
        Value::String(full) => (full.as_str(), None),
        Value::Object(object) => {
            let Some(full) = object.get("desc").filter(|desc| !desc.is_null()) else {
                return Err(RpcError::parameter("Descriptor needs to be provided in scan object"));
            };
            (text(full)?, object.get("range").filter(|range| !range.is_null()))
        }
        _ => return Err(RpcError::parameter("Scan object needs to be either a string or an object")),
    };
    Ok((full, range.map_or(Ok((0, DEFAULT_RANGE_END as u32)), parse_range)?))
}

/// The private keys of a scan object at every position of its range.
pub(crate) fn scan_object_keys(object: &Value, secp: &Secp256k1<All>) -> Result<Vec<PrivateKey>, RpcError> {
    let (full, (first, last)) = scan_object(object)?;
    let payload = full.split('#').next().unwrap_or("");
    let payload = inner(payload, "combo").map_or_else(|| payload.to_owned(), |key| format!("pk({key})"));
    let mut keys = Vec::new();
    // What Core alone has a descriptor for has no private keys.
    let Ok((_, secrets)) = parse_miniscript(&payload, secp) else { return Ok(keys) };
    for secret in secrets.into_values() {
        let (xkey, paths, wildcard) = match secret {
            DescriptorSecretKey::Single(single) => {
                keys.push(single.key);
                continue;
            }
            DescriptorSecretKey::XPrv(key) => (key.xkey, vec![key.derivation_path], key.wildcard),
            DescriptorSecretKey::MultiXPrv(key) => {
                (key.xkey, key.derivation_paths.into_paths(), key.wildcard)
            }
        };
        for path in paths {
            let positions = if wildcard == Wildcard::None { 0..=0 } else { first..=last };
            for index in positions {
                let step = match wildcard {
                    Wildcard::None => None,
                    Wildcard::Unhardened => ChildNumber::from_normal_idx(index).ok(),
                    Wildcard::Hardened => ChildNumber::from_hardened_idx(index).ok(),
                };
                let path: DerivationPath = path.into_iter().copied().chain(step).collect();
                keys.extend(xkey.derive_priv(secp, &path).ok().map(|key| key.to_priv()));
            }
        }
    }
    Ok(keys)
}

/// The descriptor of a script when no keys are known, with checksum (Core's `InferDescriptor`).
#[cfg(test)]
pub(crate) fn infer(script: &Script, network: Network) -> String {
    let solution = solve(script);
    of_solution(script, &solution, address::of_solution(script, &solution, network).as_deref())
}

/// The same for a script that has been looked at, with its address.
pub(crate) fn of_solution(script: &Script, solution: &Solution<'_>, address: Option<&str>) -> String {
    // Hybrid keys have no descriptor.
    let plain = |key: &[u8]| matches!(key.first(), Some(2..=4));
    let payload = match solution {
        Solution::PubKey(key) if plain(key) => Some(format!("pk({})", hex::encode(key))),
        Solution::MultiSig { required, keys } if keys.iter().all(|key| plain(key)) => {
            let keys: Vec<String> = keys.iter().map(hex::encode).collect();
            Some(format!("multi({required},{})", keys.join(",")))
        }
        Solution::WitnessV1Taproot(key) if XOnlyPublicKey::from_slice(key).is_ok() => {
            Some(format!("rawtr({})", hex::encode(key)))
        }
        _ => None,
    };
    let payload = payload.unwrap_or_else(|| match address {
        Some(address) => format!("addr({address})"),
        None => format!("raw({})", hex::encode(script.as_bytes())),
    });
    with_checksum(&payload)
}

/// The descriptor of the P2WSH form of a script, with checksum, if the script alone tells it.
pub(crate) fn of_witness_script(script: &Script) -> Option<String> {
    match solve(script) {
        Solution::MultiSig { required, keys } => {
            let keys: Vec<String> = keys.iter().map(hex::encode).collect();
            Some(with_checksum(&format!("wsh(multi({required},{}))", keys.join(","))))
        }
        Solution::NonStandard => {
            let inner = Miniscript::<PublicKey, Segwitv0>::parse(script).ok()?;
            Some(Descriptor::new_wsh(inner).ok()?.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "descriptor_tests.rs"]
mod tests;
