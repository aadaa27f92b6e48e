//! From options to the plain settings of each room.

use bitcoin::{Network, ScriptBuf};
use ironpeer_consensus::{BuriedDeployment, Params, RegtestOptions, VersionBitsParameters};
use ironpeer_primitives::Height;

use crate::args::{Args, ArgsError};

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
