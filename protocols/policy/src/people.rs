//! Whether a rule's `who` and `target` let it apply.
//!
//! What opens (allow rules, `unless` of a mask) does not apply in doubt; what restricts (deny, hold, a mask) does.

use headgate_plane::{RuleTarget, RuleWho, TargetSpec, Who};
use ipnet::IpNet;
use std::net::IpAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    Applies,
    DoesNotApply,
}

/// `RuleWho` with its addresses read.
#[derive(Debug)]
pub(crate) struct People {
    who: RuleWho,
    nets: Vec<IpNet>,
}

impl People {
    pub(crate) fn new(who: &RuleWho) -> Result<People, String> {
        let nets = who.addresses.iter().map(|a| net(a)).collect::<Result<_, _>>()?;
        Ok(People {
            who: who.clone(),
            nets,
        })
    }

    /// Whether it names the principal, its groups or the outermost actor: what may open a door.
    pub(crate) fn names_who_may_open(who: &RuleWho) -> bool {
        !who.principals.is_empty() || !who.groups.is_empty() || !who.actors.is_empty()
    }

    /// `Err` names the field that keeps it from applying.
    pub(crate) fn apply(&self, who: &Who, doubt: Doubt) -> Result<(), &'static str> {
        let rule = &self.who;
        let has = |list: &[String], name: &str| list.is_empty() || list.iter().any(|x| x == name);
        if !has(&rule.principals, &who.principal) {
            return Err("principals");
        }
        if !rule.groups.is_empty() && !who.groups.iter().any(|g| rule.groups.contains(g)) {
            return Err("groups");
        }
        if !has(&rule.actors, who.actor()) {
            return Err("actors");
        }
        // The principal is the end of its own chain: what is said of anyone in it is said of the principal, too.
        if !rule.chain.is_empty()
            && !who
                .chain
                .iter()
                .chain([&who.principal])
                .any(|a| rule.chain.contains(a))
        {
            return Err("chain");
        }
        if !has(&rule.issuers, &who.issuer) {
            return Err("issuers");
        }
        if !has(&rule.applications, &who.application) {
            return Err("applications");
        }
        if !self.nets.is_empty() {
            let inside = match who.address.parse::<IpAddr>() {
                Ok(address) => self.nets.iter().any(|net| net.contains(&address.to_canonical())),
                Err(_) => doubt == Doubt::Applies,
            };
            if !inside {
                return Err("addresses");
            }
        }
        Ok(())
    }
}

fn net(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let net: IpNet = text
        .parse()
        .map_err(|_| format!("address `{text}` is not a CIDR block such as 10.0.0.0/8"))?;
    if net.trunc() != net {
        return Err(format!(
            "address `{text}` has bits after its prefix: write {}",
            net.trunc()
        ));
    }
    Ok(net)
}

/// `Err` names the field that keeps it from applying. Labels of one key are alternatives; every key must be met.
pub(crate) fn target_applies(rule: &RuleTarget, target: &TargetSpec) -> Result<(), &'static str> {
    if !rule.names.is_empty() && !rule.names.contains(&target.name) {
        return Err("names");
    }
    if !rule.environments.is_empty() && !rule.environments.contains(&target.environment) {
        return Err("environment");
    }
    let met = |key: &str| {
        rule.labels
            .iter()
            .any(|pair| pair.0 == key && target.labels.contains(pair))
    };
    if !rule.labels.iter().all(|(key, _)| met(key)) {
        return Err("labels");
    }
    if !rule.protocols.is_empty() && !rule.protocols.contains(&target.protocol) {
        return Err("protocols");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addressed(block: &str) -> People {
        People::new(&RuleWho {
            addresses: vec![block.into()],
            ..RuleWho::default()
        })
        .expect("valid block")
    }

    fn from(address: &str) -> Who {
        Who {
            address: address.into(),
            ..Who::default()
        }
    }

    #[test]
    fn an_address_is_in_its_block_whichever_way_it_is_written() {
        let ten = addressed("10.0.0.0/8");
        assert!(ten.apply(&from("10.1.2.3"), Doubt::DoesNotApply).is_ok());
        assert!(ten.apply(&from("::ffff:10.1.2.3"), Doubt::DoesNotApply).is_ok());
        assert_eq!(
            ten.apply(&from("11.1.2.3"), Doubt::DoesNotApply),
            Err("addresses")
        );
        assert!(
            addressed("fd00::/8")
                .apply(&from("fd12::1"), Doubt::DoesNotApply)
                .is_ok()
        );
        assert!(
            addressed("10.1.2.3")
                .apply(&from("10.1.2.3"), Doubt::DoesNotApply)
                .is_ok()
        );
    }

    #[test]
    fn an_address_that_cannot_be_read_opens_nothing_and_escapes_nothing() {
        let ten = addressed("10.0.0.0/8");
        assert!(ten.apply(&from("unix"), Doubt::DoesNotApply).is_err());
        assert!(ten.apply(&from("unix"), Doubt::Applies).is_ok());
    }

    #[test]
    fn a_block_that_is_not_one_is_refused() {
        for bad in ["10.0.0.0/33", "10.0.0.1/8", "ten", ""] {
            assert!(
                People::new(&RuleWho {
                    addresses: vec![bad.into()],
                    ..RuleWho::default()
                })
                .is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn only_the_outermost_actor_is_an_actor_but_anyone_is_in_the_chain() {
        let who = Who {
            principal: "alice".into(),
            chain: vec!["outer".into(), "inner".into()],
            ..Who::default()
        };
        let actors = |a: &str| {
            People::new(&RuleWho {
                actors: vec![a.into()],
                ..RuleWho::default()
            })
            .expect("valid")
        };
        let chain = |a: &str| {
            People::new(&RuleWho {
                chain: vec![a.into()],
                ..RuleWho::default()
            })
            .expect("valid")
        };
        assert!(actors("outer").apply(&who, Doubt::DoesNotApply).is_ok());
        assert!(actors("inner").apply(&who, Doubt::DoesNotApply).is_err());
        assert!(actors("alice").apply(&who, Doubt::DoesNotApply).is_err());
        for anyone in ["outer", "inner", "alice"] {
            assert!(chain(anyone).apply(&who, Doubt::Applies).is_ok(), "{anyone}");
        }
        assert!(chain("bob").apply(&who, Doubt::Applies).is_err());
    }
}
