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
