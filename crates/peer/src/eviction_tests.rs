use super::*;

fn candidates(n: u64) -> Vec<Candidate> {
    let one = |id| Candidate {
        id: PeerId(id),
        connected_at: i64::try_from(id).unwrap(),
        min_ping: Duration::from_millis(1_000 - id),
        last_block: 0,
        last_tx: 0,
        wanted_services: true,
        relays_txs: true,
        has_filter: false,
        group: id,
        prefer_evict: false,
        local: false,
        network: Network::Ipv4,
    };
    (0..n).map(one).collect()
}

#[test]
fn few_peers_are_all_protected() {
    assert_eq!(select(Vec::new()), None);
    // 4 by group, 8 by ping, 4 by transactions, 4 by blocks.
    assert_eq!(select(candidates(20)), None);
    assert!(select(candidates(60)).is_some());
}

/// Each protected property alone keeps a peer, however bad it is otherwise.
#[test]
fn each_property_protects() {
    let protects = |change: fn(&mut Candidate)| {
        let mut all = candidates(60);
        for candidate in &mut all {
            candidate.group = 7;
        }
        let youngest = all.last_mut().unwrap();
        youngest.min_ping = Duration::from_secs(5);
        let id = youngest.id;
        change(youngest);
        select(all) != Some(id)
    };
    assert!(!protects(|_| {}), "the youngest goes");
    assert!(protects(|c| c.group = 1_000));
    assert!(protects(|c| c.min_ping = Duration::ZERO));
    assert!(protects(|c| c.last_tx = 5));
    assert!(protects(|c| c.last_block = 5));
    assert!(protects(|c| c.connected_at = -1));
}

#[test]
fn the_largest_group_loses_its_youngest() {
    let mut all = candidates(80);
    for candidate in all.iter_mut().filter(|c| c.id.0 >= 60) {
        candidate.group = 500;
        candidate.min_ping = Duration::from_secs(9);
    }
    let gone = select(all).unwrap();
    assert_eq!(gone, PeerId(79));
}

#[test]
fn discouraged_peers_go_first() {
    let mut all = candidates(80);
    for candidate in all.iter_mut().filter(|c| c.id.0 >= 40) {
        candidate.group = 500;
        candidate.min_ping = Duration::from_secs(9);
    }
    if let Some(bad) = all.iter_mut().find(|c| c.id.0 == 70) {
        bad.prefer_evict = true;
    }
    assert_eq!(select(all), Some(PeerId(70)));
}
