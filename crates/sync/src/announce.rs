use std::time::Duration;

use bitcoin::block::Header;
use ironpeer_primitives::{ChainEvent, HeaderInfo, LogCategory, PeerId};
use ironpeer_wire::Message;

use crate::blocks::peer_has;
use crate::limits::{BLOCK_STALLING_TIMEOUT_DEFAULT, MAX_BLOCKS_TO_ANNOUNCE};
use crate::machine::{RecentBlock, TxIds};
use crate::peer::{KnownBlock, LoadFor};
use crate::{Cx, Sync};

/// How a run of new blocks can be told to a peer.
enum Announcement {
    /// These headers, the last of which is the block given.
    Headers(Vec<Header>, KnownBlock),
    /// Only by `inv`.
    Inv,
    /// The peer knows them.
    Nothing,
}

impl Sync {
    /// The active chain changed: tells the peers, and forgets what is settled.
    pub(crate) fn on_tip_changed(&mut self, cx: &mut Cx<'_>, change: &ChainEvent) {
        let initial = cx.chain.is_initial_block_download();
        if !change.disconnected.is_empty() {
            self.tx.block_disconnected();
        }
        for (place, connected) in change.connected.iter().enumerate() {
            self.block_sources.remove(&connected.hash);
            self.last_tip_update = cx.unix();
            self.shorten_stalling_timeout(cx);
            if !initial {
                let ids = TxIds::of(&connected.block);
                self.tx.block_connected(&connected.block, &ids);
                if place + 1 == change.connected.len() {
                    self.recent_block = Some(RecentBlock::new(connected, &ids));
                }
            }
        }
        self.tx.write_log(cx);
        if initial {
            self.recent_block = None;
            return;
        }
        self.tx.tip_changed();
        let skip = change.connected.len().saturating_sub(MAX_BLOCKS_TO_ANNOUNCE);
        for peer in self.peers.values_mut() {
            peer.announce.extend(change.connected.iter().skip(skip).map(|block| block.hash));
        }
    }

    /// Progress: the time a peer may stall goes back to the default step by step.
    fn shorten_stalling_timeout(&mut self, cx: &mut Cx<'_>) {
        if self.stalling_timeout == BLOCK_STALLING_TIMEOUT_DEFAULT {
            return;
        }
        let seconds = self.stalling_timeout.as_secs() * 85 / 100;
        self.stalling_timeout = Duration::from_secs(seconds).max(BLOCK_STALLING_TIMEOUT_DEFAULT);
        let seconds = self.stalling_timeout.as_secs();
        cx.debug(LogCategory::Net, || format!("Decreased stalling timeout to {seconds} seconds"));
    }

    /// Finds out whether new blocks connect to what a peer has, so that it can take them as
    /// headers.
    fn plan_announcement(&self, cx: &Cx<'_>, id: PeerId) -> Announcement {
        let Some(peer) = self.peers.get(&id) else { return Announcement::Nothing };
        if !peer.prefers_headers && (!peer.wants_hb_cmpct || peer.announce.len() > 1)
            || peer.announce.len() > MAX_BLOCKS_TO_ANNOUNCE
        {
            return Announcement::Inv;
        }
        let mut headers = Vec::new();
        let mut best: Option<HeaderInfo> = None;
        for hash in &peer.announce {
            let Some(block) = cx.chain.header(hash).filter(|block| block.active) else {
                return Announcement::Inv;
            };
            // Blocks taken off and put on again by hand may stand here twice.
            if best.is_some_and(|best| block.header.prev_blockhash != best.hash) {
                return Announcement::Inv;
            }
            best = Some(block);
            if !headers.is_empty() {
                headers.push(block.header);
            } else if !peer_has(cx, peer, &block) {
                let parent = cx.chain.header(&block.header.prev_blockhash);
                if parent.is_some_and(|parent| !peer_has(cx, peer, &parent)) {
                    return Announcement::Inv;
                }
                headers.push(block.header);
            }
        }
        match best {
            Some(best) if !headers.is_empty() => Announcement::Headers(headers, best.into()),
            _ => Announcement::Nothing,
        }
    }

    /// Announces new blocks: by headers to those who like them and can connect them, else the
    /// last one by `inv`.
    pub(crate) fn announce_blocks(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        if self.peers.get(&id).is_none_or(|peer| peer.announce.is_empty()) {
            return;
        }
        self.process_availability(cx, id);
        let plan = self.plan_announcement(cx, id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let announced = std::mem::take(&mut peer.announce);
        match plan {
            Announcement::Nothing => {}
            Announcement::Headers(headers, best) => {
                let first = headers.first().map(Header::block_hash);
                if headers.len() == 1 && peer.wants_hb_cmpct {
                    peer.best_sent = Some(best);
                    cx.debug(LogCategory::Net, || {
                        format!("SendMessages sending header-and-ids {} to peer={id}", best.hash)
                    });
                    self.with_block(cx, id, best.hash, LoadFor::Announce);
                } else if peer.prefers_headers {
                    peer.best_sent = Some(best);
                    cx.debug(LogCategory::Net, || match first {
                        Some(first) if headers.len() > 1 => format!(
                            "SendMessages: {} headers, range ({first}, {}), to peer={id}",
                            headers.len(),
                            best.hash
                        ),
                        _ => format!("SendMessages: sending header {} to peer={id}", best.hash),
                    });
                    self.send(cx, id, Message::Headers(headers));
                } else {
                    self.announce_by_inv(cx, id, announced.last().copied());
                }
            }
            Announcement::Inv => self.announce_by_inv(cx, id, announced.last().copied()),
        }
    }

    fn announce_by_inv(&mut self, cx: &mut Cx<'_>, id: PeerId, hash: Option<bitcoin::BlockHash>) {
        let Some(block) = hash.and_then(|hash| cx.chain.header(&hash)) else { return };
        if !block.active {
            let tip = cx.chain.tip().hash;
            cx.debug(LogCategory::Net, || {
                format!("Announcing block {} not on main chain (tip={tip})", block.hash)
            });
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !peer_has(cx, peer, &block) {
            peer.announce_inv.push(block.hash);
            cx.debug(LogCategory::Net, || format!("SendMessages: sending inv peer={id} hash={}", block.hash));
        }
    }
}
