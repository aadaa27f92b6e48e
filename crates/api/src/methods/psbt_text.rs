//! A PSBT as JSON (`decodepsbt`).

use std::collections::BTreeMap;

use bitcoin::bip32::{ChildNumber, DerivationPath, KeySource};
use bitcoin::hashes::Hash;
use bitcoin::key::XOnlyPublicKey;
use bitcoin::psbt::{Input, Output, Psbt, raw};
use bitcoin::taproot::TapLeafHash;
use bitcoin::{Amount, Network, Script, ScriptBuf};
use ironpeer_script::{asm, solve};
use serde_json::Value;

use super::psbt::spent_output;
use crate::json::{self, Object};
use crate::tx_json;

/// `m/84h/0h/0`.
fn path_text(path: &DerivationPath) -> String {
    let mut text = "m".to_owned();
    for step in path {
        text.push('/');
        match step {
            ChildNumber::Normal { index } => text.push_str(&index.to_string()),
            ChildNumber::Hardened { index } => text.push_str(&format!("{index}h")),
        }
    }
    text
}

fn origin(out: &mut Object, (fingerprint, path): &KeySource) {
    out.push("master_fingerprint", fingerprint.to_string());
    out.push("path", path_text(path));
}

fn proprietary(entries: &BTreeMap<raw::ProprietaryKey, Vec<u8>>) -> Value {
    let entries = entries.iter().map(|(key, value)| {
        let mut out = Object::new();
        out.push("identifier", hex::encode(&key.prefix));
        out.push("subtype", key.subtype);
        out.push("key", hex::encode(raw_key(&key.to_key())));
        out.push("value", hex::encode(value));
        Value::from(out)
    });
    entries.collect()
}

/// Type and data, as they lie in the file.
fn raw_key(key: &raw::Key) -> Vec<u8> {
    let mut bytes = vec![key.type_value];
    bytes.extend(&key.key);
    bytes
}

fn unknown(entries: &BTreeMap<raw::Key, Vec<u8>>) -> Object {
    let mut out = Object::new();
    for (key, value) in entries {
        out.push(hex::encode(raw_key(key)), hex::encode(value));
    }
    out
}

/// A script that is no output's.
fn inner_script(script: &Script) -> Value {
    let mut out = Object::new();
    out.push("asm", asm(script, false));
    out.push("hex", hex::encode(script.as_bytes()));
    out.push("type", solve(script).kind().name());
    out.into()
}

fn derivations(keys: &BTreeMap<bitcoin::secp256k1::PublicKey, KeySource>) -> Option<Vec<Value>> {
    let entries = keys.iter().map(|(key, source)| {
        let mut out = Object::new();
        out.push("pubkey", key.to_string());
        origin(&mut out, source);
        Value::from(out)
    });
    (!keys.is_empty()).then(|| entries.collect())
}

fn tap_derivations(keys: &BTreeMap<XOnlyPublicKey, (Vec<TapLeafHash>, KeySource)>) -> Option<Vec<Value>> {
    let entries = keys.iter().map(|(key, (leaves, source))| {
        let mut out = Object::new();
        out.push("pubkey", key.to_string());
        origin(&mut out, source);
        let leaves: Vec<Value> = leaves.iter().map(|leaf| hex::encode(leaf.as_byte_array()).into()).collect();
        out.push("leaf_hashes", leaves);
        Value::from(out)
    });
    (!keys.is_empty()).then(|| entries.collect())
}

fn scripts(out: &mut Object, redeem: Option<&ScriptBuf>, witness: Option<&ScriptBuf>) {
    let given = |script: Option<&ScriptBuf>| script.filter(|s| !s.is_empty()).map(|s| inner_script(s));
    out.push_some("redeem_script", given(redeem));
    out.push_some("witness_script", given(witness));
}

fn preimages<H: Hash + AsRef<[u8]>>(out: &mut Object, name: &str, list: &BTreeMap<H, Vec<u8>>) {
    if list.is_empty() {
        return;
    }
    let mut pairs = Object::new();
    for (hash, preimage) in list {
        // As the bytes lie, which is not how every hash is printed.
        let bytes: &[u8] = hash.as_ref();
        pairs.push(hex::encode(bytes), hex::encode(preimage));
    }
    out.push(name, Value::from(pairs));
}

/// A hash type's name, empty for one that has none (Core's `SighashToStr`).
const fn hash_type_name(hash_type: u32) -> &'static str {
    match hash_type {
        1 => "ALL",
        2 => "NONE",
        3 => "SINGLE",
        0x81 => "ALL|ANYONECANPAY",
        0x82 => "NONE|ANYONECANPAY",
        0x83 => "SINGLE|ANYONECANPAY",
        _ => "",
    }
}

fn input_text(input: &Input, network: Network) -> Value {
    let mut out = Object::new();
    if let Some(output) = &input.witness_utxo {
        let mut coin = Object::new();
        coin.push("amount", json::amount(output.value));
        coin.push("scriptPubKey", tx_json::script_pub_key(&output.script_pubkey, network));
        out.push("witness_utxo", Value::from(coin));
    }
    if let Some(tx) = &input.non_witness_utxo {
        let tx = tx_json::transaction(tx, network, false, None);
        out.push("non_witness_utxo", Value::from(tx));
    }
    if !input.partial_sigs.is_empty() {
        let mut signatures = Object::new();
        for (key, signature) in &input.partial_sigs {
            signatures.push(key.to_string(), hex::encode(signature.to_vec()));
        }
        out.push("partial_signatures", Value::from(signatures));
    }
    out.push_some("sighash", input.sighash_type.map(|kind| hash_type_name(kind.to_u32())));
    scripts(&mut out, input.redeem_script.as_ref(), input.witness_script.as_ref());
    out.push_some("bip32_derivs", derivations(&input.bip32_derivation));
    if let Some(script) = input.final_script_sig.as_ref().filter(|script| !script.is_empty()) {
        let mut script_sig = Object::new();
        script_sig.push("asm", asm(script, true));
        script_sig.push("hex", hex::encode(script.as_bytes()));
        out.push("final_scriptSig", Value::from(script_sig));
    }
    if let Some(witness) = input.final_script_witness.as_ref().filter(|witness| !witness.is_empty()) {
        let items: Vec<Value> = witness.iter().map(|item| hex::encode(item).into()).collect();
        out.push("final_scriptwitness", items);
    }
    preimages(&mut out, "ripemd160_preimages", &input.ripemd160_preimages);
    preimages(&mut out, "sha256_preimages", &input.sha256_preimages);
    preimages(&mut out, "hash160_preimages", &input.hash160_preimages);
    preimages(&mut out, "hash256_preimages", &input.hash256_preimages);
    taproot_input(&mut out, input);
    if !input.proprietary.is_empty() {
        out.push("proprietary", proprietary(&input.proprietary));
    }
    if !input.unknown.is_empty() {
        out.push("unknown", Value::from(unknown(&input.unknown)));
    }
    out.into()
}

fn taproot_input(out: &mut Object, input: &Input) {
    out.push_some("taproot_key_path_sig", input.tap_key_sig.map(|signature| hex::encode(signature.to_vec())));
    if !input.tap_script_sigs.is_empty() {
        let signatures = input.tap_script_sigs.iter().map(|((key, leaf), signature)| {
            let mut entry = Object::new();
            entry.push("pubkey", key.to_string());
            entry.push("leaf_hash", hex::encode(leaf.as_byte_array()));
            entry.push("sig", hex::encode(signature.to_vec()));
            Value::from(entry)
        });
        out.push("taproot_script_path_sigs", signatures.collect::<Vec<_>>());
    }
    if !input.tap_scripts.is_empty() {
        let mut leaves: BTreeMap<(&ScriptBuf, u8), Vec<Value>> = BTreeMap::new();
        for (control, (script, version)) in &input.tap_scripts {
            let blocks = leaves.entry((script, version.to_consensus())).or_default();
            blocks.push(hex::encode(control.serialize()).into());
        }
        let leaves = leaves.into_iter().map(|((script, version), blocks)| {
            let mut leaf = Object::new();
            leaf.push("script", hex::encode(script.as_bytes()));
            leaf.push("leaf_ver", version);
            leaf.push("control_blocks", blocks);
            Value::from(leaf)
        });
        out.push("taproot_scripts", leaves.collect::<Vec<_>>());
    }
    out.push_some("taproot_bip32_derivs", tap_derivations(&input.tap_key_origins));
    out.push_some("taproot_internal_key", input.tap_internal_key.map(|key| key.to_string()));
    let root = input.tap_merkle_root.map(|root| hex::encode(root.as_byte_array()));
    out.push_some("taproot_merkle_root", root);
}

fn output_text(output: &Output) -> Value {
    let mut out = Object::new();
    scripts(&mut out, output.redeem_script.as_ref(), output.witness_script.as_ref());
    out.push_some("bip32_derivs", derivations(&output.bip32_derivation));
    out.push_some("taproot_internal_key", output.tap_internal_key.map(|key| key.to_string()));
    if let Some(tree) = &output.tap_tree {
        let leaves = tree.script_leaves().map(|leaf| {
            let mut entry = Object::new();
            entry.push("depth", leaf.merkle_branch().len());
            entry.push("leaf_ver", leaf.version().to_consensus());
            entry.push("script", hex::encode(leaf.script().as_bytes()));
            Value::from(entry)
        });
        out.push("taproot_tree", leaves.collect::<Vec<_>>());
    }
    out.push_some("taproot_bip32_derivs", tap_derivations(&output.tap_key_origins));
    if !output.proprietary.is_empty() {
        out.push("proprietary", proprietary(&output.proprietary));
    }
    if !output.unknown.is_empty() {
        out.push("unknown", Value::from(unknown(&output.unknown)));
    }
    out.into()
}

/// What it pays, if every coin is known and no sum is more than there can be.
fn fee(psbt: &Psbt) -> Option<i64> {
    let possible = |sum: Amount| (sum <= Amount::MAX_MONEY).then_some(sum);
    let paid = (0..psbt.inputs.len())
        .try_fold(Amount::ZERO, |sum, index| possible(sum.checked_add(spent_output(psbt, index)?.value)?))?;
    let got = psbt
        .unsigned_tx
        .output
        .iter()
        .try_fold(Amount::ZERO, |sum, output| possible(sum.checked_add(output.value)?))?;
    Some(i64::try_from(paid.to_sat()).ok()? - i64::try_from(got.to_sat()).ok()?)
}

/// Everything a PSBT says.
pub(super) fn decode_text(psbt: &Psbt, network: Network) -> Value {
    let mut out = Object::new();
    out.push("tx", Value::from(tx_json::transaction(&psbt.unsigned_tx, network, false, None)));
    let mut xpubs: Vec<_> = psbt.xpub.iter().collect();
    xpubs.sort_by_key(|(_, source)| *source);
    let xpubs = xpubs.into_iter().map(|(xpub, source)| {
        let mut entry = Object::new();
        entry.push("xpub", xpub.to_string());
        origin(&mut entry, source);
        Value::from(entry)
    });
    out.push("global_xpubs", xpubs.collect::<Vec<_>>());
    out.push("psbt_version", psbt.version);
    out.push("proprietary", proprietary(&psbt.proprietary));
    out.push("unknown", Value::from(unknown(&psbt.unknown)));
    out.push("inputs", psbt.inputs.iter().map(|input| input_text(input, network)).collect::<Vec<_>>());
    out.push("outputs", psbt.outputs.iter().map(output_text).collect::<Vec<_>>());
    out.push_some("fee", fee(psbt).map(json::sats));
    out.into()
}
