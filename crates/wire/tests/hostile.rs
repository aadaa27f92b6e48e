//! What strangers may send: no input panics, and no length prefix is believed.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bitcoin::p2p::Magic;
use ironpeer_wire::{Command, Message, V1Decoder, encode, encode_frame};
use proptest::prelude::*;

/// Remembers the largest single reservation of the thread.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: passes every call on to the system allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        unsafe { System.realloc(ptr, layout, size) }
    }
}

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
