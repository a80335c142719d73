//! `cargo xtask demo`: a walk through Headgate on this machine, with the commands that a person would type.
//!
//! Everything is in `.demo`, which is made anew; PostgreSQL's own files are in the temporary directory. Each step checks
//! what came out, and the demo fails when it is not as it should be.

mod walk;

use crate::build::{PROGRAMS, cargo_run};
use crate::{Result, install};
use headgate_e2e::{Authority, Gate, Postgres, during, place, world};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(clap::Args)]
pub struct Args {
    /// End after the walk, with a status, instead of staying up.
    #[arg(long)]
    exit: bool,
    /// Port that Headgate listens on.
    #[arg(long, default_value_t = 15432)]
    port: u16,
}

const CONFIG: &str = include_str!("../../demo/headgate.toml");
const RULES: &str = include_str!("../../demo/rules.toml");

/// The people of the demo, with their groups.
const PEOPLE: [(&str, &str); 2] = [("alice", "analysts"), ("dana", "dba")];

pub struct Demo {
    folder: PathBuf,
    gate: Gate,
    postgres: Postgres,
    _memory: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(during("signal"))?;
    }
    install::for_demo()?;
    if std::env::var_os("HEADGATE_BIN_DIR").is_none() {
        println!("Building Headgate (the first time takes a while: RocksDB is a lot of C++)");
        cargo_run(PROGRAMS)?;
    }

    let mut demo = Demo::set_up(args)?;
    let walked = demo.gate.launch().and_then(|()| walk::walk(&demo, &stop));
    if let Err(why) = walked {
        if stop.load(Ordering::Relaxed) {
            println!("\nStopped.");
            return demo.stop();
        }
        eprintln!(
            "\n--- the end of .demo/log, Headgate's log ---\n{}",
            tail(&demo.gate.log(), 40)
        );
        eprintln!(
            "--- the end of PostgreSQL's log ---\n{}",
            tail(&demo.postgres.log(), 20)
        );
        let _ = demo.stop();
        return Err(why);
    }
    if args.exit {
        demo.stop()?;
        println!("\nEverything was as it should be; all is stopped again.");
        return Ok(());
    }
    demo.invite()?;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("\nStopping.");
    demo.stop()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..)
        .unwrap_or_default()
        .join("\n")
}

impl Demo {
    fn set_up(args: &Args) -> Result<Demo> {
        let folder = place::repository().join(".demo");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(during(folder.display()))?;
        }
        let authority = Authority::new(&folder.join("tls"))?;
        authority.issue("gate")?;

        let postgres = Postgres::start(&authority)?;
        postgres.sql("shop", &format!("SET ROLE shop_app;\n{}", world::SHOP))?;

        if !place::is_free(args.port) {
            return Err(format!(
                "port {} is taken; choose another: cargo xtask demo --port N",
                args.port
            ));
        }
        let api = if place::is_free(18443) {
            18443
        } else {
            place::free_port()?
        };
        let runtime = PathBuf::from(format!("/dev/shm/headgate-demo-{}", std::process::id()));
        let config = CONFIG
            .replace("@RUNTIME@", &runtime.display().to_string())
            .replace("@PORT@", &args.port.to_string())
            .replace("@TARGET_PORT@", &postgres.port.to_string())
            .replace("@API_PORT@", &api.to_string());
        write(&folder, "headgate.toml", &config)?;
        write(&folder, "rules.toml", RULES)?;
        write(&folder, "shop.password", &postgres.password)?;
        let bin = place::binaries()?;
        let mut users = String::new();
        for (name, group) in PEOPLE {
            let password = headgate_e2e::postgres::random_word()?;
            write(&folder, &format!("{name}.password"), &password)?;
            let mut hash = Command::new(bin.join("headgate"));
            let hash = headgate_e2e::run(
                hash.args(["user", "hash", "--password-stdin"]),
                &password,
                Duration::from_secs(20),
            )?
            .good()?;
            users += &format!(
                "[[user]]\nname = \"{name}\"\npassword = \"{}\"\ngroups = [\"{group}\"]\n\n",
                hash.trim()
            );
        }
        write(&folder, "users.toml", &users)?;
        let root = folder.join("tls/ca.crt");
        write(
            &folder,
            "env",
            &format!(
                "# source .demo/env: the demo's commands as it ran them.\n\
                 export PATH=\"{}:$PATH\" HEADGATE_CONFIG=\"{1}/headgate.toml\" XDG_CONFIG_HOME=\"{1}/home\"\n\
                 export PGHOST=localhost PGPORT={2} PGDATABASE=shop PGSSLMODE=verify-full PGSSLROOTCERT=\"{3}\"\n",
                bin.display(),
                folder.display(),
                args.port,
                root.display()
            ),
        )?;
        let gate = Gate::over(&folder, &runtime, (args.port, api), &root)?;
        Ok(Demo {
            folder,
            gate,
            postgres,
            _memory: runtime,
        })
    }

    fn stop(mut self) -> Result<()> {
        let stopped = self.gate.stop();
        let _ = std::fs::remove_dir_all(&self._memory);
        stopped
    }

    /// The lines to paste.
    fn invite(&self) -> Result<()> {
        let shell = |command: &str| self.shell(command, "").and_then(headgate_e2e::Ran::good);
        let token = shell("headgate token show")?;
        println!(
            "\n{}\n",
            walk::paint(
                "1",
                "All of it stays up until Ctrl-C. In another terminal, as alice:"
            )
        );
        println!(
            "  PGPASSWORD={} psql \"host=localhost port={} dbname=shop user=alice sslmode=verify-full sslrootcert={}\"\n",
            token.trim(),
            self.gate.port,
            self.gate.root.display()
        );
        println!(
            "To type the commands above yourself:  source {}/env",
            self.folder.display()
        );
        println!(
            "Rules are in {0}/rules.toml: change them, they are reloaded. The log is {0}/log.",
            self.folder.display()
        );
        Ok(())
    }

    /// bash with the demo's environment, in the demo's folder.
    fn bash(&self, command: &str) -> Command {
        let mut bash = Command::new("bash");
        bash.arg("-c")
            .arg(format!(". ./env; {command}"))
            .current_dir(&self.folder);
        for name in [
            "PGPASSWORD",
            "PGOPTIONS",
            "PGUSER",
            "PGSERVICE",
            "PGPASSFILE",
            "HEADGATE_TOKEN_FILE",
            "HEADGATE_SERVER",
            "HEADGATE_RUNTIME",
        ] {
            bash.env_remove(name);
        }
        bash.env("PSQLRC", "/dev/null")
            .env("PAGER", "cat")
            .env("LC_MESSAGES", "C");
        bash
    }

    fn shell(&self, command: &str, input: &str) -> Result<headgate_e2e::Ran> {
        headgate_e2e::run(&mut self.bash(command), input, Duration::from_secs(60))
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, text).map_err(during(path.display()))
}
