//! Text from elsewhere, made fit for people to read: in a status, an Event, a log, a terminal.
//!
//! Servers' replies, names in manifests and annotations come from whoever writes them. Escape sequences, overrides of
//! the direction and characters without width would show something else than what is there (CVE-2021-42574).

use std::borrow::Cow;
use std::fmt::Write;

/// Returns the text as one line in which each character shows itself.
///
/// White space becomes a blank. Control characters, bidirectional and other format characters,
/// characters without width, combining marks and unassigned ones become an escape such as
/// `\u{202e}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    replaced(text, |hidden, line| {
        if hidden.is_whitespace() {
            line.push(' ');
        } else {
            line.extend(hidden.escape_unicode());
        }
    })
}

/// Returns the text in which each character but the ends of lines shows itself, as in [`visible`].
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    if is_visible_ascii(text) {
        return text.into();
    }
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n").into()
}

/// Returns a JSON text that says the same in characters that show themselves: hidden ones stand as `\u202e`.
pub fn visible_json(json: &str) -> Cow<'_, str> {
    replaced(json, |hidden, line| {
        if hidden == '\n' {
            line.push(hidden);
            return;
        }
        for unit in hidden.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _ = write!(line, "\\u{unit:04x}");
        }
    })
}

fn is_visible_ascii(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn replaced(text: &str, replace: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if is_visible_ascii(text) {
        return text.into();
    }
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        if shows_itself(char) {
            line.push(char);
        } else {
            replace(char, &mut line);
        }
    }
    line.into()
}

/// Returns true for a character that is printed as itself, whatever stands before and after it.
fn shows_itself(char: char) -> bool {
    // What Rust would escape for a programmer, by Unicode's tables; the quotes and the backslash it escapes for syntax.
    matches!(char, ' '..='~') || (!char.is_whitespace() && char.escape_debug().len() == 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hidden_characters_are_shown_and_others_stay() {
        for (text, wanted) in [
            ("421 4.3.2 \"busy\" \\o/ it's", "421 4.3.2 \"busy\" \\o/ it's"),
            ("Zürich → 東京 ✓", "Zürich → 東京 ✓"),
            ("a\r\nb\tc\u{2028}d\u{a0}e", "a  b c d e"),
            ("\x1b[2J\x1b]0;pwn\x07", "\\u{1b}[2J\\u{1b}]0;pwn\\u{7}"),
            ("\u{9b}31m\x7f", "\\u{9b}31m\\u{7f}"),
            ("\u{202e}moc.live\u{202c}", "\\u{202e}moc.live\\u{202c}"),
            ("a\u{200b}b\u{feff}c\u{ad}d\u{2066}e\u{200d}", "a\\u{200b}b\\u{feff}c\\u{ad}d\\u{2066}e\\u{200d}"),
            ("x\u{301}\u{fe0f}\u{e0041}", "x\\u{301}\\u{fe0f}\\u{e0041}"),
        ] {
            assert_eq!(visible(text), wanted);
        }
        assert_eq!(visible_lines("a\n\x1b[2Jb\n"), "a\n\\u{1b}[2Jb\n");
        assert_eq!(visible_json("{\n  \"a\": \"\u{202e}\u{e0041}é\"\n}"), "{\n  \"a\": \"\\u202e\\udb40\\udc41é\"\n}");
    }

    /// Characters that change what a terminal shows, or that it does not show.
    fn is_dangerous(char: char) -> bool {
        char.is_control()
            || matches!(char, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(char, '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
            || matches!(char, '\u{e0000}'..='\u{e0fff}')
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left_in_any_text(text in any::<String>(), hidden in any::<char>(), at in any::<prop::sample::Index>()) {
            let mut chars: Vec<char> = text.chars().collect();
            chars.insert(at.index(chars.len() + 1), hidden);
            let text: String = chars.into_iter().collect();
            let line = visible(&text);
            prop_assert!(!line.chars().any(is_dangerous), "{line:?}");
            prop_assert_eq!(visible(&line), line.clone(), "twice is once");
            let lines = visible_lines(&text);
            prop_assert!(!lines.chars().any(|char| char != '\n' && is_dangerous(char)), "{lines:?}");
            prop_assert_eq!(lines.matches('\n').count(), text.matches('\n').count());
        }
    }

    #[test]
    fn every_dangerous_character_is_hidden() {
        for char in (0..=u32::from(char::MAX)).filter_map(char::from_u32).filter(|char| is_dangerous(*char)) {
            assert!(!shows_itself(char), "{char:?}");
        }
    }
}
