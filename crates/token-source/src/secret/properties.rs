//! IBM's `ibm-credentials.env`: one `NAME=VALUE` in a line.

use std::fmt;

/// One line of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Property<'a> {
    /// Counted from 1.
    pub line: usize,
    /// What stands before the first `=`.
    pub name: &'a str,
    /// What stands behind it, as it is: a `=` or quotes are part of it, as IBM's Go and Python cores have it.
    pub value: &'a str,
}

/// Where it is, and no more: its name may be a secret that was written into the wrong place.
impl fmt::Debug for Property<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Property")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

/// A line of the file that says nothing, though somebody meant it to: IBM's cores know neither form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mute<'a> {
    /// This line, counted from 1, has no `=`.
    WithoutValue(usize),
    /// `export NAME=VALUE`, for a shell; the name is the one without `export`.
    Exported(Property<'a>),
}

/// The properties of a file, in its order. Empty lines, comments and lines without a `=` are passed over, white space
/// around names and values is left out. Where a name comes twice, the last one counts.
pub fn properties(text: &str) -> impl Iterator<Item = Property<'_>> {
    lines(text).filter_map(|(line, text)| property(line, text))
}

/// The lines of a file that say nothing, in its order.
pub fn mute_lines(text: &str) -> impl Iterator<Item = Mute<'_>> {
    lines(text).filter_map(|(line, text)| {
        let Some(property) = property(line, text) else {
            return Some(Mute::WithoutValue(line));
        };
        let name = property.name.strip_prefix("export")?;
        let is_word = name.starts_with(|c: char| c.is_ascii_whitespace());
        let name = name.trim();
        is_word.then_some(Mute::Exported(Property { name, ..property }))
    })
}

fn property(line: usize, text: &str) -> Option<Property<'_>> {
    let (name, value) = text.split_once('=')?;
    Some(Property {
        line,
        name: name.trim(),
        value: value.trim(),
    })
}

/// The lines that hold something.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_ibms_cores_read_them() {
        let text = "\u{feff}A=1\r\n# B=2\n\n  C = x=y==  \nD\nE=\n=F\nG=\"q\"\nA=2";
        let found: Vec<_> = properties(text)
            .map(|property| (property.line, property.name, property.value))
            .collect();
        assert_eq!(
            found,
            [
                (1, "A", "1"),
                (4, "C", "x=y=="),
                (6, "E", ""),
                (7, "", "F"),
                (8, "G", "\"q\""),
                (9, "A", "2"),
            ]
        );
    }

    #[test]
    fn lines_that_say_nothing_are_found() {
        let text = "\u{feff}A\nB=1\nexport C=2\n#D\n\n export\tE = 3\nexports=4\nexport F\n";
        let exported = |line, name, value| Mute::Exported(Property { line, name, value });
        let found: Vec<_> = mute_lines(text).collect();
        assert_eq!(
            found,
            [
                Mute::WithoutValue(1),
                exported(3, "C", "2"),
                exported(6, "E", "3"),
                Mute::WithoutValue(8),
            ]
        );
    }
}
