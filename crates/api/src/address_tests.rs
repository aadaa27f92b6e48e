use super::*;

fn main_net(text: &str) -> Result<String, (String, Vec<usize>)> {
    decode(text, Network::Bitcoin)
        .map(|script| hex::encode(script.as_bytes()))
        .map_err(|bad| (bad.message, bad.locations))
}

/// Vectors of BIP173 and BIP350.
#[test]
fn segwit_addresses_decode_as_in_the_bips() {
    for (text, script) in [
        ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", "0014751e76e8199196d454941c45d1b3a323f1433bd6"),
        ("BC1SW50QGDZ25J", "6002751e"),
        ("bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", "5210751e76e8199196d454941c45d1b3a323"),
        (
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
            "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        ),
    ] {
        assert_eq!(main_net(text), Ok(script.into()), "{text}");
    }
    for (text, message, locations) in [
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", "Invalid Bech32 checksum", vec![41]),
        ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3t4", "Invalid character or mixed case", vec![40]),
        ("bc1rw5uspcuh", "Version 1+ witness address must use Bech32m checksum", vec![]),
        ("bc1gmk9yu", "Empty Bech32 data section", vec![]),
        ("bc1pw5dgrnzv", "Invalid Bech32 address program size (1 byte)", vec![]),
        (
            "BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P",
            "Invalid Bech32 v0 address program size (16 bytes), per BIP141",
            vec![],
        ),
        (
            "bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4",
            "Invalid Base 32 character",
            vec![59],
        ),
        (
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf",
            "Invalid padding in Bech32 data section",
            vec![],
        ),
        (
            "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
            "Invalid or unsupported Segwit (Bech32) or Base58 encoding.",
            vec![],
        ),
    ] {
        assert_eq!(main_net(text), Err((message.into(), locations)), "{text}");
    }
}

/// Every address with one or two characters changed names exactly those places.
#[test]
fn changed_characters_are_found() {
    let good = "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202";
    assert!(decode(good, Network::Regtest).is_ok());
    for places in [vec![5], vec![43], vec![10, 30], vec![8, 9]] {
        let mut text: Vec<u8> = good.into();
        for place in &places {
            text[*place] = if text[*place] == b'p' { b'z' } else { b'p' };
        }
        let bad = decode(std::str::from_utf8(&text).unwrap(), Network::Regtest).unwrap_err();
        assert_eq!(bad.locations, places);
        assert_eq!(bad.message, "Invalid Bech32 checksum");
    }
    let long = format!("bcrt1{}", "q".repeat(100));
    let bad = decode(&long, Network::Regtest).unwrap_err();
    assert_eq!((bad.message.as_str(), bad.locations.len()), ("Bech32 string too long", 15));
}

#[test]
fn base58_addresses_have_core_texts() {
    assert_eq!(main_net("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2").map(|s| s.len()), Ok(50));
    for (text, message) in [
        (
            "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN3",
            "Invalid checksum or length of Base58 address (P2PKH or P2SH)",
        ),
        ("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", "Invalid or unsupported Base58-encoded address."),
        ("asfah14i8fajz0123f", "Invalid or unsupported Segwit (Bech32) or Base58 encoding."),
        ("", "Invalid checksum or length of Base58 address (P2PKH or P2SH)"),
    ] {
        assert_eq!(main_net(text).unwrap_err().0, message, "{text}");
    }
}

#[test]
fn anchors_and_unknown_programs_are_described() {
    let anchor = validate("bcrt1pfeesnyr2tx", Network::Regtest).to_string();
    assert!(anchor.ends_with(r#""scriptPubKey":"51024e73","isscript":true,"iswitness":true}"#), "{anchor}");
    let unknown = validate("BC1SW50QGDZ25J", Network::Bitcoin).to_string();
    assert!(
        unknown.contains(r#""iswitness":true,"witness_version":16,"witness_program":"751e""#),
        "{unknown}"
    );
}
