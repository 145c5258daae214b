//! Conditions of rules on reply codes and enhanced codes.

use std::ops::RangeInclusive;

use crate::reply::EnhancedCode;

/// A pattern of an enhanced code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnhancedPattern {
    None,
    Code { class: Option<u8>, subject: Option<u16>, detail: Option<u16> },
}

impl EnhancedPattern {
    /// Parses `x.7.57`, `4.7.28`, `x.2.*` or `none`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::None);
        }
        let mut parts = text.split('.');
        let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
        let class = match class {
            "x" => None,
            "4" => Some(4),
            "5" => Some(5),
            _ => return None,
        };
        let pattern = Self::Code { class, subject: code_part(subject)?, detail: code_part(detail)? };
        parts.next().is_none().then_some(pattern)
    }

    /// True if a reply with one of these codes may have it: the first digits are the same (RFC 3463 §2).
    pub(crate) fn can_come_with(self, codes: &RangeInclusive<u16>) -> bool {
        match self {
            Self::None | Self::Code { class: None, .. } => true,
            Self::Code { class: Some(class), .. } => {
                let class = u16::from(class);
                codes.start() / 100 <= class && class <= codes.end() / 100
            }
        }
    }

    /// True if these patterns are those of codes of both classes, with any subject and detail.
    pub(crate) fn are_any_class(patterns: &[Self]) -> bool {
        let has_class = |wanted: u8| {
            let of_class = |pattern: &Self| matches!(pattern, Self::Code { class, subject: None, detail: None } if class.is_none_or(|of| of == wanted));
            patterns.iter().any(of_class)
        };
        has_class(4) && has_class(5)
    }

    pub(crate) fn matches(self, enhanced: Option<EnhancedCode>) -> bool {
        match (self, enhanced) {
            (Self::None, None) => true,
            (Self::None, Some(_)) | (Self::Code { .. }, None) => false,
            (Self::Code { class, subject, detail }, Some(EnhancedCode(c, s, d))) => {
                class.is_none_or(|class| class == c)
                    && subject.is_none_or(|subject| subject == s)
                    && detail.is_none_or(|detail| detail == d)
            }
        }
    }
}

/// Parses `5xx`, `421` or `450-452`.
pub(crate) fn code_range(text: &str) -> Option<RangeInclusive<u16>> {
    match text {
        "4xx" => Some(400..=499),
        "5xx" => Some(500..=599),
        _ => match text.split_once('-') {
            Some((from, to)) => Some(from.parse().ok()?..=to.parse().ok()?),
            None => text.parse().ok().map(|code: u16| code..=code),
        },
    }
}

/// A subject or detail of a pattern: a number, or `*` for any.
#[expect(clippy::option_option, reason = "the outer one says that it is malformed")]
fn code_part(text: &str) -> Option<Option<u16>> {
    match text {
        "*" => Some(None),
        digits => digits.parse().ok().filter(|number| *number < 1000).map(Some),
    }
}
