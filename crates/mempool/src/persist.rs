//! `mempool.dat` in Bitcoin Core's format (`src/node/mempool_persist.cpp`).

use bitcoin::consensus::encode::{self, VarInt, deserialize_partial, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::{Transaction, Txid};
use ironpeer_consensus::read_tx;
use ironpeer_primitives::UnixTime;

/// Without obfuscation.
const VERSION_PLAIN: u64 = 1;
/// With a key of eight bytes.
const VERSION_OBFUSCATED: u64 = 2;

/// The saved state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Transaction, entry time and fee delta, parents first.
    pub txs: Vec<(Transaction, UnixTime, i64)>,
    /// What follows them.
    pub marks: Marks,
}

/// What is saved beside the transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Deltas of transactions that were not in the mempool, sorted.
    pub deltas: Vec<(Txid, i64)>,
    /// Transactions no peer had asked for, sorted.
    pub unbroadcast: Vec<Txid>,
}

/// Bytes that are no `mempool.dat`.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// A version nobody writes.
    #[error("unknown mempool file version {0}")]
    Version(u64),
    /// The bytes end early or hold something else.
    #[error("{0}")]
    Decode(String),
}

/// Writes the file; with a key its bytes after the key are hidden by it.
pub fn encode(saved: &Saved, key: Option<[u8; 8]>) -> Vec<u8> {
    let version = if key.is_some() { VERSION_OBFUSCATED } else { VERSION_PLAIN };
    let mut out = version.to_le_bytes().to_vec();
    if let Some(key) = key {
        out.push(8);
        out.extend(key);
    }
    let start = out.len();
    out.extend((saved.txs.len() as u64).to_le_bytes());
    for (tx, time, delta) in &saved.txs {
        out.extend(serialize(tx));
        out.extend(time.to_le_bytes());
        out.extend(delta.to_le_bytes());
    }
    out.extend(serialize(&VarInt::from(saved.marks.deltas.len())));
    for (txid, delta) in &saved.marks.deltas {
        out.extend(txid.to_byte_array());
        out.extend(delta.to_le_bytes());
    }
    out.extend(serialize(&VarInt::from(saved.marks.unbroadcast.len())));
    for txid in &saved.marks.unbroadcast {
        out.extend(txid.to_byte_array());
    }
    if let Some(key) = key {
        obfuscate(&mut out, start, key);
    }
    out
}

/// The key goes by the place in the file.
fn obfuscate(bytes: &mut [u8], start: usize, key: [u8; 8]) {
    for (at, byte) in bytes.iter_mut().enumerate().skip(start) {
        *byte ^= key[at % key.len()];
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], PersistError> {
    let (head, rest) =
        input.split_first_chunk::<N>().ok_or_else(|| PersistError::Decode("end of file".to_owned()))?;
    *input = rest;
    Ok(*head)
}

fn count(input: &mut &[u8]) -> Result<u64, PersistError> {
    let (VarInt(count), used): (VarInt, usize) =
        deserialize_partial(input).map_err(|error: encode::Error| PersistError::Decode(error.to_string()))?;
    *input = input.get(used..).unwrap_or_default();
    Ok(count)
}

/// A file being read: its transactions one by one, then the marks.
pub struct Reader {
    bytes: Vec<u8>,
    at: usize,
    left: u64,
}

impl Reader {
    /// Reads the head.
    pub fn new(mut bytes: Vec<u8>) -> Result<Self, PersistError> {
        let mut input = bytes.as_slice();
        match u64::from_le_bytes(take(&mut input)?) {
            VERSION_PLAIN => {}
            VERSION_OBFUSCATED => {
                if take::<1>(&mut input)? != [8] {
                    return Err(PersistError::Decode("obfuscation key of another length".to_owned()));
                }
                let key = take::<8>(&mut input)?;
                let start = bytes.len() - input.len();
                obfuscate(&mut bytes, start, key);
                input = &bytes[start..];
            }
            version => return Err(PersistError::Version(version)),
        }
        let left = u64::from_le_bytes(take(&mut input)?);
        let at = bytes.len() - input.len();
        Ok(Self { bytes, at, left })
    }

    /// Transactions not read yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next transaction with its entry time and fee delta; `None` after the last.
    pub fn next_tx(&mut self) -> Result<Option<(Transaction, UnixTime, i64)>, PersistError> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut input = &self.bytes[self.at..];
        let tx = read_tx(&mut input).map_err(|error| PersistError::Decode(error.to_string()))?;
        let time = i64::from_le_bytes(take(&mut input)?);
        let delta = i64::from_le_bytes(take(&mut input)?);
        self.at = self.bytes.len() - input.len();
        self.left -= 1;
        Ok(Some((tx, time, delta)))
    }

    /// Deltas and unbroadcast transactions, once all transactions are read.
    pub fn marks(&self) -> Result<Marks, PersistError> {
        let mut input = &self.bytes[self.at..];
        let mut deltas = Vec::new();
        for _ in 0..count(&mut input)? {
            let txid = Txid::from_byte_array(take(&mut input)?);
            deltas.push((txid, i64::from_le_bytes(take(&mut input)?)));
        }
        let mut unbroadcast = Vec::new();
        for _ in 0..count(&mut input)? {
            unbroadcast.push(Txid::from_byte_array(take(&mut input)?));
        }
        Ok(Marks { deltas, unbroadcast })
    }
}

#[cfg(test)]
#[path = "persist_tests.rs"]
mod tests;
