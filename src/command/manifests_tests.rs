use super::*;

const RULE: NamespaceRule<'static> = NamespaceRule { default: "fleet", is_given: false };

fn file(name: &str, text: &str) -> ManifestFile {
    ManifestFile { name: name.into(), text: text.into() }
}

fn read_text(text: &str) -> (Vec<FileManifest>, Vec<String>) {
    read(&[file("fleet.yaml", text)], RULE)
}

const AGENT: &str = "apiVersion: muster.dev/v1alpha1\nkind: Agent\nmetadata:\n  name: one\n";

#[test]
fn objects_come_after_the_objects_that_they_refer_to() {
    let of = |version: &str, kind: &str, name: &str| {
        format!("---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\n")
    };
    let muster = "muster.dev/v1alpha1";
    let first =
        [of(muster, "Agent", "b"), of(muster, "Agent", "a"), of(muster, "Board", "ops"), of("v1", "ConfigMap", "m")];
    let second = [
        of("v1", "Secret", "s"),
        of(muster, "AgentGateway", "gw"),
        of("v1", "Namespace", "fleet"),
        of(muster, "Agent", "c"),
    ];
    let (manifests, failures) = read(&[file("1", &first.concat()), file("2", &second.concat())], RULE);
    assert_eq!(failures, Vec::<String>::new());
    let order: Vec<_> = manifests.iter().map(FileManifest::label).collect();
    let expected = [
        "namespace/fleet",
        "secret/s",
        "configmap/m",
        "agentgateway.muster.dev/gw",
        "board.muster.dev/ops",
        "agent.muster.dev/b",
        "agent.muster.dev/a",
        "agent.muster.dev/c",
    ];
    assert_eq!(order, expected);
    assert_eq!(manifests[0].namespace, None);
    assert_eq!(
        (manifests[7].namespace.as_deref(), manifests[7].place.to_string()),
        (Some("fleet"), "2, document 4".into())
    );
}

#[test]
fn documents_are_numbered_as_a_reader_counts_them() {
    for text in ["a: 1\n---\nb: 2", "---\na: 1\n--- # next\nb: 2\n", "# comment\n\n---\na: 1\n---\nb: 2\n"] {
        let numbers: Vec<_> =
            documents(text).iter().filter(|d| parse(d) != Ok(Value::Null)).map(|d| d.number).collect();
        assert_eq!(numbers, [1, 2], "{text}");
    }
    let empty = documents("a: 1\n---\n---\nb: 2\n");
    assert_eq!(
        empty.iter().map(|d| (d.number, parse(d).unwrap().is_null())).collect::<Vec<_>>(),
        [(1, false), (2, true), (3, false)]
    );
    assert_eq!(parse(&documents("--- {a: 1}")[1]).unwrap()["a"], 1);
    assert_eq!(parse(&documents("a: |\n  ---\n  x\n")[0]).unwrap()["a"], "---\nx\n");
}

#[test]
fn a_list_and_json_are_read() {
    let list = format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{}, {}]}}",
        "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"a\"}}",
        "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"b\", \"namespace\": \"other\"}}"
    );
    let (manifests, failures) = read_text(&list);
    assert_eq!(failures, Vec::<String>::new());
    let found: Vec<_> =
        manifests.iter().map(|one| (one.name.as_str(), one.object["metadata"]["namespace"].as_str())).collect();
    assert_eq!(found, [("a", Some("fleet")), ("b", Some("other"))]);
}

#[test]
fn a_bad_document_is_named_and_the_others_are_read() {
    for (bad, expected) in [
        ("a: [", "fleet.yaml, document 2: the YAML cannot be read in line "),
        ("just text", "fleet.yaml, document 2: a manifest is an object"),
        ("kind: Agent", "fleet.yaml, document 2: apiVersion is missing"),
        ("apiVersion: v1\nkind: [x]", "fleet.yaml, document 2: kind is missing or is no text"),
        (
            "apiVersion: apps/v1\nkind: Deployment",
            "fleet.yaml, document 2: apps/v1 Deployment is a kind that muster does not handle",
        ),
        ("apiVersion: v1\nkind: Secret", "fleet.yaml, document 2: secret: metadata.name is missing"),
        ("apiVersion: v1\nkind: Secret\nmetadata: 1", "secret: metadata.name is missing"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: ../x}", "metadata.name \"../x\" is no name"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: 5}", "metadata.name 5 is no name"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: a/b}", "secret/x: metadata.namespace \"a/b\""),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: [a]}",
            "secret/x: metadata.namespace is no text",
        ),
    ] {
        let (manifests, failures) = read_text(&format!("{AGENT}---\n{bad}\n---\n{}", AGENT.replace("one", "two")));
        assert_eq!(manifests.len(), 2, "{bad}");
        assert!(failures.len() == 1 && failures[0].contains(expected), "{bad}: {failures:?}");
    }
}

#[test]
fn the_line_of_an_error_is_the_line_of_the_file() {
    let (_, failures) = read_text("a: 1\n---\nkind: Secret\nc: \"hush\n");
    let error = failures.iter().find(|text| text.contains("cannot be read")).unwrap();
    assert!(error.contains("in line ") && !error.contains("line 1,") && !error.contains("hush"), "{error}");
}

#[test]
fn another_namespace_than_the_given_one_is_refused() {
    let given = NamespaceRule { default: "fleet", is_given: true };
    let text = format!("{AGENT}  namespace: other\n");
    let (_, failures) = read(&[file("-", &text)], given);
    assert_eq!(
        failures,
        ["-, document 1: agent.muster.dev/one: metadata.namespace is other and -n gives fleet; leave out one of them"]
    );
    assert_eq!(read(&[file("-", &text)], RULE).0[0].namespace.as_deref(), Some("other"));
}

#[test]
fn a_failure_has_no_value_of_a_secret() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {token: hush-hush, pin: 4711, e: ''}\n";
    let (manifests, _) = read_text(text);
    assert_eq!(manifests[0].object["data"]["token"], "aHVzaC1odXNo");
    assert_eq!(
        manifests[0].failure("bad value hush-hush, aHVzaC1odXNo or 4711"),
        "fleet.yaml, document 1: secret/s: bad value ***, *** or ***"
    );
}
