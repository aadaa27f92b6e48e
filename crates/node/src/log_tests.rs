use ironpeer_primitives::FixedClock;

use super::*;

fn log_at(dir: &Path, change: impl FnOnce(&mut LogConfig)) -> Log {
    let mut config =
        LogConfig { file: Some(dir.join("debug.log")), timestamps: false, ..LogConfig::silent() };
    change(&mut config);
    Log::new(config, Arc::new(FixedClock::at(1_296_688_602)))
}

fn written(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("debug.log")).unwrap();
    text.trim_start_matches('\n').lines().map(str::to_owned).collect()
}

#[test]
fn lines_look_as_cores_and_are_there_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path(), |_| {});
    log.log(LogLine::info("before the file is open"));
    log.start().unwrap();
    assert!(log.set_category("net", true));
    log.log(LogLine::info("plain"));
    log.log(LogLine::warning("careful"));
    log.log(LogLine::debug(LogCategory::Net, "seen"));
    log.log(LogLine::debug(LogCategory::Rpc, "not seen"));
    log.log(LogLine { category: LogCategory::Net, level: LogLevel::Warning, text: "both".into() });
    assert_eq!(
        written(dir.path()),
        ["before the file is open", "plain", "[warning] careful", "[net] seen", "[net:warning] both"]
    );
}

#[test]
fn control_characters_are_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path(), |_| {});
    log.start().unwrap();
    log.log(LogLine::info("a\x1b[31mred\r\x7f\u{e9}"));
    assert_eq!(written(dir.path()), ["a\\x1b[31mred\\x0d\\x7f\u{e9}"]);
}

#[test]
fn categories_and_levels_switch_at_run_time() {
    let log = log_at(Path::new("/nowhere"), |_| {});
    assert!(!log.enabled(LogCategory::Mempool));
    assert!(log.set_category("all", true) && log.set_category("mempool", false));
    assert!(log.enabled(LogCategory::Net) && !log.enabled(LogCategory::Mempool));
    assert!(!log.set_category("nosuch", true));
    assert!(log.set_level(None, "trace") && log.set_level(Some("net"), "info"));
    assert!(!log.set_level(None, "error") && !log.set_level(Some("nosuch"), "info"));
    let names: Vec<_> = log.categories().into_iter().map(|(name, _)| name).collect();
    // Nothing here logs about libevent; clients of release 31 look for it in the reply.
    assert!(names.is_sorted() && names.contains(&"libevent"));
}

#[test]
fn trace_lines_need_the_trace_level() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path(), |_| {});
    log.start().unwrap();
    log.set_category("net", true);
    let trace = |text: &'static str| LogLine {
        category: LogCategory::Net,
        level: LogLevel::Trace,
        text: text.into(),
    };
    log.log(trace("one"));
    log.set_level(Some("net"), "trace");
    log.log(trace("two"));
    assert_eq!(written(dir.path()), ["[net:trace] two"]);
}

#[test]
fn one_kind_of_line_cannot_fill_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path(), |config| config.rate_limit = true);
    log.start().unwrap();
    for index in 0..40 {
        log.log(LogLine::info(format!("flood {index} {}", "x".repeat(64 << 10))));
    }
    log.log(LogLine::info("another kind"));
    let size = std::fs::metadata(dir.path().join("debug.log")).unwrap().len();
    assert!(size < RATE_LIMIT_BYTES + (128 << 10), "{size}");
    let lines = written(dir.path());
    assert!(lines.iter().any(|line| line.contains("Excessive logging detected")));
    assert_eq!(lines.last().unwrap(), "[*] another kind");
}

/// CVE-2025-54604, 54605: a million lines that strangers can provoke leave few on disk.
#[test]
fn cve_2025_54604_54605_a_million_lines_leave_few_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path(), |config| config.rate_limit = true);
    log.start().unwrap();
    for n in 0..250_000 {
        log.log(LogLine::info(format!("connected to self at 203.0.113.{}:8333, disconnecting", n % 256)));
        log.log(LogLine::error(format!("ConnectBlock: Consensus::CheckTxInputs: {n:064x}, bad-txns-inputs")));
        log.log(LogLine::warning(format!("ThreadRPCServer incorrect password attempt from 192.0.2.1:{n}")));
        log.log(LogLine::info(format!("socket error accept failed: {n}")));
    }
    let size = std::fs::metadata(dir.path().join("debug.log")).unwrap().len();
    assert!(size <= 5 << 20, "{size}");
}

#[test]
fn a_long_file_is_shortened_and_a_moved_one_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("debug.log");
    std::fs::write(&path, vec![b'x'; 12_000_000]).unwrap();
    let log = log_at(dir.path(), |config| config.shrink = true);
    log.start().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), SHRINK_KEEP + 5);
    std::fs::rename(&path, dir.path().join("old.log")).unwrap();
    log.reopen();
    log.log(LogLine::info("fresh"));
    assert_eq!(written(dir.path()), ["fresh"]);
}

#[test]
fn mock_time_stands_beside_the_real_one() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::new());
    let config = LogConfig { file: Some(dir.path().join("debug.log")), micros: true, ..LogConfig::silent() };
    let log = Log::new(config, clock.clone());
    log.start().unwrap();
    clock.set_mock(1_296_688_602);
    log.log(LogLine::info("x"));
    let lines = written(dir.path());
    assert!(lines[0].ends_with("Z (mocktime: 2011-02-02T23:16:42Z) x"), "{lines:?}");
    assert_eq!(lines[0].find('.'), Some(19));
}

#[test]
fn dates_follow_the_calendar() {
    for (unix, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (1_231_006_505, "2009-01-03T18:15:05Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (4_107_542_399, "2100-02-28T23:59:59Z"),
    ] {
        assert_eq!(iso8601(unix), text);
    }
}
