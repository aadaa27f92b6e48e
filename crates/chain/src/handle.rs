use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bitcoin::block::Header;
use bitcoin::{Block, BlockHash};
use ironpeer_primitives::{BlockReject, HeaderInfo, Height};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::command::{Command, Envelope};
use crate::events::ChainFollower;
use crate::import::{self, ImportError, ImportStats};
use crate::limits;
use crate::pool;
use crate::prepare::Prepared;
use crate::utxo_info::{UtxoHashKind, UtxoSetInfo};
use crate::verify::VerifyError;
use crate::view::{ChainView, ChainWarnings, Shared};

/// The chain has stopped: it was told to, or something broke (see [`ChainHandle::fatal`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chain has stopped")]
pub struct ChainStopped;

/// How a submitted block is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubmitOptions {
    /// We asked for it: take it whatever its work and height (Core's `force_processing`).
    pub force_processing: bool,
    /// Its chain has been seen to have enough work for its header to be kept.
    pub min_pow_checked: bool,
}

impl SubmitOptions {
    /// A block we made or asked for.
    pub const WANTED: Self = Self { force_processing: true, min_pow_checked: true };
}

/// What became of a submitted block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockOutcome {
    /// Its hash.
    pub hash: BlockHash,
    /// Its body was not stored before and is now (Core's `new_block`).
    pub new: bool,
    /// Its verdict was reached in this call: it was refused, or it was connected (Core's
    /// `BlockChecked` signal came). Else it waits on a branch, or was ignored.
    pub checked: bool,
    /// The refusal, if there was one.
    pub result: Result<(), BlockReject>,
    /// Its header, if that is in the tree.
    pub header: Option<HeaderInfo>,
    /// Blocks stored earlier that were found invalid in this call: its ancestors, mostly, which
    /// are checked only once a branch has the most work. Who sent them is to blame.
    pub others_refused: Vec<(BlockHash, BlockReject)>,
}

/// A header that was refused; those before it in the message are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderFailure {
    /// Its place in the list.
    pub index: usize,
    /// Why.
    pub reject: BlockReject,
}

/// What became of a list of headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadersOutcome {
    /// The last one accepted (or known before).
    pub last: Option<HeaderInfo>,
    /// The first one refused, where the list was left.
    pub refused: Option<HeaderFailure>,
}

/// Why a block could not be marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// No such header.
    #[error("Block not found")]
    UnknownBlock,
    /// The genesis block is always valid.
    #[error("the genesis block cannot be invalidated")]
    Genesis,
    /// See [`ChainStopped`].
    #[error(transparent)]
    Stopped(#[from] ChainStopped),
}

/// The front of the chain: cheap to clone, usable from any task or thread.
///
/// Every method that changes something waits until the single writer has done it. Once a command
/// has been handed over it is carried out even if the caller goes away. The `_blocking` twins are
/// for plain threads and must not be called on a runtime worker.
#[derive(Clone)]
pub struct ChainHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: crossbeam_channel::Sender<Envelope>,
    pub(crate) queue_space: Arc<Semaphore>,
    pub(crate) pool: Arc<rayon::ThreadPool>,
}

/// Kibibytes of queue a command takes that is this long when serialized.
fn queue_cost(bytes: usize) -> u32 {
    let bytes = bytes.saturating_mul(limits::DECODED_BYTES_PER_BYTE);
    let bytes = bytes.clamp(limits::COMMAND_MIN_BYTES, limits::COMMAND_QUEUE_BYTES);
    u32::try_from(bytes >> 10).unwrap_or(u32::MAX)
}

impl ChainHandle {
    /// The readers' front.
    #[must_use]
    pub fn view(&self) -> ChainView {
        ChainView::new(Arc::clone(&self.shared))
    }

    /// A follower of tip changes from now on, and the tip its first event starts from.
    #[must_use]
    pub fn events(&self) -> (ChainFollower, HeaderInfo) {
        ChainFollower::new(Arc::clone(&self.shared.ring))
    }

    /// Becomes `Some(message)` once the chain can no longer go on (a failed write, a panic): the
    /// node must exit with an error.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.shared.fatal.subscribe()
    }

    /// Becomes true when the tip reached `-stopatheight`.
    #[must_use]
    pub fn stop_requested(&self) -> watch::Receiver<bool> {
        self.shared.stop_requested.subscribe()
    }

    /// What the chain warns its operator of, now and whenever it changes.
    #[must_use]
    pub fn warnings(&self) -> watch::Receiver<ChainWarnings> {
        self.shared.warnings.subscribe()
    }

    /// Waits for room in the queue, then hands over what `make` builds around the reply channel.
    async fn call<T>(
        &self,
        bytes: usize,
        make: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, ChainStopped> {
        let space = Arc::clone(&self.queue_space);
        let space = space.acquire_many_owned(queue_cost(bytes)).await.map_err(|_| ChainStopped)?;
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Envelope { command: make(reply), _space: Some(space) })
            .map_err(|_| ChainStopped)?;
        answer.await.map_err(|_| ChainStopped)
    }

    /// Checks, stores and, if its chain has the most work, connects a block (Core's
    /// `ProcessNewBlock`). The context-free checks run on the pool, many blocks at a time; the
    /// writer takes the blocks in the order in which these calls were first polled.
    ///
    /// # Errors
    /// Only if the chain has stopped; a refused block is in the outcome.
    pub async fn submit_block(
        &self,
        block: Arc<Block>,
        options: SubmitOptions,
    ) -> Result<BlockOutcome, ChainStopped> {
        let bytes = block.total_size();
        let space = Arc::clone(&self.queue_space);
        let space = space.acquire_many_owned(queue_cost(bytes)).await.map_err(|_| ChainStopped)?;
        let (reply, answer) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let block = pool::run(&self.pool, move || Box::new(Prepared::new(block, &shared.params)));
        let command = Command::SubmitBlock { block, options, reply };
        self.commands.send(Envelope { command, _space: Some(space) }).map_err(|_| ChainStopped)?;
        answer.await.map_err(|_| ChainStopped)
    }

    /// Adds headers to the tree, each building on the one before or on a known one (Core's
    /// `ProcessNewBlockHeaders`). Without `min_pow_checked` unknown ones are refused.
    ///
    /// # Errors
    /// Only if the chain has stopped; a refused header is in the outcome.
    pub async fn submit_headers(
        &self,
        headers: Vec<Header>,
        min_pow_checked: bool,
    ) -> Result<HeadersOutcome, ChainStopped> {
        self.call(headers.len() * 80, |reply| Command::SubmitHeaders { headers, min_pow_checked, reply })
            .await
    }

    /// Marks a block and its descendants invalid and activates the best chain without them.
    ///
    /// # Errors
    /// If the block is unknown or the genesis block, or the chain has stopped.
    pub async fn invalidate(&self, hash: BlockHash) -> Result<(), MarkError> {
        self.call(0, |reply| Command::Invalidate { hash, reply }).await?
    }

    /// Takes back every invalid mark on a block, its ancestors and descendants, and activates the
    /// best chain.
    ///
    /// # Errors
    /// If the block is unknown, or the chain has stopped.
    pub async fn reconsider(&self, hash: BlockHash) -> Result<(), MarkError> {
        self.call(0, |reply| Command::Reconsider { hash, reply }).await?
    }

    /// Treats a block as if it had come before all others of the same work.
    ///
    /// # Errors
    /// If the block is unknown, or the chain has stopped.
    pub async fn precious(&self, hash: BlockHash) -> Result<(), MarkError> {
        self.call(0, |reply| Command::Precious { hash, reply }).await?
    }

    /// Checks a block that would be the next, without storing it and without its proof of work
    /// (Core's `TestBlockValidity`).
    ///
    /// # Errors
    /// If the chain has stopped; a refusal is in the inner result.
    pub async fn test_block_validity(&self, block: Block) -> Result<Result<(), BlockReject>, ChainStopped> {
        self.call(block.total_size(), |reply| Command::TestBlock { block: Box::new(block), reply }).await
    }

    /// Counts and hashes the whole coin set as of the tip. Flushes first; the scan itself runs on
    /// a thread of its own and does not hold up the writer.
    ///
    /// # Errors
    /// If the chain has stopped.
    pub async fn utxo_set_info(&self, kind: UtxoHashKind) -> Result<UtxoSetInfo, ChainStopped> {
        let scan = self.call(0, |reply| Command::ScanCoins { reply }).await?;
        let (reply, answer) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new()
            .name("coin-scan".into())
            .spawn(move || {
                match scan.info(kind) {
                    Ok(info) => {
                        // The caller may have lost interest.
                        let _ = reply.send(info);
                    }
                    Err(error) => shared.fail(format!("Error reading from database: {error}")),
                }
            })
            .map_err(|_| ChainStopped)?;
        answer.await.map_err(|_| ChainStopped)
    }

    /// A consistent picture of all coins as of the tip, to be walked over on the caller's thread.
    /// Flushes first.
    ///
    /// # Errors
    /// If the chain has stopped.
    pub async fn coin_scan(&self) -> Result<crate::utxo_info::CoinScan, ChainStopped> {
        self.call(0, |reply| Command::ScanCoins { reply }).await
    }

    /// Checks the last `depth` blocks again (Core's `verifychain`).
    ///
    /// # Errors
    /// If the chain has stopped; what was found wrong is in the inner result.
    pub async fn verify(&self, level: u8, depth: u32) -> Result<Result<(), VerifyError>, ChainStopped> {
        self.call(0, |reply| Command::Verify { level, depth, reply }).await
    }

    /// Deletes block files whose blocks are all at or below `up_to` and deep enough
    /// (`pruneblockchain`); without a height, those that are too many for the target of `-prune`.
    /// Does nothing in a chain that is not pruned.
    ///
    /// # Errors
    /// If the chain has stopped.
    pub async fn prune(&self, up_to: Option<Height>) -> Result<(), ChainStopped> {
        self.call(0, |reply| Command::Prune { up_to, reply }).await
    }

    /// Writes everything to disk, coins included.
    ///
    /// # Errors
    /// If the chain has stopped.
    pub async fn flush(&self) -> Result<(), ChainStopped> {
        self.call(0, |reply| Command::Flush { reply }).await
    }

    /// Flushes and ends the writer. Later calls fail with [`ChainStopped`]. A long activation under
    /// way ends between two blocks; what it leaves is taken up at the next start.
    ///
    /// # Errors
    /// If it had stopped already.
    pub async fn shutdown(&self) -> Result<(), ChainStopped> {
        self.shared.stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        self.call(0, |reply| Command::Shutdown { reply }).await
    }

    /// Reads a block file from elsewhere (`-loadblock`): Core's `blk*.dat`, or blocks in the same
    /// framing in any order (`bootstrap.dat`).
    ///
    /// # Errors
    /// If the file cannot be read or the chain has stopped. Bad blocks in it are skipped.
    pub async fn import(&self, path: &Path) -> Result<ImportStats, ImportError> {
        let path = path.to_owned();
        self.on_thread("loadblk", move |handle| import::from_file(handle, &path)).await
    }

    /// Rebuilds the block index from the block files, if [`ChainView::reindexing`] says so.
    ///
    /// # Errors
    /// If a file cannot be read or the chain has stopped.
    pub async fn reindex(&self) -> Result<ImportStats, ImportError> {
        self.on_thread("loadblk", import::reindex).await
    }

    /// Connects blocks that were stored but not yet connected (Core does this after imports).
    ///
    /// # Errors
    /// If the chain has stopped.
    pub async fn activate_best_chain(&self) -> Result<(), ChainStopped> {
        self.call(0, |reply| Command::Activate { reply }).await
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Self) -> Result<T, ImportError> + Send + 'static,
    ) -> Result<T, ImportError> {
        let (reply, answer) = oneshot::channel();
        let handle = self.clone();
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                // The caller may have lost interest.
                let _ = reply.send(work(&handle));
            })
            .map_err(ImportError::Io)?;
        answer.await.unwrap_or(Err(ImportError::Stopped(ChainStopped)))
    }

    pub(crate) fn import_blocks(
        &self,
        blocks: Vec<Prepared>,
    ) -> Result<oneshot::Receiver<usize>, ChainStopped> {
        let bytes = blocks.iter().map(|block| block.size).sum();
        let space = Arc::clone(&self.queue_space);
        let space = block_on(space.acquire_many_owned(queue_cost(bytes))).map_err(|_| ChainStopped)?;
        let (reply, answer) = oneshot::channel();
        let command = Command::Import { blocks, reply };
        self.commands.send(Envelope { command, _space: Some(space) }).map_err(|_| ChainStopped)?;
        Ok(answer)
    }

    pub(crate) fn import_begins(&self) -> Result<(), ChainStopped> {
        block_on(self.call(0, |reply| Command::ImportBegins { reply }))
    }

    pub(crate) fn import_ends(&self, reindexed: bool) -> Result<(), ChainStopped> {
        block_on(self.call(0, |reply| Command::ImportEnds { reindexed, reply }))
    }

    /// [`submit_block`](Self::submit_block) for plain threads.
    ///
    /// # Errors
    /// As there.
    pub fn submit_block_blocking(
        &self,
        block: Arc<Block>,
        options: SubmitOptions,
    ) -> Result<BlockOutcome, ChainStopped> {
        block_on(self.submit_block(block, options))
    }

    /// [`submit_headers`](Self::submit_headers) for plain threads.
    ///
    /// # Errors
    /// As there.
    pub fn submit_headers_blocking(
        &self,
        headers: Vec<Header>,
        min_pow_checked: bool,
    ) -> Result<HeadersOutcome, ChainStopped> {
        block_on(self.submit_headers(headers, min_pow_checked))
    }

    /// [`invalidate`](Self::invalidate) for plain threads.
    ///
    /// # Errors
    /// As there.
    pub fn invalidate_blocking(&self, hash: BlockHash) -> Result<(), MarkError> {
        block_on(self.invalidate(hash))
    }

    /// [`reconsider`](Self::reconsider) for plain threads.
    ///
    /// # Errors
    /// As there.
    pub fn reconsider_blocking(&self, hash: BlockHash) -> Result<(), MarkError> {
        block_on(self.reconsider(hash))
    }

    /// [`precious`](Self::precious) for plain threads.
    ///
    /// # Errors
    /// As there.
    pub fn precious_blocking(&self, hash: BlockHash) -> Result<(), MarkError> {
        block_on(self.precious(hash))
    }

    /// [`test_block_validity`](Self::test_block_validity) for plain threads.
    ///
    /// # Errors
    /// As there.
    pub fn test_block_validity_blocking(
        &self,
        block: Block,
    ) -> Result<Result<(), BlockReject>, ChainStopped> {
        block_on(self.test_block_validity(block))
    }

    /// [`utxo_set_info`](Self::utxo_set_info) for plain threads.
    ///
    /// # Errors
    /// As there.
    pub fn utxo_set_info_blocking(&self, kind: UtxoHashKind) -> Result<UtxoSetInfo, ChainStopped> {
        block_on(self.utxo_set_info(kind))
    }

    /// [`import`](Self::import) for plain threads.
    ///
    /// # Errors
    /// As there.
    pub fn import_blocking(&self, path: &Path) -> Result<ImportStats, ImportError> {
        import::from_file(self, path)
    }

    /// [`reindex`](Self::reindex) for plain threads.
    ///
    /// # Errors
    /// As there.
    pub fn reindex_blocking(&self) -> Result<ImportStats, ImportError> {
        import::reindex(self)
    }

    /// [`verify`](Self::verify) for plain threads.
    ///
    /// # Errors
    /// As there.
    pub fn verify_blocking(&self, level: u8, depth: u32) -> Result<Result<(), VerifyError>, ChainStopped> {
        block_on(self.verify(level, depth))
    }

    /// [`prune`](Self::prune) for plain threads.
    ///
    /// # Errors
    /// As there.
    pub fn prune_blocking(&self, up_to: Option<Height>) -> Result<(), ChainStopped> {
        block_on(self.prune(up_to))
    }

    /// [`flush`](Self::flush) for plain threads.
    ///
    /// # Errors
    /// As there.
    pub fn flush_blocking(&self) -> Result<(), ChainStopped> {
        block_on(self.flush())
    }

    /// [`shutdown`](Self::shutdown) for plain threads.
    ///
    /// # Errors
    /// As there.
    pub fn shutdown_blocking(&self) -> Result<(), ChainStopped> {
        block_on(self.shutdown())
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future on the calling thread. The futures here wait on channels only, which need no
/// runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
