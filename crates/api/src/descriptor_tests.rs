use bitcoin::hex::FromHex;
use serde_json::json;

use super::*;

fn parse(text: &str) -> Result<ParsedDescriptor, String> {
    ParsedDescriptor::parse(text, Network::Regtest, false, &Secp256k1::new())
}

fn first_script(text: &str) -> String {
    hex::encode(parse(text).unwrap().scripts(0, &Secp256k1::new()).unwrap().remove(0).as_bytes())
}

const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

#[test]
fn each_form_gives_its_script() {
    assert_eq!(first_script("raw(51)#8lvh9jxk"), "51");
    assert_eq!(first_script(&format!("pk({KEY})")), format!("21{KEY}ac"));
    assert_eq!(first_script(&format!("wpkh({KEY})")), "0014751e76e8199196d454941c45d1b3a323f1433bd6");
    assert_eq!(first_script(&format!("rawtr({})", &KEY[2..])), format!("5120{}", &KEY[2..]));
    assert_eq!(first_script("addr(bcrt1pfeesnyr2tx)"), "51024e73");
    let combo = parse(&format!("combo({KEY})")).unwrap();
    assert_eq!(combo.scripts(0, &Secp256k1::new()).unwrap().len(), 4);
}

#[test]
fn checksums_have_core_texts() {
    let error = |text: &str| parse(text).err().unwrap();
    assert_eq!(
        error("raw(51)#8lvh9jxx"),
        "Provided checksum '8lvh9jxx' does not match computed checksum '8lvh9jxk'"
    );
    assert_eq!(error("raw(51)#8lv"), "Expected 8 character checksum, not 3 characters");
    assert_eq!(error("raw(51)##"), "Multiple '#' symbols");
    assert_eq!(error("raw(x)"), "Raw script is not hex");
    assert_eq!(error("addr(x)"), "Address is not valid");
    assert_eq!(error(""), "'' is not a valid descriptor function");
    let missing = ParsedDescriptor::parse("raw(51)", Network::Regtest, true, &Secp256k1::new());
    assert_eq!(missing.err().unwrap(), "Missing checksum");
}

#[test]
fn scripts_are_described_without_keys() {
    let infer =
        |text: &str| super::infer(&ScriptBuf::from_bytes(Vec::from_hex(text).unwrap()), Network::Regtest);
    assert_eq!(infer("51"), "raw(51)#8lvh9jxk");
    assert!(infer(&format!("21{KEY}ac")).starts_with(&format!("pk({KEY})#")));
    assert!(infer(&format!("5120{}", &KEY[2..])).starts_with("rawtr("));
    assert!(infer("0014751e76e8199196d454941c45d1b3a323f1433bd6").starts_with("addr(bcrt1q"));
    assert!(infer(&format!("5121{KEY}51ae")).starts_with(&format!("multi(1,{KEY})#")));
}

#[test]
fn ranges_have_core_texts() {
    let range = |value: Value| parse_range(&value).map_err(|e| e.message);
    assert_eq!(range(json!(5)), Ok((0, 5)));
    assert_eq!(range(json!([3, 5])), Ok((3, 5)));
    assert_eq!(range(json!(-1)), Err("End of range is too high".into()));
    assert_eq!(range(json!([-1, 5])), Err("Range should be greater or equal than 0".into()));
    assert_eq!(range(json!([0, 1_000_000])), Err("Range is too large".into()));
    assert_eq!(range(json!(1_i64 << 31)), Err("End of range is too high".into()));
    assert_eq!(
        range(json!([5, 3])),
        Err("Range specified as [begin,end] must not have begin after end".into())
    );
    assert_eq!(range(json!("5")), Err("Range must be specified as end or as [begin,end]".into()));
}

/// Core's `rpc_scantxoutset.py` keys: hardened children exist for a private key alone.
#[test]
fn hardened_children_need_the_private_key() {
    let private = "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK";
    let secp = Secp256k1::new();
    let hardened = parse(&format!("combo({private}/0'/0h/*h)")).unwrap();
    assert!(hardened.is_range() && hardened.is_combo() && hardened.has_private_keys());
    assert!(!hardened.public().contains("tprv"), "{}", hardened.public());
    let numbered = parse(&format!("combo({private}/0'/0h/7h)")).unwrap();
    assert_eq!(hardened.scripts(7, &secp).unwrap(), numbered.scripts(0, &secp).unwrap());
    let public = "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B";
    let underivable = parse(&format!("pkh({public}/1h/2)")).unwrap();
    assert!(underivable.scripts(0, &secp).is_err());
    assert!(parse(&format!("pkh({public}/*h)")).unwrap().scripts(3, &secp).is_err());
}

/// Core's `rpc_scantxoutset.py`: what is found is described behind its key's origin.
#[test]
fn derived_scripts_are_described_with_their_origin() {
    let private = "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK";
    let object = serde_json::json!({"desc": format!("combo({private}/0h/0'/*)"), "range": 1});
    let found = scan_object_scripts(&object, Network::Regtest, &Secp256k1::new()).unwrap();
    assert_eq!(found.len(), 8);
    assert_eq!(
        found[1].1,
        "pkh([0c5f9a1e/0h/0h/0]026dbd8b2315f296d36e6b6920b1579ca75569464875c7ebe869b536a7d9503c8c)#rthll0rg"
    );
    let plain =
        scan_object_scripts(&serde_json::json!(format!("pkh({KEY})")), Network::Regtest, &Secp256k1::new());
    assert!(plain.unwrap()[0].1.starts_with(&format!("pkh([751e76e8]{KEY})#")));
}

#[test]
fn blanks_and_multipath_are_cores() {
    assert_eq!(
        parse(&format!("pk( {KEY})")).err().unwrap(),
        format!("pk(): Key ' {KEY}' is invalid due to whitespace")
    );
    assert_eq!(
        parse(&format!("wsh(multi(1, {KEY},{KEY}))")).err().unwrap(),
        format!("Multi: Key ' {KEY}' is invalid due to whitespace")
    );
    let public = "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B";
    let all = |text: String| parse_all(&text, Network::Regtest, false, &Secp256k1::new());
    let two = all(format!("wpkh({public}/<0;1>/*)")).unwrap();
    let texts: Vec<String> = two.iter().map(ParsedDescriptor::public).collect();
    assert_eq!(texts, [0, 1].map(|i| with_checksum(&format!("wpkh({public}/{i}/*)"))));
    assert!(all(format!("wsh(multi(1,{public}/<0;1>,{public}/<0;1;2>))")).is_err());
    assert_eq!(all("raw(51)".into()).unwrap().len(), 1);
}
