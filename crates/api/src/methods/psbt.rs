//! Partially signed transactions (`rpc/rawtransaction.cpp`, `psbt.cpp`).

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bitcoin::absolute::LockTime;
use bitcoin::psbt::{self, Psbt, PsbtSighashType};
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::sighash::SighashCache;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, PrivateKey, PublicKey, Script, ScriptBuf, Transaction, TxOut, Witness};
use ironpeer_script::{ScriptFlags, SpendContext, verify_input};
use miniscript::descriptor::{DefiniteDescriptorKey, Descriptor};
use miniscript::psbt::PsbtExt;
use rand::seq::SliceRandom;
use serde_json::Value;

use super::psbt_analysis::{analyze, invalid};
use super::psbt_fields::{Pairs, input};
use super::psbt_packet::{Order, Packet};
use super::psbt_text::decode_text;
use super::rawtx::{
    INPUTS, LOCKTIME, OUTPUTS, REPLACEABLE, VERSION, build_transaction, decode, find_coins,
    serialize_no_witness_marker as serialize_full,
};
use crate::call::{Call, Params, integer, text};
use crate::context::ApiContext;
use crate::descriptor::{scan_object_keys, scan_object_scripts};
use crate::error::{RpcError, RpcResult, code};
use crate::json::Object;
use crate::table::{Arg, Kind, Method, method};

const PSBT: Arg = Arg::req("psbt", Kind::Str, "The PSBT in base64");
const DESCRIPTORS: &str = "Descriptors, or objects with desc and range, of scripts and keys";
const PSBT_VERSION: Arg = Arg::def("psbt_version", Kind::Num, "0", "The version of the PSBT, 0 or 2");
/// As release 31.0 of Core, with which the clients were written.
const DEFAULT_VERSION: u32 = 0;

pub(crate) static METHODS: &[Method] = &[
    method!(
        "rawtransactions",
        "analyzepsbt",
        [PSBT],
        "What a PSBT still lacks, and who is next.",
        analyze_psbt
    ),
    method!(
        "rawtransactions",
        "combinepsbt",
        [Arg::req("txs", Kind::Arr, "The PSBTs in base64").usage("[\"psbt\",...]")],
        "One PSBT with everything that several of one transaction know.",
        combine
    ),
    method!(
        "rawtransactions",
        "converttopsbt",
        [
            Arg::req("hexstring", Kind::Hex, "The transaction in hex"),
            Arg::def("permitsigdata", Kind::Bool, "false", "Drop signatures instead of refusing them"),
            Arg::opt("iswitness", Kind::Bool, "Whether it is in witness form; guessed if not given"),
            PSBT_VERSION,
        ],
        "A PSBT of a transaction without signatures.",
        convert
    ),
    method!(
        "rawtransactions",
        "createpsbt",
        [INPUTS, OUTPUTS, LOCKTIME, REPLACEABLE, VERSION, PSBT_VERSION],
        "A PSBT of some inputs and outputs.",
        create
    ),
    method!("rawtransactions", "decodepsbt", [PSBT], "A PSBT taken apart.", decode_psbt),
    method!(
        "rawtransactions",
        "descriptorprocesspsbt",
        [
            PSBT,
            Arg::req("descriptors", Kind::Arr, DESCRIPTORS)
                .usage("[\"\",{\"desc\":\"str\",\"range\":n or [n,n]},...]"),
            Arg::def(
                "sighashtype",
                Kind::Str,
                "\"DEFAULT for Taproot, ALL otherwise\"",
                "What the signatures cover"
            ),
            Arg::def("bip32derivs", Kind::Bool, "true", "Whether to tell where known keys come from"),
            Arg::def("finalize", Kind::Bool, "true", "Whether to finish inputs that have all they need"),
        ],
        "Adds to a PSBT what descriptors, coins and mempool tell, and signs with the descriptors' keys.",
        process
    ),
    method!(
        "rawtransactions",
        "finalizepsbt",
        [PSBT, Arg::def("extract", Kind::Bool, "true", "Whether to answer a finished transaction itself")],
        "Finishes the inputs of a PSBT that have all they need.",
        finalize
    ),
    method!(
        "rawtransactions",
        "joinpsbts",
        [Arg::req("txs", Kind::Arr, "The PSBTs in base64").usage("[\"psbt\",...]")],
        "One PSBT with the inputs and outputs of several, in a random order.",
        join
    ),
    method!(
        "rawtransactions",
        "utxoupdatepsbt",
        [
            PSBT,
            Arg::opt("descriptors", Kind::Arr, DESCRIPTORS)
                .usage("[\"\",{\"desc\":\"str\",\"range\":n or [n,n]},...]"),
        ],
        "Adds to a PSBT what descriptors, coins and mempool tell of its inputs and outputs.",
        update
    ),
];

fn undecodable(why: &str) -> RpcError {
    RpcError::undecodable(format!("TX decode failed {why}"))
}

/// Reads a PSBT.
fn read(base64: &str) -> Result<Packet, RpcError> {
    let bytes = BASE64.decode(base64).map_err(|_| undecodable("invalid base64"))?;
    Packet::read(&bytes).map_err(|why| undecodable(&why))
}

fn write(packet: &Packet) -> String {
    BASE64.encode(packet.write())
}

/// The PSBT with its transaction, which version 2 may leave open.
fn with_tx(packet: &Packet) -> Result<Psbt, RpcError> {
    packet.to_psbt().ok_or_else(|| RpcError::new(code::VERIFY_ERROR, "The transaction cannot be valid"))
}

fn output_of<'a>(tx: &'a Transaction, outpoint: &OutPoint) -> Option<&'a TxOut> {
    tx.output.get(usize::try_from(outpoint.vout).ok()?)
}

/// What an input spends, if the PSBT tells.
pub(super) fn spent_output(psbt: &Psbt, index: usize) -> Option<&TxOut> {
    let input = psbt.inputs.get(index)?;
    match &input.non_witness_utxo {
        Some(tx) => output_of(tx, &psbt.unsigned_tx.input.get(index)?.previous_output),
        None => input.witness_utxo.as_ref(),
    }
}

/// It has a final script or witness.
pub(super) fn is_signed(input: &psbt::Input) -> bool {
    input.final_script_sig.as_ref().is_some_and(|script| !script.is_empty())
        || input.final_script_witness.as_ref().is_some_and(|witness| !witness.is_empty())
}

/// The transaction with every final script and witness in place.
fn extracted(psbt: &Psbt) -> Transaction {
    let mut tx = psbt.unsigned_tx.clone();
    for (spending, input) in tx.input.iter_mut().zip(&psbt.inputs) {
        spending.script_sig = input.final_script_sig.clone().unwrap_or_default();
        spending.witness = input.final_script_witness.clone().unwrap_or_default();
    }
    tx
}

/// An input's final script and witness satisfy what it spends, under relay policy's rules (Core's
/// `PSBTInputSignedAndVerified`).
pub(super) fn is_verified(psbt: &Psbt, index: usize) -> bool {
    let Some(own) = spent_output(psbt, index) else { return false };
    let unknown = TxOut { value: bitcoin::Amount::ZERO, script_pubkey: ScriptBuf::new() };
    // Taproot's message covers all coins; one unknown leaves a gap that fails to verify.
    let spent: Vec<TxOut> = (0..psbt.inputs.len())
        .map(|i| spent_output(psbt, i).cloned().unwrap_or_else(|| unknown.clone()))
        .collect();
    if own.script_pubkey.is_p2tr() && spent.contains(&unknown) {
        return false;
    }
    let tx = extracted(psbt);
    let Some(mut context) = SpendContext::new(&tx, &spent) else { return false };
    verify_input(&mut context, index, ScriptFlags::STANDARD).is_ok()
}

/// Finishes the inputs that have all they need. What comes out must satisfy the script.
fn finalize_inputs(psbt: &mut Psbt, secp: &Secp256k1<All>) {
    for index in 0..psbt.inputs.len() {
        let Some(output) = spent_output(psbt, index).cloned() else { continue };
        if is_verified(psbt, index) {
            continue;
        }
        let Some(before) = psbt.inputs.get(index).cloned() else { continue };
        let witness = spends_witness(&before, &output.script_pubkey);
        let wanted = before.sighash_type.map(PsbtSighashType::to_u32);
        // A coin that only the PSBT vouches for must be bound by a witness.
        let unsafe_coin = before.non_witness_utxo.is_none() && !witness;
        if unsafe_coin || wrong_hash_type(&before, &output.script_pubkey, wanted) {
            continue;
        }
        let finished = psbt.finalize_inp_mut(secp, index).is_ok() && is_verified(psbt, index);
        let Some(input) = psbt.inputs.get_mut(index) else { continue };
        if !finished {
            *input = before;
        }
        if witness {
            input.witness_utxo = Some(output);
        }
    }
}

/// Whether a witness is what an output asks for, as far as the input tells.
fn spends_witness(input: &psbt::Input, script: &Script) -> bool {
    let inner = match &input.redeem_script {
        Some(redeem) if script.is_p2sh() && redeem.to_p2sh().as_script() == script => redeem,
        _ => script,
    };
    if inner.is_p2wsh() {
        return input.witness_script.as_ref().is_some_and(|witness| witness.to_p2wsh().as_script() == inner);
    }
    inner.is_p2wpkh() || script.is_p2tr()
}

/// What a signature of an input has to cover, when `wanted` is asked for.
fn hash_type_of(script: &Script, wanted: Option<u32>) -> u32 {
    const ALL: u32 = 1;
    wanted.unwrap_or(if script.is_p2tr() { 0 } else { ALL })
}

/// Whether an input asks for another hash type than `wanted`, or has a signature with another.
pub(super) fn wrong_hash_type(input: &psbt::Input, script: &Script, wanted: Option<u32>) -> bool {
    let hash_type = hash_type_of(script, wanted);
    let other = |kind: u32| kind != hash_type;
    let taproot = input.tap_key_sig.iter().chain(input.tap_script_sigs.values());
    let mut taproot = taproot.map(|signature| signature.sighash_type as u32);
    input.sighash_type.is_some_and(|kind| other(kind.to_u32()))
        || taproot.any(other)
        || hash_type != 0 && input.partial_sigs.values().any(|sig| other(sig.sighash_type.to_u32()))
}

/// Whether every input is final and satisfies what it spends.
fn is_complete(psbt: &Psbt) -> bool {
    (0..psbt.inputs.len()).all(|index| is_verified(psbt, index))
}

/// Runs what computes for long off the runtime's workers.
async fn computed(run: impl FnOnce() -> RpcResult + Send + 'static) -> RpcResult {
    tokio::task::spawn_blocking(run).await.map_err(|_| RpcError::internal("PSBT could not be processed"))?
}

fn psbt_version(params: &Params, place: usize) -> Result<u32, RpcError> {
    let version: u32 = if params.given(place) { integer(params.value(place))? } else { DEFAULT_VERSION };
    match version {
        0 | 2 => Ok(version),
        _ => Err(RpcError::parameter("The PSBT version can only be 2 or 0")),
    }
}

async fn create(call: Call) -> RpcResult {
    let tx = build_transaction(&call)?;
    let version = psbt_version(&call.params, 5)?;
    Ok(write(&Packet::new(&tx, version)).into())
}

async fn convert(call: Call) -> RpcResult {
    let permit = call.params.opt_bool(1)?.unwrap_or(false);
    let witness = call.params.opt_bool(2)?;
    let mut tx = decode(call.params.str(0)?, !witness.unwrap_or(false), witness.unwrap_or(true))
        .ok_or_else(|| RpcError::undecodable("TX decode failed"))?;
    for input in &mut tx.input {
        let unsigned = input.script_sig.is_empty() && input.witness.is_empty();
        if !permit && !unsigned {
            return Err(RpcError::undecodable("Inputs must not have scriptSigs and scriptWitnesses"));
        }
        input.script_sig = ScriptBuf::new();
        input.witness = Witness::new();
    }
    let version = psbt_version(&call.params, 3)?;
    Ok(write(&Packet::new(&tx, version)).into())
}

async fn decode_psbt(call: Call) -> RpcResult {
    let base64 = call.params.str(0)?.to_owned();
    let network = call.ctx.network();
    computed(move || Ok(decode_text(&read(&base64)?, network))).await
}

async fn analyze_psbt(call: Call) -> RpcResult {
    let base64 = call.params.str(0)?.to_owned();
    computed(move || {
        let packet = read(&base64)?;
        Ok(packet.to_psbt().map_or_else(
            || invalid("PSBT cannot be made into a valid transaction".into()),
            |psbt| analyze(&psbt),
        ))
    })
    .await
}

async fn combine(call: Call) -> RpcResult {
    let list = call.params.array(0)?.to_vec();
    if list.is_empty() {
        return Err(RpcError::parameter("Parameter 'txs' cannot be empty"));
    }
    computed(move || {
        let all = list.iter().map(|psbt| read(text(psbt)?)).collect::<Result<Vec<_>, _>>()?;
        let merged = all.into_iter().map(Some).reduce(|merged, next| {
            let mut merged = merged?;
            merged.merge(next?).then_some(merged)
        });
        let merged = merged
            .flatten()
            .ok_or_else(|| RpcError::parameter("PSBTs not compatible (different transactions)"))?;
        Ok(write(&merged).into())
    })
    .await
}

async fn join(call: Call) -> RpcResult {
    let list = call.params.array(0)?.to_vec();
    if list.len() < 2 {
        return Err(RpcError::parameter("At least two PSBTs are required to join PSBTs."));
    }
    computed(move || join_all(&list)).await
}

fn join_all(list: &[Value]) -> RpcResult {
    let (mut version, mut lock_time) = (1, u32::MAX);
    let mut all = Vec::with_capacity(list.len());
    for psbt in list {
        let packet = read(text(psbt)?)?;
        let tx = packet.unsigned_tx().filter(|_| packet.version == 0);
        let Some(tx) = tx else {
            return Err(RpcError::parameter("joinpsbts only operates on version 0 PSBTs"));
        };
        version = version.max(tx.version.0.cast_unsigned());
        lock_time = lock_time.min(tx.lock_time.to_consensus_u32());
        all.push((packet, tx));
    }
    let mut seen = HashSet::new();
    let (mut inputs, mut outputs, mut unknown) = (Vec::new(), Vec::new(), Pairs::new());
    for (packet, tx) in all {
        for (spending, mut pairs) in tx.input.into_iter().zip(packet.inputs) {
            let outpoint = spending.previous_output;
            if !seen.insert(outpoint) {
                return Err(RpcError::parameter(format!(
                    "Input {}:{} exists in multiple PSBTs",
                    outpoint.txid, outpoint.vout
                )));
            }
            // Signatures of the old transaction mean nothing in the new one.
            pairs.retain(|key, _| {
                let kind = key.first().copied();
                ![input::PARTIAL_SIG, input::SCRIPT_SIG, input::SCRIPT_WITNESS].map(Some).contains(&kind)
            });
            inputs.push((spending, pairs));
        }
        outputs.extend(tx.output.into_iter().zip(packet.outputs));
        for (key, value) in packet.global {
            if Order::Global.is_unknown(&key) {
                unknown.entry(key).or_insert(value);
            }
        }
    }
    // Where two of one set were put together must not show.
    inputs.shuffle(&mut rand::thread_rng());
    outputs.shuffle(&mut rand::thread_rng());
    let (spending, inputs) = inputs.into_iter().unzip();
    let (paying, outputs) = outputs.into_iter().unzip();
    let tx = Transaction {
        version: Version(version.cast_signed()),
        lock_time: LockTime::from_consensus(lock_time),
        input: spending,
        output: paying,
    };
    let mut joined = Packet { inputs, outputs, ..Packet::new(&tx, 0) };
    joined.global.extend(unknown);
    Ok(write(&joined).into())
}

async fn finalize(call: Call) -> RpcResult {
    let extract = call.params.opt_bool(1)?.unwrap_or(true);
    let base64 = call.params.str(0)?.to_owned();
    computed(move || {
        let mut packet = read(&base64)?;
        let mut complete = false;
        let mut hex = None;
        if let Some(mut psbt) = packet.to_psbt() {
            finalize_inputs(&mut psbt, &Secp256k1::new());
            complete = is_complete(&psbt);
            hex = (complete && extract).then(|| serialize_full(&extracted(&psbt)));
            packet.update(&psbt);
        }
        let mut out = Object::new();
        match hex {
            Some(hex) => out.push("hex", hex),
            None => out.push("psbt", write(&packet)),
        };
        out.push("complete", complete);
        Ok(out.into())
    })
    .await
}

/// What descriptors tell: scripts with a descriptor of their own, and private keys.
#[derive(Default)]
struct Known {
    scripts: HashMap<ScriptBuf, Descriptor<DefiniteDescriptorKey>>,
    keys: HashMap<PublicKey, PrivateKey>,
}

impl Known {
    fn of(list: &[Value], network: bitcoin::Network, secp: &Secp256k1<All>) -> Result<Self, RpcError> {
        let mut known = Self::default();
        for object in list {
            for (script, text) in scan_object_scripts(object, network, secp)? {
                // What Core alone has a descriptor for tells nothing about a spend.
                if let Ok(descriptor) = Descriptor::from_str(&text) {
                    known.scripts.insert(script, descriptor);
                }
            }
            let keys = scan_object_keys(object, secp)?;
            known.keys.extend(keys.into_iter().map(|key| (key.public_key(secp), key)));
        }
        Ok(known)
    }
}

/// Adds the coins of inputs that lack them: the whole transaction if the mempool has it, else the
/// coin if it is segwit's.
fn add_coins(
    psbt: &mut Psbt,
    ctx: &ApiContext,
    known: &HashMap<ScriptBuf, Descriptor<DefiniteDescriptorKey>>,
) {
    let outpoints: Vec<OutPoint> = psbt.unsigned_tx.input.iter().map(|input| input.previous_output).collect();
    let coins = find_coins(ctx, &outpoints);
    for ((input, outpoint), coin) in psbt.inputs.iter_mut().zip(&outpoints).zip(coins) {
        if input.non_witness_utxo.is_some() {
            continue;
        }
        if let Some(tx) = ctx.mempool.tx(&outpoint.txid).filter(|tx| output_of(tx, outpoint).is_some()) {
            input.non_witness_utxo = Some((*tx).clone());
            continue;
        }
        let Some(coin) = coin else { continue };
        let script = &coin.output.script_pubkey;
        let wrapped = || matches!(known.get(script), Some(Descriptor::Sh(sh)) if sh_is_segwit(sh));
        if script.is_witness_program() || wrapped() {
            input.witness_utxo = Some(coin.output);
        }
    }
}

fn sh_is_segwit(sh: &miniscript::descriptor::Sh<DefiniteDescriptorKey>) -> bool {
    use miniscript::descriptor::ShInner;
    matches!(sh.as_inner(), ShInner::Wsh(_) | ShInner::Wpkh(_))
}

/// Fills in what the descriptors tell of inputs and outputs.
fn add_scripts(psbt: &mut Psbt, known: &Known) {
    for index in 0..psbt.inputs.len() {
        let Some(output) = spent_output(psbt, index).cloned() else { continue };
        if psbt.inputs.get(index).is_none_or(is_signed) {
            continue;
        }
        let descriptor = known.scripts.get(&output.script_pubkey);
        if let Some(descriptor) = descriptor {
            // One that does not fit leaves the input as it was.
            let _ = psbt.update_input_with_descriptor(index, descriptor);
        }
        let segwit = match descriptor {
            Some(Descriptor::Wpkh(_) | Descriptor::Wsh(_) | Descriptor::Tr(_)) => true,
            Some(Descriptor::Sh(sh)) => sh_is_segwit(sh),
            Some(_) => false,
            None => output.script_pubkey.is_p2wpkh() || output.script_pubkey.is_p2tr(),
        };
        if let (true, Some(input)) = (segwit, psbt.inputs.get_mut(index)) {
            input.witness_utxo = Some(output);
        }
    }
    for index in 0..psbt.outputs.len() {
        let script = psbt.unsigned_tx.output.get(index).map(|output| &output.script_pubkey);
        if let Some(descriptor) = script.and_then(|script| known.scripts.get(script)) {
            let _ = psbt.update_output_with_descriptor(index, descriptor);
        }
    }
}

/// With taproot inputs only, whose signatures cover all amounts, the whole transactions may go
/// (Core's `RemoveUnnecessaryTransactions`).
fn drop_needless(psbt: &mut Psbt) {
    const ANYONE_CAN_PAY: u32 = 0x80;
    let taproot_only = psbt.inputs.iter().all(|input| {
        let script = input.witness_utxo.as_ref().map(|output| &output.script_pubkey);
        let later_program =
            script.is_some_and(|script| script.witness_version().is_some_and(|version| version.to_num() > 0));
        later_program && input.sighash_type.is_none_or(|kind| kind.to_u32() & ANYONE_CAN_PAY == 0)
    });
    if taproot_only {
        psbt.inputs.iter_mut().for_each(|input| input.non_witness_utxo = None);
    }
}

async fn update(call: Call) -> RpcResult {
    let list = if call.params.given(1) { call.params.array(1)?.to_vec() } else { Vec::new() };
    let base64 = call.params.str(0)?.to_owned();
    computed(move || {
        let known = Known::of(&list, call.ctx.network(), &Secp256k1::new())?;
        let mut packet = read(&base64)?;
        let mut psbt = with_tx(&packet)?;
        add_coins(&mut psbt, &call.ctx, &known.scripts);
        set_hash_types(&mut psbt, None)?;
        add_scripts(&mut psbt, &known);
        drop_needless(&mut psbt);
        packet.update(&psbt);
        Ok(write(&packet).into())
    })
    .await
}

/// The number of a hash type's name.
fn hash_type(name: &str) -> Result<u32, RpcError> {
    Ok(match name {
        "DEFAULT" => 0,
        "ALL" => 1,
        "NONE" => 2,
        "SINGLE" => 3,
        "ALL|ANYONECANPAY" => 0x81,
        "NONE|ANYONECANPAY" => 0x82,
        "SINGLE|ANYONECANPAY" => 0x83,
        other => return Err(RpcError::parameter(format!("'{other}' is not a valid sighash parameter."))),
    })
}

/// Sets what signatures will cover, and refuses a PSBT that asks for something else.
fn set_hash_types(psbt: &mut Psbt, wanted: Option<u32>) -> Result<(), RpcError> {
    const ALL: u32 = 1;
    for index in 0..psbt.inputs.len() {
        let Some(output) = spent_output(psbt, index).cloned() else { continue };
        let Some(input) = psbt.inputs.get_mut(index) else { continue };
        if is_signed(input) {
            continue;
        }
        if wrong_hash_type(input, &output.script_pubkey, wanted) {
            return Err(RpcError::undecodable("Specified sighash value does not match value stored in PSBT"));
        }
        let hash_type = hash_type_of(&output.script_pubkey, wanted);
        // The default stands for ALL where there is no taproot.
        if hash_type != 0 && (output.script_pubkey.is_p2tr() || hash_type != ALL) {
            input.sighash_type = Some(PsbtSighashType::from_u32(hash_type));
        }
    }
    Ok(())
}

/// Signs with the keys at hand.
fn sign(psbt: &mut Psbt, known: &Known, secp: &Secp256k1<All>) {
    let before = psbt.inputs.clone();
    // Inputs whose keys are not at hand stay unsigned.
    let _ = psbt.sign(&known.keys, secp);
    let tx = psbt.unsigned_tx.clone();
    let mut cache = SighashCache::new(&tx);
    for (index, before) in before.into_iter().enumerate() {
        let message = psbt.sighash_ecdsa(index, &mut cache);
        let Some(input) = psbt.inputs.get_mut(index) else { continue };
        // What others have signed stays as it is.
        input.tap_key_sig = before.tap_key_sig.or(input.tap_key_sig);
        input.tap_script_sigs.extend(before.tap_script_sigs);
        let before = before.partial_sigs;
        input.partial_sigs.extend(before.clone());
        let Ok((message, _)) = message else { continue };
        // As Core's, the new signatures are made to be a byte shorter.
        for (public, signature) in &mut input.partial_sigs {
            match known.keys.get(public) {
                Some(private) if !before.contains_key(public) => {
                    signature.signature = secp.sign_ecdsa_low_r(&message, &private.inner);
                }
                _ => {}
            }
        }
    }
}

async fn process(call: Call) -> RpcResult {
    let base64 = call.params.str(0)?.to_owned();
    let list = call.params.array(1)?.to_vec();
    let hash_name = call.params.opt_str(2)?.map(str::to_owned);
    let derivations = call.params.opt_bool(3)?.unwrap_or(true);
    let finish = call.params.opt_bool(4)?.unwrap_or(true);
    computed(move || {
        let secp = Secp256k1::new();
        let known = Known::of(&list, call.ctx.network(), &secp)?;
        let hash_type = hash_name.as_deref().map(hash_type).transpose()?;
        let mut packet = read(&base64)?;
        let mut psbt = with_tx(&packet)?;
        let before = psbt.clone();
        add_coins(&mut psbt, &call.ctx, &known.scripts);
        set_hash_types(&mut psbt, hash_type)?;
        add_scripts(&mut psbt, &known);
        sign(&mut psbt, &known, &secp);
        if !derivations {
            forget_origins(&mut psbt, &before);
        }
        if finish {
            finalize_inputs(&mut psbt, &secp);
        }
        drop_needless(&mut psbt);
        let complete = psbt.inputs.iter().all(is_signed);
        packet.update(&psbt);
        let mut out = Object::new();
        out.push("psbt", write(&packet));
        out.push("complete", complete);
        if complete {
            out.push("hex", serialize_full(&extracted(&psbt)));
        }
        Ok(out.into())
    })
    .await
}

/// Takes back where keys come from, as far as it was not there before.
fn forget_origins(psbt: &mut Psbt, before: &Psbt) {
    for (input, old) in psbt.inputs.iter_mut().zip(&before.inputs) {
        input.bip32_derivation.clone_from(&old.bip32_derivation);
        input.tap_key_origins.clone_from(&old.tap_key_origins);
    }
    for (output, old) in psbt.outputs.iter_mut().zip(&before.outputs) {
        output.bip32_derivation.clone_from(&old.bip32_derivation);
        output.tap_key_origins.clone_from(&old.tap_key_origins);
    }
}
