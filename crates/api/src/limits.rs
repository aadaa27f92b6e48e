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

/// How deep in a request objects that name a key twice are noticed: a batch's element, `params`,
/// an argument, its element. Nothing below is asked for; deeper costs a path for each.
pub const REPEAT_DEPTH: usize = 4;

/// Keys named twice in one request before it is no JSON for us. They cost a path each, so more
/// would let a small text take much memory; Core would take them.
pub const REPEATS: usize = 100;

/// Bytes of a REST request's body. Only `getutxos` reads one, of at most 15 outpoints; larger lets
/// a caller without a password hold more memory.
pub const REST_BODY_BYTES: usize = 64 * 1024;

/// REST requests under way, beside those of callers with a password, so that strangers take none of
/// their places. Whoever comes beyond it waits, and is answered 503 after [`REQUEST_DEADLINE`].
pub const REST_REQUESTS: usize = 64;

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

/// Core's `DEFAULT_HTTP_THREADS`: requests it would run at once.
pub const DEFAULT_THREADS: usize = 16;

/// Calls in one batch that run one after the other before others get a turn; the batch itself is
/// bounded by [`BODY_BYTES`].
pub const BATCH_YIELD: usize = 64;

/// Calls of one batch that run side by side, if they only read. Larger lets one caller take the
/// workers from others; smaller makes it wait for them one by one.
pub const BATCH_PARALLEL: usize = 8;

/// Values in a reply that are turned into text at once; with more it is done off the runtime's
/// workers. Larger keeps others waiting for longer; smaller costs a thread's wake-up more often.
pub const SMALL_REPLY: usize = 1_000;

/// Bytes of text that a reply takes as they are instead of copying them behind what is there.
/// Larger copies more; smaller makes more writes.
pub const SHARED_PIECE: usize = 16 * 1024;

/// Bytes turned into hex at a time while a reply is sent. Larger holds more of the text in memory
/// for each slow reader; smaller makes more writes.
pub const HEX_PIECE: usize = 64 * 1024;

/// Large replies being made or sent at a time; a full block in JSON takes about a hundred MB while
/// it is made. Whoever asks for one beyond it waits. Larger: a crowd of callers fills the memory.
/// Smaller: callers that read slowly keep others waiting.
pub const LARGE_REPLIES: usize = 8;

/// Headers, or filter headers, in one REST reply (Core's `MAX_REST_HEADERS_RESULTS`).
pub const REST_HEADERS: usize = 2_000;

/// Outpoints in one REST `getutxos` (Core's `MAX_GETUTXOS_OUTPOINTS`).
pub const REST_OUTPOINTS: usize = 15;
