//! Where the control plane is, and as whom we speak: the admin socket of this machine, or a server with a token.

use crate::args::Reach;
use crate::fail::Fail;
use headgate_config::Config;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

pub const CONFIG_DEFAULT: &str = "/etc/headgate/headgate.toml";
const RUNTIME_DEFAULT: &str = "/run/headgate";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    Socket(PathBuf),
    Url(String),
}

/// A way to the API with the token to show, if any.
#[derive(Clone, Debug)]
pub struct Way {
    pub door: Door,
    pub token: Option<String>,
    pub ca: Option<PathBuf>,
}

impl Reach {
    pub fn config_path(&self) -> PathBuf {
        self.config
            .clone()
            .unwrap_or_else(|| PathBuf::from(CONFIG_DEFAULT))
    }

    pub fn load_config(&self) -> Result<Config, Fail> {
        let path = self.config_path();
        Config::load(&path).map_err(|errors| {
            let fail = Fail::new(errors.to_string());
            if self.config.is_none() && !path.exists() {
                fail.hint("say which one with --config FILE")
            } else {
                fail
            }
        })
    }

    /// `--server` goes first; then the admin socket of `--runtime`, of the configuration, or where one usually is.
    pub fn way(&self) -> Result<Way, Fail> {
        let token_given = self
            .token_file
            .as_ref()
            .map(|path| read_token(path))
            .transpose()?;
        if let Some(url) = &self.server {
            if !(url.starts_with("https://") || is_loopback_http(url)) {
                return Err(Fail::usage(format!(
                    "--server {url}: tokens go over https only (or http on loopback)"
                )));
            }
            let token = match token_given {
                Some(token) => Some(token),
                None => saved_token()?,
            };
            return Ok(Way {
                door: Door::Url(url.trim_end_matches('/').to_owned()),
                token,
                ca: self.ca.clone(),
            });
        }
        let runtime = match (&self.runtime, &self.config) {
            (Some(dir), _) => dir.clone(),
            (None, Some(_)) => self.load_config()?.appliance.runtime,
            (None, None) => Config::load(CONFIG_DEFAULT)
                .map_or_else(|_| PathBuf::from(RUNTIME_DEFAULT), |c| c.appliance.runtime),
        };
        Ok(Way {
            door: Door::Socket(runtime.join("admin.sock")),
            token: token_given,
            ca: None,
        })
    }
}

/// `http://127.0.0.1:8443` and the like. The host is what the URL's parser says, not what it begins with.
fn is_loopback_http(text: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(text) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    url.scheme() == "http"
        && (host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()))
}

fn read_token(path: &std::path::Path) -> Result<String, Fail> {
    let text = std::fs::read_to_string(path).map_err(|e| Fail::new(format!("{}: {e}", path.display())))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(Fail::new(format!("{} holds no token", path.display())));
    }
    Ok(token.to_owned())
}

/// `~/.config/headgate/token`.
pub fn token_path() -> Result<PathBuf, Fail> {
    let config = match std::env::var_os("XDG_CONFIG_HOME").filter(|v| !v.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(
            std::env::var_os("HOME")
                .filter(|v| !v.is_empty())
                .ok_or_else(|| Fail::new("HOME is not set; use --token-file"))?,
        )
        .join(".config"),
    };
    Ok(config.join("headgate").join("token"))
}

pub fn saved_token() -> Result<Option<String>, Fail> {
    let path = token_path()?;
    if path.exists() {
        read_token(&path).map(Some)
    } else {
        Ok(None)
    }
}

/// Mode 0600 in a directory of mode 0700; written beside and moved, so that a reader never sees half a token.
pub fn save_token(token: &str) -> Result<PathBuf, Fail> {
    use std::io::Write;
    let path = token_path()?;
    let dir = path
        .parent()
        .ok_or_else(|| Fail::new("there is no place for the token"))?;
    let wrong = |e: std::io::Error| Fail::new(format!("the token cannot be saved in {}: {e}", dir.display()));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(wrong)?;
    let fresh = dir.join(format!(".token.{}", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(wrong)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
        .map_err(wrong)?;
    writeln!(file, "{token}").map_err(wrong)?;
    std::fs::rename(&fresh, &path).map_err(wrong)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_sent_over_plain_http_to_another_machine() {
        let way = |server: &str| {
            Reach {
                server: Some(server.into()),
                token_file: None,
                ..Reach::default()
            }
            .way()
        };
        for url in [
            "http://gate.example.com",
            "http://127.0.0.1.evil.com:8443",
            "http://localhost.evil.com",
            "ftp://127.0.0.1",
            "gate",
        ] {
            assert_eq!(way(url).unwrap_err().code, 2, "{url}");
        }
        for url in [
            "http://127.0.0.1:8443/",
            "http://[::1]:8443",
            "http://localhost:1",
            "https://gate.example.com",
        ] {
            assert!(way(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn the_runtime_directory_names_the_admin_socket() {
        let way = Reach {
            runtime: Some("/tmp/x".into()),
            ..Reach::default()
        }
        .way()
        .unwrap();
        assert_eq!(way.door, Door::Socket("/tmp/x/admin.sock".into()));
        assert_eq!(way.token, None);
    }
}
