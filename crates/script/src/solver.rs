use bitcoin::Script;

use crate::{MAX_SCRIPT_SIZE, Ops, is_push_only, number};

/// Core's names for what an output script asks of its spender (`TxoutType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScriptKind {
    /// Nothing known.
    NonStandard,
    /// A pay-to-anchor output: anyone may spend it, with an empty witness.
    Anchor,
    /// A bare public key.
    PubKey,
    /// The hash of a public key.
    PubKeyHash,
    /// The hash of a script (BIP16).
    ScriptHash,
    /// Bare m-of-n.
    MultiSig,
    /// `OP_RETURN` and pushes: carries data, never spendable.
    NullData,
    /// Segwit v0 with a script's hash.
    WitnessV0ScriptHash,
    /// Segwit v0 with a key's hash.
    WitnessV0KeyHash,
    /// Segwit v1 with a taproot output key (BIP341).
    WitnessV1Taproot,
    /// A witness program without meaning so far.
    WitnessUnknown,
}

impl ScriptKind {
    /// The name in RPC answers (`GetTxnOutputType`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NonStandard => "nonstandard",
            Self::Anchor => "anchor",
            Self::PubKey => "pubkey",
            Self::PubKeyHash => "pubkeyhash",
            Self::ScriptHash => "scripthash",
            Self::MultiSig => "multisig",
            Self::NullData => "nulldata",
            Self::WitnessV0ScriptHash => "witness_v0_scripthash",
            Self::WitnessV0KeyHash => "witness_v0_keyhash",
            Self::WitnessV1Taproot => "witness_v1_taproot",
            Self::WitnessUnknown => "witness_unknown",
        }
    }
}

/// A script taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Solution<'a> {
    /// Nothing known.
    NonStandard,
    /// Pay to anchor.
    Anchor,
    /// The key's bytes; their length and prefix fit, the point is not checked.
    PubKey(&'a [u8]),
    /// HASH160 of a key.
    PubKeyHash(&'a [u8]),
    /// HASH160 of a script.
    ScriptHash(&'a [u8]),
    /// `required` of `keys`.
    MultiSig {
        /// Signatures needed.
        required: u8,
        /// The keys, in script order.
        keys: Vec<&'a [u8]>,
    },
    /// Carries data.
    NullData,
    /// SHA256 of a script.
    WitnessV0ScriptHash(&'a [u8]),
    /// HASH160 of a key.
    WitnessV0KeyHash(&'a [u8]),
    /// An x-only output key.
    WitnessV1Taproot(&'a [u8]),
    /// Some other witness program.
    WitnessUnknown {
        /// 1 to 16.
        version: u8,
        /// 2 to 40 bytes.
        program: &'a [u8],
    },
}

impl Solution<'_> {
    /// Its kind alone.
    #[must_use]
    pub const fn kind(&self) -> ScriptKind {
        match self {
            Self::NonStandard => ScriptKind::NonStandard,
            Self::Anchor => ScriptKind::Anchor,
            Self::PubKey(_) => ScriptKind::PubKey,
            Self::PubKeyHash(_) => ScriptKind::PubKeyHash,
            Self::ScriptHash(_) => ScriptKind::ScriptHash,
            Self::MultiSig { .. } => ScriptKind::MultiSig,
            Self::NullData => ScriptKind::NullData,
            Self::WitnessV0ScriptHash(_) => ScriptKind::WitnessV0ScriptHash,
            Self::WitnessV0KeyHash(_) => ScriptKind::WitnessV0KeyHash,
            Self::WitnessV1Taproot(_) => ScriptKind::WitnessV1Taproot,
            Self::WitnessUnknown { .. } => ScriptKind::WitnessUnknown,
        }
    }
}

/// Version and program of a witness program (BIP141), if the script is one.
pub fn witness_program(script: &Script) -> Option<(u8, &[u8])> {
    let [version, len, program @ ..] = script.as_bytes() else { return None };
    if !(2..=40).contains(len) || program.len() != usize::from(*len) {
        return None;
    }
    match version {
        0 => Some((0, program)),
        0x51..=0x60 => Some((version - 0x50, program)),
        _ => None,
    }
}

/// The two bytes of the pay-to-anchor program.
pub const ANCHOR_PROGRAM: [u8; 2] = [0x4e, 0x73];

/// Whether no input can ever spend it (Core's `IsUnspendable`).
pub fn is_unspendable(script: &Script) -> bool {
    script.as_bytes().first() == Some(&0x6a) || script.len() > MAX_SCRIPT_SIZE
}

/// Whether length and first byte fit a public key (Core's `CPubKey::ValidSize`).
fn key_shaped(key: &[u8]) -> bool {
    match key.first() {
        Some(2 | 3) => key.len() == 33,
        Some(4 | 6 | 7) => key.len() == 65,
        _ => false,
    }
}

/// A number from 1 to 20 pushed in its shortest form.
fn small_number(code: u8, data: &[u8]) -> Option<u8> {
    const MAX_PUBKEYS_PER_MULTISIG: i64 = 20;
    let number = match code {
        0x51..=0x60 => i64::from(code - 0x50),
        0x01..=0x4e if number::is_minimal_push(data, code) => {
            number::decode(data, true, number::MAX_NUMBER_SIZE).ok()?
        }
        _ => return None,
    };
    (1..=MAX_PUBKEYS_PER_MULTISIG).contains(&number).then_some(number as u8)
}

fn multisig(script: &Script) -> Option<Solution<'_>> {
    let (last, _) = script.as_bytes().split_last()?;
    if *last != 0xae {
        return None;
    }
    let mut ops = Ops::new(script);
    let first = ops.next()?.ok()?;
    let required = small_number(first.code, first.data)?;
    let mut keys = Vec::new();
    let total = loop {
        let op = ops.next()?.ok()?;
        if key_shaped(op.data) {
            keys.push(op.data);
        } else {
            break op;
        }
    };
    let count = small_number(total.code, total.data)?;
    let at_end = total.end + 1 == script.len();
    (at_end && count >= required && keys.len() == usize::from(count))
        .then_some(Solution::MultiSig { required, keys })
}

/// What an output script is (Core's `Solver`).
#[must_use]
pub fn solve(script: &Script) -> Solution<'_> {
    let bytes = script.as_bytes();
    if let [0xa9, 20, hash @ .., 0x87] = bytes
        && hash.len() == 20
    {
        return Solution::ScriptHash(hash);
    }
    if let Some((version, program)) = witness_program(script) {
        return match (version, program.len()) {
            (0, 20) => Solution::WitnessV0KeyHash(program),
            (0, 32) => Solution::WitnessV0ScriptHash(program),
            (0, _) => Solution::NonStandard,
            (1, 32) => Solution::WitnessV1Taproot(program),
            (1, _) if program == ANCHOR_PROGRAM => Solution::Anchor,
            _ => Solution::WitnessUnknown { version, program },
        };
    }
    match bytes {
        [0x6a, rest @ ..] if is_push_only(Script::from_bytes(rest)) => Solution::NullData,
        [65, key @ .., 0xac] if key.len() == 65 && key_shaped(key) => Solution::PubKey(key),
        [33, key @ .., 0xac] if key.len() == 33 && key_shaped(key) => Solution::PubKey(key),
        [0x76, 0xa9, 20, hash @ .., 0x88, 0xac] if hash.len() == 20 => Solution::PubKeyHash(hash),
        _ => multisig(script).unwrap_or(Solution::NonStandard),
    }
}
