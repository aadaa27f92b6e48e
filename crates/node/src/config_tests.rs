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

#[test]
fn amounts_read_as_cores() {
    let of = |text: &str| money(&args(&format!("-minrelaytxfee={text}")), "minrelaytxfee").map_err(|e| e.0);
    assert_eq!(of("0.00001"), Ok(Some(1_000)));
    assert_eq!(of("1"), Ok(Some(100_000_000)));
    assert_eq!(of(".5"), Ok(Some(50_000_000)));
    assert_eq!(of("."), Ok(Some(0)));
    for text in ["", "x", "-1", "0.000000001", "21000001", "1.2.3"] {
        assert_eq!(of(text), Err(format!("Invalid amount for -minrelaytxfee=<amount>: '{text}'")));
    }
    assert_eq!(money(&args(""), "minrelaytxfee"), Ok(None));
}

#[test]
fn mempool_and_mining_options_reach_their_rooms() {
    let regtest = params(&args("-regtest")).unwrap();
    let pool = mempool(&args("-incrementalrelayfee=0.00005 -maxmempool=5 -datacarrier=0"), &regtest).unwrap();
    assert_eq!(pool.min_relay.sat_per_kvb(), 5_000);
    assert_eq!((pool.max_bytes, pool.max_datacarrier_bytes), (5_000_000, None));
    let main = params(&args("")).unwrap();
    assert_eq!(
        mempool(&args("-acceptnonstdtxn"), &main).unwrap_err().0,
        "acceptnonstdtxn is not currently supported for main chain"
    );
    assert_eq!(
        mempool(&args("-limitclustercount=65"), &regtest).unwrap_err().0,
        "limitclustercount must be less than or equal to 64"
    );
    assert!(mining(&args("-blockmaxweight=4000001")).unwrap_err().0.contains("exceeds consensus maximum"));
    assert!(auto_mine(&args("-automine=every-tx"), &main).is_err());
    assert_eq!(auto_mine(&args("-automine=tx-count:3"), &regtest).unwrap(), Some(AutoMine::TxCount(3)));
    assert!(auto_mine(&args("-automine=sometimes"), &regtest).is_err());
}

#[test]
fn hashes_and_work_may_be_short() {
    assert_eq!(user_hex("0x1").unwrap()[31], 1);
    assert_eq!(user_hex("").unwrap(), [0; 32]);
    assert_eq!(user_hex(&"0".repeat(65)), None);
    assert_eq!(user_hex("xyz"), None);
}
