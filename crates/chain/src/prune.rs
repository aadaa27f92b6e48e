//! Deleting old block and undo files (`-prune`; Core's `src/node/blockstorage.cpp`).
//!
//! A file goes as a whole, once every block in it lies deep enough. The order makes a crash
//! harmless at any point: the coins reach the disk as of the tip, so that no recovery needs an
//! old block; then the rows forget where the blocks were; then the files are unlinked. A file that
//! the last step missed belongs to no row, and the next start removes it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;

use ironpeer_primitives::{Height, LogCategory, LogLine};
use ironpeer_store::{Batch, Durability, FileKind};

use crate::config::Prune;
use crate::core::{Core, Fatal};
use crate::flush::{INDEX_META, PRUNED_KEY};
use crate::limits;

const MIB: u64 = 1 << 20;

impl Core {
    /// By number of a block file: the greatest height among its blocks.
    fn highest_in_files(&self) -> HashMap<u32, Height> {
        let tree = self.shared.tree.read();
        let mut highest: HashMap<u32, Height> = HashMap::new();
        for node in tree.ids().map(|id| tree.node(id)) {
            if let Some(position) = node.data {
                let height = highest.entry(position.file).or_default();
                *height = node.height.max(*height);
            }
        }
        highest
    }

    /// Bytes of block and undo data, by file number.
    fn file_bytes(&self) -> BTreeMap<u32, u64> {
        let files = &self.shared.files;
        let mut bytes: BTreeMap<u32, u64> = BTreeMap::new();
        for (number, end) in files.files(FileKind::Block).into_iter().chain(files.files(FileKind::Undo)) {
            *bytes.entry(number).or_default() += u64::from(end);
        }
        bytes
    }

    /// Whether files may be deleted now: not while the block files are being read anew, nor on the
    /// way back to the tip of before a crash.
    fn may_prune(&self) -> bool {
        !self.shared.reindexing.load(Ordering::Relaxed) && self.trusted.is_none()
    }

    /// Core's `GetPruneRange`: the last height that may go.
    fn last_prunable(&self, wanted: Height) -> Height {
        let tip = self.shared.tree.read().tip_node().height;
        let mut last = tip;
        let mut limiting = None;
        for (name, height) in self.shared.prune_locks.lock().iter() {
            // One more than the buffer, so that the lock's own block stays.
            let lock = Height(height.0.saturating_sub(limits::PRUNE_LOCK_BUFFER + 1).max(1));
            if lock <= last {
                (last, limiting) = (lock, Some(*name));
            }
        }
        if let Some(name) = limiting
            && self.shared.log.enabled(LogCategory::Prune)
        {
            self.log(LogLine::debug(LogCategory::Prune, format!("{name} limited pruning to height {last}")));
        }
        let deep_enough = Height(tip.0.saturating_sub(limits::MIN_BLOCKS_TO_KEEP));
        wanted.min(deep_enough).min(last)
    }

    /// Locks at or above a block that is taken off move back, so that their owners get a chance to
    /// follow the reorganisation.
    pub(crate) fn move_prune_locks_back(&self, disconnected: Height) {
        let highest = Height(disconnected.0.saturating_sub(1));
        for (name, height) in self.shared.prune_locks.lock().iter_mut().filter(|(_, at)| **at > highest) {
            *height = highest;
            if self.shared.log.enabled(LogCategory::Prune) {
                self.log(LogLine::debug(
                    LogCategory::Prune,
                    format!("{name} prune lock moved back to {highest}"),
                ));
            }
        }
    }

    /// Core's `FindFilesToPruneManual`, and the deletion.
    pub(crate) fn prune_up_to(&mut self, wanted: Height) -> Result<(), Fatal> {
        if self.shared.prune.is_none() || wanted == Height::GENESIS || !self.may_prune() {
            return Ok(());
        }
        let last = self.last_prunable(wanted);
        let current = self.shared.files.current();
        let mut numbers: Vec<u32> = self
            .highest_in_files()
            .into_iter()
            .filter(|(number, highest)| *number < current && *highest <= last)
            .map(|(number, _)| number)
            .collect();
        numbers.sort_unstable();
        self.log(LogLine::info(format!(
            "[normal] Prune (Manual): prune_height={last} removed {} blk/rev pairs",
            numbers.len()
        )));
        self.prune_files(&numbers)
    }

    /// Looks whether files must go, if one has grown since the last look.
    pub(crate) fn prune_if_grown(&mut self) -> Result<(), Fatal> {
        if self.shared.prune.is_some() && self.may_prune() && self.shared.files.take_grown() {
            self.prune_automatically()?;
        }
        Ok(())
    }

    /// Core's `FindFilesToPrune`, and the deletion.
    pub(crate) fn prune_automatically(&mut self) -> Result<(), Fatal> {
        let Some(Prune::Automatic(target)) = self.shared.prune else { return Ok(()) };
        if !self.may_prune() {
            return Ok(());
        }
        let target = target.max(limits::MIN_PRUNE_TARGET);
        let (tip, best_header) = {
            let tree = self.shared.tree.read();
            (tree.tip_node().height, tree.node(tree.best_header()).height)
        };
        if tip <= self.shared.params.prune_after_height {
            return Ok(());
        }
        let last = self.last_prunable(tip);
        let mut usage = self.shared.files.bytes_on_disk();
        let mut buffer = limits::PRUNE_BUFFER;
        let mut numbers = Vec::new();
        if usage.saturating_add(buffer) >= target {
            if self.shared.initial_download.load(Ordering::Relaxed) && best_header > tip {
                // Each pruning flushes the coins: make room for the blocks to come at once.
                let left = u64::from(best_header.0 - tip.0);
                buffer = buffer.saturating_add(left.saturating_mul(limits::PRUNE_AVERAGE_BLOCK));
            }
            let current = self.shared.files.current();
            let highest = self.highest_in_files();
            for (number, bytes) in self.file_bytes() {
                if number >= current || usage.saturating_add(buffer) < target {
                    break;
                }
                if highest.get(&number).is_some_and(|highest| *highest <= last) {
                    numbers.push(number);
                    usage = usage.saturating_sub(bytes);
                }
            }
        }
        if self.shared.log.enabled(LogCategory::Prune) {
            let left = i128::from(target) - i128::from(usage);
            self.log(LogLine::debug(
                LogCategory::Prune,
                format!(
                    "[normal] target={}MiB actual={}MiB diff={}MiB min_height=0 max_prune_height={last} \
                     removed {} blk/rev pairs",
                    target / MIB,
                    usage / MIB,
                    left / i128::from(MIB),
                    numbers.len()
                ),
            ));
        }
        self.prune_files(&numbers)
    }

    /// Deletes block files, in the order this module's head gives.
    fn prune_files(&mut self, numbers: &[u32]) -> Result<(), Fatal> {
        if numbers.is_empty() {
            return Ok(());
        }
        self.flush_all()?;
        if !self.shared.have_pruned.load(Ordering::Relaxed) {
            let mut batch = Batch::new();
            batch.put(INDEX_META, PRUNED_KEY, [1u8].as_slice());
            self.index.commit(batch, Durability::Power)?;
            self.shared.have_pruned.store(true, Ordering::Relaxed);
        }
        let gone: HashSet<u32> = numbers.iter().copied().collect();
        let forgotten: HashSet<_> = {
            let mut tree = self.shared.tree.write();
            let ids: Vec<_> = tree
                .ids()
                .filter(|id| tree.node(*id).data.is_some_and(|position| gone.contains(&position.file)))
                .collect();
            for &id in &ids {
                let node = tree.node_mut(id);
                node.data = None;
                node.undo = None;
            }
            ids.into_iter().collect()
        };
        self.index_due.extend(&forgotten);
        // To be of use again they would have to be fetched again.
        for waiting in self.unlinked.values_mut() {
            waiting.retain(|id| !forgotten.contains(id));
        }
        self.unlinked.retain(|_, waiting| !waiting.is_empty());
        self.write_index()?;
        self.unlink(numbers)
    }

    fn unlink(&self, numbers: &[u32]) -> Result<(), Fatal> {
        for &number in numbers {
            if self.shared.files.remove(number)? && self.shared.log.enabled(LogCategory::BlockStorage) {
                self.log(LogLine::debug(
                    LogCategory::BlockStorage,
                    format!("Prune: UnlinkPrunedFiles deleted blk/rev ({number:05})"),
                ));
            }
        }
        Ok(())
    }

    /// Removes files that an earlier pruning did not get to (Core's
    /// `ScanAndUnlinkAlreadyPrunedFiles`).
    pub(crate) fn unlink_pruned_before(&mut self) -> Result<(), Fatal> {
        if !self.shared.have_pruned.load(Ordering::Relaxed) {
            return Ok(());
        }
        let current = self.shared.files.current();
        let held = self.highest_in_files();
        let numbers: Vec<u32> = self
            .file_bytes()
            .into_keys()
            .filter(|number| *number < current && !held.contains_key(number))
            .collect();
        self.unlink(&numbers)
    }
}
