//! Whether a transaction may enter: everything but its scripts (Core's `MemPoolAccept`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::{Amount, BlockHash, OutPoint, Transaction, TxOut, Txid, Wtxid};
use ironpeer_consensus::{
    Ancestry, ScriptFlags, calculate_sequence_locks, check_transaction, check_tx_inputs, is_final_tx,
    script_flags, sequence_locks_met, sigops,
};
use ironpeer_primitives::{ChainRead, Coin, HeaderInfo, Height, TxClass, TxReject, UnixTime};

use crate::config::Config;
use crate::core::{MempoolCore, signed_money};
use crate::feerate::{FeeRate, compare_diagrams};
use crate::limits;
use crate::linearise::diagram;
use crate::policy;
use crate::pool::{NewEntry, Pool};
use crate::truc;

/// How the node itself wants a transaction treated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// Entry time.
    pub time: UnixTime,
    /// It comes back from a disconnected block: no fee and size limits.
    pub bypass_limits: bool,
    /// Refuse above this feerate.
    pub max_feerate: Option<FeeRate>,
    /// Made here.
    pub local: bool,
}

/// A transaction that passed all but its scripts.
#[derive(Clone, Debug)]
pub struct Checked {
    pub entry: NewEntry,
    /// What it spends, in input order.
    pub spent: Arc<[TxOut]>,
    /// The script rules of the tip.
    pub flags: ScriptFlags,
    /// What must leave for it.
    pub replaces: BTreeSet<Txid>,
    pub bypass_limits: bool,
    pub local: bool,
    /// The state of things this was found under.
    pub epoch: (u64, u64),
}

/// Why a check did not come to a yes.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// It is a no.
    Reject(TxReject),
    /// The coins handed in are no longer the ones that are needed.
    Stale,
}

impl From<TxReject> for Refusal {
    fn from(reject: TxReject) -> Self {
        Self::Reject(reject)
    }
}

/// Coins as of one tip.
pub struct FetchedCoins {
    /// The tip.
    pub tip: BlockHash,
    /// What was found for each outpoint asked for.
    pub coins: HashMap<OutPoint, Option<Coin>>,
    /// One of the transaction's own outputs is a coin already.
    pub already_known: bool,
}

/// The chain that ends at the mempool's tip.
pub struct TipAncestry<'a> {
    pub chain: &'a dyn ChainRead,
    pub tip: HeaderInfo,
}

impl Ancestry for TipAncestry<'_> {
    fn height(&self) -> Height {
        self.tip.height
    }

    fn header_at(&self, height: Height) -> Option<(BlockHash, Header)> {
        self.chain.ancestor(&self.tip.hash, height).map(|info| (info.hash, info.header))
    }

    fn median_time_past_at(&self, height: Height) -> Option<UnixTime> {
        self.chain.ancestor(&self.tip.hash, height).map(|info| info.median_time_past)
    }
}

fn policy_reject(reason: &'static str) -> TxReject {
    TxReject::new(TxClass::MempoolPolicy, reason)
}

/// What can be said of a transaction without chain and mempool.
pub fn check_alone(tx: &Transaction, config: &Config) -> Result<(), TxReject> {
    check_transaction(tx)?;
    if tx.is_coinbase() {
        return Err(TxReject::new(TxClass::Consensus, "coinbase"));
    }
    if config.require_standard {
        policy::check_standard(tx, config)?;
    }
    if tx.base_size() < limits::MIN_STANDARD_TX_NONWITNESS_SIZE {
        return Err(TxReject::new(TxClass::NotStandard, "tx-size-small"));
    }
    Ok(())
}

/// The output a transaction of the mempool offers, if there is one there.
fn pool_output(pool: &Pool, outpoint: &OutPoint) -> Option<TxOut> {
    pool.get(&outpoint.txid)?.tx.output.get(outpoint.vout as usize).cloned()
}

impl MempoolCore {
    /// What is plain without coins: final, not here yet. Returns the outpoints whose coins only
    /// the chain can know.
    pub fn wanted_coins(&self, tx: &Transaction) -> Result<Vec<OutPoint>, TxReject> {
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        self.check_timely_and_new(tx, &txid, &wtxid)?;
        let outpoints = tx.input.iter().map(|input| input.previous_output);
        Ok(outpoints.filter(|outpoint| !self.pool.contains(&outpoint.txid)).collect())
    }

    fn check_timely_and_new(&self, tx: &Transaction, txid: &Txid, wtxid: &Wtxid) -> Result<(), TxReject> {
        if !is_final_tx(tx, self.tip.height.next(), self.tip.median_time_past) {
            return Err(TxReject::new(TxClass::PrematureSpend, "non-final"));
        }
        match self.pool.get(txid) {
            Some(entry) if entry.wtxid == *wtxid => {
                Err(TxReject::new(TxClass::Conflict, "txn-already-in-mempool"))
            }
            Some(_) => Err(TxReject::new(TxClass::Conflict, "txn-same-nonwitness-data-in-mempool")),
            None => Ok(()),
        }
    }

    fn spent_coins(&self, tx: &Transaction, fetched: &FetchedCoins) -> Result<Vec<Coin>, Refusal> {
        let mut coins = Vec::with_capacity(tx.input.len());
        for input in &tx.input {
            let outpoint = &input.previous_output;
            let coin = if self.pool.contains(&outpoint.txid) {
                // Mempool transactions are taken to confirm in the next block.
                pool_output(&self.pool, outpoint).map(|output| Coin {
                    output,
                    height: self.tip.height.next(),
                    is_coinbase: false,
                })
            } else {
                fetched.coins.get(outpoint).ok_or(Refusal::Stale)?.clone()
            };
            match coin {
                Some(coin) => coins.push(coin),
                None if fetched.already_known => {
                    return Err(TxReject::new(TxClass::Conflict, "txn-already-known").into());
                }
                None => {
                    let reason = "bad-txns-inputs-missingorspent";
                    return Err(TxReject::new(TxClass::MissingInputs, reason).into());
                }
            }
        }
        Ok(coins)
    }

    /// Everything but scripts, in Core's order. `tx` has passed [`check_alone`].
    pub fn check(
        &mut self,
        tx: &Arc<Transaction>,
        terms: Terms,
        fetched: &FetchedCoins,
        chain: &dyn ChainRead,
        now: UnixTime,
    ) -> Result<Checked, Refusal> {
        if fetched.tip != self.tip.hash {
            return Err(Refusal::Stale);
        }
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        self.check_timely_and_new(tx, &txid, &wtxid)?;
        let mut conflicts: BTreeSet<Txid> = tx
            .input
            .iter()
            .filter_map(|input| self.pool.spender(&input.previous_output))
            .map(|entry| entry.txid)
            .collect();
        let coins = self.spent_coins(tx, fetched)?;

        let next = self.tip.height.next();
        let ancestry = TipAncestry { chain, tip: self.tip };
        let locks = calculate_sequence_locks(tx, true, coins.iter().map(|coin| coin.height), &ancestry);
        if !sequence_locks_met(locks, next, self.tip.median_time_past) {
            return Err(TxReject::new(TxClass::PrematureSpend, "non-BIP68-final").into());
        }
        let fee = check_tx_inputs(tx, coins.iter().map(Some), next)?;
        let spends_coinbase = coins.iter().any(|coin| coin.is_coinbase);
        let spent: Vec<TxOut> = coins.into_iter().map(|coin| coin.output).collect();
        if self.config.require_standard {
            policy::check_inputs_standard(tx, &spent)?;
            policy::check_witness_standard(tx, &spent)?;
        }
        let sigop_cost = sigops::tx_sigop_cost(tx, &spent, ScriptFlags::ALL);
        let weight = tx.weight().to_wu();
        let adjusted_weight = policy::adjusted_weight(weight, sigop_cost, self.config.bytes_per_sigop);
        let entry = NewEntry {
            tx: Arc::clone(tx),
            txid,
            wtxid,
            fee,
            delta: self.pool.deltas.get(&txid).copied().unwrap_or(0),
            weight,
            adjusted_weight,
            vsize: policy::vsize(adjusted_weight),
            sigop_cost,
            time: terms.time,
            height: self.tip.height,
            // What comes back from a block was there before any of its children.
            sequence: if terms.bypass_limits { 0 } else { self.sequence() },
            spends_coinbase,
        };
        let modified = entry.modified_fee();
        if self.config.require_standard
            && (fee != Amount::ZERO || modified != 0)
            && policy::dust_outputs(tx, self.config.dust_relay).next().is_some()
        {
            return Err(TxReject::new(TxClass::NotStandard, "dust")
                .with_debug("tx with dust output must be 0-fee")
                .into());
        }
        if sigop_cost > limits::MAX_STANDARD_TX_SIGOPS_COST {
            return Err(TxReject::new(TxClass::NotStandard, "bad-txns-too-many-sigops")
                .with_debug(sigop_cost.to_string())
                .into());
        }
        if !terms.bypass_limits {
            self.check_feerate(entry.vsize, modified, now)?;
        }
        let parents = self.pool.parents_of(tx);
        let mut sibling_eviction = false;
        if !terms.bypass_limits {
            let subject = truc::Subject { tx, txid, wtxid, vsize: entry.vsize };
            if let Err(violation) = truc::check(&self.pool, &subject, &parents, &conflicts) {
                let Some(sibling) = violation.sibling else {
                    return Err(policy_reject("TRUC-violation").with_debug(violation.debug).into());
                };
                conflicts.insert(sibling);
                sibling_eviction = true;
            }
        }
        let replaces = if conflicts.is_empty() {
            BTreeSet::new()
        } else {
            self.check_replacement(&entry, &parents, &conflicts, sibling_eviction)?
        };
        self.check_cluster(&entry, &parents, &replaces)?;
        if !conflicts.is_empty() {
            let ancestors = self.pool.with_ancestors(parents.iter().copied());
            if let Some(conflict) = ancestors.iter().find(|ancestor| conflicts.contains(*ancestor)) {
                return Err(TxReject::new(TxClass::Consensus, "bad-txns-spends-conflicting-tx")
                    .with_debug(format!("{txid} spends conflicting transaction {conflict}"))
                    .into());
            }
        }
        if let Some(max) = terms.max_feerate {
            let fee = u128::from(u64::try_from(modified).unwrap_or(0));
            if fee * 1_000 > u128::from(max.sat_per_kvb()) * u128::from(entry.vsize) {
                return Err(policy_reject("max feerate exceeded").into());
            }
        }
        if !terms.bypass_limits && self.config.require_standard {
            self.check_ephemeral_spends(tx, &txid, &wtxid, &parents)?;
        }
        Ok(Checked {
            entry,
            spent: spent.into(),
            flags: script_flags(&self.tip.hash, self.tip.height, &self.params),
            replaces,
            bypass_limits: terms.bypass_limits,
            local: terms.local,
            epoch: self.epoch(),
        })
    }

    fn check_feerate(&mut self, vsize: u64, modified_fee: i64, now: UnixTime) -> Result<(), TxReject> {
        let below = |needed: u64| modified_fee < i64::try_from(needed).unwrap_or(i64::MAX);
        let rolling = self.rolling_min_fee(now).fee(vsize);
        let relay = self.config.min_relay.fee(vsize);
        let (reason, needed) = if rolling > 0 && below(rolling) {
            ("mempool min fee not met", rolling)
        } else if below(relay) {
            ("min relay fee not met", relay)
        } else {
            return Ok(());
        };
        Err(TxReject::new(TxClass::Reconsiderable, reason).with_debug(format!("{modified_fee} < {needed}")))
    }

    fn check_cluster(
        &self,
        entry: &NewEntry,
        parents: &BTreeSet<Txid>,
        replaces: &BTreeSet<Txid>,
    ) -> Result<(), TxReject> {
        let (count, weight) = self.pool.cluster_with(entry, parents, replaces);
        if count > self.cluster_count_limit() || weight > self.cluster_weight_limit() {
            return Err(policy_reject("too-large-cluster"));
        }
        Ok(())
    }

    /// The replacement rules: how much may be replaced, that it pays, that miners gain. Returns
    /// everything that would leave.
    fn check_replacement(
        &self,
        entry: &NewEntry,
        parents: &BTreeSet<Txid>,
        conflicts: &BTreeSet<Txid>,
        sibling_eviction: bool,
    ) -> Result<BTreeSet<Txid>, TxReject> {
        let txid = entry.txid;
        let suffix = if sibling_eviction { " (including sibling eviction)" } else { "" };
        let clusters = self.pool.cluster_count(conflicts);
        if clusters > limits::MAX_REPLACEMENT_CLUSTERS {
            let reason = format!("too many potential replacements{suffix}");
            return Err(TxReject::new(TxClass::MempoolPolicy, reason).with_debug(format!(
                "rejecting replacement {txid}; too many conflicting clusters ({clusters} > {})",
                limits::MAX_REPLACEMENT_CLUSTERS
            )));
        }
        let replaces = self.pool.with_descendants(conflicts.iter().copied());
        let old_fees = replaces
            .iter()
            .filter_map(|old| self.pool.get(old))
            .fold(0i64, |sum, old| sum.saturating_add(old.modified_fee()));
        let insufficient = |debug: String| {
            let reason = format!("insufficient fee{suffix}");
            Err(TxReject::new(TxClass::Reconsiderable, reason).with_debug(debug))
        };
        let new_fees = entry.modified_fee();
        if new_fees < old_fees {
            return insufficient(format!(
                "rejecting replacement {txid}, less fees than conflicting txs; {} < {}",
                signed_money(new_fees),
                signed_money(old_fees)
            ));
        }
        let additional = new_fees.saturating_sub(old_fees);
        let needed = i64::try_from(self.config.incremental.fee(entry.vsize)).unwrap_or(i64::MAX);
        if additional < needed {
            return insufficient(format!(
                "rejecting replacement {txid}, not enough additional fees to relay; {} < {}",
                signed_money(additional),
                signed_money(needed)
            ));
        }
        self.check_cluster(entry, parents, &replaces)?;
        let preview = self.pool.preview(entry, parents, &replaces);
        let order = compare_diagrams(&diagram(preview.after), &diagram(preview.before));
        if order != Some(std::cmp::Ordering::Greater) {
            return Err(TxReject::new(TxClass::Reconsiderable, "replacement-failed")
                .with_debug("insufficient feerate: does not improve feerate diagram"));
        }
        Ok(replaces)
    }

    /// A parent's dust must be spent with whatever else is spent of it (`CheckEphemeralSpends`).
    fn check_ephemeral_spends(
        &self,
        tx: &Transaction,
        txid: &Txid,
        wtxid: &Wtxid,
        parents: &BTreeSet<Txid>,
    ) -> Result<(), TxReject> {
        let spends = |outpoint: OutPoint| tx.input.iter().any(|input| input.previous_output == outpoint);
        for parent in parents.iter().filter_map(|parent| self.pool.get(parent)) {
            let mut dust = policy::dust_outputs(&parent.tx, self.config.dust_relay);
            if dust.any(|place| !spends(OutPoint { txid: parent.txid, vout: place as u32 })) {
                return Err(policy_reject("missing-ephemeral-spends")
                    .with_debug(format!("tx {txid} (wtxid={wtxid}) did not spend parent's ephemeral dust")));
            }
        }
        Ok(())
    }
}
