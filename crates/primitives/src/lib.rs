//! Shared nouns of Ironpeer over the `bitcoin` crate.
//!
//! This room knows no runtime, no IO and no system clock: it names the things the other rooms
//! exchange, so that every edge between rooms is made of types that can be built in a test.

mod chain;
mod clock;
mod coin;
mod filters;
mod height;
mod log;
mod mempool;
mod script_flags;
mod verdict;

pub use chain::{ChainEvent, ChainRead, ConnectedBlock, HeaderInfo};
pub use clock::{Clock, FixedClock, SystemClock, UnixTime};
pub use coin::{
    BlockUndo, CodecError, Coin, compress_amount, decode_block_undo, decode_coin, decompress_amount,
    encode_block_undo, encode_coin, read_varint, write_varint,
};
pub use filters::BlockFilterRead;
pub use height::{Height, PeerId};
pub use log::{LogCategory, LogLevel, LogLine, LogSink, NullLog};
pub use mempool::{MempoolRead, PoolTx};
pub use script_flags::{ScriptFlags, UnknownScriptFlag};
pub use verdict::{BlockClass, BlockReject, TxClass, TxReject};
