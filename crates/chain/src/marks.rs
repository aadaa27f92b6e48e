//! Marking blocks by hand: `invalidateblock`, `reconsiderblock`, `preciousblock`.

use std::sync::Arc;

use bitcoin::BlockHash;

use crate::core::{Core, Fatal};
use crate::handle::MarkError;
use crate::tree::{GENESIS, NodeId, work_key};

impl Core {
    fn known(&self, hash: &BlockHash) -> Result<NodeId, MarkError> {
        self.shared.tree.read().id(hash).ok_or(MarkError::UnknownBlock)
    }

    /// Core's `InvalidateBlock`, then `ActivateBestChain`.
    pub(crate) fn invalidate(&mut self, hash: &BlockHash) -> Result<Result<(), MarkError>, Fatal> {
        let id = match self.known(hash) {
            Ok(GENESIS) => return Ok(Err(MarkError::Genesis)),
            Ok(id) => id,
            Err(error) => return Ok(Err(error)),
        };
        let parent = self.shared.tree.read().node(id).parent.unwrap_or(GENESIS);
        if self.shared.tree.read().is_active(id) {
            self.rewind_to(parent)?;
        }
        {
            let mut tree = self.shared.tree.write();
            let key = tree.candidate(id);
            self.candidates.remove(&key);
            tree.node_mut(id).failed = true;
        }
        self.touch(id);
        self.invalid_chain_found(id);
        // The new tip is worse than the old one: others may be its equals now.
        self.populate_candidates();
        self.activate_best_chain()?;
        self.write_journal()?;
        Ok(Ok(()))
    }

    /// Core's `ResetBlockFailureFlags`, then `ActivateBestChain`.
    pub(crate) fn reconsider(&mut self, hash: &BlockHash) -> Result<Result<(), MarkError>, Fatal> {
        let id = match self.known(hash) {
            Ok(id) => id,
            Err(error) => return Ok(Err(error)),
        };
        let shared = Arc::clone(&self.shared);
        {
            let mut tree = shared.tree.write();
            let failed: Vec<NodeId> = tree
                .ids()
                .filter(|at| tree.node(*at).failed && (tree.descends(*at, id) || tree.descends(id, *at)))
                .collect();
            for at in failed {
                tree.node_mut(at).failed = false;
                self.touch(at);
                if self.best_invalid == Some(at) {
                    self.best_invalid = None;
                }
            }
            tree.recalculate_best_header();
        }
        self.populate_candidates();
        self.activate_best_chain()?;
        self.write_journal()?;
        Ok(Ok(()))
    }

    /// Core's `PreciousBlock`.
    pub(crate) fn precious(&mut self, hash: &BlockHash) -> Result<Result<(), MarkError>, Fatal> {
        let id = match self.known(hash) {
            Ok(id) => id,
            Err(error) => return Ok(Err(error)),
        };
        let (work, tip_work, connectable) = {
            let tree = self.shared.tree.read();
            let node = tree.node(id);
            (work_key(node.chainwork), work_key(tree.tip_node().chainwork), node.connectable())
        };
        if work < tip_work {
            return Ok(Ok(()));
        }
        if tip_work > self.last_precious_work {
            // The chain grew since the last call: start counting anew.
            self.next_reverse_sequence = -1;
        }
        self.last_precious_work = tip_work;
        self.set_sequence(id, self.next_reverse_sequence);
        self.next_reverse_sequence = self.next_reverse_sequence.saturating_sub(1);
        if connectable {
            let key = self.shared.tree.read().candidate(id);
            self.candidates.insert(key);
            self.prune_candidates();
        }
        self.activate_best_chain()?;
        self.write_journal()?;
        Ok(Ok(()))
    }
}
