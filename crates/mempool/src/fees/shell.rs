//! What the mempool's handle offers of the estimator, and its file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ironpeer_primitives::{LogCategory, LogLine};
use ironpeer_store::write_atomic;

use super::{FeeEstimator, FeeFileError, FeeHorizon, RawEstimate, SmartEstimate};
use crate::handle::{MempoolHandle, read_file};
use crate::limits;
use crate::shared::Shared;

impl MempoolHandle {
    /// The furthest target an estimate may be asked for, in blocks; `None` if nothing is estimated
    /// here.
    #[must_use]
    pub fn furthest_fee_target(&self) -> Option<u32> {
        self.shared.read(|core, _| Some(core.fees.as_ref()?.max_target(FeeHorizon::Long)))
    }

    /// A feerate that should confirm within `target` blocks, no less than what the mempool takes
    /// now (`estimatesmartfee`); `None` if nothing is estimated here.
    #[must_use]
    pub fn estimate_smart_fee(&self, target: u32, conservative: bool) -> Option<SmartEstimate> {
        self.shared.read(|core, now| {
            let estimate = core.fees.as_ref()?.smart(target, conservative);
            let least = core.min_fee(now);
            Some(SmartEstimate { feerate: estimate.feerate.map(|rate| rate.max(least)), ..estimate })
        })
    }

    /// What each horizon that reaches `target` says by itself (`estimaterawfee`); `None` if
    /// nothing is estimated here.
    #[must_use]
    pub fn estimate_raw_fee(&self, target: u32, threshold: f64) -> Option<Vec<(FeeHorizon, RawEstimate)>> {
        self.shared.read(|core, _| {
            let fees = core.fees.as_ref()?;
            let one = |horizon: FeeHorizon| Some((horizon, fees.raw(target, threshold, horizon)?));
            Some(FeeHorizon::ALL.into_iter().filter_map(one).collect())
        })
    }

    /// Reads `fee_estimates.dat`, last written `age` ago. What is too old is not taken, unless
    /// `accept_stale`; that, and what else is wrong with it, stands in the log.
    pub async fn load_fee_estimates(&self, path: &Path, age: Duration, accept_stale: bool) {
        let (shared, path) = (Arc::clone(&self.shared), path.to_owned());
        let work = move || load(&shared, &path, age, accept_stale);
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            let text = format!("mempool: reading fee estimates failed: {error}");
            self.shared.parts.log.log(LogLine::error(text));
        }
    }

    /// Writes `fee_estimates.dat`. At the end of a run (`last`) everything still waiting is
    /// counted as not confirmed first. A failure stands in the log; the old file stays.
    pub async fn save_fee_estimates(&self, path: &Path, last: bool) {
        let (shared, path) = (Arc::clone(&self.shared), path.to_owned());
        let work = move || save(&shared, &path, last);
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            let text = format!("mempool: writing fee estimates failed: {error}");
            self.shared.parts.log.log(LogLine::error(text));
        }
    }
}

fn load(shared: &Shared, path: &Path, age: Duration, accept_stale: bool) {
    let log = &shared.parts.log;
    let shown = path.display();
    if !shared.parts.config.estimate_fees {
        return;
    }
    if !shared.parts.disk.exists(path) {
        log.log(LogLine::info(format!("{shown} is not found. Continue anyway.")));
        return;
    }
    let (hours, most) = (age.as_secs() / 3_600, limits::MAX_FEE_FILE_HOURS);
    if hours > most && !accept_stale {
        log.log(LogLine::warning(format!(
            "Fee estimation file {shown} too old (age={hours} > {most} hours) and will not be used to avoid serving stale estimates."
        )));
        return;
    }
    let bytes = read_file(shared.parts.disk.as_ref(), path, limits::MAX_FEE_FILE_BYTES);
    let read = match bytes {
        Ok(bytes) => FeeEstimator::decode(&bytes).map_err(|error| match error {
            // Not an error: estimates start anew.
            FeeFileError::TooOld(_) => (error.to_string(), false),
            error => (format!("Unable to read policy estimator data (non-fatal): {error}"), true),
        }),
        Err(error) => Err((format!("Unable to read policy estimator data (non-fatal): {error}"), true)),
    };
    match read {
        Ok(fees) => {
            for horizon in [FeeHorizon::Medium, FeeHorizon::Short, FeeHorizon::Long] {
                let text = format!(
                    "Reading estimates: {} buckets counting confirms up to {} blocks",
                    fees.bucket_count(),
                    fees.max_target(horizon)
                );
                log.log(LogLine::debug(LogCategory::EstimateFee, text));
            }
            shared.change(|core, _| core.fees = Some(fees));
        }
        Err((text, failed)) => {
            log.log(LogLine::warning(text));
            if failed {
                let text = format!("Failed to read fee estimates from {shown}. Continue anyway.");
                log.log(LogLine::warning(text));
            }
        }
    }
}

fn save(shared: &Shared, path: &Path, last: bool) {
    let (log, clock) = (&shared.parts.log, &shared.parts.clock);
    let start = clock.steady();
    let bytes = shared.change(|core, _| {
        let fees = core.fees.as_mut()?;
        let waiting = last.then(|| fees.forget_waiting());
        Some((fees.encode(), waiting))
    });
    let Some((bytes, waiting)) = bytes else { return };
    let debug = |text: String| log.log(LogLine::debug(LogCategory::EstimateFee, text));
    if let Some(waiting) = waiting {
        let took = clock.steady().saturating_sub(start).as_secs_f64();
        debug(format!("Recorded {waiting} unconfirmed txs from mempool in {took:.3}s"));
    }
    let shown = path.display();
    match write_atomic(shared.parts.disk.as_ref(), path, &bytes) {
        Ok(()) => debug(format!("Flushed fee estimates to {shown}.")),
        Err(_) => {
            log.log(LogLine::warning(format!("Failed to write fee estimates to {shown}. Continue anyway.")))
        }
    }
}
