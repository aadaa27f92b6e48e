//! The writer thread: one command after the other, blocks in small batches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use ironpeer_store::{Batch, Durability};
use tokio::sync::oneshot;

use crate::command::{Command, Envelope};
use crate::core::{Core, Fatal};
use crate::flush::{INDEX_META, REINDEX_KEY};
use crate::handle::BlockOutcome;
use crate::limits;
use crate::open::OpenError;

/// The running writer. Dropping it does not stop it: [`ChainHandle::shutdown`] does, or dropping
/// every handle.
///
/// [`ChainHandle::shutdown`]: crate::ChainHandle::shutdown
#[derive(Debug)]
pub struct ChainThread {
    thread: JoinHandle<()>,
}

impl ChainThread {
    pub(crate) fn start(core: Core, queue: Receiver<Envelope>) -> Result<Self, OpenError> {
        let run = move || {
            let shared = std::sync::Arc::clone(&core.shared);
            let ended = catch_unwind(AssertUnwindSafe(|| run(core, &queue)));
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(Fatal(message))) => shared.fail(message),
                Err(_) => shared.fail("Internal error: the chain writer panicked".into()),
            }
            shared.ring.close();
        };
        let thread = std::thread::Builder::new().name("chain".into()).spawn(run);
        Ok(Self {
            thread: thread.map_err(|error| OpenError::Failed(format!("cannot start a thread: {error}")))?,
        })
    }

    /// Waits until the writer has ended.
    pub fn join(self) {
        // Its panics were caught and told by `ChainHandle::fatal`.
        let _ = self.thread.join();
    }
}

fn run(mut core: Core, queue: &Receiver<Envelope>) -> Result<(), Fatal> {
    if !core.shared.reindexing.load(Ordering::Relaxed) {
        core.activate_best_chain()?;
        core.fresh.clear();
        core.verdicts.clear();
    }
    let mut next = None;
    loop {
        let envelope = match next.take() {
            Some(envelope) => envelope,
            None => match wait(&mut core, queue)? {
                Some(envelope) => envelope,
                None => return core.flush_all(),
            },
        };
        if let Command::SubmitBlock { .. } = envelope.command {
            next = submit(&mut core, envelope, queue)?;
        } else if !handle(&mut core, envelope.command)? {
            return Ok(());
        }
        if core.shared.failed() {
            return Err(Fatal(String::new()));
        }
        core.tick()?;
    }
}

/// The next command; `None` when all handles are gone. Meanwhile does what is due by the clock.
fn wait(core: &mut Core, queue: &Receiver<Envelope>) -> Result<Option<Envelope>, Fatal> {
    loop {
        match queue.try_recv() {
            Ok(envelope) => return Ok(Some(envelope)),
            Err(TryRecvError::Disconnected) => return Ok(None),
            Err(TryRecvError::Empty) => {}
        }
        let limit = if core.unsynced { limits::SYNC_INTERVAL } else { limits::IDLE_INTERVAL };
        match queue.recv_timeout(limit) {
            Ok(envelope) => return Ok(Some(envelope)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => core.tick()?,
        }
    }
}

/// Answers a caller; it may have lost interest.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    let _ = reply.send(value);
}

/// Takes the blocks that wait at the head of the queue, and returns what came after them.
fn submit(core: &mut Core, first: Envelope, queue: &Receiver<Envelope>) -> Result<Option<Envelope>, Fatal> {
    let mut blocks = Vec::new();
    let mut replies: Vec<oneshot::Sender<BlockOutcome>> = Vec::new();
    let mut held = Vec::new();
    let mut next = Some(first);
    while let Some(Envelope { command, _space: space }) = next.take() {
        match command {
            Command::SubmitBlock { block, options, reply } => {
                // No block comes if preparing it panicked; the caller hears it from the reply
                // channel, which is dropped here.
                if let Ok(block) = block.recv() {
                    blocks.push((block, options));
                    replies.push(reply);
                    held.push(space);
                }
            }
            command => {
                next = Some(Envelope { command, _space: space });
                break;
            }
        }
        if blocks.len() < limits::SUBMIT_BATCH {
            next = queue.try_recv().ok();
        }
    }
    let outcomes = core.submit_blocks(blocks)?;
    for (reply, outcome) in replies.into_iter().zip(outcomes) {
        answer(reply, outcome);
    }
    Ok(next)
}

/// Does one command; false ends the writer.
fn handle(core: &mut Core, command: Command) -> Result<bool, Fatal> {
    match command {
        // Blocks are taken together by `submit`.
        Command::SubmitBlock { .. } => {}
        Command::SubmitHeaders { headers, min_pow_checked, reply } => {
            answer(reply, core.submit_headers(&headers, min_pow_checked)?);
        }
        Command::Invalidate { hash, reply } => answer(reply, core.invalidate(&hash)?),
        Command::Reconsider { hash, reply } => answer(reply, core.reconsider(&hash)?),
        Command::Precious { hash, reply } => answer(reply, core.precious(&hash)?),
        Command::TestBlock { block, reply } => answer(reply, core.test_block(*block)?),
        Command::Import { blocks, reply } => answer(reply, core.import_blocks(blocks)?),
        Command::ImportBegins { reply } => {
            core.importing = true;
            answer(reply, ());
        }
        Command::ImportEnds { reindexed, reply } => {
            import_ends(core, reindexed)?;
            answer(reply, ());
        }
        Command::Activate { reply } => {
            core.activate_best_chain()?;
            core.fresh.clear();
            core.verdicts.clear();
            answer(reply, ());
        }
        Command::ScanCoins { reply } => answer(reply, core.scan_coins()?),
        Command::Verify { level, depth, reply } => answer(reply, core.verify(level, depth)?),
        Command::Prune { up_to, reply } => {
            match up_to {
                Some(height) => core.prune_up_to(height)?,
                None => core.prune_automatically()?,
            }
            answer(reply, ());
        }
        Command::Flush { reply } => {
            core.flush_all()?;
            answer(reply, ());
        }
        Command::Shutdown { reply } => {
            core.flush_all()?;
            core.shared.ring.close();
            answer(reply, ());
            return Ok(false);
        }
    }
    Ok(true)
}

/// An import or reindex is over.
fn import_ends(core: &mut Core, reindexed: bool) -> Result<(), Fatal> {
    core.importing = false;
    if reindexed && core.shared.reindexing.swap(false, Ordering::Relaxed) {
        core.flush_all()?;
        let mut batch = Batch::new();
        batch.delete(INDEX_META, REINDEX_KEY);
        core.index.commit(batch, Durability::Power)?;
    }
    let shared = std::sync::Arc::clone(&core.shared);
    let tree = shared.tree.read();
    core.update_initial_download(&tree, tree.tip());
    Ok(())
}
