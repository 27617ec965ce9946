//! Logs: text or JSON lines on stderr.

use super::Common;
use crate::config::{Config, LogFormat};
use crate::report::{Exit, Report, Result};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Starts logging. A second start in one process changes nothing.
pub(super) fn start(common: &Common, config: &Config) -> Result<()> {
    let level = match (common.quiet, common.verbose) {
        (true, _) => LevelFilter::ERROR,
        (_, 0) => LevelFilter::WARN,
        (_, 1) => LevelFilter::INFO,
        (_, 2) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter: Targets = match &config.log.filter {
        Some(text) if common.verbose == 0 && !common.quiet => text.parse().map_err(|error| {
            Report::new(
                Exit::Usage,
                "CONFIG",
                format!("log.filter {text:?} is not valid"),
            )
            .cause(error)
            .help("for instance info,martlet=debug")
        })?,
        _ => Targets::new().with_default(level),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = match config.log.format {
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
        LogFormat::Text => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
    // Only a second start fails.
    let _ = started;
    Ok(())
}
