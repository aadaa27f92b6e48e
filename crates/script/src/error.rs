/// Why a script failed, with the text Core prints (`src/script/script_error.cpp`).
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ScriptError {
    #[error("Script evaluated without error but finished with a false/empty top stack element")]
    EvalFalse,
    #[error("OP_RETURN was encountered")]
    OpReturn,
    #[error("Script is too big")]
    ScriptSize,
    #[error("Push value size limit exceeded")]
    PushSize,
    #[error("Operation limit exceeded")]
    OpCount,
    #[error("Stack size limit exceeded")]
    StackSize,
    #[error("Signature count negative or greater than pubkey count")]
    SigCount,
    #[error("Pubkey count negative or limit exceeded")]
    PubkeyCount,
    #[error("Script failed an OP_VERIFY operation")]
    Verify,
    #[error("Script failed an OP_EQUALVERIFY operation")]
    EqualVerify,
    #[error("Script failed an OP_CHECKMULTISIGVERIFY operation")]
    CheckMultisigVerify,
    #[error("Script failed an OP_CHECKSIGVERIFY operation")]
    CheckSigVerify,
    #[error("Script failed an OP_NUMEQUALVERIFY operation")]
    NumEqualVerify,
    #[error("Opcode missing or not understood")]
    BadOpcode,
    #[error("Attempted to use a disabled opcode")]
    DisabledOpcode,
    #[error("Operation not valid with the current stack size")]
    InvalidStackOperation,
    #[error("Operation not valid with the current altstack size")]
    InvalidAltstackOperation,
    #[error("Invalid OP_IF construction")]
    UnbalancedConditional,
    #[error("Negative locktime")]
    NegativeLocktime,
    #[error("Locktime requirement not satisfied")]
    UnsatisfiedLocktime,
    #[error("Signature hash type missing or not understood")]
    SigHashtype,
    #[error("Non-canonical DER signature")]
    SigDer,
    #[error("Data push larger than necessary")]
    MinimalData,
    #[error("Only push operators allowed in signatures")]
    SigPushOnly,
    #[error("Non-canonical signature: S value is unnecessarily high")]
    SigHighS,
    #[error("Dummy CHECKMULTISIG argument must be zero")]
    SigNullDummy,
    #[error("Public key is neither compressed or uncompressed")]
    PubkeyType,
    #[error("Stack size must be exactly one after execution")]
    CleanStack,
    #[error("OP_IF/NOTIF argument must be minimal")]
    MinimalIf,
    #[error("Signature must be zero for failed CHECK(MULTI)SIG operation")]
    SigNullFail,
    #[error("NOPx reserved for soft-fork upgrades")]
    DiscourageUpgradableNops,
    #[error("Witness version reserved for soft-fork upgrades")]
    DiscourageUpgradableWitnessProgram,
    #[error("Taproot version reserved for soft-fork upgrades")]
    DiscourageUpgradableTaprootVersion,
    #[error("OP_SUCCESSx reserved for soft-fork upgrades")]
    DiscourageOpSuccess,
    #[error("Public key version reserved for soft-fork upgrades")]
    DiscourageUpgradablePubkeyType,
    #[error("Witness program has incorrect length")]
    WitnessProgramWrongLength,
    #[error("Witness program was passed an empty witness")]
    WitnessProgramWitnessEmpty,
    #[error("Witness program hash mismatch")]
    WitnessProgramMismatch,
    #[error("Witness requires empty scriptSig")]
    WitnessMalleated,
    #[error("Witness requires only-redeemscript scriptSig")]
    WitnessMalleatedP2sh,
    #[error("Witness provided for non-witness script")]
    WitnessUnexpected,
    #[error("Using non-compressed keys in segwit")]
    WitnessPubkeyType,
    #[error("Invalid Schnorr signature size")]
    SchnorrSigSize,
    #[error("Invalid Schnorr signature hash type")]
    SchnorrSigHashtype,
    #[error("Invalid Schnorr signature")]
    SchnorrSig,
    #[error("Invalid Taproot control block size")]
    TaprootWrongControlSize,
    #[error("Too much signature validation relative to witness weight")]
    TapscriptValidationWeight,
    #[error("OP_CHECKMULTISIG(VERIFY) is not available in tapscript")]
    TapscriptCheckMultisig,
    #[error("OP_IF/NOTIF argument must be minimal in tapscript")]
    TapscriptMinimalIf,
    #[error("Empty public key in tapscript")]
    TapscriptEmptyPubkey,
    #[error("Using OP_CODESEPARATOR in non-witness script")]
    OpCodeseparator,
    #[error("Signature is found in scriptCode")]
    SigFindAndDelete,
    #[error("Script number overflowed or is non-minimally encoded")]
    ScriptNum,
    /// The kernel refused what the interpreter accepts; never expected.
    #[error("unknown error")]
    Unknown,
}
