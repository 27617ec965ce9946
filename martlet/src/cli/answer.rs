//! Answers for people: aligned columns and name-value lines.

use crate::quantity::show_size;
use serde_json::Value;

/// Text of an answer, made line by line from its document.
#[derive(Debug, Default)]
pub struct Answer {
    rows: Vec<Vec<String>>,
}

impl Answer {
    /// A table with this heading.
    pub fn table(heading: &[&str]) -> Self {
        let mut answer = Self::default();
        answer.row(heading.iter().map(|h| (*h).to_owned()).collect());
        answer
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Adds a name and its value.
    pub fn line(&mut self, name: &str, value: impl Into<String>) {
        self.row(vec![format!("{name}:"), value.into()]);
    }

    /// The text; every column as wide as its widest cell.
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |n: usize| {
            let cells = self.rows.iter().filter_map(|r| r.get(n));
            cells.map(|c| c.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// A text of a document; `-` where there is none.
pub(super) fn text(document: &Value, key: &str) -> String {
    match document.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

/// A size of a document, for people; `-` where there is none.
pub(super) fn size(document: &Value, key: &str) -> String {
    document
        .get(key)
        .and_then(Value::as_u64)
        .map_or_else(|| "-".to_owned(), show_size)
}

/// What was uploaded for an answer: its bytes, and in how many objects.
pub(super) fn uploaded(document: &Value) -> String {
    let objects = match document.get("puts").and_then(Value::as_u64) {
        Some(1) => "1 object".to_owned(),
        _ => format!("{} objects", text(document, "puts")),
    };
    format!("{} in {objects}", size(document, "uploaded_bytes"))
}

/// The items of a list in a document.
pub(super) fn items<'a>(document: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    document
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_is_one() {
        for (puts, said) in [(1, "4 KiB in 1 object"), (2, "4 KiB in 2 objects")] {
            let document = serde_json::json!({ "uploaded_bytes": 4096, "puts": puts });
            assert_eq!(uploaded(&document), said);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let mut answer = Answer::table(&["NAME", "SIZE"]);
        answer.row(vec!["vm01".into(), "10 GiB".into()]);
        answer.row(vec!["a-longer-name".into(), "1 B".into()]);
        assert_eq!(
            answer.text(),
            "NAME           SIZE\nvm01           10 GiB\na-longer-name  1 B\n"
        );
    }
}
