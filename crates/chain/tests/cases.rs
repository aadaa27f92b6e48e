//! Published failures of other nodes, played on a whole chain.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bitcoin::opcodes::all::{OP_CSV, OP_DROP};
use bitcoin::{Amount, Block, ScriptBuf, Sequence, Transaction, TxOut, Witness};
use ironpeer_chain::{BlockOutcome, Config, PoolChecker, UtxoHashKind};
use ironpeer_consensus::{
    BuriedDeployment, Checker, Params, RegtestOptions, ScriptCache, ScriptFailure, TxScriptCheck,
    add_witness_commitment, script_flags,
};
use ironpeer_primitives::{BlockClass, ChainRead, Height};
use ironpeer_testkit::consensus::seal;
use support::{Node, anyone, regtest, spend};

fn refused(outcome: &BlockOutcome) -> (BlockClass, &str) {
    let reject = outcome.result.as_ref().unwrap_err();
    (reject.class, reject.reason.as_ref())
}

/// A transaction that splits an output of `from` into `count` equal ones.
fn split(from: &Transaction, vout: u32, count: usize, script: &ScriptBuf) -> Transaction {
    let mut tx = spend(&[(from, vout)], 0);
    let value = tx.output[0].value / count as u64;
    tx.output = vec![TxOut { value, script_pubkey: script.clone() }; count];
    tx
}

/// Every satoshi there should be on a regtest chain of less than 150 blocks, if all claim all.
fn supply(height: u32) -> Amount {
    Amount::from_sat(u64::from(height) * 50 * 100_000_000)
}

fn total(node: &Node) -> Amount {
    node.handle.utxo_set_info_blocking(UtxoHashKind::None).unwrap().total_amount
}

/// One input named twice: of an old coin, of a coin of the same block, of the parent's. No block
/// makes coins out of it, and the node goes on.
#[test]
fn cve_2018_17144_an_input_named_twice_makes_no_money() {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 102);
    let first = spend(&[(&base[0].txdata[0], 0)], 0);
    let made = node.make(&node.tip(), 0, vec![first.clone()]);
    node.submit(&made).result.unwrap();
    let twice = |tx: &Transaction| {
        let mut double = spend(&[(tx, 0), (tx, 0)], 0);
        double.output[0].value = tx.output[0].value * 2;
        double
    };
    let old = &base[1].txdata[0];
    let young = spend(&[(old, 0)], 0);
    for txs in [vec![twice(old)], vec![twice(&first)], vec![young.clone(), twice(&young)]] {
        let outcome = node.submit(&node.make(&node.tip(), 1, txs));
        assert_eq!(refused(&outcome), (BlockClass::Consensus, "bad-txns-inputs-duplicate"));
    }
    // Two transactions with the same input are as bad, and are found later.
    let again = node.make(&node.tip(), 2, vec![young.clone(), spend(&[(old, 0)], 1)]);
    assert_eq!(refused(&node.submit(&again)).1, "bad-txns-inputs-missingorspent");
    assert_eq!(node.tip(), made.block_hash());
    assert_eq!(total(&node), supply(103));
    node.submit(&node.make(&node.tip(), 3, vec![young])).result.unwrap();
    assert_eq!(total(&node), supply(104));
    node.check();
}

/// A body whose witnesses were changed on the way fails after its header was stored, and must not
/// condemn it: the true body is taken.
#[test]
fn a_changed_witness_does_not_condemn_the_header() {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 102);
    let wsh = anyone().to_p2wsh();
    let locked = node.make(&node.tip(), 0, vec![split(&base[0].txdata[0], 0, 2, &wsh)]);
    node.submit(&locked).result.unwrap();
    let mut tx = spend(&[(&locked.txdata[1], 0)], 0);
    tx.input[0].witness = Witness::from_slice(&[anyone().as_bytes()]);
    let good = node.make(&node.tip(), 0, vec![tx]);
    let change = |change: fn(&mut Block)| {
        let mut block = good.as_ref().clone();
        change(&mut block);
        assert_eq!(block.block_hash(), good.block_hash());
        Arc::new(block)
    };
    for (body, reason) in [
        (
            change(|block| block.txdata[1].input[0].witness = Witness::from_slice(&[[0x52]])),
            "bad-witness-merkle-match",
        ),
        (
            change(|block| block.txdata[0].input[0].witness = Witness::from_slice(&[[1; 33]])),
            "bad-witness-nonce-size",
        ),
        (change(|block| block.txdata[0].input[0].witness.clear()), "bad-witness-nonce-size"),
    ] {
        let outcome = node.submit(&body);
        assert_eq!(refused(&outcome), (BlockClass::Mutated, reason));
        assert!(!node.view().header(&good.block_hash()).unwrap().failed);
    }
    assert!(node.submit(&good).result.is_ok());
    assert_eq!(node.tip(), good.block_hash());
}

/// A header whose body breaks a rule of its place in the chain is remembered, and only then.
#[test]
fn what_a_failure_condemns_is_what_core_condemns() {
    let node = Node::open(regtest());
    node.extend(&node.tip(), 0, 3);
    let broken = |tag, change: fn(&mut Block)| {
        let mut block = node.make(&node.tip(), tag, Vec::new()).as_ref().clone();
        change(&mut block);
        block.txdata[0].output.truncate(1);
        add_witness_commitment(&mut block);
        seal(&mut block, node.view().params());
        Arc::new(block)
    };
    let second = |block: &mut Block| {
        let mut coinbase = block.txdata[0].clone();
        coinbase.output.truncate(1);
        block.txdata.push(coinbase);
    };
    let alone = broken(1, second);
    for _ in 0..2 {
        assert_eq!(refused(&node.submit(&alone)), (BlockClass::Consensus, "bad-cb-multiple"));
        assert!(node.view().header(&alone.block_hash()).is_none(), "neither stored nor marked");
    }
    let wrong_height = |block: &mut Block| {
        block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![0x01, 0x63, 0x00]);
    };
    let greedy = |block: &mut Block| block.txdata[0].output[0].value += Amount::from_sat(1);
    for (block, reason) in [(broken(2, wrong_height), "bad-cb-height"), (broken(3, greedy), "bad-cb-amount")]
    {
        assert_eq!(refused(&node.submit(&block)), (BlockClass::Consensus, reason));
        assert!(node.view().header(&block.block_hash()).unwrap().failed);
        assert_eq!(refused(&node.submit(&block)), (BlockClass::CachedInvalid, "duplicate-invalid"));
    }
}

/// A script that passed under the rules of one height is run again where others hold.
#[test]
fn cve_2026_40880_a_pass_under_other_rules_is_no_pass() {
    let activation = Height(105);
    let options = RegtestOptions {
        activation_heights: vec![(BuriedDeployment::Csv, activation)],
        ..RegtestOptions::default()
    };
    let params = Arc::new(Params::regtest(options));
    let cache = Arc::new(ScriptCache::new(1 << 20, [9; 32]));
    let checker = Arc::new(PoolChecker::new(Arc::clone(&cache)));
    let node = Node::with_checker(Config::in_memory(Arc::clone(&params)), checker);
    let base = node.extend(&node.tip(), 0, 102);
    // Ten blocks' wait, which nothing asks for before the rule begins.
    let waits = ScriptBuf::builder().push_int(10).push_opcode(OP_CSV).push_opcode(OP_DROP).push_int(1);
    let locked = node.make(&node.tip(), 0, vec![split(&base[0].txdata[0], 0, 2, &waits.into_script())]);
    node.submit(&locked).result.unwrap();
    let spending = |vout| {
        let mut tx = spend(&[(&locked.txdata[1], vout)], 0);
        tx.input[0].sequence = Sequence(0);
        tx
    };
    let flags = |height: u32| script_flags(&node.tip(), Height(height), &params);
    let early = Arc::new(spending(0));
    let check = |flags| {
        TxScriptCheck::new(Arc::clone(&early), vec![locked.txdata[1].output[0].clone()], flags)
            .verify_and_remember(&cache)
    };
    assert_eq!(check(flags(104)), Ok(()));
    assert!(check(flags(105)).is_err());
    let before = node.make(&node.tip(), 0, vec![spending(1)]);
    node.submit(&before).result.unwrap();
    assert_eq!(node.view().tip().height.next(), activation);
    let after = node.make(&node.tip(), 0, vec![early.as_ref().clone()]);
    let outcome = node.submit(&after);
    assert_eq!(refused(&outcome).1, "block-script-verify-flag-failed (Locktime requirement not satisfied)");
}

/// Scripts known to pass are not run; all else is judged anew.
#[test]
fn a_remembered_pass_speaks_for_scripts_alone() {
    let cache = Arc::new(ScriptCache::new(1 << 20, [9; 32]));
    let ran = Arc::new(AtomicUsize::new(0));
    let checker = Arc::new(Counting { ran: Arc::clone(&ran), inner: PoolChecker::new(Arc::clone(&cache)) });
    let node = Node::with_checker(regtest(), checker);
    let base = node.extend(&node.tip(), 0, 102);
    let flags = script_flags(&node.tip(), Height(103), node.view().params());
    let known = |tx: Transaction, spent: &TxOut| {
        let check = TxScriptCheck::new(Arc::new(tx.clone()), vec![spent.clone()], flags);
        check.verify_and_remember(&cache).unwrap();
        tx
    };
    let ripe = &base[0].txdata[0];
    let young = &base[60].txdata[0];
    let immature = known(spend(&[(young, 0)], 0), &young.output[0]);
    let mut late = spend(&[(ripe, 0)], 0);
    late.input[0].sequence = Sequence(200);
    let late = known(late, &ripe.output[0]);
    let mut locked = spend(&[(ripe, 0)], 0);
    locked.lock_time = bitcoin::absolute::LockTime::from_consensus(103);
    locked.input[0].sequence = Sequence(0);
    let locked = known(locked, &ripe.output[0]);
    let mut dear = spend(&[(ripe, 0)], 0);
    dear.output[0].value += Amount::from_sat(1);
    let dear = known(dear, &ripe.output[0]);
    let mut checks = dear.clone();
    checks.output[0] =
        TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0xac; 20_001]) };
    let checks = known(checks, &ripe.output[0]);
    let once = known(spend(&[(ripe, 0)], 0), &ripe.output[0]);
    let twice = known(spend(&[(ripe, 0)], 1), &ripe.output[0]);
    for (txs, reason) in [
        (vec![immature], "bad-txns-premature-spend-of-coinbase"),
        (vec![late], "bad-txns-nonfinal"),
        (vec![locked], "bad-txns-nonfinal"),
        (vec![dear], "bad-txns-in-belowout"),
        (vec![checks], "bad-blk-sigops"),
        (vec![once.clone(), twice], "bad-txns-inputs-missingorspent"),
    ] {
        assert_eq!(refused(&node.submit(&node.make(&node.tip(), 1, txs))).1, reason);
    }
    assert_eq!(ran.load(Ordering::Relaxed), 0);
    node.submit(&node.make(&node.tip(), 1, vec![once])).result.unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), 1);
}

/// Counts the calls, and those that have not returned.
struct Counting {
    ran: Arc<AtomicUsize>,
    inner: PoolChecker,
}

impl Checker for Counting {
    fn check(&self, checks: Vec<TxScriptCheck>) -> Result<(), (usize, ScriptFailure)> {
        self.ran.fetch_add(1, Ordering::Relaxed);
        self.inner.check(checks)
    }
}

/// A block whose scripts fail somewhere among a thousand checks: when the verdict is out nothing
/// uses the block any more, and whatever fails beside the scripts starts none at all.
#[test]
fn cve_2024_52911_no_check_outlives_the_verdict() {
    const OUTPUTS: usize = 1_200;
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 102);
    let fan = split(&base[0].txdata[0], 0, OUTPUTS, &anyone());
    let funding = node.make(&node.tip(), 0, vec![fan.clone()]);
    node.submit(&funding).result.unwrap();
    let tip = node.tip();
    let spends = |bad: usize| -> Vec<Transaction> {
        (0..OUTPUTS)
            .map(|vout| {
                let mut tx = spend(&[(&fan, vout as u32)], 0);
                if vout == bad {
                    tx.input[0].script_sig = vec![0x6a].into();
                }
                tx
            })
            .collect()
    };
    let released = |block: Arc<Block>, reason: &str| {
        assert_eq!(refused(&node.submit(&block)).1, reason);
        // The pool's threads drop what they were given before the verdict is told.
        assert_eq!(Arc::strong_count(&block), 1, "{reason}");
        assert_eq!(node.tip(), tip);
    };
    for (tag, bad) in [0, 1, OUTPUTS / 2, OUTPUTS - 1].into_iter().enumerate() {
        let block = node.make(&tip, tag as u32, spends(bad));
        released(block, "block-script-verify-flag-failed (OP_RETURN was encountered)");
        // A rule broken by the last transaction, after so many checks were set up.
        let mut txs = spends(bad);
        let mut stray = txs[0].clone();
        stray.input[0].previous_output.vout = OUTPUTS as u32;
        txs.push(stray);
        released(node.make(&tip, 10 + tag as u32, txs), "bad-txns-inputs-missingorspent");
    }
    node.submit(&node.make(&tip, 0, spends(OUTPUTS))).result.unwrap();
}

/// Blocks of as many outputs as fit and of thousands of inputs, on a database whose cache and batches
/// are tiny: no limit of it becomes a rule.
#[test]
fn bip50_cve_2013_3220_no_limit_of_the_database_is_a_rule() {
    // A block's stripped size is at most 1,000,000 bytes.
    const OUTPUTS: usize = 99_000;
    // 24,000 would fit; libbitcoinkernel takes time with their square.
    const INPUTS: usize = 6_000;
    let folder = tempfile::tempdir().unwrap();
    let params = Arc::new(Params::regtest(RegtestOptions::default()));
    let tiny = |config: Config| Config { cache_bytes: 1 << 20, batch_bytes: 1 << 16, ..config };
    let node = Node::open(tiny(Config::on_disk(params, folder.path())));
    let twin = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 102);
    let fan = split(&base[0].txdata[0], 0, OUTPUTS, &anyone());
    let outputs = node.make(&node.tip(), 0, vec![fan.clone()]);
    assert!((990_000..=1_000_000).contains(&(outputs.weight().to_wu() / 4)));
    node.submit(&outputs).result.unwrap();
    let from: Vec<(&Transaction, u32)> = (0..INPUTS as u32).map(|vout| (&fan, vout)).collect();
    let mut sweep = spend(&from[..1], 0);
    let txid = fan.compute_txid();
    sweep.input = (0..INPUTS as u32)
        .map(|vout| bitcoin::TxIn {
            previous_output: bitcoin::OutPoint { txid, vout },
            ..sweep.input[0].clone()
        })
        .collect();
    let inputs = node.make(&node.tip(), 0, vec![sweep]);
    node.submit(&inputs).result.unwrap();
    for block in base.iter().chain([&outputs, &inputs]) {
        twin.submit(block).result.unwrap();
    }
    let coins = |node: &Node| {
        let info = node.handle.utxo_set_info_blocking(UtxoHashKind::HashSerialized3).unwrap();
        (info.hash, info.txouts, info.total_amount)
    };
    assert_eq!(coins(&node), coins(&twin));
    node.handle.invalidate_blocking(inputs.block_hash()).unwrap();
    node.handle.reconsider_blocking(inputs.block_hash()).unwrap();
    assert_eq!(coins(&node), coins(&twin), "the inputs came off and on again");
}

/// What the kernel refuses is refused, even if the interpreter, which only names failures, finds
/// nothing wrong.
#[test]
fn the_kernels_word_stands_where_the_interpreter_disagrees() {
    struct Refuses;
    impl Checker for Refuses {
        fn check(&self, _: Vec<TxScriptCheck>) -> Result<(), (usize, ScriptFailure)> {
            Err((0, ScriptFailure::Invalid { input: 0 }))
        }
    }
    let node = Node::with_checker(regtest(), Arc::new(Refuses));
    let base = node.extend(&node.tip(), 0, 101);
    let block = node.make(&node.tip(), 0, vec![spend(&[(&base[0].txdata[0], 0)], 0)]);
    let outcome = node.submit(&block);
    assert_eq!(refused(&outcome), (BlockClass::Consensus, "block-script-verify-flag-failed (unknown error)"));
    assert_eq!(node.tip(), base[100].block_hash());
}
