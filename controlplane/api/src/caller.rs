//! Who calls the API, and in which role. The same proofs as for a database session, from the same crate.
//!
//! A role beyond `User` is for people and jobs themselves: a credential with an actor chain, or one that is narrowed to
//! targets, is never an auditor or administrator, whatever groups its principal has.

use crate::control::Control;
use crate::error::ApiError;
use axum::http::HeaderMap;
use headgate_plane::{Secret, Who};
use headgate_questions::Reviewer;
use std::net::IpAddr;

/// The other end of the connection, as the listener knows it. Never from a header.
#[derive(Clone, Debug)]
pub enum Peer {
    /// The admin socket; the kernel says which user of this machine.
    Local {
        uid: u32,
        user: String,
    },
    Network {
        address: IpAddr,
    },
}

impl Peer {
    pub fn address(&self) -> String {
        match self {
            Peer::Local { .. } => "local".to_owned(),
            Peer::Network { address } => address.to_string(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// No credential.
    Anonymous,
    /// A proved identity.
    User,
    /// May read recordings, sessions, rules.
    Auditor,
    /// May change rules, secrets, tokens, sessions.
    Admin,
}

/// Groups that make a role: `[api] admin_groups`, `auditor_groups`.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    pub admin_groups: Vec<String>,
    pub auditor_groups: Vec<String>,
}

impl Roles {
    pub fn role_of(&self, who: &Who, targets: Option<&Vec<String>>) -> Role {
        if !who.chain.is_empty() || targets.is_some() {
            return Role::User;
        }
        let member = |groups: &[String]| who.groups.iter().any(|g| groups.contains(g));
        if member(&self.admin_groups) {
            Role::Admin
        } else if member(&self.auditor_groups) {
            Role::Auditor
        } else {
            Role::User
        }
    }
}

#[derive(Clone, Debug)]
pub struct Caller {
    pub who: Who,
    pub role: Role,
    /// The person at the appliance itself, through the admin socket without a token.
    pub operator: bool,
    /// Absent for the operator and for nobody.
    pub credential_id: Option<String>,
    pub expires_unix_ms: u64,
}

impl Caller {
    fn anonymous(peer: &Peer) -> Caller {
        let who = Who {
            address: peer.address(),
            ..Who::default()
        };
        Caller {
            who,
            role: Role::Anonymous,
            operator: false,
            credential_id: None,
            expires_unix_ms: 0,
        }
    }

    fn operator(user: &str) -> Caller {
        let who = Who {
            principal: format!("local:{user}"),
            issuer: "local".to_owned(),
            address: "local".to_owned(),
            application: "headgate".to_owned(),
            ..Who::default()
        };
        Caller {
            who,
            role: Role::Admin,
            operator: true,
            credential_id: None,
            expires_unix_ms: u64::MAX,
        }
    }

    pub fn reviewer(&self) -> Reviewer {
        if self.operator {
            Reviewer::Operator(self.who.clone())
        } else {
            Reviewer::Named(self.who.clone())
        }
    }
}

/// Reads the credential of a request. A wrong one is an error, never anonymity: who shows a token means to be somebody.
pub async fn identify(control: &Control, peer: &Peer, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let mut given = headers.get_all("authorization").iter();
    let Some(header) = given.next() else {
        return Ok(match peer {
            Peer::Local { user, .. } => Caller::operator(user),
            Peer::Network { .. } => Caller::anonymous(peer),
        });
    };
    if given.next().is_some() {
        return Err(ApiError::unauthenticated("more than one Authorization header"));
    }
    let bearer = header.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let Some(token) = bearer.filter(|t| !t.is_empty()) else {
        return Err(ApiError::unauthenticated(
            "the Authorization header is not `Bearer TOKEN`",
        ));
    };
    let application = headers
        .get("user-agent")
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let proved = control
        .identity
        .verify(&Secret::new(token), &peer.address(), application)
        .await?;
    let role = control.roles.role_of(&proved.who, proved.targets.as_ref());
    Ok(Caller {
        role,
        who: proved.who,
        operator: false,
        credential_id: Some(proved.credential_id),
        expires_unix_ms: proved.expires_unix_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_of_an_administrator_is_no_administrator() {
        let roles = Roles {
            admin_groups: vec!["admins".into()],
            auditor_groups: vec!["auditors".into()],
        };
        let mut who = Who {
            principal: "alice".into(),
            groups: vec!["admins".into(), "auditors".into()],
            ..Who::default()
        };
        assert_eq!(roles.role_of(&who, None), Role::Admin);
        assert_eq!(roles.role_of(&who, Some(&vec!["orders".into()])), Role::User);
        who.chain = vec!["agent".into()];
        assert_eq!(roles.role_of(&who, None), Role::User);
        who.chain.clear();
        who.groups = vec!["Admins".into()];
        assert_eq!(
            roles.role_of(&who, None),
            Role::User,
            "groups are compared exactly"
        );
    }
}
