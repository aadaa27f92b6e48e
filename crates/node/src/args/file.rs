//! `bitcoin.conf`, the files it includes, and `settings.json`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use ironpeer_primitives::LogLine;
use serde_json::{Map, Value};

use super::{Args, ArgsError, CONF_FILENAME, Key, SETTINGS_FILENAME, Section, merge};
use crate::datadir;

/// Largest configuration or settings file read, in bytes. Larger: a wrong path to a huge file
/// would fill memory. Smaller: long lists of peers would not fit.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Key of the notice in `settings.json`.
const WARNING_KEY: &str = "_warning_";

/// Blanks around names and values.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

impl Args {
    /// Reads `-conf` (or `bitcoin.conf`) and what it includes. Returns warnings for standard
    /// error about includes inside included files.
    ///
    /// # Errors
    /// A file that was asked for and cannot be read, a line that is no setting, or a data
    /// directory that is not there.
    pub fn read_config_files(&mut self) -> Result<Vec<String>, ArgsError> {
        self.ro_config.clear();
        self.sections.clear();
        let conf = self.path("conf").unwrap_or_else(|| PathBuf::from(CONF_FILENAME));
        self.config_path = if conf.as_os_str().is_empty() { conf } else { datadir::base(self).join(conf) };
        let path = self.config_path.clone();
        let mut warnings = Vec::new();
        if !path.as_os_str().is_empty() {
            if path.is_dir() {
                return Err(ArgsError::new(format!("Config file \"{}\" is a directory.", path.display())));
            }
            match read_text(&path) {
                Ok(text) => {
                    self.read_config(&text, &path.display().to_string())?;
                    self.read_includes(&mut warnings)?;
                }
                Err(_) if self.is_set("conf") => {
                    return Err(ArgsError::new(format!(
                        "specified config file \"{}\" could not be opened.",
                        path.display()
                    )));
                }
                // Having no configuration file is fine.
                Err(_) => {}
            }
        }
        if !datadir::option_is_directory(self) {
            return Err(ArgsError::new(format!(
                "specified data directory \"{}\" does not exist.",
                self.text("datadir").unwrap_or_default()
            )));
        }
        Ok(warnings)
    }

    fn read_includes(&mut self, warnings: &mut Vec<String>) -> Result<(), ArgsError> {
        // The command line can hold -noincludeconf only.
        if self.command_line.contains_key("includeconf") {
            return Ok(());
        }
        let chain = self.chain_name()?;
        let seen_chain = self.includes(&chain, 0).1;
        let mut names = self.includes(&chain, 0).0;
        let (default_names, seen_default) = self.includes("", 0);
        names.extend(default_names);
        for name in names {
            let path = datadir::base(self).join(&name);
            if path.is_dir() {
                return Err(ArgsError::new(format!(
                    "Included config file \"{}\" is a directory.",
                    path.display()
                )));
            }
            let text = read_text(&path)
                .map_err(|_| ArgsError::new(format!("Failed to include configuration file {name}")))?;
            self.read_config(&text, &name)?;
            self.notes.push(LogLine::info(format!("Included configuration file {name}")));
        }
        let mut nested = self.includes(&chain, seen_chain).0;
        nested.extend(self.includes("", seen_default).0);
        let chain_now = self.chain_name()?;
        if chain_now != chain {
            nested.extend(self.includes(&chain_now, 0).0);
        }
        warnings.extend(nested.iter().map(|name| {
            format!("warning: -includeconf cannot be used from included files; ignoring -includeconf={name}")
        }));
        Ok(())
    }

    /// Values of `includeconf` in a section from position `skip` on, and how many there are.
    fn includes(&self, section: &str, skip: usize) -> (Vec<String>, usize) {
        let Some(values) = self.ro_config.get(section).and_then(|settings| settings.get("includeconf"))
        else {
            return (Vec::new(), 0);
        };
        let from = skip.max(merge::Span(values).negated());
        let names = values.iter().skip(from).filter_map(|value| value.as_str().map(str::to_owned)).collect();
        (names, values.len())
    }

    /// Takes the lines of one configuration file named `file`. Unknown options are noted in the
    /// log and passed over.
    ///
    /// # Errors
    /// A line that is neither a setting nor a section.
    pub fn read_config(&mut self, text: &str, file: &str) -> Result<(), ArgsError> {
        let mut prefix = String::new();
        for (index, whole) in text.lines().enumerate() {
            let line = index + 1;
            let (content, comment) = match whole.split_once('#') {
                Some((content, _)) => (content, true),
                None => (whole, false),
            };
            let content = content.trim_matches(BLANKS);
            if content.is_empty() {
                continue;
            }
            if let Some(name) = content.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                self.sections.push(Section { name: name.to_owned(), file: file.to_owned(), line });
                prefix = format!("{name}.");
            } else if content.starts_with('-') {
                return Err(ArgsError::new(format!(
                    "parse error on line {line}: {content}, options in configuration file must be specified without leading -"
                )));
            } else if let Some((name, value)) = content.split_once('=') {
                let name = format!("{prefix}{}", name.trim_matches(BLANKS));
                if comment && name.contains("rpcpassword") {
                    return Err(ArgsError::new(format!(
                        "parse error on line {line}, using # in rpcpassword can be ambiguous and should be avoided"
                    )));
                }
                if let Some(dot) = name.rfind('.').filter(|dot| prefix.len() <= *dot) {
                    self.sections.push(Section { name: name[..dot].to_owned(), file: file.to_owned(), line });
                }
                self.configure(&name, value.trim_matches(BLANKS))?;
            } else {
                let hint = if content.starts_with("no") {
                    format!(", if you intended to specify a negated option, use {content}=1 instead")
                } else {
                    String::new()
                };
                return Err(ArgsError::new(format!("parse error on line {line}: {content}{hint}")));
            }
        }
        Ok(())
    }

    fn configure(&mut self, name: &str, value: &str) -> Result<(), ArgsError> {
        let key = Key::parse(name);
        match key.name.as_str() {
            "conf" => {
                return Err(ArgsError::new(
                    "conf cannot be set in the configuration file; use includeconf= if you want to include additional config files",
                ));
            }
            "reindex" => self.notes.push(LogLine::warning(
                "reindex=1 is set in the configuration file, which will significantly slow down startup. Consider removing or commenting out this option for better performance, unless there is currently a condition which makes rebuilding the indexes necessary",
            )),
            _ => {}
        }
        let Some(opt) = self.option(&key.name) else {
            self.notes.push(LogLine::warning(format!("Ignoring unknown configuration value {name}")));
            return Ok(());
        };
        let value = self.interpret(&key, Some(value), opt)?;
        self.ro_config.entry(key.section).or_default().entry(key.name).or_default().push(value);
        Ok(())
    }

    /// The settings file's path, or `None` after `-nosettings`.
    #[must_use]
    pub fn settings_path(&self) -> Option<PathBuf> {
        let name = self.path("settings").unwrap_or_else(|| PathBuf::from(SETTINGS_FILENAME));
        (!name.as_os_str().is_empty()).then(|| datadir::net(self).join(name))
    }

    /// Reads `settings.json`, if it is there.
    ///
    /// # Errors
    /// Core's texts for a file that cannot be read or is no JSON object.
    pub fn read_settings_file(&mut self) -> Result<(), ArgsError> {
        self.rw_settings.clear();
        let Some(path) = self.settings_path() else { return Ok(()) };
        if !path.exists() {
            return Ok(());
        }
        let shown = path.display();
        let text = match read_text(&path) {
            Ok(text) => text,
            // It opens, and nothing can be read from it.
            Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => String::new(),
            Err(_) => return Err(ArgsError::new(format!("{shown}. Please check permissions."))),
        };
        let invalid = |_| {
            ArgsError::new(format!(
                "Settings file {shown} does not contain valid JSON. This may be caused by a crash, power loss, full disk, or storage error, and can be fixed by removing the file, which will reset settings to default values."
            ))
        };
        let value: Value = serde_json::from_str(&text).map_err(invalid)?;
        if !value.is_object() {
            return Err(ArgsError::new(format!("Found non-object value {value} in settings file {shown}")));
        }
        let Pairs(pairs) = serde_json::from_str(&text).map_err(invalid)?;
        for (name, value) in pairs {
            if self.rw_settings.contains_key(&name) {
                return Err(ArgsError::new(format!("Found duplicate key {name} in settings file {shown}")));
            }
            if name == WARNING_KEY {
                continue;
            }
            if self.option(&Key::parse(&name).name).is_none() {
                self.notes.push(LogLine::warning(format!("Ignoring unknown rw_settings value {name}")));
            }
            self.rw_settings.insert(name, value);
        }
        Ok(())
    }

    /// Writes `settings.json` with the settings read, atomically.
    ///
    /// # Errors
    /// Core's text for a file that cannot be written.
    pub fn write_settings_file(&self) -> Result<(), ArgsError> {
        let Some(path) = self.settings_path() else { return Ok(()) };
        let mut map = Map::new();
        map.insert(
            WARNING_KEY.to_owned(),
            Value::String(format!(
                "This file is automatically generated and updated by {}. Please do not edit this file while the node is running, as any changes might be ignored or overwritten.",
                crate::CLIENT_NAME
            )),
        );
        map.extend(self.rw_settings.iter().map(|(name, value)| (name.clone(), value.clone())));
        let mut text = Vec::new();
        let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, indent);
        let failed = || {
            ArgsError::new(format!("Error: Unable to open settings file {}.tmp for writing", path.display()))
        };
        serde::Serialize::serialize(&Value::Object(map), &mut writer).map_err(|_| failed())?;
        text.push(b'\n');
        let mut temporary = path.clone().into_os_string();
        temporary.push(".tmp");
        fs::write(&temporary, &text).map_err(|_| failed())?;
        fs::rename(&temporary, &path).map_err(|_| {
            ArgsError::new(format!(
                "Failed renaming settings file {} to {}",
                Path::new(&temporary).display(),
                path.display()
            ))
        })
    }
}

/// An object's members as they stand, a name given twice included.
struct Pairs(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A whole text file; bytes that are no UTF-8 are replaced, so that such a line can be named.
fn read_text(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_CONFIG_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
