use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::constants::genesis_block;
use bitcoin::{Network, Target};

use super::*;

fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_ground_header_satisfies_its_bits_and_is_else_the_same() {
    let mut header = genesis_block(Network::Regtest).header;
    header.time += 1;
    // About a thousand hashes, over all cores.
    header.bits =
        Target::from_be_bytes([&[0, 0x3f][..], &[0xff; 30]].concat().try_into().unwrap()).to_compact_lossy();
    let ground: Header = deserialize_hex(&grind(&words(&[&serialize_hex(&header)])).unwrap()).unwrap();
    assert!(ground.validate_pow(ground.target()).is_ok());
    header.nonce = ground.nonce;
    assert_eq!(ground, header);
}

#[test]
fn headers_that_cannot_be_ground_are_named() {
    assert_eq!(grind(&[]).unwrap_err(), "Must specify block header to grind");
    assert_eq!(grind(&words(&["00", "00"])).unwrap_err(), "Must specify block header to grind");
    assert_eq!(grind(&words(&["zz"])).unwrap_err(), "Could not decode block header");
    assert_eq!(grind(&words(&["00"])).unwrap_err(), "Could not decode block header");
    let mut header = genesis_block(Network::Regtest).header;
    header.bits = bitcoin::CompactTarget::from_consensus(0);
    assert_eq!(grind(&words(&[&serialize_hex(&header)])).unwrap_err(), "Could not satisfy difficulty target");
}
