//! `-daemon` and `-daemonwait`, seen from the terminal they were started in.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use ironpeer_testkit as process;

/// The words every run here starts with.
fn words(datadir: &Path, more: &[&str]) -> Vec<String> {
    let mut words = vec![
        format!("-datadir={}", datadir.display()),
        "-regtest".to_owned(),
        format!("-rpcport={}", process::port(0)),
        format!("-bind=127.0.0.1:{}", process::port(1)),
        "-noconnect".to_owned(),
    ];
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

fn daemon(datadir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ironpeer")).args(words(datadir, more)).output().unwrap()
}

fn cli(datadir: &Path, command: &[&str]) -> Output {
    let address = [
        format!("-datadir={}", datadir.display()),
        "-regtest".to_owned(),
        format!("-rpcport={}", process::port(0)),
    ];
    Command::new(env!("CARGO_BIN_EXE_ironpeer-cli")).args(address).args(command).output().unwrap()
}

/// A node in the background, which a failed test must not leave behind.
struct InBackground<'a>(&'a Path);

impl InBackground<'_> {
    fn pid(&self) -> u32 {
        let file = std::fs::read_to_string(self.0.join("regtest/bitcoind.pid")).unwrap();
        file.trim().parse().unwrap()
    }
}

impl Drop for InBackground<'_> {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = cli(self.0, &["stop"]);
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn daemonwait_returns_when_the_node_serves_and_leaves_it_running() {
    let dir = tempfile::tempdir().unwrap();
    let started = daemon(dir.path(), &["-daemonwait"]);
    assert!(started.status.success(), "{}", text(&started.stderr));
    assert_eq!((text(&started.stdout), text(&started.stderr)), ("Bitcoin Core starting\n", ""));
    let node = InBackground(dir.path());
    let process = format!("/proc/{}", node.pid());
    assert_eq!(text(&cli(dir.path(), &["getblockcount"]).stdout), "0\n");
    // The sixth field of the status is the session: its own.
    let stat = std::fs::read_to_string(format!("{process}/stat")).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap();
    assert_eq!(session, node.pid().to_string());

    let second = daemon(dir.path(), &["-daemon"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).starts_with("Error: Cannot obtain a lock on directory"));

    assert!(cli(dir.path(), &["stop"]).status.success());
    while Path::new(&process).exists() {
        std::thread::yield_now();
    }
    assert!(!dir.path().join("regtest/bitcoind.pid").exists());
}

#[test]
fn daemon_returns_at_once_and_the_client_can_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let started = daemon(dir.path(), &["-daemon"]);
    assert!(started.status.success());
    let _node = InBackground(dir.path());
    let answer = cli(dir.path(), &["-rpcwait", "getblockcount"]);
    assert_eq!(text(&answer.stdout), "0\n", "{}", text(&answer.stderr));
}

#[test]
fn a_start_that_fails_in_the_background_is_told_in_the_foreground() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let web = format!("-webbind={}", taken.local_addr().unwrap());
    let started = daemon(dir.path(), &["-daemonwait", &web]);
    assert_eq!(started.status.code(), Some(1));
    assert_eq!(text(&started.stderr), "Error during initialization - check debug.log for details\n");
    let log = std::fs::read_to_string(dir.path().join("regtest/debug.log")).unwrap();
    assert!(log.contains("for -webbind"), "{log}");

    let wrong = daemon(dir.path(), &["-daemonwait", "-maxconnections=-1"]);
    assert_eq!(text(&wrong.stderr), "Error: -maxconnections must be greater or equal than zero\n");
    assert_eq!(text(&wrong.stdout), "");
}
