//! Shares of the operator without the backends that the agent has left. Pure.

use std::sync::Arc;

use mail_failover_contract::routing::Routing;

/// Returns the share of each backend when those that are `ejected` carry nothing, and the backend that carries
/// everything in their place, if one must. `None` if no backend is left to carry mail.
///
/// The operator's shares of the others grow in proportion. When none of them has any, everything goes to the first
/// standby that was not ejected. A `fallback` that carries everything already keeps it as long as it is a standby.
pub(super) fn without(
    routing: &Routing,
    ejected: &[bool],
    fallback: Option<&str>,
) -> Option<(Vec<u8>, Option<Arc<str>>)> {
    let mut remaining = vec![];
    let mut open = vec![];
    for (backend, ejected) in routing.backends.iter().zip(ejected) {
        remaining.push(if *ejected { 0 } else { backend.percent });
        if !*ejected {
            open.push(backend);
        }
    }
    if remaining.iter().any(|percent| *percent > 0) {
        return Some((to_a_hundred(&remaining), None));
    }
    let known = open.iter().find(|backend| fallback == Some(&*backend.name));
    let fallback = known
        .filter(|backend| backend.standby)
        .or_else(|| open.iter().find(|backend| backend.standby))
        // It is no standby any more, but no better backend is left.
        .or(known)?;
    let percents = routing.backends.iter().map(|backend| if backend.name == fallback.name { 100 } else { 0 });
    Some((percents.collect(), Some(fallback.name.clone())))
}

/// Scales shares to a sum of 100, by largest remainders. Among equals the more preferred backend gets the rest.
fn to_a_hundred(shares: &[u8]) -> Vec<u8> {
    let total: u32 = shares.iter().map(|share| u32::from(*share)).sum();
    if total == 0 {
        return shares.to_vec();
    }
    let mut parts = vec![];
    for share in shares {
        let hundredfold = u32::from(*share) * 100;
        parts.push((hundredfold / total, hundredfold % total));
    }
    let missing = 100 - parts.iter().map(|(whole, _)| whole).sum::<u32>();
    for _ in 0..missing {
        let largest = parts.iter_mut().rev().max_by_key(|(_, remainder)| *remainder);
        if let Some((whole, remainder)) = largest {
            *whole += 1;
            *remainder = 0;
        }
    }
    parts.iter().map(|(whole, _)| u8::try_from(*whole).unwrap_or(100)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_grow_in_proportion() {
        assert_eq!(to_a_hundred(&[0, 60, 20]), [0, 75, 25]);
        assert_eq!(to_a_hundred(&[1, 1, 1]), [34, 33, 33]);
        assert_eq!(to_a_hundred(&[0, 1, 2, 4]), [0, 14, 29, 57]);
        assert_eq!(to_a_hundred(&[0, 0]), [0, 0]);
    }

    proptest! {
        #[test]
        fn they_add_up_to_a_hundred_and_nobody_without_a_share_gets_one(shares in prop::collection::vec(0..=100_u8, 1..20)) {
            let whole = to_a_hundred(&shares);
            if shares.iter().any(|share| *share > 0) {
                prop_assert_eq!(whole.iter().map(|share| u32::from(*share)).sum::<u32>(), 100);
            }
            prop_assert!(shares.iter().zip(&whole).all(|(before, after)| *before > 0 || *after == 0));
        }
    }
}
