//! Transactions and blocks by Core's rules (`UnserializeTransaction`), which differ from those of
//! the `bitcoin` crate at the edges: zero inputs with flag 0 decode, the witness flag with zero
//! inputs does not.

use bitcoin::block::Header;
use bitcoin::consensus::Decodable;
use bitcoin::{
    Amount, Block, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute,
    block, transaction,
};

use crate::{DecodeError, Reader};

/// Bit of the flags byte that says witnesses follow (BIP144).
const WITNESS_FLAG: u8 = 1;

/// Reads a transaction, with witnesses if it has them.
///
/// # Errors
/// Where Core's deserialisation throws.
pub fn decode_transaction(r: &mut Reader<'_>) -> Result<Transaction, DecodeError> {
    let version = transaction::Version(r.i32()?);
    let mut input = r.list(input)?;
    let mut outputs = Vec::new();
    let mut flags = 0;
    if input.is_empty() {
        // Either the marker of BIP144 or a transaction that spends nothing.
        flags = r.u8()?;
        if flags != 0 {
            input = r.list(self::input)?;
            outputs = r.list(output)?;
        }
    } else {
        outputs = r.list(output)?;
    }
    if flags & WITNESS_FLAG != 0 {
        flags ^= WITNESS_FLAG;
        for txin in &mut input {
            txin.witness = witness(r)?;
        }
        if input.iter().all(|txin| txin.witness.is_empty()) {
            return Err(DecodeError::SuperfluousWitness);
        }
    }
    if flags != 0 {
        return Err(DecodeError::UnknownTxData);
    }
    let lock_time = absolute::LockTime::from_consensus(r.u32()?);
    Ok(Transaction { version, lock_time, input, output: outputs })
}

/// Reads a block.
///
/// # Errors
/// Where Core's deserialisation throws.
pub fn decode_block(r: &mut Reader<'_>) -> Result<Block, DecodeError> {
    Ok(Block { header: header(r)?, txdata: r.list(decode_transaction)? })
}

/// Reads the 80 bytes of a header.
pub(crate) fn header(r: &mut Reader<'_>) -> Result<Header, DecodeError> {
    Ok(Header {
        version: block::Version::from_consensus(r.i32()?),
        prev_blockhash: r.hash()?,
        merkle_root: r.hash()?,
        time: r.u32()?,
        bits: CompactTarget::from_consensus(r.u32()?),
        nonce: r.u32()?,
    })
}

fn script(r: &mut Reader<'_>) -> Result<ScriptBuf, DecodeError> {
    r.var_bytes().map(|bytes| ScriptBuf::from_bytes(bytes.to_vec()))
}

fn input(r: &mut Reader<'_>) -> Result<TxIn, DecodeError> {
    Ok(TxIn {
        previous_output: OutPoint { txid: r.hash()?, vout: r.u32()? },
        script_sig: script(r)?,
        sequence: Sequence(r.u32()?),
        witness: Witness::new(),
    })
}

fn output(r: &mut Reader<'_>) -> Result<TxOut, DecodeError> {
    Ok(TxOut { value: Amount::from_sat(r.u64()?), script_pubkey: script(r)? })
}

/// Walks the stack once to know that it is all there: the `bitcoin` crate reserves four bytes for
/// each element announced before it reads the first.
fn witness(r: &mut Reader<'_>) -> Result<Witness, DecodeError> {
    let start = *r;
    for _ in 0..r.compact_size()? {
        r.var_bytes()?;
    }
    let len = start.rest().len().saturating_sub(r.rest().len());
    let mut stack = start.rest().get(..len).unwrap_or_default();
    Witness::consensus_decode(&mut stack).map_err(|_| DecodeError::SizeTooLarge)
}
