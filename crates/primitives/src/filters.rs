use bitcoin::BlockHash;
use bitcoin::bip158::{FilterHash, FilterHeader};

use crate::Height;

/// A reader's front on the basic filters of blocks (BIP158), for those who serve them. Reads a
/// database: not for a runtime's worker.
pub trait BlockFilterRead: Send + Sync {
    /// A block's filter, if it is there.
    fn filter(&self, height: Height, hash: &BlockHash) -> Option<Vec<u8>>;

    /// Hash and header of a block's filter, if it is there.
    fn filter_header(&self, height: Height, hash: &BlockHash) -> Option<(FilterHash, FilterHeader)>;
}
