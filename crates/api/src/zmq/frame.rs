//! ZMTP 3.0 with the NULL mechanism, as far as a publisher speaks it: greeting, READY, frames,
//! subscriptions (rfc.zeromq.org/spec/23). No sockets here.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::limits::ZMQ_FRAME_BYTES;

/// Length of a greeting in bytes.
pub(super) const GREETING_BYTES: usize = 64;
/// Another frame of the same message follows.
const MORE: u8 = 1;
/// The length has eight bytes, not one.
const LONG: u8 = 2;
/// The frame is a command, not part of a message.
const COMMAND: u8 = 4;

/// Why a peer is sent away.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ZmtpError {
    #[error("not a ZMTP 3 peer")]
    Greeting,
    #[error("security mechanism is not NULL")]
    Mechanism,
    #[error("malformed frame")]
    Frame,
    #[error("frame larger than {ZMQ_FRAME_BYTES} bytes")]
    TooLarge,
    #[error("not a subscriber")]
    NotSubscriber,
}

/// What we say first.
pub(super) fn greeting() -> [u8; GREETING_BYTES] {
    let mut greeting = [0; GREETING_BYTES];
    let parts: [(usize, &[u8]); 4] = [(0, &[0xff]), (9, &[0x7f]), (10, &[3, 0]), (12, b"NULL")];
    for (at, bytes) in parts {
        for (place, byte) in greeting.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
    }
    greeting
}

/// Judges what the peer says first.
pub(super) fn check_greeting(greeting: &[u8; GREETING_BYTES]) -> Result<(), ZmtpError> {
    let mut rest: &[u8] = greeting;
    let signature = rest.get_u8() == 0xff;
    rest.advance(8);
    if !signature || rest.get_u8() & 1 != 1 || rest.get_u8() < 3 {
        return Err(ZmtpError::Greeting);
    }
    rest.advance(1);
    let name: Vec<u8> = rest.iter().take(20).copied().take_while(|byte| *byte != 0).collect();
    if name == b"NULL" { Ok(()) } else { Err(ZmtpError::Mechanism) }
}

/// The command that ends the handshake.
pub(super) fn ready() -> Bytes {
    let mut body = BytesMut::new();
    body.put_slice(b"\x05READY\x0bSocket-Type");
    body.put_u32(3);
    body.put_slice(b"PUB");
    let mut out = BytesMut::new();
    put_frame(&mut out, COMMAND, &body);
    out.freeze()
}

/// The answer to a PING whose context is `context`.
pub(super) fn pong(context: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    put_frame(&mut out, COMMAND, &[b"\x04PONG", context].concat());
    out.freeze()
}

/// A message of several frames.
pub(super) fn message(parts: &[&[u8]]) -> Bytes {
    let mut out = BytesMut::with_capacity(parts.iter().map(|part| part.len() + 9).sum());
    for (index, part) in parts.iter().enumerate() {
        put_frame(&mut out, if index + 1 < parts.len() { MORE } else { 0 }, part);
    }
    out.freeze()
}

fn put_frame(out: &mut BytesMut, flags: u8, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(length) => {
            out.put_u8(flags);
            out.put_u8(length);
        }
        Err(_) => {
            out.put_u8(flags | LONG);
            out.put_u64(body.len() as u64);
        }
    }
    out.put_slice(body);
}

/// What a subscriber sends after the greeting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The handshake's end.
    Ready,
    /// Messages that begin with this are wanted.
    Subscribe(Bytes),
    /// They are wanted no more.
    Cancel(Bytes),
    /// Asks whether we are there.
    Ping(Bytes),
    /// Nothing that concerns a publisher.
    Other,
}

/// Takes one frame off the buffer, or `None` if it is not whole yet.
pub(super) fn take(buffer: &mut BytesMut) -> Result<Option<Received>, ZmtpError> {
    let mut head: &[u8] = buffer;
    let Ok(flags) = head.try_get_u8() else { return Ok(None) };
    if flags & !(MORE | LONG | COMMAND) != 0 {
        return Err(ZmtpError::Frame);
    }
    let length = if flags & LONG == 0 { head.try_get_u8().map(u64::from) } else { head.try_get_u64() };
    let Ok(length) = length else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|length| *length <= ZMQ_FRAME_BYTES);
    let length = length.ok_or(ZmtpError::TooLarge)?;
    if head.len() < length {
        return Ok(None);
    }
    let start = buffer.len() - head.len();
    buffer.advance(start);
    let body = buffer.split_to(length).freeze();
    if flags & COMMAND != 0 { command(body).map(Some) } else { Ok(Some(subscription(body))) }
}

/// A message's body: a subscription as ZMTP 3.0 has it.
fn subscription(mut body: Bytes) -> Received {
    match body.try_get_u8() {
        Ok(1) => Received::Subscribe(body),
        Ok(0) => Received::Cancel(body),
        _ => Received::Other,
    }
}

/// A command's body: its name with a length, then what belongs to it.
fn command(mut body: Bytes) -> Result<Received, ZmtpError> {
    let length = body.try_get_u8().map_err(|_| ZmtpError::Frame)?;
    if body.len() < usize::from(length) {
        return Err(ZmtpError::Frame);
    }
    let name = body.split_to(usize::from(length));
    match name.as_ref() {
        b"READY" => {
            if is_subscriber(body)? {
                Ok(Received::Ready)
            } else {
                Err(ZmtpError::NotSubscriber)
            }
        }
        // As ZMTP 3.1 has them.
        b"SUBSCRIBE" => Ok(Received::Subscribe(body)),
        b"CANCEL" => Ok(Received::Cancel(body)),
        b"PING" => {
            // Two bytes say how long we may be silent; then the context.
            body.try_get_u16().map_err(|_| ZmtpError::Frame)?;
            Ok(Received::Ping(body))
        }
        _ => Ok(Received::Other),
    }
}

/// Looks for a subscriber's `Socket-Type` among the properties of READY.
fn is_subscriber(mut properties: Bytes) -> Result<bool, ZmtpError> {
    while let Ok(length) = properties.try_get_u8() {
        let length = usize::from(length);
        if properties.len() < length {
            return Err(ZmtpError::Frame);
        }
        let name = properties.split_to(length);
        let length = properties.try_get_u32().map_err(|_| ZmtpError::Frame)?;
        let length = usize::try_from(length).map_err(|_| ZmtpError::Frame)?;
        if properties.len() < length {
            return Err(ZmtpError::Frame);
        }
        let value = properties.split_to(length);
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            return Ok(matches!(value.as_ref(), b"SUB" | b"XSUB"));
        }
    }
    Ok(false)
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
