//! Bitcoin Core's own script vectors, every flag set and every error name.

use std::io::Read as _;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::deserialize;
use bitcoin::key::UntweakedPublicKey;
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use ironpeer_script::{ScriptError, ScriptFlags, SpendContext, opcode_name, verify_input};
use serde_json::Value;

fn flags(text: &str) -> ScriptFlags {
    text.parse().unwrap()
}

/// The name Core's vectors give an error.
fn vector_name(result: Result<(), ScriptError>) -> &'static str {
    use ScriptError as E;
    let Err(error) = result else { return "OK" };
    match error {
        E::EvalFalse => "EVAL_FALSE",
        E::OpReturn => "OP_RETURN",
        E::ScriptSize => "SCRIPT_SIZE",
        E::PushSize => "PUSH_SIZE",
        E::OpCount => "OP_COUNT",
        E::StackSize => "STACK_SIZE",
        E::SigCount => "SIG_COUNT",
        E::PubkeyCount => "PUBKEY_COUNT",
        E::Verify => "VERIFY",
        E::EqualVerify => "EQUALVERIFY",
        E::CheckMultisigVerify => "CHECKMULTISIGVERIFY",
        E::CheckSigVerify => "CHECKSIGVERIFY",
        E::NumEqualVerify => "NUMEQUALVERIFY",
        E::BadOpcode => "BAD_OPCODE",
        E::DisabledOpcode => "DISABLED_OPCODE",
        E::InvalidStackOperation => "INVALID_STACK_OPERATION",
        E::InvalidAltstackOperation => "INVALID_ALTSTACK_OPERATION",
        E::UnbalancedConditional => "UNBALANCED_CONDITIONAL",
        E::NegativeLocktime => "NEGATIVE_LOCKTIME",
        E::UnsatisfiedLocktime => "UNSATISFIED_LOCKTIME",
        E::SigHashtype => "SIG_HASHTYPE",
        E::SigDer => "SIG_DER",
        E::MinimalData => "MINIMALDATA",
        E::SigPushOnly => "SIG_PUSHONLY",
        E::SigHighS => "SIG_HIGH_S",
        E::SigNullDummy => "SIG_NULLDUMMY",
        E::PubkeyType => "PUBKEYTYPE",
        E::CleanStack => "CLEANSTACK",
        E::MinimalIf => "MINIMALIF",
        E::SigNullFail => "NULLFAIL",
        E::DiscourageUpgradableNops => "DISCOURAGE_UPGRADABLE_NOPS",
        E::DiscourageUpgradableWitnessProgram => "DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM",
        E::DiscourageUpgradableTaprootVersion => "DISCOURAGE_UPGRADABLE_TAPROOT_VERSION",
        E::DiscourageOpSuccess => "DISCOURAGE_OP_SUCCESS",
        E::DiscourageUpgradablePubkeyType => "DISCOURAGE_UPGRADABLE_PUBKEYTYPE",
        E::WitnessProgramWrongLength => "WITNESS_PROGRAM_WRONG_LENGTH",
        E::WitnessProgramWitnessEmpty => "WITNESS_PROGRAM_WITNESS_EMPTY",
        E::WitnessProgramMismatch => "WITNESS_PROGRAM_MISMATCH",
        E::WitnessMalleated => "WITNESS_MALLEATED",
        E::WitnessMalleatedP2sh => "WITNESS_MALLEATED_P2SH",
        E::WitnessUnexpected => "WITNESS_UNEXPECTED",
        E::WitnessPubkeyType => "WITNESS_PUBKEYTYPE",
        E::SchnorrSigSize => "SCHNORR_SIG_SIZE",
        E::SchnorrSigHashtype => "SCHNORR_SIG_HASHTYPE",
        E::SchnorrSig => "SCHNORR_SIG",
        E::TaprootWrongControlSize => "TAPROOT_WRONG_CONTROL_SIZE",
        E::TapscriptValidationWeight => "TAPSCRIPT_VALIDATION_WEIGHT",
        E::TapscriptCheckMultisig => "TAPSCRIPT_CHECKMULTISIG",
        E::TapscriptMinimalIf => "TAPSCRIPT_MINIMALIF",
        E::TapscriptEmptyPubkey => "TAPSCRIPT_EMPTY_PUBKEY",
        E::OpCodeseparator => "OP_CODESEPARATOR",
        E::SigFindAndDelete => "SIG_FINDANDDELETE",
        E::ScriptNum => "SCRIPTNUM",
        E::Unknown => "UNKNOWN_ERROR",
    }
}

fn push_data(out: &mut Vec<u8>, data: &[u8]) {
    match data.len() {
        len @ 0..=75 => out.push(u8::try_from(len).unwrap()),
        len @ 76..=255 => out.extend([0x4c, u8::try_from(len).unwrap()]),
        len => {
            out.push(0x4d);
            out.extend(u16::try_from(len).unwrap().to_le_bytes());
        }
    }
    out.extend(data);
}

/// Core's notation for scripts in vectors (`ParseScript`).
fn parse(text: &str) -> ScriptBuf {
    let mut out = Vec::new();
    for word in text.split([' ', '\t', '\n']).filter(|word| !word.is_empty()) {
        if let Ok(number) = word.parse::<i64>() {
            match number {
                0 => out.push(0),
                -1 | 1..=16 => out.push(u8::try_from(0x50 + number).unwrap()),
                _ => {
                    let mut bytes = [0; 8];
                    let len = bitcoin::script::write_scriptint(&mut bytes, number);
                    push_data(&mut out, &bytes[..len]);
                }
            }
        } else if let Some(raw) = word.strip_prefix("0x") {
            out.extend(hex::decode(raw).unwrap());
        } else if let Some(quoted) = word.strip_prefix('\'') {
            push_data(&mut out, quoted.strip_suffix('\'').unwrap().as_bytes());
        } else {
            let code = (0x50..=0xba)
                .find(|code| {
                    let name = opcode_name(*code);
                    name == word || name.strip_prefix("OP_") == Some(word)
                })
                .or(match word {
                    "NOP2" => Some(0xb1),
                    "NOP3" => Some(0xb2),
                    _ => None,
                });
            out.push(code.unwrap_or_else(|| panic!("opcode {word}")));
        }
    }
    ScriptBuf::from_bytes(out)
}

fn crediting(script_pubkey: ScriptBuf, value: Amount) -> Transaction {
    Transaction {
        version: Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(vec![0, 0]),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value, script_pubkey }],
    }
}

fn spending(credit: &Transaction, script_sig: ScriptBuf, witness: Witness) -> Transaction {
    Transaction {
        version: Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: credit.compute_txid(), vout: 0 },
            script_sig,
            sequence: Sequence::MAX,
            witness,
        }],
        output: vec![TxOut { value: credit.output[0].value, script_pubkey: ScriptBuf::new() }],
    }
}

#[test]
fn script_tests_give_cores_error_names() {
    let vectors: Vec<Vec<Value>> =
        serde_json::from_str(&ironpeer_testkit::core_vectors("script_tests.json")).unwrap();
    let curve = Secp256k1::new();
    let mut secret = [0; 32];
    secret[31] = 1;
    let internal = UntweakedPublicKey::from(SecretKey::from_slice(&secret).unwrap().public_key(&curve));
    let mut run = 0;
    for vector in vectors.iter().filter(|vector| vector.len() > 1) {
        let mut rest = vector.as_slice();
        let mut witness = Vec::new();
        let mut value = Amount::ZERO;
        let mut output_key = None;
        if let Some((amount, items)) = rest[0].as_array().and_then(|list| list.split_last()) {
            rest = &rest[1..];
            value = Amount::from_btc(amount.as_f64().unwrap()).unwrap();
            for item in items.iter().map(|item| item.as_str().unwrap()) {
                if let Some(script) = item.strip_prefix("#SCRIPT#") {
                    witness.push(parse(script).into_bytes());
                } else if item == "#CONTROLBLOCK#" {
                    let script = ScriptBuf::from_bytes(witness.last().unwrap().clone());
                    let tree = TaprootBuilder::new().add_leaf(0, script.clone()).unwrap();
                    let spend = tree.finalize(&curve, internal).unwrap();
                    output_key = Some(spend.output_key());
                    witness.push(spend.control_block(&(script, LeafVersion::TapScript)).unwrap().serialize());
                } else {
                    witness.push(hex::decode(item).unwrap());
                }
            }
        }
        let text = |index: usize| rest[index].as_str().unwrap();
        let script_sig = parse(text(0));
        let script_pubkey = if text(1) == "0x51 0x20 #TAPROOTOUTPUT#" {
            let key = output_key.unwrap().serialize();
            bitcoin::script::Builder::new().push_opcode(OP_PUSHNUM_1).push_slice(key).into_script()
        } else {
            parse(text(1))
        };
        let mut flags = flags(text(2));
        if flags.contains(ScriptFlags::CLEANSTACK) {
            flags |= ScriptFlags::P2SH | ScriptFlags::WITNESS;
        }
        let credit = crediting(script_pubkey, value);
        let tx = spending(&credit, script_sig, Witness::from_slice(&witness));
        let mut context = SpendContext::new(&tx, &credit.output).unwrap();
        assert_eq!(vector_name(verify_input(&mut context, 0, flags)), text(3), "{vector:?}");
        run += 1;
    }
    assert!(run > 1_200, "only {run} vectors");
}

#[test]
fn taproot_assets_pass_and_fail_as_in_core() {
    let file = std::fs::File::open(ironpeer_testkit::testdata("taproot_script_assets.json.gz")).unwrap();
    let mut json = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut json).unwrap();
    let vectors: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert!(vectors.len() > 2_000);
    for vector in &vectors {
        let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
        let mut tx: Transaction = deserialize(&bytes(&vector["tx"])).unwrap();
        let spent: Vec<TxOut> = vector["prevouts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|output| deserialize(&bytes(output)).unwrap())
            .collect();
        let index = usize::try_from(vector["index"].as_u64().unwrap()).unwrap();
        let flags = flags(vector["flags"].as_str().unwrap());
        for (name, accepted) in [("success", true), ("failure", false)] {
            let Some(side) = vector.get(name) else { continue };
            tx.input[index].script_sig = ScriptBuf::from_bytes(bytes(&side["scriptSig"]));
            let witness: Vec<Vec<u8>> = side["witness"].as_array().unwrap().iter().map(bytes).collect();
            tx.input[index].witness = Witness::from_slice(&witness);
            let mut context = SpendContext::new(&tx, &spent).unwrap();
            let result = verify_input(&mut context, index, flags);
            assert_eq!(result.is_ok(), accepted, "{name}: {result:?}: {}", vector["comment"]);
        }
    }
}
