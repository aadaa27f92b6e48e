//! Blocks that a peer was asked for, on their way through the chain. The connection's reader hands
//! them over and takes in the next one, so that a peer is never idle because a block is being
//! connected; what became of them is told to the protocol machine in the order they came.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bitcoin::Block;
use futures::FutureExt;
use tokio::sync::watch;

use crate::limits;
use crate::shell::{Peer, Shell};

/// One peer's blocks that are not answered for yet.
#[derive(Debug)]
pub(crate) struct Downloads {
    handed_over: AtomicU64,
    answered: watch::Sender<u64>,
}

impl Downloads {
    pub(crate) fn new() -> Self {
        Self { handed_over: AtomicU64::new(0), answered: watch::Sender::new(0) }
    }

    /// Takes the next place in the row.
    fn join(self: &Arc<Self>) -> Place {
        Place { number: self.handed_over.fetch_add(1, Ordering::Relaxed), downloads: Arc::clone(self) }
    }

    async fn answered(&self, count: u64) {
        // Fails only with the sender, which is here.
        let _ = self.answered.subscribe().wait_for(|answered| *answered >= count).await;
    }

    /// Waits until every block handed over so far is answered for.
    pub(crate) async fn idle(&self) {
        self.answered(self.handed_over.load(Ordering::Relaxed)).await;
    }
}

/// A block's place in the row. Dropping it lets the next one have its turn.
struct Place {
    number: u64,
    downloads: Arc<Downloads>,
}

impl Place {
    /// Waits until all before it are answered for.
    async fn turn(&self) {
        self.downloads.answered(self.number).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let done = self.number + 1;
        self.downloads.answered.send_modify(|answered| *answered = (*answered).max(done));
    }
}

/// Kibibytes of the common queue a block takes.
fn queue_cost(bytes: usize) -> u32 {
    let bytes = bytes.clamp(limits::DOWNLOAD_MIN_BYTES, limits::DOWNLOAD_QUEUE_BYTES);
    u32::try_from(bytes / 1024).unwrap_or(u32::MAX)
}

impl Shell {
    /// Waits for room in the queue, then gives a block to the chain without waiting for its
    /// verdict.
    pub(crate) async fn queue_download(
        self: &Arc<Self>,
        peer: Arc<Peer>,
        block: Arc<Block>,
        force: bool,
        min_pow_checked: bool,
    ) {
        let space = Arc::clone(&self.download_space).acquire_many_owned(queue_cost(block.total_size())).await;
        let shell = Arc::clone(self);
        let place = peer.downloads.join();
        self.tracker.spawn(async move {
            let work = async {
                let hash = block.block_hash();
                let answer = shell.rooms.submit_block(block, force, min_pow_checked).await;
                place.turn().await;
                let actions = shell.block_answered(peer.id, hash, answer).await;
                shell.carry_out_boxed(actions).await;
            };
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                shell.note_panic(&format!("a block of peer={}", peer.id));
                peer.stop.cancel();
            }
            drop((place, space));
        });
    }
}

#[cfg(test)]
#[path = "downloads_tests.rs"]
mod tests;
