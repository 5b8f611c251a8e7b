//! The properties of one service as they were found, and what is wrong with them; no value is ever shown.

use secrecy::zeroize::Zeroizing;
use token_source::Location;

use super::{
    FLAG,
    auth_type::{AUTH_TYPES, AuthType},
};
use crate::config::{
    reading::Wrong,
    report::{Mistake, Place, Severity},
    wire::nearest,
};

/// All that one source says of a service.
pub(super) struct Properties {
    /// The part of the names before the property, in capitals, without the `_` between them.
    pub(super) service: String,
    /// Where they were found, in words.
    pub(super) source: String,
    /// The file, where it is one.
    pub(super) file: Option<String>,
    /// It lay in the working directory, and nobody named it.
    pub(super) is_stumbled_upon: bool,
    pub(super) found: Vec<Found>,
    pub(super) mistakes: Vec<Mistake>,
}

/// One property.
pub(super) struct Found {
    /// Without the service's name before it.
    pub(super) name: String,
    pub(super) value: Zeroizing<String>,
    /// Where it stands, for mistakes.
    pub(super) place: Place,
    /// Where it is read anew.
    pub(super) location: Location,
}

impl Properties {
    /// In words, for the start: `WATSONX_… of file /home/me/ibm-credentials.env`.
    pub(super) fn from(&self) -> String {
        format!("{}_… of {}", self.service, self.source)
    }

    /// A value that is no secret, or is not yet known to be none; an empty one is none at all.
    pub(super) fn text(&self, name: &str) -> Option<Zeroizing<String>> {
        self.get(name).map(|found| found.value.clone())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Where a value is read.
    pub(super) fn place(&mut self, name: &str) -> Option<Location> {
        let found = self.get(name)?;
        let location = found.location.clone();
        let is_quoted = ['"', '\''].iter().any(|&quote| {
            found.value.len() > 1 && found.value.starts_with(quote) && found.value.ends_with(quote)
        });
        if is_quoted {
            let wrong = Wrong::new(
                "the quotes are part of the value",
                "leave them out, unless they belong to it",
            );
            self.note(Severity::Warning, self.place_of(name), wrong);
        }
        Some(location)
    }

    pub(super) fn boolean(&mut self, name: &'static str) -> bool {
        let value = self.text(name).unwrap_or_default();
        let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(&value));
        match () {
            () if is(&["true", "t", "1"]) => true,
            () if is(&["", "false", "f", "0"]) => false,
            () => {
                self.wrong::<()>(name, Wrong::new("neither true nor false", "true or false"));
                false
            }
        }
    }

    pub(super) fn wrong<T>(&mut self, name: &str, wrong: Wrong) -> Option<T> {
        self.note(Severity::Error, self.place_of(name), wrong);
        None
    }

    /// What is wrong with `AUTH_TYPE`, written or not.
    pub(super) fn wrong_type(&mut self, wrong: Wrong) {
        let written = ["AUTH_TYPE", "AUTHTYPE"]
            .into_iter()
            .find(|name| self.has(name));
        match written {
            Some(name) => drop(self.wrong::<()>(name, wrong)),
            None => {
                let wrong = Wrong::new(
                    wrong.what,
                    format!("{}_AUTH_TYPE is not written: {}", self.service, wrong.hint),
                );
                self.note(Severity::Error, self.whole(), wrong);
            }
        }
    }

    pub(super) fn missing(&mut self, name: &str, hint: &str) {
        let what = format!("{}_{name} is missing", self.service);
        self.note(
            Severity::Error,
            self.whole(),
            Wrong::new(what, hint.to_owned()),
        );
    }

    /// Tells of what nobody reads: slips of a known name, properties of other logins, those that mean nothing to a
    /// proxy, and names that are somebody else's.
    pub(super) fn tell_the_rest(&mut self, auth_type: &AuthType) {
        let known = || {
            let all = AUTH_TYPES.iter().flat_map(|one| one.properties).copied();
            all.chain(OF_EACH).chain(FOR_CLIENTS)
        };
        let mut notes = Vec::new();
        for found in &self.found {
            let name = found.name.as_str();
            if OF_EACH.contains(&name) || auth_type.properties.contains(&name) {
                continue;
            }
            let (severity, what, hint) = if FOR_CLIENTS.contains(&name) {
                (
                    Severity::Warning,
                    "it means nothing to a proxy".to_owned(),
                    "it stays with the clients".to_owned(),
                )
            } else if known().any(|one| one == name) {
                (
                    Severity::Warning,
                    format!("the login {} does not use it", auth_type.name),
                    format!("it uses {}", auth_type.properties.join(", ")),
                )
            } else if let Some(near) = nearest_property(name, known()) {
                (
                    Severity::Error,
                    "not a property of IBM's SDKs".to_owned(),
                    format!("did you mean `{}_{near}`?", self.service),
                )
            } else {
                (
                    Severity::Warning,
                    "not a property of IBM's SDKs".to_owned(),
                    "it is not used; other programs may know it".to_owned(),
                )
            };
            notes.push((severity, found.place.clone(), Wrong::new(what, hint)));
        }
        for (severity, place, wrong) in notes {
            self.note(severity, place, wrong);
        }
    }

    /// Everything that is wrong, in the order of the file.
    pub(super) fn told(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes;
        mistakes.sort_by_key(|mistake| match &mistake.place {
            Place::Spot(spot) => spot.line,
            _ => 0,
        });
        mistakes
    }

    fn get(&self, name: &str) -> Option<&Found> {
        // The last one counts, as in IBM's cores.
        let found = self.found.iter().rev().find(|found| found.name == name);
        found.filter(|found| !found.value.is_empty())
    }

    fn place_of(&self, name: &str) -> Place {
        let found = self.found.iter().rev().find(|found| found.name == name);
        found.map_or_else(|| self.whole(), |found| found.place.clone())
    }

    /// Where a property would be that is not there.
    fn whole(&self) -> Place {
        let file = self.file.clone();
        file.map_or(Place::Flag(FLAG), Place::File)
    }

    fn note(&mut self, severity: Severity, place: Place, wrong: Wrong) {
        self.mistakes.push(Mistake {
            severity,
            place,
            what: wrong.what.into_owned(),
            hint: wrong.hint.into_owned(),
        });
    }
}

/// The one that was probably meant; slips of case too, which IBM's cores do not forgive.
pub(super) fn nearest_property<'n>(
    name: &str,
    known: impl Iterator<Item = &'n str>,
) -> Option<&'n str> {
    let known: Vec<_> = known.map(|one| (one.to_ascii_lowercase(), one)).collect();
    let near = nearest(name, known.iter().map(|(lower, _)| lower.as_str()))?;
    known
        .iter()
        .find(|(lower, _)| lower == near)
        .map(|(_, one)| *one)
}

/// What is read whatever the login is.
const OF_EACH: [&str; 4] = ["URL", "DISABLE_SSL", "AUTH_TYPE", "AUTHTYPE"];

/// What tells a client how to make its requests.
const FOR_CLIENTS: [&str; 5] = [
    "ENABLE_GZIP",
    "ENABLE_RETRIES",
    "MAX_RETRIES",
    "RETRY_INTERVAL",
    // Every login here is made anew.
    "REFRESH_TOKEN",
];
