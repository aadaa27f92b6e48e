//! Rule changes by signalling in the block version (BIP9; Core's `src/versionbits.cpp`).

use std::collections::HashMap;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use ironpeer_primitives::{Height, UnixTime};

use crate::{Ancestry, Bip9Deployment, Params};

/// The version bits that mark a version as signalling at all.
pub const TOP_BITS: i32 = 0x2000_0000;
/// The bits compared with [`TOP_BITS`].
const TOP_MASK: u32 = 0xe000_0000;
/// Number of bits that can signal.
pub const SIGNAL_BITS: u8 = 29;

/// Where a deployment stands for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThresholdState {
    /// Its start time has not come.
    Defined,
    /// Signals count.
    Started,
    /// Enough signals were seen; active from a later period.
    LockedIn,
    /// Its rules hold.
    Active,
    /// Its timeout came first.
    Failed,
}

impl ThresholdState {
    /// The name in RPC answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Defined => "defined",
            Self::Started => "started",
            Self::LockedIn => "locked_in",
            Self::Active => "active",
            Self::Failed => "failed",
        }
    }
}

/// States already worked out, by the hash of the last block before their period.
pub type StateCache = HashMap<BlockHash, ThresholdState>;

/// Signals within the period a block lies in (`getdeploymentinfo`'s statistics).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Blocks in a period.
    pub period: u32,
    /// Signals needed.
    pub threshold: u32,
    /// Blocks of the period so far.
    pub elapsed: u32,
    /// Signals so far.
    pub count: u32,
    /// Whether the threshold can still be reached.
    pub possible: bool,
    /// For each block of the period so far, whether it signals.
    pub signalling: Vec<bool>,
}

/// Whether a version signals with `bit`.
#[must_use]
pub fn signals(version: i32, bit: u8) -> bool {
    version.cast_unsigned() & TOP_MASK == TOP_BITS.cast_unsigned() && version >> bit & 1 == 1
}

/// Something that is decided by counting blocks per period.
struct Condition<'a> {
    start_time: UnixTime,
    timeout: UnixTime,
    min_activation_height: Height,
    period: u32,
    threshold: u32,
    holds: &'a mut dyn FnMut(&dyn Ancestry, Height, &Header) -> bool,
}

impl Condition<'_> {
    /// The state for the child of the block at `parent` (`None`: for genesis).
    fn state(
        &mut self,
        chain: &dyn Ancestry,
        parent: Option<Height>,
        cache: &mut StateCache,
    ) -> ThresholdState {
        if self.start_time == Bip9Deployment::ALWAYS_ACTIVE {
            return ThresholdState::Active;
        }
        if self.start_time == Bip9Deployment::NEVER_ACTIVE {
            return ThresholdState::Failed;
        }
        // All blocks of a period have the state of its first; periods end below at `boundary`.
        let mut boundary = parent.and_then(|parent| last_of_period_before(parent.next(), self.period));
        let mut unknown = Vec::new();
        let mut state = ThresholdState::Defined;
        while let Some(end) = boundary {
            let Some((hash, _)) = chain.header_at(end) else { break };
            if let Some(known) = cache.get(&hash) {
                state = *known;
                break;
            }
            if chain.median_time_past_at(end).unwrap_or(0) < self.start_time {
                cache.insert(hash, ThresholdState::Defined);
                break;
            }
            unknown.push((end, hash));
            boundary = end.0.checked_sub(self.period).map(Height);
        }
        for (end, hash) in unknown.into_iter().rev() {
            let median_time = chain.median_time_past_at(end).unwrap_or(0);
            state = match state {
                ThresholdState::Defined if median_time >= self.start_time => ThresholdState::Started,
                ThresholdState::Started => {
                    let first = (end.0 + 1).saturating_sub(self.period);
                    let count =
                        (first..=end.0).filter(|height| self.holds_at(chain, Height(*height))).count();
                    if count >= self.threshold as usize {
                        ThresholdState::LockedIn
                    } else if median_time >= self.timeout {
                        ThresholdState::Failed
                    } else {
                        state
                    }
                }
                ThresholdState::LockedIn if end.next() >= self.min_activation_height => {
                    ThresholdState::Active
                }
                _ => state,
            };
            cache.insert(hash, state);
        }
        state
    }

    fn holds_at(&mut self, chain: &dyn Ancestry, height: Height) -> bool {
        chain.header_at(height).is_some_and(|(_, header)| (self.holds)(chain, height, &header))
    }

    /// First height since when the state of `parent`'s child has held.
    fn since(&mut self, chain: &dyn Ancestry, parent: Option<Height>, cache: &mut StateCache) -> Height {
        if matches!(self.start_time, Bip9Deployment::ALWAYS_ACTIVE | Bip9Deployment::NEVER_ACTIVE) {
            return Height::GENESIS;
        }
        let state = self.state(chain, parent, cache);
        if state == ThresholdState::Defined {
            return Height::GENESIS;
        }
        let mut boundary = parent.and_then(|parent| last_of_period_before(parent.next(), self.period));
        while let Some(end) = boundary {
            let before = end.0.checked_sub(self.period).map(Height);
            if before.is_none() || self.state(chain, before, cache) != state {
                return end.next();
            }
            boundary = before;
        }
        Height::GENESIS
    }
}

/// The last block of the period before the one `height` lies in.
fn last_of_period_before(height: Height, period: u32) -> Option<Height> {
    (height.0 - height.0 % period).checked_sub(1).map(Height)
}

fn with_condition<T>(deployment: &Bip9Deployment, run: impl FnOnce(&mut Condition<'_>) -> T) -> T {
    let bit = deployment.bit;
    run(&mut Condition {
        start_time: deployment.start_time,
        timeout: deployment.timeout,
        min_activation_height: deployment.min_activation_height,
        period: deployment.period.max(1),
        threshold: deployment.threshold,
        holds: &mut |_, _, header| signals(header.version.to_consensus(), bit),
    })
}

/// The deployment's state for the block after `parent` on `chain`; `None` asks for genesis.
/// `cache` is the caller's, one a deployment.
#[must_use]
pub fn state_after(
    deployment: &Bip9Deployment,
    chain: &dyn Ancestry,
    parent: Option<Height>,
    cache: &mut StateCache,
) -> ThresholdState {
    with_condition(deployment, |condition| condition.state(chain, parent, cache))
}

/// Height since when that state has held; 0 for states that hold from genesis.
#[must_use]
pub fn state_since(
    deployment: &Bip9Deployment,
    chain: &dyn Ancestry,
    parent: Option<Height>,
    cache: &mut StateCache,
) -> Height {
    with_condition(deployment, |condition| condition.since(chain, parent, cache))
}

/// Signals in the period of the block at `height`, up to it.
#[must_use]
pub fn statistics(deployment: &Bip9Deployment, chain: &dyn Ancestry, height: Height) -> Statistics {
    let period = deployment.period.max(1);
    let first = height.0 - height.0 % period;
    let signalling: Vec<bool> = (first..=height.0)
        .map(|height| {
            chain
                .header_at(Height(height))
                .is_some_and(|(_, header)| signals(header.version.to_consensus(), deployment.bit))
        })
        .collect();
    let elapsed = height.0 - first + 1;
    let count = signalling.iter().map(|signal| u32::from(*signal)).sum();
    Statistics {
        period,
        threshold: deployment.threshold,
        elapsed,
        count,
        possible: period.saturating_sub(deployment.threshold) >= elapsed - count,
        signalling,
    }
}

/// The states of all deployments of a network and of the warning for unknown ones, worked out
/// once a period.
#[derive(Debug, Default)]
pub struct VersionBits {
    deployments: Vec<StateCache>,
    unknown: Vec<StateCache>,
}

impl VersionBits {
    /// Nothing worked out yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// State of deployment number `index` for the child of the block at `parent`.
    pub fn state(
        &mut self,
        params: &Params,
        index: usize,
        chain: &dyn Ancestry,
        parent: Option<Height>,
    ) -> ThresholdState {
        self.deployments.resize_with(params.deployments.len(), StateCache::new);
        match (params.deployments.get(index), self.deployments.get_mut(index)) {
            (Some(deployment), Some(cache)) => state_after(deployment, chain, parent, cache),
            _ => ThresholdState::Failed,
        }
    }

    /// The version a new block on `chain` should have: it signals for what is started or locked
    /// in (Core's `ComputeBlockVersion`).
    pub fn block_version(&mut self, params: &Params, chain: &dyn Ancestry) -> i32 {
        self.block_version_after(params, chain, Some(chain.height()))
    }

    fn block_version_after(&mut self, params: &Params, chain: &dyn Ancestry, parent: Option<Height>) -> i32 {
        let mut version = TOP_BITS;
        for (index, deployment) in params.deployments.iter().enumerate() {
            if matches!(
                self.state(params, index, chain, parent),
                ThresholdState::Started | ThresholdState::LockedIn
            ) {
                version |= 1 << deployment.bit;
            }
        }
        version
    }

    /// Bits by which miners have locked in (`false`) or activated (`true`) rules this node does
    /// not know (Core's `CheckUnknownActivations`).
    pub fn unknown_activations(&mut self, params: &Params, chain: &dyn Ancestry) -> Vec<(u8, bool)> {
        let (period, threshold) = if params.chain_name == "main" {
            (2016, 1815)
        } else {
            let period = params.difficulty_adjustment_interval();
            (period, period * 3 / 4)
        };
        let mut caches = std::mem::take(&mut self.unknown);
        caches.resize_with(usize::from(SIGNAL_BITS), StateCache::new);
        let mut found = Vec::new();
        for (bit, cache) in (0..SIGNAL_BITS).zip(&mut caches) {
            let state = Condition {
                start_time: 0,
                timeout: UnixTime::MAX,
                min_activation_height: Height(0),
                period,
                threshold,
                holds: &mut |chain, height, header| {
                    height >= params.min_bip9_warning_height
                        && signals(header.version.to_consensus(), bit)
                        && self.block_version_after(params, chain, height.prev()) >> bit & 1 == 0
                },
            }
            .state(chain, Some(chain.height()), cache);
            match state {
                ThresholdState::LockedIn => found.push((bit, false)),
                ThresholdState::Active => found.push((bit, true)),
                _ => {}
            }
        }
        self.unknown = caches;
        found
    }
}
