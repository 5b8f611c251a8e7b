//! Where the properties of a service are: the order of IBM's SDK cores, of which the first source counts that has any.

use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;
use serde_json::Value;
use token_source::{
    Location,
    secret::{self, Mute},
};

use super::{
    FLAG,
    properties::{Found, Properties},
};
use crate::config::{
    report::{Mistake, Place, Report, Severity, Spot},
    source::{self, Environment},
};

/// The properties of a service, in capitals: of the file that `IBM_CREDENTIALS_FILE` names, of `ibm-credentials.env` in
/// the working directory or the home directory, of the environment, or of `VCAP_SERVICES`.
pub(super) fn look_up(service: &str, environment: &Environment) -> Result<Properties, Report> {
    let found = |source: String, found: Vec<Found>| Properties {
        service: service.to_owned(),
        source,
        file: None,
        is_stumbled_upon: false,
        found,
        mistakes: Vec::new(),
    };
    let mut mute = Vec::new();
    if let Some((path, is_named)) = file(environment) {
        let (properties, mut mistakes) = read_file(&path, service)?;
        if !properties.is_empty() {
            let name = path.display().to_string();
            let is_here = path.parent() == Some(environment.working_directory());
            return Ok(Properties {
                file: Some(name.clone()),
                is_stumbled_upon: !is_named && is_here,
                mistakes,
                ..found(format!("file {name}"), properties)
            });
        }
        mute.append(&mut mistakes);
    }
    let variables = in_environment(service, environment);
    if !variables.is_empty() {
        return Ok(found("the environment".to_owned(), variables));
    }
    let fields = in_vcap(service, environment);
    if !fields.is_empty() {
        return Ok(found(VCAP.to_owned(), fields));
    }
    let mut report = source::alone(
        Place::Flag(FLAG),
        &format!("there is no property {service}_…"),
        format!(
            "looked for ${FILE_VARIABLE}, ./{FILE_NAME}, ~/{FILE_NAME}, environment variables, ${VCAP}: \
             {service}_URL and {service}_AUTH_TYPE, for instance"
        ),
    );
    report.mistakes.append(&mut mute);
    Err(report)
}

/// The file, and whether the operator named it. As in IBM's cores, the first that is there is the only one, whether it
/// has any property or not.
fn file(environment: &Environment) -> Option<(PathBuf, bool)> {
    if let Some(named) = environment.path(FILE_VARIABLE) {
        return Some((named_file(named, environment), true));
    }
    let here = environment.working_directory().join(FILE_NAME);
    let home = environment.path("HOME").map(|home| home.join(FILE_NAME));
    let mut places = [Some(here), home].into_iter().flatten();
    places.find(|path| path.is_file()).map(|path| (path, false))
}

/// The file itself, or the one of the usual name in a directory, as IBM's Node core has it.
fn named_file(named: PathBuf, environment: &Environment) -> PathBuf {
    let path = environment.working_directory().join(named);
    if path.is_dir() {
        path.join(FILE_NAME)
    } else {
        path
    }
}

/// The properties of the service, and a word on lines that were meant to be some.
fn read_file(path: &Path, service: &str) -> Result<(Vec<Found>, Vec<Mistake>), Report> {
    let file = path.display().to_string();
    let text = Zeroizing::new(source::read_plain_file(path, &file)?);
    let lines = secret::properties(&text).filter_map(|property| {
        let name = of_service(property.name, service)?;
        let shown_name = shown(service, name);
        let shown = format!("{shown_name}=***");
        Some(Found {
            name: name.to_owned(),
            value: Zeroizing::new(property.value.to_owned()),
            place: Place::Spot(Spot {
                file: file.clone(),
                line: property.line,
                column: 1,
                caret: 0..shown_name.len(),
                shown,
            }),
            location: Location::Property {
                path: path.to_owned(),
                name: property.name.to_owned(),
            },
        })
    });
    Ok((lines.collect(), on_mute_lines(&text, &file, service)))
}

/// One warning for each form, which names the lines and shows nothing of them: a secret may stand there alone.
fn on_mute_lines(text: &str, file: &str, service: &str) -> Vec<Mistake> {
    let (mut without_value, mut exported) = (Vec::new(), Vec::new());
    for mute in secret::mute_lines(text) {
        match mute {
            Mute::WithoutValue(line) => without_value.push(line),
            Mute::Exported(property) if of_service(property.name, service).is_some() => {
                exported.push(property.line);
            }
            Mute::Exported(_) => {}
        }
    }
    let warning = |lines: &[usize], why: &str, hint: String| {
        let first = *lines.first()?;
        let told: Vec<_> = lines
            .iter()
            .take(MOST_LINES)
            .map(usize::to_string)
            .collect();
        let more = if lines.len() > MOST_LINES {
            ", …"
        } else {
            ""
        };
        let plural = if lines.len() > 1 { "s" } else { "" };
        Some(Mistake {
            severity: Severity::Warning,
            place: Place::Spot(Spot {
                file: file.to_owned(),
                line: first,
                column: 1,
                shown: "***".to_owned(),
                caret: 0..3,
            }),
            what: format!("passed over: line{plural} {}{more} {why}", told.join(", ")),
            hint,
        })
    };
    let comment = format!("{service}_NAME=VALUE; a comment begins with `#`");
    let plain = format!("{service}_NAME=VALUE alone: IBM's SDKs do not read such a line either");
    [
        warning(&without_value, "without `=`", comment),
        warning(&exported, "with `export`", plain),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn in_environment(service: &str, environment: &Environment) -> Vec<Found> {
    let variables = environment.texts().filter_map(|(variable, value)| {
        let name = of_service(variable, service)?;
        // Our own, which begin with WATSONX as well.
        if variable.starts_with("WATSONX_AUTH_PROXY_") {
            return None;
        }
        Some(Found {
            name: name.to_owned(),
            value: Zeroizing::new(value.trim().to_owned()),
            place: Place::Variable(shown(service, name)),
            location: Location::Env(variable.to_owned()),
        })
    });
    variables.collect()
}

/// Cloud Foundry's: the service instance of that name, else the first of the service of that name.
fn in_vcap(service: &str, environment: &Environment) -> Vec<Found> {
    let json = environment.text(VCAP).unwrap_or_default();
    let Ok(Value::Object(services)) = serde_json::from_str::<Value>(json) else {
        return Vec::new();
    };
    let is_named = |name: &str| name.to_ascii_uppercase().replace(['-', ' '], "_") == service;
    let instances = || {
        services.iter().flat_map(|(label, list)| {
            let list = list.as_array().into_iter().flatten().enumerate();
            list.map(move |(index, instance)| (label, index, instance))
        })
    };
    let by_name = instances().find(|(_, _, instance)| {
        let name = instance.get("name").and_then(Value::as_str);
        name.is_some_and(is_named)
    });
    let Some((label, index, instance)) =
        by_name.or_else(|| instances().find(|(label, _, _)| is_named(label)))
    else {
        return Vec::new();
    };
    let pointer = |field: &str| {
        let label = label.replace('~', "~0").replace('/', "~1");
        format!("/{label}/{index}/credentials/{field}")
    };
    let fields = VCAP_FIELDS.iter().filter_map(|(field, name)| {
        let value = instance.get("credentials")?.get(field)?.as_str()?;
        Some(Found {
            name: (*name).to_owned(),
            value: Zeroizing::new(value.to_owned()),
            place: Place::Variable(VCAP.to_owned()),
            location: Location::EnvField {
                variable: VCAP.to_owned(),
                pointer: pointer(field),
            },
        })
    });
    let mut found: Vec<_> = fields.collect();
    // The guess of IBM's cores.
    let has = |name: &str| found.iter().any(|found| found.name == name);
    if has("USERNAME") && has("PASSWORD") {
        found.push(Found {
            name: "AUTH_TYPE".to_owned(),
            value: Zeroizing::new("basic".to_owned()),
            place: Place::Variable(VCAP.to_owned()),
            location: Location::Env(VCAP.to_owned()),
        });
    }
    found
}

/// What follows the service's name and the `_` after it.
fn of_service<'n>(name: &'n str, service: &str) -> Option<&'n str> {
    let property = name.strip_prefix(service)?.strip_prefix('_')?;
    (!property.is_empty()).then_some(property)
}

/// A name as it may be shown: capitals only, for a value may stand in a name where its `=` was forgotten.
fn shown(service: &str, name: &str) -> String {
    let is_name = |b: u8| b.is_ascii_uppercase() || b == b'_';
    let known = name == "CP4D_ACCOUNT_ID" || (name.len() <= 40 && name.bytes().all(is_name));
    format!("{service}_{}", if known { name } else { "…" })
}

const FILE_VARIABLE: &str = "IBM_CREDENTIALS_FILE";
const FILE_NAME: &str = "ibm-credentials.env";
const VCAP: &str = "VCAP_SERVICES";

/// So many are named one by one.
const MOST_LINES: usize = 5;

/// Fields of Cloud Foundry's credentials, and the properties that they are.
const VCAP_FIELDS: [(&str, &str); 5] = [
    ("url", "URL"),
    ("username", "USERNAME"),
    ("password", "PASSWORD"),
    ("apikey", "APIKEY"),
    ("iam_apikey", "APIKEY"),
];
