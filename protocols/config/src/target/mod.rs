//! `[[target]]`: the keys that every target has here, those of its protocol in its file.
//!
//! A protocol is a file, an arm of [`TargetOf`] and its place in [`read`].

mod postgres;

pub use postgres::PostgresTarget;

use crate::error::ConfigProblem;
use crate::model::{Config, OnHold};
use crate::{fields, locate};
use headgate_plane::{Protocol, TargetAuth, TargetSpec, TargetTls};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;
use toml::de::{DeTable, DeValue};

/// What stands under `[[target]]` beside the keys of the target's protocol.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetText {
    name: String,
    #[serde(default)]
    environment: String,
    address: String,
    #[serde(default)]
    secret: Option<String>,
    #[serde(default)]
    tls: TargetTls,
    #[serde(default)]
    ca: Option<PathBuf>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    on_hold: Option<OnHold>,
}

/// One `[[target]]`.
#[derive(Clone, Debug)]
pub struct Target {
    /// What clients call it.
    pub name: String,
    /// Said to rules and to people.
    pub environment: String,
    /// `host:port`, `[::1]:5432`.
    pub address: String,
    /// The secret's name. `None`: the target asks for nothing (`trust`).
    pub secret: Option<String>,
    /// How its certificate is checked.
    pub tls: TargetTls,
    /// PEM roots to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Said to rules.
    pub labels: BTreeMap<String, String>,
    /// Outranks the listener's.
    pub on_hold: Option<OnHold>,
    /// What its protocol has beside.
    pub of: TargetOf,
    /// Which of the file's.
    pub(crate) at: usize,
}

/// What a target has of its protocol. An arm each.
#[derive(Clone, Debug)]
pub enum TargetOf {
    /// `protocol = "postgres"`.
    Postgres(PostgresTarget),
}

impl Target {
    /// What it speaks.
    pub fn protocol(&self) -> Protocol {
        match self.of {
            TargetOf::Postgres(_) => Protocol::Postgres,
        }
    }

    /// As the data plane needs it.
    pub fn spec(&self) -> TargetSpec {
        let neutral = TargetSpec {
            name: self.name.clone(),
            protocol: self.protocol(),
            environment: self.environment.clone(),
            address: self.address.clone(),
            database: String::new(),
            user: String::new(),
            tls: self.tls,
            ca: self.ca.as_ref().map(|path| path.to_string_lossy().into_owned()),
            auth: TargetAuth::default(),
            labels: self.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        };
        match &self.of {
            TargetOf::Postgres(postgres) => postgres.spec(neutral),
        }
    }

    /// Who reads the target's catalog for the gateway, with the name of that user's secret; `None`: the target's own user,
    /// or there is none to be read.
    pub fn catalog_reader(&self) -> Option<(&str, Option<&str>)> {
        match &self.of {
            TargetOf::Postgres(postgres) => postgres.catalog_reader(),
        }
    }

    /// The names of all secrets that it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let reader = self.catalog_reader().and_then(|(_, secret)| secret);
        self.secret.as_deref().into_iter().chain(reader)
    }
}

/// The protocols that targets and listeners can have.
pub(crate) const SPOKEN: [Protocol; 1] = [Protocol::Postgres];

/// A protocol's own keys of one table.
fn keys(protocol: Protocol) -> Option<&'static [&'static str]> {
    match protocol {
        Protocol::Postgres => Some(fields::of::<PostgresTarget>()),
        Protocol::Mysql | Protocol::Http | Protocol::Kubernetes | Protocol::Mcp | Protocol::Ssh => None,
    }
}

/// Reads the protocol's own keys. `None`: it is not spoken yet.
fn read(protocol: Protocol, own: Table<'_>) -> Option<Result<TargetOf, toml::de::Error>> {
    match protocol {
        Protocol::Postgres => Some(own.read().map(TargetOf::Postgres)),
        Protocol::Mysql | Protocol::Http | Protocol::Kubernetes | Protocol::Mcp | Protocol::Ssh => None,
    }
}

/// A table with its place.
struct Table<'s> {
    table: DeTable<'s>,
    span: Range<usize>,
}

impl Table<'_> {
    fn read<T: DeserializeOwned>(self) -> Result<T, toml::de::Error> {
        let spanned = toml::Spanned::new(self.span, self.table);
        T::deserialize(toml::de::Deserializer::from(spanned))
    }
}

/// What became of a `[[target]]`.
pub(crate) enum ReadTarget {
    Target(Box<Target>),
    /// Something is wrong in it, beside which others can be found.
    Wrong(ConfigProblem),
}

/// The `[[target]]` number `at` of the file. An error: a key that nobody knows, or a value of the wrong kind.
pub(crate) fn target(
    source: &str,
    at: usize,
    table: DeTable<'_>,
    span: Range<usize>,
) -> Result<ReadTarget, toml::de::Error> {
    let path = format!("target.{at}.protocol");
    let mut neutral = Table {
        table: DeTable::new(),
        span: span.clone(),
    };
    let (mut own, mut rest) = (
        Table {
            table: DeTable::new(),
            span: span.clone(),
        },
        DeTable::new(),
    );
    let mut word = None;
    for (key, value) in table {
        let name: &str = key.get_ref();
        match (name, value.get_ref()) {
            ("protocol", DeValue::String(text)) => word = Some(text.to_string()),
            ("protocol", _) => return Ok(ReadTarget::Wrong(locate::of(source, &path, "protocol is a text"))),
            _ => {
                rest.insert(key, value);
            }
        }
    }
    let Some(word) = word else {
        let place = format!("target.{at}");
        return Ok(ReadTarget::Wrong(locate::of(
            source,
            &place,
            "missing field `protocol`",
        )));
    };
    let Some((protocol, own_keys)) = Protocol::of_name(&word).and_then(|p| Some((p, keys(p)?))) else {
        return Ok(ReadTarget::Wrong(unknown_protocol(source, &path, &word)));
    };
    for (key, value) in rest {
        let name: &str = key.get_ref();
        let of_all = fields::of::<TargetText>();
        if own_keys.contains(&name) {
            own.table.insert(key, value);
        } else if of_all.contains(&name) {
            neutral.table.insert(key, value);
        } else {
            let known: Vec<String> = ["protocol"]
                .iter()
                .chain(of_all)
                .chain(own_keys)
                .map(|known| format!("`{known}`"))
                .collect();
            let message = format!("unknown field `{name}`, expected one of {}", known.join(", "));
            let place = key.span().start;
            let mut problem = locate::at(source, place, message.clone());
            problem.help = crate::load::did_you_mean(&message);
            return Ok(ReadTarget::Wrong(problem));
        }
    }
    let text: TargetText = neutral.read()?;
    let Some(of) = read(protocol, own) else {
        return Ok(ReadTarget::Wrong(unknown_protocol(source, &path, &word)));
    };
    Ok(ReadTarget::Target(Box::new(Target {
        name: text.name,
        environment: text.environment,
        address: text.address,
        secret: text.secret,
        tls: text.tls,
        ca: text.ca,
        labels: text.labels,
        on_hold: text.on_hold,
        of: of?,
        at,
    })))
}

/// A protocol that nobody speaks, at `path`.
pub(crate) fn unknown_protocol(source: &str, path: &str, word: &str) -> ConfigProblem {
    let mut problem = locate::of(source, path, format!("protocol `{word}` is not known"));
    problem.help = Some(format!("known: {}", SPOKEN.map(Protocol::name).join(", ")));
    problem
}

impl Config {
    /// What one target's keys cannot be together.
    pub(crate) fn check_target(&self, target: &Target, found: &mut Vec<ConfigProblem>) {
        let mut wrong = |key: &str, message: String| {
            found.push(locate::of(
                &self.source,
                &format!("target.{}.{key}", target.at),
                message,
            ));
        };
        if let Err(why) = crate::check::name_is_plain(&target.name) {
            wrong("name", format!("target.name {why}"));
        }
        if target
            .secret
            .as_deref()
            .is_some_and(|name| crate::check::name_is_plain(name).is_err())
        {
            wrong(
                "secret",
                format!("target `{}`: not a name for a secret", target.name),
            );
        }
        if target.tls == TargetTls::DangerOff && target.ca.is_some() {
            wrong(
                "ca",
                format!("target `{}`: `ca` says nothing when `tls` is off", target.name),
            );
        }
        match &target.of {
            TargetOf::Postgres(postgres) => postgres.check(target, &mut wrong),
        }
        if split_host_port(&target.address).is_none() {
            let path = format!("target.{}.address", target.at);
            let mut problem = locate::of(
                &self.source,
                &path,
                format!("`{}` is not host:port", target.address),
            );
            problem.help = Some("as in 10.0.0.5:5432, db.internal:5432 or [2001:db8::5]:5432".into());
            found.push(problem);
        }
    }
}

/// The host of `host:port`.
fn split_host_port(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    if !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().ok()? == 0 {
        return None;
    }
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        return matches!(inner.parse(), Ok(IpAddr::V6(_))).then_some(inner);
    }
    let plain = !host.is_empty() && host.len() <= 253;
    (plain
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')))
    .then_some(host)
}

fn host_is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
