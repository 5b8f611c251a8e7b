//! Reading a file that should hold a secret, so that a file system that hangs costs one thread and no more.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use secrecy::zeroize::Zeroizing;
use tokio::{sync, task, time};

use super::SecretError;

/// The content of a regular file.
pub(super) async fn read(path: PathBuf) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let content = in_turn(path, read_now)
        .await
        .ok_or(SecretError::Unreadable)?
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SecretError::Missing,
            io::ErrorKind::PermissionDenied => SecretError::Denied,
            _ => SecretError::Unreadable,
        })?;
    if content.len() as u64 > SIZE_LIMIT {
        Err(SecretError::TooLarge)
    } else {
        Ok(content)
    }
}

/// The content of the first file that can be read; where none can, what is wrong with the first that is there.
pub(super) async fn read_first(paths: &[&str]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let mut failure = SecretError::Missing;
    for path in paths {
        match read(path.into()).await {
            Ok(content) => return Ok(content),
            Err(error) if failure == SecretError::Missing => failure = error,
            Err(_) => {}
        }
    }
    Err(failure)
}

/// As much of the path as is surely one, because it exists; the rest may be a secret that was written in the place
/// of its file.
pub(super) async fn known_part(path: PathBuf) -> String {
    let look = in_turn(path, |path| {
        if path.is_file() {
            return path.display().to_string();
        }
        let directory = path.ancestors().skip(1).find(|above| above.is_dir());
        directory.map_or_else(
            || "…".to_owned(),
            |directory| directory.join("…").display().to_string(),
        )
    });
    let part = time::timeout(LOOK_LIMIT, look).await;
    part.ok().flatten().unwrap_or_else(|| "…".to_owned())
}

/// Works on a path in one thread hop, one at a time for each path: who comes while a read hangs waits here, where
/// waiting costs no thread. `None` when the runtime is going down.
async fn in_turn<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> T + Send + 'static,
) -> Option<T> {
    let turn = turn_of(&path).lock_owned().await;
    let work = task::spawn_blocking(move || {
        // Held by the thread, because it may outlast whoever waits for it.
        let _turn = turn;
        work(&path)
    });
    work.await.ok()
}

fn turn_of(path: &Path) -> Arc<sync::Mutex<()>> {
    static TURNS: LazyLock<Mutex<HashMap<PathBuf, Arc<sync::Mutex<()>>>>> =
        LazyLock::new(Mutex::default);
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    turns.retain(|_, turn| Arc::strong_count(turn) > 1);
    turns.entry(path.to_owned()).or_default().clone()
}

fn read_now(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = open(path)?;
    // Looked at once it is open, when nobody can put something else in its place.
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Room for all from the start: a vector that grows leaves copies behind.
    let length = metadata.len().min(SIZE_LIMIT);
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1));
    (&file).take(SIZE_LIMIT + 1).read_to_end(&mut content)?;
    if is_written(&metadata, &file.metadata()?) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(content)
}

/// Somebody writes into the file instead of replacing it: what was read may be half of the one and half of the other.
fn is_written(before: &Metadata, after: &Metadata) -> bool {
    before.len() != after.len() || before.modified().ok() != after.modified().ok()
}

/// Does not wait for the writer of a pipe.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};

    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

const SIZE_LIMIT: u64 = 1 << 20;
/// For a look at what a log line is going to name.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::{Pin, pin},
        sync::mpsc,
        task::Poll,
    };

    use super::*;

    #[tokio::test]
    async fn the_first_of_several_files_counts_that_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let [second, third] = ["second", "third"].map(|name| directory.path().join(name));
        std::fs::write(&second, "second").unwrap();
        std::fs::write(&third, "third").unwrap();
        let paths = [
            Path::new("/no/such/file"),
            directory.path(),
            &second,
            &third,
        ];
        let paths = paths.map(|path| path.to_str().unwrap());
        let read = async |count: usize| {
            let content = read_first(&paths[..count]).await;
            content.map(|content| String::from_utf8(content.to_vec()).unwrap())
        };
        assert_eq!(read(4).await.as_deref(), Ok("second"));
        assert_eq!(read(2).await, Err(SecretError::Unreadable));
        assert_eq!(read(1).await, Err(SecretError::Missing));
        std::fs::remove_file(&second).unwrap();
        assert_eq!(read(4).await.as_deref(), Ok("third"));
    }

    #[tokio::test]
    async fn a_file_system_that_hangs_holds_one_thread_for_each_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = || file.path().to_owned();
        let (hang, hangs) = mpsc::channel::<()>();
        let hung = tokio::spawn(in_turn(path(), move |_| hangs.recv().is_err()));
        // Given up by who waited for it; the thread stays.
        task::yield_now().await;
        hung.abort();
        for _ in 0..3 {
            let mut next = pin!(in_turn(path(), |_| ()));
            assert!(is_pending(next.as_mut()).await);
        }
        drop(hang);
        assert_eq!(in_turn(path(), |_| ()).await, Some(()));
    }

    #[test]
    fn a_file_that_is_written_while_it_is_read_is_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one").unwrap();
        let before = file.as_file().metadata().unwrap();
        assert!(!is_written(&before, &file.as_file().metadata().unwrap()));
        file.as_file().set_len(1).unwrap();
        assert!(is_written(&before, &file.as_file().metadata().unwrap()));
        std::fs::write(file.path(), "two").unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(1);
        file.as_file().set_modified(later).unwrap();
        assert!(is_written(&before, &file.as_file().metadata().unwrap()));
    }

    /// Whether it has not ended after everybody else had their turn.
    async fn is_pending<F: Future>(mut future: Pin<&mut F>) -> bool {
        task::yield_now().await;
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }
}
