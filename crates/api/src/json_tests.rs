use super::*;

#[test]
fn reals_have_sixteen_digits_as_in_core() {
    for (n, text) in [
        (0.0, "0"),
        (1.0, "1"),
        (4.656_542_373_906_925e-10, "4.656542373906925e-10"),
        (0.1 + 0.2, "0.3"),
        (1.0 / 3.0, "0.3333333333333333"),
        (0.00012, "0.00012"),
        (0.000_012, "1.2e-05"),
        (81_725_299_822_043.22, "81725299822043.22"),
        (1e15, "1000000000000000"),
        (1e16, "1e+16"),
        (146_472_570_619_930.78, "146472570619930.8"),
        (-2.5, "-2.5"),
    ] {
        assert_eq!(format_real(n), text);
    }
}

#[test]
fn amounts_come_from_integers() {
    for (n, text) in [
        (0, "0.00000000"),
        (1, "0.00000001"),
        (-1, "-0.00000001"),
        (5_000_000_000, "50.00000000"),
        (-2_099_999_999_999_999, "-20999999.99999999"),
        (30_000_000, "0.30000000"),
    ] {
        assert_eq!(sats(n).to_string(), text);
    }
}

/// Core issue 15850: a million brackets must be an error, not a stack overflow.
#[test]
fn issue_15850_deep_json_is_refused_without_recursion() {
    let nest = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
    assert!(parse(&nest(512)).is_some());
    assert!(parse(&nest(513)).is_none());
    assert!(parse(&vec![b'['; 1_000_000]).is_none());
    assert!(parse(b"\"[[[[\\\"[[[\"").is_some());
}

#[test]
fn texts_that_are_no_json_are_refused() {
    for bad in [&b""[..], b"this is bad", b"{", b"[1,]", b"{} {}", b"\"\xff\"", b"nul", b"[01]", b"+1"] {
        assert!(parse(bad).is_none(), "{}", String::from_utf8_lossy(bad));
    }
    assert_eq!(parse(b" [1.10, -0] ").map(|v| v.to_string()).as_deref(), Some("[1.10,-0]"));
}

#[test]
fn pretty_prints_as_univalue() {
    let value = parse(br#"{"a":[1,{"b":null}],"c":[]}"#).unwrap();
    assert_eq!(
        pretty(&value, 4),
        "{\n    \"a\": [\n        1,\n        {\n            \"b\": null\n        }\n    ],\n    \"c\": [\n    ]\n}"
    );
}

/// As Core's UniValue: the first of two counts, and every number keeps its digits.
#[test]
fn the_first_of_two_keys_counts() {
    let text = read(br#"[{"a":1.50,"b":{"c":[1.25e-3,-0,null]},"a":{"d":2},"b":0}, {"a":1}]"#).unwrap();
    assert_eq!(text.value.to_string(), r#"[{"a":1.50,"b":{"c":[1.25e-3,-0,null]}},{"a":1}]"#);
    let repeat = |key: &str| Repeat { path: vec!["0".into()], key: key.into() };
    assert_eq!(text.repeats, [repeat("a"), repeat("b")]);
    assert!(read(br#"{"a":1,"a":}"#).is_none());
    let many = format!("{{{}\"a\":1}}", r#""a":1,"#.repeat(REPEATS + 1));
    assert!(read(many.as_bytes()).is_none());
}
