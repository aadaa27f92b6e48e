use std::str::FromStr;
use std::time::Duration;

use bitcoin::ScriptBuf;
use ironpeer_consensus::limits::MAX_BLOCK_WEIGHT;

use crate::limits::{DEFAULT_BLOCK_MIN_FEE, DEFAULT_RESERVED_WEIGHT, DEFAULT_THREADS, MIN_RESERVED_WEIGHT};

/// What the node's options say about mining.
#[derive(Clone, Debug)]
pub struct Config {
    /// Most weight units of a template (`-blockmaxweight`).
    pub max_weight: u64,
    /// Weight units kept for header and coinbase (`-blockreservedweight`).
    pub reserved_weight: u64,
    /// Least feerate of a chunk, in satoshi per 1,000 vbytes (`-blockmintxfee`).
    pub min_fee_per_kvb: u64,
    /// Version of new blocks instead of the signalling one (`-blockversion`, regtest only).
    pub block_version: Option<i32>,
    /// Log the feerate of each transaction put into a template (`-printpriority`).
    pub print_priority: bool,
    /// Threads of one search.
    pub threads: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_weight: MAX_BLOCK_WEIGHT,
            reserved_weight: DEFAULT_RESERVED_WEIGHT,
            min_fee_per_kvb: DEFAULT_BLOCK_MIN_FEE,
            block_version: None,
            print_priority: false,
            threads: DEFAULT_THREADS,
        }
    }
}

impl Config {
    /// Checks the weights against each other and the network's limit.
    ///
    /// # Errors
    /// Core's text (`CheckMiningOptions`).
    pub fn check(&self) -> Result<(), String> {
        let (reserved, max) = (self.reserved_weight, self.max_weight);
        if reserved < MIN_RESERVED_WEIGHT {
            return Err(format!(
                "-blockreservedweight ({reserved}) is lower than minimum safety value of ({MIN_RESERVED_WEIGHT})"
            ));
        }
        for (name, weight) in [("-blockreservedweight", reserved), ("-blockmaxweight", max)] {
            if weight > MAX_BLOCK_WEIGHT {
                return Err(format!(
                    "{name} ({weight}) exceeds consensus maximum block weight ({MAX_BLOCK_WEIGHT})"
                ));
            }
        }
        if reserved > max {
            return Err(format!("-blockreservedweight ({reserved}) exceeds -blockmaxweight ({max})"));
        }
        Ok(())
    }
}

/// When a development network mines by itself (`-automine`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoMine {
    /// As soon as the mempool holds this many transactions.
    TxCount(usize),
    /// Again and again after this time, transactions or not.
    Interval(Duration),
}

impl AutoMine {
    /// As soon as there is any transaction.
    pub const EVERY_TX: Self = Self::TxCount(1);
}

/// A value of `-automine` that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid value for -automine: '{0}' (expected tx-count:N, interval:SECONDS or every-tx)")]
pub struct AutoMineError(String);

impl FromStr for AutoMine {
    type Err = AutoMineError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| digits.parse().ok().filter(|n| *n > 0);
        match text.split_once(':') {
            None if text == "every-tx" => Some(Self::EVERY_TX),
            Some(("tx-count", count)) => {
                number(count).and_then(|count| usize::try_from(count).ok()).map(Self::TxCount)
            }
            Some(("interval", seconds)) => {
                number(seconds).map(|seconds| Self::Interval(Duration::from_secs(seconds)))
            }
            _ => None,
        }
        .ok_or_else(|| AutoMineError(text.to_owned()))
    }
}

/// What the auto-miner pays to unless told: an output anyone can spend.
#[must_use]
pub fn anyone_can_spend() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![bitcoin::opcodes::OP_TRUE.to_u8()])
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
