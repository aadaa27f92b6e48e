use std::collections::BTreeSet;

use bitcoin::Wtxid;
use bitcoin::hashes::Hash;
use ironpeer_primitives::PeerId;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::{GenTxid, RequestTracker, State};

const SECOND: i64 = 1_000_000;

fn tracker() -> RequestTracker {
    RequestTracker::new(&mut ChaCha12Rng::seed_from_u64(7))
}

fn tx(n: u8) -> GenTxid {
    GenTxid::Wtxid(Wtxid::from_byte_array([n; 32]))
}

impl RequestTracker {
    /// Recomputes every index from the announcements.
    fn check(&self) {
        let mut waiting = 0;
        let hashes: BTreeSet<_> = self.announcements.keys().map(|(hash, _)| *hash).collect();
        for hash in &hashes {
            let states =
                |wanted: &[State]| self.of(hash).filter(|(_, one)| wanted.contains(&one.state)).count();
            assert!(states(&[State::Completed]) < self.of(hash).count(), "a finished hash is kept");
            let selected = states(&[State::Best, State::Requested]);
            assert!(selected <= 1 && (selected == 1 || states(&[State::Ready]) == 0));
            if let Some((_, best)) = self.of(hash).find(|(_, one)| one.state == State::Best) {
                for (_, other) in self.of(hash).filter(|(_, one)| one.state == State::Ready) {
                    assert!(best.priority >= other.priority);
                }
            }
            for (peer, one) in self.of(hash) {
                let usage = &self.peers[&peer];
                assert!(usage.announcements.contains(hash));
                assert_eq!(usage.best.contains(hash), one.state == State::Best);
                let waits = matches!(one.state, State::Delayed | State::Requested);
                assert_eq!(self.waiting.contains(&(one.time, *hash, peer)), waits);
                waiting += usize::from(waits);
            }
        }
        assert_eq!(self.waiting.len(), waiting);
        assert_eq!(self.len(), self.announcements.len());
        for (peer, usage) in &self.peers {
            let requested = self
                .announcements
                .iter()
                .filter(|((_, owner), one)| owner == peer && one.state == State::Requested)
                .count();
            assert_eq!(usage.requested, requested);
        }
    }
}

#[test]
fn nothing_is_asked_before_its_time_and_chosen_peers_come_first() {
    let mut tracker = tracker();
    tracker.announced(PeerId(0), tx(1), false, 2 * SECOND);
    tracker.announced(PeerId(1), tx(1), true, 0);
    assert_eq!(tracker.requestable(PeerId(0), SECOND).0, []);
    assert_eq!(tracker.requestable(PeerId(1), SECOND).0, [tx(1)]);
    tracker.requested(PeerId(1), &tx(1).hash(), 61 * SECOND);
    assert_eq!(tracker.requestable(PeerId(0), 3 * SECOND).0, [], "one peer at a time");
    tracker.check();
}

/// CVE-2024-52913: who announces first and never delivers holds a transaction up for one expiry.
#[test]
fn cve_2024_52913_a_silent_peer_delays_by_one_expiry() {
    let mut tracker = tracker();
    tracker.announced(PeerId(0), tx(1), true, 0);
    assert_eq!(tracker.requestable(PeerId(0), 0).0, [tx(1)]);
    tracker.requested(PeerId(0), &tx(1).hash(), 60 * SECOND);
    tracker.announced(PeerId(1), tx(1), false, 2 * SECOND);
    assert_eq!(tracker.requestable(PeerId(1), 59 * SECOND), (vec![], vec![]));
    let (wanted, expired) = tracker.requestable(PeerId(1), 60 * SECOND);
    assert_eq!(wanted, [tx(1)]);
    assert_eq!(expired, [(PeerId(0), tx(1))]);
    // The silent one cannot announce the same again.
    tracker.announced(PeerId(0), tx(1), true, 0);
    assert_eq!(tracker.candidates(&tx(1).hash()), [PeerId(1)]);
    tracker.check();
}

#[test]
fn a_refusal_or_a_disconnect_hands_over_at_once() {
    let mut tracker = tracker();
    for peer in 0..3 {
        tracker.announced(PeerId(peer), tx(1), peer == 0, 0);
    }
    assert_eq!(tracker.requestable(PeerId(0), 1).0, [tx(1)]);
    tracker.requested(PeerId(0), &tx(1).hash(), 60 * SECOND);
    tracker.answered(PeerId(0), &tx(1).hash());
    let next = [1, 2].into_iter().find(|peer| !tracker.requestable(PeerId(*peer), 2).0.is_empty()).unwrap();
    tracker.requested(PeerId(next), &tx(1).hash(), 60 * SECOND);
    tracker.disconnected(PeerId(next));
    assert_eq!(tracker.requestable(PeerId(3 - next), 3).0, [tx(1)]);
    tracker.check();
    tracker.forget(&tx(1).hash());
    assert_eq!((tracker.len(), tracker.announcements.len(), tracker.waiting.len()), (0, 0, 0));
}

#[test]
fn requests_come_in_the_order_of_announcement() {
    let mut tracker = tracker();
    for n in [9, 3, 7, 1] {
        tracker.announced(PeerId(0), tx(n), true, 0);
    }
    assert_eq!(tracker.requestable(PeerId(0), 1).0, [tx(9), tx(3), tx(7), tx(1)]);
}

#[derive(Clone, Debug)]
enum Step {
    Announce(u64, u8, bool, i64),
    Request(u64),
    Answer(u64, u8),
    Forget(u8),
    Disconnect(u64),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..4, 0u8..6, any::<bool>(), 0i64..5).prop_map(|(p, t, b, d)| Step::Announce(p, t, b, d)),
        4 => (0u64..4).prop_map(Step::Request),
        2 => (0u64..4, 0u8..6).prop_map(|(p, t)| Step::Answer(p, t)),
        1 => (0u8..6).prop_map(Step::Forget),
        1 => (0u64..4).prop_map(Step::Disconnect),
        2 => (1i64..40).prop_map(Step::Wait),
    ]
}

proptest! {
    /// At no time are two peers asked for one transaction, and all indexes agree.
    #[test]
    fn indexes_agree_and_one_peer_is_asked_at_a_time(steps in prop::collection::vec(step(), 1..200)) {
        let mut tracker = tracker();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Announce(peer, n, preferred, delay) => {
                    tracker.announced(PeerId(peer), tx(n), preferred, now + delay * SECOND);
                }
                Step::Request(peer) => {
                    for id in tracker.requestable(PeerId(peer), now).0 {
                        let asked = tracker.of(&id.hash()).any(|(_, one)| one.state == State::Requested);
                        prop_assert!(!asked);
                        tracker.requested(PeerId(peer), &id.hash(), now + 60 * SECOND);
                    }
                }
                Step::Answer(peer, n) => tracker.answered(PeerId(peer), &tx(n).hash()),
                Step::Forget(n) => tracker.forget(&tx(n).hash()),
                Step::Disconnect(peer) => tracker.disconnected(PeerId(peer)),
                Step::Wait(seconds) => now += seconds * SECOND,
            }
            tracker.check();
        }
    }
}
