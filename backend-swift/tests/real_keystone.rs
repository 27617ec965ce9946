//! The client against a real Keystone and a real Swift that asks it.

mod support;

use engine::effect::{Absence, StoreRequest};
use engine::time::Duration;
use martlet_backend_swift::client::{AuthFailure, Health};
use support::*;
use testkit::{Keystone, Swift, SwiftOptions};

/// `OS_*` variables with some of them changed.
fn changed(variables: &[(String, String)], changes: &[(&str, &str)]) -> Vec<(String, String)> {
    let is_kept = |(name, _): &&(String, String)| changes.iter().all(|(n, _)| n != name);
    let own = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
    let kept = variables.iter().filter(is_kept).cloned();
    kept.chain(changes.iter().map(own)).collect()
}

/// One test: the two servers take seconds to start, and what it says is one story.
#[tokio::test(flavor = "multi_thread")]
async fn keystone_tokens_open_swift_and_are_renewed() {
    let folder = testkit::prepared("keystone");
    let keystone = Keystone::start(&folder, 4);
    let swift = Swift::start(&SwiftOptions {
        keystone: Some(keystone.url().to_owned()),
        ..SwiftOptions::default()
    });
    keystone.set_swift(swift.url());
    let variables = keystone.variables();

    let client = client_with(credentials(&variables), quick());
    assert_eq!(client.check().await, Ok(()));
    let container = container();
    let run = async |request| said(&client.execute(request).await);
    assert_eq!(
        run(StoreRequest::CreateContainer(container.clone())).await,
        "Done"
    );
    assert_eq!(run(put_door(&container, 1)).await, "Put");
    assert_eq!(run(put_data(&container, 1, 40)).await, "Put");
    assert!(is_frame(&client.execute(get_frame(&container, 1)).await));
    assert_eq!(run(is_shut(&container, 2, Absence::Twice)).await, "Absent");

    // Tokens live 4 s here; requests go on across a renewal.
    let mut generation = 2;
    while client.counters().authentications < 2 {
        assert_eq!(run(put_door(&container, generation)).await, "Put");
        generation += 1;
        assert!(generation < 10_000, "no renewal");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let (id, secret) = keystone.application_credential();
    let only = ["OS_AUTH_URL", "OS_REGION_NAME"];
    let mut by_application: Vec<_> = variables.clone();
    by_application.retain(|(name, _)| only.contains(&name.as_str()));
    let by_application = changed(
        &by_application,
        &[
            ("OS_APPLICATION_CREDENTIAL_ID", id.as_str()),
            ("OS_APPLICATION_CREDENTIAL_SECRET", secret.as_str()),
        ],
    );
    let application = client_with(credentials(&by_application), quick());
    assert_eq!(application.check().await, Ok(()));
    assert!(is_frame(
        &application.execute(get_frame(&container, 1)).await
    ));

    let health = async |changes: &[(&str, &str)]| {
        let variables = changed(&variables, changes);
        client_with(credentials(&variables), quick()).check().await
    };
    let wrong = health(&[("OS_PASSWORD", "hush")])
        .await
        .expect_err("a wrong password");
    assert!(matches!(
        &wrong,
        Health::Auth(AuthFailure::WrongCredentials { .. })
    ));
    assert!(!format!("{wrong} {wrong:?}").contains("hush"));
    let reader = health(&[("OS_USERNAME", "reader"), ("OS_PASSWORD", "readerpass")]).await;
    assert!(
        matches!(reader, Err(Health::Denied { status: 403, .. })),
        "{reader:?}"
    );
    let far = health(&[("OS_REGION_NAME", "Nowhere")]).await;
    assert!(
        matches!(far, Err(Health::Auth(AuthFailure::NoEndpoint { .. }))),
        "{far:?}"
    );

    // Without Keystone, what has a token goes on until that expires; then it waits, and says why.
    drop(keystone);
    let down = health(&[]).await.expect_err("Keystone is down");
    assert!(
        matches!(&down, Health::Auth(AuthFailure::Unreachable { .. })),
        "{down}"
    );
    assert!(!down.is_denied());
}
