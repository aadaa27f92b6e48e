use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::{Block, BlockHash, Work};
use ironpeer_consensus::check_header;
use ironpeer_primitives::{BlockClass, BlockReject, HeaderInfo, Height, LogCategory, PeerId, UnixTime};
use ironpeer_wire::{Inventory, Message};

use crate::event::{Action, BlockOutcome};
use crate::limits::{
    BLOCK_DOWNLOAD_WINDOW, BLOCK_STALLING_TIMEOUT_MAX, MAX_BLOCKS_IN_TRANSIT_PER_PEER, NEAR_TODAY,
    NODE_NETWORK_LIMITED_MIN_BLOCKS,
};
use crate::peer::{KnownBlock, Micros, Peer};
use crate::{Cx, Sync, micros};

/// What one look for blocks to fetch found.
#[derive(Debug, Default)]
struct NextBlocks {
    fetch: Vec<HeaderInfo>,
    /// The peer that holds up the whole window.
    staller: Option<PeerId>,
}

/// Whether the peer is known to have a block.
pub fn peer_has(cx: &Cx<'_>, peer: &Peer, block: &HeaderInfo) -> bool {
    [peer.best_known, peer.best_sent].into_iter().flatten().any(|tip| {
        block.height <= tip.height
            && cx.chain.ancestor(&tip.hash, block.height).is_some_and(|ancestor| ancestor.hash == block.hash)
    })
}

impl Sync {
    /// Marks a block as being fetched from a peer.
    pub(crate) fn block_requested(&mut self, now: Micros, id: PeerId, hash: BlockHash, height: Height) {
        if self.in_flight.get(&hash) == Some(&id) {
            return;
        }
        self.forget_block_request(now, &hash, None);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.in_flight.is_empty() {
            peer.downloading_since = now;
        }
        peer.in_flight.push_back((hash, height));
        self.in_flight.insert(hash, id);
    }

    /// The block came, or is not waited for any more; with `from`, only if it was being fetched
    /// from that peer, so that no peer can disturb another's downloads (CVE-2024-52921).
    pub(crate) fn forget_block_request(&mut self, now: Micros, hash: &BlockHash, from: Option<PeerId>) {
        let Some(&owner) = self.in_flight.get(hash) else { return };
        if from.is_some_and(|from| from != owner) {
            return;
        }
        self.in_flight.remove(hash);
        let Some(peer) = self.peers.get_mut(&owner) else { return };
        if peer.in_flight.front().is_some_and(|(first, _)| first == hash) {
            peer.downloading_since = peer.downloading_since.max(now);
        }
        peer.in_flight.retain(|(block, _)| block != hash);
        peer.stalling_since = None;
    }

    /// Sees whether the last unknown block a peer announced is known by now.
    pub(crate) fn process_availability(&mut self, cx: &Cx<'_>, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(info) = peer.last_unknown.and_then(|hash| cx.chain.header(&hash)) else { return };
        peer.last_unknown = None;
        if peer.best_known.is_none_or(|best| info.chainwork >= best.work) {
            peer.best_known = Some(info.into());
        }
    }

    /// A peer announced a block: it has it, with all before it.
    pub(crate) fn update_availability(&mut self, cx: &Cx<'_>, id: PeerId, hash: BlockHash) {
        self.process_availability(cx, id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match cx.chain.header(&hash) {
            Some(info) => {
                if peer.best_known.is_none_or(|best| info.chainwork >= best.work) {
                    peer.best_known = Some(info.into());
                }
            }
            None => peer.last_unknown = Some(hash),
        }
    }

    /// The last block two chains share: the active one and the one ending at `tip`.
    fn fork_with_active(cx: &Cx<'_>, tip: &KnownBlock) -> Option<HeaderInfo> {
        let shared = |height| {
            let active = cx.chain.active_at(Height(height))?;
            let theirs = cx.chain.ancestor(&tip.hash, Height(height))?;
            Some((active.hash == theirs.hash).then_some(active))
        };
        // Everything up to the fork is shared and nothing after it.
        let (mut low, mut high) = (0, tip.height.0.min(cx.chain.tip().height.0));
        if let Some(top) = shared(high)? {
            return Some(top);
        }
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if shared(middle)?.is_some() {
                low = middle;
            } else {
                high = middle;
            }
        }
        shared(low)?
    }

    /// Which blocks to fetch from a peer next, at most `count` (Core's
    /// `FindNextBlocksToDownload`).
    fn next_blocks(&mut self, cx: &Cx<'_>, id: PeerId, count: usize) -> NextBlocks {
        let mut next = NextBlocks::default();
        self.process_availability(cx, id);
        let Some(peer) = self.peers.get(&id) else { return next };
        let Some(best) = peer.best_known else { return next };
        if count == 0 || best.work < cx.chain.tip().chainwork || best.work < cx.chain.minimum_chainwork() {
            return next;
        }
        let Some(fork) = Self::fork_with_active(cx, &best) else { return next };
        let common = peer.last_common.filter(|last| {
            fork.chainwork <= last.work
                && cx.chain.ancestor(&best.hash, last.height).is_some_and(|info| info.hash == last.hash)
        });
        let mut common = common.unwrap_or_else(|| fork.into());
        let limited = peer.is_limited();
        let witnesses = peer.serves_witnesses();
        // One block beyond the window shows whether the window is what stops us.
        let window_end = common.height.0.saturating_add(BLOCK_DOWNLOAD_WINDOW);
        let last_height = best.height.0.min(window_end.saturating_add(1));
        let mut waiting_for = None;
        for height in common.height.0 + 1..=last_height {
            let Some(block) = cx.chain.ancestor(&best.hash, Height(height)) else { break };
            if block.failed || (!witnesses && self.segwit_active_at(block.height)) {
                break;
            }
            if block.has_data || block.active {
                if common.height.next() == block.height {
                    common = block.into();
                }
                continue;
            }
            if self.submitted.contains_key(&block.hash) {
                continue;
            }
            if let Some(owner) = self.in_flight.get(&block.hash) {
                waiting_for.get_or_insert(*owner);
                continue;
            }
            if height > window_end {
                if next.fetch.is_empty() && waiting_for != Some(id) {
                    next.staller = waiting_for;
                }
                break;
            }
            // Two blocks less than it keeps, since it may have moved on.
            if limited && best.height.0 - height >= NODE_NETWORK_LIMITED_MIN_BLOCKS - 2 {
                continue;
            }
            next.fetch.push(block);
            if next.fetch.len() == count {
                break;
            }
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.last_common = Some(common);
        }
        next
    }

    /// A block with its witnesses if the peer has them.
    fn block_inv(&self, id: PeerId, hash: BlockHash) -> Inventory {
        if self.peers.get(&id).is_some_and(Peer::serves_witnesses) {
            Inventory::witness_block(hash)
        } else {
            Inventory::block(hash)
        }
    }

    /// Asks for the blocks and transactions that are due.
    pub(crate) fn request_data(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let mut wanted = Vec::new();
        let may_fetch = self.peers.get(&id).is_some_and(|peer| {
            peer.serves_blocks()
                && peer.in_flight.len() < MAX_BLOCKS_IN_TRANSIT_PER_PEER
                && ((self.syncs_from(id) && !peer.is_limited()) || !cx.chain.is_initial_block_download())
        });
        if may_fetch && !self.importing {
            let in_flight = self.peers.get(&id).map_or(0, |peer| peer.in_flight.len());
            let next = self.next_blocks(cx, id, MAX_BLOCKS_IN_TRANSIT_PER_PEER - in_flight);
            for block in next.fetch {
                wanted.push(self.block_inv(id, block.hash));
                self.block_requested(cx.now, id, block.hash, block.height);
                cx.debug(LogCategory::Net, || {
                    format!("Requesting block {} ({}) peer={id}", block.hash, block.height)
                });
            }
            let idle = self.peers.get(&id).is_some_and(|peer| peer.in_flight.is_empty());
            if idle
                && let Some(staller) = next.staller
                && let Some(peer) = self.peers.get_mut(&staller)
                && peer.stalling_since.is_none()
            {
                peer.stalling_since = Some(cx.now);
                cx.debug(LogCategory::Net, || format!("Stall started peer={staller}"));
            }
        }
        self.request_txs(cx, id, &mut wanted);
        if !wanted.is_empty() {
            self.send(cx, id, Message::GetData(wanted));
        }
    }

    /// Fetches announced blocks at once when we are close to the tip (Core's
    /// `HeadersDirectFetchBlocks`).
    pub(crate) fn direct_fetch(&mut self, cx: &mut Cx<'_>, id: PeerId, last: &HeaderInfo) {
        if !self.can_direct_fetch(cx)
            || last.failed
            || cx.chain.tip().chainwork > last.chainwork
            || !self.is_open(id)
        {
            return;
        }
        let witnesses = self.peers.get(&id).is_some_and(Peer::serves_witnesses);
        let mut fetch = Vec::new();
        let mut walk = *last;
        while !walk.active && fetch.len() <= MAX_BLOCKS_IN_TRANSIT_PER_PEER {
            if !walk.has_data
                && !self.in_flight.contains_key(&walk.hash)
                && !self.submitted.contains_key(&walk.hash)
                && (witnesses || !self.segwit_active_at(walk.height))
            {
                fetch.push(walk);
            }
            let Some(parent) = cx.chain.header(&walk.header.prev_blockhash) else { return };
            walk = parent;
        }
        if !walk.active {
            cx.debug(LogCategory::Net, || {
                format!("Large reorg, won't direct fetch to {} ({})", last.hash, last.height)
            });
            return;
        }
        let room = self
            .peers
            .get(&id)
            .map_or(0, |peer| MAX_BLOCKS_IN_TRANSIT_PER_PEER.saturating_sub(peer.in_flight.len()));
        let mut wanted = Vec::new();
        for block in fetch.into_iter().rev().take(room) {
            wanted.push(self.block_inv(id, block.hash));
            self.block_requested(cx.now, id, block.hash, block.height);
            cx.debug(LogCategory::Net, || format!("Requesting block {} from peer={id}", block.hash));
        }
        if wanted.len() > 1 {
            cx.debug(LogCategory::Net, || {
                format!("Downloading blocks toward {} ({}) via headers direct fetch", last.hash, last.height)
            });
        }
        if !wanted.is_empty() {
            self.send(cx, id, Message::GetData(wanted));
        }
    }

    /// Work of a chain with a header put on; none if the header does not even have the proof it
    /// claims, which could claim anything.
    fn work_with(&self, parent: &HeaderInfo, header: &Header) -> Option<Work> {
        check_header(header, &self.config.params).ok().map(|()| parent.chainwork + header.work())
    }

    pub(crate) fn on_block(&mut self, cx: &mut Cx<'_>, id: PeerId, block: Arc<Block>) {
        if self.importing {
            cx.debug(LogCategory::Net, || format!("Unexpected block message received from peer {id}"));
            return;
        }
        let hash = block.block_hash();
        cx.debug(LogCategory::Net, || format!("received block {hash} peer={id}"));
        // Only with a known parent can it be said which rules the body is under.
        match cx.chain.header(&block.header.prev_blockhash) {
            Some(parent) => {
                let check_witness_root = self.segwit_active_at(parent.height.next());
                cx.push(Action::CheckMutation { peer: id, block, check_witness_root });
            }
            None => self.submit_block(cx, id, block),
        }
    }

    pub(crate) fn on_mutation_checked(
        &mut self,
        cx: &mut Cx<'_>,
        id: PeerId,
        block: Arc<Block>,
        result: Result<(), BlockReject>,
    ) {
        let Err(reject) = result else {
            self.submit_block(cx, id, block);
            return;
        };
        cx.debug(LogCategory::Validation, || format!("Block mutated: {reject}"));
        cx.debug(LogCategory::Net, || format!("Received mutated block from peer={id}"));
        self.misbehaving(cx, id, "mutated block");
        self.forget_block_request(cx.now, &block.block_hash(), Some(id));
    }

    fn submit_block(&mut self, cx: &mut Cx<'_>, id: PeerId, block: Arc<Block>) {
        let hash = block.block_hash();
        let parent = cx.chain.header(&block.header.prev_blockhash);
        // What was asked for, of anybody, is kept even if it is no candidate for the tip.
        let asked = self.in_flight.get(&hash);
        let (force, download) = (asked.is_some(), asked == Some(&id));
        self.forget_block_request(cx.now, &hash, Some(id));
        let work = parent.and_then(|parent| self.work_with(&parent, &block.header));
        let min_pow_checked = work.is_some_and(|work| work >= Self::anti_dos_work(cx));
        self.block_sources.entry(hash).or_insert(id);
        self.submitted.insert(hash, id);
        cx.push(Action::SubmitBlock { peer: id, block, force, min_pow_checked, download });
    }

    pub(crate) fn on_block_done(
        &mut self,
        cx: &mut Cx<'_>,
        id: PeerId,
        hash: BlockHash,
        outcome: BlockOutcome,
    ) {
        self.submitted.remove(&hash);
        if let Err(reject) = &outcome.result {
            let source = self.block_sources.remove(&hash).unwrap_or(id);
            self.maybe_punish_for_block(cx, source, reject, "");
        }
        if outcome.new {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.last_block = cx.unix();
            }
            self.forget_block_request(cx.now, &hash, None);
        }
        // The sender is remembered for as long as the block may still turn out invalid.
        let unsettled =
            cx.chain.header(&hash).is_some_and(|info| info.has_data && !info.fully_valid && !info.failed);
        if !unsettled {
            self.block_sources.remove(&hash);
        }
    }

    /// Punishes for a bad block or header by what it condemns (Core's
    /// `MaybePunishNodeForBlock`).
    pub(crate) fn maybe_punish_for_block(
        &mut self,
        cx: &mut Cx<'_>,
        id: PeerId,
        reject: &BlockReject,
        message: &str,
    ) {
        let Some(peer) = self.peers.get(&id) else { return };
        let punish = match reject.class {
            BlockClass::HeaderLowWork | BlockClass::TimeFuture => false,
            // Those who connect to us may be on a chain we refused for a rule of our own.
            BlockClass::CachedInvalid => !peer.is_inbound(),
            BlockClass::Consensus
            | BlockClass::Mutated
            | BlockClass::InvalidHeader
            | BlockClass::InvalidPrev
            | BlockClass::MissingPrev => true,
        };
        if punish {
            self.misbehaving(cx, id, message);
        } else if !message.is_empty() {
            cx.debug(LogCategory::Net, || format!("peer={id}: {message}"));
        }
    }

    /// Drops a peer that holds up the download of blocks or headers. Returns whether it did.
    pub(crate) fn check_download_times(&mut self, cx: &mut Cx<'_>, id: PeerId) -> bool {
        let stalling = self.stalling_timeout;
        let disconnect_msg = self.disconnect_msg(id);
        let Some(peer) = self.peers.get(&id) else { return true };
        if peer.stalling_since.is_some_and(|since| since < cx.now - micros(stalling)) {
            cx.info(format!("Peer is stalling block download, {disconnect_msg}"));
            self.disconnect(cx, id);
            // Perhaps it is our own line that is slow: the next peer gets more time.
            let doubled = (stalling * 2).min(BLOCK_STALLING_TIMEOUT_MAX);
            if doubled != stalling {
                self.stalling_timeout = doubled;
                cx.debug(LogCategory::Net, || {
                    format!("Increased stalling timeout temporarily to {} seconds", doubled.as_secs())
                });
            }
            return true;
        }
        if let Some((hash, _)) = peer.in_flight.front() {
            let spacing = self.config.params.pow_target_spacing * 1_000_000;
            let others = self.peers.values().filter(|other| !other.in_flight.is_empty()).count() as i64 - 1;
            if cx.now > peer.downloading_since + spacing + spacing / 2 * others {
                cx.info(format!("Timeout downloading block {hash}, {disconnect_msg}"));
                self.disconnect(cx, id);
                return true;
            }
        }
        self.check_headers_time(cx, id, &disconnect_msg)
    }

    fn check_headers_time(&mut self, cx: &mut Cx<'_>, id: PeerId, disconnect_msg: &str) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return true };
        let Some(timeout) = peer.headers_sync_timeout.filter(|_| peer.sync_started) else { return false };
        let best_time = UnixTime::from(cx.chain.best_header().header.time) * 1_000_000;
        if best_time > cx.now - micros(NEAR_TODAY) {
            // Once caught up, no more of this.
            peer.headers_sync_timeout = None;
            return false;
        }
        let others = self.preferred_peers - usize::from(peer.preferred_download);
        if cx.now <= timeout || self.syncing_peers != 1 || others == 0 {
            return false;
        }
        if peer.connection.permissions.no_ban {
            cx.info(format!("Timeout downloading headers from noban peer, not {disconnect_msg}"));
            peer.sync_started = false;
            peer.headers_sync_timeout = None;
            self.syncing_peers -= 1;
            return false;
        }
        cx.info(format!("Timeout downloading headers, {disconnect_msg}"));
        self.disconnect(cx, id);
        true
    }
}
