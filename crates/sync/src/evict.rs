use ironpeer_primitives::{LogCategory, PeerId};

use crate::event::{Action, ConnectionKind};
use crate::limits::{CHAIN_SYNC_TIMEOUT, HEADERS_RESPONSE_TIME, MINIMUM_CONNECT_TIME, STALE_CHECK_INTERVAL};
use crate::{Cx, Sync, micros};

/// Blocks of the target spacing without a new tip make it stale.
const STALE_TIP_BLOCKS: i64 = 3;

impl Sync {
    /// Drops an outbound peer whose chain stays behind ours (Core's `ConsiderEviction`).
    pub(crate) fn consider_eviction(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let now = cx.unix();
        let tip = cx.chain.tip();
        let disconnect_msg = self.disconnect_msg(id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.chain_sync.protect || !peer.connection.kind.is_automatic_sync() || !peer.sync_started {
            return;
        }
        let best = peer.best_known;
        let best_name = best.map_or_else(|| "<none>".to_owned(), |best| best.hash.to_string());
        let state = &mut peer.chain_sync;
        if best.is_some_and(|best| best.work >= tip.chainwork) {
            state.timeout = None;
            state.work_header = None;
            state.sent_getheaders = false;
            return;
        }
        // Behind for the first time, or caught up with what was asked while we moved on.
        let reached = state.work_header.zip(best).is_some_and(|(goal, best)| best.work >= goal.work);
        let Some(timeout) = state.timeout.filter(|_| !reached) else {
            state.timeout = Some(now + CHAIN_SYNC_TIMEOUT.as_secs() as i64);
            state.work_header = Some(tip.into());
            state.sent_getheaders = false;
            return;
        };
        if now <= timeout {
            return;
        }
        if state.sent_getheaders {
            cx.info(format!("Outbound peer has old chain, best known block = {best_name}, {disconnect_msg}"));
            self.disconnect(cx, id);
            return;
        }
        let Some(goal) = state.work_header else { return };
        state.sent_getheaders = true;
        state.timeout = Some(now + HEADERS_RESPONSE_TIME.as_secs() as i64);
        let before = goal.height.prev().and_then(|height| cx.chain.ancestor(&goal.hash, height));
        let locator = before.map_or_else(Vec::new, |before| cx.chain.locator(&before.hash));
        self.maybe_send_getheaders(cx, id, locator);
        cx.debug(LogCategory::Net, || {
            format!(
                "sending getheaders to outbound peer={id} to verify chain work (current best known block:{best_name}, benchmark blockhash: {})",
                goal.hash
            )
        });
    }

    /// Every 45 seconds: one outbound peer too many goes, and a tip that does not move calls for
    /// one more.
    pub(crate) fn check_stale_tip_and_evict(&mut self, cx: &mut Cx<'_>) {
        self.evict_extra_block_relay(cx);
        self.evict_extra_full_outbound(cx);
        let now = cx.unix();
        if now > self.stale_tip_check {
            if !self.importing
                && self.network_active
                && self.config.automatic_outbound
                && self.tip_may_be_stale(now)
            {
                cx.info(format!(
                    "Potential stale tip detected, will try using extra outbound peer (last tip update: {} seconds ago)",
                    now - self.last_tip_update
                ));
                self.try_extra_outbound = true;
                cx.push(Action::TryExtraOutbound(true));
            } else if std::mem::take(&mut self.try_extra_outbound) {
                cx.push(Action::TryExtraOutbound(false));
            }
            self.stale_tip_check = now + STALE_CHECK_INTERVAL.as_secs() as i64;
        }
        if !self.initial_sync_finished && self.can_direct_fetch(cx) {
            self.initial_sync_finished = true;
            cx.push(Action::StartExtraBlockRelay);
        }
    }

    fn tip_may_be_stale(&mut self, now: i64) -> bool {
        if self.last_tip_update == 0 {
            self.last_tip_update = now;
        }
        let limit = self.config.params.pow_target_spacing * STALE_TIP_BLOCKS;
        self.last_tip_update < now - limit && self.in_flight.is_empty()
    }

    /// Finished connections of a kind.
    fn connected_of(&self, kind: ConnectionKind) -> Vec<PeerId> {
        self.peers
            .values()
            .filter(|peer| peer.connection.kind == kind && peer.connected && !peer.disconnecting)
            .map(|peer| peer.id)
            .collect()
    }

    /// Drops the youngest block-relay-only peer beyond the usual number, unless it was the last
    /// to give us a block: then the one before it.
    fn evict_extra_block_relay(&mut self, cx: &mut Cx<'_>) {
        let peers = self.connected_of(ConnectionKind::BlockRelayOnly);
        if peers.len() <= self.config.max_block_relay_only {
            return;
        }
        let last_block = |id: &PeerId| self.peers.get(id).map_or(0, |peer| peer.last_block);
        let mut youngest = peers.iter().rev();
        let (Some(first), second) = (youngest.next(), youngest.next()) else { return };
        let chosen = match second {
            Some(second) if last_block(first) > last_block(second) => *second,
            _ => *first,
        };
        let Some(peer) = self.peers.get(&chosen) else { return };
        let last_block = peer.last_block;
        if cx.now - peer.connected_at >= micros(MINIMUM_CONNECT_TIME) && peer.in_flight.is_empty() {
            cx.debug(LogCategory::Net, || {
                format!(
                    "disconnecting extra block-relay-only peer={chosen} (last block received at time {last_block})"
                )
            });
            self.disconnect(cx, chosen);
        } else {
            let (since, blocks) = (peer.connected_at / 1_000_000, peer.in_flight.len());
            cx.debug(LogCategory::Net, || {
                format!(
                    "keeping block-relay-only peer={chosen} chosen for eviction (connect time: {since}, blocks_in_flight: {blocks})"
                )
            });
        }
    }

    /// Drops the full-relay peer beyond the usual number whose last block announcement is the
    /// oldest; of equals, the youngest connection.
    fn evict_extra_full_outbound(&mut self, cx: &mut Cx<'_>) {
        let peers = self.connected_of(ConnectionKind::OutboundFullRelay);
        if peers.len() <= self.config.max_full_outbound {
            return;
        }
        let worst = peers
            .iter()
            .filter_map(|id| self.peers.get(id))
            .filter(|peer| !peer.chain_sync.protect)
            .min_by_key(|peer| (peer.last_block_announcement, std::cmp::Reverse(peer.id)));
        let Some(peer) = worst else { return };
        let (id, announced) = (peer.id, peer.last_block_announcement);
        if cx.now - peer.connected_at > micros(MINIMUM_CONNECT_TIME) && peer.in_flight.is_empty() {
            cx.debug(LogCategory::Net, || {
                format!(
                    "disconnecting extra outbound peer={id} (last block announcement received at time {announced})"
                )
            });
            self.disconnect(cx, id);
            // No more tries until the tip looks stale again.
            self.try_extra_outbound = false;
            cx.push(Action::TryExtraOutbound(false));
        } else {
            let (since, blocks) = (peer.connected_at / 1_000_000, peer.in_flight.len());
            cx.debug(LogCategory::Net, || {
                format!(
                    "keeping outbound peer={id} chosen for eviction (connect time: {since}, blocks_in_flight: {blocks})"
                )
            });
        }
    }
}
