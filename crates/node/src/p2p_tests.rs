use super::*;
use crate::args::options;

fn found(line: &str) -> Result<Vec<(String, bool)>, String> {
    let mut args = Args::new(&[options::CHAIN, options::DAEMON]);
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    args.parse_command_line(&words).unwrap();
    let list = binds(&args, 18_444).map_err(|error| error.0)?;
    Ok(list.iter().map(|bind| (bind.address.to_string(), bind.onion)).collect())
}

fn list(expected: &[(&str, bool)]) -> Result<Vec<(String, bool)>, String> {
    Ok(expected.iter().map(|(address, onion)| ((*address).to_owned(), *onion)).collect())
}

#[test]
fn addresses_to_listen_on_are_those_given_or_any() {
    assert_eq!(
        found(""),
        list(&[("[::]:18444", false), ("0.0.0.0:18444", false), ("127.0.0.1:18445", true)])
    );
    assert_eq!(found("-port=7 -bind=127.0.0.1"), list(&[("127.0.0.1:7", false)]));
    assert_eq!(
        found("-bind=[::1]:5 -bind=127.0.0.1=onion"),
        list(&[("[::1]:5", false), ("127.0.0.1:18445", true)])
    );
    assert_eq!(found("-whitebind=noban@127.0.0.1:9"), list(&[("127.0.0.1:9", false)]));
}

#[test]
fn wrong_addresses_have_cores_texts() {
    for (line, error) in [
        ("-bind=nowhere", "Cannot resolve -bind address: 'nowhere'"),
        ("-bind=127.0.0.1:1=tor", "Cannot resolve -bind address: '127.0.0.1:1=tor'"),
        ("-whitebind=127.0.0.1", "Need to specify a port with -whitebind: '127.0.0.1'"),
        ("-whitebind=fly@127.0.0.1:1", "Invalid P2P permission: 'fly'"),
        (
            "-whitebind=out,noban@127.0.0.1:1",
            "whitebind may only be used for incoming connections (\"out\" was passed)",
        ),
        (
            "-bind=127.0.0.1:1 -bind=127.0.0.1:1=onion",
            "Duplicate binding configuration for address 127.0.0.1:1. Please check your -bind, -bind=...=onion and -whitebind settings.",
        ),
    ] {
        assert_eq!(found(line), Err(error.to_owned()), "{line}");
    }
}

#[test]
fn permissions_imply_others() {
    let args = Args::new(&[options::CHAIN, options::DAEMON]);
    let (found, address) = permissions(&args, "noban,forcerelay@127.0.0.1:1").unwrap();
    assert_eq!(address, "127.0.0.1:1");
    assert!(found.no_ban && found.download && found.force_relay && found.relay && !found.mempool);
    let (usual, _) = permissions(&args, "127.0.0.1:1").unwrap();
    assert!(usual.no_ban && usual.mempool && usual.relay && usual.download && !usual.addr);
}

#[test]
fn a_taken_address_is_named_as_core_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let params = Arc::new(Params::regtest(ironpeer_consensus::RegtestOptions::default()));
    let mut args = Args::new(&[options::CHAIN, options::DAEMON]);
    args.parse_command_line(&[format!("-bind={address}")]).unwrap();
    let config = P2pConfig::from_args(&args, &params, "/a/", 100, PathBuf::new()).unwrap();
    let error = config.listen().map(|_| ()).unwrap_err().0;
    assert_eq!(
        error,
        format!(
            "Unable to bind to {address} on this computer. Bitcoin Core is probably already running.\nError: Failed to listen on any port. Use -listen=0 if you want this."
        )
    );
}

#[test]
fn whitelists_name_subnets_permissions_and_directions() {
    let args = Args::new(&[options::CHAIN, options::DAEMON]);
    let one = whitelisted(&args, "noban,out@10.0.0.0/8").unwrap();
    assert!(one.permissions.no_ban && one.outgoing && !one.incoming);
    let usual = whitelisted(&args, "127.0.0.1").unwrap();
    assert!(usual.incoming && !usual.outgoing && usual.permissions.relay);
    assert_eq!(
        whitelisted(&args, "in@127.0.0.1").unwrap_err().0,
        "Only direction was set, no permissions: 'in@127.0.0.1'"
    );
    assert_eq!(
        whitelisted(&args, "noban@127.0.0.1:230").unwrap_err().0,
        "Invalid netmask specified in -whitelist: '127.0.0.1:230'"
    );
}

#[test]
fn own_addresses_have_the_listening_port_unless_they_say_otherwise() {
    let found = |line: &str| {
        let mut args = Args::new(&[options::CHAIN, options::DAEMON]);
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        args.parse_command_line(&words).unwrap();
        let list = external(&args, 8333).map_err(|error| error.0)?;
        Ok::<_, String>(list.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(found("-externalip=42.1.2.3"), Ok(vec!["42.1.2.3:8333".to_owned()]));
    assert_eq!(found("-port=7 -externalip=[2a00::1]:9"), Ok(vec!["[2a00::1]:9".to_owned()]));
    let onion = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion";
    assert_eq!(found(&format!("-port=7 -externalip={onion}")), Ok(vec![format!("{onion}:7")]));
    assert_eq!(found("-externalip=nowhere"), Err("Cannot resolve -externalip address: 'nowhere'".to_owned()));
}

/// Core's `util_ParseByteUnits`, with its default unit of `-maxuploadtarget`.
#[test]
fn byte_units_as_core_reads_them() {
    assert_eq!(byte_units("0"), Some(0));
    assert_eq!(byte_units("1"), Some(1 << 20));
    for (text, bytes) in [
        ("1k", 1_000),
        ("1K", 1 << 10),
        ("2m", 2_000_000),
        ("2M", 2 << 20),
        ("3g", 3_000_000_000),
        ("3G", 3 << 30),
        ("4t", 4_000_000_000_000),
        ("4T", 4 << 40),
    ] {
        assert_eq!(byte_units(text), Some(bytes), "{text}");
    }
    for wrong in ["", "K", "+1", "-1", "1.5M", "1kk", "abc", "18446744073709551615T"] {
        assert_eq!(byte_units(wrong), None, "{wrong}");
    }
}
