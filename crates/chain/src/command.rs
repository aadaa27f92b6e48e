use bitcoin::block::Header;
use bitcoin::{Block, BlockHash};
use crossbeam_channel::Receiver;
use ironpeer_primitives::{BlockReject, Height};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::handle::{BlockOutcome, HeadersOutcome, MarkError, SubmitOptions};
use crate::prepare::Prepared;
use crate::utxo_info::CoinScan;
use crate::verify::VerifyError;

/// What the writer is asked to do. Each carries the channel its answer goes to.
pub(crate) enum Command {
    /// A block that the pool is at work on. Commands stand in the order of their submission, so
    /// that a parent comes before its child whichever is prepared first.
    SubmitBlock {
        block: Receiver<Box<Prepared>>,
        options: SubmitOptions,
        reply: oneshot::Sender<BlockOutcome>,
    },
    SubmitHeaders {
        headers: Vec<Header>,
        min_pow_checked: bool,
        reply: oneshot::Sender<HeadersOutcome>,
    },
    Invalidate {
        hash: BlockHash,
        reply: oneshot::Sender<Result<(), MarkError>>,
    },
    Reconsider {
        hash: BlockHash,
        reply: oneshot::Sender<Result<(), MarkError>>,
    },
    Precious {
        hash: BlockHash,
        reply: oneshot::Sender<Result<(), MarkError>>,
    },
    TestBlock {
        block: Box<Block>,
        reply: oneshot::Sender<Result<(), BlockReject>>,
    },
    /// Blocks of a file, in order; the answer is how many were new.
    Import {
        blocks: Vec<Prepared>,
        reply: oneshot::Sender<usize>,
    },
    /// An import or reindex begins: until it ends the node stays in initial download.
    ImportBegins {
        reply: oneshot::Sender<()>,
    },
    /// It ended; `reindexed` if the block files were read to their end.
    ImportEnds {
        reindexed: bool,
        reply: oneshot::Sender<()>,
    },
    Activate {
        reply: oneshot::Sender<()>,
    },
    ScanCoins {
        reply: oneshot::Sender<CoinScan>,
    },
    Verify {
        level: u8,
        depth: u32,
        reply: oneshot::Sender<Result<(), VerifyError>>,
    },
    /// Deletes block files that may go: those up to a height, or as `-prune` says.
    Prune {
        up_to: Option<Height>,
        reply: oneshot::Sender<()>,
    },
    Flush {
        reply: oneshot::Sender<()>,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

/// A command and the queue space it holds until it is done.
pub(crate) struct Envelope {
    pub command: Command,
    pub _space: Option<OwnedSemaphorePermit>,
}
