//! `ironpeer-cli`, which behaves as `bitcoin-cli`: options, texts, exit codes (Core's
//! `bitcoin-cli.cpp`).

mod batch;
mod convert;
mod http;
mod info;
mod netinfo;
mod print;

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use bitcoin::Network;
use ironpeer_primitives::{Clock, SystemClock};
use serde_json::{Map, Value, json};

use crate::args::{Args, help_message, options};
use crate::init::integral;
use crate::{CLIENT_NAME, datadir, full_version};
use http::Answer;

/// `-rpcclienttimeout`, in seconds.
const DEFAULT_CLIENT_TIMEOUT: i64 = 900;
/// What "no timeout" means, in seconds: five years.
const NO_TIMEOUT: u64 = 5 * 365 * 86_400;
/// `RPC_IN_WARMUP`.
const IN_WARMUP: i64 = -28;
/// `RPC_WALLET_NOT_SPECIFIED`.
const WALLET_NOT_SPECIFIED: i64 = -19;
/// `RPC_METHOD_NOT_FOUND`.
const METHOD_NOT_FOUND: i64 = -32_601;

/// Why a call failed before the node could answer it.
#[derive(Debug, thiserror::Error)]
enum CallError {
    /// The node cannot be reached or is not ready; `-rpcwait` tries again.
    #[error("{0}")]
    Connection(String),
    #[error("{0}")]
    Other(String),
}

fn other<T>(text: impl Into<String>) -> Result<T, CallError> {
    Err(CallError::Other(text.into()))
}

/// What is asked of the node, and how its answer is shown.
enum Request {
    Method { name: String, args: Vec<String> },
    GetInfo,
    NetInfo(netinfo::Wanted),
    AddrInfo,
}

impl Request {
    fn call(name: &str) -> Self {
        Self::Method { name: name.to_owned(), args: Vec::new() }
    }
}

/// Runs the tool with the words after its name and returns its exit code.
#[must_use]
pub fn run(words: &[String]) -> u8 {
    let mut args = Args::new(&[options::CHAIN, options::CLI]);
    if let Err(error) = args.parse_command_line(words) {
        eprintln!("Error parsing command line arguments: {error}");
        return 1;
    }
    if words.is_empty() || asks_for_help(&args) || args.bool("version") == Some(true) {
        print!("{}", usage(&args));
        if words.is_empty() {
            eprintln!("Error: too few parameters");
            return 1;
        }
        return 0;
    }
    if !datadir::option_is_directory(&args) {
        eprintln!(
            "Error: Specified data directory \"{}\" does not exist.",
            args.text("datadir").unwrap_or_default()
        );
        return 1;
    }
    match args.read_config_files() {
        Ok(warnings) => warnings.iter().for_each(|warning| eprintln!("{warning}")),
        Err(error) => {
            eprintln!("Error reading configuration file: {error}");
            return 1;
        }
    }
    match args.chain() {
        Ok(network) => args.select_network(network),
        Err(error) => {
            eprintln!("Error: {error}");
            return 1;
        }
    }
    match command(&mut args) {
        Ok((text, 0)) => {
            if !text.is_empty() {
                // Whoever reads may have seen enough.
                let _ = writeln!(std::io::stdout(), "{text}");
            }
            0
        }
        Ok((text, code)) => {
            eprintln!("{text}");
            code
        }
        Err(error) => {
            eprintln!("error: {error}");
            1
        }
    }
}

fn asks_for_help(args: &Args) -> bool {
    ["?", "h", "help"].iter().any(|name| args.is_set(name))
}

fn usage(args: &Args) -> String {
    let mut text = format!("{CLIENT_NAME} RPC client version {}\n", full_version());
    if args.bool("version") == Some(true) {
        text.push_str("Ironpeer's command line client, MIT licence\n");
        return text;
    }
    text.push_str(
        "\nSends a command to a running node and prints the answer.\n\
         \"help\" lists the commands, \"help <command>\" explains one.\n\n\
         Usage: bitcoin-cli [options] <command> [params]\n\
         or:    bitcoin-cli [options] -named <command> [name=value]...\n\
         or:    bitcoin-cli [options] help\n\
         or:    bitcoin-cli [options] help <command>\n\n\n",
    );
    text.push_str(&help_message(args));
    text
}

/// One line of standard input.
fn read_line(prompt: &str, failure: &str) -> Result<String, CallError> {
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        eprint!("{prompt}");
        // The prompt is a courtesy.
        let _ = std::io::stderr().flush();
    }
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(read) if read > 0 => Ok(line.trim_end_matches(['\n', '\r']).to_owned()),
        _ => other(failure),
    }
}

/// The text to show and the exit code.
fn command(args: &mut Args) -> Result<(String, u8), CallError> {
    if args.bool("stdinrpcpass") == Some(true) {
        let password =
            read_line("RPC password> ", "-stdinrpcpass specified but failed to read from standard input")?;
        args.force_set("rpcpassword", &password);
    }
    let mut words = args.command().to_vec();
    if args.bool("stdinwalletpassphrase") == Some(true) {
        if !words.first().is_some_and(|word| word.starts_with("walletpassphrase")) {
            return other("-stdinwalletpassphrase is only applicable for walletpassphrase(change)");
        }
        let passphrase = read_line(
            "Wallet passphrase> ",
            "-stdinwalletpassphrase specified but failed to read from standard input",
        )?;
        words.insert(1, passphrase);
    }
    if args.bool("stdin") == Some(true) {
        words.extend(std::io::stdin().lock().lines().map_while(Result::ok));
    }
    let chosen: Vec<_> = ["addrinfo", "generate", "getinfo", "netinfo"]
        .into_iter()
        .filter(|name| args.is_set(name))
        .map(|name| format!("-{name}"))
        .collect();
    if chosen.len() > 1 {
        return other(format!("Only one of {} may be specified.", chosen.join(", ")));
    }
    let on = |name| args.bool(name) == Some(true);
    let request = if on("getinfo") {
        if !words.is_empty() {
            return other("-getinfo takes no arguments");
        }
        Request::GetInfo
    } else if on("addrinfo") {
        if !words.is_empty() {
            return other("-addrinfo takes no arguments");
        }
        Request::AddrInfo
    } else if on("netinfo") {
        if words.first().is_some_and(|word| word == "h" || word == "help") {
            return Ok((netinfo::HELP.to_owned(), 0));
        }
        Request::NetInfo(netinfo::Wanted::parse(&words).map_err(CallError::Other)?)
    } else if on("generate") {
        return generate(args, words);
    } else if words.is_empty() {
        return other("too few parameters (need at least command)");
    } else {
        let name = words.remove(0);
        Request::Method { name, args: words }
    };
    let wallet = wallet(args);
    let mut result = match answer(args, &request, wallet.as_deref())? {
        Ok(result) => result,
        Err(error) => return Ok(show_error(&error)),
    };
    if let Request::GetInfo = request {
        if wallet.is_none()
            && let Some(balances) = balances(args)?
        {
            result["balances"] = balances;
        }
        result = Value::String(info::show(args, &result).map_err(CallError::Other)?);
    }
    Ok((show(&result), 0))
}

fn show(result: &Value) -> String {
    match result {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => print::pretty(value),
    }
}

/// `-rpcwallet`, unless it was switched off.
fn wallet(args: &Args) -> Option<String> {
    args.text("rpcwallet").filter(|_| !args.is_negated("rpcwallet"))
}

/// Calls; the inner error is the one the node answered with.
fn answer(args: &Args, request: &Request, wallet: Option<&str>) -> Result<Result<Value, Value>, CallError> {
    let reply = call_waiting(args, request, wallet)?;
    Ok(match reply.get("error") {
        None | Some(Value::Null) => Ok(reply.get("result").cloned().unwrap_or(Value::Null)),
        Some(error) => Err(error.clone()),
    })
}

/// What each wallet holds, if several are loaded (Core's `GetWalletBalances`).
fn balances(args: &Args) -> Result<Option<Value>, CallError> {
    let Ok(loaded) = answer(args, &Request::call("listwallets"), None)? else { return Ok(None) };
    let names: Vec<&str> = loaded.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.len() <= 1 {
        return Ok(None);
    }
    let mut balances = Map::new();
    for name in names {
        let held = answer(args, &Request::call("getbalances"), Some(name))?.unwrap_or(Value::Null);
        balances.insert(name.to_owned(), held["mine"]["trusted"].clone());
    }
    Ok(Some(Value::Object(balances)))
}

/// `-generate [nblocks [maxtries]]`: mines to a fresh address of the wallet.
fn generate(args: &Args, mut words: Vec<String>) -> Result<(String, u8), CallError> {
    let wallet = wallet(args);
    let address = match answer(args, &Request::call("getnewaddress"), wallet.as_deref())? {
        Ok(address) => address.as_str().unwrap_or_default().to_owned(),
        Err(error) => return Ok(show_error(&error)),
    };
    generate_words(&mut words, &address)?;
    let request = Request::Method { name: "generatetoaddress".to_owned(), args: words };
    Ok(match answer(args, &request, wallet.as_deref())? {
        Ok(blocks) => (print::pretty(&json!({"address": address, "blocks": blocks})), 0),
        Err(error) => show_error(&error),
    })
}

/// The arguments of `generatetoaddress` (Core's `SetGenerateToAddressArgs`).
fn generate_words(words: &mut Vec<String>, address: &str) -> Result<(), CallError> {
    if words.len() > 2 {
        return other("too many arguments (maximum 2 for nblocks and maxtries)");
    }
    match words.first().map(String::as_str) {
        None => words.push("1".to_owned()),
        Some("0") => {
            return other(
                "the first argument (number of blocks to generate, default: 1) must be an integer value greater than zero",
            );
        }
        Some(_) => {}
    }
    words.insert(1, address.to_owned());
    Ok(())
}

/// Core's `ParseError`; the exit code is the error code without its sign.
fn show_error(error: &Value) -> (String, u8) {
    let code = error.get("code").and_then(Value::as_i64).unwrap_or(0);
    let mut text = String::new();
    if error.is_object() {
        if let Some(code) = error.get("code").filter(|code| !code.is_null()) {
            text = format!("error code: {code}\n");
        }
        if let Some(message) = error.get("message").and_then(Value::as_str) {
            text.push_str("error message:\n");
            text.push_str(message);
        }
        if code == WALLET_NOT_SPECIFIED {
            text.push_str(
                " Or for the CLI, specify the \"-rpcwallet=<walletname>\" option before the command (run \"bitcoin-cli -h\" for help or \"bitcoin-cli listwallets\" to see which wallets are currently loaded).",
            );
        }
    } else {
        text = format!("error: {error}");
    }
    // The shell sees the lowest byte.
    (text, code.unsigned_abs().to_le_bytes()[0])
}

/// Calls, and with `-rpcwait` calls again until the node is there.
fn call_waiting(args: &Args, request: &Request, wallet: Option<&str>) -> Result<Value, CallError> {
    let wait = args.bool("rpcwait") == Some(true);
    let timeout = args.int("rpcwaittimeout").unwrap_or(0);
    let clock = SystemClock::new();
    loop {
        let outcome = call(args, request, wallet).and_then(|reply| {
            let warming =
                reply.pointer("/error/code").and_then(Value::as_i64).is_some_and(|code| code == IN_WARMUP);
            if wait && warming {
                Err(CallError::Connection("server in warmup".to_owned()))
            } else {
                Ok(reply)
            }
        });
        match outcome {
            Err(CallError::Connection(text)) if wait => {
                let left = timeout <= 0 || clock.steady().as_secs() < timeout.unsigned_abs();
                if !left {
                    return Err(CallError::Connection(format!("timeout on transient error: {text}")));
                }
                std::thread::sleep(Duration::from_secs(1));
            }
            outcome => return outcome,
        }
    }
}

/// Host and port as Core's `SplitHostPort`: a port only after the one colon, or after brackets.
///
/// `None` if what follows the colon is no port.
#[must_use]
pub(crate) fn split_host_port(text: &str) -> Option<(String, Option<u16>)> {
    let colon = text.rfind(':').filter(|colon| {
        let before = &text[..*colon];
        before.is_empty() || (before.starts_with('[') && before.ends_with(']')) || !before.contains(':')
    });
    let (host, port) = match colon {
        Some(colon) => {
            let digits = &text[colon + 1..];
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let port = plain.then(|| digits.parse::<u16>().ok()).flatten().filter(|port| *port != 0)?;
            (&text[..colon], Some(port))
        }
        None => (text, None),
    };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    Some((bare.to_owned(), port))
}

/// The RPC port a network listens on unless told otherwise (Core's `chainparamsbase.cpp`).
#[must_use]
pub fn default_rpc_port(network: Network) -> u16 {
    match network {
        Network::Bitcoin => 8_332,
        Network::Testnet => 18_332,
        Network::Testnet4 => 48_332,
        Network::Signet => 38_332,
        Network::Regtest => 18_443,
    }
}

fn address(args: &Args) -> Result<(String, u16), CallError> {
    let connect = args.text("rpcconnect").unwrap_or_else(|| "127.0.0.1".to_owned());
    let Some((host, connect_port)) = split_host_port(&connect) else {
        return other(format!("Invalid port provided in -rpcconnect: {connect}"));
    };
    let network = args.chain().map_err(|error| CallError::Other(error.0))?;
    let mut port = connect_port.unwrap_or_else(|| default_rpc_port(network));
    if let Some(text) = args.text("rpcport") {
        port = match integral(&text) {
            Some(port) if port != 0 => port,
            _ => return other(format!("Invalid port provided in -rpcport: {text}")),
        };
        if connect_port.is_some() {
            eprintln!("Warning: Port specified in both -rpcconnect and -rpcport. Using -rpcport {port}");
        }
    }
    Ok((host, port))
}

/// Where the cookie lies, or `None` after `-norpccookiefile`.
#[must_use]
pub fn cookie_path(args: &Args) -> Option<PathBuf> {
    let name = args.path("rpccookiefile").unwrap_or_else(|| PathBuf::from(".cookie"));
    (!name.as_os_str().is_empty()).then(|| datadir::net(args).join(name))
}

/// `user:password`, and what to say about it if the node refuses it.
fn credentials(args: &Args) -> (String, &'static str) {
    if let Some(password) = args.text("rpcpassword").filter(|password| !password.is_empty()) {
        let user = args.text("rpcuser").unwrap_or_default();
        return (format!("{user}:{password}"), "Incorrect rpcuser or rpcpassword were specified.");
    }
    let Some(path) = cookie_path(args) else {
        return (
            String::new(),
            "Cookie file was disabled via -norpccookiefile and no rpcpassword was specified.",
        );
    };
    match read_cookie(&path) {
        Some(cookie) => (cookie, "Cookie file credentials were invalid and no rpcpassword was specified."),
        None => (String::new(), "Failed to read cookie file and no rpcpassword was specified."),
    }
}

fn read_cookie(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().next().unwrap_or_default().to_owned())
}

/// The request as JSON.
fn body(args: &Args, request: &Request) -> Result<String, CallError> {
    Ok(match request {
        Request::Method { name, args: words } => {
            let params = if args.bool("named") == Some(true) {
                convert::named(name, words)
            } else {
                convert::positional(name, words)
            };
            let params = params.map_err(CallError::Other)?;
            let id = Value::from(args.text("rpcid").unwrap_or_else(|| "1".to_owned()));
            let name = Value::from(name.as_str());
            format!("{{\"method\":{name},\"params\":{params},\"id\":{id},\"jsonrpc\":\"2.0\"}}")
        }
        Request::AddrInfo => {
            json!({"method": "getaddrmaninfo", "params": [], "id": 1, "jsonrpc": "2.0"}).to_string()
        }
        Request::GetInfo => info::request().to_string(),
        Request::NetInfo(_) => netinfo::request().to_string(),
    })
}

fn call(args: &Args, request: &Request, wallet: Option<&str>) -> Result<Value, CallError> {
    check_ipc(args)?;
    let (host, port) = address(args)?;
    let timeout = match args.int("rpcclienttimeout").unwrap_or(DEFAULT_CLIENT_TIMEOUT) {
        seconds if seconds > 0 => seconds.unsigned_abs(),
        _ => NO_TIMEOUT,
    };
    let (login, refused) = credentials(args);
    let endpoint = match wallet {
        Some(wallet) => format!("/wallet/{}", http::url_encode(wallet)),
        None => "/".to_owned(),
    };
    let text = format!("{}\n", body(args, request)?);
    let login = base64::engine::general_purpose::STANDARD.encode(login);
    let answer = http::post(&host, port, &endpoint, &login, &text, Duration::from_secs(timeout))
        .map_err(|error| {
            let error = if error.is_empty() { error } else { format!(" ({error})") };
            CallError::Connection(format!(
                "Error while attempting to communicate with server {host}:{port}{error}\n\n\
                 Make sure the bitcoind server is running and that you are connecting to the correct RPC port.\n\
                 Use \"bitcoin-cli -help\" for more info."
            ))
        })?;
    reply_of(args, request, &answer, refused)
}

/// Core's `CallIPC` of a program without IPC.
fn check_ipc(args: &Args) -> Result<(), CallError> {
    match args.text("ipcconnect").as_deref() {
        None | Some("0" | "auto") => Ok(()),
        Some(_) if args.is_set("rpcconnect") && !args.is_negated("rpcconnect") => {
            other("-rpcconnect and -ipcconnect options cannot both be enabled")
        }
        Some(_) => other("bitcoin-cli was not built with IPC support"),
    }
}

fn reply_of(args: &Args, request: &Request, answer: &Answer, refused: &str) -> Result<Value, CallError> {
    match answer.status {
        401 => {
            return other(format!(
                "Authorization failed: {refused} Configuration file: ({})",
                args.config_path().display()
            ));
        }
        503 => return other(format!("Server response: {}", answer.body)),
        400 | 404 | 500 => {}
        status if status >= 400 => return other(format!("server returned HTTP error {status}")),
        _ => {}
    }
    if answer.body.is_empty() {
        return other("no response from server");
    }
    let Ok(value) = serde_json::from_str::<Value>(&answer.body) else {
        return other("couldn't parse reply from server");
    };
    let reply = match request {
        Request::Method { .. } => value,
        Request::GetInfo => info::collect(&value).map_err(CallError::Other)?,
        Request::NetInfo(wanted) => {
            let network = args.chain().map_err(|error| CallError::Other(error.0))?;
            let now = SystemClock::new().unix();
            netinfo::collect(&value, *wanted, network, now).map_err(CallError::Other)?
        }
        Request::AddrInfo => addr_info(value)?,
    };
    if reply.as_object().is_none_or(Map::is_empty) {
        return other("expected reply to have result, error and id properties");
    }
    Ok(reply)
}

fn addr_info(reply: Value) -> Result<Value, CallError> {
    if let Some(error) = reply.get("error").filter(|error| !error.is_null()) {
        if error.get("code").and_then(Value::as_i64) == Some(METHOD_NOT_FOUND) {
            return other(
                "-addrinfo requires bitcoind v26.0 or later which supports getaddrmaninfo RPC. Please upgrade your node or use bitcoin-cli from the same version.",
            );
        }
        return Ok(reply);
    }
    let counts: Map<String, Value> = reply
        .get("result")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(network, counts)| {
            let name = if network == "all_networks" { "total" } else { network };
            (name.to_owned(), counts.get("total").cloned().unwrap_or(Value::Null))
        })
        .collect();
    Ok(json!({"result": {"addresses_known": counts}, "error": null}))
}

#[cfg(test)]
#[path = "../cli_tests.rs"]
mod tests;
