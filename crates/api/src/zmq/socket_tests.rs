use super::*;

/// Long enough for any step on a busy machine; a test that waits for it has failed.
const HANG: std::time::Duration = std::time::Duration::from_secs(60);

/// A subscriber on the other end of a Unix socket, without any library.
struct Client(UnixStream);

impl Client {
    async fn connect(path: &Path) -> Self {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(&frame::greeting()).await.unwrap();
        let mut greeting = [0; GREETING_BYTES];
        stream.read_exact(&mut greeting).await.unwrap();
        stream.write_all(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB").await.unwrap();
        let mut ready = vec![0; frame::ready().len()];
        stream.read_exact(&mut ready).await.unwrap();
        assert_eq!(ready, frame::ready());
        Self(stream)
    }

    /// Subscribes, and returns once that has been heard.
    async fn subscribe(&mut self, topic: &[u8]) {
        let mut request = vec![0, topic.len() as u8 + 1, 1];
        request.extend(topic);
        request.extend(b"\x04\x07\x04PING\0\0");
        self.0.write_all(&request).await.unwrap();
        let mut pong = vec![0; frame::pong(b"").len()];
        self.0.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, frame::pong(b""));
    }

    async fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        tokio::time::timeout(HANG, self.0.read_exact(&mut out)).await.unwrap().unwrap();
        out
    }
}

async fn open(high_water_mark: usize) -> (tempfile::TempDir, PathBuf, Sockets, Arc<Endpoint>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zmq");
    let mut sockets = Sockets::default();
    let address = format!("ipc://{}", path.display());
    let endpoint = sockets.open(&address, high_water_mark).await.unwrap();
    let same = sockets.open(&address, 1).await.unwrap();
    assert!(Arc::ptr_eq(&endpoint, &same), "an address is opened once");
    (dir, path, sockets, endpoint)
}

#[tokio::test]
async fn subscribers_get_the_topics_they_asked_for() {
    let (_dir, path, sockets, endpoint) = open(10).await;
    let mut hashes = Client::connect(&path).await;
    hashes.subscribe(b"hash").await;
    let mut all = Client::connect(&path).await;
    all.subscribe(b"").await;
    for topic in ["hashtx", "rawtx", "hashblock"] {
        endpoint.send(topic, &frame::message(&[topic.as_bytes(), b"x"]));
    }
    assert_eq!(hashes.read(25).await, b"\x01\x06hashtx\0\x01x\x01\x09hashblock\0\x01x");
    assert_eq!(all.read(35).await, b"\x01\x06hashtx\0\x01x\x01\x05rawtx\0\x01x\x01\x09hashblock\0\x01x");
    sockets.close().await;
    assert!(!path.exists());
    assert_eq!(all.0.read(&mut [0]).await.unwrap(), 0, "the connection is closed");
}

#[tokio::test]
async fn one_that_does_not_read_loses_messages_and_delays_nobody() {
    const SIZE: usize = 1 << 20;
    let (_dir, path, sockets, endpoint) = open(3).await;
    let mut slow = Client::connect(&path).await;
    slow.subscribe(b"raw").await;
    let mut fast = Client::connect(&path).await;
    fast.subscribe(b"raw").await;
    let message = |number: u8| frame::message(&[b"raw", &vec![number; SIZE]]);
    let length = message(0).len();
    for number in 0..50 {
        endpoint.send("raw", &message(number));
        assert_eq!(fast.read(length).await, message(number));
    }
    // The first was being written when the socket was full, and three more waited.
    for number in 0..4 {
        assert_eq!(slow.read(length).await, message(number));
    }
    endpoint.send("raw", &message(50));
    assert_eq!(slow.read(length).await, message(50), "it is served again once it reads");
    sockets.close().await;
}

#[test]
fn a_queue_is_bounded_in_messages_and_bytes() {
    let mut queue = Queue::default();
    assert!(queue.push(Bytes::from(vec![0; ZMQ_QUEUE_BYTES + 1]), 2), "one message always fits");
    assert!(!queue.push(Bytes::from_static(b"x"), 2), "too many bytes");
    assert_eq!(queue.pop().map(|message| message.len()), Some(ZMQ_QUEUE_BYTES + 1));
    assert!(queue.push(Bytes::from_static(b"a"), 2) && queue.push(Bytes::from_static(b"b"), 2));
    assert!(!queue.push(Bytes::from_static(b"c"), 2), "too many messages");
    assert!(queue.push(Bytes::from_static(b"d"), 0), "without a mark only bytes count");
    assert_eq!((queue.bytes, queue.waiting.len()), (3, 3));
}

#[tokio::test]
async fn strangers_and_wrong_addresses_are_turned_away() {
    let (_dir, path, mut sockets, endpoint) = open(10).await;
    for words in
        [&b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: none\r\nAccept: */*\r\n\r\n"[..], &[0xff; 64]]
    {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(words).await.unwrap();
        let mut answer = Vec::new();
        // The end may come as a reset, as not everything was read.
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, frame::greeting());
    }
    assert!(endpoint.subscribers.lock().is_empty());
    for wrong in
        ["foo", "tcp://127.0.0.1", "tcp://127.0.0.1:x", "ipc:///nonexistent/zmq", "tcp://192.0.2.1:1"]
    {
        assert!(sockets.open(wrong, 10).await.is_err(), "{wrong}");
    }
    // What is no socket is not taken away.
    let file = path.with_file_name("file");
    std::fs::write(&file, "mine").unwrap();
    assert!(sockets.open(&format!("ipc://{}", file.display()), 10).await.is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    sockets.close().await;
}
