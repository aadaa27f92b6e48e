//! Raw transactions (`rpc/rawtransaction.cpp`, `rpc/mempool.cpp`).

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::{serialize, serialize_hex};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, WPubkeyHash, Witness,
};
use ironpeer_chain::ChainView;
use ironpeer_consensus::{decode_tx, decode_tx_no_witness};
use ironpeer_mempool::{FeeRate, SubmitTx};
use ironpeer_primitives::{ChainRead, Coin, HeaderInfo, TxClass, TxReject};
use ironpeer_script::{MAX_SCRIPT_SIZE, Ops, ScriptKind, Solution, solve};
use serde_json::Value;

use super::blockchain::{read_block, read_undo};
use crate::call::{Call, Params, amount_sats, array, hash, hex_bytes, int32, integer, object};
use crate::context::ApiContext;
use crate::error::{RpcError, RpcResult, code};
use crate::json::{self, Object};
use crate::table::{Arg, Kind, Method, method};
use crate::tx_json::{self, Spent};
use crate::{address, descriptor};

/// Feerate above which a transaction is thought a mistake, in satoshi per 1,000 vbytes.
const DEFAULT_MAX_FEERATE: u64 = 10_000_000;
/// Bytes of one script element at most.
const SCRIPT_ELEMENT_MAX: usize = 520;
const DECODE_FAILED: &str = "TX decode failed. Make sure the tx has at least one input.";

// The arguments that describe a transaction, here and for PSBTs.
pub(super) const INPUTS: Arg = Arg::req("inputs", Kind::Arr, "Objects with txid, vout and sequence")
    .usage("[{\"txid\":\"hex\",\"vout\":n,\"sequence\":n},...]");
pub(super) const OUTPUTS: Arg =
    Arg::req("outputs", Kind::Arr, "Objects with one address and amount, or data, each")
        .usage("[{\"address\":amount,...},{\"data\":\"hex\"},...]")
        .any_type();
pub(super) const LOCKTIME: Arg = Arg::def("locktime", Kind::Num, "0", "The lock time");
pub(super) const REPLACEABLE: Arg =
    Arg::def("replaceable", Kind::Bool, "true", "Whether to signal replaceability (BIP125)");
pub(super) const VERSION: Arg = Arg::def("version", Kind::Num, "2", "The version");

pub(crate) static METHODS: &[Method] = &[
    method!(
        "rawtransactions",
        "createrawtransaction",
        [INPUTS, OUTPUTS, LOCKTIME, REPLACEABLE, VERSION],
        "A transaction of some inputs and outputs, without signatures.",
        create
    ),
    method!(
        "rawtransactions",
        "combinerawtransaction",
        [Arg::req("txs", Kind::Arr, "The transactions in hex").usage("[\"hexstring\",...]")],
        "One transaction with the signatures of several, which are alike but for those.",
        super::sign::combine
    ),
    method!(
        "rawtransactions",
        "decoderawtransaction",
        [
            Arg::req("hexstring", Kind::Hex, "The transaction in hex"),
            Arg::opt("iswitness", Kind::Bool, "Whether it is in witness form; guessed if not given"),
        ],
        "A transaction taken apart.",
        decode_raw
    ),
    method!(
        "rawtransactions",
        "decodescript",
        [Arg::req("hexstring", Kind::Hex, "The script in hex")],
        "A script taken apart.",
        decode_script
    ),
    method!(
        "rawtransactions",
        "getrawtransaction",
        [
            Arg::req("txid", Kind::Hex, "The transaction's id"),
            Arg::def("verbosity|verbose", Kind::Num, "0", "0 for hex, 1 for details, 2 with what it spends").any_type(),
            Arg::opt("blockhash", Kind::Hex, "The block it is in"),
        ],
        "A transaction of the mempool, of a given block, or, with -txindex, of any.",
        raw_transaction
    ),
    method!(
        "rawtransactions",
        "sendrawtransaction",
        [
            Arg::req("hexstring", Kind::Hex, "The transaction in hex"),
            Arg::def("maxfeerate", Kind::Amount, "0.10", "Refuse above this feerate in bitcoin per 1,000 vbytes; 0 for any"),
            Arg::def("maxburnamount", Kind::Amount, "0.00", "Refuse unspendable outputs above this amount"),
        ],
        "Puts a transaction into the mempool and announces it.",
        send
    ),
    method!(
        "rawtransactions",
        "signrawtransactionwithkey",
        [
            Arg::req("hexstring", Kind::Str, "The transaction in hex"),
            Arg::req("privkeys", Kind::Arr, "The private keys").usage("[\"privatekey\",...]"),
            Arg::opt("prevtxs", Kind::Arr, "What it spends, where neither chain nor mempool have it")
                .usage("[{\"txid\":\"hex\",\"vout\":n,\"scriptPubKey\":\"hex\",\"redeemScript\":\"hex\",\"witnessScript\":\"hex\",\"amount\":amount},...]"),
            Arg::opt("sighashtype", Kind::Str, "What the signatures cover"),
        ],
        "Signs a transaction with the given keys.",
        super::sign::sign_with_key
    ),
];

/// Core's reading of a transaction that may be in either form (`DecodeTx`): the form whose
/// scripts make sense, the witness form if neither or both do.
pub(crate) fn decode(hex_tx: &str, try_no_witness: bool, try_witness: bool) -> Option<Transaction> {
    let bytes = hex::decode(hex_tx).ok().filter(|bytes| !bytes.is_empty())?;
    let extended = if try_witness { decode_tx(&bytes).ok() } else { None };
    if extended.as_ref().is_some_and(scripts_make_sense) {
        return extended;
    }
    let legacy = if try_no_witness { decode_tx_no_witness(&bytes).ok() } else { None };
    if legacy.as_ref().is_some_and(scripts_make_sense) {
        return legacy;
    }
    extended.or(legacy)
}

/// Every instruction is whole and defined, and pushes no more than may be pushed (Core's
/// `HasValidOps`).
pub(crate) fn has_valid_ops(script: &bitcoin::Script) -> bool {
    const LAST_OPCODE: u8 = 0xba;
    Ops::new(script)
        .all(|op| op.is_ok_and(|op| op.code <= LAST_OPCODE && op.data.len() <= SCRIPT_ELEMENT_MAX))
}

fn scripts_make_sense(tx: &Transaction) -> bool {
    let fine = |script: &bitcoin::Script| has_valid_ops(script) && script.len() <= MAX_SCRIPT_SIZE;
    (tx.is_coinbase() || tx.input.iter().all(|input| fine(&input.script_sig)))
        && tx.output.iter().all(|output| fine(&output.script_pubkey))
}

/// A transaction argument that must have inputs.
pub(crate) fn decode_full(hex_tx: &str) -> Result<Transaction, RpcError> {
    decode(hex_tx, false, true).ok_or_else(|| RpcError::undecodable(DECODE_FAILED))
}

/// The coins of some outpoints from chain and mempool, as far as they are unspent there.
pub(crate) fn find_coins(ctx: &ApiContext, outpoints: &[OutPoint]) -> Vec<Option<Coin>> {
    let view = ctx.view();
    let next = view.tip().height.next();
    let (_, coins) = view.coins(outpoints);
    coins
        .into_iter()
        .zip(outpoints)
        .map(|(coin, outpoint)| {
            coin.or_else(|| {
                let parent = ctx.mempool.tx(&outpoint.txid)?;
                let output = parent.output.get(usize::try_from(outpoint.vout).ok()?)?.clone();
                Some(Coin { output, height: next, is_coinbase: false })
            })
        })
        .collect()
}

async fn decode_raw(call: Call) -> RpcResult {
    let witness = call.params.opt_bool(1)?;
    let tx = decode(call.params.str(0)?, !witness.unwrap_or(false), witness.unwrap_or(true))
        .ok_or_else(|| RpcError::undecodable("TX decode failed"))?;
    Ok(tx_json::transaction(&tx, call.ctx.network(), false, None).into())
}

fn is_op_success(code: u8) -> bool {
    matches!(code, 80 | 98 | 126..=129 | 131..=134 | 137..=138 | 141..=142 | 149..=153 | 187..=254)
}

fn may_be_wrapped(script: &bitcoin::Script, kind: ScriptKind) -> bool {
    let kind_fits = matches!(
        kind,
        ScriptKind::MultiSig
            | ScriptKind::NonStandard
            | ScriptKind::PubKey
            | ScriptKind::PubKeyHash
            | ScriptKind::WitnessV0KeyHash
            | ScriptKind::WitnessV0ScriptHash
    );
    const CHECKSIGADD: u8 = 0xba;
    kind_fits
        && has_valid_ops(script)
        && !is_unspendable(script)
        && Ops::new(script).all(|op| op.is_ok_and(|op| op.code != CHECKSIGADD && !is_op_success(op.code)))
}

fn is_unspendable(script: &bitcoin::Script) -> bool {
    script.is_op_return() || script.len() > MAX_SCRIPT_SIZE
}

/// The segwit script that asks for the same as a legacy one.
fn segwit_form(script: &bitcoin::Script) -> Option<ScriptBuf> {
    let compressed = |key: &[u8]| key.len() == 33;
    match solve(script) {
        Solution::MultiSig { keys, .. } if keys.iter().all(|key| compressed(key)) => Some(script.to_p2wsh()),
        Solution::PubKey(key) if compressed(key) => {
            let key = bitcoin::CompressedPublicKey::from_slice(key).ok()?;
            Some(ScriptBuf::new_p2wpkh(&key.wpubkey_hash()))
        }
        Solution::PubKeyHash(hash) => {
            let hash: [u8; 20] = hash.try_into().ok()?;
            use bitcoin::hashes::Hash;
            Some(ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(hash)))
        }
        Solution::NonStandard => Some(script.to_p2wsh()),
        _ => None,
    }
}

async fn decode_script(call: Call) -> RpcResult {
    let network = call.ctx.network();
    let bytes = match call.params.str(0)? {
        "" => Vec::new(),
        _ => hex_bytes(call.params.value(0), "argument")?,
    };
    let script = ScriptBuf::from_bytes(bytes);
    let mut out = tx_json::script_object(&script, network, false);
    if may_be_wrapped(&script, solve(&script).kind()) {
        out.push("p2sh", address::of_script(&script.to_p2sh(), network));
        if let Some(segwit) = segwit_form(&script) {
            let known = descriptor::of_witness_script(&script).filter(|_| segwit.is_p2wsh());
            let mut inner = tx_json::script_object(&segwit, network, true);
            if let Some(known) = known {
                // In the place of the one that says less.
                inner.push("desc", known);
            }
            inner.push("p2sh-segwit", address::of_script(&segwit.to_p2sh(), network));
            out.push("segwit", Value::from(inner));
        }
    }
    Ok(out.into())
}

fn build_input(value: &Value, replaceable: Option<bool>, locktime: u32) -> Result<TxIn, RpcError> {
    let input = object(value)?;
    let member = |name: &str| input.get(name).unwrap_or(&json::NULL);
    let txid: Txid = hash(member("txid"), "txid")?;
    if !member("vout").is_number() {
        return Err(RpcError::parameter("Invalid parameter, missing vout key"));
    }
    let vout = u32::try_from(int32(member("vout"))?)
        .map_err(|_| RpcError::parameter("Invalid parameter, vout cannot be negative"))?;
    let sequence = if member("sequence").is_number() {
        u32::try_from(integer::<i64>(member("sequence"))?)
            .map_err(|_| RpcError::parameter("Invalid parameter, sequence number is out of range"))?
    } else if replaceable.unwrap_or(true) {
        Sequence::ENABLE_RBF_NO_LOCKTIME.0
    } else if locktime != 0 {
        Sequence::ENABLE_LOCKTIME_NO_RBF.0
    } else {
        Sequence::MAX.0
    };
    Ok(TxIn {
        previous_output: OutPoint { txid, vout },
        script_sig: ScriptBuf::new(),
        sequence: Sequence(sequence),
        witness: Witness::new(),
    })
}

fn build_outputs(params: &Params, place: usize, ctx: &ApiContext) -> Result<Vec<TxOut>, RpcError> {
    let invalid = |text: &str| RpcError::parameter(format!("Invalid parameter, {text}"));
    let value = params.value(place);
    let mut pairs: Vec<(&String, &Value)> = Vec::new();
    match value {
        Value::Null => return Err(invalid("output argument must be non-null")),
        Value::Object(outputs) => {
            pairs.extend(outputs);
            // What the object names twice is there twice.
            let twice = params.repeats(place).filter(|(path, _)| path.is_empty());
            pairs.extend(twice.filter_map(|(_, key)| outputs.get_key_value(key)));
        }
        _ => {
            for (i, output) in array(value)?.iter().enumerate() {
                let Value::Object(output) = output else {
                    return Err(invalid("key-value pair not an object as expected"));
                };
                let here = i.to_string();
                let twice =
                    params.repeats(place).any(|(path, _)| path.len() == 1 && path.first() == Some(&here));
                if output.len() != 1 || twice {
                    return Err(invalid("key-value pair must contain exactly one key"));
                }
                pairs.extend(output);
            }
        }
    }
    let mut outputs: Vec<TxOut> = Vec::with_capacity(pairs.len());
    let mut has_data = false;
    for (name, value) in pairs {
        if name == "data" {
            if std::mem::replace(&mut has_data, true) {
                return Err(invalid("duplicate key: data"));
            }
            let data = Value::from(json::bare_text(value));
            let data = hex_bytes(&data, "Data")?;
            let data =
                bitcoin::script::PushBytesBuf::try_from(data).map_err(|_| invalid("data is too long"))?;
            outputs.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_op_return(data) });
            continue;
        }
        let script = address::decode(name, ctx.network());
        let sats = amount_sats(value)?;
        let script_pubkey =
            script.map_err(|_| RpcError::unknown(format!("Invalid Bitcoin address: {name}")))?;
        if outputs.iter().any(|output| output.script_pubkey == script_pubkey) {
            return Err(invalid(&format!("duplicated address: {name}")));
        }
        outputs.push(TxOut { value: Amount::from_sat(sats.unsigned_abs()), script_pubkey });
    }
    Ok(outputs)
}

async fn create(call: Call) -> RpcResult {
    Ok(serialize_no_witness_marker(&build_transaction(&call)?).into())
}

/// The transaction that the arguments of `createrawtransaction` describe (Core's
/// `ConstructTransaction`).
pub(super) fn build_transaction(call: &Call) -> Result<Transaction, RpcError> {
    let replaceable = call.params.opt_bool(3)?;
    let locktime = if call.params.given(2) {
        u32::try_from(call.params.int64(2)?)
            .map_err(|_| RpcError::parameter("Invalid parameter, locktime out of range"))?
    } else {
        0
    };
    let version: u32 = if call.params.given(4) { integer(call.params.value(4))? } else { 2 };
    if !(1..=3).contains(&version) {
        return Err(RpcError::parameter("Invalid parameter, version out of range(1~3)"));
    }
    let empty: &[Value] = &[];
    let inputs = if call.params.given(0) { call.params.array(0)? } else { empty };
    let input = inputs
        .iter()
        .map(|input| build_input(input, replaceable, locktime))
        .collect::<Result<Vec<_>, _>>()?;
    let output = build_outputs(&call.params, 1, &call.ctx)?;
    let signals = input.iter().any(|input| input.sequence.is_rbf());
    if replaceable == Some(true) && !input.is_empty() && !signals {
        return Err(RpcError::parameter(
            "Invalid parameter combination: Sequence number(s) contradict replaceable option",
        ));
    }
    Ok(Transaction {
        version: Version(version.cast_signed()),
        lock_time: LockTime::from_consensus(locktime),
        input,
        output,
    })
}

/// The old form, without witnesses.
pub(super) fn no_witness_bytes(tx: &Transaction) -> Vec<u8> {
    let mut bytes = serialize(&tx.version);
    bytes.extend(serialize(&tx.input));
    bytes.extend(serialize(&tx.output));
    bytes.extend(serialize(&tx.lock_time));
    bytes
}

/// Core writes a transaction without inputs in the old form, where `bitcoin` would mark it as
/// one with witnesses.
pub(crate) fn serialize_no_witness_marker(tx: &Transaction) -> String {
    if tx.input.is_empty() { hex::encode(no_witness_bytes(tx)) } else { serialize_hex(tx) }
}

async fn raw_transaction(call: Call) -> RpcResult {
    let ctx = &call.ctx;
    let txid: Txid = call.params.hash(0, "parameter 1")?;
    let genesis_coinbase = ctx.params.genesis.txdata.first().map(Transaction::compute_txid);
    if genesis_coinbase == Some(txid) {
        return Err(RpcError::unknown(
            "The genesis block coinbase is not considered an ordinary transaction and cannot be retrieved",
        ));
    }
    let verbosity = call.params.verbosity(1, 0, true)?;
    let view = ctx.view();
    let missing =
        |text: &str| RpcError::unknown(format!("{text}. Use gettransaction for wallet transactions."));
    let network = ctx.network();
    let given = call.params.given(2);
    let (tx, info) = if given {
        let hash: BlockHash = call.params.hash(2, "parameter 3")?;
        let info = view.header(&hash).ok_or_else(|| RpcError::unknown("Block hash not found"))?;
        if !info.has_data {
            return Err(RpcError::misc("Block not available"));
        }
        let block = read_block(&view, hash).await?;
        let tx = block.txdata.iter().find(|tx| tx.compute_txid() == txid).cloned();
        (Arc::new(tx.ok_or_else(|| missing("No such transaction found in the provided block"))?), Some(info))
    } else {
        let ready = match &ctx.indexes.tx {
            Some(index) => Some(index.handle().wait_synced().await),
            None => None,
        };
        if let Some(tx) = ctx.mempool.tx(&txid) {
            (tx, None)
        } else if let Some((info, tx)) = indexed_tx(ctx, txid).await? {
            (Arc::new(tx), Some(info))
        } else {
            return Err(missing(match ready {
                None => {
                    "No such mempool transaction. Use -txindex or provide a block hash to enable blockchain transaction queries"
                }
                Some(false) => {
                    "No such mempool transaction. Blockchain transactions are still in the process of being indexed"
                }
                Some(true) => "No such mempool or blockchain transaction",
            }));
        }
    };
    if verbosity <= 0 {
        return Ok(serialize_hex(&*tx).into());
    }
    let Some(info) = info else {
        return Ok(tx_json::transaction(&tx, network, true, None).into());
    };
    let undo = if verbosity >= 2 && !tx.is_coinbase() { spent_by(&view, &info, txid).await? } else { None };
    let spent = undo.as_deref().map(|coins| Spent { coins, show: true });
    let mut out = Object::new();
    if given {
        out.push("in_active_chain", info.active);
    }
    out.extend(tx_json::transaction(&tx, network, true, spent.as_ref()));
    out.push("blockhash", info.hash.to_string());
    push_confirmations(&mut out, &info, &view.tip());
    Ok(out.into())
}

/// A transaction of the chain, if there is an index that has it, with the block it is in.
pub(crate) async fn indexed_tx(
    ctx: &ApiContext,
    txid: Txid,
) -> Result<Option<(HeaderInfo, Transaction)>, RpcError> {
    let Some(index) = ctx.indexes.tx.clone() else { return Ok(None) };
    let found = tokio::task::spawn_blocking(move || index.find(&txid)).await;
    let found = found.map_err(|_| RpcError::internal("read failed"))?;
    let Some((hash, tx)) = found.map_err(|error| RpcError::misc(error.to_string()))? else { return Ok(None) };
    Ok(ctx.view().header(&hash).map(|info| (info, tx)))
}

/// The coins that one transaction of a block spent, if both are stored.
async fn spent_by(view: &ChainView, info: &HeaderInfo, txid: Txid) -> Result<Option<Vec<Coin>>, RpcError> {
    if !info.has_data {
        return Ok(None);
    }
    let Some(undo) = read_undo(view, info.hash).await? else { return Ok(None) };
    let block = read_block(view, info.hash).await?;
    // The coinbase, which comes first, spends nothing.
    let place = block.txdata.iter().skip(1).position(|tx| tx.compute_txid() == txid);
    Ok(place.and_then(|place| undo.txs.get(place).cloned()))
}

/// How deep the block is, and its time twice, as Core's `TxToJSON` ends.
fn push_confirmations(out: &mut Object, info: &HeaderInfo, tip: &HeaderInfo) {
    if info.active {
        out.push("confirmations", i64::from(tip.height.0) - i64::from(info.height.0) + 1);
        out.push("time", info.header.time);
        out.push("blocktime", info.header.time);
    } else {
        out.push("confirmations", 0);
    }
}

/// `maxfeerate`, in satoshi per 1,000 vbytes; 0 for none (Core's `ParseFeeRate`).
pub(super) fn max_feerate(value: &Value) -> Result<u64, RpcError> {
    if value.is_null() {
        return Ok(DEFAULT_MAX_FEERATE);
    }
    let rate = amount_sats(value)?.unsigned_abs();
    if rate >= Amount::ONE_BTC.to_sat() {
        return Err(RpcError::parameter("Fee rates larger than or equal to 1BTC/kvB are not accepted"));
    }
    Ok(rate)
}

pub(super) fn transaction_error(text: &str) -> RpcError {
    RpcError::new(code::VERIFY_ERROR, text)
}

/// What the mempool said, as Core passes it on.
fn refused(reject: &TxReject) -> RpcError {
    let code =
        if reject.class == TxClass::MissingInputs { code::VERIFY_ERROR } else { code::VERIFY_REJECTED };
    RpcError::new(code, reject.to_string())
}

/// Refuses a transaction that burns more than it may.
pub(super) fn check_burn(tx: &Transaction, max_burn: i64) -> Result<(), RpcError> {
    let max_burn = Amount::from_sat(max_burn.unsigned_abs());
    let burns = |output: &TxOut| {
        let script = &output.script_pubkey;
        (is_unspendable(script) || !has_valid_ops(script)) && output.value > max_burn
    };
    if tx.output.iter().any(burns) {
        return Err(transaction_error(
            "Unspendable output exceeds maximum configured by user (maxburnamount)",
        ));
    }
    Ok(())
}

async fn send(call: Call) -> RpcResult {
    let ctx = &call.ctx;
    let max_burn = if call.params.given(2) { amount_sats(call.params.value(2))? } else { 0 };
    let tx = Arc::new(decode_full(call.params.str(0)?)?);
    check_burn(&tx, max_burn)?;
    let rate = max_feerate(call.params.value(1))?;
    let max_fee = FeeRate::from_sat_per_kvb(rate).fee(tx.weight().to_vbytes_ceil());
    let txid = tx.compute_txid();
    let outputs = u32::try_from(tx.output.len()).unwrap_or(u32::MAX);
    let outpoints: Vec<OutPoint> = (0..outputs).map(|vout| OutPoint { txid, vout }).collect();
    let view = ctx.view();
    let known = tokio::task::spawn_blocking(move || view.coins(&outpoints).1.iter().any(Option::is_some));
    if known.await.map_err(|_| RpcError::internal("read failed"))? {
        return Err(RpcError::new(
            code::VERIFY_ALREADY_IN_UTXO_SET,
            "Transaction outputs already in utxo set",
        ));
    }
    if let Some(known) = ctx.mempool.tx(&txid) {
        // Here already, perhaps with another witness: announce it again.
        ctx.announce(txid, known.compute_wtxid());
        return Ok(txid.to_string().into());
    }
    if max_fee > 0 {
        let probe = SubmitTx { test_accept: true, ..SubmitTx::default() };
        let probed = ctx.mempool.submit_tx(Arc::clone(&tx), probe).await.map_err(|e| refused(&e))?;
        if probed.fee.to_sat() > max_fee {
            return Err(transaction_error(
                "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)",
            ));
        }
    }
    let how = SubmitTx { local: true, ..SubmitTx::default() };
    let accepted = ctx.mempool.submit_tx(tx, how).await.map_err(|reject| refused(&reject))?;
    ctx.announce(txid, accepted.wtxid);
    Ok(txid.to_string().into())
}
