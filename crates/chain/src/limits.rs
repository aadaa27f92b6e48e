//! Every limit of this room, with its unit, and what breaks when it is moved.

use std::time::Duration;

/// Bytes of the coin cache unless told otherwise (Core's `-dbcache` default, 450 MiB on small
/// machines). Larger: memory. Smaller: more database reads and flushes in initial sync.
pub const DEFAULT_CACHE_BYTES: usize = 450 << 20;

/// Bytes of keys and values of one coins batch (`-dbbatchsize`; Core's is 32 MiB). Larger: memory
/// during a flush, several times this much. Smaller: slower flushes.
pub const DEFAULT_BATCH_BYTES: usize = 2 << 20;

/// Bytes of memory a block's serialized byte takes once decoded, nearly: every script is an
/// allocation of its own. Smaller: the budgets below hold more than they say. Larger: they hold
/// less than they could.
pub const DECODED_BYTES_PER_BYTE: usize = 3;

/// Bytes of memory of blocks and other commands waiting for the writer. Larger: memory under a
/// flood of blocks. Smaller: the writer starves in initial sync.
pub const COMMAND_QUEUE_BYTES: usize = 32 << 20;

/// Share of `-dbcache`, one in so many, that the coins' database gets as block cache, and as much
/// again as write buffer.
pub const COINS_DATABASE_SHARE: usize = 8;

/// Most of either. Larger: taken from cached coins, which spare more reads. Smaller: write stalls
/// while coins are flushed.
pub const COINS_DATABASE_MAX_BYTES: usize = 64 << 20;

/// The same of the block index's database, which is read at start and written a little.
pub const INDEX_DATABASE_SHARE: usize = 32;

/// Most of either. Larger: memory to no end. Smaller: more tiny tables to compact.
pub const INDEX_DATABASE_MAX_BYTES: usize = 8 << 20;

/// Inputs from which a transaction's scripts are spread over the pool. Larger: a large transaction
/// is checked on one thread while others idle. Smaller: more parts than they are worth.
pub const SPREAD_INPUTS: usize = 64;

/// Bytes each command is charged at least, so that small ones are bounded in number too.
pub const COMMAND_MIN_BYTES: usize = 64 << 10;

/// Bytes of memory of blocks and spent coins kept for followers that are behind. Larger: memory.
/// Smaller: a slow follower falls out sooner and must read blocks from disk.
pub const EVENT_RING_BYTES: usize = 32 << 20;

/// Blocks the writer takes from its queue before it activates the best chain. Larger: the first
/// of them waits longer for its answer. Smaller: less overlap between script checks of one block
/// and the application of the next.
pub const SUBMIT_BATCH: usize = 16;

/// Blocks applied ahead of the oldest one whose scripts are still being checked. Larger: memory
/// for blocks that may yet be refused. Smaller: idle script threads.
pub const PIPELINE_BLOCKS: usize = 8;

/// Blocks read from disk ahead of the one being applied. Larger: memory. Smaller: the writer
/// waits for the disk.
pub const READ_AHEAD_BLOCKS: usize = 8;

/// Bytes of memory of blocks that a reorganisation may hold before it commits what it has. Larger: memory
/// in a very deep reorganisation. Smaller: a branch that proves invalid late has already been
/// followed by readers and must be left again.
pub const REORG_HOLD_BYTES: usize = 64 << 20;

/// Blocks of an import handed to the writer at once. Larger: memory. Smaller: less overlap.
pub const IMPORT_BATCH_BLOCKS: usize = 64;

/// Serialized bytes of an import handed to the writer at once. Larger: memory, for up to three
/// batches are decoded at a time. Smaller: less overlap.
pub const IMPORT_BATCH_BYTES: usize = 4 << 20;

/// Bytes of journal after which rows go to the index and the journal starts anew. Larger: slower
/// start after a crash. Smaller: more index writes.
pub const JOURNAL_ROTATE_BYTES: u64 = 16 << 20;

/// How long written blocks and journal records may stay unsynced: what a power loss can cost.
pub const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Shortest and longest time between two periodic flushes (Core's
/// `DATABASE_WRITE_INTERVAL_MIN`/`MAX`).
pub const FLUSH_INTERVAL: (Duration, Duration) = (Duration::from_secs(50 * 60), Duration::from_secs(70 * 60));

/// Blocks ahead of the tip that are taken without having been asked for (Core's
/// `MIN_BLOCKS_TO_KEEP`). Larger: a peer can make us store blocks we may never connect.
pub const UNREQUESTED_AHEAD: u32 = 288;

/// Blocks below the tip whose files are never pruned (Core's `MIN_BLOCKS_TO_KEEP`). Smaller: a
/// reorganisation may need a block that is gone. Larger: a pruned node promises no more than this.
pub const MIN_BLOCKS_TO_KEEP: u32 = 288;

/// Blocks below the one a prune lock names that are kept too (Core's `PRUNE_LOCK_BUFFER`). Smaller:
/// an index may not get through a short reorganisation. Larger: it holds up pruning.
pub const PRUNE_LOCK_BUFFER: u32 = 10;

/// Least bytes of block files that automatic pruning aims at (Core's
/// `MIN_DISK_SPACE_FOR_BLOCK_FILES`). Smaller: the blocks that must be kept do not fit.
pub const MIN_PRUNE_TARGET: u64 = 550 << 20;

/// Bytes that automatic pruning leaves free below its target, for a block and an undo chunk to
/// come. Smaller: the target is overshot between two looks at the disk.
pub const PRUNE_BUFFER: u64 = 17 << 20;

/// Bytes a block is taken to have when the room for the rest of the initial download is guessed.
/// Larger: fewer, bigger prunings in it. Smaller: more of them, each with a flush.
pub const PRUNE_AVERAGE_BLOCK: u64 = 1_000_000;

/// Seconds a block's time may be ahead of the clock at start (Core's `MAX_FUTURE_BLOCK_TIME`).
pub const MAX_FUTURE_BLOCK_TIME: i64 = 2 * 60 * 60;

/// Bytes of coins that a check of the chain may hold at least: the least `-dbcache` there is.
pub const VERIFY_MIN_BYTES: usize = 4 << 20;

/// Bytes that one changed coin takes while blocks are verified, nearly. Larger: `-checklevel=3`
/// gives up earlier. Smaller: it may take more memory than `-dbcache`.
pub const VERIFY_COIN_BYTES: usize = 200;

/// Age in seconds of the tip beyond which the node is in initial download (Core's
/// `DEFAULT_MAX_TIP_AGE`).
pub const DEFAULT_MAX_TIP_AGE: i64 = 24 * 60 * 60;

/// Blocks checked at start, and how thoroughly (Core's `-checkblocks`, `-checklevel`).
pub const DEFAULT_CHECK_BLOCKS: u32 = 6;
/// See [`DEFAULT_CHECK_BLOCKS`].
pub const DEFAULT_CHECK_LEVEL: u8 = 3;

/// Free bytes below which nothing more is written (Core's `CheckDiskSpace`).
pub const MIN_FREE_DISK: u64 = 50 << 20;

/// Attempts to read several coins at one tip without a lock before the lock is held throughout.
pub const COIN_READ_ATTEMPTS: usize = 3;

/// Input count from which a block's missing coins are fetched from the database in parallel.
pub const PREFETCH_MIN_INPUTS: usize = 32;

/// Smallest and largest block in a block file (Core's `LoadExternalBlockFile`).
pub const BLOCK_RECORD_BYTES: std::ops::RangeInclusive<usize> = 80..=4_000_000;

/// Coins changed by applied but uncommitted blocks. Larger: memory. Smaller: the pipeline runs
/// empty more often.
pub const OVERLAY_COINS: usize = 200_000;

/// Blocks one step towards the best chain covers at most. Larger: a longer list of ids. Smaller:
/// the pipeline runs empty more often.
pub const STEP_BLOCKS: usize = 1024;

/// How long an idle writer sleeps before it looks at the clock for a periodic flush.
pub const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// Coins that may have changed between the tip and the block of a snapshot. They are kept in memory
/// while the file is written, some 150 bytes each; fewer would refuse blocks that are not so far
/// back.
pub const ROLLBACK_COINS: usize = 5_000_000;
