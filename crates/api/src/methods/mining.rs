//! Mining, but for templates and searches (`rpc/mining.cpp`).

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::consensus::Decodable;
use bitcoin::{BlockHash, Txid, Work};
use ironpeer_chain::{BlockOutcome, SubmitOptions};
use ironpeer_consensus::{
    Ancestry, BuriedDeployment, decode_block, next_work_required, witness_commitment_index,
};
use ironpeer_primitives::{ChainRead, HeaderInfo, Height};
use serde_json::{Map, Value};

use super::blockchain::{bits_hex, difficulty, target_hex, warnings};
use crate::call::{Call, real};
use crate::context::ApiContext;
use crate::error::{RpcError, RpcResult, code};
use crate::json::{self, Object};
use crate::table::{Arg, Kind, Method, method};

pub(crate) static METHODS: &[Method] = &[
    method!("mining", "getmininginfo", [], "Where mining stands.", mining_info),
    method!(
        "mining",
        "getnetworkhashps",
        [
            Arg::def("nblocks", Kind::Num, "120", "Blocks to look at; -1 for those since the last retarget"),
            Arg::def("height", Kind::Num, "-1", "The last of them; -1 for the tip"),
        ],
        "The network's hashes per second, guessed from the last blocks.",
        network_hashps
    ),
    method!(
        "mining",
        "getprioritisedtransactions",
        [],
        "All fee deltas set by prioritisetransaction.",
        prioritised
    ),
    method!(
        "mining",
        "prioritisetransaction",
        [
            Arg::req("txid", Kind::Hex, "The transaction's id"),
            Arg::opt("dummy", Kind::Num, "Must be 0 or null"),
            Arg::req("fee_delta", Kind::Num, "Satoshi to add to its fee when it is chosen for a block"),
        ],
        "Mines a transaction as if it paid more, or less.",
        prioritise
    ),
    method!(
        "mining",
        "submitblock",
        [Arg::req("hexdata", Kind::Hex, "The block in hex"), Arg::opt("dummy", Kind::Str, "Ignored (BIP22)"),],
        "Submits a block; null if it was taken, else why not (BIP22).",
        submit_block
    ),
    method!(
        "mining",
        "submitheader",
        [Arg::req("hexdata", Kind::Hex, "The header in hex")],
        "Submits a header as a possible chain tip.",
        submit_header
    ),
];

/// What a chain's work comes to as a real number.
fn work_f64(work: Work) -> f64 {
    work.to_be_bytes().iter().fold(0.0, |sum, byte| sum * 256.0 + f64::from(*byte))
}

fn hashes_per_second(ctx: &ApiContext, lookup: i32, height: i32) -> RpcResult {
    if lookup < -1 || lookup == 0 {
        return Err(RpcError::parameter("Invalid nblocks. Must be a positive number or -1."));
    }
    let view = ctx.view();
    let tip = view.tip();
    if height < -1 || i64::from(height) > i64::from(tip.height.0) {
        return Err(RpcError::parameter("Block does not exist at specified height"));
    }
    let last = u32::try_from(height).ok().and_then(|height| view.active_at(Height(height))).unwrap_or(tip);
    if last.height == Height::GENESIS {
        return Ok(0.into());
    }
    let lookup = u32::try_from(lookup)
        .unwrap_or(last.height.0 % ctx.params.difficulty_adjustment_interval() + 1)
        .min(last.height.0);
    let first_height = last.height.0 - lookup;
    let Some(first) = view.ancestor(&last.hash, Height(first_height)) else { return Ok(0.into()) };
    let Some(chain) = view.ancestry(&last.hash) else { return Ok(0.into()) };
    let times = (first_height..=last.height.0).filter_map(|height| chain.header_at(Height(height)));
    let times: Vec<u32> = times.map(|(_, header)| header.time).collect();
    let (least, most) = (times.iter().min().copied(), times.iter().max().copied());
    let span = most.unwrap_or(0) - least.unwrap_or(0);
    if span == 0 {
        return Ok(0.into());
    }
    let work = work_f64(last.chainwork - first.chainwork);
    Ok(json::real(work / f64::from(span)))
}

async fn network_hashps(call: Call) -> RpcResult {
    let lookup = call.params.opt_int(0)?.unwrap_or(120);
    let height = call.params.opt_int(1)?.unwrap_or(-1);
    hashes_per_second(&call.ctx, lookup, height)
}

async fn mining_info(call: Call) -> RpcResult {
    let ctx = &call.ctx;
    let view = ctx.view();
    let tip = view.tip();
    let mut out = Object::new();
    out.push("blocks", tip.height.0);
    if let Some(last) = ctx.mining.last_template() {
        out.push("currentblockweight", last.weight);
        out.push("currentblocktx", last.txs);
    }
    out.push("bits", bits_hex(tip.header.bits));
    out.push("difficulty", json::real(difficulty(tip.header.bits)));
    out.push("target", target_hex(tip.header.bits));
    out.push("networkhashps", hashes_per_second(ctx, 120, -1)?);
    out.push("pooledtx", ctx.mempool.view().count);
    let min_fee = i64::try_from(ctx.mining.config().min_fee_per_kvb).unwrap_or(i64::MAX);
    out.push("blockmintxfee", json::sats(min_fee));
    out.push("chain", ctx.params.chain_name);
    let now = u32::try_from(ctx.clock.unix()).unwrap_or(u32::MAX);
    let bits = view
        .ancestry(&tip.hash)
        .and_then(|chain| next_work_required(&chain, now.max(next_time(&tip)), &ctx.params))
        .unwrap_or(tip.header.bits);
    let mut next = Object::new();
    next.push("height", tip.height.next().0);
    next.push("bits", bits_hex(bits));
    next.push("difficulty", json::real(difficulty(bits)));
    next.push("target", target_hex(bits));
    out.push("next", Value::from(next));
    out.push_some(
        "signet_challenge",
        ctx.params.signet_challenge.as_ref().map(|challenge| hex::encode(challenge.as_bytes())),
    );
    out.push("warnings", warnings(ctx));
    Ok(out.into())
}

/// The least time a child may have.
fn next_time(tip: &HeaderInfo) -> u32 {
    u32::try_from(tip.median_time_past.saturating_add(1)).unwrap_or(u32::MAX)
}

async fn prioritise(call: Call) -> RpcResult {
    let txid: Txid = call.params.hash(0, "txid")?;
    let dummy = call.params.given(1).then(|| real(call.params.value(1))).transpose()?;
    let delta = call.params.int64(2)?;
    if dummy.is_some_and(|dummy| dummy != 0.0) {
        return Err(RpcError::parameter(
            "Priority is no longer supported, dummy argument to prioritisetransaction must be 0.",
        ));
    }
    if !call.ctx.mempool.may_prioritise(&txid) {
        return Err(RpcError::parameter("Priority is not supported for transactions with dust outputs."));
    }
    call.ctx.mempool.prioritise(txid, delta);
    Ok(true.into())
}

async fn prioritised(call: Call) -> RpcResult {
    let mut out = Map::new();
    for entry in call.ctx.mempool.prioritised() {
        let mut delta = Object::new();
        delta.push("fee_delta", entry.delta);
        delta.push("in_mempool", entry.modified_fee.is_some());
        delta.push_some("modified_fee", entry.modified_fee);
        out.insert(entry.txid.to_string(), delta.into());
    }
    Ok(Value::Object(out))
}

/// A block outcome in BIP22's words.
fn bip22(outcome: &BlockOutcome) -> Value {
    match &outcome.result {
        _ if !outcome.new && outcome.result.is_ok() => "duplicate".into(),
        _ if !outcome.checked => "inconclusive".into(),
        Ok(()) => Value::Null,
        Err(reject) if reject.reason.is_empty() => "rejected".into(),
        Err(reject) => reject.reason.as_ref().into(),
    }
}

async fn submit_block(call: Call) -> RpcResult {
    let ctx = &call.ctx;
    let undecodable = || RpcError::undecodable("Block decode failed");
    let bytes = hex::decode(call.params.str(0)?).map_err(|_| undecodable())?;
    let decoded = tokio::task::spawn_blocking(move || decode_block(&bytes));
    let mut block =
        decoded.await.map_err(|_| RpcError::internal("decode failed"))?.map_err(|_| undecodable())?;
    // A miner may leave the coinbase's witness nonce to us.
    if let Some(parent) = ctx.view().header(&block.header.prev_blockhash)
        && ctx.params.is_active(BuriedDeployment::Segwit, parent.height.next())
        && witness_commitment_index(&block).is_some()
        && let Some(input) = block.txdata.first_mut().and_then(|coinbase| coinbase.input.first_mut())
        && input.witness.is_empty()
    {
        input.witness.push([0u8; 32]);
    }
    let outcome = ctx
        .chain
        .submit_block(Arc::new(block), SubmitOptions::WANTED)
        .await
        .map_err(|error| RpcError::new(code::VERIFY_ERROR, error.to_string()))?;
    ctx.settle().await;
    Ok(bip22(&outcome))
}

async fn submit_header(call: Call) -> RpcResult {
    let undecodable = || RpcError::undecodable("Block header decode failed");
    let bytes = hex::decode(call.params.str(0)?).map_err(|_| undecodable())?;
    let header = Header::consensus_decode(&mut bytes.as_slice()).map_err(|_| undecodable())?;
    let parent: BlockHash = header.prev_blockhash;
    let refused = |text: String| RpcError::new(code::VERIFY_ERROR, text);
    if call.ctx.view().header(&parent).is_none() {
        return Err(refused(format!("Must submit previous header ({parent}) first")));
    }
    let outcome = call
        .ctx
        .chain
        .submit_headers(vec![header], true)
        .await
        .map_err(|error| refused(error.to_string()))?;
    match outcome.refused {
        None => Ok(Value::Null),
        Some(failure) => Err(refused(failure.reject.reason.into_owned())),
    }
}
