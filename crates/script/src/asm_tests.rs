use bitcoin::ScriptBuf;

use super::asm;
use crate::{ScriptKind, Solution, sigops, solve};

fn script(hex: &str) -> ScriptBuf {
    ScriptBuf::from_hex(hex).unwrap()
}

#[test]
fn pushes_print_as_numbers_up_to_four_bytes_and_as_hex_beyond() {
    for (hex, text) in [
        ("51024e73", "1 29518"),
        ("0014751e76e8199196d454941c45d1b3a323f1433bd6", "0 751e76e8199196d454941c45d1b3a323f1433bd6"),
        ("4f00", "-1 0"),
        ("04ffffffff", "-2147483647"),
        ("0480000000", "128"),
        ("0180", "0"),
        ("6a0548656c6c6f", "OP_RETURN 48656c6c6f"),
        (
            "b1b2bbff50",
            "OP_CHECKLOCKTIMEVERIFY OP_CHECKSEQUENCEVERIFY OP_UNKNOWN OP_INVALIDOPCODE OP_RESERVED",
        ),
        ("7505aabb", "OP_DROP [error]"),
    ] {
        assert_eq!(asm(&script(hex), false), text);
    }
}

#[test]
fn a_signature_prints_its_hash_type() {
    let sig = "304402207a6fcb49ad1d6f5a1b0b6d8c2d3e2f0a1b2c3d4e5f60718293a4b5c6d7e8f90102207a6fcb49ad1d6f5a1b0b6d8c2d3e2f0a1b2c3d4e5f60718293a4b5c6d7e8f901";
    let push = script(&format!("47{sig}83"));
    assert_eq!(asm(&push, true), format!("{sig}[SINGLE|ANYONECANPAY]"));
    assert_eq!(asm(&push, false), format!("{sig}83"));
    // Data after OP_RETURN only looks like one.
    assert_eq!(asm(&script(&format!("6a47{sig}83")), true), format!("OP_RETURN {sig}83"));
}

#[test]
fn every_kind_of_output_is_told_apart() {
    let key33 = format!("02{}", "11".repeat(32));
    let key65 = format!("04{}", "11".repeat(64));
    for (hex, kind) in [
        (String::new(), ScriptKind::NonStandard),
        (format!("21{key33}ac"), ScriptKind::PubKey),
        (format!("41{key65}ac"), ScriptKind::PubKey),
        (format!("21{}ac", key33.replacen("02", "05", 1)), ScriptKind::NonStandard),
        (format!("76a914{}88ac", "11".repeat(20)), ScriptKind::PubKeyHash),
        (format!("a914{}87", "11".repeat(20)), ScriptKind::ScriptHash),
        (format!("5121{key33}21{key33}52ae"), ScriptKind::MultiSig),
        (format!("5221{key33}51ae"), ScriptKind::NonStandard),
        (format!("0021{key33}51ae"), ScriptKind::NonStandard),
        (format!("5121{key33}51aeae"), ScriptKind::NonStandard),
        ("6a".to_owned(), ScriptKind::NullData),
        ("6a50".to_owned(), ScriptKind::NullData),
        ("6a61".to_owned(), ScriptKind::NonStandard),
        ("6a02aa".to_owned(), ScriptKind::NonStandard),
        (format!("0014{}", "11".repeat(20)), ScriptKind::WitnessV0KeyHash),
        (format!("0020{}", "11".repeat(32)), ScriptKind::WitnessV0ScriptHash),
        (format!("0015{}", "11".repeat(21)), ScriptKind::NonStandard),
        (format!("5120{}", "11".repeat(32)), ScriptKind::WitnessV1Taproot),
        (format!("5220{}", "11".repeat(32)), ScriptKind::WitnessUnknown),
        ("51024e73".to_owned(), ScriptKind::Anchor),
        ("51024e74".to_owned(), ScriptKind::WitnessUnknown),
        (format!("5129{}", "11".repeat(41)), ScriptKind::NonStandard),
    ] {
        assert_eq!(solve(&script(&hex)).kind(), kind, "{hex}");
    }
    // 17 keys: counts above 16 are pushes.
    let keys = format!("21{key33}").repeat(17);
    let multisig = script(&format!("0111{keys}0111ae"));
    assert!(matches!(solve(&multisig), Solution::MultiSig { required: 17, keys } if keys.len() == 17));
}

#[test]
fn multisig_sigops_count_their_keys_when_named_by_opcode() {
    assert_eq!(sigops(&script("53ae")), 3);
    assert_eq!(sigops(&script("ae")), 20);
    assert_eq!(sigops(&script("0103ae")), 20);
    assert_eq!(sigops(&script("acadac05")), 3);
}
