//! The coin set (`rpc/blockchain.cpp`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Amount, OutPoint, ScriptBuf, Txid};
use ironpeer_chain::UtxoHashKind;
use ironpeer_primitives::{ChainRead, Coin};
use serde_json::Value;

use crate::call::{Call, integer};
use crate::descriptor::scan_object_scripts;
use crate::error::{RpcError, RpcResult, code};
use crate::json::{self, Object};
use crate::table::{Arg, Kind, Method, method};
use crate::tx_json;

pub(crate) static METHODS: &[Method] = &[
    method!(
        "blockchain",
        "gettxout",
        [
            Arg::req("txid", Kind::Str, "The transaction's id"),
            Arg::req("n", Kind::Num, "The output's number"),
            Arg::def("include_mempool", Kind::Bool, "true", "Whether the mempool counts"),
        ],
        "An unspent output, or null.",
        tx_out
    ),
    method!(
        "blockchain",
        "gettxoutsetinfo",
        [
            Arg::def("hash_type", Kind::Str, "\"hash_serialized_3\"", "hash_serialized_3, muhash or none"),
            Arg::opt("hash_or_height", Kind::Num, "The block to look at (needs coinstatsindex)").any_type(),
            Arg::def("use_index", Kind::Bool, "true", "Whether to use coinstatsindex, if there is one"),
        ],
        "The coin set in numbers.",
        tx_out_set_info
    ),
    method!(
        "blockchain",
        "scantxoutset",
        [
            Arg::req("action", Kind::Str, "start, abort or status"),
            Arg::opt("scanobjects", Kind::Arr, "Descriptors, or objects with desc and range")
                .usage("[scanobjects,...]"),
        ],
        "Searches the coin set for outputs of some descriptors.",
        scan_tx_out_set
    ),
];

/// The one scan of the coin set that may run.
#[derive(Debug, Default)]
pub struct ScanState {
    running: AtomicBool,
    abort: AtomicBool,
    /// Percent.
    progress: AtomicU32,
}

/// Ends the scan's reservation however it ends.
struct Reserved(Arc<ScanState>);

impl Drop for Reserved {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

async fn tx_out(call: Call) -> RpcResult {
    let txid: Txid = call.params.hash(0, "txid")?;
    let outpoint = OutPoint { txid, vout: integer(call.params.value(1))? };
    let include_mempool = call.params.opt_bool(2)?.unwrap_or(true);
    let view = call.ctx.view();
    let tip = view.tip();
    let (coin, confirmations) = if include_mempool && call.ctx.mempool.spender(&outpoint).is_some() {
        (None, 0)
    } else if let Some(pooled) = include_mempool.then(|| call.ctx.mempool.tx(&txid)).flatten() {
        let output = usize::try_from(outpoint.vout).ok().and_then(|n| pooled.output.get(n)).cloned();
        let coin = output.map(|output| Coin { output, height: tip.height.next(), is_coinbase: false });
        (coin, 0)
    } else {
        let coin = view.coin(&outpoint);
        let depth = coin.as_ref().map_or(0, |coin| i64::from(tip.height.0) - i64::from(coin.height.0) + 1);
        (coin, depth)
    };
    let Some(coin) = coin else { return Ok(Value::Null) };
    let mut out = Object::new();
    out.push("bestblock", tip.hash.to_string());
    out.push("confirmations", confirmations);
    out.push("value", json::amount(coin.output.value));
    out.push("scriptPubKey", tx_json::script_pub_key(&coin.output.script_pubkey, call.ctx.network()));
    out.push("coinbase", coin.is_coinbase);
    Ok(out.into())
}

async fn tx_out_set_info(call: Call) -> RpcResult {
    let asked = call.params.opt_str(0)?.unwrap_or("hash_serialized_3");
    let kind = match asked {
        "hash_serialized_3" => UtxoHashKind::HashSerialized3,
        "muhash" => UtxoHashKind::Muhash,
        "none" => UtxoHashKind::None,
        other => return Err(RpcError::parameter(format!("'{other}' is not a valid hash_type"))),
    };
    call.params.opt_bool(2)?;
    if call.params.given(1) {
        return Err(RpcError::parameter("Querying specific block heights requires coinstatsindex"));
    }
    let info = call
        .ctx
        .chain
        .utxo_set_info(kind)
        .await
        .map_err(|_| RpcError::internal("Unable to read UTXO set"))?;
    let mut out = Object::new();
    out.push("height", info.block.height.0);
    out.push("bestblock", info.block.hash.to_string());
    out.push("txouts", info.txouts);
    out.push("bogosize", info.bogosize);
    out.push_some(asked, info.hash.map(|hash| hash.to_string()));
    out.push("total_amount", json::amount(info.total_amount));
    out.push("transactions", info.transactions);
    out.push("disk_size", info.disk_size);
    Ok(out.into())
}

async fn scan_tx_out_set(call: Call) -> RpcResult {
    let state = Arc::clone(&call.ctx.scan);
    match call.params.str(0)? {
        "status" if !state.running.load(Ordering::Acquire) => Ok(Value::Null),
        "status" => {
            let mut out = Object::new();
            out.push("progress", state.progress.load(Ordering::Relaxed));
            Ok(out.into())
        }
        "abort" => {
            let running = state.running.load(Ordering::Acquire);
            if running {
                state.abort.store(true, Ordering::Release);
            }
            Ok(running.into())
        }
        "start" => {
            if state.running.swap(true, Ordering::AcqRel) {
                return Err(RpcError::parameter(
                    "Scan already in progress, use action \"abort\" or \"status\"",
                ));
            }
            let reserved = Reserved(Arc::clone(&state));
            state.abort.store(false, Ordering::Release);
            state.progress.store(0, Ordering::Relaxed);
            scan(call, reserved).await
        }
        other => Err(RpcError::parameter(format!("Invalid action '{other}'"))),
    }
}

/// Runs a scan on a snapshot, off the runtime's workers and off the chain's writer.
async fn scan(call: Call, reserved: Reserved) -> RpcResult {
    if call.params.values.len() < 2 {
        return Err(RpcError::misc("scanobjects argument is required for the start action"));
    }
    let network = call.ctx.network();
    let objects = call.params.array(1)?.to_vec();
    let coins = call
        .ctx
        .chain
        .coin_scan()
        .await
        .map_err(|error| RpcError::new(code::DATABASE_ERROR, error.to_string()))?;
    let view = call.ctx.view();
    let shutdown = call.ctx.shutdown.clone();
    let run = tokio::task::spawn_blocking(move || {
        let secp = Secp256k1::new();
        let mut wanted: HashMap<ScriptBuf, String> = HashMap::new();
        for object in &objects {
            wanted.extend(scan_object_scripts(object, network, &secp)?);
        }
        let state = &reserved.0;
        let tip = coins.block();
        let mut count = 0u64;
        let mut found: Vec<(OutPoint, Coin)> = Vec::new();
        let mut finished = true;
        coins
            .for_each(|outpoint, coin| {
                count += 1;
                if count.is_multiple_of(256) {
                    let bytes: &[u8; 32] = outpoint.txid.as_ref();
                    let high = u32::from(bytes[0]) * 256 + u32::from(bytes[1]);
                    state.progress.store(high * 100 / 65_536, Ordering::Relaxed);
                }
                if count.is_multiple_of(8192)
                    && (state.abort.load(Ordering::Acquire) || shutdown.is_cancelled())
                {
                    finished = false;
                    return false;
                }
                if wanted.contains_key(&coin.output.script_pubkey) {
                    found.push((outpoint, coin));
                }
                true
            })
            .map_err(|error| RpcError::new(code::DATABASE_ERROR, error.to_string()))?;
        let mut total = Amount::ZERO;
        let unspents: Vec<Value> = found
            .into_iter()
            .map(|(outpoint, coin)| {
                total = total.checked_add(coin.output.value).unwrap_or(Amount::MAX);
                let script = &coin.output.script_pubkey;
                let mut out = Object::new();
                out.push("txid", outpoint.txid.to_string());
                out.push("vout", outpoint.vout);
                out.push("scriptPubKey", hex::encode(script.as_bytes()));
                out.push_some("desc", wanted.get(script).cloned());
                out.push("amount", json::amount(coin.output.value));
                out.push("coinbase", coin.is_coinbase);
                out.push("height", coin.height.0);
                let block = view.ancestor(&tip.hash, coin.height);
                out.push_some("blockhash", block.map(|block| block.hash.to_string()));
                out.push("confirmations", i64::from(tip.height.0) - i64::from(coin.height.0) + 1);
                out.into()
            })
            .collect();
        let mut out = Object::new();
        out.push("success", finished);
        out.push("txouts", count);
        out.push("height", tip.height.0);
        out.push("bestblock", tip.hash.to_string());
        out.push("unspents", unspents);
        out.push("total_amount", json::amount(total));
        Ok(Value::from(out))
    });
    run.await.map_err(|_| RpcError::internal("scan failed"))?
}
