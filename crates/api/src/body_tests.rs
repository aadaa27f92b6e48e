use std::sync::Arc;

use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use super::*;

async fn frames(body: ReplyBody) -> Vec<Bytes> {
    let announced = body.size_hint().exact().unwrap();
    let mut frames = Vec::new();
    let mut body = body;
    while let Some(frame) = body.frame().await {
        frames.push(frame.unwrap().into_data().unwrap());
    }
    assert_eq!(announced, frames.iter().map(|frame| frame.len() as u64).sum::<u64>());
    assert!(body.is_end_stream());
    frames
}

/// A block in hex is never there as a whole, and what is long is not copied.
#[tokio::test]
async fn large_pieces_are_sent_as_they_are() {
    let block = Bytes::from(vec![0xab; 3 * HEX_PIECE + 1]);
    let text = Bytes::from(vec![b'x'; SHARED_PIECE]);
    let place = text.as_ptr();
    let mut pieces = Pieces::default();
    pieces.text("{\"a\":\"").hex(block).text("\",").text("\"b\":\"").bytes(text).text("\"}");
    let frames = frames(pieces.into()).await;
    assert!(frames.iter().all(|frame| frame.len() <= 2 * HEX_PIECE));
    assert!(frames.iter().any(|frame| frame.as_ptr() == place));
    let whole = String::from_utf8(frames.concat()).unwrap();
    let (digits, marks) = ("ab".repeat(3 * HEX_PIECE + 1), "x".repeat(SHARED_PIECE));
    assert_eq!(whole, format!("{{\"a\":\"{digits}\",\"b\":\"{marks}\"}}"));
}

#[tokio::test]
async fn short_pieces_are_one() {
    let (mut all, mut one) = (Pieces::default(), Pieces::default());
    one.text("b").bytes(Bytes::from_static(b"c"));
    all.text("a").append(one).text("d");
    assert_eq!(frames(all.into()).await, [Bytes::from_static(b"abcd")]);
    assert!(frames(ReplyBody::whole("")).await.is_empty());
    assert_eq!(frames(ReplyBody::hex(vec![1, 255])).await.concat(), b"01ff\n");
}

#[tokio::test]
async fn a_large_body_gives_its_place_back_with_the_last_piece() {
    let places = Arc::new(Semaphore::new(1));
    let place = Arc::clone(&places).acquire_owned().await.unwrap();
    let mut body = ReplyBody::hex(vec![1; HEX_PIECE + 1]).holding(Some(place));
    // Two of hex, and the line's end.
    for taken in 1..=3 {
        assert!(body.frame().await.is_some());
        assert_eq!(places.available_permits(), usize::from(taken == 3), "{taken}");
    }
    assert!(body.frame().await.is_none());
}
