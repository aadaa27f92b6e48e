//! Every limit of this room, with its unit, and what breaks when it is moved.

use std::time::Duration;

/// Bytes of rows that an index catching up gathers before it commits them. Larger: memory, and
/// more to do again after a crash. Smaller: more commits.
pub const BATCH_BYTES: usize = 4 << 20;

/// Blocks whose hashes of the coin set are taken at once while `coinstatsindex` catches up. Larger:
/// memory, some 1,000 bytes each twice. Smaller: one inversion for fewer blocks, which takes longer
/// than all else there is to do for a block.
pub const UNDIGESTED_BLOCKS: usize = 128;

/// Scripts whose totals are remembered, some 150 bytes each. Larger: memory. Smaller: long
/// histories are added up again.
pub const TOTALS_KEPT: usize = 4_096;

/// Transactions since the last time from which on a script's totals are remembered. Larger: more is
/// added up at each question. Smaller: short histories push long ones out.
pub const TOTALS_KEPT_FROM: usize = 500;

/// Block cache in bytes of an index's database on a public network. Larger: memory. Smaller: more
/// reads from disk.
pub const CACHE_BYTES: u64 = 16 << 20;

/// Write buffer in bytes of each of its keyspaces. Larger: memory. Smaller: more and smaller tables
/// to compact.
pub const MEMTABLE_BYTES: u64 = 16 << 20;

/// Write-ahead log in bytes of such a database. Larger: a longer start after a crash. Smaller:
/// write buffers are written out half empty.
pub const LOG_BYTES: u64 = 128 << 20;

/// How often an index that is catching up says how far it is (Core's `SYNC_LOG_INTERVAL`).
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

/// Blocks that an index which is ahead of the chain at start takes off at once. One further ahead
/// waits for the chain, which is being rebuilt then. Larger: rows are taken off only to be put back.
/// Smaller: an index that a crash left ahead answers only once the chain has caught up.
pub const UNWIND_AT_START: u32 = 288;
