//! `debug.log`: Core's line format, one `write` a line and nothing held back, since clients read
//! the file as soon as the reply that follows a line has reached them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ironpeer_primitives::{Clock, LogCategory, LogLevel, LogLine, LogSink, SystemClock, UnixTime};
use parking_lot::{Mutex, RwLock};

/// Bytes one kind of unconditional line may write in a window (Core's `RATELIMIT_MAX_BYTES`).
/// Larger: a peer that provokes a line fills the disk. Smaller: lines that matter are lost.
const RATE_LIMIT_BYTES: u64 = 1 << 20;
/// Length of that window in seconds.
const RATE_LIMIT_WINDOW: i64 = 3_600;
/// Kinds of lines counted in one window; further ones share a count, so that memory stays small.
const RATE_LIMIT_KINDS: usize = 1_024;
/// Bytes of a line's beginning that make its kind.
const KIND_BYTES: usize = 24;
/// What is kept of a log file that is shortened, in bytes.
const SHRINK_KEEP: u64 = 10_000_000;
/// Lines kept until the file is open. More are dropped, the oldest first.
const EARLY_LINES: usize = 4_096;

/// How lines look and where they go.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The file, or none.
    pub file: Option<PathBuf>,
    /// Standard output as well.
    pub console: bool,
    /// Begin with the time.
    pub timestamps: bool,
    /// The time with microseconds.
    pub micros: bool,
    /// Name the thread.
    pub thread_names: bool,
    /// Name category and level on every line.
    pub level_always: bool,
    /// Limit how much one kind of line may write.
    pub rate_limit: bool,
    /// Shorten a long file first.
    pub shrink: bool,
}

impl LogConfig {
    /// Writes nowhere; for embedders and tests.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            file: None,
            console: false,
            timestamps: true,
            micros: false,
            thread_names: false,
            level_always: false,
            rate_limit: false,
            shrink: false,
        }
    }
}

/// A node's log.
pub struct Log {
    config: LogConfig,
    /// The machine's time, which `setmocktime` does not move.
    real: SystemClock,
    node: Arc<dyn Clock>,
    categories: AtomicU64,
    levels: RwLock<Levels>,
    reopen: AtomicBool,
    out: Mutex<Out>,
}

#[derive(Clone, Debug)]
struct Levels {
    global: LogLevel,
    of: HashMap<LogCategory, LogLevel>,
}

#[derive(Default)]
struct Out {
    open: bool,
    file: Option<File>,
    early: std::collections::VecDeque<String>,
    limiter: Limiter,
}

#[derive(Default)]
struct Limiter {
    window_start: UnixTime,
    written: HashMap<String, u64>,
    suppressing: bool,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Log {
    /// A log that keeps its lines until [`Log::start`]. `node` is the clock whose mock time is
    /// shown beside the real one.
    #[must_use]
    pub fn new(config: LogConfig, node: Arc<dyn Clock>) -> Self {
        Self {
            config,
            real: SystemClock::new(),
            node,
            categories: AtomicU64::new(0),
            levels: RwLock::new(Levels { global: LogLevel::Debug, of: HashMap::new() }),
            reopen: AtomicBool::new(false),
            out: Mutex::new(Out::default()),
        }
    }

    /// Opens the file and writes what was kept so far.
    ///
    /// # Errors
    /// The file's path, if it cannot be opened.
    pub fn start(&self) -> Result<(), PathBuf> {
        let mut out = self.out.lock();
        if let Some(path) = &self.config.file {
            if self.config.shrink {
                // A file that cannot be shortened is used as it is.
                let _ = shrink(path);
            }
            let mut file = append(path).map_err(|_| path.clone())?;
            // Blank lines between runs.
            let _ = file.write_all(b"\n\n\n\n\n");
            out.file = Some(file);
        }
        out.open = true;
        for line in std::mem::take(&mut out.early) {
            self.emit(&mut out, &line, true);
        }
        Ok(())
    }

    /// Where the file lies.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.config.file.as_deref()
    }

    /// Opens the file anew before the next line, after it was moved away (SIGHUP).
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Switches a category on or off by its name in `-debug`; false if there is none such.
    pub fn set_category(&self, name: &str, on: bool) -> bool {
        let Some(mask) = category_mask(name) else { return false };
        if on {
            self.categories.fetch_or(mask, Ordering::Relaxed);
        } else {
            self.categories.fetch_and(!mask, Ordering::Relaxed);
        }
        true
    }

    /// Sets the least level of debug lines by name, of one category or of all; false if a name
    /// is unknown or the level may not be set by users.
    pub fn set_level(&self, category: Option<&str>, level: &str) -> bool {
        let level = match level {
            "trace" => LogLevel::Trace,
            "debug" => LogLevel::Debug,
            "info" => LogLevel::Info,
            _ => return false,
        };
        let mut levels = self.levels.write();
        match category {
            None => levels.global = level,
            Some(name) => {
                let Some((_, category)) = LogCategory::NAMED.iter().find(|(known, _)| *known == name) else {
                    return category_mask(name).is_some();
                };
                levels.of.insert(*category, level);
            }
        }
        true
    }

    /// Every category's name and whether it is on, sorted by name (the `logging` call's reply).
    #[must_use]
    pub fn categories(&self) -> Vec<(&'static str, bool)> {
        let on = self.categories.load(Ordering::Relaxed);
        let mut list: Vec<_> = LogCategory::NAMED
            .iter()
            .enumerate()
            .map(|(bit, (name, _))| (*name, on & (1 << bit) != 0))
            .collect();
        list.sort_unstable();
        list
    }

    /// Names `-debug` and `-loglevel` take.
    #[must_use]
    pub fn category_names(&self) -> Vec<&'static str> {
        self.categories().into_iter().map(|(name, _)| name).collect()
    }

    fn format(&self, line: &LogLine) -> String {
        let mut out = String::with_capacity(line.text.len() + 64);
        if self.config.timestamps {
            let micros = self.real.unix_micros();
            let (seconds, rest) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
            out.push_str(&iso8601(seconds));
            if self.config.micros {
                out.pop();
                let _ = write!(out, ".{rest:06}Z");
            }
            if let Some(mock) = self.node.mock() {
                let _ = write!(out, " (mocktime: {})", iso8601(mock));
            }
            out.push(' ');
        }
        if self.config.thread_names {
            let thread = std::thread::current();
            let _ = write!(out, "[{}] ", thread.name().unwrap_or("unknown"));
        }
        let named = self.config.level_always || line.category != LogCategory::Any;
        if named || line.level != LogLevel::Info {
            out.push('[');
            if named {
                out.push_str(line.category.name());
            }
            if self.config.level_always || !named || line.level != LogLevel::Debug {
                if named {
                    out.push(':');
                }
                out.push_str(level_name(line.level));
            }
            out.push_str("] ");
        }
        escape_into(&mut out, &line.text);
        if !out.ends_with('\n') {
            out.push('\n');
        }
        out
    }

    fn write(&self, out: &mut Out, line: &LogLine) {
        let text = self.format(line);
        if !out.open {
            if out.early.len() == EARLY_LINES {
                out.early.pop_front();
            }
            out.early.push_back(text);
            return;
        }
        let mut to_file = true;
        if self.config.rate_limit && line.level >= LogLevel::Info {
            match out.limiter.consume(&line.text, text.len() as u64, self.real.unix()) {
                Allowed::Yes => {}
                Allowed::LastOne => {
                    let note = LogLine::warning(format!(
                        "Excessive logging detected of lines like \"{}\": >{RATE_LIMIT_BYTES} bytes logged during the last time window of {RATE_LIMIT_WINDOW}s. Suppressing logging to disk of such lines until time window resets. Console logging unaffected. Last log entry.",
                        kind(&line.text)
                    ));
                    let note = self.format(&note);
                    self.emit(out, &note, true);
                }
                Allowed::No => to_file = false,
            }
        }
        let text = if out.limiter.suppressing { format!("[*] {text}") } else { text };
        self.emit(out, &text, to_file);
    }

    /// Failures to write a log line have nowhere to be told.
    fn emit(&self, out: &mut Out, text: &str, to_file: bool) {
        if self.config.console {
            let mut stdout = std::io::stdout().lock();
            let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        }
        if !to_file {
            return;
        }
        if self.reopen.swap(false, Ordering::Relaxed)
            && let Some(file) = self.config.file.as_deref().and_then(|path| append(path).ok())
        {
            out.file = Some(file);
        }
        if let Some(file) = &mut out.file {
            let _ = file.write_all(text.as_bytes());
        }
    }
}

impl LogSink for Log {
    fn log(&self, line: LogLine) {
        if line.level < LogLevel::Info {
            if !self.enabled(line.category) {
                return;
            }
            let levels = self.levels.read();
            if line.level < *levels.of.get(&line.category).unwrap_or(&levels.global) {
                return;
            }
        }
        self.write(&mut self.out.lock(), &line);
    }

    fn enabled(&self, category: LogCategory) -> bool {
        match LogCategory::NAMED.iter().position(|(_, named)| *named == category) {
            Some(bit) => self.categories.load(Ordering::Relaxed) & (1 << bit) != 0,
            None => true,
        }
    }
}

enum Allowed {
    Yes,
    LastOne,
    No,
}

impl Limiter {
    fn consume(&mut self, text: &str, bytes: u64, now: UnixTime) -> Allowed {
        if now.saturating_sub(self.window_start) >= RATE_LIMIT_WINDOW {
            self.written.clear();
            self.suppressing = false;
            self.window_start = now;
        }
        let mut kind: Cow<'_, str> = Cow::Borrowed(kind(text));
        if self.written.len() >= RATE_LIMIT_KINDS && !self.written.contains_key(kind.as_ref()) {
            kind = Cow::Borrowed("");
        }
        let written = self.written.entry(kind.into_owned()).or_default();
        let before = *written;
        *written = written.saturating_add(bytes);
        if *written <= RATE_LIMIT_BYTES {
            Allowed::Yes
        } else if before <= RATE_LIMIT_BYTES {
            self.suppressing = true;
            Allowed::LastOne
        } else {
            Allowed::No
        }
    }
}

/// What stands for a line's place in the source: its beginning up to the first digit, which is
/// the constant part of most lines.
fn kind(text: &str) -> &str {
    let end = text
        .char_indices()
        .find(|(at, c)| *at >= KIND_BYTES || c.is_ascii_digit())
        .map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// The bits a name in `-debug` stands for.
fn category_mask(name: &str) -> Option<u64> {
    if matches!(name, "" | "1" | "all") {
        return Some(u64::MAX);
    }
    let bit = LogCategory::NAMED.iter().position(|(known, _)| *known == name)?;
    Some(1 << bit)
}

fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warning",
        LogLevel::Error => "error",
    }
}

/// Control characters become `\xNN`, so that no peer's text can reach a terminal raw
/// (CVE-2018-20586).
fn escape_into(out: &mut String, text: &str) {
    for c in text.chars() {
        if (c.is_ascii_control() && c != '\n') || c == '\x7f' {
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Keeps the end of a file that has grown a tenth past what is kept.
fn shrink(path: &Path) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if length <= SHRINK_KEEP / 10 * 11 {
        return Ok(());
    }
    file.seek(SeekFrom::Start(length - SHRINK_KEEP))?;
    let mut tail = Vec::new();
    file.take(SHRINK_KEEP).read_to_end(&mut tail)?;
    std::fs::write(path, tail)
}

/// Unix seconds as `2011-02-02T23:16:42Z` (Core's `FormatISO8601DateTime`).
#[must_use]
pub fn iso8601(unix: UnixTime) -> String {
    let (days, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    // Days to civil date, counting years from March (Howard Hinnant's `civil_from_days`).
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
