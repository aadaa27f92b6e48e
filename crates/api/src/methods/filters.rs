//! Filters of blocks (`rpc/blockchain.cpp`).

use std::collections::HashSet;

use bitcoin::secp256k1::Secp256k1;
use bitcoin::{BlockHash, ScriptBuf};
use ironpeer_chain::ChainView;
use ironpeer_index::FilterIndex;
use ironpeer_primitives::{ChainRead, HeaderInfo, Height};
use serde_json::{Map, Value};

use super::blockchain::{known_header, read_error};
use super::scan::{Asked, Reserved};
use crate::call::{Call, boolean, object};
use crate::context::ApiContext;
use crate::descriptor::scan_object_scripts;
use crate::error::{RpcError, RpcResult};
use crate::json::Object;
use crate::table::{Arg, Kind, Method, method};

pub(crate) static METHODS: &[Method] = &[
    method!(
        "blockchain",
        "getblockfilter",
        [
            Arg::req("blockhash", Kind::Hex, "The block's hash"),
            Arg::def("filtertype", Kind::Str, "\"basic\"", "The kind of filter"),
        ],
        "A block's filter (BIP158) and its header. Needs -blockfilterindex.",
        block_filter
    ),
    method!(
        "blockchain",
        "scanblocks",
        [
            Arg::req("action", Kind::Str, "start, abort or status"),
            Arg::opt("scanobjects", Kind::Arr, "Descriptors, or objects with desc and range")
                .usage("[scanobjects,...]"),
            Arg::def("start_height", Kind::Num, "0", "First height"),
            Arg::opt("stop_height", Kind::Num, "Last height; the tip's if not given"),
            Arg::def("filtertype", Kind::Str, "\"basic\"", "The kind of filter"),
            Arg::opt(
                "options",
                Kind::Named(&[Arg::def(
                    "filter_false_positives",
                    Kind::Bool,
                    "false",
                    "Look into the blocks found and leave out those that only seem to fit"
                )]),
                ""
            )
            .usage("options"),
        ],
        "The blocks that concern some descriptors. Needs -blockfilterindex.",
        scan_blocks
    ),
];

/// The index of a kind of filter, or what is wrong with the kind.
fn filters(ctx: &ApiContext, kind: &str) -> Result<FilterIndex, RpcError> {
    match kind {
        "basic" => ctx
            .indexes
            .filters
            .clone()
            .ok_or_else(|| RpcError::misc("Index is not enabled for filtertype basic")),
        _ => Err(RpcError::unknown("Unknown filtertype")),
    }
}

async fn block_filter(call: Call) -> RpcResult {
    let hash: BlockHash = call.params.hash(0, "blockhash")?;
    let index = filters(&call.ctx, call.params.opt_str(1)?.unwrap_or("basic"))?;
    let info = known_header(&call.ctx.view(), &hash)?;
    let ready = index.handle().wait_synced().await;
    let read = tokio::task::spawn_blocking(move || {
        let filter = index.filter(info.height, &hash)?;
        Ok::<_, ironpeer_index::IndexError>(filter.zip(index.header(info.height, &hash)?))
    });
    let read = read.await.map_err(|_| RpcError::internal("read failed"))?;
    let found = read.map_err(|error| RpcError::internal(error.to_string()))?;
    let Some((filter, row)) = found else {
        return Err(if !info.fully_valid {
            RpcError::unknown("Filter not found. Block was not connected to active chain.")
        } else if !ready {
            RpcError::misc("Filter not found. Block filters are still in the process of being indexed.")
        } else {
            RpcError::internal("Filter not found. This error is unexpected and indicates index corruption.")
        });
    };
    let mut out = Object::new();
    out.push("filter", hex::encode(filter.content));
    out.push("header", row.header.to_string());
    Ok(out.into())
}

async fn scan_blocks(call: Call) -> RpcResult {
    match call.ctx.filter_scan.ask(call.params.str(0)?, true)? {
        Asked::Answer(answer) => Ok(answer),
        Asked::Start(reserved) => scan(call, reserved).await,
    }
}

async fn scan(call: Call, reserved: Reserved) -> RpcResult {
    let index = filters(&call.ctx, call.params.opt_str(4)?.unwrap_or("basic"))?;
    let empty = Map::new();
    let options = if call.params.given(5) { object(call.params.value(5))? } else { &empty };
    let check = options.get("filter_false_positives").filter(|value| !value.is_null());
    let check = check.map(boolean).transpose()?.unwrap_or(false);
    let view = call.ctx.view();
    let tip = view.tip();
    let height = |place: usize, invalid: &str| match call.params.opt_int(place)? {
        None => Ok(None),
        Some(height) => {
            let known = u32::try_from(height).ok().filter(|height| *height <= tip.height.0);
            known.map(Some).ok_or_else(|| RpcError::misc(invalid.to_owned()))
        }
    };
    let first = height(2, "Invalid start_height")?.unwrap_or(0);
    let last = height(3, "Invalid stop_height")?.unwrap_or(tip.height.0);
    if last < first {
        return Err(RpcError::misc("Invalid stop_height"));
    }
    let objects = call.params.array(1)?.to_vec();
    let (network, shutdown) = (call.ctx.network(), call.ctx.shutdown.clone());
    let run = tokio::task::spawn_blocking(move || {
        let secp = Secp256k1::new();
        let mut scripts: HashSet<ScriptBuf> = HashSet::new();
        for object in &objects {
            let more = scan_object_scripts(object, network, &secp)?;
            scripts.extend(more.into_iter().map(|(script, _)| script));
        }
        let (mut relevant, mut completed, mut reached) = (Vec::new(), true, first);
        for height in first..=last {
            let done = u64::from(height - first) * 100 / u64::from((last - first).max(1));
            reserved.reached(u32::try_from(done).unwrap_or(100), height);
            if shutdown.is_cancelled() {
                return Err(RpcError::misc("Shutting down"));
            }
            if reserved.is_aborted() {
                completed = false;
                break;
            }
            reached = height;
            // All of one chain, whatever happens to the tip meanwhile.
            let Some(info) = view.ancestor(&tip.hash, Height(height)) else { break };
            let filter = index.filter(info.height, &info.hash);
            let filter = filter.map_err(|error| RpcError::internal(error.to_string()))?;
            // Those that are not there yet are passed over, as in Core.
            let fits = filter.is_some_and(|filter| {
                let needles = scripts.iter().map(|script| script.as_bytes());
                filter.match_any(&info.hash, needles).unwrap_or(false)
            });
            if fits && (!check || concerns(&view, &info, &scripts)?) {
                relevant.push(Value::from(info.hash.to_string()));
            }
        }
        let mut out = Object::new();
        out.push("from_height", first);
        out.push("to_height", reached);
        out.push("relevant_blocks", relevant);
        out.push("completed", completed);
        Ok(Value::from(out))
    });
    run.await.map_err(|_| RpcError::internal("scan failed"))?
}

/// Whether a block pays or spends one of these scripts.
fn concerns(view: &ChainView, info: &HeaderInfo, scripts: &HashSet<ScriptBuf>) -> Result<bool, RpcError> {
    let block = view.block(&info.hash).map_err(read_error)?;
    let undo = view.undo(&info.hash).map_err(read_error)?;
    let made = block.txdata.iter().flat_map(|tx| &tx.output);
    let spent = undo.txs.iter().flatten().map(|coin| &coin.output);
    Ok(made.chain(spent).any(|output| scripts.contains(&output.script_pubkey)))
}
