//! Errors for people: what failed, why, what to do, and a stable code.

use std::fmt;

/// How the program ends. The numbers are part of the command line's promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Something that should not happen.
    Unexpected = 1,
    /// Wrong words or a wrong configuration.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// It exists already, or differs from what was asked for.
    Exists = 4,
    /// The store or the daemon is not reachable; a retry may help.
    Unreachable = 5,
    /// In use, held elsewhere, or others depend on it.
    Refused = 6,
    /// Credentials or rights.
    Denied = 7,
    /// Damaged data was found.
    Damaged = 8,
    /// Some items failed.
    Partial = 9,
    /// Not known whether it took effect.
    NotConfirmed = 10,
    /// Took too long.
    Timeout = 124,
    /// Ended by a signal.
    Interrupted = 130,
}

impl Exit {
    /// The exit with this number.
    pub fn from_code(code: i64) -> Self {
        const ALL: [Exit; 12] = [
            Exit::Unexpected,
            Exit::Usage,
            Exit::NotFound,
            Exit::Exists,
            Exit::Unreachable,
            Exit::Refused,
            Exit::Denied,
            Exit::Damaged,
            Exit::Partial,
            Exit::NotConfirmed,
            Exit::Timeout,
            Exit::Interrupted,
        ];
        ALL.into_iter()
            .find(|e| *e as i64 == code)
            .unwrap_or(Self::Unexpected)
    }
}

/// An error as it is printed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// How the program ends.
    pub exit: Exit,
    /// The stable part of the code: `HELD` of `E6-HELD`.
    pub word: String,
    /// What failed, naming it.
    pub what: String,
    /// Why.
    pub cause: Option<String>,
    /// What to do.
    pub help: Option<String>,
}

impl Report {
    /// An error without cause and help.
    pub fn new(exit: Exit, word: &str, what: impl Into<String>) -> Self {
        Self {
            exit,
            word: word.to_owned(),
            what: what.into(),
            cause: None,
            help: None,
        }
    }

    /// Says why.
    #[must_use]
    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// `E6-HELD`.
    pub fn code(&self) -> String {
        format!("E{}-{}", self.exit as i32, self.word)
    }

    /// One JSON document with stable names.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": self.what,
            "cause": self.cause,
            "help": self.help,
            "code": self.code(),
            "exit": self.exit as i32,
        })
    }

    /// Reads what [`Report::json`] made; anything else becomes an unexpected error that shows it.
    pub fn from_json(value: &serde_json::Value) -> Self {
        let text = |key: &str| value.get(key).and_then(|v| v.as_str()).map(str::to_owned);
        let exit = value.get("exit").and_then(serde_json::Value::as_i64);
        let code = text("code").unwrap_or_default();
        Self {
            exit: Exit::from_code(exit.unwrap_or(1)),
            word: code
                .split_once('-')
                .map_or("UNEXPECTED", |(_, word)| word)
                .to_owned(),
            what: text("error").unwrap_or_else(|| value.to_string()),
            cause: text("cause"),
            help: text("help"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.what)?;
        if let Some(cause) = &self.cause {
            writeln!(f, "  cause: {cause}")?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "  help:  {help}")?;
        }
        write!(f, "  code:  {}", self.code())
    }
}

impl std::error::Error for Report {}

/// The result of all that a person asked for.
pub type Result<T> = std::result::Result<T, Report>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_why_and_what_to_do() {
        let report = Report::new(Exit::Refused, "HELD", "volume vm01 is held by host rack7")
            .cause("generation 12 was opened by rack7 and not detached")
            .help("detach it there");
        assert_eq!(
            report.to_string(),
            "error: volume vm01 is held by host rack7\n  cause: generation 12 was opened by rack7 and not \
             detached\n  help:  detach it there\n  code:  E6-HELD"
        );
    }

    #[test]
    fn survives_the_way_through_json() {
        let report = Report::new(Exit::NotConfirmed, "NOT-CONFIRMED", "snapshot a").cause("b");
        assert_eq!(Report::from_json(&report.json()), report);
    }
}
