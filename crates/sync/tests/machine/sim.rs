//! Networks of machines: messages take time and are lost, connections break, the network falls
//! apart and comes together, some peers stall and some lie. Everything comes from a seed; a
//! failing one is named by the panic and replayed with `IRONPEER_SIM_SEED`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::p2p::ServiceFlags;
use bitcoin::{Amount, BlockHash, Wtxid};
use ironpeer_primitives::{ChainRead, PeerId};
use ironpeer_sync::{Connection, ConnectionKind, Event, Permissions};
use ironpeer_wire::{Inventory, Message};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::model::{coin, mine_at, tx};
use crate::node::{Node, service};

const SECOND: i64 = 1_000_000;
/// Microseconds between ticks, unless a test needs no better.
const TICK: i64 = SECOND / 2;

/// What a node does to its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Honest,
    /// Announces and promises, and never delivers a block or transaction.
    Stalls,
    /// Delivers other blocks, headers and announcements than it has.
    Lies,
}

/// A connection wanted between two nodes; the first opens it.
struct Link {
    ends: [usize; 2],
    /// Its number at either end while it is up.
    peers: Option<[PeerId; 2]>,
    /// A message was lost without which it cannot go on.
    broken: bool,
    /// Not opened again before.
    retry_at: i64,
    /// One end wants no more of the other.
    given_up: bool,
    /// The last message under way in each direction arrives then.
    busy_until: [i64; 2],
}

/// A message under way: its connection, that connection's opening, and who sent it.
type Delivery = (usize, [PeerId; 2], usize, Message);

/// Whether a message is said once on a connection, so that without it all that follows means
/// something else. TCP never loses one in the middle of others: the connection breaks.
fn is_said_once(message: &Message) -> bool {
    matches!(
        message,
        Message::Version(_)
            | Message::Verack
            | Message::WtxidRelay
            | Message::SendAddrV2
            | Message::SendHeaders
            | Message::SendCmpct(_)
            | Message::FeeFilter(_)
    )
}

struct Net {
    nodes: Vec<Node>,
    roles: Vec<Role>,
    links: Vec<Link>,
    /// Messages under way by time of arrival.
    under_way: BTreeMap<(i64, u64), Delivery>,
    sequence: u64,
    now: i64,
    tick: i64,
    rng: ChaCha12Rng,
    /// Share of messages lost.
    loss: f64,
    /// Exactly this message is lost.
    lose: Option<u64>,
    /// Chance a second that a connection breaks.
    resets: f64,
    /// Nodes on one side of a cut.
    cut: BTreeSet<usize>,
    /// Microseconds a message is under way.
    delays: std::ops::Range<i64>,
    /// What the nodes allow each other.
    permissions: Permissions,
    coins: u32,
    blocks: u64,
}

impl Net {
    fn new(seed: u64, roles: Vec<Role>, edges: Vec<[usize; 2]>) -> Self {
        let nodes: Vec<Node> = (0..roles.len())
            .map(|n| {
                let mut node = Node::new(seed.wrapping_mul(1_000).wrapping_add(n as u64));
                node.latches = true;
                node
            })
            .collect();
        let now = nodes[0].micros + 30 * 24 * 60 * 60 * SECOND;
        let link = |ends| Link {
            ends,
            peers: None,
            broken: false,
            retry_at: 0,
            given_up: false,
            busy_until: [0; 2],
        };
        Self {
            nodes,
            roles,
            links: edges.into_iter().map(link).collect(),
            under_way: BTreeMap::new(),
            sequence: 0,
            now,
            tick: TICK,
            rng: ChaCha12Rng::seed_from_u64(seed),
            loss: 0.0,
            lose: None,
            resets: 0.0,
            cut: BTreeSet::new(),
            delays: 5_000..400_000,
            permissions: Permissions::default(),
            coins: 0,
            blocks: 0,
        }
    }

    fn honest(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.roles[*n] == Role::Honest).collect()
    }

    fn is_cut(&self, link: usize) -> bool {
        let [a, b] = self.links[link].ends;
        self.cut.contains(&a) != self.cut.contains(&b)
    }

    fn event(&mut self, n: usize, event: Event) {
        self.nodes[n].micros = self.now;
        self.nodes[n].event(event);
    }

    fn open(&mut self, link: usize) {
        let ends = self.links[link].ends;
        let sequence = self.sequence;
        self.sequence += 1;
        let peers = [PeerId(sequence * 2), PeerId(sequence * 2 + 1)];
        self.links[link].peers = Some(peers);
        self.links[link].busy_until = [self.now; 2];
        for end in [0, 1] {
            let kind = if end == 0 { ConnectionKind::OutboundFullRelay } else { ConnectionKind::Inbound };
            let other = ends[1 - end];
            let connection = Connection {
                kind,
                addr: service(other as u8),
                services: ServiceFlags::NONE,
                permissions: self.permissions,
                network_group: other as u64,
            };
            self.event(ends[end], Event::Connected { peer: peers[end], connection });
        }
        self.collect();
    }

    /// Takes a connection down at both ends.
    fn close(&mut self, link: usize) {
        let Some(peers) = self.links[link].peers.take() else { return };
        self.links[link].broken = false;
        self.links[link].retry_at = self.now + self.rng.gen_range(1..6) * SECOND;
        for (end, peer) in peers.into_iter().enumerate() {
            let n = self.links[link].ends[end];
            self.event(n, Event::Disconnected { peer });
        }
        self.collect();
    }

    /// Puts what the nodes said on its way, and carries out whom they dropped.
    fn collect(&mut self) {
        let mut closed = BTreeSet::new();
        for n in 0..self.nodes.len() {
            for peer in std::mem::take(&mut self.nodes[n].disconnected) {
                let discouraged = self.nodes[n].discouraged.contains(&peer);
                let found = self.links.iter().position(|link| {
                    link.peers.is_some_and(|peers| {
                        link.ends.iter().zip(peers).any(|(end, id)| *end == n && id == peer)
                    })
                });
                if let Some(link) = found {
                    self.links[link].given_up |= discouraged;
                    closed.insert(link);
                }
            }
            for (peer, message) in std::mem::take(&mut self.nodes[n].sent) {
                let found = self.links.iter().enumerate().find_map(|(index, link)| {
                    let peers = link.peers?;
                    let end = (0..2).find(|end| link.ends[*end] == n && peers[*end] == peer)?;
                    Some((index, peers, end))
                });
                let Some((link, peers, from)) = found else { continue };
                for message in self.twist(n, message) {
                    self.put_under_way(link, peers, from, message);
                }
            }
        }
        for link in closed {
            self.close(link);
        }
    }

    fn put_under_way(&mut self, link: usize, peers: [PeerId; 2], from: usize, message: Message) {
        let number = self.sequence;
        self.sequence += 1;
        if self.lose == Some(number) {
            return;
        }
        if self.rng.gen_bool(self.loss) {
            self.links[link].broken |= is_said_once(&message);
            return;
        }
        // One after the other on each connection.
        let delay = self.rng.gen_range(self.delays.clone());
        let arrives = (self.now + delay).max(self.links[link].busy_until[from] + 1);
        self.links[link].busy_until[from] = arrives;
        self.under_way.insert((arrives, number), (link, peers, from, message));
    }

    /// What really leaves a node that stalls or lies.
    fn twist(&mut self, n: usize, message: Message) -> Vec<Message> {
        match (self.roles[n], message) {
            (Role::Stalls, Message::Block(_) | Message::Tx(_)) => vec![],
            (Role::Lies, Message::Block(block)) if self.rng.gen_bool(0.7) => {
                let mut block = (*block).clone();
                block.txdata[0].output[0].value = Amount::from_sat(self.rng.gen_range(1..1_000));
                vec![Message::Block(Arc::new(block))]
            }
            (Role::Lies, Message::Headers(mut headers)) if headers.len() > 1 && self.rng.gen_bool(0.1) => {
                headers.swap_remove(0);
                vec![Message::Headers(headers)]
            }
            (Role::Lies, Message::Inv(mut items)) => {
                let fake: [u8; 32] = self.rng.r#gen();
                items.push(Inventory::wtx(<Wtxid as bitcoin::hashes::Hash>::from_byte_array(fake)));
                items.push(Inventory::block(<BlockHash as bitcoin::hashes::Hash>::from_byte_array(fake)));
                vec![Message::Inv(items)]
            }
            (_, message) => vec![message],
        }
    }

    fn step(&mut self) {
        let until = self.now + self.tick;
        while let Some((&(time, _), _)) = self.under_way.first_key_value() {
            if time > until {
                break;
            }
            let Some((_, (link, peers, from, message))) = self.under_way.pop_first() else { break };
            self.now = self.now.max(time);
            if self.links[link].peers == Some(peers) {
                let to = 1 - from;
                self.event(self.links[link].ends[to], Event::Message { peer: peers[to], message });
                self.collect();
            }
        }
        self.now = until;
        for link in 0..self.links.len() {
            let state = &self.links[link];
            if state.peers.is_some() {
                let ends = self.is_cut(link) || state.broken;
                if ends || self.rng.gen_bool(self.resets * self.tick as f64 / SECOND as f64) {
                    self.close(link);
                }
            } else if !state.given_up && state.retry_at <= self.now && !self.is_cut(link) {
                self.open(link);
            }
        }
        for n in 0..self.nodes.len() {
            self.event(n, Event::Tick);
        }
        self.collect();
    }

    fn run(&mut self, seconds: i64) {
        let end = self.now + seconds * SECOND;
        while self.now < end {
            self.step();
        }
    }

    /// A node finds a block with all of its mempool.
    fn mine(&mut self, n: usize) {
        self.blocks += 1;
        let node = &mut self.nodes[n];
        node.micros = self.now;
        let tip = node.tree.tip();
        let now = self.now / SECOND;
        let txs: Vec<_> = {
            use ironpeer_primitives::MempoolRead;
            node.pool.all().into_iter().map(|entry| entry.tx).collect()
        };
        let time = u32::try_from(now).unwrap().max(tip.header.time + 1);
        let params = Arc::clone(&node.tree.params);
        let block = mine_at(&params, &tip.header, tip.height.0 + 1, self.blocks, &txs, time);
        let (outcome, change) = node.tree.accept_block(Arc::new(block), true, true, now);
        outcome.result.unwrap();
        node.tree.initial_download = false;
        if let Some(change) = change {
            node.tip_changed(change);
        }
        self.collect();
    }

    fn pay(&mut self, n: usize) -> Wtxid {
        self.coins += 1;
        let payment = tx(&[coin(self.coins)], self.coins);
        self.nodes[n].micros = self.now;
        self.nodes[n].submit_local(&payment);
        self.collect();
        payment.compute_wtxid()
    }

    fn tips(&self) -> BTreeSet<BlockHash> {
        self.honest().into_iter().map(|n| self.nodes[n].tree.tip().hash).collect()
    }

    /// Runs until the honest nodes have one tip.
    fn settle(&mut self, most_seconds: i64, what: &str) {
        let end = self.now + most_seconds * SECOND;
        while self.tips().len() > 1 {
            let heights: Vec<u32> =
                self.honest().iter().map(|n| self.nodes[*n].tree.tip().height.0).collect();
            assert!(self.now < end, "{what}: no common tip after {most_seconds} s: {heights:?}");
            self.step();
        }
    }
}

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

fn simulate(seed: u64) {
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
    let mut net = Net::new(seed, roles, edges);
    let honest = net.honest();
    // One node has a chain already; the others download it.
    for _ in 0..rng.gen_range(5..60) {
        net.now += 60 * SECOND;
        net.mine(honest[0]);
    }
    net.loss = *[0.0, 0.0, 0.01, 0.05].choose(&mut rng).unwrap();
    net.resets = *[0.0, 0.0, 0.01, 0.05].choose(&mut rng).unwrap();
    for _ in 0..60 {
        match rng.gen_range(0..10) {
            0..3 => net.mine(*honest.choose(&mut rng).unwrap()),
            3..6 => {
                net.pay(*honest.choose(&mut rng).unwrap());
            }
            6 => {
                let split = rng.gen_range(0..size);
                net.cut = (0..size).filter(|_| rng.gen_range(0..size) < split).collect();
            }
            7 => net.cut.clear(),
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
    let best = honest.iter().max_by_key(|n| net.nodes[**n].tree.tip().chainwork).unwrap();
    net.mine(*best);
    net.settle(3_600, "after healing");
    // What is paid now reaches everybody, and the mempools are one when it was mined.
    let mut paid = BTreeSet::new();
    for _ in 0..10 {
        paid.insert(net.pay(*honest.choose(&mut rng).unwrap()));
        net.run(1);
    }
    let end = net.now + 1_200 * SECOND;
    while honest.iter().any(|n| !paid.iter().all(|wtxid| net.nodes[*n].pool.wtxids().contains(wtxid))) {
        let missing: Vec<(usize, usize)> = honest
            .iter()
            .map(|n| (*n, paid.iter().filter(|id| !net.nodes[*n].pool.wtxids().contains(id)).count()))
            .collect();
        assert!(net.now < end, "payments do not spread: {missing:?}");
        net.step();
    }
    // What got stuck while the network was broken is mined by whoever has it.
    for n in &honest {
        if net.nodes[*n].pool.len() > 0 {
            net.mine(*n);
            net.settle(3_600, "after emptying a mempool");
        }
    }
    net.run(5);
    for n in &honest {
        assert_eq!(net.nodes[*n].pool.len(), 0, "node {n} still holds transactions");
    }
}

fn run_seeds(seeds: std::ops::Range<u64>) {
    let seeds = match std::env::var("IRONPEER_SIM_SEED").map(|seed| seed.parse()) {
        Ok(Ok(seed)) => seed..seed + 1,
        _ => seeds,
    };
    for seed in seeds {
        let result = std::panic::catch_unwind(|| simulate(seed));
        assert!(result.is_ok(), "replay with IRONPEER_SIM_SEED={seed}");
    }
}

#[test]
fn networks_come_to_one_tip_and_one_mempool_1() {
    run_seeds(0..6);
}

#[test]
fn networks_come_to_one_tip_and_one_mempool_2() {
    run_seeds(16..22);
}

/// btcd's endless waits, "sync_race": whichever one message is lost, the chain is complete soon.
#[test]
fn btcd_getdata_infinite_wait_any_one_lost_message_is_survived() {
    let mut messages = 0;
    for lost in 0..u64::MAX {
        // Two servers, so that there is another to turn to.
        let mut net = Net::new(9, vec![Role::Honest; 3], vec![[2, 0], [2, 1], [0, 1]]);
        for _ in 0..40 {
            net.now += 60 * SECOND;
            net.mine(0);
        }
        net.now += 2 * 24 * 60 * 60 * SECOND;
        net.lose = Some(lost);
        net.tick = 4 * SECOND;
        net.settle(2 * 3_600, &format!("message {lost} lost"));
        if net.sequence <= lost {
            break;
        }
        messages = lost;
    }
    assert!(messages > 40, "{messages}");
}

/// Neither a network without faults nor one of two loses or holds up anything.
#[test]
fn without_faults_every_mempool_is_the_same() {
    for size in [2, 5, 20] {
        let mut rng = ChaCha12Rng::seed_from_u64(size as u64);
        let roles = vec![Role::Honest; size];
        let edges = edges(&roles, &mut rng);
        let mut net = Net::new(1, roles, edges);
        net.run(10);
        net.mine(0);
        net.settle(120, "first block");
        for _ in 0..100 {
            let n = net.rng.gen_range(0..size);
            net.pay(n);
            net.run(1);
        }
        net.run(120);
        let first = net.nodes[0].pool.wtxids();
        assert_eq!(first.len(), 100);
        assert!(net.nodes.iter().all(|node| node.pool.wtxids() == first));
    }
}

/// A block goes down a line of nodes in one exchange of messages a hop.
#[test]
fn a_block_crosses_a_line_of_ten_within_seconds() {
    let mut net = Net::new(4, vec![Role::Honest; 10], (0..9).map(|n| [n, n + 1]).collect());
    net.run(10);
    net.mine(0);
    net.settle(60, "first block");
    net.run(60);
    net.mine(0);
    let begun = net.now;
    net.settle(20, "second block");
    assert!(net.now - begun < 15 * SECOND, "{} s", (net.now - begun) / SECOND);
}

/// Pays at both ends of a line of five and says how many milliseconds later every node has all
/// of it.
fn line_relay_time(seed: u64, payments: usize, permissions: Permissions) -> i64 {
    let mut net = Net::new(seed, vec![Role::Honest; 5], (0..4).map(|n| [n, n + 1]).collect());
    net.permissions = permissions;
    net.delays = 200..1_000;
    net.tick = SECOND / 10;
    net.run(1);
    net.mine(0);
    net.settle(20, "first block");
    net.run(60);
    let begun = net.now;
    for n in 0..payments {
        net.pay(if n % 2 == 0 { 0 } else { 4 });
    }
    while net.nodes.iter().any(|node| node.pool.len() < payments) {
        assert!(net.now < begun + 600 * SECOND, "payments do not spread");
        net.step();
    }
    (net.now - begun) / 1_000
}

/// With the permission that Core's tests give all nodes (`noban,in,out`) nothing is held back:
/// what is paid is everywhere as soon as messages can carry it.
#[test]
fn transactions_cross_a_line_of_trusting_nodes_at_once() {
    let no_ban = Permissions { no_ban: true, ..Permissions::default() };
    for (payments, most) in [(1, 100), (50, 100), (330, 600)] {
        let took = line_relay_time(1, payments, no_ban);
        assert!(took <= most, "{payments}: {took} ms");
    }
}

/// Without it each of the four hops holds them back by 2 seconds outwards or 5 inwards, and 70
/// at a time, as Core does, so that nobody sees where a payment began.
#[test]
fn transactions_trickle_down_a_line_of_strangers() {
    let mut times: Vec<i64> =
        (0..5).map(|seed| line_relay_time(seed, 330, Permissions::default()) / 1_000).collect();
    times.sort_unstable();
    assert!((20..60).contains(&times[2]), "{times:?} s");
}
