use crate::feerate::FeeRate;
use crate::limits;

/// What the node's options say about the mempool.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of memory it may take (`-maxmempool`).
    pub max_bytes: usize,
    /// Seconds a transaction may stay (`-mempoolexpiry`).
    pub expiry_seconds: i64,
    /// `-minrelaytxfee`.
    pub min_relay: FeeRate,
    /// `-incrementalrelayfee`.
    pub incremental: FeeRate,
    /// `-dustrelayfee`.
    pub dust_relay: FeeRate,
    /// `-datacarriersize`; `None` with `-datacarrier=0`.
    pub max_datacarrier_bytes: Option<u32>,
    /// `-permitbaremultisig`.
    pub permit_bare_multisig: bool,
    /// False with `-acceptnonstdtxn`, which only test networks allow.
    pub require_standard: bool,
    /// `-bytespersigop`.
    pub bytes_per_sigop: u64,
    /// `-limitclustercount`, at most [`limits::MAX_CLUSTER_COUNT`].
    pub cluster_count: usize,
    /// `-limitclustersize`, in vbytes.
    pub cluster_vbytes: u64,
    /// False with `-blocksonly`: who sees no transactions cannot tell what they should pay.
    pub estimate_fees: bool,
    /// `-persistmempoolv1`: write `mempool.dat` without the obfuscation key.
    pub persist_v1: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_bytes: limits::MAX_MEMPOOL_BYTES,
            expiry_seconds: limits::EXPIRY_SECONDS,
            min_relay: FeeRate::from_sat_per_kvb(limits::MIN_RELAY_FEE),
            incremental: FeeRate::from_sat_per_kvb(limits::INCREMENTAL_RELAY_FEE),
            dust_relay: FeeRate::from_sat_per_kvb(limits::DUST_RELAY_FEE),
            max_datacarrier_bytes: Some(limits::MAX_DATACARRIER_BYTES),
            permit_bare_multisig: true,
            require_standard: true,
            bytes_per_sigop: limits::BYTES_PER_SIGOP,
            cluster_count: limits::CLUSTER_COUNT,
            cluster_vbytes: limits::CLUSTER_VBYTES,
            estimate_fees: true,
            persist_v1: false,
        }
    }
}

/// An option that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Less memory than one cluster may take.
    #[error("-maxmempool must be at least {0} MB")]
    TooSmall(usize),
}

impl Config {
    /// Whether the options fit together, as Core asks at start.
    ///
    /// # Errors
    /// With Core's message.
    pub fn check(&self) -> Result<(), ConfigError> {
        /// Bytes of memory a vbyte is reckoned to take.
        const BYTES_PER_VBYTE: usize = 40;
        let vbytes = usize::try_from(self.cluster_vbytes).unwrap_or(usize::MAX);
        let least = vbytes.saturating_mul(BYTES_PER_VBYTE);
        // No memory at all is allowed: nothing is kept then.
        if self.max_bytes > 0 && self.max_bytes < least {
            return Err(ConfigError::TooSmall(least.div_ceil(1_000_000)));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
