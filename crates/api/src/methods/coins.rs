//! The coin set (`rpc/blockchain.cpp`).

use std::collections::HashMap;

use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Amount, OutPoint, ScriptBuf, Txid};
use ironpeer_chain::UtxoHashKind;
use ironpeer_index::{CoinStatsIndex, CoinTotals};
use ironpeer_primitives::{ChainRead, Coin, HeaderInfo};
use serde_json::Value;

use super::blockchain::hash_or_height;
use super::scan::{Asked, Reserved};
use crate::call::{Call, integer};
use crate::context::ApiContext;
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
    let use_index = call.params.opt_bool(2)?.unwrap_or(true);
    let index = call.ctx.indexes.coin_stats.as_ref();
    let mut at = None;
    if call.params.given(1) {
        if index.is_none() {
            return Err(RpcError::parameter("Querying specific block heights requires coinstatsindex"));
        }
        if kind == UtxoHashKind::HashSerialized3 {
            return Err(RpcError::parameter(
                "hash_serialized_3 hash type cannot be queried for a specific block",
            ));
        }
        if !use_index {
            return Err(RpcError::parameter(
                "Cannot set use_index to false when querying for a specific block",
            ));
        }
        at = Some(hash_or_height(&call.ctx.view(), call.params.value(1))?);
    }
    if let Some(index) = index.filter(|_| use_index) {
        if !index.handle().wait_synced().await {
            let reached = index.handle().status().tip.map_or(0, |tip| tip.height.0);
            if at.is_some_and(|at| at.height.0 > reached) {
                return Err(RpcError::internal(format!(
                    "Unable to get data because coinstatsindex is still syncing. Current height: {reached}"
                )));
            }
        }
        if kind != UtxoHashKind::HashSerialized3 {
            let at = at.unwrap_or_else(|| call.ctx.view().tip());
            return indexed_set_info(&call.ctx, index.clone(), asked, at).await;
        }
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

/// The coin set's numbers after a block, from the index.
async fn indexed_set_info(ctx: &ApiContext, index: CoinStatsIndex, asked: &str, at: HeaderInfo) -> RpcResult {
    let before = ctx.view().header(&at.header.prev_blockhash);
    let read = tokio::task::spawn_blocking(move || {
        let stats = index.stats(at.height, &at.hash)?;
        let before = match before {
            Some(before) => index.stats(before.height, &before.hash)?.map(|stats| stats.totals),
            None => Some(CoinTotals::default()),
        };
        Ok::<_, ironpeer_index::IndexError>(stats.zip(before))
    });
    let read = read.await.map_err(|_| RpcError::internal("read failed"))?;
    let unreadable = || RpcError::internal("Unable to read UTXO set");
    let (stats, before) = read.ok().flatten().ok_or_else(unreadable)?;
    let totals = stats.totals;
    let sats = |sats: u64| json::amount(Amount::from_sat(sats));
    let since = |now: u64, before: u64| sats(now.saturating_sub(before));
    let moved = |now: u128, before: u128| sats(u64::try_from(now.saturating_sub(before)).unwrap_or(u64::MAX));
    let mut unspendables = Object::new();
    unspendables.push("genesis_block", since(totals.unspendable_genesis, before.unspendable_genesis));
    unspendables.push("bip30", since(totals.unspendable_bip30, before.unspendable_bip30));
    unspendables.push("scripts", since(totals.unspendable_scripts, before.unspendable_scripts));
    unspendables.push("unclaimed_rewards", since(totals.unspendable_unclaimed, before.unspendable_unclaimed));
    let mut block = Object::new();
    block.push("prevout_spent", moved(totals.prevout_spent, before.prevout_spent));
    block.push("coinbase", moved(totals.coinbase, before.coinbase));
    let outputs = moved(totals.new_outputs_ex_coinbase, before.new_outputs_ex_coinbase);
    block.push("new_outputs_ex_coinbase", outputs);
    block.push("unspendable", since(totals.unspendable(), before.unspendable()));
    block.push("unspendables", Value::from(unspendables));
    let mut out = Object::new();
    out.push("height", at.height.0);
    out.push("bestblock", at.hash.to_string());
    out.push("txouts", totals.txouts);
    out.push("bogosize", totals.bogosize);
    if asked == "muhash" {
        out.push("muhash", stats.muhash.to_string());
    }
    out.push("total_amount", sats(totals.amount));
    out.push("total_unspendable_amount", sats(totals.unspendable()));
    out.push("block_info", Value::from(block));
    Ok(out.into())
}

async fn scan_tx_out_set(call: Call) -> RpcResult {
    match call.ctx.scan.ask(call.params.str(0)?, false)? {
        Asked::Answer(answer) => Ok(answer),
        Asked::Start(reserved) => scan(call, reserved).await,
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
                    reserved.reached(high * 100 / 65_536, 0);
                }
                if count.is_multiple_of(8192) && (reserved.is_aborted() || shutdown.is_cancelled()) {
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
