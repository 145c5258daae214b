/// The name of the case, the spec, and a part of the message.
pub const ROUTES: &[(&str, &str, &str)] = &[
    (
        "with an unknown field",
        "{backends: [{name: a, share: 2}], outputs: [{configMap: {name: c, format: Env}}]}",
        "unknown field \"spec.backends[0].share\"",
    ),
    // Backends.
    ("without backends", "{outputs: [{configMap: {name: c, format: Env}}]}", "spec.backends: Required value"),
    (
        "with 0 backends",
        "{backends: [], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.backends in body should have at least 1 items",
    ),
    (
        "that lists a backend twice",
        "{backends: [{name: a}, {name: b}, {name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.backends[].name must be unique: a backend cannot stand in for itself",
    ),
    (
        "with a nameless backend",
        "{backends: [{}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.backends[0].name: Required value",
    ),
    (
        "with an empty backend's name",
        "{backends: [{name: ''}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.backends[0].name in body should be at least 1 chars long",
    ),
    (
        "with a backend's name that is too long",
        "{backends: [{name: @254}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.backends[0].name: Too long: may not be more than 253",
    ),
    // Policy and strategy.
    (
        "whose policy has no name",
        "{policyRef: {}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.policyRef.name: Required value",
    ),
    (
        "whose policy has an empty name",
        "{policyRef: {name: ''}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.policyRef.name in body should be at least 1 chars long",
    ),
    (
        "with a policy's name that is too long",
        "{policyRef: {name: @254}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.policyRef.name: Too long: may not be more than 253",
    ),
    (
        "with an unknown strategy",
        "{strategy: Weighted, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.strategy: Unsupported value: \"Weighted\": supported values: \"ActivePassive\"",
    ),
    // Outputs.
    ("without outputs", "{backends: [{name: a}]}", "spec.outputs: Required value"),
    ("with 0 outputs", "{backends: [{name: a}], outputs: []}", "spec.outputs in body should have at least 1 items"),
    (
        "with an empty output",
        "{backends: [{name: a}], outputs: [{}]}",
        "exactly one of spec.outputs[].service, spec.outputs[].configMap, spec.outputs[].agent, spec.outputs[].webhook and spec.outputs[].dns must be set",
    ),
    (
        "with an output that is both",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp, port: 25}]}, configMap: {name: c, format: Env}}]}",
        "exactly one of spec.outputs[].service, spec.outputs[].configMap, spec.outputs[].agent, spec.outputs[].webhook and spec.outputs[].dns must be set",
    ),
    (
        "with an output for both an agent and another reader",
        "{backends: [{name: a}], outputs: [{agent: {configMap: a}, configMap: {name: c, format: Env}}]}",
        "exactly one of spec.outputs[].service, spec.outputs[].configMap, spec.outputs[].agent, spec.outputs[].webhook and spec.outputs[].dns must be set",
    ),
    (
        "with two agent outputs into one ConfigMap",
        "{backends: [{name: a}], outputs: [{agent: {configMap: c}}, {agent: {configMap: c, serviceAccountName: mta}}]}",
        "spec.outputs[].agent.configMap must be unique, among spec.outputs[].configMap.name, too",
    ),
    (
        "with an agent output into the ConfigMap of another output",
        "{backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}, {agent: {configMap: c}}]}",
        "spec.outputs[].agent.configMap must be unique, among spec.outputs[].configMap.name, too",
    ),
    (
        "with an agent output without a ConfigMap",
        "{backends: [{name: a}], outputs: [{agent: {}}]}",
        "spec.outputs[0].agent.configMap: Required value",
    ),
    (
        "with an agent output of an empty name",
        "{backends: [{name: a}], outputs: [{agent: {configMap: ''}}]}",
        "spec.outputs[0].agent.configMap in body should be at least 1 chars long",
    ),
    (
        "with an agent output whose name is too long",
        "{backends: [{name: a}], outputs: [{agent: {configMap: @254}}]}",
        "spec.outputs[0].agent.configMap: Too long: may not be more than 253",
    ),
    (
        "with capitals in the name of an agent output",
        "{backends: [{name: a}], outputs: [{agent: {configMap: Mail}}]}",
        "spec.outputs[0].agent.configMap in body should match",
    ),
    (
        "with agents of a service account of an empty name",
        "{backends: [{name: a}], outputs: [{agent: {configMap: c, serviceAccountName: ''}}]}",
        "spec.outputs[0].agent.serviceAccountName in body should be at least 1 chars long",
    ),
    (
        "with agents of a service account whose name is too long",
        "{backends: [{name: a}], outputs: [{agent: {configMap: c, serviceAccountName: @254}}]}",
        "spec.outputs[0].agent.serviceAccountName: Too long: may not be more than 253",
    ),
    (
        "with agents of a service account of another namespace",
        "{backends: [{name: a}], outputs: [{agent: {configMap: c, serviceAccountName: 'other:mta'}}]}",
        "spec.outputs[0].agent.serviceAccountName in body should match",
    ),
    (
        "with DNS records without a server",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.rfc2136.servers in body should have at least 1 items",
    ),
    (
        "with DNS records of a type that is not led",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, records: [{name: a.example, type: NS, values: [b]}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.records[0].type: Unsupported value: \"NS\"",
    ),
    (
        "with an exchanger's preference out of range",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example, preference: 65536}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.mx[0].preference in body should be less than or equal to 65535",
    ),
    (
        "with an MX that leaves a backend out",
        "{backends: [{name: a}, {name: b}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[].dns.mx must name a host for every backend of spec.backends",
    ),
    (
        "with a DNS name outside its zone",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, name: b.example, mx: [{backend: a, host: mx.a.example}], rfc2136: {servers: [ns], tsigSecretRef: {name: s}}}}]}",
        "spec.outputs[].dns.name must be the zone or lie below it",
    ),
    (
        "with a webhook without a name",
        "{backends: [{name: a}], outputs: [{webhook: {url: 'https://a.example', secretRef: {name: s}}}]}",
        "spec.outputs[0].webhook.name: Required value",
    ),
    (
        "with a webhook of an empty name",
        "{backends: [{name: a}], outputs: [{webhook: {name: '', url: 'https://a.example', secretRef: {name: s}}}]}",
        "spec.outputs[0].webhook.name in body should be at least 1 chars long",
    ),
    (
        "with a webhook whose name is too long",
        "{backends: [{name: a}], outputs: [{webhook: {name: @64, url: 'https://a.example', secretRef: {name: s}}}]}",
        "spec.outputs[0].webhook.name: Too long: may not be more than 63",
    ),
    (
        "with capitals in the name of a webhook",
        "{backends: [{name: a}], outputs: [{webhook: {name: Flags, url: 'https://a.example', secretRef: {name: s}}}]}",
        "spec.outputs[0].webhook.name in body should match",
    ),
    (
        "with a webhook without a URL",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, secretRef: {name: s}}}]}",
        "spec.outputs[0].webhook.url: Required value",
    ),
    (
        "with a webhook in plain text",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'http://a.example/', secretRef: {name: s}}}]}",
        "spec.outputs[0].webhook.url in body should match",
    ),
    (
        "with a password in a webhook's URL",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://me:secret@a.example/', secretRef: {name: s}}}]}",
        "spec.outputs[0].webhook.url in body should match",
    ),
    (
        "with a webhook's URL that is too short",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://', secretRef: {name: s}}}]}",
        "spec.outputs[0].webhook.url in body should be at least 9 chars long",
    ),
    (
        "with a webhook's URL that is too long",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: @2049, secretRef: {name: s}}}]}",
        "spec.outputs[0].webhook.url: Too long: may not be more than 2048",
    ),
    (
        "with a webhook by GET",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', method: GET, secretRef: {name: s}}}]}",
        "spec.outputs[0].webhook.method: Unsupported value: \"GET\"",
    ),
    (
        "with a webhook that nobody signs",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example'}}]}",
        "spec.outputs[0].webhook.secretRef: Required value",
    ),
    (
        "with a webhook's Secret without a name",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {}}}]}",
        "spec.outputs[0].webhook.secretRef.name: Required value",
    ),
    (
        "with a webhook's Secret of an empty name",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: ''}}}]}",
        "spec.outputs[0].webhook.secretRef.name in body should be at least 1 chars long",
    ),
    (
        "with a webhook's Secret whose name is too long",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: @254}}}]}",
        "spec.outputs[0].webhook.secretRef.name: Too long: may not be more than 253",
    ),
    (
        "with a webhook's Secret of another namespace",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: other/s}}}]}",
        "spec.outputs[0].webhook.secretRef.name in body should match",
    ),
    (
        "with a webhook's body of 8193 characters",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, body: @8193}}]}",
        "spec.outputs[0].webhook.body: Too long: may not be more than 8192",
    ),
    (
        "with an empty webhook's body",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, body: ''}}]}",
        "spec.outputs[0].webhook.body in body should be at least 1 chars long",
    ),
    (
        "with a content type and no body",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, contentType: text/plain}}]}",
        "spec.outputs[].webhook.contentType has an effect with body only: without one the body is a CloudEvent",
    ),
    (
        "with a content type that is none",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, body: x, contentType: json}}]}",
        "spec.outputs[0].webhook.contentType in body should match",
    ),
    (
        "with a content type whose parameter has no value",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, body: x, contentType: text/plain; charset=utf-8; a}}]}",
        "spec.outputs[0].webhook.contentType in body should match",
    ),
    (
        "with a content type that is too short",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, body: x, contentType: js}}]}",
        "spec.outputs[0].webhook.contentType in body should be at least 3 chars long",
    ),
    (
        "with a content type that is too long",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, body: x, contentType: @129}}]}",
        "spec.outputs[0].webhook.contentType: Too long: may not be more than 128",
    ),
    (
        "with a webhook that waits for a minute",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, timeout: 1m}}]}",
        "spec.outputs[].webhook.timeout must be between 100ms and 30s",
    ),
    (
        "with a webhook's header that the operator sets",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, headers: [{name: Webhook-Id, value: x}]}}]}",
        "spec.outputs[].webhook.headers[].name must not be one that the operator sets: Host, Content-Type (see contentType), Content-Length, webhook-…, or one of the connection",
    ),
    (
        "with a webhook's header twice",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, headers: [{name: X-A, value: x}, {name: x-a, value: z}]}}]}",
        "spec.outputs[].webhook.headers[].name must be unique, in any case",
    ),
    (
        "with a webhook's header without a name",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, headers: [{value: x}]}}]}",
        "spec.outputs[0].webhook.headers[0].name: Required value",
    ),
    (
        "with a webhook's header of an empty name",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, headers: [{name: '', value: x}]}}]}",
        "spec.outputs[0].webhook.headers[0].name in body should be at least 1 chars long",
    ),
    (
        "with a webhook's header whose name is too long",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, headers: [{name: @65, value: x}]}}]}",
        "spec.outputs[0].webhook.headers[0].name: Too long: may not be more than 64",
    ),
    (
        "with a webhook's header that is no word",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, headers: [{name: 'X A', value: x}]}}]}",
        "spec.outputs[0].webhook.headers[0].name in body should match",
    ),
    (
        "with a webhook's header without a value",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, headers: [{name: X-A}]}}]}",
        "spec.outputs[0].webhook.headers[0].value: Required value",
    ),
    (
        "with a webhook's header of an empty value",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, headers: [{name: X-A, value: ''}]}}]}",
        "spec.outputs[0].webhook.headers[0].value in body should be at least 1 chars long",
    ),
    (
        "with a webhook's header whose value is too long",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, headers: [{name: X-A, value: @1025}]}}]}",
        "spec.outputs[0].webhook.headers[0].value: Too long: may not be more than 1024",
    ),
    (
        "with two webhooks of one name",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}}}, {webhook: {name: w, url: 'https://b.example', secretRef: {name: s}}}]}",
        "spec.outputs[].webhook.name must be unique",
    ),
    (
        "with an empty configMap of a webhook's authorities",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, caRef: {configMap: ''}}}]}",
        "spec.outputs[0].webhook.caRef.configMap in body should be at least 1 chars long",
    ),
    (
        "with a configMap of a webhook's authorities that is too long",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, caRef: {configMap: @254}}}]}",
        "spec.outputs[0].webhook.caRef.configMap: Too long: may not be more than 253",
    ),
    (
        "with an empty secret of a webhook's authorities",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, caRef: {secret: ''}}}]}",
        "spec.outputs[0].webhook.caRef.secret in body should be at least 1 chars long",
    ),
    (
        "with a secret of a webhook's authorities that is too long",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, caRef: {secret: @254}}}]}",
        "spec.outputs[0].webhook.caRef.secret: Too long: may not be more than 253",
    ),
    (
        "with an empty key of a webhook's authorities",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, caRef: {secret: ca, key: ''}}}]}",
        "spec.outputs[0].webhook.caRef.key in body should be at least 1 chars long",
    ),
    (
        "with a key of a webhook's authorities that is too long",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, caRef: {secret: ca, key: @254}}}]}",
        "spec.outputs[0].webhook.caRef.key: Too long: may not be more than 253",
    ),
    (
        "with a key of a webhook's authorities that no object can have",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, caRef: {secret: ca, key: 'a/b'}}}]}",
        "spec.outputs[0].webhook.caRef.key in body should match",
    ),
    (
        "with two places of a webhook's authorities",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, caRef: {secret: ca, configMap: ca}}}]}",
        "exactly one of caRef.configMap and caRef.secret must be set",
    ),
    (
        "with a webhook whose timeout is none",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, timeout: soon}}]}",
        "spec.outputs[0].webhook.timeout in body should match",
    ),
    (
        "with a webhook whose timeout is too long a text",
        "{backends: [{name: a}], outputs: [{webhook: {name: w, url: 'https://a.example', secretRef: {name: s}, timeout: @21}}]}",
        "spec.outputs[0].webhook.timeout: Too long: may not be more than 20",
    ),
    (
        "with two outputs into one Service",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp, port: 25}]}}, {service: {name: s, ports: [{name: smtp, port: 587}]}}]}",
        "spec.outputs[].service.name must be unique",
    ),
    (
        "with two outputs into one ConfigMap",
        "{backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}, {configMap: {name: c, format: Postfix}}]}",
        "spec.outputs[].configMap.name must be unique",
    ),
    // Service outputs.
    (
        "with a nameless Service",
        "{backends: [{name: a}], outputs: [{service: {ports: [{name: smtp, port: 25}]}}]}",
        "spec.outputs[0].service.name: Required value",
    ),
    (
        "with an empty Service's name",
        "{backends: [{name: a}], outputs: [{service: {name: '', ports: [{name: smtp, port: 25}]}}]}",
        "spec.outputs[0].service.name in body should be at least 1 chars long",
    ),
    (
        "with a Service's name that is too long",
        "{backends: [{name: a}], outputs: [{service: {name: @64, ports: [{name: smtp, port: 25}]}}]}",
        "spec.outputs[0].service.name: Too long: may not be more than 63",
    ),
    (
        "with a Service's name that starts with a digit",
        "{backends: [{name: a}], outputs: [{service: {name: 1st, ports: [{name: smtp, port: 25}]}}]}",
        "spec.outputs[0].service.name in body should match",
    ),
    (
        "with a Service without ports",
        "{backends: [{name: a}], outputs: [{service: {name: s}}]}",
        "spec.outputs[0].service.ports: Required value",
    ),
    (
        "with a Service with 0 ports",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: []}}]}",
        "spec.outputs[0].service.ports in body should have at least 1 items",
    ),
    (
        "with two ports of one name",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp, port: 25}, {name: smtp, port: 587}]}}]}",
        "spec.outputs[].service.ports[].name must be unique",
    ),
    (
        "with two ports of one number",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp, port: 25}, {name: submission, port: 25}]}}]}",
        "spec.outputs[].service.ports[].port must be unique",
    ),
    (
        "with a nameless port",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{port: 25}]}}]}",
        "spec.outputs[0].service.ports[0].name: Required value",
    ),
    (
        "with an empty name of a port",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: '', port: 25}]}}]}",
        "spec.outputs[0].service.ports[0].name in body should be at least 1 chars long",
    ),
    (
        "with a port's name that is too long",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: @16, port: 25}]}}]}",
        "spec.outputs[0].service.ports[0].name: Too long: may not be more than 15",
    ),
    (
        "with upper case in a port's name",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: SMTP, port: 25}]}}]}",
        "spec.outputs[0].service.ports[0].name in body should match",
    ),
    (
        "with a port without a number",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp}]}}]}",
        "spec.outputs[0].service.ports[0].port: Required value",
    ),
    (
        "with a Service at port 0",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp, port: 0}]}}]}",
        "spec.outputs[0].service.ports[0].port in body should be greater than or equal to 1",
    ),
    (
        "with a Service at port 65536",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp, port: 65536}]}}]}",
        "spec.outputs[0].service.ports[0].port in body should be less than or equal to 65535",
    ),
    // ConfigMap outputs.
    (
        "with a nameless ConfigMap",
        "{backends: [{name: a}], outputs: [{configMap: {format: Env}}]}",
        "spec.outputs[0].configMap.name: Required value",
    ),
    (
        "with an empty ConfigMap's name",
        "{backends: [{name: a}], outputs: [{configMap: {name: '', format: Env}}]}",
        "spec.outputs[0].configMap.name in body should be at least 1 chars long",
    ),
    (
        "with a ConfigMap's name that is too long",
        "{backends: [{name: a}], outputs: [{configMap: {name: @254, format: Env}}]}",
        "spec.outputs[0].configMap.name: Too long: may not be more than 253",
    ),
    (
        "with upper case in a ConfigMap's name",
        "{backends: [{name: a}], outputs: [{configMap: {name: Mail, format: Env}}]}",
        "spec.outputs[0].configMap.name in body should match",
    ),
    (
        "with a ConfigMap without a format",
        "{backends: [{name: a}], outputs: [{configMap: {name: c}}]}",
        "spec.outputs[0].configMap.format: Required value",
    ),
    (
        "with a ConfigMap of unknown format",
        "{backends: [{name: a}], outputs: [{configMap: {name: c, format: Exim}}]}",
        "spec.outputs[0].configMap.format: Unsupported value: \"Exim\": supported values: \"Postfix\", \"Env\"",
    ),
    // Weights.
    (
        "with a weight and no strategy",
        "{backends: [{name: a, weight: 2}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.backends[].weight has an effect with strategy ActiveActive only: with ActivePassive the order of the list is the preference",
    ),
    (
        "with a weight and strategy ActivePassive",
        "{strategy: ActivePassive, backends: [{name: a}, {name: b, weight: 2}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.backends[].weight has an effect with strategy ActiveActive only: with ActivePassive the order of the list is the preference",
    ),
    (
        "with a weight of 0",
        "{strategy: ActiveActive, backends: [{name: a, weight: 0}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.backends[0].weight in body should be greater than or equal to 1",
    ),
    (
        "with a weight of 1001",
        "{strategy: ActiveActive, backends: [{name: a, weight: 1001}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.backends[0].weight in body should be less than or equal to 1000",
    ),
    // Traffic.
    (
        "whose traffic says nothing",
        "{traffic: {}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "at least one of spec.traffic.messagesPerDay and spec.traffic.peakPerSecond must be set",
    ),
    (
        "with a daily number of messages of 0",
        "{traffic: {messagesPerDay: 0}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.traffic.messagesPerDay in body should be greater than or equal to 1",
    ),
    (
        "with a daily number of messages of 1000000001",
        "{traffic: {messagesPerDay: 1000000001}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.traffic.messagesPerDay in body should be less than or equal to 1000000000",
    ),
    (
        "with a number of messages a second of 0",
        "{traffic: {peakPerSecond: 0}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.traffic.peakPerSecond in body should be greater than or equal to 1",
    ),
    (
        "with a number of messages a second of 1000001",
        "{traffic: {peakPerSecond: 1000001}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.traffic.peakPerSecond in body should be less than or equal to 1000000",
    ),
    // Messages.
    (
        "that is about messages and has no agent",
        "{messages: {alternates: true}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.messages has an effect with an output agent only: add one to spec.outputs, or take spec.messages away",
    ),
    // Residency and regions.
    (
        "whose residency says nothing",
        "{residency: {}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.residency.jurisdictions: Required value",
    ),
    (
        "with 0 jurisdictions",
        "{residency: {jurisdictions: []}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.residency.jurisdictions in body should have at least 1 items",
    ),
    (
        "with a jurisdiction that stands there twice",
        "{residency: {jurisdictions: [EU, CH, EU]}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.residency.jurisdictions[2]: Duplicate value: \"EU\"",
    ),
    (
        "with an empty jurisdiction",
        "{residency: {jurisdictions: ['']}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.residency.jurisdictions[0] in body should be at least 1 chars long",
    ),
    (
        "with a jurisdiction that is too long",
        "{residency: {jurisdictions: [@64]}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.residency.jurisdictions[0]: Too long: may not be more than 63",
    ),
    (
        "with a space in its jurisdiction",
        "{residency: {jurisdictions: ['the EU']}, backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.residency.jurisdictions[0] in body should match",
    ),
    (
        "with a region that stands there twice",
        "{preferredRegions: [b, a, b], backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.preferredRegions must be unique",
    ),
    (
        "with an empty region",
        "{preferredRegions: [''], backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.preferredRegions[0] in body should be at least 1 chars long",
    ),
    (
        "with a region that is too long",
        "{preferredRegions: [@64], backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.preferredRegions[0]: Too long: may not be more than 63",
    ),
    (
        "with a slash in its region",
        "{preferredRegions: [eu/west], backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.preferredRegions[0] in body should match",
    ),
    // Sender domains.
    (
        "with 0 sender domains",
        "{senderDomains: [], backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.senderDomains in body should have at least 1 items",
    ),
    (
        "with a sender domain that stands there twice",
        "{senderDomains: [shop.example, shop.example], backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.senderDomains[1]: Duplicate value: \"shop.example\"",
    ),
    (
        "with an empty sender domain",
        "{senderDomains: [''], backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.senderDomains[0] in body should be at least 1 chars long",
    ),
    (
        "with a sender domain that is too long",
        "{senderDomains: [@254], backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.senderDomains[0]: Too long: may not be more than 253",
    ),
    (
        "with a final dot in its sender domain",
        "{senderDomains: [shop.example.], backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.senderDomains[0] in body should match",
    ),
    (
        "with an empty label in its sender domain",
        "{senderDomains: [shop..example], backends: [{name: a}], outputs: [{configMap: {name: c, format: Env}}]}",
        "spec.senderDomains[0] in body should match",
    ),
];
