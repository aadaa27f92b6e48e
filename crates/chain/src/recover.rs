//! Repairing what a crash left half done: torn tails of files, a flush of coins that was cut off,
//! and the way from the coins on disk to the tip that was active.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bitcoin::BlockHash;
use ironpeer_consensus::{BlockIds, CoinChanges, disconnect_block, is_unspendable};
use ironpeer_primitives::{Coin, LogLine};
use ironpeer_store::{FileKind, FilePos};

use crate::coins::{OverlaidCoins, Overlay, Prefetched};
use crate::core::{Core, chained};
use crate::flush::write_coins;
use crate::open::OpenError;
use crate::tree::{GENESIS, NodeId};

impl Core {
    /// Cuts off what was being written to the block files when the node died: bytes behind the
    /// last record that a row names, in the files that were in use.
    pub(crate) fn cut_torn_tails(&mut self, journaled: &HashSet<BlockHash>) -> Result<(), OpenError> {
        if self.shared.reindexing.load(Ordering::Relaxed) {
            return Ok(());
        }
        let files = &self.shared.files;
        let mut last: HashMap<(FileKind, u32), FilePos> = HashMap::new();
        {
            let tree = self.shared.tree.read();
            let in_use: HashSet<u32> = journaled
                .iter()
                .filter_map(|hash| tree.node(tree.id(hash)?).data)
                .map(|position| position.file)
                .chain([files.current()])
                .collect();
            for node in tree.ids().map(|id| tree.node(id)) {
                let positions = [(FileKind::Block, node.data), (FileKind::Undo, node.undo)];
                for (kind, position) in positions {
                    let Some(position) = position.filter(|at| in_use.contains(&at.file)) else { continue };
                    let last = last.entry((kind, position.file)).or_insert(position);
                    *last = position.max(*last);
                }
            }
        }
        for (kind, number) in last.keys().copied().collect::<BTreeSet<_>>() {
            let Some(position) = last.get(&(kind, number)) else { continue };
            // A record that cannot be read is damage for the checks to find, not a tail.
            let Ok(end) = files.record_end(kind, *position) else { continue };
            let size =
                files.files(kind).into_iter().find(|(of, _)| *of == number).map_or(0, |(_, size)| size);
            if size > end {
                self.log(LogLine::info(format!(
                    "Cutting {} bytes of an unfinished record off {}",
                    size - end,
                    files.path(kind, number).display()
                )));
                files.truncate(kind, number, end)?;
            }
        }
        Ok(())
    }

    /// Finishes a flush that was interrupted (Core's `ReplayBlocks`): takes the old branch off and
    /// puts the new one on, whatever part of that was done already.
    pub(crate) fn replay(&mut self, new: BlockHash, old: Option<BlockHash>) -> Result<(), OpenError> {
        self.log(LogLine::info("Replaying blocks"));
        let shared = Arc::clone(&self.shared);
        let unknown =
            |what: &str| OpenError::Corrupted(format!("reorganization {what} unknown block requested"));
        let (back, forward) = {
            let tree = shared.tree.read();
            let new = tree.id(&new).ok_or_else(|| unknown("to"))?;
            let old = match old {
                Some(old) => tree.id(&old).ok_or_else(|| unknown("from"))?,
                None => GENESIS,
            };
            let fork = tree.common_ancestor(new, old);
            let branch = |end: NodeId| {
                let mut hashes = Vec::new();
                let mut at = end;
                while at != fork {
                    hashes.push((tree.node(at).hash, tree.node(at).height));
                    at = tree.node(at).parent.unwrap_or(fork);
                }
                hashes
            };
            let mut forward = branch(new);
            forward.reverse();
            (branch(old), forward)
        };
        let failed = |error: &dyn std::error::Error| {
            OpenError::Corrupted(format!("Replaying blocks: {}", chained(error)))
        };
        let (overlay, prefetched) = (Overlay::default(), Prefetched::default());
        for (hash, height) in back {
            self.log(LogLine::info(format!("Rolling back {hash} ({height})")));
            let block = shared.read_block(&hash).map_err(|error| failed(&error))?;
            let undo = shared.read_undo(&hash).map_err(|error| failed(&error))?;
            let coins = OverlaidCoins { overlay: &overlay, coins: &shared.coins, prefetched: &prefetched };
            let undone = disconnect_block(&block, &BlockIds::of(&block), &undo, height, &coins)
                .map_err(|error| failed(&error))?;
            shared.coins.merge_again(undone.changes, new);
        }
        for (hash, height) in forward {
            self.log(LogLine::info(format!("Rolling forward {hash} ({height})")));
            let block = shared.read_block(&hash).map_err(|error| failed(&error))?;
            let mut changes = CoinChanges::default();
            for tx in &block.txdata {
                let is_coinbase = tx.is_coinbase();
                if !is_coinbase {
                    changes.extend(tx.input.iter().map(|input| (input.previous_output, None)));
                }
                let txid = tx.compute_txid();
                for (vout, output) in (0..).zip(&tx.output) {
                    if !is_unspendable(&output.script_pubkey) {
                        let coin = Coin { output: output.clone(), height, is_coinbase };
                        changes.insert(bitcoin::OutPoint { txid, vout }, Some(coin));
                    }
                }
            }
            shared.coins.merge_again(changes, new);
        }
        // The next flush must end exactly here, so it is made at once.
        let (layer, _) = shared.coins.freeze();
        let mut batches = self.batches();
        write_coins(&shared, &layer, old, new, &mut batches)?;
        shared.coins.flushed(0);
        self.coins_on_disk = Some(new);
        Ok(())
    }

    /// Brings the coins to the tip that was active when the node went down.
    pub(crate) fn recover_tip(&mut self, tip: NodeId) -> Result<(), OpenError> {
        loop {
            {
                let tree = self.shared.tree.read();
                let fork = tree.fork_with_active(tip);
                let mut at = tip;
                while at != fork {
                    let node = tree.node(at);
                    if node.failed || node.data.is_none() || node.chain_tx_count == 0 {
                        return Ok(());
                    }
                    at = node.parent.unwrap_or(fork);
                }
                if tree.tip() == tip {
                    return Ok(());
                }
            }
            self.step_towards(tip)?;
            if self.interrupted() {
                return Ok(());
            }
        }
    }
}
