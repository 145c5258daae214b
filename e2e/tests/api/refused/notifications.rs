/// Receivers of notifications: the name of the case, the spec, and a part of the message.
pub const NOTIFICATIONS: &[(&str, &str, &str)] = &[
    // The page on what to do.
    (
        "with a runbook in plain text",
        "{notifications: {runbookUrl: 'http://wiki.example/mail', receivers: [{name: a, type: Slack, secretRef: {name: s}}]}}",
        "spec.notifications.runbookUrl in body should match",
    ),
    (
        "with a space in the URL of its runbook",
        "{notifications: {runbookUrl: 'https://wiki.example/my mail', receivers: [{name: a, type: Slack, secretRef: {name: s}}]}}",
        "spec.notifications.runbookUrl in body should match",
    ),
    (
        "with a runbook nowhere",
        "{notifications: {runbookUrl: 'https://', receivers: [{name: a, type: Slack, secretRef: {name: s}}]}}",
        "spec.notifications.runbookUrl in body should be at least 9 chars long",
    ),
    (
        "with a runbook whose URL is too long",
        "{notifications: {runbookUrl: @1025, receivers: [{name: a, type: Slack, secretRef: {name: s}}]}}",
        "spec.notifications.runbookUrl: Too long: may not be more than 1024",
    ),
    // Receivers.
    (
        "with notifications of nobody",
        "{notifications: {runbookUrl: 'https://wiki.example/mail'}}",
        "spec.notifications.receivers: Required value",
    ),
    (
        "with 0 receivers",
        "{notifications: {receivers: []}}",
        "spec.notifications.receivers in body should have at least 1 items",
    ),
    (
        "with two receivers of one name",
        "{notifications: {receivers: [{name: a, type: Slack, secretRef: {name: s}}, {name: a, type: Teams, secretRef: {name: t}}]}}",
        "spec.notifications.receivers[].name must be unique",
    ),
    (
        "with a nameless receiver",
        "{notifications: {receivers: [{type: Slack, secretRef: {name: s}}]}}",
        "spec.notifications.receivers[0].name: Required value",
    ),
    (
        "with a receiver of an empty name",
        "{notifications: {receivers: [{name: '', type: Slack, secretRef: {name: s}}]}}",
        "spec.notifications.receivers[0].name in body should be at least 1 chars long",
    ),
    (
        "with a receiver whose name is too long",
        "{notifications: {receivers: [{name: @64, type: Slack, secretRef: {name: s}}]}}",
        "spec.notifications.receivers[0].name: Too long: may not be more than 63",
    ),
    (
        "with capitals in the name of a receiver",
        "{notifications: {receivers: [{name: Team, type: Slack, secretRef: {name: s}}]}}",
        "spec.notifications.receivers[0].name in body should match",
    ),
    (
        "with a receiver of no type",
        "{notifications: {receivers: [{name: a, secretRef: {name: s}}]}}",
        "spec.notifications.receivers[0].type: Required value",
    ),
    (
        "with a receiver of unknown type",
        "{notifications: {receivers: [{name: a, type: Pager, secretRef: {name: s}}]}}",
        "spec.notifications.receivers[0].type: Unsupported value: \"Pager\"",
    ),
    // What a receiver is told.
    (
        "with a receiver of an unknown severity",
        "{notifications: {receivers: [{name: a, type: Slack, secretRef: {name: s}, minimum: Error}]}}",
        "spec.notifications.receivers[0].minimum: Unsupported value: \"Error\"",
    ),
    (
        "with a receiver of 0 occasions",
        "{notifications: {receivers: [{name: a, type: Slack, secretRef: {name: s}, occasions: []}]}}",
        "spec.notifications.receivers[0].occasions in body should have at least 1 items",
    ),
    (
        "with a receiver of 17 occasions",
        "{notifications: {receivers: [{name: a, type: Slack, secretRef: {name: s}, occasions: [Failover, Failover, Failover, Failover, Failover, Failover, Failover, Failover, Failover, Failover, Failover, Failover, Failover, Failover, Failover, Failover, Failover]}]}}",
        "spec.notifications.receivers[0].occasions: Too many: 17: must have at most 16 items",
    ),
    (
        "with an occasion that stands there twice",
        "{notifications: {receivers: [{name: a, type: Slack, secretRef: {name: s}, occasions: [Failover, Recovery, Failover]}]}}",
        "spec.notifications.receivers[0].occasions[2]: Duplicate value: \"Failover\"",
    ),
    (
        "with an unknown occasion",
        "{notifications: {receivers: [{name: a, type: Slack, secretRef: {name: s}, occasions: [Switch]}]}}",
        "spec.notifications.receivers[0].occasions[0]: Unsupported value: \"Switch\"",
    ),
    // The place.
    (
        "with a webhook that has no URL",
        "{notifications: {receivers: [{name: a, type: Webhook, secretRef: {name: s}}]}}",
        "spec.notifications.receivers[].url must be set for Webhook and Alertmanager",
    ),
    (
        "with an Alertmanager that has no URL",
        "{notifications: {receivers: [{name: a, type: Alertmanager}]}}",
        "spec.notifications.receivers[].url must be set for Webhook and Alertmanager",
    ),
    (
        "with the URL of a channel in the open",
        "{notifications: {receivers: [{name: a, type: Slack, url: 'https://hooks.example/secret', secretRef: {name: s}}]}}",
        "spec.notifications.receivers[].url has no effect for this type: Slack, Teams, Discord and GoogleChat have it in their Secret, under the key url",
    ),
    (
        "with a webhook in plain text",
        "{notifications: {receivers: [{name: a, type: Webhook, url: 'http://a.example/', secretRef: {name: s}}]}}",
        "spec.notifications.receivers[].url must begin with https://; only Alertmanager may be http://",
    ),
    (
        "with a secret in plain text",
        "{notifications: {receivers: [{name: a, type: Alertmanager, url: 'http://a.example:9093', secretRef: {name: s}}]}}",
        "spec.notifications.receivers[].secretRef and caRef have no effect with http://, which sends no secret: use https://",
    ),
    (
        "with authorities for plain text",
        "{notifications: {receivers: [{name: a, type: Alertmanager, url: 'http://a.example:9093', caRef: {configMap: ca}}]}}",
        "spec.notifications.receivers[].secretRef and caRef have no effect with http://, which sends no secret: use https://",
    ),
    (
        "with a password in a receiver's URL",
        "{notifications: {receivers: [{name: a, type: Webhook, url: 'https://me:secret@a.example/', secretRef: {name: s}}]}}",
        "spec.notifications.receivers[0].url in body should match",
    ),
    (
        "with a receiver's URL that is too short",
        "{notifications: {receivers: [{name: a, type: Alertmanager, url: 'http://'}]}}",
        "spec.notifications.receivers[0].url in body should be at least 8 chars long",
    ),
    (
        "with a receiver's URL that is too long",
        "{notifications: {receivers: [{name: a, type: Webhook, url: @2049, secretRef: {name: s}}]}}",
        "spec.notifications.receivers[0].url: Too long: may not be more than 2048",
    ),
    // The Secret.
    (
        "with a channel without a Secret",
        "{notifications: {receivers: [{name: a, type: Slack}]}}",
        "spec.notifications.receivers[].secretRef must be set for this type",
    ),
    (
        "with a receiver's Secret without a name",
        "{notifications: {receivers: [{name: a, type: Slack, secretRef: {}}]}}",
        "spec.notifications.receivers[0].secretRef.name: Required value",
    ),
    (
        "with a receiver's Secret of an empty name",
        "{notifications: {receivers: [{name: a, type: Slack, secretRef: {name: ''}}]}}",
        "spec.notifications.receivers[0].secretRef.name in body should be at least 1 chars long",
    ),
    (
        "with a receiver's Secret whose name is too long",
        "{notifications: {receivers: [{name: a, type: Slack, secretRef: {name: @254}}]}}",
        "spec.notifications.receivers[0].secretRef.name: Too long: may not be more than 253",
    ),
    (
        "with a receiver's Secret of another namespace",
        "{notifications: {receivers: [{name: a, type: Slack, secretRef: {name: other/s}}]}}",
        "spec.notifications.receivers[0].secretRef.name in body should match",
    ),
    // Authorities.
    (
        "with no place of a receiver's authorities",
        "{notifications: {receivers: [{name: a, type: Webhook, url: 'https://a.example', secretRef: {name: s}, caRef: {key: ca.crt}}]}}",
        "exactly one of caRef.configMap and caRef.secret must be set",
    ),
    (
        "with two places of a receiver's authorities",
        "{notifications: {receivers: [{name: a, type: Webhook, url: 'https://a.example', secretRef: {name: s}, caRef: {secret: ca, configMap: ca}}]}}",
        "exactly one of caRef.configMap and caRef.secret must be set",
    ),
    (
        "with an empty configMap of a receiver's authorities",
        "{notifications: {receivers: [{name: a, type: Webhook, url: 'https://a.example', secretRef: {name: s}, caRef: {configMap: ''}}]}}",
        "spec.notifications.receivers[0].caRef.configMap in body should be at least 1 chars long",
    ),
    (
        "with a configMap of a receiver's authorities that is too long",
        "{notifications: {receivers: [{name: a, type: Webhook, url: 'https://a.example', secretRef: {name: s}, caRef: {configMap: @254}}]}}",
        "spec.notifications.receivers[0].caRef.configMap: Too long: may not be more than 253",
    ),
    (
        "with an empty secret of a receiver's authorities",
        "{notifications: {receivers: [{name: a, type: Webhook, url: 'https://a.example', secretRef: {name: s}, caRef: {secret: ''}}]}}",
        "spec.notifications.receivers[0].caRef.secret in body should be at least 1 chars long",
    ),
    (
        "with a secret of a receiver's authorities that is too long",
        "{notifications: {receivers: [{name: a, type: Webhook, url: 'https://a.example', secretRef: {name: s}, caRef: {secret: @254}}]}}",
        "spec.notifications.receivers[0].caRef.secret: Too long: may not be more than 253",
    ),
    (
        "with an empty key of a receiver's authorities",
        "{notifications: {receivers: [{name: a, type: Webhook, url: 'https://a.example', secretRef: {name: s}, caRef: {secret: ca, key: ''}}]}}",
        "spec.notifications.receivers[0].caRef.key in body should be at least 1 chars long",
    ),
    (
        "with a key of a receiver's authorities that is too long",
        "{notifications: {receivers: [{name: a, type: Webhook, url: 'https://a.example', secretRef: {name: s}, caRef: {secret: ca, key: @254}}]}}",
        "spec.notifications.receivers[0].caRef.key: Too long: may not be more than 253",
    ),
    (
        "with a key of a receiver's authorities that no object can have",
        "{notifications: {receivers: [{name: a, type: Webhook, url: 'https://a.example', secretRef: {name: s}, caRef: {secret: ca, key: 'a/b'}}]}}",
        "spec.notifications.receivers[0].caRef.key in body should match",
    ),
    // Telegram.
    (
        "with a bot without a chat",
        "{notifications: {receivers: [{name: a, type: Telegram, secretRef: {name: s}}]}}",
        "spec.notifications.receivers[].chat must be set for Telegram, and for no other type",
    ),
    (
        "with a chat of Slack",
        "{notifications: {receivers: [{name: a, type: Slack, secretRef: {name: s}, chat: '-100123'}]}}",
        "spec.notifications.receivers[].chat must be set for Telegram, and for no other type",
    ),
    (
        "with an empty chat",
        "{notifications: {receivers: [{name: a, type: Telegram, secretRef: {name: s}, chat: ''}]}}",
        "spec.notifications.receivers[0].chat in body should be at least 1 chars long",
    ),
    (
        "with a chat that is too long",
        "{notifications: {receivers: [{name: a, type: Telegram, secretRef: {name: s}, chat: @65}]}}",
        "spec.notifications.receivers[0].chat: Too long: may not be more than 64",
    ),
    (
        "with a channel without its sign",
        "{notifications: {receivers: [{name: a, type: Telegram, secretRef: {name: s}, chat: operations}]}}",
        "spec.notifications.receivers[0].chat in body should match",
    ),
    // Mail.
    (
        "with mail to nobody",
        "{notifications: {receivers: [{name: a, type: Mail}]}}",
        "spec.notifications.receivers[].mail must be set for Mail, and for no other type",
    ),
    (
        "with mail of Slack",
        "{notifications: {receivers: [{name: a, type: Slack, secretRef: {name: s}, mail: {backends: [a], from: ops@shop.example, to: [me@shop.example]}}]}}",
        "spec.notifications.receivers[].mail must be set for Mail, and for no other type",
    ),
    (
        "with mail and a Secret",
        "{notifications: {receivers: [{name: a, type: Mail, secretRef: {name: s}, mail: {backends: [a], from: ops@shop.example, to: [me@shop.example]}}]}}",
        "spec.notifications.receivers[].secretRef and caRef have no effect for Mail: the SendingBackend has them",
    ),
    (
        "with mail and authorities",
        "{notifications: {receivers: [{name: a, type: Mail, caRef: {secret: ca}, mail: {backends: [a], from: ops@shop.example, to: [me@shop.example]}}]}}",
        "spec.notifications.receivers[].secretRef and caRef have no effect for Mail: the SendingBackend has them",
    ),
    (
        "with mail without backends",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {from: ops@shop.example, to: [me@shop.example]}}]}}",
        "spec.notifications.receivers[0].mail.backends: Required value",
    ),
    (
        "with mail through 0 backends",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {backends: [], from: ops@shop.example, to: [me@shop.example]}}]}}",
        "spec.notifications.receivers[0].mail.backends in body should have at least 1 items",
    ),
    (
        "with mail through 9 backends",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {backends: [a, b, c, d, e, f, g, h, i], from: ops@shop.example, to: [me@shop.example]}}]}}",
        "spec.notifications.receivers[0].mail.backends: Too many: 9: must have at most 8 items",
    ),
    (
        "with mail through a backend of an empty name",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {backends: [''], from: ops@shop.example, to: [me@shop.example]}}]}}",
        "spec.notifications.receivers[0].mail.backends[0] in body should be at least 1 chars long",
    ),
    (
        "with mail through a backend whose name is too long",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {backends: [@254], from: ops@shop.example, to: [me@shop.example]}}]}}",
        "spec.notifications.receivers[0].mail.backends[0]: Too long: may not be more than 253",
    ),
    (
        "with mail without a sender",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {backends: [a], to: [me@shop.example]}}]}}",
        "spec.notifications.receivers[0].mail.from: Required value",
    ),
    (
        "with mail whose sender is too short",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {backends: [a], from: 'a@', to: [me@shop.example]}}]}}",
        "spec.notifications.receivers[0].mail.from in body should be at least 3 chars long",
    ),
    (
        "with mail whose sender is too long",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {backends: [a], from: @255, to: [me@shop.example]}}]}}",
        "spec.notifications.receivers[0].mail.from: Too long: may not be more than 254",
    ),
    (
        "with mail whose sender has a name",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {backends: [a], from: 'Ops <ops@shop.example>', to: [me@shop.example]}}]}}",
        "spec.notifications.receivers[0].mail.from in body should match",
    ),
    (
        "with mail without recipients",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {backends: [a], from: ops@shop.example}}]}}",
        "spec.notifications.receivers[0].mail.to: Required value",
    ),
    (
        "with mail to 0 recipients",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {backends: [a], from: ops@shop.example, to: []}}]}}",
        "spec.notifications.receivers[0].mail.to in body should have at least 1 items",
    ),
    (
        "with mail to 9 recipients",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {backends: [a], from: ops@shop.example, to: [a@x.example, b@x.example, c@x.example, d@x.example, e@x.example, f@x.example, g@x.example, h@x.example, i@x.example]}}]}}",
        "spec.notifications.receivers[0].mail.to: Too many: 9: must have at most 8 items",
    ),
    (
        "with mail to a recipient that is too short",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {backends: [a], from: ops@shop.example, to: ['a@']}}]}}",
        "spec.notifications.receivers[0].mail.to[0] in body should be at least 3 chars long",
    ),
    (
        "with mail to a recipient that is too long",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {backends: [a], from: ops@shop.example, to: [@255]}}]}}",
        "spec.notifications.receivers[0].mail.to[0]: Too long: may not be more than 254",
    ),
    (
        "with two recipients in one text",
        "{notifications: {receivers: [{name: a, type: Mail, mail: {backends: [a], from: ops@shop.example, to: ['me@shop.example, you@shop.example']}}]}}",
        "spec.notifications.receivers[0].mail.to[0] in body should match",
    ),
];
