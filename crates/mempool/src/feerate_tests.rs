use std::cmp::Ordering;

use super::{FeeFrac, FeeRate, compare_diagrams};

fn chunks(list: &[(i64, u64)]) -> Vec<FeeFrac> {
    list.iter().map(|&(fee, weight)| FeeFrac { fee, weight }).collect()
}

#[test]
fn a_fee_is_rounded_up() {
    assert_eq!(FeeRate::from_sat_per_kvb(100).fee(141), 15);
    assert_eq!(FeeRate::from_sat_per_kvb(1_000).fee(141), 141);
    assert_eq!(FeeRate::from_sat_per_kvb(0).fee(141), 0);
    assert_eq!(FeeRate::from_sat_per_kvb(100).to_string(), "0.00000100 BTC/kvB");
}

/// The cases of Core's `feerate_chunks_tests`-style comparisons: better, equal, crossing.
#[test]
fn diagrams_compare_as_areas_do() {
    let compare = |left: &[(i64, u64)], right: &[(i64, u64)]| compare_diagrams(&chunks(left), &chunks(right));
    assert_eq!(compare(&[(950, 300), (100, 100)], &[(950, 300), (100, 100)]), Some(Ordering::Equal));
    assert_eq!(compare(&[(1_000, 300)], &[(950, 300)]), Some(Ordering::Greater));
    assert_eq!(compare(&[(950, 300)], &[(1_000, 300)]), Some(Ordering::Less));
    // More fee, but only behind a worse start.
    assert_eq!(compare(&[(600, 300), (900, 600)], &[(800, 300)]), None);
    // The same fee in less space is better; the end of a diagram goes on level.
    assert_eq!(compare(&[(1_000, 300)], &[(1_000, 400)]), Some(Ordering::Greater));
    assert_eq!(compare(&[], &[]), Some(Ordering::Equal));
    assert_eq!(compare(&[(1, 1)], &[]), Some(Ordering::Greater));
    assert_eq!(compare(&[(100, 100), (50, 100)], &[(100, 100)]), Some(Ordering::Greater));
}
