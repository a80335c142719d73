//! The sandbox, from inside: this test binary runs itself again, closes the sandbox, and tries.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

const PROBE: &str = "HEADGATE_SANDBOX_PROBE";
const SIGSYS: i32 = 31;

/// Not a test of its own: what the child does. Without the variable it has nothing to do.
#[test]
fn probe() {
    let Ok(what) = std::env::var(PROBE) else { return };
    headgate_analyst::sandbox::close().expect("the sandbox closes");
    match what.as_str() {
        "open" => assert!(std::fs::File::open("/etc/passwd").is_err()),
        "create" => assert!(std::fs::File::create("/tmp/headgate-sandbox-probe").is_err()),
        "remove" => drop(std::fs::remove_file("/tmp/headgate-sandbox-probe")),
        "socket" => drop(std::net::TcpStream::connect("127.0.0.1:1")),
        "udp" => drop(std::net::UdpSocket::bind("127.0.0.1:0")),
        "exec" => drop(Command::new("/bin/true").status()),
        "thread" => drop(std::thread::Builder::new().spawn(|| ())),
        "parse" => {
            assert!(headgate_sqlparse::facts("select a from t where b = 1").is_ok());
            assert!(headgate_sqlparse::facts("select from").is_err());
        }
        "memory" => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            let refused = (0..1024).any(|_| {
                let mut block: Vec<u8> = Vec::new();
                let refused = block.try_reserve_exact(1 << 20).is_err();
                hoard.push(block);
                refused
            });
            assert!(refused, "a gigabyte was given");
        }
        other => panic!("no probe {other}"),
    }
    std::process::exit(0);
}

fn run(what: &str) -> std::process::ExitStatus {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "probe", "--nocapture", "--test-threads=1"])
        .env(PROBE, what)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .expect("it runs")
}

#[test]
fn sockets_processes_threads_and_removals_end_the_worker() {
    for what in ["socket", "udp", "exec", "thread", "remove"] {
        assert_eq!(run(what).signal(), Some(SIGSYS), "{what}");
    }
}

#[test]
fn parsing_works_inside_but_no_file_opens_and_memory_ends() {
    for what in ["parse", "open", "create", "memory"] {
        let status = run(what);
        assert!(status.success(), "{what}: {status:?}");
    }
}
