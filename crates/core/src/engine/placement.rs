//! Split of the mail over the backends that carry it.

use super::{Candidate, Share};

/// A backend that takes part, with the most it may carry.
#[derive(Clone, Copy)]
pub(super) struct Carrier<'a> {
    pub(super) candidate: &'a Candidate,
    /// Largest share, in percent of the route's mail.
    pub(super) at_most: u8,
}

impl Carrier<'_> {
    fn share(&self, percent: u8, is_overflow: bool) -> Share {
        Share { backend: self.candidate.name.clone(), percent, is_overflow }
    }
}

/// Split of the mail, with the percentage that no backend takes.
pub(super) struct Placement {
    pub(super) shares: Vec<Share>,
    pub(super) unplaced: u8,
}

/// Fills the members one after the other, then those that only take what does not fit.
pub(super) fn in_order(members: &[Carrier<'_>], overflow: &[Carrier<'_>]) -> Placement {
    let mut left = 100;
    let mut percents = vec![];
    for carrier in members {
        let percent = carrier.at_most.min(left);
        left -= percent;
        percents.push(percent);
    }
    finish(members, &percents, overflow, left)
}

/// Splits by weight. Mail beyond a member's limit goes to the others by their weights, first to those that are known to
/// deliver. A backend that asks for less gets at most half of its part unless no other can take it.
pub(super) fn by_weight(members: &[Carrier<'_>], overflow: &[Carrier<'_>]) -> Placement {
    let total: u64 = members.iter().map(|member| u64::from(member.candidate.weight)).sum();
    let spared: Vec<_> = members
        .iter()
        .map(|member| {
            let nominal = u64::from(member.candidate.weight) * 100 / total.max(1);
            let own = u8::try_from((u64::from(member.candidate.weight) * 100).div_ceil(total.max(1))).unwrap_or(100);
            let spared = u8::try_from(nominal.div_ceil(2)).unwrap_or(100);
            // ADR-0084: Throttling that does not last moves no mail with ActivePassive; only this split looks at it.
            if member.candidate.is_throttled {
                member.at_most.min(spared.max(1))
            } else if member.candidate.is_eligible() {
                member.at_most
            } else {
                member.at_most.min(own)
            }
        })
        .collect();
    let mut percents = spread(members, &spared, 100);
    for is_for_all in [false, true] {
        let left = 100 - percents.iter().sum::<u8>();
        let room = members.iter().zip(&percents).map(|(member, percent)| {
            if is_for_all || member.candidate.is_eligible() { member.at_most - percent } else { 0 }
        });
        let room: Vec<_> = room.collect();
        for (percent, more) in percents.iter_mut().zip(spread(members, &room, left)) {
            *percent += more;
        }
    }
    let left = 100 - percents.iter().sum::<u8>();
    finish(members, &percents, overflow, left)
}

/// Splits `amount` by weight among the members, none beyond its limit; whole percents by largest remainder.
fn spread(members: &[Carrier<'_>], limits: &[u8], amount: u8) -> Vec<u8> {
    let mut percents = vec![0; members.len()];
    let mut open: Vec<usize> = (0..members.len()).filter(|at| limits[*at] > 0).collect();
    let mut left = amount;
    let weights: Vec<_> = members.iter().map(|member| u64::from(member.candidate.weight)).collect();
    // A member that would get more than its limit gets its limit, and the rest is split anew: at
    // most one round per member.
    loop {
        let total: u64 = open.iter().map(|at| weights[*at]).sum();
        let full = open.iter().position(|at| u64::from(left) * weights[*at] / total.max(1) >= u64::from(limits[*at]));
        let Some(full) = full else { break };
        let at = open.remove(full);
        percents[at] = limits[at].min(left);
        left -= percents[at];
    }
    let total: u64 = open.iter().map(|at| weights[*at]).sum();
    let before = left;
    let mut by_remainder = vec![];
    for at in &open {
        let exact = u64::from(before) * weights[*at];
        percents[*at] = u8::try_from(exact / total.max(1)).unwrap_or(100);
        left -= percents[*at];
        by_remainder.push((exact % total.max(1), *at));
    }
    by_remainder.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
    for (_, at) in by_remainder {
        if left > 0 && percents[at] < limits[at] {
            percents[at] += 1;
            left -= 1;
        }
    }
    percents
}

fn finish(members: &[Carrier<'_>], percents: &[u8], overflow: &[Carrier<'_>], mut left: u8) -> Placement {
    let mut shares: Vec<_> =
        members.iter().zip(percents).map(|(member, percent)| member.share(*percent, false)).collect();
    for carrier in overflow {
        let percent = carrier.at_most.min(left);
        if percent > 0 {
            shares.push(carrier.share(percent, true));
            left -= percent;
        }
    }
    // ADR-0022: Unplaced mail is named, not withheld.
    Placement { shares, unplaced: left }
}
