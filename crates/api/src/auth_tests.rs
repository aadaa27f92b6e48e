use super::*;

fn basic(pair: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

#[test]
fn passwords_and_rpcauth_lines_are_checked() {
    let mut credentials = Credentials::new();
    credentials.add_password("__cookie__", "secret:with:colons");
    let salt = "f7efda5c189b999524f151318c0c86";
    let line = format!("rt:{salt}${}", password_mac(salt, "cA773lm788buwYe4g4WT+05pKyNruVKjQ25x3n0DQcM="));
    credentials.add_rpcauth(&line).unwrap();

    let right = |pair: &str| credentials.check(&basic(pair)).map(|(_, right)| right);
    assert_eq!(right("__cookie__:secret:with:colons"), Some(true));
    assert_eq!(right("__cookie__:wrong"), Some(false));
    assert_eq!(right("other:secret:with:colons"), Some(false));
    assert_eq!(right("rt:cA773lm788buwYe4g4WT+05pKyNruVKjQ25x3n0DQcM="), Some(true));
    assert_eq!(right("no colon"), None);
    assert_eq!(credentials.check("Bearer x"), None);
    assert_eq!(credentials.check("Basic !!!"), None);
}

/// The pair that Core's `rpc_users.py` documents: an HMAC made outside this code.
#[test]
fn rpcauth_hash_is_hmac_sha256_of_the_password_under_the_salt() {
    assert_eq!(
        password_mac("93648e835a54c573682c2eb19f882535", "cA773lm788buwYe4g4WT+05pKyNruVKjQ25x3n0DQcM="),
        "7681e9c5b74bdd85e78166031d2058e1069b3ed7ed967c93fc63abba06f31144"
    );
}

#[test]
fn malformed_rpcauth_is_refused() {
    for bad in ["", "foo", "foo:bar", "foo:bar:baz", "foo:a$b$c", "foo$bar:baz"] {
        assert_eq!(Credentials::new().add_rpcauth(bad), Err(BadRpcAuth), "{bad}");
    }
}

#[test]
fn whitelists_meet() {
    let mut credentials = Credentials::new();
    credentials.add_whitelist("a:getblockcount,stop");
    credentials.add_whitelist("a:stop,help");
    credentials.add_whitelist("b");
    assert_eq!(credentials.allowed("a"), Some(BTreeSet::from(["stop".to_owned()])));
    assert_eq!(credentials.allowed("b"), Some(BTreeSet::new()));
    assert_eq!(credentials.allowed("c"), None);
    credentials.set_whitelist_default(true);
    assert_eq!(credentials.allowed("c"), Some(BTreeSet::new()));
}

#[test]
fn subnets_hold_what_they_say() {
    let net = |text: &str| Subnet::parse(text);
    let holds = |text: &str, address: &str| net(text).is_some_and(|n| n.contains(address.parse().unwrap()));
    assert!(Subnet::LOCAL_V4.contains("127.8.9.1".parse().unwrap()));
    assert!(Subnet::LOCAL_V4.contains("::ffff:127.0.0.1".parse().unwrap()));
    assert!(Subnet::LOCAL_V6.contains("::1".parse().unwrap()));
    assert!(holds("1.2.3.4", "1.2.3.4") && !holds("1.2.3.4", "1.2.3.5"));
    assert!(holds("1.2.3.0/24", "1.2.3.77") && holds("1.2.3.0/255.255.255.0", "1.2.3.77"));
    assert!(holds("0.0.0.0/0", "9.9.9.9") && !holds("0.0.0.0/0", "::2") && holds("::/0", "::2"));
    // GHSA-63wg: written either way it is the same address.
    assert!(holds("::ffff:1.2.3.4", "1.2.3.4") && holds("1.2.3.4", "::ffff:1.2.3.4"));
    for bad in ["", "1.2.3.4/33", "1.2.3.4/255.0.255.0", "::1/129", "name", "1.2.3.4/x"] {
        assert_eq!(net(bad), None, "{bad}");
    }
    assert_eq!(net("1.2.3.4/24").unwrap().to_string(), "1.2.3.0/24");
}
