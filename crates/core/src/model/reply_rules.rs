use std::sync::Arc;

/// Reading of a backend's replies: the provider whose words they are, and the user's own rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReplyRules {
    /// Provider whose own rules apply besides the general ones; those of every provider if `None`.
    pub provider: Option<Arc<str>>,
    /// Rules that can work, in order. They come before all others.
    pub rules: Vec<ReplyRule>,
    /// Rules that cannot, each with the path of the field and the reason.
    pub rejected: Vec<Arc<str>>,
}

/// A user's rule about replies, in the words of the spec.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReplyRule {
    /// Name, unique within the backend.
    pub name: Arc<str>,
    /// Subject of the replies that it decides: `Quota`.
    pub about: Arc<str>,
    /// Commands that are answered: `RCPT`; any if empty.
    pub stages: Vec<Arc<str>>,
    /// Codes: `550`, `5xx`, `450-452`; any if empty.
    pub codes: Vec<Arc<str>>,
    /// Enhanced codes (RFC 3463): `x.7.57`, `4.7.*`, `none`; any if empty.
    pub enhanced_codes: Vec<Arc<str>>,
    /// Regular expressions of which one must be found in the text; any text if empty.
    pub words: Vec<Arc<str>>,
}
