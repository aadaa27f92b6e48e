//! The network's limits. None may be changed: larger and this node follows blocks that others
//! refuse, smaller and it is forked off by blocks that others accept.

/// Most weight units of a block (BIP141).
pub const MAX_BLOCK_WEIGHT: u64 = 4_000_000;
/// Weight units of a byte that is no witness (BIP141).
pub const WITNESS_SCALE_FACTOR: u64 = 4;
/// Most signature operations of a block, a legacy one counting as four (BIP141).
pub const MAX_BLOCK_SIGOPS_COST: u64 = 80_000;
/// Blocks until a coinbase output may be spent.
pub const COINBASE_MATURITY: u32 = 100;
/// Most satoshis an output, an input or a sum of them may have.
pub const MAX_MONEY: u64 = 21_000_000 * 100_000_000;
/// Longest script that can be executed, in bytes; an output with a longer one is no coin.
pub const MAX_SCRIPT_SIZE: usize = 10_000;
/// Sigops counted for a multisig check whose number of keys is not stated.
pub const MAX_PUBKEYS_PER_MULTISIG: u64 = 20;
/// Shortest coinbase script, in bytes.
pub const MIN_COINBASE_SCRIPT: usize = 2;
/// Longest coinbase script, in bytes.
pub const MAX_COINBASE_SCRIPT: usize = 100;
/// Headers whose median time bounds the next block's time (BIP113).
pub const MEDIAN_TIME_SPAN: u32 = 11;
/// Seconds a header may be ahead of the clock.
pub const MAX_FUTURE_BLOCK_TIME: i64 = 2 * 60 * 60;
/// Seconds the first header of a retarget period may be behind its parent (BIP94).
pub const MAX_TIMEWARP: i64 = 600;
/// Lock times below are heights, others Unix seconds.
pub const LOCKTIME_THRESHOLD: u32 = 500_000_000;
/// Shortest output script that can hold a witness commitment, in bytes (BIP141).
pub const MINIMUM_WITNESS_COMMITMENT: usize = 38;
/// From this height on BIP34 no longer rules out duplicate coinbases, so BIP30 is checked again.
pub const BIP34_IMPLIES_BIP30_LIMIT: u32 = 1_983_702;
/// Largest count or length that Core's serialisation reads (`MAX_SIZE`).
pub const MAX_SERIALIZED_COUNT: u64 = 0x0200_0000;

/// Bytes of the script cache when the node does not say otherwise: half of Core's
/// `DEFAULT_VALIDATION_CACHE_BYTES`, the other half being its signature cache. Larger only costs
/// memory; smaller makes a block verify scripts again that were verified on admission.
pub const DEFAULT_SCRIPT_CACHE_BYTES: usize = 16 << 20;
