use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::RollingBloom;

#[test]
fn the_last_keys_are_always_found_and_old_ones_go() {
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let mut filter = RollingBloom::new(1_000, 0.001, &mut rng);
    assert!(!filter.contains(&0u32.to_le_bytes()));
    for n in 0u32..20_000 {
        filter.insert(&n.to_le_bytes());
        if n % 97 == 0 {
            for last in n.saturating_sub(999)..=n {
                assert!(filter.contains(&last.to_le_bytes()), "{last} of {n}");
            }
        }
    }
    let found = (0u32..10_000).filter(|n| filter.contains(&n.to_le_bytes())).count();
    assert!(found < 40, "{found} of 10,000 forgotten keys are still found");
    filter.clear();
    assert!(!filter.contains(&19_999u32.to_le_bytes()));
}

#[test]
fn an_unused_filter_takes_no_memory() {
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let filter = RollingBloom::new(50_000, 0.000_001, &mut rng);
    assert!(filter.generations.is_empty());
}
