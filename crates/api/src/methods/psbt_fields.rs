//! The fields of a PSBT: which there are, and what Core wants of each as it reads it, with its
//! texts (`psbt.h`).

use std::collections::BTreeMap;

use bitcoin::consensus::{Decodable, encode};
use bitcoin::secp256k1::PublicKey;
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::{ScriptBuf, Transaction, TxOut, ecdsa};

/// Keys with the byte of their type, and values.
pub(super) type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Above it a lock time is a time and no height.
const LOCKTIME_THRESHOLD: u32 = 500_000_000;
/// Bytes that Core lets a length announce (`MAX_SIZE`).
const MAX_SIZE: u64 = 0x0200_0000;
/// Bytes of a public key that MuSig2 names.
pub(super) const COMPRESSED: usize = 33;
const MUSIG2_NONCE: usize = 66;

/// Types of global pairs.
pub(super) mod global {
    pub const UNSIGNED_TX: u8 = 0x00;
    pub const XPUB: u8 = 0x01;
    pub const TX_VERSION: u8 = 0x02;
    pub const FALLBACK_LOCKTIME: u8 = 0x03;
    pub const INPUT_COUNT: u8 = 0x04;
    pub const OUTPUT_COUNT: u8 = 0x05;
    pub const TX_MODIFIABLE: u8 = 0x06;
    pub const VERSION: u8 = 0xfb;
}

/// Types of an input's pairs.
pub(super) mod input {
    pub const NON_WITNESS_UTXO: u8 = 0x00;
    pub const WITNESS_UTXO: u8 = 0x01;
    pub const PARTIAL_SIG: u8 = 0x02;
    pub const SIGHASH: u8 = 0x03;
    pub const REDEEM_SCRIPT: u8 = 0x04;
    pub const WITNESS_SCRIPT: u8 = 0x05;
    pub const BIP32_DERIVATION: u8 = 0x06;
    pub const SCRIPT_SIG: u8 = 0x07;
    pub const SCRIPT_WITNESS: u8 = 0x08;
    pub const RIPEMD160: u8 = 0x0a;
    pub const SHA256: u8 = 0x0b;
    pub const HASH160: u8 = 0x0c;
    pub const HASH256: u8 = 0x0d;
    pub const PREVIOUS_TXID: u8 = 0x0e;
    pub const OUTPUT_INDEX: u8 = 0x0f;
    pub const SEQUENCE: u8 = 0x10;
    pub const TIME_LOCKTIME: u8 = 0x11;
    pub const HEIGHT_LOCKTIME: u8 = 0x12;
    pub const TAP_KEY_SIG: u8 = 0x13;
    pub const TAP_SCRIPT_SIG: u8 = 0x14;
    pub const TAP_LEAF_SCRIPT: u8 = 0x15;
    pub const TAP_BIP32_DERIVATION: u8 = 0x16;
    pub const TAP_INTERNAL_KEY: u8 = 0x17;
    pub const TAP_MERKLE_ROOT: u8 = 0x18;
    pub const MUSIG2_PARTICIPANTS: u8 = 0x1a;
    pub const MUSIG2_PUB_NONCE: u8 = 0x1b;
    pub const MUSIG2_PARTIAL_SIG: u8 = 0x1c;
}

/// Types of an output's pairs.
pub(super) mod output {
    pub const REDEEM_SCRIPT: u8 = 0x00;
    pub const WITNESS_SCRIPT: u8 = 0x01;
    pub const BIP32_DERIVATION: u8 = 0x02;
    pub const AMOUNT: u8 = 0x03;
    pub const SCRIPT: u8 = 0x04;
    pub const TAP_INTERNAL_KEY: u8 = 0x05;
    pub const TAP_TREE: u8 = 0x06;
    pub const TAP_BIP32_DERIVATION: u8 = 0x07;
    pub const MUSIG2_PARTICIPANTS: u8 = 0x08;
}

pub(super) const PROPRIETARY: u8 = 0xfc;

/// Why bytes are no PSBT.
pub(super) type Refusal = String;

pub(super) fn refuse<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(text.into())
}

/// Bytes being read as Core's streams read them.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(left: &'a [u8]) -> Self {
        Self { left }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// What has not been read.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.left
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Refusal> {
        let Some((taken, left)) = self.left.split_at_checked(n) else {
            return refuse("SpanReader::read(): end of data");
        };
        self.left = left;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Refusal> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    fn little_endian(&mut self, n: usize) -> Result<u64, Refusal> {
        Ok(self.take(n)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A length, in the shortest form only.
    pub(super) fn compact_size(&mut self) -> Result<u64, Refusal> {
        let (size, least) = match self.byte()? {
            0xfd => (self.little_endian(2)?, 0xfd),
            0xfe => (self.little_endian(4)?, 0x1_0000),
            0xff => (self.little_endian(8)?, 0x1_0000_0000),
            small => (u64::from(small), 0),
        };
        if size < least {
            return refuse("non-canonical ReadCompactSize()");
        }
        if size > MAX_SIZE {
            return refuse("ReadCompactSize(): size too large");
        }
        Ok(size)
    }

    pub(super) fn length(&mut self) -> Result<usize, Refusal> {
        usize::try_from(self.compact_size()?).map_err(|_| "ReadCompactSize(): size too large".into())
    }

    /// Bytes with their length before them.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], Refusal> {
        let length = self.length()?;
        self.take(length)
    }

    /// A value that `read` takes from what follows its length; both must agree.
    fn exactly<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Refusal>,
    ) -> Result<(T, &'a [u8]), Refusal> {
        let stated = self.length()?;
        let before = self.left;
        let value = read(self)?;
        let used = before.len() - self.left.len();
        if used != stated {
            return refuse("Size of value was not the stated size");
        }
        Ok((value, before.get(..used).unwrap_or_default()))
    }

    fn fixed(&mut self, n: usize) -> Result<&'a [u8], Refusal> {
        Ok(self.exactly(|reader| reader.take(n))?.1)
    }

    fn u32(&mut self) -> Result<u32, Refusal> {
        Ok(u32_of(self.fixed(4)?))
    }

    fn decode<T: Decodable>(&mut self) -> Result<T, Refusal> {
        let (value, used) = encode::deserialize_partial(self.left).map_err(|error| match error {
            encode::Error::Io(_) => "SpanReader::read(): end of data".to_owned(),
            encode::Error::NonMinimalVarInt => "non-canonical ReadCompactSize()".into(),
            error => error.to_string(),
        })?;
        self.take(used)?;
        Ok(value)
    }
}

/// The number that four bytes are.
pub(super) fn u32_of(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// A transaction in the old form, in which one without inputs has no marker.
pub(super) fn read_unsigned(reader: &mut Reader<'_>) -> Result<Transaction, Refusal> {
    Ok(Transaction {
        version: reader.decode()?,
        input: reader.decode()?,
        output: reader.decode()?,
        lock_time: reader.decode()?,
    })
}

/// Key data and value of every pair of one type.
pub(super) fn of_type(pairs: &Pairs, kind: u8) -> impl Iterator<Item = (&[u8], &[u8])> {
    let end =
        kind.checked_add(1).map_or(std::ops::Bound::Unbounded, |next| std::ops::Bound::Excluded(vec![next]));
    pairs
        .range((std::ops::Bound::Included(vec![kind]), end))
        .map(|(key, value)| (key.get(1..).unwrap_or_default(), value.as_slice()))
}

/// The value of a type whose key has no data.
pub(super) fn value(pairs: &Pairs, kind: u8) -> Option<&[u8]> {
    pairs.get([kind].as_slice()).map(Vec::as_slice)
}

pub(super) fn number(pairs: &Pairs, kind: u8) -> Option<u32> {
    value(pairs, kind).map(u32_of)
}

fn key_size(key: &[u8], size: usize, name: &str) -> Result<(), Refusal> {
    if key.len() == size {
        return Ok(());
    }
    refuse(format!("Size of key was not {size} for the type {name}"))
}

fn valid_key(bytes: &[u8]) -> bool {
    PublicKey::from_slice(bytes).is_ok()
}

/// What the global pairs say of the rest.
#[derive(Default)]
pub(super) struct Heads {
    pub tx: Option<Transaction>,
    pub inputs: usize,
    pub outputs: usize,
}

impl Heads {
    pub(super) fn check(&self, version: u32, pairs: &Pairs) -> Result<(), Refusal> {
        let has = |kind| value(pairs, kind).is_some();
        let fields = [
            (global::TX_VERSION, "PSBT_GLOBAL_TX_VERSION", true),
            (global::FALLBACK_LOCKTIME, "PSBT_GLOBAL_FALLBACK_LOCKTIME", false),
            (global::INPUT_COUNT, "PSBT_GLOBAL_INPUT_COUNT", true),
            (global::OUTPUT_COUNT, "PSBT_GLOBAL_OUTPUT_COUNT", true),
            (global::TX_MODIFIABLE, "PSBT_GLOBAL_TX_MODIFIABLE", false),
        ];
        match version {
            0 if self.tx.is_none() => refuse("No unsigned transaction was provided"),
            0 => match fields.iter().find(|(kind, ..)| has(*kind)) {
                Some((_, name, _)) => refuse(format!("{name} is not allowed in PSBTv0")),
                None => Ok(()),
            },
            1 => refuse("There is no PSBT version 1"),
            _ => match fields.iter().find(|(kind, _, needed)| *needed && !has(*kind)) {
                Some((_, name, _)) => refuse(format!("{name} is required in PSBTv2")),
                None if self.tx.is_some() => refuse("PSBT_GLOBAL_UNSIGNED_TX is not allowed in PSBTv2"),
                None => Ok(()),
            },
        }
    }
}

pub(super) fn global_value(
    kind: u64,
    key: &[u8],
    reader: &mut Reader<'_>,
    heads: &mut Heads,
) -> Result<Vec<u8>, Refusal> {
    const XPUB_BYTES: usize = 78;
    const HIGHEST_VERSION: u32 = 2;
    let Ok(kind) = u8::try_from(kind) else { return Ok(reader.sized()?.to_vec()) };
    Ok(match kind {
        global::UNSIGNED_TX => {
            key_size(key, 1, "Global Unsigned TX")?;
            let (tx, bytes) = reader.exactly(read_unsigned)?;
            if tx.input.iter().any(|input| !input.script_sig.is_empty()) {
                return refuse("Unsigned tx does not have empty scriptSigs and scriptWitnesses.");
            }
            heads.tx = Some(tx);
            bytes.to_vec()
        }
        global::TX_VERSION => {
            key_size(key, 1, "Global Transaction Version")?;
            reader.fixed(4)?.to_vec()
        }
        global::FALLBACK_LOCKTIME => {
            key_size(key, 1, "Global Fallback Locktime")?;
            reader.fixed(4)?.to_vec()
        }
        global::INPUT_COUNT | global::OUTPUT_COUNT => {
            let inputs = kind == global::INPUT_COUNT;
            key_size(key, 1, if inputs { "Global Input Count" } else { "Global Output Count" })?;
            let (count, bytes) = reader.exactly(Reader::length)?;
            *(if inputs { &mut heads.inputs } else { &mut heads.outputs }) = count;
            bytes.to_vec()
        }
        global::TX_MODIFIABLE => {
            key_size(key, 1, "Global TX Modifiable Flags")?;
            reader.fixed(1)?.to_vec()
        }
        global::XPUB => {
            key_size(key, XPUB_BYTES + 1, "Global XPUB")?;
            if !key.get(46..).is_some_and(valid_key) {
                return refuse("Invalid pubkey");
            }
            origin(reader)?.to_vec()
        }
        global::VERSION => {
            key_size(key, 1, "Global PSBT Version")?;
            let version = reader.u32()?;
            if version > HIGHEST_VERSION {
                return refuse("Unsupported version number");
            }
            version.to_le_bytes().to_vec()
        }
        PROPRIETARY => proprietary(key, reader)?,
        _ => reader.sized()?.to_vec(),
    })
}

fn proprietary(key: &[u8], reader: &mut Reader<'_>) -> Result<Vec<u8>, Refusal> {
    let mut parts = Reader::new(key);
    parts.byte()?;
    parts.sized()?;
    parts.compact_size()?;
    Ok(reader.sized()?.to_vec())
}

/// Fingerprint and path.
fn origin<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Refusal> {
    let length = reader.length()?;
    origin_of_length(reader, length)
}

fn origin_of_length<'a>(reader: &mut Reader<'a>, length: usize) -> Result<&'a [u8], Refusal> {
    if length == 0 || !length.is_multiple_of(4) {
        return refuse("Invalid length for HD key path");
    }
    reader.take(length)
}

fn derivation(key: &[u8], reader: &mut Reader<'_>) -> Result<Vec<u8>, Refusal> {
    if ![34, 66].contains(&key.len()) {
        return refuse("Size of key was not the expected size for the type BIP32 keypath");
    }
    if !key.get(1..).is_some_and(valid_key) {
        return refuse("Invalid pubkey");
    }
    Ok(origin(reader)?.to_vec())
}

fn tap_derivation(reader: &mut Reader<'_>, side: &str) -> Result<Vec<u8>, Refusal> {
    let length = reader.length()?;
    let before = *reader;
    let leaves = reader.length()?;
    for _ in 0..leaves {
        reader.take(32)?;
    }
    let used = before.left.len() - reader.left.len();
    let Some(rest) = length.checked_sub(used) else {
        return refuse(format!("{side} Taproot BIP32 keypath has an invalid length"));
    };
    origin_of_length(reader, rest)?;
    Ok(before.left.get(..length).unwrap_or_default().to_vec())
}

fn musig2_participants(key: &[u8], reader: &mut Reader<'_>, side: &str) -> Result<Vec<u8>, Refusal> {
    key_size(key, COMPRESSED + 1, &format!("{side} MuSig2 Participants Pubkeys"))?;
    if !key.get(1..).is_some_and(valid_key) {
        return refuse(format!("{side} musig2 aggregate pubkey is invalid"));
    }
    let keys = reader.sized()?;
    if keys.chunks_exact(COMPRESSED).any(|key| !valid_key(key)) {
        return refuse(format!("{side} musig2 participant pubkey is invalid"));
    }
    if !keys.len().is_multiple_of(COMPRESSED) {
        return refuse(format!("{side} musig2 participants pubkeys value size is not a multiple of 33"));
    }
    Ok(keys.to_vec())
}

/// Participant, aggregate and perhaps a leaf.
fn musig2_key(key: &[u8], name: &str) -> Result<(), Refusal> {
    if ![2 * COMPRESSED + 1, 2 * COMPRESSED + 33].contains(&key.len()) {
        return refuse(format!("Input musig2 {name} key is not expected size of 67 or 99 bytes"));
    }
    if !key.get(1 + COMPRESSED..1 + 2 * COMPRESSED).is_some_and(valid_key) {
        return refuse("musig2 aggregate pubkey is invalid");
    }
    if !key.get(1..1 + COMPRESSED).is_some_and(valid_key) {
        return refuse("musig2 participant pubkey is invalid");
    }
    Ok(())
}

fn schnorr(signature: &[u8], path: &str) -> Result<Vec<u8>, Refusal> {
    match signature.len() {
        ..64 => refuse(format!("Input Taproot {path} path signature is shorter than 64 bytes")),
        64 | 65 => Ok(signature.to_vec()),
        _ => refuse(format!("Input Taproot {path} path signature is longer than 65 bytes")),
    }
}

/// An input's pairs that version 2 has brought.
fn new_input_value(kind: u8, key: &[u8], reader: &mut Reader<'_>, version: u32) -> Result<Vec<u8>, Refusal> {
    let (name, refused) = match kind {
        input::PREVIOUS_TXID => ("Input Previous TXID", "Previous txid"),
        input::OUTPUT_INDEX => ("Input Previous Output's Index", "Previous output's index"),
        input::SEQUENCE => ("Input Sequence", "Sequence"),
        input::TIME_LOCKTIME => ("Input Required Time Based Locktime", "Required time based locktime"),
        _ => ("Input Required Height Based Locktime", "Required height based locktime"),
    };
    key_size(key, 1, name)?;
    if version < 2 {
        return refuse(format!("{refused} is not allowed in PSBTv0"));
    }
    if kind == input::PREVIOUS_TXID {
        return Ok(reader.fixed(32)?.to_vec());
    }
    let number = reader.u32()?;
    if kind == input::TIME_LOCKTIME && number < LOCKTIME_THRESHOLD {
        return refuse("Required time based locktime is invalid (less than 500000000)");
    }
    if kind == input::HEIGHT_LOCKTIME && number >= LOCKTIME_THRESHOLD {
        return refuse("Required height based locktime is invalid (greater than or equal to 500000000)");
    }
    if kind == input::HEIGHT_LOCKTIME && number == 0 {
        return refuse("Required height based locktime is invalid (0)");
    }
    Ok(number.to_le_bytes().to_vec())
}

pub(super) fn input_value(
    kind: u64,
    key: &[u8],
    reader: &mut Reader<'_>,
    version: u32,
) -> Result<Vec<u8>, Refusal> {
    let Ok(kind) = u8::try_from(kind) else { return Ok(reader.sized()?.to_vec()) };
    let mut preimage = |size: usize, name: &str| -> Result<Vec<u8>, Refusal> {
        key_size(key, size + 1, name)?;
        Ok(reader.sized()?.to_vec())
    };
    Ok(match kind {
        input::RIPEMD160 => preimage(20, "Input RIPEMD160 Preimage")?,
        input::SHA256 => preimage(32, "Input SHA256 Preimage")?,
        input::HASH160 => preimage(20, "Input Hash160 Preimage")?,
        input::HASH256 => preimage(32, "Input Hash256 Preimage")?,
        input::REDEEM_SCRIPT => preimage(0, "Input redeemScript")?,
        input::WITNESS_SCRIPT => preimage(0, "Input witnessScript")?,
        input::SCRIPT_SIG => preimage(0, "Input Final scriptSig")?,
        input::NON_WITNESS_UTXO => {
            key_size(key, 1, "Input Non-witness UTXO")?;
            reader.exactly(Reader::decode::<Transaction>)?.1.to_vec()
        }
        input::WITNESS_UTXO => {
            key_size(key, 1, "Input Witness UTXO")?;
            reader.exactly(Reader::decode::<TxOut>)?.1.to_vec()
        }
        input::PARTIAL_SIG => {
            if ![34, 66].contains(&key.len()) {
                return refuse("Size of key was not the expected size for the type partial signature pubkey");
            }
            if !key.get(1..).is_some_and(valid_key) {
                return refuse("Invalid pubkey");
            }
            let signature = reader.sized()?;
            if ecdsa::Signature::from_slice(signature).is_err() {
                return refuse("Signature is not a valid encoding");
            }
            signature.to_vec()
        }
        input::SIGHASH => {
            key_size(key, 1, "Input Sighash Type")?;
            reader.fixed(4)?.to_vec()
        }
        input::BIP32_DERIVATION => derivation(key, reader)?,
        input::SCRIPT_WITNESS => {
            key_size(key, 1, "Input Final scriptWitness")?;
            let stack = reader.exactly(|reader| {
                let items = reader.length()?;
                for _ in 0..items {
                    reader.sized()?;
                }
                Ok(())
            });
            stack?.1.to_vec()
        }
        input::PREVIOUS_TXID..=input::HEIGHT_LOCKTIME => new_input_value(kind, key, reader, version)?,
        input::TAP_KEY_SIG => {
            key_size(key, 1, "Input Taproot Key Path Signature")?;
            schnorr(reader.sized()?, "key")?
        }
        input::TAP_SCRIPT_SIG => {
            key_size(key, 65, "Input Taproot Script Path Signature")?;
            schnorr(reader.sized()?, "script")?
        }
        input::TAP_LEAF_SCRIPT => {
            if key.len() < 34 {
                return refuse("Input Taproot leaf script key is not at least 34 bytes");
            }
            if !(key.len() - 2).is_multiple_of(32) {
                return refuse("Input Taproot leaf script key's control block size is not valid");
            }
            let script = reader.sized()?;
            if script.is_empty() {
                return refuse("Input Taproot leaf script must be at least 1 byte");
            }
            script.to_vec()
        }
        input::TAP_BIP32_DERIVATION => {
            key_size(key, 33, "Input Taproot BIP32 Keypath")?;
            tap_derivation(reader, "Input")?
        }
        input::TAP_INTERNAL_KEY => {
            key_size(key, 1, "Input Taproot Internal Key")?;
            reader.fixed(32)?.to_vec()
        }
        input::TAP_MERKLE_ROOT => {
            key_size(key, 1, "Input Taproot Merkle Root")?;
            reader.fixed(32)?.to_vec()
        }
        input::MUSIG2_PARTICIPANTS => musig2_participants(key, reader, "Input")?,
        input::MUSIG2_PUB_NONCE => {
            musig2_key(key, "pubnonce")?;
            let nonce = reader.sized()?;
            if nonce.len() != MUSIG2_NONCE {
                return refuse("Input musig2 pubnonce value is not 66 bytes");
            }
            nonce.to_vec()
        }
        input::MUSIG2_PARTIAL_SIG => {
            musig2_key(key, "partial sig")?;
            reader.fixed(32)?.to_vec()
        }
        PROPRIETARY => proprietary(key, reader)?,
        _ => reader.sized()?.to_vec(),
    })
}

pub(super) fn output_value(
    kind: u64,
    key: &[u8],
    reader: &mut Reader<'_>,
    version: u32,
) -> Result<Vec<u8>, Refusal> {
    let Ok(kind) = u8::try_from(kind) else { return Ok(reader.sized()?.to_vec()) };
    Ok(match kind {
        output::REDEEM_SCRIPT => {
            key_size(key, 1, "Output redeemScript")?;
            reader.sized()?.to_vec()
        }
        output::WITNESS_SCRIPT => {
            key_size(key, 1, "Output witnessScript")?;
            reader.sized()?.to_vec()
        }
        output::BIP32_DERIVATION => derivation(key, reader)?,
        output::AMOUNT => {
            key_size(key, 1, "Output Amount")?;
            if version < 2 {
                return refuse("Output amount is not allowed in PSBTv0");
            }
            reader.fixed(8)?.to_vec()
        }
        output::SCRIPT => {
            key_size(key, 1, "Output Script")?;
            if version < 2 {
                return refuse("Output script is not allowed in PSBTv0");
            }
            reader.sized()?.to_vec()
        }
        output::TAP_INTERNAL_KEY => {
            key_size(key, 1, "Output Taproot Internal Key")?;
            reader.fixed(32)?.to_vec()
        }
        output::TAP_TREE => {
            key_size(key, 1, "Output Taproot Tree Key")?;
            let tree = reader.sized()?;
            check_tree(tree)?;
            tree.to_vec()
        }
        output::TAP_BIP32_DERIVATION => {
            key_size(key, 33, "Output Taproot BIP32 Keypath")?;
            tap_derivation(reader, "Output")?
        }
        output::MUSIG2_PARTICIPANTS => musig2_participants(key, reader, "Output")?,
        PROPRIETARY => proprietary(key, reader)?,
        _ => reader.sized()?.to_vec(),
    })
}

/// Depth, leaf version and script.
type Leaf<'a> = (u8, u8, &'a [u8]);

/// Every leaf of a tree.
pub(super) fn leaves(tree: &[u8]) -> Result<Vec<Leaf<'_>>, Refusal> {
    let mut reader = Reader::new(tree);
    let mut leaves = Vec::new();
    while !reader.is_empty() {
        leaves.push((reader.byte()?, reader.byte()?, reader.sized()?));
    }
    Ok(leaves)
}

fn check_tree(tree: &[u8]) -> Result<(), Refusal> {
    const MAX_DEPTH: u8 = 128;
    const LEAF_MASK: u8 = 0xfe;
    if tree.is_empty() {
        return refuse("Output Taproot tree must not be empty");
    }
    let mut builder = Some(TaprootBuilder::new());
    for (depth, version, script) in leaves(tree)? {
        if depth > MAX_DEPTH {
            return refuse("Output Taproot tree has as leaf greater than Taproot maximum depth");
        }
        if version & !LEAF_MASK != 0 {
            return refuse("Output Taproot tree has a leaf with an invalid leaf version");
        }
        // Whether the tree is whole does not depend on the leaves' versions.
        let leaf = ScriptBuf::from(script.to_vec());
        builder = builder.and_then(|tree| tree.add_leaf_with_ver(depth, leaf, LeafVersion::TapScript).ok());
    }
    if builder.is_some_and(|tree| tree.is_finalizable()) {
        return Ok(());
    }
    refuse("Output Taproot tree is malformed")
}
