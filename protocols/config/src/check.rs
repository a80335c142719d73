//! What types cannot say: names that occur twice, forbidden mixtures, files that are not there.

use crate::error::ConfigProblem;
use crate::locate;
use crate::model::{
    Config, Issuer, MESSAGE_BYTES_MAX, REPLY_RECORD_BYTES_MAX, SPIN_US_MAX, SPOOL_BYTES_MIN,
    STATEMENT_BYTES_MIN, Spoken, TlsFiles,
};
use crate::target::{SPOKEN, unknown_protocol};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;
use url::{Host, Url};

const NAME_BYTES_MAX: usize = 63;
const LIFETIME_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

impl Config {
    /// Everything that is wrong, with the files that the configuration names. Empty: it can be started with.
    pub fn check(&self) -> Vec<ConfigProblem> {
        let mut problems = self.check_without_files();
        self.check_files(&mut problems);
        problems
    }

    fn at(&self, path: impl AsRef<str>, message: impl Into<String>) -> ConfigProblem {
        locate::of(&self.source, path.as_ref(), message)
    }

    pub(crate) fn check_without_files(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        self.check_appliance(&mut found);
        self.check_listeners(&mut found);
        self.check_targets(&mut found);
        self.check_issuers(&mut found);
        self.check_api(&mut found);
        found
    }

    fn check_appliance(&self, found: &mut Vec<ConfigProblem>) {
        if let Err(why) = name_is_plain(&self.appliance.name) {
            found.push(self.at("appliance.name", format!("appliance.name {why}")));
        }
        let d = &self.dataplane;
        let mut bound = |key: &str, value: u64, min: u64, max: u64| {
            if value < min || value > max {
                found.push(self.at(
                    format!("dataplane.{key}"),
                    format!("{key} is {value}; it must be between {min} and {max}"),
                ));
            }
        };
        bound("spool_bytes", d.spool_bytes, SPOOL_BYTES_MIN, 64 << 30);
        bound("spin_us", u64::from(d.spin_us), 0, SPIN_US_MAX);
        bound("sessions_max", u64::from(d.sessions_max), 1, 1_000_000);
        bound(
            "sessions_per_principal_max",
            u64::from(d.sessions_per_principal_max),
            1,
            1_000_000,
        );
        bound("session_bytes_max", d.session_bytes_max, 1 << 20, 4 << 30);
        bound("core_bytes_max", d.core_bytes_max, 16 << 20, 1 << 40);
        bound("half_open_max", u64::from(d.half_open_max), 1, 1_000_000);
        bound(
            "half_open_per_address_max",
            u64::from(d.half_open_per_address_max),
            1,
            1_000_000,
        );
        bound("analysts", u64::from(d.analysts), 1, 256);
        bound(
            "reply_record_bytes",
            d.reply_record_bytes,
            0,
            REPLY_RECORD_BYTES_MAX,
        );
        bound(
            "statement_bytes_max",
            d.statement_bytes_max,
            STATEMENT_BYTES_MIN,
            MESSAGE_BYTES_MAX,
        );
    }

    fn check_listeners(&self, found: &mut Vec<ConfigProblem>) {
        if self.listeners.is_empty() {
            found.push(ConfigProblem::bare(
                "there is no [[listener]]: nobody could connect",
            ));
        }
        let mut addresses = HashSet::new();
        for (i, listener) in self.listeners.iter().enumerate() {
            if !matches!(&listener.protocol, Spoken::Known(protocol) if SPOKEN.contains(protocol)) {
                let (path, word) = (format!("listener.{i}.protocol"), listener.protocol.to_string());
                found.push(unknown_protocol(&self.source, &path, &word));
            }
            if !addresses.insert(listener.address) {
                found.push(self.at(
                    format!("listener.{i}.address"),
                    format!("two listeners have the address {}", listener.address),
                ));
            }
            if listener.tls.is_none() && !listener.danger_allow_cleartext {
                let mut problem = self.at(
                    format!("listener.{i}"),
                    "a listener without `tls` would carry passwords in clear",
                );
                problem.help = Some("write tls = { certificate = \"…\", key = \"…\" }".into());
                found.push(problem);
            }
        }
        if self
            .listeners
            .iter()
            .any(|l| l.address == self.api.address && l.address.port() != 0)
        {
            found.push(self.at(
                "api.address",
                format!("a listener has the address of the API, {}", self.api.address),
            ));
        }
    }

    fn check_targets(&self, found: &mut Vec<ConfigProblem>) {
        let mut names = HashSet::new();
        for target in &self.targets {
            self.check_target(target, found);
            if !names.insert(target.name.as_str()) {
                let path = format!("target.{}.name", target.at);
                found.push(self.at(path, format!("two targets are named `{}`", target.name)));
            }
        }
    }

    fn check_issuers(&self, found: &mut Vec<ConfigProblem>) {
        let mut urls = HashSet::new();
        for (i, issuer) in self.issuers.iter().enumerate() {
            let path = |key: &str| format!("issuer.{i}.{key}");
            // Compared as the text that `iss` will be compared with, not as a normalised URL.
            if !urls.insert(issuer.url.trim_end_matches('/')) {
                found.push(self.at(path("url"), format!("two issuers have the URL {}", issuer.url)));
            }
            if let Err(why) = issuer_url(issuer) {
                found.push(self.at(path("url"), format!("issuer {}: {why}", issuer.url)));
            }
            for (key, value) in [
                ("audience", &issuer.audience),
                ("groups_claim", &issuer.groups_claim),
                ("principal_claim", &issuer.principal_claim),
            ] {
                if value.is_empty() {
                    found.push(self.at(
                        path(key),
                        format!("issuer {}: `{key}` cannot be empty", issuer.url),
                    ));
                }
            }
            if issuer.algorithms.is_empty() {
                found.push(self.at(
                    path("algorithms"),
                    format!("issuer {}: no algorithm is left to accept", issuer.url),
                ));
            }
            if issuer.client_id.as_deref() == Some("") {
                found.push(self.at(
                    path("client_id"),
                    format!("issuer {}: `client_id` cannot be empty", issuer.url),
                ));
            }
            if issuer.lifetime_max.is_zero() || issuer.lifetime_max > LIFETIME_LIMIT {
                found.push(self.at(
                    path("lifetime_max"),
                    format!("issuer {}: `lifetime_max` must be between 1s and 7d", issuer.url),
                ));
            }
        }
    }

    fn check_api(&self, found: &mut Vec<ConfigProblem>) {
        if self.api.tls.is_none() && !self.api.address.ip().is_loopback() {
            let message = format!(
                "the API at {} would be plain http over a network",
                self.api.address
            );
            let mut problem = self.at("api.address", message);
            problem.help = Some(
                "write tls = { certificate = \"…\", key = \"…\" } under [api], or a loopback address".into(),
            );
            found.push(problem);
        }
        if let Some(text) = &self.api.public_url {
            let fine = Url::parse(text).is_ok_and(|u| {
                matches!(u.scheme(), "http" | "https")
                    && u.has_host()
                    && u.query().is_none()
                    && u.fragment().is_none()
            });
            if !fine {
                found.push(self.at("api.public_url", format!("`{text}` is not an http(s) URL")));
            }
        }
    }

    fn check_files(&self, found: &mut Vec<ConfigProblem>) {
        for (i, listener) in self.listeners.iter().enumerate() {
            self.check_tls_files(&format!("listener.{i}.tls"), listener.tls.as_ref(), found);
        }
        self.check_tls_files("api.tls", self.api.tls.as_ref(), found);
        for target in &self.targets {
            self.check_roots(&format!("target.{}.ca", target.at), target.ca.as_deref(), found);
        }
        for (i, issuer) in self.issuers.iter().enumerate() {
            self.check_roots(&format!("issuer.{i}.ca"), issuer.ca.as_deref(), found);
        }
        if let Some(local) = &self.local
            && let Err(error) = std::fs::File::open(&local.users)
        {
            found.push(self.at(
                "local.users",
                format!("{} cannot be read: {error}", local.users.display()),
            ));
        }
        if let Err(error) = std::fs::File::open(&self.appliance.rules) {
            found.push(self.at(
                "appliance.rules",
                format!("{} cannot be read: {error}", self.appliance.rules.display()),
            ));
        }
    }

    fn check_tls_files(&self, path: &str, files: Option<&TlsFiles>, found: &mut Vec<ConfigProblem>) {
        let Some(files) = files else { return };
        if let Err(why) = certificates(&files.certificate) {
            found.push(self.at(format!("{path}.certificate"), why));
        }
        match std::fs::read(&files.key) {
            Err(error) => {
                found.push(self.at(
                    format!("{path}.key"),
                    format!("{} cannot be read: {error}", files.key.display()),
                ));
            }
            Ok(pem) => {
                if PrivateKeyDer::from_pem_slice(&pem).is_err() {
                    found.push(self.at(
                        format!("{path}.key"),
                        format!("{} holds no private key in PEM", files.key.display()),
                    ));
                }
            }
        }
    }

    fn check_roots(&self, path: &str, file: Option<&Path>, found: &mut Vec<ConfigProblem>) {
        if let Some(file) = file
            && let Err(why) = certificates(file)
        {
            found.push(self.at(path, why));
        }
    }
}

fn certificates(file: &Path) -> Result<(), String> {
    let pem = std::fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(()),
        _ => Err(format!("{} holds no certificate in PEM", file.display())),
    }
}

/// What may stand in a startup packet, a file name and a URL's path alike.
pub(crate) fn name_is_plain(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("cannot be empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return Err("is longer than 63 bytes");
    }
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !plain || name.starts_with(['-', '.']) {
        return Err(
            "may hold letters, digits, `-`, `_` and `.` only, and begins with a letter, digit or `_`",
        );
    }
    Ok(())
}

fn issuer_url(issuer: &Issuer) -> Result<(), String> {
    let url = Url::parse(&issuer.url).map_err(|error| format!("not a URL: {error}"))?;
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err("an issuer's URL has no user, query or fragment".into());
    }
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return Err("an issuer's URL names a host".into()),
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        "http" => Err("plain http is for loopback only: whoever sits on the way could hand out keys".into()),
        other => Err(format!("`{other}` is not https")),
    }
}
