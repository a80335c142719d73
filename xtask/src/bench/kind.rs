//! Who takes part in a bench, and by which name.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// No engine between load and target.
    Direct,
    /// An empty relay on Headgate's own ring: the floor.
    Relay,
    Haproxy,
    /// The same program and configuration once more: what two equal engines differ by is noise.
    HaproxyAgain,
    /// Without the tuning of [`Kind::Haproxy`].
    HaproxyStock,
    Pgbouncer,
    /// With buffers of 64 KiB instead of 4.
    PgbouncerLarge,
    /// Identity, policy, recording.
    Headgate,
    /// And a mask rule with a column and three detectors.
    HeadgateMask,
    /// The process of [`Kind::HeadgateMask`], asked by somebody whom its mask rule lets pass.
    HeadgatePassed,
    /// As [`Kind::Headgate`], of other binaries (`--compare`).
    HeadgateB,
    /// As [`Kind::HeadgateMask`], of other binaries.
    HeadgateMaskB,
    /// As [`Kind::HeadgateMask`], with `spin_us = 20`.
    HeadgateSpin,
    /// As [`Kind::HeadgateMask`], with so many rules.
    Rules1,
    Rules20,
    Rules1000,
}

impl Kind {
    pub const ALL: [Kind; 16] = [
        Kind::Direct,
        Kind::Relay,
        Kind::Haproxy,
        Kind::HaproxyAgain,
        Kind::HaproxyStock,
        Kind::Pgbouncer,
        Kind::PgbouncerLarge,
        Kind::Headgate,
        Kind::HeadgateMask,
        Kind::HeadgatePassed,
        Kind::HeadgateB,
        Kind::HeadgateMaskB,
        Kind::HeadgateSpin,
        Kind::Rules1,
        Kind::Rules20,
        Kind::Rules1000,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Relay => "relay",
            Kind::Haproxy => "haproxy",
            Kind::HaproxyAgain => "haproxy-again",
            Kind::HaproxyStock => "haproxy-stock",
            Kind::Pgbouncer => "pgbouncer",
            Kind::PgbouncerLarge => "pgbouncer-64k",
            Kind::Headgate => "headgate",
            Kind::HeadgateMask => "headgate-mask",
            Kind::HeadgatePassed => "headgate-passed",
            Kind::HeadgateB => "headgate-b",
            Kind::HeadgateMaskB => "headgate-mask-b",
            Kind::HeadgateSpin => "headgate-spin",
            Kind::Rules1 => "headgate-1-rule",
            Kind::Rules20 => "headgate-20-rules",
            Kind::Rules1000 => "headgate-1000-rules",
        }
    }

    pub fn is_headgate(self) -> bool {
        self.rules().is_some()
    }

    /// Headgate has so many rules then.
    pub fn rules(self) -> Option<usize> {
        match self {
            Kind::Headgate
            | Kind::HeadgateMask
            | Kind::HeadgatePassed
            | Kind::HeadgateB
            | Kind::HeadgateMaskB
            | Kind::HeadgateSpin
            | Kind::Rules20 => Some(20),
            Kind::Rules1 => Some(1),
            Kind::Rules1000 => Some(1000),
            Kind::Direct
            | Kind::Relay
            | Kind::Haproxy
            | Kind::HaproxyAgain
            | Kind::HaproxyStock
            | Kind::Pgbouncer
            | Kind::PgbouncerLarge => None,
        }
    }

    pub fn masks(self) -> bool {
        self.is_headgate() && !matches!(self, Kind::Headgate | Kind::HeadgateB)
    }

    /// Whether the reply of a point read must come back masked.
    pub fn covers(self) -> bool {
        self.masks() && self != Kind::HeadgatePassed
    }

    /// Of the other binaries.
    pub fn is_other_build(self) -> bool {
        matches!(self, Kind::HeadgateB | Kind::HeadgateMaskB)
    }

    /// The other build's twin of this engine.
    pub fn twin(self) -> Option<Kind> {
        match self {
            Kind::Headgate => Some(Kind::HeadgateB),
            Kind::HeadgateMask => Some(Kind::HeadgateMaskB),
            _ => None,
        }
    }

    /// Whose process serves it.
    pub fn process(self) -> Kind {
        if self == Kind::HeadgatePassed {
            Kind::HeadgateMask
        } else {
            self
        }
    }

    pub fn is_haproxy(self) -> bool {
        matches!(self, Kind::Haproxy | Kind::HaproxyAgain | Kind::HaproxyStock)
    }

    pub fn is_pgbouncer(self) -> bool {
        matches!(self, Kind::Pgbouncer | Kind::PgbouncerLarge)
    }

    pub fn port(self) -> u16 {
        match self.process() {
            Kind::Direct => super::TARGET_PORT,
            process => {
                6001 + Kind::ALL
                    .into_iter()
                    .zip(0..)
                    .find(|(kind, _)| *kind == process)
                    .map_or(0, |(_, at)| at)
            }
        }
    }

    /// Where TLS is spoken.
    pub fn tls_port(self) -> u16 {
        // The others tell TLS by the first bytes; HAProxy must be told.
        if self.is_haproxy() {
            self.port() + 2000
        } else {
            self.port()
        }
    }

    pub fn api_port(self) -> u16 {
        self.port() + 1000
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_engines_share_a_name_or_a_port() {
        let names: BTreeSet<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        let own: Vec<Kind> = Kind::ALL.into_iter().filter(|k| k.process() == *k).collect();
        let mut ports = BTreeSet::new();
        for kind in &own {
            for port in BTreeSet::from([kind.port(), kind.tls_port(), kind.api_port()]) {
                assert!(ports.insert(port), "{kind}: {port}");
            }
        }
        assert_eq!(Kind::HeadgatePassed.port(), Kind::HeadgateMask.port());
    }
}
