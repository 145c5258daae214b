//! The format of the demo's text: colours on a terminal that shows them, none anywhere else, and no
//! line wider than a screen.

use std::env;
use std::io::{IsTerminal, stdout};

/// The width of the longest line, in characters.
pub const WIDTH: usize = 120;

/// The meaning of a text, shown by its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    Heading,
    /// A command as a user types it.
    Command,
    /// News of a failure.
    Bad,
    /// News of a success.
    Good,
    /// A text of less interest.
    Faint,
}

impl Ink {
    /// The parameters of SGR (ECMA-48 section 8.3.117).
    fn parameters(self) -> &'static str {
        match self {
            Self::Heading | Self::Command => "1",
            Self::Bad => "31",
            Self::Good => "32",
            Self::Faint => "2",
        }
    }

    /// The text, in colour if standard output is a terminal, unless `NO_COLOR` (any value) or
    /// `TERM=dumb` forbids it.
    pub fn on(self, text: &str) -> String {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
        if unwanted || dumb || !stdout().is_terminal() { text.to_owned() } else { self.always_on(text) }
    }

    fn always_on(self, text: &str) -> String {
        format!("\x1b[{}m{text}\x1b[0m", self.parameters())
    }
}

/// Folds the lines of a kubectl table that are too long: the rest stands below, in the last column.
pub fn fold(table: &str) -> String {
    let heading = table.lines().next().unwrap_or_default();
    let indent = heading.rfind("   ").map_or(0, |at| heading[..at + 3].chars().count());
    let mut folded = String::new();
    for line in table.lines() {
        let mut rest: Vec<char> = line.trim_end().chars().collect();
        let mut first = true;
        loop {
            let room = if first { WIDTH } else { WIDTH - indent };
            let at =
                if rest.len() <= room { rest.len() } else { break_at(&rest, room, if first { indent } else { 0 }) };
            let tail = rest.split_off(at);
            if !first {
                folded.extend(std::iter::repeat_n(' ', indent));
            }
            folded.push_str(rest.iter().collect::<String>().trim_end());
            folded.push('\n');
            rest = tail.into_iter().skip_while(|letter| *letter == ' ').collect();
            first = false;
            if rest.is_empty() {
                break;
            }
        }
    }
    folded
}

/// The place to break a line: the last space that leaves at most `room` and at least `kept`
/// characters; else in the middle of the word.
fn break_at(line: &[char], room: usize, kept: usize) -> usize {
    let space = (kept + 1..=room).rev().find(|at| line.get(*at) == Some(&' '));
    space.unwrap_or(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_sees_no_colour_codes() {
        assert_eq!(Ink::Good.always_on("ok"), "\x1b[32mok\x1b[0m");
        if !stdout().is_terminal() {
            assert_eq!(Ink::Good.on("ok"), "ok");
        }
    }

    #[test]
    fn what_is_too_long_for_the_last_column_goes_on_below_it() {
        let long = "word ".repeat(30);
        let folded = fold(&format!("NAME   MESSAGE\na      {long}\nb      short\n"));
        let lines: Vec<_> = folded.lines().collect();
        assert_eq!(lines.len(), 4, "{folded}");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{folded}");
        assert!(lines[2].starts_with("       word"), "{folded}");
        assert_eq!(folded.matches("word").count(), 30);
        assert_eq!(lines[3], "b      short");
    }

    #[test]
    fn a_word_longer_than_a_line_is_broken() {
        let folded = fold(&format!("NAME   MESSAGE\na      {}\n", "x".repeat(300)));
        assert!(folded.lines().all(|line| line.chars().count() <= WIDTH), "{folded}");
        assert_eq!(folded.matches('x').count(), 300);
    }
}
