//! Addresses, descriptors and signed messages (`rpc/output_script.cpp`, `rpc/signmessage.cpp`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use bitcoin::secp256k1::{Message, Secp256k1};
use bitcoin::sign_message::signed_msg_hash;
use bitcoin::{Network, NetworkKind, PrivateKey, PublicKey, ScriptBuf};
use ironpeer_script::{Solution, solve};
use serde_json::Value;

use crate::address;
use crate::call::{Call, Params, text};
use crate::context::ApiContext;
use crate::descriptor::{ParsedDescriptor, parse_all, parse_range, with_checksum};
use crate::error::{RpcError, RpcResult};
use crate::json::Object;
use crate::table::{Arg, Kind, Method, method};

/// Keys of a multisig script at most (`MAX_PUBKEYS_PER_MULTISIG`).
const MULTISIG_KEYS: usize = 20;
/// Longest redeem script (`MAX_SCRIPT_ELEMENT_SIZE`).
const REDEEM_SCRIPT_MAX: usize = 520;

pub(crate) static METHODS: &[Method] = &[
    method!(
        "util",
        "createmultisig",
        [
            Arg::req("nrequired", Kind::Num, "Signatures needed"),
            Arg::req("keys", Kind::Arr, "Public keys in hex").usage("[\"key\",...]"),
            Arg::def("address_type", Kind::Str, "\"legacy\"", "legacy, p2sh-segwit or bech32"),
        ],
        "The address and script that ask for some of several keys' signatures.",
        create_multisig
    ),
    method!(
        "util",
        "deriveaddresses",
        [
            Arg::req("descriptor", Kind::Str, "The descriptor, with checksum"),
            Arg::opt("range", Kind::Range, "End, or [begin,end], of a ranged descriptor"),
        ],
        "The addresses a descriptor stands for.",
        derive_addresses
    ),
    method!(
        "util",
        "getdescriptorinfo",
        [Arg::req("descriptor", Kind::Str, "The descriptor")],
        "What a descriptor is, and its checksum.",
        descriptor_info
    ),
    method!(
        "util",
        "getindexinfo",
        [Arg::opt("index_name", Kind::Str, "Only this index")],
        "The indexes of this node and how far they are.",
        index_info
    ),
    method!(
        "util",
        "signmessagewithprivkey",
        [Arg::req("privkey", Kind::Str, "The private key"), Arg::req("message", Kind::Str, "The message"),],
        "Signs a message with a private key.",
        sign_message
    ),
    method!(
        "util",
        "validateaddress",
        [Arg::req("address", Kind::Str, "The address")],
        "Whether a text is an address of this network, and which script it stands for.",
        validate_address
    ),
    method!(
        "util",
        "verifymessage",
        [
            Arg::req("address", Kind::Str, "The address whose key signed"),
            Arg::req("signature", Kind::Str, "The signature in base 64"),
            Arg::req("message", Kind::Str, "The message"),
        ],
        "Whether a message was signed by an address's key.",
        verify_message
    ),
];

async fn validate_address(call: Call) -> RpcResult {
    Ok(address::validate(call.params.str(0)?, call.ctx.network()))
}

/// A public key in hex (Core's `HexToPubKey`).
fn public_key(hex_in: &str) -> Result<PublicKey, RpcError> {
    let bytes = hex::decode(hex_in).ok().filter(|bytes| !bytes.is_empty());
    let Some(bytes) = bytes else {
        return Err(RpcError::unknown(format!("Pubkey \"{hex_in}\" must be a hex string")));
    };
    if bytes.len() != 33 && bytes.len() != 65 {
        return Err(RpcError::unknown(format!(
            "Pubkey \"{hex_in}\" must have a length of either 33 or 65 bytes"
        )));
    }
    PublicKey::from_slice(&bytes)
        .map_err(|_| RpcError::unknown(format!("Pubkey \"{hex_in}\" must be cryptographically valid.")))
}

fn multisig_script(required: u8, keys: &[PublicKey]) -> ScriptBuf {
    let small = |n: usize| i64::try_from(n).unwrap_or(0);
    let mut script = bitcoin::script::Builder::new().push_int(i64::from(required));
    for key in keys {
        script = script.push_key(key);
    }
    script.push_int(small(keys.len())).push_opcode(bitcoin::opcodes::all::OP_CHECKMULTISIG).into_script()
}

async fn create_multisig(call: Call) -> RpcResult {
    let required = call.params.int(0)?;
    let keys: Vec<PublicKey> =
        call.params.array(1)?.iter().map(|key| public_key(text(key)?)).collect::<Result<_, RpcError>>()?;
    let asked = call.params.opt_str(2)?.unwrap_or("legacy");
    match asked {
        "legacy" | "p2sh-segwit" | "bech32" => {}
        "bech32m" => {
            return Err(RpcError::unknown("createmultisig cannot create bech32m multisig addresses"));
        }
        other => return Err(RpcError::unknown(format!("Unknown address type '{other}'"))),
    }
    if required < 1 {
        return Err(RpcError::parameter("a multisignature address must require at least one key to redeem"));
    }
    let needed = usize::try_from(required).unwrap_or(usize::MAX);
    if keys.len() < needed {
        return Err(RpcError::parameter(format!(
            "not enough keys supplied (got {} keys, but need at least {required} to redeem)",
            keys.len()
        )));
    }
    if keys.len() > MULTISIG_KEYS {
        return Err(RpcError::parameter(format!(
            "Number of keys involved in the multisignature address creation > {MULTISIG_KEYS}\nReduce the number"
        )));
    }
    let inner = multisig_script(u8::try_from(required).unwrap_or(0), &keys);
    let kind = if keys.iter().all(|key| key.compressed) { asked } else { "legacy" };
    if kind == "legacy" && inner.len() > REDEEM_SCRIPT_MAX {
        return Err(RpcError::parameter(format!(
            "redeemScript exceeds size limit: {} > {REDEEM_SCRIPT_MAX}",
            inner.len()
        )));
    }
    let hexes: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let multi = format!("multi({required},{})", hexes.join(","));
    let (script, payload) = match kind {
        "bech32" => (inner.to_p2wsh(), format!("wsh({multi})")),
        "p2sh-segwit" => (inner.to_p2wsh().to_p2sh(), format!("sh(wsh({multi}))")),
        _ => (inner.to_p2sh(), format!("sh({multi})")),
    };
    let mut out = Object::new();
    out.push("address", address::of_script(&script, call.ctx.network()));
    out.push("redeemScript", hex::encode(inner.as_bytes()));
    out.push("descriptor", with_checksum(&payload));
    if kind != asked {
        out.push(
            "warnings",
            vec![Value::from(
                "Unable to make chosen address type, please ensure no uncompressed public keys are present.",
            )],
        );
    }
    Ok(out.into())
}

fn parse_descriptors(
    params: &Params,
    ctx: &ApiContext,
    checksum: bool,
) -> Result<Vec<ParsedDescriptor>, RpcError> {
    parse_all(params.str(0)?, ctx.network(), checksum, &Secp256k1::new()).map_err(RpcError::unknown)
}

async fn descriptor_info(call: Call) -> RpcResult {
    let all = parse_descriptors(&call.params, &call.ctx, false)?;
    let Some(first) = all.first() else { return Err(RpcError::internal("no descriptor")) };
    let payload = call.params.str(0)?.split('#').next().unwrap_or("");
    let mut out = Object::new();
    out.push("descriptor", first.public());
    if all.len() > 1 {
        out.push("multipath_expansion", all.iter().map(|one| Value::from(one.public())).collect::<Vec<_>>());
    }
    out.push("checksum", with_checksum(payload).rsplit('#').next().unwrap_or(""));
    out.push("isrange", first.is_range());
    out.push("issolvable", first.is_solvable());
    out.push("hasprivatekeys", all.iter().any(ParsedDescriptor::has_private_keys));
    Ok(out.into())
}

fn addresses(parsed: &ParsedDescriptor, range: (u32, u32), network: Network) -> RpcResult {
    let secp = Secp256k1::new();
    let mut addresses: Vec<Value> = Vec::new();
    for index in range.0..=range.1 {
        for script in parsed.scripts(index, &secp)? {
            match address::of_script(&script, network) {
                Some(address) => addresses.push(address.into()),
                None if parsed.is_combo() => {}
                None => return Err(RpcError::unknown("Descriptor does not have a corresponding address")),
            }
        }
    }
    Ok(addresses.into())
}

async fn derive_addresses(call: Call) -> RpcResult {
    let range = if call.params.given(1) { parse_range(call.params.value(1))? } else { (0, 0) };
    let all = parse_descriptors(&call.params, &call.ctx, true)?;
    let ranged = all.first().is_some_and(ParsedDescriptor::is_range);
    if !ranged && call.params.values.len() > 1 {
        return Err(RpcError::parameter("Range should not be specified for an un-ranged descriptor"));
    }
    if ranged && call.params.values.len() == 1 {
        return Err(RpcError::parameter("Range must be specified for a ranged descriptor"));
    }
    let network = call.ctx.network();
    // A range may hold a million keys.
    let derived = tokio::task::spawn_blocking(move || {
        let lists = all.iter().map(|parsed| addresses(parsed, range, network));
        let mut lists = lists.collect::<Result<Vec<_>, RpcError>>()?;
        Ok(if lists.len() == 1 { lists.swap_remove(0) } else { lists.into() })
    });
    derived.await.map_err(|_| RpcError::internal("derivation failed"))?
}

/// No index is built by this node yet, so the list is empty, as Core's is without any.
async fn index_info(call: Call) -> RpcResult {
    let only = call.params.opt_str(0)?.unwrap_or("");
    let mut out = Object::new();
    for index in
        call.ctx.indexes.handles().into_iter().filter(|index| only.is_empty() || index.name() == only)
    {
        let status = index.status();
        let mut state = Object::new();
        state.push("synced", status.synced);
        state.push("best_block_height", status.tip.map_or(0, |tip| tip.height.0));
        out.push(index.name(), Value::from(state));
    }
    Ok(out.into())
}

/// A private key of this network (Core's `DecodeSecret`).
pub(crate) fn private_key(wif: &str, ctx: &ApiContext) -> Option<PrivateKey> {
    PrivateKey::from_wif(wif).ok().filter(|key| key.network == NetworkKind::from(ctx.network()))
}

fn message_to_sign(message: &str) -> Message {
    Message::from_digest(signed_msg_hash(message).to_byte_array())
}

async fn sign_message(call: Call) -> RpcResult {
    let key = private_key(call.params.str(0)?, &call.ctx)
        .ok_or_else(|| RpcError::unknown("Invalid private key"))?;
    let message = message_to_sign(call.params.str(1)?);
    let signature = Secp256k1::signing_only().sign_ecdsa_recoverable(&message, &key.inner);
    let (recovery, compact) = signature.serialize_compact();
    // The first byte says which of four keys signed, and whether it is compressed.
    let header = 27 + u8::try_from(recovery.to_i32()).unwrap_or(0) + if key.compressed { 4 } else { 0 };
    let mut bytes = vec![header];
    bytes.extend(compact);
    Ok(STANDARD.encode(bytes).into())
}

/// The key that made a signature with its recovery byte.
fn recovered(signature: &[u8], message: &str) -> Option<PublicKey> {
    let (header, compact) = signature.split_first()?;
    let header = header.checked_sub(27)?;
    let recovery = RecoveryId::from_i32(i32::from(header & 3)).ok()?;
    let signature = RecoverableSignature::from_compact(compact, recovery).ok()?;
    let message = message_to_sign(message);
    let inner = Secp256k1::verification_only().recover_ecdsa(&message, &signature).ok()?;
    Some(PublicKey { compressed: header & 4 != 0, inner })
}

async fn verify_message(call: Call) -> RpcResult {
    let script = address::decode(call.params.str(0)?, call.ctx.network())
        .map_err(|_| RpcError::unknown("Invalid address"))?;
    let Solution::PubKeyHash(hash) = solve(&script) else {
        return Err(RpcError::wrong_type("Address does not refer to key"));
    };
    let signature = STANDARD
        .decode(call.params.str(1)?)
        .map_err(|_| RpcError::wrong_type("Malformed base64 encoding"))?;
    let signed = recovered(&signature, call.params.str(2)?).is_some_and(|key| {
        let known: [u8; 20] = key.pubkey_hash().to_byte_array();
        known == hash
    });
    Ok(signed.into())
}
