//! Logging in, tokens, password hashes, secrets, revocation.

use super::{list, read_secret, rows};
use crate::args::{LoginArgs, Output, Reach, RevokeArgs, SecretCommand, TokenCommand, UserCommand};
use crate::client::{Client, segment};
use crate::fail::Fail;
use crate::output;
use crate::reach::{save_token, saved_token, token_path};
use headgate_plane::Secret;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A person who has not finished in the browser by then has gone away.
const DEVICE_WAIT: Duration = Duration::from_secs(15 * 60);

pub async fn login(reach: &Reach, args: LoginArgs) -> Result<(), Fail> {
    let mut way = reach.way()?;
    // A login has no credential yet; an old one must not get in its way.
    way.token = None;
    let client = Client::new(way)?;
    let ways = client.get("/api/v1/login").await?;
    let answer = match &args.user {
        Some(user) => {
            let password = read_secret(&format!("Password of {user}: "), args.password_stdin)?;
            client
                .post(
                    "/api/v1/login/local",
                    &json!({ "user": user, "password": password }),
                )
                .await?
        }
        None if rows(&ways, "issuers").is_empty() => {
            let fail = Fail::new(
                "this appliance has no identity provider to sign in at ([[issuer]] with client_id)",
            );
            let local = ways.get("local").and_then(Value::as_bool).unwrap_or(false);
            return Err(if local {
                fail.hint("it has local users: headgate login --user NAME")
            } else {
                fail
            });
        }
        None => device(&client, args.issuer.as_deref().unwrap_or_default()).await?,
    };
    let token = text(&answer, "/token").ok_or_else(|| Fail::new("the answer holds no token"))?;
    if args.print {
        println!("{token}");
        return Ok(());
    }
    let path = save_token(&token)?;
    let principal = text(&answer, "/info/principal").unwrap_or_default();
    let until = answer
        .pointer("/info/expires_unix_ms")
        .and_then(Value::as_u64)
        .map(output::time)
        .unwrap_or_default();
    eprintln!(
        "Signed in as {} until {until}; the token is in {}.",
        output::printable(&principal),
        path.display()
    );
    eprintln!("Use it as the password of your client:");
    eprintln!(
        "  PGPASSWORD=$(headgate token show) psql \"host=GATE dbname=TARGET user={} sslmode=require\"",
        output::printable(&principal)
    );
    Ok(())
}

/// RFC 8628: the person signs in in a browser, we ask until it is done.
async fn device(client: &Client, issuer: &str) -> Result<Value, Fail> {
    let start = client
        .post("/api/v1/login/device", &json!({ "issuer": issuer }))
        .await?;
    let uri = text(&start, "/verification_uri_complete")
        .or_else(|| text(&start, "/verification_uri"))
        .unwrap_or_default();
    let code = text(&start, "/user_code").unwrap_or_default();
    eprintln!(
        "Open {} and check that it shows the code {}",
        output::printable(&uri),
        output::printable(&code)
    );
    let handle = text(&start, "/handle").unwrap_or_default();
    let mut interval = seconds(&start);
    let began = Instant::now();
    while began.elapsed() < DEVICE_WAIT {
        tokio::time::sleep(interval).await;
        let poll = client
            .post("/api/v1/login/device/poll", &json!({ "handle": handle }))
            .await?;
        if poll.get("token").is_some() {
            return Ok(poll);
        }
        interval = seconds(&poll);
    }
    Err(Fail::new("nobody finished the sign-in in the browser").hint("run headgate login again"))
}

fn seconds(answer: &Value) -> Duration {
    Duration::from_secs(
        answer
            .get("interval_seconds")
            .and_then(Value::as_u64)
            .unwrap_or(5)
            .clamp(1, 60),
    )
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .filter(|s| !s.is_empty())
        .map(ToOwned::to_owned)
}

const TOKENS: [output::Column; 8] = [
    ("ID", "/id"),
    ("NAME", "/name"),
    ("PRINCIPAL", "/principal"),
    ("CHAIN", "/chain"),
    ("GROUPS", "/groups"),
    ("TARGETS", "/targets"),
    ("EXPIRES", "/expires_time"),
    ("STATE", "/state"),
];

pub async fn token(reach: &Reach, output: Output, command: TokenCommand) -> Result<(), Fail> {
    match command {
        TokenCommand::Show => {
            let token = match &reach.token_file {
                Some(_) => reach.way()?.token,
                None => saved_token()?,
            };
            let token = token.ok_or_else(|| {
                let place = token_path().map_or_else(
                    |_| "~/.config/headgate/token".to_owned(),
                    |p| p.display().to_string(),
                );
                Fail::new(format!("no token is saved in {place}")).hint("sign in with: headgate login")
            })?;
            println!("{token}");
        }
        TokenCommand::Mint {
            principal,
            groups,
            chain,
            targets,
            ttl,
            note,
        } => {
            let body = json!({
                "principal": principal, "groups": groups, "chain": chain, "ttl_seconds": ttl, "name": note,
                "targets": (!targets.is_empty()).then_some(targets),
            });
            let answer = Client::new(reach.way()?)?.post("/api/v1/tokens", &body).await?;
            if output == Output::Table {
                println!(
                    "{}",
                    text(&answer, "/token").ok_or_else(|| Fail::new("the answer holds no token"))?
                );
            } else {
                output::one(output, &[], &answer)?;
            }
        }
        TokenCommand::Child {
            act_as,
            ttl,
            targets,
            groups,
            note,
        } => {
            let mut way = reach.way()?;
            if way.token.is_none() {
                way.token = saved_token()?;
            }
            let body = json!({
                "act_as": act_as, "ttl_seconds": ttl, "name": note, "targets": (!targets.is_empty()).then_some(targets),
                "groups": (!groups.is_empty()).then_some(groups),
            });
            let answer = Client::new(way)?.post("/api/v1/tokens/child", &body).await?;
            if output == Output::Table {
                println!(
                    "{}",
                    text(&answer, "/token").ok_or_else(|| Fail::new("the answer holds no token"))?
                );
            } else {
                output::one(output, &[], &answer)?;
            }
        }
        TokenCommand::List => {
            let answer = Client::new(reach.way()?)?.get("/api/v1/tokens").await?;
            list(output, &TOKENS, rows(&answer, "tokens"))?;
        }
        TokenCommand::Revoke { id } => {
            let answer = Client::new(reach.way()?)?
                .delete(&format!("/api/v1/tokens/{}", segment(&id)))
                .await?;
            ended(&answer, &format!("token {id}"));
        }
    }
    Ok(())
}

pub fn user(command: UserCommand) -> Result<(), Fail> {
    let UserCommand::Hash { password_stdin } = command;
    let password = Secret::new(read_secret("Password: ", password_stdin)?);
    let hash = headgate_identity::hash_password(&password).map_err(|error| Fail::new(error.to_string()))?;
    println!("{hash}");
    Ok(())
}

pub async fn secret(reach: &Reach, output: Output, command: SecretCommand) -> Result<(), Fail> {
    let client = Client::new(reach.way()?)?;
    match command {
        SecretCommand::Put { name } => {
            let value = read_secret(&format!("Secret {name}: "), false)?;
            client
                .put(
                    &format!("/api/v1/secrets/{}", segment(&name)),
                    &json!({ "value": value }),
                )
                .await?;
            eprintln!("secret `{}` is stored", output::printable(&name));
        }
        SecretCommand::List => {
            let answer = client.get("/api/v1/secrets").await?;
            let columns = [
                ("NAME", "/name"),
                ("CREATED", "/created_time"),
                ("UPDATED", "/updated_time"),
            ];
            list(output, &columns, rows(&answer, "secrets"))?;
        }
        SecretCommand::Delete { name } => {
            client
                .delete(&format!("/api/v1/secrets/{}", segment(&name)))
                .await?;
            eprintln!("secret `{}` is gone", output::printable(&name));
        }
    }
    Ok(())
}

pub async fn revoke(reach: &Reach, args: RevokeArgs) -> Result<(), Fail> {
    let client = Client::new(reach.way()?)?;
    if let Some(number) = &args.question {
        let answer = client
            .post(
                &format!("/api/v1/questions/{}/revoke", segment(number)),
                &json!({}),
            )
            .await?;
        eprintln!(
            "{} is {}",
            text(&answer, "/number").unwrap_or_default(),
            text(&answer, "/state").unwrap_or_default()
        );
        return Ok(());
    }
    let (body, what) = match (&args.token, &args.principal, &args.session) {
        (Some(id), _, _) => (json!({ "token": id }), format!("token {id}")),
        (_, Some(name), _) => (json!({ "principal": name }), format!("principal {name}")),
        (_, _, Some(id)) => (json!({ "session": id }), format!("session {id}")),
        (None, None, None) => {
            return Err(Fail::usage(
                "say what: --token, --principal, --session or --question",
            ));
        }
    };
    let answer = client.post("/api/v1/revocations", &body).await?;
    ended(&answer, &what);
    Ok(())
}

fn ended(answer: &Value, what: &str) {
    let sessions = answer.get("sessions_ended").and_then(Value::as_u64).unwrap_or(0);
    eprintln!(
        "{} is revoked; open sessions ended: {sessions}",
        output::printable(what)
    );
}
