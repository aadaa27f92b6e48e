use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use bitcoin::key::{TapTweak as _, XOnlyPublicKey};
use bitcoin::taproot::{TapLeafHash, TapNodeHash};
use bitcoin::{Script, ScriptBuf, Witness};

use crate::interpreter::{Interpreter, MAX_ELEMENT_SIZE, MAX_STACK_SIZE, Tapscript, Version};
use crate::number::truthy;
use crate::sighash::curve;
use crate::solver::{ANCHOR_PROGRAM, witness_program};
use crate::{MAX_SCRIPT_SIZE, Ops, ScriptError, ScriptFlags, SpendContext, is_push_only};

/// First byte of an annex (BIP341).
const ANNEX_TAG: u8 = 0x50;
/// Leaf version of tapscript (BIP342).
const TAPSCRIPT_LEAF: u8 = 0xc0;
/// The control byte's bits that hold the leaf version.
const LEAF_MASK: u8 = 0xfe;
/// Parity byte and internal key.
const CONTROL_BASE: usize = 33;
/// One step of the Merkle path.
const CONTROL_NODE: usize = 32;
/// Longest Merkle path.
const CONTROL_MAX_NODES: usize = 128;
/// What every tapscript input may spend on signatures beyond its witness's size (BIP342).
const BUDGET_OFFSET: i64 = 50;

/// The items that a push-only script leaves on the stack.
///
/// # Errors
/// As running the script would: an opcode that is no push or a push cut short
/// ([`ScriptError::BadOpcode`]), or a size limit.
pub fn push_stack(script: &Script) -> Result<Vec<Vec<u8>>, ScriptError> {
    if script.len() > MAX_SCRIPT_SIZE {
        return Err(ScriptError::ScriptSize);
    }
    let mut stack = Vec::new();
    for op in Ops::new(script) {
        let op = op.map_err(|_| ScriptError::BadOpcode)?;
        if op.data.len() > MAX_ELEMENT_SIZE {
            return Err(ScriptError::PushSize);
        }
        stack.push(match op.code {
            0..=0x4e => op.data.to_vec(),
            0x4f | 0x51..=0x60 => crate::number::encode(i64::from(op.code) - 0x50),
            _ => return Err(ScriptError::BadOpcode),
        });
        if stack.len() > MAX_STACK_SIZE {
            return Err(ScriptError::StackSize);
        }
    }
    Ok(stack)
}

/// Runs one input's scripts under `flags` (Core's `VerifyScript`).
///
/// # Errors
/// The first rule broken; [`ScriptError::Unknown`] if the transaction has no such input.
pub fn verify_input(
    context: &mut SpendContext<'_>,
    input: usize,
    flags: ScriptFlags,
) -> Result<(), ScriptError> {
    let spent = context.spent(input).ok_or(ScriptError::Unknown)?;
    let txin = context.tx().input.get(input).ok_or(ScriptError::Unknown)?;
    let (script_sig, script_pubkey) = (&txin.script_sig, &spent.script_pubkey);
    if flags.contains(ScriptFlags::SIGPUSHONLY) && !is_push_only(script_sig) {
        return Err(ScriptError::SigPushOnly);
    }
    let mut run = |script: &Script, stack| {
        Interpreter::new(&mut *context, input, flags, Version::Base, stack).run(script)
    };
    let sig_stack = run(script_sig, Vec::new())?;
    let mut stack = run(script_pubkey, sig_stack.clone())?;
    ends_true(&stack)?;

    let mut had_witness = false;
    if flags.contains(ScriptFlags::WITNESS)
        && let Some((version, program)) = witness_program(script_pubkey)
    {
        had_witness = true;
        if !script_sig.is_empty() {
            return Err(ScriptError::WitnessMalleated);
        }
        Program { version, program, p2sh: false }.verify(context, input, &txin.witness, flags)?;
        // The program's own stack was checked; what lies here is its version and bytes.
        stack.truncate(1);
    }
    if flags.contains(ScriptFlags::P2SH) && script_pubkey.is_p2sh() {
        if !is_push_only(script_sig) {
            return Err(ScriptError::SigPushOnly);
        }
        stack = sig_stack;
        let redeem = ScriptBuf::from_bytes(stack.pop().ok_or(ScriptError::EvalFalse)?);
        stack = Interpreter::new(&mut *context, input, flags, Version::Base, stack).run(&redeem)?;
        ends_true(&stack)?;
        if flags.contains(ScriptFlags::WITNESS)
            && let Some((version, program)) = witness_program(&redeem)
        {
            had_witness = true;
            // A witness program has at most 42 bytes: its only push is a direct one.
            let only_push = script_sig
                .as_bytes()
                .split_first()
                .is_some_and(|(len, push)| usize::from(*len) == redeem.len() && push == redeem.as_bytes());
            if !only_push {
                return Err(ScriptError::WitnessMalleatedP2sh);
            }
            Program { version, program, p2sh: true }.verify(context, input, &txin.witness, flags)?;
            stack.truncate(1);
        }
    }
    if flags.contains(ScriptFlags::CLEANSTACK) && stack.len() != 1 {
        return Err(ScriptError::CleanStack);
    }
    if flags.contains(ScriptFlags::WITNESS) && !had_witness && !txin.witness.is_empty() {
        return Err(ScriptError::WitnessUnexpected);
    }
    Ok(())
}

fn ends_true(stack: &[Vec<u8>]) -> Result<(), ScriptError> {
    if stack.last().is_some_and(|top| truthy(top)) { Ok(()) } else { Err(ScriptError::EvalFalse) }
}

struct Program<'p> {
    version: u8,
    program: &'p [u8],
    p2sh: bool,
}

impl Program<'_> {
    fn verify(
        &self,
        context: &mut SpendContext<'_>,
        input: usize,
        witness: &Witness,
        flags: ScriptFlags,
    ) -> Result<(), ScriptError> {
        let mut items: Vec<Vec<u8>> = witness.to_vec();
        match (self.version, self.program.len()) {
            (0, 32) => {
                let script = items.pop().ok_or(ScriptError::WitnessProgramWitnessEmpty)?;
                if sha256::Hash::hash(&script).to_byte_array() != self.program {
                    return Err(ScriptError::WitnessProgramMismatch);
                }
                execute(context, input, flags, Version::WitnessV0, items, Script::from_bytes(&script))
            }
            (0, 20) => {
                if items.len() != 2 {
                    return Err(ScriptError::WitnessProgramMismatch);
                }
                let mut script = vec![0x76, 0xa9, 20];
                script.extend(self.program);
                script.extend([0x88, 0xac]);
                execute(context, input, flags, Version::WitnessV0, items, Script::from_bytes(&script))
            }
            (0, _) => Err(ScriptError::WitnessProgramWrongLength),
            (1, 32) if !self.p2sh => {
                if !flags.contains(ScriptFlags::TAPROOT) {
                    return Ok(());
                }
                self.taproot(context, input, witness.size(), items, flags)
            }
            (1, _) if !self.p2sh && self.program == ANCHOR_PROGRAM => Ok(()),
            _ if flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM) => {
                Err(ScriptError::DiscourageUpgradableWitnessProgram)
            }
            _ => Ok(()),
        }
    }

    fn taproot(
        &self,
        context: &mut SpendContext<'_>,
        input: usize,
        witness_size: usize,
        mut items: Vec<Vec<u8>>,
        flags: ScriptFlags,
    ) -> Result<(), ScriptError> {
        let has_annex = items.len() >= 2 && items.last().and_then(|last| last.first()) == Some(&ANNEX_TAG);
        let annex = if has_annex { items.pop() } else { None };
        let Some(control) = items.pop() else { return Err(ScriptError::WitnessProgramWitnessEmpty) };
        let Some(script) = items.pop() else {
            // A single item is the signature of the key path.
            return context.check_schnorr(input, &control, self.program, annex.as_deref(), None);
        };
        let nodes = control.len().checked_sub(CONTROL_BASE).filter(|path| path.is_multiple_of(CONTROL_NODE));
        if nodes.is_none_or(|path| path / CONTROL_NODE > CONTROL_MAX_NODES) {
            return Err(ScriptError::TaprootWrongControlSize);
        }
        let Some((first, rest)) = control.split_first() else {
            return Err(ScriptError::TaprootWrongControlSize);
        };
        let leaf_version = first & LEAF_MASK;
        let leaf = leaf_hash(leaf_version, &script);
        if !self.commits_to(leaf, first & 1, rest) {
            return Err(ScriptError::WitnessProgramMismatch);
        }
        if leaf_version != TAPSCRIPT_LEAF {
            return if flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_TAPROOT_VERSION) {
                Err(ScriptError::DiscourageUpgradableTaprootVersion)
            } else {
                Ok(())
            };
        }
        let budget = i64::try_from(witness_size).unwrap_or(i64::MAX).saturating_add(BUDGET_OFFSET);
        let version = Version::Tapscript(Tapscript { leaf, annex, budget });
        execute(context, input, flags, version, items, Script::from_bytes(&script))
    }

    /// Whether the output key is the internal key tweaked by the tree in which `leaf` lies.
    fn commits_to(&self, leaf: TapLeafHash, parity: u8, key_and_path: &[u8]) -> bool {
        let Some((key, path)) = key_and_path.split_at_checked(32) else { return false };
        let Ok(internal) = XOnlyPublicKey::from_slice(key) else { return false };
        let root = path.chunks_exact(CONTROL_NODE).fold(TapNodeHash::from(leaf), |below, beside| {
            let beside = <[u8; CONTROL_NODE]>::try_from(beside).unwrap_or_default();
            TapNodeHash::from_node_hashes(below, TapNodeHash::from_byte_array(beside))
        });
        let (output, output_parity) = internal.tap_tweak(curve(), Some(root));
        output.to_x_only_public_key().serialize() == self.program && output_parity.to_u8() == parity
    }
}

/// Hash of a leaf of any version; the library's own builder knows only some of them.
fn leaf_hash(version: u8, script: &[u8]) -> TapLeafHash {
    let mut engine = TapLeafHash::engine();
    engine.input(&[version]);
    engine.input(&bitcoin::consensus::serialize(&bitcoin::VarInt::from(script.len())));
    engine.input(script);
    TapLeafHash::from_engine(engine)
}

/// Opcodes that make a tapscript succeed at once (BIP342).
fn is_op_success(code: u8) -> bool {
    matches!(
        code,
        80 | 98 | 126..=129 | 131..=134 | 137 | 138 | 141 | 142 | 149..=153 | 187..=254
    )
}

fn execute(
    context: &mut SpendContext<'_>,
    input: usize,
    flags: ScriptFlags,
    version: Version,
    stack: Vec<Vec<u8>>,
    script: &Script,
) -> Result<(), ScriptError> {
    if matches!(version, Version::Tapscript(_)) {
        for op in Ops::new(script) {
            let op = op.map_err(|_| ScriptError::BadOpcode)?;
            if is_op_success(op.code) {
                return if flags.contains(ScriptFlags::DISCOURAGE_OP_SUCCESS) {
                    Err(ScriptError::DiscourageOpSuccess)
                } else {
                    Ok(())
                };
            }
        }
        if stack.len() > MAX_STACK_SIZE {
            return Err(ScriptError::StackSize);
        }
    }
    if stack.iter().any(|item| item.len() > MAX_ELEMENT_SIZE) {
        return Err(ScriptError::PushSize);
    }
    let stack = Interpreter::new(context, input, flags, version, stack).run(script)?;
    if stack.len() != 1 {
        return Err(ScriptError::CleanStack);
    }
    ends_true(&stack)
}
