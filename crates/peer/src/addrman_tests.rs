use bitcoin::p2p::Magic;
use ironpeer_wire::Service;

use super::*;

const NOW: UnixTime = 1_700_000_000;

fn address(text: &str, time: UnixTime) -> PeerAddress {
    let socket: std::net::SocketAddr = text.parse().unwrap();
    PeerAddress {
        time: u32::try_from(time).unwrap(),
        services: ServiceFlags::NETWORK | ServiceFlags::WITNESS,
        service: Service::from(socket),
    }
}

fn source(text: &str) -> NetAddress {
    NetAddress::from_ip(text.parse().unwrap())
}

/// `-test=addrman`: the same address lies in the same place in every run.
#[test]
fn the_deterministic_key_gives_one_place() {
    let place = |text: &str| {
        let mut addrman = AddrMan::deterministic();
        let one = address(text, NOW);
        assert!(addrman.add(&[one], &one.service.address, 0, NOW));
        let (_, position) = addrman.table(false).remove(0);
        (position.bucket, position.position)
    };
    assert_eq!(place("1.2.3.4:8333"), place("1.2.3.4:8333"));
    assert_ne!(place("1.2.3.4:8333"), place("2.3.4.5:8333"));
}

#[test]
fn an_address_is_found_tried_and_kept() {
    let mut addrman = AddrMan::new([7; 32]);
    let one = address("250.1.1.1:8333", NOW);
    assert!(addrman.add(&[one], &source("252.2.2.2"), 0, NOW));
    assert!(!addrman.add(&[one], &source("252.2.2.2"), 0, NOW), "nothing new about it");
    assert_eq!(addrman.counts(None), AddressCounts { new: 1, tried: 0 });
    assert_eq!(addrman.select(false, &[], NOW).unwrap().0, one);

    assert!(addrman.good(&one.service, NOW + 1));
    assert!(!addrman.good(&one.service, NOW + 2), "it is tried already");
    assert_eq!(addrman.counts(Some(Network::Ipv4)), AddressCounts { new: 0, tried: 1 });
    assert_eq!(addrman.select(true, &[], NOW), None);
    assert_eq!(addrman.select(false, &[Network::Ipv6], NOW), None);
    assert_eq!(addrman.select(false, &[Network::Ipv4], NOW + 3).unwrap().0.service, one.service);
}

#[test]
fn unroutable_addresses_are_not_taken() {
    let mut addrman = AddrMan::new([7; 32]);
    assert!(!addrman.add(
        &[address("127.0.0.1:8333", NOW), address("10.0.0.1:8333", NOW)],
        &source("8.8.8.8"),
        0,
        NOW
    ));
    assert!(addrman.is_empty());
}

/// A penalty ages what others tell, but not what a node says of itself.
#[test]
fn gossip_is_older_than_it_says() {
    let mut addrman = AddrMan::new([7; 32]);
    let (told, own) = (address("250.1.1.1:8333", NOW), address("251.1.1.1:8333", NOW));
    addrman.add(&[told, own], &own.service.address, 7200, NOW);
    assert_eq!(i64::from(addrman.info(&told.service).unwrap().address.time), NOW - 7200);
    assert_eq!(i64::from(addrman.info(&own.service).unwrap().address.time), NOW);
}

/// Heilman et al. 2015: an attacker with few network groups floods the address manager. It
/// reaches at most 64 new buckets for each group of sources, whatever it sends.
#[test]
fn eclipse_flood_reaches_few_buckets() {
    let mut addrman = AddrMan::new([9; 32]);
    for group in 0..10u8 {
        for n in 0..6_553u32 {
            let [_, _, c, d] = n.to_be_bytes();
            let flood = address(&format!("{}.{}.{c}.{d}:8333", 100 + group, group), NOW);
            addrman.add(&[flood], &source("99.1.1.1"), 0, NOW);
        }
    }
    let buckets: std::collections::HashSet<u32> =
        addrman.table(false).into_iter().map(|(_, position)| position.bucket).collect();
    assert!(buckets.len() <= 64, "{} buckets", buckets.len());
    assert!(addrman.len() <= 64 * 64);
    // Every address in a table is counted once, and every count is in a table.
    assert_eq!(addrman.len(), addrman.counts(None).new);
}

/// CVE-2024-52919: numbers of entries are 64 bits wide and go on past 32.
#[test]
fn cve_2024_52919_entry_numbers_do_not_wrap() {
    let mut addrman = AddrMan::new([7; 32]);
    addrman.next_id = u64::from(u32::MAX) - 4;
    for n in 1..=10 {
        addrman.add(&[address(&format!("250.{n}.1.1:8333"), NOW)], &source(&format!("{n}.8.8.8")), 0, NOW);
    }
    assert_eq!(addrman.len(), 10);
    assert!(addrman.next_id > u64::from(u32::MAX));
}

/// A tried address is tested before a new one displaces it.
#[test]
fn a_tried_address_is_tested_before_it_goes() {
    let mut addrman = AddrMan::new([3; 32]);
    // Fill the tried table until one collides.
    let mut collided = None;
    'fill: for a in 1..=255u8 {
        for b in 0..=255u8 {
            let one = address(&format!("{}.{b}.1.1:8333", 11 + a % 80), NOW);
            if addrman.info(&one.service).is_some() {
                continue;
            }
            addrman.add(&[one], &source(&format!("{}.7.7.7", 11 + b % 80)), 0, NOW);
            if addrman.info(&one.service).is_some() && !addrman.good(&one.service, NOW) {
                collided = Some(one);
                break 'fill;
            }
        }
    }
    let waiting = collided.unwrap();
    let (old, _) = addrman.select_collision().unwrap();
    assert!(addrman.info(&old.service).unwrap().tried);
    assert!(!addrman.info(&waiting.service).unwrap().tried);

    // The old one worked lately: it stays, and the other waits no longer.
    addrman.resolve_collisions(NOW + 60);
    assert!(addrman.info(&old.service).unwrap().tried);
    assert_eq!(addrman.select_collision(), None);

    // Four hours later it collides again, the old one is tried and does not answer: it goes.
    let later = NOW + 5 * 60 * 60;
    assert!(!addrman.good(&waiting.service, later));
    addrman.attempt(&old.service, true, later);
    addrman.resolve_collisions(later + 30);
    assert!(addrman.info(&old.service).unwrap().tried, "it has a minute to answer");
    addrman.resolve_collisions(later + 61);
    assert!(addrman.info(&waiting.service).unwrap().tried);
    assert!(!addrman.info(&old.service).is_some_and(|info| info.tried));
}

#[test]
fn failures_count_once_between_successes() {
    let mut addrman = AddrMan::new([3; 32]);
    let (one, other) = (address("250.1.1.1:8333", NOW), address("251.1.1.1:8333", NOW));
    addrman.add(&[one], &source("8.8.8.8"), 0, NOW);
    addrman.add(&[other], &source("9.9.9.9"), 0, NOW);
    for n in 0..5 {
        addrman.attempt(&one.service, true, NOW + n);
    }
    assert_eq!(addrman.info(&one.service).unwrap().attempts, 1);
    addrman.good(&other.service, NOW + 10);
    addrman.attempt(&one.service, true, NOW + 11);
    assert_eq!(addrman.info(&one.service).unwrap().attempts, 2);
}

fn filled() -> AddrMan {
    let mut addrman = AddrMan::new([5; 32]);
    for n in 1..=100u8 {
        let one = address(&format!("{n}.{n}.3.4:{}", 8000 + u16::from(n)), NOW - i64::from(n));
        addrman.add(&[one], &source(&format!("{}.1.1.1", 101 + n % 50)), 0, NOW);
        if n % 3 == 0 {
            addrman.good(&one.service, NOW + i64::from(n));
        }
    }
    let tor = PeerAddress {
        service: Service { address: NetAddress::TorV3([9; 32]), port: 8333 },
        ..address("1.1.1.1:1", NOW)
    };
    addrman.add(&[tor], &source("77.1.1.1"), 0, NOW);
    addrman
}

fn sorted(addrman: &AddrMan, tried: bool) -> Vec<(String, u32, u32, i64)> {
    let mut rows: Vec<_> = addrman
        .table(tried)
        .into_iter()
        .map(|(info, at)| (info.address.service.to_string(), at.bucket, at.position, info.last_success))
        .collect();
    rows.sort();
    rows
}

#[test]
fn peers_dat_round_trip() {
    let addrman = filled();
    let file = addrman.to_file(Magic::REGTEST);
    let read = AddrMan::from_file(&file, Magic::REGTEST, [1; 32]).unwrap();
    assert_eq!(read.counts(None), addrman.counts(None));
    assert_eq!(read.counts(Some(Network::Onion)), AddressCounts { new: 1, tried: 0 });
    for tried in [false, true] {
        assert_eq!(sorted(&read, tried), sorted(&addrman, tried));
    }
    // The key is part of the file: places do not change by a restart.
    assert_eq!(read.key, addrman.key);
}

/// The head is Core's: magic, format 4, compatible with 4, key, counts, 1024 buckets.
#[test]
fn peers_dat_head_is_cores() {
    let file = AddrMan::deterministic().to_file(Magic::BITCOIN);
    assert_eq!(&file[..6], &[0xf9, 0xbe, 0xb4, 0xd9, 4, 36]);
    assert_eq!((file[6], &file[7..38]), (1, &[0; 31][..]));
    assert_eq!(&file[38..50], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0x40]);
    assert_eq!(file.len(), 50 + 1024 * 4 + 32 + 32);
}

#[test]
fn damaged_peers_dat_is_named() {
    let file = filled().to_file(Magic::REGTEST);
    let error = |file: &[u8]| AddrMan::from_file(file, Magic::REGTEST, [1; 32]).err().unwrap().to_string();
    assert_eq!(error(&filled().to_file(Magic::BITCOIN)), "Invalid network magic number");
    let mut newer = file.clone();
    newer[5] = 32 + 5;
    assert!(
        error(&newer)
            .starts_with("Unsupported format of addrman database: 4. It is compatible with formats >=5")
    );
    let mut flipped = file.clone();
    let last = flipped.len() - 40;
    flipped[last] ^= 1;
    assert_eq!(error(&flipped), "Checksum mismatch, data corrupted");
    assert_eq!(error(&file[..file.len() - 1]), "DataStream::read(): end of data: iostream error");
    let mut many = file;
    many[38..42].copy_from_slice(&70_000i32.to_le_bytes());
    assert_eq!(error(&many), "Corrupt AddrMan serialization: nNew=70000, should be in [0, 65536]");
}

/// Any cut or flip gives an error or a consistent table, never a panic.
#[test]
fn mutated_peers_dat_never_panics() {
    let file = filled().to_file(Magic::REGTEST);
    for at in (0..file.len()).step_by(7) {
        let mut flipped = file.clone();
        flipped[at] ^= 0x55;
        let _ = AddrMan::from_file(&flipped, Magic::REGTEST, [1; 32]);
        let _ = AddrMan::from_file(&file[..at], Magic::REGTEST, [1; 32]);
    }
}

#[test]
fn answers_to_getaddr_are_a_part() {
    let mut addrman = filled();
    let total = addrman.len();
    assert_eq!(addrman.addresses(1000, 23, None, false, NOW).len(), total * 23 / 100);
    assert_eq!(addrman.addresses(0, 0, Some(Network::Onion), false, NOW).len(), 1);
    let far = NOW + 31 * 24 * 60 * 60;
    assert_eq!(addrman.addresses(0, 0, None, false, far).len(), 0, "all are too old by then");
    assert_eq!(addrman.addresses(0, 0, None, true, far).len(), total);
}
