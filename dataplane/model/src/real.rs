//! Real servers: the simulated one is held against them, message by message and line by line of the server's own log.
//!
//! Bounds: loopback only; one connection at a time.

use crate::generate::{Case, Step};
use crate::message::{self, Message, string};
use crate::server::{Manual, Server};
use headgate_mask::{Catalog, CatalogBuilder};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server of our own, in a folder that goes with it.
pub struct Postgres {
    pub port: u16,
    bin: PathBuf,
    data: PathBuf,
    log: File,
    /// 15, 18.
    pub version: u32,
    /// As a gate would read it on a connection of its own.
    pub catalog: Arc<Catalog>,
}

/// A moment after which a server that says nothing is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(5);
/// Stands at the end of every conversation with a real server.
pub const LAST: &str = "select 424242";

fn as_postgres(program: &Path, arguments: &[&str]) -> io::Result<()> {
    let root = std::fs::read_to_string("/proc/self/status").is_ok_and(|s| s.contains("\nUid:\t0\t"));
    let mut command = if root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    let out = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .current_dir("/tmp")
        .status()?;
    if out.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{}: {out}", program.display())))
    }
}

impl Postgres {
    /// Of the programs in `bin`.
    pub fn start(bin: &Path) -> io::Result<Postgres> {
        let version = Command::new(bin.join("postgres")).arg("--version").output()?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let version = version
            .split_whitespace()
            .find_map(|word| word.split('.').next()?.parse().ok())
            .ok_or_else(|| io::Error::other(format!("no version in {version:?}")))?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let data = std::env::temp_dir().join(format!("headgate-model-{}-{port}", std::process::id()));
        let text = data.to_string_lossy().into_owned();
        as_postgres(
            &bin.join("initdb"),
            &[
                "-D",
                &text,
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ],
        )?;
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c log_statement=all \
             -c log_line_prefix=%p\\  -c autovacuum=off -c max_connections=100"
        );
        let log = format!("{text}/log");
        as_postgres(
            &bin.join("pg_ctl"),
            &["-D", &text, "-w", "-o", &options, "-l", &log, "start"],
        )?;
        let log = File::open(log)?;
        let mut postgres = Postgres {
            port,
            bin: bin.to_owned(),
            data,
            log,
            version,
            catalog: Arc::new(Catalog::default()),
        };
        let mut setup = Connection::open(port)?;
        setup.query(
            "create table log (n int); create table t (i int); \
             create table late (n int unique deferrable initially deferred); \
             create table customers (id int, email text); \
             insert into customers values (1, 'canary1@example.org'), (2, 'canary2@example.org'); \
             create view settings as select * from pg_settings",
        )?;
        postgres.catalog = Arc::new(setup.catalog().map_err(io::Error::other)?);
        postgres.log.seek(SeekFrom::End(0))?;
        Ok(postgres)
    }

    pub fn manual(&self) -> Manual {
        Manual {
            pipeline_is_block: self.version >= 18,
            sleeps: false,
            marks: false,
        }
    }

    /// What a session logged since the last call: what stands behind `LOG:`, of statements alone.
    pub fn logged(&mut self, pid: u32) -> io::Result<Vec<Vec<u8>>> {
        let mut bytes = Vec::new();
        self.log.read_to_end(&mut bytes)?;
        let prefix = format!("{pid} LOG:  ");
        Ok(bytes
            .split(|b| *b == b'\n')
            .filter_map(|line| line.strip_prefix(prefix.as_bytes()))
            .filter(|line| line.starts_with(b"statement: ") || line.starts_with(b"execute "))
            // What a gate asks for itself.
            .filter(|line| {
                memchr::memmem::find(line, b"pg_catalog").is_none()
                    && !line.starts_with(b"statement: WITH RECURSIVE ")
            })
            .map(<[u8]>::to_vec)
            .collect())
    }

    /// The values in table `log`, which is emptied.
    pub fn committed(&mut self) -> io::Result<Vec<i64>> {
        let mut connection = Connection::open(self.port)?;
        let reply = connection.query("select n from log")?;
        let mut all: Vec<i64> = message::all(&reply)
            .filter(|(tag, _)| *tag == b'D')
            .filter_map(|(_, body)| std::str::from_utf8(body.get(6..)?).ok()?.parse().ok())
            .collect();
        all.sort_unstable();
        connection.query("truncate log, t")?;
        Ok(all)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.data.to_string_lossy().into_owned();
        let _ = as_postgres(
            &self.bin.join("pg_ctl"),
            &["-D", &data, "-m", "immediate", "stop"],
        );
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// A client without a gate.
pub struct Connection {
    stream: TcpStream,
    pub pid: u32,
}

impl Connection {
    pub fn open(port: u16) -> io::Result<Connection> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut packet = 196_608u32.to_be_bytes().to_vec();
        for text in [
            "user",
            "postgres",
            "database",
            "postgres",
            "client_encoding",
            "UTF8",
        ] {
            string(&mut packet, text.as_bytes());
        }
        packet.push(0);
        let mut hello = u32::try_from(packet.len() + 4)
            .unwrap_or(0)
            .to_be_bytes()
            .to_vec();
        hello.extend_from_slice(&packet);
        stream.write_all(&hello)?;
        let mut connection = Connection { stream, pid: 0 };
        let greeting = connection.until(|tag, _| tag == b'Z')?;
        connection.pid = message::all(&greeting)
            .find(|(tag, _)| *tag == b'K')
            .and_then(|(_, body)| Some(u32::from_be_bytes(*body.first_chunk::<4>()?)))
            .unwrap_or(0);
        Ok(connection)
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads until a message that is the last, or the end of the connection.
    pub fn until(&mut self, mut last: impl FnMut(u8, &[u8]) -> bool) -> io::Result<Vec<u8>> {
        let mut got = Vec::new();
        let mut seen = 0;
        let mut buffer = vec![0; 16 << 10];
        let until = Instant::now() + PATIENCE;
        loop {
            while let Some((tag, body, len)) = got.get(seen..).and_then(message::first) {
                seen += len;
                if last(tag, body) {
                    return Ok(got);
                }
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!(
                    "the server says nothing more after {:?}",
                    String::from_utf8_lossy(&got)
                )));
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(got),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(got),
                Err(error) => return Err(error),
                Ok(n) => got.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            }
        }
    }

    /// The gate's own question, and what the gate makes of the answer.
    fn catalog(&mut self) -> Result<Catalog, String> {
        let labels = [crate::lab::LABEL];
        let reply = self
            .query(&headgate_mask::catalog_query(&labels))
            .map_err(|e| e.to_string())?;
        let mut builder = CatalogBuilder::new(&labels);
        for (_, body) in message::all(&reply).filter(|(tag, _)| *tag == b'D') {
            let mut fields = message::Fields(body);
            let count = fields.short().unwrap_or(0);
            let row: Vec<Option<&[u8]>> = (0..count).filter_map(|_| fields.value()).collect();
            builder.row(&row).map_err(|e| format!("{e:?}"))?;
        }
        let catalog = builder.finish();
        if catalog.is_whole() {
            Ok(catalog)
        } else {
            Err(format!(
                "the catalog is not whole: {}",
                String::from_utf8_lossy(&reply)
            ))
        }
    }

    pub fn query(&mut self, text: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        Message::Query(text.as_bytes().to_vec()).encode(&mut bytes);
        self.send(&bytes)?;
        self.until(|tag, _| tag == b'Z')
    }
}

/// What a client says at its end, so that however it stands the server comes to rest and says so.
pub fn farewell() -> [Message; 4] {
    [
        Message::CopyFail,
        Message::Sync,
        Message::Query(b"rollback".to_vec()),
        Message::Query(LAST.as_bytes().to_vec()),
    ]
}

/// Whether a reply is the last that [`farewell`] brings: the ReadyForQuery behind the row.
pub fn is_last() -> impl FnMut(u8, &[u8]) -> bool {
    let mut seen = false;
    move |tag, body| {
        seen |= tag == b'D' && body.ends_with(b"424242");
        seen && tag == b'Z'
    }
}

/// What a simulated and a real server have in common, of each message that one of them says.
pub fn common(bytes: &[u8]) -> Vec<(char, Vec<u8>)> {
    message::all(bytes)
        .filter_map(|(tag, body)| {
            let code = || message::report_field(body, b'C').unwrap_or_default().to_vec();
            let said = match tag {
                // How much of a text that does not parse is read before that is seen is no matter of the protocol.
                b'N' if code() == b"42622" => return None,
                // A server's own untidiness (a snapshot that a failed portal left).
                b'N' if code() == b"01000" => return None,
                b'E' | b'N' => code(),
                b'T' => Vec::new(),
                b'S' if body.starts_with(b"standard_conforming_strings") => body.to_vec(),
                b'S' | b'A' | b'R' | b'K' => return None,
                _ => body.to_vec(),
            };
            Some((char::from(tag), said))
        })
        .collect()
}

/// The same conversation with the simulated and with a real server, without a gate. `Err` says where they differ.
/// The values that it committed are added to `committed`.
pub fn compare(postgres: &mut Postgres, case: &Case, committed: &mut Vec<i64>) -> Result<usize, String> {
    let mut server = Server::new(postgres.manual());
    let mut connection = Connection::open(postgres.port).map_err(|e| e.to_string())?;
    let farewell = farewell();
    let mut bytes = Vec::new();
    let sent = case.steps.iter().filter_map(|step| match step {
        Step::Send(message) => Some(message),
        _ => None,
    });
    for message in sent.chain(&farewell) {
        let start = bytes.len();
        message.encode(&mut bytes);
        if let Some((tag, body, _)) = bytes.get(start..).and_then(message::first) {
            server.message(tag, body);
        }
    }
    if server.crashed {
        // It would take all other sessions with it. That it dies was seen once, and is not asked for again.
        return Ok(0);
    }
    // A server that has gone takes no more: what it said is still there.
    let _ = connection.send(&bytes);
    let got = connection.until(is_last()).map_err(|e| e.to_string())?;
    let logged = postgres.logged(connection.pid).map_err(|e| e.to_string())?;
    committed.extend_from_slice(&server.committed);
    let (real, simulated) = (common(&got), common(&server.out));
    if real != simulated {
        let at = real.iter().zip(&simulated).take_while(|(a, b)| a == b).count();
        let tags = |all: &[(char, Vec<u8>)]| all.iter().map(|m| m.0).collect::<String>();
        let next = |all: &[(char, Vec<u8>)]| {
            all.get(at)
                .map(|m| format!("{} {}", m.0, String::from_utf8_lossy(&m.1)))
        };
        return Err(format!(
            "replies, from {at} on: real {} simulated {}\n      real {:?}\n      simulated {:?}",
            tags(&real),
            tags(&simulated),
            next(&real),
            next(&simulated)
        ));
    }
    if logged != server.log {
        let at = logged.iter().zip(&server.log).take_while(|(a, b)| a == b).count();
        let next = |all: &[Vec<u8>]| all.get(at).map(|line| String::from_utf8_lossy(line).into_owned());
        return Err(format!(
            "log, from {at} on:\n      real {:?}\n      simulated {:?}",
            next(&logged),
            next(&server.log)
        ));
    }
    Ok(real.len())
}
