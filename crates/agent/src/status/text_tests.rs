//! Tests of the status page for people.

use super::super::*;
use super::text;

fn status() -> Status {
    let backend = |name: &str, decided_percent, carried_percent| BackendStatus {
        name: name.to_owned(),
        next_hop: format!("[{name}.example]:587"),
        decided_percent,
        carried_percent,
        standby: true,
        alternate: if name == "ses" { "No" } else { "Used" }.to_owned(),
        least_interval_milliseconds: (name == "sendgrid").then_some(71),
        messages_per_day: None,
        refused: false,
        breaker: None,
        failing: None,
        last_success: None,
        credentials: Some(CredentialsStatus {
            secret: format!("{name}-login"),
            state: CredentialsState::Loaded,
            message: String::new(),
        }),
        authority_problem: None,
    };
    Status {
        version: "0.1.0".to_owned(),
        now: "2026-11-25T12:00:00Z".to_owned(),
        ready: true,
        waiting_for: None,
        document: Some(DocumentStatus {
            route: "shop/orders".to_owned(),
            transition: 7,
            summary: "Failover ses → sendgrid: AccountPaused".to_owned(),
            source: "ConfigMap shop/orders-agent".to_owned(),
            since: "2026-11-25T10:55:00Z".to_owned(),
            ignored: vec![],
        }),
        sources: vec![SourceStatus {
            source: "ConfigMap shop/orders-agent".to_owned(),
            state: SourceState::Following,
            message: String::new(),
            since: "2026-11-25T10:55:00Z".to_owned(),
            refused: None,
        }],
        backends: vec![backend("ses", 0, 0), backend("sendgrid", 100, 100)],
        mail_log: MailLogStatus { source: "/var/log/mail.log".to_owned(), problem: None, warning: None },
        last_switch: None,
        not_served: vec![],
        reports: ReportsStatus::default(),
        possible_duplicates: 0,
        kept: None,
        drill: None,
        queue: None,
        diverted: 0,
        state: StateStatus { directory: "/var/lib/mail-failover".to_owned(), problem: None },
    }
}

#[test]
fn a_page_tells_what_is_in_force() {
    let want = "\
mail-failover agent 0.1.0: ready

Route      shop/orders
Decision   7: Failover ses → sendgrid: AccountPaused
In force   1h 5m ago, from ConfigMap shop/orders-agent
Source     ConfigMap shop/orders-agent Following

BACKEND   NEXT HOP                DECIDED  CARRIES  STANDBY  ALTERNATE  LOGIN
ses       [ses.example]:587           0 %      0 %  yes      no         loaded
sendgrid  [sendgrid.example]:587    100 %    100 %  yes      yes        loaded
  at most one message in 71 ms: its part of the backend's limits
Mail log   /var/log/mail.log
";
    assert_eq!(text(&status()), want);
}

#[test]
fn a_drill_is_told_with_its_backend_and_its_end() {
    let mut status = status();
    status.backends[0].refused = true;
    let drill = |state: &str| DrillStatus {
        id: "drill-7".to_owned(),
        state: state.to_owned(),
        backends: vec!["ses".to_owned()],
        since: "2026-11-25T11:58:00Z".to_owned(),
        ends: "2026-11-25T12:03:00Z".to_owned(),
        refused: 5,
        carried: 4,
        let_through: 1,
    };
    status.drill = Some(drill("Refusing"));
    let page = text(&status);
    for line in [
        "  REFUSED by a drill: messages go by the others although it works",
        "Drill      drill-7, begun 2m 0s ago: refuses ses for 3m 0s more at most",
        "           4 messages taken by others, 1 let through, 5 answers without it",
    ] {
        assert!(page.lines().any(|have| have == line), "{line}\n{page}");
    }
    status.drill = Some(drill("Lifted"));
    let page = text(&status);
    assert!(
        page.contains("begun 2m 0s ago: lifted, because every other backend failed for real; ses is used again"),
        "{page}"
    );
}

#[test]
fn what_is_wrong_is_told() {
    let mut status = status();
    status.sources[0].state = SourceState::Unreachable;
    status.sources[0].message = "connection refused".to_owned();
    status.sources[0].refused = Some("it is empty".to_owned());
    status.backends[0].failing = Some(FailingStatus {
        count: 3,
        since: "2026-11-25T11:59:30Z".to_owned(),
        reason: "ConnectionRefused".to_owned(),
        message: "connect to ses: refused".to_owned(),
    });
    status.backends[0].breaker = Some(BreakerStatus {
        open_since: "2026-11-25T11:59:40Z".to_owned(),
        next_trial: Some("2026-11-25T12:00:10Z".to_owned()),
    });
    status.backends[1].credentials.as_mut().unwrap().state = CredentialsState::LastGood;
    status.backends[1].credentials.as_mut().unwrap().message = "/c/password: it is empty".to_owned();
    status.backends[1].authority_problem = Some("no space left".to_owned());
    status.last_switch = Some(SwitchStatus {
        cause: "messages try ses last: ConnectionRefused".to_owned(),
        at: "2026-11-25T11:59:30Z".to_owned(),
        state: "Done".to_owned(),
        took_milliseconds: Some(80),
        first_delivery_milliseconds: Some(120),
        queued_before: Some(50),
        queued_after: Some(0),
        troubles: vec!["master could not be signalled".to_owned()],
    });
    status.document.as_mut().unwrap().ignored = vec!["backends[0].sercet".to_owned()];
    status.mail_log.problem = Some("there is no such file".to_owned());
    status.state.problem = Some("no space left on device".to_owned());
    let page = text(&status);
    for want in [
        "Unreachable: connection refused (1h 5m ago)",
        "its latest document is refused: it is empty",
        "  failed 3 times in a row since 30s ago: ConnectionRefused connect to ses: refused",
        "  breaker open since 20s ago: messages try the others first, one tries it first again in 10s",
        "LAST GOOD",
        "  Secret sendgrid-login: /c/password: it is empty",
        "  authority: no space left",
        "Switch     30s ago: messages try ses last: ConnectionRefused; done in 80 ms, first message out after 120 ms, queue 50 → 0",
        "           master could not be signalled",
        "IGNORED    backends[0].sercet: misspelt, or of a newer operator",
        "Mail log   /var/log/mail.log NOT READ: there is no such file",
        "State      not up to date in /var/lib/mail-failover: no space left on device",
    ] {
        assert!(page.contains(want), "{want}\nis not in\n{page}");
    }
}

#[test]
fn what_is_kept_is_told_with_its_age() {
    let mut status = status();
    status.kept = Some(KeptStatus {
        messages: 3,
        oldest_since: "2026-11-25T09:55:00Z".to_owned(),
        oldest_at_backend: "ses".to_owned(),
        about: [("Quota".to_owned(), 2), ("Unknown".to_owned(), 1)].into(),
    });
    let want = "Kept       3 messages wait that a backend refuses by 5xx (Quota: 2, Unknown: 1); the oldest is 2h 5m old, refused by ses\n";
    assert!(text(&status).contains(want), "{}", text(&status));
}

#[test]
fn what_waits_and_what_went_another_way_is_told() {
    let mut status = status();
    status.queue = Some(QueueStatus { messages: 12, oldest_since: Some("2026-11-25T11:56:55Z".to_owned()) });
    status.diverted = 340;
    let page = text(&status);
    assert!(page.contains("Queue      12 messages wait, the oldest for 3m 5s\n"), "{page}");
    assert!(page.contains("Diverted   340 taken by backends without a share, since the start\n"), "{page}");
}

#[test]
fn a_log_that_is_read_and_not_understood_is_told() {
    let mut status = status();
    status.mail_log.warning = Some("none of the last 200 lines has a known form".to_owned());
    let page = text(&status);
    assert!(page.contains("Mail log   /var/log/mail.log NOT UNDERSTOOD: none of the last 200 lines"), "{page}");
}

#[test]
fn a_status_survives_its_own_format() {
    let status = status();
    let json = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
}

#[test]
fn a_server_that_cannot_listen_is_told() {
    let mut status = status();
    status.not_served = vec!["health: cannot listen on 127.0.0.1:8028: Address in use".to_owned()];
    let page = text(&status);
    assert!(page.contains("\nNOT SERVED health: cannot listen on 127.0.0.1:8028: Address in use\n"), "{page}");
}
