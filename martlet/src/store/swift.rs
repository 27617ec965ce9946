//! Objects in OpenStack Swift, through `backend-swift`'s client.

use super::codec;
use crate::config::Config;
use crate::report::{Exit, Report, Result};
use backend_swift::Content;
use backend_swift::client::{Client, Codec, Credentials, CredentialsError, SwiftConfig};
use bytes::Bytes;
use engine::Outcome;
use engine::effect::{Body, GetRequest, Receipt, StoreError, StoreRequest};
use engine::ids::Container;
use std::time::Duration;

/// A command waits so long for Swift's first sign of life.
const CHECK_MAX: Duration = Duration::from_secs(5);

/// So often it is asked for one, so far apart.
const CHECK_TRIES: u32 = 3;
const CHECK_GAP: Duration = Duration::from_millis(300);

/// Swift as a store. A handle: clones share connections and token.
#[derive(Clone)]
pub struct SwiftStore {
    client: Client,
    prefix: String,
}

impl std::fmt::Debug for SwiftStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SwiftStore({})", self.prefix)
    }
}

/// The engine's codec, as the client asks for it.
struct EngineCodec;

impl Codec for EngineCodec {
    fn encode(&self, body: &Body<Bytes>) -> (Bytes, Receipt) {
        let (pieces, receipt) = codec::encode(body);
        (pieces.concat().into(), receipt)
    }

    fn decode(&self, request: &GetRequest, body: Bytes) -> Content<Outcome<Bytes>> {
        match codec::check(request, &body) {
            Outcome::Store(StoreError::TooNew) => Content::TooNew,
            Outcome::Store(_) => Content::Damaged,
            outcome => Content::Good(outcome),
        }
    }
}

impl SwiftStore {
    /// Finds credentials and builds the client; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// No or contradictory credentials (exit 2); TLS files that cannot be read.
    pub fn open(prefix: &str, config: &Config) -> Result<Self> {
        let cloud = config.swift.cloud.as_deref();
        let credentials = Credentials::find(cloud).map_err(|error| no_credentials(&error))?;
        let mut swift = SwiftConfig::new(prefix, credentials, rand::random());
        config.swift.apply(&mut swift);
        if let Some(gap) = config.limits.absence_gap {
            swift.settings.absence_gap = gap.0;
        }
        let client = Client::new(swift, EngineCodec).map_err(|error| {
            Report::new(Exit::Usage, "SWIFT", "the Swift client cannot be set up").cause(error)
        })?;
        Ok(Self {
            client,
            prefix: prefix.to_owned(),
        })
    }

    /// What stands before every container's name.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Carries out a request.
    pub async fn execute(&self, request: StoreRequest<Bytes>) -> Outcome<Bytes> {
        self.client.execute(request).await
    }

    /// Whether Swift can be used now: a token, and one look at the account.
    ///
    /// # Errors
    ///
    /// It cannot be reached or is not well (exit 5), or denies us (exit 7); endpoint and cause are named.
    pub async fn check(&self) -> Result<()> {
        let report = |cause: String| {
            Report::new(Exit::Unreachable, "STORE-AWAY", "Swift cannot be used now").cause(cause)
        };
        let away = |cause: String| {
            report(cause).help("check that it is up and reachable from here, then try again")
        };
        let mut tries = 0;
        loop {
            tries += 1;
            match tokio::time::timeout(CHECK_MAX, self.client.check()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(health)) if health.is_denied() => {
                    return Err(
                        Report::new(Exit::Denied, "DENIED", "Swift denies this user")
                            .cause(health)
                            .help("check the credentials and their role on the account"),
                    );
                }
                // One lost connection is no outage.
                Ok(Err(_)) if tries < CHECK_TRIES => tokio::time::sleep(CHECK_GAP).await,
                Ok(Err(health)) if health.is_tls() => {
                    return Err(report(health.to_string()).help(
                        "name the authority that signed its certificate: cacert of the cloud in clouds.yaml, or OS_CACERT",
                    ));
                }
                Ok(Err(health)) => return Err(away(health.to_string())),
                Err(_) => {
                    let place = self.client.place();
                    let cause = format!("no answer from {place} within {CHECK_MAX:?}");
                    return Err(away(cause));
                }
            }
        }
    }

    /// Whether a listing of the container shows nothing; it may lag.
    ///
    /// # Errors
    ///
    /// There is no such container, or Swift does not answer.
    pub async fn is_empty(&self, container: &Container) -> std::result::Result<bool, StoreError> {
        let found = self.client.list_objects(container, "").await;
        found.map(|rows| rows.is_empty()).map_err(|f| f.error)
    }

    /// Every volume's container with the prefix; the listing may lag.
    ///
    /// # Errors
    ///
    /// Swift does not answer, or denies us.
    pub async fn containers(&self) -> std::result::Result<Vec<Container>, StoreError> {
        let found = self.client.list_volumes().await;
        let found = found.map_err(|failure| failure.error)?;
        Ok(found.into_iter().map(|(container, _)| container).collect())
    }
}

fn no_credentials(error: &CredentialsError) -> Report {
    Report::new(Exit::Usage, "CREDENTIALS", "no usable credentials for Swift")
        .cause(error)
        .help(
            "set ST_AUTH, ST_USER and ST_KEY, or OS_AUTH_URL and its kin, or name a cloud of clouds.yaml in OS_CLOUD",
        )
}
