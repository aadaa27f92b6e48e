use ironpeer_primitives::UnixTime;

use crate::limits::{MAX_BLOCK_BYTES, UPLOAD_TIMEFRAME};

/// Seconds a block interval takes on average; each block left in the cycle is allowed for.
const BLOCK_INTERVAL: u64 = 10 * 60;

/// What was sent in the present cycle against `-maxuploadtarget` (Core's `OutboundTargetReached`
/// in `src/net.cpp`).
#[derive(Debug)]
pub(crate) struct Upload {
    /// Bytes for each cycle; 0 for no limit.
    target: u64,
    /// When the cycle began; 0 for not yet.
    begun: UnixTime,
    sent: u64,
}

/// How far `-maxuploadtarget` is reached (`getnettotals`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadTarget {
    /// Bytes for each cycle; 0 for no limit.
    pub target: u64,
    /// Nothing more should be sent.
    pub reached: bool,
    /// Blocks older than a week are served.
    pub serves_historical_blocks: bool,
    /// Bytes left in this cycle.
    pub bytes_left: u64,
    /// Seconds left of this cycle.
    pub seconds_left: u64,
}

impl Upload {
    pub(crate) const fn new(target: u64) -> Self {
        Self { target, begun: 0, sent: 0 }
    }

    pub(crate) const fn is_limited(&self) -> bool {
        self.target != 0
    }

    /// Bytes were sent.
    pub(crate) fn sent(&mut self, bytes: u64, now: UnixTime) {
        if self.begun + UPLOAD_TIMEFRAME < now {
            (self.begun, self.sent) = (now, 0);
        }
        self.sent = self.sent.saturating_add(bytes);
    }

    pub(crate) fn state(&self, now: UnixTime) -> UploadTarget {
        if self.target == 0 {
            return UploadTarget {
                target: 0,
                reached: false,
                serves_historical_blocks: true,
                bytes_left: 0,
                seconds_left: 0,
            };
        }
        let end = if self.begun == 0 { now } else { self.begun } + UPLOAD_TIMEFRAME;
        let seconds_left = u64::try_from(end - now).unwrap_or(0);
        // Each new block shall reach at least one peer.
        let reserve = seconds_left / BLOCK_INTERVAL * MAX_BLOCK_BYTES;
        UploadTarget {
            target: self.target,
            reached: self.sent >= self.target,
            serves_historical_blocks: reserve < self.target && self.sent < self.target - reserve,
            bytes_left: self.target.saturating_sub(self.sent),
            seconds_left,
        }
    }
}

#[cfg(test)]
#[path = "upload_tests.rs"]
mod tests;
