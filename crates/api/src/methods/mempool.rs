//! The mempool (`rpc/mempool.cpp`).

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{OutPoint, Transaction, Txid};
use ironpeer_mempool::{EntryInfo, FeeRate, LoadOptions, MempoolHandle};
use ironpeer_primitives::ChainRead;
use serde_json::{Map, Value};

use crate::call::{Call, boolean, int32, object};
use crate::error::{RpcError, RpcResult, code};
use crate::json::{self, Object, type_name};
use crate::table::{Arg, Kind, Method, method};

pub(crate) static METHODS: &[Method] = &[
    method!(
        "blockchain",
        "getmempoolancestors",
        [
            Arg::req("txid", Kind::Hex, "The transaction's id"),
            Arg::def("verbose", Kind::Bool, "false", "Whether to tell more than ids"),
        ],
        "All a mempool transaction builds on in the mempool.",
        ancestors
    ),
    method!(
        "blockchain",
        "getmempoolcluster",
        [Arg::req("txid", Kind::Hex, "The transaction's id")],
        "The connected transactions of which one is a part, in mining order.",
        cluster
    ),
    method!(
        "blockchain",
        "getmempooldescendants",
        [
            Arg::req("txid", Kind::Hex, "The transaction's id"),
            Arg::def("verbose", Kind::Bool, "false", "Whether to tell more than ids"),
        ],
        "All that builds on a mempool transaction in the mempool.",
        descendants
    ),
    method!(
        "blockchain",
        "getmempoolentry",
        [Arg::req("txid", Kind::Hex, "The transaction's id")],
        "What the mempool knows of a transaction.",
        entry
    ),
    method!("blockchain", "getmempoolinfo", [], "The mempool in numbers.", info),
    method!(
        "blockchain",
        "getrawmempool",
        [
            Arg::def("verbose", Kind::Bool, "false", "Whether to tell more than ids"),
            Arg::def("mempool_sequence", Kind::Bool, "false", "Whether to tell the sequence number too"),
        ],
        "All transactions of the mempool.",
        raw_mempool
    ),
    method!(
        "blockchain",
        "gettxspendingprevout",
        [
            Arg::req("outputs", Kind::Arr, "Objects with txid and vout")
                .usage("[{\"txid\":\"hex\",\"vout\":n},...]"),
            Arg::opt(
                "options",
                Kind::Named(&[
                    Arg::opt("mempool_only", Kind::Bool, "Only look at the mempool"),
                    Arg::opt("return_spending_tx", Kind::Bool, "Also tell the spending transaction"),
                ]),
                ""
            ),
        ],
        "The transactions that spend some outputs: the mempool's, and, with -txospenderindex, the chain's.",
        spending_prevout
    ),
    method!(
        "blockchain",
        "importmempool",
        [
            Arg::req("filepath", Kind::Str, "The file"),
            Arg::opt(
                "options",
                Kind::Named(&[
                    Arg::def("use_current_time", Kind::Bool, "true", "Take the present as entry time"),
                    Arg::def("apply_fee_delta_priority", Kind::Bool, "false", "Take the saved fee deltas"),
                    Arg::def(
                        "apply_unbroadcast_set",
                        Kind::Bool,
                        "false",
                        "Take what was still to be announced"
                    ),
                ]),
                ""
            )
            .usage("options"),
        ],
        "Adds the transactions of a mempool file.",
        import
    ),
    method!("blockchain", "savemempool", [], "Writes the mempool to disk.", save),
    method!(
        "hidden",
        "getmempoolfeeratediagram",
        [],
        "Fees over weight for the whole mempool, chunk by chunk.",
        feerate_diagram
    ),
];

fn not_in_mempool() -> RpcError {
    RpcError::unknown("Transaction not in mempool")
}

/// A feerate in bitcoin per 1,000 vbytes.
pub(crate) fn feerate(rate: FeeRate) -> Value {
    json::sats(i64::try_from(rate.sat_per_kvb()).unwrap_or(i64::MAX))
}

fn entry_object(entry: &EntryInfo) -> Object {
    let mut fees = Object::new();
    fees.push("base", json::amount(entry.fee));
    fees.push("modified", json::sats(entry.modified_fee));
    fees.push("ancestor", json::sats(entry.ancestor_fees));
    fees.push("descendant", json::sats(entry.descendant_fees));
    fees.push("chunk", json::sats(entry.chunk.fee));
    let ids = |ids: &[Txid]| ids.iter().map(|id| Value::from(id.to_string())).collect::<Vec<_>>();
    let mut out = Object::new();
    out.push("vsize", entry.vsize);
    out.push("weight", entry.weight);
    out.push("time", entry.time);
    out.push("height", entry.height.0);
    out.push("descendantcount", entry.descendant_count);
    out.push("descendantsize", entry.descendant_vsize);
    out.push("ancestorcount", entry.ancestor_count);
    out.push("ancestorsize", entry.ancestor_vsize);
    out.push("wtxid", entry.wtxid.to_string());
    out.push("chunkweight", entry.chunk.weight);
    out.push("fees", Value::from(fees));
    out.push("depends", ids(&entry.depends));
    out.push("spentby", ids(&entry.spent_by));
    out.push("bip125-replaceable", entry.bip125_replaceable);
    out.push("unbroadcast", entry.unbroadcast);
    out
}

async fn entry(call: Call) -> RpcResult {
    let txid: Txid = call.params.hash(0, "txid")?;
    let entry = call.ctx.mempool.entry(&txid).ok_or_else(not_in_mempool)?;
    Ok(entry_object(&entry).into())
}

fn listed(mempool: &MempoolHandle, ids: Vec<Txid>, verbose: bool) -> Value {
    if !verbose {
        return ids.into_iter().map(|id| Value::from(id.to_string())).collect();
    }
    let mut out = Map::new();
    for id in ids {
        // One that left in between is left out.
        if let Some(entry) = mempool.entry(&id) {
            out.insert(id.to_string(), entry_object(&entry).into());
        }
    }
    Value::Object(out)
}

async fn ancestors(call: Call) -> RpcResult {
    let verbose = call.params.opt_bool(1)?.unwrap_or(false);
    let txid: Txid = call.params.hash(0, "txid")?;
    let ids = call.ctx.mempool.ancestors(&txid).ok_or_else(not_in_mempool)?;
    Ok(listed(&call.ctx.mempool, ids, verbose))
}

async fn descendants(call: Call) -> RpcResult {
    let verbose = call.params.opt_bool(1)?.unwrap_or(false);
    let txid: Txid = call.params.hash(0, "txid")?;
    let ids = call.ctx.mempool.descendants(&txid).ok_or_else(not_in_mempool)?;
    Ok(listed(&call.ctx.mempool, ids, verbose))
}

async fn cluster(call: Call) -> RpcResult {
    let txid: Txid = call.params.hash(0, "txid")?;
    let cluster = call.ctx.mempool.cluster(&txid).ok_or_else(not_in_mempool)?;
    let chunks: Vec<Value> = cluster
        .chunks
        .iter()
        .map(|(fee, ids)| {
            let mut out = Object::new();
            out.push("chunkfee", json::sats(fee.fee));
            out.push("chunkweight", fee.weight);
            out.push("txs", ids.iter().map(|id| Value::from(id.to_string())).collect::<Vec<_>>());
            out.into()
        })
        .collect();
    let mut out = Object::new();
    out.push("clusterweight", cluster.weight);
    out.push("txcount", cluster.tx_count);
    out.push("chunks", chunks);
    Ok(out.into())
}

async fn info(call: Call) -> RpcResult {
    let info = call.ctx.mempool.info();
    let mut out = Object::new();
    out.push("loaded", info.loaded);
    out.push("size", info.count);
    out.push("bytes", info.vbytes);
    out.push("usage", info.usage);
    out.push("total_fee", json::amount(info.total_fee));
    out.push("maxmempool", info.max_bytes);
    out.push("mempoolminfee", feerate(info.min_fee));
    out.push("minrelaytxfee", feerate(info.min_relay));
    out.push("incrementalrelayfee", feerate(info.incremental));
    out.push("unbroadcastcount", info.unbroadcast_count);
    out.push("fullrbf", true);
    out.push("permitbaremultisig", info.permit_bare_multisig);
    out.push("maxdatacarriersize", info.max_datacarrier_bytes);
    out.push("limitclustercount", info.cluster_count_limit);
    out.push("limitclustersize", info.cluster_vbytes_limit);
    out.push("optimal", info.optimal);
    Ok(out.into())
}

async fn raw_mempool(call: Call) -> RpcResult {
    let verbose = call.params.opt_bool(0)?.unwrap_or(false);
    let with_sequence = call.params.opt_bool(1)?.unwrap_or(false);
    if verbose {
        if with_sequence {
            return Err(RpcError::parameter("Verbose results cannot contain mempool sequence values."));
        }
        let mut out = Map::new();
        for entry in call.ctx.mempool.entries() {
            out.insert(entry.txid.to_string(), entry_object(&entry).into());
        }
        return Ok(Value::Object(out));
    }
    let (ids, sequence) = call.ctx.mempool.txids();
    let ids: Vec<Value> = ids.into_iter().map(|id| id.to_string().into()).collect();
    if !with_sequence {
        return Ok(ids.into());
    }
    let mut out = Object::new();
    out.push("txids", ids);
    out.push("mempool_sequence", sequence);
    Ok(out.into())
}

/// Checks an object's members against the types they must have (Core's `RPCTypeCheckObj`).
pub(crate) fn check_members(
    value: &Map<String, Value>,
    expected: &[(&str, &str)],
    may_miss: bool,
    strict: bool,
) -> Result<(), RpcError> {
    // Core walks its expectations by name.
    let mut sorted = expected.to_vec();
    sorted.sort_unstable();
    for (name, kind) in sorted {
        let member = value.get(name).unwrap_or(&json::NULL);
        if member.is_null() {
            if may_miss {
                continue;
            }
            return Err(RpcError::wrong_type(format!("Missing {name}")));
        }
        let actual = type_name(member);
        if actual != kind {
            return Err(RpcError::wrong_type(format!(
                "JSON value of type {actual} for field {name} is not of expected type {kind}"
            )));
        }
    }
    if strict && let Some(key) = value.keys().find(|key| !expected.iter().any(|(name, _)| name == key)) {
        return Err(RpcError::wrong_type(format!("Unexpected key {key}")));
    }
    Ok(())
}

async fn spending_prevout(call: Call) -> RpcResult {
    let outputs = call.params.array(0)?;
    if outputs.is_empty() {
        return Err(RpcError::parameter("Invalid parameter, outputs are missing"));
    }
    let empty = Map::new();
    let options = if call.params.given(1) { object(call.params.value(1))? } else { &empty };
    check_members(options, &[("mempool_only", "bool"), ("return_spending_tx", "bool")], true, true)?;
    let flag = |name: &str| options.get(name).filter(|v| !v.is_null()).map(boolean).transpose();
    let index = call.ctx.indexes.spenders.clone();
    let mempool_only = flag("mempool_only")?.unwrap_or(index.is_none());
    let return_tx = flag("return_spending_tx")?.unwrap_or(false);
    let mut wanted = Vec::with_capacity(outputs.len());
    for output in outputs {
        let output = object(output)?;
        check_members(output, &[("txid", "string"), ("vout", "number")], false, true)?;
        let txid: Txid = crate::call::hash(output.get("txid").unwrap_or(&json::NULL), "txid")?;
        let vout = int32(output.get("vout").unwrap_or(&json::NULL))?;
        let vout = u32::try_from(vout)
            .map_err(|_| RpcError::parameter("Invalid parameter, vout cannot be negative"))?;
        wanted.push((output, OutPoint { txid, vout }));
    }
    let answer = move |output: &Map<String, Value>, spender: Option<&Transaction>| {
        let mut out = output.clone();
        if let Some(spender) = spender {
            out.insert("spendingtxid".into(), spender.compute_txid().to_string().into());
            if return_tx {
                out.insert("spendingtx".into(), serialize_hex(spender).into());
            }
        }
        out
    };
    let mut found = Vec::with_capacity(wanted.len());
    let mut left = Vec::new();
    for (output, outpoint) in wanted {
        match call.ctx.mempool.spender(&outpoint) {
            None if !mempool_only => left.push((output.clone(), outpoint)),
            spender => found.push(Value::Object(answer(output, spender.as_deref()))),
        }
    }
    if left.is_empty() {
        return Ok(found.into());
    }
    let ready = match &index {
        Some(index) => index.handle().wait_synced().await,
        None => false,
    };
    let Some(index) = index.filter(|_| ready) else {
        return Err(RpcError::misc("Mempool lacks a relevant spend, and txospenderindex is unavailable."));
    };
    let read = tokio::task::spawn_blocking(move || {
        for (output, outpoint) in left {
            let spender = index.spender(&outpoint).map_err(|error| RpcError::misc(error.to_string()))?;
            let mut out = answer(&output, spender.as_ref().map(|spender| &spender.tx));
            if let Some(spender) = spender {
                out.insert("blockhash".into(), spender.block.to_string().into());
            }
            found.push(Value::Object(out));
        }
        Ok(found.into())
    });
    read.await.map_err(|_| RpcError::internal("read failed"))?
}

async fn import(call: Call) -> RpcResult {
    if call.ctx.view().is_initial_block_download() {
        return Err(RpcError::new(
            code::CLIENT_IN_INITIAL_DOWNLOAD,
            "Can only import the mempool after the block download and sync is done.",
        ));
    }
    let empty = Map::new();
    let options = if call.params.given(1) { object(call.params.value(1))? } else { &empty };
    let flag = |name: &str| options.get(name).filter(|v| !v.is_null()).map(boolean).transpose();
    let how = LoadOptions {
        use_current_time: flag("use_current_time")?.unwrap_or(true),
        apply_fee_deltas: flag("apply_fee_delta_priority")?.unwrap_or(false),
        apply_unbroadcast: flag("apply_unbroadcast_set")?.unwrap_or(false),
    };
    let path = std::path::Path::new(call.params.str(0)?);
    match call.ctx.mempool.load(path, how).await {
        Some(_) => Ok(Object::new().into()),
        None => Err(RpcError::misc("Unable to import mempool file, see debug log for details.")),
    }
}

async fn save(call: Call) -> RpcResult {
    if !call.ctx.mempool.info().loaded {
        return Err(RpcError::misc("The mempool was not loaded yet"));
    }
    let path = &call.ctx.facts.mempool_file;
    call.ctx.mempool.save(path).await.map_err(|_| RpcError::misc("Unable to dump mempool to disk"))?;
    let mut out = Object::new();
    out.push("filename", path.to_string_lossy());
    Ok(out.into())
}

async fn feerate_diagram(call: Call) -> RpcResult {
    let (_, chunks) = call.ctx.mempool.chunks();
    let (mut weight, mut fee) = (0u64, 0i64);
    let mut points = vec![(weight, fee)];
    for chunk in chunks {
        weight = weight.saturating_add(chunk.fee.weight);
        fee = fee.saturating_add(chunk.fee.fee);
        points.push((weight, fee));
    }
    let points = points.into_iter().map(|(weight, fee)| {
        let mut out = Object::new();
        out.push("weight", weight);
        out.push("fee", json::sats(fee));
        Value::from(out)
    });
    Ok(points.collect())
}
