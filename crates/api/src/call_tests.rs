use serde_json::json;

use super::*;

/// The cases of Core's `rpc_tests.cpp` (`rpc_parse_monetary_values`).
#[test]
fn amounts_parse_as_in_core() {
    let parse = |text: &str| amount_sats(&Value::String(text.into()));
    for (text, sats) in [
        ("0", 0),
        ("0.00000000", 0),
        ("0.00000001", 1),
        ("0.17622195", 17_622_195),
        ("0.5", 50_000_000),
        ("0.89898989", 89_898_989),
        ("100.00000000", 10_000_000_000),
        ("20999999.9999999", 2_099_999_999_999_990),
        ("20999999.99999999", 2_099_999_999_999_999),
        ("1e-8", 1),
        ("0.1e-7", 1),
        ("0.01e-6", 1),
        ("0.00000000000000000000000000000000000001e+30", 1),
        ("0.0000000000000000000000000000000000000000000000000000000000000000000000000001e+68", 1),
        ("10000000000000000000000000000000000000000000000000000000000000000e-64", 100_000_000),
        ("1e-0", 100_000_000),
    ] {
        assert_eq!(parse(text), Ok(sats), "{text}");
    }
    for (text, message) in [
        ("-0.00000001", "Amount out of range"),
        ("1e-9", "Invalid amount"),
        ("0.000000019", "Invalid amount"),
        (".19e-6", "Invalid amount"),
        ("92233720368.54775808", "Invalid amount"),
        ("1e+11", "Invalid amount"),
        ("1e11", "Invalid amount"),
        ("93e+9", "Invalid amount"),
        ("01", "Invalid amount"),
        ("1.", "Invalid amount"),
        ("1e", "Invalid amount"),
        ("", "Invalid amount"),
        ("21000000.00000001", "Amount out of range"),
    ] {
        assert_eq!(parse(text).unwrap_err().message, message, "{text}");
    }
    assert_eq!(amount_sats(&json!(true)).unwrap_err().message, "Amount is not a number or string");
    assert_eq!(amount_sats(&crate::json::parse(b"0.10").unwrap()), Ok(10_000_000));
}

#[test]
fn integers_are_whole_and_in_range() {
    assert_eq!(int32(&json!(7)), Ok(7));
    for bad in ["1.0", "1e3", "2147483648", "-2147483649"] {
        let value = crate::json::parse(bad.as_bytes()).unwrap();
        assert_eq!(int32(&value).unwrap_err(), RpcError::misc("JSON integer out of range"));
    }
    assert_eq!(
        int32(&json!("7")).unwrap_err().message,
        "JSON value of type string is not of expected type number"
    );
}

#[test]
fn hashes_have_core_texts() {
    let parse = |text: &str| hash::<bitcoin::Txid>(&json!(text), "txid").map_err(|e| e.message);
    assert!(parse(&"0a".repeat(32)).is_ok());
    assert_eq!(parse("ab"), Err("txid must be of length 64 (not 2, for 'ab')".into()));
    let bad = "zz".repeat(32);
    assert_eq!(parse(&bad), Err(format!("txid must be hexadecimal string (not '{bad}')")));
}
