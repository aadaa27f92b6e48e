use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Work};
use ironpeer_consensus::check_header;
use ironpeer_primitives::{BlockClass, BlockReject, HeaderInfo, LogCategory, PeerId, UnixTime};
use ironpeer_wire::{Locator, Message};

use crate::event::{Action, ConnectionKind};
use crate::limits::{
    ANTI_DOS_WORK_BUFFER_BLOCKS, HEADERS_DOWNLOAD_TIMEOUT_BASE, HEADERS_DOWNLOAD_TIMEOUT_PER_HEADER,
    HEADERS_RESPONSE_TIME, MAX_HEADERS_RESULTS, MAX_PROTECTED_OUTBOUND_PEERS, NEAR_TODAY,
    SENDHEADERS_VERSION,
};
use crate::peer::PendingHeaders;
use crate::presync::Presync;
use crate::{Cx, Sync, micros};

/// Work of nothing.
pub fn no_work() -> Work {
    Work::from_be_bytes([0; 32])
}

/// `a - b`, or nothing.
fn saturating_sub(a: Work, b: Work) -> Work {
    if a > b { a - b } else { no_work() }
}

/// `n` times `work`. Only for headers whose work was checked: their sum stays far from 256 bits.
fn times(work: Work, n: u64) -> Work {
    (0..n).fold(no_work(), |sum, _| sum + work)
}

impl Sync {
    /// Least work of a chain whose headers are kept (Core's `GetAntiDoSWorkThreshold`).
    pub(crate) fn anti_dos_work(cx: &Cx<'_>) -> Work {
        let tip = cx.chain.tip();
        let buffer = times(tip.header.work(), ANTI_DOS_WORK_BUFFER_BLOCKS);
        saturating_sub(tip.chainwork, buffer).max(cx.chain.minimum_chainwork())
    }

    /// Asks for headers, unless an answer is still due. Returns whether it asked.
    pub(crate) fn maybe_send_getheaders(
        &mut self,
        cx: &mut Cx<'_>,
        id: PeerId,
        hashes: Vec<BlockHash>,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        if peer.last_getheaders.is_some_and(|last| cx.now - last <= micros(HEADERS_RESPONSE_TIME)) {
            return false;
        }
        peer.last_getheaders = Some(cx.now);
        self.send(cx, id, Message::GetHeaders(Locator { hashes, stop: BlockHash::all_zeros() }));
        true
    }

    /// Begins header download: from one peer at first, from all when we are close to today.
    pub(crate) fn start_headers_sync(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        if peer.sync_started || !peer.serves_blocks() || self.importing {
            return;
        }
        let best = cx.chain.best_header();
        let best_time = UnixTime::from(best.header.time) * 1_000_000;
        let near_today = best_time > cx.now - micros(NEAR_TODAY);
        if !near_today && (self.syncing_peers > 0 || !self.syncs_from(id)) {
            return;
        }
        // One block back, so that the answer is never empty and shows what the peer has.
        let start =
            best.height.prev().and_then(|height| cx.chain.ancestor(&best.hash, height)).unwrap_or(best);
        let locator = cx.chain.locator(&start.hash);
        if !self.maybe_send_getheaders(cx, id, locator) {
            return;
        }
        cx.debug(LogCategory::Net, || format!("initial getheaders ({}) to peer={id}", start.height));
        let expected = (cx.now - best_time) / 1_000_000 / self.config.params.pow_target_spacing.max(1);
        let timeout =
            micros(HEADERS_DOWNLOAD_TIMEOUT_BASE) + micros(HEADERS_DOWNLOAD_TIMEOUT_PER_HEADER) * expected;
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.sync_started = true;
            peer.headers_sync_timeout = Some(cx.now + timeout);
            self.syncing_peers += 1;
        }
    }

    /// Whether initial headers and blocks may come from this peer: one we chose, or any other
    /// while there is nothing better.
    pub(crate) fn syncs_from(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(|peer| {
            peer.preferred_download
                || (peer.serves_blocks()
                    && peer.connection.kind != ConnectionKind::AddrFetch
                    && (self.preferred_peers == 0 || self.in_flight.is_empty()))
        })
    }

    /// Tells the peer that we like new blocks as headers, once its chain is worth following.
    pub(crate) fn maybe_send_sendheaders(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let minimum = cx.chain.minimum_chainwork();
        if !peer.sent_sendheaders
            && peer.common_version >= SENDHEADERS_VERSION
            && peer.best_known.is_some_and(|best| best.work > minimum)
        {
            peer.sent_sendheaders = true;
            self.send(cx, id, Message::SendHeaders);
        }
    }

    pub(crate) fn on_headers(&mut self, cx: &mut Cx<'_>, id: PeerId, headers: Vec<Header>) {
        if self.importing {
            cx.debug(LogCategory::Net, || format!("Unexpected headers message received from peer {id}"));
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(first) = headers.first().copied() else {
            // Not an announcement, so an answer: the peer has nothing more.
            peer.presync = None;
            peer.last_getheaders = None;
            return;
        };
        let full = headers.len() == MAX_HEADERS_RESULTS;
        let params = std::sync::Arc::clone(&self.config.params);
        if headers.iter().any(|header| check_header(header, &params).is_err()) {
            self.misbehaving(cx, id, "header with invalid proof of work");
            return;
        }
        let connected = headers.windows(2).all(|pair| match pair {
            [parent, child] => child.prev_blockhash == parent.block_hash(),
            _ => true,
        });
        if !connected {
            self.misbehaving(cx, id, "non-continuous headers sequence");
            return;
        }
        let mut headers = headers;
        let mut validated_work = self.continue_presync(cx, id, &mut headers, full);
        let Some(last) = headers.last().map(Header::block_hash) else { return };
        let first = headers.first().copied().unwrap_or(first);
        let Some(start) = cx.chain.header(&first.prev_blockhash) else {
            self.on_unconnecting_headers(cx, id, &first, last);
            return;
        };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.last_getheaders = None;
        let in_presync = peer.presync.is_some();
        let no_ban = peer.connection.permissions.no_ban;
        let known = cx.chain.header(&last);
        // Headers we have cost nothing more, and a trusted peer is believed.
        validated_work =
            validated_work || no_ban || known.is_some_and(|known| Self::on_best_chain(cx, &known));
        if !validated_work && self.try_presync(cx, id, &start, &mut headers, full) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.pending_headers =
                Some(PendingHeaders { may_have_more: full, new_header: known.is_none(), in_presync });
        }
        cx.push(Action::SubmitHeaders { peer: id, headers, min_pow_checked: true });
    }

    /// Whether a header is an ancestor of the best header or of the tip.
    fn on_best_chain(cx: &Cx<'_>, header: &HeaderInfo) -> bool {
        let best = cx.chain.best_header();
        header.active
            || cx.chain.ancestor(&best.hash, header.height).is_some_and(|info| info.hash == header.hash)
    }

    /// Headers out of the blue may announce a block on a chain we lack a part of: ask for it.
    fn on_unconnecting_headers(&mut self, cx: &mut Cx<'_>, id: PeerId, first: &Header, last: BlockHash) {
        let best = cx.chain.best_header();
        let locator = cx.chain.locator(&best.hash);
        if self.maybe_send_getheaders(cx, id, locator) {
            cx.debug(LogCategory::Net, || {
                format!(
                    "received header {}: missing prev block {}, sending getheaders ({}) to end (peer={id})",
                    first.block_hash(),
                    first.prev_blockhash,
                    best.height
                )
            });
        }
        self.update_availability(cx, id, last);
    }

    /// Gives headers to a low-work sync in progress. It may keep them, or turn them into others
    /// that are now worth keeping. Returns whether it did.
    fn continue_presync(
        &mut self,
        cx: &mut Cx<'_>,
        id: PeerId,
        headers: &mut Vec<Header>,
        full: bool,
    ) -> bool {
        let params = std::sync::Arc::clone(&self.config.params);
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        let Some(presync) = &mut peer.presync else { return false };
        let step = presync.process(headers, full, &params, &mut |text| {
            cx.debug(LogCategory::Net, || text);
        });
        let locator = step.request_more.then(|| {
            let mut locator = presync.next_locator();
            locator.extend(cx.chain.locator(&presync.start()));
            locator
        });
        if step.finished {
            peer.presync = None;
        }
        if step.success {
            peer.last_getheaders = None;
            *headers = step.headers;
        }
        if let Some(locator) = locator {
            let from = locator.first().copied();
            if self.maybe_send_getheaders(cx, id, locator)
                && let Some(from) = from
            {
                cx.debug(LogCategory::Net, || format!("more getheaders (from {from}) to peer={id}"));
            }
        }
        step.success
    }

    /// Headers of a chain without enough work are not kept. If the peer may have more, they are
    /// counted first and fetched again once they prove worth it. Returns whether these headers
    /// are done with.
    fn try_presync(
        &mut self,
        cx: &mut Cx<'_>,
        id: PeerId,
        start: &HeaderInfo,
        headers: &mut Vec<Header>,
        full: bool,
    ) -> bool {
        let total = headers.iter().fold(start.chainwork, |sum, header| sum + header.work());
        let threshold = Self::anti_dos_work(cx);
        if total >= threshold {
            return false;
        }
        if full {
            let presync = Presync::new(
                id,
                &self.config.params,
                start,
                threshold,
                cx.unix(),
                &mut self.rng,
                &mut |text| cx.debug(LogCategory::Net, || text),
            );
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.presync = Some(Box::new(presync));
            }
            self.continue_presync(cx, id, headers, full);
        } else {
            let height = start.height.0 as usize + headers.len();
            cx.debug(LogCategory::Net, || {
                format!("Ignoring low-work chain (height={height}) from peer={id}")
            });
        }
        headers.clear();
        true
    }

    pub(crate) fn on_headers_done(
        &mut self,
        cx: &mut Cx<'_>,
        id: PeerId,
        result: Result<HeaderInfo, BlockReject>,
    ) {
        let log_peer = self.log_peer(id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(pending) = peer.pending_headers.take() else { return };
        let last = match result {
            Ok(last) => last,
            Err(reject) => {
                if !peer.is_inbound() && reject.class == BlockClass::CachedInvalid {
                    cx.warning(format!(
                        "{} (received from peer={id}). If this happens with all peers, consider database \
                         corruption (that -reindex may fix) or a potential consensus incompatibility.",
                        reject.debug
                    ));
                }
                self.maybe_punish_for_block(cx, id, &reject, "invalid header received");
                return;
            }
        };
        if pending.new_header {
            let line = format!("Saw new header hash={} height={} {log_peer}", last.hash, last.height);
            if cx.chain.is_initial_block_download() {
                cx.debug(LogCategory::Validation, || line);
            } else {
                cx.info(line);
            }
        }
        if pending.may_have_more && !pending.in_presync {
            let locator = cx.chain.locator(&last.hash);
            if self.maybe_send_getheaders(cx, id, locator) {
                cx.debug(LogCategory::Net, || {
                    format!("more getheaders ({}) to end to peer={id}", last.height)
                });
            }
        }
        self.update_for_headers(cx, id, &last, &pending);
        self.direct_fetch(cx, id, &last);
    }

    fn update_for_headers(
        &mut self,
        cx: &mut Cx<'_>,
        id: PeerId,
        last: &HeaderInfo,
        pending: &PendingHeaders,
    ) {
        self.update_availability(cx, id, last.hash);
        let tip = cx.chain.tip();
        let disconnect_msg = self.disconnect_msg(id);
        let protected = self.peers.values().filter(|peer| peer.chain_sync.protect).count();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if pending.new_header && last.chainwork > tip.chainwork {
            peer.last_block_announcement = cx.unix();
        }
        let Some(best) = peer.best_known else { return };
        // A peer we chose must help us to sync: it has shown its whole chain.
        if cx.chain.is_initial_block_download()
            && !pending.may_have_more
            && best.work < cx.chain.minimum_chainwork()
            && peer.connection.kind.is_automatic_sync()
        {
            cx.info(format!("outbound peer headers chain has insufficient work, {disconnect_msg}"));
            self.disconnect(cx, id);
            return;
        }
        if peer.connection.kind == ConnectionKind::OutboundFullRelay
            && protected < MAX_PROTECTED_OUTBOUND_PEERS
            && best.work >= tip.chainwork
            && !peer.chain_sync.protect
        {
            peer.chain_sync.protect = true;
            cx.debug(LogCategory::Net, || format!("Protecting outbound peer={id} from eviction"));
        }
    }
}
