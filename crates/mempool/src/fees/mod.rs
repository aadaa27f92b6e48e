//! Fee estimation from what was mined (Core's `CBlockPolicyEstimator`).
//!
//! Transactions are sorted by feerate into buckets. Of each bucket is counted how many of its
//! transactions confirmed within how many blocks, over three horizons that forget at different
//! speeds. An estimate is the feerate of the cheapest buckets that still confirm reliably.
//!
//! Synchronous: told of what enters and leaves the mempool and of blocks, in order; without
//! clock and disk.

mod file;
mod horizon;
mod shell;

use std::collections::HashMap;

use bitcoin::Txid;
use ironpeer_primitives::{Height, LogCategory, LogLine};

use crate::feerate::FeeRate;
use horizon::{History, Judged};

pub use file::FeeFileError;
pub use horizon::BucketRange;

/// Lowest bucket's upper end, in satoshi per 1,000 vbytes.
const MIN_BUCKET: f64 = 100.0;
/// No finite bucket ends above it.
const MAX_BUCKET: f64 = 1e7;
/// Each bucket's upper end against the one below.
const BUCKET_SPACING: f64 = 1.05;
/// The last bucket's upper end: any feerate is below.
const INFINITE_BUCKET: f64 = 1e99;

/// Blocks after which saved estimates say nothing any more.
const OLDEST_HISTORY: u32 = 6 * 1_008;

/// Share that must confirm within half the target.
const HALF_SUCCESS: f64 = 0.6;
/// Share that must confirm within the target.
const SUCCESS: f64 = 0.85;
/// Share that must confirm within twice the target.
const DOUBLE_SUCCESS: f64 = 0.95;

/// How far back an estimate looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeeHorizon {
    /// Half is forgotten after 18 blocks.
    Short,
    /// After 144 blocks.
    Medium,
    /// After 1,008 blocks.
    Long,
}

impl FeeHorizon {
    /// All, the shortest first.
    pub const ALL: [Self; 3] = [Self::Short, Self::Medium, Self::Long];

    /// Core's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Medium => "medium",
            Self::Long => "long",
        }
    }

    /// Transactions a block that a range of buckets must have seen to count.
    const fn sufficient_txs(self) -> f64 {
        match self {
            Self::Short => 0.5,
            Self::Medium | Self::Long => 0.1,
        }
    }
}

/// What `estimatesmartfee` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmartEstimate {
    /// The feerate; `None` if too little was seen.
    pub feerate: Option<FeeRate>,
    /// The target it is for, in blocks.
    pub blocks: u32,
}

/// What `estimaterawfee` says of one horizon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawEstimate {
    /// The feerate; `None` if no range of buckets meets the threshold.
    pub feerate: Option<FeeRate>,
    /// What each block leaves of the averages.
    pub decay: f64,
    /// Blocks in a period.
    pub scale: u32,
    /// The cheapest buckets that meet the threshold.
    pub pass: BucketRange,
    /// The dearest that do not.
    pub fail: Option<BucketRange>,
}

/// A transaction that entered the mempool.
#[derive(Clone, Copy, Debug)]
pub struct Entered {
    pub txid: Txid,
    /// The tip's height then.
    pub height: Height,
    pub feerate: FeeRate,
    /// Its confirmation will say something about its feerate: it came alone, spends nothing
    /// unconfirmed, and the node was up to date.
    pub telling: bool,
}

#[derive(Clone, Copy, Debug)]
struct Tracked {
    height: u32,
    bucket: usize,
    feerate: FeeRate,
}

/// The estimator.
#[derive(Debug)]
pub struct FeeEstimator {
    /// Upper ends, rising.
    buckets: Vec<f64>,
    short: History,
    medium: History,
    long: History,
    tracked: HashMap<Txid, Tracked>,
    /// Height of the last block told.
    best: u32,
    /// Height of the first block with a tracked transaction; 0 if there was none.
    first: u32,
    /// The same two of the file that was read.
    saved_first: u32,
    saved_best: u32,
    /// Since the last block.
    counted: u32,
    uncounted: u32,
}

impl FeeEstimator {
    /// One that has seen nothing.
    pub fn new() -> Self {
        let mut buckets = Vec::new();
        let mut end = MIN_BUCKET;
        while end <= MAX_BUCKET {
            buckets.push(end);
            end *= BUCKET_SPACING;
        }
        buckets.push(INFINITE_BUCKET);
        let history = |periods, decay, scale| History::new(buckets.len(), periods, decay, scale);
        Self {
            short: history(12, 0.962, 1),
            medium: history(24, 0.9952, 2),
            long: history(42, 0.99931, 24),
            buckets,
            tracked: HashMap::new(),
            best: 0,
            first: 0,
            saved_first: 0,
            saved_best: 0,
            counted: 0,
            uncounted: 0,
        }
    }

    fn history(&self, horizon: FeeHorizon) -> &History {
        match horizon {
            FeeHorizon::Short => &self.short,
            FeeHorizon::Medium => &self.medium,
            FeeHorizon::Long => &self.long,
        }
    }

    fn histories_mut(&mut self) -> [&mut History; 3] {
        [&mut self.medium, &mut self.short, &mut self.long]
    }

    pub fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// Furthest target of a horizon, in blocks.
    pub fn max_target(&self, horizon: FeeHorizon) -> u32 {
        self.history(horizon).max_target()
    }

    fn bucket_of(&self, feerate: FeeRate) -> usize {
        let rate = feerate.sat_per_kvb() as f64;
        self.buckets.partition_point(|end| *end < rate).min(self.buckets.len() - 1)
    }

    /// A transaction entered the mempool.
    pub fn entered(&mut self, tx: &Entered) {
        // Another height than that of the last block: a branch that was left, or blocks are yet to
        // be told.
        if self.tracked.contains_key(&tx.txid) || tx.height.0 != self.best {
            return;
        }
        if !tx.telling {
            self.uncounted = self.uncounted.saturating_add(1);
            return;
        }
        self.counted = self.counted.saturating_add(1);
        let bucket = self.bucket_of(tx.feerate);
        for history in self.histories_mut() {
            history.entered(tx.height.0, bucket);
        }
        let tracked = Tracked { height: tx.height.0, bucket, feerate: tx.feerate };
        self.tracked.insert(tx.txid, tracked);
    }

    /// A transaction left the mempool without having been confirmed.
    pub fn left(&mut self, txid: &Txid) {
        self.untrack(txid, false);
    }

    fn untrack(&mut self, txid: &Txid, confirmed: bool) -> Option<Tracked> {
        let tracked = self.tracked.remove(txid)?;
        let best = self.best;
        for history in self.histories_mut() {
            history.left(tracked.height, best, tracked.bucket, confirmed);
        }
        Some(tracked)
    }

    /// A block was connected, with these transactions of the mempool. Lines for the log.
    pub fn block(&mut self, height: Height, confirmed: &[Txid]) -> Vec<LogLine> {
        // A branch that takes another's place says nothing of how long anything took.
        if height.0 <= self.best {
            for txid in confirmed {
                self.untrack(txid, true);
            }
            return Vec::new();
        }
        self.best = height.0;
        for history in self.histories_mut() {
            history.next_block(height.0);
        }
        let mut recorded = 0;
        for txid in confirmed {
            let Some(tracked) = self.untrack(txid, true) else { continue };
            let blocks = height.0.saturating_sub(tracked.height);
            for history in self.histories_mut() {
                history.confirmed(blocks, tracked.bucket, tracked.feerate.sat_per_kvb() as f64);
            }
            recorded += 1;
        }
        let mut log = Vec::new();
        let mut debug = |text| log.push(LogLine::debug(LogCategory::EstimateFee, text));
        if self.first == 0 && recorded > 0 {
            self.first = self.best;
            debug(format!("Blockpolicy first recorded height {}", self.first));
        }
        debug(format!(
            "Blockpolicy estimates updated by {recorded} of {} block txs, since last block {} of {} tracked, mempool map size {}, max target {} from {}",
            confirmed.len(),
            self.counted,
            self.counted.saturating_add(self.uncounted),
            self.tracked.len(),
            self.max_usable_target(),
            if self.saved_span() > self.span() { "historical" } else { "current" },
        ));
        self.counted = 0;
        self.uncounted = 0;
        log
    }

    /// Blocks up to `height` passed of which nothing is told. Nothing is being tracked.
    pub fn skip_to(&mut self, height: Height) {
        let blocks = height.0.saturating_sub(self.best);
        if blocks == 0 {
            return;
        }
        self.best = height.0;
        for history in self.histories_mut() {
            history.pass(blocks);
        }
    }

    /// Counts everything still waiting as having left, as at the end of a run. Returns how many.
    pub fn forget_waiting(&mut self) -> usize {
        let waiting: Vec<Txid> = self.tracked.keys().copied().collect();
        for txid in &waiting {
            self.left(txid);
        }
        waiting.len()
    }

    /// Blocks seen since the first with a tracked transaction.
    fn span(&self) -> u32 {
        if self.first == 0 { 0 } else { self.best.saturating_sub(self.first) }
    }

    /// Blocks the file that was read stands for.
    fn saved_span(&self) -> u32 {
        if self.saved_first == 0 || self.best.saturating_sub(self.saved_best) > OLDEST_HISTORY {
            return 0;
        }
        self.saved_best.saturating_sub(self.saved_first)
    }

    /// Half of what was seen: failures of a target must have had the time to show.
    fn max_usable_target(&self) -> u32 {
        self.long.max_target().min(self.span().max(self.saved_span()) / 2)
    }

    fn median(&self, horizon: FeeHorizon, target: u32, success: f64) -> Option<f64> {
        self.judge(horizon, target, success).median
    }

    fn judge(&self, horizon: FeeHorizon, target: u32, success: f64) -> Judged {
        let history = self.history(horizon);
        history.judge(&self.buckets, target, horizon.sufficient_txs(), success, self.best)
    }

    /// The estimate of the shortest horizon that reaches `target`; with `shorter`, a lower answer
    /// of a shorter horizon at its furthest target wins.
    fn combined(&self, target: u32, success: f64, shorter: bool) -> Option<f64> {
        let reaches = |horizon: FeeHorizon| target <= self.max_target(horizon);
        let horizon = FeeHorizon::ALL.into_iter().find(|horizon| reaches(*horizon))?;
        let mut estimate = self.median(horizon, target, success);
        if shorter {
            for horizon in [FeeHorizon::Medium, FeeHorizon::Short] {
                if reaches(horizon) {
                    continue;
                }
                let furthest = self.median(horizon, self.max_target(horizon), success);
                if let Some(lower) = furthest.filter(|rate| *rate > 0.0)
                    && estimate.is_none_or(|rate| lower < rate)
                {
                    estimate = Some(lower);
                }
            }
        }
        estimate
    }

    /// What the longer horizons ask for at twice the target.
    fn conservative(&self, double: u32) -> Option<f64> {
        let mut estimate = None;
        if double <= self.short.max_target() {
            estimate = self.median(FeeHorizon::Medium, double, DOUBLE_SUCCESS);
        }
        if double <= self.medium.max_target() {
            estimate = larger(estimate, self.median(FeeHorizon::Long, double, DOUBLE_SUCCESS));
        }
        estimate
    }

    /// The feerate that should confirm within `target` blocks, or within the furthest target that
    /// can be answered for. With `conservative`, one that held for longer.
    pub fn smart(&self, target: u32, conservative: bool) -> SmartEstimate {
        if target == 0 || target > self.long.max_target() {
            return SmartEstimate { feerate: None, blocks: target };
        }
        // The next block alone cannot be promised.
        let target = target.max(2).min(self.max_usable_target());
        if target <= 1 {
            return SmartEstimate { feerate: None, blocks: target };
        }
        let mut estimate = self.combined(target / 2, HALF_SUCCESS, true);
        estimate = larger(estimate, self.combined(target, SUCCESS, true));
        estimate = larger(estimate, self.combined(2 * target, DOUBLE_SUCCESS, !conservative));
        if conservative || estimate.is_none() {
            estimate = larger(estimate, self.conservative(2 * target));
        }
        SmartEstimate { feerate: estimate.and_then(rounded), blocks: target }
    }

    /// One horizon's own answer; `None` if it does not reach the target.
    pub fn raw(&self, target: u32, threshold: f64, horizon: FeeHorizon) -> Option<RawEstimate> {
        if target == 0 || target > self.max_target(horizon) {
            return None;
        }
        let history = self.history(horizon);
        let judged = self.judge(horizon, target, threshold);
        Some(RawEstimate {
            feerate: judged.median.and_then(rounded),
            decay: history.decay,
            scale: history.scale,
            pass: judged.pass,
            fail: judged.fail,
        })
    }
}

fn larger(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other > one { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// Zero is no feerate.
fn rounded(median: f64) -> Option<FeeRate> {
    // Averages of feerates: far below 2^53, and a cast saturates.
    let rate = median.round() as u64;
    (rate > 0).then(|| FeeRate::from_sat_per_kvb(rate))
}

#[cfg(test)]
#[path = "estimator_tests.rs"]
mod tests;
