use crate::ScriptError;

/// Longest number an arithmetic opcode takes, in bytes.
pub const MAX_NUMBER_SIZE: usize = 4;

/// Reads a script number: little-endian with a sign bit (Core's `CScriptNum`).
///
/// # Errors
/// If it is longer than `max` bytes, or `minimal` and not in its shortest form.
pub fn decode(bytes: &[u8], minimal: bool, max: usize) -> Result<i64, ScriptError> {
    if bytes.len() > max || (minimal && !is_minimal(bytes)) {
        return Err(ScriptError::ScriptNum);
    }
    Ok(decode_any(bytes))
}

/// Reads a number of at most eight bytes without asking for the shortest form.
pub fn decode_any(bytes: &[u8]) -> i64 {
    let Some((last, rest)) = bytes.split_last() else { return 0 };
    let magnitude =
        rest.iter().rev().fold(i64::from(last & 0x7f), |sum, byte| sum.wrapping_shl(8) | i64::from(*byte));
    if last & 0x80 == 0 { magnitude } else { -magnitude }
}

fn is_minimal(bytes: &[u8]) -> bool {
    match bytes {
        [] => true,
        // The last byte holds nothing but a sign: needed only to keep the next one's top bit free.
        [.., before, last] if last & 0x7f == 0 => before & 0x80 != 0,
        [last] if last & 0x7f == 0 => false,
        _ => true,
    }
}

/// The shortest form of a number.
pub fn encode(number: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut magnitude = number.unsigned_abs();
    while magnitude != 0 {
        bytes.push((magnitude & 0xff) as u8);
        magnitude >>= 8;
    }
    let sign = if number < 0 { 0x80 } else { 0 };
    match bytes.last_mut() {
        Some(last) if *last & 0x80 != 0 => bytes.push(sign),
        Some(last) => *last |= sign,
        None => {}
    }
    bytes
}

/// Whether a stack item counts as true: anything but zero and negative zero.
pub fn truthy(bytes: &[u8]) -> bool {
    match bytes.split_last() {
        Some((last, rest)) => rest.iter().any(|byte| *byte != 0) || (*last != 0 && *last != 0x80),
        None => false,
    }
}

/// Whether `code` is the shortest way to push `data` (Core's `CheckMinimalPush`).
pub fn is_minimal_push(data: &[u8], code: u8) -> bool {
    match data {
        [] => code == 0,
        // Pushes of these numbers have opcodes of their own.
        [1..=16 | 0x81] => false,
        _ if data.len() <= 75 => usize::from(code) == data.len(),
        _ if data.len() <= 255 => code == 0x4c,
        _ if data.len() <= 65_535 => code == 0x4d,
        _ => true,
    }
}
