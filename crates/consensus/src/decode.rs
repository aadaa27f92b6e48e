//! Reading blocks and transactions as Core reads them.
//!
//! `bitcoin`'s own decoder differs where it matters for a verdict: it refuses a transaction
//! without inputs and outputs (Core reads it and answers `bad-txns-vin-empty`), takes one
//! without inputs but with a witness flag (Core does not), and caps a witness at 4,000,000 bytes.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Txid, Witness,
};

use crate::limits::MAX_SERIALIZED_COUNT;

/// Bytes that are no block or transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("end of data")]
    EndOfData,
    /// A count is not in its shortest form.
    #[error("non-canonical ReadCompactSize()")]
    NonCanonical,
    /// A count is above 32 MiB.
    #[error("ReadCompactSize(): size too large")]
    TooLarge,
    /// The witness flag is set but no input has a witness.
    #[error("Superfluous witness record")]
    SuperfluousWitness,
    /// An unknown flag is set.
    #[error("Unknown transaction optional data")]
    UnknownFlag,
    /// Bytes are left over.
    #[error("trailing bytes")]
    Trailing,
}

/// Shortest serialised input: outpoint, empty script, sequence.
const MIN_INPUT: usize = 41;
/// Shortest serialised output: value, empty script.
const MIN_OUTPUT: usize = 9;
/// Shortest serialised transaction: version, two counts, lock time.
const MIN_TX: usize = 10;

struct Reader<'i, 'b>(&'i mut &'b [u8]);

impl<'b> Reader<'_, 'b> {
    fn bytes(&mut self, n: usize) -> Result<&'b [u8], DecodeError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(DecodeError::EndOfData)?;
        *self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::EndOfData)?;
        *self.0 = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A count or length, in Core's `CompactSize`.
    fn count(&mut self) -> Result<usize, DecodeError> {
        let [first] = self.array()?;
        let (n, least) = match first {
            0xff => (u64::from_le_bytes(self.array()?), 0x1_0000_0000),
            0xfe => (u64::from(self.u32()?), 0x1_0000),
            0xfd => (u64::from(u16::from_le_bytes(self.array()?)), 0xfd),
            small => (u64::from(small), 0),
        };
        if n < least {
            return Err(DecodeError::NonCanonical);
        }
        if n > MAX_SERIALIZED_COUNT {
            return Err(DecodeError::TooLarge);
        }
        usize::try_from(n).map_err(|_| DecodeError::TooLarge)
    }

    fn script(&mut self) -> Result<ScriptBuf, DecodeError> {
        let len = self.count()?;
        self.bytes(len).map(|bytes| ScriptBuf::from_bytes(bytes.to_vec()))
    }

    /// `count` items of at least `least` bytes each: never reserves more than the input can hold.
    fn items<T>(
        &mut self,
        least: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count()?;
        let mut items = Vec::with_capacity(count.min(self.0.len() / least + 1));
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    fn input(&mut self) -> Result<TxIn, DecodeError> {
        let txid = Txid::from_byte_array(self.array()?);
        Ok(TxIn {
            previous_output: OutPoint { txid, vout: self.u32()? },
            script_sig: self.script()?,
            sequence: Sequence(self.u32()?),
            witness: Witness::new(),
        })
    }

    fn output(&mut self) -> Result<TxOut, DecodeError> {
        let value = Amount::from_sat(u64::from_le_bytes(self.array()?));
        Ok(TxOut { value, script_pubkey: self.script()? })
    }

    fn witness(&mut self) -> Result<Witness, DecodeError> {
        let items = self.items(1, |reader| {
            let len = reader.count()?;
            reader.bytes(len)
        })?;
        Ok(if items.is_empty() { Witness::new() } else { Witness::from_slice(&items) })
    }

    fn tx(&mut self, allow_witness: bool) -> Result<Transaction, DecodeError> {
        let version = Version(self.u32()?.cast_signed());
        let mut input = self.items(MIN_INPUT, Self::input)?;
        let mut output = Vec::new();
        let mut flags = 0;
        if input.is_empty() && allow_witness {
            // Either the witness marker, or a transaction without inputs.
            [flags] = self.array()?;
            if flags != 0 {
                input = self.items(MIN_INPUT, Self::input)?;
                output = self.items(MIN_OUTPUT, Self::output)?;
            }
        } else {
            output = self.items(MIN_OUTPUT, Self::output)?;
        }
        if flags & 1 != 0 {
            flags ^= 1;
            for txin in &mut input {
                txin.witness = self.witness()?;
            }
            if input.iter().all(|txin| txin.witness.is_empty()) {
                return Err(DecodeError::SuperfluousWitness);
            }
        }
        if flags != 0 {
            return Err(DecodeError::UnknownFlag);
        }
        Ok(Transaction { version, input, output, lock_time: LockTime::from_consensus(self.u32()?) })
    }

    fn header(&mut self) -> Result<Header, DecodeError> {
        Ok(Header {
            version: BlockVersion::from_consensus(self.u32()?.cast_signed()),
            prev_blockhash: BlockHash::from_byte_array(self.array()?),
            merkle_root: TxMerkleNode::from_byte_array(self.array()?),
            time: self.u32()?,
            bits: CompactTarget::from_consensus(self.u32()?),
            nonce: self.u32()?,
        })
    }
}

/// Reads a transaction off the front of `input`.
///
/// # Errors
/// If there is none.
pub fn read_tx(input: &mut &[u8]) -> Result<Transaction, DecodeError> {
    Reader(input).tx(true)
}

/// Reads a block off the front of `input`.
///
/// # Errors
/// If there is none.
pub fn read_block(input: &mut &[u8]) -> Result<Block, DecodeError> {
    let mut reader = Reader(input);
    let header = reader.header()?;
    let txdata = reader.items(MIN_TX, |reader| reader.tx(true))?;
    Ok(Block { header, txdata })
}

/// The script and witness that solve a signet challenge (BIP325): all of `bytes`.
pub(crate) fn read_solution(bytes: &[u8]) -> Result<(ScriptBuf, Witness), DecodeError> {
    whole(bytes, |input| {
        let mut reader = Reader(input);
        Ok((reader.script()?, reader.witness()?))
    })
}

fn whole<T>(
    mut input: &[u8],
    read: impl FnOnce(&mut &[u8]) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let item = read(&mut input)?;
    if input.is_empty() { Ok(item) } else { Err(DecodeError::Trailing) }
}

/// A transaction that is all of `bytes`.
///
/// # Errors
/// If `bytes` is anything else.
pub fn decode_tx(bytes: &[u8]) -> Result<Transaction, DecodeError> {
    whole(bytes, read_tx)
}

/// A transaction that is all of `bytes`, read as nodes did before segwit: the way to read one
/// that has no inputs yet.
///
/// # Errors
/// If `bytes` is anything else.
pub fn decode_tx_no_witness(bytes: &[u8]) -> Result<Transaction, DecodeError> {
    whole(bytes, |input| Reader(input).tx(false))
}

/// A block that is all of `bytes`.
///
/// # Errors
/// If `bytes` is anything else.
pub fn decode_block(bytes: &[u8]) -> Result<Block, DecodeError> {
    whole(bytes, read_block)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
