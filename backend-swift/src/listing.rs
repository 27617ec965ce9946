//! Listings: a page of names as Swift's JSON tells it. A hint only: listings lag, and replicas of a container disagree.

use engine::time::WallTime;
use serde::Deserialize;

/// A row of a container's listing.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct ObjectRow {
    /// The object's name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written, as Swift prints it: UTC, `2026-11-24T09:12:03.123450`.
    #[serde(default)]
    pub last_modified: String,
}

impl ObjectRow {
    /// When the object was last written; [`WallTime::NEVER`] when the row does not say it as Swift does.
    pub fn modified(&self) -> WallTime {
        seconds(&self.last_modified).map_or(WallTime::NEVER, WallTime)
    }
}

/// Seconds since 1970 of `2026-11-24T09:12:03.123450`, a UTC time from 1970 on.
fn seconds(text: &str) -> Option<u64> {
    let (date, time) = text.split_once('T')?;
    let (time, _) = time.split_once('.').unwrap_or((time, ""));
    let number = |part: Option<&str>, low: u64, high: u64| {
        let value = part?.parse::<u64>().ok()?;
        (low..=high).contains(&value).then_some(value)
    };
    let mut date = date.split('-');
    let year = number(date.next(), 1970, 9999)?;
    let month = number(date.next(), 1, 12)?;
    let day = number(date.next(), 1, 31)?;
    let mut time = time.split(':');
    let hour = number(time.next(), 0, 23)?;
    let minute = number(time.next(), 0, 59)?;
    // A leap second counts as the next one.
    let second = number(time.next(), 0, 60)?;
    if date.next().is_some() || time.next().is_some() {
        return None;
    }
    // Years begin in March here, so that the leap day is a year's last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1;
    // 719,468 days lie between March 1 of year 0 and the first day of 1970.
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// A row of an account's listing.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct ContainerRow {
    /// The container's name.
    pub name: String,
    /// Its objects; lags behind.
    #[serde(default)]
    pub count: u64,
    /// Their bytes; lags behind.
    #[serde(default)]
    pub bytes: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Row<T> {
    Named(T),
    /// With a delimiter: not asked for, skipped.
    Subdir {
        #[serde(rename = "subdir")]
        _subdir: String,
    },
}

/// Reads a container's page. Shape: byte order of names, as it came. `None` for anything but such a page.
pub fn parse_objects(body: &[u8]) -> Option<Vec<ObjectRow>> {
    parse(body)
}

/// Reads an account's page. Shape: byte order of names, as it came. `None` for anything but such a page.
pub fn parse_containers(body: &[u8]) -> Option<Vec<ContainerRow>> {
    parse(body)
}

fn parse<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Option<Vec<T>> {
    let rows: Vec<Row<T>> = serde_json::from_slice(body).ok()?;
    let named = |row| match row {
        Row::Named(row) => Some(row),
        Row::Subdir { .. } => None,
    };
    Some(rows.into_iter().filter_map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_page_as_swift_prints_it() {
        let page = br#"[{"bytes": 5, "hash": "x", "name": "doors/00000001", "content_type": "a/b",
            "last_modified": "2026-11-24T09:12:03.123450"}, {"subdir": "versions/"},
            {"name": "\u00e9", "bytes": 0}]"#;
        let rows = parse_objects(page).expect("a page");
        let seen: Vec<_> = rows.iter().map(|r| (r.name.as_str(), r.bytes)).collect();
        assert_eq!(seen, [("doors/00000001", 5), ("é", 0)]);
    }

    #[test]
    fn tells_when_a_row_was_written() {
        for (text, wanted) in [
            ("1970-01-01T00:00:00.000000", Some(0)),
            ("2000-02-29T23:59:59.9", Some(951_868_799)),
            ("2026-11-24T09:12:03.123450", Some(1_795_511_523)),
            ("2100-03-01T00:00:00", Some(4_107_542_400)),
            ("", None),
            ("2026-11-24", None),
            ("2026-13-24T09:12:03", None),
            ("2026-11-24T09:12:03:04", None),
            ("1969-12-31T23:59:59", None),
            ("yesterday", None),
        ] {
            assert_eq!(seconds(text), wanted, "{text}");
        }
    }

    #[test]
    fn reads_an_account_and_an_empty_page() {
        let page = br#"[{"name":"m-vm.01","count":2,"bytes":7,"last_modified":"x"}]"#;
        let rows = parse_containers(page).expect("a page");
        assert_eq!(
            (rows[0].name.as_str(), rows[0].count, rows[0].bytes),
            ("m-vm.01", 2, 7)
        );
        assert_eq!(parse_objects(b"[]"), Some(Vec::new()));
    }

    #[test]
    fn refuses_what_is_no_page() {
        for bad in [
            &b""[..],
            b"<html>",
            b"{}",
            b"[1]",
            b"[{\"name\":\"a\"}]",
            b"[{\"name\":\"a\",\"bytes\":-1}]",
            b"[]x",
        ] {
            assert_eq!(parse_objects(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
