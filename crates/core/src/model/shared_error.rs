use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Error with its causes, as part of a value that is cloned and compared. Equal if the texts are. Cheap to clone.
#[derive(Clone)]
pub struct SharedError(Arc<dyn Error + Send + Sync>);

impl SharedError {
    /// Wraps an error.
    pub fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }
}

/// A defect that is no other error's consequence.
impl From<&str> for SharedError {
    fn from(text: &str) -> Self {
        Self(Arc::from(Box::<dyn Error + Send + Sync>::from(text)))
    }
}

impl From<String> for SharedError {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

// The wrapped error is shown by the wrapper, so the causes begin below it.
impl Error for SharedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl PartialEq for SharedError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for SharedError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it cannot be read")]
    struct Unread(#[source] std::num::ParseIntError);

    #[test]
    fn the_cause_stays_and_equal_texts_are_equal() {
        let unread = |text: &str| SharedError::new(Unread(text.parse::<u8>().unwrap_err()));
        let error = unread("x");
        assert_eq!(error.to_string(), "it cannot be read");
        assert!(error.source().is_some_and(<dyn Error>::is::<std::num::ParseIntError>));
        assert_eq!(error, unread("256"));
        assert_eq!(error, SharedError::from("it cannot be read"));
        assert_ne!(error, SharedError::from("it is gone"));
    }
}
