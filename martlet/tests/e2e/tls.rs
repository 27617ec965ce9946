//! Swift behind TLS: an authority of one's own is trusted when named, and nobody else's.

use crate::support::{Folder, Host, Store, text, tool};
use testkit::TlsRelay;

#[test]
fn swift_behind_tls_is_used_when_its_authority_is_trusted() {
    let folder = Folder::new("tls");
    let store = Store::swift();
    let Store::Swift(swift) = &store else {
        unreachable!("asked for");
    };
    let port = swift.url().rsplit_once(':').map(|(_, port)| port.parse());
    let front = TlsRelay::start(port.expect("a port").unwrap());
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
    let missing = host.variable("OS_CACERT", "/none/such.pem");
    let refused = missing.run(&["volume", "list"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("/none/such.pem"),
        "{}",
        refused.stderr
    );
}
