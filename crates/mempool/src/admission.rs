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
use crate::pool::{NewEntry, NewLink, Pool};
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
    /// It may push nothing out.
    pub no_replacement: bool,
    /// It may not take the place of a version 3 sibling.
    pub no_sibling_eviction: bool,
    /// Its package's feerate counts, not its own.
    pub skip_feerate: bool,
    /// Others of its package follow: the size limit waits for them.
    pub skip_size_limit: bool,
}

/// A transaction that is fine in itself; what it does to others is yet to be judged.
#[derive(Clone, Debug)]
pub struct Prechecked {
    pub entry: NewEntry,
    /// What it spends, in input order.
    pub spent: Vec<TxOut>,
    /// Its parents in the mempool.
    pub parents: BTreeSet<Txid>,
    /// What spends the same as it.
    pub conflicts: BTreeSet<Txid>,
    /// One of them is a version 3 sibling instead.
    pub sibling_eviction: bool,
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
    /// The size limit is to be enforced with it.
    pub limit_size: bool,
    pub local: bool,
    /// When it confirms says something about its feerate.
    pub tells_fee: bool,
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

/// What lies outside the mempool.
pub struct World<'a> {
    /// Headers.
    pub chain: &'a dyn ChainRead,
    /// The time.
    pub now: UnixTime,
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

    fn spent_coins(
        &self,
        tx: &Transaction,
        fetched: &FetchedCoins,
        package: &[Arc<Transaction>],
    ) -> Result<Vec<Coin>, Refusal> {
        let mut coins = Vec::with_capacity(tx.input.len());
        for input in &tx.input {
            let outpoint = &input.previous_output;
            // Unconfirmed transactions are taken to confirm in the next block.
            let unconfirmed = |output| Coin { output, height: self.tip.height.next(), is_coinbase: false };
            let coin = if let Some(parent) = package.iter().find(|tx| tx.compute_txid() == outpoint.txid) {
                parent.output.get(outpoint.vout as usize).cloned().map(unconfirmed)
            } else if self.pool.contains(&outpoint.txid) {
                pool_output(&self.pool, outpoint).map(unconfirmed)
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

    /// What a transaction is by itself and among its parents, in Core's order (`PreChecks`). `tx`
    /// has passed [`check_alone`]; `package` holds those of its package that go before it.
    pub fn precheck(
        &mut self,
        tx: &Arc<Transaction>,
        terms: Terms,
        fetched: &FetchedCoins,
        package: &[Arc<Transaction>],
        world: &World<'_>,
    ) -> Result<Prechecked, Refusal> {
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
        if terms.no_replacement && !conflicts.is_empty() {
            return Err(policy_reject("bip125-replacement-disallowed").into());
        }
        let coins = self.spent_coins(tx, fetched, package)?;

        let next = self.tip.height.next();
        let ancestry = TipAncestry { chain: world.chain, tip: self.tip };
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
        let sigop_cost = sigops::tx_sigop_cost(tx, &spent, ScriptFlags::MANDATORY);
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
        if !terms.bypass_limits && !terms.skip_feerate {
            self.check_feerate(entry.vsize, modified, world.now)?;
        }
        let parents = self.pool.parents_of(tx);
        let mut sibling_eviction = false;
        if !terms.bypass_limits {
            let subject = truc::Subject { tx, txid, wtxid, vsize: entry.vsize };
            if let Err(violation) = truc::check(&self.pool, &subject, &parents, &conflicts) {
                let Some(sibling) = violation.sibling.filter(|_| !terms.no_sibling_eviction) else {
                    return Err(policy_reject("TRUC-violation").with_debug(violation.debug).into());
                };
                conflicts.insert(sibling);
                sibling_eviction = true;
            }
        }
        Ok(Prechecked { entry, spent, parents, conflicts, sibling_eviction })
    }

    /// Everything but scripts, of a transaction that comes alone.
    pub fn check(
        &mut self,
        tx: &Arc<Transaction>,
        terms: Terms,
        fetched: &FetchedCoins,
        world: &World<'_>,
    ) -> Result<Checked, Refusal> {
        let prechecked = self.precheck(tx, terms, fetched, &[], world)?;
        let Prechecked { entry, parents, conflicts, .. } = &prechecked;
        let (txid, wtxid) = (entry.txid, entry.wtxid);
        let replaces =
            if conflicts.is_empty() { BTreeSet::new() } else { self.check_replacement(&prechecked)? };
        self.check_cluster(&[NewLink { entry, parents }], &replaces)?;
        if !conflicts.is_empty() {
            let ancestors = self.pool.with_ancestors(parents.iter().copied());
            if let Some(conflict) = ancestors.iter().find(|ancestor| conflicts.contains(*ancestor)) {
                return Err(TxReject::new(TxClass::Consensus, "bad-txns-spends-conflicting-tx")
                    .with_debug(format!("{txid} spends conflicting transaction {conflict}"))
                    .into());
            }
        }
        check_max_feerate(entry, terms)?;
        if !terms.bypass_limits && self.config.require_standard {
            self.check_ephemeral_spends(tx, &wtxid, &[])?;
        }
        let mut checked = self.checked(prechecked, terms, replaces);
        // What returns from a block, or what a package brings, pays by other rules.
        checked.tells_fee = !terms.bypass_limits && !terms.skip_size_limit && self.is_up_to_date(world);
        Ok(checked)
    }

    /// Whether the tip is recent and the best known (Core's `IsCurrentForFeeEstimation`).
    fn is_up_to_date(&self, world: &World<'_>) -> bool {
        i64::from(self.tip.header.time) >= world.now - limits::MAX_FEE_ESTIMATION_TIP_AGE
            && self.tip.height.next() >= world.chain.best_header().height
            && !world.chain.is_initial_block_download()
    }

    /// What goes on to the script checks.
    pub fn checked(&self, prechecked: Prechecked, terms: Terms, replaces: BTreeSet<Txid>) -> Checked {
        Checked {
            entry: prechecked.entry,
            spent: prechecked.spent.into(),
            flags: script_flags(&self.tip.hash, self.tip.height, &self.params),
            replaces,
            limit_size: !terms.bypass_limits && !terms.skip_size_limit,
            local: terms.local,
            tells_fee: false,
            epoch: self.epoch(),
        }
    }

    /// The minimum feerates, for one transaction or a package.
    pub fn check_feerate(&mut self, vsize: u64, modified_fee: i64, now: UnixTime) -> Result<(), TxReject> {
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

    /// The cluster limits, with all of `new` in and `replaces` gone.
    pub fn check_cluster(&self, new: &[NewLink<'_>], replaces: &BTreeSet<Txid>) -> Result<(), TxReject> {
        let too_large = self.pool.clusters_with(new, replaces).into_iter().any(|(count, weight)| {
            count > self.cluster_count_limit() || weight > self.cluster_weight_limit()
        });
        if too_large { Err(policy_reject("too-large-cluster")) } else { Ok(()) }
    }

    /// The replacement rules: how much may be replaced, that it pays, that miners gain. Returns
    /// everything that would leave.
    fn check_replacement(&self, prechecked: &Prechecked) -> Result<BTreeSet<Txid>, TxReject> {
        let Prechecked { entry, parents, conflicts, sibling_eviction, .. } = prechecked;
        let txid = entry.txid;
        let suffix = if *sibling_eviction { " (including sibling eviction)" } else { "" };
        let replaces = self.replaced_by(conflicts, &txid).map_err(|debug| {
            let reason = format!("too many potential replacements{suffix}");
            TxReject::new(TxClass::MempoolPolicy, reason).with_debug(debug)
        })?;
        self.pays_for(&replaces, entry.modified_fee(), entry.vsize, &txid).map_err(|debug| {
            let reason = format!("insufficient fee{suffix}");
            TxReject::new(TxClass::Reconsiderable, reason).with_debug(debug)
        })?;
        let new = [NewLink { entry, parents }];
        self.check_cluster(&new, &replaces)?;
        self.improves_diagram(&new, &replaces).map_err(|debug| {
            TxReject::new(TxClass::Reconsiderable, "replacement-failed").with_debug(debug)
        })?;
        Ok(replaces)
    }

    /// Everything that would leave for `txid`, or Core's text if that touches too many clusters
    /// (rule 5).
    pub fn replaced_by(&self, conflicts: &BTreeSet<Txid>, txid: &Txid) -> Result<BTreeSet<Txid>, String> {
        let clusters = self.pool.cluster_count(conflicts);
        if clusters > limits::MAX_REPLACEMENT_CLUSTERS {
            return Err(format!(
                "rejecting replacement {txid}; too many conflicting clusters ({clusters} > {})",
                limits::MAX_REPLACEMENT_CLUSTERS
            ));
        }
        Ok(self.pool.with_descendants(conflicts.iter().copied()))
    }

    /// Rules 3 and 4: no less fee than what leaves, and enough more for its own relay. Core's
    /// text if not.
    pub fn pays_for(
        &self,
        replaces: &BTreeSet<Txid>,
        new_fees: i64,
        vsize: u64,
        txid: &Txid,
    ) -> Result<(), String> {
        let old_fees = replaces
            .iter()
            .filter_map(|old| self.pool.get(old))
            .fold(0i64, |sum, old| sum.saturating_add(old.modified_fee()));
        if new_fees < old_fees {
            return Err(format!(
                "rejecting replacement {txid}, less fees than conflicting txs; {} < {}",
                signed_money(new_fees),
                signed_money(old_fees)
            ));
        }
        let additional = new_fees.saturating_sub(old_fees);
        let needed = i64::try_from(self.config.incremental.fee(vsize)).unwrap_or(i64::MAX);
        if additional < needed {
            return Err(format!(
                "rejecting replacement {txid}, not enough additional fees to relay; {} < {}",
                signed_money(additional),
                signed_money(needed)
            ));
        }
        Ok(())
    }

    /// Whether miners gain, whatever room a block has left. Core's text if not.
    pub fn improves_diagram(
        &self,
        new: &[NewLink<'_>],
        replaces: &BTreeSet<Txid>,
    ) -> Result<(), &'static str> {
        let preview = self.pool.preview(new, replaces);
        let order = compare_diagrams(&diagram(preview.after), &diagram(preview.before));
        if order == Some(std::cmp::Ordering::Greater) {
            Ok(())
        } else {
            Err("insufficient feerate: does not improve feerate diagram")
        }
    }

    /// A parent's dust must be spent with whatever else is spent of it (`CheckEphemeralSpends`).
    /// Parents are looked for in `package` and the mempool.
    pub fn check_ephemeral_spends(
        &self,
        tx: &Transaction,
        wtxid: &Wtxid,
        package: &[Arc<Transaction>],
    ) -> Result<(), TxReject> {
        let spent: BTreeSet<OutPoint> = tx.input.iter().map(|input| input.previous_output).collect();
        let parents: BTreeSet<Txid> = spent.iter().map(|outpoint| outpoint.txid).collect();
        for txid in parents {
            let in_package = package.iter().find(|tx| tx.compute_txid() == txid);
            let Some(parent) = in_package.or_else(|| self.pool.get(&txid).map(|entry| &entry.tx)) else {
                continue;
            };
            let mut dust = policy::dust_outputs(parent, self.config.dust_relay);
            if dust.any(|place| !spent.contains(&OutPoint { txid, vout: place as u32 })) {
                return Err(policy_reject("missing-ephemeral-spends").with_debug(format!(
                    "tx {} (wtxid={wtxid}) did not spend parent's ephemeral dust",
                    tx.compute_txid()
                )));
            }
        }
        Ok(())
    }
}

/// The caller's own limit.
pub fn check_max_feerate(entry: &NewEntry, terms: Terms) -> Result<(), TxReject> {
    let Some(max) = terms.max_feerate else { return Ok(()) };
    let fee = u128::from(u64::try_from(entry.modified_fee()).unwrap_or(0));
    if fee * 1_000 > u128::from(max.sat_per_kvb()) * u128::from(entry.vsize) {
        return Err(policy_reject("max feerate exceeded"));
    }
    Ok(())
}
