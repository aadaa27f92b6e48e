use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds since the Unix epoch.
pub type UnixTime = i64;

/// Where time comes from. Nothing below the door reads the system clock itself, so a test can
/// turn hours into microseconds.
pub trait Clock: Send + Sync + 'static {
    /// Wall time in microseconds since the Unix epoch; follows `setmocktime`.
    fn unix_micros(&self) -> i64;

    /// Time since some fixed moment; never goes back and ignores `setmocktime`.
    fn steady(&self) -> Duration;

    /// Wall time in seconds since the Unix epoch; follows `setmocktime`.
    fn unix(&self) -> UnixTime {
        self.unix_micros().div_euclid(1_000_000)
    }

    /// Fixes wall time at `unix` seconds, or lets it run again with 0 (Core's `setmocktime`).
    fn set_mock(&self, unix: UnixTime);

    /// The fixed time in Unix seconds, if one is set; the log shows it beside the real one.
    fn mock(&self) -> Option<UnixTime> {
        None
    }
}

/// The machine's clock, with Core's mock time on top.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    mock: AtomicI64,
}

impl SystemClock {
    /// A clock that follows the machine's.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now(), mock: AtomicI64::new(0) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn unix_micros(&self) -> i64 {
        match self.mock.load(Ordering::Relaxed) {
            0 => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .ok()
                .and_then(|since| i64::try_from(since.as_micros()).ok())
                .unwrap_or(0),
            mock => mock.saturating_mul(1_000_000),
        }
    }

    fn steady(&self) -> Duration {
        self.start.elapsed()
    }

    fn set_mock(&self, unix: UnixTime) {
        self.mock.store(unix, Ordering::Relaxed);
    }

    fn mock(&self) -> Option<UnixTime> {
        Some(self.mock.load(Ordering::Relaxed)).filter(|mock| *mock != 0)
    }
}

/// A clock that moves only when told to, for tests and simulations.
#[derive(Debug)]
pub struct FixedClock {
    unix_micros: AtomicI64,
    steady_micros: AtomicU64,
}

impl FixedClock {
    /// A clock standing at `unix` seconds.
    #[must_use]
    pub fn at(unix: UnixTime) -> Self {
        Self { unix_micros: AtomicI64::new(unix.saturating_mul(1_000_000)), steady_micros: AtomicU64::new(0) }
    }

    /// Moves both wall and steady time forward.
    pub fn advance(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.unix_micros.fetch_add(i64::try_from(micros).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.steady_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for FixedClock {
    fn unix_micros(&self) -> i64 {
        self.unix_micros.load(Ordering::Relaxed)
    }

    fn steady(&self) -> Duration {
        Duration::from_micros(self.steady_micros.load(Ordering::Relaxed))
    }

    fn set_mock(&self, unix: UnixTime) {
        self.unix_micros.store(unix.saturating_mul(1_000_000), Ordering::Relaxed);
    }
}
