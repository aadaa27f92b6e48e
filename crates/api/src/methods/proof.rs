//! Proofs that a block holds a transaction (`rpc/txoutproof.cpp`).

use std::collections::BTreeSet;

use bitcoin::consensus::encode::{deserialize_partial, serialize_hex};
use bitcoin::merkle_tree::MerkleBlock;
use bitcoin::{BlockHash, OutPoint, Txid};
use ironpeer_chain::ChainView;
use ironpeer_primitives::{ChainRead, HeaderInfo};
use serde_json::Value;

use super::blockchain::{known_header, read_block};
use super::rawtx::indexed_tx;
use crate::call::{Call, hash, hex_bytes};
use crate::error::{RpcError, RpcResult};
use crate::table::{Arg, Kind, Method, method};

/// Outputs one transaction can have at most (Core's `MAX_OUTPUTS_PER_BLOCK`).
const OUTPUTS_MAX: u32 = 4_000_000 / (4 * 9);
/// Outpoints looked up at a time.
const LOOKUP: usize = 1_000;

pub(crate) static METHODS: &[Method] = &[
    method!(
        "blockchain",
        "gettxoutproof",
        [
            Arg::req("txids", Kind::Arr, "The transactions' ids").usage("[\"txid\",...]"),
            Arg::opt(
                "blockhash",
                Kind::Hex,
                "The block they are in; found by their unspent outputs if not given"
            ),
        ],
        "A proof that a block holds some transactions.",
        prove
    ),
    method!(
        "blockchain",
        "verifytxoutproof",
        [Arg::req("proof", Kind::Hex, "The proof in hex")],
        "The ids that a proof holds for; none if it proves nothing.",
        verify
    ),
];

/// The block of the first of these that has an unspent output.
fn find_block(view: &ChainView, txids: &BTreeSet<Txid>) -> Option<HeaderInfo> {
    let outpoints: Vec<u32> = (0..OUTPUTS_MAX).collect();
    txids.iter().find_map(|txid| {
        outpoints.chunks(LOOKUP).find_map(|part| {
            let part: Vec<OutPoint> = part.iter().map(|vout| OutPoint { txid: *txid, vout: *vout }).collect();
            let coin = view.coins(&part).1.into_iter().flatten().next()?;
            view.active_at(coin.height)
        })
    })
}

async fn prove(call: Call) -> RpcResult {
    let list = call.params.array(0)?;
    if list.is_empty() {
        return Err(RpcError::parameter("Parameter 'txids' cannot be empty"));
    }
    let mut txids: BTreeSet<Txid> = BTreeSet::new();
    for value in list {
        if !txids.insert(hash(value, "txid")?) {
            let text = value.as_str().unwrap_or("");
            return Err(RpcError::parameter(format!("Invalid parameter, duplicated txid: {text}")));
        }
    }
    let view = call.ctx.view();
    let info = if call.params.given(1) {
        known_header(&view, &call.params.hash::<BlockHash>(1, "blockhash")?)?
    } else {
        let (reader, wanted) = (view.clone(), txids.clone());
        let found = tokio::task::spawn_blocking(move || find_block(&reader, &wanted))
            .await
            .map_err(|_| RpcError::internal("read failed"))?;
        match (found, txids.first()) {
            (Some(found), _) => found,
            (None, Some(first)) => {
                if let Some(index) = &call.ctx.indexes.tx {
                    index.handle().wait_synced().await;
                }
                let indexed = indexed_tx(&call.ctx, *first).await?;
                indexed.ok_or_else(|| RpcError::unknown("Transaction not yet in block"))?.0
            }
            (None, None) => return Err(RpcError::unknown("Transaction not yet in block")),
        }
    };
    let block = read_block(&view, info.hash).await?;
    let found = block.txdata.iter().filter(|tx| txids.contains(&tx.compute_txid())).count();
    if found != txids.len() {
        return Err(RpcError::unknown("Not all transactions found in specified or retrieved block"));
    }
    let proof = MerkleBlock::from_block_with_predicate(&block, |txid| txids.contains(txid));
    Ok(serialize_hex(&proof).into())
}

async fn verify(call: Call) -> RpcResult {
    let bytes = hex_bytes(call.params.value(0), "proof")?;
    // What follows the proof is not looked at, as in Core.
    let (proof, _) = deserialize_partial::<MerkleBlock>(&bytes)
        .map_err(|_| RpcError::misc("SpanReader::read(): end of data: iostream error"))?;
    let (mut matches, mut places) = (Vec::new(), Vec::new());
    if proof.extract_matches(&mut matches, &mut places).is_err() {
        return Ok(Value::Array(Vec::new()));
    }
    let info = call.ctx.view().header(&proof.header.block_hash());
    let info = info.filter(|info| info.active && info.tx_count > 0);
    let info = info.ok_or_else(|| RpcError::unknown("Block not found in chain"))?;
    // An inner node can be passed off as a transaction in a tree said to be less deep
    // (CVE-2017-12842); the number of transactions tells the depth.
    if proof.txn.num_transactions() != info.tx_count {
        return Ok(Value::Array(Vec::new()));
    }
    Ok(matches.into_iter().map(|txid| Value::from(txid.to_string())).collect())
}
