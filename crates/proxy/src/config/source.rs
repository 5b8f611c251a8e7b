//! Where the configuration comes from, and the way from there to a [`Config`].

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fmt,
    fs::{self, File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    Config, check, egress,
    flags::{self, FlagForm},
    reading::Reading,
    report::{Mistake, Place, Report, Severity},
    wire::Table,
};

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// `-`: standard input, to its end.
    StandardInput,
    /// No file: the flags of the command line.
    Flags(FlagForm),
}

/// A configuration that is right, and what may still become wrong with it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the operator asked for.
    pub config: Config,
    /// Files that are not there yet, routes that nobody can reach, and credentials that nobody attaches.
    pub warnings: Vec<Mistake>,
    /// Where it came from, in words.
    pub from: String,
}

/// What the process was started in: environment variables and the working directory.
///
/// A value, so that tests need not change those of the process.
#[derive(Clone)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    working_directory: PathBuf,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let working_directory = env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        Self::new(env::vars_os(), working_directory)
    }

    /// An environment of the given variables.
    pub fn new<K: Into<OsString>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (K, V)>,
        working_directory: impl Into<PathBuf>,
    ) -> Self {
        Self {
            variables: variables
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
            working_directory: working_directory.into(),
        }
    }

    /// A variable that is set and not empty, as a path.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.variables.get(std::ffi::OsStr::new(name))?;
        (!value.is_empty()).then(|| PathBuf::from(value))
    }

    /// A variable that is set, as text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.variables.get(std::ffi::OsStr::new(name))?.to_str()
    }

    /// Every variable that is text.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let texts = self.variables.iter();
        texts.filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)))
    }

    /// Whether a variable is set.
    pub(super) fn has(&self, name: &str) -> bool {
        self.variables.contains_key(std::ffi::OsStr::new(name))
    }

    pub(super) fn working_directory(&self) -> &Path {
        &self.working_directory
    }
}

/// Names only: a variable may hold a secret.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys())
            .field("working_directory", &self.working_directory)
            .finish()
    }
}

impl Source {
    /// Where the configuration is: `explicit` (`--config`, `-` is standard input), `$WATSONX_AUTH_PROXY_CONFIG`,
    /// `$XDG_CONFIG_HOME/watsonx-auth-proxy/proxy.toml`, `/etc/watsonx-auth-proxy/proxy.toml`.
    ///
    /// Never the working directory: a cloned repository must not choose the upstream.
    ///
    /// # Errors
    ///
    /// None of these is there; the report lists the places.
    pub fn find(explicit: Option<&Path>, environment: &Environment) -> Result<Self, Report> {
        let named = explicit
            .map(Path::to_owned)
            .or_else(|| environment.path(CONFIG_VARIABLE));
        if let Some(path) = named {
            return Ok(if path == Path::new("-") {
                Self::StandardInput
            } else {
                Self::File(path)
            });
        }
        let places = default_places(environment);
        match places.iter().find(|place| place.exists()) {
            Some(place) => Ok(Self::File(place.clone())),
            None => Err(no_configuration(&places)),
        }
    }

    /// The file, where there is one to watch.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::StandardInput | Self::Flags(_) => None,
        }
    }
}

impl Config {
    /// Reads and checks the configuration; `strict` makes warnings mistakes. Nothing is contacted.
    ///
    /// # Errors
    ///
    /// Every mistake at once, each with its place and a hint; where there is none, those of the process's environment
    /// about egress proxies.
    pub fn load(
        source: &Source,
        strict: bool,
        environment: &Environment,
    ) -> Result<Loaded, Report> {
        let loaded = Self::read(source, strict, environment)?;
        egress::check(&loaded.config)?;
        Ok(loaded)
    }

    fn read(source: &Source, strict: bool, environment: &Environment) -> Result<Loaded, Report> {
        let (name, text, folder) = match source {
            Source::Flags(form) => return flags::check(form, strict, environment),
            Source::StandardInput => {
                let name = "standard input".to_owned();
                let text = read(io::stdin().lock(), &name)?;
                (name, text, environment.working_directory().to_owned())
            }
            Source::File(path) => {
                let name = path.display().to_string();
                let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
                let path = environment.working_directory().join(path);
                let folder = path
                    .parent()
                    .map_or_else(|| PathBuf::from("/"), Path::to_owned);
                (name.clone(), read(file, &name)?, folder)
            }
        };
        Self::parse(&text, &name, &folder, strict, environment)
    }

    /// Checks a configuration that has been read: `name` is what mistakes call it, and relative paths are relative
    /// to `folder`.
    ///
    /// # Errors
    ///
    /// Every mistake at once, each with its place and a hint.
    pub fn parse(
        text: &str,
        name: &str,
        folder: &Path,
        strict: bool,
        environment: &Environment,
    ) -> Result<Loaded, Report> {
        let reading = Reading::new(name, text, folder, environment);
        let config = reading
            .parse()
            .and_then(|root| check::check(Table::new(&reading, 0..0, &root)));
        let (waivers, mistakes) = reading.finish();
        conclude(
            config.map(|config| Self { waivers, ..config }),
            mistakes,
            strict,
            name.to_owned(),
        )
    }
}

/// A configuration if nothing stands against it.
pub(super) fn conclude(
    config: Option<Config>,
    mut mistakes: Vec<Mistake>,
    strict: bool,
    from: String,
) -> Result<Loaded, Report> {
    if strict {
        mistakes
            .iter_mut()
            .for_each(|mistake| mistake.severity = Severity::Error);
    }
    let is_right = mistakes
        .iter()
        .all(|mistake| mistake.severity == Severity::Warning);
    match config {
        Some(config) if is_right => Ok(Loaded {
            config,
            warnings: mistakes,
            from,
        }),
        _ => Err(Report { mistakes }),
    }
}

/// The text of a plain file, which mistakes call `name`. Unlike the file of `--config`, which may be a pipe that is
/// written in this moment, it is read again and again, and nobody is to wait for its writer.
pub(super) fn read_plain_file(path: &Path, name: &str) -> Result<String, Report> {
    let is_other = |metadata: Metadata| !metadata.is_file();
    if fs::metadata(path).is_ok_and(is_other) {
        return Err(alone(
            Place::File(name.to_owned()),
            "not a plain file",
            "it is read again whenever it changes: a pipe or a device cannot be".to_owned(),
        ));
    }
    let file = File::open(path).map_err(|error| unreadable(name, &error))?;
    read(file, name)
}

fn read(source: impl Read, name: &str) -> Result<String, Report> {
    let mut bytes = Vec::new();
    source
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(name, &error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(alone(
            Place::File(name.to_owned()),
            "larger than 1 MiB",
            "is this the configuration?".to_owned(),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        alone(
            Place::File(name.to_owned()),
            "not UTF-8",
            format!("the first byte that is not UTF-8 is in line {line}"),
        )
    })
}

fn default_places(environment: &Environment) -> Vec<PathBuf> {
    let user = environment
        .path("XDG_CONFIG_HOME")
        .or_else(|| environment.path("HOME").map(|home| home.join(".config")));
    user.into_iter()
        .chain([PathBuf::from("/etc")])
        .map(|folder| folder.join("watsonx-auth-proxy/proxy.toml"))
        .collect()
}

fn no_configuration(places: &[PathBuf]) -> Report {
    let mut hint = format!("looked for --config, ${CONFIG_VARIABLE}");
    for place in places {
        hint.push_str(&format!(", {}", place.display()));
    }
    hint.push_str("; without a file: serve --upstream URL --username USER --api-key-file FILE, or serve --ibm-env NAME");
    alone(Place::Nowhere, "there is no configuration", hint)
}

fn unreadable(name: &str, error: &io::Error) -> Report {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "the proxy's user may not read it".to_owned(),
        _ => error.to_string(),
    };
    alone(
        Place::File(name.to_owned()),
        "the configuration cannot be read",
        hint,
    )
}

/// A report of one mistake.
pub(super) fn alone(place: Place, what: &str, hint: String) -> Report {
    Report {
        mistakes: vec![Mistake {
            severity: Severity::Error,
            place,
            what: what.to_owned(),
            hint,
        }],
    }
}

const CONFIG_VARIABLE: &str = "WATSONX_AUTH_PROXY_CONFIG";

/// Bytes; a configuration of a thousand routes has a tenth of it.
const LARGEST: u64 = 1024 * 1024;
