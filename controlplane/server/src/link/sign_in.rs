//! A session's sign-in: who, then which target, then its secret. Each refusal says to the client what it may read.

use headgate_api::control::blocking;
use headgate_api::metrics::Metrics;
use headgate_api::{Control, now_unix_ms};
use headgate_identity::VerifiedIdentity;
use headgate_plane::{CatalogReader, Grant, Refusal, RefusalKind, Secret, SignIn};
use std::sync::Arc;
use std::time::Duration;

/// A client waits at its password prompt for this long at most.
const SIGN_IN_WAIT: Duration = Duration::from_secs(10);

pub(super) async fn answer(control: &Arc<Control>, ask: SignIn) -> Result<Grant, Refusal> {
    let session = ask.session;
    let result = match tokio::time::timeout(SIGN_IN_WAIT, grant(control, &ask)).await {
        Ok(result) => result,
        Err(_) => Err(refusal(RefusalKind::Unavailable, "the sign-in took too long")),
    };
    match &result {
        Ok(grant) => {
            Metrics::count(&control.metrics.sign_ins_granted);
            tracing::info!(%session, principal = grant.who.principal, actor = grant.who.actor(), target = grant.target.name, "signed in");
        }
        Err(refused) => {
            Metrics::count(&control.metrics.sign_ins_refused);
            let (kind, detail) = (refused.kind, &refused.detail);
            tracing::warn!(%session, address = ask.address, target = ask.target, ?kind, detail, "sign-in refused");
        }
    }
    result
}

async fn grant(control: &Arc<Control>, ask: &SignIn) -> Result<Grant, Refusal> {
    let proved = control.identity.sign_in(ask).await?;
    let target = control.config.target(&ask.target);
    let Some(target) = target else {
        return Err(refusal(
            RefusalKind::NoSuchTarget,
            format!("the configuration has no target `{}`", ask.target),
        ));
    };
    let VerifiedIdentity {
        who,
        credential_id,
        expires_unix_ms,
        targets,
        ..
    } = proved;
    if targets.is_some_and(|only| !only.contains(&target.name)) {
        return Err(refusal(
            RefusalKind::NoSuchTarget,
            format!("the credential is not for target `{}`", target.name),
        ));
    }
    // Without a rule that could allow or hold anything, every statement would be denied: the door stays shut, and whether
    // the target exists is not told.
    let compiled = control.rules.compiled();
    let spec = target.spec();
    if !compiled.context(&who, &spec).opens() {
        let detail = format!(
            "no rule opens target `{}` for {} ({})",
            target.name,
            who.principal,
            who.groups.join(", ")
        );
        return Err(refusal(RefusalKind::NoSuchTarget, detail));
    }
    if expires_unix_ms <= now_unix_ms() {
        return Err(refusal(RefusalKind::BadCredential, "the credential has expired"));
    }
    let target_secret = secret(control, target.secret.as_deref()).await?;
    let catalog_reader = match target.catalog_reader() {
        None => None,
        Some((user, name)) => Some(CatalogReader {
            user: user.to_owned(),
            secret: secret(control, name).await?,
        }),
    };
    let epoch = compiled.epoch();
    Ok(Grant {
        session: ask.session,
        who,
        target: spec,
        target_secret,
        catalog_reader,
        epoch,
        expires_unix_ms,
        credential_id,
    })
}

/// `name`: `None` where the target asks for nothing.
async fn secret(control: &Arc<Control>, name: Option<&str>) -> Result<Secret, Refusal> {
    let Some(name) = name else {
        return Ok(Secret::new(""));
    };
    let (secrets, wanted) = (control.secrets.clone(), name.to_owned());
    match blocking(move || secrets.get(&wanted)).await {
        Ok(Ok(Some(secret))) => Ok(secret),
        Ok(Ok(None)) => Err(refusal(
            RefusalKind::Misconfigured,
            format!("secret `{name}` is missing: headgate secret put {name}"),
        )),
        Ok(Err(error)) => Err(refusal(
            RefusalKind::Misconfigured,
            format!("secret `{name}`: {error}"),
        )),
        Err(_) => Err(refusal(RefusalKind::Unavailable, "the secret could not be read")),
    }
}

fn refusal(kind: RefusalKind, detail: impl Into<String>) -> Refusal {
    Refusal {
        kind,
        detail: detail.into(),
    }
}
