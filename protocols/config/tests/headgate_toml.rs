//! `headgate.toml` as operators write it, rightly and wrongly.

use headgate_config::{Algorithm, Config, ConfigErrors, Cores, Durability, ListenerUser, OnHold};
use headgate_plane::{TargetAuth, TargetTls};
use std::path::Path;
use std::time::Duration;

/// What the README shows. The first listener's TLS is what most forget.
const MINIMAL: &str = r#"[appliance]
name = "gate-1"
data = "/var/lib/headgate"

[[listener]]
protocol = "postgres"
address = "0.0.0.0:5432"
tls = { certificate = "tls/gate.crt", key = "tls/gate.key" }

[[target]]
name = "orders"
protocol = "postgres"
address = "10.0.0.5:5432"
database = "orders"
user = "orders_app"
secret = "orders"

[[issuer]]
url = "https://id.example.com/realms/main"
audience = "headgate"
"#;

/// DESIGN.md section 4, word for word.
const DESIGN: &str = r#"[appliance]
name = "gate-1"
data = "/var/lib/headgate"

[dataplane]
cores = "auto"                              # or [2, 3, 4, 5]
durability = "batched"                      # "batched": bounded loss window; "strict": on disk before it is forwarded

[[listener]]
protocol = "postgres"
address = "0.0.0.0:5432"
tls = { certificate = "tls/gate.crt", key = "tls/gate.key" }

[[target]]
name = "orders"                             # psql "host=gate dbname=orders"
protocol = "postgres"
environment = "production"
address = "10.0.0.5:5432"
database = "orders"
user = "orders_app"
secret = "orders"                           # put in with: headgate secret put orders
tls = "verify-full"

[[issuer]]
url = "https://id.example.com/realms/main"  # OIDC discovery; keys are cached and refreshed
audience = "headgate"
groups_claim = "groups"

[api]
address = "127.0.0.1:8443"
"#;

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("/etc/headgate/headgate.toml"))
}

#[track_caller]
fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Line, column and message of each problem, as an operator reads them.
#[track_caller]
fn wrong(text: &str) -> String {
    parse(text)
        .map(|_| ())
        .expect_err("it should have been refused")
        .to_string()
}

#[test]
fn the_smallest_useful_configuration_is_short_and_has_safe_defaults() {
    assert!(MINIMAL.lines().count() <= 25);
    let config = good(MINIMAL);
    assert_eq!(config.appliance.runtime, Path::new("/run/headgate"));
    assert_eq!(config.appliance.rules, Path::new("/etc/headgate/rules.toml"));
    assert_eq!(config.link_socket(), Path::new("/run/headgate/link.sock"));
    let d = &config.dataplane;
    assert_eq!(
        (&d.cores, d.durability, d.analysts),
        (&Cores::Auto, Durability::Batched, 2)
    );
    assert_eq!(
        (d.spool_bytes, d.reply_record_bytes, d.statement_bytes_max),
        (64 << 20, 64 << 10, 4 << 20)
    );
    let listener = &config.listeners[0];
    assert_eq!(
        listener.tls.as_ref().unwrap().key,
        Path::new("/etc/headgate/tls/gate.key")
    );
    assert!(!listener.danger_allow_cleartext && listener.on_hold == OnHold::Wait);
    assert_eq!(
        listener.user,
        ListenerUser::Principal,
        "the name that a client gives must be the one that its credential is for"
    );
    let spec = &config.target_specs()[0];
    assert_eq!(
        (spec.tls, spec.auth, &spec.ca),
        (TargetTls::VerifyFull, TargetAuth::Scram, &None)
    );
    let issuer = &config.issuers[0];
    assert_eq!(
        (issuer.principal_claim.as_str(), issuer.groups_claim.as_str()),
        ("sub", "groups")
    );
    assert_eq!(
        issuer.algorithms,
        [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]
    );
    assert_eq!(config.api.public_url(), "http://127.0.0.1:8443");
}

#[test]
fn the_design_page_is_a_configuration() {
    let config = good(DESIGN);
    assert_eq!(config.target("orders").unwrap().environment, "production");
    assert_eq!(config.target("Orders").map(|t| &t.name), None);
}

#[test]
fn everything_that_can_be_said_is_heard() {
    let config = good(
        r#"
[appliance]
name = "g"
data = "state"
runtime = "run"
rules = "rules/prod.toml"
[dataplane]
cores = [2, 3]
durability = "strict"
spool_bytes = "1MiB"
sessions_max = 5
sessions_per_principal_max = 4
half_open_max = 30
half_open_per_address_max = 3
analysts = 3
reply_record_bytes = 0
statement_bytes_max = "64MiB"
[[listener]]
protocol = "postgres"
address = "127.0.0.1:6432"
danger_allow_cleartext = true
on_hold = "refuse"
user = "any"
[[target]]
name = "t"
protocol = "postgres"
address = "[::1]:5432"
database = "d"
user = "u"
tls = "danger-off"
auth = "danger-cleartext"
on_hold = "wait"
[target.labels]
team = "shop"
[[target]]
name = "t2"
protocol = "postgres"
address = "db.internal:5432"
database = "d"
user = "u"
tls = "verify-ca"
auth = "danger-md5"
ca = "ca.pem"
[[issuer]]
url = "http://127.0.0.1:9000/"
audience = "a"
principal_claim = "email"
algorithms = ["EdDSA"]
ca = "idp.pem"
client_id = "cli"
lifetime_max = "2h"
[local]
users = "users.toml"
[api]
address = "0.0.0.0:8443"
tls = { certificate = "c", key = "k" }
public_url = "https://gate.example/"
admin_groups = ["ops"]
"#,
    );
    assert_eq!(config.dataplane.cores, Cores::List(vec![2, 3]));
    assert_eq!(
        (config.dataplane.spool_bytes, config.dataplane.statement_bytes_max),
        (1 << 20, 64 << 20)
    );
    let shares = &config.dataplane;
    assert_eq!(
        (
            shares.sessions_per_principal_max,
            shares.half_open_max,
            shares.half_open_per_address_max
        ),
        (4, 30, 3)
    );
    assert_eq!(config.appliance.data, Path::new("/etc/headgate/state"));
    let listener = &config.listeners[0];
    assert_eq!(listener.user, ListenerUser::Any);
    assert_eq!(config.on_hold(listener, "t"), OnHold::Wait);
    assert_eq!(config.on_hold(listener, "t2"), OnHold::Refuse);
    let specs = config.target_specs();
    assert_eq!(
        (specs[0].tls, specs[0].auth),
        (TargetTls::DangerOff, TargetAuth::DangerCleartext)
    );
    assert_eq!(specs[0].labels, [("team".to_owned(), "shop".to_owned())]);
    assert_eq!(
        (specs[1].tls, specs[1].ca.as_deref()),
        (TargetTls::VerifyCa, Some("/etc/headgate/ca.pem"))
    );
    assert_eq!(config.issuers[0].lifetime_max, Duration::from_secs(7200));
    assert_eq!(
        config.local.as_ref().unwrap().users,
        Path::new("/etc/headgate/users.toml")
    );
    assert_eq!(
        (
            config.api.public_url().as_str(),
            config.api.admin_groups.as_slice()
        ),
        ("https://gate.example", ["ops".to_owned()].as_slice())
    );
    assert_eq!(
        good(&MINIMAL.replace("[[issuer]]", "[dataplane]\ncores = 4\n[[issuer]]"))
            .dataplane
            .cores,
        Cores::Count(4)
    );
}

#[test]
fn the_catalog_has_a_reader_of_its_own_where_one_is_named() {
    assert_eq!(good(MINIMAL).targets[0].catalog_reader(), None);
    let keys = "secret = \"orders\"\ncatalog_user = \"reader\"\ncatalog_secret = \"orders_reader\"";
    let config = good(&MINIMAL.replace("secret = \"orders\"", keys));
    assert_eq!(
        config.targets[0].catalog_reader(),
        Some(("reader", Some("orders_reader")))
    );
    for (keys, says) in [
        (
            "catalog_secret = \"orders_reader\"",
            "`catalog_user`, which is missing",
        ),
        ("catalog_user = \"\"", "`catalog_user` cannot be empty"),
        (
            "catalog_user = \"reader\"\ncatalog_secret = \"a/b\"",
            "not a name for a secret",
        ),
    ] {
        let shown = wrong(&MINIMAL.replace("secret = \"orders\"", &format!("secret = \"orders\"\n{keys}")));
        assert!(shown.contains("line 17") || shown.contains("line 18"), "{shown}");
        assert!(shown.contains(says), "{shown}");
    }
}

#[test]
fn a_misspelt_key_is_shown_with_its_line_and_the_right_spelling() {
    let shown = wrong(&MINIMAL.replace("secret = ", "secert = "));
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].starts_with("/etc/headgate/headgate.toml: line 16, column 1: unknown field `secert`"),
        "{shown}"
    );
    assert_eq!(lines[1], "  16 | secert = \"orders\"");
    assert_eq!(lines[2], "     | ^");
    assert_eq!(lines[3], "  help: did you mean `secret`?");

    assert!(wrong(&MINIMAL.replace("[[issuer]]", "[[isuer]]")).contains("did you mean `issuer`?"));
    assert!(wrong(&format!("{MINIMAL}lifetime = \"2h\"\n")).contains("unknown field `lifetime`"));
    let shown = wrong(&MINIMAL.replace("secret = \"orders\"", "tls = \"verify-ful\""));
    assert!(
        shown.contains("line 16") && shown.contains("did you mean `verify-full`?"),
        "{shown}"
    );
    assert!(!wrong(&MINIMAL.replace("secret = ", "qqqqqqqq = ")).contains("did you mean"));
}

#[test]
fn a_value_of_the_wrong_kind_is_shown_where_it_stands() {
    for (from, to, place, says) in [
        (
            "\"0.0.0.0:5432\"",
            "\"0.0.0.0\"",
            "line 7, column 11",
            "socket address",
        ),
        ("\"0.0.0.0:5432\"", "5432", "line 7, column 11", ""),
        ("name = \"gate-1\"", "name = \"gate-1", "line 2, ", ""),
        (
            "[[listener]]",
            "[dataplane]\ncores = \"all\"\n[[listener]]",
            "line 6, column 9",
            "auto",
        ),
        (
            "[[listener]]",
            "[dataplane]\ncores = [1, 1]\n[[listener]]",
            "line 6, column 9",
            "core 1 is named twice",
        ),
        (
            "[[listener]]",
            "[dataplane]\ncores = []\n[[listener]]",
            "line 6, column 9",
            "cannot be empty",
        ),
        (
            "[[listener]]",
            "[dataplane]\nspool_bytes = \"64MB\"\n[[listener]]",
            "line 6, column 15",
            "KiB, MiB, GiB",
        ),
        (
            "[[listener]]",
            "[dataplane]\nspool_bytes = -1\n[[listener]]",
            "line 6, column 15",
            "negative",
        ),
        (
            "audience = \"headgate\"",
            "audience = \"headgate\"\nalgorithms = [\"HS256\"]",
            "line 21, column 15",
            "HS256",
        ),
        (
            "audience = \"headgate\"",
            "audience = \"headgate\"\nlifetime_max = \"1 year\"",
            "line 21, column 16",
            "15m",
        ),
        (
            "data = \"/var/lib/headgate\"\n",
            "",
            "line 1, column 1",
            "missing field `data`",
        ),
    ] {
        assert!(MINIMAL.contains(from));
        let shown = wrong(&MINIMAL.replacen(from, to, 1));
        assert!(
            shown.contains(place) && shown.contains(says),
            "{shown}\ndoes not have {place}, {says}"
        );
    }
}

#[test]
fn all_problems_are_found_at_once_each_in_its_place() {
    let shown = wrong(
        r#"[appliance]
name = "gate one"
data = "/var/lib/headgate"
[dataplane]
spool_bytes = "64KiB"
statement_bytes_max = "65MiB"
analysts = 0
[[listener]]
protocol = "postgras"
address = "0.0.0.0:5432"
[[listener]]
protocol = "postgres"
address = "0.0.0.0:5432"
danger_allow_cleartext = true
[[target]]
name = "orders"
protocol = "postgres"
address = "10.0.0.5"
database = ""
user = "u"
[[target]]
name = "orders"
protocol = "postgres"
address = "10.0.0.5:5432"
database = "d"
user = "u"
tls = "danger-off"
auth = "danger-cleartext"
[[issuer]]
url = "http://id.example.com"
audience = ""
algorithms = []
[[issuer]]
url = "http://id.example.com/"
audience = "a"
[api]
address = "0.0.0.0:8443"
public_url = "gate.example"
"#,
    );
    for expected in [
        "line 2, column 1: appliance.name may hold letters",
        "line 5, column 1: spool_bytes is 65536; it must be between 1048576",
        "line 6, column 1: statement_bytes_max is",
        "line 7, column 1: analysts is 0",
        "line 9, column 1: protocol `postgras` is not known",
        "line 8, column 1: a listener without `tls` would carry passwords in clear",
        "line 13, column 1: two listeners have the address 0.0.0.0:5432",
        "line 18, column 1: `10.0.0.5` is not host:port",
        "line 19, column 1: target `orders`: `database` cannot be empty",
        "line 22, column 1: two targets are named `orders`",
        "line 28, column 1: target `orders` would get its password in clear text without TLS",
        "line 30, column 1: issuer http://id.example.com: plain http is for loopback only",
        "line 31, column 1: issuer http://id.example.com: `audience` cannot be empty",
        "line 32, column 1: issuer http://id.example.com: no algorithm",
        "line 34, column 1: two issuers have the URL",
        "line 37, column 1: the API at 0.0.0.0:8443 would be plain http",
        "line 38, column 1: `gate.example` is not an http(s) URL",
    ] {
        assert!(shown.contains(expected), "not found: {expected}\nin:\n{shown}");
    }
}

#[test]
fn addresses_and_issuers_that_could_be_read_two_ways_are_refused() {
    for address in [
        "",
        ":5432",
        "host:",
        "host:0",
        "host:70000",
        "::1:5432",
        "[::1]5432",
        "[host]:5432",
        "a b:5432",
        "u@host:5432",
        "host/x:1",
    ] {
        assert!(
            wrong(&MINIMAL.replace("10.0.0.5:5432", address)).contains("is not host:port"),
            "{address}"
        );
    }
    for url in [
        "id.example.com",
        "ftp://id.example.com",
        "https://u:p@id.example.com",
        "https://id.example.com?x=1",
        "http://127.0.0.1.evil.example",
    ] {
        assert!(
            wrong(&MINIMAL.replace("https://id.example.com/realms/main", url)).contains("issuer"),
            "{url}"
        );
    }
    for url in [
        "http://localhost:8080/r",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
    ] {
        good(&MINIMAL.replace("https://id.example.com/realms/main", url));
    }
    let listener_only = MINIMAL.split("[[target]]").next().unwrap();
    assert!(good(listener_only).targets.is_empty());
    assert!(wrong(listener_only.split("[[listener]]").next().unwrap()).contains("no [[listener]]"));
}

#[test]
fn check_looks_at_the_files_and_load_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("headgate.toml");
    let text = MINIMAL.replace(
        "audience = \"headgate\"",
        "audience = \"headgate\"\nca = \"idp.pem\"\n[local]\nusers = \"users.toml\"",
    );
    std::fs::write(&path, text).unwrap();
    let config = Config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
    let shown = |config: &Config| {
        config
            .check()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    for file in [
        "gate.crt cannot be read",
        "gate.key cannot be read",
        "idp.pem cannot be read",
        "users.toml cannot be read",
        "rules.toml cannot be read",
    ] {
        assert!(shown(&config).contains(file), "{file} in\n{}", shown(&config));
    }
    assert!(shown(&config).contains("line 8, column 9:"), "{}", shown(&config));

    std::fs::create_dir(dir.path().join("tls")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let pem = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
    write("tls/gate.crt", &pem("PRIVATE KEY"));
    write("tls/gate.key", &pem("CERTIFICATE"));
    write("idp.pem", "nothing");
    write("users.toml", "");
    write("rules.toml", "");
    let found = shown(&config);
    assert_eq!(config.check().len(), 3, "{found}");
    assert!(
        found.contains("gate.crt holds no certificate") && found.contains("gate.key holds no private key"),
        "{found}"
    );
    write("tls/gate.crt", &pem("CERTIFICATE"));
    write("tls/gate.key", &pem("PRIVATE KEY"));
    write("idp.pem", &pem("CERTIFICATE"));
    assert!(config.check().is_empty(), "{}", shown(&config));

    let absent = Config::load(dir.path().join("none.toml"))
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(absent.contains("none.toml: cannot be read"), "{absent}");
}

#[test]
fn no_cut_or_garbled_file_makes_the_reader_panic() {
    for cut in 0..DESIGN.len() {
        let _ = parse(&DESIGN[..cut]).map_err(|errors| errors.to_string());
    }
    for at in 0..DESIGN.len() {
        for byte in ["\0", "é", "[", "\"", "=", "\n"] {
            let garbled = format!("{}{byte}{}", &DESIGN[..at], &DESIGN[at + 1..]);
            let _ = parse(&garbled).map_err(|errors| errors.to_string());
        }
    }
}
