//! Names of observers' Leases. No I/O.

/// Longest part of the leader's Lease's name.
// With what follows it stays below the 253 characters of RFC 1123.
const LONGEST_LEASE_NAME: usize = 150;
/// Longest label value, and longest part of an identity.
const LONGEST_LABEL: usize = 63;

/// The name of an observer's Lease: `<lease>-observer-<identity>`.
pub(super) fn of_observer(lease: &str, identity: &str) -> String {
    format!("{}{}", prefix(lease), label(identity, LONGEST_LABEL))
}

/// Returns the prefix of the names of an installation's observer Leases.
pub(super) fn prefix(lease: &str) -> String {
    format!("{}-observer-", label(lease, LONGEST_LEASE_NAME))
}

/// The leader's Lease's name as a label value.
pub(super) fn label_value(lease: &str) -> String {
    label(lease, LONGEST_LABEL)
}

/// Turns a text into lower-case letters, digits and hyphens. A text that had to be changed carries a hash of the
/// original, so that different texts never become the same.
fn label(text: &str, longest: usize) -> String {
    let fits = text.len() <= longest && !text.is_empty() && text.chars().all(is_allowed);
    if fits && !text.starts_with('-') && !text.ends_with('-') {
        return text.to_owned();
    }
    let mut clean: String =
        text.chars().map(|c| c.to_ascii_lowercase()).map(|c| if is_allowed(c) { c } else { '-' }).collect();
    // Only ASCII is left.
    clean.truncate(longest - 9);
    let clean = clean.trim_matches('-');
    let hash = fnv1a(text.as_bytes());
    if clean.is_empty() { format!("{hash:08x}") } else { format!("{clean}-{hash:08x}") }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

/// FNV-1a of 32 bits.
// The same in every version of the operator, which the standard library's hashes do not promise.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_observer_is_named_after_its_lease_and_itself() {
        let long = "x".repeat(253);
        for (lease, identity, want) in [
            ("mail", "pod-1", "mail-observer-pod-1".to_owned()),
            ("mail", "node_0123", format!("mail-observer-node-0123-{:08x}", fnv1a(b"node_0123"))),
            ("mail", "Node.1", format!("mail-observer-node-1-{:08x}", fnv1a(b"Node.1"))),
            ("mail", "_", format!("mail-observer-{:08x}", fnv1a(b"_"))),
            ("mail", &long, format!("mail-observer-{}-{:08x}", "x".repeat(54), fnv1a(long.as_bytes()))),
        ] {
            assert_eq!(of_observer(lease, identity), want);
        }
        // The reference value of FNV-1a for "foobar".
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }

    proptest! {
        #[test]
        fn any_text_makes_a_valid_name(lease in ".{1,300}", identity in ".{1,300}") {
            let is_dns = |text: &str| {
                text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                    && text.starts_with(|c: char| c != '-')
                    && text.ends_with(|c: char| c != '-')
            };
            let (name, label) = (of_observer(&lease, &identity), label_value(&lease));
            prop_assert!(name.len() <= 253 && is_dns(&name) && name.starts_with(&prefix(&lease)), "{name}");
            prop_assert!(label.len() <= 63 && is_dns(&label), "{label}");
        }

        #[test]
        fn different_identities_have_different_names(identity in "[a-zA-Z_.-]{1,5}", other in "[a-zA-Z_.-]{1,5}") {
            prop_assume!(identity != other);
            prop_assert_ne!(of_observer("mail", &identity), of_observer("mail", &other));
        }
    }
}
