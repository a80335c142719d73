//! The protocols of clients and targets. Their numbers and names are on disk and on the link: new ones go to the end.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a client and its target speak with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// PostgreSQL's frontend/backend protocol, version 3.
    Postgres,
    /// MySQL's client/server protocol.
    Mysql,
    /// HTTP/1.1 and HTTP/2.
    Http,
    /// The Kubernetes API.
    Kubernetes,
    /// The Model Context Protocol.
    Mcp,
    /// SSH, version 2.
    Ssh,
}

impl Protocol {
    /// In the order of their numbers.
    pub const ALL: [Protocol; 6] = [
        Protocol::Postgres,
        Protocol::Mysql,
        Protocol::Http,
        Protocol::Kubernetes,
        Protocol::Mcp,
        Protocol::Ssh,
    ];

    /// As it is written in headgate.toml.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Postgres => "postgres",
            Protocol::Mysql => "mysql",
            Protocol::Http => "http",
            Protocol::Kubernetes => "kubernetes",
            Protocol::Mcp => "mcp",
            Protocol::Ssh => "ssh",
        }
    }

    /// The protocol of that name.
    pub fn of_name(name: &str) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|protocol| protocol.name() == name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_on_disk_stay_what_they_are() {
        let names = ["postgres", "mysql", "http", "kubernetes", "mcp", "ssh"];
        for (number, (protocol, name)) in (0u8..).zip(Protocol::ALL.into_iter().zip(names)) {
            assert_eq!(postcard::to_stdvec(&protocol).unwrap(), [number]);
            assert_eq!((protocol.name(), Protocol::of_name(name)), (name, Some(protocol)));
        }
        assert_eq!(Protocol::of_name("Postgres"), None);
    }
}
