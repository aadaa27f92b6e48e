//! Getting things onto disk, in the order that makes any crash harmless: block and undo bytes,
//! then the journal's rows that point at them, then the index, then the coins.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint};
use ironpeer_primitives::{LogCategory, LogLine, LogSink, encode_coin};
use ironpeer_store::{Batch, Durability, Space, StoreError};

use crate::coins::{BEST_BLOCK_KEY, COINS, HEAD_BLOCKS_KEY, Layer, MARKERS, Slot, coin_key};
use crate::config::SimulatedCrash;
use crate::core::{Core, Fatal, chained};
use crate::limits;
use crate::rows::{Record, Row};
use crate::tree::NodeId;
use crate::utxo_info::CoinScan;
use crate::view::Shared;

/// The keyspace of index rows.
pub(crate) const ROWS: Space = Space(0);
/// The keyspace of what is kept about the index itself.
pub(crate) const INDEX_META: Space = Space(1);
/// The active tip when the rows were written.
pub(crate) const TIP_KEY: &[u8] = b"T";
/// Set while the block files are being read again (Core's `DB_REINDEX_FLAG`).
pub(crate) const REINDEX_KEY: &[u8] = b"R";
/// Set once block files have been pruned (Core's `prunedblockfiles` flag).
pub(crate) const PRUNED_KEY: &[u8] = b"P";

impl Core {
    /// Refuses to go on when the disk is nearly full (Core's `CheckDiskSpace`).
    pub(crate) fn check_disk_space(&self, bytes: u64) -> Result<(), Fatal> {
        let free = self.shared.files.free_bytes()?;
        if free < limits::MIN_FREE_DISK.saturating_add(bytes) {
            return Err(Fatal("Disk space is too low!".into()));
        }
        Ok(())
    }

    fn due_records(&mut self) -> Vec<Vec<u8>> {
        let tree = self.shared.tree.read();
        let mut due = std::mem::take(&mut self.journal_due);
        // Parents come before children, as their ids do.
        due.sort_unstable();
        due.dedup();
        due.into_iter().map(|id| Record::Row(Row::from(tree.node(id))).encode()).collect()
    }

    fn append_journal(&mut self, records: &[Vec<u8>]) -> Result<(), Fatal> {
        if records.is_empty() {
            return Ok(());
        }
        self.journal.append(records.iter().map(Vec::as_slice))?;
        self.unsynced = true;
        if self.journal.len() > limits::JOURNAL_ROTATE_BYTES {
            self.write_index()?;
        }
        Ok(())
    }

    /// Journals what has changed in the tree. From then on it survives a killed process.
    pub(crate) fn write_journal(&mut self) -> Result<(), Fatal> {
        let records = self.due_records();
        self.append_journal(&records)
    }

    /// The same, and that `tip` is the tip now. On the way back to the tip of before a crash, that
    /// one stays on record: another crash must not make it forgotten.
    pub(crate) fn write_journal_with_tip(&mut self, tip: NodeId) -> Result<(), Fatal> {
        let mut records = self.due_records();
        if self.trusted.is_none() {
            let hash = self.shared.tree.read().node(tip).hash;
            records.push(Record::Tip(hash).encode());
            self.journal_tip = tip;
        }
        self.append_journal(&records)
    }

    /// Moves the journal's rows into the index and starts the journal anew.
    pub(crate) fn write_index(&mut self) -> Result<(), Fatal> {
        self.shared.files.sync()?;
        let mut batch = Batch::new();
        {
            let tree = self.shared.tree.read();
            for id in self.index_due.drain() {
                let node = tree.node(id);
                batch.put(ROWS, node.hash.as_byte_array().as_slice(), Row::from(node).encode());
            }
            let tip = tree.node(self.journal_tip).hash;
            batch.put(INDEX_META, TIP_KEY, tip.as_byte_array().as_slice());
        }
        self.journal_due.clear();
        self.index.commit(batch, Durability::Power)?;
        self.journal.reset()?;
        Ok(())
    }

    /// Makes everything acknowledged so far survive a power loss.
    pub(crate) fn sync(&mut self) -> Result<(), Fatal> {
        if self.unsynced {
            self.shared.files.sync()?;
            // A later start need not look whether those bytes are there.
            self.journal.append([Record::Synced.encode().as_slice()])?;
            self.journal.sync()?;
            self.unsynced = false;
        }
        self.last_sync = self.shared.clock.steady();
        Ok(())
    }

    /// What is due by the clock: the group sync and the periodic flush.
    pub(crate) fn tick(&mut self) -> Result<(), Fatal> {
        let now = self.shared.clock.steady();
        if self.unsynced && now.saturating_sub(self.last_sync) >= limits::SYNC_INTERVAL {
            self.sync()?;
        }
        if now >= self.next_flush {
            self.start_flush("PERIODIC")?;
        }
        Ok(())
    }

    /// Starts a flush when the changes fill half of the cache: the other half holds what is being
    /// written meanwhile.
    pub(crate) fn flush_if_needed(&mut self) -> Result<(), Fatal> {
        if self.shared.coins.unflushed_bytes() > self.config.cache_bytes / 2 {
            self.start_flush("IF_NEEDED")?;
        }
        self.prune_if_grown()?;
        self.tick()
    }

    /// Waits for the flush under way, if any.
    fn finish_flush(&mut self) -> Result<(), Fatal> {
        if let Some(flush) = self.flush.take() {
            flush.join().map_err(|_| Fatal("System error while flushing: the flush died".into()))?;
        }
        match self.shared.fatal.borrow().as_ref() {
            Some(message) => Err(Fatal(message.to_string())),
            None => Ok(()),
        }
    }

    /// Freezes the changed coins and writes them on a thread of its own. If the last flush still
    /// runs this waits for it.
    pub(crate) fn start_flush(&mut self, mode: &str) -> Result<(), Fatal> {
        self.finish_flush()?;
        self.schedule_flush();
        let bytes = self.shared.coins.unflushed_bytes();
        if self.shared.log.enabled(LogCategory::CoinDb) {
            let text = format!("Writing chainstate to disk: flush mode={mode}, {bytes} bytes of changes");
            self.log(LogLine::debug(LogCategory::CoinDb, text));
        }
        self.check_disk_space(bytes as u64)?;
        self.write_index()?;
        let (layer, new) = self.shared.coins.freeze();
        let old = self.coins_on_disk.replace(new);
        if layer.slots.is_empty() && old == Some(new) {
            self.shared.coins.flushed(0);
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let keep = self.config.cache_bytes / 2;
        let mut batches = self.batches();
        let thread = std::thread::Builder::new().name("coin-flush".into()).spawn(move || {
            match write_coins(&shared, &layer, old, new, &mut batches) {
                Ok(()) => {
                    drop(layer);
                    shared.coins.flushed(keep);
                }
                Err(error) => shared.fail(format!("System error while flushing: {}", chained(&error))),
            }
        });
        self.flush = Some(thread.map_err(|error| Fatal(format!("cannot start a thread: {error}")))?);
        Ok(())
    }

    /// How the next flush cuts its work.
    pub(crate) fn batches(&mut self) -> Batches {
        self.flush_rng = xorshift(self.flush_rng);
        Batches {
            bytes: self.config.batch_bytes,
            crash: self.config.simulated_crash.clone(),
            draw: self.flush_rng,
        }
    }

    /// Writes everything and waits until it is on disk.
    pub(crate) fn flush_all(&mut self) -> Result<(), Fatal> {
        self.write_journal()?;
        self.sync()?;
        self.start_flush("FORCE_SYNC")?;
        self.finish_flush()
    }

    /// Picks the moment of the next periodic flush.
    pub(crate) fn schedule_flush(&mut self) {
        let (least, most) = limits::FLUSH_INTERVAL;
        self.flush_rng = xorshift(self.flush_rng);
        let spread = u64::try_from((most - least).as_millis()).unwrap_or(u64::MAX).max(1);
        self.next_flush = self.shared.clock.steady() + least + Duration::from_millis(self.flush_rng % spread);
    }

    /// A picture of all coins as of the tip.
    pub(crate) fn scan_coins(&mut self) -> Result<CoinScan, Fatal> {
        self.flush_all()?;
        let tree = self.shared.tree.read();
        let db = self.shared.coins.db();
        Ok(CoinScan { block: tree.info(tree.tip()), snapshot: db.snapshot(), disk_size: db.bytes_on_disk() })
    }
}

/// A step of xorshift: moments and simulated crashes need only differ from node to node.
fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ state << 17
}

/// How a flush of coins is cut into batches (`-dbbatchsize`), and what may befall it between two
/// of them (`-dbcrashratio`).
pub(crate) struct Batches {
    bytes: usize,
    crash: Option<SimulatedCrash>,
    draw: u64,
}

impl Batches {
    /// After a batch that was not the last.
    fn between(&mut self, log: &dyn LogSink) {
        let Some(simulated) = &self.crash else { return };
        self.draw = xorshift(self.draw);
        if self.draw.is_multiple_of(simulated.one_in.max(1)) {
            log.log(LogLine::error("Simulating a crash. Goodbye."));
            (simulated.crash)();
        }
    }
}

/// Writes a frozen layer in parts. While more than one part is needed the markers say between
/// which two blocks the coins on disk are, so that recovery can finish the work.
pub(crate) fn write_coins(
    shared: &Shared,
    layer: &Layer,
    old: Option<BlockHash>,
    new: BlockHash,
    batches: &mut Batches,
) -> Result<(), StoreError> {
    let db = shared.coins.db();
    let say = |batch: &Batch, which: &str| {
        if shared.log.enabled(LogCategory::CoinDb) {
            let mib = batch.bytes() as f64 / f64::from(1 << 20);
            shared
                .log
                .log(LogLine::debug(LogCategory::CoinDb, format!("Writing {which} batch of {mib:.2} MiB")));
        }
    };
    // Sorted by reference: a full cache has millions of keys. The order is that of `coin_key`.
    let mut slots: Vec<(&OutPoint, &Slot)> = layer.slots.iter().collect();
    slots.sort_unstable_by_key(|(outpoint, _)| (outpoint.txid.as_byte_array(), outpoint.vout));
    let mut batch = Batch::new();
    batch.delete(MARKERS, BEST_BLOCK_KEY);
    batch.put(MARKERS, HEAD_BLOCKS_KEY, head_blocks(new, old));
    let mut value = Vec::new();
    for (outpoint, slot) in slots {
        let key = coin_key(outpoint);
        match slot {
            Slot::Fresh(coin) | Slot::Changed(coin) => {
                value.clear();
                encode_coin(&mut value, coin);
                batch.put(COINS, key.as_slice(), value.as_slice());
            }
            Slot::Spent => batch.delete(COINS, key.as_slice()),
        }
        if batch.bytes() > batches.bytes {
            say(&batch, "partial");
            db.commit(std::mem::take(&mut batch), Durability::Process)?;
            batches.between(shared.log.as_ref());
        }
    }
    batch.delete(MARKERS, HEAD_BLOCKS_KEY);
    batch.put(MARKERS, BEST_BLOCK_KEY, new.as_byte_array().as_slice());
    say(&batch, "final");
    db.commit(batch, Durability::Power)
}

/// The two blocks a flush goes between, the new one first (Core's `DB_HEAD_BLOCKS`).
fn head_blocks(new: BlockHash, old: Option<BlockHash>) -> Vec<u8> {
    let old = old.unwrap_or(BlockHash::all_zeros());
    [new.to_byte_array(), old.to_byte_array()].concat()
}

/// Undoes [`head_blocks`].
pub(crate) fn parse_head_blocks(bytes: &[u8]) -> Option<(BlockHash, Option<BlockHash>)> {
    let (new, old) = bytes.split_at_checked(32)?;
    let (new, old) = (BlockHash::from_slice(new).ok()?, BlockHash::from_slice(old).ok()?);
    Some((new, (old != BlockHash::all_zeros()).then_some(old)))
}
