use super::*;

#[test]
fn hosts_and_ports_split_as_cores() {
    let split = |text| split_host_port(text).map(|(host, port)| (host, port.unwrap_or(0)));
    for (text, host, port) in [
        ("127.0.0.1", "127.0.0.1", 0),
        ("127.0.0.1:8332", "127.0.0.1", 8_332),
        ("[::1]:8332", "::1", 8_332),
        ("[::1]", "::1", 0),
        ("::1", "::1", 0),
        (":5", "", 5),
        ("", "", 0),
    ] {
        assert_eq!(split(text), Some((host.to_owned(), port)), "{text}");
    }
    for text in ["a:0", "a:", "a:65536", "a:x", "a:+5", "[::1]:0"] {
        assert_eq!(split(text), None, "{text}");
    }
}

#[test]
fn errors_show_code_and_message_and_exit_with_the_code() {
    let (text, code) = show_error(&json!({"code": -8, "message": "Block height out of range"}));
    assert_eq!(text, "error code: -8\nerror message:\nBlock height out of range");
    assert_eq!(code, 8);
    let (_, code) = show_error(&json!({"code": METHOD_NOT_FOUND, "message": "Method not found"}));
    assert_eq!(code, 89, "the lowest byte of 32601");
}

#[test]
fn values_print_as_univalue_does() {
    let value = json!({"a": [1, "x"], "empty": [], "none": {}, "b": null});
    assert_eq!(
        print::pretty(&value),
        "{\n  \"a\": [\n    1,\n    \"x\"\n  ],\n  \"empty\": [\n  ],\n  \"none\": {\n  },\n  \"b\": null\n}"
    );
}

#[test]
fn words_become_arguments_by_the_method_table() {
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let positional = |method: &str, list: &[&str]| convert::positional(method, &words(list));
    let named = |method: &str, list: &[&str]| convert::named(method, &words(list));
    let json = |text: &str| Ok(text.to_owned());
    assert_eq!(positional("setmocktime", &["5"]), json("[5]"));
    assert_eq!(positional("echo", &["5", "x"]), json("[\"5\",\"x\"]"), "text stays text");
    assert_eq!(positional("echojson", &["[1]", "true"]), json("[[1],true]"));
    assert_eq!(positional("setmocktime", &["x"]), Err("Error parsing JSON: x".to_owned()));
    assert_eq!(positional("nosuch", &["1"]), json("[\"1\"]"));
    assert_eq!(named("echojson", &["arg0=\"ff\"", "arg1=2"]), json("{\"arg0\":\"ff\",\"arg1\":2}"));
    assert_eq!(named("echo", &["arg0=0", "arg1=1", "arg0=2"]), json("{\"arg0\":\"2\",\"arg1\":\"1\"}"));
    assert_eq!(named("setmocktime", &["5"]), json("{\"args\":[5]}"), "without = it goes by position");
    assert_eq!(
        named("signmessagewithprivkey", &["key", "my=text"]),
        json("{\"args\":[\"key\",\"my=text\"]}"),
        "a free text may hold a ="
    );
    assert_eq!(named("echo", &["my=text"]), json("{\"my\":\"text\"}"), "the node knows the names");
    assert_eq!(
        named("echo", &["args=[0]", "4"]),
        json("{\"args\":\"[0]\",\"args\":[\"4\"]}"),
        "the node refuses what is given twice"
    );
    assert_eq!(
        named("echojson", &["args=[0]", "4"]),
        json("{\"args\":\"[0]\",\"args\":[4]}"),
        "the node refuses what is given twice"
    );
}

#[test]
fn getinfo_reads_four_replies_in_any_order() {
    let batch = json!([
        {"id": 3, "error": {"code": -32601}, "result": null},
        {"id": 1, "error": null, "result": {"chain": "regtest", "blocks": 5, "headers": 5, "verificationprogress": 0.5, "difficulty": 4.656542373906925e-10}},
        {"id": 2, "error": {"code": -32601}, "result": null},
        {"id": 0, "error": null, "result": {"version": 310000, "connections": 3, "connections_in": 1, "connections_out": 2, "timeoffset": 0, "relayfee": 0.00000100, "networks": [], "warnings": []}},
    ]);
    let reply = info::collect(&batch).unwrap();
    let args = Args::new(&[options::CHAIN, options::CLI]);
    let text = info::show(&args, &reply["result"]).unwrap();
    assert!(text.starts_with("Chain: regtest\nBlocks: 5\n"), "{text}");
    assert!(text.contains("Network: in 1, out 2, total 3\n"), "{text}");
    assert!(text.contains(&format!("{}{} 50.0000%", "\u{2592}".repeat(10), "\u{2591}".repeat(10))), "{text}");
    assert!(text.ends_with("Warnings: (none)"), "{text}");
    let failed = info::collect(&json!([{"id": 0, "error": {"code": -28}}, {"id": 1}])).unwrap();
    assert_eq!(failed["error"]["code"], -28);
}
