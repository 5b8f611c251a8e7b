//! A place that somebody wants to know the content of, and not a credential made of it: read now, and whenever it may
//! have changed.

use std::time::Duration;

use secrecy::SecretString;
use tokio::{
    select,
    time::{Instant, sleep_until},
};

use super::{Changes, Fingerprints, Location, SecretError};

/// What a look at a place brings to light, where it is not what the look before did.
#[derive(Debug)]
pub enum News {
    /// This is there now.
    Content(SecretString),
    /// Nothing is there any more that could be a secret, or it was put out of our reach: twice in a row, since some write
    /// a file by emptying it first.
    Gone(SecretError),
    /// What is there cannot be told; or still nothing is there. Told again every ten minutes as long as it lasts.
    Unreadable(SecretError),
}

/// Follows a place for ever, with a look every `poll` where it can change under a running process; `tell` hears of each
/// change. Dropping the future ends it.
pub async fn follow(place: Location, poll: Duration, mut tell: impl FnMut(News)) -> ! {
    let mut changes = Changes::of(std::iter::once(&place));
    let mut looks = Looks::default();
    loop {
        let look = place.read().await;
        let is_known = look.is_ok();
        if let Some(news) = looks.news(look, Instant::now()) {
            tell(news);
        }
        let poll = match (place.is_watched(), is_known) {
            (true, _) => poll,
            // It may cost something, or ask a human.
            (false, false) => poll.max(PAUSE),
            (false, true) => std::future::pending().await,
        };
        let next = Instant::now() + poll;
        select! {
            () = sleep_until(next) => {}
            () = changes.next() => {}
        }
    }
}

/// What was seen so far.
#[derive(Default)]
struct Looks {
    fingerprints: Fingerprints,
    /// What was there last.
    content: Option<u64>,
    /// What was told last of looks in vain, and when.
    complaint: Option<(SecretError, Instant)>,
    /// Nothing was there at the last look.
    is_missing: bool,
}

impl Looks {
    fn news(&mut self, look: Result<SecretString, SecretError>, now: Instant) -> Option<News> {
        let error = match look {
            Ok(content) => {
                let fingerprint = self.fingerprints.of(std::slice::from_ref(&content));
                let is_back = self.complaint.take().is_some();
                self.is_missing = false;
                let is_new = self.content.replace(fingerprint) != Some(fingerprint);
                return (is_new || is_back).then_some(News::Content(content));
            }
            Err(error) => error,
        };
        let is_gone = says_that_it_is_gone(error);
        let was_missing = std::mem::replace(&mut self.is_missing, is_gone);
        if is_gone && self.content.is_some() && !was_missing {
            return None;
        }
        if is_gone && self.content.take().is_some() {
            self.complaint = Some((error, now));
            return Some(News::Gone(error));
        }
        let is_told = self
            .complaint
            .is_some_and(|(told, at)| told == error && now.duration_since(at) < REMINDER);
        if is_told {
            return None;
        }
        self.complaint = Some((error, now));
        Some(News::Unreadable(error))
    }
}

/// Whether what was there is there no more, as opposed to: nobody can tell at the moment. A right to read that was taken
/// away stays away until somebody gives it back, so it counts as an end.
fn says_that_it_is_gone(error: SecretError) -> bool {
    use SecretError::{Denied, Empty, Missing, NotJson, NotText, TooLarge};
    matches!(
        error,
        Missing | Denied | Empty | NotText | NotJson | TooLarge
    )
}

/// Between two complaints of the same.
const REMINDER: Duration = Duration::from_secs(600);

/// Between two attempts to read what is not to be read often.
const PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use secrecy::ExposeSecret as _;

    use super::*;

    /// What was told, in words.
    fn word(news: &News) -> String {
        #[expect(clippy::disallowed_methods, reason = "a test's own secret")]
        match news {
            News::Content(content) => content.expose_secret().to_owned(),
            News::Gone(_) => "gone".to_owned(),
            News::Unreadable(_) => "unreadable".to_owned(),
        }
    }

    /// What is told of each look, one a second.
    fn told(looks: impl IntoIterator<Item = Result<&'static str, SecretError>>) -> String {
        let mut seen = Looks::default();
        let mut now = Instant::now();
        let told = looks.into_iter().map(|look| {
            now += Duration::from_secs(1);
            let news = seen.news(look.map(SecretString::from), now);
            news.as_ref().map_or("-".to_owned(), word)
        });
        told.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_change_is_told_once_and_an_end_only_when_it_is_sure() {
        let missing = Err(SecretError::Missing);
        let looks = [
            missing,
            missing,
            Ok("a"),
            Ok("a"),
            missing,
            Ok("a"),
            Ok("b"),
            Err(SecretError::Timeout),
            Err(SecretError::Timeout),
            missing,
            missing,
            missing,
            Ok("b"),
        ];
        assert_eq!(
            told(looks),
            "unreadable - a - - - b unreadable - - gone - b"
        );
    }

    #[test]
    fn what_may_not_be_read_any_more_is_gone() {
        let denied = Err(SecretError::Denied);
        assert_eq!(
            told([Ok("a"), denied, denied, denied, Ok("a")]),
            "a - gone - a"
        );
    }

    #[test]
    fn what_lasts_is_told_again_and_rarely() {
        let looks = std::iter::repeat_n(Err(SecretError::Denied), 1801);
        let told = told([Ok("a")].into_iter().chain(looks));
        let told = told.split(' ').filter(|word| *word != "-");
        assert_eq!(
            told.collect::<Vec<_>>().join(" "),
            "a gone unreadable unreadable"
        );
    }

    /// On the real clock: a file is read outside the runtime, whose paused clock would not wait for it.
    #[tokio::test]
    async fn a_file_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let write = |text: &str| {
            let new = folder.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, &path).unwrap();
        };
        write("one");
        let place = Location::File {
            path: path.clone(),
            field: None,
        };
        let told = Rc::new(RefCell::new(Vec::new()));
        let heard = Rc::clone(&told);
        let poll = Duration::from_millis(10);
        let following = follow(place, poll, move |news| {
            heard.borrow_mut().push(word(&news))
        });
        let hears = |expected: &'static str| {
            let told = Rc::clone(&told);
            async move {
                while told.borrow().last().is_none_or(|last| last != expected) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        let editing = async {
            hears("one").await;
            write("two");
            hears("two").await;
            std::fs::remove_file(&path).unwrap();
            hears("gone").await;
        };
        select! {
            _ = following => {}
            done = tokio::time::timeout(Duration::from_secs(60), editing) => done.expect("each in time"),
        }
        assert_eq!(*told.borrow(), ["one", "two", "gone"]);
    }
}
