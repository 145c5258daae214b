//! Bodies as the receivers document them: fields, their types and their bounds.

use mail_failover_core::model::{Occasion, Severity};
use serde_json::json;

use super::*;
use crate::message::testing::{failback, failover, policy};
use crate::secret::testing::secret;

const NOW: Timestamp = Timestamp::from_micros(1_796_000_070_000_000);

fn receiver(kind: ReceiverKind) -> Receiver {
    let (occasions, minimum) = (Occasion::selectable(), Severity::Info);
    Receiver { name: "a".into(), kind, secret: Some("s".into()), ca: None, occasions, minimum }
}

fn secrets() -> NotificationSecret {
    secret(&[
        ("url", "https://chat.example/hooks/hunter2"),
        ("routing-key", "hunter2-routing"),
        ("api-key", "hunter2-api"),
        ("bot-token", "7:hunter2"),
        ("token", "hunter2-token"),
        ("signing-secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ])
    .unwrap()
}

fn told(message: &QueuedNotification) -> (NotificationRequest, Value) {
    told_to(ReceiverKind::Slack, message)
}

fn told_to(kind: ReceiverKind, message: &QueuedNotification) -> (NotificationRequest, Value) {
    let policy = policy();
    let runbook_url = Some("https://wiki.example/mail");
    let told = ToldMessage { message, policy: &policy, runbook_url, now: NOW };
    let request = request(&receiver(kind), Some(&secrets()), &told).unwrap().unwrap();
    let body = serde_json::from_slice(&request.body).unwrap();
    (request, body)
}

fn long() -> QueuedNotification {
    QueuedNotification {
        why: "<!channel> & @everyone *x* ".repeat(40),
        routes: (0..20).map(|number| format!("{}/{}", "n".repeat(60), format!("r{number}-").repeat(50))).collect(),
        route_count: Some(250),
        to: vec!["t".repeat(253); 8],
        ..failover()
    }
}

/// A message of each occasion: short, as long as the API lets it be, and without a backend that mail goes to.
fn all() -> Vec<QueuedNotification> {
    let mut all = vec![];
    for occasion in Occasion::selectable().into_iter().chain([Occasion::Test]) {
        let resolved = matches!(occasion, Occasion::Failback | Occasion::Recovery);
        let begun = if resolved { Occasion::Failover } else { occasion };
        let about = Some(begun).filter(|begun| begun.lasts());
        let nowhere = QueuedNotification { to: vec![], ..long() };
        let bare = QueuedNotification { from: None, to: vec![], backend: None, ..failover() };
        for message in [failover(), long(), nowhere, bare] {
            all.push(QueuedNotification {
                occasion: occasion.as_str().to_owned(),
                incident: message.incident.clone().filter(|_| about.is_some()),
                about: about.map(|about| about.as_str().to_owned()),
                resolved,
                ..message
            });
        }
    }
    all
}

fn is_runbook(link: &Value) -> bool {
    link.as_str().is_some_and(|link| link.starts_with("https://wiki.example/mail#"))
}

fn url() -> std::sync::Arc<str> {
    "https://api.example".into()
}

fn chars(value: &Value) -> usize {
    value.as_str().map_or(0, |text| text.chars().count())
}

#[test]
fn a_webhook_is_a_signed_cloud_event_with_the_texts_and_the_fields() {
    let (request, body) = told_to(ReceiverKind::Webhook { url: url() }, &failover());
    assert_eq!((request.url.as_str(), request.content_type), ("https://api.example", webhook::CONTENT_TYPE));
    assert!(request.signer.is_some());
    assert_eq!(body["type"], "io.mailfailover.notification.failover");
    assert_eq!(body["id"], "mf-0123456789abcdef");
    assert_eq!(body["source"], "/apis/mailfailover.io/v1alpha1/namespaces/shop/failoverpolicies/default");
    assert_eq!(body["data"]["routes"], json!(["shop/orders"]));
    assert_eq!(body["data"]["waitedSeconds"], 52);
    assert!(body["data"]["text"].as_str().unwrap().starts_with("Failover: mail of route shop/orders"));
}

/// <https://docs.slack.dev/reference/block-kit/blocks>: 150 characters in a header, 10 fields of 2000, 3000 in a text.
#[test]
fn slack_gets_blocks_of_plain_text_within_its_bounds() {
    for message in all() {
        let (request, body) = told(&message);
        assert_eq!(request.url, "https://chat.example/hooks/hunter2");
        let blocks = body["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50);
        assert_eq!(blocks[0]["type"], "header");
        assert!((1..=150).contains(&chars(&blocks[0]["text"]["text"])));
        let fields = blocks[1]["fields"].as_array().unwrap();
        assert!((1..=10).contains(&fields.len()));
        for field in fields {
            assert_eq!(field["type"], "plain_text", "mrkdwn would read <!channel>");
            assert!((1..=2000).contains(&chars(&field["text"])));
        }
        assert!((1..=3000).contains(&chars(&blocks[2]["text"]["text"])));
        assert!(is_runbook(&blocks[3]["elements"][0]["url"]));
        assert!(!body["text"].as_str().unwrap().contains('<'));
    }
}

/// <https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>: an adaptive card in
/// a message, 28 KB at most.
#[test]
fn teams_gets_an_adaptive_card_in_a_message() {
    for message in all() {
        let (request, body) = told_to(ReceiverKind::Teams, &message);
        assert_eq!(body["type"], "message");
        let attachment = &body["attachments"][0];
        assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
        let card = &attachment["content"];
        assert_eq!((&card["type"], &card["version"]), (&json!("AdaptiveCard"), &json!("1.4")));
        assert_eq!(card["body"][1]["type"], "FactSet");
        assert_eq!(card["actions"][0]["type"], "Action.OpenUrl");
        assert!(request.body.len() < 28 * 1024, "{}", request.body.len());
    }
    let (_, body) = told_to(ReceiverKind::Teams, &failover());
    let why = &body["attachments"][0]["content"]["body"][1]["facts"][3];
    assert_eq!(why["value"], "ses-eu → sendgrid: AuthenticationRefused \\(AUTH: 535 5.7.8 \\<bad\\> & \\*worse\\*\\)");
}

/// <https://developer.pagerduty.com/docs/send-alert-event>: `dedup_key` of 255 characters, `summary` of 1024.
#[test]
fn pager_duty_is_triggered_and_resolved_under_one_key() {
    let kind = || ReceiverKind::PagerDuty { url: url() };
    let (request, trigger) = told_to(kind(), &failover());
    assert_eq!(request.url, "https://api.example/v2/enqueue");
    assert_eq!((&trigger["event_action"], &trigger["routing_key"]), (&json!("trigger"), &json!("hunter2-routing")));
    let payload = &trigger["payload"];
    assert_eq!((&payload["severity"], &payload["source"]), (&json!("warning"), &json!("shop/default")));
    assert!(chars(&payload["summary"]) <= 1024 && payload["custom_details"].is_object());
    assert_eq!(trigger["links"][0]["href"], "https://wiki.example/mail#failover");
    let (_, resolve) = told_to(kind(), &failback());
    assert_eq!((&resolve["event_action"], &resolve["dedup_key"]), (&json!("resolve"), &trigger["dedup_key"]));
    let (_, long) = told_to(kind(), &long());
    assert!(chars(&long["payload"]["summary"]) <= 1024);
}

/// <https://docs.opsgenie.com/docs/alert-api>: `message` of 130 characters, `alias` of 512, `description` of 15000.
#[test]
fn opsgenie_is_told_and_closed_under_one_alias() {
    let kind = || ReceiverKind::Opsgenie { url: url() };
    for message in [failover(), long()] {
        let (request, body) = told_to(kind(), &message);
        assert_eq!(request.url, "https://api.example/v2/alerts");
        assert_eq!(request.headers, [("Authorization", "GenieKey hunter2-api".to_owned())]);
        assert!(
            chars(&body["message"]) <= 130 && chars(&body["description"]) <= 15_000 && chars(&body["entity"]) <= 512
        );
        assert_eq!((&body["alias"], &body["priority"]), (&json!("mf-fedcba9876543210"), &json!("P3")));
    }
    let (request, body) = told_to(kind(), &failback());
    assert_eq!(request.url, "https://api.example/v2/alerts/mf-fedcba9876543210/close?identifierType=alias");
    assert!(body["note"].as_str().unwrap().starts_with("Failback"));
}

/// <https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>, `postableAlerts`.
#[test]
fn alertmanager_gets_alerts_with_the_same_labels_from_beginning_to_end() {
    let kind = || ReceiverKind::Alertmanager { url: "http://am:9093".into() };
    let (request, fires) = told_to(kind(), &failover());
    assert_eq!(request.url, "http://am:9093/api/v2/alerts");
    let labels = json!({"alertname": "MailRouteFailover", "severity": "warning", "namespace": "shop", "policy": "default",
        "backend": "ses-eu"});
    assert_eq!(fires[0]["labels"], labels);
    assert_eq!(fires[0]["startsAt"], "2026-11-30T00:53:20Z");
    assert_eq!(fires[0]["endsAt"], "2026-11-30T00:58:30Z", "it ends when nobody tells it again");
    let (_, ends) = told_to(kind(), &failback());
    assert_eq!((&ends[0]["labels"], &ends[0]["endsAt"]), (&labels, &json!("2026-11-30T00:54:30Z")));
    let again = ongoing_alerts(&policy(), &[ongoing(2)], None, NOW);
    assert_eq!((&again[0]["labels"], &again[0]["startsAt"]), (&labels, &fires[0]["startsAt"]));
    assert!(again[0]["annotations"]["description"].as_str().unwrap().contains("shop/r000, shop/r001"));
}

/// A failover of so many routes that lasts.
fn ongoing(count: usize) -> OngoingAlert {
    let since = Timestamp::from_micros(1_796_000_000_000_000);
    let mut ongoing = OngoingAlert::new(Occasion::Failover, Some("ses-eu".to_owned()), NOW);
    for number in 0..count {
        let route = policy().sibling(format!("r{number:03}"));
        ongoing.add(&route, since, failover().why, failover().to);
    }
    ongoing
}

#[test]
fn an_alert_that_is_told_again_has_the_text_of_the_message_that_began_it() {
    let routes: Vec<_> = (0..20).map(|number| format!("shop/r{number:03}")).collect();
    let first = QueuedNotification { routes, route_count: Some(100), waited_seconds: None, ..failover() };
    let (_, fires) = told_to(ReceiverKind::Alertmanager { url: "http://am:9093".into() }, &first);
    let again = ongoing_alerts(&policy(), &[ongoing(100)], Some("https://wiki.example/mail"), NOW);
    assert_eq!(again[0], fires[0]);
    assert_eq!(again[0]["annotations"]["summary"], "Failover: mail of 100 routes leaves ses-eu for sendgrid");
    let description = again[0]["annotations"]["description"].as_str().unwrap();
    for part in ["shop/r009 and 90 more", "To: sendgrid", "Why: ses-eu → sendgrid: AuthenticationRefused (AUTH: 535"]
    {
        assert!(description.contains(part), "{part}: {description}");
    }
}

#[test]
fn what_begins_and_ends_is_told_within_the_bounds_on_every_occasion() {
    for message in all() {
        let (_, event) = told_to(ReceiverKind::PagerDuty { url: url() }, &message);
        assert!((1..=255).contains(&chars(&event["dedup_key"])), "{event}");
        assert_eq!(event["event_action"], if message.resolved { "resolve" } else { "trigger" });
        if !message.resolved {
            let payload = &event["payload"];
            assert!((1..=1024).contains(&chars(&payload["summary"])) && chars(&payload["source"]) > 0, "{payload}");
            assert!(["critical", "warning", "info"].contains(&payload["severity"].as_str().unwrap()));
            assert!(payload["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        }
        let (request, alert) = told_to(ReceiverKind::Opsgenie { url: url() }, &message);
        if message.resolved {
            assert!(request.url.ends_with("/close?identifierType=alias"), "{}", request.url);
            assert!((1..=25_000).contains(&chars(&alert["note"])), "{alert}");
        } else {
            assert!((1..=130).contains(&chars(&alert["message"])) && chars(&alert["description"]) <= 15_000, "{alert}");
            assert!((1..=512).contains(&chars(&alert["alias"])) && chars(&alert["entity"]) <= 512, "{alert}");
        }
        let (_, alerts) = told_to(ReceiverKind::Alertmanager { url: url() }, &message);
        let labels = alerts[0]["labels"].as_object().unwrap();
        assert!(labels.values().all(|label| chars(label) > 0), "{alerts}");
        assert!(alerts[0]["endsAt"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        assert_eq!(alerts[0].get("startsAt").is_none(), message.resolved);
        let (_, event) = told_to(ReceiverKind::Webhook { url: url() }, &message);
        assert!(["id", "source", "type", "time"].iter().all(|field| chars(&event[field]) > 0), "{event}");
        assert!(event["data"]["to"].is_array() && chars(&event["data"]["title"]) > 0, "{event}");
    }
}

/// <https://discord.com/developers/docs/resources/message#embed-object-embed-limits>: 256, 4096, 25 fields of 1024, 6000
/// characters in all.
#[test]
fn discord_gets_an_embed_within_its_bounds_that_mentions_nobody() {
    for message in all() {
        let (_, body) = told_to(ReceiverKind::Discord, &message);
        assert_eq!(body["allowed_mentions"], json!({"parse": []}));
        let embed = &body["embeds"][0];
        let fields = embed["fields"].as_array().unwrap();
        assert!(fields.len() <= 25 && chars(&embed["title"]) <= 256 && chars(&embed["description"]) <= 4096);
        let mut sum = chars(&embed["title"]) + chars(&embed["description"]);
        for field in fields {
            assert!(chars(&field["value"]) <= 1024 && chars(&field["name"]) <= 256 && chars(&field["value"]) > 0);
            sum += chars(&field["value"]) + chars(&field["name"]);
        }
        assert!(sum <= 6000, "{sum}");
    }
}

/// <https://developers.google.com/workspace/chat/api/reference/rest/v1/cards>: 32 KB in a message.
#[test]
fn google_chat_gets_a_card_whose_texts_are_escaped() {
    for message in all() {
        let (request, body) = told_to(ReceiverKind::GoogleChat, &message);
        assert!(request.body.len() < 32_000);
        let card = &body["cardsV2"][0]["card"];
        let widgets = card["sections"][0]["widgets"].as_array().unwrap();
        let why = widgets.iter().find(|one| one["decoratedText"]["topLabel"] == "Why").unwrap();
        assert!(!why["decoratedText"]["text"].as_str().unwrap().contains('<'));
        let link = &widgets.last().unwrap()["buttonList"]["buttons"][0]["onClick"]["openLink"]["url"];
        assert!(is_runbook(link));
    }
}

/// <https://core.telegram.org/bots/api#sendmessage>: 1 to 4096 characters.
#[test]
fn telegram_gets_a_text_that_it_shows_as_it_is() {
    for message in all() {
        let (request, body) = told_to(ReceiverKind::Telegram { url: url(), chat: "-100123".into() }, &message);
        assert_eq!(request.url, "https://api.example/bot7:hunter2/sendMessage");
        assert_eq!((&body["chat_id"], body.get("parse_mode")), (&json!("-100123"), None));
        assert!((1..=4096).contains(&chars(&body["text"])));
    }
}

#[test]
fn no_request_can_be_printed_and_only_one_that_needs_it_holds_a_secret() {
    for kind in [ReceiverKind::Slack, ReceiverKind::Opsgenie { url: url() }] {
        let (request, _) = told_to(kind, &failover());
        assert_eq!(format!("{request:?}"), "NotificationRequest(hidden)");
        assert!(!String::from_utf8_lossy(&request.body).contains("hunter2"));
    }
    let policy = policy();
    let message = failover();
    let told = ToldMessage { message: &message, policy: &policy, runbook_url: None, now: NOW };
    let empty = secret(&[]).unwrap();
    let missing = request(&receiver(ReceiverKind::Slack), Some(&empty), &told).unwrap_err();
    assert_eq!(missing, NotificationSecretError::Missing("url"));
    assert!(request(&receiver(ReceiverKind::Slack), None, &told).is_err());
    let mail = ReceiverKind::Mail { from: "a@b.example".into(), to: vec![], backends: vec![] };
    assert!(request(&receiver(mail), None, &told).unwrap().is_none());
}

#[test]
fn a_mail_has_no_line_that_is_too_long_on_any_occasion() {
    let policy = policy();
    for message in all() {
        let told = ToldMessage { message: &message, policy: &policy, runbook_url: None, now: NOW };
        let text = String::from_utf8(mail(&told, "ops@example.org", ["a@example.org"])).unwrap();
        assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 998), "{text}");
        assert!(text.contains("\r\nSubject: [mail failover, "), "{text}");
        assert_eq!(text.contains("\r\nReferences: "), message.incident.is_some(), "{text}");
    }
}

#[test]
fn a_mail_is_as_rfc_5322_has_it_and_the_same_in_each_attempt() {
    let policy = policy();
    for message in [failover(), long(), QueuedNotification { why: "ASCII only".to_owned(), ..failover() }] {
        let told = ToldMessage { message: &message, policy: &policy, runbook_url: None, now: NOW };
        let bytes = mail(&told, "ops@example.org", ["a@example.org", "b@example.org"]);
        let later = ToldMessage { now: Timestamp::from_micros(1_900_000_000_000_000), ..told };
        assert_eq!(bytes, mail(&later, "ops@example.org", ["a@example.org", "b@example.org"]));
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 998) && text.ends_with("\r\n"));
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        for header in [
            "From: Mail failover operator <ops@example.org>",
            "To: <a@example.org>,\r\n <b@example.org>",
            "Message-ID: <mf-0123456789abcdef@example.org>",
            "References: <mf-fedcba9876543210@example.org>",
            "Date: Mon, 30 Nov 2026 00:54:20 +0000",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
        ] {
            assert!(head.contains(header), "{header}: {head}");
        }
        let decoded = if head.contains("base64") {
            use base64::Engine;
            let joined = body.replace("\r\n", "");
            String::from_utf8(base64::engine::general_purpose::STANDARD.decode(joined).unwrap()).unwrap()
        } else {
            body.to_owned()
        };
        assert_eq!(decoded.replace("\r\n", "\n"), told.text().plain());
    }
}
