use std::net::TcpListener;

use super::*;

fn serve_once(answer: &'static [u8]) -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut byte = [0u8; 1];
        while !request.ends_with(b"ping") {
            assert_eq!(stream.read(&mut byte).unwrap(), 1);
            request.push(byte[0]);
        }
        stream.write_all(answer).unwrap();
        String::from_utf8(request).unwrap()
    });
    (port, server)
}

fn ask(port: u16) -> Result<Answer, String> {
    post("127.0.0.1", port, "/", "bG9naW4=", "ping", Duration::from_secs(30))
}

#[test]
fn a_request_carries_login_and_length_and_reads_any_framing() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length:4\r\n\r\npong and more",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\npo\r\n2;x=1\r\nng\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\npong",
    ] {
        let (port, server) = serve_once(answer);
        let got = ask(port).unwrap();
        assert_eq!((got.status, got.body.as_str()), (200, "pong"));
        let request = server.join().unwrap();
        assert!(request.starts_with("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"), "{request}");
        assert!(request.contains("Authorization: Basic bG9naW4=\r\n"));
        assert!(request.contains("Content-Length: 4\r\n"));
    }
}

#[test]
fn broken_answers_are_named() {
    for (answer, error) in [
        (&b"SMTP ready\r\n\r\n"[..], "HTTP error: Invalid status line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP error: Invalid Content-Length"),
        (b"HTTP/1.1 +20 OK\r\n\r\n", "HTTP error: Invalid status code"),
        (b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", "HTTP error: Header missing colon (:)"),
        (b"HTTP/1.1 200 OK\r\n: 1\r\n\r\n", "HTTP error: Empty header name"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP error: Invalid chunk size"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "EOF"),
    ] {
        let (port, server) = serve_once(answer);
        assert_eq!(ask(port).unwrap_err(), error);
        server.join().unwrap();
    }
}

#[test]
fn nobody_listening_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert_eq!(ask(port).unwrap_err(), "Could not connect to the server");
}

#[test]
fn wallet_names_are_escaped() {
    assert_eq!(url_encode("a b/\u{e9}-_.~"), "a%20b%2f%c3%a9-_.~");
}
