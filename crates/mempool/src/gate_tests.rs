use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use ironpeer_primitives::PeerId;

use super::{Full, Gate, Load, Permit, Source};
use crate::limits::{
    MAX_ADMISSION_BYTES, MAX_ADMISSIONS, MAX_SOURCE_ADMISSION_BYTES, MAX_SOURCE_ADMISSIONS,
    MAX_SOURCE_WAITING, MAX_WAITING,
};

type Entering = Pin<Box<dyn Future<Output = Result<Permit, Full>>>>;

fn enter(gate: &Gate, source: Source, bytes: usize) -> Entering {
    let gate = gate.clone();
    Box::pin(async move { gate.enter(source, bytes).await })
}

/// What can be said without waiting.
fn poll(entering: &mut Entering) -> Option<Result<Permit, Full>> {
    match entering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

fn at_once(gate: &Gate, source: Source, bytes: usize) -> Permit {
    let mut entering = pin!(gate.enter(source, bytes));
    match entering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(permit)) => permit,
        _ => panic!("no room for {source:?}"),
    }
}

fn peer(number: u64) -> Source {
    Some(PeerId(number))
}

#[test]
fn who_fills_its_share_delays_nobody_else() {
    let gate = Gate::default();
    let held: Vec<Permit> = (0..MAX_SOURCE_ADMISSIONS).map(|_| at_once(&gate, peer(1), 1_000)).collect();
    let mut more = enter(&gate, peer(1), 1_000);
    assert!(poll(&mut more).is_none());
    // Bytes are a share as well.
    let large = at_once(&gate, peer(2), MAX_SOURCE_ADMISSION_BYTES - 10);
    let mut other = enter(&gate, peer(2), 11);
    assert!(poll(&mut other).is_none());
    let own = at_once(&gate, None, 1_000);
    drop(held);
    assert!(matches!(poll(&mut more), Some(Ok(_))));
    drop(large);
    assert!(matches!(poll(&mut other), Some(Ok(_))));
    drop((own, more, other));
    assert_eq!(gate.state.lock().all, Load::default());
    assert!(gate.state.lock().sources.is_empty());
}

#[test]
fn room_goes_to_the_source_with_the_least_under_way() {
    let gate = Gate::default();
    let mut held = Vec::new();
    let mut number = 0;
    while held.len() + 1 < MAX_ADMISSIONS {
        number += 1;
        let left = MAX_ADMISSIONS - 1 - held.len();
        held.extend((0..MAX_SOURCE_ADMISSIONS.min(left)).map(|_| at_once(&gate, peer(number), 10)));
    }
    let last = at_once(&gate, peer(1_000), 10);
    // The one who came first has more under way than the one who has nothing.
    let mut greedy = enter(&gate, peer(1_000), 10);
    let mut modest = enter(&gate, peer(2_000), 10);
    assert!(poll(&mut greedy).is_none() && poll(&mut modest).is_none());
    held.pop();
    let Some(Ok(permit)) = poll(&mut modest) else { panic!("the modest one waits") };
    assert!(poll(&mut greedy).is_none());
    // Its room goes on.
    drop((permit, last));
    assert!(matches!(poll(&mut greedy), Some(Ok(_))));
}

#[test]
fn all_together_take_no_more_than_the_whole() {
    let gate = Gate::default();
    let sources = (MAX_ADMISSION_BYTES / MAX_SOURCE_ADMISSION_BYTES) as u64;
    let mut held: Vec<Permit> =
        (0..sources).map(|number| at_once(&gate, peer(number), MAX_SOURCE_ADMISSION_BYTES)).collect();
    let mut small = enter(&gate, None, 1);
    assert!(poll(&mut small).is_none());
    held.pop();
    assert!(matches!(poll(&mut small), Some(Ok(_))));
    // What is larger than a share goes alone.
    drop((held, small));
    let whole = at_once(&gate, peer(7), MAX_ADMISSION_BYTES * 2);
    let mut next = enter(&gate, peer(8), 1);
    assert!(poll(&mut next).is_none());
    drop(whole);
    assert!(matches!(poll(&mut next), Some(Ok(_))));
}

#[test]
fn small_ones_do_not_keep_a_large_one_waiting() {
    let gate = Gate::default();
    let sources = (MAX_ADMISSION_BYTES / MAX_SOURCE_ADMISSION_BYTES) as u64;
    let mut held: Vec<Permit> =
        (0..sources).map(|number| at_once(&gate, peer(number), MAX_SOURCE_ADMISSION_BYTES)).collect();
    let mut large = enter(&gate, peer(50), MAX_SOURCE_ADMISSION_BYTES);
    assert!(poll(&mut large).is_none());
    held.pop();
    let Some(Ok(permit)) = poll(&mut large) else { panic!("the large one waits") };
    held.push(permit);
    // Half of its room is free: small ones wait behind the next large one all the same.
    let mut large = enter(&gate, peer(60), MAX_SOURCE_ADMISSION_BYTES);
    held.pop();
    held.push(at_once(&gate, peer(61), 1));
    assert!(poll(&mut large).is_none());
    let mut small = enter(&gate, peer(70), 1);
    assert!(poll(&mut small).is_none());
    held.pop();
    let Some(Ok(permit)) = poll(&mut large) else { panic!("the large one waits") };
    assert!(poll(&mut small).is_none());
    drop(permit);
    assert!(matches!(poll(&mut small), Some(Ok(_))));
}

#[test]
fn who_gives_up_leaves_no_trace() {
    let gate = Gate::default();
    let whole = at_once(&gate, None, MAX_ADMISSION_BYTES);
    let mut gone = enter(&gate, peer(1), 1);
    let mut granted_but_gone = enter(&gate, peer(2), 1);
    assert!(poll(&mut gone).is_none() && poll(&mut granted_but_gone).is_none());
    drop(gone);
    drop(whole);
    // The second was let in, and is dropped with its permit unread.
    drop(granted_but_gone);
    assert_eq!(gate.state.lock().all, Load::default());
    assert!(gate.state.lock().waiting.is_empty());
}

#[test]
fn the_queue_is_bounded_for_each_and_for_all() {
    let gate = Gate::default();
    let _whole = at_once(&gate, None, MAX_ADMISSION_BYTES);
    let mut waiting = Vec::new();
    let mut source = 0;
    'all: loop {
        source += 1;
        for place in 0..=MAX_SOURCE_WAITING {
            let mut entering = enter(&gate, peer(source), 1);
            match poll(&mut entering) {
                None => waiting.push(entering),
                Some(Err(Full)) if waiting.len() == MAX_WAITING => break 'all,
                Some(Err(Full)) => assert_eq!(place, MAX_SOURCE_WAITING),
                Some(Ok(_)) => panic!("there was no room"),
            }
        }
    }
    assert_eq!(gate.state.lock().waiting.len(), MAX_WAITING);
}
