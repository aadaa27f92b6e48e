//! Moving the active chain to the one with the most work (Core's `ActivateBestChain`).
//!
//! A block goes through six stages. Stages of different blocks run at the same time; the ordered
//! ones keep the order of the chain.
//!
//! 1. *Prepare*, on the pool, many at a time: decode, hash, check what needs no context. An import
//!    does this for a batch while the writer works on the one before; a submitted block takes its
//!    place in the writer's queue first, so that the order stays whichever is prepared first.
//! 2. *Accept*, on the writer: header, contextual checks, and the body into the block file.
//! 3. *Load*, on the pool, up to [`READ_AHEAD_BLOCKS`](limits::READ_AHEAD_BLOCKS) ahead: the body
//!    (from memory if it just came) and those coins it spends that only the database has.
//! 4. *Apply*, on the writer, in order: every rule but the scripts', on an overlay above the coin
//!    set. A failure here wins over a script's in the same block, as in Core.
//! 5. *Scripts*, on the pool, while the next blocks are applied, up to
//!    [`PIPELINE_BLOCKS`](limits::PIPELINE_BLOCKS) of them. Results are awaited in order: what
//!    fails first in the chain is what counts, and nothing of a block is let go while a check of it
//!    runs.
//! 6. *Commit*, on the writer, in order: undo record, journal, then coins, tip and event in one
//!    moment. Only now may anybody be told. The coins go to the database in batches on a thread
//!    of their own.
//!
//! A branch is committed only once it has more work than the chain it replaces, so one that turns
//! out invalid on the way leaves no trace (unless it is so long that it must be committed early).
//!
//! Memory is bounded at each stage: the queue and the import batch in bytes, the stages in blocks,
//! the overlay by forgetting what is committed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bitcoin::hashes::Hash;
use bitcoin::{Block, OutPoint};
use crossbeam_channel::Receiver;
use ironpeer_consensus::{
    BlockIds, CoinChanges, ScriptFailure, ScriptMode, block_proof_equivalent_time, connect_block,
    contextual_check_block, disconnect_block,
};
use ironpeer_primitives::{
    BlockClass, BlockReject, BlockUndo, ChainEvent, ConnectedBlock, LogLine, UnixTime, encode_block_undo,
};

use crate::coins::{Mark, OverlaidCoins, Overlay, Prefetched};
use crate::core::{Core, Fatal};
use crate::limits;
use crate::pool;
use crate::prepare::Prepared;
use crate::scripts;
use crate::text;
use crate::tree::{GENESIS, NodeId, Validity};
use crate::view::{ReadError, Shared};

/// A body with what was done for it ahead.
struct Loaded {
    prepared: Arc<Prepared>,
    prefetched: Prefetched,
}

/// What running a block's scripts brought.
type ScriptResult = Result<(), (usize, ScriptFailure)>;

/// A block applied to the overlay whose scripts may still be running.
struct Applied {
    id: NodeId,
    prepared: Arc<Prepared>,
    undo: Arc<BlockUndo>,
    changes: CoinChanges,
    mark: Mark,
    scripts: Option<Receiver<ScriptResult>>,
}

/// A block taken off the overlay.
struct Undone {
    id: NodeId,
    block: Arc<ConnectedBlock>,
    changes: CoinChanges,
    mark: Mark,
    bytes: usize,
}

/// One move towards a better chain, not yet committed.
#[derive(Default)]
struct Step {
    overlay: Overlay,
    undone: Vec<Undone>,
    applied: VecDeque<Applied>,
    passed: Vec<Applied>,
    held_bytes: usize,
    failure: Option<(NodeId, BlockReject)>,
}

/// Bytes that a block and the coins it spent take in memory, nearly.
fn held_bytes(size: usize, undo: &BlockUndo) -> usize {
    const COIN: usize = 80;
    size.saturating_mul(limits::DECODED_BYTES_PER_BYTE) + undo.txs.iter().map(Vec::len).sum::<usize>() * COIN
}

impl Core {
    /// Connects and disconnects blocks until no better chain is known.
    pub(crate) fn activate_best_chain(&mut self) -> Result<(), Fatal> {
        while !self.interrupted() {
            let Some(target) = self.most_work_chain() else { break };
            if target == self.shared.tree.read().tip() {
                break;
            }
            self.step_towards(target)?;
        }
        Ok(())
    }

    /// The best candidate all of whose blocks are there and not known to be bad (Core's
    /// `FindMostWorkChain`). Others are dropped on the way.
    fn most_work_chain(&mut self) -> Option<NodeId> {
        let tree = self.shared.tree.read();
        'candidates: while let Some(best) = self.candidates.last().copied() {
            let id = best.id.0;
            let mut path = Vec::new();
            let mut at = id;
            while !tree.is_active(at) {
                let node = tree.node(at);
                path.push(at);
                if node.failed || node.data.is_none() {
                    if node.failed
                        && self
                            .best_invalid
                            .is_none_or(|worst| tree.node(id).chainwork > tree.node(worst).chainwork)
                    {
                        self.best_invalid = Some(id);
                    }
                    for dropped in path {
                        self.candidates.remove(&tree.candidate(dropped));
                        if let (false, true, Some(parent)) =
                            (node.failed, dropped != at, tree.node(dropped).parent)
                        {
                            let waiting = self.unlinked.entry(parent).or_default();
                            if !waiting.contains(&dropped) {
                                waiting.push(dropped);
                            }
                        }
                    }
                    continue 'candidates;
                }
                at = node.parent.unwrap_or(GENESIS);
            }
            return Some(id);
        }
        None
    }

    /// Takes blocks off until `parent` is the tip; for `invalidateblock`.
    pub(crate) fn rewind_to(&mut self, parent: NodeId) -> Result<(), Fatal> {
        let mut step = Step::default();
        self.unapply_to(parent, &mut step)?;
        self.commit(&mut step)
    }

    /// Takes blocks off the overlay from the tip down to `fork`.
    fn unapply_to(&mut self, fork: NodeId, step: &mut Step) -> Result<(), Fatal> {
        let mut at = self.shared.tree.read().tip();
        while at != fork {
            let mut undone = self.unapply(at, &step.overlay)?;
            undone.mark = step.overlay.apply(&undone.changes);
            step.held_bytes += undone.bytes;
            step.undone.push(undone);
            at = self.shared.tree.read().node(at).parent.unwrap_or(GENESIS);
            if step.held_bytes > limits::REORG_HOLD_BYTES {
                self.commit(step)?;
            }
        }
        Ok(())
    }

    fn unapply(&self, id: NodeId, overlay: &Overlay) -> Result<Undone, Fatal> {
        let (hash, height) = {
            let tree = self.shared.tree.read();
            (tree.node(id).hash, tree.node(id).height)
        };
        let failed = |error: String| {
            self.log(LogLine::error(format!("DisconnectTip(): {error}")));
            Fatal("Failed to disconnect block.".into())
        };
        let block = self.shared.read_block(&hash).map_err(|error| failed(error.to_string()))?;
        let undo = self.shared.read_undo(&hash).map_err(|error| failed(error.to_string()))?;
        let ids = BlockIds::of(&block);
        let prefetched = Prefetched::default();
        let coins = OverlaidCoins { overlay, coins: &self.shared.coins, prefetched: &prefetched };
        let undone = disconnect_block(&block, &ids, &undo, height, &coins)
            .map_err(|error| failed(format!("DisconnectBlock(): {error}")))?;
        if !undone.clean {
            return Err(failed(format!("DisconnectBlock {hash} failed")));
        }
        let bytes = held_bytes(block.total_size(), &undo);
        let block = ConnectedBlock { hash, height, block: Arc::new(block), spent: Arc::new(undo) };
        Ok(Undone { id, block: Arc::new(block), changes: undone.changes, mark: Mark::default(), bytes })
    }

    /// Makes progress towards `target`: commits blocks, or finds one of them invalid.
    pub(crate) fn step_towards(&mut self, target: NodeId) -> Result<(), Fatal> {
        let mut step = Step::default();
        let (fork, start_work, path) = {
            let tree = self.shared.tree.read();
            let fork = tree.fork_with_active(target);
            let first = tree.node(fork).height.0 + 1;
            let last = tree.node(target).height.0.min(first.saturating_add(limits::STEP_BLOCKS as u32 - 1));
            let path: Vec<NodeId> = (first..=last)
                .filter_map(|height| tree.ancestor(target, ironpeer_primitives::Height(height)))
                .collect();
            (fork, tree.tip_node().chainwork, path)
        };
        self.unapply_to(fork, &mut step)?;

        let mut ahead = path.iter();
        let mut loading = VecDeque::new();
        for &id in &path {
            let room = limits::READ_AHEAD_BLOCKS.saturating_sub(loading.len());
            loading.extend(ahead.by_ref().take(room).map(|next| self.load(*next)));
            let Some(loaded) = loading.pop_front() else { break };
            let loaded = loaded.recv().map_err(|_| Fatal("a worker thread died".into()))??;
            match self.apply(id, loaded, &step.overlay)? {
                Ok(mut applied) => {
                    applied.mark = step.overlay.apply(&applied.changes);
                    step.applied.push_back(applied);
                }
                Err(reject) => {
                    step.failure = Some((id, reject));
                    break;
                }
            }
            let keep =
                if step.overlay.len() > limits::OVERLAY_COINS { 0 } else { limits::PIPELINE_BLOCKS - 1 };
            self.settle(&mut step, keep, start_work)?;
            if self.interrupted() || step.failure.is_some() {
                break;
            }
        }
        self.settle(&mut step, 0, start_work)?;
        match step.failure.take() {
            None if self.interrupted() => Ok(()),
            // All there is on the way: perhaps only a part of a very long branch.
            None => self.commit(&mut step),
            Some((id, reject)) => self.refuse(id, &path, reject),
        }
    }

    /// Marks a block that failed to connect, and the chain built on it.
    fn refuse(&mut self, id: NodeId, path: &[NodeId], reject: BlockReject) -> Result<(), Fatal> {
        /// Core looks this many blocks ahead and names the last of them as well.
        const LOOK_AHEAD: usize = 32;
        let hash = self.shared.tree.read().node(id).hash;
        if !reject.condemns_header() {
            return Err(Fatal("Corrupt block found indicating potential hardware failure.".into()));
        }
        self.log(LogLine::info(format!("Block validation error: {reject}")));
        self.block_found_invalid(id, &reject);
        self.log(LogLine::error(format!("ConnectTip: ConnectBlock {hash} failed, {reject}")));
        let place = path.iter().position(|at| *at == id).unwrap_or(0);
        let end = (place / LOOK_AHEAD + 1) * LOOK_AHEAD - 1;
        if let Some(last) = path.get(end).or(path.last()) {
            self.invalid_chain_found(*last);
        }
        self.verdicts.insert(hash, Err(reject));
        Ok(())
    }

    /// Waits until at most `keep` applied blocks have unfinished scripts; commits what may be.
    fn settle(&mut self, step: &mut Step, keep: usize, start_work: bitcoin::Work) -> Result<(), Fatal> {
        while step.applied.len() > keep && !self.interrupted() {
            let Some(applied) = step.applied.pop_front() else { break };
            let result = match &applied.scripts {
                None => Ok(()),
                Some(scripts) => scripts.recv().map_err(|_| Fatal("a script check died".into()))?,
            };
            if let Err((place, failure)) = result {
                let height = self.shared.tree.read().node(applied.id).height;
                let block = &applied.prepared.block;
                let reject = scripts::reject(&self.shared, block, height, &applied.undo, (place, &failure))?;
                // It came first, so whatever was found in a later block does not count. Its checks
                // are waited for all the same: none outlives the verdict.
                step.failure = Some((applied.id, reject));
                for later in step.applied.drain(..) {
                    if let Some(scripts) = later.scripts {
                        scripts.recv().map_err(|_| Fatal("a script check died".into()))?.ok();
                    }
                }
                break;
            }
            step.held_bytes += held_bytes(applied.prepared.size, &applied.undo);
            let work = self.shared.tree.read().node(applied.id).chainwork;
            step.passed.push(applied);
            if work > start_work || step.held_bytes > limits::REORG_HOLD_BYTES {
                self.commit(step)?;
            }
        }
        Ok(())
    }

    /// Starts reading a block and the coins it spends.
    fn load(&mut self, id: NodeId) -> Receiver<Result<Loaded, ReadError>> {
        let hash = self.shared.tree.read().node(id).hash;
        // Taken away, so that a long list of new blocks gives its memory back block by block.
        let fresh = self.fresh.remove(&hash);
        let shared = Arc::clone(&self.shared);
        pool::run(&self.pool, move || {
            let prepared = match fresh {
                Some(prepared) => prepared,
                None => read_prepared(&shared, &hash)?,
            };
            let prefetched = shared.coins.prefetch(&spent_from_elsewhere(&prepared));
            Ok(Loaded { prepared, prefetched })
        })
    }

    /// Applies a block above the overlay and starts its script checks.
    fn apply(
        &mut self,
        id: NodeId,
        loaded: Loaded,
        overlay: &Overlay,
    ) -> Result<Result<Applied, BlockReject>, Fatal> {
        let Loaded { prepared, prefetched } = loaded;
        if let Err(reject) = &prepared.check {
            return Ok(Err(reject.clone()));
        }
        let shared = Arc::clone(&self.shared);
        let tree = shared.tree.read();
        let parent = tree.node(id).parent.unwrap_or(GENESIS);
        let ancestors = tree.chain_of(parent);
        let trusted = self
            .trusted
            .is_some_and(|trusted| tree.node(id).validity == Validity::Scripts && tree.descends(trusted, id));
        let mode = if trusted {
            // Its scripts passed before a crash; make sure that these are the bytes that passed.
            if let Err(reject) = contextual_check_block(&prepared.block, &ancestors, &shared.params) {
                return Ok(Err(reject));
            }
            ScriptMode::Assume
        } else {
            self.script_mode(&tree, id)
        };
        let coins = OverlaidCoins { overlay, coins: &shared.coins, prefetched: &prefetched };
        let connected =
            connect_block(&prepared.block, &prepared.ids, &ancestors, &shared.params, &coins, mode);
        if let Some(message) = shared.fatal.borrow().as_ref() {
            // A coin that cannot be read is no coin that is missing.
            return Err(Fatal(message.to_string()));
        }
        let connected = match connected {
            Ok(connected) => connected,
            Err(reject) => return Ok(Err(reject)),
        };
        let scripts = (!connected.checks.is_empty()).then(|| {
            let (checker, checks) = (Arc::clone(&shared.checker), connected.checks);
            pool::run(&self.pool, move || checker.check(checks))
        });
        let (undo, changes) = (connected.undo, connected.changes);
        Ok(Ok(Applied { id, prepared, undo, changes, mark: Mark::default(), scripts }))
    }

    /// Whether a block's scripts are checked; says so in the log when that changes.
    fn script_mode(&mut self, tree: &crate::tree::HeaderTree, id: NodeId) -> ScriptMode {
        let reason = self.script_check_reason(tree, id);
        if self.last_script_reason != Some(reason) {
            let node = tree.node(id);
            self.log(LogLine::info(match reason {
                Some(reason) => format!(
                    "Enabling script verification at block #{} ({}): {reason}.",
                    node.height, node.hash
                ),
                None => format!("Disabling script verification at block #{} ({}).", node.height, node.hash),
            }));
            self.last_script_reason = Some(reason);
        }
        if reason.is_some() { ScriptMode::Check } else { ScriptMode::Assume }
    }

    /// Why scripts must be checked, in Core's words; `None` if `-assumevalid` spares them.
    fn script_check_reason(&self, tree: &crate::tree::HeaderTree, id: NodeId) -> Option<&'static str> {
        const TWO_WEEKS: i64 = 14 * 24 * 60 * 60;
        let Some(assumed) = self.config.assume_valid else { return Some("assumevalid=0 (always verify)") };
        let Some(assumed) = tree.id(&assumed) else { return Some("assumevalid hash not in headers") };
        let node = tree.node(id);
        let best = tree.node(tree.best_header());
        if !tree.descends(assumed, id) {
            return Some(if node.height > tree.node(assumed).height {
                "block height above assumevalid height"
            } else {
                "block not in assumevalid chain"
            });
        }
        if !tree.descends(tree.best_header(), id) {
            return Some("block not in best header chain");
        }
        if best.chainwork < self.shared.minimum_chainwork {
            return Some("best header chainwork below minimumchainwork");
        }
        let apart = block_proof_equivalent_time(
            best.chainwork,
            node.chainwork,
            best.header.work(),
            &self.shared.params,
        );
        (apart <= TWO_WEEKS).then_some("block too recent relative to best header")
    }

    /// Writes down a step and shows it to the readers: undo records, journal, then coins, tip and
    /// event together.
    fn commit(&mut self, step: &mut Step) -> Result<(), Fatal> {
        let undone = std::mem::take(&mut step.undone);
        let passed = std::mem::take(&mut step.passed);
        step.held_bytes = 0;
        let marks = undone.iter().map(|undone| undone.mark).chain(passed.iter().map(|applied| applied.mark));
        let Some(committed) = marks.max() else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        self.store_undo(&passed)?;
        let last = passed.last().map(|applied| applied.id);
        let tip = last
            .or_else(|| undone.last().and_then(|undone| shared.tree.read().node(undone.id).parent))
            .unwrap_or(GENESIS);
        self.write_journal_with_tip(tip)?;

        let mut tips: Vec<NodeId> = Vec::with_capacity(undone.len() + passed.len());
        let mut bytes = 0;
        let mut changes = Vec::with_capacity(undone.len() + passed.len());
        let mut event = ChainEvent { seq: 0, disconnected: Vec::new(), connected: Vec::new() };
        for block in undone {
            self.move_prune_locks_back(block.block.height);
            tips.extend(shared.tree.read().node(block.id).parent);
            bytes += block.bytes;
            event.disconnected.push(block.block);
            changes.push(block.changes);
        }
        for applied in passed {
            let tree = shared.tree.read();
            let node = tree.node(applied.id);
            tips.push(applied.id);
            bytes += held_bytes(applied.prepared.size, &applied.undo);
            event.connected.push(Arc::new(ConnectedBlock {
                hash: node.hash,
                height: node.height,
                block: Arc::clone(&applied.prepared.block),
                spent: applied.undo,
            }));
            changes.push(applied.changes);
            self.verdicts.insert(node.hash, Ok(()));
        }
        {
            let mut tree = shared.tree.write();
            let hash = tree.node(tip).hash;
            if step.applied.is_empty() {
                step.overlay.clear();
            } else {
                changes.iter().for_each(|changes| step.overlay.retire(changes, committed));
            }
            shared.coins.merge(changes.into_iter().flatten(), hash);
            tree.set_tip(tip);
            // Before the event: who hears of it must not take the node to be behind still.
            self.update_initial_download(&tree, tip);
            tree.event_seq += 1;
            event.seq = tree.event_seq;
            let info = tree.info(tip);
            shared.ring.push(Arc::new(event), bytes, info);
        }
        self.after_commit(&tips);
        self.flush_if_needed()
    }

    /// Stores what the blocks spent, and that they are valid.
    fn store_undo(&mut self, passed: &[Applied]) -> Result<(), Fatal> {
        let shared = Arc::clone(&self.shared);
        for applied in passed {
            let (data, undo, parent) = {
                let tree = shared.tree.read();
                let node = tree.node(applied.id);
                (node.data, node.undo, node.header.prev_blockhash)
            };
            let position = match (undo, data) {
                (Some(undo), _) => undo,
                (None, None) => return Err(ReadError::NotStored.into()),
                (None, Some(data)) => {
                    let bytes = encode_block_undo(&applied.undo);
                    self.check_disk_space(bytes.len() as u64)?;
                    self.unsynced = true;
                    shared.files.append_undo(data, &parent.to_byte_array(), &bytes)?
                }
            };
            let mut tree = shared.tree.write();
            let node = tree.node_mut(applied.id);
            if node.undo != Some(position) || node.validity != Validity::Scripts {
                node.undo = Some(position);
                node.validity = Validity::Scripts;
                drop(tree);
                self.touch(applied.id);
            }
        }
        Ok(())
    }

    /// Log lines, warnings and latches that follow from new tips.
    fn after_commit(&mut self, tips: &[NodeId]) {
        self.prune_candidates();
        let shared = Arc::clone(&self.shared);
        for &id in tips {
            let tree = shared.tree.read();
            self.update_initial_download(&tree, id);
            let mut warnings = String::new();
            if !shared.initial_download.load(Ordering::Relaxed) {
                for (bit, active) in self.version_bits.unknown_activations(&shared.params, &tree.chain_of(id))
                {
                    if active {
                        shared.warnings.send_if_modified(|warnings| {
                            let new = !warnings.unknown_rules.contains(&bit);
                            if new {
                                warnings.unknown_rules.push(bit);
                            }
                            new
                        });
                    } else {
                        let comma = if warnings.is_empty() { "" } else { ", " };
                        warnings.push_str(&format!("{comma}Unknown new rules activated (versionbit {bit})"));
                    }
                }
            }
            let node = tree.node(id);
            let (bytes, coins) = shared.coins.size();
            let warning = if warnings.is_empty() { String::new() } else { format!(" warning='{warnings}'") };
            self.log(LogLine::info(format!(
                "UpdateTip: new best={} height={} version=0x{:08x} log2_work={:.6} tx={} date='{}' \
                 progress={:.6} cache={:.1}MiB({coins}txo){warning}",
                node.hash,
                node.height,
                node.header.version.to_consensus(),
                node.chainwork.log2(),
                node.chain_tx_count,
                text::iso8601(UnixTime::from(node.header.time)),
                shared.progress(&tree, id),
                bytes as f64 / f64::from(1 << 20),
            )));
        }
        self.check_fork_warning();
        let height = shared.tree.read().tip_node().height;
        if self.config.stop_at_height.is_some_and(|stop| height >= stop) {
            shared.stop_requested.send_replace(true);
        }
    }

    /// Leaves initial download for good once the tip is recent and has enough work.
    pub(crate) fn update_initial_download(&self, tree: &crate::tree::HeaderTree, tip: NodeId) {
        let node = tree.node(tip);
        let oldest = self.shared.clock.unix().saturating_sub(self.config.max_tip_age);
        if self.importing
            || !self.shared.initial_download.load(Ordering::Relaxed)
            || node.chainwork < self.shared.minimum_chainwork
            || i64::from(node.header.time) < oldest
        {
            return;
        }
        self.log(LogLine::info("Leaving InitialBlockDownload (latching to false)"));
        self.shared.initial_download.store(false, Ordering::Relaxed);
    }

    /// Core's `TestBlockValidity`, without proof of work.
    pub(crate) fn test_block(&mut self, block: Block) -> Result<Result<(), BlockReject>, Fatal> {
        use ironpeer_consensus::{CheckBlock, check_block_with, contextual_check_header};
        let shared = Arc::clone(&self.shared);
        let tree = shared.tree.read();
        let tip = tree.tip();
        if block.header.prev_blockhash != tree.node(tip).hash {
            let reason = "inconclusive-not-best-prevblk";
            return Ok(Err(BlockReject::new(BlockClass::MissingPrev, reason)));
        }
        let block = Arc::new(block);
        let ids = BlockIds::of(&block);
        let (params, parent) = (&shared.params, tree.chain_of(tip));
        let checked = check_block_with(&block, &ids, params, CheckBlock::TEMPLATE)
            .and_then(|()| contextual_check_header(&block.header, &parent, params, shared.clock.unix()))
            .and_then(|()| contextual_check_block(&block, &parent, params));
        if checked.is_err() {
            return Ok(checked);
        }
        let (overlay, prefetched) = (Overlay::default(), Prefetched::default());
        let coins = OverlaidCoins { overlay: &overlay, coins: &shared.coins, prefetched: &prefetched };
        let connected = match connect_block(&block, &ids, &parent, params, &coins, ScriptMode::Check) {
            Ok(connected) => connected,
            Err(reject) => return Ok(Err(reject)),
        };
        let checks = connected.checks;
        match self.pool.install(|| shared.checker.check(checks)) {
            Ok(()) => Ok(Ok(())),
            Err((place, failure)) => {
                let height = tree.tip_node().height.next();
                scripts::reject(&shared, &block, height, &connected.undo, (place, &failure)).map(Err)
            }
        }
    }
}

/// Reads a stored block back and checks it again.
fn read_prepared(shared: &Shared, hash: &bitcoin::BlockHash) -> Result<Arc<Prepared>, ReadError> {
    let block = shared.read_block(hash)?;
    Ok(Arc::new(Prepared::new(Arc::new(block), &shared.params)))
}

/// The outpoints a block spends that it does not make itself.
fn spent_from_elsewhere(prepared: &Prepared) -> Vec<OutPoint> {
    let own: std::collections::HashSet<_> = prepared.ids.txids.iter().collect();
    prepared
        .block
        .txdata
        .iter()
        .skip(1)
        .flat_map(|tx| &tx.input)
        .map(|input| input.previous_output)
        .filter(|outpoint| !own.contains(&outpoint.txid))
        .collect()
}
