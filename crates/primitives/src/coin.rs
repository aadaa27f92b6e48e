use bitcoin::consensus::{Decodable, Encodable, encode};
use bitcoin::hashes::Hash;
use bitcoin::script::PushBytesBuf;
use bitcoin::{Amount, PubkeyHash, PublicKey, ScriptBuf, ScriptHash, TxOut};

use crate::Height;

/// An unspent output and where it came from (Core's `Coin`, `src/coins.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// Value and script.
    pub output: TxOut,
    /// Height of the block that made it.
    pub height: Height,
    /// Made by a coinbase: spendable after 100 blocks.
    pub is_coinbase: bool,
}

/// The coins a block spent: one list a transaction, the coinbase left out, in input order
/// (Core's `CBlockUndo`, `src/undo.h`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockUndo {
    /// One list of coins for each transaction after the coinbase.
    pub txs: Vec<Vec<Coin>>,
}

/// Bytes that are no coin or undo record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end too early.
    #[error("coin record ends too early")]
    Truncated,
    /// A number does not fit its type.
    #[error("number out of range in coin record")]
    OutOfRange,
    /// A compressed public key is not on the curve.
    #[error("compressed script holds no valid public key")]
    BadPublicKey,
    /// Bytes are left over.
    #[error("trailing bytes after record")]
    Trailing,
}

/// Longest script kept in a coin record; longer ones are unspendable (`MAX_SCRIPT_SIZE`).
const MAX_SCRIPT_SIZE: u64 = 10_000;

/// Kinds of script with a short form (`nSpecialScripts` in Core's `src/compressor.h`).
const SPECIAL_SCRIPTS: u64 = 6;

/// Appends Core's base-128 `VARINT` (`src/serialize.h`): big-endian groups of seven bits, each
/// continued group less one, so every number has one encoding.
pub fn write_varint(out: &mut Vec<u8>, mut n: u64) {
    let mut groups = [0u8; 10];
    let mut len = 0;
    loop {
        let more = if len == 0 { 0 } else { 0x80 };
        if let Some(group) = groups.get_mut(len) {
            *group = (n & 0x7f) as u8 | more;
        }
        if n <= 0x7f {
            break;
        }
        n = (n >> 7) - 1;
        len += 1;
    }
    out.extend(groups.iter().take(len + 1).rev());
}

/// Reads Core's base-128 `VARINT` off the front of `input`.
///
/// # Errors
/// If the bytes end early or the number exceeds 64 bits.
pub fn read_varint(input: &mut &[u8]) -> Result<u64, CodecError> {
    let mut n = 0u64;
    loop {
        let (byte, rest) = input.split_first().ok_or(CodecError::Truncated)?;
        *input = rest;
        if n > u64::MAX >> 7 {
            return Err(CodecError::OutOfRange);
        }
        n = (n << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(n);
        }
        n = n.checked_add(1).ok_or(CodecError::OutOfRange)?;
    }
}

/// Shortens an amount by its trailing decimal zeros (Core's `CompressAmount`).
#[must_use]
pub fn compress_amount(mut sats: u64) -> u64 {
    if sats == 0 {
        return 0;
    }
    let mut exponent = 0;
    while sats.is_multiple_of(10) && exponent < 9 {
        sats /= 10;
        exponent += 1;
    }
    if exponent < 9 {
        let digit = sats % 10;
        1 + (sats / 10 * 9 + digit - 1) * 10 + exponent
    } else {
        1 + (sats - 1) * 10 + 9
    }
}

/// Undoes [`compress_amount`].
///
/// # Errors
/// If the result exceeds 64 bits.
pub fn decompress_amount(compressed: u64) -> Result<u64, CodecError> {
    let Some(mut rest) = compressed.checked_sub(1) else { return Ok(0) };
    let exponent = (rest % 10) as u32;
    rest /= 10;
    let base = if exponent < 9 {
        let digit = rest % 9 + 1;
        (rest / 9).checked_mul(10).and_then(|n| n.checked_add(digit))
    } else {
        rest.checked_add(1)
    };
    base.and_then(|n| n.checked_mul(10u64.pow(exponent))).ok_or(CodecError::OutOfRange)
}

fn take<'a>(input: &mut &'a [u8], n: usize) -> Result<&'a [u8], CodecError> {
    let (head, rest) = input.split_at_checked(n).ok_or(CodecError::Truncated)?;
    *input = rest;
    Ok(head)
}

/// The public key of a 65-byte uncompressed P2PK script, if it is one on the curve.
fn uncompressed_p2pk(script: &[u8]) -> Option<PublicKey> {
    match script {
        [65, key @ .., 0xac] if key.len() == 65 && key.first() == Some(&4) => PublicKey::from_slice(key).ok(),
        _ => None,
    }
}

/// Appends a script in Core's compressed form (`ScriptCompression`).
fn encode_script(out: &mut Vec<u8>, script: &[u8]) {
    match script {
        [0x76, 0xa9, 20, hash @ .., 0x88, 0xac] if hash.len() == 20 => {
            out.push(0);
            out.extend(hash);
        }
        [0xa9, 20, hash @ .., 0x87] if hash.len() == 20 => {
            out.push(1);
            out.extend(hash);
        }
        [33, parity @ (2 | 3), x @ .., 0xac] if x.len() == 32 => {
            out.push(*parity);
            out.extend(x);
        }
        _ => {
            if let Some(key) = uncompressed_p2pk(script) {
                let compressed = key.inner.serialize();
                out.push(compressed[0] + 2);
                out.extend(&compressed[1..]);
            } else {
                write_varint(out, script.len() as u64 + SPECIAL_SCRIPTS);
                out.extend(script);
            }
        }
    }
}

fn p2pk(key: &[u8]) -> ScriptBuf {
    let mut push = PushBytesBuf::with_capacity(key.len());
    // A key is at most 65 bytes, far below the push limit.
    let _ = push.extend_from_slice(key);
    bitcoin::script::Builder::new()
        .push_slice(push)
        .push_opcode(bitcoin::opcodes::all::OP_CHECKSIG)
        .into_script()
}

fn decode_script(input: &mut &[u8]) -> Result<ScriptBuf, CodecError> {
    let hash20 = |input: &mut &[u8]| -> Result<[u8; 20], CodecError> {
        take(input, 20)?.try_into().map_err(|_| CodecError::Truncated)
    };
    match read_varint(input)? {
        0 => Ok(ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(hash20(input)?))),
        1 => Ok(ScriptBuf::new_p2sh(&ScriptHash::from_byte_array(hash20(input)?))),
        kind @ (2 | 3) => {
            let mut key = vec![kind as u8];
            key.extend(take(input, 32)?);
            Ok(p2pk(&key))
        }
        kind @ (4 | 5) => {
            let mut key = vec![kind as u8 - 2];
            key.extend(take(input, 32)?);
            let key = PublicKey::from_slice(&key).map_err(|_| CodecError::BadPublicKey)?;
            Ok(p2pk(&key.inner.serialize_uncompressed()))
        }
        len => {
            let len = len - SPECIAL_SCRIPTS;
            if len > MAX_SCRIPT_SIZE {
                // Core reads such a script as OP_RETURN and skips the bytes.
                let len = usize::try_from(len).map_err(|_| CodecError::OutOfRange)?;
                take(input, len)?;
                return Ok(ScriptBuf::from_bytes(vec![0x6a]));
            }
            Ok(ScriptBuf::from_bytes(take(input, len as usize)?.to_vec()))
        }
    }
}

fn encode_txout(out: &mut Vec<u8>, output: &TxOut) {
    write_varint(out, compress_amount(output.value.to_sat()));
    encode_script(out, output.script_pubkey.as_bytes());
}

fn decode_txout(input: &mut &[u8]) -> Result<TxOut, CodecError> {
    let value = Amount::from_sat(decompress_amount(read_varint(input)?)?);
    Ok(TxOut { value, script_pubkey: decode_script(input)? })
}

fn height_code(coin: &Coin) -> u64 {
    u64::from(coin.height.0) * 2 + u64::from(coin.is_coinbase)
}

fn split_height_code(code: u64) -> Result<(Height, bool), CodecError> {
    let height = u32::try_from(code >> 1).map_err(|_| CodecError::OutOfRange)?;
    Ok((Height(height), code & 1 == 1))
}

/// Appends a coin in the form of Core's coins database.
pub fn encode_coin(out: &mut Vec<u8>, coin: &Coin) {
    write_varint(out, height_code(coin));
    encode_txout(out, &coin.output);
}

/// Reads a coin in the form of Core's coins database.
///
/// # Errors
/// If the bytes are no such record, or more than one.
pub fn decode_coin(mut input: &[u8]) -> Result<Coin, CodecError> {
    let (height, is_coinbase) = split_height_code(read_varint(&mut input)?)?;
    let output = decode_txout(&mut input)?;
    if input.is_empty() { Ok(Coin { output, height, is_coinbase }) } else { Err(CodecError::Trailing) }
}

/// A block's undo record in the bytes of Core's `rev*.dat`, without framing and checksum.
#[must_use]
pub fn encode_block_undo(undo: &BlockUndo) -> Vec<u8> {
    let mut out = Vec::new();
    let compact = |out: &mut Vec<u8>, n: usize| {
        encode::VarInt(n as u64).consensus_encode(out).unwrap_or(0);
    };
    compact(&mut out, undo.txs.len());
    for coins in &undo.txs {
        compact(&mut out, coins.len());
        for coin in coins {
            write_varint(&mut out, height_code(coin));
            if coin.height.0 > 0 {
                // Core once stored the transaction version here (`TxInUndoFormatter`).
                out.push(0);
            }
            encode_txout(&mut out, &coin.output);
        }
    }
    out
}

/// Reads an undo record as [`encode_block_undo`] wrote it.
///
/// # Errors
/// If the bytes are no such record.
pub fn decode_block_undo(mut input: &[u8]) -> Result<BlockUndo, CodecError> {
    let compact = |input: &mut &[u8]| -> Result<u64, CodecError> {
        encode::VarInt::consensus_decode(input).map(|n| n.0).map_err(|_| CodecError::Truncated)
    };
    let txs = compact(&mut input)?;
    let mut undo = BlockUndo::default();
    for _ in 0..txs {
        let count = compact(&mut input)?;
        let mut coins = Vec::new();
        for _ in 0..count {
            let (height, is_coinbase) = split_height_code(read_varint(&mut input)?)?;
            if height.0 > 0 {
                read_varint(&mut input)?;
            }
            coins.push(Coin { output: decode_txout(&mut input)?, height, is_coinbase });
        }
        undo.txs.push(coins);
    }
    if input.is_empty() { Ok(undo) } else { Err(CodecError::Trailing) }
}

#[cfg(test)]
#[path = "coin_tests.rs"]
mod tests;
