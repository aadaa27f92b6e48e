//! Counting signature operations, as consensus counts them: by scanning bytes, not by running
//! scripts (BIP16, BIP141; Core's `GetTransactionSigOpCost`).

use bitcoin::{Script, Transaction, TxOut, Witness};

use crate::ScriptFlags;
use crate::limits::{MAX_PUBKEYS_PER_MULTISIG, WITNESS_SCALE_FACTOR};

const OP_PUSHDATA1: u8 = 0x4c;
const OP_PUSHDATA2: u8 = 0x4d;
const OP_PUSHDATA4: u8 = 0x4e;
const OP_1: u8 = 0x51;
const OP_16: u8 = 0x60;
const OP_CHECKSIG: u8 = 0xac;
const OP_CHECKSIGVERIFY: u8 = 0xad;
const OP_CHECKMULTISIG: u8 = 0xae;
const OP_CHECKMULTISIGVERIFY: u8 = 0xaf;

/// One instruction: its opcode, and what it pushes if it is a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction<'a> {
    pub opcode: u8,
    pub push: &'a [u8],
}

/// Walks a script's instructions. Stops for good at a push that reaches beyond the end, as
/// Core's `GetScriptOp` fails there.
#[derive(Clone, Debug)]
pub(crate) struct Instructions<'a> {
    rest: &'a [u8],
    truncated: bool,
}

impl<'a> Instructions<'a> {
    pub fn of(script: &'a [u8]) -> Self {
        Self { rest: script, truncated: false }
    }

    /// Whether the walk ended at a push beyond the end.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    fn split(&mut self, n: usize) -> Option<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(n) else {
            self.truncated = true;
            self.rest = &[];
            return None;
        };
        self.rest = rest;
        Some(head)
    }
}

impl<'a> Iterator for Instructions<'a> {
    type Item = Instruction<'a>;

    fn next(&mut self) -> Option<Instruction<'a>> {
        let (&opcode, rest) = self.rest.split_first()?;
        self.rest = rest;
        let length_bytes = match opcode {
            OP_PUSHDATA1 => 1,
            OP_PUSHDATA2 => 2,
            OP_PUSHDATA4 => 4,
            _ => 0,
        };
        let len = match opcode {
            ..OP_PUSHDATA1 => usize::from(opcode),
            OP_PUSHDATA1..=OP_PUSHDATA4 => {
                self.split(length_bytes)?.iter().rev().fold(0, |len, byte| len << 8 | usize::from(*byte))
            }
            _ => 0,
        };
        let push = self.split(len)?;
        Some(Instruction { opcode, push })
    }
}

/// Signature operations in one script. `accurate` takes the number of keys of a multisig check
/// from the opcode before it (BIP16); otherwise each counts as twenty.
#[must_use]
pub fn script_sigops(script: &[u8], accurate: bool) -> u64 {
    let mut count: u64 = 0;
    let mut last = 0xff;
    for Instruction { opcode, .. } in Instructions::of(script) {
        let more = match opcode {
            OP_CHECKSIG | OP_CHECKSIGVERIFY => 1,
            OP_CHECKMULTISIG | OP_CHECKMULTISIGVERIFY if accurate && (OP_1..=OP_16).contains(&last) => {
                u64::from(last.saturating_sub(OP_1)).saturating_add(1)
            }
            OP_CHECKMULTISIG | OP_CHECKMULTISIGVERIFY => MAX_PUBKEYS_PER_MULTISIG,
            _ => 0,
        };
        count = more.saturating_add(count);
        last = opcode;
    }
    count
}

/// Signature operations of a transaction's own scripts (Core's `GetLegacySigOpCount`).
#[must_use]
pub fn legacy_sigops(tx: &Transaction) -> u64 {
    let inputs: u64 = tx.input.iter().map(|input| script_sigops(input.script_sig.as_bytes(), false)).sum();
    let outputs: u64 =
        tx.output.iter().map(|output| script_sigops(output.script_pubkey.as_bytes(), false)).sum();
    inputs.saturating_add(outputs)
}

/// What a script that only pushes leaves on top, or `None` if it does more.
fn last_push(script_sig: &Script) -> Option<&[u8]> {
    let mut instructions = Instructions::of(script_sig.as_bytes());
    let mut last: &[u8] = &[];
    for Instruction { opcode, push } in instructions.by_ref() {
        if opcode > OP_16 {
            return None;
        }
        last = push;
    }
    (!instructions.is_truncated()).then_some(last)
}

/// Signature operations of the script an input reveals for a P2SH output (BIP16).
#[must_use]
pub fn p2sh_sigops(script_sig: &Script, spent: &Script) -> u64 {
    if !spent.is_p2sh() {
        return 0;
    }
    last_push(script_sig).map_or(0, |redeem_script| script_sigops(redeem_script, true))
}

/// Signature operations of an input's witness (BIP141): version 0 programs only.
#[must_use]
pub fn witness_sigops(script_sig: &Script, spent: &Script, witness: &Witness, flags: ScriptFlags) -> u64 {
    if !flags.contains(ScriptFlags::WITNESS) {
        return 0;
    }
    if spent.is_witness_program() {
        return witness_program_sigops(spent, witness);
    }
    if spent.is_p2sh()
        && let Some(redeem_script) = last_push(script_sig)
    {
        let redeem_script = Script::from_bytes(redeem_script);
        if redeem_script.is_witness_program() {
            return witness_program_sigops(redeem_script, witness);
        }
    }
    0
}

fn witness_program_sigops(program: &Script, witness: &Witness) -> u64 {
    if program.is_p2wpkh() {
        1
    } else if program.is_p2wsh() {
        witness.last().map_or(0, |script| script_sigops(script, true))
    } else {
        0
    }
}

/// The cost of a transaction's signature operations against [`MAX_BLOCK_SIGOPS_COST`]
/// (Core's `GetTransactionSigOpCost`). `spent` is the output each input spends, in input order;
/// it is not looked at for a coinbase.
///
/// [`MAX_BLOCK_SIGOPS_COST`]: crate::limits::MAX_BLOCK_SIGOPS_COST
#[must_use]
pub fn tx_sigop_cost<'a>(
    tx: &Transaction,
    spent: impl IntoIterator<Item = &'a TxOut>,
    flags: ScriptFlags,
) -> u64 {
    let mut cost = legacy_sigops(tx).saturating_mul(WITNESS_SCALE_FACTOR);
    if tx.is_coinbase() {
        return cost;
    }
    for (input, output) in tx.input.iter().zip(spent) {
        if flags.contains(ScriptFlags::P2SH) {
            let count = p2sh_sigops(&input.script_sig, &output.script_pubkey);
            cost = cost.saturating_add(count.saturating_mul(WITNESS_SCALE_FACTOR));
        }
        let count = witness_sigops(&input.script_sig, &output.script_pubkey, &input.witness, flags);
        cost = cost.saturating_add(count);
    }
    cost
}
