//! Headgate, started as an operator starts it: `headgate run` with a configuration, in folders of its own.

use crate::certificates::{Authority, Certificate};
use crate::reaper::Reaper;
use crate::run::{Ran, Running, run, send, until};
use crate::{Postgres, Result, during, place};
use rustix::process::Signal;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Rules under which everybody may do everything that can be read.
pub const ALLOW_ALL: &str = r#"
[[rule]]
name = "everything"
statement = { class = ["read", "write", "ddl", "grant", "session", "transaction", "catalog", "maintenance", "opaque"] }
effect = "allow"
"#;

/// What one test wants to have otherwise.
#[derive(Clone, Debug)]
pub struct Setup {
    pub rules: String,
    /// Lines of `[dataplane]`.
    pub dataplane: String,
    /// Further lines of the `[[listener]]`.
    pub listener: String,
    /// Further tables.
    pub more: String,
    /// `users.toml`.
    pub users: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            rules: ALLOW_ALL.to_owned(),
            dataplane: "spool_bytes = \"8MiB\"".to_owned(),
            listener: String::new(),
            more: String::new(),
            users: None,
        }
    }
}

impl Setup {
    pub fn with_rules(rules: &str) -> Setup {
        Setup {
            rules: rules.to_owned(),
            ..Setup::default()
        }
    }
}

pub struct Gate {
    pub folder: PathBuf,
    pub runtime: PathBuf,
    pub port: u16,
    pub api: u16,
    /// The root that vouches for the gate's certificate.
    pub root: PathBuf,
    bin: PathBuf,
    /// Whose a token is: as whom to sign in with it.
    people: Mutex<HashMap<String, String>>,
    supervisor: Option<Child>,
    reaper: Option<Reaper>,
    /// Removed at the end.
    temporary: Vec<tempfile::TempDir>,
}

impl Gate {
    /// Writes the configuration, starts all three processes, stores the target's secret, and waits until all is ready.
    pub fn start(postgres: &Postgres, setup: &Setup) -> Result<Gate> {
        let temporary = |at: &Path| {
            tempfile::Builder::new()
                .prefix("headgate-")
                .tempdir_in(at)
                .map_err(during(at.display()))
        };
        let (place, memory) = (
            temporary(&std::env::temp_dir())?,
            temporary(Path::new("/dev/shm"))?,
        );
        let (folder, runtime) = (place.path().to_owned(), memory.path().join("run"));
        let authority = Authority::new(&folder.join("tls"))?;
        let certificate = authority.issue("gate")?;
        let ports = (place::free_port()?, place::free_port()?);
        let mut gate = Gate::over(&folder, &runtime, ports, &authority.root)?;
        gate.temporary = vec![place, memory];
        gate.write("rules.toml", &setup.rules)?;
        gate.write(
            "headgate.toml",
            &gate.configuration(setup, postgres, &certificate),
        )?;
        if let Some(users) = &setup.users {
            gate.write("users.toml", users)?;
        }
        gate.launch()?;
        gate.put_secret("shop", &postgres.password)?;
        Ok(gate)
    }

    /// A gate whose `headgate.toml` is in `folder` already; to be launched. `ports`: the listener's and the API's.
    pub fn over(folder: &Path, runtime: &Path, ports: (u16, u16), root: &Path) -> Result<Gate> {
        Ok(Gate {
            folder: folder.to_owned(),
            runtime: runtime.to_owned(),
            port: ports.0,
            api: ports.1,
            root: root.to_owned(),
            bin: place::binaries()?,
            people: Mutex::default(),
            supervisor: None,
            reaper: None,
            temporary: Vec::new(),
        })
    }

    fn configuration(&self, setup: &Setup, postgres: &Postgres, certificate: &Certificate) -> String {
        let local = if setup.users.is_some() {
            "[local]\nusers = \"users.toml\"\n"
        } else {
            ""
        };
        format!(
            "[appliance]\nname = \"gate-1\"\ndata = \"data\"\nruntime = \"{}\"\n\n[dataplane]\n{}\n\n\
             [[listener]]\nprotocol = \"postgres\"\naddress = \"127.0.0.1:{}\"\ntls = {{ certificate = \"{}\", key = \"{}\" }}\n{}\n\n\
             [[target]]\nname = \"shop\"\nprotocol = \"postgres\"\nenvironment = \"production\"\naddress = \"localhost:{}\"\n\
             database = \"shop\"\nuser = \"shop_app\"\nsecret = \"shop\"\nca = \"{}\"\n\n[api]\naddress = \"127.0.0.1:{}\"\n\n{local}{}",
            self.runtime.display(),
            setup.dataplane,
            self.port,
            certificate.certificate.display(),
            certificate.key.display(),
            setup.listener,
            postgres.port,
            postgres.root().display(),
            self.api,
            setup.more,
        )
    }

    /// Starts `headgate run` and waits until it is ready. Also after [`Gate::stop`].
    pub fn launch(&mut self) -> Result<()> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .map_err(during("log"))?;
        let mut command = Command::new(self.bin.join("headgate"));
        command
            .arg("run")
            .arg("--config")
            .arg(self.config())
            .process_group(0)
            .stdin(Stdio::null());
        command
            .stdout(log.try_clone().map_err(during("log"))?)
            .stderr(log);
        let child = command.spawn().map_err(during("headgate run"))?;
        let pid = child.id();
        if let Some(old) = self.reaper.replace(Reaper::new(&self.last_words(pid))?) {
            old.disarm();
        }
        self.supervisor = Some(child);
        self.await_ready(Duration::from_secs(30))
    }

    /// Stops the supervisor; then what a killed one left: processes that name a folder of ours; then the folders.
    fn last_words(&self, pid: u32) -> String {
        let own: String = self
            .temporary
            .iter()
            .map(|dir| format!(" '{}'", dir.path().display()))
            .collect();
        format!(
            "kill -TERM {pid}; i=0; while kill -0 {pid} && [ $i -lt 150 ]; do sleep 0.1; i=$((i+1)); done; \
             for p in /proc/[0-9]*; do n=${{p#/proc/}}; if [ $n != $$ ] && tr '\\0' ' ' <$p/cmdline | grep -q '{0}'; then \
             kill -9 $n; fi; done; [ -z \"{own}\" ] || rm -rf{own}",
            self.folder.display(),
        )
    }

    /// Waits until the API says that rules are in force and the data plane is there, and the listener answers.
    pub fn await_ready(&mut self, patience: Duration) -> Result<()> {
        let ready = until("Headgate is ready", patience, || {
            let gone = self
                .supervisor
                .as_mut()
                .is_none_or(|child| child.try_wait().is_ok_and(|ended| ended.is_some()));
            gone || (self.http("/readyz").is_ok_and(|(status, _)| status == 200)
                && TcpStream::connect(("127.0.0.1", self.port)).is_ok())
        });
        let alive = self
            .supervisor
            .as_mut()
            .is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_none()));
        match ready {
            Ok(()) if alive => Ok(()),
            Ok(()) => Err(format!("headgate run ended:\n{}", self.log())),
            Err(why) => Err(format!(
                "{why}; readyz: {:?}\n{}",
                self.http("/readyz"),
                self.log()
            )),
        }
    }

    /// As an operator does: SIGTERM to the supervisor, which stops the others in order.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.supervisor.take() else {
            return Ok(());
        };
        send(child.id(), Signal::TERM);
        let ended = until("headgate run stops", Duration::from_secs(60), || {
            child.try_wait().is_ok_and(|e| e.is_some())
        });
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        ended.map_err(|why| format!("{why}\n{}", self.log()))
    }

    /// The process of one of the three programs: `headgate-dataplane`, `headgate-recorder`, or `controlplane`.
    pub fn pid_of(&self, part: &str) -> Result<u32> {
        let supervisor = self
            .supervisor
            .as_ref()
            .ok_or("headgate run is not running")?
            .id();
        for entry in std::fs::read_dir("/proc").map_err(during("/proc"))?.flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let mut after_name = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            let (state, parent) = (
                after_name.next(),
                after_name.next().and_then(|p| p.parse::<u32>().ok()),
            );
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if parent == Some(supervisor)
                && state != Some("Z")
                && String::from_utf8_lossy(&line).contains(part)
            {
                return Ok(pid);
            }
        }
        Err(format!("no process {part} under headgate run"))
    }

    /// SIGHUP to the supervisor, as `systemctl reload` sends it.
    pub fn hang_up(&self) -> Result<()> {
        send(
            self.supervisor
                .as_ref()
                .ok_or("headgate run is not running")?
                .id(),
            Signal::HUP,
        );
        Ok(())
    }

    /// SIGKILL to one of the three, and its process id.
    pub fn kill(&self, part: &str) -> Result<u32> {
        let pid = self.pid_of(part)?;
        send(pid, Signal::KILL);
        until(&format!("{part} is gone"), Duration::from_secs(5), || {
            self.pid_of(part) != Ok(pid)
        })?;
        Ok(pid)
    }

    /// Waits until the supervisor has started `part` anew.
    pub fn await_restart(&self, part: &str, old: u32, patience: Duration) -> Result<u32> {
        until(&format!("{part} is started again"), patience, || {
            self.pid_of(part).is_ok_and(|pid| pid != old)
        })?;
        self.pid_of(part)
    }

    pub fn config(&self) -> PathBuf {
        self.folder.join("headgate.toml")
    }

    pub fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).map_err(during(path.display()))?;
        Ok(path)
    }

    /// The command line, as the local operator.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join("headgate"));
        command
            .args(args)
            .env("HEADGATE_CONFIG", self.config())
            .env("XDG_CONFIG_HOME", self.folder.join("home"));
        for name in [
            "HEADGATE_TOKEN_FILE",
            "HEADGATE_SERVER",
            "HEADGATE_RUNTIME",
            "HEADGATE_LOG",
        ] {
            command.env_remove(name);
        }
        command
    }

    pub fn headgate(&self, args: &[&str], input: &str) -> Result<Ran> {
        run(&mut self.command(args), input, Duration::from_secs(60))
    }

    /// The command line as the person whose token this is.
    pub fn headgate_as(&self, token: &str, args: &[&str]) -> Result<Ran> {
        let file = self
            .folder
            .join(format!("token-{}", crate::postgres::random_word()?));
        std::fs::write(&file, token).map_err(during(file.display()))?;
        run(
            self.command(args).env("HEADGATE_TOKEN_FILE", file),
            "",
            Duration::from_secs(60),
        )
    }

    /// The answer of a command as JSON.
    pub fn json(&self, args: &[&str]) -> Result<serde_json::Value> {
        let mut with_output = args.to_vec();
        with_output.extend(["--output", "json"]);
        let text = self.headgate(&with_output, "")?.good()?;
        serde_json::from_str(&text).map_err(during(text))
    }

    pub fn put_secret(&self, name: &str, value: &str) -> Result<()> {
        self.headgate(&["secret", "put", name], value)?.good().map(drop)
    }

    /// A token for an hour.
    pub fn token(&self, principal: &str, groups: &[&str]) -> Result<String> {
        self.token_with(principal, groups, &[])
    }

    pub fn token_with(&self, principal: &str, groups: &[&str], more: &[&str]) -> Result<String> {
        let mut args = vec!["token", "mint", "--principal", principal, "--ttl", "1h"];
        args.extend(groups.iter().flat_map(|group| ["--group", *group]));
        args.extend(more);
        let token = self.headgate(&args, "")?.good()?.trim().to_owned();
        self.is_of(&token, principal);
        Ok(token)
    }

    /// From now on [`Gate::environment`] signs in as `principal` with this token.
    pub fn is_of(&self, token: &str, principal: &str) {
        self.people
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(token.to_owned(), principal.to_owned());
    }

    fn principal_of(&self, token: &str) -> String {
        let people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        people
            .get(token)
            .cloned()
            .unwrap_or_else(|| "somebody".to_owned())
    }

    /// Environment with which libpq finds its way through the gate to the shop.
    pub fn environment(&self, token: &str) -> Vec<(&'static str, String)> {
        vec![
            ("PGHOST", "localhost".to_owned()),
            ("PGPORT", self.port.to_string()),
            ("PGDATABASE", "shop".to_owned()),
            ("PGUSER", self.principal_of(token)),
            ("PGPASSWORD", token.to_owned()),
            ("PGSSLMODE", "verify-full".to_owned()),
            ("PGSSLROOTCERT", self.root.display().to_string()),
            ("PGCONNECT_TIMEOUT", "20".to_owned()),
        ]
    }

    pub fn psql_command(&self, token: &str, args: &[&str]) -> Command {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args(args)
            .envs(self.environment(token));
        psql
    }

    /// psql through the gate: unaligned rows, without headings, until the first error.
    pub fn psql(&self, token: &str, script: &str) -> Result<Ran> {
        run(
            &mut self.psql_command(token, &["-q", "-f", "-"]),
            script,
            Duration::from_secs(60),
        )
    }

    /// psql that runs beside the test, with one statement.
    pub fn psql_beside(&self, token: &str, statement: &str) -> Result<Running> {
        Running::start(&mut self.psql_command(token, &["-c", statement]), "")
    }

    /// The numbers of questions that wait now, oldest first.
    pub fn questions(&self) -> Result<Vec<String>> {
        let rows = self.json(&["questions"])?;
        let numbers = rows
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|row| row.get("number")?.as_str().map(ToOwned::to_owned));
        Ok(numbers.collect())
    }

    /// Waits for a question whose statement holds `text`, and says its number.
    pub fn await_question(&self, text: &str) -> Result<String> {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let rows = self.json(&["questions"])?;
            let found = rows
                .as_array()
                .into_iter()
                .flatten()
                .find(|row| row["statement"].as_str().is_some_and(|s| s.contains(text)));
            if let Some(number) = found.and_then(|row| row["number"].as_str()) {
                return Ok(number.to_owned());
            }
            if std::time::Instant::now() > end {
                return Err(format!("nobody asked about `{text}`: {rows}\n{}", self.log()));
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Statements of the recording that fit these flags of `audit query`, asked until `enough` says so.
    pub fn audit(
        &self,
        flags: &[&str],
        enough: impl Fn(&[serde_json::Value]) -> bool,
    ) -> Result<Vec<serde_json::Value>> {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        let mut args = vec!["audit", "query"];
        args.extend(flags);
        loop {
            let rows = self.json(&args)?.as_array().cloned().unwrap_or_default();
            if enough(&rows) {
                return Ok(rows);
            }
            if std::time::Instant::now() > end {
                return Err(format!(
                    "the recording does not have it: {rows:#?}\n{}",
                    self.log()
                ));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// GET over plain HTTP at the API's own address.
    pub fn http(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.api)).map_err(during("API"))?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .map_err(during("API"))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .map_err(during("API"))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(during("API"))?;
        let status = answer
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
            .ok_or("no status")?;
        let body = answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned())
            .unwrap_or_default();
        Ok((status, body))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
