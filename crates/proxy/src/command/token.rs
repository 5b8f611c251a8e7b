//! `token`: a fresh value of one credential on standard output, and nothing else there.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use token_source::{
    Settings,
    connect::with_causes,
    exchange::{self, ExchangeError, Record},
};

use super::{misused, tell, unwritten};
use crate::{
    config::Config,
    process::shutdown::{Signal, unless_asked},
};

/// Makes one exchange for the credential `name`, or for the only one, and prints what it yields.
pub fn run(config: &Config, name: Option<&str>, as_header: bool) -> ExitCode {
    let settings = match choose(&config.credentials, name) {
        Ok(settings) => settings,
        Err(what) => return misused(&what),
    };
    let value = match obtain(settings) {
        Ok(Ok(value)) => value,
        Ok(Err(why)) => {
            tell(format_args!("error: credential {}: {why}", settings.name));
            return ExitCode::FAILURE;
        }
        Err(signal) => return ExitCode::from(signal.exit_code),
    };
    let scheme = settings.kind.scheme();
    if let Err(error) = print(&value, as_header.then_some(scheme)) {
        return unwritten(&error);
    }
    if io::stdout().is_terminal() {
        tell("this is a secret: whoever reads it can act with it until it ends");
    }
    ExitCode::SUCCESS
}

fn choose<'a>(credentials: &'a [Settings], name: Option<&str>) -> Result<&'a Settings, String> {
    let names = || {
        let names: Vec<_> = credentials.iter().map(|one| &*one.name).collect();
        names.join(", ")
    };
    match (credentials, name) {
        ([], _) => Err("the configuration has no credential".to_owned()),
        (_, Some(name)) => {
            let named = credentials.iter().find(|one| *one.name == *name);
            // Not repeated: whoever took the argument for a place to put a secret must not find it in a log.
            named.ok_or_else(|| format!("no credential has this name; there are: {}", names()))
        }
        ([only], None) => Ok(only),
        _ => Err(format!("name one of the credentials: {}", names())),
    }
}

/// One attempt, and why there is nothing if there is nothing; or the signal that ended it.
fn obtain(settings: &Settings) -> Result<Result<SecretString, String>, Signal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let exchange = exchange::from_settings(settings);
    let attempt = async { exchange.exchange(&Record::default()).await };
    let outcome = runtime.block_on(unless_asked(attempt));
    // A look-up or a file that hangs must not hold up the end.
    runtime.shutdown_background();
    let told = |error: ExchangeError| format!("{}: {}", error.told(), with_causes(&error));
    Ok(outcome?.map(|grant| grant.value).map_err(told))
}

fn print(value: &SecretString, scheme: Option<&str>) -> io::Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the operator asks for it on standard output"
    )]
    let value = value.expose_secret();
    let line = match scheme {
        Some(scheme) => format!("Authorization: {scheme} {value}\n"),
        None => format!("{value}\n"),
    };
    let line = Zeroizing::new(line);
    let mut output = io::stdout().lock();
    output.write_all(line.as_bytes())?;
    output.flush()
}
