//! The subcommands: what the operator types, and the exit code that answers.

pub mod check;
pub mod serve;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::config::{Environment, FlagForm, Report, Source};

/// Authenticating reverse proxy for IBM watsonx, IBM Software Hub and IBM License Service.
#[derive(Debug, Parser)]
#[command(name = "watsonx-auth-proxy", version, about)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C
    Serve {
        #[command(flatten)]
        place: ConfigPlace,
        #[command(flatten)]
        form: ServeFlags,
    },
    /// Check the configuration file; nothing is contacted
    Check {
        #[command(flatten)]
        place: ConfigPlace,
        /// Files that are not there yet are mistakes
        #[arg(long)]
        strict: bool,
    },
}

#[derive(Debug, Args)]
struct ConfigPlace {
    /// The configuration file; `-` is standard input [default: $WATSONX_AUTH_PROXY_CONFIG,
    /// $XDG_CONFIG_HOME/watsonx-auth-proxy/proxy.toml, /etc/watsonx-auth-proxy/proxy.toml]
    #[arg(long, value_name = "PATH", global = true)]
    config: Option<PathBuf>,
}

/// The configuration without a file.
#[derive(Debug, Args)]
struct ServeFlags {
    /// Serve without a file: base URL of the platform
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    upstream: Option<String>,
    /// The platform user's name
    #[arg(long, value_name = "NAME", requires = "upstream")]
    username: Option<String>,
    /// File with the user's API key
    #[arg(long, value_name = "FILE", requires = "upstream")]
    api_key_file: Option<PathBuf>,
    /// File with the user's password
    #[arg(long, value_name = "FILE", requires = "upstream")]
    password_file: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", requires = "upstream")]
    listen: Option<String>,
    /// PEM file of the CA to trust instead of the system's
    #[arg(long, value_name = "FILE", requires = "upstream")]
    ca: Option<PathBuf>,
    /// Where probes and metrics are served [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS", requires = "upstream")]
    admin: Option<String>,
    /// Send the credential to an http:// upstream, in clear
    #[arg(long, requires = "upstream")]
    plain_http: bool,
}

/// Runs what the command line asks for.
pub fn run() -> ExitCode {
    // Usage mistakes end here, with exit code 2.
    match CommandLine::parse().command {
        Command::Serve { place, form } => match form.upstream {
            Some(_) => serve::run(&Source::Flags(form.into())),
            None => with_source(&place, |source| serve::run(&source)),
        },
        Command::Check { place, strict } => {
            with_source(&place, |source| check::run(&source, strict))
        }
    }
}

fn with_source(place: &ConfigPlace, run: impl FnOnce(Source) -> ExitCode) -> ExitCode {
    match Source::find(place.config.as_deref(), &Environment::of_process()) {
        Ok(source) => run(source),
        Err(report) => refuse(&report),
    }
}

/// Tells every mistake; the exit code is that of a wrong configuration.
#[expect(
    clippy::print_stderr,
    reason = "the report is what the operator asked for"
)]
fn refuse(report: &Report) -> ExitCode {
    eprintln!("{report}");
    ExitCode::from(EX_CONFIG)
}

impl From<ServeFlags> for FlagForm {
    fn from(flags: ServeFlags) -> Self {
        let ServeFlags {
            upstream,
            username,
            api_key_file,
            password_file,
            listen,
            ca,
            admin,
            plain_http,
        } = flags;
        Self {
            upstream,
            username,
            api_key_file,
            password_file,
            listen,
            ca,
            admin,
            plain_http,
        }
    }
}

/// `EX_CONFIG` of sysexits.h.
const EX_CONFIG: u8 = 78;
