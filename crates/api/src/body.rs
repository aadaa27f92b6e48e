//! The bodies of replies. What is large is turned into text piece by piece while it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::limits::HEX_PIECE;

/// A reply's body.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    /// Sent as it is; `None` once it is sent.
    Whole(Option<Bytes>),
    /// Sent as hex with a line's end.
    Hex(Hex),
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
                let piece = hex.left.split_to(hex.left.len().min(HEX_PIECE));
                Some(hex::encode(piece).into())
            }
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Hex(hex) => hex.left.is_empty() && !hex.line_end,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Hex(hex) => hex.left.len() as u64 * 2 + u64::from(hex.line_end),
        })
    }
}
