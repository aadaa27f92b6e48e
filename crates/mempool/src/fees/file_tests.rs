use bitcoin::Txid;
use bitcoin::hashes::Hash as _;
use ironpeer_primitives::Height;

use super::super::{Entered, FeeEstimator, FeeHorizon};
use super::FeeFileError;
use crate::feerate::FeeRate;

/// Where the parts of our own file start: version, three heights, the list of 237 buckets.
const HEIGHTS: usize = 4;
const BUCKETS: usize = HEIGHTS + 12;
const MEDIUM: usize = BUCKETS + list(237);
/// Of a horizon: decay, scale, two lists, two tables.
const SCALE: usize = 8;
const RATES: usize = SCALE + 4;
const COUNTS: usize = RATES + list(237);
const WITHIN: usize = COUNTS + list(237);

/// A list of fewer than 253 numbers.
const fn list(length: usize) -> usize {
    1 + 8 * length
}

const fn horizon(periods: usize) -> usize {
    WITHIN + 2 * (1 + periods * list(237))
}

fn sample() -> FeeEstimator {
    let mut fees = FeeEstimator::new();
    fees.block(Height(700), &[]);
    for height in 700..740u32 {
        let txid = |at: u32| {
            Txid::from_byte_array(
                [height.to_le_bytes()[0], at.to_le_bytes()[0]].repeat(16).try_into().unwrap(),
            )
        };
        for at in 0..20 {
            let feerate = FeeRate::from_sat_per_kvb(1_000 + u64::from(at) * 37);
            fees.entered(&Entered { txid: txid(at), height: Height(height), feerate, telling: true });
        }
        let confirmed: Vec<Txid> = (0..19).map(txid).collect();
        fees.block(Height(height + 1), &confirmed);
    }
    fees.forget_waiting();
    fees
}

fn damaged(at: usize, bytes: &[u8]) -> Result<FeeEstimator, FeeFileError> {
    let mut file = sample().encode();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    FeeEstimator::decode(&file)
}

fn refusal(result: Result<FeeEstimator, FeeFileError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn what_is_written_is_read_back() {
    let fees = sample();
    let bytes = fees.encode();
    let back = FeeEstimator::decode(&bytes).unwrap();
    for target in [2, 6, 12, 20, 48, 500, 1_008] {
        for conservative in [false, true] {
            let (ours, theirs) = (fees.smart(target, conservative), back.smart(target, conservative));
            assert_eq!(ours.feerate, theirs.feerate);
            assert!(ours.feerate.is_some());
        }
        for horizon in FeeHorizon::ALL {
            assert_eq!(fees.raw(target, 0.9, horizon), back.raw(target, 0.9, horizon));
        }
    }
    assert_eq!(back.encode(), bytes);
}

#[test]
fn the_bytes_stand_where_core_has_them() {
    let bytes = sample().encode();
    assert_eq!(bytes.len(), MEDIUM + horizon(24) + horizon(12) + horizon(42));
    let int = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let real = |at: usize| f64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!((int(0), int(4), int(8), int(12)), (309_900, 740, 701, 740));
    assert_eq!((bytes[BUCKETS], real(BUCKETS + 1), real(BUCKETS + 9)), (237, 100.0, 105.0));
    assert_eq!(real(MEDIUM - 8), 1e99);
    let (short, long) = (MEDIUM + horizon(24), MEDIUM + horizon(24) + horizon(12));
    for (start, decay, scale, periods) in
        [(MEDIUM, 0.9952, 2, 24), (short, 0.962, 1, 12), (long, 0.99931, 24, 42)]
    {
        assert_eq!((real(start), int(start + SCALE)), (decay, scale));
        assert_eq!((bytes[start + RATES], bytes[start + WITHIN]), (237, periods));
    }
}

#[test]
fn a_file_cut_short_is_refused_at_every_length() {
    let bytes = sample().encode();
    // Every length of the head, then a few of the long tail.
    let lengths = (0..MEDIUM + 64).chain((MEDIUM..bytes.len()).step_by(997)).chain([bytes.len() - 1]);
    for length in lengths {
        let error = FeeEstimator::decode(&bytes[..length]).unwrap_err();
        assert_eq!(error.to_string(), "AutoFile::read: end of file: iostream error", "{length}");
    }
}

#[test]
fn damage_is_named_in_cores_words() {
    let corrupt = |text: &str| format!("Corrupt estimates file. {text}");
    assert_eq!(refusal(damaged(0, &309_901u32.to_le_bytes())), "File version (309901) too high to be read.");
    assert_eq!(
        refusal(damaged(0, &149_900u32.to_le_bytes())),
        "Incompatible old fee estimation data (non-fatal). Version: 149900"
    );
    for heights in [[740u32, 741, 740], [740, 701, 741]] {
        let bytes = heights.map(u32::to_le_bytes).concat();
        assert_eq!(
            refusal(damaged(HEIGHTS, &bytes)),
            corrupt("Historical block range for estimates is invalid")
        );
    }
    assert_eq!(refusal(damaged(BUCKETS, &[1])), corrupt("Must have between 2 and 1000 feerate buckets"));
    assert_eq!(
        refusal(damaged(BUCKETS, &[0xfe, 0xff, 0xff, 0xff, 0xff])),
        "ReadCompactSize(): size too large: iostream error"
    );
    assert_eq!(
        refusal(damaged(BUCKETS, &[0xfd, 0x05, 0x00])),
        "non-canonical ReadCompactSize(): iostream error"
    );
    // A promise of millions is believed only as far as there are bytes.
    assert_eq!(refusal(damaged(BUCKETS, &[0xfe, 0, 0, 0, 1])), "AutoFile::read: end of file: iostream error");
    assert_eq!(refusal(damaged(BUCKETS + 9, &100f64.to_le_bytes())), corrupt("Buckets must rise"));
    assert_eq!(refusal(damaged(BUCKETS + 9, &f64::NAN.to_le_bytes())), corrupt("A number is not finite"));
    for decay in [0.0, 1.0, -0.5] {
        assert_eq!(
            refusal(damaged(MEDIUM, &f64::to_le_bytes(decay))),
            corrupt("Decay must be between 0 and 1 (non-inclusive)")
        );
    }
    assert_eq!(refusal(damaged(MEDIUM + SCALE, &[0; 4])), corrupt("Scale must be non-zero"));
    assert_eq!(
        refusal(damaged(MEDIUM + SCALE, &[43, 0, 0, 0])),
        corrupt(" Must maintain estimates for between 1 and 1008 (one week) confirms")
    );
    assert_eq!(
        refusal(damaged(MEDIUM + WITHIN, &[0])),
        corrupt(" Must maintain estimates for between 1 and 1008 (one week) confirms")
    );
    assert_eq!(refusal(damaged(MEDIUM + RATES, &[236])), corrupt("Mismatch in feerate average bucket count"));
    assert_eq!(refusal(damaged(MEDIUM + COUNTS, &[236])), corrupt("Mismatch in tx count bucket count"));
    assert_eq!(
        refusal(damaged(MEDIUM + WITHIN + 1, &[236])),
        corrupt("Mismatch in feerate conf average bucket count")
    );
    let failed = MEDIUM + WITHIN + 1 + 24 * list(237);
    assert_eq!(refusal(damaged(failed, &[23])), corrupt("Mismatch in confirms tracked for failures"));
    assert_eq!(
        refusal(damaged(failed + 1, &[236])),
        corrupt("Mismatch in one of failure average bucket counts")
    );
    assert_eq!(
        refusal(damaged(MEDIUM + COUNTS + 1, &f64::to_le_bytes(-1.0))),
        corrupt("An average is negative")
    );
}

#[test]
fn what_was_read_counts_until_this_run_has_seen_half_as_much() {
    let bytes = sample().encode();
    let mut fees = FeeEstimator::decode(&bytes).unwrap();
    let heights = |fees: &FeeEstimator| fees.encode()[8..16].to_vec();
    assert_eq!(heights(&fees), bytes[8..16]);
    assert_eq!(fees.smart(100, false).blocks, (740 - 701) / 2);
    // Far later it stands for nothing any more.
    fees.skip_to(Height(740 + 6 * 1_008 + 1));
    assert_eq!(fees.smart(100, false).blocks, 0);
}
