use std::fmt;
use std::sync::Arc;

/// User name and password. Neither Debug nor Display shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    username: Arc<str>,
    password: Arc<str>,
}

impl Login {
    /// Largest size of a user name or password, in bytes.
    pub const MAX_BYTES: usize = 4_096;

    /// Joins a user name and a password that [`Login::part`] has checked.
    pub fn new(username: impl Into<Arc<str>>, password: impl Into<Arc<str>>) -> Self {
        Self { username: username.into(), password: password.into() }
    }

    /// Returns the user name.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Returns the password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Checks a user name or password as a Secret's value or a mounted file holds it. One line feed at its end is
    /// dropped: editors add it.
    ///
    /// # Errors
    /// [`LoginError`] says what is wrong and holds nothing of the value.
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
