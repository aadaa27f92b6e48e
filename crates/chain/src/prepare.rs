use std::sync::Arc;

use bitcoin::Block;
use bitcoin::consensus::encode;
use ironpeer_consensus::{BlockIds, CheckBlock, Params, check_block_with, decode_block};
use ironpeer_primitives::BlockReject;
use ironpeer_store::FilePos;

/// A block after everything that can be done without the chain: hashed, and checked on its own.
/// Made on the pool, many at a time.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub block: Arc<Block>,
    pub ids: BlockIds,
    /// Core's `CheckBlock`.
    pub check: Result<(), BlockReject>,
    /// Serialized bytes.
    pub size: usize,
    /// Where its bytes are stored already, when block files are read again.
    pub position: Option<FilePos>,
}

impl Prepared {
    pub(crate) fn new(block: Arc<Block>, params: &Params) -> Self {
        let ids = BlockIds::of(&block);
        let check = check_block_with(&block, &ids, params, CheckBlock::ALL);
        Self { size: block.total_size(), check, ids, block, position: None }
    }

    /// A block from the bytes of a file; `None` if they are no block.
    pub(crate) fn decode(bytes: &[u8], position: Option<FilePos>, params: &Params) -> Option<Self> {
        let block = decode_block(bytes).ok()?;
        Some(Self { position, ..Self::new(Arc::new(block), params) })
    }

    pub(crate) fn serialize(&self) -> Vec<u8> {
        encode::serialize(self.block.as_ref())
    }
}
