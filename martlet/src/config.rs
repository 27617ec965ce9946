//! Configuration: a TOML file, then `--set KEY=VALUE` for one process.
//!
//! Every key is optional and has a default; an unknown key is an error that names its line.

mod check;

use crate::quantity::{parse_duration, parse_size};
use crate::report::{Exit, Report, Result};
use backend_swift::client::SwiftConfig;
use engine::Limits;
use engine::units::ByteCount;
use serde::{Deserialize, Deserializer};
use std::path::Path;
use std::time::Duration;

/// All that can be configured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Bounds and waits.
    pub limits: LimitKeys,
    /// The iSCSI side.
    pub iscsi: Iscsi,
    /// The Swift side.
    pub swift: Swift,
    /// Log output.
    pub log: Log,
}

/// `[iscsi]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Iscsi {
    /// The portal's address.
    pub listen: String,
    /// What stands before a volume's name in its target's name.
    pub iqn_prefix: String,
}

impl Default for Iscsi {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:3260".into(),
            iqn_prefix: "iqn.2011-05.io.martlet".into(),
        }
    }
}

/// `[swift]`. Credentials come from the environment or clouds.yaml, never from here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Swift {
    /// The cloud of clouds.yaml, before `OS_CLOUD`.
    pub cloud: Option<String>,
    /// An HTTP proxy.
    pub proxy: Option<String>,
    /// A connection that is not there after so long is given up (3s).
    pub connect_timeout: Option<Seconds>,
    /// Idle connections are dropped after so long (20s).
    pub pool_idle: Option<Seconds>,
    /// Idle connections kept (64).
    pub pool_size: Option<u32>,
    /// An authentication may take so long (10s).
    pub auth_timeout: Option<Seconds>,
    /// Shortest wait before a request is sent again (100ms).
    pub backoff_base: Option<Seconds>,
    /// Longest such wait (5s).
    pub backoff_cap: Option<Seconds>,
    /// A longer Retry-After is cut to this (30s).
    pub retry_after_cap: Option<Seconds>,
    /// One exchange may take so long, plus the time of its bytes (15s).
    pub exchange_timeout: Option<Seconds>,
    /// A PUT is sent again for so long (60s).
    pub put_deadline: Option<Seconds>,
    /// The same for other requests but GETs (30s).
    pub other_deadline: Option<Seconds>,
    /// Asks that must find an object absent or damaged before it counts as damage (20).
    pub damage_asks: Option<u32>,
    /// Time that these asks must span (30s).
    pub damage_span: Option<Seconds>,
}

impl Swift {
    /// Puts what was said over the defaults.
    pub fn apply(&self, to: &mut SwiftConfig) {
        let time = |to: &mut Duration, from: Option<Seconds>| {
            if let Some(from) = from {
                *to = from.0;
            }
        };
        time(&mut to.connect_timeout, self.connect_timeout);
        time(&mut to.pool_idle, self.pool_idle);
        time(&mut to.auth_timeout, self.auth_timeout);
        let settings = &mut to.settings;
        time(&mut settings.backoff_base, self.backoff_base);
        time(&mut settings.backoff_cap, self.backoff_cap);
        time(&mut settings.retry_after_cap, self.retry_after_cap);
        time(&mut settings.exchange_timeout, self.exchange_timeout);
        time(&mut settings.put_deadline, self.put_deadline);
        time(&mut settings.other_deadline, self.other_deadline);
        time(&mut settings.damage_span, self.damage_span);
        if let Some(asks) = self.damage_asks {
            settings.damage_asks = asks;
        }
        if let Some(size) = self.pool_size {
            to.pool_size = usize::try_from(size).unwrap_or(usize::MAX);
        }
        if self.proxy.is_some() {
            to.proxy.clone_from(&self.proxy);
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `text` (default) or `json`.
    pub format: LogFormat,
    /// Targets and levels as `info,martlet=debug`.
    pub filter: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// `[limits]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitKeys {
    /// Wait before a 404 is asked a second time (2s).
    pub absence_gap: Option<Seconds>,
    /// Objects of dying versions are kept so long (10m).
    pub delete_grace: Option<Seconds>,
    /// Younger orphans are not collected (1h).
    pub min_age: Option<Seconds>,
    /// A volume looks for orphans and for pins that hold nothing at most this often (1h).
    pub collect_interval: Option<Seconds>,
    /// Period of the watch (5s).
    pub watch: Option<Seconds>,
    /// A waiting command is answered BUSY after this (12s).
    pub busy_after: Option<Seconds>,
    /// Sessions are closed after so long of BUSY (30s).
    pub close_after: Option<Seconds>,
    /// A checkpoint is published at least this often (5m).
    pub checkpoint_interval: Option<Seconds>,
    /// A restart waits so long for the store's word about the next door (3s).
    pub restart_look: Option<Seconds>,
    /// While attaching anew a restarted host answers so long past its last good watch (10s).
    pub attach_grace: Option<Seconds>,
    /// Deadline of one request to the store (10s).
    pub store_deadline: Option<Seconds>,
    /// Longest random wait after a lost claim (2s).
    pub claim_backoff: Option<Seconds>,
    /// Bytes of the journal of a volume (2GiB).
    pub journal: Option<Bytes>,
    /// Bytes of one journal file (64MiB).
    pub journal_file: Option<Bytes>,
    /// Bytes of the frame cache of a volume (1GiB).
    pub cache: Option<Bytes>,
    /// Bytes of guest data that a volume holds in memory (128MiB: half in flight, half not yet durable).
    pub memory: Option<Bytes>,
    /// Data objects under way to the store at once, per volume (8).
    pub uploads: Option<u32>,
    /// Frame reads from the store at once, per volume (16).
    pub hydrations: Option<u32>,
}

/// A duration in the configuration: `90s`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seconds(pub Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        parse_duration(&text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// A size in the configuration: `"10GiB"` or a number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bytes(pub u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        match Either::deserialize(d)? {
            Either::Number(bytes) => Ok(Self(bytes)),
            Either::Text(text) => parse_size(&text)
                .map(Self)
                .map_err(serde::de::Error::custom),
        }
    }
}

impl Config {
    /// Reads the file (if there is one) and puts the settings of this process over it.
    ///
    /// # Errors
    ///
    /// The file cannot be read; a key is unknown or its value wrong (exit 2).
    pub fn load(file: Option<&Path>, settings: &[String]) -> Result<Self> {
        let text = match file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                Report::new(
                    Exit::Usage,
                    "CONFIG",
                    format!("the configuration {} cannot be read", path.display()),
                )
                .cause(error)
            })?,
        };
        let config: Self = toml::from_str(&text).map_err(|error| wrong(file, &text, &error))?;
        let said = file.map(|file| (file, text.as_str()));
        if settings.is_empty() {
            return config.checked(said, settings);
        }
        // The file was checked above, so that its errors carry their lines. What follows can only be a setting's fault.
        let mut table: toml::Table = toml::from_str(&text).map_err(|e| wrong(file, &text, &e))?;
        for setting in settings {
            put(&mut table, setting)?;
            table.clone().try_into::<Self>().map_err(|error| {
                Report::new(
                    Exit::Usage,
                    "CONFIG",
                    format!("--set {setting} is not valid"),
                )
                .cause(first_line(error.message()))
                .help("docs/limits.md lists every key")
            })?;
        }
        table
            .try_into::<Self>()
            .map_err(|error| wrong(None, "", &error))?
            .checked(said, settings)
    }

    fn checked(self, file: Option<(&Path, &str)>, settings: &[String]) -> Result<Self> {
        let Some(wrong) = check::wrong(&self) else {
            return Ok(self);
        };
        let key = wrong.key;
        // The last to set it is at fault; a key that nobody set was broken by what others were set to.
        let set = |s: &&String| s.split_once('=').is_some_and(|(k, _)| k.trim() == key);
        let place = match settings.iter().rev().find(set) {
            Some(setting) => format!("--set {setting}"),
            None => match file.and_then(|(path, text)| Some((path, line_of(text, key)?))) {
                Some((path, line)) => format!("{}, line {line}", path.display()),
                None => "the configuration".to_owned(),
            },
        };
        let what = format!("{place}: {key} is {}, out of range", wrong.value);
        let cause = format!("{} is allowed: {}", wrong.range, wrong.why);
        Err(Report::new(Exit::Usage, "CONFIG", what)
            .cause(cause)
            .help("docs/limits.md lists every key with its range"))
    }

    /// The engine's bounds.
    pub fn limits(&self) -> Limits {
        let keys = &self.limits;
        let mut limits = Limits::default();
        let time = |to: &mut Duration, from: Option<Seconds>| {
            if let Some(from) = from {
                *to = from.0;
            }
        };
        time(&mut limits.absence_gap, keys.absence_gap);
        time(&mut limits.delete_grace, keys.delete_grace);
        time(&mut limits.min_age, keys.min_age);
        time(&mut limits.collect_interval, keys.collect_interval);
        time(&mut limits.watch, keys.watch);
        time(&mut limits.busy_after, keys.busy_after);
        time(&mut limits.close_after, keys.close_after);
        time(&mut limits.checkpoint_interval, keys.checkpoint_interval);
        time(&mut limits.restart_look, keys.restart_look);
        time(&mut limits.attach_grace, keys.attach_grace);
        time(&mut limits.store_deadline, keys.store_deadline);
        time(&mut limits.claim_backoff, keys.claim_backoff);
        if let Some(file) = keys.journal_file {
            limits.file_bytes = ByteCount(file.0.next_multiple_of(4096));
        }
        if let Some(journal) = keys.journal {
            let files = journal.0 / limits.file_bytes.0.max(1);
            limits.files = u32::try_from(files).unwrap_or(u32::MAX);
        }
        if let Some(cache) = keys.cache {
            limits.cache_slots = u32::try_from(cache.0 >> 16).unwrap_or(u32::MAX);
        }
        if let Some(memory) = keys.memory {
            limits.inflight_bytes = ByteCount(memory.0 / 2);
            limits.unsynced_bytes = ByteCount(memory.0 / 2);
        }
        if let Some(uploads) = keys.uploads {
            limits.uploads = uploads;
        }
        if let Some(hydrations) = keys.hydrations {
            limits.hydrations = hydrations;
        }
        limits
    }
}

/// The line in which a key `a.b` is set.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let (table, key) = key.split_once('.')?;
    let table = document.get_ref().get(table)?.get_ref().as_table()?;
    let at = table.get(key)?.span().start;
    Some(text.get(..at)?.matches('\n').count() + 1)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn wrong(file: Option<&Path>, text: &str, error: &toml::de::Error) -> Report {
    let place = file.map_or_else(
        || "the configuration".to_owned(),
        |f| f.display().to_string(),
    );
    let line = error.span().map(|span| {
        let before = text.get(..span.start).unwrap_or_default();
        before.matches('\n').count() + 1
    });
    let what = match line {
        Some(line) => format!("{place}, line {line}: not valid"),
        None => format!("{place}: not valid"),
    };
    Report::new(Exit::Usage, "CONFIG", what)
        .cause(first_line(error.message()))
        .help("docs/limits.md lists every key")
}

/// Sets `a.b=value` in a table. The value is TOML if it parses as such, else text.
fn put(table: &mut toml::Table, setting: &str) -> Result<()> {
    let usage = || {
        Report::new(
            Exit::Usage,
            "USAGE",
            format!("--set {setting} is not KEY=VALUE"),
        )
        .help("for instance --set limits.checkpoint_interval=30s")
    };
    let (key, value) = setting.split_once('=').ok_or_else(usage)?;
    let value = toml::from_str::<toml::Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut path: Vec<&str> = key.split('.').map(str::trim).collect();
    let last = path.pop().filter(|l| !l.is_empty()).ok_or_else(usage)?;
    let mut at = table;
    for part in path {
        let next = at
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = next.as_table_mut().ok_or_else(usage)?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, settings: &[&str]) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("martlet.toml");
        std::fs::write(&path, text).unwrap();
        let settings: Vec<String> = settings.iter().map(|&s| s.to_owned()).collect();
        Config::load(Some(&path), &settings)
    }

    #[test]
    fn nothing_said_means_defaults() {
        let config = load("", &[]).unwrap();
        assert_eq!(config.limits(), Limits::default());
        assert_eq!(config.iscsi.listen, "127.0.0.1:3260");
    }

    #[test]
    fn settings_win_over_the_file() {
        let text = "[limits]\nwatch = \"4s\"\njournal = \"1GiB\"\n[log]\nformat = \"json\"\n";
        let config = load(text, &["limits.watch=1s", "iscsi.listen=127.0.0.1:0"]).unwrap();
        assert_eq!(config.limits().watch, Duration::from_secs(1));
        assert_eq!(config.limits().files, 16);
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.iscsi.listen, "127.0.0.1:0");
    }

    #[track_caller]
    fn check_refused(text: &str, settings: &[&str], parts: &[&str]) {
        let report = load(text, settings).unwrap_err();
        assert_eq!(report.exit, Exit::Usage);
        let shown = report.to_string();
        for part in parts {
            assert!(shown.contains(part), "{shown} lacks {part}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        check_refused("[limits]\n\nwatsh = \"7s\"\n", &[], &["line 3", "watsh"]);
        check_refused("\ntuning = 1\n", &[], &["line 2", "tuning"]);
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line() {
        check_refused("[limits]\nwatch = \"soon\"\n", &[], &["line 2", "soon"]);
        check_refused("[limits]\njournal = \"10GB\"\n", &[], &["line 2"]);
    }

    #[test]
    fn a_value_out_of_range_is_told_with_key_value_range_and_line() {
        let text = "[limits]\nwatch = \"4s\"\n\njournal = \"1MiB\"\n";
        let journal = &["line 4", "limits.journal is 1 MiB", "256 MiB to 256 GiB"];
        check_refused(text, &[], journal);
        let text = "[limits]\nwatch = \"4s\"\n";
        let watch = &["--set limits.watch=7s", "limits.watch is 7s", "100ms to 5s"];
        check_refused(text, &["limits.watch=1s", "limits.watch=7s"], watch);
        let text = "limits = { watch = \"1m\" }\n";
        check_refused(text, &[], &["line 1", "limits.watch is 1m", "100ms to 5s"]);
        check_refused(
            "[iscsi]\niqn_prefix = \"iqn.Martlet\"\n",
            &[],
            &["line 2", "iscsi.iqn_prefix", "iqn.Martlet"],
        );
        for (key, low, high) in [
            ("limits.absence_gap", "0s", "61s"),
            ("limits.busy_after", "99ms", "61s"),
            ("limits.checkpoint_interval", "999ms", "8761h"),
            ("limits.store_deadline", "0s", "301s"),
            ("limits.claim_backoff", "199ms", "61s"),
            ("limits.journal_file", "1MiB", "5GiB"),
            ("limits.cache", "0", "17TiB"),
            ("limits.memory", "15MiB", "2TiB"),
            ("limits.uploads", "0", "257"),
            ("limits.hydrations", "0", "1025"),
            ("swift.damage_asks", "2", "1001"),
            ("swift.damage_span", "29s", "2h"),
            ("swift.backoff_base", "0s", "2m"),
            ("swift.pool_size", "0", "5000"),
        ] {
            for value in [low, high] {
                if value != "0s" || key != "limits.absence_gap" {
                    check_refused("", &[&format!("{key}={value}")], &[key, "is allowed"]);
                }
            }
        }
    }

    #[test]
    fn every_key_is_in_the_docs() {
        let docs = include_str!("../../docs/limits.md");
        let mut count = 0;
        for table in ["limits", "iscsi", "swift", "log"] {
            // The error names every key that there is.
            let error = load(&format!("[{table}]\nnone-such = 1\n"), &[]).unwrap_err();
            let cause = error.cause.unwrap();
            let keys = cause.split('`').skip(3).step_by(2);
            for key in keys {
                assert!(docs.contains(&format!("`{table}.{key}`")), "{table}.{key}");
                count += 1;
            }
        }
        assert!(count > 30, "{count} keys");
    }

    #[test]
    fn a_grace_in_which_no_attach_ends_is_refused() {
        let text = "[limits]\ndelete_grace = \"30s\"\n";
        let parts = &["line 2", "limits.delete_grace is 30s", "1m 24s to 8760h"];
        check_refused(text, &[], parts);
        // What it follows from may be set instead: then its default is what is out of range.
        let parts = &["limits.delete_grace is 10m", "limits.absence_gap"];
        check_refused("", &["limits.absence_gap=30s"], parts);
        let quick = ["limits.absence_gap=0s", "limits.store_deadline=1s"];
        let config = load("[limits]\ndelete_grace = \"2s\"\n", &quick).unwrap();
        assert_eq!(config.limits().delete_grace, Duration::from_secs(2));
    }

    #[test]
    fn a_wrong_setting_is_named() {
        check_refused(
            "",
            &["limits.watsh=1s"],
            &["--set limits.watsh=1s", "watsh"],
        );
        check_refused("", &["limits"], &["KEY=VALUE"]);
        check_refused("", &["limits.watch=never"], &["never"]);
    }
}
