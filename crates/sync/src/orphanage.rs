use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{Block, OutPoint, Transaction, Wtxid};
use ironpeer_primitives::{LogCategory, LogLine, PeerId};
use rand::Rng;

use crate::event::OrphanInfo;
use crate::limits::{MAX_ORPHANAGE_LATENCY_SCORE, MAX_STANDARD_TX_WEIGHT, RESERVED_ORPHAN_WEIGHT_PER_PEER};

#[derive(Debug)]
struct Orphan {
    tx: Arc<Transaction>,
    weight: u64,
    /// Cost beyond the announcements: one for every ten inputs.
    input_score: u64,
    /// Who announced it, with the number of that announcement.
    announcers: BTreeMap<PeerId, u64>,
    /// The announcer in whose turn it is tried again.
    reconsider: Option<PeerId>,
}

#[derive(Debug, Default)]
struct PeerUse {
    weight: u64,
    latency: u64,
    /// Announcements: those to be tried again last, then by age.
    announcements: BTreeSet<(bool, u64, Wtxid)>,
}

/// Part of the peer's allowance in use; above 1 it is over.
#[derive(Clone, Copy, Debug)]
struct DosScore {
    used: u64,
    allowed: u64,
}

impl DosScore {
    /// By ratio; equal ratios count the smaller allowance as worse, as Core does.
    fn compare(self, other: Self) -> Ordering {
        let left = u128::from(self.used) * u128::from(other.allowed);
        let right = u128::from(other.used) * u128::from(self.allowed);
        left.cmp(&right).then(other.allowed.cmp(&self.allowed))
    }

    const fn is_over(self) -> bool {
        self.used > self.allowed
    }
}

/// Transactions whose parents are not known yet (Core's `TxOrphanage`). Every announcer of an
/// orphan is charged for it; when the whole is too heavy or too slow to handle, the peer that
/// uses most of its share loses its oldest ones, so no peer can push out another's.
#[derive(Debug, Default)]
pub struct Orphanage {
    next_sequence: u64,
    orphans: BTreeMap<Wtxid, Orphan>,
    peers: BTreeMap<PeerId, PeerUse>,
    spenders: BTreeMap<OutPoint, BTreeSet<Wtxid>>,
    weight: u64,
    input_scores: u64,
    announcements: u64,
    /// Lines for the log since they were last taken.
    pub log: Vec<LogLine>,
}

impl Orphanage {
    fn note(&mut self, text: String) {
        self.log.push(LogLine::debug(LogCategory::TxPackages, text));
    }

    /// Keeps an orphan for a peer. Returns whether it was not here at all before.
    pub fn add(&mut self, tx: &Arc<Transaction>, peer: PeerId) -> bool {
        let wtxid = tx.compute_wtxid();
        if self.orphans.contains_key(&wtxid) {
            self.add_announcer(&wtxid, peer);
            return false;
        }
        let (weight, txid) = (tx.weight().to_wu(), tx.compute_txid());
        if weight > MAX_STANDARD_TX_WEIGHT {
            self.note(format!("ignoring large orphan tx (size: {weight}, txid: {txid}, wtxid: {wtxid})"));
            return false;
        }
        let input_score = tx.input.len() as u64 / 10;
        for input in &tx.input {
            self.spenders.entry(input.previous_output).or_default().insert(wtxid);
        }
        self.weight += weight;
        self.input_scores += input_score;
        self.orphans.insert(
            wtxid,
            Orphan { tx: Arc::clone(tx), weight, input_score, announcers: BTreeMap::new(), reconsider: None },
        );
        self.charge(&wtxid, peer);
        self.note(format!(
            "stored orphan tx {txid} (wtxid={wtxid}), weight: {weight} (mapsz {} outsz {})",
            self.announcements,
            self.spenders.len()
        ));
        self.limit();
        true
    }

    /// Another peer has the orphan, too.
    pub fn add_announcer(&mut self, wtxid: &Wtxid, peer: PeerId) {
        let Some(orphan) = self.orphans.get(wtxid) else { return };
        if orphan.announcers.contains_key(&peer) {
            return;
        }
        let txid = orphan.tx.compute_txid();
        self.charge(wtxid, peer);
        self.note(format!("added peer={peer} as announcer of orphan tx {txid} (wtxid={wtxid})"));
        self.limit();
    }

    fn charge(&mut self, wtxid: &Wtxid, peer: PeerId) {
        let Some(orphan) = self.orphans.get_mut(wtxid) else { return };
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        orphan.announcers.insert(peer, sequence);
        let usage = self.peers.entry(peer).or_default();
        usage.weight += orphan.weight;
        usage.latency += 1 + orphan.input_score;
        usage.announcements.insert((false, sequence, *wtxid));
        self.announcements += 1;
    }

    fn remove_announcement(&mut self, wtxid: &Wtxid, peer: PeerId) {
        let Some(orphan) = self.orphans.get_mut(wtxid) else { return };
        let Some(sequence) = orphan.announcers.remove(&peer) else { return };
        let reconsider = orphan.reconsider == Some(peer);
        if reconsider {
            orphan.reconsider = None;
        }
        self.announcements -= 1;
        if let Some(usage) = self.peers.get_mut(&peer) {
            usage.weight -= orphan.weight;
            usage.latency -= 1 + orphan.input_score;
            usage.announcements.remove(&(reconsider, sequence, *wtxid));
            if usage.announcements.is_empty() {
                self.peers.remove(&peer);
            }
        }
        if !orphan.announcers.is_empty() {
            return;
        }
        let Some(orphan) = self.orphans.remove(wtxid) else { return };
        self.weight -= orphan.weight;
        self.input_scores -= orphan.input_score;
        for input in &orphan.tx.input {
            if let Some(wtxids) = self.spenders.get_mut(&input.previous_output) {
                wtxids.remove(wtxid);
                if wtxids.is_empty() {
                    self.spenders.remove(&input.previous_output);
                }
            }
        }
    }

    fn erase_all(&mut self, wtxid: &Wtxid) -> bool {
        let Some(orphan) = self.orphans.get(wtxid) else { return false };
        let txid = orphan.tx.compute_txid();
        let announcers: Vec<PeerId> = orphan.announcers.keys().copied().collect();
        for peer in &announcers {
            self.remove_announcement(wtxid, *peer);
        }
        self.note(format!("removed orphan tx {txid} (wtxid={wtxid}) ({} announcements)", announcers.len()));
        true
    }

    /// Removes an orphan for all peers; whether it was there.
    pub fn erase(&mut self, wtxid: &Wtxid) -> bool {
        let erased = self.erase_all(wtxid);
        // With fewer peers the common limits are lower.
        self.limit();
        erased
    }

    /// Forgets a peer and the orphans only it announced.
    pub fn erase_peer(&mut self, peer: PeerId) {
        let Some(usage) = self.peers.get(&peer) else { return };
        let wtxids: Vec<Wtxid> = usage.announcements.iter().map(|(_, _, wtxid)| *wtxid).collect();
        for wtxid in &wtxids {
            self.remove_announcement(wtxid, peer);
        }
        self.note(format!("Erased {} orphan transaction(s) from peer={peer}", wtxids.len()));
        self.limit();
    }

    /// Removes what a block contains or spends.
    pub fn erase_block(&mut self, block: &Block) {
        if self.orphans.is_empty() {
            return;
        }
        let conflicting: BTreeSet<Wtxid> = block
            .txdata
            .iter()
            .flat_map(|tx| &tx.input)
            .filter_map(|input| self.spenders.get(&input.previous_output))
            .flatten()
            .copied()
            .collect();
        for wtxid in &conflicting {
            self.erase_all(wtxid);
        }
        if !conflicting.is_empty() {
            self.note(format!(
                "Erased {} orphan transaction(s) included or conflicted by block",
                conflicting.len()
            ));
        }
        self.limit();
    }

    fn needs_trim(&self) -> bool {
        let peers = (self.peers.len() as u64).max(1);
        self.input_scores + self.announcements > MAX_ORPHANAGE_LATENCY_SCORE
            || self.weight > RESERVED_ORPHAN_WEIGHT_PER_PEER * peers
    }

    fn score(usage: &PeerUse, max_latency: u64) -> DosScore {
        let latency = DosScore { used: usage.latency, allowed: max_latency };
        let weight = DosScore { used: usage.weight, allowed: RESERVED_ORPHAN_WEIGHT_PER_PEER };
        if latency.compare(weight).is_lt() { weight } else { latency }
    }

    /// Trims the peers that are over their share, worst first, oldest orphan first.
    fn limit(&mut self) {
        if !self.needs_trim() {
            return;
        }
        let before = self.orphans.len();
        let mut erased = 0;
        // The share stays what it was when trimming began, though peers may vanish meanwhile.
        let max_latency = (MAX_ORPHANAGE_LATENCY_SCORE / (self.peers.len() as u64).max(1)).max(1);
        while self.needs_trim() {
            let worst = self
                .peers
                .iter()
                .map(|(peer, usage)| (*peer, Self::score(usage, max_latency)))
                .filter(|(_, score)| score.is_over())
                .max_by(|(left_peer, left), (right_peer, right)| {
                    left.compare(*right).then(left_peer.cmp(right_peer))
                });
            let Some((peer, _)) = worst else { break };
            let oldest = self.peers.get(&peer).and_then(|usage| usage.announcements.first());
            let Some(&(_, _, wtxid)) = oldest else { break };
            self.remove_announcement(&wtxid, peer);
            erased += 1;
        }
        self.note(format!(
            "orphanage overflow, removed {} tx ({erased} announcements)",
            before - self.orphans.len()
        ));
    }

    /// A parent arrived: its waiting children are to be tried again, each in the turn of one of
    /// its announcers drawn at random, so that none of them can hold it up.
    pub fn parent_arrived(&mut self, parent: &Transaction, rng: &mut impl Rng) {
        let txid = parent.compute_txid();
        for vout in 0..parent.output.len() as u32 {
            let children: Vec<Wtxid> =
                self.spenders.get(&OutPoint { txid, vout }).into_iter().flatten().copied().collect();
            for wtxid in children {
                let Some(orphan) = self.orphans.get_mut(&wtxid) else { continue };
                if orphan.reconsider.is_some() || orphan.announcers.is_empty() {
                    continue;
                }
                let chosen = rng.gen_range(0..orphan.announcers.len());
                let Some((&peer, &sequence)) = orphan.announcers.iter().nth(chosen) else {
                    continue;
                };
                orphan.reconsider = Some(peer);
                let child = orphan.tx.compute_txid();
                if let Some(usage) = self.peers.get_mut(&peer) {
                    usage.announcements.remove(&(false, sequence, wtxid));
                    usage.announcements.insert((true, sequence, wtxid));
                }
                self.note(format!("added {child} (wtxid={wtxid}) to peer {peer} workset"));
            }
        }
    }

    /// The next orphan to try again in this peer's turn; it is not offered again until another
    /// parent arrives.
    pub fn next_to_reconsider(&mut self, peer: PeerId) -> Option<Arc<Transaction>> {
        let usage = self.peers.get_mut(&peer)?;
        let &(reconsider, sequence, wtxid) = usage.announcements.last()?;
        if !reconsider {
            return None;
        }
        // Oldest first among those to be tried again.
        let (_, sequence, wtxid) = usage
            .announcements
            .range((true, 0, Wtxid::from_raw_hash(bitcoin::hashes::Hash::all_zeros()))..)
            .next()
            .copied()
            .unwrap_or((reconsider, sequence, wtxid));
        usage.announcements.remove(&(true, sequence, wtxid));
        usage.announcements.insert((false, sequence, wtxid));
        let orphan = self.orphans.get_mut(&wtxid)?;
        orphan.reconsider = None;
        Some(Arc::clone(&orphan.tx))
    }

    /// Those in whose turn there are orphans to try again.
    pub fn peers_with_work(&self) -> Vec<PeerId> {
        let has_work =
            |usage: &PeerUse| usage.announcements.last().is_some_and(|(reconsider, _, _)| *reconsider);
        self.peers.iter().filter(|(_, usage)| has_work(usage)).map(|(peer, _)| *peer).collect()
    }

    /// Whether the peer's turn has orphans to try again.
    pub fn has_work(&self, peer: PeerId) -> bool {
        self.peers
            .get(&peer)
            .and_then(|usage| usage.announcements.last())
            .is_some_and(|(reconsider, _, _)| *reconsider)
    }

    /// The orphan.
    pub fn tx(&self, wtxid: &Wtxid) -> Option<Arc<Transaction>> {
        self.orphans.get(wtxid).map(|orphan| Arc::clone(&orphan.tx))
    }

    /// Whether the orphan is here.
    pub fn contains(&self, wtxid: &Wtxid) -> bool {
        self.orphans.contains_key(wtxid)
    }

    /// Whether this peer announced the orphan.
    pub fn announced_by(&self, wtxid: &Wtxid, peer: PeerId) -> bool {
        self.orphans.get(wtxid).is_some_and(|orphan| orphan.announcers.contains_key(&peer))
    }

    /// Orphans of this peer that spend `parent`, those to be tried again first, then the newest.
    pub fn children_from(&self, parent: &Transaction, peer: PeerId) -> Vec<Arc<Transaction>> {
        let txid = parent.compute_txid();
        self.peers
            .get(&peer)
            .into_iter()
            .flat_map(|usage| usage.announcements.iter().rev())
            .filter_map(|(_, _, wtxid)| self.orphans.get(wtxid))
            .filter(|orphan| orphan.tx.input.iter().any(|input| input.previous_output.txid == txid))
            .map(|orphan| Arc::clone(&orphan.tx))
            .collect()
    }

    /// All orphans, for `getorphantxs`.
    pub fn list(&self) -> Vec<OrphanInfo> {
        self.orphans
            .values()
            .map(|orphan| OrphanInfo {
                tx: Arc::clone(&orphan.tx),
                from: orphan.announcers.keys().copied().collect(),
            })
            .collect()
    }

    /// Orphans here.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.orphans.len()
    }

    /// Weight of all orphans, each counted once.
    #[cfg(test)]
    pub const fn total_weight(&self) -> u64 {
        self.weight
    }

    /// Cost of handling them all.
    #[cfg(test)]
    pub const fn latency_score(&self) -> u64 {
        self.input_scores + self.announcements
    }
}

#[cfg(test)]
#[path = "orphanage_tests.rs"]
mod tests;
