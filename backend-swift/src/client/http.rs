//! The bytes of one exchange, and nothing more: what they mean is the machine's business.

use super::config::SwiftConfig;
use super::credentials::TlsOptions;
use crate::answer::Headers;
use crate::exchange::{Broken, Cause};
use crate::request::{Connection, HttpRequest, Method};
use bytes::{Bytes, BytesMut};
use secrecy::{ExposeSecret, SecretString};
use std::error::Error as _;
use std::io;

/// The headers that the machine may ask for.
const HEADERS: [&str; 8] = [
    "content-length",
    "content-range",
    "etag",
    "retry-after",
    "x-container-object-count",
    "x-container-bytes-used",
    "x-trans-id",
    "x-timestamp",
];

/// The longest body taken when no length was asked for: a listing's page of 10,000 names is 1.7 MB, a root of a full
/// 64 TiB volume 1 MiB.
const BODY_MAX: u64 = 64 << 20;

/// Bodies of bad answers: Swift's are a sentence; they are read only to keep the connection.
const ERROR_BODY_MAX: u64 = 64 << 10;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
}

/// Two clients: one with a pool, one that connects anew each time.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    pooled: reqwest::Client,
    fresh: reqwest::Client,
}

/// An exchange without a (whole) answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lost {
    pub(crate) broken: Broken,
    /// For people.
    pub(crate) reason: String,
}

impl From<Broken> for Lost {
    fn from(broken: Broken) -> Self {
        let reason = Cause::Broken(broken).to_string();
        Self { broken, reason }
    }
}

impl Lost {
    fn of(error: reqwest::Error) -> Self {
        let broken = classify(&error);
        let reason = chain(&error.without_url());
        Self { broken, reason }
    }
}

/// Why there is no HTTP client.
#[derive(Debug)]
pub struct BuildError(pub(crate) String);

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BuildError {}

impl Http {
    pub(crate) fn new(config: &SwiftConfig) -> Result<Self, BuildError> {
        #[cfg(feature = "tls")]
        install_tls_provider();
        let build = |idle: usize| -> Result<reqwest::Client, BuildError> {
            let mut builder = reqwest::Client::builder()
                .user_agent(concat!("martlet/", env!("CARGO_PKG_VERSION")))
                .http1_only()
                .redirect(reqwest::redirect::Policy::none())
                // The count of tries is the machine's.
                .retry(reqwest::retry::never())
                .no_proxy()
                .connect_timeout(config.connect_timeout)
                .pool_idle_timeout(config.pool_idle)
                .pool_max_idle_per_host(idle)
                .tcp_keepalive(config.pool_idle);
            // A peer that vanished is noticed while bytes wait to be acknowledged, too.
            #[cfg(target_os = "linux")]
            {
                builder = builder.tcp_user_timeout(config.pool_idle);
            }
            if let Some(proxy) = &config.proxy {
                let proxy = reqwest::Proxy::all(proxy)
                    .map_err(|_| BuildError("swift.proxy is not a URL".to_owned()))?;
                builder = builder.proxy(proxy);
            }
            builder = tls(builder, &config.credentials.tls)?;
            builder
                .build()
                .map_err(|e| BuildError(format!("cannot make the HTTP client: {}", chain(&e))))
        };
        Ok(Self {
            pooled: build(config.pool_size)?,
            fresh: build(0)?,
        })
    }

    /// The client that connects anew: for authentication, too.
    pub(crate) const fn fresh(&self) -> &reqwest::Client {
        &self.fresh
    }

    /// Makes the exchange. `expected`: bytes of the body if known.
    pub(crate) async fn exchange(
        &self,
        request: &HttpRequest<Bytes>,
        storage_url: &str,
        token: &SecretString,
        expected: Option<u64>,
    ) -> Result<Received, Lost> {
        let client = match request.connection {
            Connection::Pooled => &self.pooled,
            Connection::Fresh => &self.fresh,
        };
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Head => reqwest::Method::HEAD,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut builder = client
            .request(method, format!("{storage_url}{}", request.path))
            .header("X-Auth-Token", secret_value(token)?);
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some((body, _)) = &request.body {
            builder = builder.body(body.clone());
        }
        receive(builder, expected.unwrap_or(BODY_MAX)).await
    }
}

fn secret_value(secret: &SecretString) -> Result<reqwest::header::HeaderValue, Broken> {
    let mut value = reqwest::header::HeaderValue::from_str(secret.expose_secret())
        .map_err(|_| Broken::Protocol)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Sends and reads the whole answer, at most `limit` bytes of a good one's body.
pub(crate) async fn receive(
    builder: reqwest::RequestBuilder,
    limit: u64,
) -> Result<Received, Lost> {
    let mut response = builder.send().await.map_err(Lost::of)?;
    let status = response.status();
    let limit = if status.is_success() {
        limit
    } else {
        ERROR_BODY_MAX
    };
    let text = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some((name.to_owned(), value.to_owned()))
    };
    let headers = Headers(HEADERS.iter().filter_map(|n| text(n)).collect());
    let announced = response.content_length().unwrap_or(0).min(limit);
    let mut body = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
    while let Some(piece) = response.chunk().await.map_err(|e| classify_body(&e))? {
        if (body.len() + piece.len()) as u64 > limit {
            // More than was asked for: the connection is dropped with the rest, and the length will not match.
            if status.is_success() {
                return Err(Broken::Protocol.into());
            }
            break;
        }
        body.extend_from_slice(&piece);
    }
    Ok(Received {
        status: status.as_u16(),
        headers,
        body: body.freeze(),
    })
}

fn sources(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let this = next?;
        next = this.source();
        Some(this)
    })
}

/// The error and all its causes; reqwest puts the URL into the first, which holds no secret.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    for source in sources(error) {
        let more = source.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
    }
    text
}

/// What became of an exchange without an answer.
pub(crate) fn classify(error: &reqwest::Error) -> Broken {
    if error.is_connect() {
        return if is_tls(error) {
            Broken::Tls
        } else {
            Broken::Connect
        };
    }
    if error.is_timeout() {
        return Broken::Timeout;
    }
    let is_parse = sources(error)
        .filter_map(|e| e.downcast_ref::<hyper::Error>())
        .any(|e| e.is_parse() && !e.is_incomplete_message());
    if is_parse || error.is_builder() {
        Broken::Protocol
    } else {
        Broken::Closed
    }
}

fn classify_body(error: &reqwest::Error) -> Broken {
    if error.is_timeout() {
        return Broken::Timeout;
    }
    let is_reset = sources(error)
        .filter_map(|e| e.downcast_ref::<io::Error>())
        .any(|e| e.kind() == io::ErrorKind::ConnectionReset);
    if is_reset {
        Broken::Closed
    } else {
        Broken::Short
    }
}

#[cfg(feature = "tls")]
fn is_tls(error: &reqwest::Error) -> bool {
    // An io::Error hides what it wraps from `source`, and may wrap another io::Error.
    fn is_rustls(error: &(dyn std::error::Error + 'static)) -> bool {
        let wrapped = error.downcast_ref::<io::Error>().and_then(|e| e.get_ref());
        error.is::<rustls::Error>() || wrapped.is_some_and(|e| is_rustls(e))
    }
    sources(error).any(is_rustls)
}

#[cfg(not(feature = "tls"))]
const fn is_tls(_: &reqwest::Error) -> bool {
    false
}

/// reqwest panics without a provider, even for plain HTTP; who installed one before keeps it.
#[cfg(feature = "tls")]
fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(feature = "tls")]
fn tls(
    mut builder: reqwest::ClientBuilder,
    options: &TlsOptions,
) -> Result<reqwest::ClientBuilder, BuildError> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|e| BuildError(format!("{}: {e}", path.display())))
    };
    let pem = |path: &std::path::Path| {
        BuildError(format!(
            "{}: holds no certificate or key in PEM",
            path.display()
        ))
    };
    if let Some(path) = &options.cacert {
        let certs = reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(|_| pem(path))?;
        if certs.is_empty() {
            // What is no PEM at all is read as a bundle of none.
            return Err(pem(path));
        }
        builder = builder.tls_certs_merge(certs);
    }
    if let Some((cert, key)) = &options.client {
        let both = [read(cert)?, read(key)?].concat();
        let identity = reqwest::Identity::from_pem(&both).map_err(|_| pem(cert))?;
        builder = builder.identity(identity);
    }
    Ok(builder.tls_danger_accept_invalid_certs(options.insecure))
}

#[cfg(not(feature = "tls"))]
fn tls(
    builder: reqwest::ClientBuilder,
    options: &TlsOptions,
) -> Result<reqwest::ClientBuilder, BuildError> {
    if *options == TlsOptions::default() {
        Ok(builder)
    } else {
        Err(BuildError("this program was built without TLS".to_owned()))
    }
}
