//! Every bound of the door, with its unit and what moving it would break.

use std::time::Duration;

/// Bytes of request line and headers (Core's `MAX_HEADERS_SIZE`). Smaller breaks clients with long
/// cookies or user agents; larger is memory that a caller holds before it has authenticated.
pub const HEADER_BYTES: usize = 8 * 1024;

/// Bytes of one request body (Core's `MAX_BODY_SIZE`, 32 MiB). Smaller refuses `submitblock` of a
/// full block in hex inside a batch; larger lets one caller hold more memory. Only read once the
/// caller has authenticated.
pub const BODY_BYTES: usize = 0x0200_0000;

/// Levels of nesting in a JSON text (`MAX_JSON_DEPTH` of Core's UniValue). Larger risks the
/// stack; smaller refuses requests Core takes.
pub const JSON_DEPTH: usize = 512;

/// Open sockets of one door. Beyond it a new one takes the place of one that is not being served,
/// strangers first. Smaller closes callers' idle connections sooner; larger costs descriptors the
/// peers need.
pub const SOCKETS: usize = 256;

/// How long a caller with a wrong password waits for its answer. It delays that connection alone.
pub const WRONG_PASSWORD_DELAY: Duration = Duration::from_millis(250);

/// Longest a whole request may take to arrive. A caller that trickles bytes is closed after it;
/// shorter would cut a slow link in the middle of a large block.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// Longest a reply may wait for the caller to take some more of it.
pub const WRITE_STALL: Duration = Duration::from_secs(30);

/// How long requests under way may go on once the door closes, before their sockets are dropped.
pub const DRAIN: Duration = Duration::from_secs(10);

/// Subscribers of one ZMQ address. Beyond it a new one is closed at once. Larger costs descriptors
/// the peers need; smaller turns services away.
pub const ZMQ_SUBSCRIBERS: usize = 128;

/// Bytes that a ZMQ subscriber may leave unread, whatever its high water mark: 30 of the largest
/// blocks. Messages are shared between subscribers. Larger: slow ones fill the memory. Smaller: a
/// subscriber that pauses during a burst of blocks loses some.
pub const ZMQ_QUEUE_BYTES: usize = 128 << 20;

/// Bytes of a frame that a ZMQ subscriber may send; subscriptions and properties are short.
/// Larger is memory that a stranger holds.
pub const ZMQ_FRAME_BYTES: usize = 1_024;

/// Subscriptions of one ZMQ subscriber, and heartbeats it may have waiting: there are five topics.
/// Larger makes every message's match slower.
pub const ZMQ_SUBSCRIPTIONS: usize = 64;

/// Bytes of one ZMQ subscription; the longest topic has nine.
pub const ZMQ_SUBSCRIPTION_BYTES: usize = 64;

/// How long a ZMQ subscriber may take to introduce itself (libzmq's `ZMQ_HANDSHAKE_IVL`).
pub const ZMQ_HANDSHAKE: Duration = Duration::from_secs(30);

/// Messages a ZMQ subscriber may leave unread unless told otherwise (`DEFAULT_ZMQ_SNDHWM`).
pub const DEFAULT_ZMQ_HIGH_WATER_MARK: usize = 1_000;

/// Requests under way beyond `-rpcthreads` before 503 (`DEFAULT_HTTP_WORKQUEUE`).
pub const DEFAULT_WORK_QUEUE: usize = 64;

/// Core's `DEFAULT_HTTP_THREADS`: requests it would run at once.
pub const DEFAULT_THREADS: usize = 16;

/// Calls in one batch that run before others get a turn; the batch itself is bounded by
/// [`BODY_BYTES`].
pub const BATCH_YIELD: usize = 64;
