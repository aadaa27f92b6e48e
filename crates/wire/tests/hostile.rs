//! What strangers may send: no input panics, and no length prefix is believed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod allocations;

use allocations::{HELD, LARGEST, MOST, Watching};
use bitcoin::p2p::Magic;
use ironpeer_wire::limits::MAX_DECODED_FACTOR;
use ironpeer_wire::{Command, Message, V1Decoder, encode, encode_frame};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Zebra GHSA-xr93, -438q, Core PR 10570: every decoder, with a huge length prefix at every
/// offset where one can stand, reserves at most the data and 64 KiB.
#[test]
fn ghsa_xr93_438q_no_length_prefix_is_believed() {
    let prefixes: [&[u8]; 4] = [
        &[0xff, 0, 0, 0, 0, 1, 0, 0, 0],
        &[0xfe, 0xff, 0xff, 0xff, 0x01],
        &[0xfe, 0x00, 0x00, 0x3d, 0x00],
        &[0xfd, 0xff, 0xff],
    ];
    for name in Command::KNOWN {
        for fill in [0u8, 1] {
            for offset in 0..130 {
                for prefix in prefixes {
                    let mut bytes = vec![fill; offset];
                    bytes.extend(prefix);
                    bytes.extend([fill; 10]);
                    let data = bytes.len();
                    LARGEST.set(0);
                    drop(Message::decode(Command::new(name), bytes));
                    let largest = LARGEST.get();
                    assert!(largest <= data + 64 * 1024, "{name} at {offset} reserved {largest}");
                }
            }
        }
    }
}

/// A witness that announces four million elements in a transaction of a hundred bytes.
#[test]
fn a_witness_count_is_not_believed() {
    let mut tx = vec![2, 0, 0, 0, 0, 1, 1];
    tx.extend([0x22; 36]);
    tx.extend([0, 0xff, 0xff, 0xff, 0xff, 0]);
    tx.extend([0xfe, 0x00, 0x09, 0x3d, 0x00]);
    tx.extend([0; 40]);
    LARGEST.set(0);
    assert!(matches!(Message::decode(Command::new("tx"), tx), Message::Malformed(_)));
    assert!(LARGEST.get() <= 64 * 1024 + 100);
}

/// A length prefix in its shortest form.
fn prefix(n: usize) -> Vec<u8> {
    match n {
        0..0xfd => vec![n as u8],
        0xfd..0x1_0000 => [&[0xfd][..], &(n as u16).to_le_bytes()].concat(),
        _ => [&[0xfe][..], &(n as u32).to_le_bytes()].concat(),
    }
}

/// Payloads of about a million bytes, all of the smallest elements their type has.
fn dense_payloads() -> Vec<(&'static str, Vec<u8>)> {
    let repeat = |head: &[u8], element: &[u8]| {
        let count = 1_000_000 / element.len();
        [head, &prefix(count), &element.repeat(count)].concat()
    };
    let tx = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let small_output = [0; 9];
    let small_input = [0; 41];
    let header = [0; 80];
    let start = [2, 0, 0, 0];
    let input = [&[1][..], &[0; 41]].concat();
    let many_outputs = [repeat(&[&start[..], &input].concat(), &small_output), vec![0; 4]].concat();
    let many_inputs = [repeat(&start, &small_input), vec![0; 5]].concat();
    // One input with as many empty witness elements as fit, and many inputs with one each.
    let elements = [repeat(&[&start[..], &[0, 1], &input, &[0]].concat(), &[0]), vec![0; 4]].concat();
    let count = 1_000_000 / 43;
    let witnesses = [
        &start[..],
        &[0, 1],
        &prefix(count),
        &small_input.repeat(count),
        &[0],
        &[1, 0].repeat(count),
        &[0; 4],
    ]
    .concat();
    let twice = |payload: &[u8]| [&header[..], &[1], payload].concat();
    vec![
        ("block", repeat(&header, &tx)),
        ("blocktxn", repeat(&[0; 32], &tx)),
        (
            "cmpctblock",
            [&header[..], &[0; 8], &[0], &prefix(65_000), &[&[0][..], &tx].concat().repeat(65_000)].concat(),
        ),
        ("cmpctblock", [&header[..], &[0; 8], &prefix(65_000), &[0; 6].repeat(65_000), &[0]].concat()),
        ("tx", many_outputs.clone()),
        ("tx", many_inputs.clone()),
        ("tx", elements.clone()),
        ("tx", witnesses.clone()),
        ("block", twice(&many_outputs)),
        ("block", twice(&many_inputs)),
        ("block", twice(&elements)),
        ("block", twice(&witnesses)),
        ("addr", repeat(&[], &[0; 30])),
        // An address of an unknown network, of no length.
        ("addrv2", repeat(&[], &[0, 0, 0, 0, 0, 99, 0, 0, 0])),
        ("inv", repeat(&[], &[0; 36])),
        ("getdata", repeat(&[], &[1; 36])),
        ("notfound", repeat(&[], &[0; 36])),
        ("getheaders", [repeat(&[0; 4], &[0; 32]), vec![0; 32]].concat()),
        ("headers", [prefix(2_000), [0; 81].repeat(2_000)].concat()),
        ("getblocktxn", [&[0; 32][..], &prefix(65_000), &[0; 65_000]].concat()),
        ("cfheaders", repeat(&[0; 65], &[0; 32])),
        ("cfcheckpt", repeat(&[0; 33], &[0; 32])),
        ("cfilter", repeat(&[0; 33], &[0])),
        ("filterload", [repeat(&[], &[0]), vec![0; 9]].concat()),
        ("filteradd", repeat(&[], &[0])),
        (
            "merkleblock",
            [
                &header[..],
                &[0xff; 4],
                &prefix(30_000),
                &[0; 32].repeat(30_000),
                &prefix(7_500),
                &[0xff; 7_500],
            ]
            .concat(),
        ),
        ("nonsense", vec![0; 1_000_000]),
    ]
}

/// What a message holds is counted, whatever it is made of, and stays within the factor that the
/// common budget reserves for it.
#[test]
fn decoded_messages_hold_what_is_counted() {
    let mut worst = (0.0, "");
    for (name, payload) in dense_payloads() {
        let size = payload.len();
        HELD.set(0);
        MOST.set(0);
        let message = Message::decode(Command::new(name), payload);
        assert!(name == "merkleblock" || !matches!(message, Message::Malformed(_)), "{name}: {message:?}");
        // The payload was there before it began; those who keep it still hold it.
        let held = HELD.get() + size as isize;
        let counted = message.heap_bytes() as isize;
        assert!(held <= counted, "{name} of {size} bytes holds {held}, counted are {counted}");
        let factor = MOST.get() as f64 / size as f64;
        if factor > worst.0 {
            worst = (factor, name);
        }
        assert!(factor <= MAX_DECODED_FACTOR as f64, "{name}: {factor}");
        assert!(counted <= (MAX_DECODED_FACTOR * size) as isize, "{name}: {counted}");
    }
    assert!(worst.0 > MAX_DECODED_FACTOR as f64 / 2.0, "the factor is too large: {worst:?}");
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..400),
        // Mostly small numbers, so that length prefixes are plausible.
        proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..400),
    ]
}

proptest! {
    /// Any payload of any type decodes or is named malformed; what decodes survives a second
    /// round unchanged.
    #[test]
    fn payloads_never_panic(which in 0..Command::KNOWN.len(), bytes in any_bytes()) {
        let command = Command::new(Command::KNOWN.get(which).unwrap());
        let message = Message::decode(command, bytes);
        let mut once = Vec::new();
        message.encode_payload(&mut once);
        let again = Message::decode(message.command(), once);
        if !matches!(message, Message::Tx(_) | Message::Block(_) | Message::CmpctBlock(_) | Message::BlockTxn(_)) {
            prop_assert_eq!(again, message);
        }
    }

    /// Any stream gives frames or ends with a named error, however it is cut.
    #[test]
    fn streams_never_panic(bytes in any_bytes(), cut in 1usize..40, good in any::<u64>()) {
        let mut stream = encode(&Message::Ping(good), Magic::SIGNET);
        stream.extend(encode_frame(Command::new("nonsense"), &bytes, Magic::SIGNET));
        stream.extend(&bytes);
        let mut decoder = V1Decoder::new(Magic::SIGNET);
        decoder.handshake_done();
        let mut frames = 0;
        'stream: for chunk in stream.chunks(cut) {
            let mut input = chunk;
            while !input.is_empty() {
                match decoder.push(&mut input) {
                    Ok(Some(_)) => frames += 1,
                    Ok(None) => {}
                    Err(_) => break 'stream,
                }
            }
        }
        prop_assert!(frames >= 2);
    }
}
