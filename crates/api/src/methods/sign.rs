//! Signing and combining raw transactions (`rpc/rawtransaction.cpp`, `script/sign.cpp`).

use std::collections::HashMap;

use bitcoin::hashes::{Hash, hash160};
use bitcoin::key::TapTweak;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{All, Keypair, Message, Secp256k1};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{
    Amount, OutPoint, PrivateKey, PublicKey, Script, ScriptBuf, Transaction, TxIn, TxOut, Txid, WScriptHash,
    Witness,
};
use ironpeer_script::{Ops, ScriptError, ScriptFlags, Solution, SpendContext, asm, solve, verify_input};
use serde_json::Value;

use super::mempool::check_members;
use super::rawtx::{decode_full, find_coins};
use super::util::private_key;
use crate::call::{Call, amount_sats, hash, hex_bytes, int32, text};
use crate::error::{RpcError, RpcResult, code};
use crate::json::{self, Object};

/// What may be signed with: keys by their bytes and hashes, scripts by their hashes.
#[derive(Default)]
struct KeyStore {
    keys: Vec<PrivateKey>,
    public: Vec<PublicKey>,
    scripts: HashMap<[u8; 20], ScriptBuf>,
    witness_scripts: HashMap<[u8; 32], ScriptBuf>,
}

impl KeyStore {
    fn add_key(&mut self, key: PrivateKey, secp: &Secp256k1<All>) {
        self.public.push(key.public_key(secp));
        self.keys.push(key);
    }

    /// A script and its P2WSH form, as Core's keystore takes both.
    fn add_script(&mut self, script: ScriptBuf) {
        let witness_form = script.to_p2wsh();
        self.scripts.insert(script.script_hash().to_byte_array(), script.clone());
        self.scripts.insert(witness_form.script_hash().to_byte_array(), witness_form);
        self.witness_scripts.insert(WScriptHash::hash(script.as_bytes()).to_byte_array(), script);
    }

    fn by_public(&self, bytes: &[u8]) -> Option<&PrivateKey> {
        self.public.iter().zip(&self.keys).find(|(public, _)| public.to_bytes() == bytes).map(|(_, key)| key)
    }
}

/// Which message a signature covers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Legacy,
    SegwitV0,
}

/// One input's signer.
struct Signer<'a> {
    tx: &'a Transaction,
    index: usize,
    spent: &'a [TxOut],
    store: &'a KeyStore,
    secp: &'a Secp256k1<All>,
    /// `None` is taproot's default, and ALL elsewhere.
    hash_type: Option<EcdsaSighashType>,
    /// Signatures, keys and scripts that earlier signers put into the input.
    found: Vec<Vec<u8>>,
}

/// Everything an input pushes: what others have signed already.
fn stack_items(input: &TxIn) -> Vec<Vec<u8>> {
    let pushed = Ops::new(&input.script_sig).filter_map(Result::ok).map(|op| op.data.to_vec());
    let items = pushed.chain(input.witness.iter().map(<[u8]>::to_vec));
    items.filter(|item| !item.is_empty()).collect()
}

impl Signer<'_> {
    fn output(&self) -> Option<&TxOut> {
        self.spent.get(self.index)
    }

    fn message(&self, script_code: &Script, form: Form, hash_type: EcdsaSighashType) -> Option<Message> {
        let mut cache = SighashCache::new(self.tx);
        let digest = match form {
            Form::Legacy => {
                let hash = cache.legacy_signature_hash(self.index, script_code, hash_type.to_u32()).ok()?;
                hash.to_byte_array()
            }
            Form::SegwitV0 => {
                let value = self.output()?.value;
                let hash = cache.p2wsh_signature_hash(self.index, script_code, value, hash_type).ok()?;
                hash.to_byte_array()
            }
        };
        Some(Message::from_digest(digest))
    }

    /// A signature by a key: one that is there already, or a new one if the key is at hand.
    fn signature(&self, public: &[u8], script_code: &Script, form: Form) -> Option<Vec<u8>> {
        let key = PublicKey::from_slice(public).ok()?;
        let made = self.found.iter().find(|item| {
            let Ok(signature) = bitcoin::ecdsa::Signature::from_slice(item) else { return false };
            let message = self.message(script_code, form, signature.sighash_type);
            message.is_some_and(|message| {
                self.secp.verify_ecdsa(&message, &signature.signature, &key.inner).is_ok()
            })
        });
        if let Some(signature) = made {
            return Some(signature.clone());
        }
        let private = self.store.by_public(public)?;
        let hash_type = self.hash_type.unwrap_or(EcdsaSighashType::All);
        let message = self.message(script_code, form, hash_type)?;
        let mut bytes = self.secp.sign_ecdsa_low_r(&message, &private.inner).serialize_der().to_vec();
        bytes.push(u8::try_from(hash_type.to_u32()).ok()?);
        Some(bytes)
    }

    /// The key of a hash: ours, or one that an earlier signer showed.
    fn public_of(&self, hash: &[u8]) -> Option<Vec<u8>> {
        let ours = self.store.public.iter().map(|key| key.to_bytes());
        ours.chain(self.found.iter().cloned())
            .find(|bytes| hash160::Hash::hash(bytes).as_byte_array() == hash)
    }

    fn script_of(&self, hash: &[u8]) -> Option<ScriptBuf> {
        let known = <[u8; 20]>::try_from(hash).ok().and_then(|hash| self.store.scripts.get(&hash).cloned());
        known.or_else(|| {
            let shown = self.found.iter().find(|item| hash160::Hash::hash(item).as_byte_array() == hash);
            shown.map(|item| ScriptBuf::from_bytes(item.clone()))
        })
    }

    fn witness_script_of(&self, hash: &[u8]) -> Option<ScriptBuf> {
        let known =
            <[u8; 32]>::try_from(hash).ok().and_then(|hash| self.store.witness_scripts.get(&hash).cloned());
        known.or_else(|| {
            let shown = self.found.iter().find(|item| WScriptHash::hash(item).as_byte_array() == hash);
            shown.map(|item| ScriptBuf::from_bytes(item.clone()))
        })
    }

    fn taproot(&self, output_key: &[u8]) -> Option<Vec<u8>> {
        let pair = self.store.keys.iter().find_map(|key| {
            let pair = Keypair::from_secret_key(self.secp, &key.inner);
            let tweaked = pair.tap_tweak(self.secp, None).to_keypair();
            [tweaked, pair].into_iter().find(|pair| pair.x_only_public_key().0.serialize() == output_key)
        })?;
        let hash_type = match self.hash_type {
            None => TapSighashType::Default,
            Some(hash_type) => TapSighashType::from(hash_type),
        };
        let mut cache = SighashCache::new(self.tx);
        let hash =
            cache.taproot_key_spend_signature_hash(self.index, &Prevouts::All(self.spent), hash_type).ok()?;
        let message = Message::from_digest(hash.to_byte_array());
        let mut bytes = self.secp.sign_schnorr(&message, &pair).as_ref().to_vec();
        if hash_type != TapSighashType::Default {
            bytes.push(hash_type as u8);
        }
        Some(bytes)
    }

    /// The stack that satisfies a script, as far as signatures can be had.
    fn satisfy(&self, script: &Script, form: Form) -> Vec<Vec<u8>> {
        match solve(script) {
            Solution::PubKey(key) => self.signature(key, script, form).into_iter().collect(),
            Solution::PubKeyHash(hash) => self
                .public_of(hash)
                .and_then(|public| Some(vec![self.signature(&public, script, form)?, public]))
                .unwrap_or_default(),
            Solution::MultiSig { required, keys } => {
                // The dummy that CHECKMULTISIG takes too much.
                let mut stack = vec![Vec::new()];
                let signatures = keys.iter().filter_map(|key| self.signature(key, script, form));
                stack.extend(signatures.take(usize::from(required)));
                stack.resize(usize::from(required) + 1, Vec::new());
                stack
            }
            _ => Vec::new(),
        }
    }

    /// `scriptSig` and witness of the input.
    fn sign(&self) -> Option<(ScriptBuf, Witness)> {
        let script = self.output()?.script_pubkey.clone();
        if let Solution::ScriptHash(hash) = solve(&script) {
            let redeem = self.script_of(hash).or_else(|| {
                // A key alone tells its P2WPKH form too.
                self.store.public.iter().find_map(|key| {
                    let bare = ScriptBuf::new_p2wpkh(&key.wpubkey_hash().ok()?);
                    (bare.script_hash().as_byte_array() == hash).then_some(bare)
                })
            })?;
            let (mut stack, witness) = self.sign_inner(&redeem)?;
            stack.push(redeem.into_bytes());
            return Some((pushes(stack)?, witness));
        }
        let (stack, witness) = self.sign_inner(&script)?;
        Some((pushes(stack)?, witness))
    }

    fn sign_inner(&self, script: &Script) -> Option<(Vec<Vec<u8>>, Witness)> {
        match solve(script) {
            Solution::WitnessV0KeyHash(hash) => {
                let public = self.public_of(hash)?;
                let code = ScriptBuf::new_p2pkh(&PublicKey::from_slice(&public).ok()?.pubkey_hash());
                let signature = self.signature(&public, &code, Form::SegwitV0)?;
                Some((Vec::new(), Witness::from_slice(&[signature, public])))
            }
            Solution::WitnessV0ScriptHash(hash) => {
                let inner = self.witness_script_of(hash)?;
                let mut stack = self.satisfy(&inner, Form::SegwitV0);
                stack.push(inner.to_bytes());
                Some((Vec::new(), Witness::from_slice(&stack)))
            }
            Solution::WitnessV1Taproot(key) => Some((Vec::new(), Witness::from_slice(&[self.taproot(key)?]))),
            Solution::Anchor => Some((Vec::new(), Witness::new())),
            _ => Some((self.satisfy(script, Form::Legacy), Witness::new())),
        }
    }
}

fn pushes(stack: Vec<Vec<u8>>) -> Option<ScriptBuf> {
    let mut script = Builder::new();
    for item in stack {
        script = script.push_slice(PushBytesBuf::try_from(item).ok()?);
    }
    Some(script.into_script())
}

/// Whether an input satisfies what it spends, under relay policy's rules, as Core asks here.
fn verify(tx: &Transaction, index: usize, spent: &[TxOut]) -> Result<(), ScriptError> {
    let mut context = SpendContext::new(tx, spent).ok_or(ScriptError::Unknown)?;
    verify_input(&mut context, index, ScriptFlags::STANDARD)
}

fn parse_hash_type(text: &str) -> Result<Option<EcdsaSighashType>, RpcError> {
    Ok(match text {
        "DEFAULT" => None,
        "ALL" => Some(EcdsaSighashType::All),
        "NONE" => Some(EcdsaSighashType::None),
        "SINGLE" => Some(EcdsaSighashType::Single),
        "ALL|ANYONECANPAY" => Some(EcdsaSighashType::AllPlusAnyoneCanPay),
        "NONE|ANYONECANPAY" => Some(EcdsaSighashType::NonePlusAnyoneCanPay),
        "SINGLE|ANYONECANPAY" => Some(EcdsaSighashType::SinglePlusAnyoneCanPay),
        other => {
            return Err(RpcError::parameter(format!("'{other}' is not a valid sighash parameter.")));
        }
    })
}

/// Reads `prevtxs`: coins the node may not know, and scripts to sign with.
fn read_prevouts(
    list: &[Value],
    coins: &mut HashMap<OutPoint, (TxOut, bool)>,
    store: &mut KeyStore,
) -> Result<(), RpcError> {
    for entry in list {
        let Value::Object(entry) = entry else {
            return Err(RpcError::undecodable("expected object with {\"txid'\",\"vout\",\"scriptPubKey\"}"));
        };
        check_members(
            entry,
            &[("txid", "string"), ("vout", "number"), ("scriptPubKey", "string")],
            false,
            false,
        )?;
        let member = |name: &str| entry.get(name).unwrap_or(&json::NULL);
        let txid: Txid = hash(member("txid"), "txid")?;
        let vout = u32::try_from(int32(member("vout"))?)
            .map_err(|_| RpcError::undecodable("vout cannot be negative"))?;
        let script_pubkey = ScriptBuf::from_bytes(hex_bytes(member("scriptPubKey"), "scriptPubKey")?);
        let outpoint = OutPoint { txid, vout };
        if let Some((known, _)) = coins.get(&outpoint)
            && known.script_pubkey != script_pubkey
        {
            return Err(RpcError::undecodable(format!(
                "Previous output scriptPubKey mismatch:\n{}\nvs:\n{}",
                asm(&known.script_pubkey, false),
                asm(&script_pubkey, false)
            )));
        }
        let given = entry.get("amount");
        let sats = given.map(amount_sats).transpose()?;
        let value = Amount::from_sat(sats.map_or(Amount::MAX_MONEY.to_sat(), i64::unsigned_abs));
        coins.insert(outpoint, (TxOut { value, script_pubkey: script_pubkey.clone() }, sats.is_some()));
        let is_p2sh = script_pubkey.is_p2sh();
        if !is_p2sh && !script_pubkey.is_p2wsh() {
            continue;
        }
        check_members(entry, &[("redeemScript", "string"), ("witnessScript", "string")], true, false)?;
        let (redeem, witness) = (member("redeemScript"), member("witnessScript"));
        if redeem.is_null() && witness.is_null() {
            return Err(RpcError::parameter("Missing redeemScript/witnessScript"));
        }
        let bytes = if witness.is_null() {
            hex_bytes(redeem, "redeemScript")?
        } else {
            hex_bytes(witness, "witnessScript")?
        };
        let script = ScriptBuf::from_bytes(bytes);
        let witness_form = script.to_p2wsh();
        if !redeem.is_null()
            && !witness.is_null()
            && redeem != witness
            && hex_bytes(redeem, "redeemScript")? != witness_form.as_bytes()
        {
            return Err(RpcError::parameter("redeemScript does not correspond to witnessScript"));
        }
        let fits = if is_p2sh {
            script_pubkey == script.to_p2sh() || script_pubkey == witness_form.to_p2sh()
        } else {
            script_pubkey == witness_form
        };
        if !fits {
            return Err(RpcError::parameter("redeemScript/witnessScript does not match scriptPubKey"));
        }
        store.add_script(script);
    }
    Ok(())
}

fn input_error(tx: &Transaction, index: usize, message: &str) -> Option<Value> {
    let input = tx.input.get(index)?;
    let mut out = Object::new();
    out.push("txid", input.previous_output.txid.to_string());
    out.push("vout", input.previous_output.vout);
    out.push("witness", input.witness.iter().map(|item| Value::from(hex::encode(item))).collect::<Vec<_>>());
    out.push("scriptSig", hex::encode(input.script_sig.as_bytes()));
    out.push("sequence", input.sequence.0);
    out.push("error", message);
    Some(out.into())
}

pub(super) async fn sign_with_key(call: Call) -> RpcResult {
    let mut tx = decode_full(call.params.str(0)?)?;
    let secp = Secp256k1::new();
    let mut store = KeyStore::default();
    for key in call.params.array(1)? {
        let key =
            private_key(text(key)?, &call.ctx).ok_or_else(|| RpcError::unknown("Invalid private key"))?;
        store.add_key(key, &secp);
    }
    let outpoints: Vec<OutPoint> = tx.input.iter().map(|input| input.previous_output).collect();
    let known = find_coins(&call.ctx, &outpoints);
    let mut coins: HashMap<OutPoint, (TxOut, bool)> = outpoints
        .iter()
        .zip(known)
        .filter_map(|(outpoint, coin)| Some((*outpoint, (coin?.output, true))))
        .collect();
    if call.params.given(2) {
        read_prevouts(call.params.array(2)?, &mut coins, &mut store)?;
    }
    let hash_type = parse_hash_type(call.params.opt_str(3)?.unwrap_or("DEFAULT"))?;
    // Taproot's message covers all coins; one unknown leaves a gap that fails to verify.
    let unknown = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() };
    let spent: Vec<TxOut> = outpoints
        .iter()
        .map(|outpoint| coins.get(outpoint).map_or_else(|| unknown.clone(), |(output, _)| output.clone()))
        .collect();
    let mut errors = Vec::new();
    for (index, outpoint) in outpoints.iter().enumerate() {
        let Some((output, has_amount)) = coins.get(outpoint) else {
            errors.extend(input_error(&tx, index, "Input not found or already spent"));
            continue;
        };
        let before = tx.clone();
        let found = before.input.get(index).map(stack_items).unwrap_or_default();
        let signer =
            Signer { tx: &before, index, spent: &spent, store: &store, secp: &secp, hash_type, found };
        let signed = signer.sign();
        if let (Some((script_sig, witness)), Some(input)) = (signed, tx.input.get_mut(index)) {
            // What is signed already stays as it is.
            if verify(&before, index, &spent).is_err() {
                input.script_sig = script_sig;
                input.witness = witness;
            }
        }
        let uses_amount = tx.input.get(index).is_some_and(|input| !input.witness.is_empty());
        if uses_amount && !has_amount {
            let script = hex::encode(output.script_pubkey.as_bytes());
            return Err(RpcError::wrong_type(format!(
                "Missing amount for CTxOut(nValue=21000000.00000000, scriptPubKey={})",
                script.get(..30).unwrap_or(&script)
            )));
        }
        if let Err(error) = verify(&tx, index, &spent) {
            let text = match error {
                // Core says what is likely the matter.
                ScriptError::InvalidStackOperation => {
                    "Unable to sign input, invalid stack size (possibly missing key)".to_owned()
                }
                ScriptError::SigNullFail => {
                    "CHECK(MULTI)SIG failing with non-zero signature (possibly need more signatures)"
                        .to_owned()
                }
                error => error.to_string(),
            };
            errors.extend(input_error(&tx, index, &text));
        }
    }
    let mut out = Object::new();
    out.push("hex", bitcoin::consensus::encode::serialize_hex(&tx));
    out.push("complete", errors.is_empty());
    if !errors.is_empty() {
        out.push("errors", errors);
    }
    Ok(out.into())
}

/// Signs what can be signed of a transaction, without a node and without a verdict, and returns the
/// indexes of the inputs that were looked at: those whose coin is known. Inputs by taproot stay as
/// they are.
pub fn sign_offline(
    tx: &mut Transaction,
    keys: Vec<PrivateKey>,
    scripts: Vec<ScriptBuf>,
    coins: &HashMap<OutPoint, TxOut>,
    hash_type: EcdsaSighashType,
) -> Vec<usize> {
    let secp = Secp256k1::new();
    let mut store = KeyStore::default();
    for key in keys {
        store.add_key(key, &secp);
    }
    for script in scripts {
        store.add_script(script);
    }
    let outpoints: Vec<OutPoint> = tx.input.iter().map(|input| input.previous_output).collect();
    let unknown = TxOut::NULL;
    let spent: Vec<TxOut> =
        outpoints.iter().map(|outpoint| coins.get(outpoint).unwrap_or(&unknown).clone()).collect();
    let single = matches!(hash_type, EcdsaSighashType::Single | EcdsaSighashType::SinglePlusAnyoneCanPay);
    let mut seen = Vec::new();
    for (index, outpoint) in outpoints.iter().enumerate() {
        let Some(coin) = coins.get(outpoint) else { continue };
        seen.push(index);
        if coin.script_pubkey.is_p2tr() || (single && index >= tx.output.len()) {
            continue;
        }
        let before = tx.clone();
        let found = before.input.get(index).map(stack_items).unwrap_or_default();
        let (store, secp) = (&store, &secp);
        let signer =
            Signer { tx: &before, index, spent: &spent, store, secp, hash_type: Some(hash_type), found };
        if let (Some((script_sig, witness)), Some(input)) = (signer.sign(), tx.input.get_mut(index)) {
            input.script_sig = script_sig;
            input.witness = witness;
        }
    }
    seen
}

/// Puts together what several signers made of one transaction: each input whole from one of them,
/// or else as many signatures as all of them show.
pub(super) async fn combine(call: Call) -> RpcResult {
    let list = call.params.array(0)?;
    if list.len() < 2 {
        return Err(RpcError::undecodable("Missing transactions. At least two transactions required."));
    }
    let mut variants = Vec::with_capacity(list.len());
    for (i, raw) in list.iter().enumerate() {
        let tx = super::rawtx::decode(text(raw)?, false, true).ok_or_else(|| {
            RpcError::undecodable(format!(
                "TX decode failed for tx {i}. Make sure the tx has at least one input."
            ))
        })?;
        variants.push(tx);
    }
    let bare = |tx: &Transaction| {
        let mut tx = tx.clone();
        for input in &mut tx.input {
            input.script_sig = ScriptBuf::new();
            input.witness = Witness::new();
        }
        tx.compute_txid()
    };
    let mut rest = variants.iter().map(bare);
    let first = rest.next();
    for (i, txid) in rest.enumerate() {
        if Some(txid) != first {
            return Err(RpcError::parameter(format!(
                "Transaction number {} not compatible with first transaction",
                i + 2
            )));
        }
    }
    let Some(mut merged) = variants.first().cloned() else {
        return Err(RpcError::parameter("Missing transactions"));
    };
    let outpoints: Vec<OutPoint> = merged.input.iter().map(|input| input.previous_output).collect();
    let coins: Option<Vec<TxOut>> =
        find_coins(&call.ctx, &outpoints).into_iter().map(|coin| Some(coin?.output)).collect();
    let spent = coins.ok_or_else(|| RpcError::new(code::VERIFY_ERROR, "Input not found or already spent"))?;
    let (secp, store) = (Secp256k1::new(), KeyStore::default());
    for index in 0..outpoints.len() {
        let source = variants.iter().find(|tx| verify(tx, index, &spent).is_ok());
        let combined = match source.and_then(|tx| tx.input.get(index)) {
            Some(whole) => Some((whole.script_sig.clone(), whole.witness.clone())),
            None => {
                let found: Vec<Vec<u8>> =
                    variants.iter().filter_map(|tx| tx.input.get(index)).flat_map(stack_items).collect();
                let (tx, hash_type) = (&merged, None);
                Signer { tx, index, spent: &spent, store: &store, secp: &secp, hash_type, found }.sign()
            }
        };
        if let (Some((script_sig, witness)), Some(input)) = (combined, merged.input.get_mut(index)) {
            input.script_sig = script_sig;
            input.witness = witness;
        }
    }
    Ok(bitcoin::consensus::encode::serialize_hex(&merged).into())
}
