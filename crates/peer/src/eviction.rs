//! Which inbound connection goes when another comes and all slots are taken (Core's
//! `src/node/eviction.cpp`): an attacker must beat honest peers in every property at once.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ironpeer_primitives::{PeerId, UnixTime};
use ironpeer_sync::{ConnectionKind, Now};

use crate::network::Network;
use crate::shell::{Peer, Shell};

/// Peers kept for their network group.
const PROTECT_GROUP: usize = 4;
/// Peers kept for their short round trip.
const PROTECT_PING: usize = 8;
/// Peers kept for new transactions they brought.
const PROTECT_TX: usize = 4;
/// Peers kept for new blocks though they relay no transactions.
const PROTECT_BLOCK_ONLY: usize = 8;
/// Peers kept for new blocks they brought.
const PROTECT_BLOCK: usize = 4;

/// What counts for or against a connection.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub id: PeerId,
    pub connected_at: UnixTime,
    pub min_ping: Duration,
    pub last_block: UnixTime,
    pub last_tx: UnixTime,
    pub wanted_services: bool,
    pub relays_txs: bool,
    pub has_filter: bool,
    pub group: u64,
    pub prefer_evict: bool,
    pub local: bool,
    pub network: Network,
}

/// The connection to close, if one may be.
pub(crate) fn choose(shell: &Shell) -> Option<Arc<Peer>> {
    let now = Now::of(shell.clock.as_ref());
    let mut candidates = Vec::new();
    for peer in shell.all() {
        if peer.kind != ConnectionKind::Inbound || peer.permissions.no_ban || peer.stop.is_cancelled() {
            continue;
        }
        let Some(stats) = shell.sync.lock().peer_stats(now, peer.id) else { continue };
        candidates.push(Candidate {
            id: peer.id,
            connected_at: peer.connected_at,
            min_ping: stats.min_ping.unwrap_or(Duration::MAX),
            last_block: stats.last_block,
            last_tx: stats.last_transaction,
            wanted_services: stats.has_wanted_services,
            relays_txs: stats.relay_txs,
            has_filter: stats.has_filter,
            group: shell.keyed_group(&peer.service.address),
            prefer_evict: shell.is_unwanted(&peer.service.address).1,
            local: peer.service.address.is_local(),
            network: peer.network,
        });
    }
    shell.peer(select(candidates)?)
}

/// Core's `SelectNodeToEvict`.
pub(crate) fn select(mut candidates: Vec<Candidate>) -> Option<PeerId> {
    protect(&mut candidates, PROTECT_GROUP, |c| Reverse(c.group), |_| true);
    protect(&mut candidates, PROTECT_PING, |c| c.min_ping, |_| true);
    protect(
        &mut candidates,
        PROTECT_TX,
        |c| (Reverse(c.last_tx), Reverse(c.relays_txs), c.has_filter, c.connected_at),
        |_| true,
    );
    protect(
        &mut candidates,
        PROTECT_BLOCK_ONLY,
        |c| (c.relays_txs, Reverse(c.last_block), Reverse(c.wanted_services), c.connected_at),
        |c| !c.relays_txs && c.wanted_services,
    );
    protect(
        &mut candidates,
        PROTECT_BLOCK,
        |c| (Reverse(c.last_block), Reverse(c.wanted_services), c.connected_at),
        |_| true,
    );
    protect_by_ratio(&mut candidates);
    if candidates.iter().any(|c| c.prefer_evict) {
        candidates.retain(|c| c.prefer_evict);
    }
    // Of the group with most connections (the one with the youngest member, if several), the
    // youngest.
    let mut groups: BTreeMap<u64, Vec<&Candidate>> = BTreeMap::new();
    for candidate in &candidates {
        groups.entry(candidate.group).or_default().push(candidate);
    }
    let youngest = |group: &[&Candidate]| group.iter().map(|c| c.connected_at).max();
    let group = groups.into_values().max_by_key(|group| (group.len(), youngest(group)))?;
    group.into_iter().max_by_key(|c| (c.connected_at, c.id)).map(|c| c.id)
}

/// Takes the `count` best off the list, as far as they are `worthy`.
fn protect<K: Ord>(
    candidates: &mut Vec<Candidate>,
    count: usize,
    best_first: impl Fn(&Candidate) -> K,
    worthy: impl Fn(&Candidate) -> bool,
) {
    candidates.sort_by_key(|candidate| best_first(candidate));
    let mut place = 0;
    candidates.retain(|candidate| {
        place += 1;
        place > count || !worthy(candidate)
    });
}

/// Keeps half of what is left: up to a quarter that came over networks where attackers look like
/// everybody else, the rest for having been here longest.
fn protect_by_ratio(candidates: &mut Vec<Candidate>) {
    let total = candidates.len() / 2;
    let mut left = candidates.len() / 4;
    let start = candidates.len();
    let is = |c: &Candidate, network: Option<Network>| match network {
        Some(network) => c.network == network,
        None => c.local && c.network != Network::Onion,
    };
    let mut networks = [Some(Network::Cjdns), Some(Network::I2p), None, Some(Network::Onion)]
        .map(|network| (candidates.iter().filter(|c| is(c, network)).count(), network));
    networks.sort_by_key(|(count, _)| *count);
    let mut remaining = networks.iter().filter(|(count, _)| *count > 0).count();
    for (count, network) in networks.into_iter().filter(|(count, _)| *count > 0) {
        let share = (left / remaining.max(1)).min(count);
        remaining -= 1;
        left -= share;
        let mut oldest: Vec<(UnixTime, PeerId)> =
            candidates.iter().filter(|c| is(c, network)).map(|c| (c.connected_at, c.id)).collect();
        oldest.sort_unstable();
        oldest.truncate(share);
        candidates.retain(|c| !oldest.contains(&(c.connected_at, c.id)));
    }
    let protected = start - candidates.len();
    protect(candidates, total.saturating_sub(protected), |c| c.connected_at, |_| true);
}

#[cfg(test)]
#[path = "eviction_tests.rs"]
mod tests;
