//! Chats: Slack, Microsoft Teams, Discord, Google Chat, Telegram.

use mail_failover_core::model::Severity;
use serde_json::{Value, json};

use super::{ToldMessage, cut};
use crate::message::MessageText;

/// An incoming webhook of Slack, with Block Kit. Values stand as `plain_text`, which Slack does not interpret.
pub(super) fn slack(text: &MessageText) -> Value {
    let fields: Vec<_> = text.facts.iter().map(|(label, fact)| plain(&format!("{label}: {fact}"), 2000)).collect();
    let mut blocks = vec![
        json!({"type": "header", "text": plain(&text.title, 150)}),
        // At most ten of them.
        json!({"type": "section", "fields": fields.into_iter().take(10).collect::<Vec<_>>()}),
        json!({"type": "section", "text": plain(&format!("What to do: {}", text.advice), 3000)}),
    ];
    if let Some(link) = &text.link {
        blocks.push(json!({"type": "actions", "elements": [
            {"type": "button", "text": plain("Runbook", 75), "url": cut(link, 3000)}]}));
    }
    // Shown where blocks are not, as in a phone's notification; mrkdwn, so that three characters are escaped.
    let fallback = text.title.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({"text": cut(&fallback, 3000), "blocks": blocks})
}

fn plain(text: &str, max: usize) -> Value {
    json!({"type": "plain_text", "text": cut(text, max), "emoji": false})
}

/// A workflow of Microsoft Teams ("When a Teams webhook request is received"), with an adaptive card.
pub(super) fn teams(text: &MessageText) -> Value {
    let facts: Vec<_> =
        text.facts.iter().map(|(label, fact)| json!({"title": label, "value": markdown(&cut(fact, 2000))})).collect();
    let color = match text.severity {
        Severity::Critical => "Attention",
        Severity::Warning => "Warning",
        Severity::Info => "Good",
    };
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "TextBlock", "size": "Medium", "weight": "Bolder", "color": color, "wrap": true,
             "text": markdown(&cut(&text.title, 500))},
            {"type": "FactSet", "facts": facts},
            {"type": "TextBlock", "wrap": true, "text": markdown(&format!("What to do: {}", text.advice))},
        ],
    });
    if let Some(link) = &text.link {
        card["actions"] = json!([{"type": "Action.OpenUrl", "title": "Runbook", "url": link}]);
    }
    json!({"type": "message", "attachments": [
        {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card}]})
}

/// A text whose characters mean nothing in Markdown.
fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        // The backtick of commands stays: cards show it as it is.
        if matches!(character, '\\' | '*' | '_' | '[' | ']' | '(' | ')' | '#' | '~' | '>' | '<' | '|') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// A webhook of Discord, with an embed. Nobody is mentioned, whatever a text says.
pub(super) fn discord(text: &MessageText) -> Value {
    let fields: Vec<_> = text
        .facts
        .iter()
        .map(|(label, fact)| json!({"name": label, "value": cut(&markdown(fact), 1024), "inline": false}))
        .collect();
    let color = match text.severity {
        Severity::Critical => 0x00d9_2b2b,
        Severity::Warning => 0x00e0_a100,
        Severity::Info => 0x002e_9e4f,
    };
    let mut embed = json!({
        "title": cut(&text.title, 256),
        "description": cut(&format!("What to do: {}", text.advice), 4096),
        "color": color,
        "fields": fields,
    });
    if let Some(link) = &text.link {
        embed["url"] = json!(link);
    }
    json!({"embeds": [embed], "allowed_mentions": {"parse": []}})
}

/// A webhook of Google Chat, with a card. Its texts take a few tags of HTML, which are escaped.
pub(super) fn google_chat(told: &ToldMessage<'_>, text: &MessageText) -> Value {
    let mut widgets: Vec<_> = text
        .facts
        .iter()
        .map(|(label, fact)| json!({"decoratedText": {"topLabel": label, "text": html(&cut(fact, 2000)), "wrapText": true}}))
        .collect();
    widgets.push(json!({"textParagraph": {"text": html(&format!("What to do: {}", text.advice))}}));
    if let Some(link) = &text.link {
        widgets.push(json!({"buttonList": {"buttons": [{"text": "Runbook", "onClick": {"openLink": {"url": link}}}]}}));
    }
    let header = json!({"title": cut(&text.title, 200), "subtitle": text.severity.as_str()});
    json!({"cardsV2": [{"cardId": told.message.id, "card": {"header": header, "sections": [{"widgets": widgets}]}}]})
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// `sendMessage` of Telegram's Bot API, without a `parse_mode`: the text is shown as it is.
pub(super) fn telegram(chat: &str, text: &MessageText) -> Value {
    json!({"chat_id": chat, "text": cut(&text.plain(), 4096), "link_preview_options": {"is_disabled": true}})
}
