//! Swift behind TLS: an authority of one's own is trusted when named, and nobody else's.

use crate::support::{Folder, Host, Store, text, tool};
use testkit::{Keystone, Swift, SwiftOptions, TlsRelay};

#[test]
fn swift_behind_tls_is_used_when_its_authority_is_trusted() {
    let folder = Folder::new("tls");
    let store = Store::swift();
    let front = TlsRelay::start(store.real_swift().port("proxy"));
    // TempAuth names the storage as it is reached behind the front: without TLS.
    let storage = format!("{}/v1/AUTH_test", front.url());
    let distrustful = Host::new(&store, &folder.join("state"))
        .through(front.url())
        .variable("OS_STORAGE_URL", &storage);
    let create = ["volume", "create", "vm", "--size", "8MiB"];
    let refused = distrustful.run(&create);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    for part in ["no TLS with https://127.0.0.1", "UnknownIssuer"] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    let host = distrustful.variable("OS_CACERT", front.ca());
    // The certificate is for another name.
    let url = front.url().replace("127.0.0.1", "localhost");
    let refused = host.clone().through(&url).run(&create);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.contains("no TLS with"), "{}", refused.stderr);
    // All of it over TLS: there and back.
    let image = folder.join("image.raw");
    let block: Vec<u8> = (0..1 << 20).map(|n| (n / 7) as u8).collect();
    std::fs::write(&image, block.repeat(20)).unwrap();
    host.json(&["volume", "import", text(&image), "vm"]);
    host.json(&["volume", "evict", "vm"]);
    let exported = folder.join("exported.raw");
    host.json(&["volume", "export", "vm", text(&exported)]);
    tool("cmp", &[text(&image), text(&exported)]);
    // A file that is not there, and one that holds no certificate: read as a bundle of none, it would trust nobody.
    let empty = folder.join("empty.pem");
    std::fs::write(&empty, "no certificate\n").unwrap();
    for file in ["/none/such.pem", text(&empty)] {
        let refused = host
            .clone()
            .variable("OS_CACERT", file)
            .run(&["volume", "list"]);
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains(file), "{}", refused.stderr);
    }
}

/// What a cloud of one's own looks like: Keystone and Swift behind TLS, each with an authority of its own, both named by
/// one file.
#[test]
fn a_cloud_s_own_authorities_are_named_in_clouds_yaml() {
    let folder = Folder::new("tls-cloud");
    let keystone = Keystone::start(&testkit::prepared("keystone"), 3600);
    let swift = Swift::start(&SwiftOptions {
        keystone: Some(keystone.url().to_owned()),
        error_interval: 0,
        ..SwiftOptions::default()
    });
    let port = |url: &str| url.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let identity = TlsRelay::start(port(keystone.url()).expect("a port"));
    let storage = TlsRelay::start(port(swift.url()).expect("a port"));
    keystone.set_swift(storage.url());
    let variables = keystone.variables();
    let value = |name: &str| {
        let found = variables.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let path = value("OS_AUTH_URL").strip_prefix(keystone.url());
    let auth_url = format!("{}{}", identity.url(), path.expect("Keystone's own"));
    // One file for both: a bundle.
    let bundle = folder.join("bundle.pem");
    let certificates = [identity.ca(), storage.ca()].map(|ca| std::fs::read_to_string(ca).unwrap());
    std::fs::write(&bundle, certificates.concat()).unwrap();
    let clouds = |cacert: &str| {
        let file = folder.join("clouds.yaml");
        let yaml = format!(
            "clouds:\n  rack:\n    region_name: {}\n{cacert}    auth:\n      auth_url: {auth_url}\n      username: {}\n      \
             password: {}\n      project_name: {}\n      user_domain_id: default\n      project_domain_id: default\n",
            value("OS_REGION_NAME"),
            value("OS_USERNAME"),
            value("OS_PASSWORD"),
            value("OS_PROJECT_NAME"),
        );
        std::fs::write(&file, yaml).unwrap();
        vec![
            ("OS_CLIENT_CONFIG_FILE", text(&file).to_owned()),
            ("OS_CLOUD", "rack".to_owned()),
        ]
    };
    let on =
        |variables: &[(&'static str, String)]| Host::on_swift(variables, &folder.join("state"));
    let create = ["volume", "create", "vm", "--size", "8MiB"];
    // Nobody is named; only Keystone's is, so that Swift is not trusted.
    for (cacert, whose) in [
        (String::new(), identity.url()),
        (format!("    cacert: {}\n", identity.ca()), storage.url()),
    ] {
        let refused = on(&clouds(&cacert)).run(&create);
        assert_eq!(refused.code, 5, "{}", refused.stderr);
        for part in ["no TLS with", whose, "invalid peer certificate"] {
            assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
        }
    }
    on(&clouds(&format!("    cacert: {}\n", bundle.display()))).json(&create);
    // The same by variables alone.
    let names = [
        "OS_USERNAME",
        "OS_PASSWORD",
        "OS_PROJECT_NAME",
        "OS_REGION_NAME",
        "OS_USER_DOMAIN_ID",
        "OS_PROJECT_DOMAIN_ID",
    ];
    let mut by_variables: Vec<_> = names
        .iter()
        .filter(|name| !value(name).is_empty())
        .map(|name| (*name, value(name).to_owned()))
        .collect();
    by_variables.push(("OS_AUTH_URL", auth_url.clone()));
    by_variables.push(("OS_CACERT", bundle.display().to_string()));
    let listed = on(&by_variables).json(&["volume", "list"]);
    assert_eq!(listed["volumes"][0]["volume"], "vm", "{listed}");
}
