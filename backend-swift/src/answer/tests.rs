use super::*;

/// One row per line: kind, status, meaning. Exhaustive over the statuses of the last column's header.
const TABLE: &str = "
kind            | 200  201  202  204  206  304  400  401   403    404  405  408  409  411  412  413  416  422  429  497  498  499  500  502  503  504  507
CreateContainer | M    Done Done M    M    M    N    Renew Denied N    N    M    M    N    M    Full M    M    N    M    N    M    M    M    M    M    M
DeleteContainer | Done M    M    Done M    M    N    Renew Denied Done N    M    Ex   N    M    M    M    M    N    M    N    M    M    M    M    M    M
HeadContainer   | Done M    M    Done M    M    N    Renew Denied Abs  N    M    M    N    M    M    M    M    N    M    N    M    M    M    M    M    M
Put             | M    Done Disc M    M    M    N    Renew Denied N    N    M    M    N    M    Full M    M    N    M    N    M    M    M    M    M    M
Claim           | U    Done U    U    U    U    U    Renew U      U    U    U    U    U    Ex   U    U    U    U    U    U    U    U    U    U    U    U
Get             | Done M    M    M    M    M    N    Renew Denied Abs  N    M    M    N    M    M    M    M    N    M    N    M    M    M    M    M    M
GetRange        | M    M    M    M    Done M    N    Renew Denied Abs  N    M    M    N    M    M    Dam  M    N    M    N    M    M    M    M    M    M
Exists          | Done M    M    Done M    M    N    Renew Denied Abs  N    M    M    N    M    M    M    M    N    M    N    M    M    M    M    M    M
Delete          | Done M    M    Done M    M    N    Renew Denied Abs  N    M    Disc N    M    M    M    M    N    M    N    M    M    M    M    M    M
List            | Done M    M    M    M    M    N    Renew Denied Abs  N    M    M    N    M    M    M    M    N    M    N    M    M    M    M    M    M
";

fn kind(word: &str) -> Kind {
    [
        Kind::CreateContainer,
        Kind::DeleteContainer,
        Kind::HeadContainer,
        Kind::Put,
        Kind::Claim,
        Kind::Get,
        Kind::GetRange,
        Kind::Exists,
        Kind::Delete,
        Kind::List,
    ]
    .into_iter()
    .find(|k| format!("{k:?}") == word)
    .expect("a kind")
}

fn word(m: Meaning) -> &'static str {
    match m {
        Meaning::Done => "Done",
        Meaning::Absent => "Abs",
        Meaning::Exists => "Ex",
        Meaning::Again(Applied::No) => "N",
        Meaning::Again(Applied::Maybe) => "M",
        Meaning::Renew => "Renew",
        Meaning::Discarded => "Disc",
        Meaning::Denied => "Denied",
        Meaning::Full => "Full",
        Meaning::Damaged => "Dam",
        Meaning::Unknown => "U",
    }
}

#[test]
fn every_status_has_its_row() {
    let mut lines = TABLE.trim().lines();
    let head: Vec<&str> = lines.next().expect("a head").split_whitespace().collect();
    let statuses: Vec<u16> = head[2..]
        .iter()
        .map(|s| s.parse().expect("a status"))
        .collect();
    let mut rows = 0;
    for line in lines {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells.len(), statuses.len() + 2, "{line}");
        for (status, cell) in statuses.iter().zip(&cells[2..]) {
            let found = word(meaning(kind(cells[0]), *status));
            assert_eq!(found, *cell, "{} answered {status}", cells[0]);
        }
        rows += 1;
    }
    assert_eq!(rows, 10);
}

#[test]
fn unknown_statuses_settle_nothing() {
    let known: Vec<u16> = TABLE
        .split_whitespace()
        .filter_map(|w| w.parse().ok())
        .collect();
    for status in (0..1000).filter(|s| !known.contains(s)) {
        for k in [
            Kind::Put,
            Kind::Get,
            Kind::GetRange,
            Kind::Exists,
            Kind::Delete,
            Kind::List,
        ] {
            assert_eq!(word(meaning(k, status)), "M", "{k:?} {status}");
        }
        assert_eq!(word(meaning(Kind::Claim, status)), "U", "{status}");
    }
}

fn headers(lines: &[(&str, &str)]) -> Headers {
    let owned = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
    Headers(lines.iter().map(owned).collect())
}

const MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

#[test]
fn a_put_is_confirmed_by_its_own_etag_only() {
    let sent = Etag::parse(MD5).expect("an ETag");
    assert_eq!(check_put(&headers(&[("etag", MD5)]), sent), Ok(()));
    assert_eq!(
        check_put(&headers(&[("ETag", &format!("\"{MD5}\""))]), sent),
        Ok(())
    );
    let other = MD5.replace('d', "e");
    assert_eq!(
        check_put(&headers(&[("Etag", &other)]), sent),
        Err(Flaw::Etag)
    );
    assert_eq!(check_put(&headers(&[]), sent), Err(Flaw::Etag));
}

#[track_caller]
fn check_range(content_range: &str, body_len: u64, expected: Result<(), Flaw>) {
    let h = headers(&[("Content-Range", content_range)]);
    assert_eq!(check_get(&h, Some(&(100..200)), body_len, None), expected);
}

#[test]
fn a_range_is_the_one_asked_for_and_whole() {
    check_range("bytes 100-199/1000", 100, Ok(()));
    check_range("bytes 100-199/200", 100, Ok(()));
    check_range("bytes 100-199/1000", 99, Err(Flaw::Length));
    check_range("bytes 100-198/1000", 99, Err(Flaw::Range));
    check_range("bytes 0-99/1000", 100, Err(Flaw::Range));
    check_range("bytes 100-149/150", 50, Err(Flaw::ObjectShort));
    check_range("bytes */150", 50, Err(Flaw::Range));
    check_range("bytes 100-18446744073709551615/5", 50, Err(Flaw::Range));
    check_range("junk", 100, Err(Flaw::Range));
    assert_eq!(
        check_get(&headers(&[]), Some(&(0..10)), 10, None),
        Err(Flaw::Range)
    );
}

#[test]
fn a_whole_object_has_its_length_and_etag() {
    let md5 = Etag::parse(MD5);
    let h = headers(&[("Content-Length", "10"), ("Etag", MD5)]);
    assert_eq!(check_get(&h, None, 10, md5), Ok(()));
    assert_eq!(check_get(&h, None, 10, None), Ok(()));
    assert_eq!(check_get(&h, None, 9, md5), Err(Flaw::Length));
    assert_eq!(
        check_get(&h, None, 10, Some(Etag([0; 16]))),
        Err(Flaw::Body)
    );
}

#[test]
fn retry_after_counts_seconds() {
    let after = |v| headers(&[("Retry-After", v)]).retry_after();
    assert_eq!(after("7"), Some(Duration::from_secs(7)));
    assert_eq!(after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    assert_eq!(after("-1"), None);
}
