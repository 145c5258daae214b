//! The text of a message: one for all receivers.

use std::fmt::Write as _;

use mail_failover_api::QueuedNotification;
use mail_failover_core::model::text::visible;
use mail_failover_core::model::{ObjectKey, Occasion, Severity};

/// Routes that a text names; the others are counted.
const NAMED: usize = 10;

/// A message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageText {
    /// One line that says what has happened.
    pub title: String,
    /// Severity: that of what has happened, or Info if it is over.
    pub severity: Severity,
    /// Details, each with its label.
    pub facts: Vec<(&'static str, String)>,
    /// Advice on what to do.
    pub advice: String,
    /// Address of the runbook, if there is one.
    pub link: Option<String>,
}

/// The occasion of a message.
pub fn occasion(message: &QueuedNotification) -> Occasion {
    // Written by a newer version: it is told all the same.
    message.occasion.parse().unwrap_or(Occasion::OperatorTrouble)
}

/// The occasion of the message that began what a message begins or ends.
pub fn about(message: &QueuedNotification) -> Option<Occasion> {
    message.about.as_deref()?.parse().ok()
}

impl MessageText {
    /// The text of a message of a policy.
    pub fn of(message: &QueuedNotification, policy: &ObjectKey, runbook_url: Option<&str>) -> Self {
        let (occasion, about) = (occasion(message), about(message));
        let severity = if message.resolved { Severity::Info } else { occasion.severity() };
        let mut facts = vec![];
        if let Some(routes) = routes(message) {
            facts.push(("Routes", routes));
        }
        if let Some(from) = &message.from {
            facts.push(("From", visible(from).into_owned()));
        }
        if !message.to.is_empty() {
            facts.push(("To", visible(&message.to.join(", ")).into_owned()));
        }
        if !message.why.is_empty() {
            facts.push(("Why", visible(&message.why).into_owned()));
        }
        let since = message.since.as_ref().unwrap_or(&message.at);
        facts.push(("Since", seconds(since.0.as_second())));
        if let Some(waited) = message.waited_seconds {
            facts.push(("Mail waited", format!("up to {}", span(waited))));
        }
        facts.push(("Policy", policy.to_string()));
        Self {
            title: title(occasion, about, message),
            severity,
            facts,
            advice: advice(occasion, about, message),
            link: runbook_url.map(|url| format!("{url}#{}", about.unwrap_or(occasion).as_str().to_lowercase())),
        }
    }

    /// The message as lines.
    pub fn plain(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for (label, fact) in &self.facts {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{label}: {fact}");
        }
        let _ = writeln!(text, "What to do: {}", self.advice);
        if let Some(link) = &self.link {
            let _ = writeln!(text, "Runbook: {link}");
        }
        text
    }
}

/// Routes by name, the first ten of them.
fn routes(message: &QueuedNotification) -> Option<String> {
    if message.routes.is_empty() {
        return None;
    }
    let named = message.routes.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let others = count(message).saturating_sub(message.routes.len().min(NAMED));
    Some(if others == 0 { named } else { format!("{named} and {others} more") })
}

fn count(message: &QueuedNotification) -> usize {
    let counted = message.route_count.and_then(|count| usize::try_from(count).ok());
    counted.unwrap_or_default().max(message.routes.len())
}

/// The routes in a title: the name of a single one, or their number.
fn subject(message: &QueuedNotification) -> String {
    match (count(message), message.routes.as_slice()) {
        (0 | 1, [only]) => format!("route {only}"),
        (count, _) => format!("{count} routes"),
    }
}

fn title(occasion: Occasion, about: Option<Occasion>, message: &QueuedNotification) -> String {
    let routes = subject(message);
    let are_many = count(message) > 1;
    let from = message.from.as_deref().unwrap_or("its backend");
    let to = if message.to.is_empty() { "another backend".to_owned() } else { message.to.join(", ") };
    let text = match (occasion, about) {
        (Occasion::Failover, _) if message.to.is_empty() => format!("Failover: mail of {routes} leaves by a standby"),
        (Occasion::Failover, _) => format!("Failover: mail of {routes} leaves {from} for {to}"),
        (Occasion::Failback, _) if message.to.is_empty() => {
            format!("Failback: mail of {routes} leaves by its preferred backend again")
        }
        (Occasion::Failback, _) => format!("Failback: mail of {routes} returns to {to}"),
        (Occasion::Recovery, Some(Occasion::NoneHealthy)) => format!("Recovery: mail of {routes} can leave again"),
        (Occasion::Recovery, Some(Occasion::StandbyLost)) => {
            format!("Recovery: {routes} {} a standby again", if are_many { "have" } else { "has" })
        }
        (Occasion::Recovery, Some(Occasion::OperatorTrouble)) => {
            format!("Recovery: the operator can do its work for {routes} again")
        }
        (Occasion::Recovery, Some(Occasion::ApprovalWanted)) => {
            format!("Recovery: {routes} {} for no approval any more", if are_many { "wait" } else { "waits" })
        }
        (Occasion::Recovery, Some(Occasion::ObjectiveMissed)) => {
            format!("Recovery: {routes} {} objectives again", if are_many { "meet their" } else { "meets its" })
        }
        (Occasion::Recovery, _) => format!("Recovery: mail of {routes} is delivered again"),
        (Occasion::NoneHealthy, _) => format!("No backend can deliver mail of {routes}"),
        (Occasion::NotDelivering, _) => format!("Mail of {routes} is not delivered"),
        (Occasion::StandbyLost, _) => format!("No other backend could take over mail of {routes}"),
        (Occasion::ApprovalWanted, _) => format!("The return of mail of {routes} waits for your approval"),
        (Occasion::ObjectiveMissed, _) => format!("An objective of {routes} is missed"),
        (Occasion::OperatorTrouble, _) => format!("The operator cannot do its work for {routes}"),
        (Occasion::DrillPassed, _) => format!("A drill of {routes} has passed"),
        (Occasion::DrillFailed, _) => format!("A drill of {routes} has not passed"),
        (Occasion::Test, _) => "Test: somebody wants to see that messages arrive; nothing has happened".to_owned(),
    };
    visible(&text).into_owned()
}

fn advice(occasion: Occasion, about: Option<Occasion>, message: &QueuedNotification) -> String {
    let look = match message.routes.as_slice() {
        [only] => {
            let (namespace, name) = only.split_once('/').unwrap_or(("default", only));
            format!("`kubectl -n {namespace} describe mailroute {name}` says more")
        }
        _ => "`kubectl get mailroutes -A` shows them".to_owned(),
    };
    match (occasion, about) {
        (Occasion::Failover, _) => {
            format!(
                "mail is delivered by the standby. Look at the account and the status page of the backend that was left. {look}."
            )
        }
        (Occasion::Failback | Occasion::Recovery, _) => "nothing.".to_owned(),
        (Occasion::NoneHealthy, _) => format!(
            "applications and mail servers have to keep the mail until then. Bring one of the backends back, or add another one to spec.backends. {look}."
        ),
        (Occasion::NotDelivering, _) => {
            format!("lift what keeps the mail there, or see to the backend. {look}, with the command that lifts it.")
        }
        (Occasion::StandbyLost, _) => {
            format!("mail still leaves. See to the backends that fail, before the one that works does. {look}.")
        }
        (Occasion::ApprovalWanted, _) => format!(
            "look if the backend that mail would return to is sound, then approve by the annotation \
             mailfailover.io/request with the action ApproveFailback. {look}, with the whole command."
        ),
        (Occasion::ObjectiveMissed, _) => format!(
            "mail need not be affected now. See which transitions or messages took too long (`mail-failover report`), and \
             lift what delays them, or change spec.objectives of the policy. {look}."
        ),
        (Occasion::OperatorTrouble, _) => {
            format!("mail goes where the last good decision led it. Correct what the reason names. {look}.")
        }
        (Occasion::DrillPassed, _) => "nothing. Mail leaves as before.".to_owned(),
        (Occasion::DrillFailed, _) => format!(
            "mail leaves as before. Mend what the reason names before it happens for real, then repeat the drill by the \
             annotation mailfailover.io/request with the action Drill. {look}."
        ),
        (Occasion::Test, _) => "nothing. Somebody has set the annotation mailfailover.io/test-notification.".to_owned(),
    }
}

/// A time in RFC 3339, with whole seconds.
fn seconds(at: i64) -> String {
    jiff::Timestamp::from_second(at).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// A duration in words: `52 s`, `3 min 5 s`, `2 h 10 min`.
fn span(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use mail_failover_resolve::time::micro_time;

    use super::*;
    use mail_failover_core::model::Timestamp;

    pub(crate) fn at(seconds: i64) -> MicroTime {
        micro_time(Timestamp::from_micros(seconds * 1_000_000))
    }

    pub(crate) fn failover() -> QueuedNotification {
        QueuedNotification {
            id: "mf-0123456789abcdef".to_owned(),
            incident: Some("mf-fedcba9876543210".to_owned()),
            occasion: "Failover".to_owned(),
            about: Some("Failover".to_owned()),
            backend: Some("ses-eu".to_owned()),
            resolved: false,
            at: at(1_796_000_060),
            since: Some(at(1_796_000_000)),
            from: Some("ses-eu".to_owned()),
            to: vec!["sendgrid".to_owned()],
            why: "ses-eu → sendgrid: AuthenticationRefused (AUTH: 535 5.7.8 <bad> & *worse*)".to_owned(),
            waited_seconds: Some(52),
            routes: vec!["shop/orders".to_owned()],
            route_count: Some(1),
            members: vec![],
            waiting: vec![],
        }
    }

    pub(crate) fn failback() -> QueuedNotification {
        QueuedNotification {
            occasion: "Failback".to_owned(),
            resolved: true,
            from: Some("sendgrid".to_owned()),
            to: vec!["ses-eu".to_owned()],
            waited_seconds: None,
            id: "mf-1111111111111111".to_owned(),
            ..failover()
        }
    }

    pub(crate) fn policy() -> ObjectKey {
        ObjectKey::new("shop", "default")
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{failback, failover, policy};
    use super::*;

    #[test]
    fn a_text_says_what_from_to_why_since_how_long_and_what_to_do() {
        let text = MessageText::of(&failover(), &policy(), Some("https://wiki.example/mail"));
        assert_eq!(
            text.plain(),
            concat!(
                "Failover: mail of route shop/orders leaves ses-eu for sendgrid\n",
                "Routes: shop/orders\n",
                "From: ses-eu\n",
                "To: sendgrid\n",
                "Why: ses-eu → sendgrid: AuthenticationRefused (AUTH: 535 5.7.8 <bad> & *worse*)\n",
                "Since: 2026-11-30T00:53:20Z\n",
                "Mail waited: up to 52 s\n",
                "Policy: shop/default\n",
                "What to do: mail is delivered by the standby. Look at the account and the status page of the backend that was left. `kubectl -n shop describe mailroute orders` says more.\n",
                "Runbook: https://wiki.example/mail#failover\n",
            )
        );
        assert_eq!(text.severity, Severity::Warning);
    }

    #[test]
    fn many_routes_are_counted_and_ten_of_them_named() {
        let routes: Vec<_> = (10..30).map(|number| format!("shop/r{number}")).collect();
        let many = QueuedNotification { routes, route_count: Some(100), ..failover() };
        let text = MessageText::of(&many, &policy(), None);
        assert_eq!(text.title, "Failover: mail of 100 routes leaves ses-eu for sendgrid");
        assert!(text.facts[0].1.ends_with("shop/r19 and 90 more"), "{:?}", text.facts[0]);
        assert_eq!(text.link, None);
    }

    #[test]
    fn one_route_has_what_many_routes_have() {
        for (about, one, many) in [
            (Occasion::StandbyLost, "has a standby again", "have a standby again"),
            (Occasion::ApprovalWanted, "waits for no approval any more", "wait for no approval any more"),
            (Occasion::ObjectiveMissed, "meets its objectives again", "meet their objectives again"),
        ] {
            let over = QueuedNotification {
                occasion: "Recovery".to_owned(),
                about: Some(about.as_str().to_owned()),
                ..failback()
            };
            let title = MessageText::of(&over, &policy(), None).title;
            assert_eq!(title, format!("Recovery: route shop/orders {one}"));
            let over = QueuedNotification { route_count: Some(100), ..over };
            let title = MessageText::of(&over, &policy(), None).title;
            assert_eq!(title, format!("Recovery: 100 routes {many}"));
        }
    }

    #[test]
    fn an_end_is_told_as_such_and_links_to_what_has_ended() {
        let text = MessageText::of(&failback(), &policy(), Some("https://wiki.example"));
        assert_eq!(text.title, "Failback: mail of route shop/orders returns to ses-eu");
        assert_eq!((text.severity, text.link.as_deref()), (Severity::Info, Some("https://wiki.example#failover")));
    }

    #[test]
    fn every_occasion_has_a_title_and_advice_of_its_own_and_hides_nothing() {
        let mut titles = std::collections::BTreeSet::new();
        for occasion in Occasion::selectable() {
            let message = QueuedNotification {
                occasion: occasion.as_str().to_owned(),
                about: None,
                why: "a\u{202e}b\u{1b}[2J".to_owned(),
                ..failover()
            };
            let text = MessageText::of(&message, &policy(), None);
            assert!(!text.advice.is_empty() && titles.insert(text.title.clone()), "{}", text.title);
            assert!(!text.plain().contains(['\u{202e}', '\u{1b}']));
        }
        assert_eq!(titles.len(), 11);
    }

    #[test]
    fn durations_are_told_in_words() {
        assert_eq!([5, 65, 7805].map(span), ["5 s", "1 min 5 s", "2 h 10 min"]);
    }
}
