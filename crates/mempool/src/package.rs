//! Several transactions judged together, so that a child can pay for its parents (Core's
//! `ProcessNewPackage`, `policy/packages.cpp`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Transaction, Txid, Wtxid};
use ironpeer_consensus::ScriptFlags;
use ironpeer_primitives::{TxClass, TxReject};

use crate::admission::{
    Checked, FetchedCoins, Prechecked, Refusal, Terms, World, check_alone, check_max_feerate,
};
use crate::core::MempoolCore;
use crate::feerate::FeeRate;
use crate::limits;
use crate::pool::NewLink;
use crate::scripts::check_scripts;
use crate::shared::{Admission, Shared};
use crate::truc;
use crate::types::Accepted;

/// Why a package as a whole was refused (Core's `PackageValidationState`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageReject {
    /// Core's reject reason; `transaction failed` if a transaction's own result says why.
    pub reason: String,
    /// Core's debug message; empty when it has none.
    pub debug: String,
}

impl PackageReject {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), debug: String::new() }
    }

    fn with_debug(mut self, debug: impl Into<String>) -> Self {
        self.debug = debug.into();
        self
    }

    fn transaction_failed() -> Self {
        Self::new("transaction failed")
    }
}

impl fmt::Display for PackageReject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if !self.debug.is_empty() {
            write!(f, ", {}", self.debug)?;
        }
        Ok(())
    }
}

/// What became of one transaction of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackageTx {
    /// It was taken (or would be).
    Accepted {
        /// As for a single transaction.
        accepted: Accepted,
        /// The feerate it was judged by.
        effective_feerate: FeeRate,
        /// The transactions which that feerate is made of.
        effective_includes: Vec<Wtxid>,
    },
    /// It was there already.
    AlreadyThere {
        /// Its virtual size.
        vsize: u64,
        /// What it pays.
        fee: Amount,
    },
    /// It was there with another witness.
    OtherWitness(
        /// The one that is there.
        Wtxid,
    ),
    /// It was refused.
    Refused(TxReject),
}

/// What became of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageResult {
    /// Why it failed as a whole, if it did.
    pub error: Option<PackageReject>,
    /// Results of the transactions that were looked at, in package order.
    pub txs: Vec<(Wtxid, PackageTx)>,
}

impl PackageResult {
    /// The answer when the node is going down or something broke.
    pub(crate) fn unavailable() -> Self {
        Self { error: Some(PackageReject::new("mempool not available")), txs: Vec::new() }
    }
}

/// An evaluation's end.
pub enum PackageAdmission {
    /// The verdict.
    Done(PackageResult),
    /// The chain has moved on and the mempool has not followed yet.
    Behind,
}

enum Failure {
    Stale,
    Package(PackageReject),
    Tx { place: usize, package: PackageReject, reject: TxReject },
}

impl Failure {
    fn tx(place: usize, reject: TxReject) -> Self {
        Self::Tx { place, package: PackageReject::transaction_failed(), reject }
    }
}

/// Rules that need no context: size, order, no conflicts within (`IsWellFormedPackage`).
fn check_well_formed(txs: &[Arc<Transaction>]) -> Result<(), PackageReject> {
    if txs.len() > limits::MAX_PACKAGE_COUNT {
        return Err(PackageReject::new("package-too-many-transactions"));
    }
    let weight: u64 = txs.iter().map(|tx| tx.weight().to_wu()).sum();
    if txs.len() > 1 && weight > limits::MAX_PACKAGE_WEIGHT {
        return Err(PackageReject::new("package-too-large"));
    }
    let txids: Vec<Txid> = txs.iter().map(|tx| tx.compute_txid()).collect();
    let mut later: HashSet<Txid> = txids.iter().copied().collect();
    if later.len() != txs.len() {
        return Err(PackageReject::new("package-contains-duplicates"));
    }
    for (tx, txid) in txs.iter().zip(&txids) {
        if tx.input.iter().any(|input| later.contains(&input.previous_output.txid)) {
            return Err(PackageReject::new("package-not-sorted"));
        }
        later.remove(txid);
    }
    let mut spent: HashSet<OutPoint> = HashSet::new();
    for tx in txs {
        let own: HashSet<OutPoint> = tx.input.iter().map(|input| input.previous_output).collect();
        if own.is_empty() || !spent.is_disjoint(&own) {
            return Err(PackageReject::new("conflict-in-package"));
        }
        spent.extend(own);
    }
    Ok(())
}

/// Whether all but the last are parents of the last.
fn is_child_with_parents(txs: &[Arc<Transaction>]) -> bool {
    let Some((child, parents)) = txs.split_last() else { return false };
    let spent: HashSet<Txid> = child.input.iter().map(|input| input.previous_output.txid).collect();
    parents.iter().all(|parent| spent.contains(&parent.compute_txid()))
}

impl MempoolCore {
    /// All transactions of a package but their scripts. What they replace goes with the first.
    fn check_package(
        &mut self,
        txs: &[Arc<Transaction>],
        terms: Terms,
        fetched: &FetchedCoins,
        world: &World<'_>,
    ) -> Result<Vec<Checked>, Failure> {
        let mut prechecked: Vec<Prechecked> = Vec::with_capacity(txs.len());
        for (place, tx) in txs.iter().enumerate() {
            let alone = check_alone(tx, &self.config).map_err(Refusal::from);
            let one = alone.and_then(|()| self.precheck(tx, terms, fetched, &txs[..place], world));
            let one = one.map_err(|refusal| match refusal {
                Refusal::Stale => Failure::Stale,
                Refusal::Reject(reject) => Failure::tx(place, reject),
            })?;
            check_max_feerate(&one.entry, terms).map_err(|reject| Failure::tx(place, reject))?;
            prechecked.push(one);
        }
        for (one, tx) in prechecked.iter().zip(txs) {
            let subject =
                truc::Subject { tx, txid: one.entry.txid, wtxid: one.entry.wtxid, vsize: one.entry.vsize };
            truc::check_in_package(&self.pool, &subject, txs, &one.parents)
                .map_err(|debug| Failure::Package(PackageReject::new("TRUC-violation").with_debug(debug)))?;
        }
        let vsize: u64 = prechecked.iter().map(|one| one.entry.vsize).sum();
        let fees = prechecked.iter().fold(0i64, |sum, one| sum.saturating_add(one.entry.modified_fee()));
        let last = txs.len().saturating_sub(1);
        if terms.skip_feerate {
            self.check_feerate(vsize, fees, world.now).map_err(|reject| Failure::tx(last, reject))?;
        }
        let all_parents: Vec<BTreeSet<Txid>> = prechecked
            .iter()
            .zip(txs)
            .map(|(one, tx)| {
                let spent: HashSet<Txid> = tx.input.iter().map(|input| input.previous_output.txid).collect();
                let others =
                    prechecked.iter().map(|other| other.entry.txid).filter(|txid| spent.contains(txid));
                others.chain(one.parents.iter().copied()).collect()
            })
            .collect();
        let new: Vec<NewLink<'_>> = prechecked
            .iter()
            .zip(&all_parents)
            .map(|(one, parents)| NewLink { entry: &one.entry, parents })
            .collect();
        let replaces =
            self.check_package_replacement(&prechecked, &new, fees, vsize).map_err(Failure::Package)?;
        self.check_cluster(&new, &replaces)
            .map_err(|reject| Failure::Package(PackageReject::new(reject.reason)))?;
        if self.config.require_standard {
            for (place, (one, tx)) in prechecked.iter().zip(txs).enumerate() {
                self.check_ephemeral_spends(tx, &one.entry.wtxid, txs).map_err(|reject| Failure::Tx {
                    place,
                    package: PackageReject::new("unspent-dust"),
                    reject,
                })?;
            }
        }
        let mut replaces = Some(replaces);
        let go_on = |one| self.checked(one, terms, replaces.take().unwrap_or_default());
        Ok(prechecked.into_iter().map(go_on).collect())
    }

    /// Whether a package may push others out (`PackageRBFChecks`).
    fn check_package_replacement(
        &self,
        prechecked: &[Prechecked],
        new: &[NewLink<'_>],
        fees: i64,
        vsize: u64,
    ) -> Result<BTreeSet<Txid>, PackageReject> {
        let failed = |why: &str| PackageReject::new(format!("package RBF failed: {why}"));
        let conflicts: BTreeSet<Txid> =
            prechecked.iter().flat_map(|one| one.conflicts.iter().copied()).collect();
        if conflicts.is_empty() {
            return Ok(BTreeSet::new());
        }
        let [parent, child] = prechecked else {
            return Err(failed("package must be 1-parent-1-child"));
        };
        if !parent.parents.is_empty() || !child.parents.is_empty() {
            return Err(failed("new transaction cannot have mempool ancestors"));
        }
        let txid = child.entry.txid;
        let replaces = self
            .replaced_by(&conflicts, &txid)
            .map_err(|debug| failed("too many potential replacements").with_debug(debug))?;
        self.pays_for(&replaces, fees, vsize, &txid)
            .map_err(|debug| failed("insufficient anti-DoS fees").with_debug(debug))?;
        let whole = i128::from(fees) * i128::from(parent.entry.vsize);
        if whole <= i128::from(parent.entry.modified_fee()) * i128::from(vsize) {
            let rate = |fee: i64, vsize: u64| {
                let fee = u64::try_from(fee).unwrap_or(0);
                FeeRate::from_sat_per_kvb(fee.saturating_mul(1_000).checked_div(vsize).unwrap_or(0))
            };
            return Err(failed("package feerate is less than or equal to parent feerate").with_debug(
                format!(
                    "package feerate {} <= parent feerate is {}",
                    rate(fees, vsize),
                    rate(parent.entry.modified_fee(), parent.entry.vsize)
                ),
            ));
        }
        self.check_cluster(new, &replaces).map_err(|reject| PackageReject::new(reject.reason))?;
        self.improves_diagram(new, &replaces).map_err(failed)?;
        Ok(replaces)
    }
}

impl Shared {
    /// Evaluates transactions together; with `test` only that.
    fn admit_together(&self, txs: &[Arc<Transaction>], terms: Terms, test: bool) -> PackageAdmission {
        let wtxids: Vec<Wtxid> = txs.iter().map(|tx| tx.compute_wtxid()).collect();
        let refused = |place: usize, package: PackageReject, reject: TxReject| {
            PackageAdmission::Done(PackageResult {
                error: Some(package),
                txs: vec![(wtxids[place], PackageTx::Refused(reject))],
            })
        };
        let own: HashSet<Txid> = txs.iter().map(|tx| tx.compute_txid()).collect();
        let mut passed_under: Option<ScriptFlags> = None;
        for _ in 0..limits::ADMISSION_RETRIES {
            let fetched = self.fetch_for_package(txs, &own);
            let mut committed = None;
            let checked = self.change(|core, now| {
                let checked = core.check_package(txs, terms, &fetched, &self.world(now))?;
                let same = checked.first().is_some_and(|first| passed_under == Some(first.flags));
                if same && !test {
                    committed = Some(commit_all(core, checked.clone(), now));
                }
                Ok(checked)
            });
            let checked = match checked {
                Ok(checked) => checked,
                Err(Failure::Package(error)) => {
                    return PackageAdmission::Done(PackageResult { error: Some(error), txs: Vec::new() });
                }
                Err(Failure::Tx { place, package, reject }) => return refused(place, package, reject),
                Err(Failure::Stale) if self.read(|core, _| core.tip.hash) != fetched.tip => {
                    return PackageAdmission::Behind;
                }
                Err(Failure::Stale) => continue,
            };
            let flags = checked.first().map(|first| first.flags);
            if committed.is_none() && passed_under != flags {
                for (place, one) in checked.iter().enumerate() {
                    if let Err((reject, line)) = check_scripts(self.parts.checker.as_ref(), one) {
                        if let Some(line) = line {
                            self.parts.log.log(line);
                        }
                        // A trial tells of those before it that they passed, as Core's does.
                        let passed = if test { &checked[..place] } else { &[] };
                        let mut txs: Vec<_> =
                            passed.iter().map(|one| alone_result(self.would_accept(one))).collect();
                        txs.push((wtxids[place], PackageTx::Refused(reject)));
                        let error = Some(PackageReject::transaction_failed());
                        return PackageAdmission::Done(PackageResult { error, txs });
                    }
                }
                passed_under = flags;
            }
            let vsize: u64 = checked.iter().map(|one| one.entry.vsize).sum();
            let fees = checked.iter().fold(0i64, |sum, one| sum.saturating_add(one.entry.modified_fee()));
            let results = if test {
                Some(checked.iter().map(|one| self.would_accept(one)).collect())
            } else {
                committed.or_else(|| {
                    self.change(|core, now| {
                        let same = checked.first().is_some_and(|first| first.epoch == core.epoch());
                        same.then(|| commit_all(core, checked, now))
                    })
                })
            };
            if let Some(accepted) = results {
                return PackageAdmission::Done(accepted_package(accepted, &wtxids, terms, fees, vsize));
            }
        }
        PackageAdmission::Behind
    }

    fn fetch_for_package(&self, txs: &[Arc<Transaction>], own: &HashSet<Txid>) -> FetchedCoins {
        let outpoints = || txs.iter().flat_map(|tx| &tx.input).map(|input| input.previous_output);
        let wanted: Vec<OutPoint> = self.read(|core, _| {
            outpoints().filter(|out| !own.contains(&out.txid) && !core.pool.contains(&out.txid)).collect()
        });
        self.read_coins(&wanted)
    }

    /// What would become of these transactions, in this order (`testmempoolaccept` of several).
    pub fn test_package(&self, txs: &[Arc<Transaction>]) -> PackageAdmission {
        if let Err(error) = check_well_formed(txs) {
            return PackageAdmission::Done(PackageResult { error: Some(error), txs: Vec::new() });
        }
        let terms = Terms {
            time: self.parts.clock.unix(),
            no_replacement: true,
            no_sibling_eviction: true,
            ..Terms::default()
        };
        self.admit_together(txs, terms, true)
    }

    /// A child with its parents: each alone if that is enough, the rest together (Core's
    /// `AcceptPackage`).
    pub fn admit_package(&self, txs: &[Arc<Transaction>], max_feerate: Option<FeeRate>) -> PackageAdmission {
        let malformed = check_well_formed(txs).err().or_else(|| {
            let odd = txs.len() > 1 && !is_child_with_parents(txs);
            odd.then(|| PackageReject::new("package-not-child-with-parents"))
        });
        if malformed.is_some() {
            return PackageAdmission::Done(PackageResult { error: malformed, txs: Vec::new() });
        }
        let terms =
            Terms { time: self.parts.clock.unix(), max_feerate, skip_size_limit: true, ..Terms::default() };
        let mut error = None;
        let mut results: HashMap<Wtxid, PackageTx> = HashMap::new();
        let mut together: Vec<Arc<Transaction>> = Vec::new();
        for tx in txs {
            let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
            let known = self.read(|core, _| {
                core.pool.get(&txid).map(|entry| {
                    if entry.wtxid == wtxid {
                        PackageTx::AlreadyThere { vsize: entry.vsize, fee: entry.fee }
                    } else {
                        PackageTx::OtherWitness(entry.wtxid)
                    }
                })
            });
            if let Some(known) = known {
                results.insert(wtxid, known);
                continue;
            }
            match self.admit(tx, terms, false) {
                Admission::Behind => return PackageAdmission::Behind,
                Admission::Done(Ok(accepted)) => {
                    let (_, result) = alone_result(accepted);
                    results.insert(wtxid, result);
                }
                Admission::Done(Err(reject)) => {
                    let hope = matches!(reject.class, TxClass::Reconsiderable | TxClass::MissingInputs);
                    if hope && txs.len() > 1 {
                        together.push(Arc::clone(tx));
                    } else {
                        error = Some(PackageReject::transaction_failed());
                    }
                    results.insert(wtxid, PackageTx::Refused(reject));
                }
            }
        }
        if error.is_none() && !together.is_empty() {
            let terms = Terms { skip_feerate: true, no_sibling_eviction: true, ..terms };
            // What is left of it may be a single transaction.
            let rest = if let [tx] = together.as_slice() {
                match self.admit(
                    tx,
                    Terms { skip_feerate: false, no_sibling_eviction: false, ..terms },
                    false,
                ) {
                    Admission::Behind => return PackageAdmission::Behind,
                    Admission::Done(result) => single_package(tx.compute_wtxid(), result),
                }
            } else {
                match self.admit_together(&together, terms, false) {
                    PackageAdmission::Behind => return PackageAdmission::Behind,
                    PackageAdmission::Done(rest) => rest,
                }
            };
            error = rest.error;
            results.extend(rest.txs);
        }
        self.change(MempoolCore::limit_size);
        let order = txs.iter().map(|tx| (tx.compute_txid(), tx.compute_wtxid()));
        let mut out = PackageResult { error, txs: Vec::with_capacity(txs.len()) };
        for (txid, wtxid) in order {
            let Some(mut result) = results.remove(&wtxid) else { continue };
            let gone = !self.read(|core, _| core.pool.contains(&txid));
            if gone && !matches!(result, PackageTx::Refused(_)) {
                result = PackageTx::Refused(TxReject::new(TxClass::MempoolPolicy, "mempool full"));
                out.error = Some(PackageReject::transaction_failed());
            }
            out.txs.push((wtxid, result));
        }
        PackageAdmission::Done(out)
    }
}

fn single_package(wtxid: Wtxid, result: Result<Accepted, TxReject>) -> PackageResult {
    match result {
        Ok(accepted) => PackageResult { error: None, txs: vec![alone_result(accepted)] },
        Err(reject) => PackageResult {
            error: Some(PackageReject::transaction_failed()),
            txs: vec![(wtxid, PackageTx::Refused(reject))],
        },
    }
}

/// A transaction judged by its own feerate.
fn alone_result(accepted: Accepted) -> (Wtxid, PackageTx) {
    let (wtxid, effective_feerate) = (accepted.wtxid, accepted.effective_feerate());
    (wtxid, PackageTx::Accepted { accepted, effective_feerate, effective_includes: vec![wtxid] })
}

/// Takes a whole checked package in; the size limit comes later.
fn commit_all(core: &mut MempoolCore, checked: Vec<Checked>, now: i64) -> Vec<Accepted> {
    checked.into_iter().filter_map(|one| core.commit(one, now).ok()).collect()
}

fn accepted_package(
    accepted: Vec<Accepted>,
    wtxids: &[Wtxid],
    terms: Terms,
    fees: i64,
    vsize: u64,
) -> PackageResult {
    let together = u64::try_from(fees).unwrap_or(0).saturating_mul(1_000).checked_div(vsize).unwrap_or(0);
    let txs = accepted.into_iter().map(|accepted| {
        if !terms.skip_feerate {
            return alone_result(accepted);
        }
        let effective_feerate = FeeRate::from_sat_per_kvb(together);
        let effective_includes = wtxids.to_vec();
        (accepted.wtxid, PackageTx::Accepted { accepted, effective_feerate, effective_includes })
    });
    PackageResult { error: None, txs: txs.collect() }
}
