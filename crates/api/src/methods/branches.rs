//! Marking and checking blocks, and the state of rule changes (`rpc/blockchain.cpp`).

use bitcoin::{BlockHash, Network};
use ironpeer_chain::MarkError;
use ironpeer_consensus::versionbits::{ThresholdState, state_after, state_since, statistics};
use ironpeer_consensus::{Ancestry, Bip9Deployment, BuriedDeployment, script_flags};
use ironpeer_primitives::{ChainRead, Height};
use serde_json::Value;

use super::blockchain::known_header;
use crate::call::Call;
use crate::error::{RpcError, RpcResult, code};
use crate::json::Object;
use crate::table::{Arg, Kind, Method, method};

/// Core's defaults for `verifychain`.
const CHECK_LEVEL: i32 = 3;
const CHECK_BLOCKS: i32 = 6;

pub(crate) static METHODS: &[Method] = &[
    method!(
        "blockchain",
        "getdeploymentinfo",
        [Arg::opt("blockhash", Kind::Hex, "The block after which to look; the tip if not given")],
        "Which rule changes hold, and how those stand that miners signal for.",
        deployment_info
    ),
    method!(
        "blockchain",
        "preciousblock",
        [Arg::req("blockhash", Kind::Hex, "The block's hash")],
        "Treats a block as if it had come before others of the same work. Lasts until restart.",
        precious
    ),
    method!(
        "blockchain",
        "pruneblockchain",
        [Arg::req("height", Kind::Num, "The height, or Unix time, to prune up to")],
        "Deletes the files of old blocks, up to a height or a time, as far as a pruned node may.",
        prune
    ),
    method!(
        "blockchain",
        "verifychain",
        [
            Arg::def("checklevel", Kind::Num, "3, range=0-4", "How thoroughly"),
            Arg::def("nblocks", Kind::Num, "6, 0=all", "How many blocks, from the tip down"),
        ],
        "Checks the last blocks of the chain again.",
        verify_chain
    ),
    method!(
        "hidden",
        "invalidateblock",
        [Arg::req("blockhash", Kind::Hex, "The block's hash")],
        "Marks a block as invalid, with all that builds on it.",
        invalidate
    ),
    method!(
        "hidden",
        "reconsiderblock",
        [Arg::req("blockhash", Kind::Hex, "The block's hash")],
        "Takes the mark of invalidity off a block, its ancestors and descendants.",
        reconsider
    ),
];

/// Answers once everybody who follows the chain has seen what the mark did.
async fn marked(call: &Call, result: Result<(), MarkError>) -> RpcResult {
    result.map_err(|error| match error {
        MarkError::UnknownBlock => RpcError::unknown("Block not found"),
        MarkError::Genesis | MarkError::Stopped(_) => RpcError::new(code::DATABASE_ERROR, error.to_string()),
    })?;
    call.ctx.settle().await;
    Ok(Value::Null)
}

async fn invalidate(call: Call) -> RpcResult {
    let hash = call.params.hash(0, "blockhash")?;
    let result = call.ctx.chain.invalidate(hash).await;
    marked(&call, result).await
}

async fn reconsider(call: Call) -> RpcResult {
    let hash = call.params.hash(0, "blockhash")?;
    let result = call.ctx.chain.reconsider(hash).await;
    marked(&call, result).await
}

async fn precious(call: Call) -> RpcResult {
    let hash = call.params.hash(0, "blockhash")?;
    let result = call.ctx.chain.precious(hash).await;
    marked(&call, result).await
}

/// A height above this is a time (from September 2001 on).
const GREATEST_HEIGHT: i32 = 1_000_000_000;
/// Seconds that a block's time may lie behind those before it.
const TIMESTAMP_WINDOW: i64 = 2 * 60 * 60;

async fn prune(call: Call) -> RpcResult {
    let wanted = call.params.int(0)?;
    let view = call.ctx.view();
    if view.prune_mode().is_none() {
        return Err(RpcError::misc("Cannot prune blocks because node is not in prune mode."));
    }
    let mut height = u32::try_from(wanted).map_err(|_| RpcError::parameter("Negative block height."))?;
    if wanted > GREATEST_HEIGHT {
        let block = view.earliest_at_least(i64::from(wanted) - TIMESTAMP_WINDOW).ok_or_else(|| {
            RpcError::parameter("Could not find block with at least the specified timestamp.")
        })?;
        height = block.height.0;
    }
    let tip = view.tip().height;
    if tip < call.ctx.params.prune_after_height {
        return Err(RpcError::misc("Blockchain is too short for pruning."));
    }
    if height > tip.0 {
        return Err(RpcError::parameter("Blockchain is shorter than the attempted prune height."));
    }
    // The chain itself keeps the last blocks, whatever was asked.
    let pruned = call.ctx.chain.prune(Some(Height(height))).await;
    pruned.map_err(|error| RpcError::new(code::DATABASE_ERROR, error.to_string()))?;
    Ok(view.prune_height().map_or(-1, |height| i64::from(height.0)).into())
}

async fn verify_chain(call: Call) -> RpcResult {
    let level = call.params.opt_int(0)?.unwrap_or(CHECK_LEVEL).clamp(0, 4);
    let depth = call.params.opt_int(1)?.unwrap_or(CHECK_BLOCKS).max(0);
    let level = u8::try_from(level).unwrap_or(0);
    let verified = call.ctx.chain.verify(level, depth.cast_unsigned()).await;
    Ok(verified.map_err(|error| RpcError::new(code::DATABASE_ERROR, error.to_string()))?.is_ok().into())
}

/// How taproot was activated (BIP341). Its rules hold at every height here, so consensus has no
/// deployment for it; release 31.0 still reports one.
fn taproot(network: Network) -> Bip9Deployment {
    let signalled = matches!(network, Network::Bitcoin | Network::Testnet);
    Bip9Deployment {
        name: "taproot",
        bit: 2,
        start_time: if signalled { 1_619_222_400 } else { Bip9Deployment::ALWAYS_ACTIVE },
        timeout: if signalled { 1_628_640_000 } else { Bip9Deployment::NO_TIMEOUT },
        min_activation_height: Height(if network == Network::Bitcoin { 709_632 } else { 0 }),
        period: 2016,
        threshold: if network == Network::Bitcoin { 1815 } else { 1512 },
        gbt_optional_rule: true,
    }
}

/// One deployment's members in `getdeploymentinfo`.
fn signalled(deployment: &Bip9Deployment, chain: &dyn Ancestry, height: Height) -> Option<Object> {
    if deployment.start_time == Bip9Deployment::NEVER_ACTIVE {
        return None;
    }
    let mut cache = Default::default();
    let current = state_after(deployment, chain, height.prev(), &mut cache);
    let next = state_after(deployment, chain, Some(height), &mut cache);
    let since = state_since(deployment, chain, height.prev(), &mut cache);
    let counts = matches!(current, ThresholdState::Started | ThresholdState::LockedIn)
        .then(|| statistics(deployment, chain, height));
    let mut bip9 = Object::new();
    if counts.is_some() {
        bip9.push("bit", deployment.bit);
    }
    bip9.push("start_time", deployment.start_time);
    bip9.push("timeout", deployment.timeout);
    bip9.push("min_activation_height", deployment.min_activation_height.0);
    bip9.push("status", current.name());
    bip9.push("since", since.0);
    bip9.push("status_next", next.name());
    if let Some(counts) = counts {
        let mut numbers = Object::new();
        numbers.push("period", counts.period);
        numbers.push("elapsed", counts.elapsed);
        numbers.push("count", counts.count);
        // Once locked in there is no threshold left to reach.
        if current == ThresholdState::Started {
            numbers.push("threshold", counts.threshold);
            numbers.push("possible", counts.possible);
        }
        bip9.push("statistics", Value::from(numbers));
        let drawn: String = counts.signalling.iter().map(|on| if *on { '#' } else { '-' }).collect();
        bip9.push("signalling", drawn);
    }
    let active_since = if current == ThresholdState::Active {
        Some(since)
    } else if next == ThresholdState::Active {
        Some(height.next())
    } else {
        None
    };
    let mut out = Object::new();
    out.push("type", "bip9");
    out.push_some("height", active_since.map(|height| height.0));
    out.push("active", active_since.is_some_and(|since| since <= height.next()));
    out.push("bip9", Value::from(bip9));
    Some(out)
}

async fn deployment_info(call: Call) -> RpcResult {
    let view = call.ctx.view();
    let info = if call.params.given(0) {
        known_header(&view, &call.params.hash::<BlockHash>(0, "blockhash")?)?
    } else {
        view.tip()
    };
    let params = &call.ctx.params;
    let chain = view.ancestry(&info.hash).ok_or_else(|| RpcError::unknown("Block not found"))?;
    let mut deployments = Object::new();
    for deployment in BuriedDeployment::ALL {
        let height = params.activation_height(deployment);
        // Core leaves out what is switched off for good.
        if height.0 == u32::MAX || height.0 == i32::MAX.cast_unsigned() {
            continue;
        }
        let mut out = Object::new();
        out.push("type", "buried");
        out.push("active", info.height.next() >= height);
        out.push("height", height.0);
        deployments.push(deployment.name(), Value::from(out));
    }
    for deployment in &params.deployments {
        if let Some(out) = signalled(deployment, &chain, info.height) {
            deployments.push(deployment.name, Value::from(out));
        }
    }
    if let Some(out) = signalled(&taproot(params.network), &chain, info.height) {
        deployments.push("taproot", Value::from(out));
    }
    let flags = script_flags(&info.hash, info.height, params);
    let mut out = Object::new();
    out.push("hash", info.hash.to_string());
    out.push("height", info.height.0);
    out.push("script_flags", flags.names().map(Value::from).collect::<Vec<_>>());
    out.push("deployments", Value::from(deployments));
    Ok(out.into())
}
