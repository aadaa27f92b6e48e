//! The coin set as a file, of the tip or of a block before it (Core's `node/utxo_snapshot.h`).

use std::collections::BTreeMap;
use std::io::{self, Write};

use bitcoin::consensus::encode::{Encodable, VarInt};
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::{OutPoint, Txid};
use ironpeer_primitives::{ChainRead, Coin, HeaderInfo, encode_coin};

use crate::limits::ROLLBACK_COINS;
use crate::utxo_info::{CoinScan, encode_for_hash};
use crate::view::{ChainView, ReadError};

/// First bytes of the file, and the version of what follows.
const MAGIC: [u8; 5] = [b'u', b't', b'x', b'o', 0xff];
const VERSION: u16 = 2;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Coins, blocks or undo data cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// The block is no ancestor of the one the coins belong to.
    #[error("Block is not in main chain")]
    NotAncestor,
    /// More coins changed since the block than [`ROLLBACK_COINS`].
    #[error("Too many coins changed since that block")]
    TooFarBack,
    /// The caller asked to stop.
    #[error("Interrupted")]
    Interrupted,
}

/// The coins as of one block: those of a scan, and what has changed since the block.
pub struct CoinsAt {
    scan: CoinScan,
    block: HeaderInfo,
    /// In key order; `None` for a coin that did not exist yet.
    changes: BTreeMap<([u8; 32], u32), Option<Coin>>,
}

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// Number of coins.
    pub coins: u64,
    /// Core's `hash_serialized_3` of them.
    pub hash: sha256d::Hash,
}

fn key_of(outpoint: &OutPoint) -> ([u8; 32], u32) {
    (outpoint.txid.to_byte_array(), outpoint.vout)
}

impl CoinScan {
    /// The coins as they were after an ancestor of the scan's block, found by undoing the blocks
    /// since. Nothing of the chain changes. `go_on` is asked now and then.
    ///
    /// # Errors
    /// If a block or its undo data is gone, or the way back is too long.
    pub fn back_to(
        self,
        view: &ChainView,
        target: &HeaderInfo,
        go_on: &dyn Fn() -> bool,
    ) -> Result<CoinsAt, SnapshotError> {
        let mut changes = BTreeMap::new();
        let mut at = self.block();
        while at.hash != target.hash {
            if at.height <= target.height {
                return Err(SnapshotError::NotAncestor);
            }
            if !go_on() {
                return Err(SnapshotError::Interrupted);
            }
            let (block, undo) = (view.block(&at.hash)?, view.undo(&at.hash)?);
            for (place, tx) in block.txdata.iter().enumerate().rev() {
                let txid = tx.compute_txid().to_byte_array();
                changes.extend((0u32..).zip(&tx.output).map(|(vout, _)| ((txid, vout), None)));
                let spent = place.checked_sub(1).and_then(|place| undo.txs.get(place));
                let back = tx.input.iter().zip(spent.into_iter().flatten());
                changes
                    .extend(back.map(|(input, coin)| (key_of(&input.previous_output), Some(coin.clone()))));
            }
            if changes.len() > ROLLBACK_COINS {
                return Err(SnapshotError::TooFarBack);
            }
            at = view.header(&at.header.prev_blockhash).ok_or(SnapshotError::NotAncestor)?;
        }
        Ok(CoinsAt { scan: self, block: *target, changes })
    }
}

impl CoinsAt {
    /// The block the coins belong to.
    #[must_use]
    pub fn block(&self) -> HeaderInfo {
        self.block
    }

    /// Hands each coin, in key order, to `each` until it returns false.
    fn for_each(&self, mut each: impl FnMut(OutPoint, &Coin) -> bool) -> Result<(), ReadError> {
        let mut changes = self.changes.iter().peekable();
        let mut going = true;
        let outpoint =
            |(txid, vout): &([u8; 32], u32)| OutPoint { txid: Txid::from_byte_array(*txid), vout: *vout };
        self.scan.for_each(|found, coin| {
            let here = key_of(&found);
            while let Some((before, change)) = changes.next_if(|(changed, _)| **changed < here) {
                if let Some(coin) = change {
                    going = going && each(outpoint(before), coin);
                }
            }
            going = going
                && match changes.next_if(|(changed, _)| **changed == here) {
                    Some((_, None)) => true,
                    Some((_, Some(old))) => each(found, old),
                    None => each(found, &coin),
                };
            going
        })?;
        for (rest, change) in changes {
            if let Some(coin) = change {
                going = going && each(outpoint(rest), coin);
            }
        }
        Ok(())
    }

    /// Counts and hashes the coins.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn summary(&self) -> Result<SnapshotSummary, SnapshotError> {
        let (mut coins, mut engine, mut bytes) = (0, sha256d::Hash::engine(), Vec::new());
        self.for_each(|outpoint, coin| {
            coins += 1;
            bytes.clear();
            encode_for_hash(&mut bytes, &outpoint, coin);
            engine.input(&bytes);
            true
        })?;
        Ok(SnapshotSummary { coins, hash: sha256d::Hash::from_engine(engine) })
    }

    /// Writes the file: network, block and number of coins, then the coins by transaction.
    ///
    /// # Errors
    /// If the coins cannot be read or the file cannot be written.
    pub fn write(
        &self,
        magic: [u8; 4],
        summary: &SnapshotSummary,
        out: &mut impl Write,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), SnapshotError> {
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&magic)?;
        out.write_all(self.block.hash.as_byte_array())?;
        out.write_all(&summary.coins.to_le_bytes())?;
        let mut group = Group::default();
        let mut failed = None;
        self.for_each(|outpoint, coin| {
            let same = group.txid == Some(outpoint.txid);
            if !same {
                if let Err(error) = group.flush(out) {
                    failed = Some(error.into());
                } else if !go_on() {
                    failed = Some(SnapshotError::Interrupted);
                }
                group.txid = Some(outpoint.txid);
            }
            group.add(outpoint.vout, coin);
            failed.is_none()
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(group.flush(out)?)
    }
}

/// The coins of one transaction, gathered because their number goes before them.
#[derive(Default)]
struct Group {
    txid: Option<Txid>,
    count: u64,
    bytes: Vec<u8>,
}

impl Group {
    fn add(&mut self, vout: u32, coin: &Coin) {
        self.count += 1;
        // Writing to a vector cannot fail.
        let _ = VarInt(u64::from(vout)).consensus_encode(&mut self.bytes);
        encode_coin(&mut self.bytes, coin);
    }

    fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        let Some(txid) = self.txid.take() else { return Ok(()) };
        out.write_all(txid.as_byte_array())?;
        let mut count = Vec::with_capacity(9);
        let _ = VarInt(std::mem::take(&mut self.count)).consensus_encode(&mut count);
        out.write_all(&count)?;
        out.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}
