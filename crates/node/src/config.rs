//! From options to the plain settings of each room.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::{Network, ScriptBuf};
use ironpeer_consensus::{BuriedDeployment, Params, RegtestOptions, VersionBitsParameters};
use ironpeer_primitives::Height;

use crate::args::{Args, ArgsError};
use crate::log::LogConfig;
use crate::rpc::RpcConfig;
use crate::{USER_AGENT_NAME, datadir};

/// Longest user agent sent (Core's `MAX_SUBVERSION_LENGTH`).
const MAX_USER_AGENT: usize = 256;

/// Everything a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The network's rules.
    pub params: Arc<Params>,
    /// The network's own directory and the one of its blocks; none keeps everything in memory.
    pub dirs: Option<(PathBuf, PathBuf)>,
    /// File for the process id, or none.
    pub pid_file: Option<PathBuf>,
    /// The JSON-RPC door, or none.
    pub rpc: Option<RpcConfig>,
    /// Whether peers' addresses are logged.
    pub log_ips: bool,
    /// User agent in `version` messages.
    pub user_agent: String,
    /// `-deprecatedrpc`.
    pub deprecated_rpc: Vec<String>,
}

impl Config {
    /// Reads all options.
    ///
    /// # Errors
    /// The text that follows `Error: `, in Core's words.
    pub fn from_args(args: &Args) -> Result<Self, ArgsError> {
        let params = Arc::new(params(args)?);
        let net = datadir::net(args);
        let blocks = datadir::blocks(args).unwrap_or_else(|| net.join("blocks"));
        let pid = args.path("pid").unwrap_or_else(|| PathBuf::from("bitcoind.pid"));
        let rpc = if args.bool("server") == Some(true) {
            Some(RpcConfig::from_args(args, params.rpc_port)?)
        } else {
            None
        };
        Ok(Self {
            pid_file: (!pid.as_os_str().is_empty()).then(|| net.join(pid)),
            dirs: Some((net, blocks)),
            rpc,
            log_ips: args.bool("logips") == Some(true),
            user_agent: user_agent(&args.list("uacomment"))?,
            deprecated_rpc: args.list("deprecatedrpc"),
            params,
        })
    }

    /// The directories a node has for itself.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.dirs.iter().flat_map(|(net, blocks)| [net.as_path(), blocks.as_path()])
    }
}

impl LogConfig {
    /// Reads the log's options.
    #[must_use]
    pub fn from_args(args: &Args) -> Self {
        let on = |name: &str, default: bool| args.bool(name).unwrap_or(default);
        let file = args.path("debuglogfile").unwrap_or_else(|| PathBuf::from("debug.log"));
        let debugging = !args.list("debug").is_empty();
        Self {
            file: (!args.is_negated("debuglogfile")).then(|| datadir::net(args).join(file)),
            console: on("printtoconsole", true),
            timestamps: on("logtimestamps", true),
            micros: on("logtimemicros", false),
            thread_names: on("logthreadnames", false),
            level_always: on("loglevelalways", false),
            rate_limit: on("logratelimit", true),
            shrink: on("shrinkdebugfile", !debugging),
        }
    }
}

/// `/Ironpeer:0.1.0(comment; comment)/` (BIP14).
fn user_agent(comments: &[String]) -> Result<String, ArgsError> {
    let safe = |c: char| c.is_ascii_alphanumeric() || " .,;-_?@".contains(c);
    if let Some(comment) = comments.iter().find(|comment| !comment.chars().all(safe)) {
        return fail(format!("User Agent comment ({comment}) contains unsafe characters."));
    }
    let comments = if comments.is_empty() { String::new() } else { format!("({})", comments.join("; ")) };
    let agent = format!("/{USER_AGENT_NAME}:{}{comments}/", env!("CARGO_PKG_VERSION"));
    if agent.len() > MAX_USER_AGENT {
        return fail(format!(
            "Total length of network version string ({}) exceeds maximum length ({MAX_USER_AGENT}). Reduce the number or size of uacomments.",
            agent.len()
        ));
    }
    Ok(agent)
}

fn fail<T>(text: impl Into<String>) -> Result<T, ArgsError> {
    Err(ArgsError(text.into()))
}

/// The chosen network's rules, with what `-signetchallenge`, `-testactivationheight`,
/// `-vbparams` and `-test=bip94` change about them.
///
/// # Errors
/// Core's texts for values that cannot be read.
pub fn params(args: &Args) -> Result<Params, ArgsError> {
    Ok(match args.chain()? {
        Network::Signet => Params::signet(signet_challenge(args)?),
        Network::Regtest => Params::regtest(regtest_options(args)?),
        network => Params::for_network(network),
    })
}

fn signet_challenge(args: &Args) -> Result<Option<ScriptBuf>, ArgsError> {
    match args.list("signetchallenge").as_slice() {
        [] => Ok(None),
        [challenge] => match hex::decode(challenge) {
            Ok(script) => Ok(Some(ScriptBuf::from_bytes(script))),
            Err(_) => fail(format!("-signetchallenge must be hex, not '{challenge}'.")),
        },
        _ => fail("-signetchallenge cannot be multiple values."),
    }
}

fn regtest_options(args: &Args) -> Result<RegtestOptions, ArgsError> {
    let mut options = RegtestOptions {
        enforce_bip94: args.list("test").iter().any(|option| option == "bip94"),
        ..RegtestOptions::default()
    };
    for value in args.list("testactivationheight") {
        let Some((name, height)) = value.split_once('@') else {
            return fail(format!("Invalid format ({value}) for -testactivationheight=name@height."));
        };
        let Some(height) = height.parse::<u32>().ok().filter(|height| *height < i32::MAX.unsigned_abs())
        else {
            return fail(format!("Invalid height value ({value}) for -testactivationheight=name@height."));
        };
        let Some(deployment) = BuriedDeployment::from_option(name) else {
            return fail(format!("Invalid name ({value}) for -testactivationheight=name@height."));
        };
        options.activation_heights.push((deployment, Height(height)));
    }
    for value in args.list("vbparams") {
        let fields: Vec<&str> = value.split(':').collect();
        let (name, start, end, least) = match fields.as_slice() {
            [name, start, end] => (*name, *start, *end, "0"),
            [name, start, end, least] => (*name, *start, *end, *least),
            _ => {
                return fail(
                    "Version bits parameters malformed, expecting deployment:start:end[:min_activation_height]",
                );
            }
        };
        let number = |what: &str, text: &str| {
            text.parse::<i64>().map_err(|_| ArgsError(format!("Invalid {what} ({text})")))
        };
        let start_time = number("nStartTime", start)?;
        let timeout = number("nTimeout", end)?;
        let least = number("min_activation_height", least)?;
        // Taproot can be named too; it is buried at 0 on regtest and stays active.
        if name != "testdummy" {
            return fail(format!("Invalid deployment ({name})"));
        }
        let Ok(least) = u32::try_from(least) else {
            return fail(format!("Invalid min_activation_height ({least})"));
        };
        options.test_dummy =
            Some(VersionBitsParameters { start_time, timeout, min_activation_height: Height(least) });
    }
    Ok(options)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
