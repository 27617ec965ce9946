//! HTTP/1.1 as far as these traces need it: one request per connection, so that no retry can double one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// What came of the body; it may be less than was announced.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let of = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        of.map(|(_, v)| v.as_str())
    }
}

/// Sends a request and reads its answer.
pub(crate) fn ask(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: Option<&[u8]>,
) -> Answer {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(10)).expect("a proxy");
    stream.set_nodelay(true).expect("a socket");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a socket");
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut request = head.into_bytes();
    request.extend_from_slice(body.unwrap_or_default());
    // An answer may come before the body is read, and the connection be closed then.
    let _ = stream.write_all(&request);
    read(BufReader::new(stream), method == "HEAD")
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("an answer");
    line.trim_end().to_owned()
}

fn read(mut from: impl BufRead, is_head: bool) -> Answer {
    let first = line(&mut from);
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.unwrap_or_else(|| panic!("not HTTP: {first:?}"));
    let mut headers = Vec::new();
    loop {
        let line = line(&mut from);
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
    };
    if is_head || matches!(status, 204 | 304) {
        return answer;
    }
    if answer.header("Transfer-Encoding") == Some("chunked") {
        loop {
            let size = line(&mut from);
            let size = usize::from_str_radix(&size, 16).expect("a chunk's size");
            let mut chunk = vec![0; size];
            from.read_exact(&mut chunk).expect("a chunk");
            line(&mut from);
            if size == 0 {
                return answer;
            }
            answer.body.extend(chunk);
        }
    }
    let announced = answer.header("Content-Length").and_then(|l| l.parse().ok());
    let announced: u64 = announced.expect("a length");
    // A body that ends early is left to the caller to notice.
    let _ = from.take(announced).read_to_end(&mut answer.body);
    answer
}
