//! Which source of a setting wins: forced, command line, `settings.json`, the file's section of
//! the network, the file's default section (Core's `common/settings.cpp`).

use serde_json::Value;

use super::Args;
use super::options::NETWORK_ONLY;

/// The values of one option in one source, in the order given.
#[derive(Clone, Copy)]
pub(super) struct Span<'a>(pub &'a [Value]);

impl<'a> Span<'a> {
    /// Position after the last negation.
    pub(super) fn negated(self) -> usize {
        self.0.iter().rposition(|value| *value == Value::Bool(false)).map_or(0, |at| at + 1)
    }

    fn last_negated(self) -> bool {
        self.0.last() == Some(&Value::Bool(false))
    }

    /// The values that count: those after the last negation.
    pub(super) fn values(self) -> &'a [Value] {
        self.0.get(self.negated()..).unwrap_or_default()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Forced,
    CommandLine,
    RwSettings,
    Section,
    DefaultSection,
}

impl Source {
    fn in_file(self) -> bool {
        matches!(self, Self::Section | Self::DefaultSection)
    }
}

impl Args {
    /// The sources that mention an option, the strongest first.
    fn spans(&self, section: &str, name: &str) -> Vec<(Span<'_>, Source)> {
        let one = |value| Span(std::slice::from_ref(value));
        let file = |section: &str| self.ro_config.get(section).and_then(|settings| settings.get(name));
        let mut spans = Vec::new();
        spans.extend(self.forced.get(name).map(|value| (one(value), Source::Forced)));
        spans.extend(self.command_line.get(name).map(|values| (Span(values), Source::CommandLine)));
        spans.extend(self.rw_settings.get(name).map(|value| (one(value), Source::RwSettings)));
        if !section.is_empty() {
            spans.extend(file(section).map(|values| (Span(values), Source::Section)));
        }
        spans.extend(file("").map(|values| (Span(values), Source::DefaultSection)));
        spans
    }

    fn ignores_default_section(&self, name: &str) -> bool {
        self.section != "main" && self.option(name).is_some_and(|opt| opt.flags & NETWORK_ONLY != 0)
    }

    /// The one value that counts.
    pub(super) fn setting(&self, name: &str) -> Option<Value> {
        let ignore_default = self.ignores_default_section(name);
        for (span, source) in self.spans(&self.section, name) {
            // A negation in the default section counts even where a value there would not.
            if ignore_default && source == Source::DefaultSection && !span.last_negated() {
                continue;
            }
            // In the file the first value wins, elsewhere the last: Core keeps it so for old files.
            let value = if source.in_file() { span.values().first() } else { span.values().last() };
            if let Some(value) = value {
                return Some(value.clone());
            }
            if span.last_negated() {
                return Some(Value::Bool(false));
            }
        }
        None
    }

    /// Whether one of the flags `-regtest`, `-signet`, ... is on. Here a negation on the command
    /// line is passed over, and the last value wins in the file too.
    pub(super) fn chain_flag(&self, name: &str) -> bool {
        for (span, _) in self.spans("", name) {
            if span.last_negated() {
                continue;
            }
            if let Some(value) = span.values().last() {
                return match value {
                    Value::Bool(on) => *on,
                    other => super::interpret_bool(&super::setting_text(other)),
                };
            }
        }
        false
    }

    /// All values that count for an option that may be repeated.
    pub(super) fn settings_list(&self, name: &str) -> Vec<Value> {
        let ignore_default = self.ignores_default_section(name);
        let mut result: Vec<Value> = Vec::new();
        let mut done = false;
        let mut negated_empty = false;
        for (span, source) in self.spans(&self.section, name) {
            if ignore_default && source == Source::DefaultSection {
                continue;
            }
            // A negation followed by a value on the command line brings the file's values back:
            // Core keeps this oddity.
            if !done || (source.in_file() && !negated_empty) {
                for value in span.values() {
                    match value {
                        Value::Array(values) => result.extend(values.iter().cloned()),
                        value => result.push(value.clone()),
                    }
                }
            }
            done |= span.negated() > 0 || source == Source::Forced;
            negated_empty |= span.last_negated() && result.is_empty();
        }
        result
    }

    /// Set in the default section and nowhere that counts for this network.
    pub(super) fn only_in_default_section(&self, name: &str) -> bool {
        let set: Vec<_> = self
            .spans(&self.section, name)
            .into_iter()
            .filter(|(span, _)| !span.values().is_empty() && !span.last_negated())
            .map(|(_, source)| source)
            .collect();
        set == [Source::DefaultSection]
    }
}
