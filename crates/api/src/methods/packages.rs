//! Trying and submitting transactions together (`rpc/mempool.cpp`).

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use bitcoin::{Transaction, Txid, Wtxid};
use ironpeer_mempool::{Accepted, FeeRate, PackageTx, SubmitTx};
use ironpeer_primitives::{TxClass, TxReject};
use serde_json::Value;

use super::mempool::feerate;
use super::rawtx::{check_burn, decode, max_feerate, transaction_error};
use crate::call::{Call, amount_sats, text};
use crate::error::{RpcError, RpcResult};
use crate::json::{self, Object};
use crate::table::{Arg, Kind, Method, method};

/// Transactions of a package at most (`MAX_PACKAGE_COUNT`).
const PACKAGE_COUNT: usize = 25;
/// The mempool's word for a package that fails by one of its transactions alone.
const TRANSACTION_FAILED: &str = "transaction failed";

pub(crate) static METHODS: &[Method] = &[
    method!(
        "rawtransactions",
        "submitpackage",
        [
            Arg::req("package", Kind::Arr, "The transactions in hex: a child, last, with its parents")
                .usage("[\"rawtx\",...]"),
            Arg::def(
                "maxfeerate",
                Kind::Amount,
                "0.10",
                "Refuse above this feerate in bitcoin per 1,000 vbytes; 0 for any"
            ),
            Arg::def("maxburnamount", Kind::Amount, "0.00", "Refuse unspendable outputs above this amount"),
        ],
        "Puts a child and its parents into the mempool; the child may pay for them.",
        submit
    ),
    method!(
        "rawtransactions",
        "testmempoolaccept",
        [
            Arg::req("rawtxs", Kind::Arr, "The transactions in hex, parents first").usage("[\"rawtx\",...]"),
            Arg::def(
                "maxfeerate",
                Kind::Amount,
                "0.10",
                "Refuse above this feerate in bitcoin per 1,000 vbytes; 0 for any"
            ),
        ],
        "Whether the mempool would take some transactions.",
        test_accept
    ),
];

fn read(list: &[Value], max_burn: Option<i64>) -> Result<Vec<Arc<Transaction>>, RpcError> {
    if list.is_empty() || list.len() > PACKAGE_COUNT {
        return Err(RpcError::parameter(format!(
            "Array must contain between 1 and {PACKAGE_COUNT} transactions."
        )));
    }
    let mut txs = Vec::with_capacity(list.len());
    for raw in list {
        let hex_tx = text(raw)?;
        let tx = decode(hex_tx, false, true).ok_or_else(|| {
            RpcError::undecodable(format!(
                "TX decode failed: {hex_tx} Make sure the tx has at least one input."
            ))
        })?;
        if let Some(max_burn) = max_burn {
            check_burn(&tx, max_burn)?;
        }
        txs.push(Arc::new(tx));
    }
    Ok(txs)
}

fn fees_object(accepted: &Accepted, rate: FeeRate, includes: &[Wtxid]) -> Value {
    let includes: Vec<Value> = includes.iter().map(|wtxid| wtxid.to_string().into()).collect();
    let mut fees = Object::new();
    fees.push("base", json::amount(accepted.fee));
    fees.push("effective-feerate", feerate(rate));
    fees.push("effective-includes", includes);
    fees.into()
}

/// Adds the verdict on an acceptable transaction; false if it pays too much.
fn push_accepted(
    out: &mut Object,
    accepted: &Accepted,
    rate: FeeRate,
    includes: &[Wtxid],
    max_rate: u64,
) -> bool {
    let max_fee = FeeRate::from_sat_per_kvb(max_rate).fee(accepted.vsize);
    if max_fee > 0 && accepted.fee.to_sat() > max_fee {
        out.push("allowed", false);
        out.push("reject-reason", "max-fee-exceeded");
        return false;
    }
    out.push("allowed", true);
    out.push("vsize", accepted.vsize);
    out.push("fees", fees_object(accepted, rate, includes));
    true
}

fn push_refused(out: &mut Object, reject: &TxReject) {
    out.push("allowed", false);
    if reject.class == TxClass::MissingInputs {
        out.push("reject-reason", "missing-inputs");
    } else {
        out.push("reject-reason", &*reject.reason);
        out.push("reject-details", reject.to_string());
    }
}

fn named(tx: &Transaction) -> Object {
    let mut out = Object::new();
    out.push("txid", tx.compute_txid().to_string());
    out.push("wtxid", tx.compute_wtxid().to_string());
    out
}

async fn test_accept(call: Call) -> RpcResult {
    let list = call.params.array(0)?;
    let max_rate = max_feerate(call.params.value(1));
    // Core looks at the list's length first, then at the feerate.
    let txs = read(list, None);
    let (max_rate, txs) = match (max_rate, txs) {
        (Err(error), Ok(_)) => return Err(error),
        (rate, txs) => (rate?, txs?),
    };
    if let [tx] = txs.as_slice() {
        let mut out = named(tx);
        let probe = SubmitTx { test_accept: true, ..SubmitTx::default() };
        match call.ctx.mempool.submit_tx(Arc::clone(tx), probe).await {
            Ok(accepted) => {
                let rate = accepted.effective_feerate();
                push_accepted(&mut out, &accepted, rate, &[tx.compute_wtxid()], max_rate);
            }
            Err(reject) => push_refused(&mut out, &reject),
        }
        return Ok(vec![Value::from(out)].into());
    }
    let result = call.ctx.mempool.test_package(txs.clone()).await;
    let package_error =
        result.error.as_ref().filter(|error| error.reason != TRANSACTION_FAILED).map(ToString::to_string);
    let mut exit_early = false;
    let mut answers = Vec::with_capacity(txs.len());
    for tx in &txs {
        let mut out = named(tx);
        out.push_some("package-error", package_error.clone());
        let wtxid = tx.compute_wtxid();
        let verdict = result.txs.iter().find(|(of, _)| *of == wtxid).map(|(_, verdict)| verdict);
        match verdict.filter(|_| !exit_early) {
            Some(PackageTx::Accepted { accepted, effective_feerate, effective_includes }) => {
                exit_early =
                    !push_accepted(&mut out, accepted, *effective_feerate, effective_includes, max_rate);
            }
            Some(PackageTx::Refused(reject)) => push_refused(&mut out, reject),
            // Not looked at to the end.
            Some(PackageTx::AlreadyThere { .. } | PackageTx::OtherWitness(_)) | None => {}
        }
        answers.push(Value::from(out));
    }
    Ok(answers.into())
}

/// The last spends from all others, and those not from each other (Core's
/// `IsChildWithParentsTree`).
fn is_child_with_parents(txs: &[Arc<Transaction>]) -> bool {
    let Some((child, parents)) = txs.split_last() else { return false };
    let ids: HashSet<Txid> = parents.iter().map(|tx| tx.compute_txid()).collect();
    let spent: HashSet<Txid> = child.input.iter().map(|input| input.previous_output.txid).collect();
    let mut of_parents = parents.iter().flat_map(|tx| &tx.input);
    ids.is_subset(&spent) && of_parents.all(|input| !ids.contains(&input.previous_output.txid))
}

async fn submit(call: Call) -> RpcResult {
    let list = call.params.array(0)?;
    let max_rate = max_feerate(call.params.value(1))?;
    let max_burn = if call.params.given(2) { amount_sats(call.params.value(2))? } else { 0 };
    let txs = read(list, Some(max_burn))?;
    if txs.len() > 1 && !is_child_with_parents(&txs) {
        return Err(transaction_error(
            "package topology disallowed. not child-with-parents or parents depend on each other.",
        ));
    }
    // 0 stands for any feerate.
    let limit = (max_rate > 0).then(|| FeeRate::from_sat_per_kvb(max_rate));
    let mempool = &call.ctx.mempool;
    let result = mempool.submit_package(txs.clone(), limit).await;
    for tx in &txs {
        let txid = tx.compute_txid();
        if let Some(pooled) = mempool.tx(&txid) {
            mempool.add_unbroadcast(txid);
            call.ctx.announce(txid, pooled.compute_wtxid());
        }
    }
    let mut replaced: BTreeSet<Txid> = BTreeSet::new();
    let mut results = Object::new();
    for tx in &txs {
        let wtxid = tx.compute_wtxid();
        let mut out = Object::new();
        out.push("txid", tx.compute_txid().to_string());
        match result.txs.iter().find(|(of, _)| *of == wtxid).map(|(_, verdict)| verdict) {
            None => {
                out.push("error", "package-not-validated");
            }
            Some(PackageTx::OtherWitness(other)) => {
                out.push("other-wtxid", other.to_string());
            }
            Some(PackageTx::Refused(reject)) => {
                out.push("error", reject.to_string());
            }
            Some(PackageTx::AlreadyThere { vsize, fee }) => {
                let mut fees = Object::new();
                fees.push("base", json::amount(*fee));
                out.push("vsize", *vsize);
                out.push("fees", Value::from(fees));
            }
            Some(PackageTx::Accepted { accepted, effective_feerate, effective_includes }) => {
                out.push("vsize", accepted.vsize);
                out.push("fees", fees_object(accepted, *effective_feerate, effective_includes));
                replaced.extend(accepted.replaced.iter().map(|tx| tx.compute_txid()));
            }
        }
        results.push(wtxid.to_string(), Value::from(out));
    }
    let message = result.error.map_or_else(|| "success".to_owned(), |error| error.to_string());
    let mut out = Object::new();
    out.push("package_msg", message);
    out.push("tx-results", Value::from(results));
    out.push(
        "replaced-transactions",
        replaced.iter().map(|id| Value::from(id.to_string())).collect::<Vec<_>>(),
    );
    Ok(out.into())
}
