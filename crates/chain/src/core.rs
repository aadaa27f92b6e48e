//! The single writer's state: what only it knows beside what it shares with the readers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use ironpeer_consensus::versionbits::VersionBits;
use ironpeer_consensus::{check_header, contextual_check_block, contextual_check_header};
use ironpeer_primitives::{BlockClass, BlockReject, LogCategory, LogLine};
use ironpeer_store::{FilePos, Journal, Kv, StoreError};

use crate::config::Config;
use crate::handle::{BlockOutcome, HeaderFailure, HeadersOutcome, SubmitOptions};
use crate::limits;
use crate::prepare::Prepared;
use crate::text;
use crate::tree::{Candidate, GENESIS, NodeId, SEQUENCE_FROM_DISK, Validity};
use crate::view::{ReadError, Shared};

/// The chain cannot go on. The message is the node's last words.
#[derive(Debug)]
pub(crate) struct Fatal(pub String);

impl From<StoreError> for Fatal {
    fn from(error: StoreError) -> Self {
        Self(format!("System error: {}", chained(&error)))
    }
}

impl From<ReadError> for Fatal {
    fn from(error: ReadError) -> Self {
        Self(format!("Failed to read block: {}", chained(&error)))
    }
}

/// An error with its causes.
pub(crate) fn chained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What became of a block on its way into the tree.
pub(crate) struct Accepted {
    pub id: Option<NodeId>,
    /// Its body is stored by this call.
    pub new: bool,
    pub result: Result<(), BlockReject>,
}

/// The writer.
pub(crate) struct Core {
    pub shared: Arc<Shared>,
    pub config: Config,
    pub pool: Arc<rayon::ThreadPool>,
    pub index: Arc<dyn Kv>,
    pub journal: Journal,
    /// Blocks that could become the tip, best last.
    pub candidates: BTreeSet<Candidate>,
    /// Blocks with a body whose parent's chain lacks one, by parent.
    pub unlinked: HashMap<NodeId, Vec<NodeId>>,
    pub best_invalid: Option<NodeId>,
    pub next_sequence: i64,
    pub next_reverse_sequence: i64,
    pub last_precious_work: [u8; 32],
    /// Nodes changed since the journal last heard of them, in order, and since the index did.
    pub journal_due: Vec<NodeId>,
    pub index_due: HashSet<NodeId>,
    /// Bodies just accepted, so that connecting them need not read them back.
    pub fresh: HashMap<BlockHash, Arc<Prepared>>,
    /// Verdicts reached since the last answer, by block.
    pub verdicts: HashMap<BlockHash, Result<(), BlockReject>>,
    /// Script checks are skipped up to here: blocks that passed before a crash.
    pub trusted: Option<NodeId>,
    pub importing: bool,
    /// The tip as the journal knows it.
    pub journal_tip: NodeId,
    pub version_bits: VersionBits,
    pub last_script_reason: Option<Option<&'static str>>,
    pub flush: Option<JoinHandle<()>>,
    /// The coins on disk belong to this block.
    pub coins_on_disk: Option<BlockHash>,
    pub next_flush: Duration,
    pub flush_rng: u64,
    pub last_sync: Duration,
    pub unsynced: bool,
}

impl Core {
    pub(crate) fn log(&self, line: LogLine) {
        self.shared.log.log(line);
    }

    fn debug(&self, text: impl FnOnce() -> String) {
        if self.shared.log.enabled(LogCategory::Validation) {
            self.log(LogLine::debug(LogCategory::Validation, text()));
        }
    }

    /// Notes that a node's row must be written.
    pub(crate) fn touch(&mut self, id: NodeId) {
        self.journal_due.push(id);
        self.index_due.insert(id);
    }

    /// Core's `AcceptBlockHeader`.
    pub(crate) fn accept_header(
        &mut self,
        header: &Header,
        hash: BlockHash,
        min_pow_checked: bool,
    ) -> Result<NodeId, BlockReject> {
        let parent = {
            let tree = self.shared.tree.read();
            if let Some(id) = tree.id(&hash) {
                if !tree.node(id).failed || id == GENESIS {
                    return Ok(id);
                }
                self.debug(|| format!("AcceptBlockHeader: block {hash} is marked invalid"));
                return Err(BlockReject::new(BlockClass::CachedInvalid, "duplicate-invalid")
                    .with_debug(format!("block {hash} was previously marked invalid")));
            }
            check_header(header, &self.shared.params).inspect_err(|reject| {
                self.debug(|| format!("AcceptBlockHeader: Consensus::CheckBlockHeader: {hash}, {reject}"));
            })?;
            let Some(parent) = tree.id(&header.prev_blockhash) else {
                self.debug(|| format!("header {hash} has prev block not found: {}", header.prev_blockhash));
                return Err(BlockReject::new(BlockClass::MissingPrev, "prev-blk-not-found"));
            };
            if tree.node(parent).failed {
                self.debug(|| format!("header {hash} has prev block invalid: {}", header.prev_blockhash));
                return Err(BlockReject::new(BlockClass::InvalidPrev, "bad-prevblk"));
            }
            let now = self.shared.clock.unix();
            contextual_check_header(header, &tree.chain_of(parent), &self.shared.params, now).inspect_err(
                |reject| {
                    self.debug(|| {
                        format!("AcceptBlockHeader: Consensus::ContextualCheckBlockHeader: {hash}, {reject}")
                    });
                },
            )?;
            parent
        };
        if !min_pow_checked {
            self.debug(|| {
                format!(
                    "AcceptBlockHeader: not adding new block header {hash}, \
                     missing anti-dos proof-of-work validation"
                )
            });
            return Err(BlockReject::new(BlockClass::HeaderLowWork, "too-little-chainwork"));
        }
        let id = self.shared.tree.write().insert(*header, hash, parent);
        self.touch(id);
        Ok(id)
    }

    /// Core's `ProcessNewBlockHeaders`.
    pub(crate) fn submit_headers(
        &mut self,
        headers: &[Header],
        min_pow_checked: bool,
    ) -> Result<HeadersOutcome, Fatal> {
        let before = self.shared.tree.read().best_header();
        let mut outcome = HeadersOutcome { last: None, refused: None };
        let mut last = None;
        for (index, header) in headers.iter().enumerate() {
            match self.accept_header(header, header.block_hash(), min_pow_checked) {
                Ok(id) => last = Some(id),
                Err(reject) => {
                    outcome.refused = Some(HeaderFailure { index, reject });
                    break;
                }
            }
        }
        self.write_journal()?;
        let tree = self.shared.tree.read();
        outcome.last = last.map(|id| tree.info(id));
        if let Some(last) = last
            && tree.best_header() != before
            && self.shared.initial_download.load(Ordering::Relaxed)
        {
            let node = tree.node(last);
            let age = self.shared.clock.unix() - i64::from(node.header.time);
            let left = (age / self.shared.params.pow_target_spacing).max(0);
            let height = i64::from(node.height.0);
            let percent = 100.0 * height as f64 / (height + left) as f64;
            self.log(LogLine::info(format!("Synchronizing blockheaders, height: {height} (~{percent:.2}%)")));
        }
        Ok(outcome)
    }

    /// Core's `AcceptBlock`: takes the header, and stores the body if it is wanted and belongs to
    /// the header.
    pub(crate) fn accept_block(
        &mut self,
        prepared: &Arc<Prepared>,
        options: SubmitOptions,
    ) -> Result<Accepted, Fatal> {
        let hash = prepared.ids.hash;
        let id = match self.accept_header(&prepared.block.header, hash, options.min_pow_checked) {
            Ok(id) => id,
            Err(reject) => {
                let id = self.shared.tree.read().id(&hash);
                return Ok(Accepted { id, new: false, result: Err(reject) });
            }
        };
        let (wanted, check) = {
            let tree = self.shared.tree.read();
            let (node, tip) = (tree.node(id), tree.tip_node());
            let unasked = node.tx_count != 0
                || node.chainwork < tip.chainwork
                || node.height.0 > tip.height.0.saturating_add(limits::UNREQUESTED_AHEAD)
                || node.chainwork < self.shared.minimum_chainwork;
            let wanted = node.data.is_none() && (options.force_processing || !unasked);
            let check = match (wanted, node.parent) {
                (true, Some(parent)) => prepared.check.clone().and_then(|()| {
                    contextual_check_block(&prepared.block, &tree.chain_of(parent), &self.shared.params)
                }),
                _ => Ok(()),
            };
            (wanted, check)
        };
        if let Err(reject) = check {
            self.log(LogLine::error(format!("AcceptBlock: {reject}")));
            self.block_found_invalid(id, &reject);
            return Ok(Accepted { id: Some(id), new: false, result: Err(reject) });
        }
        if !wanted {
            return Ok(Accepted { id: Some(id), new: false, result: Ok(()) });
        }
        let position = match prepared.position {
            Some(position) => position,
            None => {
                self.check_disk_space(prepared.size as u64)?;
                self.unsynced = true;
                self.shared.files.append_block(&prepared.serialize()).map_err(|error| {
                    Fatal(format!("System error while saving block to disk: {}", chained(&error)))
                })?
            }
        };
        self.received_body(id, prepared.block.txdata.len() as u32, position);
        self.fresh.insert(hash, Arc::clone(prepared));
        Ok(Accepted { id: Some(id), new: true, result: Ok(()) })
    }

    /// Core's `ReceivedBlockTransactions`: the body is stored; it and those that waited for it
    /// may become candidates.
    pub(crate) fn received_body(&mut self, id: NodeId, tx_count: u32, position: FilePos) {
        {
            let mut tree = self.shared.tree.write();
            let node = tree.node_mut(id);
            node.tx_count = tx_count;
            node.data = Some(position);
            node.undo = None;
            node.validity = node.validity.max(Validity::Transactions);
        }
        self.touch(id);
        self.link(id, true);
    }

    /// Adds up transaction counts from `id` on as far as bodies are there, and makes candidates.
    /// New arrivals get a place in the order of arrival.
    pub(crate) fn link(&mut self, id: NodeId, arrived: bool) {
        let shared = Arc::clone(&self.shared);
        let mut tree = shared.tree.write();
        let ready = |parent: Option<NodeId>, tree: &crate::tree::HeaderTree| {
            parent.is_none_or(|parent| tree.node(parent).chain_tx_count > 0)
        };
        let parent = tree.node(id).parent;
        if !ready(parent, &tree) {
            if let Some(parent) = parent {
                let waiting = self.unlinked.entry(parent).or_default();
                if !waiting.contains(&id) {
                    waiting.push(id);
                }
            }
            return;
        }
        let mut queue = std::collections::VecDeque::from([id]);
        while let Some(id) = queue.pop_front() {
            let before = tree.node(id).parent.map_or(0, |parent| tree.node(parent).chain_tx_count);
            let sequence = self.next_sequence;
            let node = tree.node_mut(id);
            node.chain_tx_count = before + u64::from(node.tx_count);
            if arrived {
                // Its key changes with its place.
                node.sequence = sequence;
                self.next_sequence += 1;
            }
            let key = tree.candidate(id);
            if !tree.node(id).failed && key >= tree.candidate(tree.tip()) {
                self.candidates.insert(key);
            }
            queue.extend(self.unlinked.remove(&id).unwrap_or_default());
        }
    }

    /// Core's `InvalidBlockFound`.
    pub(crate) fn block_found_invalid(&mut self, id: NodeId, reject: &BlockReject) {
        if reject.class == BlockClass::Mutated {
            return;
        }
        {
            let mut tree = self.shared.tree.write();
            let key = tree.candidate(id);
            self.candidates.remove(&key);
            tree.node_mut(id).failed = true;
        }
        self.touch(id);
        self.invalid_chain_found(id);
    }

    /// Core's `InvalidChainFound`: marks everything above `id`, and says so.
    pub(crate) fn invalid_chain_found(&mut self, id: NodeId) {
        let shared = Arc::clone(&self.shared);
        {
            let mut tree = shared.tree.write();
            if self.best_invalid.is_none_or(|worst| tree.node(id).chainwork > tree.node(worst).chainwork) {
                self.best_invalid = Some(id);
            }
            for below in tree.descendants(id) {
                if !tree.node(below).failed {
                    let key = tree.candidate(below);
                    self.candidates.remove(&key);
                    tree.node_mut(below).failed = true;
                    self.touch(below);
                }
            }
            if tree.descends(tree.best_header(), id) {
                tree.recalculate_best_header();
            }
            self.log(LogLine::info(format!(
                "InvalidChainFound: invalid block={}",
                text::place(tree.node(id))
            )));
            self.log(LogLine::info(format!(
                "InvalidChainFound: current best={}",
                text::place(tree.tip_node())
            )));
        }
        self.check_fork_warning();
    }

    /// Core's `CheckForkWarningConditions`.
    pub(crate) fn check_fork_warning(&self) {
        let tree = self.shared.tree.read();
        let tip = tree.tip_node();
        let proof = tip.header.work();
        let six = (0..6).fold(tip.chainwork, |work, _| work + proof);
        let large = self.best_invalid.is_some_and(|id| tree.node(id).chainwork > six);
        let changed = self.shared.warnings.send_if_modified(|warnings| {
            let changed = warnings.large_invalid_chain != large;
            warnings.large_invalid_chain = large;
            changed
        });
        if large && changed {
            self.log(LogLine::warning(
                "Found invalid chain more than 6 blocks longer than our best chain. This could be due to \
                 database corruption or consensus incompatibility with peers.",
            ));
        }
    }

    /// Whether the writer must end its work early: something broke, the node shuts down, or
    /// `-stopatheight` is reached.
    pub(crate) fn interrupted(&self) -> bool {
        self.shared.failed()
            || self.shared.stopping.load(Ordering::Relaxed)
            || *self.shared.stop_requested.borrow()
    }

    /// Core's `ProcessNewBlock` for several blocks that came at once: all are accepted in order,
    /// then the best chain is activated.
    pub(crate) fn submit_blocks(
        &mut self,
        blocks: Vec<(Box<Prepared>, SubmitOptions)>,
    ) -> Result<Vec<BlockOutcome>, Fatal> {
        let mut accepted = Vec::with_capacity(blocks.len());
        for (block, options) in blocks {
            let block = Arc::new(*block);
            let hash = block.ids.hash;
            // A block that fails on its own is refused before its header is looked at, so that
            // nothing unknown about malleable bodies can condemn a header.
            let accept = match block.check.clone() {
                Ok(()) => self.accept_block(&block, options)?,
                Err(reject) => {
                    let id = self.shared.tree.read().id(&hash);
                    Accepted { id, new: false, result: Err(reject) }
                }
            };
            if let Err(reject) = &accept.result {
                self.log(LogLine::error(format!("ProcessNewBlock: AcceptBlock FAILED ({reject})")));
            }
            accepted.push((hash, accept));
        }
        self.activate_best_chain()?;
        self.write_journal()?;
        self.fresh.clear();
        let verdicts = std::mem::take(&mut self.verdicts);
        let submitted: Vec<BlockHash> = accepted.iter().map(|(hash, _)| *hash).collect();
        let others_refused: Vec<_> = verdicts
            .iter()
            .filter(|(hash, _)| !submitted.contains(hash))
            .filter_map(|(hash, verdict)| Some((*hash, verdict.clone().err()?)))
            .collect();
        let tree = self.shared.tree.read();
        let outcome = |(hash, accept): (BlockHash, Accepted)| {
            let verdict = verdicts.get(&hash).cloned();
            BlockOutcome {
                hash,
                new: accept.new,
                checked: accept.result.is_err() || verdict.is_some(),
                result: accept.result.and(verdict.unwrap_or(Ok(()))),
                header: accept.id.map(|id| tree.info(id)),
                others_refused: others_refused.clone(),
            }
        };
        Ok(accepted.into_iter().map(outcome).collect())
    }

    /// Blocks of an import or a reindex; returns how many were new.
    pub(crate) fn import_blocks(&mut self, blocks: Vec<Prepared>) -> Result<usize, Fatal> {
        let mut new = 0;
        for block in blocks {
            if self.accept_block(&Arc::new(block), SubmitOptions::WANTED)?.new {
                new += 1;
            }
        }
        self.activate_best_chain()?;
        self.write_journal()?;
        self.fresh.clear();
        self.verdicts.clear();
        Ok(new)
    }

    /// Adds every block that could be the tip (Core's `PopulateBlockIndexCandidates`).
    pub(crate) fn populate_candidates(&mut self) {
        let tree = self.shared.tree.read();
        let tip = tree.candidate(tree.tip());
        let keys = tree.ids().filter(|id| tree.node(*id).connectable()).map(|id| tree.candidate(id));
        self.candidates.extend(keys.filter(|key| *key >= tip));
    }

    /// Drops candidates worse than the tip (Core's `PruneBlockIndexCandidates`).
    pub(crate) fn prune_candidates(&mut self) {
        let tree = self.shared.tree.read();
        self.candidates = self.candidates.split_off(&tree.candidate(tree.tip()));
    }

    /// Changes a node's place among equals, keeping the candidates in order.
    pub(crate) fn set_sequence(&mut self, id: NodeId, sequence: i64) {
        let mut tree = self.shared.tree.write();
        let key = tree.candidate(id);
        let held = self.candidates.remove(&key);
        tree.node_mut(id).sequence = sequence;
        if held {
            self.candidates.insert(tree.candidate(id));
        }
    }

    /// The first sequence for blocks that arrive in this run.
    pub(crate) const FIRST_SEQUENCE: i64 = SEQUENCE_FROM_DISK + 1;
}
