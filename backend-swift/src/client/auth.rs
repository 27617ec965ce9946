//! Getting a token: TempAuth's Auth v1 and Keystone's Identity v3.

use super::credentials::{Credentials, Domain, Identity, KeystoneMethod, Named, Project};
use super::http::{chain, classify};
use crate::exchange::Broken;
use crate::token::AuthError;
use engine::time::Duration;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::fmt;

/// A token and where it is good.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) storage_url: String,
    pub(crate) token: SecretString,
    /// How long it is good from when it was issued, if the service said so.
    pub(crate) life: Option<Duration>,
}

/// Why there is no session.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AuthFailure {
    /// The credentials are wrong, says the service at this URL.
    WrongCredentials {
        /// The service.
        auth_url: String,
    },
    /// The service cannot be reached.
    Unreachable {
        /// The service.
        auth_url: String,
        /// Whether it is TLS, the connection or something else.
        broken: Broken,
        /// The causes in words.
        reason: String,
    },
    /// It answers, and not with a token.
    Status {
        /// The service.
        auth_url: String,
        /// Its answer.
        status: u16,
    },
    /// Its answer cannot be understood: not such a service.
    Unreadable {
        /// The service.
        auth_url: String,
    },
    /// Its catalog has no object store that fits.
    NoEndpoint {
        /// The interface that was wanted.
        interface: String,
        /// The region that was wanted.
        region: Option<String>,
        /// `interface region` of each endpoint that it has.
        known: Vec<String>,
    },
}

impl AuthFailure {
    pub(crate) const fn error(&self) -> AuthError {
        match self {
            Self::WrongCredentials { .. } => AuthError::Refused,
            _ => AuthError::Unavailable,
        }
    }
}

impl fmt::Display for AuthFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongCredentials { auth_url } => {
                write!(f, "{auth_url} refuses the credentials")
            }
            Self::Unreachable {
                auth_url,
                broken: Broken::Tls,
                reason,
            } => write!(f, "no TLS with {auth_url}: {reason}"),
            Self::Unreachable {
                auth_url, reason, ..
            } => {
                write!(f, "{auth_url} cannot be reached: {reason}")
            }
            Self::Status { auth_url, status } => write!(f, "{auth_url} answers {status}"),
            Self::Unreadable { auth_url } => {
                write!(f, "{auth_url} does not answer like an identity service")
            }
            Self::NoEndpoint {
                interface,
                region,
                known,
            } => {
                let region = region.as_deref().unwrap_or("any region");
                write!(
                    f,
                    "the catalog has no object-store with interface {interface} in {region}; it has: {}",
                    known.join(", ")
                )
            }
        }
    }
}

impl std::error::Error for AuthFailure {}

/// Asks for a token once.
pub(crate) async fn authenticate(
    http: &reqwest::Client,
    credentials: &Credentials,
    timeout: Duration,
) -> Result<Session, AuthFailure> {
    let mut session = match &credentials.identity {
        Identity::TempAuth {
            auth_url,
            user,
            key,
        } => temp_auth(http, auth_url, user, key, timeout).await?,
        Identity::Keystone {
            auth_url,
            method,
            scope,
            interface,
            region,
        } => {
            let fixed = credentials.endpoint_override.as_deref();
            let body = token_request(method, scope.as_ref());
            let url = tokens_url(auth_url);
            let answer = keystone(http, &url, &body, timeout).await?;
            read_token(&url, answer, interface, region.as_deref(), fixed)?
        }
    };
    if let Some(url) = &credentials.endpoint_override {
        session.storage_url.clone_from(url);
    }
    let trimmed = session.storage_url.trim_end_matches('/').len();
    session.storage_url.truncate(trimmed);
    Ok(session)
}

/// Only the status, the needed headers and the body leave here: nothing that a log could not hold but the token.
async fn send(
    auth_url: &str,
    builder: reqwest::RequestBuilder,
    timeout: Duration,
) -> Result<reqwest::Response, AuthFailure> {
    let response = builder
        .timeout(timeout)
        .send()
        .await
        .map_err(|e| AuthFailure::Unreachable {
            auth_url: auth_url.to_owned(),
            broken: classify(&e),
            reason: chain(&e.without_url()),
        })?;
    match response.status().as_u16() {
        200..=299 => Ok(response),
        401 | 403 => Err(AuthFailure::WrongCredentials {
            auth_url: auth_url.to_owned(),
        }),
        status => Err(AuthFailure::Status {
            auth_url: auth_url.to_owned(),
            status,
        }),
    }
}

fn sensitive(secret: &SecretString) -> Option<reqwest::header::HeaderValue> {
    let mut value = reqwest::header::HeaderValue::from_str(secret.expose_secret()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

async fn temp_auth(
    http: &reqwest::Client,
    auth_url: &str,
    user: &str,
    key: &SecretString,
    timeout: Duration,
) -> Result<Session, AuthFailure> {
    // A key that no header can hold is no key of theirs.
    let key = sensitive(key).ok_or_else(|| AuthFailure::WrongCredentials {
        auth_url: auth_url.to_owned(),
    })?;
    let request = http
        .get(auth_url)
        .header("X-Auth-User", user)
        .header("X-Auth-Key", key);
    let response = send(auth_url, request, timeout).await?;
    let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    let unreadable = || AuthFailure::Unreadable {
        auth_url: auth_url.to_owned(),
    };
    Ok(Session {
        storage_url: header("X-Storage-Url").ok_or_else(unreadable)?,
        token: header("X-Auth-Token").ok_or_else(unreadable)?.into(),
        life: header("X-Auth-Token-Expires")
            .and_then(|s| s.parse().ok())
            .map(Duration::from_secs),
    })
}

/// `…/v3/auth/tokens`, whether or not the operator wrote the version.
fn tokens_url(auth_url: &str) -> String {
    let root = auth_url.trim_end_matches('/');
    if root.ends_with("/v3") {
        format!("{root}/auth/tokens")
    } else {
        format!("{root}/v3/auth/tokens")
    }
}

fn named(named: &Named) -> Value {
    let domain = match &named.domain {
        Domain::Id(id) => json!({ "id": id }),
        Domain::Name(name) => json!({ "name": name }),
    };
    match (&named.id, &named.name) {
        (Some(id), _) => json!({ "id": id }),
        (None, name) => json!({ "name": name, "domain": domain }),
    }
}

/// The body of `POST /v3/auth/tokens`. Identity API v3, "Password authentication with scoped authorization" and its
/// kin.
fn token_request(method: &KeystoneMethod, scope: Option<&Project>) -> Value {
    let (name, proof) = match method {
        KeystoneMethod::Password { user, password } => {
            let mut user = named(user);
            user["password"] = json!(password.expose_secret());
            ("password", json!({ "user": user }))
        }
        KeystoneMethod::ApplicationCredential {
            id,
            name,
            user,
            secret,
        } => {
            let secret = secret.expose_secret();
            let proof = match id {
                Some(id) => json!({ "id": id, "secret": secret }),
                None => json!({ "name": name, "user": user.as_ref().map(named), "secret": secret }),
            };
            ("application_credential", proof)
        }
        KeystoneMethod::Token(token) => ("token", json!({ "id": token.expose_secret() })),
    };
    let mut auth = json!({ "identity": { "methods": [name] } });
    auth["identity"][name] = proof;
    if let Some(project) = scope {
        auth["scope"] = json!({ "project": named(project) });
    }
    json!({ "auth": auth })
}

struct TokenAnswer {
    token: SecretString,
    body: Value,
}

async fn keystone(
    http: &reqwest::Client,
    url: &str,
    body: &Value,
    timeout: Duration,
) -> Result<TokenAnswer, AuthFailure> {
    let request = http
        .post(url)
        .header("Content-Type", "application/json")
        .header("Accept", "application/json")
        .body(body.to_string());
    let response = send(url, request, timeout).await?;
    let unreadable = || AuthFailure::Unreadable {
        auth_url: url.to_owned(),
    };
    let token = response
        .headers()
        .get("X-Subject-Token")
        .and_then(|v| v.to_str().ok())
        .map(|t| SecretString::from(t.to_owned()))
        .ok_or_else(unreadable)?;
    let bytes = response
        .bytes()
        .await
        .map_err(|e| AuthFailure::Unreachable {
            auth_url: url.to_owned(),
            broken: Broken::Short,
            reason: chain(&e.without_url()),
        })?;
    let body = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
    Ok(TokenAnswer { token, body })
}

fn read_token(
    url: &str,
    answer: TokenAnswer,
    interface: &str,
    region: Option<&str>,
    fixed: Option<&str>,
) -> Result<Session, AuthFailure> {
    let token = &answer.body["token"];
    if !token.is_object() {
        return Err(AuthFailure::Unreadable {
            auth_url: url.to_owned(),
        });
    }
    let seconds = |key: &str| unix_seconds(token[key].as_str()?);
    // Both by the service's clock, so that ours does not matter.
    let life = match (seconds("issued_at"), seconds("expires_at")) {
        (Some(from), Some(to)) => Some(Duration::from_secs(to.saturating_sub(from))),
        _ => None,
    };
    let storage_url = match fixed {
        Some(url) => url.to_owned(),
        None => endpoint(token, interface, region)?,
    };
    Ok(Session {
        storage_url,
        token: answer.token,
        life,
    })
}

fn endpoint(token: &Value, interface: &str, region: Option<&str>) -> Result<String, AuthFailure> {
    let empty = Vec::new();
    let endpoints: Vec<&Value> = token["catalog"]
        .as_array()
        .unwrap_or(&empty)
        .iter()
        .filter(|service| service["type"] == "object-store")
        .flat_map(|service| service["endpoints"].as_array().unwrap_or(&empty))
        .collect();
    let region_of = |e: &Value| {
        let region = e["region_id"].as_str().or_else(|| e["region"].as_str());
        region.unwrap_or("").to_owned()
    };
    endpoints
        .iter()
        .filter(|e| e["interface"] == interface)
        .filter(|e| region.is_none_or(|r| region_of(e) == r))
        .find_map(|e| e["url"].as_str())
        .map(str::to_owned)
        .ok_or_else(|| AuthFailure::NoEndpoint {
            interface: interface.to_owned(),
            region: region.map(str::to_owned),
            known: endpoints
                .iter()
                .map(|e| {
                    let interface = e["interface"].as_str().unwrap_or("?");
                    format!("{interface} {}", region_of(e))
                })
                .collect(),
        })
}

/// Seconds since 1970 of `2026-11-24T12:00:00.000000Z`; `None` for anything else.
fn unix_seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let three = |text: &str, by: char| -> Option<[u64; 3]> {
        let mut parts = text.split(by).map(|p| p.parse().ok());
        let found = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(found)
    };
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(time.split('.').next()?, ':')?;
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970-01-01 with years that begin in March, so that the leap day is the last one.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_1970() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(
            unix_seconds("2026-11-24T09:12:03.000000Z"),
            Some(1_795_511_523)
        );
        assert_eq!(unix_seconds("2028-02-29T23:59:59Z"), Some(1_835_481_599));
        for bad in [
            "",
            "2026-11-24",
            "2026-11-24T09:12:03",
            "1969-01-01T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-1-1-1T0:0:0Z",
        ] {
            assert_eq!(unix_seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_version_is_added_where_it_is_missing() {
        for url in [
            "http://k:5000",
            "http://k:5000/",
            "http://k:5000/v3",
            "http://k:5000/v3/",
        ] {
            assert_eq!(tokens_url(url), "http://k:5000/v3/auth/tokens");
        }
        assert_eq!(
            tokens_url("http://k/identity"),
            "http://k/identity/v3/auth/tokens"
        );
    }

    fn demo() -> Named {
        Named {
            id: None,
            name: Some("demo".to_owned()),
            domain: Domain::Id("default".to_owned()),
        }
    }

    #[test]
    fn the_four_ways_to_ask() {
        let ask = |method, scope: Option<&Project>| token_request(&method, scope)["auth"].clone();
        let domain = json!({ "name": "demo", "domain": { "id": "default" } });
        let password = KeystoneMethod::Password {
            user: demo(),
            password: "pw".to_owned().into(),
        };
        let mut user = domain.clone();
        user["password"] = json!("pw");
        assert_eq!(
            ask(password, Some(&demo())),
            json!({
                "identity": { "methods": ["password"], "password": { "user": user } },
                "scope": { "project": domain },
            })
        );
        let by_id = KeystoneMethod::ApplicationCredential {
            id: Some("abc".to_owned()),
            name: None,
            user: None,
            secret: "s".to_owned().into(),
        };
        assert_eq!(
            ask(by_id, None),
            json!({ "identity": { "methods": ["application_credential"],
                "application_credential": { "id": "abc", "secret": "s" } } })
        );
        let by_name = KeystoneMethod::ApplicationCredential {
            id: None,
            name: Some("n".to_owned()),
            user: Some(demo()),
            secret: "s".to_owned().into(),
        };
        assert_eq!(
            ask(by_name, None)["identity"]["application_credential"],
            json!({ "name": "n", "user": domain, "secret": "s" })
        );
        let token = KeystoneMethod::Token("t".to_owned().into());
        assert_eq!(ask(token, None)["identity"]["token"], json!({ "id": "t" }));
    }

    fn read(interface: &str, region: Option<&str>) -> Result<Session, AuthFailure> {
        let endpoint = |interface, region, url| json!({ "interface": interface, "region_id": region, "url": url });
        let body = json!({ "token": {
            "issued_at": "2026-11-24T09:00:00.000000Z",
            "expires_at": "2026-11-24T10:00:00.000000Z",
            "catalog": [
                { "type": "identity", "endpoints": [endpoint("public", "R1", "http://no")] },
                { "type": "object-store", "endpoints": [
                    endpoint("internal", "R1", "http://i"),
                    endpoint("public", "R1", "http://p1"),
                    endpoint("public", "R2", "http://p2"),
                ] },
            ],
        } });
        let token = "t".to_owned().into();
        read_token(
            "http://k",
            TokenAnswer { token, body },
            interface,
            region,
            None,
        )
    }

    #[test]
    fn the_catalog_is_searched_by_interface_and_region() {
        let url = |i, r| read(i, r).expect("an endpoint").storage_url;
        assert_eq!(url("public", None), "http://p1");
        assert_eq!(url("public", Some("R2")), "http://p2");
        assert_eq!(url("internal", Some("R1")), "http://i");
        let life = read("public", None).expect("an endpoint").life;
        assert_eq!(life, Some(Duration::from_secs(3600)));
        assert_eq!(
            read("admin", Some("R9")).expect_err("none").to_string(),
            "the catalog has no object-store with interface admin in R9; it has: internal R1, public R1, public R2"
        );
    }
}
