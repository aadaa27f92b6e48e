//! Sends filters of blocks and their headers (BIP157), read piece by piece, and no faster than the
//! peer takes them.

use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::bip158::{FilterHash, FilterHeader};
use bitcoin::hashes::Hash;
use ironpeer_primitives::{Height, LogCategory};
use ironpeer_sync::{Action, FilterReply};
use ironpeer_wire::{CFCheckpoints, CFHeaders, CFilter, Message, encode};
use tokio::task::spawn_blocking;

use crate::limits::{FILTER_CHECKPOINT_INTERVAL, FILTERS_READ_AT_ONCE};
use crate::rooms::Rooms;
use crate::shell::{Peer, Shell};

/// BIP158's basic filter.
const BASIC_FILTER: u8 = 0;

/// What was read, or which block lacks its row.
type Found<T> = Result<Vec<T>, BlockHash>;

impl Rooms {
    /// Reads something of each of these blocks of the chain that ends in `stop`.
    async fn filter_rows<T: Send + 'static>(
        &self,
        stop: BlockHash,
        heights: impl Iterator<Item = u32> + Send + 'static,
        read: impl Fn(&dyn ironpeer_primitives::BlockFilterRead, Height, &BlockHash) -> Option<T> + Send + 'static,
    ) -> Option<Found<T>> {
        let (rooms, filters) = (self.clone(), self.filters()?);
        let rows = spawn_blocking(move || {
            heights
                .map(|height| {
                    let block = rooms.chain().ancestor(&stop, Height(height)).ok_or(stop)?;
                    read(filters.as_ref(), block.height, &block.hash).ok_or(block.hash)
                })
                .collect()
        });
        rows.await.ok()
    }
}

impl Shell {
    pub(crate) async fn send_filters(
        &self,
        peer: &Arc<Peer>,
        reply: FilterReply,
        start: Height,
        stop: BlockHash,
    ) -> Vec<Action> {
        let Some(end) = self.rooms.chain().header(&stop) else { return Vec::new() };
        let end = end.height.0;
        match reply {
            FilterReply::Filters => self.send_each_filter(peer, start.0, end, stop).await,
            FilterReply::Headers => {
                let from = start.0.saturating_sub(1);
                let rows = self.rooms.filter_rows(stop, from..=end, |filters, height, hash| {
                    filters.filter_header(height, hash)
                });
                let Some(rows) = rows.await else { return Vec::new() };
                let rows = match rows {
                    Ok(rows) => rows,
                    Err(_) => {
                        return self.missing("hashes", &format!("start_height={start}, stop_hash={stop}"));
                    }
                };
                let (before, rows): (FilterHeader, &[(FilterHash, FilterHeader)]) = match rows.split_first() {
                    Some(((_, before), rows)) if start > Height::GENESIS => (*before, rows),
                    _ => (FilterHeader::all_zeros(), &rows),
                };
                let message = Message::CFHeaders(CFHeaders {
                    filter_type: BASIC_FILTER,
                    stop_hash: stop,
                    previous_header: before,
                    hashes: rows.iter().map(|(hash, _)| *hash).collect(),
                });
                self.queue(peer, message.command(), encode(&message, self.magic))
            }
            FilterReply::Checkpoints => {
                let heights = (1..=end / FILTER_CHECKPOINT_INTERVAL).map(|n| n * FILTER_CHECKPOINT_INTERVAL);
                let rows = self.rooms.filter_rows(stop, heights, |filters, height, hash| {
                    filters.filter_header(height, hash).map(|(_, header)| header)
                });
                let Some(rows) = rows.await else { return Vec::new() };
                let headers = match rows {
                    Ok(headers) => headers,
                    Err(hash) => return self.missing("header", &format!("block_hash={hash}")),
                };
                let message =
                    Message::CFCheckpt(CFCheckpoints { filter_type: BASIC_FILTER, stop_hash: stop, headers });
                self.queue(peer, message.command(), encode(&message, self.magic))
            }
        }
    }

    async fn send_each_filter(&self, peer: &Arc<Peer>, start: u32, end: u32, stop: BlockHash) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut next = start;
        // All or nothing: the last one is there if the others are.
        let last = self
            .rooms
            .filter_rows(stop, end..=end, |filters, height, hash| filters.filter_header(height, hash));
        if last.await.is_none_or(|found| found.is_err()) {
            return self.missing("", &format!("start_height={start}, stop_hash={stop}"));
        }
        while next <= end {
            let until = end.min(next.saturating_add(FILTERS_READ_AT_ONCE - 1));
            let rows = self.rooms.filter_rows(stop, next..=until, |filters, height, hash| {
                filters.filter(height, hash).map(|filter| (*hash, filter))
            });
            let Some(Ok(rows)) = rows.await else { return actions };
            for (block_hash, filter) in rows {
                let message = Message::CFilter(CFilter { filter_type: BASIC_FILTER, block_hash, filter });
                actions.extend(self.queue(peer, message.command(), encode(&message, self.magic)));
                tokio::select! {
                    () = peer.outbox.has_room() => {}
                    () = peer.stop.cancelled() => return actions,
                }
            }
            next = until.saturating_add(1);
        }
        actions
    }

    fn missing(&self, what: &str, which: &str) -> Vec<Action> {
        let space = if what.is_empty() { "" } else { " " };
        self.debug(LogCategory::Net, || {
            format!("Failed to find block filter{space}{what} in index: filter_type=basic, {which}")
        });
        Vec::new()
    }
}
