//! `-getinfo`: four calls in one batch, shown in Core's layout.

use std::io::IsTerminal;

use serde_json::{Map, Value, json};

use super::batch;
use crate::args::Args;

/// The calls, by their place in the batch.
const METHODS: [&str; 4] = ["getnetworkinfo", "getblockchaininfo", "getwalletinfo", "getbalances"];
const NETWORK: usize = 0;
const CHAIN: usize = 1;
const WALLET: usize = 2;
const BALANCES: usize = 3;

/// One step of the progress bar.
const BAR_STEP: f64 = 0.05;

pub(super) fn request() -> Value {
    batch::request(&METHODS)
}

/// One reply out of the batch's four. An error of the first two calls is the reply's; the
/// wallet's calls may fail.
pub(super) fn collect(answer: &Value) -> Result<Value, String> {
    let mut replies = batch::replies(answer, METHODS.len())?;
    for id in [NETWORK, CHAIN] {
        if !replies[id]["error"].is_null() {
            return Ok(replies.swap_remove(id));
        }
    }
    let of = |id: usize, name: &str| replies[id]["result"][name].clone();
    let mut result = Map::new();
    let mut put = |name: &str, value: Value| result.insert(name.to_owned(), value);
    put("version", of(NETWORK, "version"));
    for name in ["blocks", "headers", "verificationprogress", "difficulty", "chain"] {
        put(name, of(CHAIN, name));
    }
    for name in ["timeoffset", "networks", "relayfee", "warnings"] {
        put(name, of(NETWORK, name));
    }
    put(
        "connections",
        json!({
            "in": of(NETWORK, "connections_in"),
            "out": of(NETWORK, "connections_out"),
            "total": of(NETWORK, "connections"),
        }),
    );
    if !replies[WALLET]["result"].is_null() {
        put("has_wallet", Value::Bool(true));
        for name in ["keypoolsize", "walletname", "unlocked_until"] {
            put(name, of(WALLET, name));
        }
    }
    if !replies[BALANCES]["result"].is_null() {
        put("balance", replies[BALANCES]["result"]["mine"]["trusted"].clone());
    }
    Ok(json!({"result": result, "error": null}))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The lines of `-getinfo`.
pub(super) fn show(args: &Args, result: &Value) -> Result<String, String> {
    let colour = match args.text("color").as_deref() {
        Some("always") => true,
        Some("never") => false,
        None | Some("auto") => std::io::stdout().is_terminal(),
        Some(_) => {
            return Err("Invalid value for -color option. Valid values: always, auto, never.".to_owned());
        }
    };
    let paint = |code: &'static str| if colour { code } else { "" };
    let (reset, green, blue) = (paint("\x1b[0m"), paint("\x1b[32m"), paint("\x1b[34m"));
    let (yellow, magenta, cyan) = (paint("\x1b[33m"), paint("\x1b[35m"), paint("\x1b[36m"));
    let of = |name: &str| text(&result[name]);

    let progress = result["verificationprogress"].as_f64().unwrap_or(0.0);
    let bar = if progress < 0.99 { format!("{} ", progress_bar(progress)) } else { String::new() };
    let mut out = format!(
        "{blue}Chain: {}{reset}\nBlocks: {}\nHeaders: {}\nVerification progress: {bar}{:.4}%\nDifficulty: {}\n\n",
        of("chain"),
        of("blocks"),
        of("headers"),
        progress * 100.0,
        of("difficulty")
    );
    let connections = &result["connections"];
    out.push_str(&format!(
        "{green}Network: in {}, out {}, total {}{reset}\nVersion: {}\nTime offset (s): {}\nProxies: {}\nMin tx relay fee rate (BTC/kvB): {}\n\n",
        text(&connections["in"]),
        text(&connections["out"]),
        text(&connections["total"]),
        of("version"),
        of("timeoffset"),
        proxies(&result["networks"]),
        of("relayfee")
    ));
    if !result["has_wallet"].is_null() {
        let name = of("walletname");
        let name = if name.is_empty() { "\"\"".to_owned() } else { name };
        out.push_str(&format!("{magenta}Wallet: {name}{reset}\nKeypool size: {}\n", of("keypoolsize")));
        if !result["unlocked_until"].is_null() {
            out.push_str(&format!("Unlocked until: {}\n", of("unlocked_until")));
        }
    }
    if !result["balance"].is_null() {
        out.push_str(&format!("{cyan}Balance:{reset} {}\n\n", of("balance")));
    }
    if let Some(balances) = result["balances"].as_object() {
        out.push_str(&format!("{cyan}Balances{reset}\n"));
        let widest = balances.values().map(|balance| text(balance).len()).max().unwrap_or(0).max(10);
        for (wallet, balance) in balances {
            let wallet = if wallet.is_empty() { "\"\"" } else { wallet };
            out.push_str(&format!("{:>widest$} {wallet}\n", text(balance)));
        }
        out.push('\n');
    }
    let warnings = match &result["warnings"] {
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(", "),
        other => text(other),
    };
    let warnings = if warnings.is_empty() { "(none)".to_owned() } else { warnings };
    out.push_str(&format!("{yellow}Warnings:{reset} {warnings}"));
    Ok(out)
}

/// Each proxy once, with the networks it serves.
fn proxies(networks: &Value) -> String {
    let mut list: Vec<(String, Vec<String>)> = Vec::new();
    for network in networks.as_array().into_iter().flatten() {
        let proxy = text(&network["proxy"]);
        if proxy.is_empty() {
            continue;
        }
        let name = text(&network["name"]);
        match list.iter_mut().find(|(known, _)| *known == proxy) {
            Some((_, names)) => names.push(name),
            None => list.push((proxy, vec![name])),
        }
    }
    if list.is_empty() {
        return "n/a".to_owned();
    }
    list.iter().map(|(proxy, names)| format!("{proxy} ({})", names.join(", "))).collect::<Vec<_>>().join(", ")
}

fn progress_bar(progress: f64) -> String {
    if !(0.0..=1.0).contains(&progress) {
        return String::new();
    }
    let steps = |part: f64| (0..20).filter(|step| f64::from(*step) < part / BAR_STEP).count();
    "\u{2592}".repeat(steps(progress)) + &"\u{2591}".repeat(steps(1.0 - progress))
}
