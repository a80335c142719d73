//! Who gets in: opaque tokens, JWTs of a real OpenID provider, local users. Who does not, and what they read.

use headgate_e2e::run::run;
use headgate_e2e::{Gate, Setup, World, during, place};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

const NOT_ACCEPTED: &str = "Headgate does not accept this credential";

fn refused(gate: &Gate, password: &str) -> String {
    let ran = gate.psql(password, "SELECT 1").unwrap();
    assert!(!ran.ok(), "it should have been refused: {}", ran.all());
    assert!(
        !ran.stderr.contains(password) || password.is_empty(),
        "the credential is not repeated: {}",
        ran.stderr
    );
    ran.stderr
}

#[test]
fn a_minted_token_is_the_password_of_its_principal_and_of_nobody_else() {
    let gate = World::open_gate();
    let token = gate.token("alice", &["analysts"]).unwrap();
    let as_user = |user: &str| {
        let mut psql = gate.psql_command(&token, &["-c", "SELECT session_user"]);
        run(psql.env("PGUSER", user), "", Duration::from_secs(30)).unwrap()
    };
    assert_eq!(
        as_user("alice").good().unwrap().trim(),
        "shop_app",
        "the target sees its own role, never the client's"
    );
    for other in ["bob", "postgres", "Alice", "shop_app"] {
        let ran = as_user(other);
        assert!(!ran.ok(), "{other}: {}", ran.all());
        assert!(
            ran.stderr
                .contains(&format!("user \"{other}\" is not who this credential is for")),
            "{}",
            ran.stderr
        );
        assert!(
            ran.stderr
                .contains("It is for \"alice\": connect with user=alice"),
            "{}",
            ran.stderr
        );
    }
}

/// Interactive psql asks for the encoding of its terminal; without a locale that is SQL_ASCII.
#[test]
fn psql_in_a_terminal_without_a_locale_gets_in() {
    let gate = World::open_gate();
    let token = gate.token("alice", &["analysts"]).unwrap();
    let mut script = Command::new("script");
    script.args([
        "-qec",
        "psql -X -A -t -P pager=off -c '\\encoding' -c \"SELECT 'in as ' || 'hoped'\"",
        "/dev/null",
    ]);
    script
        .envs(gate.environment(&token))
        .env_remove("LANG")
        .env_remove("LC_CTYPE")
        .env_remove("PGCLIENTENCODING")
        .env("LC_ALL", "C");
    let ran = run(&mut script, "", Duration::from_secs(30)).unwrap();
    assert!(
        ran.ok() && ran.stdout.contains("SQL_ASCII") && ran.stdout.contains("in as hoped"),
        "{}",
        ran.all()
    );
    let mut psql = gate.psql_command(&token, &["-c", "SELECT 1"]);
    let ran = run(
        psql.env("PGCLIENTENCODING", "WIN1252"),
        "",
        Duration::from_secs(30),
    )
    .unwrap();
    assert!(
        !ran.ok() && ran.stderr.contains("PGCLIENTENCODING=UTF8"),
        "{}",
        ran.all()
    );
}

#[test]
fn pg_basebackup_is_told_that_replication_is_not_carried() {
    let gate = World::open_gate();
    let token = gate.token("alice", &["analysts"]).unwrap();
    let mut backup = Command::new("pg_basebackup");
    let into = gate.folder.join("backup");
    backup
        .arg("-D")
        .arg(&into)
        .envs(gate.environment(&token))
        .env_remove("PGDATABASE");
    let ran = run(&mut backup, "", Duration::from_secs(30)).unwrap();
    assert!(
        !ran.ok()
            && ran
                .stderr
                .contains("Headgate does not carry replication connections"),
        "{}",
        ran.all()
    );
    assert!(!into.exists());
}

#[test]
fn a_new_certificate_is_taken_up_by_itself_and_at_a_hangup_which_stops_nothing() {
    let gate = World::shared().gate(&Setup::default());
    let token = gate.token("alice", &["analysts"]).unwrap();
    let roots = gate.folder.join("both.pem");
    let replace = |name: &str| {
        let authority = headgate_e2e::Authority::new(&gate.folder.join(name)).unwrap();
        let made = authority.issue("gate").unwrap();
        // As a tool that renews would: with the times of long ago.
        let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        for (from, to) in [(&made.certificate, "tls/gate.crt"), (&made.key, "tls/gate.key")] {
            let to = gate.folder.join(to);
            std::fs::copy(from, &to).unwrap();
            std::fs::File::options()
                .append(true)
                .open(&to)
                .unwrap()
                .set_modified(old)
                .unwrap();
        }
        std::fs::copy(&authority.root, &roots).unwrap();
    };
    let new_root_fits = || {
        let mut psql = gate.psql_command(&token, &["-c", "SELECT 1"]);
        run(psql.env("PGSSLROOTCERT", &roots), "", Duration::from_secs(30))
            .unwrap()
            .ok()
    };
    let mut open = gate
        .psql_beside(&token, "SELECT pg_sleep(3), 'still here'")
        .unwrap();
    // The files are not changed under its feet while it signs in.
    headgate_e2e::run::until("the session is there", Duration::from_secs(20), || {
        let asleep =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%still here%' AND state = 'active' AND pid <> pg_backend_pid()";
        World::shared().postgres.sql("postgres", asleep).unwrap().trim() == "1"
    })
    .unwrap();
    let pids =
        ["headgate-dataplane", "headgate-recorder", "controlplane"].map(|part| gate.pid_of(part).unwrap());
    replace("second");
    assert!(!new_root_fits(), "the old one is still in use");
    gate.hang_up().unwrap();
    headgate_e2e::run::until("the certificate is new", Duration::from_secs(5), new_root_fits).unwrap();
    assert!(
        gate.log()
            .contains("certificate: read again; new sessions get it"),
        "{}",
        gate.log()
    );
    open.await_text("still here", Duration::from_secs(20)).unwrap();
    gate.hang_up().unwrap();
    headgate_e2e::run::until("a word", Duration::from_secs(5), || {
        gate.log().contains("certificate: the files are unchanged")
    })
    .unwrap();
    assert_eq!(
        ["headgate-dataplane", "headgate-recorder", "controlplane"].map(|part| gate.pid_of(part).unwrap()),
        pids
    );
    replace("third");
    headgate_e2e::run::until(
        "the certificate is new by itself",
        Duration::from_secs(25),
        new_root_fits,
    )
    .unwrap();
}

#[test]
fn a_listener_that_says_so_does_not_look_at_the_user_name() {
    let gate = World::shared().gate(&Setup {
        listener: "user = \"any\"".to_owned(),
        ..Setup::default()
    });
    let token = gate.token("alice", &["analysts"]).unwrap();
    let mut psql = gate.psql_command(&token, &["-c", "SELECT session_user"]);
    let ran = run(psql.env("PGUSER", "postgres"), "", Duration::from_secs(30)).unwrap();
    assert_eq!(ran.good().unwrap().trim(), "shop_app");
    let rows = gate
        .audit(&["--principal", "alice"], |rows| !rows.is_empty())
        .unwrap();
    assert_eq!(rows[0]["principal"], "alice", "who it was says the credential");
}

#[test]
fn a_wrong_token_an_empty_one_and_the_targets_own_password_are_refused_alike() {
    let gate = World::open_gate();
    for wrong in [
        "hgt_guess",
        "eyJhbGciOiJub25lIn0.e30.",
        World::shared().postgres.password.as_str(),
        &"x".repeat(9000),
    ] {
        let said = refused(gate, wrong);
        assert!(said.contains(NOT_ACCEPTED), "{said}");
    }
}

#[test]
fn a_revoked_token_opens_nothing_and_ends_what_it_opened() {
    let gate = World::open_gate();
    let token = gate.token("ruth", &["analysts"]).unwrap();
    let mut psql = gate.psql_beside(&token, "SELECT pg_sleep(60)").unwrap();
    headgate_e2e::run::until("the session is open", Duration::from_secs(20), || {
        gate.headgate(&["sessions"], "")
            .is_ok_and(|ran| ran.stdout.contains("ruth"))
    })
    .unwrap();
    let tokens = gate.json(&["token", "list"]).unwrap();
    let id = tokens
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["principal"] == "ruth")
        .unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(gate.headgate(&["token", "revoke", &id], "").unwrap().ok());
    let heard = psql.await_text("access was revoked", Duration::from_secs(10));
    assert!(heard.is_ok(), "{heard:?}");
    assert!(!psql.wait(Duration::from_secs(10)).unwrap().ok());
    assert!(refused(gate, &token).contains(NOT_ACCEPTED));
}

#[test]
fn a_target_that_is_not_there_is_not_told_from_one_that_is_forbidden() {
    let gate = World::open_gate();
    let narrow = gate
        .token_with("alice", &["analysts"], &["--target", "elsewhere"])
        .unwrap();
    let forbidden = refused(gate, &narrow);
    let token = gate.token("alice", &["analysts"]).unwrap();
    let mut psql = gate.psql_command(&token, &["-c", "SELECT 1"]);
    let absent = run(
        psql.env("PGDATABASE", "no_such_target"),
        "",
        Duration::from_secs(30),
    )
    .unwrap();
    assert!(
        forbidden.contains("no such target for this identity"),
        "{forbidden}"
    );
    assert!(
        absent.stderr.contains("no such target for this identity"),
        "{}",
        absent.all()
    );
}

#[test]
fn a_password_without_tls_is_never_asked_for() {
    let gate = World::open_gate();
    let mut stream = TcpStream::connect(("127.0.0.1", gate.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let body = b"\0\x03\0\0user\0alice\0database\0shop\0\0";
    let mut startup = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
    startup.extend_from_slice(body);
    stream.write_all(&startup).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(
        answer.first(),
        Some(&b'E'),
        "an error, not a request for a password: {answer:?}"
    );
    assert!(
        String::from_utf8_lossy(&answer).contains("takes no password without"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let mut psql = gate.psql_command(&gate.token("alice", &[]).unwrap(), &["-c", "SELECT 1"]);
    let ran = run(
        psql.env("PGSSLMODE", "disable").env_remove("PGSSLROOTCERT"),
        "",
        Duration::from_secs(30),
    )
    .unwrap();
    assert!(!ran.ok(), "{}", ran.all());
}

#[test]
fn the_targets_secret_never_reaches_the_client_nor_the_log() {
    let gate = World::open_gate();
    let token = gate.token("alice", &["analysts"]).unwrap();
    let ran = gate
        .psql(&token, "SHOW ALL;\n\\set\nSELECT * FROM pg_stat_activity;\n")
        .unwrap();
    let secret = &World::shared().postgres.password;
    assert!(!ran.all().contains(secret) && !gate.log().contains(secret) && !gate.log().contains(&token));
    let recorded = gate
        .headgate(&["audit", "query", "--output", "json"], "")
        .unwrap();
    assert!(!recorded.stdout.contains(secret) && !recorded.stdout.contains(&token));
}

#[test]
fn a_local_user_logs_in_with_a_password_and_gets_a_token() {
    let hash = World::open_gate()
        .headgate(&["user", "hash", "--password-stdin"], "correct horse")
        .unwrap()
        .good()
        .unwrap();
    let users = format!(
        "[[user]]\nname = \"lena\"\npassword = \"{}\"\ngroups = [\"analysts\"]\n",
        hash.trim()
    );
    let gate = World::shared().gate(&Setup {
        users: Some(users),
        ..Setup::default()
    });
    let wrong = gate
        .headgate(&["login", "--user", "lena", "--password-stdin"], "wrong horse")
        .unwrap();
    assert!(!wrong.ok(), "{}", wrong.all());
    let right = gate
        .headgate(
            &["login", "--user", "lena", "--password-stdin", "--print"],
            "correct horse",
        )
        .unwrap();
    let token = right.good().unwrap();
    gate.is_of(token.trim(), "lena");
    assert_eq!(
        gate.psql(token.trim(), "SELECT 1")
            .unwrap()
            .good()
            .unwrap()
            .trim(),
        "1"
    );
    let rows = gate
        .audit(&["--principal", "lena"], |rows| !rows.is_empty())
        .unwrap();
    assert_eq!(rows[0]["principal"], "lena");
}

/// The OpenID provider of the identity crate's tests.
struct Provider {
    child: Child,
    issuer: String,
}

impl Provider {
    fn start() -> Provider {
        let source = place::repository().join("controlplane/identity/tests/oidc");
        let folder = place::installed("oidc-provider").unwrap();
        let lock = std::fs::read(source.join("package-lock.json")).unwrap();
        for file in ["package.json", "package-lock.json", "provider.mjs"] {
            std::fs::copy(source.join(file), folder.join(file)).unwrap();
        }
        let done = folder.join("installed.lock");
        if !std::fs::read(&done).is_ok_and(|installed| installed == lock) {
            let mut npm = Command::new("npm");
            npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder);
            run(&mut npm, "", Duration::from_secs(180))
                .unwrap()
                .good()
                .map_err(during("npm ci"))
                .unwrap();
            std::fs::write(done, lock).unwrap();
        }
        let mut command = Command::new("node");
        // It ends with its standard input, and so with this process.
        command
            .arg("provider.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("node is needed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let issuer = line
            .split('"')
            .nth(3)
            .unwrap_or_else(|| panic!("{line}"))
            .to_owned();
        Provider { child, issuer }
    }

    /// A JWT for the job `nightly-job`, as a job gets one.
    fn token(&self, resource: &str) -> String {
        let address = self.issuer.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let body = format!("grant_type=client_credentials&scope=read&resource={resource}");
        write!(
            stream,
            "POST /token HTTP/1.0\r\nHost: {address}\r\nAuthorization: Basic bmlnaHRseS1qb2I6am9iLXNlY3JldA==\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let token = answer
            .split("\"access_token\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        token.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const RS256: &str = "https%3A%2F%2Fheadgate.test%2FRS256";

fn provider() -> &'static Provider {
    static PROVIDER: OnceLock<Provider> = OnceLock::new();
    PROVIDER.get_or_init(Provider::start)
}

#[test]
fn a_jwt_of_a_real_provider_is_a_password_and_its_actors_are_recorded() {
    let issuer = format!(
        "[[issuer]]\nurl = \"{}\"\naudience = \"headgate\"\n",
        provider().issuer
    );
    let gate = World::shared().gate(&Setup {
        more: issuer,
        ..Setup::default()
    });
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let jwt = provider().token(&format!("https%3A%2F%2Fheadgate.test%2F{algorithm}"));
        gate.is_of(&jwt, "nightly-job");
        let ran = gate.psql(&jwt, &format!("SELECT '{algorithm}'")).unwrap();
        assert_eq!(ran.good().unwrap().trim(), algorithm);
    }
    let rows = gate
        .audit(&["--principal", "nightly-job"], |rows| rows.len() >= 3)
        .unwrap();
    assert_eq!(rows[0]["actor"], "agent-1");
    assert_eq!(rows[0]["chain"], serde_json::json!(["agent-1", "planner"]));
    let elsewhere = provider().token(&format!("{RS256}%3Faudience%3Dbilling"));
    assert!(refused(&gate, &elsewhere).contains(NOT_ACCEPTED));
    // One letter of the signature is another one.
    let jwt = provider().token(RS256);
    let (head, last) = jwt.split_at(jwt.len() - 10);
    let forged = format!(
        "{head}{}{}",
        if last.starts_with('A') { 'B' } else { 'A' },
        &last[1..]
    );
    assert!(refused(&gate, &forged).contains(NOT_ACCEPTED));
}

#[test]
fn a_jwt_that_lives_longer_than_the_issuers_may_is_refused() {
    let issuer = format!(
        "[[issuer]]\nurl = \"{}\"\naudience = \"headgate\"\nlifetime_max = \"5m\"\n",
        provider().issuer
    );
    let gate = World::shared().gate(&Setup {
        more: issuer,
        ..Setup::default()
    });
    assert!(
        refused(&gate, &provider().token(RS256)).contains(NOT_ACCEPTED),
        "it lives ten minutes"
    );
}
