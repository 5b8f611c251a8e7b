//! Each kind of place, as people and machines write it.

use super::*;

fn file(content: &[u8], field: Option<&str>) -> (tempfile::NamedTempFile, Location) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let place = Location::File {
        path: file.path().into(),
        field: field.map(str::to_owned),
    };
    (file, place)
}

async fn read(place: &Location) -> Result<String, SecretError> {
    #[expect(clippy::disallowed_methods, reason = "a test's own secret")]
    place
        .read()
        .await
        .map(|secret| secret.expose_secret().to_owned())
}

fn command(arguments: &[&str]) -> Location {
    Location::Command(
        arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect(),
    )
}

#[tokio::test]
async fn files_are_read_as_people_write_them() {
    type Case = (
        &'static [u8],
        Option<&'static str>,
        Result<&'static str, SecretError>,
    );
    let cases: [Case; 13] = [
        (b"key", None, Ok("key")),
        (b"key\n", None, Ok("key")),
        (b"\xef\xbb\xbfkey\r\n", None, Ok("key")),
        (b"two words \t\r\n", None, Ok("two words")),
        (b"", None, Err(SecretError::Empty)),
        (b" \n", None, Err(SecretError::Empty)),
        (b"\xff\xfe", None, Err(SecretError::NotText)),
        (br#"{"apikey":"key"}"#, Some("apikey"), Ok("key")),
        (br#"{"a":{"b":"key\n"}}"#, Some("a.b"), Ok("key")),
        (br#"{"a":{"b":7}}"#, Some("a.b"), Err(SecretError::NotJson)),
        (br#"{"a":{"b":""}}"#, Some("a.b"), Err(SecretError::Empty)),
        (br#"{"a":"key"}"#, Some("a.b"), Err(SecretError::Missing)),
        (b"key", Some("a"), Err(SecretError::NotJson)),
    ];
    for (content, field, expected) in cases {
        let (_file, place) = file(content, field);
        assert_eq!(
            read(&place).await.as_deref().map_err(|error| *error),
            expected,
            "{content:?} {field:?}"
        );
    }
}

#[tokio::test]
async fn what_is_not_a_secret_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Location::File {
        path: directory.path().join("no"),
        field: None,
    };
    assert_eq!(read(&missing).await, Err(SecretError::Missing));
    let folder = Location::File {
        path: directory.path().into(),
        field: None,
    };
    assert_eq!(read(&folder).await, Err(SecretError::Unreadable));
    #[cfg(unix)]
    {
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let pipe = Location::File {
            path: pipe,
            field: None,
        };
        assert_eq!(read(&pipe).await, Err(SecretError::Unreadable));
        let loops = directory.path().join("loop");
        std::os::unix::fs::symlink(&loops, &loops).unwrap();
        let loops = Location::File {
            path: loops,
            field: None,
        };
        assert_eq!(read(&loops).await, Err(SecretError::Unreadable));
    }
    let (_file, huge) = file(&vec![b'x'; (1 << 20) + 1], None);
    assert_eq!(read(&huge).await, Err(SecretError::TooLarge));
    let (_file, largest) = file(&vec![b'x'; 1 << 20], None);
    assert!(read(&largest).await.is_ok());
}

#[cfg(unix)]
#[tokio::test]
async fn commands_run_without_a_shell_and_without_input() {
    assert_eq!(
        read(&command(&["printf", "%s\n", "$HOME"]))
            .await
            .as_deref(),
        Ok("$HOME")
    );
    assert_eq!(read(&command(&["cat"])).await, Err(SecretError::Empty));
    assert_eq!(
        read(&command(&["false"])).await,
        Err(SecretError::CommandFailed)
    );
    assert_eq!(
        read(&command(&["/no/such/program"])).await,
        Err(SecretError::NotStarted)
    );
    assert_eq!(read(&command(&[])).await, Err(SecretError::NotStarted));
    assert_eq!(
        read(&command(&["cat", "/dev/zero"])).await,
        Err(SecretError::TooLarge)
    );
    let largest = ["sh", "-c", "head -c 65536 /dev/zero | tr '\\0' x"];
    assert_eq!(
        read(&command(&largest)).await.map(|text| text.len()),
        Ok(64 << 10)
    );
    // What a program says besides, and what it printed before it failed, is no secret.
    let both = ["sh", "-c", "echo key; echo canary >&2"];
    assert_eq!(read(&command(&both)).await.as_deref(), Ok("key"));
    let fails = ["sh", "-c", "echo key; exit 3"];
    assert_eq!(
        read(&command(&fails)).await,
        Err(SecretError::CommandFailed)
    );
    assert_eq!(
        read(&command(&["sh", "-c", "kill -9 $$"])).await,
        Err(SecretError::CommandFailed)
    );
    assert_eq!(
        read(&command(&["printf", "\\377"])).await,
        Err(SecretError::NotText)
    );
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn a_command_that_hangs_is_given_up() {
    assert_eq!(
        read(&command(&["sleep", "600"])).await,
        Err(SecretError::Timeout)
    );
}

#[tokio::test]
async fn the_environment_is_read() {
    assert_eq!(
        read(&Location::Env("CARGO_PKG_NAME".into()))
            .await
            .as_deref(),
        Ok("token-source")
    );
    assert_eq!(
        read(&Location::Env("NO_SUCH_VARIABLE_HERE".into())).await,
        Err(SecretError::Missing)
    );
    assert_eq!(
        read(&Location::Systemd("token".into())).await,
        Err(SecretError::Missing)
    );
}

#[tokio::test]
async fn properties_of_a_file_are_read() {
    let (file, _) = file(
        b"# IBM\nWATSONX_APIKEY=old\nWATSONX_APIKEY= k=y \nEMPTY=\n",
        None,
    );
    let property = |name: &str| Location::Property {
        path: file.path().into(),
        name: name.into(),
    };
    assert_eq!(
        read(&property("WATSONX_APIKEY")).await.as_deref(),
        Ok("k=y")
    );
    assert_eq!(read(&property("EMPTY")).await, Err(SecretError::Empty));
    assert_eq!(read(&property("WATSONX")).await, Err(SecretError::Missing));
    assert!(property("WATSONX_APIKEY").is_watched());
    let described = property("WATSONX_APIKEY").describe().await;
    assert!(described.ends_with(", a property of it"), "{described}");
    let no_json = Location::EnvField {
        variable: "CARGO_PKG_NAME".into(),
        pointer: "/a/0".into(),
    };
    assert_eq!(read(&no_json).await, Err(SecretError::NotJson));
}

#[test]
fn a_fingerprint_follows_the_content() {
    let fingerprints = Fingerprints::default();
    let of = |contents: &[&str]| {
        let contents: Vec<SecretString> = contents.iter().map(|&text| text.into()).collect();
        fingerprints.of(&contents)
    };
    assert_eq!(of(&["one", "two"]), of(&["one", "two"]));
    for other in [
        &["one"][..],
        &["two", "one"],
        &["onet", "wo"],
        &["one", "2"],
    ] {
        assert_ne!(of(other), of(&["one", "two"]), "{other:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_in_place_of_its_place_is_not_described() {
    const SLIP: &str = "c4naryDEF0123456789";
    let directory = tempfile::tempdir().unwrap();
    let path = |below: &str| Location::File {
        path: directory.path().join(below),
        field: None,
    };
    let (_file, existing) = file(b"key", Some(SLIP));
    for place in [
        Location::Env(SLIP.into()),
        Location::Systemd(SLIP.into()),
        command(&[SLIP, SLIP]),
        path(SLIP),
        path(&format!("{SLIP}/{SLIP}")),
        existing,
        Location::File {
            path: SLIP.into(),
            field: None,
        },
    ] {
        let described = place.describe().await;
        assert!(!described.contains(SLIP), "{described}");
    }
    std::fs::write(directory.path().join("key"), "").unwrap();
    let folder = directory.path().display();
    for (below, known) in [
        ("key", "key"),
        ("no", "…"),
        ("no/key", "…"),
        ("key/no", "…"),
    ] {
        assert_eq!(
            path(below).describe().await,
            format!("file {folder}/{known}")
        );
    }
}
