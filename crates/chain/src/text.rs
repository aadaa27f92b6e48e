//! Texts of log lines that clients and tests compare.

use ironpeer_primitives::UnixTime;

use crate::tree::Node;

/// Unix seconds as `2011-02-02T23:16:42Z` (Core's `FormatISO8601DateTime`).
pub(crate) fn iso8601(time: UnixTime) -> String {
    const DAY: i64 = 24 * 60 * 60;
    let (days, second) = (time.div_euclid(DAY), time.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day counted from 1970-01-01. Years start in March here, so that the
/// leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_400_YEARS: i64 = 146_097;
    /// Days from 0000-03-01 to 1970-01-01.
    const EPOCH: i64 = 719_468;
    let days = days + EPOCH;
    let (cycle, day) = (days.div_euclid(DAYS_PER_400_YEARS), days.rem_euclid(DAYS_PER_400_YEARS));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + carry, month, day)
}

/// `height=.. log2_work=.. date=..`, as in Core's `InvalidChainFound`.
pub(crate) fn place(node: &Node) -> String {
    format!(
        "{} height={} log2_work={:.6} date={}",
        node.hash,
        node.height,
        node.chainwork.log2(),
        iso8601(UnixTime::from(node.header.time))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_core_writes_them() {
        // Core's util_tests: FormatISO8601DateTime.
        assert_eq!(iso8601(971_890_963_199), "32767-12-31T23:59:59Z");
        assert_eq!(iso8601(1_317_425_777), "2011-09-30T23:36:17Z");
        assert_eq!(iso8601(0), "1970-01-01T00:00:00Z");
        assert_eq!(iso8601(951_782_400), "2000-02-29T00:00:00Z");
    }
}
