use bitcoin::Script;
use bitcoin::opcodes::all as op;

/// One instruction of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op<'a> {
    /// The opcode byte.
    pub code: u8,
    /// What it pushes; empty for every opcode that carries no data of its own.
    pub data: &'a [u8],
    /// Offset of the byte after the instruction.
    pub end: usize,
}

/// A push runs past the end of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("push past the end of the script")]
pub struct OpError;

/// Reads a script instruction by instruction, as Core's `GetScriptOp`; ends after an error.
#[derive(Clone, Debug)]
pub struct Ops<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Ops<'a> {
    /// Starts at the script's first byte.
    #[must_use]
    pub fn new(script: &'a Script) -> Self {
        Self { bytes: script.as_bytes(), at: 0 }
    }

    /// Where the next instruction starts.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    fn length(&self, at: usize, width: usize) -> Option<usize> {
        let bytes = self.bytes.get(at..at.checked_add(width)?)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    fn read(&self, code: u8) -> Option<Op<'a>> {
        let after = self.at + 1;
        let (len, start) = match code {
            0x4c => (self.length(after, 1)?, after + 1),
            0x4d => (self.length(after, 2)?, after + 2),
            0x4e => (self.length(after, 4)?, after + 4),
            0..0x4c => (usize::from(code), after),
            _ => (0, after),
        };
        let end = start.checked_add(len)?;
        Some(Op { code, data: self.bytes.get(start..end)?, end })
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<Op<'a>, OpError>;

    fn next(&mut self) -> Option<Self::Item> {
        let code = *self.bytes.get(self.at)?;
        if let Some(op) = self.read(code) {
            self.at = op.end;
            Some(Ok(op))
        } else {
            self.at = self.bytes.len();
            Some(Err(OpError))
        }
    }
}

/// Whether the script only pushes (opcodes up to `OP_16`, `OP_RESERVED` among them) and every
/// push is whole (Core's `IsPushOnly`).
#[must_use]
pub fn is_push_only(script: &Script) -> bool {
    Ops::new(script).all(|op| op.is_ok_and(|op| op.code <= op::OP_PUSHNUM_16.to_u8()))
}

/// Signature operations counted accurately: a multisig counts the number of keys named right
/// before it, 20 if that is not `OP_1` to `OP_16` (Core's `GetSigOpCount(true)`).
#[must_use]
pub fn sigops(script: &Script) -> u32 {
    const MAX_PUBKEYS_PER_MULTISIG: u32 = 20;
    let mut count = 0u32;
    let mut last = 0xff;
    for op in Ops::new(script) {
        let Ok(op) = op else { break };
        count = count.saturating_add(match op.code {
            0xac | 0xad => 1,
            0xae | 0xaf if (0x51..=0x60).contains(&last) => u32::from(last - 0x50),
            0xae | 0xaf => MAX_PUBKEYS_PER_MULTISIG,
            _ => 0,
        });
        last = op.code;
    }
    count
}
