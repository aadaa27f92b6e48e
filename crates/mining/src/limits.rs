//! Every limit of this room, with its unit and what moving it would break.

/// Hashes between two looks at the cancellation token. Larger: a competing block stops the
/// search later (this many hashes take about a millisecond). Smaller: the look itself costs.
pub const NONCE_BATCH: u32 = 8_192;

/// Weight units kept for header, transaction count and coinbase (`-blockreservedweight`).
/// Smaller: a pool's large coinbase makes the block too heavy. Larger: fees are left behind.
pub const DEFAULT_RESERVED_WEIGHT: u64 = 8_000;

/// The least that may be reserved (Core's `MINIMUM_BLOCK_RESERVED_WEIGHT`).
pub const MIN_RESERVED_WEIGHT: u64 = 2_000;

/// Signature operations kept for the coinbase's outputs. Smaller: a pool's coinbase may break
/// the block's limit. Larger: fewer transactions fit.
pub const COINBASE_SIGOPS: u64 = 400;

/// Least feerate of a chunk in a block, in satoshi per 1,000 vbytes (`-blockmintxfee`).
pub const DEFAULT_BLOCK_MIN_FEE: u64 = 1;

/// Chunks in a row that may fail to fit before a nearly full block is called full. Larger:
/// templates take longer on a full mempool. Smaller: small chunks that fit are left behind.
pub const MAX_CONSECUTIVE_FAILURES: usize = 1_000;

/// Weight units from the limit at which a block is nearly full.
pub const FULL_ENOUGH_WEIGHT: u64 = 4_000;

/// Seconds for which `getblocktemplate` answers from one template while only the mempool
/// changes. Larger: miners see new fees later. Smaller: each call assembles a block.
pub const TEMPLATE_MAX_AGE: i64 = 5;

/// Seconds a long poll waits before new transactions alone end it, and between looks at them
/// after that (BIP22 leaves both open; Core's numbers).
pub const LONGPOLL_FIRST_LOOK: u64 = 60;
/// See [`LONGPOLL_FIRST_LOOK`].
pub const LONGPOLL_NEXT_LOOK: u64 = 10;

/// Threads of one search. Larger: other work of the node starves. One is enough for the networks
/// this miner is for.
pub const DEFAULT_THREADS: usize = 1;
