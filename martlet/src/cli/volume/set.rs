//! `volume set`.
//!
//! Names (CHAP users, initiators) travel with the volume as attributes; secrets stay in this state directory.

use super::volume_only;
use crate::cli::Asked;
use crate::disk::state::Secret;
use crate::quantity::parse_duration;
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
    /// chap-user=NAME, chap-mutual-user=NAME, initiators=IQN,IQN…, checkpoint-interval=5m, flush=local|store; an empty value removes
    #[arg(required = true, value_name = "KEY=VALUE")]
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
    /// Reads the secrets, as who asks.
    pub(super) fn prepare(mut self) -> Result<Self> {
        let wants = |key: &str| {
            let is = |s: &&String| {
                s.split_once('=')
                    .is_some_and(|(k, v)| k == key && !v.is_empty())
            };
            self.settings.iter().any(|s| is(&s))
        };
        let wanted = usize::from(wants("chap-user")) + usize::from(wants("chap-mutual-user"));
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
        let mut secrets = self.secrets.iter();
        let mut attributes: Vec<(&str, String)> = Vec::new();
        for setting in &self.settings {
            let (key, value) = setting.split_once('=').ok_or_else(|| usage(setting))?;
            match key {
                "chap-user" | "chap-mutual-user" => {
                    let pair = if value.is_empty() {
                        None
                    } else {
                        let secret = secrets.next().ok_or_else(|| usage(setting))?;
                        Some((value.to_owned(), secret.clone()))
                    };
                    if key == "chap-user" {
                        user = pair;
                    } else {
                        mutual = pair;
                    }
                }
                "initiators" => check_initiators(value)?,
                "flush" if matches!(value, "" | "local" | "store") => {}
                "checkpoint-interval" if value.is_empty() => {}
                "checkpoint-interval" => {
                    // In whole seconds, as the engine reads it.
                    let interval =
                        parse_duration(value).map_err(|why| usage(setting).cause(why))?;
                    attributes.push((key, interval.as_secs().max(1).to_string()));
                    continue;
                }
                _ => return Err(usage(setting)),
            }
            attributes.push((key, value.to_owned()));
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
        for (key, value) in attributes {
            let command = Command::PutAttribute {
                key: key.to_owned(),
                value: (!value.is_empty()).then(|| value.as_bytes().to_vec()),
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
            if key == "initiators" {
                host.set_initiators(container, &value)?;
            }
        }
        // Anew, so that the next login finds what was set.
        host.withdraw(container).await;
        host.offer(container).await?;
        Ok(json!({
            "volume": &*container.name,
            "set": self.settings,
            "text": format!("volume {}: {}", container.name, self.settings.join(", ")),
        }))
    }
}

fn usage(setting: &str) -> Report {
    Report::new(
        Exit::Usage,
        "SETTING",
        format!("{setting:?} is no setting of a volume"),
    )
    .help("chap-user=NAME, chap-mutual-user=NAME, initiators=IQN,IQN…, checkpoint-interval=5m, flush=local|store")
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
