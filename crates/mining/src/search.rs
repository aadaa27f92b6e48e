use std::sync::Arc;

use bitcoin::Block;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::pow::{SearchEnd, Tries, Work};
use crate::template::Template;

/// What a search is told.
pub(crate) struct SearchJob {
    pub(crate) template: Arc<Template>,
    pub(crate) tries: Arc<Tries>,
    /// Stops the search within a batch.
    pub(crate) cancel: CancellationToken,
    pub(crate) threads: usize,
    /// Last nonce of each extra nonce's space; less than all of them in tests only.
    pub(crate) last_nonce: u32,
}

/// How a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Searched {
    Found(Box<Block>),
    OutOfTries,
    Cancelled,
}

/// Threads hashing one template.
pub(crate) struct RunningSearch {
    ends: mpsc::Receiver<Searched>,
}

/// Starts the threads of a search. They are the search's own: hashing has no place on runtime
/// workers, nor on the pool that verifies blocks.
pub(crate) fn start(job: SearchJob) -> std::io::Result<RunningSearch> {
    let threads = job.threads.max(1);
    let (sender, ends) = mpsc::channel(threads);
    let found = CancellationToken::new();
    let job = Arc::new(job);
    for first in 0..threads {
        let (job, sender, found) = (Arc::clone(&job), sender.clone(), found.clone());
        std::thread::Builder::new().name(format!("mine.{first}")).spawn(move || {
            let end = search(&job, first as u64, threads as u64, &found);
            if matches!(end, Searched::Found(_)) {
                found.cancel();
            }
            // There is a place for each thread's answer; nobody listening is no loss.
            let _ = sender.try_send(end);
        })?;
    }
    Ok(RunningSearch { ends })
}

/// Works through every `step`th extra nonce from `first` on.
fn search(job: &SearchJob, first: u64, step: u64, found: &CancellationToken) -> Searched {
    let cancelled = || job.cancel.is_cancelled() || found.is_cancelled();
    let mut template = Template::clone(&job.template);
    let mut extra_nonce = first;
    loop {
        if extra_nonce > 0 {
            template.set_extra_nonce(extra_nonce);
        }
        // Bits without a target cannot be met.
        let Some(work) = Work::new(&template.block.header) else { return Searched::Cancelled };
        match work.search(0, job.last_nonce, &job.tries, cancelled) {
            SearchEnd::Found(nonce) => {
                template.block.header.nonce = nonce;
                return Searched::Found(Box::new(template.block));
            }
            SearchEnd::Exhausted => extra_nonce = extra_nonce.saturating_add(step),
            SearchEnd::OutOfTries => return Searched::OutOfTries,
            SearchEnd::Cancelled => return Searched::Cancelled,
        }
    }
}

impl RunningSearch {
    /// Waits until every thread has ended. Cancel-safe: an answer already taken is only dropped
    /// together with the search. `None` if a thread died without an answer and none was found.
    pub(crate) async fn ended(&mut self, best: &mut Option<Searched>) {
        while let Some(end) = self.ends.recv().await {
            let better = match (&end, &best) {
                (_, Some(Searched::Found(_))) => false,
                (Searched::Found(_), _) | (_, None) => true,
                (Searched::OutOfTries, _) => true,
                (Searched::Cancelled, _) => false,
            };
            if better {
                *best = Some(end);
            }
        }
    }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
