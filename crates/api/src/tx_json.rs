//! Scripts and transactions as JSON (Core's `core_io.cpp`).

use bitcoin::consensus::encode::serialize;
use bitcoin::{BlockHash, Network, Script, Transaction, TxIn};
use ironpeer_primitives::Coin;
use ironpeer_script::{asm, solve};
use serde_json::Value;

use crate::json::{self, Object};
use crate::methods::rawtx::serialize_no_witness_marker;
use crate::{address, descriptor};

/// An output script with everything that can be said of it (`ScriptToUniv`).
pub(crate) fn script_pub_key(script: &Script, network: Network) -> Value {
    script_object(script, network, true).into()
}

/// The same with or without its hex.
pub(crate) fn script_object(script: &Script, network: Network, include_hex: bool) -> Object {
    let mut out = Object::new();
    let solution = solve(script);
    let address = address::of_solution(script, &solution, network);
    out.push("asm", asm(script, false));
    out.push("desc", descriptor::of_solution(script, &solution, address.as_deref()));
    if include_hex {
        out.push("hex", json::hex(script.as_bytes()));
    }
    out.push_some("address", address);
    out.push("type", solution.kind().name());
    out
}

/// The coins a transaction spends, in input order, and whether to show them.
pub(crate) struct Spent<'a> {
    pub coins: &'a [Coin],
    pub show: bool,
}

/// A transaction in full (`TxToUniv`). With `spent` its fee is known.
pub(crate) fn transaction(
    tx: &Transaction,
    network: Network,
    include_hex: bool,
    spent: Option<&Spent<'_>>,
) -> Object {
    // Without inputs there is no witness form, which the `bitcoin` crate would count.
    let bare = tx.input.is_empty();
    let size = if bare { tx.base_size() } else { tx.total_size() };
    let weight = if bare { 4 * size as u64 } else { tx.weight().to_wu() };
    let mut out = Object::new();
    let txid = tx.compute_txid().to_string();
    let hash = if bare { txid.clone() } else { tx.compute_wtxid().to_string() };
    out.push("txid", txid);
    out.push("hash", hash);
    out.push("version", tx.version.0 as u32);
    out.push("size", size);
    out.push("vsize", weight.div_ceil(4));
    out.push("weight", weight);
    out.push("locktime", tx.lock_time.to_consensus_u32());
    let coinbase = tx.is_coinbase();
    let coin = |i: usize| spent.and_then(|spent| Some((spent.coins.get(i)?, spent.show)));
    let vin: Vec<Value> =
        tx.input.iter().enumerate().map(|(i, txin)| input(txin, coinbase, coin(i), network)).collect();
    out.push("vin", vin);
    let vout: Vec<Value> = tx
        .output
        .iter()
        .enumerate()
        .map(|(n, txout)| {
            let mut out = Object::new();
            out.push("value", json::amount(txout.value));
            out.push("n", n);
            out.push("scriptPubKey", script_pub_key(&txout.script_pubkey, network));
            out.into()
        })
        .collect();
    out.push("vout", vout);
    if let Some(spent) = spent {
        let paid: u64 = spent.coins.iter().map(|coin| coin.output.value.to_sat()).sum();
        let got: u64 = tx.output.iter().map(|txout| txout.value.to_sat()).sum();
        out.push("fee", json::sats(i64::try_from(paid.saturating_sub(got)).unwrap_or(i64::MAX)));
    }
    if include_hex {
        out.push("hex", hex(tx));
    }
    out
}

/// The same with its hex, and the block it is in (REST's order).
pub(crate) fn transaction_in(tx: &Transaction, network: Network, block: Option<&BlockHash>) -> Object {
    let mut out = transaction(tx, network, false, None);
    out.push_some("blockhash", block.map(ToString::to_string));
    out.push("hex", hex(tx));
    out
}

fn hex(tx: &Transaction) -> Value {
    if tx.input.is_empty() { serialize_no_witness_marker(tx).into() } else { json::hex(&serialize(tx)) }
}

fn input(txin: &TxIn, coinbase: bool, coin: Option<(&Coin, bool)>, network: Network) -> Value {
    let mut out = Object::new();
    if coinbase {
        out.push("coinbase", json::hex(txin.script_sig.as_bytes()));
    } else {
        out.push("txid", txin.previous_output.txid.to_string());
        out.push("vout", txin.previous_output.vout);
        let mut script_sig = Object::new();
        script_sig.push("asm", asm(&txin.script_sig, true));
        script_sig.push("hex", json::hex(txin.script_sig.as_bytes()));
        out.push("scriptSig", Value::from(script_sig));
    }
    if !txin.witness.is_empty() {
        let items: Vec<Value> = txin.witness.iter().map(json::hex).collect();
        out.push("txinwitness", items);
    }
    if let Some((coin, true)) = coin {
        let mut prevout = Object::new();
        prevout.push("generated", coin.is_coinbase);
        prevout.push("height", coin.height.0);
        prevout.push("value", json::amount(coin.output.value));
        prevout.push("scriptPubKey", script_pub_key(&coin.output.script_pubkey, network));
        out.push("prevout", Value::from(prevout));
    }
    out.push("sequence", txin.sequence.0);
    out.into()
}
