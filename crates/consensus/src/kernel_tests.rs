use bitcoin::consensus::encode::serialize;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, TxIn, Txid, Witness, absolute, transaction};

use super::*;

#[test]
fn only_one_of_the_kernels_errors_is_a_verdict() {
    assert_eq!(verdict(3, Ok(())), Ok(()));
    let invalid = KernelError::ScriptVerify(ScriptVerifyError::Invalid);
    assert_eq!(verdict(3, Err(invalid)), Err(ScriptFailure::Invalid { input: 3 }));
    for error in [
        KernelError::ScriptVerify(ScriptVerifyError::TxInputIndex),
        KernelError::ScriptVerify(ScriptVerifyError::InvalidFlags),
        KernelError::ScriptVerify(ScriptVerifyError::InvalidFlagsCombination),
        KernelError::ScriptVerify(ScriptVerifyError::SpentOutputsRequired),
        KernelError::Internal("out of order".into()),
    ] {
        let failure = verdict(3, Err(error)).unwrap_err();
        assert!(matches!(failure, ScriptFailure::NoVerdict { input: 3, .. }), "{failure}");
    }
}

/// libbitcoinkernel copies the spent outputs for each input that is given them: a minute for these.
/// So none is given them that does not need them.
#[test]
fn cve_2013_2292_only_taproot_inputs_are_given_all_spent_outputs() {
    const INPUTS: u32 = 24_000;
    let output =
        |script: Vec<u8>| TxOut { value: Amount::ONE_SAT, script_pubkey: ScriptBuf::from_bytes(script) };
    let anyone = output(vec![0x51]);
    // To a key that is none: nobody can spend it, but every rule before taproot lets anyone.
    let taproot = output([[0x51, 0x20].as_slice(), &[0xff; 32]].concat());
    let tx = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: (0..INPUTS)
            .map(|vout| TxIn {
                previous_output: OutPoint { txid: Txid::all_zeros(), vout },
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: Witness::new(),
            })
            .collect(),
        output: vec![anyone.clone()],
    };
    let scripts = |first, others, flags| {
        let spent = std::iter::once(first).chain(std::iter::repeat_n(others, INPUTS as usize - 1)).collect();
        InputScripts::new(serialize(&tx), INPUTS as usize, spent, flags).unwrap()
    };
    let plain = scripts(&anyone, &anyone, ScriptFlags::MANDATORY);
    assert!(plain.full.is_none());
    assert_eq!(plain.verify_all(), Ok(()));
    let mixed = scripts(&taproot, &anyone, ScriptFlags::MANDATORY);
    assert!(mixed.full.is_some());
    assert_eq!(mixed.verify(0), Err(ScriptFailure::Invalid { input: 0 }));
    assert_eq!(mixed.verify(1), Ok(()));
    let before_taproot = scripts(&taproot, &anyone, ScriptFlags::MANDATORY.without(ScriptFlags::TAPROOT));
    assert!(before_taproot.full.is_none());
    assert_eq!(before_taproot.verify(0), Ok(()));
}
