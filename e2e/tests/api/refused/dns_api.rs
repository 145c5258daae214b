/// The name of the case, the spec, and a part of the message.
pub const DNS_API: &[(&str, &str, &str)] = &[
    (
        "with the API of no DNS provider",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {secretRef: {name: s}}}}]}",
        "exactly one of powerDns, route53, cloudflare, digitalOcean, deSec, hetzner, google, azure and ovh of spec.outputs[].dns.api must be set",
    ),
    (
        "with the APIs of two DNS providers",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {deSec: {}, digitalOcean: {}, secretRef: {name: s}}}}]}",
        "exactly one of powerDns, route53, cloudflare, digitalOcean, deSec, hetzner, google, azure and ovh of spec.outputs[].dns.api must be set",
    ),
    (
        "with the API of a DNS provider without a Secret",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {deSec: {}}}}]}",
        "spec.outputs[0].dns.api.secretRef: Required value",
    ),
    (
        "with a Secret of a DNS provider without a name",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {deSec: {}, secretRef: {}}}}]}",
        "spec.outputs[0].dns.api.secretRef.name: Required value",
    ),
    (
        "with a Secret of a DNS provider of an empty name",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {deSec: {}, secretRef: {name: ''}}}}]}",
        "spec.outputs[0].dns.api.secretRef.name in body should be at least 1 chars long",
    ),
    (
        "with a Secret of a DNS provider whose name is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {deSec: {}, secretRef: {name: @254}}}}]}",
        "spec.outputs[0].dns.api.secretRef.name: Too long: may not be more than 253",
    ),
    (
        "with a Secret of a DNS provider whose name has capital letters",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {deSec: {}, secretRef: {name: S}}}}]}",
        "spec.outputs[0].dns.api.secretRef.name in body should match",
    ),
    (
        "with a PowerDNS without a place",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {powerDns: {}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.powerDns.url: Required value",
    ),
    (
        "with a PowerDNS by another scheme",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {powerDns: {url: 'ftp://pdns.example'}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.powerDns.url in body should match",
    ),
    (
        "with a PowerDNS of a short place",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {powerDns: {url: 'http://'}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.powerDns.url in body should be at least 8 chars long",
    ),
    (
        "with a PowerDNS of a place that is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {powerDns: {url: 'http://@506'}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.powerDns.url: Too long: may not be more than 512",
    ),
    (
        "with a PowerDNS with an empty server",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {powerDns: {url: 'http://a', server: ''}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.powerDns.server in body should be at least 1 chars long",
    ),
    (
        "with a PowerDNS whose server is a path",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {powerDns: {url: 'http://a', server: a/b}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.powerDns.server in body should match",
    ),
    (
        "with a PowerDNS whose server is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {powerDns: {url: 'http://a', server: @64}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.powerDns.server: Too long: may not be more than 63",
    ),
    (
        "with a Route 53 without a zone",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {route53: {}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.route53.zoneId: Required value",
    ),
    (
        "with a Route 53 with an empty zone",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {route53: {zoneId: ''}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.route53.zoneId in body should be at least 1 chars long",
    ),
    (
        "with a Route 53 whose zone is a path",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {route53: {zoneId: /hostedzone/Z1}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.route53.zoneId in body should match",
    ),
    (
        "with a Route 53 whose zone is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {route53: {zoneId: @65}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.route53.zoneId: Too long: may not be more than 64",
    ),
    (
        "with a Route 53 without TLS",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {route53: {zoneId: Z1, url: 'http://route53.example'}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.route53.url in body should match",
    ),
    (
        "with a Route 53 of a short place",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {route53: {zoneId: Z1, url: 'https://'}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.route53.url in body should be at least 9 chars long",
    ),
    (
        "with a Route 53 of a place that is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {route53: {zoneId: Z1, url: 'https://@505'}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.route53.url: Too long: may not be more than 512",
    ),
    (
        "with a Cloudflare without a zone",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {cloudflare: {}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.cloudflare.zoneId: Required value",
    ),
    (
        "with a Cloudflare with an empty zone",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {cloudflare: {zoneId: ''}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.cloudflare.zoneId in body should be at least 1 chars long",
    ),
    (
        "with a Cloudflare whose zone is a name",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {cloudflare: {zoneId: a.example}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.cloudflare.zoneId in body should match",
    ),
    (
        "with a Cloudflare whose zone is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {cloudflare: {zoneId: @65}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.cloudflare.zoneId: Too long: may not be more than 64",
    ),
    (
        "with a Google DNS without a project",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {google: {managedZone: shop}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.google.project: Required value",
    ),
    (
        "with a Google DNS with an empty project",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {google: {managedZone: shop, project: ''}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.google.project in body should be at least 1 chars long",
    ),
    (
        "with a Google DNS whose project is a path",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {google: {managedZone: shop, project: projects/mail}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.google.project in body should match",
    ),
    (
        "with a Google DNS whose project is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {google: {managedZone: shop, project: @64}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.google.project: Too long: may not be more than 63",
    ),
    (
        "with a Google DNS without a managed zone",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {google: {project: mail}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.google.managedZone: Required value",
    ),
    (
        "with a Google DNS with an empty managed zone",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {google: {project: mail, managedZone: ''}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.google.managedZone in body should be at least 1 chars long",
    ),
    (
        "with a Google DNS whose managed zone is a domain",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {google: {project: mail, managedZone: a.example}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.google.managedZone in body should match",
    ),
    (
        "with a Google DNS whose managed zone is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {google: {project: mail, managedZone: @64}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.google.managedZone: Too long: may not be more than 63",
    ),
    (
        "with a Google DNS without TLS",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {google: {project: mail, managedZone: shop, url: 'http://dns.example'}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.google.url in body should match",
    ),
    (
        "with a Google DNS of a short place",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {google: {project: mail, managedZone: shop, url: 'https://'}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.google.url in body should be at least 9 chars long",
    ),
    (
        "with a Google DNS of a place that is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {google: {project: mail, managedZone: shop, url: 'https://@505'}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.google.url: Too long: may not be more than 512",
    ),
    (
        "with an Azure DNS without a tenant",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {azure: {subscriptionId: s, resourceGroup: mail}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.azure.tenantId: Required value",
    ),
    (
        "with an Azure DNS with an empty tenant",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {azure: {subscriptionId: s, resourceGroup: mail, tenantId: ''}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.azure.tenantId in body should be at least 1 chars long",
    ),
    (
        "with an Azure DNS whose tenant is a path",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {azure: {subscriptionId: s, resourceGroup: mail, tenantId: a/b}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.azure.tenantId in body should match",
    ),
    (
        "with an Azure DNS whose tenant is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {azure: {subscriptionId: s, resourceGroup: mail, tenantId: @65}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.azure.tenantId: Too long: may not be more than 64",
    ),
    (
        "with an Azure DNS without a subscription",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {azure: {tenantId: t, resourceGroup: mail}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.azure.subscriptionId: Required value",
    ),
    (
        "with an Azure DNS with an empty subscription",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {azure: {tenantId: t, resourceGroup: mail, subscriptionId: ''}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.azure.subscriptionId in body should be at least 1 chars long",
    ),
    (
        "with an Azure DNS whose subscription is a path",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {azure: {tenantId: t, resourceGroup: mail, subscriptionId: /subscriptions/s}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.azure.subscriptionId in body should match",
    ),
    (
        "with an Azure DNS whose subscription is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {azure: {tenantId: t, resourceGroup: mail, subscriptionId: @65}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.azure.subscriptionId: Too long: may not be more than 64",
    ),
    (
        "with an Azure DNS without a resource group",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {azure: {tenantId: t, subscriptionId: s}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.azure.resourceGroup: Required value",
    ),
    (
        "with an Azure DNS with an empty resource group",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {azure: {tenantId: t, subscriptionId: s, resourceGroup: ''}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.azure.resourceGroup in body should be at least 1 chars long",
    ),
    (
        "with an Azure DNS whose resource group is a path",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {azure: {tenantId: t, subscriptionId: s, resourceGroup: a/b}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.azure.resourceGroup in body should match",
    ),
    (
        "with an Azure DNS whose resource group is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {azure: {tenantId: t, subscriptionId: s, resourceGroup: @91}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.azure.resourceGroup: Too long: may not be more than 90",
    ),
    (
        "with an Azure DNS of an unknown cloud",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {azure: {tenantId: t, subscriptionId: s, resourceGroup: mail, cloud: Germany}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.azure.cloud: Unsupported value",
    ),
    (
        "with an OVH of an unknown endpoint",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {ovh: {endpoint: ovh-eu}, secretRef: {name: s}}}}]}",
        "spec.outputs[0].dns.api.ovh.endpoint: Unsupported value",
    ),
    (
        "with an authority of a DNS provider that is no server",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {deSec: {}, secretRef: {name: s}, authorities: ['a b']}}}]}",
        "spec.outputs[0].dns.api.authorities[0] in body should match",
    ),
    (
        "with an empty authority of a DNS provider",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {deSec: {}, secretRef: {name: s}, authorities: ['']}}}]}",
        "spec.outputs[0].dns.api.authorities[0] in body should be at least 1 chars long",
    ),
    (
        "with an authority of a DNS provider that is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {deSec: {}, secretRef: {name: s}, authorities: [@261]}}}]}",
        "spec.outputs[0].dns.api.authorities[0]: Too long: may not be more than 260",
    ),
    (
        "with 17 authorities of a DNS provider",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {deSec: {}, secretRef: {name: s}, authorities: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q]}}}]}",
        "spec.outputs[0].dns.api.authorities: Too many: 17: must have at most 16 items",
    ),
    (
        "with an empty ConfigMap's name of an API's CA",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {powerDns: {url: 'https://dns.example'}, secretRef: {name: s}, caRef: {configMap: ''}}}}]}",
        "spec.outputs[0].dns.api.caRef.configMap in body should be at least 1 chars long",
    ),
    (
        "with a ConfigMap's name of an API's CA that is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {powerDns: {url: 'https://dns.example'}, secretRef: {name: s}, caRef: {configMap: @254}}}}]}",
        "spec.outputs[0].dns.api.caRef.configMap: Too long: may not be more than 253",
    ),
    (
        "with an empty Secret's name of an API's CA",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {powerDns: {url: 'https://dns.example'}, secretRef: {name: s}, caRef: {secret: ''}}}}]}",
        "spec.outputs[0].dns.api.caRef.secret in body should be at least 1 chars long",
    ),
    (
        "with a Secret's name of an API's CA that is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {powerDns: {url: 'https://dns.example'}, secretRef: {name: s}, caRef: {secret: @254}}}}]}",
        "spec.outputs[0].dns.api.caRef.secret: Too long: may not be more than 253",
    ),
    (
        "with an empty key of an API's CA",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {powerDns: {url: 'https://dns.example'}, secretRef: {name: s}, caRef: {secret: ca, key: ''}}}}]}",
        "spec.outputs[0].dns.api.caRef.key in body should be at least 1 chars long",
    ),
    (
        "with a key of an API's CA that is too long",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {powerDns: {url: 'https://dns.example'}, secretRef: {name: s}, caRef: {secret: ca, key: @254}}}}]}",
        "spec.outputs[0].dns.api.caRef.key: Too long: may not be more than 253",
    ),
    (
        "with a slash in the key of an API's CA",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {powerDns: {url: 'https://dns.example'}, secretRef: {name: s}, caRef: {secret: ca, key: tls/ca.crt}}}}]}",
        "spec.outputs[0].dns.api.caRef.key in body should match",
    ),
    (
        "with an API of Hetzner and one of OVH",
        "{backends: [{name: a}], outputs: [{dns: {zone: a.example, mx: [{backend: a, host: mx.a.example}], api: {hetzner: {}, ovh: {}, secretRef: {name: s}}}}]}",
        "exactly one of powerDns, route53, cloudflare, digitalOcean, deSec, hetzner, google, azure and ovh of spec.outputs[].dns.api must be set",
    ),
];
