//! The subcommands: what the operator types, and the exit code that answers.

pub mod check;
pub mod doctor;
pub mod serve;
pub mod token;

use std::{
    env,
    fmt::Display,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{Config, Environment, FlagForm, Loaded, Report, Source},
    panics::tell_places_alone,
    process::harden::hide,
};

/// Authenticating reverse proxy for IBM watsonx, IBM Software Hub and IBM License Service.
#[derive(Debug, Parser)]
#[command(name = "watsonx-auth-proxy", version, about)]
struct CommandLine {
    /// The configuration file; `-` is standard input [default: $WATSONX_AUTH_PROXY_CONFIG,
    /// $XDG_CONFIG_HOME/watsonx-auth-proxy/proxy.toml, /etc/watsonx-auth-proxy/proxy.toml]
    #[arg(long, value_name = "PATH", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C
    Serve {
        #[command(flatten)]
        instead: InsteadOfFile,
    },
    /// Check the configuration; nothing is contacted
    Check {
        #[command(flatten)]
        instead: InsteadOfFile,
        /// Files that are not there yet are mistakes
        #[arg(long)]
        strict: bool,
    },
    /// Print a fresh value of a credential, for scripts
    Token {
        #[command(flatten)]
        instead: InsteadOfFile,
        /// The credential; needed where there are several
        name: Option<String>,
        /// As a header: `Authorization: Bearer …`
        #[arg(long)]
        header: bool,
    },
    /// Try each credential and upstream for real, and tell what is wrong
    Doctor {
        #[command(flatten)]
        instead: InsteadOfFile,
        /// Only these credentials and upstreams
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Also make one authorised GET of this path at the upstream of each route
        #[arg(long, value_name = "PATH")]
        path: Option<String>,
    },
}

/// What takes the place of a configuration file.
#[derive(Debug, Args)]
struct InsteadOfFile {
    /// Without a file: base URL of the platform
    #[arg(long, value_name = "URL", group = NO_FILE)]
    upstream: Option<String>,
    /// Without a file: the properties NAME_URL, NAME_AUTH_TYPE, … as IBM's SDKs read them
    #[arg(long, value_name = "NAME", group = NO_FILE)]
    ibm_env: Option<String>,
    /// The platform user's name
    #[arg(
        long,
        value_name = "NAME",
        requires = "upstream",
        conflicts_with = "ibm_env"
    )]
    username: Option<String>,
    /// File with the user's API key
    #[arg(
        long,
        value_name = "FILE",
        requires = "upstream",
        conflicts_with = "ibm_env"
    )]
    api_key_file: Option<PathBuf>,
    /// File with the user's password
    #[arg(
        long,
        value_name = "FILE",
        requires = "upstream",
        conflicts_with = "ibm_env"
    )]
    password_file: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", requires = NO_FILE)]
    listen: Option<String>,
    /// PEM file of the CA to trust instead of the system's
    #[arg(long, value_name = "FILE", requires = NO_FILE)]
    ca: Option<PathBuf>,
    /// Where probes and metrics are served [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS", requires = NO_FILE)]
    admin: Option<String>,
    /// Send the credential to an http:// upstream, in clear
    #[arg(long, requires = NO_FILE)]
    plain_http: bool,
}

/// Runs what the command line asks for.
pub fn run() -> ExitCode {
    tell_places_alone();
    // Usage mistakes end here, with exit code 2.
    let CommandLine { config, command } = CommandLine::parse();
    match command {
        Command::Serve { instead } => with_source(config, instead, serve::run),
        Command::Check { instead, strict } => {
            with_source(config, instead, |source| check::run(source, strict))
        }
        Command::Token {
            instead,
            name,
            header,
        } => with_configuration(config, instead, |loaded| {
            token::run(&loaded.config, name.as_deref(), header)
        }),
        Command::Doctor {
            instead,
            names,
            path,
        } => with_configuration(config, instead, |loaded| {
            doctor::run(loaded, &names, path.as_deref())
        }),
    }
}

fn with_source(
    config: Option<PathBuf>,
    instead: InsteadOfFile,
    run: impl FnOnce(&Source) -> ExitCode,
) -> ExitCode {
    let source = match (config, instead.form()) {
        (Some(_), Some(_)) => {
            return misused("--config cannot be used with flags that take its place");
        }
        (None, Some(form)) => Ok(Source::Flags(form)),
        (config, None) => Source::find(config.as_deref(), &Environment::of_process()),
    };
    match source {
        Ok(source) => run(&source),
        Err(report) => refuse(&report),
    }
}

fn with_configuration(
    config: Option<PathBuf>,
    instead: InsteadOfFile,
    run: impl FnOnce(&Loaded) -> ExitCode,
) -> ExitCode {
    with_source(config, instead, |source| {
        match Config::load(source, false, &Environment::of_process()) {
            Ok(loaded) => {
                hide(&loaded.config);
                run(&loaded)
            }
            Err(report) => refuse(&report),
        }
    })
}

/// Tells every mistake; the exit code is that of a wrong configuration.
fn refuse(report: &Report) -> ExitCode {
    tell(report);
    ExitCode::from(EX_CONFIG)
}

/// A mistake of the command line that only the configuration could tell.
fn misused(what: &str) -> ExitCode {
    tell(format_args!("error: {what}"));
    ExitCode::from(EX_USAGE)
}

/// What was asked for cannot be written.
fn unwritten(error: &io::Error) -> ExitCode {
    tell(format_args!("error: standard output: {error}"));
    ExitCode::FAILURE
}

/// Says something to who runs this; the exit code says the same where nobody can read it.
fn tell(what: impl Display) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// Whether clients send their calls of localhost to an egress proxy: unless they are told not to, they do.
fn http_proxy_takes_localhost() -> bool {
    let set = |name: &str| {
        env::var(name)
            .or_else(|_| env::var(name.to_ascii_uppercase()))
            .ok()
    };
    let is_set = set("http_proxy").is_some_and(|proxy| !proxy.is_empty());
    let exempt = set("no_proxy").unwrap_or_default();
    let mut exempt = exempt.split(',');
    is_set && !exempt.any(|name| matches!(name.trim(), "localhost" | "*"))
}

impl InsteadOfFile {
    fn form(self) -> Option<FlagForm> {
        let Self {
            upstream,
            ibm_env,
            username,
            api_key_file,
            password_file,
            listen,
            ca,
            admin,
            plain_http,
        } = self;
        (upstream.is_some() || ibm_env.is_some()).then_some(FlagForm {
            upstream,
            ibm_env,
            username,
            api_key_file,
            password_file,
            listen,
            ca,
            admin,
            plain_http,
        })
    }
}

/// The flags that take the place of a file.
const NO_FILE: &str = "no_file";

/// `EX_CONFIG` of sysexits.h.
const EX_CONFIG: u8 = 78;

/// As for any other mistake of the command line.
const EX_USAGE: u8 = 2;
