//! Checking the last blocks again (Core's `CVerifyDB::VerifyDB`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ironpeer_consensus::{
    BlockIds, CheckBlock, ScriptMode, check_block_with, connect_block, disconnect_block,
};
use ironpeer_primitives::{Height, LogLine};

use crate::coins::{OverlaidCoins, Overlay, Prefetched};
use crate::core::{Core, Fatal};
use crate::limits;
use crate::open::OpenError;
use crate::tree::{GENESIS, NodeId};

/// Why a check of the stored chain did not end well.
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
    /// Nothing wrong was found, but old blocks have been pruned.
    #[error("blocks that were to be checked have been pruned")]
    SkippedMissingBlocks,
    /// The node was told to stop meanwhile.
    #[error("interrupted")]
    Interrupted,
}

/// What the way down found.
#[derive(Default)]
struct Descent {
    overlay: Overlay,
    good_transactions: usize,
    /// The lowest block whose coins were not as it left them.
    unclean: Option<u32>,
    skipped_level_3: bool,
    /// The last block that was not checked any more.
    stopped_at: u32,
    missing_blocks: bool,
    /// Tens of percent told in the log.
    told: u32,
}

impl Descent {
    /// A progress line at every tenth part.
    fn progress(&mut self, core: &Core, percent: u32) {
        let percent = percent.clamp(1, 99);
        if self.told < percent / 10 {
            core.log(LogLine::info(format!("Verification progress: {percent}%")));
            self.told = percent / 10;
        }
    }
}

/// How a check ends before it is done.
enum Ended {
    Fatal(Fatal),
    Verified(VerifyError),
}

impl From<VerifyError> for Ended {
    fn from(error: VerifyError) -> Self {
        Self::Verified(error)
    }
}

impl From<Fatal> for Ended {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}

impl Core {
    /// The check at start (Core's `VerifyLoadedChainstate`).
    pub(crate) fn check_stored(&mut self) -> Result<(), OpenError> {
        let newest = self.shared.clock.unix().saturating_add(limits::MAX_FUTURE_BLOCK_TIME);
        if i64::from(self.shared.tree.read().tip_node().header.time) > newest {
            return Err(OpenError::Corrupted(
                "The block database contains a block which appears to be from the future. This may be due to \
                 your computer's date and time being set incorrectly. Only rebuild the block database if you \
                 are sure that your computer's date and time are correct"
                    .into(),
            ));
        }
        let (level, blocks) = (self.config.check_level, self.config.check_blocks);
        if self.shared.have_pruned.load(Ordering::Relaxed) && blocks > limits::MIN_BLOCKS_TO_KEEP {
            self.log(LogLine::warning(format!(
                "pruned datadir may not have more than {} blocks; only checking available blocks",
                limits::MIN_BLOCKS_TO_KEEP
            )));
        }
        match self.verify(level, blocks)? {
            Err(VerifyError::Corrupted(_)) => {
                Err(OpenError::Corrupted("Corrupted block database detected".into()))
            }
            Err(VerifyError::SkippedLevel3) if self.config.check_required => {
                Err(OpenError::Failed("Insufficient dbcache for block verification".into()))
            }
            _ => Ok(()),
        }
    }

    /// Checks the last `depth` blocks (0: all) at `level` 0 to 4, each level including those
    /// below: read, check alone, read undo data, take off in memory, put on again.
    pub(crate) fn verify(&mut self, level: u8, depth: u32) -> Result<Result<(), VerifyError>, Fatal> {
        match self.verify_levels(level.min(4), depth) {
            Ok(()) => Ok(Ok(())),
            Err(Ended::Verified(error)) => Ok(Err(error)),
            Err(Ended::Fatal(fatal)) => Err(fatal),
        }
    }

    fn verify_levels(&self, level: u8, depth: u32) -> Result<(), Ended> {
        let tip = self.shared.tree.read().tip_node().height.0;
        if tip == 0 {
            return Ok(());
        }
        let depth = if depth == 0 || depth > tip { tip } else { depth };
        self.log(LogLine::info(format!("Verifying last {depth} blocks at level {level}")));
        let mut descent = Descent { stopped_at: tip - depth, ..Descent::default() };
        self.log(LogLine::info("Verification progress: 0%"));
        for height in (tip - depth + 1..=tip).rev() {
            let part = if level >= 4 { 50 } else { 100 };
            descent.progress(self, (u64::from(tip - height) * part / u64::from(depth)) as u32);
            if !self.verify_down(Height(height), level, &mut descent)? {
                break;
            }
        }
        if let Some(height) = descent.unclean {
            return Err(self.corrupted(format!(
                "coin database inconsistencies found (last {} blocks, {} good transactions before that)",
                tip - height + 1,
                descent.good_transactions
            )));
        }
        if descent.skipped_level_3 {
            self.log(LogLine::warning(VerifyError::SkippedLevel3.to_string()));
        }
        let checked = tip - descent.stopped_at;
        if level >= 4 && !descent.skipped_level_3 {
            for height in descent.stopped_at + 1..=tip {
                let left = u64::from(tip + 1 - height) * 50 / u64::from(depth);
                descent.progress(self, 100 - (left as u32).min(100));
                self.verify_up(Height(height), &mut descent.overlay)?;
            }
        }
        self.log(LogLine::info(format!("Verification: checked last {checked} blocks at level {level}")));
        if level >= 3 && !descent.skipped_level_3 {
            self.log(LogLine::info(format!(
                "Verification: no coin database inconsistencies ({} transactions)",
                descent.good_transactions
            )));
        }
        match descent {
            Descent { skipped_level_3: true, .. } => Err(VerifyError::SkippedLevel3.into()),
            Descent { missing_blocks: true, .. } => Err(VerifyError::SkippedMissingBlocks.into()),
            _ => Ok(()),
        }
    }

    fn corrupted(&self, text: String) -> Ended {
        self.log(LogLine::error(format!("Verification error: {text}")));
        VerifyError::Corrupted(text).into()
    }

    fn check_interrupted(&self) -> Result<(), Ended> {
        if self.interrupted() { Err(VerifyError::Interrupted.into()) } else { Ok(()) }
    }

    /// Checks one block up to `level` 3; false where the stored blocks end.
    fn verify_down(&self, height: Height, level: u8, descent: &mut Descent) -> Result<bool, Ended> {
        let shared = &self.shared;
        let (hash, has_data, has_undo) = {
            let tree = shared.tree.read();
            let node = tree.node(tree.active_at(height).unwrap_or(GENESIS));
            (node.hash, node.data.is_some(), node.undo.is_some())
        };
        if shared.prune.is_some() && !has_data {
            self.log(LogLine::info(format!(
                "Block verification stopping at height {height} (no data). This could be due to pruning or \
                 use of an assumeutxo snapshot."
            )));
            descent.missing_blocks = true;
            descent.stopped_at = height.0;
            return Ok(false);
        }
        let Ok(block) = shared.read_block(&hash) else {
            return Err(self.corrupted(format!("ReadBlock failed at {height}, hash={hash}")));
        };
        let ids = BlockIds::of(&block);
        if level >= 1
            && let Err(reject) = check_block_with(&block, &ids, &shared.params, CheckBlock::ALL)
        {
            return Err(self.corrupted(format!("found bad block at {height}, hash={hash} ({reject})")));
        }
        if level >= 2 && has_undo && shared.read_undo(&hash).is_err() {
            return Err(self.corrupted(format!("found bad undo data at {height}, hash={hash}")));
        }
        let (cached, _) = shared.coins.size();
        let used = cached.saturating_add(descent.overlay.len().saturating_mul(limits::VERIFY_COIN_BYTES));
        if level >= 3 && used > self.config.cache_bytes.max(limits::VERIFY_MIN_BYTES) {
            descent.skipped_level_3 = true;
        } else if level >= 3 {
            let prefetched = Prefetched::default();
            let coins =
                OverlaidCoins { overlay: &descent.overlay, coins: &shared.coins, prefetched: &prefetched };
            let undone = shared
                .read_undo(&hash)
                .ok()
                .and_then(|undo| disconnect_block(&block, &ids, &undo, height, &coins).ok());
            let Some(undone) = undone else {
                return Err(self.corrupted(format!(
                    "irrecoverable inconsistency in block data at {height}, hash={hash}"
                )));
            };
            if undone.clean {
                descent.good_transactions += block.txdata.len();
            } else {
                descent.good_transactions = 0;
                descent.unclean = Some(height.0);
            }
            descent.overlay.apply(&undone.changes);
        }
        self.check_interrupted()?;
        Ok(true)
    }

    /// Puts one block on the overlay again, scripts included (level 4).
    fn verify_up(&self, height: Height, overlay: &mut Overlay) -> Result<(), Ended> {
        let id = self.shared.tree.read().active_at(height).unwrap_or(GENESIS);
        match self.verify_connects(id, overlay)? {
            Ok(()) => self.check_interrupted(),
            Err(text) => Err(self.corrupted(text)),
        }
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
