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
