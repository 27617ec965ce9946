use super::*;
use std::io::{BufRead, BufReader, Read, Write};

/// A server that reads a body by its Content-Length and answers it, in capitals, as often as it is asked.
fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
                loop {
                    let mut len = 0;
                    loop {
                        let mut line = String::new();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        if let Some(n) = line.strip_prefix("Content-Length: ") {
                            len = n.trim().parse().expect("a length");
                        }
                        if line.trim().is_empty() {
                            break;
                        }
                    }
                    let mut body = vec![0; len];
                    if reader.read_exact(&mut body).is_err() {
                        return;
                    }
                    body.make_ascii_uppercase();
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n");
                    let _ = stream.write_all(head.as_bytes());
                    let _ = stream.write_all(&body);
                }
            });
        }
    });
    port
}

fn connect(relay: &Relay) -> BufReader<TcpStream> {
    BufReader::new(TcpStream::connect(relay.address).expect("the relay"))
}

fn put(to: &mut BufReader<TcpStream>, body: &str) {
    let head = format!(
        "PUT /a/b HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    to.get_mut().write_all(head.as_bytes()).expect("sent");
}

/// Status and body, as far as they come.
fn answer(from: &mut BufReader<TcpStream>) -> String {
    let (mut status, mut len) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).unwrap_or(0) == 0 {
            return "closed".to_owned();
        }
        if let Some(n) = line.strip_prefix("Content-Length: ") {
            len = n.trim().parse().expect("a length");
        }
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest.chars().take(3).collect();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = Vec::new();
    let _ = from.take(len).read_to_end(&mut body);
    format!("{status} {}", String::from_utf8_lossy(&body))
}

#[track_caller]
fn check(fault: Fault, expected: &str, status: u16, sent: u64) {
    let relay = Relay::start(echo()).expect("a port");
    relay.add(Rule::once("PUT", "/a", fault));
    let mut c = connect(&relay);
    put(&mut c, "hello");
    assert_eq!(answer(&mut c), expected);
    assert!(relay.wait_until(Duration::from_secs(5), |log| log[0].ended.is_some()));
    let log = relay.log();
    assert_eq!((log[0].status, log[0].sent), (status, sent));
}

#[test]
fn exchanges_pass_and_are_logged() {
    let relay = Relay::start(echo()).expect("a port");
    let mut c = connect(&relay);
    for body in ["one", "three"] {
        put(&mut c, body);
        assert_eq!(answer(&mut c), format!("200 {}", body.to_uppercase()));
    }
    let log = relay.log();
    assert_eq!(log.len(), 2);
    assert_eq!(
        (log[1].method.as_str(), log[1].path.as_str()),
        ("PUT", "/a/b")
    );
    assert_eq!((log[1].connection, log[1].sent, log[1].received), (0, 5, 5));
    assert_eq!(log[1].header("content-length"), Some("5"));
}

#[test]
fn each_harm_does_what_it_says() {
    check(Fault::Close, "closed", 0, 0);
    check(Fault::CutRequest(2), "closed", 0, 2);
    check(Fault::LoseAnswer, "closed", 0, 5);
    check(Fault::CutAnswer(2), "200 HE", 200, 5);
    check(Fault::FlipRequest(1), "200 HULLO", 200, 5);
    check(Fault::FlipAnswer(1), "200 HULLO", 200, 5);
    check(Fault::Answer(503, Vec::new()), "503 ", 503, 5);
    check(Fault::Delay(Duration::from_millis(1)), "200 HELLO", 200, 5);
}

#[test]
fn what_is_stalled_goes_on_when_released() {
    for fault in [Fault::StallRequest(2), Fault::StallAnswer] {
        let relay = Relay::start(echo()).expect("a port");
        relay.add(Rule::once("", "", fault.clone()));
        let mut c = connect(&relay);
        put(&mut c, "hello");
        assert!(relay.wait_stalled(1, Duration::from_secs(5)));
        let sent = if fault == Fault::StallAnswer { 5 } else { 2 };
        assert_eq!((relay.log()[0].sent, relay.log()[0].status), (sent, 0));
        relay.release();
        assert_eq!(answer(&mut c), "200 HELLO");
    }
}

#[test]
fn rules_skip_and_end() {
    let relay = Relay::start(echo()).expect("a port");
    relay.add(
        Rule::once("PUT", "/a", Fault::Answer(500, Vec::new()))
            .after(1)
            .times(2),
    );
    let mut c = connect(&relay);
    let mut seen = Vec::new();
    for _ in 0..4 {
        put(&mut c, "x");
        seen.push(answer(&mut c));
    }
    assert_eq!(seen, ["200 X", "500 ", "500 ", "200 X"]);
}
