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
        "exactly one of spec.outputs[].service, spec.outputs[].configMap and spec.outputs[].agent must be set",
    ),
    (
        "with an output that is both",
        "{backends: [{name: a}], outputs: [{service: {name: s, ports: [{name: smtp, port: 25}]}, configMap: {name: c, format: Env}}]}",
        "exactly one of spec.outputs[].service, spec.outputs[].configMap and spec.outputs[].agent must be set",
    ),
    (
        "with an output for both an agent and another reader",
        "{backends: [{name: a}], outputs: [{agent: {configMap: a}, configMap: {name: c, format: Env}}]}",
        "exactly one of spec.outputs[].service, spec.outputs[].configMap and spec.outputs[].agent must be set",
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
