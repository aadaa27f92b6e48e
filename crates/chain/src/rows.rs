//! The form in which the block index and its journal are stored.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::consensus::{Decodable, encode};
use bitcoin::hashes::Hash;
use ironpeer_primitives::{read_varint, write_varint};
use ironpeer_store::FilePos;

use crate::tree::{Node, Validity};

/// Starts a journal record that holds a row.
const ROW: u8 = b'R';
/// Starts a journal record that names the active tip.
const TIP: u8 = b'T';
/// The journal record that stands for a sync.
const SYNCED: u8 = b'S';

const FAILED: u8 = 0x04;
const HAS_DATA: u8 = 0x08;
const HAS_UNDO: u8 = 0x10;
const VALIDITY: u8 = 0x03;

/// What is stored of one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub header: Header,
    pub validity: Validity,
    pub failed: bool,
    pub tx_count: u32,
    pub data: Option<FilePos>,
    pub undo: Option<FilePos>,
}

impl From<&Node> for Row {
    fn from(node: &Node) -> Self {
        Self {
            header: node.header,
            validity: node.validity,
            failed: node.failed,
            tx_count: node.tx_count,
            data: node.data,
            undo: node.undo,
        }
    }
}

impl Row {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = encode::serialize(&self.header);
        let validity = match self.validity {
            Validity::Tree => 0,
            Validity::Transactions => 1,
            Validity::Scripts => 2,
        };
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        out.push(
            validity
                | flag(self.failed, FAILED)
                | flag(self.data.is_some(), HAS_DATA)
                | flag(self.undo.is_some(), HAS_UNDO),
        );
        write_varint(&mut out, u64::from(self.tx_count));
        for position in [self.data, self.undo].into_iter().flatten() {
            write_varint(&mut out, u64::from(position.file));
            write_varint(&mut out, u64::from(position.offset));
        }
        out
    }

    /// `None` if the bytes are no row.
    pub(crate) fn decode(mut input: &[u8]) -> Option<Self> {
        let header = Header::consensus_decode(&mut input).ok()?;
        let (flags, mut input) = input.split_first()?;
        let mut number = || read_varint(&mut input).ok().and_then(|n| u32::try_from(n).ok());
        let tx_count = number()?;
        let mut position = |flag: u8| -> Option<Option<FilePos>> {
            if flags & flag == 0 {
                return Some(None);
            }
            Some(Some(FilePos { file: number()?, offset: number()? }))
        };
        let (data, undo) = (position(HAS_DATA)?, position(HAS_UNDO)?);
        let validity = match flags & VALIDITY {
            0 => Validity::Tree,
            1 => Validity::Transactions,
            2 => Validity::Scripts,
            _ => return None,
        };
        input.is_empty().then_some(Self {
            header,
            validity,
            failed: flags & FAILED != 0,
            tx_count,
            data,
            undo,
        })
    }
}

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A header's row as it is now.
    Row(Row),
    /// The tip is this now.
    Tip(BlockHash),
    /// Every block and undo byte that the records before this one point at is on disk for good.
    Synced,
}

impl Record {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Row(row) => {
                let mut out = vec![ROW];
                out.extend(row.encode());
                out
            }
            Self::Tip(hash) => {
                let mut out = vec![TIP];
                out.extend(hash.as_byte_array());
                out
            }
            Self::Synced => vec![SYNCED],
        }
    }

    /// `None` if the bytes are no record.
    pub(crate) fn decode(input: &[u8]) -> Option<Self> {
        match input.split_first()? {
            (&ROW, row) => Row::decode(row).map(Self::Row),
            (&TIP, hash) => BlockHash::from_slice(hash).ok().map(Self::Tip),
            (&SYNCED, []) => Some(Self::Synced),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
