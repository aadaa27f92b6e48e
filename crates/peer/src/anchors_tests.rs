use bitcoin::p2p::ServiceFlags;
use ironpeer_wire::Service;

use super::*;

fn anchor(n: u8) -> PeerAddress {
    let service = Service::from(std::net::SocketAddr::from(([203, 0, 113, n], 8333)));
    PeerAddress { time: NO_TIME, services: ServiceFlags::NETWORK | ServiceFlags::WITNESS, service }
}

#[test]
fn anchors_dat_is_cores_and_comes_back() {
    let magic = Magic::REGTEST;
    let bytes = to_file(&[anchor(1), anchor(2), anchor(3)], magic);
    let mut expected = vec![0xfa, 0xbf, 0xb5, 0xda, 2];
    for n in [1, 2] {
        // Version and form, time, services, network, length, address, port.
        expected
            .extend([0x60, 0x5b, 0x03, 0x20, 0x00, 0xe1, 0xf5, 0x05, 9, 1, 4, 203, 0, 113, n, 0x20, 0x8d]);
    }
    expected.extend(sha256d::Hash::hash(&expected).to_byte_array());
    assert_eq!(bytes, expected);
    assert_eq!(from_file(&bytes, magic).unwrap(), [anchor(1), anchor(2)]);
    assert_eq!(from_file(&bytes, Magic::BITCOIN), Err(PeersFileError::WrongMagic));
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1;
        assert!(from_file(&damaged, magic).is_err(), "byte {place}");
        assert!(from_file(&bytes[..place], magic).is_err(), "cut at {place}");
    }
}
