use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, TxIn, Txid, Witness, absolute, transaction};

use super::*;

/// Whichever thread is first, the first input that fails is the one that is named.
#[test]
fn a_large_transaction_is_spread_and_its_first_failure_named() {
    let inputs = u32::try_from(4 * limits::SPREAD_INPUTS).unwrap();
    let output =
        |script: u8| TxOut { value: Amount::ONE_SAT, script_pubkey: ScriptBuf::from_bytes(vec![script]) };
    let tx = Arc::new(Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: (0..inputs)
            .map(|vout| TxIn {
                previous_output: OutPoint { txid: Txid::all_zeros(), vout },
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: Witness::new(),
            })
            .collect(),
        output: vec![output(0x51)],
    });
    let (good, bad) = (output(0x51), output(0x00));
    let checker = PoolChecker::new(Arc::new(ScriptCache::new(0, [0; 32])));
    let check = |failing: &[u32]| {
        let spent: Vec<TxOut> =
            (0..inputs).map(|n| if failing.contains(&n) { bad.clone() } else { good.clone() }).collect();
        checker.check(vec![TxScriptCheck::new(Arc::clone(&tx), spent, ScriptFlags::MANDATORY)])
    };
    assert_eq!(check(&[]), Ok(()));
    for failing in [vec![inputs - 1], vec![70, 200, 201], vec![0, inputs - 1]] {
        let input = failing[0] as usize;
        assert_eq!(check(&failing), Err((0, ScriptFailure::Invalid { input })), "{failing:?}");
    }
}
