//! Shares of the operator without the backends that the agent has left. Pure.

use std::sync::Arc;

use mail_failover_contract::routing::{Backend, Routing};

/// Returns the share of each backend when those that are `left` carry nothing, and the backend that carries everything
/// in their place, if one must. `None` if no backend is left to carry mail.
///
/// The operator's shares of the others grow in proportion. When none of them has any, everything goes to the first
/// standby that was not left. A `refuge` that carries everything already keeps it as long as it is a standby.
pub(super) fn without(routing: &Routing, left: &[bool], refuge: Option<&str>) -> Option<(Vec<u8>, Option<Arc<str>>)> {
    let remains = |(backend, left): (&Backend, &bool)| if *left { 0 } else { backend.percent };
    let remaining: Vec<u8> = routing.backends.iter().zip(left).map(remains).collect();
    if remaining.iter().any(|percent| *percent > 0) {
        return Some((to_a_hundred(&remaining), None));
    }
    let open = || routing.backends.iter().zip(left).filter(|(_, left)| !**left).map(|(backend, _)| backend);
    let is_refuge = |backend: &&Backend| refuge == Some(&*backend.name);
    let refuge = open()
        .find(|backend| backend.standby && is_refuge(backend))
        .or_else(|| open().find(|backend| backend.standby))
        // It is no standby any more, but no better backend is left.
        .or_else(|| open().find(is_refuge))?;
    let percents = routing.backends.iter().map(|backend| if backend.name == refuge.name { 100 } else { 0 });
    Some((percents.collect(), Some(refuge.name.clone())))
}

/// Scales shares to a sum of 100, by largest remainders. Among equals the more preferred backend gets the rest.
fn to_a_hundred(shares: &[u8]) -> Vec<u8> {
    let total: u32 = shares.iter().map(|share| u32::from(*share)).sum();
    if total == 0 {
        return shares.to_vec();
    }
    let scaled = |share: &u8| (u32::from(*share) * 100 / total, u32::from(*share) * 100 % total);
    let mut parts: Vec<(u32, u32)> = shares.iter().map(scaled).collect();
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
