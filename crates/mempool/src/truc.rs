//! Topologically restricted transactions, version 3 (BIP431; Core's `policy/truc_policy.cpp`).

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{Transaction, Txid, Wtxid};

use crate::limits::{TRUC_CHILD_MAX_VSIZE, TRUC_MAX_VSIZE, TRUC_VERSION};
use crate::pool::Pool;

/// Most transactions in a line, itself counted in.
const GENERATIONS: usize = 2;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Core's text.
    pub debug: String,
    /// The child that could make room for this one, under the replacement rules.
    pub sibling: Option<Txid>,
}

/// A transaction as these rules see it.
pub struct Subject<'a> {
    pub tx: &'a Transaction,
    pub txid: Txid,
    pub wtxid: Wtxid,
    pub vsize: u64,
}

/// Checks one transaction against its parents in the mempool.
pub fn check(
    pool: &Pool,
    subject: &Subject<'_>,
    parents: &BTreeSet<Txid>,
    conflicts: &BTreeSet<Txid>,
) -> Result<(), Violation> {
    let Subject { tx, txid, wtxid, vsize } = subject;
    let refuse = |debug: String| Err(Violation { debug, sibling: None });
    let restricted = tx.version.0 == TRUC_VERSION;
    for parent in parents.iter().filter_map(|parent| pool.get(parent)) {
        match (restricted, parent.tx.version.0 == TRUC_VERSION) {
            (false, true) => {
                return refuse(format!(
                    "non-version=3 tx {txid} (wtxid={wtxid}) cannot spend from version=3 tx {} (wtxid={})",
                    parent.txid, parent.wtxid
                ));
            }
            (true, false) => {
                return refuse(format!(
                    "version=3 tx {txid} (wtxid={wtxid}) cannot spend from non-version=3 tx {} (wtxid={})",
                    parent.txid, parent.wtxid
                ));
            }
            _ => {}
        }
    }
    if !restricted {
        return Ok(());
    }
    if *vsize > TRUC_MAX_VSIZE {
        return refuse(format!(
            "version=3 tx {txid} (wtxid={wtxid}) is too big: {vsize} > {TRUC_MAX_VSIZE} virtual bytes"
        ));
    }
    let too_many = || refuse(format!("tx {txid} (wtxid={wtxid}) would have too many ancestors"));
    if parents.len() + 1 > GENERATIONS {
        return too_many();
    }
    let Some(parent) = parents.first().and_then(|parent| pool.get(parent)) else { return Ok(()) };
    if pool.with_ancestors([parent.txid]).len() + 1 > GENERATIONS {
        return too_many();
    }
    if *vsize > TRUC_CHILD_MAX_VSIZE {
        return refuse(format!(
            "version=3 child tx {txid} (wtxid={wtxid}) is too big: {vsize} > {TRUC_CHILD_MAX_VSIZE} virtual bytes"
        ));
    }
    let family = pool.with_descendants([parent.txid]);
    let replaces_child = family.iter().any(|child| *child != parent.txid && conflicts.contains(child));
    if family.len() + 1 > GENERATIONS && !replaces_child {
        // Only a reorganisation can have left more than one child, or a grandchild.
        let sibling = family
            .iter()
            .find(|child| **child != parent.txid)
            .filter(|child| family.len() == 2 && pool.with_ancestors([**child]).len() == 2);
        return Err(Violation {
            debug: format!("tx {} (wtxid={}) would exceed descendant count limit", parent.txid, parent.wtxid),
            sibling: sibling.copied(),
        });
    }
    Ok(())
}

/// Checks one transaction of a package against the others and its parents in the mempool
/// (`PackageTRUCChecks`). It has passed [`check`].
///
/// # Errors
/// Core's text.
pub fn check_in_package(
    pool: &Pool,
    subject: &Subject<'_>,
    package: &[Arc<Transaction>],
    mempool_parents: &BTreeSet<Txid>,
) -> Result<(), String> {
    let Subject { tx, txid, wtxid, vsize } = subject;
    let spends =
        |tx: &Transaction, txid: &Txid| tx.input.iter().any(|input| input.previous_output.txid == *txid);
    let others: Vec<(&Arc<Transaction>, Txid, Wtxid)> = package
        .iter()
        .map(|other| (other, other.compute_txid(), other.compute_wtxid()))
        .filter(|(_, other, _)| other != txid)
        .collect();
    let in_mempool = mempool_parents
        .iter()
        .filter_map(|parent| pool.get(parent))
        .map(|parent| (parent.tx.version.0, parent.txid, parent.wtxid));
    let in_package = others
        .iter()
        .filter(|(_, other, _)| spends(tx, other))
        .map(|(parent, parent_txid, parent_wtxid)| (parent.version.0, *parent_txid, *parent_wtxid));
    let parents: Vec<(i32, Txid, Wtxid)> = in_mempool.chain(in_package).collect();
    if tx.version.0 != TRUC_VERSION {
        return match parents.iter().find(|(version, _, _)| *version == TRUC_VERSION) {
            Some((_, parent, parent_wtxid)) => Err(format!(
                "non-version=3 tx {txid} (wtxid={wtxid}) cannot spend from version=3 tx {parent} (wtxid={parent_wtxid})"
            )),
            None => Ok(()),
        };
    }
    let too_many =
        |txid: &Txid, wtxid: &Wtxid| format!("tx {txid} (wtxid={wtxid}) would have too many ancestors");
    let grandparents = pool.with_ancestors(mempool_parents.iter().copied()).len() > mempool_parents.len();
    if parents.len() + 1 > GENERATIONS || grandparents {
        return Err(too_many(txid, wtxid));
    }
    let Some((version, parent, parent_wtxid)) = parents.first() else { return Ok(()) };
    if *vsize > TRUC_CHILD_MAX_VSIZE {
        return Err(format!(
            "version=3 child tx {txid} (wtxid={wtxid}) is too big: {vsize} > {TRUC_CHILD_MAX_VSIZE} virtual bytes"
        ));
    }
    if *version != TRUC_VERSION {
        return Err(format!(
            "version=3 tx {txid} (wtxid={wtxid}) cannot spend from non-version=3 tx {parent} (wtxid={parent_wtxid})"
        ));
    }
    let crowded = || format!("tx {parent} (wtxid={parent_wtxid}) would exceed descendant count limit");
    for (other, other_txid, other_wtxid) in &others {
        if spends(other, parent) {
            return Err(crowded());
        }
        if spends(other, txid) {
            return Err(too_many(other_txid, other_wtxid));
        }
    }
    if pool.with_descendants([*parent]).len() > 1 {
        return Err(crowded());
    }
    Ok(())
}
