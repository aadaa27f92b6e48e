//! Every limit of the peer-to-peer message layer, with its unit.

/// Longest message payload, in bytes (`MAX_PROTOCOL_MESSAGE_LENGTH`, Core's `src/net.h`). Larger:
/// each connection can pin more memory. Smaller: full blocks no longer fit.
pub const MAX_MESSAGE_BYTES: u32 = 4_000_000;

/// Longest payload taken before the peer's `verack`, in bytes. Larger: strangers pin memory.
/// Smaller: a `version` with a long user agent or a padded `feature` is cut off.
pub const MAX_HANDSHAKE_MESSAGE_BYTES: u32 = 2048;

/// Bytes of a version 1 header: magic, command, length, checksum.
pub const V1_HEADER_BYTES: usize = 24;

/// Largest value a length prefix may have (`MAX_SIZE`, Core's `src/serialize.h`). Protocol.
pub const MAX_COMPACT_SIZE: u64 = 0x0200_0000;

/// Most bytes reserved for a list because its length prefix says so, before its elements were
/// read. Larger: a short message reserves much. Smaller: more reallocation.
pub const MAX_PREALLOCATION_BYTES: usize = 64 * 1024;

/// Most memory a message takes for each byte of its payload, while it is decoded and after.
/// Found with the least elements of every type: a transaction of ten bytes is a structure of
/// more than sixty, in a list that grows by doubling. Larger costs others their turn; smaller is
/// wrong.
pub const MAX_DECODED_FACTOR: usize = 24;

/// Most bytes a partly received payload reserves ahead of what has arrived, as Core's
/// `V1Transport::readData`. Larger: idle half-messages cost more. Smaller: more copying.
pub const READ_AHEAD_BYTES: usize = 256 * 1024;

/// Most inventory entries in `inv`, `getdata` or `notfound` (`MAX_INV_SZ`). Protocol; kept by the
/// room above, which punishes more.
pub const MAX_INV_ENTRIES: usize = 50_000;

/// Most headers in `headers` (`MAX_HEADERS_RESULTS`). Protocol.
pub const MAX_HEADERS: u64 = 2000;

/// Most hashes in a block locator (`MAX_LOCATOR_SZ`). Protocol; kept by the room above.
pub const MAX_LOCATOR_HASHES: usize = 101;

/// Most entries in `addr` or `addrv2` (`MAX_ADDR_TO_SEND`). Protocol; kept by the room above.
pub const MAX_ADDRESSES: usize = 1000;

/// Longest user agent, in bytes (`MAX_SUBVERSION_LENGTH`). Protocol.
pub const MAX_USER_AGENT_BYTES: u64 = 256;

/// Longest address in `addrv2`, in bytes (BIP155; Core's `MAX_ADDRV2_SIZE`). Protocol.
pub const MAX_ADDRV2_BYTES: u64 = 512;

/// Longest identifier of a `feature`, in bytes (BIP434). Protocol.
pub const MAX_FEATURE_ID_BYTES: u64 = 80;

/// Shortest identifier of a `feature`, in bytes (BIP434). Protocol.
pub const MIN_FEATURE_ID_BYTES: usize = 4;

/// Longest data of a `feature`, in bytes (BIP434). Protocol.
pub const MAX_FEATURE_DATA_BYTES: u64 = 512;

/// Most transactions a compact block may stand for: their indexes have 16 bits (BIP152).
pub const MAX_COMPACT_BLOCK_TXS: usize = 65_535;
