//! The tables and keys of `headgate.toml`, with their defaults.
//!
//! Every table refuses keys that it does not know. What a key means to an operator is said at its field.

use crate::quantity;
use crate::target::Target;
use headgate_plane::{Protocol, TargetSpec};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// No message of a client or target is longer, whatever the configuration says.
pub const MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// The smallest spool.
pub const SPOOL_BYTES_MIN: u64 = 1 << 20;
/// Longer than this, sleeping is cheaper for everybody.
pub const SPIN_US_MAX: u64 = 1_000;
/// The shortest bound of a statement's text.
pub const STATEMENT_BYTES_MIN: u64 = 1 << 10;
/// The most that is recorded of one reply.
pub const REPLY_RECORD_BYTES_MAX: u64 = 16 << 20;

/// `headgate.toml`, whole and checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[appliance]`
    pub appliance: Appliance,
    /// `[dataplane]`
    #[serde(default)]
    pub dataplane: Dataplane,
    /// `[[listener]]`
    #[serde(default, rename = "listener")]
    pub listeners: Vec<Listener>,
    /// `[[target]]`: read by [`crate::target`], each with the keys of its protocol.
    #[serde(skip)]
    pub targets: Vec<Target>,
    /// `[[issuer]]`
    #[serde(default, rename = "issuer")]
    pub issuers: Vec<Issuer>,
    /// `[local]`
    #[serde(default)]
    pub local: Option<Local>,
    /// `[api]`
    #[serde(default)]
    pub api: Api,
    /// The file's text, so that a problem found later can still show its line.
    #[serde(skip)]
    pub(crate) source: String,
    /// Where it was read from.
    #[serde(skip)]
    pub path: PathBuf,
}

/// `[appliance]`: what this machine is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Appliance {
    /// How it is called in recordings and metrics.
    pub name: String,
    /// Recordings, rules' history, identities, secrets.
    pub data: PathBuf,
    /// Spools and the link's socket: a folder on tmpfs that outlives each process, but not the machine.
    #[serde(default = "default_runtime")]
    pub runtime: PathBuf,
    /// Default: `rules.toml` beside the configuration.
    #[serde(default = "default_rules")]
    pub rules: PathBuf,
}

fn default_runtime() -> PathBuf {
    PathBuf::from("/run/headgate")
}

fn default_rules() -> PathBuf {
    PathBuf::from("rules.toml")
}

/// `[dataplane]`: cores, bounds, shares.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dataplane {
    /// Which cores have a shard.
    pub cores: Cores,
    /// When a statement may be forwarded.
    pub durability: Durability,
    /// Bytes of each core's spool. At least [`SPOOL_BYTES_MIN`].
    #[serde(deserialize_with = "quantity::bytes")]
    pub spool_bytes: u64,
    /// Microseconds that a core looks for work before it sleeps, while statements come in quick succession; 0: it sleeps at
    /// once. In a virtual machine waking a core is dear for whoever sends to it: 20 gives more statements a second and
    /// shorter replies, for a core that is busy all the time under load. At most [`SPIN_US_MAX`].
    pub spin_us: u32,
    /// Sessions per core; one more is refused.
    pub sessions_max: u32,
    /// Sessions that one principal may have at the same time; one more gets SQLSTATE 53300.
    pub sessions_per_principal_max: u32,
    /// Connections that have not signed in yet, of all cores; one more is closed at once.
    pub half_open_max: u32,
    /// The same, of one IPv4 address or one /64 of IPv6.
    pub half_open_per_address_max: u32,
    /// Processes that parse statements not seen before.
    pub analysts: u32,
    /// Bytes of a statement's reply that are recorded; the rest is counted, not kept.
    #[serde(deserialize_with = "quantity::bytes")]
    pub reply_record_bytes: u64,
    /// A longer statement is denied.
    #[serde(deserialize_with = "quantity::bytes")]
    pub statement_bytes_max: u64,
    /// What one session may keep: prepared statements with their columns, named portals with their parameters, a long message
    /// on its way. Beyond it the session gets SQLSTATE 53200 in the statement's place.
    #[serde(deserialize_with = "quantity::bytes")]
    pub session_bytes_max: u64,
    /// The same of all sessions of a core; those of one principal may have a quarter of it.
    #[serde(deserialize_with = "quantity::bytes")]
    pub core_bytes_max: u64,
}

impl Default for Dataplane {
    fn default() -> Self {
        Dataplane {
            cores: Cores::Auto,
            durability: Durability::Batched,
            spool_bytes: 64 << 20,
            spin_us: 0,
            sessions_max: 10_000,
            sessions_per_principal_max: 10_000,
            half_open_max: 4_096,
            half_open_per_address_max: 512,
            analysts: 2,
            reply_record_bytes: 64 << 10,
            statement_bytes_max: 4 << 20,
            session_bytes_max: 96 << 20,
            core_bytes_max: 1 << 30,
        }
    }
}

/// `cores = "auto" | 4 | [2, 3, 4, 5]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cores {
    /// One shard for each core that the process may use.
    #[default]
    Auto,
    /// The first so many of the cores that the process may use.
    Count(u32),
    /// These, by the kernel's numbers.
    List(Vec<u32>),
}

/// When a record is good enough to forward its statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Recorded in shared memory before it is forwarded, on disk within the recorder's next batch.
    #[default]
    Batched,
    /// On disk before it is forwarded.
    Strict,
}

/// What a held statement does to its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnHold {
    /// It waits for people.
    #[default]
    Wait,
    /// An error with the question's number; the same statement sent again after approval spends it.
    Refuse,
}

/// What `user` of a client's start-up packet may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerUser {
    /// The principal that the credential is for, letter by letter.
    #[default]
    Principal,
    /// Anything: it is recorded, and says nothing. For clients whose user name cannot be set.
    Any,
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM, the chain with it.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// A protocol as the file names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Spoken {
    /// One that is known.
    Known(Protocol),
    /// Any other word: [`Config::check`] refuses it.
    Unknown(String),
}

impl From<String> for Spoken {
    fn from(word: String) -> Spoken {
        match Protocol::of_name(&word) {
            Some(protocol) => Spoken::Known(protocol),
            None => Spoken::Unknown(word),
        }
    }
}

impl std::fmt::Display for Spoken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Spoken::Known(protocol) => protocol.fmt(f),
            Spoken::Unknown(word) => f.write_str(word),
        }
    }
}

/// `[[listener]]`: where clients come in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// `postgres` today.
    pub protocol: Spoken,
    /// Where it listens.
    pub address: SocketAddr,
    /// Without it passwords are not asked for.
    #[serde(default)]
    pub tls: Option<TlsFiles>,
    /// Passwords may come without TLS. For benches on loopback.
    #[serde(default)]
    pub danger_allow_cleartext: bool,
    /// What a held statement's client gets.
    #[serde(default)]
    pub on_hold: OnHold,
    /// `"principal"`, or `"any"`.
    #[serde(default)]
    pub user: ListenerUser,
}

/// `[[target]]`: a database behind Headgate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Exactly what `iss` says. `https`, or `http` on loopback.
    pub url: String,
    /// Must be in `aud`.
    pub audience: String,
    /// The claim that lists a caller's groups.
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// The claim that names the principal.
    #[serde(default = "default_principal_claim")]
    pub principal_claim: String,
    /// Which signatures are taken.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// PEM roots to trust beside the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// For `headgate login` (device flow). Absent: no login with this issuer.
    #[serde(default)]
    pub client_id: Option<String>,
    /// A JWT that lives longer (`exp - iat`) is not accepted; a token minted after login lives no longer either.
    #[serde(default = "default_lifetime_max", deserialize_with = "quantity::duration")]
    pub lifetime_max: Duration,
}

fn default_groups_claim() -> String {
    "groups".into()
}

fn default_principal_claim() -> String {
    "sub".into()
}

fn default_algorithms() -> Vec<Algorithm> {
    vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]
}

fn default_lifetime_max() -> Duration {
    Duration::from_secs(24 * 3600)
}

/// Asymmetric signatures only: a shared key would let whoever checks a token also make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum Algorithm {
    /// RSA with SHA-256.
    RS256,
    /// P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

/// People known to this appliance alone.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// A TOML file of `[[user]]` tables: `name`, `password` (an Argon2 hash), `groups`.
    pub users: PathBuf,
}

/// `[api]`: the admin API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Where it listens.
    pub address: SocketAddr,
    /// Without it the address must be loopback.
    pub tls: Option<TlsFiles>,
    /// What reviewers' links begin with. Default: from `address`.
    pub public_url: Option<String>,
    /// Members may change rules, secrets, sessions.
    pub admin_groups: Vec<String>,
    /// Members may read recordings and statements.
    pub auditor_groups: Vec<String>,
}

impl Default for Api {
    fn default() -> Self {
        Api {
            address: SocketAddr::from(([127, 0, 0, 1], 8443)),
            tls: None,
            public_url: None,
            admin_groups: vec!["headgate-admins".into()],
            auditor_groups: vec!["headgate-auditors".into()],
        }
    }
}

impl Api {
    /// Without a slash at its end.
    pub fn public_url(&self) -> String {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!(
                "{}://{}",
                if self.tls.is_some() { "https" } else { "http" },
                self.address
            ),
        }
    }
}

impl Config {
    /// The target that clients call so.
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|t| t.name == name)
    }

    /// In the file's order.
    pub fn target_specs(&self) -> Vec<TargetSpec> {
        self.targets.iter().map(Target::spec).collect()
    }

    /// The target's word, else the listener's.
    pub fn on_hold(&self, listener: &Listener, target: &str) -> OnHold {
        self.target(target)
            .and_then(|t| t.on_hold)
            .unwrap_or(listener.on_hold)
    }

    /// The Unix socket between the planes.
    pub fn link_socket(&self) -> PathBuf {
        self.appliance.runtime.join("link.sock")
    }
}
