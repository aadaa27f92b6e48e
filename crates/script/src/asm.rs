use std::fmt::Write as _;

use bitcoin::Script;
use bitcoin::hex::DisplayHex as _;

use crate::solver::is_unspendable;
use crate::{Ops, ScriptFlags, number, signature_encoding};

/// Names of the opcodes from `OP_1NEGATE` (0x4f) to `OP_CHECKSIGADD` (0xba), as Core prints them.
const NAMES: [&str; 108] = [
    "-1",
    "OP_RESERVED",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "10",
    "11",
    "12",
    "13",
    "14",
    "15",
    "16",
    "OP_NOP",
    "OP_VER",
    "OP_IF",
    "OP_NOTIF",
    "OP_VERIF",
    "OP_VERNOTIF",
    "OP_ELSE",
    "OP_ENDIF",
    "OP_VERIFY",
    "OP_RETURN",
    "OP_TOALTSTACK",
    "OP_FROMALTSTACK",
    "OP_2DROP",
    "OP_2DUP",
    "OP_3DUP",
    "OP_2OVER",
    "OP_2ROT",
    "OP_2SWAP",
    "OP_IFDUP",
    "OP_DEPTH",
    "OP_DROP",
    "OP_DUP",
    "OP_NIP",
    "OP_OVER",
    "OP_PICK",
    "OP_ROLL",
    "OP_ROT",
    "OP_SWAP",
    "OP_TUCK",
    "OP_CAT",
    "OP_SUBSTR",
    "OP_LEFT",
    "OP_RIGHT",
    "OP_SIZE",
    "OP_INVERT",
    "OP_AND",
    "OP_OR",
    "OP_XOR",
    "OP_EQUAL",
    "OP_EQUALVERIFY",
    "OP_RESERVED1",
    "OP_RESERVED2",
    "OP_1ADD",
    "OP_1SUB",
    "OP_2MUL",
    "OP_2DIV",
    "OP_NEGATE",
    "OP_ABS",
    "OP_NOT",
    "OP_0NOTEQUAL",
    "OP_ADD",
    "OP_SUB",
    "OP_MUL",
    "OP_DIV",
    "OP_MOD",
    "OP_LSHIFT",
    "OP_RSHIFT",
    "OP_BOOLAND",
    "OP_BOOLOR",
    "OP_NUMEQUAL",
    "OP_NUMEQUALVERIFY",
    "OP_NUMNOTEQUAL",
    "OP_LESSTHAN",
    "OP_GREATERTHAN",
    "OP_LESSTHANOREQUAL",
    "OP_GREATERTHANOREQUAL",
    "OP_MIN",
    "OP_MAX",
    "OP_WITHIN",
    "OP_RIPEMD160",
    "OP_SHA1",
    "OP_SHA256",
    "OP_HASH160",
    "OP_HASH256",
    "OP_CODESEPARATOR",
    "OP_CHECKSIG",
    "OP_CHECKSIGVERIFY",
    "OP_CHECKMULTISIG",
    "OP_CHECKMULTISIGVERIFY",
    "OP_NOP1",
    "OP_CHECKLOCKTIMEVERIFY",
    "OP_CHECKSEQUENCEVERIFY",
    "OP_NOP4",
    "OP_NOP5",
    "OP_NOP6",
    "OP_NOP7",
    "OP_NOP8",
    "OP_NOP9",
    "OP_NOP10",
    "OP_CHECKSIGADD",
];

/// An opcode's name in Core's asm (`GetOpName`); the numbers print as numbers.
#[must_use]
pub fn opcode_name(code: u8) -> &'static str {
    match code {
        0 => "0",
        0x4c => "OP_PUSHDATA1",
        0x4d => "OP_PUSHDATA2",
        0x4e => "OP_PUSHDATA4",
        0xff => "OP_INVALIDOPCODE",
        _ => code
            .checked_sub(0x4f)
            .and_then(|index| NAMES.get(usize::from(index)).copied())
            .unwrap_or("OP_UNKNOWN"),
    }
}

/// The name of an ECDSA signature hash type byte, if it is a defined one (Core's `SighashToStr`).
#[must_use]
pub fn sighash_name(hashtype: u8) -> Option<&'static str> {
    Some(match hashtype {
        0x01 => "ALL",
        0x02 => "NONE",
        0x03 => "SINGLE",
        0x81 => "ALL|ANYONECANPAY",
        0x82 => "NONE|ANYONECANPAY",
        0x83 => "SINGLE|ANYONECANPAY",
        _ => return None,
    })
}

/// A script as Core prints it in RPC answers (`ScriptToAsmStr`): opcodes by name, pushes of up to
/// four bytes as numbers, longer ones as hex. With `decode_sighash`, what looks like a signature
/// ends in its hash type's name, as in `scriptSig.asm`.
#[must_use]
pub fn asm(script: &Script, decode_sighash: bool) -> String {
    let mut text = String::new();
    // Data after OP_RETURN may look like a signature and is none.
    let decode_sighash = decode_sighash && !is_unspendable(script);
    for op in Ops::new(script) {
        if !text.is_empty() {
            text.push(' ');
        }
        let Ok(op) = op else {
            text.push_str("[error]");
            break;
        };
        if op.code > 0x4e {
            text.push_str(opcode_name(op.code));
        } else if op.data.len() <= number::MAX_NUMBER_SIZE {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}", number::decode_any(op.data));
        } else {
            let signature = decode_sighash && signature_encoding(op.data, ScriptFlags::STRICTENC).is_ok();
            match op.data.split_last() {
                Some((hashtype, der)) if signature => {
                    let name = sighash_name(*hashtype).unwrap_or_default();
                    let _ = write!(text, "{}[{name}]", der.as_hex());
                }
                _ => {
                    let _ = write!(text, "{}", op.data.as_hex());
                }
            }
        }
    }
    text
}

#[cfg(test)]
#[path = "asm_tests.rs"]
mod tests;
