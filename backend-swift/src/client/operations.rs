//! What the program asks of the whole account: which volumes there are, and whether Swift is well.

use super::auth::AuthFailure;
use super::http::{Lost, receive};
use super::{Client, Decoded, Inner, Want, auth};
use crate::exchange::{Broken, Failure, Success};
use crate::listing::{ContainerRow, ObjectRow};
use crate::request::{Ask, container_name};
use bytes::Bytes;
use engine::effect::StoreError;
use engine::ids::Container;
use engine::units::ByteCount;
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;

/// Rows of a page while the cluster has not told its `container_listing_limit`, above which it answers 412.
const PAGE: u32 = 1_000;

/// Rows of a page at most: Swift's own default limit.
const PAGE_MAX: u32 = 10_000;

/// What `/info` says of the cluster's limits, as far as we care. Absent values are not told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Info {
    /// Swift's version.
    pub version: Option<String>,
    /// The largest object in bytes.
    pub max_file_size: Option<u64>,
    /// The most rows of a listing.
    pub container_listing_limit: Option<u32>,
}

#[derive(Deserialize)]
struct InfoBody {
    #[serde(default)]
    swift: InfoSwift,
}

#[derive(Deserialize, Default)]
struct InfoSwift {
    version: Option<String>,
    max_file_size: Option<u64>,
    container_listing_limit: Option<u32>,
}

/// Why Swift cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Health {
    /// No token: wrong credentials, identity service away, TLS, no endpoint.
    Auth(AuthFailure),
    /// The storage URL cannot be reached.
    Unreachable {
        /// The storage URL.
        storage_url: String,
        /// Connection or TLS.
        broken: Broken,
        /// What the connection said.
        reason: String,
    },
    /// A token, and no right to use the account.
    Denied {
        /// The storage URL.
        storage_url: String,
        /// 401 or 403.
        status: u16,
    },
    /// Swift answers, and is not well.
    Status {
        /// The storage URL.
        storage_url: String,
        /// Its answer.
        status: u16,
    },
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auth(failure) => write!(f, "{failure}"),
            Self::Unreachable {
                storage_url,
                broken: Broken::Tls,
                reason,
            } => write!(f, "no TLS with {storage_url}: {reason}"),
            Self::Unreachable {
                storage_url,
                reason,
                ..
            } => write!(f, "Swift at {storage_url} cannot be reached: {reason}"),
            Self::Denied {
                storage_url,
                status,
            } => write!(
                f,
                "Swift at {storage_url} denies the account ({status}): the user needs a role that may write there"
            ),
            Self::Status {
                storage_url,
                status,
            } => write!(f, "Swift at {storage_url} answers {status}"),
        }
    }
}

impl std::error::Error for Health {}

impl Health {
    /// Whether the other side is there, and is not trusted.
    pub const fn is_tls(&self) -> bool {
        matches!(
            self,
            Self::Unreachable {
                broken: Broken::Tls,
                ..
            } | Self::Auth(AuthFailure::Unreachable {
                broken: Broken::Tls,
                ..
            })
        )
    }

    /// Whether it is about who we are (exit code 7), and not about what is reachable (exit code 5).
    pub const fn is_denied(&self) -> bool {
        matches!(
            self,
            Self::Denied { .. } | Self::Auth(AuthFailure::WrongCredentials { .. })
        )
    }
}

impl Client {
    /// The volumes' containers with this installation's prefix, in byte order, with counts that lag behind.
    ///
    /// Pages are asked for until an empty one comes. Names that are no volume's are left out.
    pub async fn list_volumes(&self) -> Result<Vec<(Container, ContainerRow)>, Failure> {
        let prefix = &self.inner.config.prefix;
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let ask = Ask::ListContainers {
                prefix: prefix.clone(),
                after: after.clone(),
                limit: self.page().await,
            };
            let page = match self.inner.put_question(ask, Want::Containers).await {
                Ok(Success::Read(Decoded::Containers(page))) => page,
                // An account that never held anything.
                Err(failure) if failure.error == StoreError::Absent => Vec::new(),
                Err(failure) => return Err(failure),
                Ok(_) => Vec::new(),
            };
            let Some(last) = page.last() else {
                return Ok(found);
            };
            after = Some(last.name.clone());
            let volume = |row: ContainerRow| {
                let bare = row.name.strip_prefix(prefix.as_str())?;
                Some((Container::parse(bare)?, row))
            };
            found.extend(page.into_iter().filter_map(volume));
        }
    }

    /// Every object of a volume whose name begins so, with sizes and times; lags behind.
    pub async fn list_objects(
        &self,
        container: &Container,
        prefix: &str,
    ) -> Result<Vec<ObjectRow>, Failure> {
        let mut found: Vec<ObjectRow> = Vec::new();
        loop {
            let ask = Ask::List {
                container: container_name(&self.inner.config.prefix, container),
                prefix: prefix.to_owned(),
                after: found.last().map(|row| row.name.clone()),
                limit: self.page().await,
            };
            match self.inner.put_question(ask, Want::Objects).await {
                Ok(Success::Read(Decoded::Objects(page))) if !page.is_empty() => {
                    found.extend(page);
                }
                Ok(_) => return Ok(found),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Objects and bytes of a volume's container; lags behind. `None`: no such container.
    pub async fn container_stats(
        &self,
        container: &Container,
    ) -> Result<Option<(u64, ByteCount)>, Failure> {
        let container = container_name(&self.inner.config.prefix, container);
        let ask = Ask::ContainerStats { container };
        match self.inner.put_question(ask, Want::Nothing).await {
            Ok(Success::Stats { objects, bytes }) => Ok(Some((objects, ByteCount(bytes)))),
            Err(failure) if failure.error == StoreError::Absent => Ok(None),
            Ok(_) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The bytes of an object, checked against its ETag: for tools that read what they do not know.
    pub async fn read_raw(&self, container: &Container, name: &str) -> Result<Bytes, Failure> {
        let ask = Ask::Get {
            container: container_name(&self.inner.config.prefix, container),
            name: name.to_owned(),
            range: None,
            absence: engine::effect::Absence::Twice,
            deadline: self.inner.config.settings.other_deadline,
        };
        match self.inner.put_question(ask, Want::Raw).await? {
            Success::Read(Decoded::Raw(bytes)) => Ok(bytes),
            _ => Ok(Bytes::new()),
        }
    }

    /// The cluster's limits, asked for once. `None`: it does not tell.
    pub async fn info(&self) -> Option<Info> {
        let inner = &self.inner;
        let known = inner.info.get_or_try_init(|| async {
            match inner.fetch_info().await {
                Ok(info) => Ok(info),
                Err(broken) => Err(broken),
            }
        });
        known.await.ok().cloned().flatten()
    }

    async fn page(&self) -> u32 {
        let told = self.info().await.and_then(|i| i.container_listing_limit);
        told.unwrap_or(PAGE).clamp(1, PAGE_MAX)
    }

    /// Whether Swift can be used now: a new token, then one look at the account.
    pub async fn check(&self) -> Result<(), Health> {
        let inner = &self.inner;
        let config = &inner.config;
        let session =
            auth::authenticate(inner.http.fresh(), &config.credentials, config.auth_timeout)
                .await
                .map_err(Health::Auth)?;
        let storage_url = session.storage_url.clone();
        let request = crate::request::HttpRequest {
            call: crate::request::CallId(0),
            ticket: crate::request::Ticket(0),
            method: crate::request::Method::Get,
            path: "?format=json&limit=1".to_owned(),
            headers: Vec::new(),
            body: None,
            connection: crate::request::Connection::Fresh,
            token: crate::token::TokenId(0),
        };
        let exchange = inner
            .http
            .exchange(&request, &storage_url, &session.token, None);
        let received = tokio::time::timeout(config.settings.exchange_timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(Broken::Timeout.into()));
        match received {
            Ok(received) => match received.status {
                // 404: an account that never held anything; the first container makes it.
                200 | 204 | 404 => Ok(()),
                status @ (401 | 403) => Err(Health::Denied {
                    storage_url,
                    status,
                }),
                status => Err(Health::Status {
                    storage_url,
                    status,
                }),
            },
            Err(Lost { broken, reason }) => Err(Health::Unreachable {
                storage_url,
                broken,
                reason,
            }),
        }
    }

    /// Where Swift is, for people: the storage URL, or the identity service's before the first token.
    pub fn place(&self) -> String {
        let state = self.inner.lock();
        let session = state.sessions.values().next_back();
        session.map_or_else(
            || self.inner.config.credentials.identity.auth_url().to_owned(),
            |session| session.storage_url.clone(),
        )
    }

    /// Why the last authentication failed, if one did: the words behind [`StoreError::Denied`].
    pub fn last_auth_failure(&self) -> Option<AuthFailure> {
        let last = self.inner.last_auth_failure.lock();
        last.unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}

impl Inner {
    async fn put_question(
        self: &Arc<Self>,
        ask: Ask<Bytes>,
        want: Want,
    ) -> Result<Success<Decoded>, Failure> {
        let ticket = self.next_ticket();
        self.ask(ticket, ask, want, None).await
    }

    /// `GET /info` beside the account's path; needs no token.
    async fn fetch_info(&self) -> Result<Option<Info>, Broken> {
        let session = self.lock().sessions.values().next_back().cloned();
        let Some(session) = session else {
            // Before the first token we do not know where Swift is.
            return Err(Broken::Connect);
        };
        let Some((root, _)) = session.storage_url.split_once("/v1/") else {
            return Ok(None);
        };
        let request = self
            .http
            .fresh()
            .get(format!("{root}/info"))
            .timeout(self.config.settings.exchange_timeout);
        let received = receive(request, 1 << 20)
            .await
            .map_err(|lost| lost.broken)?;
        if received.status != 200 {
            return Ok(None);
        }
        let body: Option<InfoBody> = serde_json::from_slice(&received.body).ok();
        Ok(body.map(|body| Info {
            version: body.swift.version,
            max_file_size: body.swift.max_file_size,
            container_listing_limit: body.swift.container_listing_limit,
        }))
    }
}
