//! Progress on stderr: a bar on a terminal, else one line per 10 s; JSON lines with `--json`.

use super::Common;
use crate::host::{Listener, Progress};
use crate::quantity::show_size;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// What is between two lines.
struct Lines {
    started: Instant,
    last: Instant,
}

/// Who hears of progress under these options.
pub(super) fn listener(common: &Common) -> Listener {
    if common.no_progress || common.quiet {
        return Arc::new(|_| {});
    }
    if common.json {
        return lines(|news, _| {
            let line = serde_json::json!({
                "progress": news.what, "done_bytes": news.done, "total_bytes": news.total,
            });
            eprintln!("{line}");
        });
    }
    if std::io::stderr().is_terminal() {
        return bar();
    }
    lines(|news, elapsed| {
        let rate = news.done as u128 * 1000 / elapsed.as_millis().max(1);
        eprintln!(
            "{}: {} of {} ({}/s)",
            news.what,
            show_size(news.done),
            show_size(news.total),
            show_size(u64::try_from(rate).unwrap_or(u64::MAX)),
        );
    })
}

fn lines(print: impl Fn(&Progress, Duration) + Send + Sync + 'static) -> Listener {
    let now = Instant::now();
    let state = Mutex::new(Lines {
        started: now,
        last: now,
    });
    Arc::new(move |news| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.elapsed() >= EVERY {
            state.last = Instant::now();
            print(&news, state.started.elapsed());
        }
    })
}

fn bar() -> Listener {
    let style = ProgressStyle::with_template(
        "{msg} [{bar:40}] {binary_bytes} of {binary_total_bytes} ({binary_bytes_per_sec}, {eta} left)",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(0).with_style(style);
    Arc::new(move |news| {
        bar.set_length(news.total);
        bar.set_message(news.what);
        bar.set_position(bar.position().max(news.done));
        if news.done >= news.total {
            bar.finish_and_clear();
        }
    })
}
