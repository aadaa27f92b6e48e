use super::*;

#[test]
fn targets_are_taken_apart_as_in_core() {
    let apart = |rest| {
        let asked = Asked::new(rest);
        let format = match asked.format {
            Format::Binary => "bin",
            Format::Hex => "hex",
            Format::Json => "json",
            Format::Unknown => "",
        };
        (asked.path.to_owned(), format)
    };
    assert_eq!(apart("a.json?x=1"), ("a".into(), "json"));
    assert_eq!(apart("a.b.bin"), ("a.b".into(), "bin"));
    assert_eq!(apart("a.xml"), ("a.xml".into(), ""));
    assert_eq!(apart("a."), ("a".into(), ""));
    assert_eq!(apart("?x.json"), (String::new(), ""));
    let asked = Asked::new("a.hex?x=%41b&x=2&%79=&z&w=%4");
    let parameter = |name| asked.parameter(name);
    assert_eq!(parameter("x").as_deref(), Some("Ab"));
    assert_eq!(parameter("y").as_deref(), Some(""));
    assert_eq!(parameter("z").as_deref(), Some(""));
    assert_eq!(parameter("w").as_deref(), Some("%4"));
    assert_eq!(parameter("q"), None);
}

#[test]
fn numbers_have_digits_only() {
    assert_eq!(unsigned::<u32>("007"), Some(7));
    for bad in ["", "+1", "-1", "1a", " 1", "4294967296"] {
        assert_eq!(unsigned::<u32>(bad), None, "{bad}");
    }
}

#[test]
fn a_list_of_outpoints_may_lie_about_its_length() {
    assert_eq!(outpoints_of(&[0, 0]), Some((false, Vec::new())));
    assert_eq!(outpoints_of(&[1, 255, 255, 255, 255, 255, 255, 255, 255, 255]), None);
    let mut bytes = vec![2, 1];
    bytes.extend([7; 36]);
    let (check, list) = outpoints_of(&bytes).unwrap();
    assert!(check && list.len() == 1 && list[0].vout == 0x0707_0707);
}
