//! Which transaction spent an output (`-txospenderindex`).
//!
//! A key holds eight bytes of the output's transaction id; whoever makes two ids that begin alike
//! gets two rows under one beginning, and each answer is checked against the transaction itself.

use std::sync::Arc;

use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint, Transaction};
use ironpeer_primitives::{ConnectedBlock, Height};
use ironpeer_store::{Batch, Kv, KvRead, Space};

use crate::core::{IndexCore, IndexError};
use crate::handle::IndexHandle;
use crate::tx::places;

const NAME: &str = "txospenderindex";
/// Beginning of an outpoint, height and offset of the spending transaction, to its size.
const SPENDERS: Space = Space(1);
/// Height to hash of the block.
const BLOCKS: Space = Space(2);
const PREFIX_BYTES: usize = 12;

const DAMAGED: IndexError = IndexError::Damaged { name: NAME, what: "row" };

fn prefix(outpoint: &OutPoint) -> Vec<u8> {
    let txid = outpoint.txid.to_byte_array();
    let mut key: Vec<u8> = txid.into_iter().take(8).collect();
    key.extend(outpoint.vout.to_be_bytes());
    key
}

/// Writes the rows.
pub(crate) struct SpenderRows;

/// The rows of a block: key and value.
fn rows(block: &ConnectedBlock) -> impl Iterator<Item = (Vec<u8>, [u8; 4])> + '_ {
    let spending = block.block.txdata.iter().zip(places(&block.block)).skip(1);
    spending.flat_map(move |(tx, (_, offset, size))| {
        tx.input.iter().map(move |input| {
            let mut key = prefix(&input.previous_output);
            key.extend(block.height.0.to_be_bytes());
            key.extend(offset.to_be_bytes());
            (key, size.to_be_bytes())
        })
    })
}

impl IndexCore for SpenderRows {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs_undo(&self) -> bool {
        false
    }

    fn apply(&mut self, block: &ConnectedBlock, batch: &mut Batch) -> Result<(), IndexError> {
        batch.put(BLOCKS, block.height.0.to_be_bytes(), block.hash.to_byte_array());
        for (key, value) in rows(block) {
            batch.put(SPENDERS, key, value);
        }
        Ok(())
    }

    fn unwind(&mut self, block: &ConnectedBlock, batch: &mut Batch) -> Result<(), IndexError> {
        batch.delete(BLOCKS, block.height.0.to_be_bytes());
        for (key, _) in rows(block) {
            batch.delete(SPENDERS, key);
        }
        Ok(())
    }
}

/// A transaction of the chain that spent an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spender {
    /// The transaction.
    pub tx: Transaction,
    /// The block it is in.
    pub block: BlockHash,
    /// That block's height.
    pub height: Height,
}

/// Finds spenders.
#[derive(Clone)]
pub struct SpenderIndex {
    kv: Arc<dyn Kv>,
    handle: IndexHandle,
}

impl std::fmt::Debug for SpenderIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.handle.fmt(f)
    }
}

impl SpenderIndex {
    pub(crate) fn new(kv: Arc<dyn Kv>, handle: IndexHandle) -> Self {
        Self { kv, handle }
    }

    /// How far it is.
    #[must_use]
    pub fn handle(&self) -> &IndexHandle {
        &self.handle
    }

    /// What spent an output, if a block did. Reads the database and files: not for a runtime's
    /// worker.
    ///
    /// # Errors
    /// If the database or a block cannot be read.
    pub fn spender(&self, outpoint: &OutPoint) -> Result<Option<Spender>, IndexError> {
        let rows: Box<dyn KvRead> = self.kv.snapshot();
        for row in rows.prefix(SPENDERS, &prefix(outpoint)) {
            let (key, size) = row?;
            let number = |from: usize| {
                let bytes = key.get(from..from.saturating_add(4)).ok_or(DAMAGED)?;
                Ok::<_, IndexError>(u32::from_be_bytes(bytes.try_into().map_err(|_| DAMAGED)?))
            };
            let (height, offset) = (number(PREFIX_BYTES)?, number(PREFIX_BYTES + 4)?);
            let size = u32::from_be_bytes(size.try_into().map_err(|_| DAMAGED)?);
            let hash = rows.get(BLOCKS, &height.to_be_bytes())?.ok_or(DAMAGED)?;
            let block = BlockHash::from_slice(&hash).map_err(|_| DAMAGED)?;
            let bytes =
                self.handle.view.block_part(&block, offset, size).map_err(|_| IndexError::NoBlock(block))?;
            let tx: Transaction = deserialize(&bytes).map_err(|_| IndexError::NoBlock(block))?;
            if tx.input.iter().any(|input| input.previous_output == *outpoint) {
                return Ok(Some(Spender { tx, block, height: Height(height) }));
            }
        }
        Ok(None)
    }
}
