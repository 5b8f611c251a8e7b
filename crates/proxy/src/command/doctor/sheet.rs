//! What `doctor` prints: one line per step, aligned, with its mark in front.

use std::{
    fmt::Display,
    io::{self, Write},
    sync::Arc,
};

use token_source::Redaction;

/// Prints as it goes, and remembers whether something failed.
pub(super) struct Sheet<W> {
    out: W,
    /// Every secret that was read so far.
    redaction: Arc<Redaction>,
    has_begun: bool,
    has_failed: bool,
    written: io::Result<()>,
}

/// What a step came to.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    Ok,
    /// It works, or something else is wrong than what was asked.
    Warn,
    Fail,
}

impl<W: Write> Sheet<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            redaction: Arc::default(),
            has_begun: false,
            has_failed: false,
            written: Ok(()),
        }
    }

    /// What must not be printed; whoever learns of a secret tells it.
    pub(super) fn redaction(&self) -> &Arc<Redaction> {
        &self.redaction
    }

    /// The words of a stranger (a server, a certificate, a library that repeats what one of them said) as they may be
    /// printed.
    pub(super) fn quote(&self, text: &str) -> String {
        self.redaction.quote(text, LONGEST)
    }

    /// What was printed.
    #[cfg(test)]
    pub(super) fn into_inner(self) -> W {
        self.out
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether everything could be written.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.written?;
        self.out.flush()
    }

    /// What the next lines are about.
    pub(super) fn heading(&mut self, text: impl Display) {
        if self.has_begun {
            self.line("");
        }
        self.line(text);
    }

    pub(super) fn ok(&mut self, step: &str, text: impl Display) {
        self.tell(Mark::Ok, step, text);
    }

    pub(super) fn warn(&mut self, step: &str, text: impl Display) {
        self.tell(Mark::Warn, step, text);
    }

    pub(super) fn fail(&mut self, step: &str, text: impl Display) {
        self.tell(Mark::Fail, step, text);
    }

    pub(super) fn tell(&mut self, mark: Mark, step: &str, text: impl Display) {
        let mark = match mark {
            Mark::Ok => "ok",
            Mark::Warn => "warn",
            Mark::Fail => {
                self.has_failed = true;
                "FAIL"
            }
        };
        self.step(mark, step, text);
    }

    /// More about the step before.
    pub(super) fn detail(&mut self, name: &str, text: impl Display) {
        self.step("", name, text);
    }

    /// What to do about the step before.
    pub(super) fn advise(&mut self, text: impl Display) {
        self.step("", "to do", text);
    }

    fn step(&mut self, mark: &str, step: &str, text: impl Display) {
        self.line(format_args!("  {mark:<4}  {step:<11}  {text}"));
    }

    fn line(&mut self, line: impl Display) {
        self.has_begun = true;
        if self.written.is_ok() {
            self.written = writeln!(self.out, "{line}");
        }
    }
}

/// In characters: an error with all its causes.
const LONGEST: usize = 500;
