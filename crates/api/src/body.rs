//! The bodies of replies: pieces that go out one after the other, so that what is large is neither
//! put together nor turned into text before it is sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::limits::{HEX_PIECE, SHARED_PIECE};

/// A part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Sent as it is.
    Text(Bytes),
    /// Sent as hex.
    Hex(Bytes),
}

impl Piece {
    const fn sent_len(&self) -> u64 {
        match self {
            Self::Text(bytes) => bytes.len() as u64,
            Self::Hex(bytes) => bytes.len() as u64 * 2,
        }
    }
}

/// A body being put together. Short pieces share one buffer; long ones are taken as they are.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    done: VecDeque<Piece>,
    open: Vec<u8>,
}

impl Pieces {
    /// Adds text.
    pub(crate) fn text(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        self.open.extend_from_slice(text.as_ref());
        self
    }

    /// Adds text that may be long.
    pub(crate) fn bytes(&mut self, bytes: Bytes) -> &mut Self {
        if bytes.len() < SHARED_PIECE {
            return self.text(bytes);
        }
        self.close();
        self.done.push_back(Piece::Text(bytes));
        self
    }

    /// Adds bytes that are to be sent as hex.
    pub(crate) fn hex(&mut self, bytes: Bytes) -> &mut Self {
        self.close();
        self.done.push_back(Piece::Hex(bytes));
        self
    }

    /// Adds everything of another.
    pub(crate) fn append(&mut self, mut other: Self) -> &mut Self {
        if !other.done.is_empty() {
            self.close();
            self.done.append(&mut other.done);
        }
        self.text(other.open)
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push_back(Piece::Text(std::mem::take(&mut self.open).into()));
        }
    }
}

/// A reply's body.
#[derive(Debug)]
pub(crate) struct ReplyBody {
    left: VecDeque<Piece>,
    /// Its place among large replies, which is free once the last piece is out.
    place: Option<OwnedSemaphorePermit>,
}

impl From<Pieces> for ReplyBody {
    fn from(mut pieces: Pieces) -> Self {
        pieces.close();
        let mut left = pieces.done;
        left.retain(|piece| piece.sent_len() > 0);
        Self { left, place: None }
    }
}

impl ReplyBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        let mut pieces = Pieces::default();
        pieces.bytes(bytes.into());
        pieces.into()
    }

    /// The same body, with a place that it holds until it is sent.
    pub(crate) fn holding(self, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { place, ..self }
    }

    /// Hex with a line's end.
    pub(crate) fn hex(bytes: impl Into<Bytes>) -> Self {
        let mut pieces = Pieces::default();
        pieces.hex(bytes.into()).text("\n");
        pieces.into()
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self { left, place } = self.get_mut();
        let piece = match left.pop_front() {
            Some(Piece::Text(bytes)) => Some(bytes),
            Some(Piece::Hex(mut bytes)) => {
                let now = bytes.split_to(bytes.len().min(HEX_PIECE));
                if !bytes.is_empty() {
                    left.push_front(Piece::Hex(bytes));
                }
                Some(crate::json::hex_digits(&now).into())
            }
            None => None,
        };
        if left.is_empty() {
            *place = None;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.iter().map(Piece::sent_len).sum())
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
