//! A credential: where its secrets are, one attempt to obtain it, and what it says of itself.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use token_source::{
    Kind, Settings, clock,
    connect::with_causes,
    credential::USERNAME,
    exchange::{self, ExchangeError, Grant, Record, Step},
};

use super::{
    claims::Claims,
    sheet::{Mark, Sheet},
};

/// Makes one attempt, unless `barred` says why none can be made; `attached` tells how routes attach the credential.
pub(super) async fn log_in<W: Write>(
    sheet: &mut Sheet<W>,
    settings: &Settings,
    secrets: &Secrets,
    attached: &[String],
    barred: Option<String>,
) -> Option<Grant> {
    sheet.heading(format_args!(
        "credential {} ({})",
        settings.name,
        settings.kind.name()
    ));
    secrets.tell(sheet);
    if let Some(barred) = barred {
        sheet.fail("login", format_args!("not tried: {barred}"));
        return None;
    }
    if secrets.is_missing() {
        sheet.fail("login", "not tried: a secret is missing");
        return None;
    }
    attempt(sheet, settings, attached).await
}

/// The places of a credential's secrets, and what came of looking there.
pub(super) struct Secrets(Vec<(String, Found)>);

enum Found {
    Read,
    /// Commands and keyrings are not asked twice: they may ask a human.
    Later,
    /// For this reason.
    Missing(String),
}

impl Secrets {
    /// Reads them all, so that `sheet` knows them before anybody says something; the login reads them anew.
    pub(super) async fn read<W: Write>(kind: &Kind, sheet: &Sheet<W>) -> Self {
        let mut secrets = Vec::new();
        for (key, location) in kind.places() {
            let place = format!("{key}: {}", location.describe().await);
            let found = if location.may_ask() {
                Found::Later
            } else {
                match location.read().await {
                    Ok(secret) => {
                        // Who it is that logs in may be shown.
                        if key != USERNAME {
                            sheet.redaction().add(&secret);
                        }
                        Found::Read
                    }
                    Err(error) => Found::Missing(error.to_string()),
                }
            };
            secrets.push((place, found));
        }
        Self(secrets)
    }

    fn is_missing(&self) -> bool {
        let Self(secrets) = self;
        secrets
            .iter()
            .any(|(_, found)| matches!(found, Found::Missing(_)))
    }

    fn tell<W: Write>(&self, sheet: &mut Sheet<W>) {
        for (place, found) in &self.0 {
            match found {
                Found::Read => sheet.ok("secret", place),
                Found::Later => sheet.detail("secret", format_args!("{place}, run at the login")),
                Found::Missing(error) => {
                    let error = sheet.quote(error);
                    sheet.fail("secret", format_args!("{place} {error}"));
                }
            }
        }
    }
}

async fn attempt<W: Write>(
    sheet: &mut Sheet<W>,
    settings: &Settings,
    attached: &[String],
) -> Option<Grant> {
    let record = Record::kept(sheet.redaction().clone());
    let exchange = exchange::from_settings(settings);
    let outcome = exchange.exchange(&record).await;
    let steps = record.steps();
    for step in &steps {
        let is_good = step.status.is_some_and(|status| status.is_success());
        let mark = if is_good { Mark::Ok } else { Mark::Fail };
        tell_step(sheet, "login", step, mark);
    }
    let claims = outcome
        .as_ref()
        .ok()
        .and_then(|grant| Claims::read(&grant.value));
    if !steps.is_empty() {
        tell_clock(sheet, &steps, claims.as_ref());
    }
    match outcome {
        Ok(grant) => {
            let is_over =
                (claims.as_ref()).is_some_and(|claims| claims.is_over(server_time(&steps)));
            if is_over {
                sheet.fail("credential", "handed out a token that is over");
                sheet.advise("if the clocks are right, the server keeps its tokens for too long");
            } else {
                tell_grant(sheet, &grant, attached);
            }
            if let Some(claims) = claims {
                sheet.detail("claims", claims.line(sheet.redaction()));
            }
            (!is_over).then_some(grant)
        }
        Err(error) => {
            let causes = sheet.quote(&with_causes(&error));
            sheet.fail("credential", format_args!("{}: {causes}", error.told()));
            if let Some(advice) = advice(&error) {
                sheet.advise(advice);
            }
            None
        }
    }
}

/// What time it is at the server that was asked last, or here where it does not say.
fn server_time(steps: &[Step]) -> SystemTime {
    let now = SystemTime::now();
    let ahead = steps.last().and_then(|step| step.clock_ahead).unwrap_or(0);
    let difference = Duration::from_secs(ahead.unsigned_abs());
    let time = if ahead < 0 {
        now.checked_sub(difference)
    } else {
        now.checked_add(difference)
    };
    time.unwrap_or(now)
}

/// One request: `POST /icp4d-api/v1/authorize: 200 in 12 ms`.
pub(super) fn tell_step<W: Write>(sheet: &mut Sheet<W>, name: &str, step: &Step, mark: Mark) {
    let Step {
        method,
        path,
        took,
        status,
        message,
        ..
    } = step;
    let status = status.map_or("no answer".to_owned(), |status| status.as_u16().to_string());
    let mut line = format!("{method} {path}: {status} in {} ms", took.as_millis());
    if let Some(message) = message {
        line.push_str(&format!("; it says: {message}"));
    }
    sheet.tell(mark, name, line);
}

/// The largest difference that the servers' clocks, or a token that was issued just now, show.
pub(super) fn tell_clock<W: Write>(sheet: &mut Sheet<W>, steps: &[Step], claims: Option<&Claims>) {
    let by_date = steps.iter().filter_map(|step| step.clock_ahead);
    let by_token = claims.and_then(|claims| claims.seconds_ahead(SystemTime::now()));
    let worst = by_date
        .chain(by_token)
        .max_by_key(|ahead| ahead.unsigned_abs());
    let Some(ahead) = worst else {
        return;
    };
    let (seconds, side) = (
        ahead.unsigned_abs(),
        if ahead > 0 { "ahead of" } else { "behind" },
    );
    if seconds <= SMALL_DIFFERENCE {
        sheet.ok("clock", format_args!("within {SMALL_DIFFERENCE} s of ours"));
        return;
    }
    let line = format!("the server's is {seconds} s {side} ours");
    if seconds <= LARGEST_DIFFERENCE {
        sheet.warn("clock", line);
    } else {
        sheet.fail("clock", line);
        sheet.advise("set the clock that is wrong: certificates and tokens are judged by it");
    }
}

fn tell_grant<W: Write>(sheet: &mut Sheet<W>, grant: &Grant, attached: &[String]) {
    let end = grant.expires.map(|end| {
        let left = end.saturating_duration_since(clock::now());
        // To whole seconds, rounded: the last fraction is the time that this took.
        let left = Duration::from_secs((left + Duration::from_millis(500)).as_secs());
        format!("{} left", humantime::format_duration(left))
    });
    let end = end.unwrap_or_else(|| "it does not say when it ends".to_owned());
    sheet.ok("credential", end);
    for place in attached {
        sheet.detail("attached", place);
    }
}

fn advice(error: &ExchangeError) -> Option<&'static str> {
    match error {
        ExchangeError::Refused { .. } => Some(
            "check user and secret; with single sign-on only API keys work; it is not tried again here, because \
             accounts are locked",
        ),
        ExchangeError::Status { status, .. } if status.is_redirection() => {
            Some("it wants to send us elsewhere: is this the platform's own url?")
        }
        ExchangeError::Status {
            status: StatusCode::NOT_FOUND,
            ..
        } => Some("there is no such login: is this the platform's own url, and the right kind?"),
        ExchangeError::Garbage { .. } => Some("is this the platform, or a login page before it?"),
        _ => None,
    }
}

/// In seconds: `Date` has no more, and the way takes its time.
const SMALL_DIFFERENCE: u64 = 5;
/// In seconds; beyond it, servers refuse tokens.
const LARGEST_DIFFERENCE: u64 = 60;
