//! Which files the process may still open: those that the configuration names, and those that the system's own
//! libraries read. The kernel holds it (Landlock).

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, RulesetStatus, path_beneath_rules,
};
use token_source::Location;

use crate::config::{Config, ListenAddress, ListenerTls};

/// Confines this thread and those that it starts. A kernel that does not know how leaves everything as it is.
pub(super) fn confine(config: &Config, places: &[Location]) {
    let folders = Folders::of(config, places);
    match folders.enforce() {
        Ok(RulesetStatus::NotEnforced) => {
            tracing::debug!("files are not confined: this kernel has no Landlock, or not in use");
        }
        Ok(status) => {
            let whole = status == RulesetStatus::FullyEnforced;
            let shown = |folders: &BTreeSet<PathBuf>| format!("{folders:?}");
            let (read, kept) = (shown(&folders.read), shown(&folders.kept));
            let sockets = shown(&folders.sockets);
            tracing::debug!(whole, read, kept, sockets, "files are confined");
        }
        Err(error) => tracing::debug!(%error, "files are not confined"),
    }
}

/// What may be opened below where. All of these exist.
struct Folders {
    /// Read.
    read: BTreeSet<PathBuf>,
    /// Where the proxy keeps what it makes itself.
    kept: BTreeSet<PathBuf>,
    /// Where unix sockets are made and removed.
    sockets: BTreeSet<PathBuf>,
}

impl Folders {
    fn of(config: &Config, places: &[Location]) -> Self {
        let system = SYSTEM.iter().map(PathBuf::from);
        let system = system.filter(|path| path.exists());
        let files: Vec<_> = places.iter().flat_map(files).collect();
        for folder in files.iter().filter_map(|file| too_wide(file)) {
            let at = folder.join("…");
            tracing::warn!(at = %at.display(), "all files below can be read: the folder of a configured file is not \
                there at the start");
        }
        let of_variables = authorities(env::var_os("SSL_CERT_FILE"), env::var_os("SSL_CERT_DIR"));

        let mut kept = BTreeSet::new();
        let is_self_signed = |tls: &Option<ListenerTls>| *tls == Some(ListenerTls::SelfSigned);
        if config.listeners.iter().any(|one| is_self_signed(&one.tls)) {
            // A rule needs a folder that is there. Where it cannot be made, who makes the certificate says so.
            let _ = fs::create_dir_all(&config.state_dir);
            kept.insert(existing(&config.state_dir));
        }
        let sockets = config
            .listeners
            .iter()
            .filter_map(|one| match &one.address {
                ListenAddress::Unix { path, .. } => Some(folder_of(path)),
                ListenAddress::Tcp(_) => None,
            });
        Self {
            read: (files.iter().flat_map(|file| around(file)))
                .chain(of_variables)
                // Where a manager of networks keeps what the name in /etc leads to.
                .chain(around_known(Path::new(RESOLVER)))
                .chain(system)
                .collect(),
            kept,
            sockets: sockets.collect(),
        }
    }

    fn enforce(&self) -> Result<RulesetStatus, RulesetError> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let keep = read
            | AccessFs::WriteFile
            | AccessFs::Truncate
            | AccessFs::MakeReg
            | AccessFs::MakeDir
            | AccessFs::RemoveFile;
        let socket: BitFlags<AccessFs> = AccessFs::MakeSock | AccessFs::RemoveFile;
        let confined = Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST_KNOWN))?
            .create()?
            .add_rules(path_beneath_rules(&self.read, read))?
            .add_rules(path_beneath_rules(&self.kept, keep))?
            .add_rules(path_beneath_rules(&self.sockets, socket))?
            .restrict_self()?;
        Ok(confined.ruleset)
    }
}

/// The files, or folders of files, of a place.
fn files(place: &Location) -> Vec<PathBuf> {
    match place {
        Location::File { path, .. } | Location::Property { path, .. } => vec![path.clone()],
        Location::FirstOf(paths) => paths.iter().map(PathBuf::from).collect(),
        Location::Systemd(name) => {
            let folder = env::var_os("CREDENTIALS_DIRECTORY");
            let path = folder.map(|folder| Path::new(&folder).join(name));
            path.into_iter().collect()
        }
        #[cfg(feature = "kube")]
        Location::KubernetesSecret { .. } => vec![PathBuf::from(POD).join("token")],
        Location::Env(_) | Location::EnvField { .. } | Location::Command(_) => Vec::new(),
        #[cfg(feature = "keyring")]
        Location::Keyring { .. } => Vec::new(),
    }
}

/// Where the variables that name other authorities lead. One that is empty, or names nothing, opens nothing.
fn authorities(file: Option<OsString>, folders: Option<OsString>) -> Vec<PathBuf> {
    let file = file.map(PathBuf::from);
    let folders = folders.unwrap_or_default();
    let named = env::split_paths(&folders).chain(file);
    named.flat_map(|path| around_known(&path)).collect()
}

/// As [`around`], for what nobody wrote into the configuration: only what is there, and the file alone where it lies in
/// the root folder.
fn around_known(file: &Path) -> Vec<PathBuf> {
    if !file.exists() {
        return Vec::new();
    }
    let folders = around(file).into_iter();
    let narrow = folders.map(|folder| match folder.parent() {
        Some(_) => folder,
        None => file.to_owned(),
    });
    narrow.collect()
}

/// The folder that is opened for a file, where that is the root, or a folder of the root in the place of one that is not
/// there: much more than the configuration asks for.
fn too_wide(file: &Path) -> Option<PathBuf> {
    let is_there = file.is_dir() || file.parent().is_some_and(Path::is_dir);
    let is_wide = |folder: &PathBuf| match folder.parent() {
        None => true,
        Some(above) => !is_there && above.parent().is_none(),
    };
    around(file).into_iter().find(is_wide)
}

/// The folder of a file, and that of what it is a link to now. Not the file: what replaces it is another, and a
/// mounted Secret changes by a link beside it that leads to another folder below the same.
fn around(file: &Path) -> Vec<PathBuf> {
    let target = fs::canonicalize(file);
    let target = target.ok().map(|target| folder_of(&target));
    [folder_of(file)].into_iter().chain(target).collect()
}

/// The folder that a file is in, or the next above that is there.
fn folder_of(file: &Path) -> PathBuf {
    if file.is_dir() {
        return file.to_owned();
    }
    existing(file.parent().unwrap_or(file))
}

fn existing(folder: &Path) -> PathBuf {
    let there = folder.ancestors().find(|above| above.is_dir());
    there.unwrap_or(Path::new("/")).to_owned()
}

/// What it is written against; an older kernel holds what it knows of it.
const NEWEST_KNOWN: ABI = ABI::V5;

/// The C library reads its own when a name is looked up (`resolv.conf`, `nsswitch.conf`, `hosts`, and libraries that
/// these name), and TLS the certificates of authorities. Whole folders, because a new `resolv.conf` is a new file.
const SYSTEM: [&str; 8] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/var/lib/ca-certificates",
    "/dev/urandom",
    "/dev/random",
];

const RESOLVER: &str = "/etc/resolv.conf";

/// The service account of a pod.
#[cfg(feature = "kube")]
const POD: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_names_nothing_opens_nothing() {
        let text = |text: &str| Some(OsString::from(text));
        for nothing in ["", "/no/such/file", "no-such-file"] {
            assert!(authorities(text(nothing), text(nothing)).is_empty());
        }
        assert!(authorities(None, None).is_empty());
    }

    #[test]
    fn each_folder_of_a_list_is_opened() {
        let [one, two] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [one, two] = [&one, &two].map(|folder| folder.path().canonicalize().unwrap());
        let file = one.join("ca.pem");
        fs::write(&file, "").unwrap();
        let list = env::join_paths([Path::new(""), &one, Path::new("/no/such"), &two]).unwrap();
        let opened = |file, folders| BTreeSet::from_iter(authorities(file, folders));
        assert_eq!(opened(None, Some(list)), BTreeSet::from([one.clone(), two]));
        assert_eq!(opened(Some(file.into()), None), BTreeSet::from([one]));
    }

    #[test]
    fn a_place_that_opens_more_than_its_folder_is_noticed() {
        let wide =
            |file: &str| too_wide(Path::new(file)).map(|folder| folder.display().to_string());
        assert_eq!(wide("/no-such-folder/key").as_deref(), Some("/"));
        assert_eq!(wide("/no-such-file").as_deref(), Some("/"));
        assert_eq!(wide("/usr/no-such-folder/key").as_deref(), Some("/usr"));
        assert_eq!(wide("/usr/no-such-file"), None);
        assert_eq!(wide("/usr/lib/no-such-folder/key"), None);
    }
}
