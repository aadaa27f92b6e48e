//! One horizon of the estimator (Core's `TxConfirmStats`): per bucket, moving averages of what
//! confirmed, and counts of what still waits.

/// Buckets next to each other, and what became of their transactions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BucketRange {
    /// Lowest feerate in satoshi per 1,000 vbytes; -1 if there is no such range.
    pub start: f64,
    /// Highest feerate.
    pub end: f64,
    /// Transactions confirmed within the target.
    pub within_target: f64,
    /// Transactions confirmed at any time.
    pub confirmed: f64,
    /// Transactions that wait for longer than the target.
    pub in_mempool: f64,
    /// Transactions that left after the target without having been confirmed.
    pub left_mempool: f64,
}

impl Default for BucketRange {
    fn default() -> Self {
        Self {
            start: -1.0,
            end: -1.0,
            within_target: 0.0,
            confirmed: 0.0,
            in_mempool: 0.0,
            left_mempool: 0.0,
        }
    }
}

/// The outcome for one target.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged {
    /// Average feerate of the bucket in which the median transaction of the passing range is.
    pub median: Option<f64>,
    pub pass: BucketRange,
    pub fail: Option<BucketRange>,
}

/// What was seen, decaying with every block.
#[derive(Clone, Debug)]
pub struct History {
    /// What each block leaves of the averages.
    pub decay: f64,
    /// Blocks in a period.
    pub scale: u32,
    /// Per bucket: sum of the confirmed transactions' feerates.
    pub rate_sums: Vec<f64>,
    /// Per bucket: confirmed transactions.
    pub confirmed: Vec<f64>,
    /// Per number of periods, less one, and bucket: confirmed within so many.
    pub within: Vec<Vec<f64>>,
    /// The same: left unconfirmed after so many or more.
    pub failed: Vec<Vec<f64>>,
    /// Something in the averages is not zero.
    seen: bool,
    /// Waiting transactions by height of entry, a ring of as many heights as are tracked, and
    /// bucket.
    waiting: Vec<Vec<u32>>,
    /// Those that wait for longer.
    waiting_long: Vec<u32>,
}

impl History {
    pub fn new(buckets: usize, periods: usize, decay: f64, scale: u32) -> Self {
        let zeros = vec![vec![0.0; buckets]; periods];
        Self::from_averages(decay, scale, vec![0.0; buckets], vec![0.0; buckets], zeros.clone(), zeros)
    }

    /// One with a past. All lists are of the same number of buckets, and `within` and `failed` of
    /// the same number of periods.
    pub fn from_averages(
        decay: f64,
        scale: u32,
        rate_sums: Vec<f64>,
        confirmed: Vec<f64>,
        within: Vec<Vec<f64>>,
        failed: Vec<Vec<f64>>,
    ) -> Self {
        let buckets = confirmed.len();
        let seen = within
            .iter()
            .chain(&failed)
            .chain([&rate_sums, &confirmed])
            .any(|row| row.iter().any(|value| *value != 0.0));
        let heights = within.len() * scale as usize;
        Self {
            decay,
            scale,
            rate_sums,
            confirmed,
            within,
            failed,
            seen,
            waiting: vec![vec![0; buckets]; heights],
            waiting_long: vec![0; buckets],
        }
    }

    /// Furthest target, in blocks.
    pub fn max_target(&self) -> u32 {
        u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)
    }

    fn place(&self, height: u32) -> usize {
        height as usize % self.waiting.len()
    }

    /// A transaction entered at `height`.
    pub fn entered(&mut self, height: u32, bucket: usize) {
        let place = self.place(height);
        self.waiting[place][bucket] += 1;
    }

    /// A transaction that had entered at `entered` left when `best` was the last block.
    pub fn left(&mut self, entered: u32, best: u32, bucket: usize, confirmed: bool) {
        let age = best.saturating_sub(entered);
        let place = self.place(entered);
        let count = if age >= self.max_target() {
            &mut self.waiting_long[bucket]
        } else {
            &mut self.waiting[place][bucket]
        };
        *count = count.saturating_sub(1);
        // It has failed each number of periods for which it was there in full.
        let periods = (age / self.scale) as usize;
        if !confirmed && periods > 0 {
            self.seen = true;
            for failed in self.failed.iter_mut().take(periods) {
                failed[bucket] += 1.0;
            }
        }
    }

    /// A block came: what was seen fades, and the ring turns.
    pub fn next_block(&mut self, height: u32) {
        self.turn(height);
        self.fade(self.decay);
    }

    /// Several blocks came, and nothing waits.
    pub fn pass(&mut self, blocks: u32) {
        self.fade(self.decay.powf(f64::from(blocks)));
    }

    fn turn(&mut self, height: u32) {
        let place = self.place(height);
        for (old, long) in self.waiting[place].iter_mut().zip(&mut self.waiting_long) {
            *long += std::mem::take(old);
        }
    }

    fn fade(&mut self, by: f64) {
        // Through the initial download there is nothing to fade.
        if !self.seen {
            return;
        }
        let rows = self.within.iter_mut().chain(&mut self.failed);
        for row in rows.chain([&mut self.rate_sums, &mut self.confirmed]) {
            row.iter_mut().for_each(|value| *value *= by);
        }
    }

    /// A transaction was confirmed after so many blocks.
    pub fn confirmed(&mut self, blocks: u32, bucket: usize, feerate: f64) {
        if blocks == 0 {
            return;
        }
        self.seen = true;
        let periods = blocks.div_ceil(self.scale) as usize;
        for within in self.within.iter_mut().skip(periods - 1) {
            within[bucket] += 1.0;
        }
        self.confirmed[bucket] += 1.0;
        self.rate_sums[bucket] += feerate;
    }

    /// Waiting transactions per bucket that entered `target` blocks before `best` or earlier.
    fn overdue(&self, target: u32, best: u32) -> Vec<u32> {
        let mut overdue = self.waiting_long.clone();
        // Heights below 0 do not exist; their places in the ring are those of young transactions.
        for age in (target..self.max_target()).take_while(|age| *age <= best) {
            for (sum, count) in overdue.iter_mut().zip(&self.waiting[self.place(best - age)]) {
                *sum += count;
            }
        }
        overdue
    }

    /// Goes down from the dearest bucket, taking together as many as have seen enough
    /// transactions, while a share of `success` of them confirmed within `target` blocks.
    ///
    /// `target` is at least 1 and at most [`max_target`](Self::max_target).
    pub fn judge(
        &self,
        buckets: &[f64],
        target: u32,
        sufficient_txs: f64,
        success: f64,
        best: u32,
    ) -> Judged {
        let period = target.div_ceil(self.scale) as usize - 1;
        let overdue = self.overdue(target, best);
        let needed = sufficient_txs / (1.0 - self.decay);
        let mut judged = Judged::default();
        // The passing range, and the one under way: lowest and highest bucket.
        let mut passing: Option<(usize, usize)> = None;
        let mut highest = None;
        let mut now = BucketRange::default();
        let mut seen = 0.0;
        for bucket in (0..buckets.len()).rev() {
            let top = *highest.get_or_insert(bucket);
            now.within_target += self.within[period][bucket];
            now.confirmed += self.confirmed[bucket];
            now.left_mempool += self.failed[period][bucket];
            now.in_mempool += f64::from(overdue[bucket]);
            seen += self.confirmed[bucket];
            if seen < needed {
                continue;
            }
            seen = 0.0;
            if now.within_target / (now.confirmed + now.left_mempool + now.in_mempool) < success {
                // The range goes on growing; the first failure is the one that is told.
                judged.fail.get_or_insert_with(|| now.between(buckets, bucket, top));
                continue;
            }
            judged.fail = None;
            judged.pass = std::mem::take(&mut now);
            passing = Some((bucket, top));
            highest = None;
        }
        if let (None, Some(top)) = (judged.fail, highest) {
            // The cheapest buckets saw too little.
            judged.fail = Some(now.between(buckets, 0, top));
        }
        let Some((low, high)) = passing else { return judged };
        let confirmed = &self.confirmed[low..=high];
        let mut half = confirmed.iter().sum::<f64>();
        if half != 0.0 {
            half /= 2.0;
            for (at, count) in confirmed.iter().enumerate() {
                if *count < half {
                    half -= count;
                } else {
                    judged.median = Some(self.rate_sums[low + at] / count);
                    break;
                }
            }
            judged.pass = judged.pass.between(buckets, low, high);
        }
        judged
    }
}

impl BucketRange {
    fn between(self, buckets: &[f64], low: usize, high: usize) -> Self {
        let start = low.checked_sub(1).map_or(0.0, |below| buckets[below]);
        Self { start, end: buckets[high], ..self }
    }
}
