use std::fmt;
use std::sync::Arc;

/// A user name and a password. Nothing that can be printed shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    username: Arc<str>,
    password: Arc<str>,
}

impl Login {
    /// Nobody has a longer user name or password.
    pub const MAX_BYTES: usize = 4_096;

    /// Of these.
    pub fn new(username: impl Into<Arc<str>>, password: impl Into<Arc<str>>) -> Self {
        Self { username: username.into(), password: password.into() }
    }

    /// The user name.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The user name or password that a Secret's value or a mounted file holds: a line feed at its end is the editor's.
    ///
    /// # Errors
    /// When it can be neither. The error says what is wrong and holds nothing of it.
    pub fn part(bytes: Vec<u8>) -> Result<String, String> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(format!("it has more than {} bytes", Self::MAX_BYTES));
        }
        // Not the library's error: it would hold the bytes.
        let mut text = String::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned())?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        match text {
            text if text.is_empty() => Err("it is empty".to_owned()),
            text if text.chars().any(char::is_control) => {
                Err("it holds control characters or several lines".to_owned())
            }
            text => Ok(text),
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(hidden)")
    }
}
