use super::*;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn levels_and_outonly_are_read_as_core_reads_them() {
    let wanted = |level, outbound_only| Ok(Wanted { level, outbound_only });
    assert_eq!(Wanted::parse(&[]), wanted(0, false));
    assert_eq!(Wanted::parse(&words("3")), wanted(3, false));
    assert_eq!(Wanted::parse(&words("255 o more")), wanted(4, true));
    assert_eq!(Wanted::parse(&words("1 outonly")), wanted(1, true));
    for (line, error) in [
        ("256", "invalid -netinfo level argument: 256\n"),
        ("+1", "invalid -netinfo level argument: +1\n"),
        ("-1", "invalid -netinfo level argument: -1\n"),
        ("1 all", "invalid -netinfo outonly argument: all\nFor more"),
        ("0 o", "invalid -netinfo outonly argument: o\nThe outonly argument is only valid for"),
    ] {
        let found = Wanted::parse(&words(line)).unwrap_err();
        assert!(found.starts_with(error), "{line}: {found}");
    }
}

fn reply() -> Value {
    let peer = |id: i64, inbound: bool, kind: &str, minping: f64| {
        json!({
            "id": id, "addr": format!("192.0.2.{id}:8333"), "network": "ipv4", "inbound": inbound,
            "connection_type": kind, "relaytxes": kind != "block-relay-only", "version": 70016,
            "subver": "/Node:1/", "servicesnames": ["NETWORK", "WITNESS", "NETWORK_LIMITED", "P2P_V2"],
            "transport_protocol_type": "v1", "minping": minping, "pingtime": 0.25, "lastsend": 990,
            "lastrecv": 998, "last_transaction": 0, "last_block": 400, "conntime": 100,
            "addr_relay_enabled": !inbound, "addr_processed": 12, "addr_rate_limited": 0,
            "bip152_hb_to": true, "bip152_hb_from": inbound
        })
    };
    json!([
        {"id": 1, "error": null, "result": {
            "version": 310000, "protocolversion": 70017, "subversion": "/Ironpeer:0.1.0/",
            "localservicesnames": ["NETWORK", "WITNESS", "NETWORK_LIMITED"],
            "networks": [
                {"name": "ipv4", "reachable": true}, {"name": "ipv6", "reachable": true},
                {"name": "onion", "reachable": false}
            ],
            "localaddresses": [{"address": "198.51.100.7", "port": 8333, "score": 4}]
        }},
        {"id": 0, "error": null, "result": [
            peer(3, false, "block-relay-only", 0.5), peer(11, true, "inbound", 0.0123),
            peer(2, false, "manual", 0.1)
        ]},
    ])
}

fn shown(line: &str) -> String {
    let wanted = Wanted::parse(&words(line)).unwrap();
    let reply = collect(&reply(), wanted, Network::Regtest, 1_000).unwrap();
    reply["result"].as_str().unwrap().to_owned()
}

#[test]
fn the_dashboard_counts_peers_by_network() {
    let expected = format!(
        "Bitcoin Core client {} regtest - server 70017/Ironpeer:0.1.0/\n\
         \n\
         {:5}    ipv4    ipv6   total   block  manual\n\
         in          1       0       1\n\
         out         2       0       2       1       1\n\
         total       3       0       3\n\
         \n\
         Local services: network, witness, network limited\n\
         \n\
         Local addresses\n\
         198.51.100.7     port   8333    score      4",
        full_version(),
        ""
    );
    assert_eq!(shown(""), expected);
}

#[test]
fn the_list_is_sorted_by_direction_and_ping_and_as_wide_as_it_must_be() {
    let text = shown("4");
    assert!(text.lines().next().unwrap().ends_with(" - services nwl"), "{text}");
    let list: Vec<&str> = text.lines().skip(2).take(5).collect();
    assert_eq!(
        list,
        [
            "<->   type   net   serv  v  mping   ping send recv  txn  blk  hb addrp addrl  age id address         version",
            " in         ipv4   nwl2  1     12    250   10    2        10  .*    12         15 11 192.0.2.11:8333 70016/Node:1/",
            "out manual  ipv4   nwl2  1    100    250   10    2        10  .     12         15  2 192.0.2.2:8333  70016/Node:1/",
            "out  block  ipv4   nwl2  1    500    250   10    2    *   10  .     12         15  3 192.0.2.3:8333  70016/Node:1/",
            "                               ms     ms  sec  sec  min  min                  min",
        ]
    );
    assert_eq!(
        shown("1 o").lines().filter(|line| line.starts_with("out ") && line.contains("ipv4")).count(),
        2
    );
    assert!(!shown("1 o").contains("\n in "));
}

#[test]
fn an_error_of_either_call_is_the_answer() {
    let failed = json!([{"id": 1, "error": {"code": -28, "message": "warm"}}, {"id": 0, "result": []}]);
    let reply = collect(&failed, Wanted::parse(&[]).unwrap(), Network::Bitcoin, 0).unwrap();
    assert_eq!(reply["error"]["code"], -28);
    let old = json!([{"id": 1, "result": {"version": 200000}}, {"id": 0, "result": []}]);
    assert!(collect(&old, Wanted::parse(&[]).unwrap(), Network::Bitcoin, 0).is_err());
}
