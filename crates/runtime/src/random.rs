//! The one place that draws random numbers. Everything pure takes them as arguments, or a generator with its seed.

#![expect(clippy::disallowed_methods, reason = "everybody else draws here")]

/// A number of at least 0 and less than 1.
pub fn unit() -> f64 {
    fastrand::f64()
}

/// Sixty-four random bits.
pub fn bits() -> u64 {
    fastrand::u64(..)
}

/// A word of so many letters and digits.
pub fn word(length: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(length).collect()
}
