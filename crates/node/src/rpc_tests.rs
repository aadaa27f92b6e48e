use ironpeer_primitives::NullLog;

use super::*;
use crate::args::options;

fn config(line: &str) -> Result<RpcConfig, ArgsError> {
    let mut args = Args::new(&[options::CHAIN, options::DAEMON]);
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    args.parse_command_line(&words).unwrap();
    RpcConfig::from_args(&args, 18_443)
}

#[test]
fn nobody_outside_is_let_in_unless_both_are_asked_for() {
    let binds =
        |line: &str| -> Vec<String> { config(line).unwrap().binds.iter().map(ToString::to_string).collect() };
    assert_eq!(binds(""), ["[::1]:18443", "127.0.0.1:18443"]);
    assert_eq!(binds("-rpcbind=0.0.0.0 -rpcport=5"), ["[::1]:5", "127.0.0.1:5"]);
    assert_eq!(binds("-rpcallowip=10.0.0.0/8"), ["[::1]:18443", "127.0.0.1:18443"]);
    assert_eq!(
        binds("-rpcallowip=10.0.0.0/8 -rpcbind=0.0.0.0 -rpcbind=[::1]:7"),
        ["0.0.0.0:18443", "[::1]:7"]
    );
    let error = config("-rpcallowip=nowhere").map(|_| ()).unwrap_err().0;
    assert!(error.starts_with("Invalid -rpcallowip subnet specification: nowhere."), "{error}");
}

#[test]
fn broken_logins_stop_the_start() {
    for line in
        ["-rpcauth", "-rpcauth=foo", "-rpcauth=foo:bar", "-rpcauth=foo:bar:baz", "-rpcauth=a:b$c -rpcauth="]
    {
        let config = config(&format!("{line} -norpccookiefile")).unwrap();
        assert_eq!(config.credentials(&NullLog).unwrap_err().0, START_FAILED, "{line}");
    }
    let config = config("-rpccookieperms=world").unwrap();
    assert_eq!(config.credentials(&NullLog).unwrap_err().0, START_FAILED);
}

#[test]
fn a_password_replaces_the_cookie() {
    let dir = tempfile::tempdir().unwrap();
    let with = |line: &str| {
        config(&format!("-datadir={} {line}", dir.path().display())).unwrap().credentials(&NullLog).unwrap().1
    };
    assert!(with("-rpcuser=u -rpcpassword=p").is_none());
    assert!(with("-norpccookiefile").is_none());
    let cookie = with("").unwrap();
    assert!(dir.path().join(".cookie").exists());
    drop(cookie);
    assert!(!dir.path().join(".cookie").exists());
}

#[tokio::test]
async fn one_address_that_binds_is_enough() {
    let mut config = config("").unwrap();
    // An address of documentation, which no machine of ours has.
    config.binds = vec![SocketAddr::from(([192, 0, 2, 1], 0)), SocketAddr::from(([127, 0, 0, 1], 0))];
    assert_eq!(config.bind(&NullLog).unwrap().len(), 1);
    config.binds.pop();
    assert_eq!(config.bind(&NullLog).unwrap_err().0, START_FAILED);
}

#[tokio::test]
async fn an_rpc_address_somebody_listens_on_is_an_error() {
    let taken = listen(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap();
    let mut config = config("").unwrap();
    config.binds = vec![SocketAddr::from(([127, 0, 0, 1], 0)), taken.local_addr().unwrap()];
    assert_eq!(config.bind(&NullLog).unwrap_err().0, START_FAILED);
}
