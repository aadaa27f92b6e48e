//! `fee_estimates.dat` in Bitcoin Core's format.

use bitcoin::consensus::encode::{VarInt, deserialize_partial, serialize};

use super::FeeEstimator;
use super::horizon::History;

/// The version written, and the only one read.
const VERSION: i32 = 309_900;
/// Buckets a file may have.
const BUCKETS: std::ops::RangeInclusive<usize> = 2..=1_000;
/// Furthest target a horizon of a file may have, in blocks: a week.
const MAX_TARGET: u64 = 6 * 24 * 7;

/// Bytes that are no estimates. The texts are what follows `Unable to read policy estimator data
/// (non-fatal): ` in Core's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeeFileError {
    /// It was written by a later version.
    #[error("File version ({0}) too high to be read.")]
    TooNew(i32),
    /// It was written by an earlier version: no error, but not read.
    #[error("Incompatible old fee estimation data (non-fatal). Version: {0}")]
    TooOld(i32),
    /// It ends too soon.
    #[error("AutoFile::read: end of file: iostream error")]
    End,
    /// A list is longer than any file.
    #[error("ReadCompactSize(): size too large: iostream error")]
    ListTooLong,
    /// A list's length is written in more bytes than it takes.
    #[error("non-canonical ReadCompactSize(): iostream error")]
    NotCanonical,
    /// What stands there cannot be.
    #[error("Corrupt estimates file. {0}")]
    Corrupt(&'static str),
}

fn put_list(out: &mut Vec<u8>, values: &[f64]) {
    out.extend(serialize(&VarInt::from(values.len())));
    for value in values {
        out.extend(value.to_bits().to_le_bytes());
    }
}

fn put_table(out: &mut Vec<u8>, rows: &[Vec<f64>]) {
    out.extend(serialize(&VarInt::from(rows.len())));
    for row in rows {
        put_list(out, row);
    }
}

fn put_history(out: &mut Vec<u8>, history: &History) {
    out.extend(history.decay.to_bits().to_le_bytes());
    out.extend(history.scale.to_le_bytes());
    put_list(out, &history.rate_sums);
    put_list(out, &history.confirmed);
    put_table(out, &history.within);
    put_table(out, &history.failed);
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FeeFileError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(FeeFileError::End)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, FeeFileError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    /// A finite number; Core writes no others.
    fn number(&mut self) -> Result<f64, FeeFileError> {
        let value = f64::from_bits(u64::from_le_bytes(self.take()?));
        if value.is_finite() { Ok(value) } else { Err(FeeFileError::Corrupt("A number is not finite")) }
    }

    fn length(&mut self) -> Result<usize, FeeFileError> {
        /// Core's `MAX_SIZE`.
        const MAX: u64 = 0x0200_0000;
        let (VarInt(length), used) = deserialize_partial(self.0).map_err(|error| match error {
            bitcoin::consensus::encode::Error::NonMinimalVarInt => FeeFileError::NotCanonical,
            _ => FeeFileError::End,
        })?;
        self.0 = self.0.get(used..).unwrap_or_default();
        usize::try_from(length).ok().filter(|_| length <= MAX).ok_or(FeeFileError::ListTooLong)
    }

    /// Grows with what is there, not with what is promised.
    fn list(&mut self) -> Result<Vec<f64>, FeeFileError> {
        let length = self.length()?;
        let mut list = Vec::with_capacity(length.min(self.0.len() / size_of::<f64>()));
        for _ in 0..length {
            list.push(self.number()?);
        }
        Ok(list)
    }

    /// Averages of counts and feerates.
    fn averages(&mut self, buckets: usize, mismatch: &'static str) -> Result<Vec<f64>, FeeFileError> {
        let list = self.list()?;
        if list.len() != buckets {
            return Err(FeeFileError::Corrupt(mismatch));
        }
        if list.iter().any(|value| value.is_sign_negative()) {
            return Err(FeeFileError::Corrupt("An average is negative"));
        }
        Ok(list)
    }

    fn history(&mut self, buckets: usize) -> Result<History, FeeFileError> {
        let decay = self.number()?;
        if decay <= 0.0 || decay >= 1.0 {
            return Err(FeeFileError::Corrupt("Decay must be between 0 and 1 (non-inclusive)"));
        }
        let scale = self.u32()?;
        if scale == 0 {
            return Err(FeeFileError::Corrupt("Scale must be non-zero"));
        }
        let rate_sums = self.averages(buckets, "Mismatch in feerate average bucket count")?;
        let confirmed = self.averages(buckets, "Mismatch in tx count bucket count")?;
        let periods = self.length()?;
        if !(1..=MAX_TARGET).contains(&(u64::from(scale) * periods as u64)) {
            // Core's text has two spaces here.
            return Err(FeeFileError::Corrupt(
                " Must maintain estimates for between 1 and 1008 (one week) confirms",
            ));
        }
        let mut table =
            |mismatch| (0..periods).map(|_| self.averages(buckets, mismatch)).collect::<Result<Vec<_>, _>>();
        let within = table("Mismatch in feerate conf average bucket count")?;
        if self.length()? != periods {
            return Err(FeeFileError::Corrupt("Mismatch in confirms tracked for failures"));
        }
        let mut table =
            |mismatch| (0..periods).map(|_| self.averages(buckets, mismatch)).collect::<Result<Vec<_>, _>>();
        let failed = table("Mismatch in one of failure average bucket counts")?;
        Ok(History::from_averages(decay, scale, rate_sums, confirmed, within, failed))
    }
}

impl FeeEstimator {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        // What this run saw, once it is worth more than what was read.
        let (first, last) = if self.span() > self.saved_span() / 2 {
            (self.first, self.best)
        } else {
            (self.saved_first, self.saved_best)
        };
        for height in [self.best, first, last] {
            out.extend(height.to_le_bytes());
        }
        put_list(&mut out, &self.buckets);
        for history in [&self.medium, &self.short, &self.long] {
            put_history(&mut out, history);
        }
        out
    }

    /// An estimator with what a file holds.
    pub fn decode(bytes: &[u8]) -> Result<Self, FeeFileError> {
        let mut input = Input(bytes);
        let version = i32::from_le_bytes(input.take()?);
        if version > VERSION {
            return Err(FeeFileError::TooNew(version));
        }
        let best = input.u32()?;
        if version < VERSION {
            return Err(FeeFileError::TooOld(version));
        }
        let (saved_first, saved_best) = (input.u32()?, input.u32()?);
        if saved_first > saved_best || saved_best > best {
            return Err(FeeFileError::Corrupt("Historical block range for estimates is invalid"));
        }
        let buckets = input.list()?;
        if !BUCKETS.contains(&buckets.len()) {
            return Err(FeeFileError::Corrupt("Must have between 2 and 1000 feerate buckets"));
        }
        if !buckets.is_sorted_by(|one, next| one < next) {
            return Err(FeeFileError::Corrupt("Buckets must rise"));
        }
        let mut history = || input.history(buckets.len());
        let (medium, short, long) = (history()?, history()?, history()?);
        Ok(Self { buckets, short, medium, long, best, saved_first, saved_best, ..Self::new() })
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
