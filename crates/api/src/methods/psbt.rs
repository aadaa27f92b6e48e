//! Partially signed transactions, BIP174 and BIP371 (`rpc/rawtransaction.cpp`, `psbt.cpp`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::psbt::{self, Psbt, PsbtSighashType};
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, PrivateKey, PublicKey, ScriptBuf, Transaction, TxOut, Witness};
use ironpeer_script::{ScriptFlags, SpendContext, verify_input};
use miniscript::descriptor::{DefiniteDescriptorKey, Descriptor};
use miniscript::psbt::PsbtExt;
use rand::seq::SliceRandom;
use serde_json::Value;

use super::psbt_analysis::analyze;
use super::psbt_text::decode_text;
use super::rawtx::{build_transaction, decode, find_coins};
use crate::call::{Call, Params, integer, text};
use crate::context::ApiContext;
use crate::descriptor::{scan_object_keys, scan_object_scripts};
use crate::error::{RpcError, RpcResult};
use crate::json::Object;
use crate::table::{Arg, Kind, Method, method};

const PSBT: Arg = Arg::req("psbt", Kind::Str, "The PSBT in base64");
const DESCRIPTORS: &str = "Descriptors, or objects with desc and range, of scripts and keys";
const PSBT_VERSION: Arg =
    Arg::def("psbt_version", Kind::Num, "0", "The version of the PSBT; only 0 is available");

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
        [
            Arg::req("inputs", Kind::Arr, "Objects with txid, vout and sequence")
                .usage("[{\"txid\":\"hex\",\"vout\":n,\"sequence\":n},...]"),
            Arg::req("outputs", Kind::Arr, "Objects with one address and amount, or data, each")
                .usage("[{\"address\":amount,...},{\"data\":\"hex\"},...]")
                .any_type(),
            Arg::def("locktime", Kind::Num, "0", "The lock time"),
            Arg::def("replaceable", Kind::Bool, "true", "Whether to signal replaceability (BIP125)"),
            Arg::def("version", Kind::Num, "2", "The version"),
            PSBT_VERSION,
        ],
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

/// Reads a PSBT and holds its inputs' transactions against what they spend, as Core does while
/// reading.
pub(super) fn read(base64: &str) -> Result<Psbt, RpcError> {
    let bytes = BASE64.decode(base64).map_err(|_| undecodable("invalid base64"))?;
    let psbt = Psbt::deserialize(&bytes).map_err(|error| match error {
        psbt::Error::InvalidMagic | psbt::Error::InvalidSeparator => undecodable("Invalid PSBT magic bytes"),
        error => undecodable(&error.to_string()),
    })?;
    for (input, spent) in psbt.inputs.iter().zip(&psbt.unsigned_tx.input) {
        let Some(tx) = &input.non_witness_utxo else { continue };
        if tx.compute_txid() != spent.previous_output.txid {
            return Err(undecodable("Non-witness UTXO does not match outpoint hash"));
        }
        if output_of(tx, &spent.previous_output).is_none() {
            return Err(undecodable("Input specifies output index that does not exist"));
        }
    }
    Ok(psbt)
}

fn write(psbt: &Psbt) -> String {
    BASE64.encode(psbt.serialize())
}

fn read_all(params: &Params) -> Result<Vec<Psbt>, RpcError> {
    params.array(0)?.iter().map(|psbt| read(text(psbt)?)).collect()
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
        if spent_output(psbt, index).is_none() || is_verified(psbt, index) {
            continue;
        }
        let Some(before) = psbt.inputs.get(index).cloned() else { continue };
        let finished = psbt.finalize_inp_mut(secp, index).is_ok() && is_verified(psbt, index);
        if let (false, Some(input)) = (finished, psbt.inputs.get_mut(index)) {
            *input = before;
        }
    }
}

/// Whether every input is final and satisfies what it spends.
fn is_complete(psbt: &Psbt) -> bool {
    (0..psbt.inputs.len()).all(|index| is_verified(psbt, index))
}

/// Runs what computes for long off the runtime's workers.
async fn computed(run: impl FnOnce() -> RpcResult + Send + 'static) -> RpcResult {
    tokio::task::spawn_blocking(run).await.map_err(|_| RpcError::internal("PSBT could not be processed"))?
}

fn check_version(params: &Params, place: usize) -> Result<(), RpcError> {
    let version: u32 = if params.given(place) { integer(params.value(place))? } else { 0 };
    match version {
        0 => Ok(()),
        2 => Err(RpcError::misc("PSBT version 2 is not available")),
        _ => Err(RpcError::parameter("The PSBT version can only be 2 or 0")),
    }
}

fn blank(tx: Transaction) -> RpcResult {
    let psbt = Psbt::from_unsigned_tx(tx).map_err(|error| RpcError::internal(error.to_string()))?;
    Ok(write(&psbt).into())
}

async fn create(call: Call) -> RpcResult {
    let tx = build_transaction(&call)?;
    check_version(&call.params, 5)?;
    blank(tx)
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
    check_version(&call.params, 3)?;
    blank(tx)
}

async fn decode_psbt(call: Call) -> RpcResult {
    let psbt = read(call.params.str(0)?)?;
    let network = call.ctx.network();
    computed(move || Ok(decode_text(&psbt, network))).await
}

async fn analyze_psbt(call: Call) -> RpcResult {
    let psbt = read(call.params.str(0)?)?;
    computed(move || Ok(analyze(&psbt))).await
}

async fn combine(call: Call) -> RpcResult {
    let mut all = read_all(&call.params)?.into_iter();
    let Some(mut merged) = all.next() else {
        return Err(RpcError::parameter("Parameter 'txs' cannot be empty"));
    };
    for psbt in all {
        merged
            .combine(psbt)
            .map_err(|_| RpcError::parameter("PSBTs not compatible (different transactions)"))?;
    }
    Ok(write(&merged).into())
}

async fn join(call: Call) -> RpcResult {
    if call.params.array(0)?.len() < 2 {
        return Err(RpcError::parameter("At least two PSBTs are required to join PSBTs."));
    }
    let all = read_all(&call.params)?;
    let version = all.iter().map(|psbt| psbt.unsigned_tx.version.0.cast_unsigned()).fold(1, u32::max);
    let lock_time = all.iter().map(|psbt| psbt.unsigned_tx.lock_time.to_consensus_u32()).min().unwrap_or(0);
    let mut seen = HashSet::new();
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    let (mut xpub, mut unknown) = (BTreeMap::new(), BTreeMap::new());
    for psbt in all {
        for (spending, input) in psbt.unsigned_tx.input.into_iter().zip(psbt.inputs) {
            let outpoint = spending.previous_output;
            if !seen.insert(outpoint) {
                return Err(RpcError::parameter(format!(
                    "Input {}:{} exists in multiple PSBTs",
                    outpoint.txid, outpoint.vout
                )));
            }
            inputs.push((spending, input));
        }
        outputs.extend(psbt.unsigned_tx.output.into_iter().zip(psbt.outputs));
        xpub.extend(psbt.xpub);
        unknown.extend(psbt.unknown);
    }
    // Where two of one set were put together must not show.
    inputs.shuffle(&mut rand::thread_rng());
    outputs.shuffle(&mut rand::thread_rng());
    let (spending, inputs) = inputs.into_iter().unzip();
    let (paying, outputs) = outputs.into_iter().unzip();
    let unsigned_tx = Transaction {
        version: Version(version.cast_signed()),
        lock_time: bitcoin::absolute::LockTime::from_consensus(lock_time),
        input: spending,
        output: paying,
    };
    let joined =
        Psbt { unsigned_tx, version: 0, xpub, proprietary: BTreeMap::new(), unknown, inputs, outputs };
    Ok(write(&joined).into())
}

async fn finalize(call: Call) -> RpcResult {
    let extract = call.params.opt_bool(1)?.unwrap_or(true);
    let mut psbt = read(call.params.str(0)?)?;
    computed(move || {
        finalize_inputs(&mut psbt, &Secp256k1::new());
        let complete = is_complete(&psbt);
        let mut out = Object::new();
        if complete && extract {
            out.push("hex", serialize_hex(&extracted(&psbt)));
        } else {
            out.push("psbt", write(&psbt));
        }
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
        let mut psbt = read(&base64)?;
        add_coins(&mut psbt, &call.ctx, &known.scripts);
        add_scripts(&mut psbt, &known);
        drop_needless(&mut psbt);
        Ok(write(&psbt).into())
    })
    .await
}

/// The number of a hash type's name; `None` for the default of each script.
fn hash_type(name: &str) -> Result<Option<u32>, RpcError> {
    Ok(match name {
        "DEFAULT" => None,
        "ALL" => Some(1),
        "NONE" => Some(2),
        "SINGLE" => Some(3),
        "ALL|ANYONECANPAY" => Some(0x81),
        "NONE|ANYONECANPAY" => Some(0x82),
        "SINGLE|ANYONECANPAY" => Some(0x83),
        other => return Err(RpcError::parameter(format!("'{other}' is not a valid sighash parameter."))),
    })
}

/// Sets what signatures will cover, and refuses a PSBT that asks for something else.
fn set_hash_types(psbt: &mut Psbt, wanted: Option<u32>) -> Result<(), RpcError> {
    const ALL: u32 = 1;
    for index in 0..psbt.inputs.len() {
        let taproot = spent_output(psbt, index).is_some_and(|output| output.script_pubkey.is_p2tr());
        let Some(input) = psbt.inputs.get_mut(index) else { continue };
        if is_signed(input) {
            continue;
        }
        let plain = if taproot { 0 } else { ALL };
        let hash_type = match wanted {
            None => plain,
            Some(wanted) => wanted,
        };
        if input.sighash_type.is_some_and(|set| set.to_u32() != hash_type) {
            return Err(RpcError::undecodable("Specified sighash value does not match value stored in PSBT"));
        }
        if hash_type != plain {
            input.sighash_type = Some(PsbtSighashType::from_u32(hash_type));
        }
    }
    Ok(())
}

async fn process(call: Call) -> RpcResult {
    let base64 = call.params.str(0)?.to_owned();
    let list = call.params.array(1)?.to_vec();
    let hash_type = hash_type(call.params.opt_str(2)?.unwrap_or("DEFAULT"))?;
    let derivations = call.params.opt_bool(3)?.unwrap_or(true);
    let finish = call.params.opt_bool(4)?.unwrap_or(true);
    computed(move || {
        let secp = Secp256k1::new();
        let known = Known::of(&list, call.ctx.network(), &secp)?;
        let mut psbt = read(&base64)?;
        let before = psbt.clone();
        add_coins(&mut psbt, &call.ctx, &known.scripts);
        add_scripts(&mut psbt, &known);
        set_hash_types(&mut psbt, hash_type)?;
        // Inputs whose keys are not at hand stay unsigned.
        let _ = psbt.sign(&known.keys, &secp);
        if !derivations {
            forget_origins(&mut psbt, &before);
        }
        if finish {
            finalize_inputs(&mut psbt, &secp);
        }
        drop_needless(&mut psbt);
        let complete = psbt.inputs.iter().all(is_signed);
        let mut out = Object::new();
        out.push("psbt", write(&psbt));
        out.push("complete", complete);
        if complete {
            out.push("hex", serialize_hex(&extracted(&psbt)));
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
