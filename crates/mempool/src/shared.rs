//! What the mempool's handles share: the core behind its lock, and the steps that go in and out
//! of it. Everything here is synchronous.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bitcoin::{Block, OutPoint, Transaction, Txid};
use ironpeer_consensus::{
    calculate_sequence_locks, is_final_tx, limits::COINBASE_MATURITY, sequence_locks_met,
};
use ironpeer_primitives::{ChainEvent, Coin, ConnectedBlock, HeaderInfo, Height, TxReject, UnixTime};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use crate::admission::{FetchedCoins, Refusal, Terms, TipAncestry, World, check_alone};
use crate::core::MempoolCore;
use crate::gate::Gate;
use crate::handle::Parts;
use crate::limits;
use crate::scripts::check_scripts;
use crate::types::{Accepted, MempoolEvent, NodeView, RemovalReason, SubmitTx};

/// How far the mempool has followed the chain.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// Number of the last event applied.
    pub seq: u64,
    /// No more events will come.
    pub closed: bool,
}

/// A change of the tip, as far as the mempool looks at it.
pub struct TipChange {
    /// Blocks taken off, the former tip first.
    pub disconnected: Vec<Arc<Block>>,
    /// Blocks put on, in rising height.
    pub connected: Vec<Arc<Block>>,
    /// Where it leads.
    pub tip: HeaderInfo,
}

/// An admission's end.
#[derive(Debug)]
pub enum Admission {
    /// The verdict.
    Done(Result<Accepted, TxReject>),
    /// The chain has moved on and the mempool has not followed yet.
    Behind,
}

pub struct Shared {
    pub parts: Parts,
    core: Mutex<MempoolCore>,
    /// Passed by whatever is handed to the pool.
    pub gate: Gate,
    pub view: ArcSwap<NodeView>,
    pub applied: watch::Sender<Applied>,
    pub events: broadcast::Sender<MempoolEvent>,
}

impl Shared {
    pub fn new(parts: Parts, tip: HeaderInfo, seq: u64) -> Self {
        let core = MempoolCore::new(parts.config.clone(), Arc::clone(&parts.params), tip, seq);
        let view = ArcSwap::from_pointee(core.view());
        let (applied, _) = watch::channel(Applied { seq, closed: false });
        let (events, _) = broadcast::channel(limits::EVENT_BACKLOG);
        Self { parts, core: Mutex::new(core), gate: Gate::default(), view, applied, events }
    }

    fn now(&self) -> UnixTime {
        self.parts.clock.unix()
    }

    /// Looks something up.
    pub fn read<T>(&self, look: impl FnOnce(&mut MempoolCore, UnixTime) -> T) -> T {
        let now = self.now();
        look(&mut self.core.lock(), now)
    }

    /// Changes something; tells subscribers in order, publishes, and writes the log.
    pub fn change<T>(&self, change: impl FnOnce(&mut MempoolCore, UnixTime) -> T) -> T {
        let now = self.now();
        let mut core = self.core.lock();
        let result = change(&mut core, now);
        let out = std::mem::take(&mut core.out);
        for event in out.events {
            // Nobody may be listening.
            let _ = self.events.send(event);
        }
        // While a tip change is half applied the former view stands.
        if !core.applying {
            self.view.store(Arc::new(core.view()));
        }
        drop(core);
        for line in out.log {
            self.parts.log.log(line);
        }
        result
    }

    fn fetch(&self, tx: &Transaction, wanted: &[OutPoint]) -> FetchedCoins {
        let mut fetched = self.read_coins(wanted);
        if fetched.coins.values().any(Option::is_none) {
            let txid = tx.compute_txid();
            let count = tx.output.len().min(limits::KNOWN_OUTPUT_LOOKUPS) as u32;
            let own: Vec<OutPoint> = (0..count).map(|vout| OutPoint { txid, vout }).collect();
            fetched.already_known = self.parts.chain.coins(&own).1.iter().any(Option::is_some);
        }
        fetched
    }

    /// Reads coins in order, a few at first and then more at a time, and none beyond the part in
    /// which one is missing: a transaction that cannot be taken is not worth a disk access for
    /// each of its inputs (CVE-2013-2293).
    pub fn read_coins(&self, wanted: &[OutPoint]) -> FetchedCoins {
        let mut part = limits::FIRST_COINS;
        let (first, mut rest) = wanted.split_at(part.min(wanted.len()));
        let (tip, found) = self.parts.chain.coins(first);
        let mut missing = found.iter().any(Option::is_none);
        let mut coins: HashMap<OutPoint, Option<Coin>> = first.iter().copied().zip(found).collect();
        while !missing && !rest.is_empty() {
            part = part.saturating_mul(limits::COINS_GROWTH);
            let (next, later) = rest.split_at(part.min(rest.len()));
            let (at, found) = self.parts.chain.coins(next);
            // Coins of two tips do not go together; what is left out makes the caller start over.
            if at != tip {
                break;
            }
            missing = found.iter().any(Option::is_none);
            coins.extend(next.iter().copied().zip(found));
            rest = later;
        }
        FetchedCoins { tip, coins, already_known: false }
    }

    pub fn world(&self, now: UnixTime) -> World<'_> {
        World { chain: self.parts.chain.as_ref(), now }
    }

    /// A transaction that comes alone.
    pub fn submit(&self, tx: &Arc<Transaction>, how: SubmitTx) -> Admission {
        let terms = Terms {
            time: how.time.unwrap_or_else(|| self.now()),
            max_feerate: how.max_feerate,
            local: how.local,
            ..Terms::default()
        };
        self.admit(tx, terms, how.test_accept)
    }

    /// One transaction through every check; with `test` only that. The lock is held for the
    /// short ones only.
    pub fn admit(&self, tx: &Arc<Transaction>, terms: Terms, test: bool) -> Admission {
        let no = |reject| Admission::Done(Err(reject));
        if let Err(reject) = check_alone(tx, &self.parts.config) {
            return no(reject);
        }
        let mut passed_under = None;
        for _ in 0..limits::ADMISSION_RETRIES {
            let wanted = match self.read(|core, _| core.wanted_coins(tx)) {
                Ok(wanted) => wanted,
                Err(reject) => return no(reject),
            };
            let fetched = self.fetch(tx, &wanted);
            let mut commit = None;
            let checked = self.change(|core, now| {
                let checked = core.check(tx, terms, &fetched, &self.world(now))?;
                // Scripts that passed still pass: what an outpoint stands for never changes.
                if passed_under == Some(checked.flags) && !test {
                    commit = Some(core.commit(checked.clone(), now));
                }
                Ok(checked)
            });
            if let Some(result) = commit {
                return Admission::Done(result);
            }
            let checked = match checked {
                Ok(checked) => checked,
                Err(Refusal::Reject(reject)) => return no(reject),
                Err(Refusal::Stale) if self.read(|core, _| core.tip.hash) != fetched.tip => {
                    return Admission::Behind;
                }
                Err(Refusal::Stale) => continue,
            };
            if passed_under != Some(checked.flags) {
                if let Err((reject, line)) = check_scripts(self.parts.checker.as_ref(), &checked) {
                    if let Some(line) = line {
                        self.parts.log.log(line);
                    }
                    return no(reject);
                }
                passed_under = Some(checked.flags);
            }
            if test {
                return Admission::Done(Ok(self.would_accept(&checked)));
            }
            let result =
                self.change(|core, now| (core.epoch() == checked.epoch).then(|| core.commit(checked, now)));
            if let Some(result) = result {
                return Admission::Done(result);
            }
        }
        Admission::Behind
    }

    pub fn would_accept(&self, checked: &crate::admission::Checked) -> Accepted {
        let entry = &checked.entry;
        let replaced = self.read(|core, _| {
            checked
                .replaces
                .iter()
                .filter_map(|txid| core.pool.get(txid))
                .map(|old| Arc::clone(&old.tx))
                .collect()
        });
        Accepted {
            txid: entry.txid,
            wtxid: entry.wtxid,
            fee: entry.fee,
            modified_fee: entry.modified_fee(),
            vsize: entry.vsize,
            replaced,
        }
    }

    /// Whether the chain is where the mempool is.
    pub fn is_current(&self) -> bool {
        self.parts.chain.coins(&[]).0 == self.read(|core, _| core.tip.hash)
    }

    /// Whether tip changes pass without work.
    pub fn is_idle(&self) -> bool {
        self.read(|core, _| {
            core.pool.is_empty() && core.pool.deltas.is_empty() && core.returning.is_empty() && !core.reorged
        })
    }

    /// What a tip change means for the mempool; `None` if it leads to no known tip.
    pub fn tip_change(&self, event: &ChainEvent) -> Option<TipChange> {
        let tip = match (event.connected.last(), event.disconnected.last()) {
            (Some(block), _) => block.hash,
            (None, Some(block)) => block.block.header.prev_blockhash,
            (None, None) => return None,
        };
        let blocks = |list: &[Arc<ConnectedBlock>]| list.iter().map(|at| Arc::clone(&at.block)).collect();
        let tip = self.parts.chain.header(&tip)?;
        let (disconnected, connected) = (blocks(&event.disconnected), blocks(&event.connected));
        Some(TipChange { disconnected, connected, tip })
    }

    /// Blocks up to `height` passed while nothing was in the mempool.
    pub fn skip_to(&self, height: Height) {
        self.change(|core, _| {
            if let Some(fees) = &mut core.fees {
                fees.skip_to(height);
            }
        });
    }

    /// Follows a change of the tip: `disconnected` has the former tip first, `connected` rises.
    pub fn apply(&self, disconnected: &[Arc<Block>], connected: &[Arc<Block>], tip: HeaderInfo, seq: u64) {
        self.change(|core, now| {
            core.applying = true;
            core.out.events.push(MempoolEvent::TipLeft { seq });
            core.disconnect(disconnected);
            let count = u32::try_from(connected.len()).unwrap_or(u32::MAX);
            let heights = (tip.height.0 + 1).saturating_sub(count)..=tip.height.0;
            for (height, block) in heights.zip(connected) {
                core.remove_for_block(Height(height), &block.txdata, now);
                core.forget_returning(&block.txdata);
            }
            core.tip = tip;
            core.seq = seq;
        });
        // If the chain is further on already, the last of its events settles it.
        if self.read(|core, _| core.reorged) && self.is_current() {
            self.settle_reorg();
        }
        self.change(|core, _| {
            core.applying = false;
            core.out.events.push(MempoolEvent::TipReached { seq });
        });
        self.applied.send_modify(|applied| applied.seq = seq);
    }

    /// Takes back what disconnected blocks confirmed, then drops what the new chain forbids
    /// (Core's `MaybeUpdateMempoolForReorg`).
    fn settle_reorg(&self) {
        let mut returning = self.change(|core, _| std::mem::take(&mut core.returning)).into_iter();
        let mut returned = Vec::new();
        let terms = Terms { time: self.now(), bypass_limits: true, ..Terms::default() };
        while let Some(tx) = returning.next() {
            if tx.is_coinbase() {
                self.change(|core, _| core.remove_dependents(&tx));
                continue;
            }
            match self.admit(&tx, terms, false) {
                Admission::Done(Ok(accepted)) => returned.push(accepted.txid),
                Admission::Done(Err(_)) => self.change(|core, _| core.remove_dependents(&tx)),
                Admission::Behind => {
                    let rest: Vec<_> = std::iter::once(tx).chain(returning).collect();
                    self.change(|core, _| core.returning = rest);
                    break;
                }
            }
        }
        self.change(|core, _| {
            let (count, weight) = (core.cluster_count_limit(), core.cluster_weight_limit());
            let excess = core.pool.link_children(&returned, count, weight);
            core.remove(&excess, RemovalReason::SizeLimit);
        });
        self.drop_premature();
    }

    /// Drops what is not final or spends immature coinbases in the next block.
    fn drop_premature(&self) {
        let wanted: Vec<OutPoint> = self.read(|core, _| {
            let entries =
                core.pool.iter().filter(|entry| entry.spends_coinbase || has_relative_lock(&entry.tx));
            let outpoints =
                entries.flat_map(|entry| entry.tx.input.iter().map(|input| input.previous_output));
            outpoints.filter(|outpoint| !core.pool.contains(&outpoint.txid)).collect()
        });
        let (tip, coins) = self.parts.chain.coins(&wanted);
        let coins: HashMap<OutPoint, Option<Coin>> = wanted.into_iter().zip(coins).collect();
        self.change(|core, now| {
            if core.tip.hash != tip {
                return;
            }
            let ancestry = TipAncestry { chain: self.parts.chain.as_ref(), tip: core.tip };
            let premature: Vec<Txid> = core
                .pool
                .iter()
                .filter(|entry| {
                    let held = entry.spends_coinbase || has_relative_lock(&entry.tx);
                    !is_final_tx(&entry.tx, core.tip.height.next(), core.tip.median_time_past)
                        || (held && is_premature(core, &entry.tx, &coins, &ancestry))
                })
                .map(|entry| entry.txid)
                .collect();
            let gone: BTreeSet<Txid> = core.pool.with_descendants(premature);
            core.remove(&gone, RemovalReason::Reorg);
            core.limit_size(now);
            core.reorged = !core.returning.is_empty();
        });
    }
}

/// Whether BIP68 may hold a transaction back.
fn has_relative_lock(tx: &Transaction) -> bool {
    tx.version.0.cast_unsigned() >= 2 && tx.input.iter().any(|input| input.sequence.is_relative_lock_time())
}

fn is_premature(
    core: &MempoolCore,
    tx: &Transaction,
    coins: &HashMap<OutPoint, Option<Coin>>,
    ancestry: &TipAncestry<'_>,
) -> bool {
    let next = core.tip.height.next();
    let mut heights = Vec::with_capacity(tx.input.len());
    for input in &tx.input {
        let outpoint = &input.previous_output;
        if core.pool.contains(&outpoint.txid) {
            heights.push(next);
            continue;
        }
        let Some(Some(coin)) = coins.get(outpoint) else { return true };
        if coin.is_coinbase && next.0.saturating_sub(coin.height.0) < COINBASE_MATURITY {
            return true;
        }
        heights.push(coin.height);
    }
    let locks = calculate_sequence_locks(tx, true, heights, ancestry);
    !sequence_locks_met(locks, next, core.tip.median_time_past)
}

impl MempoolCore {
    /// Remembers what disconnected blocks had confirmed.
    fn disconnect(&mut self, blocks: &[Arc<Block>]) {
        if blocks.is_empty() {
            return;
        }
        self.reorged = true;
        let older = blocks.iter().rev().flat_map(|block| block.txdata.iter().cloned().map(Arc::new));
        let mut returning: Vec<Arc<Transaction>> = older.collect();
        returning.append(&mut self.returning);
        let mut bytes = 0;
        let fits = returning.iter().take_while(|tx| {
            bytes += tx.total_size();
            bytes <= limits::MAX_RETURNING_BYTES
        });
        let kept = fits.count();
        for tx in returning.split_off(kept) {
            self.remove_dependents(&tx);
        }
        self.returning = returning;
    }

    /// They are confirmed again.
    fn forget_returning(&mut self, confirmed: &[Transaction]) {
        if self.returning.is_empty() {
            return;
        }
        let confirmed: HashSet<Txid> = confirmed.iter().map(Transaction::compute_txid).collect();
        self.returning.retain(|tx| !confirmed.contains(&tx.compute_txid()));
    }
}
