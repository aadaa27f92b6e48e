//! Messages as bytes: fixed examples, round trips, Core's leniency and its limits.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use bitcoin::p2p::{Magic, ServiceFlags};
use ironpeer_wire::{
    Command, DecodeError, FrameError, FrameReject, InvType, Inventory, Message, NetAddress, Reader, Received,
    Service, V1Decoder, decode_transaction, encode,
};

fn payload(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode_payload(&mut out);
    out
}

fn decode(name: &str, bytes: &[u8]) -> Message {
    Message::decode(Command::new(name), bytes.to_vec())
}

fn error(name: &str, bytes: &[u8]) -> DecodeError {
    match decode(name, bytes) {
        Message::Malformed(malformed) => malformed.error,
        other => panic!("{name} decoded to {other:?}"),
    }
}

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

/// The `verack` every mainnet node sends.
#[test]
fn verack_frame() {
    let bytes = hex("f9beb4d9 76657261636b000000000000 00000000 5df6e0e2");
    assert_eq!(encode(&Message::Verack, Magic::BITCOIN), bytes);
    let mut decoder = V1Decoder::new(Magic::BITCOIN);
    let Some(Received::Frame(frame)) = decoder.push(&mut bytes.as_slice()).unwrap() else { panic!() };
    assert_eq!(frame.wire_bytes(), 24);
    assert_eq!(frame.into_message(), Message::Verack);
}

#[test]
fn version_fields_in_core_order() {
    let bytes = hex(
        "80110100 0904000000000000 58bd5a6500000000 0100000000000000 00000000000000000000ffff0a000001 208d \
         0904000000000000 00000000000000000000000000000000 0000 3b2eb35d8ce61765 0f2f5361746f7368693a302e372e322f \
         c03e0300 01",
    );
    let Message::Version(version) = decode("version", &bytes) else { panic!() };
    assert_eq!(version.version, 70_016);
    assert_eq!(version.services, ServiceFlags::from(0x409));
    assert_eq!(version.timestamp, 0x655a_bd58);
    assert_eq!(version.receiver.to_string(), "10.0.0.1:8333");
    assert_eq!(version.nonce, 0x6517_e68c_5db3_2e3b);
    assert_eq!(version.user_agent, b"/Satoshi:0.7.2/");
    assert_eq!(version.start_height, 212_672);
    assert!(version.relay);
    assert_eq!(payload(&Message::Version(version)), bytes);
}

/// Core needs only what comes before the sender's address, and ignores what follows the end.
#[test]
fn short_version_messages() {
    let head = hex(
        "80110100 0904000000000000 ffffffffffffffff 0100000000000000 00000000000000000000ffff0a000001 208d",
    );
    let Message::Version(version) = decode("version", &head) else { panic!() };
    assert_eq!((version.timestamp, version.nonce, version.start_height, version.relay), (0, 1, -1, true));

    let mut with_agent = head.clone();
    with_agent.extend([0; 34]);
    with_agent.extend([3, 0xff, 0xfe, 0x00]);
    let Message::Version(version) = decode("version", &with_agent) else { panic!() };
    assert_eq!((version.nonce, version.user_agent.as_slice()), (0, &[0xff, 0xfe, 0x00][..]));

    with_agent.extend([7, 0, 0, 0, 0, 0xaa, 0xbb]);
    let Message::Version(version) = decode("version", &with_agent) else { panic!() };
    assert_eq!((version.start_height, version.relay), (7, false));

    assert_eq!(error("version", &head[..45]), DecodeError::EndOfData);
    let mut long_agent = head;
    long_agent.extend([0; 34]);
    long_agent.extend([0xfd, 0x01, 0x01]);
    long_agent.extend([b'a'; 257]);
    assert_eq!(error("version", &long_agent), DecodeError::StringTooLong);
}

#[test]
fn addrv2_skips_what_it_does_not_know() {
    let bytes = hex("06 \
         01000000 00 01 04 01020304 208d \
         02000000 00 07 03 aabbcc 0001 \
         03000000 00 02 10 00000000000000000000ffff01020304 0002 \
         04000000 fd0904 04 20 79bcc625184b05194975c28b66b66b0469f7f6556fb1ac3189a79b40dda32f1f 208d \
         05000000 00 03 0a 00010203040506070809 0003 \
         06000000 00 02 10 20010db8000000000000000000000001 0004");
    let Message::AddrV2(entries) = decode("addrv2", &bytes) else { panic!() };
    let names: Vec<_> = entries.iter().map(|entry| entry.service.to_string()).collect();
    assert_eq!(
        names,
        [
            "1.2.3.4:8333",
            "[::]:1",
            "[::]:2",
            "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion:8333",
            "[::]:3",
            "[2001:db8::1]:4",
        ]
    );
    assert_eq!(entries[3].services, ServiceFlags::from(0x409));
}

#[test]
fn addrv2_errors_have_cores_texts() {
    let mut long = hex("01 01000000 00 01 fd0102");
    long.extend([0; 515]);
    assert_eq!(error("addrv2", &long).to_string(), "Address too long: 513 > 512: iostream error");
    let odd = hex("01 01000000 00 01 05 0102030405 208d");
    assert_eq!(
        error("addrv2", &odd).to_string(),
        "BIP155 IPv4 address with length 5 (should be 4): iostream error"
    );
    let Message::Malformed(malformed) = decode("addrv2", &hex("01 00")) else { panic!() };
    assert_eq!(
        malformed.to_string(),
        "ProcessMessages(addrv2, 2 bytes): Exception 'DataStream::read(): end of data: iostream error' \
         (std::ios_base::failure) caught"
    );
}

#[test]
fn i2p_and_cjdns_names() {
    let i2p = hex("a2894dabaec08c0051a481a6dac88b64f98232ae42d4b6fd2fa81952dfe36a87");
    let i2p = NetAddress::I2p(i2p.try_into().unwrap());
    assert_eq!(i2p.to_string(), "ukeu3k5oycgaauneqgtnvselmt4yemvoilkln7jpvamvfx7dnkdq.b32.i2p");
    let cjdns = NetAddress::Cjdns("fc00:1:2:3:4:5:6:7".parse().unwrap());
    assert_eq!(Service { address: cjdns, port: 8333 }.to_string(), "[fc00:1:2:3:4:5:6:7]:8333");
}

#[test]
fn names_of_all_networks_read_back() {
    for name in [
        "1.2.3.4",
        "2001:db9::1",
        "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion",
        "ukeu3k5oycgaauneqgtnvselmt4yemvoilkln7jpvamvfx7dnkdq.b32.i2p",
    ] {
        assert_eq!(name.parse::<NetAddress>().unwrap().to_string(), name);
    }
    for wrong in [
        "",
        "host.example",
        ".onion",
        // The checksum, the version and the length are wrong.
        "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscrye.onion",
        "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryx.onion",
        "pg6mmjiyjmcrssl.onion",
        "ukeu3k5oycgaauneqgtnvselmt4yemvoilkln7jpvamvfx7dnkd.b32.i2p",
        "ukeu3k5oycgaauneqgtnvselmt4yemvoilkln7jpvamvfx7dnkd1.b32.i2p",
    ] {
        assert!(wrong.parse::<NetAddress>().is_err(), "{wrong}");
    }
}

/// One host has one name, whichever form it comes in (GHSA-63wg: a mapped address evades a ban).
#[test]
fn a_mapped_ipv4_address_is_ipv4() {
    let mapped: std::net::SocketAddr = "[::ffff:1.2.3.4]:8333".parse().unwrap();
    let plain: std::net::SocketAddr = "1.2.3.4:8333".parse().unwrap();
    assert_eq!(Service::from(mapped), Service::from(plain));
}

/// The ranges of Core's `CNetAddr::IsRoutable`.
#[test]
fn routability_as_core() {
    let ip = |text: &str| NetAddress::from_ip(text.parse().unwrap());
    for text in [
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "172.31.255.255",
        "127.0.0.1",
        "0.1.2.3",
        "169.254.1.1",
        "100.64.0.1",
        "198.18.0.1",
        "192.0.2.1",
        "203.0.113.9",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "2001:db8::1",
        "2001:10::1",
        "2001:20::1",
    ] {
        assert!(!ip(text).is_routable(), "{text}");
    }
    for text in ["8.8.8.8", "172.32.0.1", "2001:41d0::1", "::ffff:8.8.8.8"] {
        assert!(ip(text).is_routable(), "{text}");
    }
    assert!(ip("127.5.5.5").is_local() && ip("0.0.0.1").is_local() && ip("::1").is_local());
    assert!(!ip("10.0.0.1").is_local());
    assert!(!ip("2001:db8::1").is_valid() && !ip("0.0.0.0").is_valid());
    assert!(NetAddress::TorV3([1; 32]).is_routable());
    assert!(NetAddress::Cjdns("fc00::1".parse().unwrap()).is_routable());
    assert!(!NetAddress::Cjdns("fd00::1".parse().unwrap()).is_valid());
}

#[test]
fn trailing_bytes_are_ignored_except_behind_a_feature() {
    assert_eq!(decode("verack", b"anything"), Message::Verack);
    assert_eq!(decode("ping", &[1, 0, 0, 0, 0, 0, 0, 0, 9]), Message::Ping(1));
    assert_eq!(decode("pong", &[1, 2, 3]), Message::Pong(None));
    assert!(matches!(decode("feature", b"\x04abcd\x00"), Message::Feature(_)));
    assert_eq!(error("feature", b"\x04abcd\x00!"), DecodeError::InvalidFeature);
    assert_eq!(error("feature", b"\x03abc\x00"), DecodeError::InvalidFeature);
}

#[test]
fn headers_beyond_2000_are_told_apart_without_reading_them() {
    assert_eq!(error("headers", &[0xfd, 0xd1, 0x07]).to_string(), "headers message size = 2001");
    let mut one = vec![1];
    one.extend([0; 80]);
    // The transaction count is not looked at, but must be there.
    assert_eq!(error("headers", &one), DecodeError::EndOfData);
    one.push(5);
    assert!(matches!(decode("headers", &one), Message::Headers(headers) if headers.len() == 1));
}

#[test]
fn length_prefixes_as_core_reads_them() {
    assert_eq!(error("inv", &[0xfd, 0xfc, 0x00]), DecodeError::NonCanonical);
    assert_eq!(error("inv", &hex("fe 01000002")), DecodeError::SizeTooLarge);
    assert_eq!(error("inv", &hex("ff ffffffffffffffff")), DecodeError::SizeTooLarge);
}

#[test]
fn getblocktxn_indexes_are_differences() {
    let mut bytes = vec![7; 32];
    bytes.extend([3, 0, 0, 0xfd, 0xe8, 0x03]);
    let Message::GetBlockTxn(request) = decode("getblocktxn", &bytes) else { panic!() };
    assert_eq!(request.indexes, [0, 1, 1002]);
    assert_eq!(payload(&Message::GetBlockTxn(request)), bytes);

    let mut overflow = vec![7; 32];
    overflow.extend(hex("02 fdffff 00"));
    assert_eq!(error("getblocktxn", &overflow), DecodeError::IndexOverflow);
}

#[test]
fn inventory_names_are_cores() {
    let hash = [0x11; 32];
    let name = |kind| Inventory { kind: InvType(kind), hash }.to_string();
    let digits = "11".repeat(32);
    assert_eq!(name(1), format!("tx {digits}"));
    assert_eq!(name(5), format!("wtx {digits}"));
    assert_eq!(name(0x4000_0002), format!("witness-block {digits}"));
    assert_eq!(name(77), format!("0x0000004d {digits}"));
}

/// Where `UnserializeTransaction` and the `bitcoin` crate part ways, Core wins (libbitcoin #1814).
#[test]
fn transaction_edges() {
    let tx = |text: &str| decode_transaction(&mut Reader::new(&hex(text)));
    // No inputs, flag 0: a transaction that spends and pays nothing.
    let empty = tx("02000000 00 00 00000000").unwrap();
    assert!(empty.input.is_empty() && empty.output.is_empty());
    // The witness flag without inputs, and with inputs that have no witness.
    assert_eq!(tx("02000000 00 01 00 00 00000000"), Err(DecodeError::SuperfluousWitness));
    let input = format!("{}00000000 00 ffffffff", "22".repeat(32));
    let output = "0100000000000000 00";
    let superfluous = format!("02000000 00 01 01 {input} 01 {output} 00 00000000");
    assert_eq!(tx(&superfluous), Err(DecodeError::SuperfluousWitness));
    // Flags nobody has defined.
    assert_eq!(
        tx(&format!("02000000 00 02 01 {input} 01 {output} 00000000")),
        Err(DecodeError::UnknownTxData)
    );
    // A witness of one empty element is a witness.
    let valid = tx(&format!("02000000 00 01 01 {input} 01 {output} 01 00 00000000")).unwrap();
    assert_eq!(valid.input[0].witness.len(), 1);
}

/// CVE-2022-44797 and -39389: parsers stricter than consensus.
#[test]
fn cve_2022_44797_39389_large_witnesses_decode() {
    use bitcoin::{
        Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute, transaction,
    };
    let with = |witness| Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness,
        }],
        output: vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() }],
    };
    let single = with(Witness::from_slice(&[vec![7u8; 3_900_000]]));
    let many = with(Witness::from_slice(&[[0u8; 0]; 900_000]));
    for tx in [single, many] {
        let bytes = bitcoin::consensus::serialize(&tx);
        assert_eq!(decode_transaction(&mut Reader::new(&bytes)).unwrap(), tx);
    }
}

/// CVE-2015-3641: a header that announces more than 4,000,000 bytes ends the connection at once.
#[test]
fn cve_2015_3641_oversized_header() {
    let mut head = hex("f9beb4d9 747800000000000000000000 01093d00 00000000");
    let mut decoder = V1Decoder::new(Magic::BITCOIN);
    decoder.handshake_done();
    let refused = decoder.push(&mut head.as_slice()).unwrap_err();
    assert_eq!(refused.to_string(), "Header error: Size too large (tx, 4000001 bytes)");
    assert_eq!(decoder.buffered(), 0);

    // One byte less is fine, and reserves only what has come.
    head[16] = 0;
    let mut decoder = V1Decoder::new(Magic::BITCOIN);
    decoder.handshake_done();
    assert_eq!(decoder.push(&mut head.as_slice()).unwrap(), None);
    assert!(decoder.buffered() <= 64 * 1024);
    decoder.push(&mut [0u8; 100_000].as_slice()).unwrap();
    assert!(decoder.buffered() <= 100_000 + 256 * 1024);
}

/// Zebra GHSA-h72h: before the handshake is done, large messages are not collected.
#[test]
fn ghsa_h72h_handshake_messages_are_small() {
    let mut decoder = V1Decoder::new(Magic::BITCOIN);
    let head = hex("f9beb4d9 76657273696f6e0000000000 01080000 00000000");
    assert!(matches!(decoder.push(&mut head.as_slice()), Err(FrameError::TooLarge { size: 2049, .. })));
}

#[test]
fn frame_errors_have_cores_texts() {
    let mut decoder = V1Decoder::new(Magic::REGTEST);
    let wrong = hex("0a03cf40 76657261636b000000000000 00000000 5df6e0e2");
    assert_eq!(
        decoder.push(&mut wrong.as_slice()).unwrap_err().to_string(),
        "Header error: Wrong MessageStart 0a03cf40 received"
    );

    let mut stream = hex("fabfb5da 70696e670000000000000000 01000000 ffffffff 00");
    stream.extend(hex("fabfb5da 70696e67000000000000ff00 00000000 5df6e0e2"));
    stream.extend(encode(&Message::Ping(5), Magic::REGTEST));
    let mut decoder = V1Decoder::new(Magic::REGTEST);
    let input = &mut stream.as_slice();
    let Some(Received::Rejected(reject, 25)) = decoder.push(input).unwrap() else { panic!() };
    assert_eq!(
        reject.to_string(),
        "Header error: Wrong checksum (ping, 1 bytes), expected 1406e058 was ffffffff"
    );
    let Some(Received::Rejected(reject, 24)) = decoder.push(input).unwrap() else { panic!() };
    assert!(matches!(reject, FrameReject::InvalidCommand { .. }));
    assert_eq!(reject.to_string(), "Header error: Invalid message type (ping, 0 bytes)");
    let Some(Received::Frame(frame)) = decoder.push(input).unwrap() else { panic!() };
    assert_eq!(frame.into_message(), Message::Ping(5));
}

/// Real blocks decode to what the `bitcoin` crate reads and encode to the same bytes.
#[test]
fn real_blocks_round_trip() {
    use bitcoin::hashes::Hash;
    let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin);
    let bytes = bitcoin::consensus::serialize(&genesis);
    let message = decode("block", &bytes);
    assert_eq!(payload(&message), bytes);
    let Message::Block(block) = message else { panic!() };
    assert_eq!(block.block_hash(), genesis.block_hash());
    assert_eq!(bitcoin::BlockHash::hash(&bytes[..80]), genesis.block_hash());
}
