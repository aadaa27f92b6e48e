//! From the words of a command line to JSON-RPC arguments (Core's `rpc/client.cpp`).

use ironpeer_api::{CliConversion, CliFormat, cli_conversions};
use serde_json::{Map, Value};

fn rule_at(rules: &[CliConversion], method: &str, position: usize) -> Option<CliFormat> {
    rules.iter().find(|rule| rule.method == method && rule.position == position).map(|rule| rule.format)
}

fn rule_named(rules: &[CliConversion], method: &str, name: &str) -> Option<CliFormat> {
    rules.iter().find(|rule| rule.method == method && rule.name == name).map(|rule| rule.format)
}

fn parse(format: Option<CliFormat>, text: &str) -> Result<Value, String> {
    match format {
        None | Some(CliFormat::String) => Ok(Value::String(text.to_owned())),
        Some(format) => match serde_json::from_str(text) {
            Ok(value) => Ok(value),
            Err(_) if format == CliFormat::JsonOrString => Ok(Value::String(text.to_owned())),
            Err(_) => Err(format!("Error parsing JSON: {text}")),
        },
    }
}

/// Arguments by position, as JSON.
pub(super) fn positional(method: &str, words: &[String]) -> Result<String, String> {
    let rules = cli_conversions();
    words
        .iter()
        .enumerate()
        .map(|(position, word)| parse(rule_at(&rules, method, position), word))
        .collect::<Result<Vec<_>, _>>()
        .map(|values| Value::Array(values).to_string())
}

/// Arguments as `name=value`; words without `=`, and those that a text or JSON argument of that
/// position explains better, go by position under `args`. That name is added even if it was given
/// too: the node, not the tool, refuses such a call.
pub(super) fn named(method: &str, words: &[String]) -> Result<String, String> {
    let rules = cli_conversions();
    let mut params = Map::new();
    let mut by_position: Vec<Value> = Vec::new();
    for word in words {
        let here = rule_at(&rules, method, by_position.len());
        let Some((name, value)) = word.split_once('=') else {
            by_position.push(parse(here, word)?);
            continue;
        };
        let rule = rule_named(&rules, method, name);
        if rule.is_none() {
            match here {
                Some(CliFormat::Json) => {
                    if let Ok(parsed) = serde_json::from_str(word) {
                        by_position.push(parsed);
                        continue;
                    }
                }
                Some(CliFormat::String) => {
                    by_position.push(Value::String(word.clone()));
                    continue;
                }
                _ => {}
            }
        }
        params.insert(name.to_owned(), parse(rule, value)?);
    }
    let given = params.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())));
    let mut members: Vec<String> = given.collect();
    if !by_position.is_empty() {
        members.push(format!("\"args\":{}", Value::Array(by_position)));
    }
    Ok(format!("{{{}}}", members.join(",")))
}
