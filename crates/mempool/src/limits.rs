//! The room's limits, with units.

use std::time::Duration;

/// Mempool size in bytes of memory (`-maxmempool`, in Core 300 MB). Larger: memory; smaller:
/// transactions are dropped while they are still wanted.
pub const MAX_MEMPOOL_BYTES: usize = 300_000_000;
/// Seconds until a transaction that nobody mines is dropped (`-mempoolexpiry`, 336 hours).
pub const EXPIRY_SECONDS: i64 = 336 * 3_600;

/// Most transactions that hang together (`-limitclustercount`). Larger: sorting a cluster takes
/// longer than a message may.
pub const CLUSTER_COUNT: usize = 64;
/// Most vbytes that hang together (`-limitclustersize`). A cluster always fits into one block.
pub const CLUSTER_VBYTES: u64 = 101_000;
/// Most transactions an admission may find hanging together at all, whatever the options say:
/// the sorting works on 64-bit sets.
pub const MAX_CLUSTER_COUNT: usize = 64;
/// Most clusters a replacement may touch (`MAX_REPLACEMENT_CANDIDATES`).
pub const MAX_REPLACEMENT_CLUSTERS: usize = 100;

/// Most transactions judged together (`MAX_PACKAGE_COUNT`).
pub const MAX_PACKAGE_COUNT: usize = 25;
/// Their weight together, in weight units (`MAX_PACKAGE_WEIGHT`): no less than a cluster's.
pub const MAX_PACKAGE_WEIGHT: u64 = 404_000;

/// Least feerate relayed, in satoshi per 1,000 vbytes (`-minrelaytxfee`).
pub const MIN_RELAY_FEE: u64 = 100;
/// Feerate a replacement, or a transaction after an eviction, must add (`-incrementalrelayfee`).
pub const INCREMENTAL_RELAY_FEE: u64 = 100;
/// Feerate by which an output is found not worth spending (`-dustrelayfee`).
pub const DUST_RELAY_FEE: u64 = 3_000;
/// Seconds in which the rolling minimum feerate halves, while the mempool is more than half full.
pub const ROLLING_FEE_HALFLIFE: f64 = 43_200.0;
/// Seconds between two steps of its decay.
pub const ROLLING_FEE_STEP: i64 = 10;

/// Heaviest transaction relayed, in weight units.
pub const MAX_STANDARD_TX_WEIGHT: u64 = 400_000;
/// Least bytes without witness: 64 would pass for an inner Merkle node (CVE-2017-12842).
pub const MIN_STANDARD_TX_NONWITNESS_SIZE: usize = 65;
/// Longest input script relayed, in bytes: 15-of-15 with compressed keys.
pub const MAX_STANDARD_SCRIPTSIG_SIZE: usize = 1_650;
/// Bytes of data-carrying output scripts a transaction may have together (`-datacarriersize`).
pub const MAX_DATACARRIER_BYTES: u32 = 100_000;
/// Outputs below the dust limit a transaction may have, if it pays no fee at all.
pub const MAX_DUST_OUTPUTS: usize = 1;
/// Signature operations of a P2SH redeem script.
pub const MAX_P2SH_SIGOPS: u32 = 15;
/// Signature operation cost of one transaction: a fifth of a block's.
pub const MAX_STANDARD_TX_SIGOPS_COST: u64 = 16_000;
/// Signature operations outside witnesses that one transaction may run (BIP54).
pub const MAX_TX_LEGACY_SIGOPS: u32 = 2_500;
/// Weight a signature operation counts for at least (`-bytespersigop`).
pub const BYTES_PER_SIGOP: u64 = 20;
/// Items, script included, of a P2WSH witness.
pub const MAX_STANDARD_P2WSH_STACK_ITEMS: usize = 100;
/// Bytes of each item of a P2WSH witness.
pub const MAX_STANDARD_P2WSH_STACK_ITEM_SIZE: usize = 80;
/// Bytes of a P2WSH script.
pub const MAX_STANDARD_P2WSH_SCRIPT_SIZE: usize = 3_600;
/// Bytes of each item of a tapscript witness.
pub const MAX_STANDARD_TAPSCRIPT_STACK_ITEM_SIZE: usize = 80;

/// Version number of topologically restricted transactions (BIP431).
pub const TRUC_VERSION: i32 = 3;
/// Largest such transaction, in vbytes.
pub const TRUC_MAX_VSIZE: u64 = 10_000;
/// Largest such transaction that spends an unconfirmed one.
pub const TRUC_CHILD_MAX_VSIZE: u64 = 1_000;

/// Coins looked up first of those a transaction spends; if all are there, the next part is
/// [`COINS_GROWTH`] times as large. Larger: a transaction without its parents costs more lookups.
pub const FIRST_COINS: usize = 1;
/// See [`FIRST_COINS`]. Larger: more lookups beyond a missing coin; smaller: more calls.
pub const COINS_GROWTH: usize = 4;
/// Outputs of a transaction with unknown inputs that are looked up to see whether it is in the
/// chain already. Larger: a message costs more lookups.
pub const KNOWN_OUTPUT_LOOKUPS: usize = 16;
/// Bytes of transactions of disconnected blocks that are kept to be taken back (Core's
/// `MAX_DISCONNECTED_TX_POOL_BYTES`). Smaller: a deep reorganisation loses transactions.
pub const MAX_RETURNING_BYTES: usize = 20_000_000;
/// Events a subscriber may lie behind before it loses the oldest.
pub const EVENT_BACKLOG: usize = 8_192;
/// Admissions in progress, of a transaction or a package. Larger: the scripts of a block wait on
/// the CPU pool behind more of them. Smaller: processors stand idle.
pub const MAX_ADMISSIONS: usize = 64;
/// Bytes of the transactions that are in progress: forty of the largest standard ones.
pub const MAX_ADMISSION_BYTES: usize = 16 << 20;
/// What one peer, or all interfaces together, may have of them. Larger: fewer sources fill the
/// whole. Smaller: one that alone has much to send is slower.
pub const MAX_SOURCE_ADMISSIONS: usize = 16;
/// The same in bytes.
pub const MAX_SOURCE_ADMISSION_BYTES: usize = 4 << 20;
/// Callers that may wait for room. A peer has one, the interfaces as many as they serve calls at a
/// time. Larger: more transactions held. Smaller: callers are refused that could wait.
pub const MAX_WAITING: usize = 4_096;
/// The same of one source.
pub const MAX_SOURCE_WAITING: usize = 1_024;
/// Times an admission starts over because the tip moved under it.
pub const ADMISSION_RETRIES: usize = 16;
/// Age in hours above which saved fee estimates are not read: the fees may have changed since.
pub const MAX_FEE_FILE_HOURS: u64 = 60;
/// How often fee estimates are written. Larger: a crash loses more of what was seen.
pub const FEE_FLUSH_INTERVAL: Duration = Duration::from_secs(3_600);
/// Least time after which an own transaction that no peer has asked for is announced again.
/// Smaller: peers learn whose it is.
pub const REANNOUNCE_LEAST: Duration = Duration::from_secs(600);
/// What is added to it at random, at most.
pub const REANNOUNCE_SPREAD: Duration = Duration::from_secs(300);
/// Largest `fee_estimates.dat` read, in bytes: above what the most buckets and periods take that
/// a file may have. Core's has a third of a million.
pub const MAX_FEE_FILE_BYTES: u64 = 64 << 20;
/// Seconds by which the tip may lie back for a new transaction to count for fee estimation: 3
/// hours.
pub const MAX_FEE_ESTIMATION_TIP_AGE: i64 = 3 * 3_600;
/// Largest `mempool.dat` read, in bytes; a full mempool's transactions take less than its memory.
pub const MAX_PERSISTED_BYTES: u64 = 4_000_000_000;
