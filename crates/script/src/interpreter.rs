use bitcoin::hashes::{Hash as _, hash160, ripemd160, sha1, sha256, sha256d};
use bitcoin::{Script, TapLeafHash};

use crate::encoding::key_encoding;
use crate::number::{self, MAX_NUMBER_SIZE, truthy};
use crate::{MAX_SCRIPT_SIZE, Op, Ops, ScriptError, ScriptFlags, SpendContext, signature_encoding};

/// Longest stack item, in bytes (`MAX_SCRIPT_ELEMENT_SIZE`).
pub const MAX_ELEMENT_SIZE: usize = 520;
/// Most items on stack and alternative stack together (`MAX_STACK_SIZE`).
pub const MAX_STACK_SIZE: usize = 1_000;
/// Most opcodes that are not pushes, a multisig's keys counted in (`MAX_OPS_PER_SCRIPT`).
const MAX_OPS: usize = 201;
/// Most keys of one multisig (`MAX_PUBKEYS_PER_MULTISIG`).
const MAX_PUBKEYS: i64 = 20;
/// What each signature in a tapscript takes from the input's weight budget (BIP342).
const WEIGHT_PER_SIGNATURE: i64 = 50;
/// A lock time at or above this is a time, below it a height (`LOCKTIME_THRESHOLD`).
const LOCKTIME_THRESHOLD: i64 = 500_000_000;
/// BIP68: this bit switches relative lock times off.
const SEQUENCE_DISABLED: i64 = 1 << 31;
/// BIP68: this bit says time instead of blocks.
const SEQUENCE_TYPE: i64 = 1 << 22;
/// BIP68: the bits with a meaning.
const SEQUENCE_MASK: i64 = SEQUENCE_TYPE | 0xffff;

/// What a tapscript's signatures commit to besides the transaction, and its budget.
pub struct Tapscript {
    /// Hash of the leaf that is run.
    pub leaf: TapLeafHash,
    /// The input's annex, with its 0x50 prefix.
    pub annex: Option<Vec<u8>>,
    /// Weight left for signatures (BIP342).
    pub budget: i64,
}

/// Which generation of rules a script runs under.
pub enum Version {
    /// Before segwit.
    Base,
    /// Segwit v0 (BIP143).
    WitnessV0,
    /// BIP342.
    Tapscript(Tapscript),
}

/// One script being run for one input.
pub struct Interpreter<'c, 't> {
    context: &'c mut SpendContext<'t>,
    input: usize,
    flags: ScriptFlags,
    version: Version,
    stack: Vec<Vec<u8>>,
    alt: Vec<Vec<u8>>,
    branches: Vec<bool>,
    op_count: usize,
    /// Where the code that signatures commit to starts.
    code_start: usize,
    /// Instruction number of the last executed code separator.
    code_separator: u32,
}

type Step = Result<(), ScriptError>;

const TRUE: &[u8] = &[1];

impl<'c, 't> Interpreter<'c, 't> {
    /// An interpreter about to run a script on `stack` for input `input`.
    pub fn new(
        context: &'c mut SpendContext<'t>,
        input: usize,
        flags: ScriptFlags,
        version: Version,
        stack: Vec<Vec<u8>>,
    ) -> Self {
        Self {
            context,
            input,
            flags,
            version,
            stack,
            alt: Vec::new(),
            branches: Vec::new(),
            op_count: 0,
            code_start: 0,
            code_separator: u32::MAX,
        }
    }

    const fn is_tapscript(&self) -> bool {
        matches!(self.version, Version::Tapscript(_))
    }

    const fn minimal(&self) -> bool {
        self.flags.contains(ScriptFlags::MINIMALDATA)
    }

    /// Runs the script and returns the stack it leaves (Core's `EvalScript`).
    pub fn run(mut self, script: &Script) -> Result<Vec<Vec<u8>>, ScriptError> {
        if !self.is_tapscript() && script.len() > MAX_SCRIPT_SIZE {
            return Err(ScriptError::ScriptSize);
        }
        for (position, op) in Ops::new(script).enumerate() {
            let op = op.map_err(|_| ScriptError::BadOpcode)?;
            self.step(script, op, u32::try_from(position).unwrap_or(u32::MAX))?;
            if self.stack.len() + self.alt.len() > MAX_STACK_SIZE {
                return Err(ScriptError::StackSize);
            }
        }
        if self.branches.is_empty() { Ok(self.stack) } else { Err(ScriptError::UnbalancedConditional) }
    }

    fn step(&mut self, script: &Script, op: Op<'_>, position: u32) -> Step {
        let executing = self.branches.iter().all(|branch| *branch);
        if op.data.len() > MAX_ELEMENT_SIZE {
            return Err(ScriptError::PushSize);
        }
        if !self.is_tapscript() && op.code > 0x60 {
            self.op_count += 1;
            if self.op_count > MAX_OPS {
                return Err(ScriptError::OpCount);
            }
        }
        // Switched off in 2010 (CVE-2010-5137), even where they are not executed.
        if matches!(op.code, 0x7e..=0x81 | 0x83..=0x86 | 0x8d | 0x8e | 0x95..=0x99) {
            return Err(ScriptError::DisabledOpcode);
        }
        if op.code == 0xab
            && matches!(self.version, Version::Base)
            && self.flags.contains(ScriptFlags::CONST_SCRIPTCODE)
        {
            return Err(ScriptError::OpCodeseparator);
        }
        if op.code <= 0x4e {
            if executing {
                if self.minimal() && !number::is_minimal_push(op.data, op.code) {
                    return Err(ScriptError::MinimalData);
                }
                self.stack.push(op.data.to_vec());
            }
            return Ok(());
        }
        if !executing && !(0x63..=0x68).contains(&op.code) {
            return Ok(());
        }
        match op.code {
            0x4f | 0x51..=0x60 => self.push_number(i64::from(op.code) - 0x50),
            0x61 => Ok(()),
            0xb1 => self.check_lock_time(),
            0xb2 => self.check_sequence(),
            0xb0 | 0xb3..=0xb9 if self.flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_NOPS) => {
                Err(ScriptError::DiscourageUpgradableNops)
            }
            0xb0 | 0xb3..=0xb9 => Ok(()),
            0x63 | 0x64 | 0x67 | 0x68 => self.branch(op.code, executing),
            0x69 => self.verify(ScriptError::Verify),
            0x6a => Err(ScriptError::OpReturn),
            0x6b..=0x7d | 0x82 => self.stack_op(op.code),
            0x87 | 0x88 => self.equal(op.code == 0x88),
            0x8b | 0x8c | 0x8f..=0x92 => self.unary(op.code),
            0x93 | 0x94 | 0x9a..=0xa4 => self.binary(op.code),
            0xa5 => self.within(),
            0xa6..=0xaa => self.hash(op.code),
            0xab => {
                self.code_start = op.end;
                self.code_separator = position;
                Ok(())
            }
            0xac | 0xad => self.check_sig(script, op.code == 0xad),
            0xae | 0xaf => self.check_multisig(script, op.code == 0xaf),
            0xba => self.check_sig_add(script),
            _ => Err(ScriptError::BadOpcode),
        }
    }

    fn need(&self, items: usize) -> Step {
        if self.stack.len() < items { Err(ScriptError::InvalidStackOperation) } else { Ok(()) }
    }

    fn pop(&mut self) -> Result<Vec<u8>, ScriptError> {
        self.stack.pop().ok_or(ScriptError::InvalidStackOperation)
    }

    /// The item `depth` below the top, the top being 0.
    fn peek(&self, depth: usize) -> Result<&Vec<u8>, ScriptError> {
        self.stack.iter().rev().nth(depth).ok_or(ScriptError::InvalidStackOperation)
    }

    fn push_bool(&mut self, value: bool) -> Step {
        self.stack.push(if value { TRUE.to_vec() } else { Vec::new() });
        Ok(())
    }

    fn push_number(&mut self, value: i64) -> Step {
        self.stack.push(number::encode(value));
        Ok(())
    }

    fn number(&self, depth: usize) -> Result<i64, ScriptError> {
        number::decode(self.peek(depth)?, self.minimal(), MAX_NUMBER_SIZE)
    }

    /// Takes a true top off, or fails with `error` and leaves it.
    fn verify(&mut self, error: ScriptError) -> Step {
        if truthy(self.peek(0)?) { self.pop().map(drop) } else { Err(error) }
    }

    fn branch(&mut self, code: u8, executing: bool) -> Step {
        match code {
            0x63 | 0x64 => {
                let mut taken = false;
                if executing {
                    let top = self.peek(0)?;
                    let minimal = matches!(top.as_slice(), [] | [1]);
                    match self.version {
                        Version::Tapscript(_) if !minimal => return Err(ScriptError::TapscriptMinimalIf),
                        Version::WitnessV0 if !minimal && self.flags.contains(ScriptFlags::MINIMALIF) => {
                            return Err(ScriptError::MinimalIf);
                        }
                        _ => {}
                    }
                    taken = truthy(top) == (code == 0x63);
                    self.pop()?;
                }
                self.branches.push(taken);
            }
            0x67 => {
                let last = self.branches.last_mut().ok_or(ScriptError::UnbalancedConditional)?;
                *last = !*last;
            }
            _ => {
                self.branches.pop().ok_or(ScriptError::UnbalancedConditional)?;
            }
        }
        Ok(())
    }

    /// Copies the `count` items that start `depth` below the top onto it.
    fn copy(&mut self, depth: usize, count: usize) -> Step {
        for _ in 0..count {
            let item = self.peek(depth)?.clone();
            self.stack.push(item);
        }
        Ok(())
    }

    /// Moves the item `depth` below the top onto it.
    fn raise(&mut self, depth: usize) -> Step {
        let at = self.stack.len().checked_sub(depth + 1).ok_or(ScriptError::InvalidStackOperation)?;
        let item = self.stack.remove(at);
        self.stack.push(item);
        Ok(())
    }

    fn stack_op(&mut self, code: u8) -> Step {
        match code {
            0x6b => {
                let top = self.pop()?;
                self.alt.push(top);
            }
            0x6c => {
                let top = self.alt.pop().ok_or(ScriptError::InvalidAltstackOperation)?;
                self.stack.push(top);
            }
            0x6d => {
                self.need(2)?;
                self.stack.truncate(self.stack.len() - 2);
            }
            0x6e => {
                self.need(2)?;
                self.copy(1, 2)?;
            }
            0x6f => {
                self.need(3)?;
                self.copy(2, 3)?;
            }
            0x70 => {
                self.need(4)?;
                self.copy(3, 2)?;
            }
            0x71 => {
                self.need(6)?;
                self.raise(5)?;
                self.raise(5)?;
            }
            0x72 => {
                self.need(4)?;
                self.raise(3)?;
                self.raise(3)?;
            }
            0x73 => {
                if truthy(self.peek(0)?) {
                    self.copy(0, 1)?;
                }
            }
            0x74 => self.push_number(i64::try_from(self.stack.len()).unwrap_or(i64::MAX))?,
            0x75 => drop(self.pop()?),
            0x76 => self.copy(0, 1)?,
            0x77 => {
                self.need(2)?;
                self.raise(1)?;
                self.pop()?;
            }
            0x78 => {
                self.need(2)?;
                self.copy(1, 1)?;
            }
            0x79 | 0x7a => {
                self.need(2)?;
                let depth = self.number(0)?;
                self.pop()?;
                let depth = usize::try_from(depth).map_err(|_| ScriptError::InvalidStackOperation)?;
                if code == 0x79 { self.copy(depth, 1)? } else { self.raise(depth)? }
            }
            0x7b => {
                self.need(3)?;
                self.raise(2)?;
            }
            0x7c => {
                self.need(2)?;
                self.raise(1)?;
            }
            0x7d => {
                self.need(2)?;
                let top = self.peek(0)?.clone();
                self.stack.insert(self.stack.len() - 2, top);
            }
            _ => {
                let size = i64::try_from(self.peek(0)?.len()).unwrap_or(i64::MAX);
                self.push_number(size)?;
            }
        }
        Ok(())
    }

    fn equal(&mut self, verify: bool) -> Step {
        self.need(2)?;
        let equal = self.pop()? == self.pop()?;
        self.push_bool(equal)?;
        if verify { self.verify(ScriptError::EqualVerify) } else { Ok(()) }
    }

    fn unary(&mut self, code: u8) -> Step {
        let n = self.number(0)?;
        self.pop()?;
        // Four-byte operands: none of these can overflow.
        self.push_number(match code {
            0x8b => n + 1,
            0x8c => n - 1,
            0x8f => -n,
            0x90 => n.abs(),
            0x91 => i64::from(n == 0),
            _ => i64::from(n != 0),
        })
    }

    fn binary(&mut self, code: u8) -> Step {
        self.need(2)?;
        let (a, b) = (self.number(1)?, self.number(0)?);
        self.pop()?;
        self.pop()?;
        self.push_number(match code {
            0x93 => a + b,
            0x94 => a - b,
            0x9a => i64::from(a != 0 && b != 0),
            0x9b => i64::from(a != 0 || b != 0),
            0x9c | 0x9d => i64::from(a == b),
            0x9e => i64::from(a != b),
            0x9f => i64::from(a < b),
            0xa0 => i64::from(a > b),
            0xa1 => i64::from(a <= b),
            0xa2 => i64::from(a >= b),
            0xa3 => a.min(b),
            _ => a.max(b),
        })?;
        if code == 0x9d { self.verify(ScriptError::NumEqualVerify) } else { Ok(()) }
    }

    fn within(&mut self) -> Step {
        self.need(3)?;
        let (value, min, max) = (self.number(2)?, self.number(1)?, self.number(0)?);
        self.stack.truncate(self.stack.len() - 3);
        self.push_bool(min <= value && value < max)
    }

    fn hash(&mut self, code: u8) -> Step {
        let item = self.pop()?;
        self.stack.push(match code {
            0xa6 => ripemd160::Hash::hash(&item).to_byte_array().to_vec(),
            0xa7 => sha1::Hash::hash(&item).to_byte_array().to_vec(),
            0xa8 => sha256::Hash::hash(&item).to_byte_array().to_vec(),
            0xa9 => hash160::Hash::hash(&item).to_byte_array().to_vec(),
            _ => sha256d::Hash::hash(&item).to_byte_array().to_vec(),
        });
        Ok(())
    }

    /// A lock time operand: up to five bytes, since the field itself has 32 bits without sign.
    fn lock_operand(&self) -> Result<i64, ScriptError> {
        const MAX_SIZE: usize = 5;
        let operand = number::decode(self.peek(0)?, self.minimal(), MAX_SIZE)?;
        if operand < 0 { Err(ScriptError::NegativeLocktime) } else { Ok(operand) }
    }

    fn sequence(&self) -> i64 {
        self.context.tx().input.get(self.input).map_or(0, |input| i64::from(input.sequence.0))
    }

    /// BIP65.
    fn check_lock_time(&mut self) -> Step {
        if !self.flags.contains(ScriptFlags::CHECKLOCKTIMEVERIFY) {
            return Ok(());
        }
        let operand = self.lock_operand()?;
        let lock = i64::from(self.context.tx().lock_time.to_consensus_u32());
        let same_kind = (operand < LOCKTIME_THRESHOLD) == (lock < LOCKTIME_THRESHOLD);
        let satisfied = same_kind && operand <= lock && self.sequence() != i64::from(u32::MAX);
        satisfied.then_some(()).ok_or(ScriptError::UnsatisfiedLocktime)
    }

    /// BIP112.
    fn check_sequence(&mut self) -> Step {
        if !self.flags.contains(ScriptFlags::CHECKSEQUENCEVERIFY) {
            return Ok(());
        }
        let operand = self.lock_operand()?;
        if operand & SEQUENCE_DISABLED != 0 {
            return Ok(());
        }
        let sequence = self.sequence();
        let (wanted, have) = (operand & SEQUENCE_MASK, sequence & SEQUENCE_MASK);
        // The version counts as unsigned here.
        let version = self.context.tx().version.0.cast_unsigned();
        let satisfied = version >= 2
            && sequence & SEQUENCE_DISABLED == 0
            && (wanted < SEQUENCE_TYPE) == (have < SEQUENCE_TYPE)
            && wanted <= have;
        satisfied.then_some(()).ok_or(ScriptError::UnsatisfiedLocktime)
    }

    /// The part of the script that signatures commit to, with `sigs` taken out as scripts before
    /// segwit demand.
    fn script_code(&self, script: &Script, sigs: &[Vec<u8>]) -> Result<Vec<u8>, ScriptError> {
        let mut code = script.as_bytes().get(self.code_start..).unwrap_or_default().to_vec();
        if matches!(self.version, Version::Base) {
            for sig in sigs {
                let found = find_and_delete(&mut code, &pushed(sig));
                if found && self.flags.contains(ScriptFlags::CONST_SCRIPTCODE) {
                    return Err(ScriptError::SigFindAndDelete);
                }
            }
        }
        Ok(code)
    }

    fn ecdsa(&mut self, sig: &[u8], key: &[u8], code: &[u8]) -> Result<bool, ScriptError> {
        let segwit = matches!(self.version, Version::WitnessV0);
        signature_encoding(sig, self.flags)?;
        key_encoding(key, self.flags, segwit)?;
        Ok(self.context.check_ecdsa(self.input, sig, key, code, segwit))
    }

    /// One signature against one key, under the rules of the script's version (`EvalChecksig`).
    fn signature(&mut self, script: &Script, sig: &[u8], key: &[u8]) -> Result<bool, ScriptError> {
        let Version::Tapscript(tapscript) = &mut self.version else {
            let code = self.script_code(script, &[sig.to_vec()])?;
            let good = self.ecdsa(sig, key, &code)?;
            if !good && self.flags.contains(ScriptFlags::NULLFAIL) && !sig.is_empty() {
                return Err(ScriptError::SigNullFail);
            }
            return Ok(good);
        };
        let good = !sig.is_empty();
        if good {
            tapscript.budget -= WEIGHT_PER_SIGNATURE;
            if tapscript.budget < 0 {
                return Err(ScriptError::TapscriptValidationWeight);
            }
        }
        match key.len() {
            0 => return Err(ScriptError::TapscriptEmptyPubkey),
            32 if good => {
                let leaf = Some((tapscript.leaf, self.code_separator));
                self.context.check_schnorr(self.input, sig, key, tapscript.annex.as_deref(), leaf)?;
            }
            32 => {}
            _ if self.flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_PUBKEYTYPE) => {
                return Err(ScriptError::DiscourageUpgradablePubkeyType);
            }
            _ => {}
        }
        Ok(good)
    }

    fn check_sig(&mut self, script: &Script, verify: bool) -> Step {
        self.need(2)?;
        let (sig, key) = (self.peek(1)?.clone(), self.peek(0)?.clone());
        let good = self.signature(script, &sig, &key)?;
        self.stack.truncate(self.stack.len() - 2);
        self.push_bool(good)?;
        if verify { self.verify(ScriptError::CheckSigVerify) } else { Ok(()) }
    }

    fn check_sig_add(&mut self, script: &Script) -> Step {
        if !self.is_tapscript() {
            return Err(ScriptError::BadOpcode);
        }
        self.need(3)?;
        let count = self.number(1)?;
        let (sig, key) = (self.peek(2)?.clone(), self.peek(0)?.clone());
        let good = self.signature(script, &sig, &key)?;
        self.stack.truncate(self.stack.len() - 3);
        self.push_number(count + i64::from(good))
    }

    fn check_multisig(&mut self, script: &Script, verify: bool) -> Step {
        if self.is_tapscript() {
            return Err(ScriptError::TapscriptCheckMultisig);
        }
        // Stack from the top: n, n keys, m, m signatures, one item of no use.
        let key_count = self.number(0)?;
        if !(0..=MAX_PUBKEYS).contains(&key_count) {
            return Err(ScriptError::PubkeyCount);
        }
        let keys = usize::try_from(key_count).unwrap_or(0);
        self.op_count += keys;
        if self.op_count > MAX_OPS {
            return Err(ScriptError::OpCount);
        }
        self.need(keys + 2)?;
        let sig_count = self.number(keys + 1)?;
        if !(0..=key_count).contains(&sig_count) {
            return Err(ScriptError::SigCount);
        }
        let sigs = usize::try_from(sig_count).unwrap_or(0);
        self.need(keys + sigs + 2)?;
        let top_down = |from: usize, count: usize| -> Vec<Vec<u8>> {
            self.stack.iter().rev().skip(from).take(count).cloned().collect()
        };
        let (all_keys, all_sigs) = (top_down(1, keys), top_down(keys + 2, sigs));
        let code = self.script_code(script, &all_sigs)?;

        let mut sigs_left = all_sigs.as_slice();
        for (tried, key) in all_keys.iter().enumerate() {
            let Some((sig, rest)) = sigs_left.split_first() else { break };
            if sigs_left.len() > keys - tried {
                break;
            }
            if self.ecdsa(sig, key, &code)? {
                sigs_left = rest;
            }
        }
        let good = sigs_left.is_empty();
        if !good && self.flags.contains(ScriptFlags::NULLFAIL) && all_sigs.iter().any(|sig| !sig.is_empty()) {
            return Err(ScriptError::SigNullFail);
        }
        self.stack.truncate(self.stack.len() - (keys + sigs + 2));
        let dummy = self.pop()?;
        if self.flags.contains(ScriptFlags::NULLDUMMY) && !dummy.is_empty() {
            return Err(ScriptError::SigNullDummy);
        }
        self.push_bool(good)?;
        if verify { self.verify(ScriptError::CheckMultisigVerify) } else { Ok(()) }
    }
}

/// A push of `data` as the wallets of old wrote it: by length alone, numbers not shortened.
fn pushed(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 3);
    match data.len() {
        len @ 0..=75 => out.push(len as u8),
        len @ 76..=255 => out.extend([0x4c, len as u8]),
        // A stack item has at most 520 bytes.
        len => {
            out.push(0x4d);
            out.extend((len as u16).to_le_bytes());
        }
    }
    out.extend(data);
    out
}

/// Takes every copy of `needle` that starts at an instruction out of `code`; says whether there
/// was one.
fn find_and_delete(code: &mut Vec<u8>, needle: &[u8]) -> bool {
    let mut kept = Vec::with_capacity(code.len());
    let mut at = 0;
    let mut from = 0;
    let mut found = false;
    loop {
        kept.extend(code.get(from..at).unwrap_or_default());
        while code.get(at..).is_some_and(|rest| rest.starts_with(needle)) {
            at += needle.len();
            found = true;
        }
        from = at;
        let rest = Script::from_bytes(code.get(at..).unwrap_or_default());
        match Ops::new(rest).next() {
            Some(Ok(op)) => at += op.end,
            Some(Err(_)) | None => break,
        }
    }
    if found {
        kept.extend(code.get(from..).unwrap_or_default());
        *code = kept;
    }
    found
}
