use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{Block, Transaction, Txid, Wtxid};
use ironpeer_primitives::{LogCategory, MempoolRead, PeerId, TxClass, TxReject};
use rand::{Rng, RngCore};

use crate::bloom::RollingBloom;
use crate::limits::{
    GETDATA_TX_INTERVAL, MAX_PEER_TX_ANNOUNCEMENTS, MAX_PEER_TX_REQUEST_IN_FLIGHT, NONPREF_PEER_TX_DELAY,
    OVERLOADED_PEER_TX_DELAY, RECENT_CONFIRMED, RECENT_REJECTS, TX_FILTER_FALSE_POSITIVE, TXID_RELAY_DELAY,
};
use crate::machine::TxIds;
use crate::orphanage::Orphanage;
use crate::peer::Micros;
use crate::request::{GenTxid, RequestTracker};
use crate::{Cx, micros};

#[derive(Clone, Copy, Debug)]
struct Source {
    preferred: bool,
    /// No limits on its announcements.
    relay: bool,
    wtxid_relay: bool,
}

/// What a transaction that came is good for.
#[derive(Debug)]
pub enum Received {
    /// Give it to the mempool.
    Validate,
    /// It was refused for its fee: give it to the mempool with this child of it.
    Package(Arc<Transaction>),
    /// We have it, or know that it is refused.
    Drop,
}

/// What a refusal leads to.
#[derive(Debug, Default)]
pub struct Rejected {
    /// Parents the peer must have, since it sent their child.
    pub parents: Vec<Txid>,
    /// A child to try the refused transaction with.
    pub child: Option<Arc<Transaction>>,
}

/// Which transactions to fetch, and what became of them (Core's `TxDownloadManager`).
#[derive(Debug)]
pub struct TxDownload {
    peers: BTreeMap<PeerId, Source>,
    wtxid_peers: usize,
    pub requests: RequestTracker,
    pub orphanage: Orphanage,
    /// Refused: not fetched again until the tip changes.
    rejects: RollingBloom,
    /// Refused alone, but worth trying with a child; and packages refused as a whole.
    reconsiderable: RollingBloom,
    /// Given to the mempool and not answered yet.
    submitted: BTreeMap<Wtxid, PeerId>,
    /// In one of the last blocks.
    confirmed: RollingBloom,
}

/// Names a package in the filter of refused ones.
fn package_key(parent: &Transaction, child: &Transaction) -> Vec<u8> {
    let mut ids = [parent.compute_wtxid().to_byte_array(), child.compute_wtxid().to_byte_array()];
    ids.sort_unstable();
    ids.concat()
}

fn unique_parents(tx: &Transaction) -> Vec<Txid> {
    let mut parents: Vec<Txid> = tx.input.iter().map(|input| input.previous_output.txid).collect();
    parents.sort_unstable();
    parents.dedup();
    parents
}

fn has_witness(tx: &Transaction) -> bool {
    tx.input.iter().any(|input| !input.witness.is_empty())
}

impl TxDownload {
    pub fn new(rng: &mut impl RngCore) -> Self {
        let mut filter = |size| RollingBloom::new(size, TX_FILTER_FALSE_POSITIVE, rng);
        let (rejects, reconsiderable, confirmed) =
            (filter(RECENT_REJECTS), filter(RECENT_REJECTS), filter(RECENT_CONFIRMED));
        Self {
            peers: BTreeMap::new(),
            wtxid_peers: 0,
            requests: RequestTracker::new(rng),
            orphanage: Orphanage::default(),
            rejects,
            reconsiderable,
            submitted: BTreeMap::new(),
            confirmed,
        }
    }

    /// Hands the orphanage's lines to the log.
    pub fn write_log(&mut self, cx: &mut Cx<'_>) {
        for line in self.orphanage.log.drain(..) {
            let text = line.text;
            cx.debug(line.category, || text.into_owned());
        }
    }

    /// Old refusals may be wrong on the new tip.
    pub fn tip_changed(&mut self) {
        self.rejects.clear();
        self.reconsiderable.clear();
    }

    pub fn block_connected(&mut self, block: &Block, ids: &TxIds) {
        self.orphanage.erase_block(block);
        for (txid, wtxid) in &ids.0 {
            self.confirmed.insert(txid);
            if txid != wtxid {
                self.confirmed.insert(wtxid);
            }
            self.requests.forget(txid);
            self.requests.forget(wtxid);
        }
    }

    /// What was confirmed may have to be relayed again.
    pub fn block_disconnected(&mut self) {
        self.confirmed.clear();
    }

    /// Whether a transaction need not be fetched. The hash of an orphan is looked up as a wtxid
    /// alone: by txid, a changed witness could keep us from the real one.
    fn already_have(&self, pool: &dyn MempoolRead, id: GenTxid, include_reconsiderable: bool) -> bool {
        let hash = id.hash();
        self.orphanage.contains(&Wtxid::from_byte_array(hash))
            || (include_reconsiderable && self.reconsiderable.contains(&hash))
            || self.confirmed.contains(&hash)
            || self.rejects.contains(&hash)
            || match id {
                GenTxid::Txid(txid) => pool.by_txid(&txid).is_some(),
                GenTxid::Wtxid(wtxid) => pool.by_wtxid(&wtxid).is_some(),
            }
    }

    pub fn connected(&mut self, id: PeerId, preferred: bool, relay: bool, wtxid_relay: bool) {
        self.peers.insert(id, Source { preferred, relay, wtxid_relay });
        self.wtxid_peers += usize::from(wtxid_relay);
    }

    pub fn disconnected(&mut self, id: PeerId) {
        self.orphanage.erase_peer(id);
        self.requests.disconnected(id);
        self.submitted.retain(|_, owner| *owner != id);
        if let Some(source) = self.peers.remove(&id) {
            self.wtxid_peers -= usize::from(source.wtxid_relay);
        }
    }

    fn delay(&self, id: PeerId, source: Source, by_txid: bool) -> Micros {
        let mut delay = 0;
        if !source.preferred {
            delay += micros(NONPREF_PEER_TX_DELAY);
        }
        if by_txid && self.wtxid_peers > 0 {
            delay += micros(TXID_RELAY_DELAY);
        }
        if !source.relay && self.requests.in_flight(id) >= MAX_PEER_TX_REQUEST_IN_FLIGHT {
            delay += micros(OVERLOADED_PEER_TX_DELAY);
        }
        delay
    }

    /// A peer announced a transaction. Returns whether we have it already.
    pub fn announced(&mut self, cx: &mut Cx<'_>, id: PeerId, announced: GenTxid) -> bool {
        if let GenTxid::Wtxid(wtxid) = announced
            && let Some(orphan) = self.orphanage.tx(&wtxid)
        {
            let parents = self.missing_parents(cx.pool, &orphan);
            if !parents.is_empty() && self.resolve_with(cx, &parents, &wtxid, id) {
                self.orphanage.add_announcer(&wtxid, id);
                self.write_log(cx);
            }
            return true;
        }
        if self.already_have(cx.pool, announced, true) {
            return true;
        }
        let Some(&source) = self.peers.get(&id) else { return false };
        if !source.relay && self.requests.count(id) >= MAX_PEER_TX_ANNOUNCEMENTS {
            return false;
        }
        let by_txid = matches!(announced, GenTxid::Txid(_));
        let time = cx.now + self.delay(id, source, by_txid);
        self.requests.announced(id, announced, source.preferred, time);
        false
    }

    fn missing_parents(&self, pool: &dyn MempoolRead, tx: &Transaction) -> Vec<Txid> {
        let mut parents = unique_parents(tx);
        parents.retain(|txid| !self.already_have(pool, GenTxid::Txid(*txid), false));
        parents
    }

    /// Treats a peer that has an orphan as if it had announced the missing parents. Returns
    /// whether it may.
    fn resolve_with(&mut self, cx: &mut Cx<'_>, parents: &[Txid], wtxid: &Wtxid, id: PeerId) -> bool {
        let Some(&source) = self.peers.get(&id) else { return false };
        if self.orphanage.announced_by(wtxid, id)
            || (!source.relay && self.requests.count(id) + parents.len() > MAX_PEER_TX_ANNOUNCEMENTS)
        {
            return false;
        }
        // A moment's wait: the parent is often on its way already.
        let time = cx.now + self.delay(id, source, true);
        for parent in parents {
            self.requests.announced(id, GenTxid::Txid(*parent), source.preferred, time);
        }
        cx.debug(LogCategory::TxPackages, || {
            format!("added peer={id} as a candidate for resolving orphan {wtxid}")
        });
        true
    }

    /// What to ask of a peer now; each is marked as asked.
    pub fn take_requests(&mut self, cx: &mut Cx<'_>, id: PeerId) -> Vec<GenTxid> {
        let (found, expired) = self.requests.requestable(id, cx.now);
        for (owner, tx) in expired {
            cx.debug(LogCategory::Net, || {
                format!("timeout of inflight {} {} from peer={owner}", tx.kind(), display(tx))
            });
        }
        let mut wanted = Vec::new();
        for tx in found {
            if self.submitted.contains_key(&Wtxid::from_byte_array(tx.hash())) {
                continue;
            }
            if self.already_have(cx.pool, tx, false) {
                self.requests.forget(&tx.hash());
            } else {
                cx.debug(LogCategory::Net, || format!("Requesting {} {} peer={id}", tx.kind(), display(tx)));
                self.requests.requested(id, &tx.hash(), cx.now + micros(GETDATA_TX_INTERVAL));
                wanted.push(tx);
            }
        }
        wanted
    }

    /// A transaction was given to the mempool.
    pub fn submit(&mut self, id: PeerId, tx: &Transaction) {
        self.submitted.insert(tx.compute_wtxid(), id);
    }

    /// The mempool answered.
    pub fn submit_done(&mut self, wtxid: &Wtxid) {
        self.submitted.remove(wtxid);
    }

    /// A transaction came from a peer.
    pub fn received(&mut self, cx: &mut Cx<'_>, id: PeerId, tx: &Transaction) -> Received {
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        self.requests.answered(id, &txid.to_byte_array());
        self.requests.answered(id, &wtxid.to_byte_array());
        if self.already_have(cx.pool, GenTxid::Wtxid(wtxid), false) {
            return Received::Drop;
        }
        if self.reconsiderable.contains(&wtxid.to_byte_array()) {
            cx.debug(LogCategory::TxPackages, || {
                format!(
                    "found tx {txid} (wtxid={wtxid}) in reconsiderable rejects, looking for child in orphanage"
                )
            });
            return self.find_child(tx, id).map_or(Received::Drop, Received::Package);
        }
        Received::Validate
    }

    /// A child of a refused parent, from the same peer: so nobody else can get in the way with
    /// useless children.
    fn find_child(&self, parent: &Transaction, id: PeerId) -> Option<Arc<Transaction>> {
        self.orphanage.children_from(parent, id).into_iter().find(|child| {
            !self.reconsiderable.contains(&package_key(parent, child))
                && !self.rejects.contains(&child.compute_txid().to_byte_array())
        })
    }

    pub fn accepted(&mut self, tx: &Transaction, rng: &mut impl Rng) {
        let wtxid = tx.compute_wtxid();
        self.requests.forget(&tx.compute_txid().to_byte_array());
        self.requests.forget(&wtxid.to_byte_array());
        self.orphanage.parent_arrived(tx, rng);
        self.orphanage.erase(&wtxid);
    }

    pub fn package_rejected(&mut self, parent: &Transaction, child: &Transaction) {
        self.reconsiderable.insert(&package_key(parent, child));
    }

    /// A transaction was refused. `first_time` says that it just came, and was not an orphan
    /// tried again.
    pub fn rejected(
        &mut self,
        cx: &mut Cx<'_>,
        id: PeerId,
        tx: &Arc<Transaction>,
        reject: &TxReject,
        first_time: bool,
    ) -> Rejected {
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        let mut outcome = Rejected::default();
        match reject.class {
            TxClass::MissingInputs => {
                if first_time && !self.rejects.contains(&wtxid.to_byte_array()) {
                    outcome.parents = self.keep_orphan(cx, id, tx);
                }
            }
            TxClass::WitnessStripped => {}
            class => {
                if class == TxClass::Reconsiderable {
                    self.reconsiderable.insert(&wtxid.to_byte_array());
                    if first_time {
                        cx.debug(LogCategory::TxPackages, || {
                            format!("tx {txid} (wtxid={wtxid}) failed but reconsiderable, looking for child in orphanage")
                        });
                        outcome.child = self.find_child(tx, id);
                    }
                } else {
                    self.rejects.insert(&wtxid.to_byte_array());
                }
                self.requests.forget(&wtxid.to_byte_array());
                // The witness had no part in this failure, so no other one will help.
                if class == TxClass::InputsNotStandard && has_witness(tx) {
                    self.rejects.insert(&txid.to_byte_array());
                    self.requests.forget(&txid.to_byte_array());
                }
            }
        }
        if reject.class != TxClass::MissingInputs && self.orphanage.erase(&wtxid) {
            cx.debug(LogCategory::TxPackages, || format!("   removed orphan tx {txid} (wtxid={wtxid})"));
        }
        self.write_log(cx);
        outcome
    }

    /// Keeps a transaction until its parents come, if they may. Returns the parents to fetch.
    fn keep_orphan(&mut self, cx: &mut Cx<'_>, id: PeerId, tx: &Arc<Transaction>) -> Vec<Txid> {
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        let parents = unique_parents(tx);
        let refused = parents.iter().any(|parent| self.rejects.contains(&parent.to_byte_array()));
        // With a package, one parent that was refused for its fee can still get in.
        let reconsiderable = parents
            .iter()
            .filter(|parent| {
                self.reconsiderable.contains(&parent.to_byte_array()) && cx.pool.by_txid(parent).is_none()
            })
            .count();
        if refused || reconsiderable > 1 {
            cx.debug(LogCategory::Mempool, || {
                format!("not keeping orphan with rejected parents {txid} (wtxid={wtxid})")
            });
            // Whatever its witness, it will not get in.
            for hash in [txid.to_byte_array(), wtxid.to_byte_array()] {
                self.rejects.insert(&hash);
                self.requests.forget(&hash);
            }
            return Vec::new();
        }
        let missing = self.missing_parents(cx.pool, tx);
        let mut candidates = vec![id];
        candidates.extend(self.requests.candidates(&txid.to_byte_array()));
        candidates.extend(self.requests.candidates(&wtxid.to_byte_array()));
        for candidate in candidates {
            if self.resolve_with(cx, &missing, &wtxid, candidate) {
                self.orphanage.add(tx, candidate);
            }
        }
        self.requests.forget(&txid.to_byte_array());
        self.requests.forget(&wtxid.to_byte_array());
        missing
    }
}

/// A hash as Core writes it.
fn display(id: GenTxid) -> String {
    match id {
        GenTxid::Txid(txid) => txid.to_string(),
        GenTxid::Wtxid(wtxid) => wtxid.to_string(),
    }
}
