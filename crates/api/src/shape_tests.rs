use super::*;
use crate::results;
use crate::table;

#[test]
fn the_notation_is_read_and_checked() {
    let shape = parse("{a:num, b?:[hex|null], c:{*:amount}} | str").unwrap();
    let fault = |value| shape.fault(&value);
    assert_eq!(fault(json!("x")), None);
    assert_eq!(fault(json!({"a": 1, "c": {}})), None);
    assert_eq!(fault(json!({"a": 1, "b": ["00", null], "c": {"x": 1.5}})), None);
    assert_eq!(fault(json!({"a": 1})).unwrap(), "/c: missing");
    assert_eq!(fault(json!({"a": 1, "c": {}, "d": 1})).unwrap(), "/d: not documented");
    assert_eq!(fault(json!({"a": 1, "b": ["0"], "c": {}})).unwrap(), "/b/0: expected null");
    assert_eq!(fault(json!({"a": 1, "c": {"x": "1"}})).unwrap(), "/c/x: expected an amount");
    for wrong in ["", "{", "{a}", "[num", "nums", "{a:num b:num}", "num|", "num]"] {
        assert_eq!(parse(wrong), None, "{wrong}");
    }
}

#[test]
fn every_method_says_what_it_answers() {
    // `generate` is gone from Core: it answers with its help, which says so and no more.
    for method in table::all().filter(|method| method.name != "generate") {
        assert!(results::result(method.name).is_some(), "{}", method.name);
        assert!(method.full_help().contains("\nResult:\n"), "{}", method.name);
    }
    for (name, _) in results::all() {
        assert!(table::find(name).is_some(), "{name} is no method");
    }
    for (name, _) in results::DEFINITIONS {
        assert!(results::definition(name).is_some(), "{name}");
    }
}
