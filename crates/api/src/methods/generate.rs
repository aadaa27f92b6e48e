//! Templates and searches (`rpc/mining.cpp`).

use std::collections::HashMap;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{BlockHash, Network, ScriptBuf, Transaction, Txid};
use ironpeer_consensus::limits::{MAX_BLOCK_SIGOPS_COST, MAX_BLOCK_WEIGHT};
use ironpeer_consensus::versionbits::{StateCache, ThresholdState, state_after};
use ironpeer_consensus::{
    Ancestry, BuriedDeployment, decode_block, target_from_bits, witness_commitment_index,
};
use ironpeer_mining::{MiningError, Template};
use ironpeer_primitives::ChainRead;
use serde_json::{Map, Value};

use super::blockchain::bits_hex;
use super::rawtx;
use crate::address;
use crate::call::{Call, integer, object, text};
use crate::context::ApiContext;
use crate::descriptor::parse_all;
use crate::error::{RpcError, RpcResult, code};
use crate::json::Object;
use crate::table::{Arg, Kind, Method, method};

/// Hashes tried before giving up, unless told otherwise.
const DEFAULT_MAX_TRIES: u64 = 1_000_000;
/// Largest serialised block, in bytes.
const MAX_BLOCK_SERIALIZED_SIZE: u64 = 4_000_000;
/// Core's name, which its clients compare.
const CLIENT_NAME: &str = "Bitcoin Core";

pub(crate) static METHODS: &[Method] = &[
    method!(
        "hidden",
        "generate",
        [],
        "has been replaced by the -generate cli option. Refer to -help for more information.",
        generate
    ),
    method!(
        "hidden",
        "generateblock",
        [
            Arg::req("output", Kind::Str, "The address or descriptor to pay"),
            Arg::req("transactions", Kind::Arr, "Transactions in hex, or ids of mempool transactions")
                .usage("[\"rawtx/txid\",...]"),
            Arg::def("submit", Kind::Bool, "true", "Whether to submit the block, or else to answer it"),
        ],
        "Mines one block of exactly these transactions, without their fees.",
        generate_block
    ),
    method!(
        "hidden",
        "generatetoaddress",
        [
            Arg::req("nblocks", Kind::Num, "How many"),
            Arg::req("address", Kind::Str, "The address to pay"),
            Arg::def("maxtries", Kind::Num, "1000000", "Hashes to try at most"),
        ],
        "Mines blocks that pay an address.",
        generate_to_address
    ),
    method!(
        "hidden",
        "generatetodescriptor",
        [
            Arg::req("num_blocks", Kind::Num, "How many"),
            Arg::req("descriptor", Kind::Str, "The descriptor to pay"),
            Arg::def("maxtries", Kind::Num, "1000000", "Hashes to try at most"),
        ],
        "Mines blocks that pay a descriptor.",
        generate_to_descriptor
    ),
    method!(
        "mining",
        "getblocktemplate",
        [Arg::req("template_request", Kind::Obj, "mode, capabilities, rules, longpollid or data (BIP22, BIP23)")
            .usage("{\"mode\":\"str\",\"capabilities\":[\"str\",...],\"rules\":[\"segwit\",\"str\",...],\"longpollid\":\"str\",\"data\":\"hex\"}")],
        "A block to work on, or the verdict on a proposed one.",
        block_template
    ),
];

async fn generate(_: Call) -> RpcResult {
    let help = crate::table::find("generate").map(Method::full_help).unwrap_or_default();
    Err(RpcError::new(code::METHOD_NOT_FOUND, help))
}

fn mining_error(error: MiningError) -> RpcError {
    match error {
        MiningError::InvalidTemplate(_) => RpcError::new(code::VERIFY_ERROR, error.to_string()),
        MiningError::Stopping => RpcError::new(code::CLIENT_NOT_CONNECTED, error.to_string()),
        MiningError::Busy(_) => RpcError::misc(error.to_string()),
        MiningError::NotAccepted(_) | MiningError::Failed(_) => RpcError::internal(error.to_string()),
    }
}

async fn mine(ctx: &ApiContext, blocks: i32, script: ScriptBuf, tries: u64) -> RpcResult {
    let blocks = u32::try_from(blocks).unwrap_or(0);
    let hashes = ctx.mining.generate(blocks, script, tries).await.map_err(mining_error)?;
    Ok(hashes.into_iter().map(|hash| Value::from(hash.to_string())).collect())
}

fn max_tries(call: &Call) -> Result<u64, RpcError> {
    if call.params.given(2) { integer(call.params.value(2)) } else { Ok(DEFAULT_MAX_TRIES) }
}

async fn generate_to_address(call: Call) -> RpcResult {
    let blocks = call.params.int(0)?;
    let tries = max_tries(&call)?;
    let script = address::decode(call.params.str(1)?, call.ctx.network())
        .map_err(|_| RpcError::unknown("Error: Invalid address"))?;
    mine(&call.ctx, blocks, script, tries).await
}

/// The script a descriptor is paid by; the error says whether it is a descriptor at all (Core's
/// `getScriptFromDescriptor`).
fn descriptor_script(text: &str, network: Network) -> Result<ScriptBuf, (RpcError, bool)> {
    let secp = Secp256k1::new();
    let mut all =
        parse_all(text, network, false, &secp).map_err(|error| (RpcError::unknown(error), false))?;
    let last = all.pop().filter(|_| all.is_empty());
    let parsed = last.ok_or_else(|| (RpcError::parameter("Multipath descriptor not accepted"), true))?;
    if parsed.is_range() {
        let text = "Ranged descriptor not accepted. Maybe pass through deriveaddresses first?";
        return Err((RpcError::parameter(text), true));
    }
    let scripts = parsed.scripts(0, &secp).map_err(|error| (error, true))?;
    // Of a key's four scripts the P2WPKH one, of an uncompressed key's two the P2PKH one.
    let chosen = match scripts.len() {
        4 => 2,
        2 => 1,
        _ => 0,
    };
    scripts.into_iter().nth(chosen).ok_or_else(|| (RpcError::internal("descriptor without a script"), true))
}

async fn generate_to_descriptor(call: Call) -> RpcResult {
    let blocks = call.params.int(0)?;
    let tries = max_tries(&call)?;
    let script = descriptor_script(call.params.str(1)?, call.ctx.network()).map_err(|(error, _)| error)?;
    mine(&call.ctx, blocks, script, tries).await
}

async fn generate_block(call: Call) -> RpcResult {
    let ctx = &call.ctx;
    let output = call.params.str(0)?;
    let script = match descriptor_script(output, ctx.network()) {
        Ok(script) => script,
        Err((error, true)) => return Err(error),
        Err((_, false)) => address::decode(output, ctx.network())
            .map_err(|_| RpcError::unknown("Error: Invalid address or descriptor"))?,
    };
    let mut txs: Vec<Transaction> = Vec::new();
    for item in call.params.array(1)? {
        let item = text(item)?;
        if let Ok(txid) = item.parse::<Txid>() {
            let tx = ctx
                .mempool
                .tx(&txid)
                .ok_or_else(|| RpcError::unknown(format!("Transaction {item} not in mempool.")))?;
            txs.push((*tx).clone());
        } else {
            txs.push(rawtx::decode(item, false, true).ok_or_else(|| {
                RpcError::undecodable(format!(
                    "Transaction decode failed for {item}. Make sure the tx has at least one input."
                ))
            })?);
        }
    }
    let submit = call.params.opt_bool(2)?.unwrap_or(true);
    let block = ctx
        .mining
        .generate_block(txs, script, DEFAULT_MAX_TRIES, submit)
        .await
        .map_err(mining_error)?
        .ok_or_else(|| RpcError::misc("Failed to make block."))?;
    let mut out = Object::new();
    out.push("hash", block.block_hash().to_string());
    if !submit {
        out.push("hex", serialize_hex(&block));
    }
    Ok(out.into())
}

/// `mode=proposal`: the verdict on a block without proof of work (BIP23).
async fn proposal(ctx: &ApiContext, request: &Map<String, Value>) -> RpcResult {
    let Some(Value::String(data)) = request.get("data") else {
        return Err(RpcError::wrong_type("Missing data String key for proposal"));
    };
    let bytes = hex::decode(data).map_err(|_| RpcError::undecodable("Block decode failed"))?;
    let block = decode_block(&bytes).map_err(|_| RpcError::undecodable("Block decode failed"))?;
    if let Some(known) = ctx.view().header(&block.block_hash()) {
        let verdict = if known.failed {
            "duplicate-invalid"
        } else if known.fully_valid {
            "duplicate"
        } else {
            "duplicate-inconclusive"
        };
        return Ok(verdict.into());
    }
    let verdict = ctx
        .chain
        .test_block_validity(block)
        .await
        .map_err(|error| RpcError::new(code::VERIFY_ERROR, error.to_string()))?;
    Ok(match verdict {
        Ok(()) => Value::Null,
        Err(reject) => reject.reason.into_owned().into(),
    })
}

/// Waits as long polling asks, until the template its id names is out of date (BIP22).
async fn long_poll(ctx: &ApiContext, id: &Value) -> Result<(), RpcError> {
    let (tip, updated) = match id {
        Value::String(id) => {
            // An id of other clients may hold anything; it is cut at characters, not bytes.
            let head: String = id.chars().take(64).collect();
            let tail: String = id.chars().skip(64).collect();
            let tip: BlockHash = crate::call::hash(&Value::from(head), "longpollid")?;
            (tip, tail.parse().unwrap_or(0))
        }
        _ => (ctx.view().tip().hash, ctx.mempool.view().transactions_updated),
    };
    ctx.mining.template_outdated(tip, updated).await;
    if ctx.shutdown.is_cancelled() {
        return Err(RpcError::new(code::CLIENT_NOT_CONNECTED, "Shutting down"));
    }
    ctx.settle().await;
    Ok(())
}

async fn block_template(call: Call) -> RpcResult {
    let ctx = &call.ctx;
    let empty = Map::new();
    let request = if call.params.given(0) { object(call.params.value(0))? } else { &empty };
    let mode = match request.get("mode") {
        None | Some(Value::Null) => "template",
        Some(Value::String(mode)) => mode,
        Some(_) => return Err(RpcError::parameter("Invalid mode")),
    };
    match mode {
        "proposal" => return proposal(ctx, request).await,
        "template" => {}
        _ => return Err(RpcError::parameter("Invalid mode")),
    }
    let mut rules: Vec<&str> = Vec::new();
    if let Some(Value::Array(asked)) = request.get("rules") {
        for rule in asked {
            rules.push(text(rule)?);
        }
    }
    if ctx.network() == Network::Bitcoin {
        // Only the main network's miners must not work on an old tip.
        let connected = ctx.peers.as_ref().map(|peers| peers.counts()).unwrap_or_default();
        if connected.inbound + connected.outbound == 0 {
            return Err(RpcError::new(
                code::CLIENT_NOT_CONNECTED,
                format!("{CLIENT_NAME} is not connected!"),
            ));
        }
        if ctx.view().is_initial_block_download() {
            return Err(RpcError::new(
                code::CLIENT_IN_INITIAL_DOWNLOAD,
                format!("{CLIENT_NAME} is in initial sync and waiting for blocks..."),
            ));
        }
    }
    if let Some(id) = request.get("longpollid").filter(|id| !id.is_null()) {
        long_poll(ctx, id).await?;
    }
    if ctx.params.signet_challenge.is_some() && !rules.contains(&"signet") {
        return Err(RpcError::parameter(
            "getblocktemplate must be called with the signet rule set (call with {\"rules\": [\"segwit\", \"signet\"]})",
        ));
    }
    if !rules.contains(&"segwit") {
        return Err(RpcError::parameter(
            "getblocktemplate must be called with the segwit rule set (call with {\"rules\": [\"segwit\"]})",
        ));
    }
    let (template, header) = ctx.mining.block_template().await.map_err(mining_error)?;
    let chain =
        ctx.view().ancestry(&template.parent.hash).ok_or_else(|| RpcError::internal("the tip is unknown"))?;
    let signals = Signals::read(ctx, &chain, &rules, header.version.to_consensus())?;
    let pre_segwit = !ctx.params.is_active(BuriedDeployment::Segwit, template.height);
    // Before segwit, costs are counted in the units of then.
    let scale = if pre_segwit { 4 } else { 1 };
    let mut out = Object::new();
    out.push("capabilities", vec![Value::from("proposal")]);
    out.push("version", signals.version);
    let mut in_force = vec![Value::from("csv")];
    if !pre_segwit {
        in_force.push("!segwit".into());
        in_force.push("taproot".into());
    }
    if ctx.params.signet_challenge.is_some() {
        in_force.push("!signet".into());
    }
    in_force.extend(signals.active);
    out.push("rules", in_force);
    out.push("vbavailable", Value::Object(signals.available));
    out.push("vbrequired", 0);
    out.push("previousblockhash", header.prev_blockhash.to_string());
    out.push("transactions", transactions(&template, scale));
    out.push("coinbaseaux", Value::from(Object::new()));
    out.push("coinbasevalue", template.reward().to_sat());
    out.push("longpollid", format!("{}{}", template.parent.hash, template.transactions_updated));
    let target = target_from_bits(header.bits).map(|target| hex::encode(target.to_be_bytes()));
    out.push("target", target.unwrap_or_default());
    out.push("mintime", template.min_time);
    out.push("mutable", vec![Value::from("time"), "transactions".into(), "prevblock".into()]);
    out.push("noncerange", "00000000ffffffff");
    out.push("sigoplimit", MAX_BLOCK_SIGOPS_COST / scale);
    out.push("sizelimit", MAX_BLOCK_SERIALIZED_SIZE / scale);
    if !pre_segwit {
        out.push("weightlimit", MAX_BLOCK_WEIGHT);
    }
    out.push("curtime", header.time);
    out.push("bits", bits_hex(header.bits));
    out.push("height", template.height.0);
    out.push_some(
        "signet_challenge",
        ctx.params.signet_challenge.as_ref().map(|challenge| hex::encode(challenge.as_bytes())),
    );
    let commitment = witness_commitment_index(&template.block)
        .and_then(|at| template.block.txdata.first()?.output.get(at))
        .map(|output| hex::encode(output.script_pubkey.as_bytes()));
    out.push_some("default_witness_commitment", commitment);
    Ok(out.into())
}

/// Rule changes being signalled for, as a template shows them (BIP9).
struct Signals {
    version: i32,
    active: Vec<Value>,
    available: Map<String, Value>,
}

impl Signals {
    fn read(
        ctx: &ApiContext,
        chain: &dyn Ancestry,
        rules: &[&str],
        mut version: i32,
    ) -> Result<Self, RpcError> {
        let (mut active, mut available) = (Vec::new(), Map::new());
        for deployment in &ctx.params.deployments {
            let mut cache = StateCache::new();
            let state = state_after(deployment, chain, Some(chain.height()), &mut cache);
            // A rule that blocks must follow is marked for miners that do not know it.
            let name = if deployment.gbt_optional_rule {
                deployment.name.to_owned()
            } else {
                format!("!{}", deployment.name)
            };
            let unsupported = !deployment.gbt_optional_rule && !rules.contains(&deployment.name);
            let mask = 1 << deployment.bit;
            match state {
                ThresholdState::Defined | ThresholdState::Failed => {}
                ThresholdState::Started | ThresholdState::LockedIn => {
                    if state == ThresholdState::LockedIn {
                        version |= mask;
                    }
                    if unsupported {
                        version &= !mask;
                    }
                    available.insert(name, deployment.bit.into());
                }
                ThresholdState::Active if unsupported => {
                    return Err(RpcError::parameter(format!(
                        "Support for '{}' rule requires explicit client support",
                        deployment.name
                    )));
                }
                ThresholdState::Active => active.push(name.into()),
            }
        }
        Ok(Self { version, active, available })
    }
}

fn transactions(template: &Template, scale: u64) -> Value {
    let places: HashMap<&Txid, usize> =
        template.txids.iter().enumerate().map(|(i, txid)| (txid, i)).collect();
    let listed = template.block.txdata.iter().zip(&template.txids).skip(1);
    listed
        .zip(template.fees.iter().zip(&template.sigop_costs))
        .map(|((tx, txid), (fee, sigops))| {
            let depends: Vec<Value> = tx
                .input
                .iter()
                .filter_map(|input| places.get(&input.previous_output.txid).map(|place| Value::from(*place)))
                .collect();
            let mut out = Object::new();
            out.push("data", serialize_hex(tx));
            out.push("txid", txid.to_string());
            out.push("hash", tx.compute_wtxid().to_string());
            out.push("depends", depends);
            out.push("fee", fee.to_sat());
            out.push("sigops", sigops / scale);
            out.push("weight", tx.weight().to_wu());
            Value::from(out)
        })
        .collect()
}
