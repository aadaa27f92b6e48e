//! The synchronous half of an index: blocks in, batches of rows out.

use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use ironpeer_primitives::{ConnectedBlock, Height};
use ironpeer_store::{Batch, Durability, Kv, KvRead, Space, StoreError};

use crate::limits::BATCH_BYTES;

/// Where the checkpoint and what else there is one of are kept.
pub(crate) const META: Space = Space(0);
/// The last block whose rows are there.
const TIP_KEY: &[u8] = b"tip";
/// What an index keeps in memory between two blocks.
const STATE_KEY: &[u8] = b"state";

/// A block and its height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Its hash.
    pub hash: BlockHash,
    /// Its distance from genesis.
    pub height: Height,
}

/// Why an index cannot go on. The texts are Core's where it has one.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A block is not stored.
    #[error("Failed to read block {0} from disk")]
    NoBlock(BlockHash),
    /// What a block spent is not stored.
    #[error("Failed to read undo block data {0} from disk")]
    NoUndo(BlockHash),
    /// The block to start from is not known to the chain.
    #[error("best block of {0} not found. Please rebuild the index.")]
    Lost(&'static str),
    /// The blocks to start from are pruned.
    #[error(
        "{0} best block of the index goes beyond pruned data (including undo data). Please disable the index or reindex (which will download the whole blockchain again)"
    )]
    Pruned(&'static str),
    /// The rows contradict themselves.
    #[error("{name} is damaged ({what}). Please delete its folder below indexes/; it is built anew then.")]
    Damaged {
        /// The index.
        name: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// The disk or database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What turns blocks into one kind of rows. It reads neither clock nor chain.
pub(crate) trait IndexCore: Send {
    /// Core's name, in logs and `getindexinfo`.
    fn name(&self) -> &'static str;

    /// Whether it looks at what a block spent.
    fn needs_undo(&self) -> bool {
        true
    }

    /// Whether blocks that are taken off the chain stay until another is put on, as in Core's
    /// indexes.
    fn keeps_disconnected(&self) -> bool {
        true
    }

    /// Takes what an earlier run saved; nothing if there was none.
    fn restore(&mut self, _: Option<&[u8]>) -> Option<()> {
        Some(())
    }

    /// What it would have to know to go on after the blocks so far; most need nothing.
    fn state(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Adds a block's rows. Blocks come in the order of their heights, genesis first.
    fn apply(&mut self, block: &ConnectedBlock, batch: &mut Batch) -> Result<(), IndexError>;

    /// Adds what it has put off. Called before each commit.
    fn finish(&mut self, _: &mut Batch) {}

    /// Takes off the block that was applied last. All rows before it are in the database.
    fn unwind(&mut self, block: &ConnectedBlock, batch: &mut Batch) -> Result<(), IndexError>;
}

/// A core with its database: rows and checkpoint are always committed together.
pub(crate) struct IndexWriter {
    core: Box<dyn IndexCore>,
    kv: Arc<dyn Kv>,
    tip: Option<BlockRef>,
    pending: Batch,
    /// Something has changed since the last commit.
    dirty: bool,
}

fn encode_tip(tip: &BlockRef) -> Vec<u8> {
    let mut bytes = tip.hash.to_byte_array().to_vec();
    bytes.extend(tip.height.0.to_be_bytes());
    bytes
}

fn decode_tip(bytes: &[u8]) -> Option<BlockRef> {
    let (hash, height) = bytes.split_first_chunk::<32>()?;
    let height = Height(u32::from_be_bytes(height.try_into().ok()?));
    Some(BlockRef { hash: BlockHash::from_byte_array(*hash), height })
}

/// How far the rows in a database, or in a picture of one, go.
pub(crate) fn committed_tip(rows: &dyn KvRead, name: &'static str) -> Result<Option<BlockRef>, IndexError> {
    let damaged = IndexError::Damaged { name, what: "checkpoint" };
    match rows.get(META, TIP_KEY)? {
        None => Ok(None),
        Some(bytes) => decode_tip(&bytes).map(Some).ok_or(damaged),
    }
}

impl IndexWriter {
    pub(crate) fn open(mut core: Box<dyn IndexCore>, kv: Arc<dyn Kv>) -> Result<Self, IndexError> {
        let tip = committed_tip(kv.as_ref(), core.name())?;
        let state = kv.get(META, STATE_KEY)?;
        if core.restore(state.as_deref()).is_none() {
            return Err(IndexError::Damaged { name: core.name(), what: "state" });
        }
        Ok(Self { core, kv, tip, pending: Batch::new(), dirty: false })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.core.name()
    }

    pub(crate) fn needs_undo(&self) -> bool {
        self.core.needs_undo()
    }

    pub(crate) fn keeps_disconnected(&self) -> bool {
        self.core.keeps_disconnected()
    }

    /// The last block applied, committed or not.
    pub(crate) fn tip(&self) -> Option<BlockRef> {
        self.tip
    }

    /// Whether `block` is the next.
    pub(crate) fn follows(&self, block: &ConnectedBlock) -> bool {
        match self.tip {
            None => block.height == Height::GENESIS,
            Some(tip) => block.block.header.prev_blockhash == tip.hash,
        }
    }

    /// Adds a block, and commits once enough has gathered. True if it did.
    pub(crate) fn apply(&mut self, block: &ConnectedBlock) -> Result<bool, IndexError> {
        self.core.apply(block, &mut self.pending)?;
        self.dirty = true;
        self.tip = Some(BlockRef { hash: block.hash, height: block.height });
        let full = self.pending.bytes() >= BATCH_BYTES;
        if full {
            self.commit()?;
        }
        Ok(full)
    }

    /// Takes the last block off, durably before it returns.
    pub(crate) fn unwind(&mut self, block: &ConnectedBlock) -> Result<(), IndexError> {
        self.commit()?;
        self.core.unwind(block, &mut self.pending)?;
        self.dirty = true;
        self.tip =
            block.height.prev().map(|height| BlockRef { hash: block.block.header.prev_blockhash, height });
        self.commit()
    }

    /// Writes what has gathered, and how far it goes.
    pub(crate) fn commit(&mut self) -> Result<(), IndexError> {
        if !std::mem::take(&mut self.dirty) {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.pending);
        self.core.finish(&mut batch);
        match &self.tip {
            Some(tip) => batch.put(META, TIP_KEY, encode_tip(tip)),
            None => batch.delete(META, TIP_KEY),
        }
        batch.put(META, STATE_KEY, self.core.state());
        Ok(self.kv.commit(batch, Durability::Process)?)
    }

    /// Makes everything so far survive a power loss.
    pub(crate) fn sync(&self) -> Result<(), IndexError> {
        Ok(self.kv.sync()?)
    }
}
