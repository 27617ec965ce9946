//! `volume set`.
//!
//! Names (CHAP users, initiators) travel with the volume as attributes; secrets stay in this state directory.

use super::volume_only;
use crate::cli::Asked;
use crate::disk::state::Secret;
use crate::host::{CHAP_MUTUAL_USER, CHAP_USER, INITIATORS, READ_RATE, WRITE_RATE};
use crate::quantity::{parse_duration, parse_size, show_size};
use crate::rate::{RATE_MAX, RATE_MIN};
use crate::report::{Exit, Report, Result};
use clap::Args;
use engine::{Command, Reply};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::Read;
use std::path::PathBuf;

/// `volume set NAME KEY=VALUE …`.
#[derive(Args, Clone, Serialize, Deserialize)]
pub struct Set {
    /// The volume
    pub name: String,
    /// chap-user=NAME, chap-mutual-user=NAME, initiators=IQN,IQN…, checkpoint-interval=5m, flush=local|store, mode=available,
    /// read-rate=50MiB, write-rate=20MiB (bytes per second); an empty value removes
    // The name is its own: the global `--set` has `settings`.
    #[arg(id = "attributes", required = true, value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// The secret of the chap-user (first line) and the chap-mutual-user (second line); - for stdin
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// What the file said; never shown.
    #[arg(skip)]
    pub secrets: Vec<String>,
}

impl std::fmt::Debug for Set {
    /// Secrets never show.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Set")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// RFC 7143 §12.1.3, "Challenge Handshake Authentication Protocol (CHAP)": secrets shorter than 96 bits need care.
const SECRET_MIN: usize = 12;

/// As long as open-iscsi takes.
const SECRET_MAX: usize = 255;

impl Set {
    /// Whether a key is set to something.
    fn wants(&self, key: &str) -> bool {
        let mut pairs = self.settings.iter().filter_map(|s| s.split_once('='));
        pairs.any(|(k, v)| k == key && !v.is_empty())
    }

    /// Reads the secrets, as who asks.
    pub(super) fn prepare(mut self) -> Result<Self> {
        let wanted = usize::from(self.wants(CHAP_USER)) + usize::from(self.wants(CHAP_MUTUAL_USER));
        if wanted == 0 {
            return Ok(self);
        }
        let mut text = String::new();
        let read = match &self.secret_file {
            Some(path) if path.as_os_str() != "-" => {
                std::fs::File::open(path).and_then(|f| f.take(4096).read_to_string(&mut text))
            }
            _ => std::io::stdin().take(4096).read_to_string(&mut text),
        };
        read.map_err(|error| {
            Report::new(Exit::Usage, "SECRET", "the secret cannot be read")
                .cause(error)
                .help("one line per secret in the file that --secret-file names, or on stdin")
        })?;
        let secrets: Vec<String> = text.lines().map(str::to_owned).collect();
        if secrets.len() < wanted {
            return Err(Report::new(
                Exit::Usage,
                "SECRET",
                format!("{wanted} secrets are needed, {} came", secrets.len()),
            )
            .help("one line per secret: chap-user's, then chap-mutual-user's"));
        }
        for secret in secrets.iter().take(wanted) {
            if !(SECRET_MIN..=SECRET_MAX).contains(&secret.len()) {
                return Err(Report::new(
                    Exit::Usage,
                    "SECRET",
                    format!("a secret of {} bytes", secret.len()),
                )
                .cause(format!("{SECRET_MIN} to {SECRET_MAX} bytes are allowed")));
            }
        }
        self.secrets = secrets;
        Ok(self)
    }

    pub(super) async fn run(self, asked: Asked) -> Result<Value> {
        let host = &asked.host;
        let known = host.resolve(volume_only(&self.name)?).await?;
        let container = &known.container;
        let driver = host.serving(container).await?;
        let old = host.secret(container)?;
        let mut user = old.as_ref().map(|s| (s.user.clone(), s.secret.clone()));
        let mut mutual = old.and_then(|s| s.mutual);
        let mut attributes: Vec<(&str, String)> = Vec::new();
        for setting in &self.settings {
            let (key, value) = setting.split_once('=').ok_or_else(|| usage(setting))?;
            attributes.push((key, attribute(setting, key, value)?));
            // The secrets come in this order, whatever the order of the settings.
            let (identity, line) = match key {
                CHAP_USER => (&mut user, 0),
                CHAP_MUTUAL_USER => (&mut mutual, usize::from(self.wants(CHAP_USER))),
                _ => continue,
            };
            *identity = if value.is_empty() {
                None
            } else {
                let secret = self.secrets.get(line).ok_or_else(|| usage(setting))?;
                Some((value.to_owned(), secret.clone()))
            };
        }
        if mutual.is_some() && user.is_none() {
            return Err(Report::new(
                Exit::Usage,
                "CHAP",
                "chap-mutual-user needs a chap-user",
            ));
        }
        let secret = user.map(|(user, secret)| Secret {
            user,
            secret,
            mutual,
        });
        host.set_secret(container, secret.as_ref())?;
        let login = |key: &&str| matches!(*key, CHAP_USER | CHAP_MUTUAL_USER | INITIATORS);
        let changes_logins = attributes.iter().any(|(key, _)| login(key));
        for (key, value) in attributes {
            let command = Command::PutAttribute {
                key: key.to_owned(),
                value: (!value.is_empty()).then(|| value.into_bytes()),
            };
            match host.command(&driver, command).await {
                Reply::Done { .. } => {}
                reply => {
                    return Err(Report::new(
                        Exit::Unexpected,
                        "SET",
                        format!("volume {} did not take {key}", container.name),
                    )
                    .cause(format!("{reply:?}")));
                }
            }
        }
        if changes_logins {
            // Anew, so that the next login finds what was set.
            host.withdraw(container).await;
            host.offer(container).await?;
            host.offer_snapshots(container).await?;
        } else {
            host.apply_rates(container)?;
        }
        Ok(json!({
            "volume": &*container.name,
            "set": self.settings,
            "text": format!("volume {}: {}", container.name, self.settings.join(", ")),
        }))
    }
}

/// A setting as the volume's attribute keeps it; empty: removed.
fn attribute(setting: &str, key: &str, value: &str) -> Result<String> {
    if value.is_empty() && KEYS.contains(&key) {
        return Ok(String::new());
    }
    match key {
        CHAP_USER | CHAP_MUTUAL_USER => check_user(value)?,
        INITIATORS => check_initiators(value)?,
        "flush" if matches!(value, "local" | "store") => {}
        "mode" if value == "available" => return Ok(String::new()),
        "mode" if value == "strict" => {
            return Err(
                Report::new(Exit::Refused, "NOT-YET", "mode strict is not there yet")
                    .cause("this version serves on while Swift is not reachable, and knows no bound for it")
                    .help("only mode=available can be set"),
            );
        }
        "checkpoint-interval" => {
            // In whole seconds, as the engine reads it.
            let interval = parse_duration(value).map_err(|why| usage(setting).cause(why))?;
            return Ok(interval.as_secs().max(1).to_string());
        }
        READ_RATE | WRITE_RATE => {
            let rate = parse_size(value.strip_suffix("/s").unwrap_or(value));
            let rate = rate.map_err(|why| usage(setting).cause(why))?;
            if !(RATE_MIN..=RATE_MAX).contains(&rate) {
                let range = format!(
                    "{} to {} per second are allowed",
                    show_size(RATE_MIN),
                    show_size(RATE_MAX)
                );
                return Err(usage(setting).cause(range));
            }
            return Ok(rate.to_string());
        }
        _ => return Err(usage(setting)),
    }
    Ok(value.to_owned())
}

const KEYS: [&str; 8] = [
    CHAP_USER,
    CHAP_MUTUAL_USER,
    INITIATORS,
    "checkpoint-interval",
    "flush",
    "mode",
    READ_RATE,
    WRITE_RATE,
];

/// A CHAP name goes into one text value of a login.
fn check_user(name: &str) -> Result<()> {
    if name.len() <= 223 && name.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    Err(
        Report::new(Exit::Usage, "CHAP", format!("{name:?} is no CHAP name"))
            .help("at most 223 printable ASCII characters without blanks"),
    )
}

fn usage(setting: &str) -> Report {
    Report::new(
        Exit::Usage,
        "SETTING",
        format!("{setting:?} is no setting of a volume"),
    )
    .help("chap-user=NAME, chap-mutual-user=NAME, initiators=IQN,IQN…, checkpoint-interval=5m, flush=local|store, mode=available, read-rate=50MiB, write-rate=20MiB")
}

fn check_initiators(value: &str) -> Result<()> {
    for name in value.split(',').filter(|n| !n.is_empty()) {
        let known = ["iqn.", "eui.", "naa."].iter().any(|p| name.starts_with(p));
        if !known || name.len() > 223 {
            return Err(Report::new(
                Exit::Usage,
                "INITIATOR",
                format!("{name:?} is no initiator name"),
            )
            .help("names begin with iqn., eui. or naa. and have at most 223 bytes"));
        }
    }
    if value.len() > 1024 {
        return Err(Report::new(
            Exit::Usage,
            "INITIATOR",
            "the list of initiators is longer than 1024 bytes",
        ));
    }
    Ok(())
}
