use std::cmp::Ordering;
use std::fmt;

use bitcoin::Amount;

/// A feerate in satoshi per 1,000 vbytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeeRate(u64);

impl FeeRate {
    /// From satoshi per 1,000 vbytes, the unit of the options and of `feefilter`.
    #[must_use]
    pub const fn from_sat_per_kvb(rate: u64) -> Self {
        Self(rate)
    }

    /// In satoshi per 1,000 vbytes.
    #[must_use]
    pub const fn sat_per_kvb(self) -> u64 {
        self.0
    }

    /// What `fee` is for `vsize` vbytes, rounded down.
    #[must_use]
    pub fn of(fee: Amount, vsize: u64) -> Self {
        Self(fee.to_sat().saturating_mul(1_000).checked_div(vsize).unwrap_or(0))
    }

    /// The fee for `vsize` vbytes, rounded up.
    #[must_use]
    pub const fn fee(self, vsize: u64) -> u64 {
        self.0.saturating_mul(vsize).div_ceil(1_000)
    }
}

impl fmt::Display for FeeRate {
    /// As Core's logs: coins per 1,000 vbytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:08} BTC/kvB", self.0 / 100_000_000, self.0 % 100_000_000)
    }
}

/// A fee, deltas included, over a size: the exact feerate of a chunk. Sizes are sigop-adjusted
/// weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeeFrac {
    /// Satoshi; negative where an operator said so.
    pub fee: i64,
    /// Weight units.
    pub weight: u64,
}

impl FeeFrac {
    /// Compares the feerates.
    #[must_use]
    pub fn cmp_rate(self, other: Self) -> Ordering {
        let left = i128::from(self.fee) * i128::from(other.weight);
        left.cmp(&(i128::from(other.fee) * i128::from(self.weight)))
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { fee: self.fee.saturating_add(other.fee), weight: self.weight.saturating_add(other.weight) }
    }
}

/// Compares two feerate diagrams, each made of chunks in falling feerate: `None` if each is
/// better somewhere (Core's `CompareChunks`).
#[must_use]
pub fn compare_diagrams(left: &[FeeFrac], right: &[FeeFrac]) -> Option<Ordering> {
    let points = |chunks: &[FeeFrac]| {
        let mut sum = FeeFrac::default();
        let mut points = vec![sum];
        for chunk in chunks {
            sum = sum.plus(*chunk);
            points.push(sum);
        }
        points
    };
    let (left, right) = (points(left), points(right));
    let above = |points: &[FeeFrac], line: &[FeeFrac]| points.iter().any(|p| above_at(*p, line));
    match (above(&left, &right), above(&right, &left)) {
        (true, true) => None,
        (true, false) => Some(Ordering::Greater),
        (false, true) => Some(Ordering::Less),
        (false, false) => Some(Ordering::Equal),
    }
}

/// Whether a point lies above the line through the given points; beyond its end the line goes on
/// level.
fn above_at(point: FeeFrac, line: &[FeeFrac]) -> bool {
    let next = line.iter().position(|p| p.weight >= point.weight);
    let Some((next, b)) = next.and_then(|at| line.get(at).map(|p| (at, p))) else {
        return line.last().is_some_and(|last| point.fee > last.fee);
    };
    if b.weight == point.weight {
        return point.fee > b.fee;
    }
    let Some(a) = next.checked_sub(1).and_then(|at| line.get(at)) else { return false };
    let run = i128::from(b.weight) - i128::from(a.weight);
    let along = i128::from(point.weight) - i128::from(a.weight);
    let rise = i128::from(b.fee) - i128::from(a.fee);
    (i128::from(point.fee) - i128::from(a.fee)) * run > rise * along
}

#[cfg(test)]
#[path = "feerate_tests.rs"]
mod tests;
