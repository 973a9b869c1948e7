//! Doubles of the services that give keys and tokens, inside the process.

use std::sync::atomic::{AtomicUsize, Ordering};

use promontory_config::credentials::CloudAuth;
use promontory_model::Timestamp;
use promontory_storage::clock::ManualClock;

use super::*;
use crate::client::testing::{Action, FakeNetwork, answer};

const NOW_MS: i64 = 1_700_000_000_000;

struct Lab {
    network: Arc<FakeNetwork>,
    clock: Arc<ManualClock>,
    authorizer: Authorizer,
}

impl Lab {
    /// The destination of a configuration with these fields.
    fn new(fields: &str) -> Self {
        let text = format!("remote_write:\n- url: http://h/w\n  {fields}\n");
        let config = promontory_config::parse(&text, std::path::Path::new("x.yml")).unwrap_or_else(|e| panic!("{e}"));
        let auth: &CloudAuth = config.remote_write[0].cloud.as_ref().unwrap();
        let network = FakeNetwork::new();
        let clock = Arc::new(ManualClock::new(Timestamp(NOW_MS)));
        let reach = Reach { connector: network.clone(), clock: clock.clone(), scheme: "http" };
        Self { network, clock: clock.clone(), authorizer: Authorizer::new(auth, &reach) }
    }

    /// Serves `body` to requests that hold each of `wanted`; gives how often it was asked.
    fn serve(&self, host: &str, wanted: &'static [&'static str], body: &'static str) -> Arc<AtomicUsize> {
        let n = Arc::new(AtomicUsize::new(0));
        let asked = n.clone();
        self.network.serve(host, move |request| -> Vec<Action> {
            asked.fetch_add(1, Ordering::Relaxed);
            for part in wanted {
                assert!(request.contains(part), "{part:?} in {request}");
            }
            vec![answer("200 OK", "Content-Type: application/json\r\n", body.as_bytes())]
        });
        n
    }

    async fn header(&self) -> Result<String, String> {
        let call = Call::post(url("http://h/w").unwrap(), "application/x-protobuf", "body");
        let call = self.authorizer.authorize(call).await.map_err(|e| e.to_string())?;
        Ok(call.headers["authorization"].to_str().unwrap().to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn keys_of_a_role_sign_until_shortly_before_they_end() {
    let lab = Lab::new(
        "sigv4: {region: eu-west-1, access_key: a, secret_key: s, role_arn: 'arn:r', external_id: e, \
         use_fips_sts_endpoint: true}",
    );
    let n = lab.serve(
        "sts-fips.eu-west-1.amazonaws.com:80",
        &["Action=AssumeRole&", "RoleArn=arn%3Ar", "ExternalId=e", "Credential=a/20231114/eu-west-1/sts/aws4_request"],
        "<R><Credentials><AccessKeyId>K</AccessKeyId><SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken>\
         <Expiration>2023-11-14T23:13:20Z</Expiration></Credentials></R>",
    );
    let call = Call::post(url("http://h/w").unwrap(), "application/x-protobuf", "body");
    let call = lab.authorizer.authorize(call).await.unwrap();
    assert_eq!(call.headers["x-amz-security-token"], "T");
    let text = call.headers["authorization"].to_str().unwrap();
    assert!(text.starts_with("AWS4-HMAC-SHA256 Credential=K/20231114/eu-west-1/aps/aws4_request, "), "{text}");
    lab.clock.set(Timestamp(NOW_MS + 54 * 60_000));
    lab.header().await.unwrap();
    assert_eq!(n.load(Ordering::Relaxed), 1);
    lab.clock.set(Timestamp(NOW_MS + 56 * 60_000));
    lab.header().await.unwrap();
    assert_eq!(n.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn keys_of_the_configuration_need_no_service() {
    let lab = Lab::new("sigv4: {region: eu-west-1, access_key: a, secret_key: s}");
    assert!(lab.header().await.unwrap().contains("Credential=a/20231114/eu-west-1/aps/"));
}

#[tokio::test(start_paused = true)]
async fn a_client_of_azure_shows_its_secret() {
    let lab = Lab::new("azuread: {cloud: AzureGovernment, oauth: {client_id: i, client_secret: s, tenant_id: t}}");
    let n = lab.serve(
        "login.microsoftonline.us:80",
        &[
            "POST /t/oauth2/v2.0/token ",
            "client_id=i&client_secret=s&grant_type=client_credentials",
            "scope=https%3A%2F%2Fmonitor.azure.us%2F%2F.default",
        ],
        r#"{"access_token": "T", "expires_in": "3600"}"#,
    );
    assert_eq!(lab.header().await.unwrap(), "Bearer T");
    lab.clock.set(Timestamp(NOW_MS + 54 * 60_000));
    assert_eq!(lab.header().await.unwrap(), "Bearer T");
    assert_eq!(n.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_machine_of_azure_asks_itself() {
    let lab = Lab::new("azuread: {managed_identity: {client_id: i}}");
    lab.serve(
        "169.254.169.254:80",
        &["metadata: true", "resource=https%3A%2F%2Fmonitor.azure.com%2F&client_id=i"],
        r#"{"access_token": "T"}"#,
    );
    assert_eq!(lab.header().await.unwrap(), "Bearer T");
}

#[tokio::test(start_paused = true)]
async fn a_workload_of_azure_shows_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let lab = Lab::new(&format!(
        "azuread: {{workload_identity: {{client_id: i, tenant_id: t, token_file_path: {}}}, scope: x}}",
        file.display()
    ));
    assert!(lab.header().await.unwrap_err().starts_with("read "));
    std::fs::write(&file, "W\n").unwrap();
    lab.serve(
        "login.microsoftonline.com:80",
        &["client_assertion=W&client_assertion_type=urn", "scope=x"],
        r#"{"access_token": "T"}"#,
    );
    assert_eq!(lab.header().await.unwrap(), "Bearer T");
}

#[tokio::test(start_paused = true)]
async fn a_client_of_azure_signs_with_the_key_of_its_certificate() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::pki_types::pem::PemObject as _;

    const CERTIFICATE: &str = include_str!("../client/testdata/server-cert.pem");
    const KEY: &str = include_str!("../client/testdata/rsa-key.pem");
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    let fields = |more: &str| {
        let certificate = certificate.display();
        format!("azuread: {{certificate: {{client_id: i, tenant_id: t, certificate_path: {certificate}{more}}}}}")
    };
    let lab = Lab::new(&fields(&format!(", certificate_key_path: {}, send_certificate_chain: true", key.display())));
    assert!(lab.header().await.unwrap_err().starts_with(&format!("read {}: ", certificate.display())));
    std::fs::write(&certificate, KEY).unwrap();
    assert!(lab.header().await.unwrap_err().ends_with("c.pem: no certificate in PEM"));
    std::fs::write(&certificate, CERTIFICATE).unwrap();
    std::fs::write(&key, CERTIFICATE).unwrap();
    assert!(lab.header().await.unwrap_err().ends_with("k.pem: no RSA key in PEM"));
    std::fs::write(&key, KEY).unwrap();
    let serve = |lab: &Lab, has_chain: bool| {
        lab.network.serve("login.microsoftonline.com:80", move |request| {
            let form = request.rsplit("\r\n\r\n").next().unwrap();
            let (assertion, rest) = form.strip_prefix("client_assertion=").unwrap().split_once('&').unwrap();
            assert!(rest.starts_with("client_assertion_type=urn") && rest.contains("&client_id=i&"), "{rest}");
            let parts: Vec<_> = assertion.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
            let pair = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
            let pair = ring::signature::RsaKeyPair::from_pkcs8(pair.secret_pkcs8_der()).unwrap();
            let algorithm = &ring::signature::RSA_PKCS1_2048_8192_SHA256;
            let public = ring::signature::UnparsedPublicKey::new(algorithm, pair.public().as_ref());
            public.verify(assertion.rsplit_once('.').unwrap().0.as_bytes(), &parts[2]).unwrap();
            let head: Value = serde_json::from_slice(&parts[0]).unwrap();
            assert_eq!(URL_SAFE_NO_PAD.decode(head["x5t"].as_str().unwrap()).unwrap().len(), 20);
            assert_eq!(head["x5c"].as_array().map(Vec::len), has_chain.then_some(1));
            let claims: Value = serde_json::from_slice(&parts[1]).unwrap();
            assert_eq!(claims["aud"], "http://login.microsoftonline.com/t/oauth2/v2.0/token");
            assert_eq!((&claims["iss"], &claims["sub"]), (&"i".into(), &"i".into()));
            assert_eq!((claims["nbf"].as_i64(), claims["exp"].as_i64()), (Some(1_700_000_000), Some(1_700_000_600)));
            vec![answer("200 OK", "", br#"{"access_token": "T"}"#)]
        });
    };
    serve(&lab, true);
    assert_eq!(lab.header().await.unwrap(), "Bearer T");
    // Both in one file.
    std::fs::write(&certificate, format!("{CERTIFICATE}{KEY}")).unwrap();
    let lab = Lab::new(&fields(""));
    serve(&lab, false);
    assert_eq!(lab.header().await.unwrap(), "Bearer T");
}

#[tokio::test(start_paused = true)]
async fn a_user_of_google_gets_a_token_for_the_one_that_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials.json");
    let lab = Lab::new(&format!("google_iam: {{credentials_file: {}}}", file.display()));
    std::fs::write(&file, r#"{"type": "other"}"#).unwrap();
    assert!(lab.header().await.unwrap_err().contains("credentials of type \"other\""));
    let user = r#"{"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}"#;
    std::fs::write(&file, user).unwrap();
    lab.serve(
        "oauth2.googleapis.com:80",
        &["client_id=i&client_secret=s&grant_type=refresh_token&refresh_token=r"],
        r#"{"access_token": "T", "expires_in": 3599}"#,
    );
    assert_eq!(lab.header().await.unwrap(), "Bearer T");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_who_refused() {
    let lab = Lab::new("azuread: {managed_identity: {}}");
    lab.network.serve("169.254.169.254:80", |_| vec![answer("400 Bad Request", "", b"no\nidentity")]);
    let told = lab.header().await.unwrap_err();
    assert!(told.contains("169.254.169.254") && told.ends_with("HTTP status 400 Bad Request: no identity"), "{told}");
    lab.serve("169.254.169.254:80", &[], "{}");
    assert!(lab.header().await.unwrap_err().ends_with("the answer has no access_token"));
}
