use super::*;

fn number(n: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = n;
    bytes
}

#[test]
fn matches_cores_own_vector() {
    // crypto_tests.cpp: {0, 1} without 2.
    let mut hash = MuHash::default();
    hash.insert(&number(0));
    hash.insert(&number(1));
    hash.remove(&number(2));
    let mut shown = hash.finalize();
    shown.reverse();
    let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "10d312b100cbd32ada024a6646e40d3482fcff103668d2625f10002a607d5863");
}

#[test]
fn order_does_not_matter_and_removing_undoes() {
    let mut forward = MuHash::default();
    let mut backward = MuHash::default();
    for n in 0..10 {
        forward.insert(&number(n));
        backward.insert(&number(9 - n));
    }
    assert_eq!(forward.finalize(), backward.finalize());
    forward.insert(&number(77));
    assert_ne!(forward.finalize(), backward.finalize());
    forward.remove(&number(77));
    assert_eq!(forward.finalize(), backward.finalize());

    let (mut low, mut high) = (MuHash::default(), MuHash::default());
    (0..5).for_each(|n| low.insert(&number(n)));
    (5..10).for_each(|n| high.insert(&number(n)));
    low.combine(&high);
    assert_eq!(low.finalize(), backward.finalize());
}

#[test]
fn several_sets_are_hashed_as_each_alone_and_go_on_from_their_state() {
    let mut sets = vec![MuHash::default()];
    for n in 0..5u8 {
        let mut next = sets.last().unwrap().clone();
        next.insert(&[n]);
        next.remove(&[n, n]);
        sets.push(next);
    }
    let alone: Vec<_> = sets.iter().map(MuHash::finalize).collect();
    assert_eq!(MuHash::finalize_all(&sets), alone);
    assert_eq!(MuHash::finalize_all(&[]), Vec::<[u8; 32]>::new());
    let states = sets.iter().map(|set| MuHash::from_state(&set.state()).unwrap().finalize());
    assert_eq!(states.collect::<Vec<_>>(), alone);
    assert!(MuHash::from_state(&[0; 3]).is_none());
}
