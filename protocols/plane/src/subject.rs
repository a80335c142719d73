//! What an approval binds: digest v2.
//!
//! Invariant: no two subjects that differ in a field share an input of the digest: each field has its length or its number
//! of parts before it, and what describes a parameter is of a fixed length for its arm.
//! Never here: session and statement number. They stand beside the digest in the question's key, so that the identical
//! statement of the same identity can be told again in another session.

use crate::grant::Who;
use crate::ids::Epoch;
use crate::parameter::Parameter;
use crate::question::{QuestionDigest, StandsFor};
use sha2::{Digest, Sha256};

const HEADING: &[u8] = b"headgate question v2";

/// A statement with all that a reviewer says yes to.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Principal, issuer and chain are bound; groups, address and application are not.
    pub who: &'a Who,
    /// The target's name.
    pub target: &'a str,
    /// The target's environment.
    pub environment: &'a str,
    /// Role that the target sees.
    pub role: &'a str,
    /// The exact bytes that will be sent.
    pub text: &'a [u8],
    /// What `text` runs without saying it, in order.
    pub stands_for: &'a [StandsFor],
    /// What the statement is given.
    pub parameters: &'a [Parameter],
    /// Whether data that nobody has seen will follow the statement (a rule says `data = "open"`).
    pub open_data: bool,
    /// What the session has set that says what names in the text mean, by name.
    pub settings: &'a [(String, String)],
    /// Name of the rule that holds.
    pub rule: &'a str,
    /// Of the rules that hold it.
    pub epoch: Epoch,
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn put_parameters(out: &mut Vec<u8>, parameters: &[Parameter]) {
    out.extend_from_slice(&(parameters.len() as u64).to_be_bytes());
    for p in parameters {
        p.kind.digest_input(out);
        match &p.value {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                put(out, value);
            }
        }
    }
}

impl Subject<'_> {
    /// SHA-256 of [`Subject::digest_input`].
    pub fn digest(&self) -> QuestionDigest {
        QuestionDigest(Sha256::digest(self.digest_input()).into())
    }

    /// The bytes whose SHA-256 is the digest.
    pub fn digest_input(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(
            512 + self.text.len() + self.stands_for.iter().map(|s| s.text.len() + 32).sum::<usize>(),
        );
        put(&mut out, HEADING);
        put(&mut out, self.who.principal.as_bytes());
        put(&mut out, self.who.issuer.as_bytes());
        out.extend_from_slice(&(self.who.chain.len() as u64).to_be_bytes());
        for actor in &self.who.chain {
            put(&mut out, actor.as_bytes());
        }
        put(&mut out, self.target.as_bytes());
        put(&mut out, self.environment.as_bytes());
        put(&mut out, self.role.as_bytes());
        put(&mut out, self.text);
        out.extend_from_slice(&(self.stands_for.len() as u64).to_be_bytes());
        for inner in self.stands_for {
            put(&mut out, &inner.text);
            put_parameters(&mut out, &inner.parameters);
        }
        put_parameters(&mut out, self.parameters);
        out.push(u8::from(self.open_data));
        out.extend_from_slice(&(self.settings.len() as u64).to_be_bytes());
        for (name, value) in self.settings {
            put(&mut out, name.as_bytes());
            put(&mut out, value.as_bytes());
        }
        put(&mut out, self.rule.as_bytes());
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter::ParameterKind;
    use std::collections::HashSet;

    fn value(type_oid: u32, format: u16, value: Option<&[u8]>) -> Parameter {
        Parameter {
            kind: ParameterKind::Postgres { type_oid, format },
            value: value.map(<[u8]>::to_vec),
        }
    }

    fn inner(text: &[u8], parameters: &[Parameter]) -> StandsFor {
        StandsFor {
            text: text.to_vec(),
            parameters: parameters.to_vec(),
        }
    }

    #[test]
    fn every_field_is_bound_and_none_can_stand_for_another() {
        let who = Who {
            principal: "alice".into(),
            issuer: "local".into(),
            chain: vec!["agent".into()],
            ..Who::default()
        };
        let others = [
            Who {
                principal: "bob".into(),
                ..who.clone()
            },
            Who {
                issuer: "https://id".into(),
                ..who.clone()
            },
            Who {
                chain: vec![],
                ..who.clone()
            },
            Who {
                chain: vec!["agent".into(), "inner".into()],
                ..who.clone()
            },
            Who {
                principal: "alicelocal".into(),
                issuer: String::new(),
                ..who.clone()
            },
        ];
        let (one, two) = (
            [value(23, 1, Some(b"ab"))],
            [value(23, 1, Some(b"a")), value(23, 1, Some(b"b"))],
        );
        let (oid, text, null) = (
            [value(25, 1, Some(b"ab"))],
            [value(23, 0, Some(b"ab"))],
            [value(23, 1, None)],
        );
        let stands: [Vec<StandsFor>; 4] = [
            vec![inner(b"delete from a", &[])],
            vec![inner(b"delete ", &[]), inner(b"from a", &[])],
            vec![inner(b"delete from a", &one)],
            vec![inner(b"delete from b", &[])],
        ];
        let base = Subject {
            who: &who,
            target: "orders",
            environment: "production",
            role: "app",
            text: b"execute p(1)",
            stands_for: &[],
            parameters: &[],
            open_data: false,
            settings: &[],
            rule: "r",
            epoch: Epoch(3),
        };
        let mut all = vec![
            base,
            Subject {
                target: "orders2",
                ..base
            },
            Subject {
                target: "ordersproduction",
                environment: "",
                ..base
            },
            Subject {
                environment: "test",
                ..base
            },
            Subject { role: "root", ..base },
            Subject {
                text: b"execute p(2)",
                ..base
            },
            Subject {
                open_data: true,
                ..base
            },
            Subject { rule: "s", ..base },
            Subject {
                epoch: Epoch(4),
                ..base
            },
        ];
        all.extend(others.iter().map(|who| Subject { who, ..base }));
        all.extend([&one[..], &two, &oid, &text, &null].map(|parameters| Subject { parameters, ..base }));
        all.extend(stands.iter().map(|stands_for| Subject { stands_for, ..base }));
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let settings = [
            vec![setting("search_path", "evil")],
            vec![setting("search_pathevil", "")],
            vec![setting("role", "evil")],
            vec![setting("search_path", "evil"), setting("role", "evil")],
        ];
        all.extend(settings.iter().map(|settings| Subject { settings, ..base }));
        let inputs: HashSet<Vec<u8>> = all.iter().map(Subject::digest_input).collect();
        assert_eq!(inputs.len(), all.len());
        // What is not bound: where it comes from.
        let moved = Who {
            address: "10.0.0.1".into(),
            application: "psql".into(),
            groups: vec!["dba".into()],
            ..who.clone()
        };
        assert!(inputs.contains(&Subject { who: &moved, ..base }.digest_input()));
    }
}
