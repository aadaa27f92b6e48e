//! What is refused, why, and as what.

use bitcoin::hashes::Hash as _;
use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_CHECKSIG, OP_NOP};
use bitcoin::script::Builder;
use bitcoin::{OutPoint, ScriptBuf, Sequence, TxIn, Txid, Witness};
use ironpeer_mempool::{Config, SubmitTx};
use ironpeer_primitives::{ChainRead as _, TxClass};
use ironpeer_testkit::{Owned, ScriptKind, Signer};

use crate::support::{Node, Tx, anyone};

const COIN: u64 = 100_000;

fn refused(class: TxClass, text: &str) -> (TxClass, String) {
    (class, text.to_owned())
}

#[tokio::test]
async fn a_plain_payment_is_taken_once() {
    let (node, coins) = Node::funded(Config::default(), 2, COIN).await;
    let tx = Tx::spending([coins[0]]).pay(COIN - 500);
    let accepted = node.accept(&tx).await;
    assert_eq!((accepted.fee.to_sat(), accepted.vsize), (500, tx.vsize()));
    assert_eq!(node.refuse(&tx).await, refused(TxClass::Conflict, "txn-already-in-mempool"));
    let mut other_witness = tx.clone();
    other_witness.0.input[0].witness = Witness::from_slice(&[vec![], vec![0x51]]);
    assert_eq!(
        node.refuse(&other_witness).await,
        refused(TxClass::Conflict, "txn-same-nonwitness-data-in-mempool")
    );
    let entry = node.mempool.entry(&tx.txid()).unwrap();
    assert_eq!(
        (entry.ancestor_count, entry.descendant_count, entry.height),
        (1, 1, node.chain.view().tip().height)
    );
    let spender = node.mempool.spender(&coins[0]).unwrap();
    assert_eq!(spender.compute_txid(), tx.txid());
}

#[tokio::test]
async fn standardness_of_the_transaction_alone() {
    use TxClass::{Consensus, NotStandard};
    let (node, coins) = Node::funded(Config::default(), 1, COIN).await;
    let plain = || Tx::spending([coins[0]]).pay(COIN - 50_000);
    let with_sig = |sig: Vec<u8>| {
        let mut tx = plain();
        tx.0.input[0].script_sig = ScriptBuf::from_bytes(sig);
        tx
    };
    let key = [2u8; 33];
    let multisig = |keys: usize| {
        let script = (0..keys).fold(Builder::new().push_int(1), |script, _| script.push_slice(key));
        script.push_int(keys as i64).push_opcode(OP_CHECKMULTISIG).into_script()
    };
    let mut coinbase = plain();
    coinbase.0.input[0].previous_output = OutPoint::null();
    coinbase.0.input[0].script_sig = ScriptBuf::from_bytes(vec![1, 1]);
    for (tx, class, text) in [
        (plain().version(0), NotStandard, "version"),
        (plain().version(4), NotStandard, "version"),
        (plain().version(-1), NotStandard, "version"),
        (plain().padded(99_990), NotStandard, "tx-size"),
        (with_sig(vec![0; 1_651]), NotStandard, "scriptsig-size"),
        (with_sig(vec![OP_NOP.to_u8()]), NotStandard, "scriptsig-not-pushonly"),
        (plain().pay_to(ScriptBuf::new(), 1_000), NotStandard, "scriptpubkey"),
        (plain().pay_to(multisig(4), 1_000), NotStandard, "scriptpubkey"),
        (plain().pay(100).pay(100), NotStandard, "dust"),
        (plain().pay(100), NotStandard, "dust, tx with dust output must be 0-fee"),
        (Tx::spending([coins[0]]), Consensus, "bad-txns-vout-empty"),
        (Tx::spending([]).pay(1_000), Consensus, "bad-txns-vin-empty"),
        (Tx::spending([coins[0], coins[0]]).pay(1_000), Consensus, "bad-txns-inputs-duplicate"),
        (coinbase, Consensus, "coinbase"),
        (Tx::spending([coins[0]]).pay_to(ScriptBuf::from_bytes(vec![0x6a]), 0), NotStandard, "tx-size-small"),
    ] {
        assert_eq!(node.refuse(&tx).await, refused(class, text));
    }
    for allowed in [plain().version(1), plain().version(3), plain().pay_to(multisig(3), 1_000)] {
        let how = SubmitTx { test_accept: true, ..SubmitTx::default() };
        node.mempool.submit_tx(std::sync::Arc::new(allowed.0), how).await.unwrap();
    }
    assert_eq!(node.mempool.info().count, 0);
}

#[tokio::test]
async fn options_change_what_is_standard() {
    let config = Config { max_datacarrier_bytes: Some(42), permit_bare_multisig: false, ..Config::default() };
    let (node, coins) = Node::funded(config, 1, COIN).await;
    let plain = || Tx::spending([coins[0]]).pay(COIN - 50_000);
    // 40 bytes of data make a script of 42.
    assert_eq!(
        node.refuse(&plain().padded(40).padded(1)).await,
        refused(TxClass::NotStandard, "datacarrier")
    );
    let multisig = Builder::new().push_int(1).push_slice([2u8; 33]).push_int(1).push_opcode(OP_CHECKMULTISIG);
    assert_eq!(
        node.refuse(&plain().pay_to(multisig.into_script(), 1_000)).await,
        refused(TxClass::NotStandard, "bare-multisig")
    );
    node.accept(&plain().padded(40)).await;

    let config = Config { require_standard: false, ..Config::default() };
    let (node, coins) = Node::funded(config, 1, COIN).await;
    let odd = Tx::spending([coins[0]]).pay(COIN - 5_000).pay_to(ScriptBuf::new(), 1).version(7);
    node.accept(&odd).await;
}

#[tokio::test]
async fn inputs_must_exist_and_cover_the_outputs() {
    let (mut node, coins) = Node::funded(Config::default(), 2, COIN).await;
    let unknown = OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 };
    let missing = refused(TxClass::MissingInputs, "bad-txns-inputs-missingorspent");
    assert_eq!(node.refuse(&Tx::spending([unknown]).pay(1_000)).await, missing);
    let tx = Tx::spending([coins[0]]).pay(COIN - 500);
    node.accept(&tx).await;
    assert_eq!(node.refuse(&Tx::spending([tx.out(1)]).pay(1_000)).await, missing);
    assert_eq!(
        node.refuse(&Tx::spending([coins[1]]).pay(COIN + 1)).await,
        refused(TxClass::Consensus, "bad-txns-in-belowout, value in (0.001) < value out (0.00100001)")
    );
    node.mine(vec![tx.0.clone()]).await;
    assert_eq!(node.refuse(&tx).await, refused(TxClass::Conflict, "txn-already-known"));
    assert_eq!(node.refuse(&Tx::spending([coins[0]]).pay(1_000)).await, missing);
}

#[tokio::test]
async fn a_transaction_must_fit_the_next_block() {
    let (mut node, coins) = Node::funded(Config::default(), 2, COIN).await;
    let height = node.chain.view().tip().height.0;
    let locked = |lock| Tx::spending([coins[0]]).pay(COIN - 500).sequence(0xffff_fffe).lock_time(lock);
    assert_eq!(node.refuse(&locked(height + 1)).await, refused(TxClass::PrematureSpend, "non-final"));
    let later = u32::try_from(node.chain.view().tip().median_time_past).unwrap();
    assert_eq!(node.refuse(&locked(later)).await, refused(TxClass::PrematureSpend, "non-final"));
    let early = refused(TxClass::PrematureSpend, "non-BIP68-final");
    // The coin is one block old in the next block.
    assert_eq!(node.refuse(&Tx::spending([coins[0]]).pay(COIN - 500).sequence(2)).await, early);
    assert_eq!(node.refuse(&Tx::spending([coins[0]]).pay(COIN - 500).sequence(1 << 22 | 1)).await, early);
    let parent = locked(height);
    node.accept(&parent).await;
    let child = Tx::spending([parent.out(0)]).pay(COIN - 1_000).sequence(1);
    assert_eq!(node.refuse(&child).await, early);
    node.accept(&Tx::spending([parent.out(0)]).pay(COIN - 1_000).sequence(0)).await;
    node.accept(&Tx::spending([coins[1]]).pay(COIN - 500).sequence(1)).await;

    let block = node.mine(Vec::new()).await;
    let coinbase = OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 };
    assert_eq!(
        node.refuse(&Tx::spending([coinbase]).pay(1_000)).await,
        refused(
            TxClass::PrematureSpend,
            "bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 1"
        )
    );
}

#[tokio::test]
async fn fees_must_reach_the_minimum_and_deltas_count() {
    let (node, coins) = Node::funded(Config::default(), 2, COIN).await;
    let tx = |fee| Tx::spending([coins[0]]).pay(COIN - fee);
    let needed = tx(0).vsize().div_ceil(10);
    assert_eq!(
        node.refuse(&tx(needed - 1)).await,
        refused(TxClass::Reconsiderable, &format!("min relay fee not met, {} < {needed}", needed - 1))
    );
    let free = tx(0);
    node.mempool.prioritise(free.txid(), i64::try_from(needed).unwrap());
    let accepted = node.accept(&free).await;
    assert_eq!((accepted.fee.to_sat(), accepted.modified_fee), (0, i64::try_from(needed).unwrap()));
    assert_eq!(node.mempool.prioritised()[0].modified_fee, Some(accepted.modified_fee));
    node.mempool.prioritise(free.txid(), -i64::try_from(needed).unwrap());
    assert!(node.mempool.prioritised().is_empty());
    assert_eq!(node.mempool.entry(&free.txid()).unwrap().modified_fee, 0);

    let capped = SubmitTx {
        max_feerate: Some(ironpeer_mempool::FeeRate::from_sat_per_kvb(1_000)),
        ..SubmitTx::default()
    };
    let dear = Tx::spending([coins[1]]).pay(COIN - 50_000);
    let reject = node.mempool.submit_tx(std::sync::Arc::new(dear.0), capped).await.unwrap_err();
    assert_eq!(reject.to_string(), "max feerate exceeded");
}

/// Confirms one output with this script and returns it with its outpoint.
async fn locked_coin(node: &mut Node, coin: OutPoint, script: ScriptBuf) -> OutPoint {
    let tx = Tx::spending([coin]).pay_to(script, COIN - 1_000);
    node.mine(vec![tx.0.clone()]).await;
    tx.out(0)
}

#[tokio::test]
async fn what_is_spent_must_be_standard_too() {
    let (mut node, coins) = Node::funded(Config::default(), 8, COIN).await;
    let inputs = |text: String| (TxClass::InputsNotStandard, format!("bad-txns-nonstandard-inputs, {text}"));
    let odd = locked_coin(&mut node, coins[0], ScriptBuf::from_bytes(vec![0x51])).await;
    let mut spend = Tx::spending([odd]).pay(50_000);
    spend.0.input[0].witness = Witness::new();
    assert_eq!(node.refuse(&spend).await, inputs("input 0 script unknown".into()));

    let future = locked_coin(&mut node, coins[1], ScriptBuf::from_bytes(vec![0x52, 2, 1, 1])).await;
    let mut spend = Tx::spending([future]).pay(50_000);
    spend.0.input[0].witness = Witness::new();
    assert_eq!(node.refuse(&spend).await, inputs("input 0 witness program is undefined".into()));

    let sixteen = ScriptBuf::from_bytes(vec![OP_CHECKSIG.to_u8(); 16]);
    let p2sh = locked_coin(&mut node, coins[2], sixteen.to_p2sh()).await;
    let mut spend = Tx::spending([p2sh]).pay(50_000);
    spend.0.input[0].witness = Witness::new();
    assert_eq!(node.refuse(&spend).await, inputs("input 0 P2SH redeemscript missing".into()));
    spend.0.input[0].script_sig = Builder::new().push_slice([OP_CHECKSIG.to_u8(); 16]).into_script();
    assert_eq!(
        node.refuse(&spend).await,
        inputs("p2sh redeemscript sigops exceed limit (input 0: 16 > 15)".into())
    );
    spend.0.input[0].script_sig = ScriptBuf::from_bytes(vec![0x50]);
    assert_eq!(
        node.refuse(&spend).await,
        inputs("p2sh scriptsig malformed (input 0: Opcode missing or not understood)".into())
    );

    let mut stuffed = Tx::spending([coins[3]]).pay(50_000);
    stuffed.0.input[0].witness = Witness::from_slice(&[vec![0; 81], vec![0x51]]);
    assert_eq!(node.refuse(&stuffed).await, refused(TxClass::WitnessMutated, "bad-witness-nonstandard"));

    // A witness script of 50 multisigs without stated keys: 1,000 operations an input.
    let heavy = ScriptBuf::from_bytes([vec![0x51, 0x63, 0x51, 0x67], vec![0xae; 50], vec![0x68]].concat());
    let funding = (0..17).fold(Tx::spending([coins[4]]), |tx, _| tx.pay_to(heavy.to_p2wsh(), 5_000));
    node.mine(vec![funding.0.clone()]).await;
    let mut spend = Tx::spending((0..17).map(|vout| funding.out(vout))).pay(10_000);
    for input in &mut spend.0.input {
        input.witness = Witness::from_slice(&[heavy.as_bytes()]);
    }
    assert_eq!(node.refuse(&spend).await, refused(TxClass::NotStandard, "bad-txns-too-many-sigops, 17000"));
    spend.0.input.pop();
    // Within the limit, and charged for: 16,000 operations at 20 vbytes' weight each.
    spend.0.output[0].value = bitcoin::Amount::from_sat(60_000);
    let accepted = node.accept(&spend).await;
    assert_eq!(accepted.vsize, 16_000 * 20 / 4);
}

#[tokio::test]
async fn every_standard_template_is_spent_and_its_failure_named() {
    let (mut node, coins) = Node::funded(Config::default(), ScriptKind::ALL.len(), COIN).await;
    let signer = Signer::new();
    for (kind, coin) in ScriptKind::ALL.into_iter().zip(coins) {
        let locked = locked_coin(&mut node, coin, signer.script(kind, 1)).await;
        let mut tx = Tx::spending([locked]).pay(50_000);
        let output = bitcoin::TxOut {
            value: bitcoin::Amount::from_sat(COIN - 1_000),
            script_pubkey: signer.script(kind, 1),
        };
        signer.sign(&mut tx.0, &[Owned { output, kind, key: 1 }]);
        let good = tx.clone();
        // The signature no longer fits.
        tx.0.output[0].value = bitcoin::Amount::from_sat(50_001);
        let (class, text) = node.refuse(&tx).await;
        let name = match kind {
            ScriptKind::P2trKey | ScriptKind::P2trScript => "Invalid Schnorr signature",
            _ => "Signature must be zero for failed CHECK(MULTI)SIG operation",
        };
        let debug =
            format!("input 0 of {} (wtxid {}), spending {}:0", tx.txid(), tx.0.compute_wtxid(), locked.txid);
        assert_eq!(class, TxClass::NotStandard, "{kind:?}");
        assert_eq!(text, format!("mempool-script-verify-flag-failed ({name}), {debug}"), "{kind:?}");
        // A segwit spend without its witness is told apart, so that the txid is not blamed.
        let mut stripped = good.clone();
        stripped.0.input[0].witness = Witness::new();
        if stripped.0 != good.0 {
            let (class, _) = node.refuse(&stripped).await;
            assert_eq!(class, TxClass::WitnessStripped, "{kind:?}");
        }
        node.accept(&good).await;
    }
}

#[tokio::test]
async fn non_witness_sigops_are_limited() {
    let (mut node, coins) = Node::funded(Config::default(), 1, 10_000_000).await;
    // 15 operations an input: 167 inputs make 2,505.
    let redeem = ScriptBuf::from_bytes(
        [vec![0x51, 0x63, 0x51, 0x67], vec![OP_CHECKSIG.to_u8(); 15], vec![0x68]].concat(),
    );
    let funding = (0..167).fold(Tx::spending([coins[0]]), |tx, _| tx.pay_to(redeem.to_p2sh(), 50_000));
    node.mine(vec![funding.0.clone()]).await;
    let mut tx = Tx::spending([]).pay(1_000);
    tx.0.input = (0..167)
        .map(|vout| TxIn {
            previous_output: funding.out(vout),
            script_sig: Builder::new()
                .push_slice(bitcoin::script::PushBytesBuf::try_from(redeem.to_bytes()).unwrap())
                .into_script(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        })
        .collect();
    assert_eq!(
        node.refuse(&tx).await,
        refused(
            TxClass::InputsNotStandard,
            "bad-txns-nonstandard-inputs, non-witness sigops exceed bip54 limit"
        )
    );
    tx.0.input.pop();
    node.accept(&tx).await;
}

#[tokio::test]
async fn dust_lives_only_as_long_as_it_is_spent() {
    let (node, coins) = Node::funded(Config::default(), 2, COIN).await;
    let parent = Tx::spending([coins[0]]).pay(COIN - 100).pay(100);
    node.mempool.prioritise(parent.txid(), 1_000);
    // A delta is an incentive too.
    assert_eq!(
        node.refuse(&parent).await,
        refused(TxClass::NotStandard, "dust, tx with dust output must be 0-fee")
    );
    node.mempool.prioritise(parent.txid(), -1_000);
    assert_eq!(
        node.refuse(&parent).await.1,
        format!("min relay fee not met, 0 < {}", parent.vsize().div_ceil(10))
    );
    // Without a minimum it may come in, and whoever spends it must spend the dust as well.
    let free = Config { min_relay: ironpeer_mempool::FeeRate::from_sat_per_kvb(0), ..Config::default() };
    let (node, coins) = Node::funded(free, 2, COIN).await;
    let parent = Tx::spending([coins[0]]).pay(COIN - 100).pay(100);
    assert!(node.mempool.may_prioritise(&parent.txid()));
    node.accept(&parent).await;
    assert!(!node.mempool.may_prioritise(&parent.txid()));
    let careless = Tx::spending([parent.out(0)]).pay(COIN - 1_000);
    let (class, text) = node.refuse(&careless).await;
    assert_eq!(class, TxClass::MempoolPolicy);
    assert_eq!(
        text,
        format!(
            "missing-ephemeral-spends, tx {} (wtxid={}) did not spend parent's ephemeral dust",
            careless.txid(),
            careless.0.compute_wtxid()
        )
    );
    node.accept(&Tx::spending([parent.out(0), parent.out(1)]).pay(COIN - 1_000)).await;
}

#[tokio::test]
async fn a_test_changes_nothing() {
    let (node, coins) = Node::funded(Config::default(), 1, COIN).await;
    let tx = Tx::spending([coins[0]]).pay_to(anyone(), COIN - 500);
    let how = SubmitTx { test_accept: true, ..SubmitTx::default() };
    let before = node.mempool.view().mempool_sequence;
    let accepted = node.mempool.submit_tx(std::sync::Arc::new(tx.0.clone()), how).await.unwrap();
    assert_eq!(accepted.fee.to_sat(), 500);
    assert!(!node.has(&tx));
    assert_eq!(node.mempool.view().mempool_sequence, before);
}
