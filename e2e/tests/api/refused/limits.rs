/// Location, capacity and senders of a backend: the name of the case, the spec, and a part of the
/// message.
pub const LIMITS: &[(&str, &str, &str)] = &[
    // Location.
    (
        "with a region that is empty",
        "{smtp: {host: mx.example, port: 25}, location: {region: ''}}",
        "spec.location.region in body should be at least 1 chars long",
    ),
    (
        "with a region that is too long",
        "{smtp: {host: mx.example, port: 25}, location: {region: @64}}",
        "spec.location.region: Too long: may not be more than 63",
    ),
    (
        "with a space in a region",
        "{smtp: {host: mx.example, port: 25}, location: {region: 'a b'}}",
        "spec.location.region in body should match",
    ),
    (
        "with a jurisdiction that is empty",
        "{smtp: {host: mx.example, port: 25}, location: {jurisdiction: ''}}",
        "spec.location.jurisdiction in body should be at least 1 chars long",
    ),
    (
        "with a jurisdiction that is too long",
        "{smtp: {host: mx.example, port: 25}, location: {jurisdiction: @64}}",
        "spec.location.jurisdiction: Too long: may not be more than 63",
    ),
    (
        "with a space in a jurisdiction",
        "{smtp: {host: mx.example, port: 25}, location: {jurisdiction: 'a b'}}",
        "spec.location.jurisdiction in body should match",
    ),
    (
        "with a failure domain that is empty",
        "{smtp: {host: mx.example, port: 25}, location: {failureDomain: ''}}",
        "spec.location.failureDomain in body should be at least 1 chars long",
    ),
    (
        "with a failure domain that is too long",
        "{smtp: {host: mx.example, port: 25}, location: {failureDomain: @64}}",
        "spec.location.failureDomain: Too long: may not be more than 63",
    ),
    (
        "with a space in a failure domain",
        "{smtp: {host: mx.example, port: 25}, location: {failureDomain: 'a b'}}",
        "spec.location.failureDomain in body should match",
    ),
    // Limits.
    (
        "with a number of messages a second of 0",
        "{smtp: {host: mx.example, port: 25}, limits: {messagesPerSecond: 0}}",
        "spec.limits.messagesPerSecond in body should be greater than or equal to 1",
    ),
    (
        "with a number of messages a second of 1000001",
        "{smtp: {host: mx.example, port: 25}, limits: {messagesPerSecond: 1000001}}",
        "spec.limits.messagesPerSecond in body should be less than or equal to 1000000",
    ),
    (
        "with a daily number of messages of 0",
        "{smtp: {host: mx.example, port: 25}, limits: {messagesPerDay: 0}}",
        "spec.limits.messagesPerDay in body should be greater than or equal to 1",
    ),
    (
        "with a daily number of messages of 1000000001",
        "{smtp: {host: mx.example, port: 25}, limits: {messagesPerDay: 1000000001}}",
        "spec.limits.messagesPerDay in body should be less than or equal to 1000000000",
    ),
    (
        "with a number of connections of 0",
        "{smtp: {host: mx.example, port: 25}, limits: {connections: 0}}",
        "spec.limits.connections in body should be greater than or equal to 1",
    ),
    (
        "with a number of connections of 100001",
        "{smtp: {host: mx.example, port: 25}, limits: {connections: 100001}}",
        "spec.limits.connections in body should be less than or equal to 100000",
    ),
    (
        "with a number of messages over a connection of 0",
        "{smtp: {host: mx.example, port: 25}, limits: {messagesPerConnection: 0}}",
        "spec.limits.messagesPerConnection in body should be greater than or equal to 1",
    ),
    (
        "with a number of messages over a connection of 1000001",
        "{smtp: {host: mx.example, port: 25}, limits: {messagesPerConnection: 1000001}}",
        "spec.limits.messagesPerConnection in body should be less than or equal to 1000000",
    ),
    (
        "whose warm-up has no beginning",
        "{smtp: {host: mx.example, port: 25}, limits: {warmUp: {schedule: [200]}}}",
        "spec.limits.warmUp.startedAt: Required value",
    ),
    (
        "whose warm-up has no schedule",
        "{smtp: {host: mx.example, port: 25}, limits: {warmUp: {startedAt: '2026-11-01T00:00:00Z'}}}",
        "spec.limits.warmUp.schedule: Required value",
    ),
    (
        "whose warm-up begins on a day",
        "{smtp: {host: mx.example, port: 25}, limits: {warmUp: {startedAt: '2026-11-01', schedule: [200]}}}",
        "spec.limits.warmUp.startedAt in body should match",
    ),
    (
        "whose warm-up begins at a time without a zone",
        "{smtp: {host: mx.example, port: 25}, limits: {warmUp: {startedAt: '2026-11-01T00:00:00', schedule: [200]}}}",
        "spec.limits.warmUp.startedAt in body should match",
    ),
    (
        "whose warm-up begins on a day that there is not",
        "{smtp: {host: mx.example, port: 25}, limits: {warmUp: {startedAt: '2026-02-30T00:00:00Z', schedule: [200]}}}",
        "spec.limits.warmUp.startedAt in body must be of type date-time",
    ),
    (
        "whose warm-up begins at a time of too many letters",
        "{smtp: {host: mx.example, port: 25}, limits: {warmUp: {startedAt: '2026-11-01T00:00:00.000000000000000000000Z', schedule: [200]}}}",
        "spec.limits.warmUp.startedAt: Too long: may not be more than 40",
    ),
    (
        "whose warm-up has 0 days",
        "{smtp: {host: mx.example, port: 25}, limits: {warmUp: {startedAt: '2026-11-01T00:00:00Z', schedule: []}}}",
        "spec.limits.warmUp.schedule in body should have at least 1 items",
    ),
    (
        "with a day of warm-up of 0",
        "{smtp: {host: mx.example, port: 25}, limits: {warmUp: {startedAt: '2026-11-01T00:00:00Z', schedule: [200, 0]}}}",
        "spec.limits.warmUp.schedule[1] in body should be greater than or equal to 1",
    ),
    (
        "with a day of warm-up of 1000000001",
        "{smtp: {host: mx.example, port: 25}, limits: {warmUp: {startedAt: '2026-11-01T00:00:00Z', schedule: [200, 1000000001]}}}",
        "spec.limits.warmUp.schedule[1] in body should be less than or equal to 1000000000",
    ),
    // Sender domains.
    (
        "with 0 sender domains",
        "{smtp: {host: mx.example, port: 25}, senderDomains: []}",
        "spec.senderDomains in body should have at least 1 items",
    ),
    (
        "with a nameless sender domain",
        "{smtp: {host: mx.example, port: 25}, senderDomains: [{}]}",
        "spec.senderDomains[0].domain: Required value",
    ),
    (
        "with a sender domain that stands there twice",
        "{smtp: {host: mx.example, port: 25}, senderDomains: [{domain: shop.example}, {domain: shop.example}]}",
        "spec.senderDomains[1]: Duplicate value",
    ),
    (
        "with an empty sender domain",
        "{smtp: {host: mx.example, port: 25}, senderDomains: [{domain: ''}]}",
        "spec.senderDomains[0].domain in body should be at least 1 chars long",
    ),
    (
        "with a sender domain that is too long",
        "{smtp: {host: mx.example, port: 25}, senderDomains: [{domain: @254}]}",
        "spec.senderDomains[0].domain: Too long: may not be more than 253",
    ),
    (
        "with a final dot in its sender domain",
        "{smtp: {host: mx.example, port: 25}, senderDomains: [{domain: shop.example.}]}",
        "spec.senderDomains[0].domain in body should match",
    ),
    (
        "with an underscore in its sender domain",
        "{smtp: {host: mx.example, port: 25}, senderDomains: [{domain: _dmarc.example}]}",
        "spec.senderDomains[0].domain in body should match",
    ),
];
