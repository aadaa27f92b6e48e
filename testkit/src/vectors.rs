//! Scripts as Core's test vectors write them.

use bitcoin::ScriptBuf;
use bitcoin::opcodes::Opcode;
use bitcoin::script::PushBytesBuf;

/// Reads a script in the notation of `script_tests.json` and `tx_valid.json` (Core's
/// `ParseScript`): numbers, `0x` raw bytes, `'text'` pushes and opcode names without `OP_`.
///
/// # Panics
/// If a word is none of these.
#[must_use]
pub fn vector_script(text: &str) -> ScriptBuf {
    let mut script = ScriptBuf::new();
    for word in text.split_ascii_whitespace() {
        if let Some(hex) = word.strip_prefix("0x") {
            let mut bytes = script.into_bytes();
            bytes.extend(hex::decode(hex).expect("raw bytes are hex"));
            script = ScriptBuf::from_bytes(bytes);
        } else if let Some(text) = word.strip_prefix('\'').and_then(|word| word.strip_suffix('\'')) {
            script.push_slice(PushBytesBuf::try_from(text.as_bytes().to_vec()).expect("short text"));
        } else if let Ok(number) = word.parse::<i64>() {
            let number = ScriptBuf::builder().push_int(number).into_script();
            script = ScriptBuf::from_bytes([script.into_bytes(), number.into_bytes()].concat());
        } else {
            script.push_opcode(opcode(word));
        }
    }
    script
}

/// Opcodes that Core names otherwise than the `bitcoin` crate.
const RENAMED: [(&str, u8); 7] = [
    ("NOP2", 0xb1),
    ("CHECKLOCKTIMEVERIFY", 0xb1),
    ("NOP3", 0xb2),
    ("CHECKSEQUENCEVERIFY", 0xb2),
    ("RESERVED", 0x50),
    ("RESERVED1", 0x89),
    ("RESERVED2", 0x8a),
];

fn opcode(word: &str) -> Opcode {
    let word = word.strip_prefix("OP_").unwrap_or(word);
    if let Some((_, code)) = RENAMED.iter().find(|(name, _)| *name == word) {
        return Opcode::from(*code);
    }
    // Vectors name only opcodes from NOP on; lower ones are pushes.
    (0x50..=0xff)
        .map(Opcode::from)
        .find(|opcode| opcode.to_string().strip_prefix("OP_") == Some(word))
        .unwrap_or_else(|| panic!("unknown opcode {word}"))
}
