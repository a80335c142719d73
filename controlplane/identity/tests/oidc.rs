//! Against a real OpenID provider (npm `oidc-provider`, in `tests/oidc`). Needs Node 20 with npm and its registry.

use headgate_config::{Config, Issuer};
use headgate_identity::{DevicePoll, Identity, IdentityError, TokenRequest, http_client};
use headgate_plane::{Credential, Refusal, RefusalKind, Secret, SessionId, SignIn};
use headgate_store::MemoryStore;
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Once};
use std::time::Duration;

const FILES: [&str; 3] = ["package.json", "package-lock.json", "provider.mjs"];

/// The provider's folder outside the source tree, with what npm installs. Made once, and again when the lock file changes.
fn installed() -> PathBuf {
    static INSTALL: Once = Once::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oidc-provider");
    INSTALL.call_once(|| {
        std::fs::create_dir_all(&folder).unwrap();
        let lock = std::fs::read(source.join("package-lock.json")).unwrap();
        let marker = folder.join("installed.lock");
        for file in FILES {
            std::fs::copy(source.join(file), folder.join(file)).unwrap();
        }
        if std::fs::read(&marker).is_ok_and(|done| done == lock) {
            return;
        }
        let npm = Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(&folder)
            .output()
            .expect("npm is needed");
        assert!(
            npm.status.success(),
            "npm ci: {}",
            String::from_utf8_lossy(&npm.stderr)
        );
        std::fs::write(marker, lock).unwrap();
    });
    folder
}

struct Provider {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    issuer: String,
}

impl Provider {
    fn start(environment: &[(&str, &Path)]) -> Provider {
        let mut command = Command::new("node");
        command
            .arg("provider.mjs")
            .current_dir(installed())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command
            .envs(environment.iter().copied())
            .spawn()
            .expect("node is needed");
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut provider = Provider {
            child,
            stdin,
            lines,
            issuer: String::new(),
        };
        provider.issuer = provider.said("issuer");
        provider
    }

    /// The provider's next JSON line that has this key. It ends with its stdin, so this cannot wait for ever on a dead one.
    fn said(&mut self, key: &str) -> String {
        loop {
            let line = self.lines.next().expect("the provider ended").unwrap();
            let Ok(Value::Object(said)) = serde_json::from_str(&line) else {
                continue;
            };
            match said.get(key) {
                Some(Value::String(text)) => return text.clone(),
                Some(other) => return other.to_string(),
                None => panic!("the provider said {line}"),
            }
        }
    }

    fn tell(&mut self, command: &str, key: &str) -> String {
        writeln!(self.stdin, "{command}").unwrap();
        self.said(key)
    }

    /// A job's token, by client credentials.
    async fn job_token(&self, client: &reqwest::Client, resource: &str) -> Secret {
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", "read"),
            ("resource", resource),
        ];
        let request = client
            .post(format!("{}/token", self.issuer))
            .basic_auth("nightly-job", Some("job-secret"))
            .form(&form);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        Secret::new(
            answer["access_token"]
                .as_str()
                .unwrap_or_else(|| panic!("{answer}")),
        )
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn issuer(url: &str, more: &str) -> Issuer {
    let text = format!(
        "[appliance]\nname = \"g\"\ndata = \"d\"\n[[listener]]\nprotocol = \"postgres\"\naddress = \"127.0.0.1:1\"\n\
         danger_allow_cleartext = true\n[[issuer]]\nurl = \"{url}\"\n{more}\n"
    );
    Config::parse(&text, Path::new("headgate.toml"))
        .unwrap_or_else(|e| panic!("{e}"))
        .issuers
        .remove(0)
}

fn gate(issuer: Issuer) -> Arc<Identity> {
    Identity::start(&[issuer], None, Arc::new(MemoryStore::new())).unwrap()
}

fn ask(token: &Secret) -> SignIn {
    SignIn {
        session: SessionId(1),
        credential: Credential::Password(token.clone()),
        target: "orders".into(),
        user: "x".into(),
        address: "192.0.2.7".into(),
        application: "psql".into(),
        tls: true,
    }
}

fn kind_of<T: std::fmt::Debug>(result: Result<T, Refusal>) -> RefusalKind {
    result.expect_err("it should have been refused").kind
}

#[tokio::test]
async fn a_job_signs_in_with_each_algorithm_and_keeps_its_actors() {
    let provider = Provider::start(&[]);
    let client = http_client(None, true).unwrap();
    let gate = gate(issuer(&provider.issuer, "audience = \"headgate\""));
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = provider
            .job_token(&client, &format!("https://headgate.test/{algorithm}"))
            .await;
        let found = gate
            .sign_in(&ask(&token))
            .await
            .unwrap_or_else(|e| panic!("{algorithm}: {e:?}"));
        assert_eq!(
            (found.who.principal.as_str(), found.who.groups),
            ("nightly-job", vec!["jobs".to_owned()])
        );
        assert_eq!(found.who.chain, ["agent-1", "planner"]);
        assert!(found.credential_id.starts_with("jwt:"));
    }
    let elsewhere = provider
        .job_token(&client, "https://headgate.test/RS256?audience=billing")
        .await;
    assert_eq!(
        kind_of(gate.sign_in(&ask(&elsewhere)).await),
        RefusalKind::BadCredential
    );
}

#[tokio::test]
async fn keys_that_the_provider_changes_are_followed() {
    let mut provider = Provider::start(&[]);
    let client = http_client(None, true).unwrap();
    let gate = gate(issuer(&provider.issuer, "audience = \"headgate\""));
    let resource = "https://headgate.test/ES256";
    let old = provider.job_token(&client, resource).await;
    gate.sign_in(&ask(&old)).await.unwrap();
    provider.tell("rotate", "rotated");
    let new = provider.job_token(&client, resource).await;
    // The keys were fetched just now, so the new one is not looked for at once.
    assert_eq!(
        kind_of(gate.sign_in(&ask(&new)).await),
        RefusalKind::BadCredential
    );
    tokio::time::sleep(Duration::from_millis(5100)).await;
    gate.sign_in(&ask(&new)).await.unwrap();
    assert_eq!(
        kind_of(gate.sign_in(&ask(&old)).await),
        RefusalKind::BadCredential
    );
}

#[tokio::test]
async fn a_person_logs_in_through_a_browser_and_gets_a_token_of_ours() {
    let mut provider = Provider::start(&[]);
    let gate = gate(issuer(
        &provider.issuer,
        "audience = \"headgate\"\nclient_id = \"headgate-cli\"",
    ));
    assert_eq!(gate.issuers(), [(provider.issuer.clone(), true)]);
    let start = gate.device_start("").await.unwrap();
    assert!(start.verification_uri.starts_with(&provider.issuer), "{start:?}");
    assert!(matches!(
        gate.device_poll(&start.handle).await.unwrap(),
        DevicePoll::Pending { interval_seconds: 5 }
    ));
    assert_eq!(
        provider.tell(&format!("approve {} alice", start.user_code), "approved"),
        "alice"
    );
    // Too early: the issuer is not asked.
    assert!(matches!(
        gate.device_poll(&start.handle).await.unwrap(),
        DevicePoll::Pending { .. }
    ));
    tokio::time::sleep(Duration::from_millis(5100)).await;
    let DevicePoll::Done { token, info } = gate.device_poll(&start.handle).await.unwrap() else {
        panic!("still pending")
    };
    assert!(token.danger_reveal().starts_with("hgt_"));
    let found = gate.sign_in(&ask(&token)).await.unwrap();
    assert_eq!(
        (found.who.principal.as_str(), found.who.issuer.as_str()),
        ("alice", provider.issuer.as_str())
    );
    assert_eq!(
        (found.who.groups, found.credential_id),
        (vec!["dba".to_owned(), "staff".to_owned()], info.id)
    );
    assert!(
        matches!(
            gate.device_poll(&start.handle).await,
            Err(IdentityError::Unknown { .. })
        ),
        "a login is spent once"
    );
}

#[tokio::test]
async fn a_login_that_the_person_declines_ends() {
    let mut provider = Provider::start(&[]);
    let gate = gate(issuer(
        &provider.issuer,
        "audience = \"headgate\"\nclient_id = \"headgate-cli\"",
    ));
    let start = gate.device_start(&provider.issuer).await.unwrap();
    provider.tell(&format!("deny {}", start.user_code), "denied");
    let ended = gate.device_poll(&start.handle).await.unwrap_err();
    assert!(
        matches!(&ended, IdentityError::LoginEnded { why } if why.contains("access_denied")),
        "{ended:?}"
    );
    assert!(matches!(
        gate.device_poll("no-such-handle").await,
        Err(IdentityError::Unknown { .. })
    ));
}

#[tokio::test]
async fn a_login_uses_the_access_token_only_when_it_is_for_us() {
    let mut provider = Provider::start(&[]);
    // The provider gives the first the audience that it asked for, and the second another one.
    let cases = [
        ("https://headgate.test/self/RS256", 2),
        ("https://headgate.test/RS256?audience=billing", 0),
    ];
    for (audience, actors) in cases {
        let config = format!("audience = \"{audience}\"\nclient_id = \"headgate-cli\"");
        let gate = gate(issuer(&provider.issuer, &config));
        let start = gate.device_start("").await.unwrap();
        provider.tell(&format!("approve {} bob", start.user_code), "approved");
        let DevicePoll::Done { token, .. } = gate.device_poll(&start.handle).await.unwrap() else {
            panic!("still pending")
        };
        let found = gate.sign_in(&ask(&token)).await.unwrap();
        // Only the access token has `act`; the ID token, whose audience is the client, proves bob alone.
        assert_eq!(
            (found.who.principal.as_str(), found.who.chain.len()),
            ("bob", actors),
            "{audience}"
        );
    }
}

#[tokio::test]
async fn an_issuer_behind_a_private_root_is_trusted_only_with_that_root() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca_params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca_params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(ca_params, ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    let ca = write("ca.pem", ca.pem());
    let (certificate, key) = (
        write("crt.pem", certificate.pem()),
        write("key.pem", key.serialize_pem()),
    );

    let provider = Provider::start(&[("PROVIDER_CERTIFICATE", &certificate), ("PROVIDER_KEY", &key)]);
    assert!(provider.issuer.starts_with("https://localhost:"));
    let client = http_client(Some(&ca), true).unwrap();
    let token = provider.job_token(&client, "https://headgate.test/RS256").await;
    let trusting = gate(issuer(
        &provider.issuer,
        &format!("audience = \"headgate\"\nca = {:?}", ca.to_str().unwrap()),
    ));
    assert_eq!(
        trusting.sign_in(&ask(&token)).await.unwrap().who.principal,
        "nightly-job"
    );
    let without = gate(issuer(&provider.issuer, "audience = \"headgate\""));
    assert_eq!(
        kind_of(without.sign_in(&ask(&token)).await),
        RefusalKind::Unavailable
    );
}

#[tokio::test]
async fn an_issuer_that_is_away_does_not_keep_tokens_from_working() {
    let gate = gate(issuer(
        "http://127.0.0.1:9",
        "audience = \"headgate\"\nclient_id = \"c\"",
    ));
    let request = TokenRequest {
        principal: "job".into(),
        issuer: "local".into(),
        ttl: Duration::from_secs(60),
        ..TokenRequest::default()
    };
    let (token, _) = gate.mint_token(&request).unwrap();
    gate.sign_in(&ask(&token)).await.unwrap();
    let started = gate.device_start("").await;
    assert!(
        matches!(started, Err(IdentityError::Issuer { .. })),
        "{started:?}"
    );
}
