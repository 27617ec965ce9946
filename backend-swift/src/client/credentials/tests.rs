use super::*;
use secrecy::ExposeSecret;

#[track_caller]
fn find(
    cloud: Option<&str>,
    variables: &[(&str, &str)],
    files: &[(&str, &str)],
) -> Result<Credentials, CredentialsError> {
    let surroundings = Surroundings {
        variable: &|name| {
            let found = variables.iter().find(|(n, _)| *n == name);
            found.map(|(_, v)| (*v).to_owned())
        },
        file: &|path| {
            let found = files.iter().find(|(n, _)| Path::new(n) == path);
            Ok(found.map(|(_, text)| (*text).to_owned()))
        },
    };
    Credentials::find_in(cloud, &surroundings)
}

const ST: [(&str, &str); 3] = [
    ("ST_AUTH", "http://h/auth/v1.0"),
    ("ST_USER", "test:tester"),
    ("ST_KEY", "hush"),
];
const OS: [(&str, &str); 5] = [
    ("OS_AUTH_URL", "http://k:5000"),
    ("OS_USERNAME", "demo"),
    ("OS_PASSWORD", "hush"),
    ("OS_PROJECT_NAME", "demo"),
    ("OS_REGION_NAME", "RegionOne"),
];
const CLOUDS: &str = "
clouds:
  lab:
    profile: vendor
    region_name: [R1, R2]
    cacert: /etc/ca.pem
    auth:
      username: u
      project_name: p
      user_domain_name: Users
      project_domain_id: pd
      password: 12345
  app:
    auth_type: v3applicationcredential
    interface: internalURL
    verify: false
    object_store_endpoint_override: http://direct/v1/AUTH_x
    auth: {auth_url: 'http://k/identity/v3', application_credential_id: abc, application_credential_secret: hush}
";
const PUBLIC: &str =
    "public-clouds: {vendor: {auth: {auth_url: 'https://vendor:5000/v3', username: nobody}}}";

#[test]
fn three_st_variables_are_tempauth() {
    let found = find(None, &ST, &[]).expect("credentials");
    let Identity::TempAuth {
        auth_url,
        user,
        key,
    } = found.identity
    else {
        panic!("not TempAuth");
    };
    assert_eq!(
        (auth_url.as_str(), user.as_str()),
        ("http://h/auth/v1.0", "test:tester")
    );
    assert_eq!(key.expose_secret(), "hush");
}

#[test]
fn os_variables_are_keystone_with_the_default_domain() {
    let found = find(None, &OS, &[]).expect("credentials");
    let Identity::Keystone {
        method,
        scope,
        interface,
        region,
        ..
    } = found.identity
    else {
        panic!("not Keystone");
    };
    let KeystoneMethod::Password { user, .. } = *method else {
        panic!("not a password");
    };
    assert_eq!(user.name.as_deref(), Some("demo"));
    assert_eq!(user.domain, Domain::Id("default".to_owned()));
    assert_eq!(scope.and_then(|s| s.name).as_deref(), Some("demo"));
    assert_eq!(
        (interface.as_str(), region.as_deref()),
        ("public", Some("RegionOne"))
    );
}

#[test]
fn a_named_cloud_goes_before_all_variables() {
    let files = [
        ("/etc/openstack/clouds.yaml", CLOUDS),
        ("clouds-public.yaml", PUBLIC),
    ];
    let variables = [&ST[..], &OS[..], &[("OS_CLOUD", "lab")]].concat();
    let found = find(None, &variables, &files).expect("credentials");
    assert_eq!(found.tls.cacert.as_deref(), Some(Path::new("/etc/ca.pem")));
    let Identity::Keystone {
        auth_url,
        method,
        scope,
        region,
        ..
    } = found.identity
    else {
        panic!("not Keystone");
    };
    assert_eq!(auth_url, "https://vendor:5000/v3");
    assert_eq!(region.as_deref(), Some("R1"));
    assert_eq!(scope.map(|s| s.domain), Some(Domain::Id("pd".to_owned())));
    let KeystoneMethod::Password { user, password } = *method else {
        panic!("not a password");
    };
    assert_eq!(user.name.as_deref(), Some("u"));
    assert_eq!(user.domain, Domain::Name("Users".to_owned()));
    assert_eq!(password.expose_secret(), "12345");
}

#[test]
fn secure_yaml_lies_over_clouds_yaml() {
    let secure = "clouds: {app: {auth: {application_credential_secret: better}}}";
    let files = [
        ("clouds.yaml", CLOUDS),
        ("/home/u/.config/openstack/secure.yaml", secure),
    ];
    let found = find(Some("app"), &[("HOME", "/home/u")], &files).expect("credentials");
    assert!(found.tls.insecure);
    assert_eq!(
        found.endpoint_override.as_deref(),
        Some("http://direct/v1/AUTH_x")
    );
    let Identity::Keystone {
        method,
        scope,
        interface,
        ..
    } = found.identity
    else {
        panic!("not Keystone");
    };
    assert_eq!((scope, interface.as_str()), (None, "internal"));
    let KeystoneMethod::ApplicationCredential { id, secret, .. } = *method else {
        panic!("not an application credential");
    };
    assert_eq!(id.as_deref(), Some("abc"));
    assert_eq!(secret.expose_secret(), "better");
}

#[test]
fn the_only_cloud_needs_no_name() {
    let one = "clouds: {t: {auth_type: v1password, auth: {auth_url: 'http://h', username: 'a:b', password: x}}}";
    let found = find(None, &[], &[("clouds.yaml", one)]).expect("credentials");
    assert!(matches!(found.identity, Identity::TempAuth { .. }));
    let many = find(None, &[], &[("clouds.yaml", CLOUDS)]);
    assert_eq!(many.expect_err("two clouds"), CredentialsError::Nowhere);
}

#[track_caller]
fn check_error(cloud: Option<&str>, variables: &[(&str, &str)], clouds: &str, expected: &str) {
    let error = find(cloud, variables, &[("clouds.yaml", clouds)]).expect_err("an error");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn errors_say_what_is_missing_and_where() {
    assert_eq!(
        find(None, &[], &[]).expect_err("nothing"),
        CredentialsError::Nowhere
    );
    check_error(None, &OS[..2], "", "password is missing in the environment");
    check_error(
        Some("x"),
        &[],
        CLOUDS,
        "clouds.yaml has no cloud x; it has app, lab",
    );
    check_error(
        Some("lab"),
        &[],
        CLOUDS,
        "profile in lab of clouds.yaml: clouds-public.yaml has no vendor",
    );
    check_error(
        Some("a"),
        &[],
        "clouds: {a: {auth_type: kerberos, auth: {}}}",
        "auth_type in a of clouds.yaml: must be v3password, v3applicationcredential, v3token or v1password",
    );
    check_error(
        Some("a"),
        &[],
        "clouds: {a: {auth: {password: hush\n",
        "clouds.yaml: is not the YAML that openstacksdk reads",
    );
    let variables = [("OS_CLOUD", "x"), ("HOME", "/h")];
    assert_eq!(
        find(None, &variables, &[])
            .expect_err("no file")
            .to_string(),
        "cloud x is wanted, and there is no clouds.yaml in clouds.yaml /h/.config/openstack/clouds.yaml \
         /etc/openstack/clouds.yaml"
    );
}

#[test]
fn no_secret_shows_in_debug() {
    for found in [
        find(None, &ST, &[]),
        find(None, &OS, &[]),
        find(Some("app"), &[], &[("clouds.yaml", CLOUDS)]),
    ] {
        let shown = format!("{:?}", found.expect("credentials"));
        assert!(!shown.contains("hush"), "{shown}");
    }
}
