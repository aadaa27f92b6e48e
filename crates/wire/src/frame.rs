//! Version 1 framing: magic, command, length, checksum, payload. The encrypted framing of
//! BIP324 yields the same [`Frame`]s and stands beside this one.

use bitcoin::hashes::{Hash, sha256d};
use bitcoin::hex::DisplayHex;
use bitcoin::p2p::Magic;

use crate::limits::{MAX_HANDSHAKE_MESSAGE_BYTES, MAX_MESSAGE_BYTES, READ_AHEAD_BYTES, V1_HEADER_BYTES};
use crate::{Command, Message};

/// Smallest reservation for a payload's bytes.
const FIRST_RESERVATION_BYTES: usize = 4096;

/// A message whose type is known but whose payload is not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The type.
    pub command: Command,
    /// The payload, its checksum verified.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Bytes it took on the wire, header included.
    #[must_use]
    pub const fn wire_bytes(&self) -> usize {
        self.payload.len().saturating_add(V1_HEADER_BYTES)
    }

    /// Reads the payload.
    #[must_use]
    pub fn into_message(self) -> Message {
        Message::decode(self.command, self.payload)
    }
}

/// Why the stream can no longer be read: the peer is to be disconnected. The texts are Core's,
/// without the `, peer=N` that follows them in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header does not begin with this network's magic.
    #[error("Header error: Wrong MessageStart {} received", .0.as_hex())]
    WrongMagic([u8; 4]),
    /// The header announces more than may be sent now.
    #[error("Header error: Size too large ({command}, {size} bytes)")]
    TooLarge {
        /// The type.
        command: Command,
        /// The payload's announced bytes.
        size: u32,
    },
}

/// Why one message is dropped while the connection goes on. The texts are Core's, without the
/// `, peer=N` that follows them in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameReject {
    /// The payload's hash does not begin with the header's checksum.
    #[error(
        "Header error: Wrong checksum ({command}, {size} bytes), expected {} was {}",
        .expected.as_hex(),
        .received.as_hex()
    )]
    WrongChecksum {
        /// The type.
        command: Command,
        /// Bytes of the payload.
        size: u32,
        /// The payload's checksum.
        expected: [u8; 4],
        /// The checksum in the header.
        received: [u8; 4],
    },
    /// The type has characters that are not printable, or bytes after its end.
    #[error("Header error: Invalid message type ({command}, {size} bytes)")]
    InvalidCommand {
        /// The type.
        command: Command,
        /// Bytes of the payload.
        size: u32,
    },
}

/// What came out of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A whole message.
    Frame(Frame),
    /// A message to be dropped, and the bytes it took on the wire.
    Rejected(FrameReject, usize),
}

#[derive(Debug)]
struct Header {
    command: Command,
    size: u32,
    checksum: [u8; 4],
}

/// Cuts a byte stream into messages.
///
/// It holds at most one message, grown as its bytes arrive, never as its header promises.
#[derive(Debug)]
pub struct V1Decoder {
    magic: Magic,
    max_payload: u32,
    head: Vec<u8>,
    header: Option<Header>,
    payload: Vec<u8>,
}

impl V1Decoder {
    /// A decoder for a connection whose handshake is still open: it takes at most
    /// [`MAX_HANDSHAKE_MESSAGE_BYTES`] a message.
    #[must_use]
    pub fn new(magic: Magic) -> Self {
        Self {
            magic,
            max_payload: MAX_HANDSHAKE_MESSAGE_BYTES,
            head: Vec::with_capacity(V1_HEADER_BYTES),
            header: None,
            payload: Vec::new(),
        }
    }

    /// Takes messages of any allowed size from now on.
    pub const fn handshake_done(&mut self) {
        self.max_payload = MAX_MESSAGE_BYTES;
    }

    /// Bytes reserved for the message in progress.
    #[must_use]
    pub const fn buffered(&self) -> usize {
        self.payload.capacity()
    }

    /// Payload bytes the message in progress has announced; 0 between messages.
    #[must_use]
    pub fn announced(&self) -> usize {
        self.header.as_ref().map_or(0, |header| usize::try_from(header.size).unwrap_or(usize::MAX))
    }

    /// Takes bytes off the front of `input` until a message is complete or `input` is empty.
    ///
    /// # Errors
    /// If the header is not this network's or too large; the decoder is of no use then.
    pub fn push(&mut self, input: &mut &[u8]) -> Result<Option<Received>, FrameError> {
        let header = match self.header.take() {
            Some(header) => header,
            None => {
                let missing = V1_HEADER_BYTES.saturating_sub(self.head.len());
                self.head.extend(take(input, missing));
                let Ok(head) = <[u8; V1_HEADER_BYTES]>::try_from(self.head.as_slice()) else {
                    return Ok(None);
                };
                self.head.clear();
                self.read_header(head)?
            }
        };
        let size = usize::try_from(header.size).unwrap_or(usize::MAX);
        let missing = size.saturating_sub(self.payload.len());
        let chunk = take(input, missing);
        self.reserve(chunk.len(), size);
        self.payload.extend(chunk);
        if self.payload.len() < size {
            self.header = Some(header);
            return Ok(None);
        }
        Ok(Some(self.complete(&header)))
    }

    fn read_header(&self, head: [u8; V1_HEADER_BYTES]) -> Result<Header, FrameError> {
        let mut r = crate::Reader::new(&head);
        let wrong = |_| FrameError::WrongMagic([0; 4]);
        let magic = r.array::<4>().map_err(wrong)?;
        if magic != self.magic.to_bytes() {
            return Err(FrameError::WrongMagic(magic));
        }
        let command = Command::from_bytes(r.array().map_err(wrong)?);
        let size = r.u32().map_err(wrong)?;
        let checksum = r.array().map_err(wrong)?;
        if size > self.max_payload {
            return Err(FrameError::TooLarge { command, size });
        }
        Ok(Header { command, size, checksum })
    }

    /// Makes room for `more` bytes: twice what is there, at most [`READ_AHEAD_BYTES`] ahead, never
    /// beyond the message.
    fn reserve(&mut self, more: usize, size: usize) {
        let needed = self.payload.len().saturating_add(more);
        if needed > self.payload.capacity() {
            let ahead = needed.clamp(FIRST_RESERVATION_BYTES, READ_AHEAD_BYTES);
            let target = needed.saturating_add(ahead).min(size);
            self.payload.reserve_exact(target.saturating_sub(self.payload.len()));
        }
    }

    fn complete(&mut self, header: &Header) -> Received {
        let payload = std::mem::take(&mut self.payload);
        let Header { command, size, checksum } = *header;
        let expected = checksum_of(&payload);
        let reject = if expected != checksum {
            Some(FrameReject::WrongChecksum { command, size, expected, received: checksum })
        } else if !command.is_valid() {
            Some(FrameReject::InvalidCommand { command, size })
        } else {
            None
        };
        let frame = Frame { command, payload };
        match reject {
            Some(reject) => Received::Rejected(reject, frame.wire_bytes()),
            None => Received::Frame(frame),
        }
    }
}

fn take<'a>(input: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (head, rest) = input.split_at_checked(n).unwrap_or((input, &[]));
    *input = rest;
    head
}

fn checksum_of(payload: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256d::Hash::hash(payload).to_byte_array();
    [a, b, c, d]
}

/// A message as it goes over the wire.
#[must_use]
pub fn encode(message: &Message, magic: Magic) -> Vec<u8> {
    let mut out = vec![0; V1_HEADER_BYTES];
    message.encode_payload(&mut out);
    fill_header(&mut out, message.command(), magic);
    out
}

/// A payload that is in bytes already, such as a stored block, as it goes over the wire.
#[must_use]
pub fn encode_frame(command: Command, payload: &[u8], magic: Magic) -> Vec<u8> {
    let mut out = Vec::with_capacity(V1_HEADER_BYTES.saturating_add(payload.len()));
    out.extend([0; V1_HEADER_BYTES]);
    out.extend(payload);
    fill_header(&mut out, command, magic);
    out
}

/// Writes the header into the space left for it in front of the payload.
fn fill_header(out: &mut [u8], command: Command, magic: Magic) {
    let Some((head, payload)) = out.split_first_chunk_mut::<V1_HEADER_BYTES>() else { return };
    let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let fields = magic
        .to_bytes()
        .into_iter()
        .chain(command.to_bytes())
        .chain(size.to_le_bytes())
        .chain(checksum_of(payload));
    for (to, from) in head.iter_mut().zip(fields) {
        *to = from;
    }
}
