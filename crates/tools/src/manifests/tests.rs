use super::*;

const POLICY: &str = "apiVersion: mailfailover.io/v1alpha1\nkind: FailoverPolicy\nmetadata:\n  name: calm\nspec: {}\n";

fn only_error(text: &str) -> String {
    let errors = match parse("mail.yaml", text) {
        Ok(manifests) => Objects::of(&manifests).unwrap_err(),
        Err(error) => vec![error],
    };
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].to_string()
}

#[test]
fn objects_come_from_documents_and_lists_alike() {
    let dump = format!(
        "{POLICY}---\n# nothing\n---\napiVersion: v1\nkind: List\nmetadata:\n  resourceVersion: \"\"\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {{name: mail, namespace: shop}}\n- apiVersion: mailfailover.io/v1alpha1\n  kind: FailoverPolicy\n  metadata:\n    name: fast\n    namespace: shop\n    generation: 3\n  spec:\n    hold:\n      cooldown: 5s\n  status:\n    observedGeneration: 3\n"
    );
    let manifests = parse("mail.yaml", &dump).unwrap();
    let titles: Vec<_> = manifests.iter().map(|manifest| (manifest.title(), manifest.document())).collect();
    assert_eq!(
        titles,
        [("FailoverPolicy calm".to_owned(), 1), ("Service mail".to_owned(), 2), ("FailoverPolicy fast".to_owned(), 2)]
    );
    assert_eq!(manifests[0].key(), ObjectKey::new("default", "calm"));
    let objects = Objects::of(&manifests).unwrap();
    assert_eq!(objects.policies.len(), 2);
    assert_eq!(objects.policies[1].status.as_ref().unwrap().observed_generation, Some(3));
    assert_eq!(objects.policies[0].metadata.namespace.as_deref(), Some("default"));
}

#[test]
fn a_field_has_a_line_and_an_absent_one_that_of_its_parent() {
    let text = format!(
        "{POLICY}---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata:\n    name: ca\n  data:\n    ca.crt: |\n      x\n"
    );
    let manifests = parse("mail.yaml", &text).unwrap();
    assert_eq!(manifests[0].line("metadata.name"), 4);
    assert_eq!(manifests[0].line("spec.hold.cooldown"), 5);
    assert_eq!(manifests[0].line(""), 1);
    assert_eq!(manifests[1].line("data.ca.crt"), 15);
    assert_eq!(manifests[1].line("spec"), 10);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let second = |text: &str| only_error(&format!("{POLICY}---\n{text}"));
    let route = "apiVersion: mailfailover.io/v1alpha1\nkind: MailRoute\nmetadata:\n  name: orders\n";
    assert_eq!(
        second(&format!("{route}spec:\n  backends:\n  - name: a\n    wieght: 3\n  outputs: []\n")),
        "mail.yaml:14: document 2: MailRoute orders: spec.backends[0].wieght: unknown field `wieght`, expected `name` or `weight`"
    );
    assert_eq!(
        second(&format!("{route}spec:\n  backends:\n  - name: 7\n  outputs: []\n")),
        "mail.yaml:13: document 2: MailRoute orders: spec.backends[0].name: invalid type: integer `7`, expected a string"
    );
    assert_eq!(
        second(&format!("{route}sepc: {{}}\n")),
        "mail.yaml:11: document 2: MailRoute orders: sepc: there is no such field"
    );
    assert_eq!(
        second("apiVersion: mailfailover.io/v1alpha1\nkind: Route\n"),
        "mail.yaml:8: document 2: Route: kind: mailfailover.io has no kind Route"
    );
    assert_eq!(
        second("kind: MailRoute\n"),
        "mail.yaml:7: document 2: MailRoute: apiVersion: is missing or no text: this is no Kubernetes object"
    );
    assert_eq!(
        second("apiVersion: mailfailover.io/v1alpha1\nkind: FailoverPolicy\nmetadata: {}\nspec: {}\n"),
        "mail.yaml:9: document 2: FailoverPolicy: metadata.name: is missing"
    );
    assert!(second("a: b: c\n").starts_with("mail.yaml:7: this is no YAML: "), "{}", second("a: b: c\n"));
    assert!(second("a: 1\na: 2\n").contains("duplicate"), "{}", second("a: 1\na: 2\n"));
    assert!(second("- 1\n").contains("no Kubernetes object"));
}

#[test]
fn a_folder_stands_for_its_files_in_the_order_of_their_names() {
    let folder = std::env::temp_dir().join(format!("mail-failover-manifests-{}", std::process::id()));
    fs::create_dir_all(folder.join("deeper.yaml")).unwrap();
    assert!(read(std::slice::from_ref(&folder)).unwrap_err()[0].to_string().contains("holds no file"));
    for name in ["b.yaml", "a.yml", "notes.txt"] {
        fs::write(folder.join(name), POLICY.replace("calm", name)).unwrap();
    }
    fs::write(folder.join("deeper.yaml/0.yaml"), POLICY.replace("calm", "deep")).unwrap();
    fs::write(folder.join("deeper.yaml/values.yaml"), "replicas: 2\n---\nimage: x\n").unwrap();
    fs::create_dir_all(folder.join(".git")).unwrap();
    fs::write(folder.join(".git/hidden.yaml"), "a: b: c\n").unwrap();
    let found = read(std::slice::from_ref(&folder)).unwrap();
    let names: Vec<_> = found.manifests.iter().map(Manifest::title).collect();
    assert_eq!(names, ["FailoverPolicy a.yml", "FailoverPolicy b.yaml", "FailoverPolicy deep"]);
    let values = folder.join("deeper.yaml/values.yaml");
    assert_eq!(found.others, [values.display().to_string()], "no object, and said so");
    let named = read(std::slice::from_ref(&values)).unwrap_err();
    assert!(named[0].to_string().contains("no Kubernetes object"), "{named:?}");
    let errors = read(&[folder.join("c.yaml"), folder.join("d.yaml")]).unwrap_err();
    assert_eq!(errors.len(), 2);
    fs::remove_dir_all(folder).unwrap();
}
