//! Listings: a page of names as Swift's JSON tells it. A hint only: listings lag, and replicas of a container disagree.

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
