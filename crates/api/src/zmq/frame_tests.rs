use super::*;

fn all(bytes: &[u8]) -> Result<Vec<Received>, ZmtpError> {
    let mut buffer = BytesMut::from(bytes);
    let mut out = Vec::new();
    while let Some(received) = take(&mut buffer)? {
        out.push(received);
    }
    Ok(out)
}

fn ready_of(kind: &[u8]) -> Vec<u8> {
    let mut body = b"\x05READY\x08Identity\0\0\0\0\x0bsocket-type".to_vec();
    body.extend((kind.len() as u32).to_be_bytes());
    body.extend(kind);
    [&[COMMAND, body.len() as u8][..], &body].concat()
}

#[test]
fn greetings_are_those_of_zmtp_3_with_null() {
    let ours = greeting();
    assert_eq!(ours[..12], [0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0]);
    assert_eq!(&ours[12..17], b"NULL\0");
    assert_eq!(check_greeting(&ours), Ok(()));
    // libzmq 4.3 says 3.1 and fills the signature.
    let mut theirs = ours;
    (theirs[8], theirs[11]) = (1, 1);
    assert_eq!(check_greeting(&theirs), Ok(()));
    for (at, byte, error) in
        [(0, 0, ZmtpError::Greeting), (10, 2, ZmtpError::Greeting), (12, b'P', ZmtpError::Mechanism)]
    {
        let mut wrong = ours;
        wrong[at] = byte;
        assert_eq!(check_greeting(&wrong), Err(error), "{at}");
    }
}

#[test]
fn messages_have_short_and_long_frames() {
    let long = vec![7; 256];
    let bytes = message(&[b"topic", &long, &[1, 0, 0, 0]]);
    assert_eq!(&bytes[..7], b"\x01\x05topic");
    assert_eq!(bytes[7..16], [3, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(bytes[16..272], long);
    assert_eq!(bytes[272..], [0, 4, 1, 0, 0, 0]);
}

#[test]
fn subscribers_are_understood_in_both_dialects_byte_by_byte() {
    let mut bytes = ready_of(b"SUB");
    bytes.extend(b"\0\x05\x01hash\0\x05\0hash");
    bytes.extend(b"\x04\x0c\x09SUBSCRIBEra\x04\x09\x06CANCELra\x04\x0a\x04PING\0\x0aabc\0\0");
    let expected = [
        Received::Ready,
        Received::Subscribe(Bytes::from_static(b"hash")),
        Received::Cancel(Bytes::from_static(b"hash")),
        Received::Subscribe(Bytes::from_static(b"ra")),
        Received::Cancel(Bytes::from_static(b"ra")),
        Received::Ping(Bytes::from_static(b"abc")),
        Received::Other,
    ];
    let mut buffer = BytesMut::new();
    let mut seen = Vec::new();
    for byte in bytes {
        buffer.put_u8(byte);
        while let Some(received) = take(&mut buffer).unwrap() {
            seen.push(received);
        }
    }
    assert_eq!(seen, expected);
    assert_eq!(pong(b"abc").as_ref(), b"\x04\x08\x04PONGabc");
    assert_eq!(all(&ready()), Err(ZmtpError::NotSubscriber), "a publisher cannot subscribe to another");
}

#[test]
fn what_is_malformed_or_too_large_is_refused_before_it_is_held() {
    for (bytes, error) in [
        (&b"\x08\0"[..], ZmtpError::Frame),
        (b"\x04\0", ZmtpError::Frame),
        (b"\x04\x02\x05R", ZmtpError::Frame),
        (b"\x04\x06\x04PING\0", ZmtpError::Frame),
        (b"\x04\x08\x05READY\x09x", ZmtpError::Frame),
        (b"\x04\x06\x05READY", ZmtpError::NotSubscriber),
        (b"\x02\0\0\0\x01\0\0\0\0", ZmtpError::TooLarge),
        (b"\x02\xff\xff\xff\xff\xff\xff\xff\xff", ZmtpError::TooLarge),
    ] {
        assert_eq!(all(bytes), Err(error), "{bytes:?}");
    }
}
