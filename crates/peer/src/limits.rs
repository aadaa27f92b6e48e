//! Every limit of the peers' shell, with its unit. Starting values are Bitcoin Core's
//! (`src/net.h`, `src/addrman.h`, `src/addrman_impl.h`, `src/banman.h`).

use std::time::Duration;

/// Connections of all kinds but manual ones (`-maxconnections`). More: memory and time for each;
/// fewer: less use to the network.
pub const DEFAULT_MAX_CONNECTIONS: usize = 125;
/// Outbound peers that relay everything. More: traffic; fewer: easier to be cut off.
pub const MAX_OUTBOUND_FULL_RELAY: usize = 8;
/// Outbound peers that relay blocks alone.
pub const MAX_OUTBOUND_BLOCK_RELAY: usize = 2;
/// Block-relay-only peers remembered over a restart. At most the number above.
pub const MAX_ANCHORS: usize = 2;
/// Short connections that test an address, at a time.
pub const MAX_FEELERS: usize = 1;
/// Manual connections held by `-addnode` and `addnode add`, at a time.
pub const MAX_ADDED_NODES: usize = 8;
/// Sockets accepted beyond the inbound slots, so that one can be looked at while all are taken.
/// More: file descriptors for strangers; fewer: a burst waits in the kernel.
pub const SPARE_INBOUND_SOCKETS: usize = 8;

/// Queued bytes above which a peer's messages are no longer read (`-maxsendbuffer`). Larger: a
/// peer that asks and does not read holds more memory; smaller: big answers stall more often.
pub const SEND_QUEUE_SOFT_BYTES: usize = 1_000_000;
/// Queued bytes above which a peer is disconnected: reading stopped long before, so what
/// grew the queue are announcements it does not take. Must hold the soft limit and one block.
pub const SEND_QUEUE_HARD_BYTES: usize = 16_000_000;
/// Bytes read from a socket at a time.
pub const READ_CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of large messages in progress of all peers that connected to us. With the two below it
/// makes 256 MiB. Larger: more memory for strangers; smaller: their large messages wait for each
/// other.
pub const INBOUND_RECEIVE_BYTES: usize = 64 * 1024 * 1024;
/// Likewise of the peers we chose. Smaller: blocks asked of them wait for each other.
pub const CHOSEN_RECEIVE_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of large messages of all peers, decoded and not dealt with yet. Must hold the largest
/// message decoded. Smaller: less is decoded and validated side by side.
pub const DECODED_BYTES: usize = 128 * 1024 * 1024;
/// Payload each peer may send beside these parts: smaller messages never wait for others.
pub const RECEIVE_SHARE_BYTES: usize = 64 * 1024;
/// Time a peer may take to finish a message beyond its share. Shorter: slow lines cannot send
/// blocks.
pub const LARGE_MESSAGE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// The same while others wait for its part. Longer: peers that begin messages and stop hold up
/// those of others; shorter: lines below a megabit a second lose blocks to a crowd.
pub const LARGE_MESSAGE_UNDER_PRESSURE: Duration = Duration::from_secs(30);
/// Between looks at whether somebody waits.
pub const PRESSURE_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes of blocks, asked for and complete, that wait for the chain over all peers. Larger: memory
/// when the chain is slow. Smaller: peers are idle while blocks are connected. Below the chain's
/// own queue, so that other commands find room there.
pub const DOWNLOAD_QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// Bytes each of these blocks is charged at least, so that small ones are bounded in number.
pub const DOWNLOAD_MIN_BYTES: usize = 64 * 1024;
/// Payloads above this are decoded, and blocks checked on their own, off the runtime's workers.
/// Smaller: more hand-overs; larger: other tasks of the worker wait longer.
pub const DECODE_INLINE_BYTES: usize = 100_000;

/// Time for a TCP connection to be made (`-timeout`).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the handshake to succeed (`-peertimeout`).
pub const DEFAULT_PEER_TIMEOUT: Duration = Duration::from_secs(60);
/// Silence in either direction after which a peer is dropped.
pub const INACTIVITY_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// Between looks at all that waits for a moment.
pub const TICK_INTERVAL: Duration = Duration::from_millis(100);
/// Between attempts to open an automatic connection, and after one of `-connect`.
pub const OPEN_CONNECTION_INTERVAL: Duration = Duration::from_millis(500);
/// Between looks at the added nodes when all were connected, or a new one may have come.
pub const ADDED_NODES_IDLE: Duration = Duration::from_secs(2);
/// Between rounds over added nodes that are not connected.
pub const ADDED_NODES_RETRY: Duration = Duration::from_secs(60);
/// Mean time between feelers.
pub const FEELER_INTERVAL: Duration = Duration::from_secs(2 * 60);
/// Mean time between extra block-relay-only connections.
pub const EXTRA_BLOCK_RELAY_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// How long a `-seednode` has before the next is tried.
pub const NEXT_SEED_NODE: Duration = Duration::from_secs(10);
/// Peers that make the DNS seeds unnecessary, if they come within this many seconds.
pub const DNS_SEED_DELAY: Duration = Duration::from_secs(11);
/// Addresses taken of one DNS seed's answer.
pub const MAX_ADDRESSES_PER_SEED: usize = 32;
/// Between writes of `peers.dat`.
pub const DUMP_PEERS_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// After this long shutdown no longer waits for peers' tasks.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses drawn from the address manager for one automatic connection.
pub const MAX_SELECT_TRIES: u32 = 100;
/// Addresses in an answer to `getaddr`.
pub const MAX_GETADDR: usize = 1_000;
/// Percentage of the known addresses in an answer to `getaddr`.
pub const MAX_GETADDR_PERCENT: usize = 23;
/// How long an answer to `getaddr` is reused, so that nobody maps the network by asking often;
/// up to 6 hours are added at random.
pub const GETADDR_CACHE: Duration = Duration::from_secs(21 * 60 * 60);

/// How long a ban by hand lasts (`-bantime`).
pub const DEFAULT_BAN_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Discouraged addresses remembered; older ones are forgotten. Fixed, so that no flood of
/// addresses grows it (CVE-2020-14198).
pub const MAX_DISCOURAGED: usize = 50_000;

/// Buckets of addresses that worked.
pub const TRIED_BUCKETS: u32 = 256;
/// Buckets of addresses only heard of.
pub const NEW_BUCKETS: u32 = 1024;
/// Addresses in a bucket.
pub const BUCKET_SIZE: u32 = 64;
/// Buckets of tried addresses that one network group can reach.
pub const TRIED_BUCKETS_PER_GROUP: u64 = 8;
/// Buckets of new addresses that one source group can reach. Larger: a flood displaces more.
pub const NEW_BUCKETS_PER_SOURCE_GROUP: u64 = 64;
/// New buckets one address may lie in.
pub const NEW_BUCKETS_PER_ADDRESS: u32 = 8;
/// An address not seen for this long is not worth keeping.
pub const ADDRESS_HORIZON: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Failed attempts after which an address that never worked is not worth keeping.
pub const ADDRESS_RETRIES: i32 = 3;
/// Failed attempts in a row that are too many.
pub const ADDRESS_MAX_FAILURES: i32 = 10;
/// ... if the last success is longer ago than this.
pub const ADDRESS_MIN_FAIL: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A tried address that worked this recently is not replaced.
pub const ADDRESS_REPLACEMENT: Duration = Duration::from_secs(4 * 60 * 60);
/// Tried addresses waiting for the test of the one they would displace.
pub const MAX_TRIED_COLLISIONS: usize = 10;
/// How long such a test may fail to take place.
pub const ADDRESS_TEST_WINDOW: Duration = Duration::from_secs(40 * 60);

/// Seconds a cycle of `-maxuploadtarget` lasts (`MAX_UPLOAD_TIMEFRAME`).
pub const UPLOAD_TIMEFRAME: i64 = 24 * 60 * 60;
/// Blocks between two filter headers of a `cfcheckpt` (BIP157, Core's `CFCHECKPT_INTERVAL`).
pub const FILTER_CHECKPOINT_INTERVAL: u32 = 1_000;
/// Filters of blocks read at a time while a peer is sent many; one has some 20 kB, at worst a
/// megabyte. Larger: memory for each peer that asks. Smaller: more hand-overs between threads.
pub const FILTERS_READ_AT_ONCE: u32 = 16;
/// Bytes of the largest block (`MAX_BLOCK_SERIALIZED_SIZE`).
pub const MAX_BLOCK_BYTES: u64 = 4_000_000;
