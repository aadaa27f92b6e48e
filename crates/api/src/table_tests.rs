use std::collections::BTreeSet;

use serde_json::json;

use super::*;

fn positions(method: &str, params: Value) -> Result<Vec<Value>, (i32, String)> {
    let placed = find(method).unwrap().positions(&params, &[]);
    placed.map(|params| params.values).map_err(|e| (e.code, e.message))
}

#[test]
fn every_method_stands_once_and_is_documented() {
    let mut names = BTreeSet::new();
    for method in all() {
        assert!(names.insert(method.name), "{} stands twice", method.name);
        assert!(!method.help.trim().is_empty(), "{}", method.name);
        let mut seen = BTreeSet::new();
        for name in method.args.iter().flat_map(|arg| arg.names.split('|')) {
            assert!(seen.insert(name), "{} has {name} twice", method.name);
        }
        let help = method.full_help();
        assert!(help.starts_with(method.name));
        assert_eq!(help.lines().next(), Some(method.usage().as_str()));
    }
}

/// The pairs of Core's `rpc_named_arguments.py`.
#[test]
fn named_arguments_become_positions() {
    let named = |params| positions("echojson", params).unwrap();
    assert_eq!(named(json!({})), Vec::<Value>::new());
    assert_eq!(named(json!({"arg1": 1})), vec![json!(null), json!(1)]);
    assert_eq!(named(json!({"arg9": null})), vec![Value::Null; 10]);
    assert_eq!(
        named(json!({"args": [0, 1], "arg3": 3, "arg5": 5})),
        vec![json!(0), json!(1), json!(null), json!(3), json!(null), json!(5)]
    );
    for args in [json!([0, 1]), json!([0, null, 2])] {
        assert_eq!(
            positions("echojson", json!({"args": args, "arg1": 1})),
            Err((-8, "Parameter arg1 specified twice both as positional and named argument".into()))
        );
    }
    assert_eq!(positions("help", json!({"random": "x"})), Err((-8, "Unknown named parameter random".into())));
}

#[test]
fn wrong_numbers_and_types_have_core_texts() {
    let (code, text) = positions("setmocktime", json!([])).unwrap_err();
    assert_eq!(code, -1);
    assert!(text.starts_with("setmocktime timestamp\n\n"), "{text}");
    assert_eq!(positions("uptime", json!([1])).unwrap_err().0, -1);
    assert_eq!(
        positions("setmocktime", json!(["x"])),
        Err((
            -3,
            "Wrong type passed:\n{\n    \"Position 1 (timestamp)\": \"JSON value of type string is not of expected type number\"\n}".into()
        ))
    );
}

#[test]
fn help_lists_by_category_and_hides_hidden() {
    let text = help("");
    assert!(text.contains("== Control ==\n"));
    assert!(text.contains("\nstop"));
    assert!(!text.contains("setmocktime"));
    assert_eq!(help("nosuch"), "help: unknown command: nosuch");
    assert!(help("setmocktime").starts_with("setmocktime timestamp"));
}

#[test]
fn command_line_reads_echojson_as_json_and_echo_as_text() {
    let rules = cli_conversions();
    let format = |method, name| rules.iter().find(|r| r.method == method && r.name == name).map(|r| r.format);
    assert_eq!(format("echojson", "arg9"), Some(CliFormat::Json));
    assert_eq!(format("echo", "arg0"), Some(CliFormat::String));
    assert_eq!(format("setmocktime", "timestamp"), Some(CliFormat::Json));
}

#[test]
fn keys_named_twice_are_refused_or_told_by_position() {
    let placed = |method: &str, text: &str| {
        let text = json::read(text.as_bytes()).unwrap();
        let placed = find(method).unwrap().positions(&text.value, &text.repeats);
        placed.map(|params| params.repeats).map_err(|error| (error.code, error.message))
    };
    let twice = Err((-8, "Parameter arg1 specified multiple times".into()));
    assert_eq!(placed("echojson", r#"{"arg1":1,"arg1":1}"#), twice);
    let at = |path: &[&str]| {
        let path = path.iter().map(|&step| step.to_owned()).collect();
        Ok(vec![Repeat { path, key: "a".into() }])
    };
    assert_eq!(placed("createrawtransaction", r#"[[],{"a":1,"a":2}]"#), at(&["1"]));
    assert_eq!(placed("createrawtransaction", r#"{"inputs":[],"outputs":{"a":1,"a":2}}"#), at(&["1"]));
    assert_eq!(placed("createrawtransaction", r#"{"args":[[],[{"a":1,"a":2}]]}"#), at(&["1", "0"]));
}

#[test]
fn methods_that_only_read_exist() {
    for name in ONLY_READ {
        assert!(find(name).is_some(), "{name}");
    }
    assert!(!only_reads("sendrawtransaction"));
}
