//! Bitcoin Core's option dialect: `-foo=bar` and `--foo` on the command line, `-nofoo`,
//! `[sections]` and `includeconf` in the configuration file, `settings.json`, and the order in
//! which these outrank each other (Core's `common/args.cpp`, `config.cpp`, `settings.cpp`).

mod file;
mod help;
mod merge;
pub mod options;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bitcoin::Network;
use ironpeer_primitives::LogLine;
use serde_json::Value;

pub use help::help_message;
use options::{Effect, NETWORK_ONLY, NO_ELISION, NO_NEGATION, Opt, SENSITIVE};

/// Default name of the configuration file, in the data directory.
pub const CONF_FILENAME: &str = "bitcoin.conf";
/// Default name of the file of settings changed at run time, in the network's directory.
pub const SETTINGS_FILENAME: &str = "settings.json";

/// Why the options cannot be used. The text is what follows `Error: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ArgsError(pub String);

impl ArgsError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

type Settings = BTreeMap<String, Vec<Value>>;

/// A section heading met in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The text between the brackets, or before the dot of `section.name=`.
    pub name: String,
    /// File it stands in.
    pub file: String,
    /// Line there, from 1.
    pub line: usize,
}

/// Everything the user has set, from every source.
///
/// Names are given without the dash, to every method.
#[derive(Clone, Debug, Default)]
pub struct Args {
    tables: Vec<&'static [Opt]>,
    forced: BTreeMap<String, Value>,
    command_line: Settings,
    rw_settings: BTreeMap<String, Value>,
    ro_config: BTreeMap<String, Settings>,
    sections: Vec<Section>,
    section: String,
    command: Vec<String>,
    notes: Vec<LogLine>,
    config_path: PathBuf,
}

impl Args {
    /// No settings yet; `tables` are the known options.
    #[must_use]
    pub fn new(tables: &[&'static [Opt]]) -> Self {
        Self { tables: tables.to_vec(), ..Self::default() }
    }

    /// The known options.
    pub fn known(&self) -> impl Iterator<Item = &'static Opt> + '_ {
        self.tables.iter().flat_map(|table| table.iter())
    }

    fn option(&self, name: &str) -> Option<&'static Opt> {
        self.known().find(|opt| opt.name == name && !opt.group.is_commands())
    }

    /// Takes the command line, the program's name left out. The first word without a dash ends
    /// the options; it and the rest are [`Args::command`].
    ///
    /// # Errors
    /// An unknown option, a forbidden negation, a missing value, or `-includeconf`.
    pub fn parse_command_line(&mut self, words: &[String]) -> Result<(), ArgsError> {
        for (index, word) in words.iter().enumerate() {
            if word == "-" {
                break;
            }
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (word.as_str(), None),
            };
            let Some(key) = key.strip_prefix('-') else {
                self.command.extend_from_slice(words.get(index..).unwrap_or_default());
                break;
            };
            let key = key.strip_prefix('-').unwrap_or(key);
            let key = Key::parse(key);
            let opt = self
                .option(&key.name)
                .filter(|_| key.section.is_empty())
                .ok_or_else(|| ArgsError::new(format!("Invalid parameter {word}")))?;
            let value = self.interpret(&key, value, opt)?;
            self.command_line.entry(key.name).or_default().push(value);
        }
        if let Some(values) = self.command_line.get("includeconf") {
            let span = merge::Span(values);
            if let Some(first) = span.values().first() {
                return Err(ArgsError::new(format!(
                    "-includeconf cannot be used from commandline; -includeconf={first}"
                )));
            }
        }
        Ok(())
    }

    /// A value as the option's flags allow it (Core's `InterpretValue`).
    fn interpret(&mut self, key: &Key, value: Option<&str>, opt: &Opt) -> Result<Value, ArgsError> {
        if key.negated {
            if opt.flags & NO_NEGATION != 0 {
                return Err(ArgsError::new(format!(
                    "Negating of -{} is meaningless and therefore forbidden",
                    key.name
                )));
            }
            if let Some(value) = value.filter(|value| !interpret_bool(value)) {
                self.notes.push(LogLine::warning(format!(
                    "Parsed potentially confusing double-negative -{}={value}",
                    key.name
                )));
                return Ok(Value::Bool(true));
            }
            return Ok(Value::Bool(false));
        }
        if value.is_none() && opt.flags & NO_ELISION != 0 {
            return Err(ArgsError::new(format!(
                "Can not set -{0} with no value. Please specify value with -{0}=value.",
                key.name
            )));
        }
        Ok(Value::String(value.unwrap_or_default().to_owned()))
    }

    /// Words after the options.
    #[must_use]
    pub fn command(&self) -> &[String] {
        &self.command
    }

    /// Where the configuration was read from; empty after `-noconf`.
    #[must_use]
    pub fn config_path(&self) -> &Path {
        &self.config_path
    }

    /// Keeps a line for the log.
    pub fn note(&mut self, line: LogLine) {
        self.notes.push(line);
    }

    /// Lines for the log that arose before it was open.
    #[must_use]
    pub fn take_notes(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.notes)
    }

    /// Sets an option unless the user has; true if it did (Core's `SoftSetArg`).
    pub fn soft_set(&mut self, name: &str, value: &str) -> bool {
        if self.is_set(name) {
            return false;
        }
        self.forced.insert(name.to_owned(), Value::String(value.to_owned()));
        true
    }

    /// Sets an option whatever the user has set.
    pub fn force_set(&mut self, name: &str, value: &str) {
        self.forced.insert(name.to_owned(), Value::String(value.to_owned()));
    }

    /// Whether any source sets it.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.setting(name).is_some()
    }

    /// Whether it was switched off, as by `-nofoo`.
    #[must_use]
    pub fn is_negated(&self, name: &str) -> bool {
        self.setting(name) == Some(Value::Bool(false))
    }

    /// Its text; `1` and `0` for a plain or negated option.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.setting(name).map(|value| setting_text(&value))
    }

    /// As an integer; text that is none reads as far as it goes, as C's `atoi`.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        self.setting(name).map(|value| match value {
            Value::Bool(on) => i64::from(on),
            other => atoi(&setting_text(&other)),
        })
    }

    /// As a switch: on without a value or with a number other than 0.
    #[must_use]
    pub fn bool(&self, name: &str) -> Option<bool> {
        self.setting(name).map(|value| match value {
            Value::Bool(on) => on,
            other => interpret_bool(&setting_text(&other)),
        })
    }

    /// Every value given for an option that may be repeated.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<String> {
        self.settings_list(name).iter().map(setting_text).collect()
    }

    /// As a path without `.`, `..` and a trailing slash; `None` if unset, empty if negated.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        match self.setting(name)? {
            Value::Bool(false) => Some(PathBuf::new()),
            value => {
                let text = setting_text(&value);
                (!text.is_empty()).then(|| normal(Path::new(&text)))
            }
        }
    }

    /// The network: one of `-chain`, `-regtest`, `-signet`, `-testnet`, `-testnet4`, else main.
    ///
    /// # Errors
    /// Two of them, or a name nobody knows.
    pub fn chain(&self) -> Result<Network, ArgsError> {
        let name = self.chain_name()?;
        network_by_name(&name).ok_or_else(|| ArgsError::new(format!("Unknown chain {name}.")))
    }

    fn chain_name(&self) -> Result<String, ArgsError> {
        let named = self.text("chain");
        let flagged: Vec<_> =
            [("regtest", "regtest"), ("signet", "signet"), ("testnet", "test"), ("testnet4", "testnet4")]
                .into_iter()
                .filter(|(flag, _)| self.chain_flag(flag))
                .collect();
        if usize::from(named.is_some()) + flagged.len() > 1 {
            return Err(ArgsError::new(
                "Invalid combination of -regtest, -signet, -testnet, -testnet4 and -chain. Can use at most one.",
            ));
        }
        Ok(named.unwrap_or_else(|| flagged.first().map_or("main", |(_, name)| name).to_owned()))
    }

    /// What is wrong with the choice of a network, if two are chosen.
    #[must_use]
    pub fn chain_conflict(&self) -> Option<ArgsError> {
        self.chain_name().err()
    }

    /// Makes the section of `network` count from here on.
    pub fn select_network(&mut self, network: Network) {
        network_name(network).clone_into(&mut self.section);
    }

    /// Options set only in the file's default section that count on the main network alone.
    #[must_use]
    pub fn unsuitable_section_only(&self) -> Vec<&'static str> {
        if self.section.is_empty() || self.section == "main" {
            return Vec::new();
        }
        let mut names: Vec<_> = self
            .known()
            .filter(|opt| opt.flags & NETWORK_ONLY != 0 && self.only_in_default_section(opt.name))
            .map(|opt| opt.name)
            .collect();
        names.sort_unstable();
        names
    }

    /// Section headings that name no network.
    #[must_use]
    pub fn unrecognized_sections(&self) -> Vec<&Section> {
        self.sections.iter().filter(|section| network_by_name(&section.name).is_none()).collect()
    }

    /// Options the user switched on that this version does not have, and whether that is an
    /// error rather than a line in the log.
    #[must_use]
    pub fn without_effect(&self) -> Vec<(&'static Opt, bool)> {
        self.known()
            .filter(|opt| opt.effect != Effect::Acts)
            .filter(|opt| {
                self.text(opt.name)
                    .is_some_and(|value| value.is_empty() || (value != "0" && value != "false"))
            })
            .map(|opt| (opt, opt.effect == Effect::Refused))
            .collect()
    }

    /// What is set where, for the log; secrets as asterisks.
    #[must_use]
    pub fn summary(&self) -> Vec<LogLine> {
        let mut lines = Vec::new();
        for (section, settings) in &self.ro_config {
            let prefix = if section.is_empty() { String::new() } else { format!("[{section}] ") };
            self.summarize("Config file arg:", &prefix, settings, &mut lines);
        }
        for (name, value) in &self.rw_settings {
            let secret = self.option(name).is_some_and(|opt| opt.flags & SENSITIVE != 0);
            let shown = if secret { "****".to_owned() } else { value.to_string() };
            lines.push(LogLine::info(format!("Setting file arg: {name} = {shown}")));
        }
        self.summarize("Command-line arg:", "", &self.command_line, &mut lines);
        lines
    }

    fn summarize(&self, kind: &str, section: &str, settings: &Settings, lines: &mut Vec<LogLine>) {
        for (name, values) in settings {
            let Some(opt) = self.option(name) else { continue };
            for value in values {
                let shown = if opt.flags & SENSITIVE != 0 { "****".to_owned() } else { value.to_string() };
                lines.push(LogLine::info(format!("{kind} {section}{name}={shown}")));
            }
        }
    }
}

/// An option's name taken apart: `section.nofoo`.
struct Key {
    section: String,
    name: String,
    negated: bool,
}

impl Key {
    fn parse(key: &str) -> Self {
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        let (name, negated) = match name.strip_prefix("no") {
            Some(rest) => (rest, true),
            None => (name, false),
        };
        Self { section: section.to_owned(), name: name.to_owned(), negated }
    }
}

fn setting_text(value: &Value) -> String {
    match value {
        Value::Bool(on) => (if *on { "1" } else { "0" }).to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// On without text, else on unless the number is 0.
fn interpret_bool(text: &str) -> bool {
    text.is_empty() || atoi(text) != 0
}

/// Core's `LocaleIndependentAtoi`: blanks, a sign, digits as far as they go; saturating.
fn atoi(text: &str) -> i64 {
    let text = text.trim_matches([' ', '\x0c', '\n', '\r', '\t', '\x0b']);
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].bytes().fold(0i64, |value, digit| {
        let digit = i64::from(digit - b'0');
        let signed = if negative { -digit } else { digit };
        value.saturating_mul(10).saturating_add(signed)
    })
}

/// A path without `.`, `..` and a trailing slash, by its text alone.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    if out.as_os_str().is_empty() { PathBuf::from(".") } else { out }
}

/// The name in `-chain=`, in sections and in `getblockchaininfo`.
#[must_use]
pub fn network_name(network: Network) -> &'static str {
    match network {
        Network::Bitcoin => "main",
        Network::Testnet => "test",
        Network::Testnet4 => "testnet4",
        Network::Signet => "signet",
        Network::Regtest => "regtest",
    }
}

fn network_by_name(name: &str) -> Option<Network> {
    [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest]
        .into_iter()
        .find(|network| network_name(*network) == name)
}

#[cfg(test)]
#[path = "../args_tests.rs"]
mod tests;
