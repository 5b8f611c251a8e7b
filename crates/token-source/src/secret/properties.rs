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

/// The properties of a file, in its order. Empty lines, comments and lines without a `=` are passed over, white space
/// around names and values is left out. Where a name comes twice, the last one counts.
pub fn properties(text: &str) -> impl Iterator<Item = Property<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim();
        let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
        Some(Property {
            line: index + 1,
            name: name.trim(),
            value: value.trim(),
        })
    })
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
}
