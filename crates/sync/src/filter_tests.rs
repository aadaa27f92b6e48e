use bitcoin::hex::FromHex;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    Vec::from_hex(text).unwrap()
}

fn filter(bytes: usize, hash_funcs: u32, tweak: u32, flags: u8) -> PeerFilter {
    PeerFilter::new(BloomFilter { data: vec![0; bytes], hash_funcs, tweak, flags }).unwrap()
}

/// Core's `murmurhash3` vectors.
#[test]
fn murmur3_as_core() {
    for (expected, seed, data) in [
        (0x0000_0000, 0x0000_0000, ""),
        (0x6a39_6f08, 0xfba4_c795, ""),
        (0x81f1_6f39, 0xffff_ffff, ""),
        (0x514e_28b7, 0x0000_0000, "00"),
        (0xea3f_0b17, 0xfba4_c795, "00"),
        (0xfd6c_f10d, 0x0000_0000, "ff"),
        (0x16c6_b7ab, 0x0000_0000, "0011"),
        (0x8eb5_1c3d, 0x0000_0000, "001122"),
        (0xb447_1bf8, 0x0000_0000, "00112233"),
        (0xe230_1fa8, 0x0000_0000, "0011223344"),
        (0xfc2e_4a15, 0x0000_0000, "001122334455"),
        (0xb074_502c, 0x0000_0000, "00112233445566"),
        (0x8034_d2a0, 0x0000_0000, "0011223344556677"),
        (0xb469_8def, 0x0000_0000, "001122334455667788"),
    ] {
        assert_eq!(murmur3(seed, &hex(data)), expected, "{seed:x} {data}");
    }
}

/// Core's `bloom_create_insert_serialize`, with and without a tweak.
#[test]
fn filters_have_cores_bits() {
    for (tweak, bits) in [(0, "614e9b"), (2_147_483_649, "ce4299")] {
        let mut filter = filter(3, 5, tweak, UPDATE_ALL);
        let elements = [
            "99108ad8ed9bb6274d3980bab5a85c048f0950c8",
            "b5a2c786d9ef4658287ced5914b37a1b4aa32eee",
            "b9300670b4c5366e95b2699e8b18bc75e5f729c5",
        ];
        for element in elements {
            filter.insert(&hex(element));
            assert!(filter.contains(&hex(element)));
        }
        assert!(!filter.contains(&hex("19108ad8ed9bb6274d3980bab5a85c048f0950c8")));
        assert_eq!(filter.0.data, hex(bits));
    }
}

#[test]
fn too_large_filters_are_refused() {
    let fits = |bytes, hash_funcs| {
        PeerFilter::new(BloomFilter { data: vec![0; bytes], hash_funcs, tweak: 0, flags: 0 }).is_some()
    };
    assert!(fits(36_000, 50));
    assert!(!fits(36_001, 50));
    assert!(!fits(36_000, 51));
}

/// CVE-2013-5700: a filter without bits lets everything through and divides by nothing.
#[test]
fn cve_2013_5700_an_empty_filter_matches_all() {
    let mut filter = filter(0, 1, 0, 0);
    filter.insert(b"anything");
    assert!(filter.contains(b"anything else"));
    assert!(filter.matches(&payment()));
}

/// The transaction of Core's `bloom_match`, which pays to two key hashes.
fn payment() -> Transaction {
    bitcoin::consensus::encode::deserialize(&hex(
        "01000000010b26e9b7735eb6aabdf358bab62f9816a21ba9ebdb719d5299e88607d722c190000000008b4830450220070aca44506c5cef3a16ed519d7c3c39f8aab192c4e1c90d065f37b8a4af6141022100a8e160b856c2d43d27d8fba71e5aef6405b8643ac4cb7cb3c462aced7f14711a0141046d11fee51b0e60666d5049a9101a72741df480b96ee26488a4d3466b95c9a40ac5eeef87e10a5cd336c19a84565f80fa6c547957b7700ff4dfbdefe76036c339ffffffff021bff3d11000000001976a91404943fdd508053c75000106d3bc6e2754dbcff1988ac2f15de00000000001976a914a266436d2965547608b9e15d9032a7b9d64fa43188ac00000000",
    ))
    .unwrap()
}

/// What a filter may hold to match a transaction, as in Core's `bloom_match`.
#[test]
fn a_transaction_matches_by_id_scripts_and_outpoints() {
    let tx = payment();
    let spent = serialize(&tx.input[0].previous_output);
    let mut id = hex("b4749f017444b051c44dfd2720e88f314ff94f3dd6d56d40ef65854fcd7fff6b");
    id.reverse();
    let key = "046d11fee51b0e60666d5049a9101a72741df480b96ee26488a4d3466b95c9a40ac5eeef87e10a5cd336c19a84565f80fa6c547957b7700ff4dfbdefe76036c339";
    for element in [
        id,
        hex(key),
        hex("04943fdd508053c75000106d3bc6e2754dbcff19"),
        hex("a266436d2965547608b9e15d9032a7b9d64fa431"),
        spent,
    ] {
        let mut filter = filter(100, 5, 0, UPDATE_ALL);
        assert!(!filter.matches(&tx));
        filter.insert(&element);
        assert!(filter.matches(&tx));
    }
    let mut other = filter(100, 5, 0, UPDATE_ALL);
    other.insert(&hex("0000006d2965547608b9e15d9032a7b9d64fa431"));
    assert!(!other.matches(&tx));
}

/// Only with the flag for it does a matched output make its spending match.
#[test]
fn flags_say_which_outputs_are_added() {
    let tx = payment();
    let output = OutPoint { txid: tx.compute_txid(), vout: 0 };
    for (flags, added) in [(0, false), (UPDATE_ALL, true), (UPDATE_P2PUBKEY_ONLY, false)] {
        let mut filter = filter(100, 5, 0, flags);
        filter.insert(&hex("04943fdd508053c75000106d3bc6e2754dbcff19"));
        assert!(filter.matches(&tx));
        assert_eq!(filter.contains_outpoint(&output), added, "{flags}");
    }
}
