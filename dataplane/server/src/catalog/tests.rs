//! Against a real PostgreSQL, and against peers that are not one. Needs: apt package `postgresql`.

use super::*;
use headgate_mask::SearchPath;
use headgate_plane::{CatalogReader, Secret, TargetAuth};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

const PASSWORD: &str = "s3cret";
/// A test asserts no time: this is when it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

struct Postgres {
    directory: tempfile::TempDir,
    bin: PathBuf,
    port: u16,
}

/// PostgreSQL refuses to run as root: there it runs as the user `postgres`.
fn as_server(program: &Path) -> Command {
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn run(command: &mut Command) {
    let out = command
        .current_dir("/")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .expect("PostgreSQL's tools run");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

impl Postgres {
    /// With SCRAM over TCP, and a role `app` whose password is [`PASSWORD`].
    fn start(tls: bool) -> Postgres {
        let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .expect("PostgreSQL is not installed: apt-get install postgresql")
            .filter_map(|e| e.ok().map(|e| e.path().join("bin")))
            .filter(|bin| bin.join("postgres").exists())
            .collect();
        versions.sort();
        let bin = versions
            .pop()
            .expect("PostgreSQL is not installed: apt-get install postgresql");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = directory.path().join("data");
        std::fs::create_dir(&data).expect("a data directory");
        let own = || {
            Command::new("chown")
                .args(["-R", "postgres"])
                .arg(directory.path())
                .status()
        };
        let _ = own();
        run(as_server(&bin.join("initdb")).arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]));
        std::fs::write(
            data.join("pg_hba.conf"),
            "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
        )
        .unwrap();
        let mut more = String::new();
        if tls {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            std::fs::write(data.join("server.crt"), made.cert.pem()).unwrap();
            std::fs::write(data.join("server.key"), made.signing_key.serialize_pem()).unwrap();
            std::fs::set_permissions(
                data.join("server.key"),
                std::os::unix::fs::PermissionsExt::from_mode(0o600),
            )
            .unwrap();
            more.push_str(" -c ssl=on");
        }
        let _ = own();
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off -c max_connections=20 -c log_connections=on{more}",
            directory.path().display()
        );
        let log = directory.path().join("log");
        run(as_server(&bin.join("pg_ctl"))
            .arg("-D")
            .arg(&data)
            .arg("-o")
            .arg(options)
            .arg("-l")
            .arg(log)
            .args(["-w", "start"]));
        let postgres = Postgres { directory, bin, port };
        postgres.sql(&format!(
            "create role app login password '{PASSWORD}'; create schema app authorization app;
             create table public.customers(id int, email text); create table app.customers(email text);
             create view public.emails as select email, upper(email) as loud from public.customers;"
        ));
        postgres
    }

    fn sql(&self, text: &str) {
        run(Command::new(self.bin.join("psql"))
            // Whatever is set for the database.
            .env(
                "PGOPTIONS",
                "-c statement_timeout=0 -c lock_timeout=0 -c default_transaction_read_only=off -c idle_in_transaction_session_timeout=0",
            )
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h"])
            .arg(self.directory.path())
            .args(["-p", &self.port.to_string(), "-U", "postgres", "-d", "postgres", "-c", text]));
    }

    /// How many connections of ours it has seen.
    fn connections(&self) -> usize {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        log.lines()
            .filter(|line| line.contains("connection authorized") && line.contains("headgate catalog"))
            .count()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.directory.path().join("data");
        let mut stop = as_server(&self.bin.join("pg_ctl"));
        let stop = stop
            .current_dir("/")
            .arg("-D")
            .arg(&data)
            .args(["-m", "immediate", "-w", "stop"]);
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn target(name: &str, address: String) -> TargetSpec {
    TargetSpec {
        name: name.to_owned(),
        protocol: headgate_plane::Protocol::Postgres,
        environment: "test".to_owned(),
        address,
        database: "postgres".to_owned(),
        user: "app".to_owned(),
        tls: TargetTls::DangerOff,
        ca: None,
        auth: TargetAuth::Scram,
        labels: Vec::new(),
    }
}

fn wanted(target: TargetSpec, label: &str) -> CatalogWanted {
    let labels: Arc<[String]> = vec![label.to_owned()].into();
    CatalogWanted {
        target: Arc::new(target),
        secret: Secret::new(PASSWORD),
        reader: None,
        labels,
        before: None,
    }
}

const LABEL: &str = "public.customers.email";

fn catalogs(targets: &[TargetSpec], limits: Limits) -> (Catalogs, Receiver<CatalogLoaded>) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let tell = Box::new(move |loaded| drop(sender.lock().unwrap().send(loaded)));
    (
        Catalogs::new(Arc::new(TargetConfigs::load(targets).unwrap()), limits, tell),
        receiver,
    )
}

fn one(wanted: CatalogWanted, limits: Limits) -> Result<Arc<Catalog>, Arc<str>> {
    let (catalogs, told) = catalogs(std::slice::from_ref(&*wanted.target), limits);
    catalogs.load(wanted);
    told.recv_timeout(PATIENCE).expect("an answer in any case").result
}

fn words(result: Result<Arc<Catalog>, Arc<str>>) -> String {
    result.expect_err("a failure").to_string()
}

fn resolved(catalog: &Catalog, path: &SearchPath, name: &str) -> Option<String> {
    catalog
        .resolve(path, None, name)
        .map(|(schema, _, _)| schema.to_owned())
}

/// A peer that takes connections and does with each what it is told, on a thread of its own.
fn peer(act: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let act = Arc::new(act);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let act = Arc::clone(&act);
            std::thread::spawn(move || act(stream));
        }
    });
    address
}

#[test]
fn a_catalog_is_read_whatever_is_set_for_the_role() {
    let postgres = Postgres::start(false);
    let orders = || target("orders", format!("127.0.0.1:{}", postgres.port));
    let check = |catalog: &Catalog, why: &str| {
        let path = catalog.default_path();
        assert_eq!(
            resolved(catalog, path, "customers").as_deref(),
            Some("app"),
            "{why}: \"$user\" comes first"
        );
        assert_eq!(
            resolved(catalog, path, "emails").as_deref(),
            Some("public"),
            "{why}"
        );
        assert_eq!(
            resolved(catalog, &SearchPath::named(["public"], "app"), "customers").as_deref(),
            Some("public"),
            "{why}"
        );
        let (_, _, oid) = catalog.resolve(path, Some("public"), "emails").unwrap();
        assert!(
            catalog.label_of(oid, 1).is_some() && catalog.is_derived(oid, 2),
            "{why}"
        );
    };
    check(
        &one(wanted(orders(), LABEL), Limits::default()).unwrap(),
        "as it is",
    );
    for settings in [
        "statement_timeout = '1ms'",
        "lock_timeout = '1ms'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "default_transaction_read_only = on",
        "idle_in_transaction_session_timeout = '1ms'",
        "client_encoding = 'SQL_ASCII'",
        "standard_conforming_strings = off",
        "search_path = \"$user\", public, pg_catalog",
        "jit_above_cost = 0",
    ] {
        postgres.sql(&format!(
            "alter role app set {settings}; alter database postgres set {settings};"
        ));
        check(
            &one(wanted(orders(), LABEL), Limits::default()).unwrap_or_else(|e| panic!("{settings}: {e}")),
            settings,
        );
        postgres.sql("alter role app reset all; alter database postgres reset all;");
    }
}

#[test]
fn a_reader_of_its_own_needs_no_right_and_tells_the_path_of_the_targets_user() {
    let postgres = Postgres::start(false);
    postgres.sql(
        "create role reader login password 'other'; alter role reader set search_path = nowhere; alter role app set search_path = public;",
    );
    let orders = target("orders", format!("127.0.0.1:{}", postgres.port));
    let mut wanted = wanted(orders, LABEL);
    wanted.secret = Secret::new("not used");
    wanted.reader = Some(CatalogReader {
        user: "reader".to_owned(),
        secret: Secret::new("other"),
    });
    let catalog = one(wanted, Limits::default()).unwrap();
    assert_eq!(
        resolved(&catalog, catalog.default_path(), "customers").as_deref(),
        Some("public")
    );
}

#[test]
fn with_tls_the_target_is_checked() {
    let postgres = Postgres::start(true);
    let ca = postgres.directory.path().join("data/server.crt");
    let ca_copy = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca_copy.path(), std::fs::read(ca).unwrap()).unwrap();
    let mut orders = target("orders", format!("localhost:{}", postgres.port));
    (orders.tls, orders.ca) = (
        TargetTls::VerifyFull,
        Some(ca_copy.path().to_string_lossy().into_owned()),
    );
    assert!(one(wanted(orders.clone(), LABEL), Limits::default()).is_ok());
    orders.address = format!("127.0.0.1:{}", postgres.port);
    assert_eq!(
        words(one(wanted(orders, LABEL), Limits::default())),
        "the target cannot be reached",
        "another name than the certificate's"
    );
}

#[test]
fn each_failure_has_words_and_none_is_kept() {
    let postgres = Postgres::start(false);
    let orders = target("orders", format!("127.0.0.1:{}", postgres.port));
    let (catalogs, told) = catalogs(std::slice::from_ref(&orders), Limits::default());
    let mut wrong = wanted(orders.clone(), LABEL);
    wrong.secret = Secret::new("wrong");
    catalogs.load(wrong);
    assert_eq!(
        words(told.recv_timeout(PATIENCE).unwrap().result),
        "the target did not let the gateway in"
    );
    catalogs.load(wanted(orders.clone(), LABEL));
    assert!(
        told.recv_timeout(PATIENCE).unwrap().result.is_ok(),
        "the next try is a new one"
    );
    assert_eq!(
        (
            catalogs.counters().loaded.load(Ordering::Relaxed),
            catalogs.counters().failed.load(Ordering::Relaxed)
        ),
        (1, 1)
    );
    postgres.sql("revoke select on pg_catalog.pg_rewrite from public");
    let refused = words(one(wanted(orders.clone(), LABEL), Limits::default()));
    assert_eq!(refused, "the target refused the query with SQLSTATE 42501");
    postgres.sql("grant select on pg_catalog.pg_rewrite to public; alter role app connection limit 0");
    assert_eq!(
        words(one(wanted(orders, LABEL), Limits::default())),
        "the target did not let the gateway in"
    );
    let closed = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .unwrap();
    assert_eq!(
        words(one(
            wanted(target("down", closed.to_string()), LABEL),
            Limits::default()
        )),
        "the target cannot be reached"
    );
    let short = Limits {
        statement: Duration::from_millis(1),
        ..Limits::default()
    };
    postgres.sql("alter role app connection limit -1");
    let slow = words(one(
        wanted(target("orders", format!("127.0.0.1:{}", postgres.port)), LABEL),
        short,
    ));
    assert_eq!(
        slow, "the target refused the query with SQLSTATE 57014",
        "our own limit is the one that counts"
    );
}

#[test]
fn a_target_that_says_nothing_waits_for_itself_alone() {
    let postgres = Postgres::start(false);
    // Threads that sleep as long as the connection is open.
    let silent = peer(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())));
    let healthy = target("orders", format!("127.0.0.1:{}", postgres.port));
    let limits = Limits {
        whole: Duration::from_secs(3),
        ..Limits::default()
    };
    let (catalogs, told) = catalogs(std::slice::from_ref(&healthy), limits);
    for n in 0..8 {
        catalogs.load(wanted(target(&format!("silent-{n}"), silent.clone()), LABEL));
    }
    catalogs.load(wanted(healthy, LABEL));
    let first = told.recv_timeout(PATIENCE).unwrap();
    assert!(&*first.target == "orders" && first.result.is_ok(), "{first:?}");
    for _ in 0..8 {
        assert_eq!(
            words(told.recv_timeout(PATIENCE).unwrap().result),
            "the target did not answer in time"
        );
    }
}

#[test]
fn a_hundred_askers_are_one_load_and_a_change_meanwhile_is_another() {
    let postgres = Postgres::start(false);
    let port = postgres.port;
    let held = Arc::new((Mutex::new(true), std::sync::Condvar::new()));
    let gate = Arc::clone(&held);
    // In front of the target: nothing passes until it is told so.
    let address = peer(move |client| {
        let held = gate.0.lock().unwrap();
        drop(gate.1.wait_while(held, |held| *held).unwrap());
        let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
        let _ = std::io::copy(&mut &server, &mut &client);
    });
    let orders = target("orders", address);
    let (catalogs, told) = catalogs(std::slice::from_ref(&orders), Limits::default());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25).for_each(|_| catalogs.load(wanted(orders.clone(), LABEL))));
        }
    });
    // A statement changes the target while the load is under way; who asks then gets another answer.
    assert_eq!(catalogs.changed("orders"), 1);
    for _ in 0..100 {
        catalogs.load(wanted(orders.clone(), LABEL));
    }
    for _ in 0..100 {
        catalogs.load(wanted(orders.clone(), "public.customers.id"));
    }
    *held.0.lock().unwrap() = false;
    held.1.notify_all();
    let mut answers: Vec<CatalogLoaded> = (0..3).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(answers.iter().all(|a| a.result.is_ok()), "{answers:?}");
    assert_eq!(
        (answers[0].changes, &*answers[0].labels[0]),
        (0, LABEL),
        "it began before the change"
    );
    answers.sort_by_key(|a| (a.changes, a.labels[0].clone()));
    let seen: Vec<(u64, &str)> = answers
        .iter()
        .map(|a| (a.changes, a.labels[0].as_str()))
        .collect();
    assert_eq!(seen, [(0, LABEL), (1, LABEL), (1, "public.customers.id")]);
    assert_eq!(postgres.connections(), 3, "of 300 questions");
    assert!(told.try_recv().is_err());
    catalogs.load(wanted(orders, LABEL));
    assert!(
        told.recv_timeout(PATIENCE).unwrap().result.is_ok(),
        "nothing is left behind"
    );
}

/// As it is now, on a connection of its own.
fn fresh(target: &TargetSpec, before: &Arc<Catalog>) -> Arc<Catalog> {
    let mut wanted = wanted(target.clone(), LABEL);
    wanted.before = Some(Arc::clone(before));
    one(wanted, Limits::default()).unwrap()
}

#[test]
fn changes_are_followed_on_one_connection_and_come_to_what_a_new_one_reads() {
    for tls in [false, true] {
        let postgres = Postgres::start(tls);
        let mut orders = target("orders", format!("localhost:{}", postgres.port));
        if tls {
            orders.tls = TargetTls::VerifyFull;
            let ca = postgres.directory.path().join("data/server.crt");
            let copy = postgres.directory.path().join("ca.crt");
            std::fs::copy(ca, &copy).unwrap();
            orders.ca = Some(copy.to_string_lossy().into_owned());
        }
        let limits = Limits {
            linger: PATIENCE,
            ..Limits::default()
        };
        let (catalogs, told) = catalogs(std::slice::from_ref(&orders), limits);
        let load = || {
            catalogs.load(wanted(orders.clone(), LABEL));
            told.recv_timeout(PATIENCE).unwrap().result.unwrap()
        };
        load();
        load();
        assert_eq!(
            postgres.connections(),
            2,
            "where nothing changes no connection is kept"
        );
        let mut last = load();
        let (mut own, mut read_fresh) = (3, 0);
        for (text, new_connections) in [
            ("create table app.later (id int)", 1),
            ("create table public.later (id int); drop table app.later", 0),
            ("alter table public.later rename to now", 0),
            (
                "create view public.copied as select email from public.customers",
                0,
            ),
            ("alter table public.customers rename to clients", 0),
            ("create schema more; create table more.customers (email text)", 0),
            ("alter schema more rename to less", 0),
            ("create table public.customers (email text)", 0),
            (
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'headgate catalog'",
                1,
            ),
            ("drop view public.copied", 0),
            (
                "grant usage on schema less to app; alter role app set search_path = less",
                1,
            ),
            ("create table less.other (id int)", 0),
        ] {
            postgres.sql(text);
            catalogs.changed("orders");
            let followed = load();
            own += new_connections;
            assert_eq!(followed.difference(&fresh(&orders, &last)), None, "{text}");
            read_fresh += 1;
            assert_eq!(postgres.connections(), own + read_fresh, "{text}");
            last = followed;
        }
        assert_eq!(last.default_path(), &SearchPath::told(["pg_catalog", "less"]));
        assert_eq!(
            catalogs.counters().followed.load(Ordering::Relaxed),
            9,
            "tls: {tls}"
        );
        // Others are not kept out for long by a connection that lingers: it ends by itself.
        let short = Limits {
            linger: Duration::from_millis(1),
            ..Limits::default()
        };
        let (catalogs, told) = self::catalogs(std::slice::from_ref(&orders), short);
        for _ in 0..3 {
            catalogs.changed("orders");
            catalogs.load(wanted(orders.clone(), LABEL));
            assert!(told.recv_timeout(PATIENCE).unwrap().result.is_ok());
            let end = Instant::now() + PATIENCE;
            while !catalogs.0.state().lingering.is_empty() {
                assert!(Instant::now() < end, "nobody takes it up");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(catalogs.counters().followed.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn what_a_target_sends_is_bounded_and_read_to_the_letter() {
    let hello = |stream: &mut TcpStream| {
        let mut out = Vec::new();
        write::authentication_ok(&mut out);
        write::backend_key_data(&mut out, 7, &[1, 2, 3, 4]).unwrap();
        write::ready_for_query(&mut out, headgate_postgres::backend::TransactionStatus::Idle);
        stream.write_all(&out)
    };
    let row = || {
        let mut row = Vec::new();
        write::data_row(
            &mut row,
            [Some(b"x".as_slice()), Some(b"1"), None, None, None, None].into_iter(),
        )
        .unwrap();
        row
    };
    let answers = |bytes: Vec<u8>, endless: bool| {
        peer(move |mut stream| {
            let mut came = [0; 1024];
            let _ = stream.read(&mut came);
            if hello(&mut stream).is_err() {
                return;
            }
            let _ = stream.read(&mut came);
            while stream.write_all(&bytes).is_ok() && endless {}
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        })
    };
    let ready = || {
        let mut out = Vec::new();
        write::ready_for_query(&mut out, headgate_postgres::backend::TransactionStatus::Idle);
        out
    };
    let limits = Limits {
        answer_bytes: 1 << 20,
        ..Limits::default()
    };
    for (bytes, endless, says) in [
        (row(), true, "the target's answer is too long"),
        (
            b"D\x7f\xff\xff\xff".to_vec(),
            false,
            "the target's answer cannot be read",
        ),
        (
            b"D\0\0\0\x08\0\x05\0\0".to_vec(),
            false,
            "the target's answer cannot be read",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            false,
            "the target's answer cannot be read",
        ),
        (
            b"Z\0\0\0\x05I".repeat(2),
            false,
            "the target's answer was cut off",
        ),
        (
            row().split_at(3).0.to_vec(),
            false,
            "the target cannot be reached",
        ),
        ([row(), ready()].concat(), false, "the target cannot be reached"),
        (
            [vec![b'D', 0, 0, 0, 6, 0, 0], ready()].concat(),
            false,
            "the catalog's answer has another shape: a field is missing",
        ),
    ] {
        let result = one(
            wanted(target("odd", answers(bytes.clone(), endless)), LABEL),
            limits,
        );
        assert_eq!(words(result), says, "{}", String::from_utf8_lossy(&bytes));
    }
}
