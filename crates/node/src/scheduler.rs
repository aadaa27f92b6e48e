//! What is done again and again while the node runs (Core's `CScheduler`): fee estimates are
//! written to disk, and own transactions that no peer has asked for are announced anew.
//! `mockscheduler` brings the next of both nearer.

use std::path::PathBuf;
use std::time::Duration;

use ironpeer_api::Forward;
use ironpeer_mempool::{MempoolHandle, limits};
use ironpeer_peer::PeerHandle;
use rand::Rng;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Callers of `mockscheduler` that may wait at a time.
pub const FORWARD_BACKLOG: usize = 8;

/// What the jobs need.
pub struct Scheduler {
    /// The mempool, with what is estimated and what is yet to be asked for.
    pub mempool: MempoolHandle,
    /// Who is told.
    pub peers: PeerHandle,
    /// `fee_estimates.dat`, if it is kept.
    pub fee_file: Option<PathBuf>,
}

/// When each job is due, on the scheduler's own time.
struct Due {
    fees: Duration,
    announcements: Duration,
}

impl Scheduler {
    /// Runs jobs until the node stops; a job begun is finished.
    pub async fn run(self, mut forwards: mpsc::Receiver<Forward>, shutdown: CancellationToken) {
        let start = Instant::now();
        let mut ahead = Duration::ZERO;
        let mut due = Due { fees: limits::FEE_FLUSH_INTERVAL, announcements: announcement_delay() };
        loop {
            let next = start + due.fees.min(due.announcements).saturating_sub(ahead);
            let forward = tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(next) => None,
                forward = forwards.recv() => match forward {
                    Some(forward) => Some(forward),
                    // The interfaces are gone, so the node is stopping.
                    None => return,
                },
            };
            if let Some(forward) = &forward {
                ahead = ahead.saturating_add(forward.by);
            }
            let now = start.elapsed().saturating_add(ahead);
            if due.fees <= now {
                if let Some(path) = &self.fee_file {
                    self.mempool.save_fee_estimates(path, false).await;
                }
                due.fees = now.saturating_add(limits::FEE_FLUSH_INTERVAL);
            }
            if due.announcements <= now {
                for (txid, wtxid) in self.mempool.unbroadcast() {
                    self.peers.announce_tx(txid, wtxid);
                }
                due.announcements = now.saturating_add(announcement_delay());
            }
            if let Some(forward) = forward {
                // The caller may have gone.
                let _ = forward.done.send(());
            }
        }
    }
}

/// Never the same twice, so that a node is not known by its rhythm.
fn announcement_delay() -> Duration {
    let spread = u64::try_from(limits::REANNOUNCE_SPREAD.as_millis()).unwrap_or(0);
    limits::REANNOUNCE_LEAST + Duration::from_millis(rand::thread_rng().gen_range(0..=spread))
}
