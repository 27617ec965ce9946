//! What the client needs to know, beside who we are.

use super::credentials::Credentials;
use crate::settings::Settings;
use engine::time::Duration;

/// Everything about one Swift account.
#[derive(Clone, Debug)]
pub struct SwiftConfig {
    /// Put before every container's name, so that several installations share an account. At most 100 bytes, no `/`.
    pub prefix: String,
    /// Who we are.
    pub credentials: Credentials,
    /// Waits and limits of the dialect.
    pub settings: Settings,
    /// A connection that is not there after so long is given up. 3 s.
    pub connect_timeout: Duration,
    /// Idle connections are dropped after so long. 20 s: Swift's proxy closes them after 60 s without a word.
    pub pool_idle: Duration,
    /// Idle connections kept. 64: twice the requests that one busy volume makes at once.
    pub pool_size: usize,
    /// An authentication may take so long. 10 s.
    pub auth_timeout: Duration,
    /// An HTTP proxy in front of everything; the environment's proxies are not used.
    pub proxy: Option<String>,
    /// Feeds the jitter of retries: fresh randomness for each process.
    pub seed: u64,
}

impl SwiftConfig {
    /// The defaults for these credentials.
    pub fn new(prefix: &str, credentials: Credentials, seed: u64) -> Self {
        Self {
            prefix: prefix.to_owned(),
            credentials,
            settings: Settings::default(),
            connect_timeout: Duration::from_secs(3),
            pool_idle: Duration::from_secs(20),
            pool_size: 64,
            auth_timeout: Duration::from_secs(10),
            proxy: None,
            seed,
        }
    }
}
