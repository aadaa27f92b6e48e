use std::sync::Arc;

use bitcoin::Network;
use bitcoin::constants::genesis_block;
use ironpeer_primitives::{HeaderInfo, Height};

use super::*;
use crate::tree::{GENESIS, HeaderTree};

fn tip() -> HeaderInfo {
    HeaderTree::new(genesis_block(Network::Regtest).header).info(GENESIS)
}

fn event(seq: u64) -> Arc<ChainEvent> {
    Arc::new(ChainEvent { seq, disconnected: Vec::new(), connected: Vec::new() })
}

fn seq(followed: Option<Followed>) -> Option<u64> {
    match followed {
        Some(Followed::Event(event)) => Some(event.seq),
        _ => None,
    }
}

#[test]
fn a_follower_gets_every_event_in_order() {
    let ring = Arc::new(EventRing::new(100, tip()));
    let (mut follower, _) = ChainFollower::new(Arc::clone(&ring));
    assert!(follower.try_next().is_none());
    for n in 1..=3 {
        ring.push(event(n), 10, tip());
    }
    assert_eq!((1..=3).map(|_| seq(follower.try_next())).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
    assert!(follower.try_next().is_none());
    let (mut late, _) = ChainFollower::new(Arc::clone(&ring));
    assert!(late.try_next().is_none(), "what was before it does not concern a new follower");
    ring.push(event(4), 10, tip());
    assert_eq!(seq(late.try_next()), Some(4));
}

#[test]
fn a_follower_that_falls_out_is_told_where_to_go() {
    let ring = Arc::new(EventRing::new(35, tip()));
    let (mut slow, _) = ChainFollower::new(Arc::clone(&ring));
    let (mut fast, _) = ChainFollower::new(Arc::clone(&ring));
    for n in 1..=5 {
        let there = HeaderInfo { height: Height(n as u32), ..tip() };
        ring.push(event(n), 10, there);
        assert_eq!(seq(fast.try_next()), Some(n), "who keeps up misses nothing");
    }
    match slow.try_next() {
        Some(Followed::Lagged { seq: 5, tip }) => assert_eq!(tip.height, Height(5)),
        other => panic!("{other:?}"),
    }
    ring.push(event(6), 10, tip());
    assert_eq!(seq(slow.try_next()), Some(6));
}

#[test]
fn what_all_have_taken_takes_no_memory() {
    let ring = Arc::new(EventRing::new(100, tip()));
    ring.push(event(1), 10, tip());
    assert_eq!(ring.held.lock().bytes, 0, "nobody follows");
    let (mut slow, _) = ChainFollower::new(Arc::clone(&ring));
    let (mut fast, _) = ChainFollower::new(Arc::clone(&ring));
    for n in 2..=4 {
        ring.push(event(n), 10, tip());
        assert_eq!(seq(fast.try_next()), Some(n));
    }
    assert_eq!(ring.held.lock().bytes, 30);
    assert_eq!(seq(slow.try_next()), Some(2));
    assert_eq!(ring.held.lock().bytes, 20);
    drop(slow);
    assert_eq!(ring.held.lock().bytes, 0);
    ring.push(event(5), 10, tip());
    assert_eq!(seq(fast.try_next()), Some(5));
}

#[test]
fn one_event_larger_than_the_ring_is_still_given() {
    let ring = Arc::new(EventRing::new(35, tip()));
    let (mut follower, _) = ChainFollower::new(Arc::clone(&ring));
    ring.push(event(1), 1000, tip());
    assert_eq!(seq(follower.try_next()), Some(1));
}

#[test]
fn waiting_followers_are_woken_and_told_of_the_end() {
    let ring = Arc::new(EventRing::new(35, tip()));
    let (mut blocking, _) = ChainFollower::new(Arc::clone(&ring));
    let (mut waiting, _) = ChainFollower::new(Arc::clone(&ring));
    let blocked = std::thread::spawn(move || {
        let first = blocking.next_blocking();
        (first, blocking.next_blocking())
    });
    let awaited = std::thread::spawn(move || {
        crate::handle::block_on(async { (waiting.next().await, waiting.next().await) })
    });
    ring.push(event(1), 10, tip());
    ring.close();
    for thread in [blocked, awaited] {
        let (first, second) = thread.join().unwrap();
        assert_eq!(seq(Some(first)), Some(1));
        assert!(matches!(second, Followed::Closed));
    }
}
