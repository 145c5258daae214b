//! Texts of `status` and Events, within the bounds of the schema.

use mail_failover_core::model::text::visible;

/// A bound on messages in status, in bytes.
pub const MAX_MESSAGE: usize = 1024;

/// One line of at most `max` bytes, cut between characters. What a terminal would not show as it is, is escaped.
pub fn truncated(text: &str, max: usize) -> String {
    let text = visible(text);
    if text.len() <= max {
        return text.into_owned();
    }
    let cut = (0..=max.saturating_sub('…'.len_utf8())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..cut])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(truncated("äöü", 6), "äöü");
        assert_eq!(truncated("äöüß", 6), "ä…");
        assert_eq!(truncated("a\x1b[2J\nb", 20), "a\\u{1b}[2J b");
    }
}
