//! Networks of whole nodes on one thread: the protocol machine, the chain and the mempool of each
//! are the real ones, without the shells around them. Messages go through the wire format, take
//! time and are lost; connections break; nodes are killed and come back; the network falls apart
//! and comes together; some peers stall and some lie. Everything comes from a seed; a failing one is
//! named by the panic and replayed with `IRONPEER_SIM_SEED=7`; `IRONPEER_SIM_SEED=100-200` runs more of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod faults;
mod net;
mod node;
mod wallet;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use bitcoin::Txid;
use ironpeer_sync::Permissions;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::faults::Lie;
use crate::net::{Net, Role, SECOND};

/// Blocks' work that a chain must have to be worth following; the first node's has twice that.
const WORTHY_BLOCKS: u32 = 50;

/// A line of the honest nodes, so that they can always reach each other, and more edges at
/// random; the others hang on at random.
fn edges(roles: &[Role], rng: &mut impl Rng) -> Vec<[usize; 2]> {
    let mut honest: Vec<usize> = (0..roles.len()).filter(|n| roles[*n] == Role::Honest).collect();
    honest.shuffle(rng);
    let mut edges: BTreeSet<[usize; 2]> = BTreeSet::new();
    for pair in honest.windows(2) {
        edges.insert([pair[0], pair[1]]);
    }
    for n in 0..roles.len() {
        for _ in 0..2 {
            let other = rng.gen_range(0..roles.len());
            if other != n && !edges.contains(&[other, n]) {
                edges.insert([n, other]);
            }
        }
    }
    edges.into_iter().collect()
}

/// Sixty rounds of trouble, from nothing to many branches, then peace; every node must come out
/// with the same chain, coins and mempool. Returns a digest of everything said, and how many lies
/// were told.
fn simulate(seed: u64) -> ([u8; 32], usize) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x51u64);
    // Mostly small networks, now and then a large one.
    let size = if seed.is_multiple_of(8) { rng.gen_range(20..=50) } else { rng.gen_range(2..=12) };
    let roles: Vec<Role> = (0..size)
        .map(|n| match rng.gen_range(0..8) {
            0 if n > 1 => Role::Stalls,
            1 if n > 1 => Role::Lies,
            _ => Role::Honest,
        })
        .collect();
    let edges = edges(&roles, &mut rng);
    let mut net = Net::new(seed, roles, edges, WORTHY_BLOCKS);
    let honest = net.honest();
    let liars = net.all_of(Role::Lies);
    // One node has a chain already, with coins to spend; the others download it.
    net.fund(honest[0]);
    net.loss = *[0.0, 0.0, 0.01, 0.05].choose(&mut rng).unwrap();
    net.resets = *[0.0, 0.0, 0.01, 0.05].choose(&mut rng).unwrap();
    for _ in 0..60 {
        let someone = *honest.choose(&mut rng).unwrap();
        match rng.gen_range(0..13) {
            0..3 => net.mine(someone),
            3..6 => {
                net.pay(someone);
            }
            6 => {
                let other = *honest.choose(&mut rng).unwrap();
                net.pay_twice(someone, other);
            }
            7 => {
                let split = rng.gen_range(0..size);
                net.cut = (0..size).filter(|_| rng.gen_range(0..size) < split).collect();
            }
            8 => net.cut.clear(),
            9 => {
                if let Some(liar) = liars.choose(&mut rng) {
                    let lie = *Lie::ALL.choose(&mut rng).unwrap();
                    net.tell(*liar, lie);
                }
            }
            10 => net.restart(someone),
            _ => {}
        }
        let seconds = rng.gen_range(1..8);
        net.run(seconds);
    }
    // Everything heals, and a new block tells all of the best chain.
    net.loss = 0.0;
    net.resets = 0.0;
    net.cut.clear();
    net.run(10);
    net.mine(net.best_of(&honest));
    net.settle(3_600, "after healing");
    // What got stuck while the network was broken is mined by whoever has it.
    net.mine_all_mempools();
    // What is paid now reaches everybody.
    let payers: Vec<usize> = (0..10).map(|_| *honest.choose(&mut rng).unwrap()).collect();
    let paid = net.pay_everybody(&payers, 1_200);
    net.assert_mempools(&paid);
    net.mine(*honest.choose(&mut rng).unwrap());
    net.settle(3_600, "last block");
    net.assert_mempools(&BTreeSet::new());
    net.assert_one_coin_set();
    (net.digest(), net.lies_told())
}

/// These seeds, or the one or those from one to another (`7` or `100-200`) that are asked for.
fn run_seeds(seeds: RangeInclusive<u64>) {
    let seeds = std::env::var("IRONPEER_SIM_SEED").map_or(seeds, |asked| {
        let (first, last) = asked.split_once('-').unwrap_or((&asked, &asked));
        first.parse().expect("a number")..=last.parse().expect("a number")
    });
    for seed in seeds {
        let result = std::panic::catch_unwind(|| simulate(seed));
        assert!(result.is_ok(), "replay with IRONPEER_SIM_SEED={seed}");
    }
}

#[test]
fn networks_come_to_one_chain_one_coin_set_and_one_mempool_1() {
    run_seeds(0..=7);
}

#[test]
fn networks_come_to_one_chain_one_coin_set_and_one_mempool_2() {
    run_seeds(25..=32);
}

#[test]
fn a_seed_replays_message_by_message() {
    let mut digests = BTreeSet::new();
    let mut lies = 0;
    for seed in 33..37 {
        let (digest, told) = simulate(seed);
        assert_eq!(simulate(seed).0, digest, "seed {seed}");
        assert!(digests.insert(digest), "another seed, another run");
        lies += told;
    }
    assert!(lies > 0, "nobody lied");
}

/// Neither a network without faults nor one of two loses or holds up anything.
#[test]
fn without_faults_every_mempool_is_the_same() {
    for size in [2, 5, 20] {
        let mut rng = ChaCha12Rng::seed_from_u64(size as u64);
        let roles = vec![Role::Honest; size];
        let edges = edges(&roles, &mut rng);
        let mut net = Net::new(1, roles, edges, WORTHY_BLOCKS);
        net.fund(0);
        net.run(10);
        net.mine(0);
        net.settle(600, "first blocks");
        let payers: Vec<usize> = (0..100).map(|_| rng.gen_range(0..size)).collect();
        let paid = net.pay_everybody(&payers, 120);
        assert_eq!(paid.len(), 100);
        net.assert_mempools(&paid);
    }
}

/// A block goes down a line of nodes in one exchange of messages a hop.
#[test]
fn a_block_crosses_a_line_of_ten_within_seconds() {
    let mut net = Net::new(4, vec![Role::Honest; 10], (0..9).map(|n| [n, n + 1]).collect(), 1);
    net.run(10);
    net.mine(0);
    net.settle(60, "first block");
    net.run(60);
    net.mine(0);
    let begun = net.now();
    net.settle(20, "second block");
    assert!(net.now() - begun < 15 * SECOND, "{} s", (net.now() - begun) / SECOND);
}

/// btcd's endless waits, "sync_race": whichever one message is lost, the chain is complete soon.
#[test]
fn btcd_getdata_infinite_wait_any_one_lost_message_is_survived() {
    const BLOCKS: usize = 20;
    let mut messages = 0;
    for lost in 0..u64::MAX {
        // Two servers, so that there is another to turn to.
        let mut net = Net::new(9, vec![Role::Honest; 3], vec![[2, 0], [2, 1], [0, 1]], 1);
        for _ in 0..BLOCKS {
            net.pass(60 * SECOND);
            net.mine(0);
        }
        net.pass(2 * 24 * 60 * 60 * SECOND);
        net.lose = Some(lost);
        net.tick = 4 * SECOND;
        net.settle(2 * 3_600, &format!("message {lost} lost"));
        if net.sequence <= lost {
            break;
        }
        messages = lost;
    }
    assert!(messages > 2 * BLOCKS as u64, "{messages}");
}

/// Pays at both ends of a line of five and says how many milliseconds later every node has all
/// of it.
fn line_relay_time(seed: u64, payments: usize, permissions: Permissions) -> i64 {
    let line = (0..4).map(|n| [n, n + 1]).collect();
    let mut net = Net::new(seed, vec![Role::Honest; 5], line, 1);
    net.permissions = permissions;
    net.delays = 200..1_000;
    net.tick = SECOND / 10;
    net.fund(0);
    net.run(10);
    net.mine(0);
    net.settle(600, "first blocks");
    net.run(60);
    let begun = net.now();
    let paid: Vec<Option<Txid>> = (0..payments).map(|n| net.pay(if n % 2 == 0 { 0 } else { 4 })).collect();
    assert!(paid.iter().all(Option::is_some));
    while net.nodes.iter().any(|node| node.txids().len() < payments) {
        assert!(net.now() < begun + 600 * SECOND, "payments do not spread");
        net.step();
    }
    (net.now() - begun) / 1_000
}

/// With the permission that Core's tests give all nodes (`noban,in,out`) nothing is held back:
/// what is paid is everywhere as soon as messages can carry it.
#[test]
fn transactions_cross_a_line_of_trusting_nodes_at_once() {
    let no_ban = Permissions { no_ban: true, ..Permissions::default() };
    for (payments, most) in [(1, 100), (50, 100), (150, 600)] {
        let took = line_relay_time(1, payments, no_ban);
        assert!(took <= most, "{payments}: {took} ms");
    }
}

/// Without it each of the four hops holds them back by 2 seconds outwards or 5 inwards, and 70
/// at a time, as Core does, so that nobody sees where a payment began.
#[test]
fn transactions_trickle_down_a_line_of_strangers() {
    let mut times: Vec<i64> =
        (0..5).map(|seed| line_relay_time(seed, 150, Permissions::default()) / 1_000).collect();
    times.sort_unstable();
    assert!((10..60).contains(&times[2]), "{times:?} s");
}
