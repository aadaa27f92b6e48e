//! A PSBT as JSON (`decodepsbt`).

use bitcoin::bip32::Fingerprint;
use bitcoin::consensus::encode;
use bitcoin::{Amount, Network, OutPoint, Script, Transaction, TxOut, base58};
use ironpeer_script::{asm, solve};
use serde_json::Value;

use super::psbt_fields::{
    COMPRESSED, PROPRIETARY, Pairs, Reader, global, input, leaves, number, of_type, output, u32_of, value,
};
use super::psbt_packet::{Order, Packet, amount, coin_tx, outpoint};
use crate::json::{self, Object};
use crate::tx_json;

/// `m/84h/0h/0`.
fn path_text(path: &[u8]) -> String {
    const HARDENED: u32 = 0x8000_0000;
    let mut text = "m".to_owned();
    for step in path.chunks(4).map(u32_of) {
        let mark = if step & HARDENED == 0 { "" } else { "h" };
        text.push_str(&format!("/{}{mark}", step & !HARDENED));
    }
    text
}

fn push_origin(out: &mut Object, origin: &[u8]) {
    let (fingerprint, path) = origin.split_at_checked(4).unwrap_or((origin, &[]));
    out.push("master_fingerprint", Fingerprint::try_from(fingerprint).unwrap_or_default().to_string());
    out.push("path", path_text(path));
}

fn hex_text(bytes: &[u8]) -> Value {
    hex::encode(bytes).into()
}

fn proprietary(pairs: &Pairs) -> Vec<Value> {
    let entries = of_type(pairs, PROPRIETARY).map(|(data, value)| {
        let mut parts = Reader::new(data);
        // Both were read before.
        let identifier = parts.sized().unwrap_or_default();
        let subtype = parts.compact_size().unwrap_or_default();
        let mut key = vec![PROPRIETARY];
        key.extend(data);
        let mut out = Object::new();
        out.push("identifier", hex_text(identifier));
        out.push("subtype", subtype);
        out.push("key", hex_text(&key));
        out.push("value", hex_text(value));
        Value::from(out)
    });
    entries.collect()
}

fn unknown(pairs: &Pairs, order: Order) -> Option<Object> {
    let mut out = Object::new();
    let mut any = false;
    for (key, value) in pairs.iter().filter(|(key, _)| order.is_unknown(key)) {
        out.push(hex::encode(key), hex_text(value));
        any = true;
    }
    any.then_some(out)
}

/// `proprietary` and `unknown` of an input or output.
fn push_foreign(out: &mut Object, pairs: &Pairs, order: Order) {
    let entries = proprietary(pairs);
    out.push_some("proprietary", (!entries.is_empty()).then_some(entries));
    out.push_some("unknown", unknown(pairs, order).map(Value::from));
}

/// A script that is no output's.
fn inner_script(script: &Script) -> Value {
    let mut out = Object::new();
    out.push("asm", asm(script, false));
    out.push("hex", hex_text(script.as_bytes()));
    out.push("type", solve(script).kind().name());
    out.into()
}

fn push_scripts(out: &mut Object, pairs: &Pairs, redeem: u8, witness: u8) {
    let given = |kind| value(pairs, kind).filter(|script| !script.is_empty());
    out.push_some("redeem_script", given(redeem).map(|script| inner_script(Script::from_bytes(script))));
    out.push_some("witness_script", given(witness).map(|script| inner_script(Script::from_bytes(script))));
}

/// A list under `name`, unless it is empty.
fn push_list(out: &mut Object, name: &str, entries: impl Iterator<Item = Value>) {
    let entries: Vec<Value> = entries.collect();
    out.push_some(name, (!entries.is_empty()).then_some(entries));
}

fn push_derivations(out: &mut Object, pairs: &Pairs, kind: u8) {
    let entries = of_type(pairs, kind).map(|(key, origin)| {
        let mut out = Object::new();
        out.push("pubkey", hex_text(key));
        push_origin(&mut out, origin);
        Value::from(out)
    });
    push_list(out, "bip32_derivs", entries);
}

fn push_tap_derivations(out: &mut Object, pairs: &Pairs, kind: u8) {
    let entries = of_type(pairs, kind).map(|(key, value)| {
        let mut reader = Reader::new(value);
        let count = reader.compact_size().unwrap_or_default();
        // A set, in Core.
        let hashes: std::collections::BTreeSet<&[u8]> =
            (0..count).map_while(|_| reader.take(32).ok()).collect();
        let mut out = Object::new();
        out.push("pubkey", hex_text(key));
        push_origin(&mut out, reader.rest());
        out.push("leaf_hashes", hashes.into_iter().map(hex_text).collect::<Vec<_>>());
        Value::from(out)
    });
    push_list(out, "taproot_bip32_derivs", entries);
}

fn push_pairs(out: &mut Object, pairs: &Pairs, kind: u8, name: &str) {
    let mut list = Object::new();
    let mut any = false;
    for (key, value) in Order::Input.sorted(pairs, kind) {
        list.push(hex::encode(key), hex_text(value));
        any = true;
    }
    out.push_some(name, any.then(|| Value::from(list)));
}

fn push_participants(out: &mut Object, pairs: &Pairs, kind: u8) {
    let entries = of_type(pairs, kind).map(|(aggregate, keys)| {
        let mut out = Object::new();
        out.push("aggregate_pubkey", hex_text(aggregate));
        out.push("participant_pubkeys", keys.chunks(COMPRESSED).map(hex_text).collect::<Vec<_>>());
        Value::from(out)
    });
    push_list(out, "musig2_participant_pubkeys", entries);
}

/// What participants gave for an aggregate key, and perhaps a leaf.
fn push_musig2(out: &mut Object, pairs: &Pairs, kind: u8, name: &str, given: &str) {
    let entries = Order::Input.sorted(pairs, kind).into_iter().map(|(key, value)| {
        let (participant, rest) = key.split_at_checked(COMPRESSED).unwrap_or((key, &[]));
        let (aggregate, leaf) = rest.split_at_checked(COMPRESSED).unwrap_or((rest, &[]));
        let mut out = Object::new();
        out.push("participant_pubkey", hex_text(participant));
        out.push("aggregate_pubkey", hex_text(aggregate));
        out.push_some("leaf_hash", leaf.iter().any(|byte| *byte != 0).then(|| hex_text(leaf)));
        out.push(given, hex_text(value));
        Value::from(out)
    });
    push_list(out, name, entries);
}

/// A hash type's name, empty for one that has none (Core's `SighashToStr`).
const fn hash_type_name(hash_type: u8) -> &'static str {
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

fn input_text(pairs: &Pairs, version: u32, network: Network) -> Value {
    let mut out = Object::new();
    if let Some(output) = witness_utxo(pairs) {
        let mut coin = Object::new();
        coin.push("amount", json::sats(output.value.to_sat().cast_signed()));
        coin.push("scriptPubKey", tx_json::script_pub_key(&output.script_pubkey, network));
        out.push("witness_utxo", Value::from(coin));
    }
    if let Some(tx) = coin_tx(pairs) {
        out.push("non_witness_utxo", Value::from(tx_json::transaction(&tx, network, false, None)));
    }
    push_pairs(&mut out, pairs, input::PARTIAL_SIG, "partial_signatures");
    let hash_type = value(pairs, input::SIGHASH).and_then(|bytes| bytes.first());
    out.push_some("sighash", hash_type.map(|kind| hash_type_name(*kind)));
    push_scripts(&mut out, pairs, input::REDEEM_SCRIPT, input::WITNESS_SCRIPT);
    push_derivations(&mut out, pairs, input::BIP32_DERIVATION);
    if let Some(script) = value(pairs, input::SCRIPT_SIG).filter(|script| !script.is_empty()) {
        let mut script_sig = Object::new();
        script_sig.push("asm", asm(Script::from_bytes(script), true));
        script_sig.push("hex", hex_text(script));
        out.push("final_scriptSig", Value::from(script_sig));
    }
    if let Some(witness) = value(pairs, input::SCRIPT_WITNESS) {
        let mut stack = Reader::new(witness);
        let items = stack.compact_size().unwrap_or_default();
        let items = (0..items).map_while(|_| stack.sized().ok()).map(hex_text);
        push_list(&mut out, "final_scriptwitness", items);
    }
    push_pairs(&mut out, pairs, input::RIPEMD160, "ripemd160_preimages");
    push_pairs(&mut out, pairs, input::SHA256, "sha256_preimages");
    push_pairs(&mut out, pairs, input::HASH160, "hash160_preimages");
    push_pairs(&mut out, pairs, input::HASH256, "hash256_preimages");
    if version >= 2 {
        let OutPoint { txid, vout } = outpoint(pairs);
        out.push("previous_txid", txid.to_string());
        out.push("previous_vout", vout);
        out.push_some("sequence", number(pairs, input::SEQUENCE));
        out.push_some("time_locktime", number(pairs, input::TIME_LOCKTIME));
        out.push_some("height_locktime", number(pairs, input::HEIGHT_LOCKTIME));
    }
    taproot_input(&mut out, pairs);
    push_participants(&mut out, pairs, input::MUSIG2_PARTICIPANTS);
    push_musig2(&mut out, pairs, input::MUSIG2_PUB_NONCE, "musig2_pubnonces", "pubnonce");
    push_musig2(&mut out, pairs, input::MUSIG2_PARTIAL_SIG, "musig2_partial_sigs", "partial_sig");
    push_foreign(&mut out, pairs, Order::Input);
    out.into()
}

fn not_null(bytes: &&[u8]) -> bool {
    bytes.iter().any(|byte| *byte != 0)
}

fn taproot_input(out: &mut Object, pairs: &Pairs) {
    out.push_some("taproot_key_path_sig", value(pairs, input::TAP_KEY_SIG).map(hex_text));
    let signatures = of_type(pairs, input::TAP_SCRIPT_SIG).map(|(key, signature)| {
        let (key, leaf) = key.split_at_checked(32).unwrap_or((key, &[]));
        let mut entry = Object::new();
        entry.push("pubkey", hex_text(key));
        entry.push("leaf_hash", hex_text(leaf));
        entry.push("sig", hex_text(signature));
        Value::from(entry)
    });
    push_list(out, "taproot_script_path_sigs", signatures);
    let mut scripts: Vec<(&[u8], Vec<Value>)> = Vec::new();
    for (control, script) in Order::Input.sorted(pairs, input::TAP_LEAF_SCRIPT) {
        match scripts.last_mut() {
            Some((last, blocks)) if *last == script => blocks.push(hex_text(control)),
            _ => scripts.push((script, vec![hex_text(control)])),
        }
    }
    let scripts = scripts.into_iter().map(|(script, blocks)| {
        let (version, script) = script.split_last().map_or((0, script), |(last, rest)| (*last, rest));
        let mut leaf = Object::new();
        leaf.push("script", hex_text(script));
        leaf.push("leaf_ver", version);
        leaf.push("control_blocks", blocks);
        Value::from(leaf)
    });
    push_list(out, "taproot_scripts", scripts);
    push_tap_derivations(out, pairs, input::TAP_BIP32_DERIVATION);
    let given = |kind| value(pairs, kind).filter(not_null).map(hex_text);
    out.push_some("taproot_internal_key", given(input::TAP_INTERNAL_KEY));
    out.push_some("taproot_merkle_root", given(input::TAP_MERKLE_ROOT));
}

fn output_text(pairs: &Pairs, version: u32, network: Network) -> Value {
    let mut out = Object::new();
    push_scripts(&mut out, pairs, output::REDEEM_SCRIPT, output::WITNESS_SCRIPT);
    push_derivations(&mut out, pairs, output::BIP32_DERIVATION);
    if version >= 2 {
        out.push("amount", json::sats(amount(pairs)));
        let script = Script::from_bytes(value(pairs, output::SCRIPT).unwrap_or_default());
        out.push("script", tx_json::script_pub_key(script, network));
    }
    let key = value(pairs, output::TAP_INTERNAL_KEY).filter(not_null);
    out.push_some("taproot_internal_key", key.map(hex_text));
    let tree = value(pairs, output::TAP_TREE).and_then(|tree| leaves(tree).ok()).unwrap_or_default();
    let tree = tree.into_iter().map(|(depth, version, script)| {
        let mut entry = Object::new();
        entry.push("depth", depth);
        entry.push("leaf_ver", version);
        entry.push("script", hex_text(script));
        Value::from(entry)
    });
    push_list(&mut out, "taproot_tree", tree);
    push_tap_derivations(&mut out, pairs, output::TAP_BIP32_DERIVATION);
    push_participants(&mut out, pairs, output::MUSIG2_PARTICIPANTS);
    push_foreign(&mut out, pairs, Order::Output);
    out.into()
}

fn witness_utxo(pairs: &Pairs) -> Option<TxOut> {
    encode::deserialize(value(pairs, input::WITNESS_UTXO)?).ok()
}

/// The sum, if every amount is known and no sum is more than there can be.
fn sum(mut amounts: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    let money = |sats: i64| (0..=Amount::MAX_MONEY.to_sat().cast_signed()).contains(&sats);
    amounts.try_fold(0_i64, |sum, sats| {
        let sats = sats.filter(|sats| money(*sats))?;
        sum.checked_add(sats).filter(|sum| money(*sum))
    })
}

/// What it pays, if every coin is known and no sum is more than there can be.
fn fee(packet: &Packet, tx: Option<&Transaction>) -> Option<i64> {
    let spent = |(i, pairs): (usize, &Pairs)| {
        let vout = match tx {
            Some(tx) => tx.input.get(i)?.previous_output.vout,
            None => outpoint(pairs).vout,
        };
        let output = match coin_tx(pairs) {
            Some(tx) => tx.output.get(usize::try_from(vout).ok()?)?.clone(),
            None => witness_utxo(pairs)?,
        };
        Some(output.value.to_sat().cast_signed())
    };
    let paid = sum(packet.inputs.iter().enumerate().map(spent))?;
    let got = match tx {
        Some(tx) => sum(tx.output.iter().map(|output| Some(output.value.to_sat().cast_signed())))?,
        None => sum(packet.outputs.iter().map(|pairs| Some(amount(pairs))))?,
    };
    Some(paid - got)
}

/// Everything a PSBT says.
pub(super) fn decode_text(packet: &Packet, network: Network) -> Value {
    let mut out = Object::new();
    let version = packet.version;
    let tx = (version < 2).then(|| packet.unsigned_tx()).flatten();
    if let Some(tx) = &tx {
        out.push("tx", Value::from(tx_json::transaction(tx, network, false, None)));
    }
    let xpubs = Order::Global.sorted(&packet.global, global::XPUB).into_iter().map(|(xpub, origin)| {
        let mut entry = Object::new();
        entry.push("xpub", base58::encode_check(xpub));
        push_origin(&mut entry, origin);
        Value::from(entry)
    });
    out.push("global_xpubs", xpubs.collect::<Vec<_>>());
    if version >= 2 {
        out.push_some("tx_version", number(&packet.global, global::TX_VERSION));
        out.push_some("fallback_locktime", number(&packet.global, global::FALLBACK_LOCKTIME));
        out.push("input_count", packet.inputs.len());
        out.push("output_count", packet.outputs.len());
        if let Some(flags) = value(&packet.global, global::TX_MODIFIABLE).and_then(|flags| flags.first()) {
            out.push("inputs_modifiable", flags & 1 != 0);
            out.push("outputs_modifiable", flags & 2 != 0);
            out.push("has_sighash_single", flags & 4 != 0);
        }
    }
    out.push("psbt_version", version);
    out.push("proprietary", proprietary(&packet.global));
    out.push("unknown", Value::from(unknown(&packet.global, Order::Global).unwrap_or_default()));
    let inputs = packet.inputs.iter().map(|pairs| input_text(pairs, version, network));
    out.push("inputs", inputs.collect::<Vec<_>>());
    let outputs = packet.outputs.iter().map(|pairs| output_text(pairs, version, network));
    out.push("outputs", outputs.collect::<Vec<_>>());
    out.push_some("fee", fee(packet, tx.as_ref()).map(json::sats));
    out.into()
}
