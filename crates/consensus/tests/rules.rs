//! The points where implementations go wrong, one test each: transactions and blocks.

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};
use ironpeer_consensus::{
    Ancestry, BlockIds, BuriedDeployment, CheckBlock, CoinSource, Connected, DisconnectError, Params,
    RegtestOptions, ScriptFlags, ScriptMode, SequenceLocks, add_witness_commitment, block_subsidy,
    calculate_sequence_locks, check_block, check_signet_solution, check_transaction, check_tx_inputs,
    connect_block, contextual_check_block, disconnect_block, format_money, is_block_mutated, is_final_tx,
    sequence_locks_met, sigops, witness_commitment_index,
};
use ironpeer_primitives::{BlockClass, BlockReject, Coin, Height, TxClass};
use ironpeer_testkit::consensus::{Coins, HeaderChain, block_on, seal};

const COIN: u64 = 100_000_000;
const MAX_MONEY: u64 = 21_000_000 * COIN;

fn regtest() -> Params {
    Params::regtest(RegtestOptions::default())
}

fn op_true() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}

fn outpoint(n: u8) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([n; 32]), vout: 0 }
}

fn input(previous_output: OutPoint) -> TxIn {
    TxIn { previous_output, script_sig: ScriptBuf::new(), sequence: Sequence::MAX, witness: Witness::new() }
}

fn pay(sats: u64) -> TxOut {
    TxOut { value: Amount::from_sat(sats), script_pubkey: op_true() }
}

fn spend(from: &[OutPoint], outputs: Vec<TxOut>) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: from.iter().copied().map(input).collect(),
        output: outputs,
    }
}

fn coin(sats: u64, height: u32, is_coinbase: bool) -> Coin {
    Coin { output: pay(sats), height: Height(height), is_coinbase }
}

fn chain(params: &Params, blocks: u32) -> HeaderChain {
    let mut chain = HeaderChain::genesis(params);
    for tag in 0..blocks {
        let block = block_on(&chain, params, op_true(), Amount::ZERO, vec![], tag);
        chain.push(block.header);
    }
    chain
}

fn reason<T: std::fmt::Debug>(result: Result<T, BlockReject>) -> String {
    result.unwrap_err().reason.into_owned()
}

fn tx_reason(tx: &Transaction) -> String {
    let reject = check_transaction(tx).unwrap_err();
    assert_eq!(reject.class, TxClass::Consensus);
    reject.reason.into_owned()
}

// --- Transactions alone ---

#[test]
fn transactions_need_inputs_and_outputs() {
    assert_eq!(tx_reason(&spend(&[], vec![pay(1)])), "bad-txns-vin-empty");
    assert_eq!(tx_reason(&spend(&[outpoint(1)], vec![])), "bad-txns-vout-empty");
    assert_eq!(tx_reason(&spend(&[], vec![])), "bad-txns-vin-empty");
}

#[test]
fn stripped_size_times_four_is_at_most_four_million() {
    let mut tx = spend(&[outpoint(1)], vec![pay(1)]);
    let fixed = tx.base_size() + 3;
    tx.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0; 1_000_000 - fixed]);
    assert_eq!(tx.base_size(), 1_000_000);
    tx.input[0].witness = Witness::from_slice(&[vec![0; 100_000]]);
    check_transaction(&tx).unwrap();
    tx.input[0].script_sig = ScriptBuf::from_bytes(vec![0]);
    assert_eq!(tx_reason(&tx), "bad-txns-oversize");
}

#[test]
fn values_and_their_sums_are_within_the_money_range() {
    let of = |values: &[u64]| spend(&[outpoint(1)], values.iter().map(|value| pay(*value)).collect());
    check_transaction(&of(&[MAX_MONEY])).unwrap();
    check_transaction(&of(&[0, MAX_MONEY, 0])).unwrap();
    assert_eq!(tx_reason(&of(&[u64::MAX])), "bad-txns-vout-negative");
    assert_eq!(tx_reason(&of(&[1 << 63])), "bad-txns-vout-negative");
    assert_eq!(tx_reason(&of(&[(1 << 63) - 1])), "bad-txns-vout-toolarge");
    assert_eq!(tx_reason(&of(&[MAX_MONEY + 1])), "bad-txns-vout-toolarge");
    assert_eq!(tx_reason(&of(&[MAX_MONEY, 1])), "bad-txns-txouttotal-toolarge");
}

#[test]
fn no_input_is_named_twice() {
    for count in [2, 3, 9] {
        let mut from: Vec<_> = (1..count).map(outpoint).collect();
        check_transaction(&spend(&from, vec![pay(1)])).unwrap();
        from.push(outpoint(1));
        assert_eq!(tx_reason(&spend(&from, vec![pay(1)])), "bad-txns-inputs-duplicate");
    }
}

#[test]
fn coinbase_scripts_are_2_to_100_bytes_and_null_prevouts_theirs_alone() {
    let with = |len| {
        let mut tx = spend(&[OutPoint::null()], vec![pay(1)]);
        tx.input[0].script_sig = ScriptBuf::from_bytes(vec![0; len]);
        tx
    };
    check_transaction(&with(2)).unwrap();
    check_transaction(&with(100)).unwrap();
    assert_eq!(tx_reason(&with(1)), "bad-cb-length");
    assert_eq!(tx_reason(&with(101)), "bad-cb-length");
    assert_eq!(tx_reason(&spend(&[outpoint(1), OutPoint::null()], vec![pay(1)])), "bad-txns-prevout-null");
}

#[test]
fn lock_times_are_heights_below_five_hundred_million() {
    let mut tx = spend(&[outpoint(1)], vec![pay(1)]);
    tx.input[0].sequence = Sequence(0);
    let mut is_final = |lock_time, height, time| {
        tx.lock_time = LockTime::from_consensus(lock_time);
        is_final_tx(&tx, Height(height), time)
    };
    assert!(is_final(0, 0, 0));
    assert!(!is_final(10, 10, i64::MAX) && is_final(10, 11, 0));
    assert!(!is_final(499_999_999, 499_999_999, i64::MAX));
    assert!(!is_final(500_000_000, u32::MAX, 500_000_000) && is_final(500_000_000, 0, 500_000_001));
    let mut all_final = tx.clone();
    all_final.lock_time = LockTime::from_consensus(10);
    all_final.input[0].sequence = Sequence::MAX;
    assert!(is_final_tx(&all_final, Height(1), 0));
}

#[test]
fn bip68_takes_the_version_unsigned() {
    let params = regtest();
    let chain = chain(&params, 20);
    let locks = |version, enforce| {
        let mut tx = spend(&[outpoint(1)], vec![pay(1)]);
        tx.version = Version(version);
        tx.input[0].sequence = Sequence(5);
        calculate_sequence_locks(&tx, enforce, [Height(10)], &chain)
    };
    assert_eq!(locks(1, true), SequenceLocks::NONE);
    assert_eq!(locks(0, true), SequenceLocks::NONE);
    assert_eq!(locks(2, true), SequenceLocks { height: 14, time: -1 });
    assert_eq!(locks(-1, true), SequenceLocks { height: 14, time: -1 });
    assert_eq!(locks(2, false), SequenceLocks::NONE);
}

#[test]
fn relative_lock_times_count_blocks_or_512_seconds() {
    let params = regtest();
    let chain = chain(&params, 30);
    let locks = |sequences: &[u32], heights: &[u32]| {
        let mut tx = spend(&[outpoint(1), outpoint(2)], vec![pay(1)]);
        for (input, sequence) in tx.input.iter_mut().zip(sequences) {
            input.sequence = Sequence(*sequence);
        }
        calculate_sequence_locks(&tx, true, heights.iter().copied().map(Height), &chain)
    };
    // The later of the two, per kind.
    assert_eq!(locks(&[3, 7], &[20, 10]), SequenceLocks { height: 22, time: -1 });
    let time = chain.median_time_past_at(Height(14)).unwrap() + 2 * 512 - 1;
    assert_eq!(locks(&[1 << 22 | 2, 1], &[15, 0]), SequenceLocks { height: 0, time });
    let genesis_time = chain.median_time_past_at(Height(0)).unwrap();
    assert_eq!(locks(&[1 << 22, 1 << 31], &[0, 9]), SequenceLocks { height: -1, time: genesis_time - 1 });
    // Only the low 16 bits count.
    assert_eq!(locks(&[0x0030_0003 & !(1 << 22), 1 << 31], &[20, 10]).height, 22);

    let locks = SequenceLocks { height: 22, time: 1_000 };
    assert!(!sequence_locks_met(locks, Height(22), 1_001));
    assert!(!sequence_locks_met(locks, Height(23), 1_000));
    assert!(sequence_locks_met(locks, Height(23), 1_001));
}

#[test]
fn inputs_are_there_ripe_and_worth_the_outputs() {
    let tx = spend(&[outpoint(1), outpoint(2)], vec![pay(5 * COIN), pay(COIN)]);
    let check = |coins: [Option<&Coin>; 2], height| {
        check_tx_inputs(&tx, coins, Height(height)).map_err(|reject| (reject.class, reject.to_string()))
    };
    let (a, b) = (coin(5 * COIN, 1, true), coin(COIN + 7, 50, false));
    assert_eq!(check([Some(&a), Some(&b)], 101), Ok(Amount::from_sat(7)));
    let missing = "bad-txns-inputs-missingorspent, CheckTxInputs: inputs missing/spent".to_string();
    // Missing comes before unripe.
    assert_eq!(check([Some(&a), None], 5), Err((TxClass::MissingInputs, missing)));
    let early = "bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 99".to_string();
    assert_eq!(check([Some(&a), Some(&b)], 100), Err((TxClass::PrematureSpend, early)));
    let below = "bad-txns-in-belowout, value in (5.50) < value out (6.00)".to_string();
    assert_eq!(check([Some(&a), Some(&coin(COIN / 2, 1, false))], 101), Err((TxClass::Consensus, below)));
    let range = (TxClass::Consensus, "bad-txns-inputvalues-outofrange".to_string());
    assert_eq!(check([Some(&coin(MAX_MONEY, 1, false)), Some(&b)], 101), Err(range.clone()));
    assert_eq!(check([Some(&coin(MAX_MONEY + 1, 1, false)), Some(&b)], 101), Err(range));
}

#[test]
fn money_reads_as_in_core() {
    for (sats, text) in
        [(0, "0.00"), (1, "0.00000001"), (COIN, "1.00"), (150_000_000, "1.50"), (123_456_780, "1.2345678")]
    {
        assert_eq!(format_money(sats), text);
    }
}

// --- Sigops ---

#[test]
fn sigops_are_counted_over_bytes_up_to_a_truncated_push() {
    let count = |hex: &str, accurate| sigops::script_sigops(&hex::decode(hex).unwrap(), accurate);
    assert_eq!(count("acadaeaf", false), 42);
    assert_eq!(count("53ae60afae", true), 3 + 16 + 20);
    assert_eq!(count("00ae", true), 20);
    assert_eq!(count("01acac", false), 1, "pushed bytes do not count");
    assert_eq!(count("4c02acacac", false), 1);
    assert_eq!(count("4d0200acacac", false), 1);
    assert_eq!(count("4e02000000acacac", false), 1);
    assert_eq!(count("ac02acac", false), 1);
    assert_eq!(count("ac03acac", false), 1, "what a push lacks ends the count");
    assert_eq!(count("ac4e0200", false), 1);
    assert_eq!(count("ac4effffffffacac", false), 1);
}

#[test]
fn p2sh_and_witness_sigops_follow_the_flags() {
    let p2sh = |redeem: &[u8]| {
        let script_sig = ScriptBuf::builder()
            .push_slice(bitcoin::script::PushBytesBuf::try_from(redeem.to_vec()).unwrap())
            .into_script();
        (script_sig, ScriptBuf::new_p2sh(&Script::from_bytes(redeem).script_hash()))
    };
    let all = ScriptFlags::MANDATORY;
    let cost = |script_sig: &ScriptBuf, spent: &ScriptBuf, witness: &[Vec<u8>], flags| {
        let mut tx = spend(&[outpoint(1)], vec![pay(1)]);
        tx.input[0].script_sig = script_sig.clone();
        tx.input[0].witness = Witness::from_slice(witness);
        let output = TxOut { value: Amount::ZERO, script_pubkey: spent.clone() };
        sigops::tx_sigop_cost(&tx, [&output], flags)
    };
    let multisig = hex::decode("5300000053ae").unwrap();
    let (script_sig, spent) = p2sh(&multisig);
    assert_eq!(cost(&script_sig, &spent, &[], all), 12);
    assert_eq!(cost(&script_sig, &spent, &[], ScriptFlags::NONE), 0);
    // More than pushes, or a push beyond the end: none.
    let mut not_push_only = script_sig.clone().into_bytes();
    not_push_only.insert(0, 0x61);
    assert_eq!(cost(&ScriptBuf::from_bytes(not_push_only), &spent, &[], all), 0);
    let mut truncated = script_sig.into_bytes();
    truncated.push(0x05);
    assert_eq!(cost(&ScriptBuf::from_bytes(truncated), &spent, &[], all), 0);

    let wpkh = ScriptBuf::from_bytes([vec![0, 20], vec![7; 20]].concat());
    let wsh = ScriptBuf::from_bytes([vec![0, 32], vec![7; 32]].concat());
    let tr = ScriptBuf::from_bytes([vec![0x51, 32], vec![7; 32]].concat());
    let none = ScriptBuf::new();
    let stack = [vec![], multisig];
    assert_eq!(cost(&none, &wpkh, &[], all), 1);
    assert_eq!(cost(&none, &wsh, &stack, all), 3);
    assert_eq!(cost(&none, &wsh, &[], all), 0);
    assert_eq!(cost(&none, &tr, &stack, all), 0);
    assert_eq!(cost(&none, &wsh, &stack, ScriptFlags::P2SH), 0);
    for (program, expected) in [(&wpkh, 1), (&wsh, 3), (&tr, 0)] {
        let (script_sig, spent) = p2sh(program.as_bytes());
        assert_eq!(cost(&script_sig, &spent, &stack, all), expected);
    }
}

// --- Blocks alone ---

/// A block on a short chain, changed by `change` and sealed.
fn changed(change: impl FnOnce(&mut Block)) -> (HeaderChain, Block) {
    let params = regtest();
    let chain = chain(&params, 3);
    let txs = (1..4).map(|n| spend(&[outpoint(n)], vec![pay(1)])).collect();
    let mut block = block_on(&chain, &params, op_true(), Amount::ZERO, txs, 77);
    block.txdata[0].output.pop();
    change(&mut block);
    add_witness_commitment(&mut block);
    seal(&mut block, &params);
    (chain, block)
}

fn context_free(change: impl FnOnce(&mut Block)) -> BlockReject {
    check_block(&changed(change).1, &regtest(), CheckBlock::ALL).unwrap_err()
}

fn contextual(change: impl FnOnce(&mut Block)) -> Result<(), BlockReject> {
    let (chain, block) = changed(change);
    check_block(&block, &regtest(), CheckBlock::ALL).unwrap();
    contextual_check_block(&block, &chain, &regtest())
}

#[test]
fn an_unchanged_block_passes() {
    contextual(|_| {}).unwrap();
}

#[test]
fn merkle_failures_are_mutations_and_come_first() {
    let (_, mut block) = changed(|_| {});
    block.txdata[0].input[0].script_sig = ScriptBuf::new();
    let reject = check_block(&block, &regtest(), CheckBlock::ALL).unwrap_err();
    assert_eq!((reject.class, reject.reason.as_ref()), (BlockClass::Mutated, "bad-txnmrklroot"));
    assert!(!reject.condemns_header());
    assert!(is_block_mutated(&block, true));
    // Templates are not asked for it.
    assert_eq!(reason(check_block(&block, &regtest(), CheckBlock::TEMPLATE)), "bad-cb-length");

    // Repeating the end of an odd list keeps the root (CVE-2012-2459).
    let (_, mut block) = changed(|block| block.txdata.truncate(3));
    let root = block.header.merkle_root;
    let last = block.txdata[2].clone();
    block.txdata.push(last);
    assert_eq!(block.compute_merkle_root(), Some(root));
    let reject = check_block(&block, &regtest(), CheckBlock::ALL).unwrap_err();
    assert_eq!((reject.class, reject.reason.as_ref()), (BlockClass::Mutated, "bad-txns-duplicate"));
}

#[test]
fn size_is_checked_stripped_and_by_transaction_count() {
    let big = |bytes: usize| {
        move |block: &mut Block| {
            block.txdata[1].output[0].script_pubkey = ScriptBuf::from_bytes(vec![0; bytes]);
        }
    };
    let reject = context_free(big(1_000_000));
    assert_eq!(reject.to_string(), "bad-blk-length, size limits failed");
    assert_eq!(reject.class, BlockClass::Consensus);
    // A witness does not count here.
    let (_, block) = changed(|block| {
        block.txdata[1].input[0].witness = Witness::from_slice(&[vec![0; 3_000_000]]);
        big(900_000)(block);
    });
    check_block(&block, &regtest(), CheckBlock::ALL).unwrap();
    assert_eq!(context_free(|block| block.txdata.clear()).reason, "bad-blk-length");
    // The count is checked by itself, though no transaction is small enough to make it matter:
    // a million and one of them are above the size anyway.
}

#[test]
fn the_first_transaction_and_only_it_is_the_coinbase() {
    let reject = context_free(|block| {
        block.txdata.remove(0);
    });
    assert_eq!(reject.to_string(), "bad-cb-missing, first tx is not coinbase");
    let reject = context_free(|block| {
        let mut second = block.txdata[0].clone();
        second.output.truncate(1);
        block.txdata.push(second);
    });
    assert_eq!(reject.to_string(), "bad-cb-multiple, more than one coinbase");
}

#[test]
fn a_bad_transaction_is_named() {
    let reject = context_free(|block| block.txdata[2].output.clear());
    assert_eq!(reject.reason, "bad-txns-vout-empty");
    assert!(reject.debug.starts_with("Transaction check failed (tx hash "), "{}", reject.debug);
    assert!(reject.debug.ends_with(") "));
}

#[test]
fn legacy_sigops_times_four_are_at_most_eighty_thousand() {
    let with = |count| {
        move |block: &mut Block| {
            block.txdata[1].output[0].script_pubkey = ScriptBuf::from_bytes(vec![0xac; count]);
        }
    };
    contextual(with(20_000)).unwrap();
    assert_eq!(context_free(with(20_001)).to_string(), "bad-blk-sigops, out-of-bounds SigOpCount");
}

#[test]
fn bip54_is_active_nowhere() {
    // 2,500 legacy sigops in one transaction, and a 64-byte transaction, are fine.
    let (chain, block) = changed(|block| {
        block.txdata[1].output[0].script_pubkey = ScriptBuf::from_bytes(vec![0xac; 2_501]);
        block.txdata[2].output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51; 4]);
        assert_eq!(block.txdata[2].base_size(), 64);
    });
    check_block(&block, &regtest(), CheckBlock::ALL).unwrap();
    contextual_check_block(&block, &chain, &regtest()).unwrap();
    assert!(!is_block_mutated(&block, true));
}

#[test]
fn a_64_byte_transaction_is_a_mutation_only_without_a_coinbase() {
    let with = |script_len: usize| {
        let (_, block) = changed(|block| {
            block.txdata.remove(0);
            block.txdata[1].output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51; script_len]);
        });
        is_block_mutated(&block, true)
    };
    assert!(with(4));
    assert!(!with(5));
}

#[test]
fn the_height_leads_the_coinbase_script() {
    let with = |bytes: &'static [u8]| {
        contextual(move |block| block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(bytes.to_vec()))
    };
    with(&[0x54, 9]).unwrap();
    for wrong in [&[0x55, 9][..], &[1, 4, 9], &[0, 0x54]] {
        let reject = with(wrong).unwrap_err();
        assert_eq!(reject.to_string(), "bad-cb-height, block height mismatch in coinbase");
        assert_eq!(reject.class, BlockClass::Consensus);
    }
}

#[test]
fn finality_is_measured_by_median_time_past_since_csv_and_block_time_before() {
    let lock = |time: i64| {
        move |block: &mut Block| {
            block.txdata[1].lock_time = LockTime::from_consensus(u32::try_from(time).unwrap());
            block.txdata[1].input[0].sequence = Sequence(0);
            block.header.time += 1_000;
        }
    };
    let (chain, block) = changed(|_| {});
    let median = chain.median_time_past_at(chain.height()).unwrap();
    contextual(lock(median - 1)).unwrap();
    let reject = contextual(lock(median)).unwrap_err();
    assert_eq!(reject.to_string(), "bad-txns-nonfinal, non-final transaction");

    let late_csv = Params::regtest(RegtestOptions {
        activation_heights: vec![(BuriedDeployment::Csv, Height(5))],
        ..RegtestOptions::default()
    });
    let block_time = i64::from(block.header.time) + 1_000;
    for (time, passes) in [(median, true), (block_time - 1, true), (block_time, false)] {
        let (chain, block) = changed(lock(time));
        assert_eq!(contextual_check_block(&block, &chain, &late_csv).is_ok(), passes);
    }
}

#[test]
fn the_last_commitment_counts() {
    let (chain, block) = changed(|_| {});
    let good = witness_commitment_index(&block).unwrap();
    let commitment = block.txdata[0].output[good].clone();
    let mut wrong = commitment.clone();
    wrong.script_pubkey =
        ScriptBuf::from_bytes([&commitment.script_pubkey.as_bytes()[..6], &[9; 32]].concat());
    let judge = |outputs: Vec<TxOut>| {
        let mut block = block.clone();
        block.txdata[0].output = outputs;
        seal(&mut block, &regtest());
        contextual_check_block(&block, &chain, &regtest())
    };
    judge(vec![wrong.clone(), commitment.clone()]).unwrap();
    let reject = judge(vec![commitment.clone(), wrong]).unwrap_err();
    assert_eq!(
        reject.to_string(),
        "bad-witness-merkle-match, CheckWitnessMalleation : witness merkle commitment mismatch"
    );
    assert_eq!(reject.class, BlockClass::Mutated);
    // Longer is still one, shorter none.
    let mut longer = commitment.clone();
    longer.script_pubkey = ScriptBuf::from_bytes([commitment.script_pubkey.as_bytes(), &[1, 2, 3]].concat());
    judge(vec![longer]).unwrap();
    let mut shorter = commitment.clone();
    shorter.script_pubkey = ScriptBuf::from_bytes(commitment.script_pubkey.as_bytes()[..37].to_vec());
    assert_eq!(
        judge(vec![shorter]).unwrap_err().to_string(),
        "unexpected-witness, CheckWitnessMalleation : unexpected witness data found"
    );
}

#[test]
fn the_reserved_value_is_one_item_of_32_bytes() {
    for bad in [vec![], vec![vec![0; 31]], vec![vec![0; 33]], vec![vec![0; 32], vec![]]] {
        let (chain, mut block) = changed(|_| {});
        block.txdata[0].input[0].witness = Witness::from_slice(&bad);
        let reject = contextual_check_block(&block, &chain, &regtest()).unwrap_err();
        assert_eq!(
            reject.to_string(),
            "bad-witness-nonce-size, CheckWitnessMalleation : invalid witness reserved value size"
        );
        assert_eq!(reject.class, BlockClass::Mutated);
        assert!(is_block_mutated(&block, true));
    }
}

#[test]
fn before_segwit_no_witness_is_allowed_and_commitments_mean_nothing() {
    let params = Params::regtest(RegtestOptions {
        activation_heights: vec![(BuriedDeployment::Segwit, Height(5))],
        ..RegtestOptions::default()
    });
    let (chain, mut block) = changed(|_| {});
    assert_eq!(reason(contextual_check_block(&block, &chain, &params)), "unexpected-witness");
    assert!(is_block_mutated(&block, false));
    block.txdata[0].input[0].witness = Witness::new();
    contextual_check_block(&block, &chain, &params).unwrap();
    assert!(!is_block_mutated(&block, false));
    assert!(is_block_mutated(&block, true));
}

#[test]
fn weight_is_judged_only_after_the_commitment() {
    let heavy = Witness::from_slice(&[vec![0; 3_999_000]]);
    let (chain, mut block) = changed(|_| {});
    block.txdata[0].input[0].witness = heavy.clone();
    // Anybody could have bloated the coinbase witness: a mutation.
    assert_eq!(reason(contextual_check_block(&block, &chain, &regtest())), "bad-witness-nonce-size");
    let reject = contextual(move |block| {
        block.txdata[1].input[0].witness = heavy;
    })
    .unwrap_err();
    assert_eq!(reject.to_string(), "bad-blk-weight, ContextualCheckBlock : weight limit failed");
    assert_eq!(reject.class, BlockClass::Consensus);
}

// --- Connecting ---

struct Bench {
    params: Params,
    chain: HeaderChain,
    coins: Coins,
}

impl Bench {
    fn new(blocks: u32) -> Self {
        let params = regtest();
        Self { chain: chain(&params, blocks), params, coins: Coins::default() }
    }

    fn coin(mut self, n: u8, coin: Coin) -> Self {
        self.coins.0.insert(outpoint(n), coin);
        self
    }

    fn connect_paying(&self, txs: Vec<Transaction>, fees: u64) -> Result<Connected, BlockReject> {
        let block = block_on(&self.chain, &self.params, op_true(), Amount::from_sat(fees), txs, 5);
        self.connect_block(block)
    }

    fn connect(&self, txs: Vec<Transaction>) -> Result<Connected, BlockReject> {
        self.connect_paying(txs, 0)
    }

    fn connect_block(&self, block: Block) -> Result<Connected, BlockReject> {
        let ids = BlockIds::of(&block);
        connect_block(&Arc::new(block), &ids, &self.chain, &self.params, &self.coins, ScriptMode::Check)
    }
}

#[test]
fn outputs_can_be_spent_in_their_own_block_in_order_only() {
    let bench = Bench::new(3).coin(1, coin(COIN, 1, false));
    let parent = spend(&[outpoint(1)], vec![pay(COIN)]);
    let made = OutPoint { txid: parent.compute_txid(), vout: 0 };
    let child = spend(&[made], vec![pay(COIN - 3)]);
    let connected = bench.connect(vec![parent.clone(), child.clone()]).unwrap();
    assert_eq!(connected.fees, Amount::from_sat(3));
    assert_eq!(connected.changes.get(&outpoint(1)), Some(&None));
    assert!(!connected.changes.contains_key(&made), "made and spent: no change");
    assert_eq!(connected.undo.txs[1], [coin(COIN, 4, false)]);
    assert_eq!(connected.checks.len(), 2);
    let reject = bench.connect(vec![child.clone(), parent.clone()]).unwrap_err();
    assert_eq!(
        reject.to_string(),
        format!(
            "bad-txns-inputs-missingorspent, CheckTxInputs: inputs missing/spent in transaction {}",
            child.compute_txid()
        )
    );
    assert_eq!(reject.class, BlockClass::Consensus);
    let again = spend(&[outpoint(1)], vec![pay(1)]);
    assert_eq!(reason(bench.connect(vec![parent, again])), "bad-txns-inputs-missingorspent");
}

#[test]
fn coinbases_ripen_for_100_blocks() {
    let bench = Bench::new(101).coin(1, coin(COIN, 2, true)).coin(2, coin(COIN, 3, true));
    bench.connect(vec![spend(&[outpoint(1)], vec![pay(COIN)])]).unwrap();
    let reject = bench.connect(vec![spend(&[outpoint(2)], vec![pay(COIN)])]).unwrap_err();
    assert_eq!(reject.reason, "bad-txns-premature-spend-of-coinbase");
    assert!(reject.debug.starts_with("tried to spend coinbase at depth 99 in transaction "));
}

#[test]
fn relative_locks_are_judged_with_the_coins_and_since_csv() {
    let mut bench = Bench::new(20).coin(1, coin(COIN, 18, false));
    let locked = |blocks| {
        let mut tx = spend(&[outpoint(1)], vec![pay(COIN)]);
        tx.input[0].sequence = Sequence(blocks);
        tx
    };
    bench.connect(vec![locked(3)]).unwrap();
    let reject = bench.connect(vec![locked(4)]).unwrap_err();
    assert_eq!(
        reject.to_string(),
        format!("bad-txns-nonfinal, contains a non-BIP68-final transaction {}", locked(4).compute_txid())
    );
    bench.params.csv_height = Height(22);
    bench.connect(vec![locked(4)]).unwrap();
}

#[test]
fn sigops_behind_hashes_count_when_connecting() {
    let redeem = vec![0xac; 500];
    let script = ScriptBuf::new_p2sh(&Script::from_bytes(&redeem).script_hash());
    let mut bench = Bench::new(3);
    let mut tx = spend(&[], vec![pay(1)]);
    for n in 0..41 {
        let output = TxOut { value: Amount::from_sat(1), script_pubkey: script.clone() };
        bench.coins.0.insert(outpoint(n), Coin { output, height: Height(1), is_coinbase: false });
        let mut input = input(outpoint(n));
        input.script_sig = ScriptBuf::builder()
            .push_slice(bitcoin::script::PushBytesBuf::try_from(redeem.clone()).unwrap())
            .into_script();
        tx.input.push(input);
    }
    let reject = bench.connect(vec![tx.clone()]).unwrap_err();
    assert_eq!(reject.to_string(), "bad-blk-sigops, too many sigops");
    tx.input.pop();
    assert_eq!(bench.connect(vec![tx]).unwrap().sigop_cost, 80_000);
}

#[test]
fn an_excepted_blocks_own_flags_count_its_sigops_too() {
    let redeem = ScriptBuf::from_bytes(vec![0xac; 510]);
    let script_sig = ScriptBuf::builder()
        .push_slice(bitcoin::script::PushBytesBuf::try_from(redeem.to_bytes()).unwrap())
        .into_script();
    let mut bench = Bench::new(3);
    let mut tx = spend(&[], vec![pay(1)]);
    for n in 0..40 {
        let output = TxOut { value: Amount::from_sat(1), script_pubkey: redeem.to_p2sh() };
        bench.coins.0.insert(outpoint(n), Coin { output, height: Height(1), is_coinbase: false });
        tx.input.push(TxIn { script_sig: script_sig.clone(), ..input(outpoint(n)) });
    }
    let block = block_on(&bench.chain, &bench.params, op_true(), Amount::ZERO, vec![tx], 5);
    assert_eq!(reason(bench.connect_block(block.clone())), "bad-blk-sigops");
    bench.params.script_flag_exceptions = vec![(block.block_hash(), ScriptFlags::NONE)];
    let connected = bench.connect_block(block).unwrap();
    assert_eq!(connected.sigop_cost, 0);
    // Those of its height come on top of the listed ones, as in Core.
    assert_eq!(
        connected.checks[0].flags(),
        ScriptFlags::DERSIG
            | ScriptFlags::CHECKLOCKTIMEVERIFY
            | ScriptFlags::CHECKSEQUENCEVERIFY
            | ScriptFlags::NULLDUMMY
    );
}

/// Coins that count how often they are asked for.
struct Asked<'a> {
    coins: &'a Coins,
    times: std::cell::Cell<usize>,
}

impl CoinSource for Asked<'_> {
    fn coin(&self, outpoint: &OutPoint) -> Option<Coin> {
        self.times.set(self.times.get() + 1);
        self.coins.coin(outpoint)
    }
}

/// Zebra once added up values again for every input; here nothing grows faster than the block.
#[test]
fn ghsa_4g24_each_coin_is_asked_for_once() {
    const INPUTS: u32 = 2_000;
    let mut bench = Bench::new(3);
    let mut tx = spend(&[], vec![pay(1); 50]);
    for vout in 0..INPUTS {
        let from = OutPoint { vout, ..outpoint(9) };
        bench.coins.0.insert(from, coin(1, 1, false));
        tx.input.push(input(from));
    }
    let block = Arc::new(block_on(&bench.chain, &bench.params, op_true(), Amount::ZERO, vec![tx], 5));
    let ids = BlockIds::of(&block);
    let asked = Asked { coins: &bench.coins, times: std::cell::Cell::new(0) };
    connect_block(&block, &ids, &bench.chain, &bench.params, &asked, ScriptMode::Check).unwrap();
    // Once for each input, and once for each output that must not be there yet (BIP30).
    let outputs: usize = block.txdata.iter().map(|tx| tx.output.len()).sum();
    assert!(asked.times.get() <= INPUTS as usize + outputs, "{}", asked.times.get());
}

#[test]
fn fees_add_up_within_the_money_range() {
    let bench = Bench::new(3).coin(1, coin(MAX_MONEY, 1, false)).coin(2, coin(MAX_MONEY, 1, false));
    let all = |n| spend(&[outpoint(n)], vec![pay(0)]);
    bench.connect(vec![all(1)]).unwrap();
    let reject = bench.connect(vec![all(1), all(2)]).unwrap_err();
    assert_eq!(
        reject.to_string(),
        "bad-txns-accumulated-fee-outofrange, accumulated fee in the block out of range"
    );
    let both = spend(&[outpoint(1), outpoint(2)], vec![pay(0)]);
    assert_eq!(reason(bench.connect(vec![both])), "bad-txns-inputvalues-outofrange");
}

#[test]
fn the_coinbase_pays_at_most_subsidy_and_fees() {
    let bench = Bench::new(3).coin(1, coin(COIN, 1, false));
    let tx = || vec![spend(&[outpoint(1)], vec![pay(COIN - 9)])];
    bench.connect_paying(tx(), 9).unwrap();
    let reject = bench.connect_paying(tx(), 10).unwrap_err();
    assert_eq!(
        reject.to_string(),
        "bad-cb-amount, coinbase pays too much (actual=5000000010 vs limit=5000000009)"
    );
}

#[test]
fn subsidies_halve_and_end() {
    let main = Params::main();
    let at = |height| block_subsidy(Height(height), &main).to_sat();
    assert_eq!(at(0), 50 * COIN);
    assert_eq!(at(209_999), 50 * COIN);
    assert_eq!(at(210_000), 25 * COIN);
    assert_eq!(at(210_000 * 32), 1);
    assert_eq!(at(210_000 * 33), 0);
    assert_eq!(at(210_000 * 64), 0);
    assert_eq!(at(u32::MAX), 0);
    assert_eq!(block_subsidy(Height(150), &regtest()).to_sat(), 25 * COIN);
    let total: u64 = (0..7_000_000 / 1_000).map(|step| at(step * 1_000) * 1_000).sum();
    assert_eq!(total, 2_099_999_997_690_000);
}

#[test]
fn unspendable_outputs_are_no_coins() {
    let bench = Bench::new(3).coin(1, coin(COIN, 1, false));
    let output =
        |script: Vec<u8>| TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::from_bytes(script) };
    let tx = spend(
        &[outpoint(1)],
        vec![
            output(vec![0x6a]),
            output(vec![0x51; 10_001]),
            output(vec![0x51; 10_000]),
            output(vec![0x51, 0x6a]),
        ],
    );
    let txid = tx.compute_txid();
    let connected = bench.connect(vec![tx]).unwrap();
    let has = |vout| connected.changes.contains_key(&OutPoint { txid, vout });
    assert_eq!([has(0), has(1), has(2), has(3)], [false, false, true, true]);
}

#[test]
fn non_script_failures_win_since_scripts_are_left_over() {
    let never = TxOut { value: Amount::from_sat(COIN), script_pubkey: ScriptBuf::from_bytes(vec![0x00]) };
    let mut bench = Bench::new(3);
    bench.coins.0.insert(outpoint(1), Coin { output: never, height: Height(1), is_coinbase: false });
    let bad_script = spend(&[outpoint(1)], vec![pay(1)]);
    let connected = bench.connect(vec![bad_script.clone()]).unwrap();
    assert!(connected.checks[0].verify(&ironpeer_consensus::ScriptCache::new(0, [0; 32])).is_err());
    assert_eq!(
        reason(bench.connect(vec![bad_script.clone(), spend(&[outpoint(9)], vec![pay(1)])])),
        "bad-txns-inputs-missingorspent"
    );
    assert_eq!(reason(bench.connect_paying(vec![bad_script], 10 * COIN)), "bad-cb-amount");
}

// --- BIP30 ---

/// A chain of which only the height and one header's hash matter.
struct Tall {
    height: Height,
    bip34: (Height, BlockHash),
}

impl Ancestry for Tall {
    fn height(&self) -> Height {
        self.height
    }

    fn header_at(&self, height: Height) -> Option<(BlockHash, bitcoin::block::Header)> {
        let hash = if height == self.bip34.0 { self.bip34.1 } else { BlockHash::all_zeros() };
        (height <= self.height).then(|| (hash, Params::main().genesis.header))
    }
}

/// Whether BIP30 is enforced for the child of `parent`, judged by a block that repeats a coin.
fn bip30_enforced(parent: &Tall, hash: Option<&str>) -> bool {
    let params = Params::main();
    let mut block = params.genesis.clone();
    block.txdata[0].output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51; 10]);
    // Paid nothing, so that late heights do not fail on the subsidy.
    block.txdata[0].output[0].value = Amount::ZERO;
    let mut ids = BlockIds::of(&block);
    if let Some(hash) = hash {
        ids.hash = hash.parse().unwrap();
    }
    let mut coins = Coins::default();
    coins.0.insert(OutPoint { txid: ids.txids[0], vout: 0 }, coin(1, 1, true));
    match connect_block(&Arc::new(block), &ids, parent, &params, &coins, ScriptMode::Check) {
        Ok(_) => false,
        Err(reject) => {
            assert_eq!(reject.to_string(), "bad-txns-BIP30, tried to overwrite transaction");
            true
        }
    }
}

#[test]
fn bip30_is_skipped_by_height_and_hash_or_after_bip34_and_returns() {
    let main = Params::main();
    let known = (main.bip34_height, main.bip34_hash.unwrap());
    let on_chain = |height: u32| Tall { height: Height(height - 1), bip34: known };
    let off_chain =
        |height: u32| Tall { height: Height(height - 1), bip34: (known.0, BlockHash::all_zeros()) };
    assert!(bip30_enforced(&on_chain(91_842), None));
    assert!(!bip30_enforced(
        &on_chain(91_842),
        Some("00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec")
    ));
    assert!(!bip30_enforced(
        &on_chain(91_880),
        Some("00000000000743f190a18c5577a3c2d2a1f610ae9601ac046a38084ccb7cd721")
    ));
    // The hash at another height is no exception.
    assert!(bip30_enforced(
        &on_chain(91_880),
        Some("00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec")
    ));
    // The block at the BIP34 height must be an ancestor of the parent.
    assert!(bip30_enforced(&on_chain(227_931), None));
    assert!(!bip30_enforced(&on_chain(227_932), None));
    assert!(bip30_enforced(&off_chain(227_932), None));
    assert!(!bip30_enforced(&on_chain(1_983_701), None));
    assert!(bip30_enforced(&on_chain(1_983_702), None));
    // Networks without that block always look.
    let bench = Bench::new(3);
    let block = block_on(&bench.chain, &bench.params, op_true(), Amount::ZERO, vec![], 5);
    let mut bench = bench;
    bench.coins.0.insert(OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 }, coin(1, 1, true));
    assert_eq!(reason(bench.connect_block(block)), "bad-txns-BIP30");
}

// --- Disconnecting ---

#[test]
fn disconnecting_reports_coins_that_do_not_fit() {
    let bench = Bench::new(3).coin(1, coin(COIN, 1, false));
    let tx = spend(&[outpoint(1)], vec![pay(COIN)]);
    let block = block_on(&bench.chain, &bench.params, op_true(), Amount::ZERO, vec![tx.clone()], 5);
    let ids = BlockIds::of(&block);
    let connected = bench.connect_block(block.clone()).unwrap();
    let mut after = bench.coins.clone();
    after.apply(connected.changes);
    let off = |coins: &Coins| disconnect_block(&block, &ids, &connected.undo, Height(4), coins).unwrap();
    assert!(off(&after).clean);

    let mut missing = after.clone();
    missing.0.remove(&OutPoint { txid: tx.compute_txid(), vout: 0 });
    assert!(!off(&missing).clean);
    let mut other_height = after.clone();
    other_height.0.get_mut(&OutPoint { txid: tx.compute_txid(), vout: 0 }).unwrap().height = Height(9);
    assert!(!off(&other_height).clean);
    let mut overwriting = after.clone();
    overwriting.0.insert(outpoint(1), coin(1, 1, false));
    let unclean = off(&overwriting);
    assert!(!unclean.clean);
    assert_eq!(unclean.changes.get(&outpoint(1)), Some(&Some(coin(COIN, 1, false))));

    let mut undo = (*connected.undo).clone();
    undo.txs[0].clear();
    let error = disconnect_block(&block, &ids, &undo, Height(4), &after).unwrap_err();
    assert_eq!(error, DisconnectError::TxMismatch);
    undo.txs.clear();
    let error = disconnect_block(&block, &ids, &undo, Height(4), &after).unwrap_err();
    assert_eq!(error, DisconnectError::BlockMismatch);
}

#[test]
fn the_two_repeated_coinbases_may_be_missing_when_their_blocks_come_off() {
    let block = Params::main().genesis.clone();
    let undo = ironpeer_primitives::BlockUndo::default();
    let mut ids = BlockIds::of(&block);
    let clean = |ids: &BlockIds, height| {
        disconnect_block(&block, ids, &undo, Height(height), &Coins::default()).unwrap().clean
    };
    assert!(!clean(&ids, 91_722));
    ids.hash = "00000000000271a2dc26e7667f8419f2e15416dc6955e5a6c6cdf3f2574dd08e".parse().unwrap();
    assert!(clean(&ids, 91_722));
    assert!(!clean(&ids, 91_812));
    ids.hash = "00000000000af0aed4792b1acee3d966af36cf5def14935db8de83d6f9306f2f".parse().unwrap();
    assert!(clean(&ids, 91_812));
}

// --- Signet ---

/// A block whose commitment output goes on with `tail`.
fn signet_block(tail: &[u8]) -> (Block, Vec<Txid>) {
    let (_, mut block) = changed(|_| {});
    let index = witness_commitment_index(&block).unwrap();
    let output = &mut block.txdata[0].output[index];
    output.script_pubkey = ScriptBuf::from_bytes([output.script_pubkey.as_bytes(), tail].concat());
    let ids = BlockIds::of(&block);
    (block, ids.txids)
}

/// A push of the signet header and a solution.
fn solution(bytes: &[u8]) -> Vec<u8> {
    let mut push = vec![u8::try_from(bytes.len()).unwrap() + 4, 0xec, 0xc7, 0xda, 0xa2];
    push.extend(bytes);
    push
}

#[test]
fn signet_blocks_carry_a_solution_of_the_challenge() {
    let solves = |tail: &[u8], challenge: &[u8]| {
        let (block, txids) = signet_block(tail);
        check_signet_solution(&block, &txids, Script::from_bytes(challenge))
    };
    assert!(solves(&[], &[0x51]), "OP_TRUE needs none");
    assert!(!solves(&[], &[0x00]));
    // OP_5 OP_EQUAL, solved by a script that pushes 5: length, script, empty witness.
    assert!(solves(&solution(&[1, 0x55, 0]), &[0x55, 0x87]));
    assert!(!solves(&solution(&[1, 0x54, 0]), &[0x55, 0x87]));
    assert!(!solves(&solution(&[1, 0x55, 0, 0]), &[0x55, 0x87]), "bytes left over");
    assert!(!solves(&solution(&[2, 0x55]), &[0x55, 0x87]), "too short");
    assert!(!solves(&solution(&[]), &[0x55, 0x87]), "the header alone is no solution");
    // Only the first counts.
    let two = [solution(&[1, 0x55, 0]), solution(&[1, 0x54, 0])].concat();
    assert!(solves(&two, &[0x55, 0x87]));
    let (mut block, txids) = signet_block(&[]);
    block.txdata[0].output.truncate(1);
    assert!(!check_signet_solution(&block, &txids, &op_true()), "no commitment, no place for it");
}

#[test]
fn signet_solutions_are_not_judged_by_taproot_rules() {
    let (block, txids) = signet_block(&[]);
    let taproot = ScriptBuf::from_bytes([vec![0x51, 32], vec![7; 32]].concat());
    assert!(check_signet_solution(&block, &txids, &taproot));
    let witness_v0 = ScriptBuf::from_bytes([vec![0x00, 32], vec![7; 32]].concat());
    assert!(!check_signet_solution(&block, &txids, &witness_v0));
}

#[test]
fn an_unsolved_signet_block_fails_before_its_merkle_root() {
    let mut params = Params::signet(Some(ScriptBuf::from_bytes(vec![0x00])));
    // Regtest's limit, so that the block is found at once.
    params.pow_limit = regtest().pow_limit;
    let (_, mut block) = changed(|_| {});
    block.txdata.pop();
    let reject = check_block(&block, &params, CheckBlock::ALL).unwrap_err();
    assert_eq!(reject.to_string(), "bad-signet-blksig, signet block signature validation failure");
    assert_eq!(reject.class, BlockClass::Consensus);
    params.signet_challenge = Some(op_true());
    assert_eq!(reason(check_block(&block, &params, CheckBlock::ALL)), "bad-txnmrklroot");
}
