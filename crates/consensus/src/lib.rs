//! Pure validity rules of headers, transactions and blocks.
//!
//! Every function here is told the time, the ancestors and the coins it needs, so each rule can
//! be tested on its own. Reject reasons, debug messages and the order of checks are Bitcoin
//! Core's: the first failure reported is the one Core reports. Scripts alone are not judged
//! here; [`InputScripts::verify`] is the one place that asks libbitcoinkernel.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

#[deny(clippy::arithmetic_side_effects)]
mod block;
mod cache;
#[deny(clippy::arithmetic_side_effects)]
mod connect;
mod decode;
mod flags;
#[deny(clippy::arithmetic_side_effects)]
mod header;
mod kernel;
pub mod limits;
pub mod merkle;
mod params;
mod signet;
#[deny(clippy::arithmetic_side_effects)]
pub mod sigops;
#[deny(clippy::arithmetic_side_effects)]
mod transaction;
pub mod versionbits;

pub use block::{
    BlockIds, CheckBlock, add_witness_commitment, check_block, check_block_mutation, check_block_with,
    contextual_check_block, is_block_mutated, witness_commitment_index,
};
pub use cache::ScriptCache;
pub use connect::{
    CoinChanges, CoinSource, Connected, DisconnectError, Disconnected, OutpointMap, ScriptMode,
    block_subsidy, connect_block, disconnect_block, is_bip30_repeat, is_bip30_unspendable, is_unspendable,
};
pub use decode::{DecodeError, decode_block, decode_tx, decode_tx_no_witness, read_block, read_tx};
pub use flags::script_flags;
pub use header::{
    Ancestry, block_proof_equivalent_time, check_header, check_proof_of_work, contextual_check_header,
    median_time_past, next_work_required, permitted_difficulty_transition, target_from_bits,
};
pub use ironpeer_primitives::ScriptFlags;
pub use kernel::{Checker, InlineChecker, InputScripts, ScriptFailure, SeamError, TxScriptCheck};
pub use params::{
    Bip9Deployment, BuriedDeployment, ChainTxData, HeadersSyncParams, Params, RegtestOptions,
    VersionBitsParameters,
};
pub use signet::check_signet_solution;
pub use transaction::{
    SequenceLocks, calculate_sequence_locks, check_transaction, check_tx_inputs, format_money, is_final_tx,
    sequence_locks_met,
};
