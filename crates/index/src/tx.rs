//! Transactions by id (`-txindex`).
//!
//! A row names the block by a number of its own and the place in it: transactions of blocks that
//! were taken off are still found, as in Core, until they are in another one.

use std::sync::Arc;

use bitcoin::consensus::encode::{VarInt, deserialize};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Transaction, Txid};
use ironpeer_primitives::{ConnectedBlock, Height};
use ironpeer_store::{Batch, Kv, Space};

use crate::core::{IndexCore, IndexError};
use crate::handle::IndexHandle;

const NAME: &str = "txindex";
/// Transaction id to block number, offset in the block, and size.
const TXS: Space = Space(1);
/// Block number to hash.
const BLOCKS: Space = Space(2);
const HEADER_BYTES: usize = 80;

/// Writes the rows.
pub(crate) struct TxRows {
    /// The number the next block gets.
    next: u32,
}

/// Where in its serialized block each transaction lies: id, offset, size.
pub(crate) fn places(block: &bitcoin::Block) -> impl Iterator<Item = (Txid, u32, u32)> + '_ {
    let count = VarInt::from(block.txdata.len());
    let mut offset = u32::try_from(HEADER_BYTES + count.size()).unwrap_or(u32::MAX);
    block.txdata.iter().map(move |tx| {
        let size = u32::try_from(tx.total_size()).unwrap_or(u32::MAX);
        let at = offset;
        offset = offset.saturating_add(size);
        (tx.compute_txid(), at, size)
    })
}

impl TxRows {
    pub(crate) const fn new() -> Self {
        Self { next: 0 }
    }
}

impl IndexCore for TxRows {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs_undo(&self) -> bool {
        false
    }

    fn restore(&mut self, state: Option<&[u8]>) -> Option<()> {
        if let Some(state) = state {
            self.next = u32::from_be_bytes(state.try_into().ok()?);
        }
        Some(())
    }

    fn state(&self) -> Vec<u8> {
        self.next.to_be_bytes().to_vec()
    }

    fn apply(&mut self, block: &ConnectedBlock, batch: &mut Batch) -> Result<(), IndexError> {
        // Nobody can spend what the genesis block pays, and no one is told of it.
        if block.height == Height::GENESIS {
            return Ok(());
        }
        let number = self.next;
        self.next = number.checked_add(1).ok_or(IndexError::Damaged { name: NAME, what: "block number" })?;
        batch.put(BLOCKS, number.to_be_bytes(), block.hash.to_byte_array());
        for (txid, offset, size) in places(&block.block) {
            let mut row = number.to_be_bytes().to_vec();
            row.extend(offset.to_be_bytes());
            row.extend(size.to_be_bytes());
            batch.put(TXS, txid.to_byte_array(), row);
        }
        Ok(())
    }

    fn unwind(&mut self, _: &ConnectedBlock, _: &mut Batch) -> Result<(), IndexError> {
        Ok(())
    }
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxPlace {
    /// The block, which may have been taken off the chain since.
    pub block: BlockHash,
    /// Bytes of the block before it.
    pub offset: u32,
    /// Its own bytes, witnesses included.
    pub size: u32,
}

/// Finds transactions by id.
#[derive(Clone)]
pub struct TxIndex {
    kv: Arc<dyn Kv>,
    handle: IndexHandle,
}

impl std::fmt::Debug for TxIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.handle.fmt(f)
    }
}

fn be(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

impl TxIndex {
    pub(crate) fn new(kv: Arc<dyn Kv>, handle: IndexHandle) -> Self {
        Self { kv, handle }
    }

    /// How far it is.
    #[must_use]
    pub fn handle(&self) -> &IndexHandle {
        &self.handle
    }

    /// Where a transaction is. Reads the database: not for a runtime's worker.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn place(&self, txid: &Txid) -> Result<Option<TxPlace>, IndexError> {
        const DAMAGED: IndexError = IndexError::Damaged { name: NAME, what: "row" };
        let Some(row) = self.kv.get(TXS, &txid.to_byte_array())? else { return Ok(None) };
        let part = |range: std::ops::Range<usize>| row.get(range).and_then(be).ok_or(DAMAGED);
        let (number, offset, size) = (part(0..4)?, part(4..8)?, part(8..12)?);
        let hash = self.kv.get(BLOCKS, &number.to_be_bytes())?.ok_or(DAMAGED)?;
        let block = BlockHash::from_slice(&hash).map_err(|_| DAMAGED)?;
        Ok(Some(TxPlace { block, offset, size }))
    }

    /// A transaction and the block it is in. Reads the database and a file: not for a runtime's
    /// worker.
    ///
    /// # Errors
    /// If the database or the block cannot be read.
    pub fn find(&self, txid: &Txid) -> Result<Option<(BlockHash, Transaction)>, IndexError> {
        let Some(place) = self.place(txid)? else { return Ok(None) };
        let bytes = self
            .handle
            .view
            .block_part(&place.block, place.offset, place.size)
            .map_err(|_| IndexError::NoBlock(place.block))?;
        let tx: Transaction = deserialize(&bytes).map_err(|_| IndexError::NoBlock(place.block))?;
        if tx.compute_txid() != *txid {
            return Err(IndexError::Damaged { name: NAME, what: "txid mismatch" });
        }
        Ok(Some((place.block, tx)))
    }
}
