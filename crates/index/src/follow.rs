//! The shell that keeps every index in step with the chain: from its events while they come, from
//! stored blocks where it has missed some or was switched on later. The chain waits for none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bitcoin::BlockHash;
use ironpeer_chain::{ChainFollower, ChainView, Followed, ReadError};
use ironpeer_primitives::{
    BlockUndo, ChainEvent, ChainRead, Clock, ConnectedBlock, HeaderInfo, Height, LogLine, LogSink,
};
use tokio::sync::watch;

use crate::core::{IndexError, IndexWriter};
use crate::handle::IndexStatus;
use crate::limits::{PROGRESS_INTERVAL, UNWIND_AT_START};

/// Where an index must go from where it is.
enum Step {
    /// Take its last block off.
    Unwind(BlockHash, Height),
    /// Add the blocks from this height on.
    Apply(Height),
    /// Its blocks are ahead of the chain, which will get there.
    Wait,
}

pub(crate) struct Follower {
    pub writer: IndexWriter,
    pub view: ChainView,
    pub events: ChainFollower,
    pub clock: Arc<dyn Clock>,
    pub log: Arc<dyn LogSink>,
    pub status: watch::Sender<IndexStatus>,
    /// The node is shutting down.
    pub stop: Arc<AtomicBool>,
    /// Number of the last event whose blocks are in.
    pub seq: u64,
    /// It has been at the chain's tip in this run.
    pub synced: bool,
    /// The chain is on its way to where the index is.
    pub waiting: bool,
}

impl Follower {
    /// Follows until the chain stops. What it cannot get over stops the node.
    pub(crate) fn run(mut self) {
        let ended = self.follow().and_then(|()| self.commit()).and_then(|()| self.writer.sync());
        if let Err(error) = ended {
            self.view.fail(error.to_string());
        }
    }

    fn follow(&mut self) -> Result<(), IndexError> {
        if !self.catch_up()? {
            return Ok(());
        }
        let name = self.writer.name();
        self.log.log(LogLine::info(match self.writer.tip() {
            Some(tip) => format!("{name} is enabled at height {}", tip.height),
            None => format!("{name} is enabled"),
        }));
        loop {
            let followed = match self.events.try_next() {
                Some(followed) => followed,
                None => {
                    // Nothing waits: show what there is before sleeping.
                    self.commit()?;
                    self.events.next_blocking()
                }
            };
            match followed {
                Followed::Event(event) if event.seq <= self.seq => {}
                Followed::Event(event) if self.fits(&event) => self.take(&event)?,
                Followed::Event(_) | Followed::Lagged { .. } => {
                    if !self.catch_up()? {
                        return Ok(());
                    }
                }
                Followed::Closed => return Ok(()),
            }
        }
    }

    /// Whether the event starts from where the index is.
    fn fits(&self, event: &ChainEvent) -> bool {
        match (event.disconnected.first(), event.connected.first()) {
            (Some(first), _) => self.writer.tip().is_some_and(|tip| tip.hash == first.hash),
            (None, Some(first)) => self.writer.follows(first),
            (None, None) => true,
        }
    }

    fn take(&mut self, event: &ChainEvent) -> Result<(), IndexError> {
        if event.connected.is_empty() && self.writer.keeps_disconnected() {
            // The next event will not fit, which leads back over stored blocks.
            self.seq = event.seq;
            return Ok(());
        }
        for block in &event.disconnected {
            self.writer.unwind(block)?;
        }
        let mut committed = false;
        for block in &event.connected {
            committed |= self.writer.apply(block)?;
        }
        self.seq = event.seq;
        // In a long run of events readers see what has been committed meanwhile.
        if committed { self.commit() } else { Ok(()) }
    }

    /// Commits, and shows readers what there is.
    fn commit(&mut self) -> Result<(), IndexError> {
        self.writer.commit()?;
        let tip = self.writer.tip();
        if let Some(tip) = tip
            && self.view.prune_mode().is_some()
        {
            self.view.set_prune_lock(self.writer.name(), tip.height);
        }
        self.status.send_replace(IndexStatus { tip, synced: self.synced, seq: self.seq });
        Ok(())
    }

    /// Walks over stored blocks to the chain's tip. False if the node stops meanwhile.
    fn catch_up(&mut self) -> Result<bool, IndexError> {
        let mut said = self.clock.steady();
        loop {
            let (target, seq) = self.view.tip_and_seq();
            if self.writer.tip().is_some_and(|tip| tip.hash == target.hash) {
                (self.seq, self.synced, self.waiting) = (seq, true, false);
                self.commit()?;
                return Ok(true);
            }
            match self.next_step(&target)? {
                Step::Unwind(hash, height) => {
                    let block = self.read(&hash, height)?;
                    self.writer.unwind(&block)?;
                    self.commit()?;
                }
                Step::Apply(from) => {
                    for height in (from.0..=target.height.0).map(Height) {
                        if self.interrupted() {
                            return Ok(false);
                        }
                        let Some(info) = self.view.ancestor(&target.hash, height) else { break };
                        let block = self.read(&info.hash, height)?;
                        if self.writer.apply(&block)? {
                            self.commit()?;
                        }
                        let now = self.clock.steady();
                        if now.saturating_sub(said) >= PROGRESS_INTERVAL {
                            said = now;
                            let name = self.writer.name();
                            self.log.log(LogLine::info(format!(
                                "Syncing {name} with block chain from height {height}"
                            )));
                        }
                    }
                }
                Step::Wait => {
                    (self.synced, self.waiting) = (false, true);
                    self.commit()?;
                    if matches!(self.events.next_blocking(), Followed::Closed) {
                        return Ok(false);
                    }
                }
            }
            if self.interrupted() {
                return Ok(false);
            }
        }
    }

    /// Whether to leave off. Events are let go meanwhile: their blocks are read from disk.
    fn interrupted(&mut self) -> bool {
        while let Some(followed) = self.events.try_next() {
            if matches!(followed, Followed::Closed) {
                return true;
            }
        }
        self.stop.load(Ordering::Relaxed)
    }

    fn next_step(&self, target: &HeaderInfo) -> Result<Step, IndexError> {
        let Some(tip) = self.writer.tip() else { return Ok(Step::Apply(Height::GENESIS)) };
        let Some(fork) = self.view.common_ancestor(&tip.hash, &target.hash) else {
            // The chain has lost this block, in a power loss. It comes again if nobody built on
            // another meanwhile.
            return if target.height < tip.height {
                Ok(Step::Wait)
            } else {
                Err(IndexError::Lost(self.writer.name()))
            };
        };
        if fork.hash == tip.hash {
            return Ok(Step::Apply(tip.height.next()));
        }
        let ahead = fork.hash == target.hash && !self.synced;
        let far = tip.height.0 - fork.height.0 > UNWIND_AT_START;
        if ahead && (far || self.waiting || self.read(&tip.hash, tip.height).is_err()) {
            return Ok(Step::Wait);
        }
        Ok(Step::Unwind(tip.hash, tip.height))
    }

    /// A stored block, with what it spent if the index looks at that.
    fn read(&self, hash: &BlockHash, height: Height) -> Result<ConnectedBlock, IndexError> {
        let block = if height == Height::GENESIS {
            // It is known before any file is read.
            Arc::new(self.view.params().genesis.clone())
        } else {
            self.view.block(hash).map_err(|error| failed(error, IndexError::NoBlock(*hash)))?
        };
        let spent = if self.writer.needs_undo() {
            self.view.undo(hash).map_err(|error| failed(error, IndexError::NoUndo(*hash)))?
        } else {
            Arc::new(BlockUndo::default())
        };
        Ok(ConnectedBlock { hash: *hash, height, block, spent })
    }
}

fn failed(error: ReadError, otherwise: IndexError) -> IndexError {
    match error {
        ReadError::Store(error) => IndexError::Store(error),
        ReadError::NotStored | ReadError::Pruned | ReadError::Damaged(_) => otherwise,
    }
}
