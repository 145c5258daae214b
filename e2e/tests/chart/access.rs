//! The rights that the chart grants.

use mail_failover_operator::rbac::{
    DNS_ENDPOINTS, OWN_NAMESPACE, PROBE_JOBS, REPORTS, RbacRule, SECRETS_BY_NAME, WATCHED,
};

use super::*;

fn as_rbac(rules: &[RbacRule]) -> Vec<Value> {
    rules
        .iter()
        .map(|rule| json!({ "apiGroups": [rule.api_group], "resources": rule.resources, "verbs": rule.verbs }))
        .collect()
}

/// The roles bound to the operator: kind, namespace and rules.
fn bound(rendered: &[Value]) -> Result<Vec<(String, Option<String>, Value)>> {
    let account = &only(rendered, "ServiceAccount")?["metadata"];
    let bindings =
        rendered.iter().filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("RoleBinding")));
    let mut bound = vec![];
    for binding in bindings {
        let subject = json!([{ "kind": "ServiceAccount", "name": account["name"], "namespace": "ops" }]);
        ensure!(binding["subjects"] == subject, "{binding}");
        let (kind, namespace) = (&binding["roleRef"]["kind"], &binding["metadata"]["namespace"]);
        let role = rendered.iter().find(|role| {
            role["kind"] == *kind
                && role["metadata"]["name"] == binding["roleRef"]["name"]
                && role["metadata"]["namespace"] == *namespace
        });
        let role = role.with_context(|| format!("{binding} binds nothing"))?;
        let kind = kind.as_str().context("a kind")?.to_owned();
        bound.push((kind, namespace.as_str().map(str::to_owned), role["rules"].clone()));
    }
    bound.sort_by_key(|(kind, namespace, rules)| (kind.clone(), namespace.clone(), rules.to_string()));
    Ok(bound)
}

fn role(kind: &str, namespace: Option<&str>, rules: Vec<Value>) -> (String, Option<String>, Value) {
    (kind.to_owned(), namespace.map(str::to_owned), rules.into())
}

#[test]
fn in_the_whole_cluster_a_cluster_role_is_needed_and_no_secret() -> Result<()> {
    let reports = role("ClusterRole", None, as_rbac(REPORTS));
    let watched = role("ClusterRole", None, as_rbac(WATCHED));
    let own = role("Role", Some("ops"), as_rbac(OWN_NAMESPACE));
    assert_eq!(bound(&render(&json!({}))?)?, [reports, watched.clone(), own.clone()]);
    assert_eq!(bound(&render(&json!({ "reports": { "enabled": false } }))?)?, [watched, own]);
    Ok(())
}

#[test]
fn with_named_namespaces_and_no_reports_nothing_is_granted_in_the_cluster() -> Result<()> {
    let values = json!({ "namespaces": ["shop", "billing"], "reports": { "enabled": false },
        "rbac": { "secretNames": ["ca-a", "ca-b"], "aggregateClusterRoles": false } });
    let rendered = render(&values)?;
    ensure!(of_kind(&rendered, "ClusterRole").is_empty() && of_kind(&rendered, "ClusterRoleBinding").is_empty());
    let mut rules = as_rbac(WATCHED);
    let mut secrets = as_rbac(&[SECRETS_BY_NAME]).remove(0);
    secrets["resourceNames"] = json!(["ca-a", "ca-b"]);
    rules.push(secrets);
    let expected = [
        role("Role", Some("billing"), rules.clone()),
        role("Role", Some("ops"), as_rbac(OWN_NAMESPACE)),
        role("Role", Some("shop"), rules),
    ];
    assert_eq!(bound(&rendered)?, expected);
    Ok(())
}

#[test]
fn rights_for_probe_jobs_are_granted_where_the_operator_watches_and_only_when_it_runs_any() -> Result<()> {
    let rules = [as_rbac(WATCHED), as_rbac(PROBE_JOBS)].concat();
    let values = json!({ "probeJobs": { "enabled": true }, "reports": { "enabled": false } });
    let own = role("Role", Some("ops"), as_rbac(OWN_NAMESPACE));
    assert_eq!(bound(&render(&values)?)?, [role("ClusterRole", None, rules.clone()), own.clone()]);
    let named = json!({ "probeJobs": { "enabled": true }, "reports": { "enabled": false }, "namespaces": ["shop"] });
    assert_eq!(bound(&render(&named)?)?, [own, role("Role", Some("shop"), rules)]);
    Ok(())
}

#[test]
fn rights_on_objects_of_external_dns_are_granted_when_they_are_asked_for() -> Result<()> {
    let rules = [as_rbac(WATCHED), as_rbac(DNS_ENDPOINTS)].concat();
    let values = json!({ "dns": { "endpoints": true }, "reports": { "enabled": false } });
    let own = role("Role", Some("ops"), as_rbac(OWN_NAMESPACE));
    assert_eq!(bound(&render(&values)?)?, [role("ClusterRole", None, rules), own]);
    Ok(())
}

/// The verbs of the role that is aggregated to this one.
fn aggregated(rendered: &[Value], to: &str) -> String {
    let label = format!("rbac.authorization.k8s.io/aggregate-to-{to}");
    let roles =
        of_kind(rendered, "ClusterRole").into_iter().filter(|role| role["metadata"]["labels"][&label] == "true");
    let verbs = roles.flat_map(|role| role["rules"][0]["verbs"].as_array().cloned().unwrap_or_default());
    verbs.filter_map(|verb| verb.as_str().map(str::to_owned)).collect::<Vec<_>>().join(" ")
}

#[test]
fn people_with_the_usual_roles_may_see_our_resources_and_change_them_where_that_is_said() -> Result<()> {
    // Who may change a route says where its Service leads: not for everybody with `edit`.
    let (see, all) = ("get list watch", "get list watch create delete deletecollection patch update");
    for (values, edit) in [(json!({}), see), (json!({ "rbac": { "aggregateToEdit": true } }), all)] {
        let rendered = render(&values)?;
        let granted = ["view", "edit", "admin"].map(|to| aggregated(&rendered, to));
        assert_eq!(granted, [see, edit, edit]);
        // It can be bound to people, namespace by namespace.
        let names = of_kind(&rendered, "ClusterRole").into_iter().filter_map(|role| role["metadata"]["name"].as_str());
        ensure!(names.filter(|name| name.ends_with("-edit")).count() == 1, "{rendered:?}");
    }
    Ok(())
}

#[test]
fn rights_and_service_account_can_be_somebody_elses_matter() -> Result<()> {
    let rendered =
        render(&json!({ "rbac": { "create": false }, "serviceAccount": { "create": false, "name": "theirs" } }))?;
    for kind in ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"] {
        ensure!(of_kind(&rendered, kind).is_empty(), "{kind}");
    }
    ensure!(only(&rendered, "Deployment")?["spec"]["template"]["spec"]["serviceAccountName"] == "theirs");
    let rendered = render(&json!({ "serviceAccount": { "create": false } }))?;
    ensure!(only(&rendered, "Deployment")?["spec"]["template"]["spec"]["serviceAccountName"] == "default");
    Ok(())
}
