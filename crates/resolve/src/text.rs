//! Texts of `status`, within the bounds of the schema.

/// A bound on messages in status, in bytes.
pub const MAX_MESSAGE: usize = 1024;

/// At most `max` bytes, cut between characters.
pub fn truncated(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
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
    }
}
