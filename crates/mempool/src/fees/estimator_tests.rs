use std::collections::BTreeMap;

use bitcoin::Txid;
use bitcoin::hashes::Hash as _;
use ironpeer_primitives::Height;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Entered, FeeEstimator, FeeHorizon};
use crate::feerate::FeeRate;

fn txid(number: u64) -> Txid {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Txid::from_byte_array(bytes)
}

fn entered(number: u64, height: u32, rate: u64) -> Entered {
    Entered {
        txid: txid(number),
        height: Height(height),
        feerate: FeeRate::from_sat_per_kvb(rate),
        telling: true,
    }
}

/// One transaction's life.
#[derive(Clone, Copy, Debug)]
struct Life {
    rate: u64,
    entered: u32,
    /// Height of the last block when it left, and whether that block confirmed it.
    left: Option<(u32, bool)>,
}

/// The estimator's answer worked out from every transaction's life, one by one.
struct Model {
    ends: Vec<f64>,
    lives: Vec<Life>,
    best: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    within: f64,
    confirmed: f64,
    rates: f64,
    failed: f64,
    waiting: f64,
}

impl Model {
    fn new() -> Self {
        let finite = (0..).map(|n| 100.0 * 1.05f64.powi(n)).take_while(|end| *end <= 1e7);
        Self { ends: finite.chain([1e99]).collect(), lives: Vec::new(), best: 0 }
    }

    /// What `history` would have to say, by bucket from the dearest down.
    fn sums(&self, target: u32, decay: f64, scale: u32) -> Vec<(usize, Sums)> {
        let mut sums: BTreeMap<usize, Sums> = BTreeMap::new();
        let ceil = |blocks: u32| blocks.div_ceil(scale);
        for life in &self.lives {
            let bucket = self.ends.iter().position(|end| life.rate as f64 <= *end).unwrap();
            let sums = sums.entry(bucket).or_default();
            match life.left {
                None => sums.waiting += f64::from(u8::from(self.best - life.entered >= target)),
                Some((height, confirmed)) => {
                    let weight = decay.powi((self.best - height).try_into().unwrap());
                    let stayed = height - life.entered;
                    if confirmed {
                        sums.confirmed += weight;
                        sums.rates += weight * life.rate as f64;
                        if ceil(stayed) <= ceil(target) {
                            sums.within += weight;
                        }
                    } else if stayed / scale >= ceil(target) {
                        sums.failed += weight;
                    }
                }
            }
        }
        (0..self.ends.len()).rev().map(|at| (at, sums.get(&at).copied().unwrap_or_default())).collect()
    }

    /// Groups with enough in them first, then groups together until they pass.
    fn median(&self, target: u32, decay: f64, scale: u32, enough: f64, success: f64) -> Option<f64> {
        let sums = self.sums(target, decay, scale);
        let mut groups: Vec<Vec<(usize, Sums)>> = vec![Vec::new()];
        for bucket in sums {
            let group = groups.last_mut().unwrap();
            group.push(bucket);
            if group.iter().map(|(_, sums)| sums.confirmed).sum::<f64>() >= enough / (1.0 - decay) {
                groups.push(Vec::new());
            }
        }
        groups.pop();
        let (mut together, mut best): (Vec<(usize, Sums)>, _) = (Vec::new(), None);
        for group in groups {
            together.extend(group);
            let total = |part: fn(&Sums) -> f64| together.iter().map(|(_, sums)| part(sums)).sum::<f64>();
            let all = total(|sums| sums.confirmed) + total(|sums| sums.failed) + total(|sums| sums.waiting);
            if total(|sums| sums.within) / all >= success {
                best = Some(std::mem::take(&mut together));
            }
        }
        let mut best = best?;
        best.reverse();
        let half = best.iter().map(|(_, sums)| sums.confirmed).sum::<f64>() / 2.0;
        let mut below = 0.0;
        best.iter().find_map(|(_, sums)| {
            let here = sums.confirmed >= half - below;
            below += sums.confirmed;
            here.then(|| sums.rates / sums.confirmed)
        })
    }
}

/// Random lives, told to both; the estimator's horizons and the model agree at every target.
#[test]
fn a_model_that_keeps_every_transaction_agrees() {
    let mut rng = StdRng::seed_from_u64(20_261_128);
    let mut fees = FeeEstimator::new();
    let mut model = Model::new();
    // Above the longest horizon, so that the rings turn over on the way.
    let start = 5_000;
    fees.block(Height(start), &[]);
    model.best = start;
    for height in start + 1..start + 90 {
        for _ in 0..rng.gen_range(0..12) {
            let rate = 90 * 2u64.pow(rng.gen_range(0..16)) + rng.gen_range(0..90);
            fees.entered(&entered(model.lives.len() as u64, model.best, rate));
            model.lives.push(Life { rate, entered: model.best, left: None });
        }
        let waiting: Vec<usize> =
            (0..model.lives.len()).filter(|at| model.lives[*at].left.is_none()).collect();
        let mut confirmed = Vec::new();
        for at in waiting {
            let life = &mut model.lives[at];
            // The dearer, the sooner; some are never mined, and a few give up.
            let chance = (life.rate as f64).log2() / 24.0;
            if rng.gen_bool(chance * 0.6) {
                life.left = Some((height, true));
                confirmed.push(txid(at as u64));
            } else if rng.gen_bool(0.02) {
                life.left = Some((model.best, false));
                fees.left(&txid(at as u64));
            }
        }
        fees.block(Height(height), &confirmed);
        model.best = height;
    }
    let mut answered = 0;
    for (horizon, decay, scale, enough, furthest) in [
        (FeeHorizon::Short, 0.962, 1, 0.5, 12),
        (FeeHorizon::Medium, 0.9952, 2, 0.1, 48),
        (FeeHorizon::Long, 0.99931, 24, 0.1, 1_008),
    ] {
        assert_eq!(fees.max_target(horizon), furthest);
        assert_eq!(fees.raw(furthest + 1, 0.5, horizon), None);
        for target in (1..=furthest.min(60)).chain([furthest]) {
            for success in [0.3, 0.6, 0.85, 0.95] {
                let ours = fees.median(horizon, target, success);
                let model = model.median(target, decay, scale, enough, success);
                match (ours, model) {
                    (Some(ours), Some(model)) => {
                        assert!((ours / model - 1.0).abs() < 1e-9, "{horizon:?} {target} {success}");
                        answered += 1;
                    }
                    (ours, model) => assert_eq!(ours, model, "{horizon:?} {target} {success}"),
                }
            }
        }
    }
    assert!(answered > 100, "{answered}");
}

/// Ten transactions a block at each rate; the dear ones confirm in the next block, the cheap ones
/// after five.
fn two_rates(blocks: u32) -> FeeEstimator {
    let mut fees = FeeEstimator::new();
    fees.block(Height(100), &[]);
    let number = |height: u32, at: u64, dear: bool| u64::from(height) * 100 + at * 2 + u64::from(dear);
    for height in 100..100 + blocks {
        for at in 0..10 {
            fees.entered(&entered(number(height, at, false), height, 2_000));
            fees.entered(&entered(number(height, at, true), height, 50_000));
        }
        let dear = (0..10).map(|at| txid(number(height, at, true)));
        let cheap = (0..10).map(|at| txid(number(height.saturating_sub(4), at, false)));
        let confirmed: Vec<Txid> = dear.chain(cheap).collect();
        fees.block(Height(height + 1), &confirmed);
    }
    fees
}

fn smart(fees: &FeeEstimator, target: u32, conservative: bool) -> (Option<u64>, u32) {
    let estimate = fees.smart(target, conservative);
    (estimate.feerate.map(FeeRate::sat_per_kvb), estimate.blocks)
}

#[test]
fn the_nearer_the_target_the_dearer() {
    let fees = two_rates(60);
    for conservative in [false, true] {
        assert_eq!(smart(&fees, 1, conservative), (Some(50_000), 2));
        assert_eq!(smart(&fees, 4, conservative), (Some(50_000), 4));
        // Half of twelve blocks is more than the cheap ones need.
        assert_eq!(smart(&fees, 12, conservative), (Some(2_000), 12));
        // Of 60 blocks half may be answered for, less the one before the first was seen.
        assert_eq!(smart(&fees, 1_008, conservative), (Some(2_000), 29));
    }
    let raw = fees.raw(2, 0.85, FeeHorizon::Short).unwrap();
    assert_eq!(raw.feerate, Some(FeeRate::from_sat_per_kvb(50_000)));
    assert_eq!((raw.decay, raw.scale), (0.962, 1));
    // The buckets around both rates.
    assert!(raw.pass.start < 50_000.0 && raw.pass.end >= 50_000.0);
    let fail = raw.fail.unwrap();
    assert!(fail.start < 2_000.0 && fail.end >= 2_000.0 && fail.end < 50_000.0);
    assert_eq!(fail.within_target, 0.0);
    // The cheap ones of four blocks wait; those of the last are not overdue.
    assert_eq!(fail.in_mempool, 30.0);
    // Each block adds ten to what 0.962 leaves of the rest.
    let sum = 10.0 * (1.0 - 0.962f64.powi(60)) / (1.0 - 0.962);
    assert!((raw.pass.confirmed - sum).abs() < 1e-9);
}

#[test]
fn without_data_there_is_no_answer() {
    let mut fees = FeeEstimator::new();
    assert_eq!(fees.bucket_count(), 237);
    assert_eq!(smart(&fees, 6, false), (None, 0));
    assert_eq!(smart(&fees, 0, false), (None, 0));
    assert_eq!(smart(&fees, 1_009, true), (None, 1_009));
    let raw = fees.raw(6, 0.95, FeeHorizon::Short).unwrap();
    assert_eq!(raw.feerate, None);
    let fail = raw.fail.unwrap();
    assert_eq!((fail.start, fail.end, fail.confirmed), (0.0, 1e99, 0.0));
    // Before the first block nothing is tracked, nor at another height than the last block's.
    fees.entered(&entered(1, 7, 1_000));
    fees.block(Height(8), &[txid(1)]);
    fees.entered(&Entered { telling: false, ..entered(2, 8, 1_000) });
    fees.block(Height(9), &[txid(2)]);
    assert_eq!(fees.forget_waiting(), 0);
    assert_eq!(fees.first, 0);
}

#[test]
fn who_leaves_unconfirmed_counts_against_the_feerate() {
    let mut fees = two_rates(60);
    assert_eq!(smart(&fees, 12, false).0, Some(2_000));
    // Many cheap ones stay for thirty blocks and are dropped.
    for number in 0..400 {
        fees.entered(&entered(1_000_000 + number, 160, 2_000));
    }
    for height in 161..=190 {
        fees.block(Height(height), &[]);
    }
    for number in 0..400 {
        fees.left(&txid(1_000_000 + number));
    }
    assert_eq!(smart(&fees, 12, false).0, Some(50_000));
}

#[test]
fn a_block_of_a_height_seen_before_teaches_nothing() {
    let mut fees = two_rates(60);
    let before = fees.encode();
    fees.entered(&entered(1, 160, 2_000));
    assert!(fees.block(Height(160), &[txid(1)]).is_empty());
    assert_eq!(fees.encode(), before);
    // And what it confirmed is no longer waited for.
    assert!(!fees.tracked.contains_key(&txid(1)));
}

#[test]
fn blocks_of_which_nothing_is_told_fade_what_was_seen() {
    let mut told = two_rates(60);
    told.forget_waiting();
    let mut skipped = two_rates(60);
    skipped.forget_waiting();
    for height in 161..=460 {
        told.block(Height(height), &[]);
    }
    skipped.skip_to(Height(460));
    for target in [2, 12, 40] {
        let (a, b) =
            (told.raw(target, 0.5, FeeHorizon::Medium), skipped.raw(target, 0.5, FeeHorizon::Medium));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(a.feerate, b.feerate);
        assert!((a.pass.confirmed - b.pass.confirmed).abs() < 1e-6);
    }
    assert_eq!(told.best, skipped.best);
}

#[test]
fn the_log_tells_of_each_block_as_core_does() {
    let mut fees = FeeEstimator::new();
    fees.block(Height(10), &[]);
    fees.entered(&entered(1, 10, 1_000));
    fees.entered(&entered(2, 10, 1_000));
    fees.entered(&Entered { telling: false, ..entered(3, 10, 1_000) });
    let lines: Vec<_> =
        fees.block(Height(11), &[txid(1), txid(9)]).into_iter().map(|line| line.text).collect();
    assert_eq!(
        lines,
        [
            "Blockpolicy first recorded height 11",
            "Blockpolicy estimates updated by 1 of 2 block txs, since last block 2 of 3 tracked, mempool map size 1, max target 0 from current",
        ]
    );
}
