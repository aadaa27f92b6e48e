//! From the words of a command line to JSON-RPC arguments (Core's `rpc/client.cpp`).

use ironpeer_api::{CliConversion, CliFormat, cli_conversions};
use serde_json::{Map, Value};

/// Arguments whose text may hold a `=` of its own, by method and position: with `-named` they are
/// no `name=value` there, unless the name is one of the method's (Core's `ParamFormat::STRING`).
const FREE_TEXT: [(&str, &[usize]); 30] = [
    ("analyzepsbt", &[0]),
    ("backupwallet", &[0]),
    ("createwallet", &[0, 3]),
    ("decodepsbt", &[0]),
    ("descriptorprocesspsbt", &[0, 2]),
    ("dumptxoutset", &[0, 1]),
    ("echoipc", &[0]),
    ("encryptwallet", &[0]),
    ("finalizepsbt", &[0]),
    ("getaddressesbylabel", &[0]),
    ("getnewaddress", &[0, 1]),
    ("getreceivedbylabel", &[0]),
    ("importmempool", &[0]),
    ("listsinceblock", &[0, 5]),
    ("listtransactions", &[0]),
    ("loadtxoutset", &[0]),
    ("loadwallet", &[0]),
    ("migratewallet", &[0, 1]),
    ("restorewallet", &[0, 1]),
    ("sendmany", &[0, 3, 7]),
    ("sendtoaddress", &[0, 2, 3, 7]),
    ("setlabel", &[1]),
    ("signmessage", &[1]),
    ("signmessagewithprivkey", &[1]),
    ("unloadwallet", &[0]),
    ("utxoupdatepsbt", &[0]),
    ("verifymessage", &[1, 2]),
    ("walletpassphrase", &[0]),
    ("walletpassphrasechange", &[0, 1]),
    ("walletprocesspsbt", &[0, 2]),
];

fn is_free_text(method: &str, position: usize) -> bool {
    FREE_TEXT.iter().any(|(name, positions)| *name == method && positions.contains(&position))
}

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

/// Arguments as `name=value`; words without `=`, and those that a free text or JSON argument of
/// that position explains better, go by position under `args`. That name is added even if it was given
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
                Some(CliFormat::String) | None if is_free_text(method, by_position.len()) => {
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
