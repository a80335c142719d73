//! The configurations of the engines.

use super::kind::Kind;
use super::{ENGINE_CORE, TARGET_PORT};
use headgate_e2e::certificates::Certificate;
use std::fmt::Write;
use std::path::Path;

/// Of the synthetic target where it asks for SCRAM, and of PgBouncer then.
pub const TARGET_PASSWORD: &str = "bench-target-password";

/// One thread each; where `tls` is, both with TLS 1.3 and the cipher that all agree on by themselves.
pub fn haproxy(kind: Kind, pem: &Path) -> String {
    // Tuned as its people would for this work: a buffer for bulk, and edge-triggered polling.
    let tuning = if kind == Kind::HaproxyStock {
        ""
    } else {
        "    tune.bufsize 65536\n    expose-experimental-directives\n    tune.fd.edge-triggered on\n"
    };
    format!(
        "global
    nbthread 1
    maxconn 9900
    ssl-default-bind-options ssl-min-ver TLSv1.3
{tuning}defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen postgres
    bind 127.0.0.1:{}
    bind 127.0.0.1:{} ssl crt {} alpn postgresql
    server target 127.0.0.1:{TARGET_PORT}
",
        kind.port(),
        kind.tls_port(),
        pem.display()
    )
}

/// Session mode, as Debian has it, but for the number of sessions. With `scram` it answers the target's, and asks clients for the
/// password itself, as Headgate does. SCRAM with them would cost it PBKDF2 at each login (3 ms), or the target's own verifier.
pub fn pgbouncer(kind: Kind, certificate: &Certificate, place: &Path, scram: bool) -> String {
    let (password, auth) = if scram {
        (
            format!(" password={TARGET_PASSWORD}"),
            format!(
                "auth_type = plain\nauth_file = {}",
                place.join("users.txt").display()
            ),
        )
    } else {
        (String::new(), "auth_type = any".to_owned())
    };
    let large = if kind == Kind::PgbouncerLarge {
        "pkt_buf = 65536\n"
    } else {
        ""
    };
    format!(
        "[databases]
bench = host=127.0.0.1 port={TARGET_PORT} dbname=bench user=bench{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {}
unix_socket_dir =
user = postgres
{auth}
pool_mode = session
default_pool_size = 9900
max_client_conn = 9900
server_login_retry = 1
log_connections = 0
log_disconnections = 0
client_tls_sslmode = allow
client_tls_protocols = tlsv1.3
client_tls_cert_file = {}
client_tls_key_file = {}
{large}",
        kind.port(),
        certificate.certificate.display(),
        certificate.key.display()
    )
}

pub fn headgate(kind: Kind, certificate: &Certificate, place: &Path, scram: bool) -> String {
    let secret = if scram { "secret = \"bench\"\n" } else { "" };
    let spin = if kind == Kind::HeadgateSpin {
        "spin_us = 20\n"
    } else {
        ""
    };
    let (place, port, api) = (place.display(), kind.port(), kind.api_port());
    format!(
        "[appliance]
name = \"bench\"
data = \"{place}/data\"
runtime = \"{place}/run\"

[dataplane]
cores = [{ENGINE_CORE}]
{spin}
[[listener]]
protocol = \"postgres\"
address = \"127.0.0.1:{port}\"
tls = {{ certificate = \"{}\", key = \"{}\" }}
danger_allow_cleartext = true
user = \"any\"

[[target]]
name = \"bench\"
protocol = \"postgres\"
environment = \"production\"
address = \"127.0.0.1:{TARGET_PORT}\"
database = \"bench\"
user = \"bench\"
tls = \"danger-off\"
{secret}
[api]
address = \"127.0.0.1:{api}\"
",
        certificate.certificate.display(),
        certificate.key.display()
    )
}

/// `said`: a line of `headgate check`. If it complains of a key that it does not know, and that key has a line for itself, the
/// text without this line, and the line.
pub fn without_unknown(text: &str, said: &str) -> Option<(String, String)> {
    let key = said.split_once("unknown field `")?.1.split_once('`')?.0;
    let number: usize = said.split_once(": line ")?.1.split_once(',')?.0.parse().ok()?;
    let line = text.lines().nth(number.checked_sub(1)?)?;
    if line.split_once('=')?.0.trim() != key {
        return None;
    }
    let mut without = String::new();
    for (_, line) in text.lines().enumerate().filter(|(at, _)| at + 1 != number) {
        let _ = writeln!(without, "{line}");
    }
    Some((without, line.to_owned()))
}

/// Whom the mask rule lets pass.
pub const OFFICERS: &str = "privacy-officers";
/// Who may ask, and who answers, what is held.
pub const ANALYSTS: &str = "analysts";
pub const REVIEWERS: &str = "dba";

const ALLOW: &str = "[[rule]]
name = \"analysts read\"
who = { groups = [\"analysts\"] }
target = { names = [\"bench\"] }
statement = { class = [\"read\"], relations = [\"public.*\"] }
effect = \"allow\"

";

const MASK: &str = "[[mask]]
name = \"contact data\"
columns = [\"public.customers.email\"]
detect = [\"email\", \"payment_card\", \"us_ssn\"]
method = \"partial\"
unless = { groups = [\"privacy-officers\"] }
";

/// `count` rules; one allows what the bench does. Twenty are of every kind; more are of relations that nobody may read, which
/// every caller's rules have.
pub fn rules(count: usize, mask: bool) -> String {
    let mut rules = vec![ALLOW.to_owned()];
    for (name, verbs) in [
        ("changes", "\"update\", \"delete\""),
        ("schema changes", "\"create table\", \"alter table\", \"drop\""),
        ("copies", "\"copy from\", \"copy to\""),
    ] {
        rules.push(format!(
            "[[rule]]\nname = \"{name} need a DBA\"\ntarget = {{ environment = \"production\" }}\nstatement = {{ verbs = [{verbs}] }}\neffect = \"hold\"\nreviewers = {{ groups = [\"{REVIEWERS}\"] }}\n\n"
        ));
    }
    rules.push("[[rule]]\nname = \"no DELETE or UPDATE without WHERE\"\nstatement = { verbs = [\"delete\", \"update\"] }\nwhen = \"!statement.has_where\"\neffect = \"deny\"\nmessage = \"add a WHERE clause\"\n\n".to_owned());
    rules.push("[[rule]]\nname = \"no joins of many\"\nwhen = \"size(statement.relations) > 20\"\neffect = \"deny\"\n\n".to_owned());
    rules.push("[[rule]]\nname = \"agents may not read files\"\nstatement = { functions = [\"pg_read_file\", \"lo_import\"] }\neffect = \"deny\"\n\n".to_owned());
    for n in 0..8 {
        rules.push(format!(
            "[[rule]]\nname = \"team {n} reads its schema\"\nwho = {{ groups = [\"team-{n}\"] }}\ntarget = {{ names = [\"bench\"] }}\nstatement = {{ class = [\"read\"], relations = [\"team_{n}.*\"] }}\neffect = \"allow\"\n\n"
        ));
    }
    for n in rules.len()..count.max(rules.len()) {
        rules.push(format!(
            "[[rule]]\nname = \"nobody reads vault {n}\"\ntarget = {{ environment = \"production\" }}\nstatement = {{ relations = [\"public.vault_{n}\", \"hr.vault_{n}\"] }}\neffect = \"deny\"\nmessage = \"case {n}\"\n\n"
        ));
    }
    let mut text = String::new();
    for rule in rules.iter().take(count) {
        let _ = write!(text, "{rule}");
    }
    if mask {
        text.push_str(MASK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_an_older_build_does_not_know_is_taken_out_and_nothing_else() {
        let text = "[[listener]]\nport = 1\nuser = \"any\"\n\n[[target]]\nuser = \"bench\"\n";
        let said =
            "/run/headgate.toml: line 3, column 1: unknown field `user`, expected one of `port`, `tls`";
        let (without, line) = without_unknown(text, said).expect("it says which");
        assert_eq!(
            without,
            "[[listener]]\nport = 1\n\n[[target]]\nuser = \"bench\"\n"
        );
        assert_eq!(line, "user = \"any\"");
        for other in [
            "/run/headgate.toml: line 2, column 1: unknown field `user`",
            "/run/headgate.toml: line 9, column 1: unknown field `user`",
            "/run/headgate.toml: line 3, column 1: missing field `tls`",
            "ok",
        ] {
            assert_eq!(without_unknown(text, other), None);
        }
    }

    #[test]
    fn there_are_as_many_rules_as_asked_for_and_one_allows() {
        for count in [1, 20, 1000] {
            let text = rules(count, true);
            assert_eq!(text.matches("[[rule]]").count(), count);
            assert!(text.starts_with(ALLOW));
            assert!(toml::from_str::<toml::Table>(&text).is_ok());
        }
        assert!(!rules(20, false).contains("[[mask]]"));
    }
}
