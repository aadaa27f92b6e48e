//! Every limit and period of the protocol machines, from Core 31.0's `net_processing.cpp`,
//! `node/txdownloadman.h`, `node/txorphanage.h` and `net.h`.

use std::time::Duration;

/// Our protocol version (`PROTOCOL_VERSION`, `node/protocol_version.h`).
pub const PROTOCOL_VERSION: u32 = 70_017;
/// Oldest version spoken to; older ones know no `getheaders`.
pub const MIN_PEER_PROTO_VERSION: u32 = 31_800;
/// Pings carry a nonce from the version after this one on (BIP31).
pub const BIP0031_VERSION: u32 = 60_000;
/// `sendheaders` (BIP130).
pub const SENDHEADERS_VERSION: u32 = 70_012;
/// `feefilter` (BIP133).
pub const FEEFILTER_VERSION: u32 = 70_013;
/// `sendcmpct` (BIP152).
pub const SHORT_IDS_BLOCKS_VERSION: u32 = 70_014;
/// From here on a peer does not punish compact blocks that were relayed before validation.
pub const INVALID_CB_NO_BAN_VERSION: u32 = 70_015;
/// `wtxidrelay` (BIP339) and `sendaddrv2` (BIP155).
pub const WTXID_RELAY_VERSION: u32 = 70_016;
/// `feature` (BIP434).
pub const FEATURE_VERSION: u32 = 70_017;
/// Up to here a peer knows the alert system and gets its final alert.
pub const LAST_ALERT_VERSION: u32 = 70_012;
/// The one version of compact blocks in use: short ids over wtxids (BIP152).
pub const CMPCTBLOCKS_VERSION: u64 = 2;

/// Time for a peer to finish the handshake (`-peertimeout`). Longer: idle sockets hold slots.
/// Shorter: slow links cannot connect.
pub const DEFAULT_PEER_TIMEOUT: Duration = Duration::from_secs(60);
/// Between automatic pings. Shorter costs traffic; longer finds dead peers later.
pub const PING_INTERVAL: Duration = Duration::from_secs(2 * 60);
/// A ping unanswered for this long ends the connection.
pub const TIMEOUT_INTERVAL: Duration = Duration::from_secs(20 * 60);

/// Most headers in one `headers` message. More: our answers become misbehaviour at our peers.
pub const MAX_HEADERS_RESULTS: usize = 2_000;
/// Most entries of a locator. More lets a peer cause long searches.
pub const MAX_LOCATOR_SIZE: usize = 101;
/// Most entries of an incoming or outgoing `inv`, and of an incoming `getdata`.
pub const MAX_INV_SIZE: usize = 50_000;
/// Most entries of an outgoing `getdata`.
pub const MAX_GETDATA_SIZE: usize = 1_000;
/// Hashes in one answer to `getblocks`.
pub const MAX_GETBLOCKS_RESULTS: usize = 500;
/// Time to download all headers from the first peer, plus [`HEADERS_DOWNLOAD_TIMEOUT_PER_HEADER`].
pub const HEADERS_DOWNLOAD_TIMEOUT_BASE: Duration = Duration::from_secs(15 * 60);
/// Added for every header expected.
pub const HEADERS_DOWNLOAD_TIMEOUT_PER_HEADER: Duration = Duration::from_millis(1);
/// A `getheaders` counts as outstanding for this long. Shorter lets a peer draw many from us.
pub const HEADERS_RESPONSE_TIME: Duration = Duration::from_secs(2 * 60);
/// Time for an outbound peer to show a chain with our tip's work.
pub const CHAIN_SYNC_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// So many outbound peers with good chains are never dropped for lagging.
pub const MAX_PROTECTED_OUTBOUND_PEERS: usize = 4;
/// Between looks at whether the tip is stale.
pub const STALE_CHECK_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// Between looks at whether there is an outbound peer too many.
pub const EXTRA_PEER_CHECK_INTERVAL: Duration = Duration::from_secs(45);
/// An outbound peer younger than this is not dropped for being one too many.
pub const MINIMUM_CONNECT_TIME: Duration = Duration::from_secs(30);
/// Headers newer than this count as "close to today": every peer is asked for headers.
pub const NEAR_TODAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Blocks below the tip whose work is still enough for an unasked header to be kept.
pub const ANTI_DOS_WORK_BUFFER_BLOCKS: u64 = 144;

/// Blocks asked of one peer at a time. More: a slow peer holds more of the window.
pub const MAX_BLOCKS_IN_TRANSIT_PER_PEER: usize = 16;
/// How far ahead of the last common block is downloaded. Larger: more disorder on disk.
/// Smaller: one slow peer stalls all others sooner.
pub const BLOCK_DOWNLOAD_WINDOW: u32 = 1_024;
/// How long the peer holding the window's first block may stall all others.
pub const BLOCK_STALLING_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// The stalling time doubles with each stalling peer up to this.
pub const BLOCK_STALLING_TIMEOUT_MAX: Duration = Duration::from_secs(64);
/// Target time between blocks; the download timeout is a multiple of it.
pub const POW_TARGET_SPACING: Duration = Duration::from_secs(10 * 60);
/// Blocks this much older than now are not fetched directly on a header announcement.
pub const DIRECT_FETCH_BLOCKS: u32 = 20;
/// Most headers of one block announcement; longer ones fall back to `inv`.
pub const MAX_BLOCKS_TO_ANNOUNCE: usize = 8;
/// Blocks a `NODE_NETWORK_LIMITED` peer keeps (BIP159).
pub const NODE_NETWORK_LIMITED_MIN_BLOCKS: u32 = 288;
/// A limited peer will do if our tip is less than this many blocks behind.
pub const NODE_NETWORK_LIMITED_ALLOW_CONN_BLOCKS: i64 = 144;
/// Stale blocks older than this are not served, so that they identify nobody.
pub const STALE_RELAY_AGE_LIMIT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Seconds after which a block counts as historical for `-maxuploadtarget`.
pub const HISTORICAL_BLOCK_AGE: i64 = 7 * 24 * 60 * 60;
/// Depth down to which a compact block is answered with one.
pub const MAX_CMPCTBLOCK_DEPTH: u32 = 5;
/// Depth down to which `getblocktxn` is answered.
pub const MAX_BLOCKTXN_DEPTH: u32 = 10;

/// Mean time between announcements to inbound peers of one network group.
pub const INBOUND_INVENTORY_INTERVAL: Duration = Duration::from_secs(5);
/// Mean time between announcements to an outbound peer.
pub const OUTBOUND_INVENTORY_INTERVAL: Duration = Duration::from_secs(2);
/// Transactions announced at a time: 14 a second over 5 seconds.
pub const INVENTORY_BROADCAST_TARGET: usize = 70;
/// Most transactions announced at a time, however many wait.
pub const INVENTORY_BROADCAST_MAX: usize = 1_000;
/// Hashes remembered as known to a peer.
pub const KNOWN_TX_FILTER: usize = 50_000;
/// Mean time between `feefilter` messages.
pub const FEEFILTER_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// A strongly changed fee filter goes out within this.
pub const MAX_FEEFILTER_CHANGE_DELAY: Duration = Duration::from_secs(5 * 60);

/// Requests open with one peer before further ones are delayed.
pub const MAX_PEER_TX_REQUEST_IN_FLIGHT: usize = 100;
/// Announcements remembered of one peer. More: a peer costs more memory (CVE-2018-17145).
pub const MAX_PEER_TX_ANNOUNCEMENTS: usize = 5_000;
/// Delay of requests by txid while a peer announces by wtxid.
pub const TXID_RELAY_DELAY: Duration = Duration::from_secs(2);
/// Delay of requests to peers we did not choose.
pub const NONPREF_PEER_TX_DELAY: Duration = Duration::from_secs(2);
/// Delay of requests to peers with too many open ones.
pub const OVERLOADED_PEER_TX_DELAY: Duration = Duration::from_secs(2);
/// After this another peer is asked.
pub const GETDATA_TX_INTERVAL: Duration = Duration::from_secs(60);
/// Hashes remembered as recently rejected, and as wanting a package.
pub const RECENT_REJECTS: usize = 120_000;
/// Hashes remembered as recently confirmed.
pub const RECENT_CONFIRMED: usize = 48_000;
/// False positives of the filters above, one in a million.
pub const TX_FILTER_FALSE_POSITIVE: f64 = 0.000_001;
/// Weight of orphans each peer may keep here; all peers together share the sum.
pub const RESERVED_ORPHAN_WEIGHT_PER_PEER: u64 = 404_000;
/// Cost of handling all orphans together: one each, and one for every ten inputs.
pub const MAX_ORPHANAGE_LATENCY_SCORE: u64 = 3_000;
/// Heaviest transaction relayed, and so heaviest orphan kept.
pub const MAX_STANDARD_TX_WEIGHT: u64 = 400_000;

/// Addresses in one message.
pub const MAX_ADDR_TO_SEND: usize = 1_000;
/// Addresses a second taken from a peer.
pub const MAX_ADDR_RATE_PER_SECOND: f64 = 0.1;
/// Addresses taken from a peer at once, after a long silence.
pub const MAX_ADDR_TOKENS: f64 = 1_000.0;
/// Mean time between `addr` messages to a peer.
pub const ADDRESS_BROADCAST_INTERVAL: Duration = Duration::from_secs(30);
/// Mean time between announcements of our own address to a peer.
pub const LOCAL_ADDRESS_BROADCAST_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// For this long an address is relayed to the same peers.
pub const ROTATE_ADDR_RELAY_DEST_INTERVAL: i64 = 24 * 60 * 60;
/// Addresses remembered as known to a peer.
pub const KNOWN_ADDR_FILTER: usize = 5_000;
/// False positives of that filter.
pub const ADDR_FILTER_FALSE_POSITIVE: f64 = 0.001;
/// Bytes of transactions sent in answer to one `getdata` before the send queue is looked at
/// again. More: the queue overshoots its 1 MB by that much.
pub const MAX_GETDATA_REPLY_BYTES: usize = 1_000_000;

/// Filters of blocks in answer to one `getcfilters` (Core's `MAX_GETCFILTERS_SIZE`). More: one
/// question makes us read and send more.
pub const MAX_GETCFILTERS: u32 = 1_000;
/// Filter hashes in one `cfheaders` (Core's `MAX_GETCFHEADERS_SIZE`).
pub const MAX_GETCFHEADERS: u32 = 2_000;

/// Bytes of a filter set by a peer (BIP37). More: a peer makes us hold and search more.
pub const MAX_BLOOM_FILTER_BYTES: usize = 36_000;
/// Hash functions of such a filter.
pub const MAX_BLOOM_HASH_FUNCS: u32 = 50;
/// Bytes of an element added to it: no script element is larger.
pub const MAX_SCRIPT_ELEMENT_BYTES: usize = 520;
