use super::{Case, case, list};
use crate::object::Kind;

/// The name of the case, the spec, and a part of the message.
pub const DNS: &[(&str, &str, &str)] = &[
    // The output as a whole.
    (
        "with two DNS outputs of one name",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}, {dns: {zone: a.example, name: A.Example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[].dns.name must be unique; without one it is the zone",
    ),
    (
        "with DNS records of nothing",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "at least one of spec.outputs[].dns.mx and spec.outputs[].dns.records must be set",
    ),
    (
        "with DNS records without a way to write them",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}]}}]}",
        "exactly one of spec.outputs[].dns.rfc2136, spec.outputs[].dns.dnsEndpoint and spec.outputs[].dns.api must be set",
    ),
    (
        "with a mode of an MX that is not led",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mode: Reorder, records: [{name: a.example, type: A, values: [192.0.2.1]}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[].dns.mode has an effect with mx only",
    ),
    (
        "with an MX of an unknown mode",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mode: Merge, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.mode: Unsupported value: \"Merge\"",
    ),
    // Zone and name.
    (
        "with DNS records without a zone",
        "{backends: [{name: a}], outputs: [{dns: {mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.zone: Required value",
    ),
    (
        "with an empty zone of DNS records",
        "{backends: [{name: a}], outputs: [{dns: {zone: '', mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.zone in body should be at least 1 chars long",
    ),
    (
        "with a zone of DNS records that is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: @63.@63.@63.@63, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.zone: Too long: may not be more than 253",
    ),
    (
        "with a final dot in a zone of DNS records",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example., mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.zone in body should match",
    ),
    (
        "with an empty name of an MX",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, name: '', mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.name in body should be at least 1 chars long",
    ),
    (
        "with a name of an MX that is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, name: @63.@63.@63.@63, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.name: Too long: may not be more than 253",
    ),
    (
        "with an empty label in a name of an MX",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, name: b..a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.name in body should match",
    ),
    // TTL and timeout.
    (
        "with DNS records with a TTL of half a second",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], ttl: 500ms, rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[].dns.ttl must be whole seconds between 1s and 24h",
    ),
    (
        "with DNS records with a TTL of one and a half seconds",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], ttl: 1.5s, rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[].dns.ttl must be whole seconds between 1s and 24h",
    ),
    (
        "with DNS records with a TTL of 25 hours",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], ttl: 25h, rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[].dns.ttl must be whole seconds between 1s and 24h",
    ),
    (
        "with DNS records whose TTL is none",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], ttl: soon, rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.ttl in body should match",
    ),
    (
        "with DNS records whose TTL is too long a text",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], ttl: 0000000000000000000060s, rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.ttl: Too long: may not be more than 20",
    ),
    (
        "with DNS records that are given up after half a second",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], timeout: 500ms, rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[].dns.timeout must be between 1s and 30s",
    ),
    (
        "with DNS records that are given up after a minute",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], timeout: 1m, rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[].dns.timeout must be between 1s and 30s",
    ),
    (
        "with DNS records whose timeout is none",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], timeout: soon, rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.timeout in body should match",
    ),
    (
        "with DNS records whose timeout is too long a text",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], timeout: 0000000000000000000005s, rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.timeout: Too long: may not be more than 20",
    ),
    // Exchangers.
    (
        "with an exchanger of a backend of another route",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}, {backend: b, host: mx.b.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[].dns.mx[].backend must be one of spec.backends",
    ),
    (
        "with an exchanger of no backend",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.mx[0].backend: Required value",
    ),
    (
        "with an exchanger of a backend of an empty name",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: '', host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.mx[0].backend in body should be at least 1 chars long",
    ),
    (
        "with an exchanger of a backend whose name is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: @254, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.mx[0].backend: Too long: may not be more than 253",
    ),
    (
        "with capitals in the name of an exchanger's backend",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: A, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.mx[0].backend in body should match",
    ),
    (
        "with an exchanger without a host",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.mx[0].host: Required value",
    ),
    (
        "with an exchanger of an empty host",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: ''}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.mx[0].host in body should be at least 1 chars long",
    ),
    (
        "with an exchanger whose host is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: @63.@63.@63.@63}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.mx[0].host: Too long: may not be more than 253",
    ),
    (
        "with a final dot in an exchanger's host",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example.}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.mx[0].host in body should match",
    ),
    (
        "with an exchanger's preference below 0",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example, preference: -1}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.mx[0].preference in body should be greater than or equal to 0",
    ),
    // Further records.
    (
        "with a DNS record outside its zone",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, records: [{name: b.example, type: A, values: [192.0.2.1]}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[].dns.records[].name must be the zone or lie below it",
    ),
    (
        "with a DNS record twice",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, records: [{name: a.example, type: A, values: [192.0.2.1]}, {name: A.Example, type: A, values: [192.0.2.2]}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[].dns.records[] must be unique by name and type",
    ),
    (
        "with a DNS record without a name",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, records: [{type: A, values: [192.0.2.1]}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.records[0].name: Required value",
    ),
    (
        "with a DNS record of an empty name",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, records: [{name: '', type: A, values: [192.0.2.1]}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.records[0].name in body should be at least 1 chars long",
    ),
    (
        "with a DNS record whose name is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, records: [{name: @63.@63.@63.@63, type: A, values: [192.0.2.1]}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.records[0].name: Too long: may not be more than 253",
    ),
    (
        "with a DNS record for every name",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, records: [{name: '*.a.example', type: A, values: [192.0.2.1]}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.records[0].name in body should match",
    ),
    (
        "with a DNS record without a type",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, records: [{name: a.example, values: [192.0.2.1]}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.records[0].type: Required value",
    ),
    (
        "with a DNS record without values",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, records: [{name: a.example, type: A}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.records[0].values: Required value",
    ),
    (
        "with a DNS record of 0 values",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, records: [{name: a.example, type: A, values: []}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.records[0].values in body should have at least 1 items",
    ),
    (
        "with a DNS record of 9 values",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, records: [{name: a.example, type: TXT, values: [a, b, c, d, e, f, g, h, i]}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.records[0].values: Too many: 9: must have at most 8 items",
    ),
    (
        "with a DNS record of an empty value",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, records: [{name: a.example, type: A, values: ['']}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.records[0].values[0] in body should be at least 1 chars long",
    ),
    (
        "with a DNS record whose value is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, records: [{name: a.example, type: TXT, values: [@2049]}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.records[0].values[0]: Too long: may not be more than 2048",
    ),
    // The object of external-dns.
    (
        "with DNS records with two ways to write them",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}, dnsEndpoint: {name: a}}}]}",
        "exactly one of spec.outputs[].dns.rfc2136, spec.outputs[].dns.dnsEndpoint and spec.outputs[].dns.api must be set",
    ),
    (
        "with a DNSEndpoint without a name",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], dnsEndpoint: {}}}]}",
        "spec.outputs[0].dns.dnsEndpoint.name: Required value",
    ),
    (
        "with a DNSEndpoint of an empty name",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], dnsEndpoint: {name: ''}}}]}",
        "spec.outputs[0].dns.dnsEndpoint.name in body should be at least 1 chars long",
    ),
    (
        "with a DNSEndpoint whose name is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], dnsEndpoint: {name: @254}}}]}",
        "spec.outputs[0].dns.dnsEndpoint.name: Too long: may not be more than 253",
    ),
    (
        "with a DNSEndpoint whose name has capital letters",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], dnsEndpoint: {name: A}}}]}",
        "spec.outputs[0].dns.dnsEndpoint.name in body should match",
    ),
    (
        "with a DNSEndpoint that is neither kept nor removed",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], dnsEndpoint: {name: a, onDelete: Orphan}}}]}",
        "spec.outputs[0].dns.dnsEndpoint.onDelete: Unsupported value: \"Orphan\"",
    ),
    (
        "with a DNSEndpoint with 17 labels",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], dnsEndpoint: {name: a, labels: {a: x, b: x, c: x, d: x, e: x, f: x, g: x, h: x, i: x, j: x, k: x, l: x, m: x, n: x, o: x, p: x, q: x}}}}]}",
        "spec.outputs[0].dns.dnsEndpoint.labels: Too many: 17: must have at most 16 items",
    ),
    (
        "with a DNSEndpoint with 17 annotations",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], dnsEndpoint: {name: a, annotations: {a: x, b: x, c: x, d: x, e: x, f: x, g: x, h: x, i: x, j: x, k: x, l: x, m: x, n: x, o: x, p: x, q: x}}}}]}",
        "spec.outputs[0].dns.dnsEndpoint.annotations: Too many: 17: must have at most 16 items",
    ),
    (
        "with an authority of a DNSEndpoint that is no server",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], dnsEndpoint: {name: a, authorities: ['a b']}}}]}",
        "spec.outputs[0].dns.dnsEndpoint.authorities[0] in body should match",
    ),
    (
        "with an empty authority of a DNSEndpoint",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], dnsEndpoint: {name: a, authorities: ['']}}}]}",
        "spec.outputs[0].dns.dnsEndpoint.authorities[0] in body should be at least 1 chars long",
    ),
    (
        "with 17 authorities of a DNSEndpoint",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], dnsEndpoint: {name: a, authorities: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q]}}}]}",
        "spec.outputs[0].dns.dnsEndpoint.authorities: Too many: 17: must have at most 16 items",
    ),
    (
        "with an authority of a DNSEndpoint that is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], dnsEndpoint: {name: a, authorities: [@261]}}}]}",
        "spec.outputs[0].dns.dnsEndpoint.authorities[0]: Too long: may not be more than 260",
    ),
    // Servers, authorities and key.
    (
        "with DNS records whose servers are missing",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.rfc2136.servers: Required value",
    ),
    (
        "with DNS records with 5 servers",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns1, ns2, ns3, ns4, ns5], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.rfc2136.servers: Too many: 5: must have at most 4 items",
    ),
    (
        "with an empty DNS server",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [''], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.rfc2136.servers[0] in body should be at least 1 chars long",
    ),
    (
        "with a DNS server that is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [@261], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.rfc2136.servers[0]: Too long: may not be more than 260",
    ),
    (
        "with a URL of a DNS server",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: ['dns://ns.a.example'], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.rfc2136.servers[0] in body should match",
    ),
    (
        "with an empty DNS authority",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], authorities: [''], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.rfc2136.authorities[0] in body should be at least 1 chars long",
    ),
    (
        "with a DNS authority that is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], authorities: [@261], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.rfc2136.authorities[0]: Too long: may not be more than 260",
    ),
    (
        "with a DNS authority at a port that is none",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], authorities: ['ns.a.example:domain'], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.rfc2136.authorities[0] in body should match",
    ),
    (
        "with DNS updates that nobody signs",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns]}}}]}",
        "spec.outputs[0].dns.rfc2136.tsigSecretRef: Required value",
    ),
    (
        "with a TSIG key's Secret without a name",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {}}}}]}",
        "spec.outputs[0].dns.rfc2136.tsigSecretRef.name: Required value",
    ),
    (
        "with a TSIG key's Secret of an empty name",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: ''}}}}]}",
        "spec.outputs[0].dns.rfc2136.tsigSecretRef.name in body should be at least 1 chars long",
    ),
    (
        "with a TSIG key's Secret whose name is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: @254}}}}]}",
        "spec.outputs[0].dns.rfc2136.tsigSecretRef.name: Too long: may not be more than 253",
    ),
    (
        "with a TSIG key's Secret of another namespace",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: other/s}}}}]}",
        "spec.outputs[0].dns.rfc2136.tsigSecretRef.name in body should match",
    ),
];

/// Lists with one entry more than allowed.
pub fn long_lists() -> Vec<Case> {
    vec![
        case(
            Kind::Route,
            "with 33 exchangers",
            format!(
                "{{backends: [{{name: a}}], outputs: [{{dns: {{zone: a.example, mx: [{}], rfc2136: {{servers: [ns], tsigSecretRef: {{name: s}}}}}}}}]}}",
                list(33, "{backend: a, host: mx#.a.example}")
            ),
            "spec.outputs[0].dns.mx: Too many: 33: must have at most 32 items",
        ),
        case(
            Kind::Route,
            "with 9 DNS records",
            format!(
                "{{backends: [{{name: a}}], outputs: [{{dns: {{zone: a.example, records: [{}], rfc2136: {{servers: [ns], tsigSecretRef: {{name: s}}}}}}}}]}}",
                list(9, "{name: r#.a.example, type: A, values: [192.0.2.#]}")
            ),
            "spec.outputs[0].dns.records: Too many: 9: must have at most 8 items",
        ),
        case(
            Kind::Route,
            "with 17 DNS authorities",
            format!(
                "{{backends: [{{name: a}}], outputs: [{{dns: {{zone: a.example, mx: [{{backend: a, host: mx.a.example}}], rfc2136: {{servers: [ns], authorities: [{}], tsigSecretRef: {{name: s}}}}}}}}]}}",
                list(17, "ns#.a.example")
            ),
            "spec.outputs[0].dns.rfc2136.authorities: Too many: 17: must have at most 16 items",
        ),
    ]
}
