use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;

use bitcoin::hashes::Hash;
use bitcoin::{Txid, Wtxid};
use ironpeer_primitives::PeerId;
use rand::RngCore;
use siphasher::sip::SipHasher24;

/// A transaction as it was announced: with or without its witness in the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GenTxid {
    /// Hash without witness.
    Txid(Txid),
    /// Hash with witness (BIP339).
    Wtxid(Wtxid),
}

/// The bare hash, whichever kind it is.
pub type TxHash = [u8; 32];

impl GenTxid {
    /// The bare hash.
    pub fn hash(self) -> TxHash {
        match self {
            Self::Txid(id) => id.to_byte_array(),
            Self::Wtxid(id) => id.to_byte_array(),
        }
    }

    /// Core's word for it in the log.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Txid(_) => "tx",
            Self::Wtxid(_) => "wtx",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not to be asked for before its time.
    Delayed,
    /// Could be asked for, but another peer comes first.
    Ready,
    /// The one to ask next.
    Best,
    /// Asked; given up at its time.
    Requested,
    /// Answered, refused or given up.
    Completed,
}

/// Kept small: there may be thousands of each peer.
#[derive(Clone, Debug)]
struct Announcement {
    /// The hash is a wtxid.
    wtxid: bool,
    state: State,
    /// Microseconds: when to ask (before), when to give up (after asking).
    time: i64,
    /// Order of arrival.
    sequence: u64,
    /// Random, above all others for peers we chose.
    priority: u64,
}

impl Announcement {
    /// What was announced under this hash.
    fn id(&self, hash: TxHash) -> GenTxid {
        if self.wtxid {
            GenTxid::Wtxid(Wtxid::from_byte_array(hash))
        } else {
            GenTxid::Txid(Txid::from_byte_array(hash))
        }
    }
}

#[derive(Debug, Default)]
struct PeerUse {
    announcements: BTreeSet<TxHash>,
    best: BTreeSet<TxHash>,
    requested: usize,
}

/// Decides of whom to ask which announced transaction, and when (Core's `TxRequestTracker`,
/// whose specification is the comment in `src/txrequest.h`): one peer at a time, peers we chose
/// first, then at random; the next one when the time is over or the answer was no. A peer can
/// neither make others wait longer than one expiry nor cost more than its own announcements.
#[derive(Debug)]
pub struct RequestTracker {
    salt: (u64, u64),
    next_sequence: u64,
    /// All of a hash lie together. One map, since a map for each hash would cost a kilobyte each.
    announcements: BTreeMap<(TxHash, PeerId), Announcement>,
    peers: BTreeMap<PeerId, PeerUse>,
    /// Announcements that wait for their time.
    waiting: BTreeSet<(i64, TxHash, PeerId)>,
}

impl RequestTracker {
    /// An empty tracker; the salt keeps peers from working out whom we ask.
    pub fn new(rng: &mut impl RngCore) -> Self {
        Self {
            salt: (rng.next_u64(), rng.next_u64()),
            next_sequence: 0,
            announcements: BTreeMap::new(),
            peers: BTreeMap::new(),
            waiting: BTreeSet::new(),
        }
    }

    fn of(&self, hash: &TxHash) -> impl Iterator<Item = (PeerId, &Announcement)> {
        let all = (*hash, PeerId(0))..=(*hash, PeerId(u64::MAX));
        self.announcements.range(all).map(|((_, peer), one)| (*peer, one))
    }

    fn priority(&self, hash: &TxHash, peer: PeerId, preferred: bool) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.salt.0, self.salt.1);
        hasher.write(hash);
        hasher.write_u64(peer.0);
        hasher.finish() >> 1 | u64::from(preferred) << 63
    }

    /// A peer announced a transaction, to be asked for at `time` at the earliest. Ignored if
    /// it announced the same hash before and that is still tracked.
    pub fn announced(&mut self, peer: PeerId, id: GenTxid, preferred: bool, time: i64) {
        let hash = id.hash();
        if self.announcements.contains_key(&(hash, peer)) {
            return;
        }
        let announcement = Announcement {
            wtxid: matches!(id, GenTxid::Wtxid(_)),
            state: State::Delayed,
            time,
            sequence: self.next_sequence,
            priority: self.priority(&hash, peer, preferred),
        };
        self.next_sequence += 1;
        self.announcements.insert((hash, peer), announcement);
        self.peers.entry(peer).or_default().announcements.insert(hash);
        self.waiting.insert((time, hash, peer));
    }

    /// Moves an announcement to another state and keeps the indexes in step. Does not look for
    /// a successor.
    fn set_state(&mut self, hash: &TxHash, peer: PeerId, state: State, time: i64) {
        let Some(entry) = self.announcements.get_mut(&(*hash, peer)) else { return };
        let usage = self.peers.entry(peer).or_default();
        match entry.state {
            State::Delayed => {
                self.waiting.remove(&(entry.time, *hash, peer));
            }
            State::Requested => {
                self.waiting.remove(&(entry.time, *hash, peer));
                usage.requested = usage.requested.saturating_sub(1);
            }
            State::Best => {
                usage.best.remove(hash);
            }
            State::Ready | State::Completed => {}
        }
        entry.state = state;
        entry.time = time;
        match state {
            State::Delayed => {
                self.waiting.insert((time, *hash, peer));
            }
            State::Requested => {
                self.waiting.insert((time, *hash, peer));
                usage.requested += 1;
            }
            State::Best => {
                usage.best.insert(*hash);
            }
            State::Ready | State::Completed => {}
        }
    }

    /// Names the ready announcement with the highest priority as the one to ask next, unless
    /// one is being asked. A better one replaces a best one not asked yet.
    fn select(&mut self, hash: &TxHash) {
        if self.of(hash).any(|(_, one)| one.state == State::Requested) {
            return;
        }
        let candidate = self
            .of(hash)
            .filter(|(_, one)| matches!(one.state, State::Ready | State::Best))
            .max_by_key(|(_, one)| one.priority)
            .map(|(peer, one)| (peer, one.state, one.time));
        let Some((peer, state, time)) = candidate else { return };
        if state == State::Best {
            return;
        }
        let former =
            self.of(hash).find(|(_, one)| one.state == State::Best).map(|(peer, one)| (peer, one.time));
        if let Some((former, former_time)) = former {
            self.set_state(hash, former, State::Ready, former_time);
        }
        self.set_state(hash, peer, State::Best, time);
    }

    /// Ends one announcement. When all of a hash are ended, it is forgotten.
    fn complete(&mut self, hash: &TxHash, peer: PeerId) {
        let Some(entry) = self.announcements.get(&(*hash, peer)) else { return };
        if entry.state == State::Completed {
            return;
        }
        if self.of(hash).all(|(other, one)| other == peer || one.state == State::Completed) {
            self.forget(hash);
            return;
        }
        let was_selected = matches!(entry.state, State::Best | State::Requested);
        self.set_state(hash, peer, State::Completed, 0);
        if was_selected {
            self.select(hash);
        }
    }

    /// The transaction is there (or will never be wanted): all its announcements go.
    pub fn forget(&mut self, hash: &TxHash) {
        let peers: Vec<PeerId> = self.of(hash).map(|(peer, _)| peer).collect();
        for peer in peers {
            self.remove(hash, peer);
        }
    }

    fn remove(&mut self, hash: &TxHash, peer: PeerId) {
        self.set_state(hash, peer, State::Completed, 0);
        if let Some(usage) = self.peers.get_mut(&peer) {
            usage.announcements.remove(hash);
            if usage.announcements.is_empty() {
                self.peers.remove(&peer);
            }
        }
        self.announcements.remove(&(*hash, peer));
    }

    /// Forgets a peer; what was being asked of it is asked of others.
    pub fn disconnected(&mut self, peer: PeerId) {
        let Some(usage) = self.peers.get(&peer) else { return };
        for hash in usage.announcements.clone() {
            self.remove(&hash, peer);
            if self.of(&hash).all(|(_, one)| one.state == State::Completed) {
                self.forget(&hash);
            } else {
                self.select(&hash);
            }
        }
    }

    /// What to ask of `peer` now, in the order it was announced; and the requests whose time
    /// was over, with the peers that did not answer. Each returned transaction must be followed
    /// by [`Self::requested`] or [`Self::forget`].
    pub fn requestable(&mut self, peer: PeerId, now: i64) -> (Vec<GenTxid>, Vec<(PeerId, GenTxid)>) {
        let mut expired = Vec::new();
        while let Some(&(time, hash, owner)) = self.waiting.first() {
            if time > now {
                break;
            }
            let Some(entry) = self.announcements.get(&(hash, owner)) else {
                self.waiting.pop_first();
                continue;
            };
            match entry.state {
                State::Delayed => {
                    self.set_state(&hash, owner, State::Ready, time);
                    self.select(&hash);
                }
                _ => {
                    expired.push((owner, entry.id(hash)));
                    self.complete(&hash, owner);
                }
            }
        }
        let mut found: Vec<(u64, GenTxid)> = self
            .peers
            .get(&peer)
            .into_iter()
            .flat_map(|usage| &usage.best)
            .filter_map(|hash| Some((hash, self.announcements.get(&(*hash, peer))?)))
            .map(|(hash, one)| (one.sequence, one.id(*hash)))
            .collect();
        found.sort_unstable_by_key(|(sequence, _)| *sequence);
        (found.into_iter().map(|(_, id)| id).collect(), expired)
    }

    /// `peer` was asked; given up at `expiry`.
    pub fn requested(&mut self, peer: PeerId, hash: &TxHash, expiry: i64) {
        let known = self.announcements.get(&(*hash, peer));
        if known.is_none_or(|one| matches!(one.state, State::Requested | State::Completed)) {
            return;
        }
        // Whoever else was asked or named before makes way.
        let others: Vec<(PeerId, State, i64)> =
            self.of(hash).map(|(other, one)| (other, one.state, one.time)).collect();
        for (other, state, time) in others {
            match state {
                State::Best if other != peer => self.set_state(hash, other, State::Ready, time),
                State::Requested => self.set_state(hash, other, State::Completed, 0),
                _ => {}
            }
        }
        self.set_state(hash, peer, State::Requested, expiry);
    }

    /// `peer` answered, with the transaction or `notfound`.
    pub fn answered(&mut self, peer: PeerId, hash: &TxHash) {
        self.complete(hash, peer);
    }

    /// Announcements tracked of a peer.
    pub fn count(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, |usage| usage.announcements.len())
    }

    /// Requests open with a peer.
    pub fn in_flight(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, |usage| usage.requested)
    }

    /// Peers that announced a hash and did not fail to deliver it.
    pub fn candidates(&self, hash: &TxHash) -> Vec<PeerId> {
        self.of(hash).filter(|(_, one)| one.state != State::Completed).map(|(peer, _)| peer).collect()
    }

    /// Announcements tracked of all peers.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.peers.values().map(|usage| usage.announcements.len()).sum()
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
