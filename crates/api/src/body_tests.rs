use std::sync::Arc;

use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use super::*;

#[tokio::test]
async fn a_large_body_is_sent_whole_and_gives_its_place_back_with_the_last_piece() {
    let places = Arc::new(Semaphore::new(1));
    let text: Vec<u8> = (0..=u8::MAX).cycle().take(REPLY_PIECE * 2 + 7).collect();
    let place = Arc::clone(&places).acquire_owned().await.unwrap();
    let mut body = ReplyBody::large(text.clone(), place);
    let mut sent = Vec::new();
    for taken in 1..=3 {
        assert_eq!(body.size_hint().exact(), Some((text.len() - sent.len()) as u64));
        sent.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
        assert_eq!(places.available_permits(), usize::from(taken == 3), "{taken}");
    }
    assert_eq!(sent, text);
    assert!(body.is_end_stream() && body.frame().await.is_none());
}

#[tokio::test]
async fn hex_is_made_while_it_is_sent() {
    let bytes = vec![0xab; REPLY_PIECE + 1];
    let body = ReplyBody::hex(bytes.clone());
    assert_eq!(body.size_hint().exact(), Some(bytes.len() as u64 * 2 + 1));
    let sent = body.collect().await.unwrap().to_bytes();
    assert_eq!(sent, hex::encode(bytes) + "\n");
}
