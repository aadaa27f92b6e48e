//! The bodies of replies. What is large is turned into text piece by piece while it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::limits::REPLY_PIECE;

/// A reply's body.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    /// Sent as it is; `None` once it is sent.
    Whole(Option<Bytes>),
    /// Sent as hex with a line's end.
    Hex(Hex),
    /// Sent piece by piece; its place among large replies is free once the last piece is out.
    Large { left: Bytes, place: Option<OwnedSemaphorePermit> },
}

/// Bytes on their way out as hex.
#[derive(Debug)]
pub(crate) struct Hex {
    left: Bytes,
    line_end: bool,
}

impl ReplyBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()).filter(|bytes: &Bytes| !bytes.is_empty()))
    }

    pub(crate) fn large(bytes: impl Into<Bytes>, place: OwnedSemaphorePermit) -> Self {
        Self::Large { left: bytes.into(), place: Some(place) }
    }

    pub(crate) fn hex(bytes: impl Into<Bytes>) -> Self {
        Self::Hex(Hex { left: bytes.into(), line_end: true })
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.get_mut() {
            Self::Whole(bytes) => bytes.take(),
            Self::Hex(hex) if hex.left.is_empty() => {
                std::mem::take(&mut hex.line_end).then(|| Bytes::from_static(b"\n"))
            }
            Self::Hex(hex) => {
                let piece = hex.left.split_to(hex.left.len().min(REPLY_PIECE));
                Some(hex::encode(piece).into())
            }
            Self::Large { left, place } => {
                let piece = left.split_to(left.len().min(REPLY_PIECE));
                if left.is_empty() {
                    *place = None;
                }
                Some(piece).filter(|piece| !piece.is_empty())
            }
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Hex(hex) => hex.left.is_empty() && !hex.line_end,
            Self::Large { left, .. } => left.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Hex(hex) => hex.left.len() as u64 * 2 + u64::from(hex.line_end),
            Self::Large { left, .. } => left.len() as u64,
        })
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
