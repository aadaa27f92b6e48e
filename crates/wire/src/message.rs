use std::fmt;
use std::sync::Arc;

use bitcoin::bip152::ShortId;
use bitcoin::bip158::{FilterHash, FilterHeader};
use bitcoin::block::Header;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::p2p::ServiceFlags;
use bitcoin::{Block, BlockHash, MerkleBlock, Transaction, Txid, Wtxid};

use crate::{Command, DecodeError, PeerAddress, Service};

/// Everything two nodes say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Opens the handshake.
    Version(Version),
    /// Closes the handshake.
    Verack,
    /// Addresses of nodes.
    Addr(Vec<PeerAddress>),
    /// Addresses of nodes on any network (BIP155).
    AddrV2(Vec<PeerAddress>),
    /// The sender reads [`Message::AddrV2`] (BIP155).
    SendAddrV2,
    /// The sender has these.
    Inv(Vec<Inventory>),
    /// The sender wants these.
    GetData(Vec<Inventory>),
    /// Answers [`Message::GetData`] for what is not there.
    NotFound(Vec<Inventory>),
    /// A block with the transactions that match a filter (BIP37).
    MerkleBlock(MerkleBlock),
    /// Asks for an `inv` of the blocks after a locator.
    GetBlocks(Locator),
    /// Asks for the headers after a locator.
    GetHeaders(Locator),
    /// A transaction.
    Tx(Arc<Transaction>),
    /// Headers, in chain order.
    Headers(Vec<Header>),
    /// A block.
    Block(Arc<Block>),
    /// Asks for addresses.
    GetAddr,
    /// Asks for an `inv` of the mempool (BIP35).
    Mempool,
    /// Asks for a pong with this nonce (BIP31).
    Ping(u64),
    /// Answers a ping; without a nonce when the payload was too short for one.
    Pong(Option<u64>),
    /// Sets a bloom filter (BIP37).
    FilterLoad(BloomFilter),
    /// Adds an element to the bloom filter (BIP37).
    FilterAdd(Vec<u8>),
    /// Removes the bloom filter (BIP37).
    FilterClear,
    /// The sender prefers new blocks as headers (BIP130).
    SendHeaders,
    /// Least feerate of interest, in satoshi per 1,000 vbytes (BIP133).
    FeeFilter(i64),
    /// The sender wants, and sends, compact blocks (BIP152).
    SendCmpct(SendCmpct),
    /// A compact block (BIP152).
    CmpctBlock(CompactBlock),
    /// Asks for transactions of a compact block (BIP152).
    GetBlockTxn(BlockTxnRequest),
    /// Transactions of a compact block (BIP152).
    BlockTxn(BlockTxn),
    /// Asks for block filters (BIP157).
    GetCFilters(CFilterRange),
    /// One block filter (BIP157).
    CFilter(CFilter),
    /// Asks for filter headers (BIP157).
    GetCFHeaders(CFilterRange),
    /// Filter hashes behind a filter header (BIP157).
    CFHeaders(CFHeaders),
    /// Asks for filter headers 1,000 apart (BIP157).
    GetCFCheckpt {
        /// 0 for the basic filter (BIP158).
        filter_type: u8,
        /// Last block of the chain.
        stop_hash: BlockHash,
    },
    /// Filter headers 1,000 apart (BIP157).
    CFCheckpt(CFCheckpoints),
    /// The sender announces transactions by wtxid (BIP339).
    WtxidRelay,
    /// The sender can reconcile transactions (BIP330).
    SendTxRcncl(SendTxRcncl),
    /// The sender has an optional feature (BIP434).
    Feature(Feature),
    /// A type this node does not know.
    Unknown {
        /// The type.
        command: Command,
        /// Its payload, unread.
        payload: Vec<u8>,
    },
    /// A known type whose payload cannot be read.
    Malformed(Malformed),
}

/// A message that cannot be read. Core logs it and goes on, with the exceptions named at
/// [`DecodeError::TooManyHeaders`] and [`DecodeError::InvalidFeature`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The type its header names.
    pub command: Command,
    /// The payload.
    pub payload: Vec<u8>,
    /// What is wrong with it.
    pub error: DecodeError,
}

impl fmt::Display for Malformed {
    /// Core's log line (`ProcessMessages`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ProcessMessages({}, {} bytes): Exception '{}' (std::ios_base::failure) caught",
            self.command,
            self.payload.len(),
            self.error
        )
    }
}

/// What a node says of itself at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Highest protocol version it speaks.
    pub version: i32,
    /// What it offers.
    pub services: ServiceFlags,
    /// Its clock, in Unix seconds.
    pub timestamp: i64,
    /// The services it takes the receiver to offer; ignored when read.
    pub receiver_services: ServiceFlags,
    /// The receiver's address as the sender sees it.
    pub receiver: Service,
    /// Random number by which a node knows a connection to itself; 1 when left out.
    pub nonce: u64,
    /// Name and version of its software, at most 256 bytes of anything.
    pub user_agent: Vec<u8>,
    /// Height of its chain; -1 when left out.
    pub start_height: i32,
    /// Whether transactions may be announced to it at once (BIP37); true when left out.
    pub relay: bool,
}

/// Type of an inventory entry (Core's `GetDataMsg`). Any number can come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InvType(pub u32);

impl InvType {
    /// A transaction by txid.
    pub const TX: Self = Self(1);
    /// A block.
    pub const BLOCK: Self = Self(2);
    /// A block reduced by the bloom filter (BIP37).
    pub const FILTERED_BLOCK: Self = Self(3);
    /// A compact block (BIP152).
    pub const CMPCT_BLOCK: Self = Self(4);
    /// A transaction by wtxid (BIP339).
    pub const WTX: Self = Self(5);
    /// Asks for witnesses too (BIP144).
    pub const WITNESS_FLAG: u32 = 1 << 30;
    /// Bits below the flags (`MSG_TYPE_MASK`).
    pub const TYPE_MASK: u32 = 0xffff_ffff >> 2;
    /// A transaction with its witnesses, by txid (BIP144).
    pub const WITNESS_TX: Self = Self(1 | Self::WITNESS_FLAG);
    /// A block with its witnesses (BIP144).
    pub const WITNESS_BLOCK: Self = Self(2 | Self::WITNESS_FLAG);
}

/// One entry of `inv`, `getdata` and `notfound` (Core's `CInv`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inventory {
    /// What `hash` names.
    pub kind: InvType,
    /// A txid, wtxid or block hash.
    pub hash: [u8; 32],
}

impl Inventory {
    /// A transaction by txid.
    #[must_use]
    pub fn tx(txid: Txid) -> Self {
        Self { kind: InvType::TX, hash: txid.to_byte_array() }
    }

    /// A transaction with its witnesses, by txid.
    #[must_use]
    pub fn witness_tx(txid: Txid) -> Self {
        Self { kind: InvType::WITNESS_TX, hash: txid.to_byte_array() }
    }

    /// A transaction by wtxid.
    #[must_use]
    pub fn wtx(wtxid: Wtxid) -> Self {
        Self { kind: InvType::WTX, hash: wtxid.to_byte_array() }
    }

    /// A block.
    #[must_use]
    pub fn block(hash: BlockHash) -> Self {
        Self { kind: InvType::BLOCK, hash: hash.to_byte_array() }
    }

    /// A block with its witnesses.
    #[must_use]
    pub fn witness_block(hash: BlockHash) -> Self {
        Self { kind: InvType::WITNESS_BLOCK, hash: hash.to_byte_array() }
    }

    /// A compact block.
    #[must_use]
    pub fn cmpct_block(hash: BlockHash) -> Self {
        Self { kind: InvType::CMPCT_BLOCK, hash: hash.to_byte_array() }
    }

    /// Names a transaction, by txid or wtxid (`IsGenTxMsg`).
    #[must_use]
    pub const fn is_transaction(&self) -> bool {
        matches!(self.kind, InvType::TX | InvType::WTX | InvType::WITNESS_TX)
    }

    /// Names a block in any form (`IsGenBlkMsg`).
    #[must_use]
    pub const fn is_block(&self) -> bool {
        matches!(
            self.kind,
            InvType::BLOCK | InvType::FILTERED_BLOCK | InvType::CMPCT_BLOCK | InvType::WITNESS_BLOCK
        )
    }

    /// The hash read as a txid.
    #[must_use]
    pub fn txid(&self) -> Txid {
        Txid::from_byte_array(self.hash)
    }

    /// The hash read as a wtxid.
    #[must_use]
    pub fn wtxid(&self) -> Wtxid {
        Wtxid::from_byte_array(self.hash)
    }

    /// The hash read as a block's.
    #[must_use]
    pub fn block_hash(&self) -> BlockHash {
        BlockHash::from_byte_array(self.hash)
    }
}

impl fmt::Display for Inventory {
    /// As Core's `CInv::ToString`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = sha256d::Hash::from_byte_array(self.hash);
        let InvType(kind) = self.kind;
        let name = match InvType(kind & InvType::TYPE_MASK) {
            InvType::TX => "tx",
            InvType::WTX => "wtx",
            InvType::BLOCK => "block",
            InvType::FILTERED_BLOCK => "merkleblock",
            InvType::CMPCT_BLOCK => "cmpctblock",
            _ => return write!(f, "0x{kind:08x} {hash:x}"),
        };
        let witness = if kind & InvType::WITNESS_FLAG == 0 { "" } else { "witness-" };
        write!(f, "{witness}{name} {hash:x}")
    }
}

/// Where a chain is, and where to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locator {
    /// Hashes from the tip back, ever sparser.
    pub hashes: Vec<BlockHash>,
    /// Last hash wanted, or all zero.
    pub stop: BlockHash,
}

/// A bloom filter (BIP37).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BloomFilter {
    /// The bits.
    pub data: Vec<u8>,
    /// How many hash functions.
    pub hash_funcs: u32,
    /// Added to each hash function's seed.
    pub tweak: u32,
    /// When a match adds the matched outputs.
    pub flags: u8,
}

/// Compact block negotiation (BIP152).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendCmpct {
    /// 1: announce blocks by `cmpctblock`; 0: do not; others are a violation.
    pub announce: u8,
    /// Version of compact blocks; 2 has witnesses.
    pub version: u64,
}

/// A compact block (BIP152).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactBlock {
    /// The block's header.
    pub header: Header,
    /// Salt of the short ids, with the header.
    pub nonce: u64,
    /// Short ids of the transactions that are not sent along.
    pub short_ids: Vec<ShortId>,
    /// Transactions sent along.
    pub prefilled: Vec<PrefilledTx>,
}

impl CompactBlock {
    /// The form of `block` that sends only the coinbase along (Core's
    /// `CBlockHeaderAndShortTxIDs`).
    #[must_use]
    pub fn from_block(block: &Block, nonce: u64) -> Self {
        let keys = ShortId::calculate_siphash_keys(&block.header, nonce);
        let short_id = |tx: &Transaction| ShortId::with_siphash_keys(&tx.compute_wtxid(), keys);
        let coinbase = |tx: &Transaction| PrefilledTx { skipped: 0, tx: Arc::new(tx.clone()) };
        Self {
            header: block.header,
            nonce,
            short_ids: block.txdata.iter().skip(1).map(short_id).collect(),
            prefilled: block.txdata.first().map(coinbase).into_iter().collect(),
        }
    }
}

/// A transaction sent along with a compact block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefilledTx {
    /// How many of the block's transactions lie between the one before and this one.
    pub skipped: u16,
    /// The transaction.
    pub tx: Arc<Transaction>,
}

/// Asks for transactions of a block by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockTxnRequest {
    /// The block.
    pub block_hash: BlockHash,
    /// Indexes in the block, strictly rising.
    pub indexes: Vec<u16>,
}

/// Answers a [`BlockTxnRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockTxn {
    /// The block.
    pub block_hash: BlockHash,
    /// The transactions asked for, in order.
    pub txs: Vec<Arc<Transaction>>,
}

/// Blocks whose filters or filter headers are asked for (BIP157).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CFilterRange {
    /// 0 for the basic filter (BIP158).
    pub filter_type: u8,
    /// First height.
    pub start_height: u32,
    /// Last block.
    pub stop_hash: BlockHash,
}

/// A block's filter (BIP157).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CFilter {
    /// 0 for the basic filter (BIP158).
    pub filter_type: u8,
    /// The block.
    pub block_hash: BlockHash,
    /// The filter's bytes.
    pub filter: Vec<u8>,
}

/// Filter hashes with the header before them (BIP157).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CFHeaders {
    /// 0 for the basic filter (BIP158).
    pub filter_type: u8,
    /// Last block.
    pub stop_hash: BlockHash,
    /// Filter header of the block before the first.
    pub previous_header: FilterHeader,
    /// Hashes of the filters, in chain order.
    pub hashes: Vec<FilterHash>,
}

/// Filter headers 1,000 blocks apart (BIP157).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CFCheckpoints {
    /// 0 for the basic filter (BIP158).
    pub filter_type: u8,
    /// Last block of the chain.
    pub stop_hash: BlockHash,
    /// The headers, in chain order.
    pub headers: Vec<FilterHeader>,
}

/// Negotiates transaction reconciliation (BIP330).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendTxRcncl {
    /// Version of the protocol.
    pub version: u32,
    /// The sender's half of the salt.
    pub salt: u64,
}

/// An optional feature (BIP434).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name, 4 to 80 bytes.
    pub id: Vec<u8>,
    /// Its parameters, at most 512 bytes.
    pub data: Vec<u8>,
}

impl Message {
    /// The type that stands in the header.
    #[must_use]
    pub fn command(&self) -> Command {
        match self {
            Self::Unknown { command, .. } | Self::Malformed(Malformed { command, .. }) => *command,
            known => Command::new(known.name()),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Version(_) => "version",
            Self::Verack => "verack",
            Self::Addr(_) => "addr",
            Self::AddrV2(_) => "addrv2",
            Self::SendAddrV2 => "sendaddrv2",
            Self::Inv(_) => "inv",
            Self::GetData(_) => "getdata",
            Self::NotFound(_) => "notfound",
            Self::MerkleBlock(_) => "merkleblock",
            Self::GetBlocks(_) => "getblocks",
            Self::GetHeaders(_) => "getheaders",
            Self::Tx(_) => "tx",
            Self::Headers(_) => "headers",
            Self::Block(_) => "block",
            Self::GetAddr => "getaddr",
            Self::Mempool => "mempool",
            Self::Ping(_) => "ping",
            Self::Pong(_) => "pong",
            Self::FilterLoad(_) => "filterload",
            Self::FilterAdd(_) => "filteradd",
            Self::FilterClear => "filterclear",
            Self::SendHeaders => "sendheaders",
            Self::FeeFilter(_) => "feefilter",
            Self::SendCmpct(_) => "sendcmpct",
            Self::CmpctBlock(_) => "cmpctblock",
            Self::GetBlockTxn(_) => "getblocktxn",
            Self::BlockTxn(_) => "blocktxn",
            Self::GetCFilters(_) => "getcfilters",
            Self::CFilter(_) => "cfilter",
            Self::GetCFHeaders(_) => "getcfheaders",
            Self::CFHeaders(_) => "cfheaders",
            Self::GetCFCheckpt { .. } => "getcfcheckpt",
            Self::CFCheckpt(_) => "cfcheckpt",
            Self::WtxidRelay => "wtxidrelay",
            Self::SendTxRcncl(_) => "sendtxrcncl",
            Self::Feature(_) => "feature",
            Self::Unknown { .. } | Self::Malformed(_) => "",
        }
    }
}
