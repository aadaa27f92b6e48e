//! Checking the last blocks again (Core's `CVerifyDB::VerifyDB`).

use std::sync::Arc;

use ironpeer_consensus::{
    BlockIds, CheckBlock, ScriptMode, check_block_with, connect_block, disconnect_block,
};
use ironpeer_primitives::{Height, LogLine};

use crate::coins::{OverlaidCoins, Overlay, Prefetched};
use crate::core::{Core, Fatal};
use crate::limits;
use crate::tree::{GENESIS, NodeId};

/// The stored chain is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Core's `VerifyDBResult::CORRUPTED_BLOCK_DB`; the message is its log line.
    #[error("{0}")]
    Corrupted(String),
    /// Nothing wrong was found, but the coins' checks would not have fitted into the cache.
    #[error(
        "Skipped verification of level >=3 (insufficient database cache size). Consider increasing -dbcache."
    )]
    SkippedLevel3,
}

impl Core {
    /// Checks the last `depth` blocks (0: all) at `level` 0 to 4, each level including those
    /// below: read, check alone, read undo data, take off in memory, put on again.
    pub(crate) fn verify(&mut self, level: u8, depth: u32) -> Result<Result<(), VerifyError>, Fatal> {
        let shared = Arc::clone(&self.shared);
        let tip = shared.tree.read().tip_node().height.0;
        if tip == 0 {
            return Ok(Ok(()));
        }
        let depth = if depth == 0 || depth > tip { tip } else { depth };
        let level = level.min(4);
        self.log(LogLine::info(format!("Verifying last {depth} blocks at level {level}")));
        self.log(LogLine::info("Verification progress: 0%"));
        let corrupted = |text: String| {
            self.log(LogLine::error(format!("Verification error: {text}")));
            Ok(Err(VerifyError::Corrupted(text)))
        };
        let mut overlay = Overlay::default();
        let mut good = 0;
        let mut unclean: Option<u32> = None;
        let mut skipped = false;
        let prefetched = Prefetched::default();
        for height in (tip - depth + 1..=tip).rev() {
            if shared.failed() {
                return Ok(Ok(()));
            }
            let (hash, node_height, has_undo) = {
                let tree = shared.tree.read();
                let node = tree.node(tree.active_at(Height(height)).unwrap_or(GENESIS));
                (node.hash, node.height, node.undo.is_some())
            };
            let block = match shared.read_block(&hash) {
                Ok(block) => block,
                Err(_) => return corrupted(format!("ReadBlock failed at {height}, hash={hash}")),
            };
            let ids = BlockIds::of(&block);
            if level >= 1
                && let Err(reject) = check_block_with(&block, &ids, &shared.params, CheckBlock::ALL)
            {
                return corrupted(format!("found bad block at {height}, hash={hash} ({reject})"));
            }
            if level < 2 || !has_undo {
                continue;
            }
            let Ok(undo) = shared.read_undo(&hash) else {
                return corrupted(format!("found bad undo data at {height}, hash={hash}"));
            };
            if level < 3 {
                continue;
            }
            let (cached, _) = shared.coins.size();
            if overlay.len() > limits::OVERLAY_COINS || cached > self.config.cache_bytes {
                skipped = true;
                continue;
            }
            let coins = OverlaidCoins { overlay: &overlay, coins: &shared.coins, prefetched: &prefetched };
            match disconnect_block(&block, &ids, &undo, node_height, &coins) {
                Ok(undone) => {
                    if undone.clean {
                        good += block.txdata.len();
                    } else {
                        good = 0;
                        unclean = Some(height);
                    }
                    overlay.apply(&undone.changes);
                }
                Err(_) => {
                    return corrupted(format!(
                        "irrecoverable inconsistency in block data at {height}, hash={hash}"
                    ));
                }
            }
        }
        if let Some(height) = unclean {
            return corrupted(format!(
                "coin database inconsistencies found (last {} blocks, {good} good transactions before that)",
                tip - height + 1
            ));
        }
        if level >= 4 && !skipped {
            for height in tip - depth + 1..=tip {
                let id = shared.tree.read().active_at(Height(height)).unwrap_or(GENESIS);
                if let Err(text) = self.verify_connects(id, &mut overlay)? {
                    return corrupted(text);
                }
            }
        }
        self.log(LogLine::info(format!("Verification: checked last {depth} blocks at level {level}")));
        if skipped {
            self.log(LogLine::warning(VerifyError::SkippedLevel3.to_string()));
            return Ok(Err(VerifyError::SkippedLevel3));
        }
        if level >= 3 {
            self.log(LogLine::info(format!(
                "Verification: no coin database inconsistencies ({good} transactions)"
            )));
        }
        Ok(Ok(()))
    }

    /// Puts one block on the overlay again, scripts included.
    fn verify_connects(&self, id: NodeId, overlay: &mut Overlay) -> Result<Result<(), String>, Fatal> {
        let shared = &self.shared;
        let (hash, height) = {
            let tree = shared.tree.read();
            (tree.node(id).hash, tree.node(id).height)
        };
        let Ok(block) = shared.read_block(&hash) else {
            return Ok(Err(format!("ReadBlock failed at {height}, hash={hash}")));
        };
        let block = Arc::new(block);
        let ids = BlockIds::of(&block);
        let tree = shared.tree.read();
        let parent = tree.chain_of(tree.node(id).parent.unwrap_or(GENESIS));
        let prefetched = Prefetched::default();
        let coins = OverlaidCoins { overlay, coins: &shared.coins, prefetched: &prefetched };
        let connected = connect_block(&block, &ids, &parent, &shared.params, &coins, ScriptMode::Check)
            .and_then(|connected| {
                let undo = Arc::clone(&connected.undo);
                match self.pool.install(|| shared.checker.check(connected.checks)) {
                    Ok(()) => Ok(Ok(connected.changes)),
                    Err((place, failure)) => {
                        crate::scripts::reject(shared, &block, height, &undo, (place, &failure))
                            .map_or_else(|fatal| Ok(Err(fatal)), Err)
                    }
                }
            });
        match connected {
            Ok(Ok(changes)) => {
                overlay.apply(&changes);
                Ok(Ok(()))
            }
            Ok(Err(fatal)) => Err(fatal),
            Err(reject) => Ok(Err(format!("found unconnectable block at {height}, hash={hash} ({reject})"))),
        }
    }
}
