use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam_channel::{Receiver, bounded};
use rayon::ThreadPool;

/// Runs `work` on the pool. The receiver is disconnected if it panics: rayon would otherwise
/// abort the process.
pub(crate) fn run<T: Send + 'static>(
    pool: &ThreadPool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Receiver<T> {
    let (send, receive) = bounded(1);
    pool.spawn(move || {
        if let Ok(result) = catch_unwind(AssertUnwindSafe(work)) {
            // The caller may have lost interest.
            let _ = send.send(result);
        }
    });
    receive
}
