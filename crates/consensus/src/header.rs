use bitcoin::block::Header;
use bitcoin::{BlockHash, CompactTarget, Target, Work};
use ironpeer_primitives::{BlockClass, BlockReject, Height, UnixTime};
use num_bigint::BigUint;

use crate::limits::{MAX_FUTURE_BLOCK_TIME, MAX_TIMEWARP, MEDIAN_TIME_SPAN};
use crate::{BuriedDeployment, Params};

/// A chain of headers ending at the parent of what is judged.
pub trait Ancestry {
    /// The last header's height.
    fn height(&self) -> Height;

    /// The header at a height up to that, with its hash.
    fn header_at(&self, height: Height) -> Option<(BlockHash, Header)>;

    /// Median time past of the header at `height` (BIP113); a tree that keeps it may answer at
    /// once.
    fn median_time_past_at(&self, height: Height) -> Option<UnixTime> {
        let first = height.0.saturating_sub(MEDIAN_TIME_SPAN - 1);
        let mut times: Vec<u32> = (first..=height.0)
            .map(|height| self.header_at(Height(height)).map(|(_, header)| header.time))
            .collect::<Option<_>>()?;
        times.sort_unstable();
        times.get(times.len() / 2).copied().map(UnixTime::from)
    }
}

/// Median time past of the chain's last header.
#[must_use]
pub fn median_time_past(chain: &dyn Ancestry) -> UnixTime {
    chain.median_time_past_at(chain.height()).unwrap_or(0)
}

/// The target of a header's `bits`, or `None` if they are negative, zero or overflow 256 bits
/// (Core's `arith_uint256::SetCompact`).
#[must_use]
pub fn target_from_bits(bits: CompactTarget) -> Option<Target> {
    let bits = bits.to_consensus();
    let (size, word) = (bits >> 24, bits & 0x007f_ffff);
    let word = match size {
        0 => 0,
        1 => word >> 16,
        2 => word >> 8,
        _ => word,
    };
    let negative = bits & 0x0080_0000 != 0;
    let overflow = size > 34 || (word > 0xff && size > 33) || (word > 0xffff && size > 32);
    if word == 0 || negative || overflow {
        return None;
    }
    // Little-endian bytes of the word, moved up by `size - 3` places.
    let mut bytes = [0; 32];
    let shift = size.saturating_sub(3) as usize;
    for (place, byte) in word.to_le_bytes().into_iter().enumerate() {
        if byte != 0 {
            *bytes.get_mut(shift.checked_add(place)?)? = byte;
        }
    }
    Some(Target::from_le_bytes(bytes))
}

/// Whether `hash` meets the target of `bits`, and that target is one the network allows (Core's
/// `CheckProofOfWork`).
#[must_use]
pub fn check_proof_of_work(hash: BlockHash, bits: CompactTarget, params: &Params) -> bool {
    target_from_bits(bits).is_some_and(|target| target <= params.pow_limit && target.is_met_by(hash))
}

/// What can be said about a header alone: its proof of work.
///
/// # Errors
/// `high-hash`.
pub fn check_header(header: &Header, params: &Params) -> Result<(), BlockReject> {
    check_header_hash(header, header.block_hash(), params)
}

pub(crate) fn check_header_hash(
    header: &Header,
    hash: BlockHash,
    params: &Params,
) -> Result<(), BlockReject> {
    if check_proof_of_work(hash, header.bits, params) {
        Ok(())
    } else {
        Err(invalid_header("high-hash", "proof of work failed"))
    }
}

fn invalid_header(reason: &'static str, debug: &'static str) -> BlockReject {
    BlockReject::new(BlockClass::InvalidHeader, reason).with_debug(debug)
}

/// What can be said about a header from its ancestors and the clock (Core's
/// `ContextualCheckBlockHeader`). `now` is wall time in Unix seconds.
///
/// # Errors
/// `bad-diffbits`, `time-too-old`, `time-timewarp-attack`, `time-too-new` or `bad-version(0x..)`.
pub fn contextual_check_header(
    header: &Header,
    parent: &dyn Ancestry,
    params: &Params,
    now: UnixTime,
) -> Result<(), BlockReject> {
    let height = parent.height().next();
    if Some(header.bits) != next_work_required(parent, header.time, params) {
        return Err(invalid_header("bad-diffbits", "incorrect proof of work"));
    }
    let time = UnixTime::from(header.time);
    if time <= median_time_past(parent) {
        return Err(invalid_header("time-too-old", "block's timestamp is too early"));
    }
    if params.enforce_bip94 && height.0.is_multiple_of(params.difficulty_adjustment_interval()) {
        let parent_time =
            parent.header_at(parent.height()).map_or(0, |(_, parent)| UnixTime::from(parent.time));
        if time < parent_time.saturating_sub(MAX_TIMEWARP) {
            return Err(invalid_header(
                "time-timewarp-attack",
                "block's timestamp is too early on diff adjustment block",
            ));
        }
    }
    if time > now.saturating_add(MAX_FUTURE_BLOCK_TIME) {
        return Err(BlockReject::new(BlockClass::TimeFuture, "time-too-new")
            .with_debug("block timestamp too far in the future"));
    }
    let version = header.version.to_consensus();
    for (least, deployment) in
        [(2, BuriedDeployment::HeightInCoinbase), (3, BuriedDeployment::DerSig), (4, BuriedDeployment::Cltv)]
    {
        if version < least && params.is_active(deployment, height) {
            return Err(BlockReject::new(BlockClass::InvalidHeader, format!("bad-version(0x{version:08x})"))
                .with_debug(format!("rejected nVersion=0x{version:08x} block")));
        }
    }
    Ok(())
}

/// The `bits` that a child of `parent` with the time `time` must have (Core's
/// `GetNextWorkRequired`, with BIP94). `None` if `parent` lacks a header of the period.
#[must_use]
pub fn next_work_required(parent: &dyn Ancestry, time: u32, params: &Params) -> Option<CompactTarget> {
    let interval = params.difficulty_adjustment_interval();
    let height = parent.height();
    let (_, last) = parent.header_at(height)?;
    if !height.next().0.is_multiple_of(interval) {
        if !params.allow_min_difficulty {
            return Some(last.bits);
        }
        let limit = params.pow_limit_bits();
        if i64::from(time) > i64::from(last.time).saturating_add(params.pow_target_spacing.saturating_mul(2))
        {
            return Some(limit);
        }
        // The last block that did not use the exception, but not beyond the period's start.
        let (mut height, mut header) = (height, last);
        while let Some(before) = height.prev()
            && !height.0.is_multiple_of(interval)
            && header.bits == limit
        {
            height = before;
            header = parent.header_at(height)?.1;
        }
        return Some(header.bits);
    }
    if params.no_retargeting {
        return Some(last.bits);
    }
    let (_, first) = parent.header_at(Height(height.next().0.checked_sub(interval)?))?;
    let timespan = i64::from(last.time).saturating_sub(i64::from(first.time));
    // Under BIP94 the period's first block keeps the real difficulty: the exception for late
    // blocks is not open to it.
    let base = if params.enforce_bip94 { first.bits } else { last.bits };
    Some(retarget(base, timespan, params))
}

/// Scales a target by the time a period took (Core's `CalculateNextWorkRequired`).
fn retarget(base: CompactTarget, timespan: i64, params: &Params) -> CompactTarget {
    let (least, most) = timespan_bounds(params);
    scale(base, timespan.clamp(least, most), params).to_compact_lossy()
}

/// Shortest and longest time a period counts as, in seconds.
fn timespan_bounds(params: &Params) -> (i64, i64) {
    let timespan = params.pow_target_timespan;
    (timespan / 4, timespan.saturating_mul(4))
}

/// `base * timespan / pow_target_timespan`, at most the easiest target.
// Big integers do not overflow, and no network's timespan is 0.
#[allow(clippy::arithmetic_side_effects)]
fn scale(base: CompactTarget, timespan: i64, params: &Params) -> Target {
    let target = target_from_bits(base).unwrap_or(Target::ZERO);
    let scaled = BigUint::from_bytes_le(&target.to_le_bytes()) * timespan.unsigned_abs()
        / params.pow_target_timespan.unsigned_abs();
    let mut bytes = scaled.to_bytes_le();
    bytes.resize(bytes.len().max(32), 0);
    // More than 256 bits is above every limit.
    <[u8; 32]>::try_from(bytes).map_or(params.pow_limit, Target::from_le_bytes).min(params.pow_limit)
}

/// Whether `new` may follow `old` at `height`, whatever the times between: the check of the
/// header download that precedes storing (Core's `PermittedDifficultyTransition`).
#[must_use]
pub fn permitted_difficulty_transition(
    params: &Params,
    height: Height,
    old: CompactTarget,
    new: CompactTarget,
) -> bool {
    if params.allow_min_difficulty {
        return true;
    }
    if !height.0.is_multiple_of(params.difficulty_adjustment_interval()) {
        return old == new;
    }
    let bound = |timespan| target_from_bits(retarget(old, timespan, params)).unwrap_or(Target::ZERO);
    let observed = target_from_bits(new).unwrap_or(Target::ZERO);
    let (least, most) = timespan_bounds(params);
    observed <= bound(most) && observed >= bound(least)
}

/// Seconds it would take to do the work `from` has ahead of `to` at the difficulty of a header
/// with `tip_proof` work (Core's `GetBlockProofEquivalentTime`, here `to` >= `from`).
#[must_use]
// Big integers do not overflow, and the divisor is checked.
#[allow(clippy::arithmetic_side_effects)]
pub fn block_proof_equivalent_time(to: Work, from: Work, tip_proof: Work, params: &Params) -> i64 {
    let number = |work: Work| BigUint::from_bytes_be(&work.to_be_bytes());
    let (to, from, proof) = (number(to), number(from), number(tip_proof));
    if to < from || proof == BigUint::ZERO {
        return 0;
    }
    let seconds = (to - from) * params.pow_target_spacing.unsigned_abs() / proof;
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
