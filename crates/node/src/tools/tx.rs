//! `ironpeer-tx`: makes, changes and signs transactions, command by command (as `bitcoin-tx`).

use std::collections::HashMap;
use std::io::Read;
use std::process::ExitCode;
use std::str::FromStr;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_CHECKSIG, OP_RETURN};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Network, NetworkKind, OutPoint, PrivateKey, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    WPubkeyHash, Witness, secp256k1,
};
use ironpeer_api::{json, offline};
use ironpeer_script::{MAX_SCRIPT_SIZE, asm, parse_script};
use serde_json::Value;

use super::{about, failed, help_requested, print, read_options};
use crate::args::options::Effect::Acts;
use crate::args::options::Group::{Commands, Hidden, Options, RegisterCommands};
use crate::args::options::{Opt, opt};
use crate::config::{self, parse_money};
use crate::init::integral;

/// Highest version relayed (Core's `TX_MAX_STANDARD_VERSION`).
const MAX_VERSION: i32 = 3;
/// Highest output index a block's weight leaves room for: an output takes nine bytes at least.
const MAX_VOUT: u32 = 4_000_000 / (4 * 9);
/// Highest sequence number that signals replaceability (BIP125).
const MAX_REPLACEABLE: u32 = 0xffff_fffd;
/// Most keys of a bare multisig script.
const MAX_MULTISIG_KEYS: u32 = 20;
/// Longest script that can be pushed, as a P2SH redeem script must be.
const MAX_ELEMENT: usize = 520;

/// The tool's own options and commands.
pub const OPTIONS: &[Opt] = &[
    opt("help", "", Options, 0, Acts, "Print this text and exit (also -h or -?)"),
    opt("help-debug", "", Options, 0, Acts, "Print the help with the options for debugging and exit"),
    opt("h", "", Hidden, 0, Acts, ""),
    opt("?", "", Hidden, 0, Acts, ""),
    opt("version", "", Options, 0, Acts, "Print the version and exit"),
    opt("create", "", Options, 0, Acts, "Begin with an empty transaction"),
    opt("json", "", Options, 0, Acts, "Print the transaction taken apart, as JSON"),
    opt("txid", "", Options, 0, Acts, "Print only the transaction's id"),
    opt("delin", "=N", Commands, 0, Acts, "Remove input N"),
    opt("delout", "=N", Commands, 0, Acts, "Remove output N"),
    opt("in", "=TXID:VOUT(:SEQUENCE_NUMBER)", Commands, 0, Acts, "Add an input"),
    opt("locktime", "=N", Commands, 0, Acts, "Set the lock time"),
    opt("nversion", "=N", Commands, 0, Acts, "Set the version"),
    opt("outaddr", "=VALUE:ADDRESS", Commands, 0, Acts, "Add an output to an address"),
    opt("outdata", "=[VALUE:]DATA", Commands, 0, Acts, "Add an output that carries data"),
    opt(
        "outmultisig",
        "=VALUE:REQUIRED:PUBKEYS:PUBKEY1:PUBKEY2:....[:FLAGS]",
        Commands,
        0,
        Acts,
        "Add an output that REQUIRED of PUBKEYS keys can spend; W makes it P2WSH, S wraps it in P2SH",
    ),
    opt(
        "outpubkey",
        "=VALUE:PUBKEY[:FLAGS]",
        Commands,
        0,
        Acts,
        "Add an output to a key; W makes it P2WPKH, S wraps it in P2SH",
    ),
    opt(
        "outscript",
        "=VALUE:SCRIPT[:FLAGS]",
        Commands,
        0,
        Acts,
        "Add an output with a script; W makes it P2WSH, S wraps it in P2SH",
    ),
    opt("replaceable", "(=N)", Commands, 0, Acts, "Let the transaction be replaced, by input N or by all"),
    opt(
        "sign",
        "=SIGHASH-FLAGS",
        Commands,
        0,
        Acts,
        "Sign with the keys of register privatekeys what the coins of register prevtxs need",
    ),
    opt("load", "=NAME:FILENAME", RegisterCommands, 0, Acts, "Put the JSON of a file into a register"),
    opt("set", "=NAME:JSON-STRING", RegisterCommands, 0, Acts, "Put JSON into a register"),
];

const USAGE: &str = "Makes and changes Bitcoin transactions.\n\n\
    Usage: ironpeer-tx [options] <hex-tx> [commands]\n\
    or:    ironpeer-tx [options] -create [commands]\n";

/// Runs the tool with the words after its name.
#[must_use]
pub fn run(words: &[String]) -> ExitCode {
    let args = match read_options(OPTIONS, words) {
        Ok(args) => args,
        Err(error) => return failed(&error),
    };
    let network = match config::params(&args) {
        Ok(params) => params.network,
        Err(error) => return failed(&format!("Error: {error}")),
    };
    if words.is_empty() || help_requested(&args) || args.bool("version") == Some(true) {
        print(&about(&args, "bitcoin-tx", USAGE));
        return if words.is_empty() { failed("Error: too few parameters") } else { ExitCode::SUCCESS };
    }
    // What follows the switches; a lone dash stands for standard input.
    let switches = words.iter().take_while(|word| word.starts_with('-') && word.len() > 1).count();
    let tool = Tool { network, registers: HashMap::new() };
    match tool.transaction(words.get(switches..).unwrap_or_default(), args.bool("create") == Some(true)) {
        Ok(tx) => {
            let text = if args.bool("json") == Some(true) {
                json::pretty(&offline::transaction_json(&tx, network), 4)
            } else if args.bool("txid") == Some(true) {
                tx.compute_txid().to_string()
            } else {
                offline::transaction_hex(&tx)
            };
            print(&format!("{text}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&format!("error: {error}")),
    }
}

fn fail<T>(text: impl Into<String>) -> Result<T, String> {
    Err(text.into())
}

/// The tool at work.
struct Tool {
    network: Network,
    /// JSON by name, for the commands that need more than a line.
    registers: HashMap<String, Value>,
}

impl Tool {
    fn transaction(mut self, words: &[String], create: bool) -> Result<Transaction, String> {
        let (mut tx, commands) = if create {
            let (input, output) = (Vec::new(), Vec::new());
            (Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output }, words)
        } else {
            let (first, commands) = words.split_first().ok_or("too few parameters")?;
            let text = if first == "-" { read_stdin()? } else { first.clone() };
            (offline::decode_transaction(&text).ok_or("invalid transaction encoding")?, commands)
        };
        for word in commands {
            let (command, value) = word.split_once('=').unwrap_or((word, ""));
            self.change(&mut tx, command, value)?;
        }
        Ok(tx)
    }

    fn change(&mut self, tx: &mut Transaction, command: &str, value: &str) -> Result<(), String> {
        match command {
            "nversion" => set_version(tx, value),
            "locktime" => set_lock_time(tx, value),
            "replaceable" => set_replaceable(tx, value),
            "delin" => {
                tx.input.remove(index(value, tx.input.len(), "input")?);
                Ok(())
            }
            "in" => add_input(tx, value),
            "delout" => {
                tx.output.remove(index(value, tx.output.len(), "output")?);
                Ok(())
            }
            "outaddr" => self.add_address(tx, value),
            "outpubkey" => add_key(tx, value),
            "outmultisig" => add_multisig(tx, value),
            "outscript" => add_script(tx, value),
            "outdata" => add_data(tx, value),
            "sign" => self.sign(tx, value),
            "load" => self.load(value),
            "set" => self.set(value),
            _ => fail("unknown command"),
        }
    }

    fn add_address(&self, tx: &mut Transaction, value: &str) -> Result<(), String> {
        let parts: Vec<&str> = value.split(':').collect();
        let [coins, address] = *parts else { return fail("TX output missing or too many separators") };
        let coins = amount(coins)?;
        let script = offline::address_script(address, self.network).ok_or("invalid TX output address")?;
        tx.output.push(TxOut { value: coins, script_pubkey: script });
        Ok(())
    }

    fn load(&mut self, value: &str) -> Result<(), String> {
        let (name, path) = named(value).ok_or("Register load requires NAME:FILENAME")?;
        let mut file = std::fs::File::open(path).map_err(|_| format!("Cannot open file {path}"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|_| format!("Error reading file {path}"))?;
        self.register(name, &bytes)
    }

    fn set(&mut self, value: &str) -> Result<(), String> {
        let (name, text) = named(value).ok_or("Register input requires NAME:VALUE")?;
        self.register(name, text.as_bytes())
    }

    fn register(&mut self, name: &str, text: &[u8]) -> Result<(), String> {
        let value = json::parse(text).ok_or_else(|| format!("Cannot parse JSON for key {name}"))?;
        self.registers.insert(name.to_owned(), value);
        Ok(())
    }

    /// The members of a register that holds a list.
    fn list(&self, name: &str) -> Result<&[Value], String> {
        match self.registers.get(name) {
            None => fail(format!("{name} register variable must be set.")),
            Some(Value::Array(values)) => Ok(values),
            Some(_) => Ok(&[]),
        }
    }

    fn sign(&self, tx: &mut Transaction, flag: &str) -> Result<(), String> {
        let hash_type = match flag {
            // Without taproot the default is to cover everything.
            "" | "ALL" | "DEFAULT" => EcdsaSighashType::All,
            "NONE" => EcdsaSighashType::None,
            "SINGLE" => EcdsaSighashType::Single,
            "ALL|ANYONECANPAY" => EcdsaSighashType::AllPlusAnyoneCanPay,
            "NONE|ANYONECANPAY" => EcdsaSighashType::NonePlusAnyoneCanPay,
            "SINGLE|ANYONECANPAY" => EcdsaSighashType::SinglePlusAnyoneCanPay,
            _ => return fail("unknown sighash flag/sign option"),
        };
        let mut keys = Vec::new();
        for key in self.list("privatekeys")? {
            let Value::String(wif) = key else { return fail("privatekey not a std::string") };
            let key = PrivateKey::from_wif(wif)
                .ok()
                .filter(|key| key.network == NetworkKind::from(self.network))
                .ok_or("privatekey not valid")?;
            keys.push(key);
        }
        let mut coins = HashMap::new();
        let mut scripts = Vec::new();
        for entry in self.list("prevtxs")? {
            let (outpoint, coin, redeem) = coin(entry, &coins)?;
            coins.insert(outpoint, coin);
            scripts.extend(redeem);
        }
        for index in offline::sign(tx, keys, scripts, &coins, hash_type) {
            let Some(input) = tx.input.get(index) else { continue };
            if let Some(coin) = coins.get(&input.previous_output)
                && coin.value == Amount::MAX_MONEY
                && !input.witness.is_empty()
            {
                return fail(format!(
                    "Missing amount for CTxOut with scriptPubKey={}",
                    hex::encode(coin.script_pubkey.as_bytes())
                ));
            }
        }
        Ok(())
    }
}

/// A member of register `prevtxs`: the coin, and the script that unlocks it.
fn coin(
    entry: &Value,
    known: &HashMap<OutPoint, TxOut>,
) -> Result<(OutPoint, TxOut, Option<ScriptBuf>), String> {
    let Value::Object(entry) = entry else { return fail("expected prevtxs internal object") };
    let (Some(Value::String(txid)), Some(Value::Number(vout)), Some(Value::String(_))) =
        (entry.get("txid"), entry.get("vout"), entry.get("scriptPubKey"))
    else {
        return fail("prevtxs internal object typecheck fail");
    };
    let txid = parse_txid(txid).ok_or_else(|| format!("txid must be hexadecimal string (not '{txid}')"))?;
    let vout = vout.as_i64().and_then(|vout| i32::try_from(vout).ok()).ok_or("JSON integer out of range")?;
    let vout = u32::try_from(vout).map_err(|_| "vout cannot be negative")?;
    let script_pubkey = hex_member(entry, "scriptPubKey")?;
    let outpoint = OutPoint { txid, vout };
    if let Some(before) = known.get(&outpoint)
        && before.script_pubkey != script_pubkey
    {
        return fail(format!(
            "Previous output scriptPubKey mismatch:\n{}\nvs:\n{}",
            asm(&before.script_pubkey, false),
            asm(&script_pubkey, false)
        ));
    }
    let value = match entry.get("amount") {
        Some(value) => Amount::from_sat(offline::amount(value)?),
        None => Amount::MAX_MONEY,
    };
    let locked = script_pubkey.is_p2sh() || script_pubkey.is_p2wsh();
    let redeem = if locked && entry.contains_key("redeemScript") {
        Some(hex_member(entry, "redeemScript")?)
    } else {
        None
    };
    Ok((outpoint, TxOut { value, script_pubkey }, redeem))
}

fn hex_member(entry: &serde_json::Map<String, Value>, name: &str) -> Result<ScriptBuf, String> {
    let text = entry.get(name).and_then(Value::as_str).unwrap_or_default();
    hex::decode(text)
        .ok()
        .filter(|bytes| !bytes.is_empty())
        .map(ScriptBuf::from_bytes)
        .ok_or_else(|| format!("{name} must be hexadecimal string (not '{text}')"))
}

fn read_stdin() -> Result<String, String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|_| "error reading stdin")?;
    Ok(text.trim().to_owned())
}

/// `NAME:VALUE`, neither empty.
fn named(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(name, value)| !name.is_empty() && !value.is_empty())
}

fn parse_txid(text: &str) -> Option<Txid> {
    (text.len() == 64).then(|| Txid::from_str(text).ok()).flatten()
}

fn amount(text: &str) -> Result<Amount, String> {
    parse_money(text).map(Amount::from_sat).ok_or_else(|| "invalid TX output value".to_owned())
}

/// A number between blanks.
fn trimmed(text: &str, error: &str) -> Result<u32, String> {
    let blanks = [' ', '\x0c', '\n', '\r', '\t', '\x0b'];
    integral(text.trim_matches(blanks)).ok_or_else(|| format!("{error} '{text}'"))
}

/// A place in a list of `length`.
fn index(text: &str, length: usize, what: &str) -> Result<usize, String> {
    integral::<u32>(text)
        .map(|index| index as usize)
        .filter(|index| *index < length)
        .ok_or_else(|| format!("Invalid TX {what} index '{text}'"))
}

fn set_version(tx: &mut Transaction, value: &str) -> Result<(), String> {
    let version = integral(value)
        .filter(|version| (1..=MAX_VERSION).contains(version))
        .ok_or_else(|| format!("Invalid TX version requested: '{value}'"))?;
    tx.version = Version(version);
    Ok(())
}

fn set_lock_time(tx: &mut Transaction, value: &str) -> Result<(), String> {
    let time = integral(value).ok_or_else(|| format!("Invalid TX locktime requested: '{value}'"))?;
    tx.lock_time = LockTime::from_consensus(time);
    Ok(())
}

fn set_replaceable(tx: &mut Transaction, value: &str) -> Result<(), String> {
    let only = if value.is_empty() { None } else { Some(index(value, tx.input.len(), "input")?) };
    for (index, input) in tx.input.iter_mut().enumerate() {
        if only.is_none_or(|only| only == index) {
            input.sequence = Sequence(input.sequence.0.min(MAX_REPLACEABLE));
        }
    }
    Ok(())
}

fn add_input(tx: &mut Transaction, value: &str) -> Result<(), String> {
    let parts: Vec<&str> = value.split(':').collect();
    let [txid, vout, rest @ ..] = parts.as_slice() else { return fail("TX input missing separator") };
    let txid = parse_txid(txid).ok_or("invalid TX input txid")?;
    let vout = integral::<u32>(vout)
        .filter(|vout| *vout <= MAX_VOUT)
        .ok_or_else(|| format!("invalid TX input vout '{vout}'"))?;
    let sequence = match rest.first() {
        Some(number) => Sequence(trimmed(number, "invalid TX sequence id")?),
        None => Sequence::MAX,
    };
    tx.input.push(TxIn {
        previous_output: OutPoint { txid, vout },
        script_sig: ScriptBuf::new(),
        sequence,
        witness: Witness::new(),
    });
    Ok(())
}

/// A public key's bytes, if they name a point of the curve.
fn public_key(text: &str) -> Result<Vec<u8>, String> {
    hex::decode(text)
        .ok()
        .filter(|bytes| secp256k1::PublicKey::from_slice(bytes).is_ok())
        .ok_or_else(|| "invalid TX output pubkey".to_owned())
}

fn only_compressed(key: &[u8]) -> Result<(), String> {
    if key.len() == secp256k1::constants::PUBLIC_KEY_SIZE {
        return Ok(());
    }
    fail("Uncompressed pubkeys are not useable for SegWit outputs")
}

fn push(bytes: Vec<u8>) -> Result<PushBytesBuf, String> {
    PushBytesBuf::try_from(bytes).map_err(|error| error.to_string())
}

/// What the flags after an output make of its script: `W` its witness form, `S` P2SH around that.
fn wrapped(
    script: ScriptBuf,
    flags: Option<&&str>,
    witness_form: impl FnOnce(&ScriptBuf) -> Result<ScriptBuf, String>,
) -> Result<ScriptBuf, String> {
    let has = |flag: char| flags.is_some_and(|flags| flags.contains(flag));
    let script = if has('W') { witness_form(&script)? } else { script };
    if !has('S') {
        return Ok(script);
    }
    if script.len() > MAX_ELEMENT {
        return fail(format!("redeemScript exceeds size limit: {} > {MAX_ELEMENT}", script.len()));
    }
    Ok(script.to_p2sh())
}

fn add_key(tx: &mut Transaction, value: &str) -> Result<(), String> {
    let parts: Vec<&str> = value.split(':').collect();
    let ([coins, key] | [coins, key, _]) = *parts else {
        return fail("TX output missing or too many separators");
    };
    let coins = amount(coins)?;
    let key = public_key(key)?;
    let bare = Builder::new().push_slice(push(key.clone())?).push_opcode(OP_CHECKSIG).into_script();
    let script_pubkey = wrapped(bare, parts.get(2), |_| {
        only_compressed(&key)?;
        Ok(ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(&key)))
    })?;
    tx.output.push(TxOut { value: coins, script_pubkey });
    Ok(())
}

fn add_multisig(tx: &mut Transaction, value: &str) -> Result<(), String> {
    let parts: Vec<&str> = value.split(':').collect();
    let [coins, required, total, rest @ ..] = parts.as_slice() else {
        return fail("Not enough multisig parameters");
    };
    let coins = amount(coins)?;
    let required = trimmed(required, "invalid multisig required number")?;
    let total = trimmed(total, "invalid multisig total number")?;
    if (rest.len() as u64) < u64::from(total) {
        return fail("incorrect number of multisig pubkeys");
    }
    if required < 1 || !(1..=MAX_MULTISIG_KEYS).contains(&total) || total < required {
        return fail(format!("multisig parameter mismatch. Required {required} of {total}signatures."));
    }
    let (keys, flags) = rest.split_at(total as usize);
    let keys = keys.iter().map(|key| public_key(key)).collect::<Result<Vec<_>, _>>()?;
    if flags.len() > 1 {
        return fail("Too many parameters");
    }
    let mut bare = Builder::new().push_int(i64::from(required));
    for key in &keys {
        bare = bare.push_slice(push(key.clone())?);
    }
    let bare = bare.push_int(i64::from(total)).push_opcode(OP_CHECKMULTISIG).into_script();
    let script_pubkey = wrapped(bare, flags.first(), |script| {
        keys.iter().try_for_each(|key| only_compressed(key))?;
        Ok(script.to_p2wsh())
    })?;
    tx.output.push(TxOut { value: coins, script_pubkey });
    Ok(())
}

fn add_script(tx: &mut Transaction, value: &str) -> Result<(), String> {
    let parts: Vec<&str> = value.split(':').collect();
    let [coins, text, rest @ ..] = parts.as_slice() else { return fail("TX output missing separator") };
    let coins = amount(coins)?;
    let script = parse_script(text).map_err(|error| error.to_string())?;
    if script.len() > MAX_SCRIPT_SIZE {
        return fail(format!("script exceeds size limit: {} > {MAX_SCRIPT_SIZE}", script.len()));
    }
    // Flags count only where nothing follows them.
    let flags = rest.first().filter(|_| rest.len() == 1);
    let script_pubkey = wrapped(script, flags, |script| Ok(script.to_p2wsh()))?;
    tx.output.push(TxOut { value: coins, script_pubkey });
    Ok(())
}

fn add_data(tx: &mut Transaction, value: &str) -> Result<(), String> {
    let (coins, data) = match value.split_once(':') {
        Some(("", _)) => return fail("TX output value not specified"),
        Some((coins, data)) => (amount(coins)?, data),
        None => (Amount::ZERO, value),
    };
    let data = hex::decode(data).ok().filter(|data| !data.is_empty()).ok_or("invalid TX output data")?;
    let script_pubkey = Builder::new().push_opcode(OP_RETURN).push_slice(push(data)?).into_script();
    tx.output.push(TxOut { value: coins, script_pubkey });
    Ok(())
}

#[cfg(test)]
#[path = "tx_tests.rs"]
mod tests;
