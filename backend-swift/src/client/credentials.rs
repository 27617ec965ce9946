//! Who we are to Swift: from the environment or `clouds.yaml`, in openstacksdk's order.
//!
//! 1. A cloud named by the configuration or `OS_CLOUD`, from `clouds.yaml`.
//! 2. `ST_AUTH`, `ST_USER`, `ST_KEY`, all three: TempAuth (or any Auth v1).
//! 3. `OS_AUTH_URL` and its kin: Keystone v3.
//! 4. The only cloud of a `clouds.yaml` that has just one.
//!
//! Secrets live in [`SecretString`]: no `Debug`, log or error shows them.

use super::clouds;
use secrecy::SecretString;
use std::fmt;
use std::path::{Path, PathBuf};

/// How to get a token and a storage URL.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The identity service's dialect, and who asks.
    pub identity: Identity,
    /// Use this storage URL in place of the one that the identity service names.
    pub endpoint_override: Option<String>,
    /// How TLS is checked.
    pub tls: TlsOptions,
}

/// An identity service and what it wants to know.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Auth v1: `GET` with `X-Auth-User` and `X-Auth-Key`.
    TempAuth {
        /// For example `http://127.0.0.1:8080/auth/v1.0`.
        auth_url: String,
        /// `account:user`.
        user: String,
        /// The key.
        key: SecretString,
    },
    /// Keystone, Identity API v3.
    Keystone {
        /// The service's root, with or without `/v3`.
        auth_url: String,
        /// What proves who we are.
        method: Box<KeystoneMethod>,
        /// What the token shall be good for; `None` for an application credential, which has its own.
        scope: Option<Project>,
        /// Which of the catalog's endpoints: `public`, `internal` or `admin`.
        interface: String,
        /// In which region; `None`: the first that the catalog names.
        region: Option<String>,
    },
}

impl Identity {
    /// Where it is asked.
    pub fn auth_url(&self) -> &str {
        match self {
            Self::TempAuth { auth_url, .. } | Self::Keystone { auth_url, .. } => auth_url,
        }
    }
}

/// What proves to Keystone who we are.
#[derive(Clone, Debug)]
pub enum KeystoneMethod {
    /// A user and a password.
    Password {
        /// The user.
        user: Named,
        /// The password.
        password: SecretString,
    },
    /// An application credential: by id, or by name and user.
    ApplicationCredential {
        /// Its id or name.
        id: Option<String>,
        /// Its name, if it has no id here; then `user` says whose.
        name: Option<String>,
        /// Its owner.
        user: Option<Named>,
        /// Its secret.
        secret: SecretString,
    },
    /// A token that somebody else got. It cannot be renewed when it has expired.
    Token(SecretString),
}

/// Something of Keystone's: by id, or by name within a domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// Its id.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its domain, for a name.
    pub domain: Domain,
}

/// A Keystone project.
pub type Project = Named;

/// A Keystone domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Domain {
    /// By id. Keystone's first domain has the id `default`.
    Id(String),
    /// By name.
    Name(String),
}

/// How TLS is checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlsOptions {
    /// Authorities in PEM that are trusted beside the system's.
    pub cacert: Option<PathBuf>,
    /// Check nothing: for laboratories.
    pub insecure: bool,
    /// A client certificate and its key in PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Why there are no usable credentials.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CredentialsError {
    /// Neither variables nor a file say who we are.
    Nowhere,
    /// A value is missing.
    Missing {
        /// The variable or key.
        key: String,
        /// Where it should be.
        place: String,
    },
    /// A value cannot be used.
    Invalid {
        /// The variable or key.
        key: String,
        /// What is wrong with it; never the value of a secret.
        reason: String,
        /// Where it is.
        place: String,
    },
    /// There is no `clouds.yaml`.
    NoCloudsFile {
        /// The cloud that was wanted.
        cloud: String,
        /// Where we looked.
        tried: Vec<PathBuf>,
    },
    /// `clouds.yaml` does not have this cloud.
    NoSuchCloud {
        /// The cloud that was wanted.
        cloud: String,
        /// The file.
        file: PathBuf,
        /// What it has.
        known: Vec<String>,
    },
    /// A file cannot be read or understood.
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str(
                "no credentials: set OS_CLOUD, or OS_AUTH_URL and its kin, or ST_AUTH, ST_USER and ST_KEY",
            ),
            Self::Missing { key, place } => write!(f, "{key} is missing in {place}"),
            Self::Invalid { key, reason, place } => write!(f, "{key} in {place}: {reason}"),
            Self::NoCloudsFile { cloud, tried } => {
                write!(f, "cloud {cloud} is wanted, and there is no clouds.yaml in")?;
                tried.iter().try_for_each(|p| write!(f, " {}", p.display()))
            }
            Self::NoSuchCloud { cloud, file, known } => {
                write!(f, "{} has no cloud {cloud}; it has {}", file.display(), known.join(", "))
            }
            Self::File { file, reason } => write!(f, "{}: {reason}", file.display()),
        }
    }
}

impl std::error::Error for CredentialsError {}

/// The world that credentials are looked up in; tests bring their own.
pub struct Surroundings<'a> {
    /// An environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// A file's text; `Ok(None)`: there is none.
    pub file: &'a dyn Fn(&Path) -> std::io::Result<Option<String>>,
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Surroundings")
    }
}

impl Credentials {
    /// Looks in this process's environment and files. `cloud`: the configuration's choice, before `OS_CLOUD`.
    pub fn find(cloud: Option<&str>) -> Result<Self, CredentialsError> {
        let surroundings = Surroundings {
            variable: &|name| std::env::var(name).ok(),
            file: &|path| match std::fs::read_to_string(path) {
                Ok(text) => Ok(Some(text)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(e),
            },
        };
        Self::find_in(cloud, &surroundings)
    }

    /// Looks in `surroundings`.
    pub fn find_in(
        cloud: Option<&str>,
        surroundings: &Surroundings<'_>,
    ) -> Result<Self, CredentialsError> {
        let variable = |name: &str| (surroundings.variable)(name).filter(|v| !v.is_empty());
        if let Some(cloud) = cloud.map(str::to_owned).or_else(|| variable("OS_CLOUD")) {
            return clouds::load(Some(&cloud), surroundings);
        }
        let lookup = Lookup {
            place: "the environment".to_owned(),
            value: &|key| variable(&environment_name(key)),
        };
        if let (Some(auth_url), Some(user), Some(key)) =
            (variable("ST_AUTH"), variable("ST_USER"), variable("ST_KEY"))
        {
            return Ok(Self {
                identity: Identity::TempAuth {
                    auth_url,
                    user,
                    key: key.into(),
                },
                endpoint_override: variable("OS_STORAGE_URL"),
                tls: lookup.tls()?,
            });
        }
        if variable("OS_AUTH_URL").is_some() {
            let mut found = lookup.credentials()?;
            found.endpoint_override = found
                .endpoint_override
                .or_else(|| variable("OS_STORAGE_URL"));
            return Ok(found);
        }
        match clouds::load(None, surroundings) {
            Err(CredentialsError::NoCloudsFile { .. }) => Err(CredentialsError::Nowhere),
            other => other,
        }
    }
}

/// `region_name` → `OS_REGION_NAME`.
fn environment_name(key: &str) -> String {
    format!("OS_{}", key.to_uppercase())
}

/// Keys as `clouds.yaml` spells them, wherever they come from.
pub(crate) struct Lookup<'a> {
    pub(crate) place: String,
    pub(crate) value: &'a dyn Fn(&str) -> Option<String>,
}

impl Lookup<'_> {
    fn first(&self, keys: &[&str]) -> Option<String> {
        keys.iter().find_map(|key| (self.value)(key))
    }

    fn needed(&self, keys: &[&str]) -> Result<String, CredentialsError> {
        self.first(keys).ok_or_else(|| CredentialsError::Missing {
            key: keys.first().copied().unwrap_or_default().to_owned(),
            place: self.place.clone(),
        })
    }

    fn invalid(&self, key: &str, reason: &str) -> CredentialsError {
        CredentialsError::Invalid {
            key: key.to_owned(),
            reason: reason.to_owned(),
            place: self.place.clone(),
        }
    }

    pub(crate) fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let auth_type = self
            .first(&["auth_type"])
            .unwrap_or_else(|| self.guess_auth_type());
        let identity = match auth_type.as_str() {
            "password" | "v3password" | "v3applicationcredential" | "token" | "v3token" => {
                self.keystone(&auth_type)?
            }
            // swiftclient's name for TempAuth, and the one that people write.
            "v1password" | "v1" | "tempauth" => Identity::TempAuth {
                auth_url: self.needed(&["auth_url"])?,
                user: self.needed(&["username", "user"])?,
                key: self.needed(&["password"])?.into(),
            },
            _ => {
                return Err(self.invalid(
                    "auth_type",
                    "must be v3password, v3applicationcredential, v3token or v1password",
                ));
            }
        };
        if self
            .first(&["identity_api_version"])
            .is_some_and(|v| v.starts_with('2'))
        {
            return Err(self.invalid("identity_api_version", "only 3 is spoken"));
        }
        Ok(Credentials {
            identity,
            endpoint_override: self.first(&["object_store_endpoint_override"]),
            tls: self.tls()?,
        })
    }

    fn guess_auth_type(&self) -> String {
        let has = |keys: &[&str]| self.first(keys).is_some();
        if has(&["application_credential_secret"]) {
            "v3applicationcredential"
        } else if has(&["token"]) && !has(&["password"]) {
            "v3token"
        } else {
            "v3password"
        }
        .to_owned()
    }

    fn keystone(&self, auth_type: &str) -> Result<Identity, CredentialsError> {
        let method = match auth_type {
            "v3applicationcredential" => KeystoneMethod::ApplicationCredential {
                id: self.first(&["application_credential_id"]),
                name: self.first(&["application_credential_name"]),
                user: self.user(),
                secret: self.needed(&["application_credential_secret"])?.into(),
            },
            "token" | "v3token" => KeystoneMethod::Token(self.needed(&["token"])?.into()),
            _ => KeystoneMethod::Password {
                user: self.user().ok_or_else(|| CredentialsError::Missing {
                    key: "username".to_owned(),
                    place: self.place.clone(),
                })?,
                password: self.needed(&["password"])?.into(),
            },
        };
        if let KeystoneMethod::ApplicationCredential { id, name, user, .. } = &method
            && id.is_none()
            && (name.is_none() || user.is_none())
        {
            return Err(CredentialsError::Missing {
                key: "application_credential_id".to_owned(),
                place: self.place.clone(),
            });
        }
        let scope = match method {
            KeystoneMethod::ApplicationCredential { .. } => None,
            _ => Some(self.project()?),
        };
        let interface = self
            .first(&["interface", "endpoint_type"])
            .unwrap_or_else(|| "public".to_owned());
        Ok(Identity::Keystone {
            auth_url: self.needed(&["auth_url"])?,
            method: Box::new(method),
            scope,
            interface: interface.trim_end_matches("URL").to_owned(),
            region: self.first(&["region_name"]),
        })
    }

    fn user(&self) -> Option<Named> {
        let (id, name) = (
            self.first(&["user_id"]),
            self.first(&["username", "user_name"]),
        );
        (id.is_some() || name.is_some()).then(|| Named {
            id,
            name,
            domain: self.domain("user"),
        })
    }

    fn project(&self) -> Result<Project, CredentialsError> {
        let id = self.first(&["project_id", "tenant_id"]);
        let name = match &id {
            Some(_) => None,
            None => Some(self.needed(&["project_name", "tenant_name"])?),
        };
        Ok(Project {
            id,
            name,
            domain: self.domain("project"),
        })
    }

    fn domain(&self, whose: &str) -> Domain {
        let key = |suffix| format!("{whose}_domain_{suffix}");
        if let Some(id) = self.first(&[&key("id"), "domain_id"]) {
            Domain::Id(id)
        } else if let Some(name) = self.first(&[&key("name"), "domain_name"]) {
            Domain::Name(name)
        } else {
            Domain::Id(
                self.first(&["default_domain"])
                    .unwrap_or_else(|| "default".to_owned()),
            )
        }
    }

    pub(crate) fn tls(&self) -> Result<TlsOptions, CredentialsError> {
        let switch = |key| match self.first(&[key]).as_deref() {
            None => Ok(None),
            Some("true" | "True" | "1" | "yes") => Ok(Some(true)),
            Some("false" | "False" | "0" | "no") => Ok(Some(false)),
            Some(_) => Err(self.invalid(key, "must be true or false")),
        };
        let insecure = match (switch("insecure")?, switch("verify")?) {
            (Some(insecure), _) => insecure,
            (None, Some(verify)) => !verify,
            (None, None) => false,
        };
        let client = match (self.first(&["cert"]), self.first(&["key"])) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (Some(_), None) => return Err(self.invalid("cert", "comes without key")),
            _ => None,
        };
        Ok(TlsOptions {
            cacert: self.first(&["cacert"]).map(PathBuf::from),
            insecure,
            client,
        })
    }
}

#[cfg(test)]
mod tests;
