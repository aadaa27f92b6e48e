//! Relay-policy script checks and Core's script error names.
//!
//! Nothing here decides whether a block is valid: that is libbitcoinkernel's, behind the seam in
//! the consensus room. This room knows what a script is ([`solve`]), prints it as Core does
//! ([`asm`]), and runs it under the relay-policy flags that no library offers, both to refuse what
//! Core refuses to relay and to name the error Core would name ([`verify_input`]).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod asm;
mod encoding;
mod error;
mod interpreter;
mod number;
mod ops;
mod parse;
mod sighash;
mod solver;
mod verify;

pub use asm::{asm, opcode_name, sighash_name};
pub use encoding::{is_strict_der_signature, signature_encoding};
pub use error::ScriptError;
pub use ironpeer_primitives::ScriptFlags;
pub use ops::{Op, OpError, Ops, is_push_only, sigops};
pub use parse::{ParseError, parse_script};
pub use sighash::SpendContext;
pub use solver::{ScriptKind, Solution, solve};
pub use verify::{push_stack, verify_input};

/// Longest script that can be executed, in bytes (`MAX_SCRIPT_SIZE`).
pub const MAX_SCRIPT_SIZE: usize = 10_000;
