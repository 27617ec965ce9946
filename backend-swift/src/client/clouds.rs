//! `clouds.yaml`, `secure.yaml` and `clouds-public.yaml` as openstacksdk reads them.
//!
//! The first file found wins: `OS_CLIENT_CONFIG_FILE`, else `./`, `~/.config/openstack/`, `/etc/openstack/`. The
//! `secure.yaml` found likewise lies over it; a `profile` of `clouds-public.yaml` lies under it.

use super::credentials::{Credentials, CredentialsError, Lookup, Surroundings};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The credentials of `cloud`; of the only one for `None`.
pub(crate) fn load(
    cloud: Option<&str>,
    surroundings: &Surroundings<'_>,
) -> Result<Credentials, CredentialsError> {
    let shown = cloud.unwrap_or("(the only one)");
    let (file, mut tree) = first_file("OS_CLIENT_CONFIG_FILE", "clouds.yaml", surroundings)?
        .map_err(|tried| CredentialsError::NoCloudsFile {
            cloud: shown.to_owned(),
            tried,
        })?;
    if let Ok((_, secure)) = first_file("OS_CLIENT_SECURE_FILE", "secure.yaml", surroundings)? {
        overlay(&mut tree, secure);
    }
    let mut clouds = match tree.get_mut("clouds").map(Value::take) {
        Some(Value::Object(clouds)) => clouds,
        _ => Map::new(),
    };
    let known: Vec<String> = clouds.keys().cloned().collect();
    let name = match (cloud, known.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, _) => return Err(CredentialsError::Nowhere),
    };
    let Some(mut entry) = clouds.remove(name).filter(Value::is_object) else {
        return Err(CredentialsError::NoSuchCloud {
            cloud: name.to_owned(),
            file,
            known,
        });
    };
    if let Some(profile) = entry.get("profile").and_then(Value::as_str) {
        let public = first_file("OS_CLIENT_VENDOR_FILE", "clouds-public.yaml", surroundings)?;
        let found = public.ok().and_then(|(_, mut tree)| {
            Some(tree.get_mut("public-clouds")?.get_mut(profile)?.take())
        });
        let Some(mut under) = found else {
            return Err(CredentialsError::Invalid {
                key: "profile".to_owned(),
                reason: format!("clouds-public.yaml has no {profile}"),
                place: format!("{} of {}", name, file.display()),
            });
        };
        overlay(&mut under, entry);
        entry = under;
    }
    let value = |key: &str| {
        let inner = entry.get("auth").and_then(|auth| auth.get(key));
        text(inner.or_else(|| entry.get(key))?)
    };
    Lookup {
        place: format!("{} of {}", name, file.display()),
        value: &value,
    }
    .credentials()
}

/// A scalar as text; of a list (regions) the first.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Array(list) => text(list.first()?),
        Value::Object(map) => text(map.get("name")?),
        Value::Null => None,
    }
}

/// `over` wins; maps join.
fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                overlay(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

type Found = Result<(PathBuf, Value), Vec<PathBuf>>;

/// The first file that exists, or where we looked.
fn first_file(
    variable: &str,
    name: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Found, CredentialsError> {
    let lookup = |v: &str| (surroundings.variable)(v).filter(|v| !v.is_empty());
    let mut tried = Vec::new();
    if let Some(path) = lookup(variable) {
        tried.push(PathBuf::from(path));
    }
    tried.push(PathBuf::from(name));
    let config = lookup("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&lookup("HOME")?).join(".config")));
    tried.extend(config.map(|c| c.join("openstack").join(name)));
    tried.push(Path::new("/etc/openstack").join(name));
    for path in &tried {
        let wrong = |reason: String| CredentialsError::File {
            file: path.clone(),
            reason,
        };
        let Some(content) = (surroundings.file)(path).map_err(|e| wrong(e.to_string()))? else {
            continue;
        };
        // The parser's report may quote the text around the error, and that may be a password.
        let tree = serde_saphyr::from_str(&content)
            .map_err(|_| wrong("is not the YAML that openstacksdk reads".to_owned()))?;
        return Ok(Ok((path.clone(), tree)));
    }
    Ok(Err(tried))
}
