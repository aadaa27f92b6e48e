use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// What the demo found, line by line.
#[derive(Debug)]
pub struct Report {
    start: Instant,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    what: String,
    seen: String,
    as_expected: bool,
}

impl Report {
    /// An empty report; progress is told from now.
    pub fn new() -> Self {
        Self { start: Instant::now(), lines: Vec::new() }
    }

    /// Tells the person watching what is going on.
    pub fn progress(&self, text: &str) {
        println!("{:7.1} s  {text}", self.start.elapsed().as_secs_f64());
    }

    /// A heading of the progress.
    pub fn heading(&self, text: &str) {
        println!();
        self.progress(text);
    }

    /// Records a fact and whether it is the one expected.
    pub fn fact(&mut self, what: &str, seen: impl Into<String>, as_expected: bool) {
        let seen = seen.into();
        self.progress(&format!("{} {what}: {seen}", if as_expected { "ok " } else { "NOT" }));
        self.lines.push(Line { what: what.to_owned(), seen, as_expected });
    }

    /// Records that two things are equal, or both of them.
    pub fn equal(&mut self, what: &str, seen: &str, expected: &str) {
        if seen == expected {
            self.fact(what, seen, true);
        } else {
            self.fact(what, format!("{seen}, expected {expected}"), false);
        }
    }

    /// Whether every line is as expected.
    pub fn good(&self) -> bool {
        !self.lines.is_empty() && self.lines.iter().all(|line| line.as_expected)
    }

    /// The summary table.
    pub fn table(&self) -> String {
        let width = self.lines.iter().map(|line| line.what.len()).max().unwrap_or(0);
        let mut table = String::new();
        for line in &self.lines {
            let verdict = if line.as_expected { "ok " } else { "NOT" };
            let _ = writeln!(table, "{verdict}  {:width$}  {}", line.what, line.seen);
        }
        let good = self.lines.iter().filter(|line| line.as_expected).count();
        let _ = writeln!(
            table,
            "{good} of {} lines as expected, {:.0} s",
            self.lines.len(),
            self.start.elapsed().as_secs_f64()
        );
        table
    }
}

/// Milliseconds with one decimal.
pub fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}
