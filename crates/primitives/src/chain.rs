use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::{Block, BlockHash, Work};

use crate::{BlockUndo, Height, UnixTime};

/// What the header tree knows of one header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderInfo {
    /// The header's hash.
    pub hash: BlockHash,
    /// The 80 bytes themselves.
    pub header: Header,
    /// Distance from genesis.
    pub height: Height,
    /// Work of the whole chain up to and including this header.
    pub chainwork: Work,
    /// Median time of this header and its ten ancestors (BIP113).
    pub median_time_past: UnixTime,
    /// Transactions in the block; 0 while its body is unknown.
    pub tx_count: u32,
    /// The block's bytes are stored.
    pub has_data: bool,
    /// It, or an ancestor, was found invalid.
    pub failed: bool,
    /// All rules up to scripts were found kept (Core's `BLOCK_VALID_SCRIPTS`).
    pub fully_valid: bool,
    /// It lies on the active chain.
    pub active: bool,
}

/// A reader's front on headers and the active chain. Never waits for validation.
pub trait ChainRead {
    /// The active chain's last block.
    fn tip(&self) -> HeaderInfo;

    /// The header with the most work that is not known to be invalid.
    fn best_header(&self) -> HeaderInfo;

    /// A header by its hash.
    fn header(&self, hash: &BlockHash) -> Option<HeaderInfo>;

    /// The active chain's block at a height.
    fn active_at(&self, height: Height) -> Option<HeaderInfo>;

    /// The ancestor at `height` of the header `of` (itself, if the heights are equal).
    fn ancestor(&self, of: &BlockHash, height: Height) -> Option<HeaderInfo>;

    /// Hashes from `from` back to genesis: the last ten, then ever wider steps (Core's
    /// `LocatorEntries`).
    fn locator(&self, from: &BlockHash) -> Vec<BlockHash>;

    /// The first locator entry that is on the active chain (or whose tip descends from it), or
    /// genesis (Core's `FindForkInGlobalIndex`).
    fn find_fork(&self, locator: &[BlockHash]) -> HeaderInfo;

    /// Whether the node is still in initial block download. Latches to false.
    fn is_initial_block_download(&self) -> bool;

    /// Least chainwork of a chain worth following (`-minimumchainwork`).
    fn minimum_chainwork(&self) -> Work;
}

/// A block as the chain connected (or disconnected) it, with the coins it spent.
#[derive(Clone, Debug)]
pub struct ConnectedBlock {
    /// The block's hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: Height,
    /// The block.
    pub block: Arc<Block>,
    /// The coins its transactions spent, one list a transaction, the coinbase left out.
    pub spent: Arc<BlockUndo>,
}

/// One change of the active chain's tip.
#[derive(Clone, Debug)]
pub struct ChainEvent {
    /// Counts up by one with every event of a run.
    pub seq: u64,
    /// Blocks taken off, the former tip first.
    pub disconnected: Vec<Arc<ConnectedBlock>>,
    /// Blocks put on, in rising height.
    pub connected: Vec<Arc<ConnectedBlock>>,
}

impl ChainEvent {
    /// The blocks put on, each with whether it was a tip of its own: one that brought the chain to
    /// more work than before the event, or the last. A reorganisation shows its new branch once it
    /// is the better one (Core's `ActivateBestChainStep`).
    pub fn connected_with_tips(&self) -> impl Iterator<Item = (&ConnectedBlock, bool)> {
        let work = |block: &Arc<ConnectedBlock>| block.block.header.work();
        let lost = self.disconnected.iter().map(work).reduce(|sum, work| sum + work);
        let last = self.connected.len();
        self.connected.iter().enumerate().scan(None::<Work>, move |gained, (index, block)| {
            let sum = gained.map_or_else(|| work(block), |gained| gained + work(block));
            *gained = Some(sum);
            Some((&**block, index + 1 == last || lost.is_none_or(|lost| sum > lost)))
        })
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
