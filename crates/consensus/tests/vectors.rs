//! Core's script and transaction vectors and the taproot script assets, through the kernel.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use ironpeer_consensus::{
    ScriptCache, ScriptFailure, ScriptFlags, SeamError, TxScriptCheck, check_transaction, decode_tx,
};
use ironpeer_testkit::{core_vectors, testdata, vector_script};
use serde_json::Value;

/// The consensus rules among the names, and whether there were only such.
fn parse_flags(text: &str) -> (ScriptFlags, bool) {
    let all: ScriptFlags = text.parse().unwrap();
    let policy = all.without(ScriptFlags::MANDATORY);
    (all.without(policy), policy == ScriptFlags::NONE)
}

fn verify(tx: Transaction, spent: Vec<TxOut>, flags: ScriptFlags) -> Result<(), ScriptFailure> {
    let no_cache = ScriptCache::new(0, [0; 32]);
    let verdict = TxScriptCheck::new(Arc::new(tx), spent, flags).verify(&no_cache);
    assert!(!matches!(verdict, Err(ScriptFailure::NoVerdict { .. })), "{verdict:?}");
    verdict
}

fn cases(file: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(&core_vectors(file)).unwrap();
    all.into_iter().filter(|case| case.as_array().unwrap().len() > 1).collect()
}

#[test]
fn script_vectors_get_cores_verdict() {
    let (mut passed, mut failed) = (0, 0);
    for case in cases("script_tests.json") {
        let mut fields = case.as_array().unwrap().as_slice();
        let (mut witness, mut amount) = (Vec::new(), Amount::ZERO);
        if let Some(items) = fields[0].as_array() {
            if items.iter().any(|item| item.as_str().is_some_and(|item| item.contains('#'))) {
                // Needs a tree built from a template; the taproot assets cover these.
                continue;
            }
            let (value, items) = items.split_last().unwrap();
            amount = Amount::from_btc(value.as_f64().unwrap()).unwrap();
            witness = items.iter().map(|item| hex::decode(item.as_str().unwrap()).unwrap()).collect();
            fields = &fields[1..];
        }
        let text = |index: usize| fields[index].as_str().unwrap();
        let (flags, only_consensus) = parse_flags(text(2));
        let expect_ok = text(3) == "OK";
        if !expect_ok && !only_consensus {
            continue;
        }
        let credit = TxOut { value: amount, script_pubkey: vector_script(text(1)) };
        let crediting =
            one_input(OutPoint::null(), ScriptBuf::from_bytes(vec![0, 0]), Witness::new(), credit.clone());
        let spending = one_input(
            OutPoint { txid: crediting.compute_txid(), vout: 0 },
            vector_script(text(0)),
            Witness::from_slice(&witness),
            TxOut { value: amount, script_pubkey: ScriptBuf::new() },
        );
        assert_eq!(verify(spending, vec![credit], flags).is_ok(), expect_ok, "{case}");
        if expect_ok { passed += 1 } else { failed += 1 }
    }
    assert!(passed >= 672 && failed >= 84, "{passed} passed, {failed} failed");
}

fn one_input(
    previous_output: OutPoint,
    script_sig: ScriptBuf,
    witness: Witness,
    output: TxOut,
) -> Transaction {
    Transaction {
        version: Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output, script_sig, sequence: Sequence::MAX, witness }],
        output: vec![output],
    }
}

/// The transaction of a case with what its inputs spend.
fn tx_case(case: &Value) -> (Transaction, Vec<TxOut>) {
    let tx = decode_tx(&hex::decode(case[1].as_str().unwrap()).unwrap()).unwrap();
    let known: HashMap<OutPoint, TxOut> = case[0]
        .as_array()
        .unwrap()
        .iter()
        .map(|prevout| {
            let txid: Txid = prevout[0].as_str().unwrap().parse().unwrap();
            let vout = u32::try_from(prevout[1].as_i64().unwrap() & 0xffff_ffff).unwrap();
            let value = Amount::from_sat(prevout.get(3).map_or(0, |value| value.as_u64().unwrap()));
            let script_pubkey = vector_script(prevout[2].as_str().unwrap());
            (OutPoint { txid, vout }, TxOut { value, script_pubkey })
        })
        .collect();
    let spent = tx.input.iter().filter_map(|input| known.get(&input.previous_output).cloned()).collect();
    (tx, spent)
}

/// What is left of `flags`; never witness rules without P2SH's, which the kernel refuses.
fn without(flags: ScriptFlags, excluded: ScriptFlags) -> ScriptFlags {
    let left = flags.without(excluded);
    if left.contains(ScriptFlags::P2SH) { left } else { left.without(ScriptFlags::WITNESS) }
}

#[test]
fn valid_transaction_vectors_pass() {
    let mut count = 0;
    for case in cases("tx_valid.json") {
        let (tx, spent) = tx_case(&case);
        check_transaction(&tx).unwrap_or_else(|reject| panic!("{reject}: {case}"));
        let (excluded, _) = parse_flags(case[2].as_str().unwrap());
        let flags = without(ScriptFlags::MANDATORY, excluded);
        verify(tx.clone(), spent.clone(), flags).unwrap_or_else(|failure| panic!("{failure}: {case}"));
        // Fewer rules never make a valid transaction invalid.
        for (_, flag) in ScriptFlags::NAMES {
            verify(tx.clone(), spent.clone(), without(flags, flag)).unwrap();
        }
        count += 1;
    }
    assert!(count >= 110, "{count}");
}

#[test]
fn invalid_transaction_vectors_fail() {
    let (mut bad_tx, mut bad_script) = (0, 0);
    for case in cases("tx_invalid.json") {
        let (tx, spent) = tx_case(&case);
        let flags = case[2].as_str().unwrap();
        if flags == "BADTX" {
            check_transaction(&tx).expect_err(&case.to_string());
            bad_tx += 1;
            continue;
        }
        let (flags, only_consensus) = parse_flags(flags);
        if !only_consensus || check_transaction(&tx).is_err() {
            continue;
        }
        verify(tx.clone(), spent.clone(), flags).expect_err(&case.to_string());
        verify(tx, spent, flags | ScriptFlags::P2SH).expect_err(&case.to_string());
        bad_script += 1;
    }
    assert!(bad_tx >= 9 && bad_script >= 70, "{bad_tx} and {bad_script}");
}

#[test]
fn taproot_assets_pass_and_broken_ones_do_not() {
    let packed = std::fs::File::open(testdata("taproot_script_assets.json.gz")).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    let (mut good, mut bad) = (0, 0);
    for case in &cases {
        let tx: Transaction = deserialize(&hex::decode(case["tx"].as_str().unwrap()).unwrap()).unwrap();
        let spent: Vec<TxOut> = case["prevouts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|output| deserialize(&hex::decode(output.as_str().unwrap()).unwrap()).unwrap())
            .collect();
        let (flags, _) = parse_flags(case["flags"].as_str().unwrap());
        let index = usize::try_from(case["index"].as_u64().unwrap()).unwrap();
        for (kind, expect_ok) in [("success", true), ("failure", false)] {
            let Some(side) = case.get(kind) else { continue };
            let mut tx = tx.clone();
            let input = &mut tx.input[index];
            input.script_sig = ScriptBuf::from_hex(side["scriptSig"].as_str().unwrap()).unwrap();
            let items: Vec<Vec<u8>> = side["witness"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| hex::decode(item.as_str().unwrap()).unwrap())
                .collect();
            input.witness = Witness::from_slice(&items);
            // Only this input is given its script; the others fail, before or after it.
            let verdict = input_verdict(&tx, &spent, flags, index);
            assert_eq!(verdict, expect_ok, "{} {kind}", case["comment"]);
            if expect_ok { good += 1 } else { bad += 1 }
        }
    }
    assert_eq!(cases.len(), 2_760);
    assert!(good > 2_000, "{good} and {bad}");
}

/// The verdict on one input alone, straight from the kernel: the room only asks for all.
fn input_verdict(tx: &Transaction, spent: &[TxOut], flags: ScriptFlags, index: usize) -> bool {
    let kernel_tx = bitcoinkernel::Transaction::new(&bitcoin::consensus::serialize(tx)).unwrap();
    let scripts: Vec<_> = spent
        .iter()
        .map(|output| bitcoinkernel::ScriptPubkey::new(output.script_pubkey.as_bytes()).unwrap())
        .collect();
    let value = |output: &TxOut| i64::try_from(output.value.to_sat()).unwrap();
    let outputs: Vec<_> = scripts
        .iter()
        .zip(spent)
        .map(|(script, output)| bitcoinkernel::TxOut::new(script, value(output)))
        .collect();
    let data = bitcoinkernel::PrecomputedTransactionData::new(&kernel_tx, &outputs).unwrap();
    let amount = Some(value(&spent[index]));
    bitcoinkernel::verify(&scripts[index], amount, &kernel_tx, index, Some(flags.bits()), &data).is_ok()
}

fn op_true_spend() -> (Transaction, TxOut) {
    let output = TxOut { value: Amount::from_sat(5), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) };
    let tx = one_input(
        OutPoint { txid: Txid::all_zeros(), vout: 0 },
        ScriptBuf::new(),
        Witness::new(),
        output.clone(),
    );
    (tx, output)
}

#[test]
fn the_seam_checks_counts_and_rules_before_the_kernel_would_abort() {
    let (tx, output) = op_true_spend();
    let cache = ScriptCache::new(0, [0; 32]);
    let run =
        |spent: Vec<TxOut>, flags| TxScriptCheck::new(Arc::new(tx.clone()), spent, flags).verify(&cache);
    let no_verdict = |error| Err(ScriptFailure::NoVerdict { input: 0, error });
    assert_eq!(run(vec![output.clone()], ScriptFlags::MANDATORY), Ok(()));
    assert_eq!(
        run(vec![], ScriptFlags::MANDATORY),
        no_verdict(SeamError::SpentOutputs { spent: 0, inputs: 1 })
    );
    assert_eq!(
        run(vec![output.clone(), output.clone()], ScriptFlags::MANDATORY),
        no_verdict(SeamError::SpentOutputs { spent: 2, inputs: 1 })
    );
    let witness = ScriptFlags::WITNESS;
    assert_eq!(run(vec![output.clone()], witness), no_verdict(SeamError::Flags(witness.bits())));
    for policy in [ScriptFlags::STANDARD, ScriptFlags::STRICTENC, ScriptFlags::CLEANSTACK] {
        let flags = ScriptFlags::MANDATORY | policy;
        assert_eq!(run(vec![output.clone()], flags), no_verdict(SeamError::Flags(flags.bits())));
    }
    // Bytes the kernel cannot read are no verdict either.
    let mut empty = op_true_spend().0;
    empty.input.clear();
    let check = TxScriptCheck::new(Arc::new(empty), Vec::new(), ScriptFlags::MANDATORY);
    assert!(matches!(
        check.verify(&cache),
        Err(ScriptFailure::NoVerdict { error: SeamError::Kernel(_), .. })
    ));
}

#[test]
fn only_admission_fills_the_cache_and_a_hit_skips_scripts() {
    let (tx, output) = op_true_spend();
    let tx = Arc::new(tx);
    let cache = ScriptCache::new(1 << 16, [3; 32]);
    let good = TxScriptCheck::new(Arc::clone(&tx), vec![output], ScriptFlags::MANDATORY);
    // Told apart from a real run by an output that would fail.
    let fails = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x00]) };
    let bad = |flags| TxScriptCheck::new(Arc::clone(&tx), vec![fails.clone()], flags);
    assert_eq!(good.verify(&cache), Ok(()));
    assert_eq!(bad(ScriptFlags::MANDATORY).verify(&cache), Err(ScriptFailure::Invalid { input: 0 }));
    assert!(bad(ScriptFlags::MANDATORY).verify_and_remember(&cache).is_err());
    assert_eq!(bad(ScriptFlags::MANDATORY).verify(&cache), Err(ScriptFailure::Invalid { input: 0 }));
    assert_eq!(good.verify_and_remember(&cache), Ok(()));
    assert_eq!(bad(ScriptFlags::MANDATORY).verify(&cache), Ok(()));
    assert!(bad(ScriptFlags::P2SH).verify(&cache).is_err(), "under other rules it runs");
}

/// One input that fails keeps the transaction out, however many passed before it.
#[test]
fn a_pass_is_remembered_only_if_every_input_passed() {
    let (mut tx, good) = op_true_spend();
    let mut second = tx.input[0].clone();
    second.previous_output.vout += 1;
    tx.input.push(second);
    let bad = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x00]) };
    let (tx, cache) = (Arc::new(tx), ScriptCache::new(1 << 16, [3; 32]));
    let check = |spent| TxScriptCheck::new(Arc::clone(&tx), spent, ScriptFlags::MANDATORY);
    for _ in 0..2 {
        let failing = check(vec![good.clone(), bad.clone()]);
        assert_eq!(failing.verify_and_remember(&cache), Err(ScriptFailure::Invalid { input: 1 }));
    }
    // Not a signature's pass is remembered but the whole transaction's, witnesses included.
    assert_eq!(check(vec![good.clone(), good.clone()]).verify_and_remember(&cache), Ok(()));
    let mut other = (*tx).clone();
    other.input[1].witness = bitcoin::Witness::from_slice(&[[1u8]]);
    assert_eq!(other.compute_txid(), tx.compute_txid());
    let other = TxScriptCheck::new(Arc::new(other), vec![good.clone(), bad], ScriptFlags::MANDATORY);
    assert_eq!(other.verify(&cache), Err(ScriptFailure::Invalid { input: 1 }), "it ran");
}
