use super::*;
use crate::asm;

#[test]
fn words_become_numbers_data_and_opcodes() {
    for (text, hex) in [
        ("", ""),
        ("0 1 16 -1", "0051604f"),
        ("17 -17 255 4294967295", "0111019102ff0005ffffffff00"),
        ("0x4c01ff DUP\tOP_HASH160\n", "4c01ff76a9"),
        ("'' 'ab'", "00026162"),
        ("RESERVED OP_NOP CHECKSIGADD NOP10 CHECKLOCKTIMEVERIFY", "5061bab9b1"),
    ] {
        let script = parse_script(text).unwrap();
        assert_eq!(script, ScriptBuf::from_hex(hex).unwrap(), "{text}: {}", asm(&script, false));
    }
}

#[test]
fn words_that_mean_nothing_are_named() {
    for (text, error) in [
        ("4294967296", ParseError::Number),
        ("-99999999999999999999", ParseError::Number),
        ("OP_MOON", ParseError::Opcode),
        ("0x", ParseError::Opcode),
        ("0x123", ParseError::Opcode),
        ("'", ParseError::Opcode),
        ("-", ParseError::Opcode),
        ("PUSHDATA1", ParseError::Opcode),
        ("OP_1", ParseError::Opcode),
    ] {
        assert_eq!(parse_script(text), Err(error), "{text}");
    }
}
