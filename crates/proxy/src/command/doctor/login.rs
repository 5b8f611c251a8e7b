//! A credential: where its secrets are, one attempt to obtain it, and what it says of itself.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use secrecy::SecretString;
use token_source::{
    Kind, Location, Settings,
    connect::with_causes,
    exchange::{self, ExchangeError, Grant, Record, Step},
};
use tokio::time::Instant;

use super::{
    claims::Claims,
    sheet::{Mark, Sheet},
};

/// A credential as far as it could be obtained.
pub(super) struct Login {
    /// What it is looked for by, so that nothing repeats it.
    pub(super) secrets: Vec<SecretString>,
    pub(super) grant: Option<Grant>,
}

/// Makes one attempt, unless `barred` says why none can be made.
pub(super) async fn log_in<W: Write>(
    sheet: &mut Sheet<W>,
    settings: &Settings,
    barred: Option<String>,
) -> Login {
    let kind = &settings.kind;
    sheet.heading(format_args!(
        "credential {} ({})",
        settings.name,
        kind.name()
    ));
    let secrets = read_secrets(sheet, kind).await;
    let mut login = Login {
        secrets: secrets.read,
        grant: None,
    };
    if let Some(barred) = barred {
        sheet.fail("login", format_args!("not tried: {barred}"));
    } else if secrets.is_missing {
        sheet.fail("login", "not tried: a secret is missing");
    } else {
        login.grant = attempt(sheet, settings, &login.secrets).await;
    }
    login
}

struct Secrets {
    read: Vec<SecretString>,
    is_missing: bool,
}

async fn read_secrets<W: Write>(sheet: &mut Sheet<W>, kind: &Kind) -> Secrets {
    let mut secrets = Secrets {
        read: Vec::new(),
        is_missing: false,
    };
    for (key, location) in kind.places() {
        let place = format!("{key}: {}", location.describe().await);
        // It may ask a human, who should not have to answer twice.
        if matches!(location, Location::Command(_)) {
            sheet.detail("secret", format_args!("{place}, run at the login"));
            continue;
        }
        match location.read().await {
            Ok(secret) => {
                secrets.read.push(secret);
                sheet.ok("secret", place);
            }
            Err(error) => {
                secrets.is_missing = true;
                sheet.fail("secret", format_args!("{place} {error}"));
            }
        }
    }
    secrets
}

async fn attempt<W: Write>(
    sheet: &mut Sheet<W>,
    settings: &Settings,
    secrets: &[SecretString],
) -> Option<Grant> {
    let record = Record::kept(secrets);
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
            tell_grant(sheet, &settings.kind, &grant, claims.as_ref());
            Some(grant)
        }
        Err(error) => {
            sheet.fail(
                "credential",
                format_args!("{}: {}", error.told(), with_causes(&error)),
            );
            if let Some(advice) = advice(&error) {
                sheet.advise(advice);
            }
            None
        }
    }
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

fn tell_grant<W: Write>(sheet: &mut Sheet<W>, kind: &Kind, grant: &Grant, claims: Option<&Claims>) {
    let end = grant.expires.map(|end| {
        let left = end.saturating_duration_since(Instant::now());
        // To whole seconds, rounded: the last fraction is the time that this took.
        let left = Duration::from_secs((left + Duration::from_millis(500)).as_secs());
        format!("{} left", humantime::format_duration(left))
    });
    let end = end.unwrap_or_else(|| "it does not say when it ends".to_owned());
    sheet.ok("credential", format_args!("{}; {end}", kind.scheme()));
    if let Some(claims) = claims {
        sheet.detail("claims", claims.line());
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
