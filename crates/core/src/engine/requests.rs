//! Requests of people to a route, and the answers: done, or refused with the reason and the remedy.

use std::sync::Arc;

use super::{Action, Candidate, Exclusion, Health, Memory, Pause, Request, Standing, Switch};
use crate::model::{FailbackMode, Policy, Timestamp};

/// Demand of a granted request on the rest of the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Send all mail to that backend.
    SwitchTo(Arc<str>),
    /// Return to the preferred backend.
    FailBack,
}

/// Granted, with what follows and a sentence; or refused, with a sentence.
pub(super) type Ruling = Result<(Option<Order>, String), String>;

/// Rules on a request; what is granted is noted in `memory`. `ranked` is in order of preference.
pub(super) fn rule(
    request: &Request,
    ranked: &[&Candidate],
    policy: Option<&Policy>,
    memory: &mut Memory,
    now: Timestamp,
) -> Ruling {
    match &request.action {
        Action::Switch { to, duration, is_forced } => {
            let target = ranked.iter().find(|candidate| candidate.name == *to).ok_or_else(|| {
                let names: Vec<_> = ranked.iter().map(|candidate| &*candidate.name).collect();
                format!("{to} is not a backend of this route; use one of {}", names.join(", "))
            })?;
            may_carry(target, *is_forced)?;
            let until = duration.map(|duration| now + duration);
            memory.switch = Some(Switch { to: to.clone(), is_forced: *is_forced, until });
            let end =
                until.map_or_else(|| "until a Failback is requested".to_owned(), |until| format!("until {until}"));
            Ok((Some(Order::SwitchTo(to.clone())), format!("mail goes to {to} {end}")))
        }
        Action::Failback => {
            let preferred = ranked.iter().find(|candidate| !matches!(candidate.standing, Standing::Excluded(_)));
            let preferred = preferred.ok_or("the route must not use any of its backends")?;
            if memory.switch.is_none() && memory.ramp.is_none() && memory.lead() == Some(&preferred.name) {
                return Err(format!("mail already leaves by {}, the preferred backend", preferred.name));
            }
            may_carry(preferred, true)?;
            if !preferred.is_sound() {
                return Err(format!(
                    "{} is {}; request a Switch to it with \"force\": true to send mail there all the same",
                    preferred.name,
                    if preferred.standing == Standing::Suspended { "suspended" } else { preferred.health.as_str() }
                ));
            }
            memory.switch = None;
            Ok((Some(Order::FailBack), format!("mail returns to {}", preferred.name)))
        }
        Action::Pause { duration } => {
            let until = duration.map(|duration| now + duration);
            memory.pause = Some(Pause { since: now, until });
            let end = until.map_or_else(|| "until a Resume is requested".to_owned(), |until| format!("until {until}"));
            Ok((None, format!("nothing moves {end}")))
        }
        Action::Resume => match memory.pause.take() {
            Some(_) => Ok((None, "the route moves again by itself".to_owned())),
            None => Err("the route is not paused".to_owned()),
        },
        Action::ApproveFailback => {
            if policy.is_none_or(|policy| policy.failback.mode == FailbackMode::Automatic) {
                return Err("failback.mode of the policy is not Manual: there is nothing to approve".to_owned());
            }
            if memory.lead().is_some_and(|lead| ranked.first().is_some_and(|first| first.name == *lead)) {
                return Err("mail already leaves by the preferred backend: there is nothing to approve".to_owned());
            }
            memory.approved_at = Some(now);
            Ok((None, "the return begins as soon as the holds of the policy allow".to_owned()))
        }
        Action::Malformed(why) => Err(why.clone()),
    }
}

fn may_carry(target: &Candidate, is_forced: bool) -> Result<(), String> {
    let name = &target.name;
    match target.standing {
        Standing::Unusable => return Err(format!("{name} does not exist or cannot be used: see its conditions")),
        Standing::Excluded(Exclusion::Residency) => {
            return Err(format!("{name} is outside the jurisdictions of spec.residency: no request overrides that"));
        }
        Standing::Excluded(Exclusion::SenderDomain) => {
            return Err(format!("{name} may not send for all of spec.senderDomains: no request overrides that"));
        }
        Standing::Suspended if !is_forced => {
            return Err(format!("{name} is suspended; clear spec.suspended, or ask again with \"force\": true"));
        }
        Standing::Suspended | Standing::InService => {}
    }
    match target.health {
        Health::Unhealthy | Health::Unknown if !is_forced => Err(format!(
            "{name} is {} ({}); ask again with \"force\": true to send mail there all the same",
            target.health.as_str(),
            target.class.as_str()
        )),
        Health::Healthy | Health::Degraded | Health::Unhealthy | Health::Unknown => Ok(()),
    }
}
