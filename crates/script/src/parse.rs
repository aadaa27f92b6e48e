//! Scripts from text, as `bitcoin-tx` and Core's script vectors write them (`core_io.cpp`,
//! `ParseScript`).

use bitcoin::ScriptBuf;
use bitcoin::script::{Builder, PushBytesBuf};

use crate::opcode_name;

/// Largest number a script may be given in decimals.
const NUMBER_MAX: i64 = 0xffff_ffff;
/// Highest opcode with a name of its own (`MAX_OPCODE`).
const OPCODE_MAX: u8 = 0xba;
const OP_RESERVED: u8 = 0x50;
const OP_NOP: u8 = 0x61;

/// Why a text is no script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A number that no script may hold.
    #[error("script parse error: decimal numeric value only allowed in the range -0xFFFFFFFF...0xFFFFFFFF")]
    Number,
    /// A word that is neither number, data nor opcode.
    #[error("script parse error: unknown opcode")]
    Opcode,
}

/// Reads a script: numbers in decimals, raw bytes after `0x`, text in single quotes, and opcodes
/// with or without their `OP_`.
///
/// # Errors
/// A word that means nothing.
pub fn parse_script(text: &str) -> Result<ScriptBuf, ParseError> {
    let mut bytes = Vec::new();
    for word in text.split([' ', '\t', '\n']).filter(|word| !word.is_empty()) {
        let digits = word.strip_prefix('-').unwrap_or(word);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = word.parse::<i64>().map_err(|_| ParseError::Number)?;
            if !(-NUMBER_MAX..=NUMBER_MAX).contains(&number) {
                return Err(ParseError::Number);
            }
            bytes.extend_from_slice(Builder::new().push_int(number).as_bytes());
        } else if let Some(raw) = word.strip_prefix("0x").filter(|raw| !raw.is_empty())
            && let Some(raw) = unhex(raw)
        {
            bytes.extend_from_slice(&raw);
        } else if let Some(data) = word.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
            let data = PushBytesBuf::try_from(data.as_bytes().to_vec()).map_err(|_| ParseError::Opcode)?;
            bytes.extend_from_slice(Builder::new().push_slice(data).as_bytes());
        } else {
            bytes.push(opcode(word)?);
        }
    }
    Ok(ScriptBuf::from_bytes(bytes))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// An opcode by its name. The numbers and pushes have none here.
fn opcode(word: &str) -> Result<u8, ParseError> {
    let named = |code: &u8| {
        let name = opcode_name(*code);
        name != "OP_UNKNOWN" && (name == word || name.strip_prefix("OP_") == Some(word))
    };
    std::iter::once(OP_RESERVED).chain(OP_NOP..=OPCODE_MAX).find(named).ok_or(ParseError::Opcode)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
