//! Every size limit of this room, with its unit and what moving it would break.

/// Bytes of one `blkNNNNN.dat` (Core's `MAX_BLOCKFILE_SIZE`). Larger: other tools that read the
/// folder may refuse the file, and pruning frees space in coarser steps. Smaller: more files
/// than Core makes for the same chain.
pub const MAX_BLOCK_FILE_BYTES: u32 = 128 * 1024 * 1024;

/// Bytes of one block file under `-fastprune`. Larger or smaller: Core's pruning tests count on
/// this number.
pub const FAST_PRUNE_FILE_BYTES: u32 = 64 * 1024;

/// Bytes by which Core makes a block file grow (`BLOCKFILE_CHUNK_SIZE`). Pruning looks at the
/// disk once a chunk. Larger: the target is overshot by more. Smaller: it looks more often.
pub const BLOCK_CHUNK_BYTES: u32 = 16 * 1024 * 1024;

/// The same for undo files (`UNDOFILE_CHUNK_SIZE`).
pub const UNDO_CHUNK_BYTES: u32 = 1024 * 1024;

/// The same for block files under `-fastprune`.
pub const FAST_PRUNE_CHUNK_BYTES: u32 = 16 * 1024;

/// Largest block that is written or found by a scan (Core's `MAX_BLOCK_SERIALIZED_SIZE`).
/// Smaller: valid blocks would be refused. Larger: a damaged length makes a scan read more.
pub const MAX_BLOCK_BYTES: u32 = 4_000_000;

/// Smallest record a scan takes for a block: a header's bytes. Smaller: noise is handed on.
pub const MIN_BLOCK_BYTES: u32 = 80;

/// Largest record read back (Core's `MAX_SIZE`). Larger: a damaged length allocates that much.
/// Smaller than an undo record of a full block: valid data would be refused.
pub const MAX_RECORD_BYTES: u32 = 0x0200_0000;

/// Block and undo files that may wait for one `sync`. Larger: more descriptors held and a longer
/// sync. Smaller: a sync comes sooner when undo lags behind blocks.
pub const MAX_UNSYNCED_FILES: usize = 16;

/// Bytes a scan reads at a time. Larger: more memory. Smaller: more system calls.
pub const SCAN_CHUNK_BYTES: usize = 1024 * 1024;

/// Payload bytes of one journal record. Larger: recovery allocates more on a damaged length.
/// Smaller: the owner must split its records.
pub const MAX_JOURNAL_RECORD_BYTES: u32 = 16 * 1024 * 1024;

/// Block cache of a key-value store where many nodes share a process. Larger: a hundred nodes
/// no longer fit. Smaller: every point read goes to the page cache.
pub const SMALL_KV_CACHE_BYTES: u64 = 1024 * 1024;

/// Write buffer of each keyspace of such a store. Larger: more memory a node. Smaller: more
/// tiny tables to compact.
pub const SMALL_KV_MEMTABLE_BYTES: u64 = 4 * 1024 * 1024;

/// Write-ahead log of a full-size key-value store. Larger: longer recovery. Smaller: flushes of
/// half-empty write buffers.
pub const KV_LOG_BYTES: u64 = 512 * 1024 * 1024;

/// The smallest write-ahead log `fjall` accepts.
pub const SMALL_KV_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// Table files each key-value store keeps open. Larger: runs into `ulimit -n`. Smaller: files
/// are opened again on reads.
pub const KV_OPEN_FILES: usize = 128;
