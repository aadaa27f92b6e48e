//! A block in numbers (`getblockstats`, `rpc/blockchain.cpp`).

use std::collections::BTreeSet;

use bitcoin::{Amount, Block};
use ironpeer_consensus::{Params, block_subsidy, is_bip30_repeat};
use ironpeer_primitives::{BlockUndo, HeaderInfo};
use ironpeer_script::MAX_SCRIPT_SIZE;
use serde_json::{Map, Value};

use super::blockchain::{checked_undo, hash_or_height, read_block};
use crate::call::{Call, text};
use crate::error::{RpcError, RpcResult};
use crate::json::Object;
use crate::table::{Arg, Kind, Method, method};

/// Bytes an unspent output takes beside itself: outpoint, height and coinbase flag.
const PER_COIN: i64 = 36 + 4;
/// Most satoshi there can be; stands for "none yet" where a least is looked for.
const MAX_MONEY: i64 = 2_100_000_000_000_000;
/// Largest serialised block, in bytes; stands for "none yet" likewise.
const MAX_BLOCK_SIZE: i64 = 4_000_000;

pub(crate) static METHODS: &[Method] = &[method!(
    "blockchain",
    "getblockstats",
    [
        Arg::req("hash_or_height", Kind::Num, "The block's hash or height").any_type(),
        Arg::opt("stats", Kind::Arr, "Only these numbers").usage("stats"),
    ],
    "A block in numbers; amounts are in satoshi.",
    block_stats
)];

#[derive(Default)]
struct Totals {
    inputs: i64,
    outputs: i64,
    total_out: i64,
    total_fee: i64,
    total_size: i64,
    total_weight: i64,
    segwit_txs: i64,
    segwit_size: i64,
    segwit_weight: i64,
    coins_made: i64,
    size_increase: i64,
    size_increase_actual: i64,
    fees: Vec<i64>,
    /// Feerate and weight.
    feerates: Vec<(i64, i64)>,
    sizes: Vec<i64>,
}

fn signed(amount: Amount) -> i64 {
    i64::try_from(amount.to_sat()).unwrap_or(i64::MAX)
}

fn output_size(output: &bitcoin::TxOut) -> i64 {
    i64::try_from(output.size()).unwrap_or(i64::MAX) + PER_COIN
}

fn count(block: &Block, undo: &BlockUndo, makes_coins: bool, coinbase_makes_coins: bool) -> Totals {
    let mut totals = Totals::default();
    let wide = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    for (i, tx) in block.txdata.iter().enumerate() {
        let coinbase = i == 0;
        totals.outputs += wide(tx.output.len());
        let mut out = 0;
        for output in &tx.output {
            out += signed(output.value);
            let size = output_size(output);
            totals.size_increase += size;
            let script = &output.script_pubkey;
            let unspendable = script.is_op_return() || script.len() > MAX_SCRIPT_SIZE;
            if !makes_coins || (coinbase && !coinbase_makes_coins) || unspendable {
                continue;
            }
            totals.coins_made += 1;
            totals.size_increase_actual += size;
        }
        let Some(spent) = i.checked_sub(1).and_then(|i| undo.txs.get(i)) else { continue };
        let size = wide(tx.total_size());
        let weight = i64::try_from(tx.weight().to_wu()).unwrap_or(i64::MAX);
        totals.inputs += wide(tx.input.len());
        totals.total_out += out;
        totals.sizes.push(size);
        totals.total_size += size;
        totals.total_weight += weight;
        if tx.input.iter().any(|input| !input.witness.is_empty()) {
            totals.segwit_txs += 1;
            totals.segwit_size += size;
            totals.segwit_weight += weight;
        }
        let mut paid = 0;
        for coin in spent {
            paid += signed(coin.output.value);
            let size = output_size(&coin.output);
            totals.size_increase -= size;
            totals.size_increase_actual -= size;
        }
        let fee = paid - out;
        totals.total_fee += fee;
        totals.fees.push(fee);
        totals.feerates.push((fee * 4 / weight.max(1), weight));
    }
    totals
}

/// The middle value; of two middle ones their mean, rounded towards zero.
fn median(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    let middle = values.len() / 2;
    let at = |i: usize| values.get(i).copied().unwrap_or(0);
    if values.is_empty() {
        0
    } else if values.len().is_multiple_of(2) {
        (at(middle - 1) + at(middle)) / 2
    } else {
        at(middle)
    }
}

/// Feerates below which 10, 25, 50, 75 and 90 percent of the weight lie (Core's
/// `CalculatePercentilesByWeight`).
fn percentiles(mut feerates: Vec<(i64, i64)>, total_weight: i64) -> [i64; 5] {
    feerates.sort_unstable();
    let total = total_weight as f64;
    let marks = [total / 10.0, total / 4.0, total / 2.0, total * 3.0 / 4.0, total * 9.0 / 10.0];
    let mut found = [feerates.last().map_or(0, |(rate, _)| *rate); 5];
    let mut next = 0;
    let mut weight = 0i64;
    for (rate, of) in feerates {
        weight += of;
        while marks.get(next).is_some_and(|mark| weight as f64 >= *mark) {
            if let Some(slot) = found.get_mut(next) {
                *slot = rate;
            }
            next += 1;
        }
    }
    found
}

fn all_stats(block: &Block, undo: &BlockUndo, info: &HeaderInfo, params: &Params) -> Object {
    let repeats = is_bip30_repeat(&info.hash, info.height);
    let t = count(block, undo, info.height.0 != 0, !repeats);
    let txs = i64::try_from(block.txdata.len()).unwrap_or(i64::MAX);
    let mean = |sum: i64| if txs > 1 { sum / (txs - 1) } else { 0 };
    let most = |values: &mut dyn Iterator<Item = i64>| values.max().unwrap_or(0).max(0);
    let least = |values: &mut dyn Iterator<Item = i64>, none: i64| {
        let least = values.min().unwrap_or(none).min(none);
        if least == none { 0 } else { least }
    };
    let rates = || t.feerates.iter().map(|(rate, _)| *rate);
    let mut out = Object::new();
    out.push("avgfee", mean(t.total_fee));
    out.push("avgfeerate", (t.total_fee * 4).checked_div(t.total_weight).unwrap_or(0));
    out.push("avgtxsize", mean(t.total_size));
    out.push("blockhash", info.hash.to_string());
    out.push("feerate_percentiles", percentiles(t.feerates.clone(), t.total_weight).to_vec());
    out.push("height", info.height.0);
    out.push("ins", t.inputs);
    out.push("maxfee", most(&mut t.fees.iter().copied()));
    out.push("maxfeerate", most(&mut rates()));
    out.push("maxtxsize", most(&mut t.sizes.iter().copied()));
    out.push("medianfee", median(t.fees.clone()));
    out.push("mediantime", info.median_time_past);
    out.push("mediantxsize", median(t.sizes.clone()));
    out.push("minfee", least(&mut t.fees.iter().copied(), MAX_MONEY));
    out.push("minfeerate", least(&mut rates(), MAX_MONEY));
    out.push("mintxsize", least(&mut t.sizes.iter().copied(), MAX_BLOCK_SIZE));
    out.push("outs", t.outputs);
    out.push("subsidy", block_subsidy(info.height, params).to_sat());
    out.push("swtotal_size", t.segwit_size);
    out.push("swtotal_weight", t.segwit_weight);
    out.push("swtxs", t.segwit_txs);
    out.push("time", info.header.time);
    out.push("total_out", t.total_out);
    out.push("total_size", t.total_size);
    out.push("total_weight", t.total_weight);
    out.push("totalfee", t.total_fee);
    out.push("txs", txs);
    out.push("utxo_increase", t.outputs - t.inputs);
    out.push("utxo_size_inc", t.size_increase);
    out.push("utxo_increase_actual", t.coins_made - t.inputs);
    out.push("utxo_size_inc_actual", t.size_increase_actual);
    out
}

async fn block_stats(call: Call) -> RpcResult {
    let view = call.ctx.view();
    let info = hash_or_height(&view, call.params.value(0))?;
    let wanted: BTreeSet<String> = match call.params.value(1) {
        Value::Null => BTreeSet::new(),
        _ => {
            let names = call.params.array(1)?.iter().map(|name| text(name).map(str::to_owned));
            names.collect::<Result<_, _>>()?
        }
    };
    let block = read_block(&view, info.hash).await?;
    let params = std::sync::Arc::clone(&call.ctx.params);
    let counted = tokio::task::spawn_blocking(move || {
        Ok::<_, RpcError>(all_stats(&block, checked_undo(&view, &info)?.as_ref(), &info, &params))
    });
    let all = counted.await.map_err(|_| RpcError::internal("count failed"))?.map(Value::from)?;
    if wanted.is_empty() {
        return Ok(all);
    }
    let mut out = Map::new();
    for name in wanted {
        let value = all
            .get(&name)
            .cloned()
            .ok_or_else(|| RpcError::parameter(format!("Invalid selected statistic '{name}'")))?;
        out.insert(name, value);
    }
    Ok(Value::Object(out))
}
