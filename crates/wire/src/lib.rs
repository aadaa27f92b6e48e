//! The Bitcoin peer-to-peer messages and their framing, sans-IO.
//!
//! Bytes go into a [`V1Decoder`], frames come out, and [`Message::decode`] gives them meaning. It
//! reads what Bitcoin Core reads: short `version` messages, trailing bytes and unknown addresses
//! are no errors. Nothing here knows a socket, the chain or a policy; limits that Core answers
//! with a punishment rather than a decoding failure are named in [`limits`] and kept above.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod address;
mod command;
mod decode;
mod encode;
mod frame;
pub mod limits;
mod memory;
mod message;
mod reader;
mod transaction;

pub use address::{InvalidAddress, NetAddress, PeerAddress, Service};
pub use command::{Command, sanitize};
pub use frame::{Frame, FrameError, FrameReject, Received, V1Decoder, encode, encode_frame};
pub use message::{
    BlockTxn, BlockTxnRequest, BloomFilter, CFCheckpoints, CFHeaders, CFilter, CFilterRange, CompactBlock,
    Feature, InvType, Inventory, Locator, Malformed, Message, PrefilledTx, SendCmpct, SendTxRcncl, Version,
};
pub use reader::{DecodeError, Reader};
pub use transaction::{decode_block, decode_transaction};

/// The protocol version sent to peers (`PROTOCOL_VERSION` of Core's development tree: BIP434).
pub const PROTOCOL_VERSION: i32 = 70_017;
