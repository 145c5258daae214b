use std::fmt;
use std::sync::Arc;

/// User name and password. Neither Debug nor Display shows them.
#[derive(Clone, PartialEq, Eq, Hash)]
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

    /// Returns the user name as it is sent.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Returns the password in clear text.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Checks a user name or password as a Secret's value or a mounted file holds it. One line feed at its end is
    /// dropped: editors add it.
    ///
    /// # Errors
    /// [`LoginError`] says what is wrong and holds nothing of the value.
    pub fn part(bytes: Vec<u8>) -> Result<String, LoginError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(LoginError::TooLong);
        }
        // Not the library's error: it would hold the bytes.
        let mut text = String::from_utf8(bytes).map_err(|_| LoginError::NotUtf8)?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        match text {
            text if text.is_empty() => Err(LoginError::Empty),
            text if text.chars().any(char::is_control) => Err(LoginError::ControlCharacters),
            text => Ok(text),
        }
    }
}

/// Name of a Secret with a login, and the keys of its parts. The namespace is that of who names it.
///
/// Displayed as the name of the Secret, with the keys if they are not the usual ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoginReference {
    /// Name of the Secret.
    pub secret: Arc<str>,
    /// Key of the user name.
    pub username_key: Arc<str>,
    /// Key of the password.
    pub password_key: Arc<str>,
}

impl LoginReference {
    /// Key of the user name if none is named, as in a Secret of the type `kubernetes.io/basic-auth`.
    pub const USERNAME_KEY: &'static str = "username";
    /// Key of the password if none is named.
    pub const PASSWORD_KEY: &'static str = "password";

    /// Creates a reference; keys that are not named are the usual ones.
    pub fn new(secret: impl Into<Arc<str>>, username_key: Option<&str>, password_key: Option<&str>) -> Self {
        Self {
            secret: secret.into(),
            username_key: username_key.unwrap_or(Self::USERNAME_KEY).into(),
            password_key: password_key.unwrap_or(Self::PASSWORD_KEY).into(),
        }
    }

    /// The key of the user name, if it is not the usual one.
    pub fn own_username_key(&self) -> Option<&str> {
        Some(&*self.username_key).filter(|key| *key != Self::USERNAME_KEY)
    }

    /// The key of the password, if it is not the usual one.
    pub fn own_password_key(&self) -> Option<&str> {
        Some(&*self.password_key).filter(|key| *key != Self::PASSWORD_KEY)
    }
}

impl From<&str> for LoginReference {
    fn from(secret: &str) -> Self {
        Self::new(secret, None, None)
    }
}

impl fmt::Display for LoginReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret, username_key, password_key } = self;
        if self.own_username_key().is_none() && self.own_password_key().is_none() {
            return f.write_str(secret);
        }
        write!(f, "{secret} ({username_key}, {password_key})")
    }
}

/// Defect of a user name or password; holds nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The value is longer than [`Login::MAX_BYTES`].
    #[error("it has more than {max} bytes", max = Login::MAX_BYTES)]
    TooLong,
    /// The value is no text.
    #[error("it is no UTF-8")]
    NotUtf8,
    /// The value has no characters.
    #[error("it is empty")]
    Empty,
    /// The value would end an SMTP command or a line of a file.
    #[error("it holds control characters or several lines")]
    ControlCharacters,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(hidden)")
    }
}
