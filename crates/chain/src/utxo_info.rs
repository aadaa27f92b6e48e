//! Counting and hashing the whole coin set (Core's `src/kernel/coinstats.cpp`).

use bitcoin::consensus::Encodable;
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::{Amount, OutPoint};
use ironpeer_primitives::{Coin, HeaderInfo, decode_coin};
use ironpeer_store::KvRead;

use crate::coins::{COINS, outpoint_of_key};
use crate::muhash::MuHash;
use crate::view::ReadError;

/// Which hash of the coin set is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UtxoHashKind {
    /// Core's `hash_serialized_3`: SHA256d over all coins in key order.
    HashSerialized3,
    /// MuHash3072.
    Muhash,
    /// Counts only.
    None,
}

/// The coin set in numbers (`gettxoutsetinfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtxoSetInfo {
    /// The block it belongs to.
    pub block: HeaderInfo,
    /// Transactions with unspent outputs.
    pub transactions: u64,
    /// Unspent outputs.
    pub txouts: u64,
    /// A size that does not depend on the database, in bytes.
    pub bogosize: u64,
    /// The hash asked for.
    pub hash: Option<sha256d::Hash>,
    /// All amounts together.
    pub total_amount: Amount,
    /// Bytes on disk, nearly: of the database's tables, or of the coins where the tables do not have
    /// them all yet.
    pub disk_size: u64,
}

/// A picture of all coins as of one block, unmoved by what the writer does next.
pub struct CoinScan {
    pub(crate) block: HeaderInfo,
    pub(crate) snapshot: Box<dyn KvRead>,
    pub(crate) disk_size: u64,
}

/// Appends a coin as both hashes take it (Core's `TxOutSer`).
pub fn encode_for_hash(out: &mut Vec<u8>, outpoint: &OutPoint, coin: &Coin) {
    let code = coin.height.0 << 1 | u32::from(coin.is_coinbase);
    // Writing to a vector cannot fail.
    let _ = outpoint.consensus_encode(out);
    out.extend(code.to_le_bytes());
    let _ = coin.output.consensus_encode(out);
}

/// A coin's share of [`UtxoSetInfo::bogosize`] (Core's `GetBogoSize`).
#[must_use]
pub fn bogo_size(coin: &Coin) -> u64 {
    const FIXED: u64 = 32 + 4 + 4 + 8 + 2;
    FIXED + coin.output.script_pubkey.len() as u64
}

impl CoinScan {
    /// The block the coins belong to.
    #[must_use]
    pub fn block(&self) -> HeaderInfo {
        self.block
    }

    /// Hands each coin, in key order, to `each` until it returns false.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn for_each(&self, mut each: impl FnMut(OutPoint, Coin) -> bool) -> Result<(), ReadError> {
        self.for_each_row(|outpoint, coin, _| each(outpoint, coin))
    }

    /// The same with the bytes of each coin's row.
    fn for_each_row(&self, mut each: impl FnMut(OutPoint, Coin, usize) -> bool) -> Result<(), ReadError> {
        for row in self.snapshot.iter(COINS) {
            let (key, value) = row?;
            let outpoint =
                outpoint_of_key(&key).ok_or_else(|| ReadError::Damaged("a coin's key is damaged".into()))?;
            let coin = decode_coin(&value)
                .map_err(|error| ReadError::Damaged(format!("coin {outpoint}: {error}")))?;
            if !each(outpoint, coin, key.len() + value.len()) {
                break;
            }
        }
        Ok(())
    }

    /// Counts and hashes the coins.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn info(&self, kind: UtxoHashKind) -> Result<UtxoSetInfo, ReadError> {
        let mut info = UtxoSetInfo {
            block: self.block,
            transactions: 0,
            txouts: 0,
            bogosize: 0,
            hash: None,
            total_amount: Amount::ZERO,
            disk_size: self.disk_size,
        };
        let mut serialized = sha256d::Hash::engine();
        let mut muhash = MuHash::default();
        let mut last = None;
        let mut bytes = Vec::new();
        let mut rows = 0;
        self.for_each_row(|outpoint, coin, row| {
            rows += row as u64;
            if last.replace(outpoint.txid) != Some(outpoint.txid) {
                info.transactions += 1;
            }
            info.txouts += 1;
            info.bogosize += bogo_size(&coin);
            info.total_amount = info.total_amount.checked_add(coin.output.value).unwrap_or(Amount::MAX);
            bytes.clear();
            match kind {
                UtxoHashKind::HashSerialized3 => {
                    encode_for_hash(&mut bytes, &outpoint, &coin);
                    serialized.input(&bytes);
                }
                UtxoHashKind::Muhash => {
                    encode_for_hash(&mut bytes, &outpoint, &coin);
                    muhash.insert(&bytes);
                }
                UtxoHashKind::None => {}
            }
            true
        })?;
        // Coins that are in the log only so far are not counted by the database.
        info.disk_size = info.disk_size.max(rows);
        info.hash = match kind {
            UtxoHashKind::HashSerialized3 => Some(sha256d::Hash::from_engine(serialized)),
            UtxoHashKind::Muhash => Some(sha256d::Hash::from_byte_array(muhash.finalize())),
            UtxoHashKind::None => None,
        };
        Ok(info)
    }
}
