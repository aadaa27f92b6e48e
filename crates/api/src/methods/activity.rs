//! What happened to some descriptors' scripts, block by block (`rpc/blockchain.cpp`).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bitcoin::secp256k1::Secp256k1;
use bitcoin::{BlockHash, Network, OutPoint, ScriptBuf, Transaction, TxOut};
use ironpeer_chain::ChainView;
use ironpeer_primitives::{HeaderInfo, Height};
use serde_json::Value;

use super::blockchain::{checked_undo, known_header};
use super::rawtx::find_coins;
use crate::call::{Call, hash};
use crate::context::ApiContext;
use crate::descriptor::scan_object_scripts;
use crate::error::{RpcError, RpcResult};
use crate::json::{self, Object};
use crate::table::{Arg, Kind, Method, method};
use crate::tx_json;

pub(crate) static METHODS: &[Method] = &[method!(
    "blockchain",
    "getdescriptoractivity",
    [
        Arg::req("blockhashes", Kind::Arr, "Blocks of the active chain, in any order")
            .usage("[\"blockhash\",...]"),
        Arg::req("scanobjects", Kind::Arr, "Descriptors, or objects with desc and range")
            .usage("[scanobjects,...]"),
        Arg::def("include_mempool", Kind::Bool, "true", "Whether the mempool counts too"),
    ],
    "What some descriptors received and spent in some blocks.",
    activity
)];

/// Finds events that concern some scripts.
struct Watch {
    scripts: HashSet<ScriptBuf>,
    network: Network,
    events: Vec<Value>,
}

impl Watch {
    fn begin(&self, kind: &str, output: &TxOut, block: Option<&HeaderInfo>) -> Object {
        let mut out = Object::new();
        out.push("type", kind);
        out.push("amount", json::amount(output.value));
        if let Some(block) = block {
            out.push("blockhash", block.hash.to_string());
            out.push("height", block.height.0);
        }
        out
    }

    fn spends<'a>(
        &mut self,
        tx: &Transaction,
        spent: impl Iterator<Item = Option<&'a TxOut>>,
        block: Option<&HeaderInfo>,
    ) {
        for (place, (input, output)) in tx.input.iter().zip(spent).enumerate() {
            let Some(output) = output.filter(|output| self.scripts.contains(&output.script_pubkey)) else {
                continue;
            };
            let mut out = self.begin("spend", output, block);
            out.push("spend_txid", tx.compute_txid().to_string());
            out.push("spend_vin", place);
            out.push("prevout_txid", input.previous_output.txid.to_string());
            out.push("prevout_vout", input.previous_output.vout);
            out.push("prevout_spk", tx_json::script_pub_key(&output.script_pubkey, self.network));
            self.events.push(out.into());
        }
    }

    fn receives(&mut self, tx: &Transaction, block: Option<&HeaderInfo>) {
        for (place, output) in tx.output.iter().enumerate() {
            if !self.scripts.contains(&output.script_pubkey) {
                continue;
            }
            let mut out = self.begin("receive", output, block);
            out.push("txid", tx.compute_txid().to_string());
            out.push("vout", place);
            out.push("output_spk", tx_json::script_pub_key(&output.script_pubkey, self.network));
            self.events.push(out.into());
        }
    }

    fn block(&mut self, view: &ChainView, info: &HeaderInfo) -> Result<(), RpcError> {
        let block = view.block(&info.hash).map_err(super::blockchain::read_error)?;
        let undo = checked_undo(view, info)?;
        for (place, tx) in block.txdata.iter().enumerate() {
            let coins = place.checked_sub(1).and_then(|place| undo.txs.get(place));
            self.spends(tx, coins.into_iter().flatten().map(|coin| Some(&coin.output)), Some(info));
            self.receives(tx, Some(info));
        }
        Ok(())
    }

    fn mempool(&mut self, ctx: &ApiContext) {
        for entry in ctx.mempool.entries() {
            // One that left in between is left out.
            let Some(tx) = ctx.mempool.tx(&entry.txid) else { continue };
            let outpoints: Vec<OutPoint> = tx.input.iter().map(|input| input.previous_output).collect();
            let coins = find_coins(ctx, &outpoints);
            self.spends(&tx, coins.iter().map(|coin| coin.as_ref().map(|coin| &coin.output)), None);
            self.receives(&tx, None);
        }
    }
}

async fn activity(call: Call) -> RpcResult {
    let view = call.ctx.view();
    let mut blocks: BTreeMap<Height, HeaderInfo> = BTreeMap::new();
    for value in call.params.array(0)? {
        let info = known_header(&view, &hash::<BlockHash>(value, "blockhash")?)?;
        if !info.active {
            return Err(RpcError::parameter("Block is not in main chain"));
        }
        blocks.insert(info.height, info);
    }
    let objects = call.params.array(1)?.to_vec();
    let with_mempool = call.params.opt_bool(2)?.unwrap_or(true);
    let ctx = Arc::clone(&call.ctx);
    let run = tokio::task::spawn_blocking(move || {
        let (network, secp) = (ctx.network(), Secp256k1::new());
        let mut scripts = HashSet::new();
        for object in &objects {
            scripts
                .extend(scan_object_scripts(object, network, &secp)?.into_iter().map(|(script, _)| script));
        }
        let mut watch = Watch { scripts, network, events: Vec::new() };
        for info in blocks.values() {
            watch.block(&view, info)?;
            if ctx.shutdown.is_cancelled() {
                return Err(RpcError::misc("Shutting down"));
            }
        }
        if with_mempool {
            watch.mempool(&ctx);
        }
        let mut out = Object::new();
        out.push("activity", watch.events);
        Ok(out.into())
    });
    run.await.map_err(|_| RpcError::internal("scan failed"))?
}
