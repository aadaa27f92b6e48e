//! One HTTP/1.1 request over a plain socket: all the tool needs, without a runtime.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use ironpeer_primitives::{Clock, SystemClock};

use crate::init::{integral, system_error};

/// Longest head of an answer, in bytes. Larger: a peer that is no HTTP server could feed us for
/// ever. Smaller: an odd proxy's headers would not fit.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Status code and body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Sends `body` and reads the answer to its end. The error is what failed, for the bracket in
/// Core's text.
pub(super) fn post(
    host: &str,
    port: u16,
    path: &str,
    login: &str,
    body: &str,
    timeout: Duration,
) -> Result<Answer, String> {
    let clock = SystemClock::new();
    let left = || timeout.checked_sub(clock.steady()).filter(|left| !left.is_zero()).ok_or("timeout");
    let addresses = (host, port).to_socket_addrs().map_err(|_| format!("Could not resolve host: {host}"))?;
    let mut stream = None;
    for address in addresses {
        if let Ok(connected) = TcpStream::connect_timeout(&address, left()?) {
            stream = Some(connected);
            break;
        }
    }
    let mut stream = stream.ok_or("Could not connect to the server")?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\nContent-Type: application/json\r\nAuthorization: Basic {login}\r\n\r\n{body}",
        body.len()
    );
    let told = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => "timeout".to_owned(),
        _ => format!("Read error: {}", system_error(&error)),
    };
    stream.set_write_timeout(Some(left()?)).map_err(told)?;
    // A server may refuse and close before it has read everything: its answer still counts.
    let sent = stream.write_all(request.as_bytes());
    let mut received = Vec::new();
    let mut chunk = [0u8; 16 << 10];
    loop {
        if let Some(answer) = parse(&received, false).map_err(no_http)? {
            return Ok(answer);
        }
        stream.set_read_timeout(Some(left()?)).map_err(told)?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => received.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(told(error)),
        }
    }
    sent.map_err(|_| "Failed to send HTTP request")?;
    parse(&received, true).map_err(no_http)?.ok_or_else(|| "EOF".to_owned())
}

fn no_http(error: String) -> String {
    format!("HTTP error: {error}")
}

/// The answer, if it is complete; `ended` says that nothing more will come.
fn parse(received: &[u8], ended: bool) -> Result<Option<Answer>, String> {
    let Some(head_end) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
        if received.len() > MAX_HEAD_BYTES {
            return Err("HTTP headers too long".to_owned());
        }
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&received[..head_end]);
    let mut lines = head.split("\r\n");
    // `HTTP/1.1 200` at the least.
    let line = lines.next().filter(|line| line.len() >= 12 && line.starts_with("HTTP/"));
    let code = line.ok_or("Invalid status line")?.split_once(' ').and_then(|(_, rest)| rest.get(..3));
    let status = code
        .ok_or("Invalid status line format")
        .and_then(|code| integral(code).ok_or("Invalid status code"))?;
    let mut length = None;
    let mut chunked = false;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("Header missing colon (:)")?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() {
            return Err("Empty header name".to_owned());
        }
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(integral(value).ok_or("Invalid Content-Length")?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.to_ascii_lowercase().contains("chunked");
        }
    }
    let rest = &received[head_end + 4..];
    let body = if chunked {
        match unchunk(rest)? {
            Some(body) => body,
            None => return Ok(None),
        }
    } else {
        match length {
            Some(length) if rest.len() < length => return Ok(None),
            Some(length) => rest[..length].to_vec(),
            None if ended => rest.to_vec(),
            None => return Ok(None),
        }
    };
    Ok(Some(Answer { status, body: String::from_utf8_lossy(&body).into_owned() }))
}

/// The parts of a chunked body put together, once the empty last one is there.
fn unchunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let Some(line_end) = rest.windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&rest[..line_end]);
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| "Invalid chunk size")?;
        if size == 0 {
            return Ok(Some(body));
        }
        let start = line_end + 2;
        let end = start.checked_add(size).ok_or("Chunk size too large")?;
        match rest.get(start..end) {
            Some(chunk) if rest.len() >= end + 2 => body.extend_from_slice(chunk),
            _ => return Ok(None),
        }
        rest = &rest[end + 2..];
    }
}

/// A wallet's name as part of a path: letters, digits and `-_.~` stay (RFC 3986).
pub(super) fn url_encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
#[path = "../cli_http_tests.rs"]
mod tests;
