//! Basic filters of blocks (BIP158) and their headers (BIP157): `-blockfilterindex`.
//!
//! Rows are named by height and hash, so that those of one chain lie together and those of blocks
//! that were taken off stay: peers may still ask for them.

use std::collections::HashMap;
use std::sync::Arc;

use bitcoin::bip158::{self, BlockFilter, FilterHash, FilterHeader};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint, Script};
use ironpeer_primitives::{BlockFilterRead, ConnectedBlock, Height};
use ironpeer_store::{Batch, Kv, Space};

use crate::core::{IndexCore, IndexError};
use crate::handle::IndexHandle;

const NAME: &str = "basic block filter index";
/// Height and hash of a block to hash and header of its filter.
const HEADERS: Space = Space(1);
/// The same to the filter.
const FILTERS: Space = Space(2);

const DAMAGED: IndexError = IndexError::Damaged { name: NAME, what: "row" };

pub(crate) fn row_key(height: Height, hash: &BlockHash) -> Vec<u8> {
    let mut key = height.0.to_be_bytes().to_vec();
    key.extend(hash.to_byte_array());
    key
}

/// The basic filter of a block.
pub(crate) fn filter_of(block: &ConnectedBlock) -> Result<BlockFilter, IndexError> {
    let inputs = block.block.txdata.iter().skip(1).flat_map(|tx| &tx.input);
    let coins = block.spent.txs.iter().flatten();
    let spent: HashMap<OutPoint, &Script> = inputs
        .zip(coins)
        .map(|(input, coin)| (input.previous_output, coin.output.script_pubkey.as_script()))
        .collect();
    BlockFilter::new_script_filter(&block.block, |outpoint| {
        spent.get(outpoint).copied().ok_or(bip158::Error::UtxoMissing(*outpoint))
    })
    .map_err(|_| IndexError::NoUndo(block.hash))
}

/// Writes the rows.
pub(crate) struct FilterRows {
    kv: Arc<dyn Kv>,
    /// The header of the last block's filter.
    header: FilterHeader,
}

impl FilterRows {
    pub(crate) fn new(kv: Arc<dyn Kv>) -> Self {
        Self { kv, header: FilterHeader::all_zeros() }
    }
}

fn read_header(kv: &dyn Kv, height: Height, hash: &BlockHash) -> Result<Option<FilterRow>, IndexError> {
    let Some(row) = kv.get(HEADERS, &row_key(height, hash))? else { return Ok(None) };
    let (hash, header) = row.split_first_chunk::<32>().ok_or(DAMAGED)?;
    Ok(Some(FilterRow {
        hash: FilterHash::from_byte_array(*hash),
        header: FilterHeader::from_slice(header).map_err(|_| DAMAGED)?,
    }))
}

impl IndexCore for FilterRows {
    fn name(&self) -> &'static str {
        NAME
    }

    fn restore(&mut self, state: Option<&[u8]>) -> Option<()> {
        if let Some(state) = state {
            self.header = FilterHeader::from_slice(state).ok()?;
        }
        Some(())
    }

    fn state(&self) -> Vec<u8> {
        self.header.to_byte_array().to_vec()
    }

    fn apply(&mut self, block: &ConnectedBlock, batch: &mut Batch) -> Result<(), IndexError> {
        let filter = filter_of(block)?;
        let hash = FilterHash::hash(&filter.content);
        self.header = hash.filter_header(&self.header);
        let key = row_key(block.height, &block.hash);
        let mut row = hash.to_byte_array().to_vec();
        row.extend(self.header.to_byte_array());
        batch.put(HEADERS, key.clone(), row);
        batch.put(FILTERS, key, filter.content);
        Ok(())
    }

    fn unwind(&mut self, block: &ConnectedBlock, _: &mut Batch) -> Result<(), IndexError> {
        self.header = match block.height.prev() {
            None => FilterHeader::all_zeros(),
            Some(height) => {
                let before = read_header(self.kv.as_ref(), height, &block.block.header.prev_blockhash)?;
                before.ok_or(DAMAGED)?.header
            }
        };
        Ok(())
    }
}

/// Hash and header of a block's filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterRow {
    /// The filter's hash.
    pub hash: FilterHash,
    /// The header that commits to it and to all filters before.
    pub header: FilterHeader,
}

/// Reads filters.
#[derive(Clone)]
pub struct FilterIndex {
    kv: Arc<dyn Kv>,
    handle: IndexHandle,
}

impl std::fmt::Debug for FilterIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.handle.fmt(f)
    }
}

impl FilterIndex {
    pub(crate) fn new(kv: Arc<dyn Kv>, handle: IndexHandle) -> Self {
        Self { kv, handle }
    }

    /// How far it is.
    #[must_use]
    pub fn handle(&self) -> &IndexHandle {
        &self.handle
    }

    /// Hash and header of a block's filter. Reads the database: not for a runtime's worker.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn header(&self, height: Height, hash: &BlockHash) -> Result<Option<FilterRow>, IndexError> {
        read_header(self.kv.as_ref(), height, hash)
    }

    /// A block's filter. Reads the database: not for a runtime's worker.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn filter(&self, height: Height, hash: &BlockHash) -> Result<Option<BlockFilter>, IndexError> {
        Ok(self.kv.get(FILTERS, &row_key(height, hash))?.map(|content| BlockFilter { content }))
    }
}

impl BlockFilterRead for FilterIndex {
    fn filter(&self, height: Height, hash: &BlockHash) -> Option<Vec<u8>> {
        Self::filter(self, height, hash).ok().flatten().map(|filter| filter.content)
    }

    fn filter_header(&self, height: Height, hash: &BlockHash) -> Option<(FilterHash, FilterHeader)> {
        self.header(height, hash).ok().flatten().map(|row| (row.hash, row.header))
    }
}

#[cfg(test)]
#[path = "filters_tests.rs"]
mod tests;
