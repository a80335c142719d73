//! A whole control plane in this process, in a directory of its own, with its real sockets; a data plane that speaks
//! envelopes; and an HTTP client of a few lines.
#![allow(dead_code, reason = "each test file uses its part")]

use headgate_controlplane::{Ready, run_until};
use headgate_plane::envelope::{decode, encode};
use headgate_plane::{
    Credential, Epoch, LINK_VERSION, Question, QuestionDigest, QuestionKey, Reviewers, Secret, SessionId,
    SignIn, ToControl, ToData, Who,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const WAIT: Duration = Duration::from_secs(20);

pub const RULES: &str = r#"
[[rule]]
name = "agents read"
who = { groups = ["agents"] }
target = { names = ["orders"] }
statement = { class = ["read"] }
effect = "allow"

[[rule]]
name = "schema changes need a DBA"
who = { groups = ["agents"] }
target = { names = ["orders"] }
statement = { class = ["ddl"] }
effect = "hold"
reviewers = { groups = ["dba"], quorum = 1 }
wait = "15m"
"#;

pub struct Appliance {
    pub dir: tempfile::TempDir,
    pub ready: Ready,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Appliance {
    pub async fn start() -> Appliance {
        Appliance::start_with(tempfile::tempdir().unwrap(), RULES).await
    }

    pub async fn start_with(dir: tempfile::TempDir, rules: &str) -> Appliance {
        let path = dir.path().to_owned();
        std::fs::write(path.join("rules.toml"), rules).unwrap();
        std::fs::write(path.join("headgate.toml"), config(&path)).unwrap();
        let (tell, told) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let (tell, mut stopped) = (std::sync::Mutex::new(Some(tell)), stopped);
            // After a first life in this process its last threads may hold the stores for a moment.
            loop {
                let ready = |r: &Ready| {
                    if let Some(tell) = tell.lock().unwrap().take() {
                        drop(tell.send(r.clone()));
                    }
                };
                let stop = async { drop((&mut stopped).await) };
                match run_until(&path.join("headgate.toml"), ready, stop).await {
                    Err(error) if format!("{error:?}").contains("lock hold by current process") => {
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    }
                    ended => return ended.unwrap(),
                }
            }
        });
        let ready = tokio::time::timeout(WAIT, told)
            .await
            .expect("it starts in time")
            .expect("it starts");
        Appliance {
            dir,
            ready,
            stop: Some(stop),
            task,
        }
    }

    /// Ends the control plane and gives back its directory, for a second life.
    pub async fn stop(mut self) -> tempfile::TempDir {
        drop(self.stop.take());
        tokio::time::timeout(WAIT, &mut self.task)
            .await
            .expect("it stops in time")
            .unwrap();
        self.dir
    }

    pub fn rules_file(&self) -> PathBuf {
        self.dir.path().join("rules.toml")
    }

    /// As the operator, over the admin socket.
    pub async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let stream = UnixStream::connect(&self.ready.admin_socket).await.unwrap();
        http(stream, method, path, None, body).await
    }

    /// Over TCP, with a token or without.
    pub async fn api(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let stream = TcpStream::connect(self.ready.api).await.unwrap();
        http(stream, method, path, token, body).await
    }

    pub async fn mint(&self, principal: &str, groups: &[&str], chain: &[&str]) -> String {
        let body = json!({ "principal": principal, "groups": groups, "chain": chain, "ttl_seconds": 3600 });
        let (status, answer) = self.admin("POST", "/api/v1/tokens", Some(body)).await;
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }

    pub async fn data_plane(&self, boot: u128) -> DataPlane {
        let mut plane = DataPlane::connect(&self.ready.link_socket).await;
        plane.say(&hello(boot)).await;
        assert!(matches!(
            plane.hear().await,
            ToData::Welcome {
                version: LINK_VERSION
            }
        ));
        plane
    }
}

fn config(dir: &Path) -> String {
    format!(
        r#"
[appliance]
name = "gate-1"
data = "{0}/data"
runtime = "{0}/run"

[[listener]]
protocol = "postgres"
address = "127.0.0.1:5432"
danger_allow_cleartext = true

[[target]]
name = "orders"
protocol = "postgres"
environment = "production"
address = "127.0.0.1:5433"
database = "orders"
user = "orders_app"
secret = "orders"
catalog_user = "catalog_reader"
catalog_secret = "orders"
tls = "danger-off"

[[target]]
name = "payroll"
protocol = "postgres"
address = "127.0.0.1:5434"
database = "payroll"
user = "payroll_app"
tls = "danger-off"

[api]
address = "127.0.0.1:0"
admin_groups = ["admins"]
auditor_groups = ["auditors"]
"#,
        dir.display()
    )
}

pub fn hello(boot: u128) -> ToControl {
    ToControl::Hello {
        version: LINK_VERSION,
        appliance: "gate-1".into(),
        boot,
        epoch: Epoch(0),
    }
}

pub struct DataPlane {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl DataPlane {
    pub async fn connect(path: &Path) -> DataPlane {
        DataPlane {
            stream: UnixStream::connect(path).await.unwrap(),
            buffer: Vec::new(),
        }
    }

    pub async fn say(&mut self, message: &ToControl) {
        let mut out = Vec::new();
        encode(message, &mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    pub async fn hear(&mut self) -> ToData {
        tokio::time::timeout(WAIT, self.next())
            .await
            .expect("the control plane says something")
            .expect("the link lives")
    }

    /// `None` when the link ended.
    pub async fn next(&mut self) -> Option<ToData> {
        loop {
            if let Some((message, used)) = decode(&self.buffer).unwrap() {
                self.buffer.drain(..used);
                return Some(message);
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next message that is not a snapshot.
    pub async fn hear_news(&mut self) -> ToData {
        loop {
            match self.hear().await {
                ToData::Snapshot(_) => {}
                other => return other,
            }
        }
    }

    pub async fn sign_in(&mut self, session: u128, token: &str, target: &str) -> ToData {
        self.say(&ToControl::SignIn(Box::new(SignIn {
            session: session_id(session),
            credential: Credential::Password(Secret::new(token)),
            target: target.into(),
            user: "whoever".into(),
            address: "192.0.2.7".into(),
            application: "psql".into(),
            tls: true,
        })))
        .await;
        self.hear_news().await
    }
}

/// Began now, as the registry reads it.
pub fn session_id(low: u128) -> SessionId {
    SessionId::v7(headgate_api::now_unix_ms(), low)
}

/// One whose client does not wait.
pub fn left(session: SessionId, statement: u32, text: &str) -> Question {
    let mut q = question(session, statement, text);
    q.on_hold = headgate_plane::OnHold::Refuse;
    q
}

pub fn question(session: SessionId, statement: u32, text: &str) -> Question {
    let now = headgate_api::now_unix_ms();
    let mut q = Question {
        key: QuestionKey { session, statement },
        who: Who {
            principal: "alice".into(),
            groups: vec!["agents".into()],
            chain: vec!["agent-1".into()],
            issuer: "local".into(),
            ..Who::default()
        },
        target: "orders".into(),
        environment: "production".into(),
        role: "orders_app".into(),
        statement: text.as_bytes().to_vec(),
        stands_for: vec![],
        parameters: vec![],
        open_data: false,
        settings: vec![],
        on_hold: headgate_plane::OnHold::Wait,
        epoch: Epoch(1),
        rule: "schema changes need a DBA".into(),
        reviewers: Reviewers {
            principals: vec![],
            groups: vec!["dba".into()],
            quorum: 1,
        },
        asked_unix_ms: now,
        deadline_unix_ms: now + 60_000,
        digest: QuestionDigest([0; 32]),
    };
    seal(&mut q);
    q
}

pub fn seal(q: &mut Question) {
    q.digest = q.digest_now();
}

/// One request, one connection. The body is read to the end, or for an endless one (events) not at all.
pub async fn http(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> (u16, Value) {
    let mut stream = stream;
    let body = body.map(|b| b.to_string()).unwrap_or_default();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    if let Some(token) = token {
        head.push_str(&format!("authorization: Bearer {token}\r\n"));
    }
    if !body.is_empty() {
        head.push_str("content-type: application/json\r\n");
    }
    stream
        .write_all(format!("{head}\r\n{body}").as_bytes())
        .await
        .unwrap();
    let mut answer = Vec::new();
    let endless = path == "/api/v1/events";
    let read = async {
        loop {
            let more = stream.read_buf(&mut answer).await.unwrap_or(0);
            if more == 0 || (endless && answer.windows(4).any(|w| w == b"\r\n\r\n")) {
                break;
            }
        }
    };
    tokio::time::timeout(WAIT, read).await.expect("an answer in time");
    let text = String::from_utf8_lossy(&answer);
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .expect("a status line");
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (
        status,
        serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())),
    )
}
