use super::*;
use crate::args::options;

fn args(line: &str) -> Args {
    let mut args = Args::new(&[options::CHAIN, options::DAEMON]);
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    args.parse_command_line(&words).unwrap();
    args
}

#[test]
fn user_agents_carry_safe_comments_only() {
    let of = |comments: &[&str]| {
        user_agent(&comments.iter().map(|comment| (*comment).to_owned()).collect::<Vec<_>>()).map_err(|e| e.0)
    };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(of(&[]), Ok(format!("/Ironpeer:{version}/")));
    assert_eq!(of(&["a", "b c"]), Ok(format!("/Ironpeer:{version}(a; b c)/")));
    for unsafe_char in ["/", ":", "(", ")", "\u{20bf}"] {
        assert_eq!(
            of(&[unsafe_char]),
            Err(format!("User Agent comment ({unsafe_char}) contains unsafe characters."))
        );
    }
    assert!(
        of(&["a".repeat(256).as_str()]).unwrap_err().starts_with("Total length of network version string (2")
    );
}

#[test]
fn networks_take_their_options() {
    let signet = params(&args("-signet -signetchallenge=51")).unwrap();
    assert_eq!(signet.signet_challenge.unwrap().as_bytes(), [0x51]);
    let regtest =
        params(&args("-regtest -testactivationheight=segwit@432 -vbparams=testdummy:0:99:7")).unwrap();
    assert_eq!(regtest.segwit_height, Height(432));
    let dummy = regtest.deployments.iter().find(|deployment| deployment.name == "testdummy").unwrap();
    assert_eq!((dummy.start_time, dummy.timeout, dummy.min_activation_height), (0, 99, Height(7)));
}

#[test]
fn wrong_network_options_have_cores_texts() {
    for (line, error) in [
        ("-signet -signetchallenge=zz", "-signetchallenge must be hex, not 'zz'."),
        ("-signet -signetchallenge=51 -signetchallenge=52", "-signetchallenge cannot be multiple values."),
        (
            "-regtest -testactivationheight=segwit",
            "Invalid format (segwit) for -testactivationheight=name@height.",
        ),
        (
            "-regtest -testactivationheight=segwit@-1",
            "Invalid height value (segwit@-1) for -testactivationheight=name@height.",
        ),
        (
            "-regtest -testactivationheight=moon@1",
            "Invalid name (moon@1) for -testactivationheight=name@height.",
        ),
        (
            "-regtest -vbparams=testdummy:1",
            "Version bits parameters malformed, expecting deployment:start:end[:min_activation_height]",
        ),
        ("-regtest -vbparams=testdummy:x:1", "Invalid nStartTime (x)"),
        ("-regtest -vbparams=testdummy:1:x", "Invalid nTimeout (x)"),
        ("-regtest -vbparams=testdummy:1:1:x", "Invalid min_activation_height (x)"),
        ("-regtest -vbparams=moon:1:1", "Invalid deployment (moon)"),
    ] {
        assert_eq!(params(&args(line)).unwrap_err().0, error, "{line}");
    }
}
