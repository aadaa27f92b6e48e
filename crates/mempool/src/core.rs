//! The mempool as a synchronous machine: it is told the time and the chain's coins, decides, and
//! puts what changed into an outbox.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bitcoin::{Transaction, Txid};
use ironpeer_consensus::{Params, format_money};
use ironpeer_primitives::{HeaderInfo, Height, LogCategory, LogLine, TxClass, TxReject, UnixTime};

use crate::admission::Checked;
use crate::config::Config;
use crate::feerate::FeeRate;
use crate::fees::{Entered, FeeEstimator};
use crate::limits;
use crate::policy::{self, vsize};
use crate::pool::{Entry, Pool};
use crate::types::{Accepted, EntryInfo, MempoolEvent, MempoolInfo, NodeView, Prioritised, RemovalReason};

/// What happened, to be told to others once the lock is free.
#[derive(Debug, Default)]
pub struct Outbox {
    pub events: Vec<MempoolEvent>,
    pub log: Vec<LogLine>,
}

/// The least feerate that is taken, raised by evictions and decaying by itself.
#[derive(Clone, Copy, Debug, Default)]
struct RollingFee {
    /// Satoshi per 1,000 vbytes.
    rate: f64,
    updated: UnixTime,
    /// It decays only once a block has come after it was raised.
    block_since_bump: bool,
}

/// The mempool.
#[derive(Debug)]
pub struct MempoolCore {
    pub config: Config,
    pub params: Arc<Params>,
    pub pool: Pool,
    pub tip: HeaderInfo,
    /// Number of the chain event that led to the tip.
    pub seq: u64,
    /// Number of the next change.
    sequence: u64,
    /// Counts changes a template could show.
    updated: u64,
    rolling: RollingFee,
    /// `None` if nothing is estimated here.
    pub fees: Option<FeeEstimator>,
    pub loaded: bool,
    pub out: Outbox,
    /// Transactions of disconnected blocks that are yet to be taken back, oldest first.
    pub returning: Vec<Arc<Transaction>>,
    /// Finality and maturity are to be looked at again.
    pub reorged: bool,
    /// A tip change is half applied.
    pub applying: bool,
}

impl MempoolCore {
    /// An empty mempool on `tip`, to which event `seq` led.
    pub fn new(config: Config, params: Arc<Params>, tip: HeaderInfo, seq: u64) -> Self {
        Self {
            fees: config.estimate_fees.then(FeeEstimator::new),
            config,
            params,
            pool: Pool::default(),
            tip,
            seq,
            sequence: 1,
            updated: 0,
            rolling: RollingFee::default(),
            loaded: false,
            out: Outbox::default(),
            returning: Vec::new(),
            reorged: false,
            applying: false,
        }
    }

    fn debug(&mut self, text: String) {
        self.out.log.push(LogLine::debug(LogCategory::Mempool, text));
    }

    /// Number of the next change.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Changes with everything that an admission under way may have relied on.
    pub fn epoch(&self) -> (u64, u64) {
        (self.seq, self.updated)
    }

    fn next_sequence(&mut self) -> u64 {
        let sequence = self.sequence;
        self.sequence += 1;
        sequence
    }

    /// The cluster limit as weight.
    pub fn cluster_weight_limit(&self) -> u64 {
        self.config.cluster_vbytes.saturating_mul(4)
    }

    /// The cluster limit in transactions.
    pub fn cluster_count_limit(&self) -> usize {
        self.config.cluster_count.min(limits::MAX_CLUSTER_COUNT)
    }

    /// The rolling minimum feerate (Core's `GetMinFee`).
    pub fn rolling_min_fee(&mut self, now: UnixTime) -> FeeRate {
        let rolling = &mut self.rolling;
        // A feerate is far below 2^53.
        let round = |rate: f64| FeeRate::from_sat_per_kvb(rate.round() as u64);
        if !rolling.block_since_bump || rolling.rate == 0.0 {
            return round(rolling.rate);
        }
        if now > rolling.updated + limits::ROLLING_FEE_STEP {
            let usage = self.pool.usage();
            let halflife = limits::ROLLING_FEE_HALFLIFE
                / if usage < self.config.max_bytes / 4 {
                    4.0
                } else if usage < self.config.max_bytes / 2 {
                    2.0
                } else {
                    1.0
                };
            rolling.rate /= 2f64.powf((now - rolling.updated) as f64 / halflife);
            rolling.updated = now;
            if rolling.rate < self.config.incremental.sat_per_kvb() as f64 / 2.0 {
                rolling.rate = 0.0;
                return FeeRate::default();
            }
        }
        round(rolling.rate).max(self.config.incremental)
    }

    /// Least feerate taken now.
    pub fn min_fee(&mut self, now: UnixTime) -> FeeRate {
        self.rolling_min_fee(now).max(self.config.min_relay)
    }

    /// Takes transactions out, with everything that would be left without a parent unless they
    /// were confirmed, and tells why.
    pub fn remove(&mut self, txids: &BTreeSet<Txid>, reason: RemovalReason) -> Vec<Entry> {
        let removed = self.pool.remove(txids);
        for entry in &removed {
            self.tell_removed(entry, reason);
        }
        removed
    }

    fn tell_removed(&mut self, entry: &Entry, reason: RemovalReason) {
        let sequence = self.next_sequence();
        self.updated += 1;
        self.forget_unbroadcast(&entry.txid, true);
        // What a block confirmed is told with the block.
        if reason != RemovalReason::Block
            && let Some(fees) = &mut self.fees
        {
            fees.left(&entry.txid);
        }
        self.out.events.push(MempoolEvent::Removed { tx: entry.pool_tx(), reason, sequence });
    }

    /// No longer to be announced again and again; `unchecked` if nobody ever asked for it.
    pub fn forget_unbroadcast(&mut self, txid: &Txid, unchecked: bool) {
        if self.pool.unbroadcast.remove(txid) {
            let why = if unchecked { " before confirmation that txn was sent out" } else { "" };
            self.debug(format!("Removed {txid} from set of unbroadcast txns{why}"));
        }
    }

    /// Puts a checked transaction in, with the replacements it stands for.
    ///
    /// # Errors
    /// `mempool full`, if it was the worst of a full mempool.
    pub fn commit(&mut self, checked: Checked, now: UnixTime) -> Result<Accepted, TxReject> {
        let Checked { entry, replaces, limit_size, local, tells_fee, .. } = checked;
        let (txid, wtxid, new_vsize, modified) = (entry.txid, entry.wtxid, entry.vsize, entry.modified_fee());
        let accepted = |replaced| Accepted {
            txid,
            wtxid,
            fee: entry.fee,
            modified_fee: modified,
            vsize: new_vsize,
            replaced,
        };
        let mut result = accepted(Vec::new());
        let mut replaced_fees = 0i64;
        let mut replaced_vsize = 0u64;
        for old in replaces.iter().filter_map(|old| self.pool.get(old)) {
            replaced_fees = replaced_fees.saturating_add(old.modified_fee());
            replaced_vsize += old.vsize;
            self.out.log.push(LogLine::debug(
                LogCategory::Mempool,
                format!(
                    "replacing mempool tx {} (wtxid={}, fees={}, vsize={}). New tx {txid} (wtxid={wtxid}, fees={modified}, vsize={new_vsize})",
                    old.txid, old.wtxid, old.fee.to_sat(), old.vsize
                ),
            ));
        }
        let removed = self.remove(&replaces, RemovalReason::Replaced);
        result.replaced = removed.into_iter().map(|old| old.tx).collect();
        self.pool.insert(entry);
        self.updated += 1;
        if limit_size {
            self.limit_size(now);
        }
        let Some(entry) = self.pool.get(&txid) else {
            return Err(TxReject::new(TxClass::Reconsiderable, "mempool full"));
        };
        let tx = entry.pool_tx();
        if let Some(fees) = &mut self.fees {
            fees.entered(&Entered {
                txid,
                height: entry.height,
                feerate: FeeRate::of(entry.fee, entry.vsize),
                telling: tells_fee && entry.parents.is_empty(),
            });
        }
        let sequence = self.next_sequence();
        self.out.events.push(MempoolEvent::Added { tx, sequence });
        if local {
            self.pool.unbroadcast.insert(txid);
        }
        if !result.replaced.is_empty() {
            let (count, fees) = (result.replaced.len(), modified.saturating_sub(replaced_fees));
            let delta = new_vsize.cast_signed() - replaced_vsize.cast_signed();
            self.debug(format!(
                "replaced {count} mempool transactions with 1 new transaction for {fees} additional fees, {delta} delta bytes"
            ));
        }
        Ok(result)
    }

    /// Drops what is too old, then the worst chunks until the memory suffices (Core's
    /// `LimitMempoolSize`).
    pub fn limit_size(&mut self, now: UnixTime) {
        let old = self.pool.older_than(now - self.config.expiry_seconds);
        if !old.is_empty() {
            let expired = self.pool.with_descendants(old);
            let count = self.remove(&expired, RemovalReason::Expiry).len();
            self.debug(format!("Expired {count} transactions from the memory pool"));
        }
        let mut removed = 0;
        let mut highest = FeeRate::default();
        while self.pool.usage() > self.config.max_bytes {
            let Some((frac, txids)) = self.pool.chunks().next_back() else { break };
            let worst: BTreeSet<Txid> = txids.iter().copied().collect();
            let fee = u64::try_from(frac.fee).unwrap_or(0);
            let rate = fee.saturating_mul(1_000) / vsize(frac.weight).max(1);
            let rate = FeeRate::from_sat_per_kvb(rate + self.config.incremental.sat_per_kvb());
            if rate.sat_per_kvb() as f64 > self.rolling.rate {
                self.rolling.rate = rate.sat_per_kvb() as f64;
                self.rolling.block_since_bump = false;
            }
            highest = highest.max(rate);
            removed += self.remove(&worst, RemovalReason::SizeLimit).len();
        }
        if removed > 0 {
            self.debug(format!("Removed {removed} txn, rolling minimum fee bumped to {highest}"));
        }
    }

    /// Takes out what a block confirmed and what its transactions rule out (Core's
    /// `removeForBlock`).
    pub fn remove_for_block(&mut self, height: Height, txs: &[Transaction], now: UnixTime) {
        let mut counted = Vec::new();
        if !self.pool.is_empty() || !self.pool.deltas.is_empty() {
            let txids: Vec<Txid> = txs.iter().map(Transaction::compute_txid).collect();
            let confirmed: BTreeSet<Txid> =
                txids.iter().filter(|txid| self.pool.contains(txid)).copied().collect();
            // All at once, so that each cluster is ordered anew only once; told one by one.
            let mut removed: HashMap<Txid, Entry> =
                self.pool.remove(&confirmed).into_iter().map(|entry| (entry.txid, entry)).collect();
            for (tx, txid) in txs.iter().zip(&txids) {
                if let Some(entry) = removed.remove(txid) {
                    counted.push(*txid);
                    self.tell_removed(&entry, RemovalReason::Block);
                }
                let spenders = tx.input.iter().filter_map(|input| self.pool.spender(&input.previous_output));
                let rivals: Vec<Txid> = spenders.map(|entry| entry.txid).collect();
                for rival in &rivals {
                    self.pool.deltas.remove(rival);
                }
                if !rivals.is_empty() {
                    let conflicts = self.pool.with_descendants(rivals);
                    self.remove(&conflicts, RemovalReason::Conflict);
                }
                self.pool.deltas.remove(txid);
            }
        }
        if let Some(fees) = &mut self.fees {
            self.out.log.extend(fees.block(height, &counted));
        }
        self.rolling.updated = now;
        self.rolling.block_since_bump = true;
    }

    /// Takes out a transaction that could not come back, or at least everything that spends it.
    pub fn remove_dependents(&mut self, tx: &Transaction) {
        let txid = tx.compute_txid();
        let outputs = u32::try_from(tx.output.len()).unwrap_or(u32::MAX);
        let spenders: Vec<Txid> = (0..outputs)
            .filter_map(|vout| self.pool.spender(&bitcoin::OutPoint { txid, vout }))
            .map(|entry| entry.txid)
            .chain([txid])
            .collect();
        let gone = self.pool.with_descendants(spenders);
        self.remove(&gone, RemovalReason::Reorg);
    }

    /// Adds to a transaction's fee delta (Core's `PrioritiseTransaction`).
    pub fn prioritise(&mut self, txid: Txid, delta: i64) {
        let total = self.pool.deltas.get(&txid).copied().unwrap_or(0).saturating_add(delta);
        let here = if self.pool.contains(&txid) {
            self.pool.set_delta(&txid, total);
            self.updated += 1;
            ""
        } else {
            "not "
        };
        if total == 0 {
            self.pool.deltas.remove(&txid);
            self.out.log.push(LogLine::info(format!(
                "PrioritiseTransaction: {txid} ({here}in mempool) delta cleared"
            )));
        } else {
            self.pool.deltas.insert(txid, total);
            self.out.log.push(LogLine::info(format!(
                "PrioritiseTransaction: {txid} ({here}in mempool) fee += {}, new delta={}",
                signed_money(delta),
                signed_money(total)
            )));
        }
    }

    /// Whether a transaction's fee may be changed for policy.
    pub fn may_prioritise(&self, txid: &Txid) -> bool {
        let dusty = |entry: &Entry| policy::dust_outputs(&entry.tx, self.config.dust_relay).next().is_some();
        !self.config.require_standard || !self.pool.get(txid).is_some_and(dusty)
    }

    /// All deltas.
    pub fn prioritised(&self) -> Vec<Prioritised> {
        let deltas = self.pool.deltas.iter();
        deltas
            .map(|(txid, delta)| Prioritised {
                txid: *txid,
                delta: *delta,
                modified_fee: self.pool.get(txid).map(Entry::modified_fee),
            })
            .collect()
    }

    /// What is published.
    pub fn view(&self) -> NodeView {
        NodeView {
            tip: self.tip,
            seq: self.seq,
            mempool_sequence: self.sequence,
            transactions_updated: self.updated,
            count: self.pool.len(),
            vbytes: self.pool.vbytes(),
            total_fee: self.pool.total_fee(),
        }
    }

    /// Totals and limits.
    pub fn info(&mut self, now: UnixTime) -> MempoolInfo {
        MempoolInfo {
            loaded: self.loaded,
            count: self.pool.len(),
            vbytes: self.pool.vbytes(),
            usage: self.pool.usage(),
            total_fee: self.pool.total_fee(),
            max_bytes: self.config.max_bytes,
            min_fee: self.min_fee(now),
            min_relay: self.config.min_relay,
            incremental: self.config.incremental,
            unbroadcast_count: self.pool.unbroadcast.len(),
            optimal: true,
            cluster_count_limit: self.cluster_count_limit(),
            cluster_vbytes_limit: self.config.cluster_vbytes,
            permit_bare_multisig: self.config.permit_bare_multisig,
            max_datacarrier_bytes: self.config.max_datacarrier_bytes.unwrap_or(0),
        }
    }

    /// What an API shows of one transaction.
    pub fn entry_info(&self, txid: &Txid) -> Option<EntryInfo> {
        let entry = self.pool.get(txid)?;
        let ancestors = self.pool.with_ancestors([*txid]);
        let descendants = self.pool.with_descendants([*txid]);
        let sums = |txids: &BTreeSet<Txid>| {
            txids.iter().filter_map(|txid| self.pool.get(txid)).fold((0, 0i64), |(size, fees), entry| {
                (size + entry.vsize, fees.saturating_add(entry.modified_fee()))
            })
        };
        let (ancestor_vsize, ancestor_fees) = sums(&ancestors);
        let (descendant_vsize, descendant_fees) = sums(&descendants);
        // Sorted as they print: the hash's bytes backwards.
        let mut depends: Vec<Txid> = entry.parents.iter().copied().collect();
        depends.sort_by_key(|txid| txid.to_string());
        let signals = |txid: &Txid| {
            self.pool
                .get(txid)
                .is_some_and(|entry| entry.tx.input.iter().any(|input| input.sequence.is_rbf()))
        };
        Some(EntryInfo {
            tx: Arc::clone(&entry.tx),
            txid: *txid,
            wtxid: entry.wtxid,
            vsize: entry.vsize,
            weight: entry.weight,
            time: entry.time,
            height: entry.height,
            fee: entry.fee,
            modified_fee: entry.modified_fee(),
            ancestor_count: ancestors.len(),
            ancestor_vsize,
            ancestor_fees,
            descendant_count: descendants.len(),
            descendant_vsize,
            descendant_fees,
            chunk: self.pool.chunk_of(txid)?,
            depends,
            spent_by: entry.children.iter().copied().collect(),
            unbroadcast: self.pool.unbroadcast.contains(txid),
            bip125_replaceable: ancestors.iter().any(signals),
        })
    }
}

/// An amount with its sign, as Core prints it.
pub fn signed_money(sats: i64) -> String {
    let sign = if sats < 0 { "-" } else { "" };
    format!("{sign}{}", format_money(sats.unsigned_abs()))
}
