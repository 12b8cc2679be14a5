//! The catalogue against image names from published manifests, and its page in the documentation.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use serde_json::{Value, json};
use workload::catalogue::{
    Asks, ContainerFacts, Handler, Model, SYSTEMS, Setting, is_repository, recognise, recognise_pod, repository,
    system, system_of,
};

#[path = "../build/schema.rs"]
#[allow(dead_code, reason = "what only the build script reads")]
mod schema;

fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn data() -> schema::Catalogue {
    toml::from_str(&fs::read_to_string(here("catalogue.toml")).unwrap()).unwrap()
}

fn container(seen: &schema::Seen) -> Value {
    let env: Vec<_> = seen.env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    json!({ "name": "c", "image": seen.image, "command": seen.command, "env": env })
}

fn id_of(container: &Value) -> Option<&'static str> {
    system_of(&ContainerFacts::read(container)).map(|system| system.id)
}

#[test]
fn every_image_seen_is_recognised_as_its_row() {
    for row in &data().system {
        assert!(row.seen.len() >= 2, "{}: at least two image names", row.id);
        for seen in &row.seen {
            assert_eq!(id_of(&container(seen)), Some(row.id.as_str()), "{} from {}", seen.image, seen.place);
            assert!(seen.place.contains(':') && seen.place.contains('@'), "{}: {}", row.id, seen.place);
        }
    }
}

#[test]
fn no_near_miss_is_recognised() {
    let near_misses = data().near_miss;
    assert!(near_misses.len() >= 40);
    for miss in &near_misses {
        assert_eq!(id_of(&container(miss)), None, "{} from {}", miss.image, miss.place);
    }
}

#[test]
fn an_image_of_two_rows_is_told_apart_by_conditions() {
    // Each image, alone and with what decides, as every other row sees it: at most the row that it belongs to takes it, or
    // every other one that its image fits has conditions.
    let data = data();
    for row in &data.system {
        for seen in &row.seen {
            let image = repository(&seen.image);
            for other in data.system.iter().filter(|other| other.id != row.id) {
                let unconditional = other.rule.iter().any(|rule| {
                    rule.when.is_empty()
                        && rule.unless.is_empty()
                        && rule.images.iter().any(|pattern| is_repository(pattern, image))
                });
                assert!(!unconditional, "{} of {} also belongs to {}", seen.image, row.id, other.id);
            }
        }
    }
}

#[test]
fn the_statics_are_the_file() {
    let data = data();
    assert_eq!(SYSTEMS.len(), data.system.len());
    assert!(SYSTEMS.iter().filter(|system| system.model == Model::Majority).count() >= 15);
    assert!(SYSTEMS.len() >= 25);
    for (built, row) in SYSTEMS.iter().zip(&data.system) {
        assert_eq!((built.id, built.name, built.group), (row.id.as_str(), row.name.as_str(), row.group));
        assert_eq!(built.model == Model::Majority, row.model == schema::Model::Majority, "{}", row.id);
        assert!(std::ptr::eq(system(&row.id).unwrap(), built));
        assert_eq!(built.why(), row.why);
        assert_eq!(built.source().unwrap().url, data.source[&row.source].url);
        let patterns: Vec<_> = row.rule.iter().flat_map(|rule| &rule.images).collect();
        assert_eq!(built.images().collect::<Vec<_>>(), patterns);
        assert_eq!(built.liveness().map(|liveness| liveness.advised), row.liveness.as_ref().map(|row| row.advised));
        let urls = |facts: &[&str]| facts.iter().map(|key| data.source[*key].url.clone()).collect::<Vec<_>>();
        let keys: Vec<_> = row.membership.iter().chain(&row.heap).map(|fact| fact.source.as_str()).collect();
        let built_urls = built.membership().iter().chain(built.heap()).map(|fact| fact.source.get().unwrap().url);
        assert_eq!(built_urls.collect::<Vec<_>>(), urls(&keys), "{}", row.id);
        let keys: Vec<_> = row.probe.iter().map(|probe| probe.source.as_str()).collect();
        assert_eq!(built.probes().iter().map(|probe| probe.source.get().unwrap().url).collect::<Vec<_>>(), urls(&keys));
        assert_eq!(built.data_paths().iter().map(|data| data.path).collect::<Vec<_>>(), {
            row.data.iter().map(|data| data.path.as_str()).collect::<Vec<_>>()
        });
        assert_eq!(built.ports().len(), row.port.len());
        assert_eq!(built.custom_resources().len(), row.resource.len());
    }
}

#[test]
fn every_source_names_page_section_and_version() {
    for (key, source) in &data().source {
        assert!(source.url.starts_with("https://"), "{key}");
        assert!(!source.section.trim().is_empty() && !source.version.trim().is_empty(), "{key}");
    }
    for system in SYSTEMS {
        assert!(system.source().is_some() && !system.why().is_empty(), "{}", system.id);
        assert!(system.ports().iter().all(|port| port.source.get().is_some() && port.number > 0), "{}", system.id);
        assert!(system.custom_resources().iter().all(|field| field.source.get().is_some()), "{}", system.id);
    }
}

#[test]
fn identifiers_are_lower_case_and_differ() {
    let ids: BTreeSet<_> = SYSTEMS.iter().map(|system| system.id).collect();
    assert_eq!(ids.len(), SYSTEMS.len());
    for id in ids {
        assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{id}");
    }
    assert!(system("no-such-system").is_none());
}

#[test]
fn published_manifests_are_recognised() {
    let cases = [
        (json!([{ "image": "registry.k8s.io/kubernetes-zookeeper:1.0-3.4.10" }]), Some("zookeeper")),
        (json!([{ "image": "consul:1.4.0-rc1", "args": ["agent", "-bootstrap-expect=3", "-server"] }]), Some("consul")),
        (json!([{ "image": "consul:1.4.0-rc1", "args": ["agent", "-retry-join=consul"] }]), None),
        (json!([{ "image": "cockroachdb/cockroach:v1.1.0" }]), Some("cockroachdb")),
        (json!([{ "image": "gcr.io/google-samples/cassandra:v14" }]), Some("cassandra")),
        (json!([{ "image": "minio/minio:latest" }]), Some("minio")),
    ];
    for (containers, expected) in cases {
        let init = json!([{ "image": "etcd:3" }]);
        let spec = json!({ "containers": containers, "initContainers": init, "ephemeralContainers": init });
        assert_eq!(recognise_pod(&spec).map(|(system, _)| system.id), expected, "{spec}");
    }
}

#[test]
fn init_and_ephemeral_containers_decide_nothing() {
    let spec = json!({
        "initContainers": [{ "image": "etcd:3" }],
        "containers": [{ "image": "example.com/app:1" }],
        "ephemeralContainers": [{ "image": "zookeeper" }],
    });
    assert!(recognise_pod(&spec).is_none());
}

#[test]
fn a_voter_decides_over_the_one_that_does_not_vote_and_sidecars_decide_nothing() {
    let found = |containers: Value| {
        let list = containers.as_array().unwrap().clone();
        recognise(list.iter().map(ContainerFacts::read)).map(|(system, index)| (system.id, index))
    };
    let redis = json!({ "image": "bitnami/redis:7" });
    let sentinel = json!({ "image": "bitnami/redis-sentinel:7" });
    let exporter = json!({ "image": "bitnami/redis-exporter:1" });
    assert_eq!(found(json!([exporter, redis, sentinel])), Some(("redis-sentinel", 2)));
    assert_eq!(found(json!([exporter, redis])), Some(("redis", 1)));
    assert_eq!(found(json!([exporter])), None);
    assert_eq!(found(json!([{ "image": "etcd" }, { "image": "zookeeper" }])), Some(("etcd", 0)));
    assert_eq!(found(json!([])), None);
}

#[test]
fn the_path_in_an_image_name_is_what_runtimes_take_for_it() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let full = format!("host.example:5000/a/b:1.2@{digest}");
    let cases = [
        (full.as_str(), "a/b"),
        ("zookeeper", "zookeeper"),
        ("bitnami/zookeeper:3", "bitnami/zookeeper"),
        ("localhost/zk", "zk"),
        ("localhost:5000/zk:1", "zk"),
        ("host:5000", "host"),
        ("docker.io/library/etcd", "library/etcd"),
        ("[::1]:5000/etcd:2", "etcd"),
        ("HOST/etcd", "etcd"),
        ("a.b/c__d/e--f/g.h_i", "c__d/e--f/g.h_i"),
        ("zookeeper:3@sha256:abc", "zookeeper"),
        ("zookeeper:a:b", "zookeeper"),
    ];
    for (image, path) in cases {
        assert_eq!(repository(image), path, "{image}");
    }
}

#[test]
fn a_name_that_a_tool_has_yet_to_complete_shows_the_system_and_another_nothing() {
    for image in ["zookeeper:${TAG}", "zookeeper:{{ .Values.tag }}", "${REGISTRY}/zookeeper", "zookeeper:"] {
        assert_eq!(id_of(&json!({ "image": image })), Some("zookeeper"), "{image:?}");
    }
    for image in [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "Zookeeper",
        "-zk",
        "${IMAGE}",
        "{{ .Values.image }}",
        "[]/",
        "host.example/",
        ":",
        "@",
        "etcd/",
    ] {
        assert_eq!(id_of(&json!({ "image": image })), None, "{image:?}");
    }
}

#[test]
fn a_pattern_is_matched_against_the_last_segments() {
    let matches = |image: &str, pattern: &str| is_repository(pattern, repository(image));
    for image in [
        "zookeeper",
        "zookeeper:3",
        "library/zookeeper",
        "r.example:1/mirror/x/zookeeper@sha256:0123456789abcdef0123456789abcdef",
    ] {
        assert!(matches(image, "zookeeper"), "{image}");
    }
    assert!(matches("r.example/m/bitnami/zookeeper", "bitnami/zookeeper"));
    assert!(!matches("zookeeper", "bitnami/zookeeper"));
    assert!(!matches("notbitnami/zookeeper", "bitnami/zookeeper"));
    assert!(!matches("zookeeper/exporter", "zookeeper"));
    assert!(!matches("a/b/zookeeper", "a/*"));
    assert!(matches("a/b", "*/*") && matches("x/a/b", "*/*") && !matches("a", "*/*"));
    // A registry is no segment: `etcd.example/app` is not etcd.
    assert!(!matches("etcd.example/app", "*etcd*/app"));
}

#[test]
fn words_are_found_inside_scripts_and_only_whole() {
    let consul = |command: Value| id_of(&json!({ "image": "hashicorp/consul", "command": command }));
    assert_eq!(consul(json!(["/bin/sh", "-ec", "exec consul agent \\\n  -server \\\n  -ui"])), Some("consul"));
    assert_eq!(consul(json!(["sh", "-c", "consul agent \"-server\""])), Some("consul"));
    assert_eq!(consul(json!(["sh", "-c", "consul agent -server;"])), Some("consul"));
    assert_eq!(consul(json!(["consul", "agent", "-server-name=x"])), None);
    assert_eq!(consul(json!(["consul", "agent", "x-server"])), None);
    // A broker's script that asks ZooKeeper with `zookeeper-shell` is no ZooKeeper.
    let pulsar = |script: &str| id_of(&json!({ "image": "apachepulsar/pulsar-all", "args": [script] }));
    assert_eq!(pulsar("until bin/pulsar zookeeper-shell get /x; do sleep 1; done"), None);
    assert_eq!(
        pulsar("until bin/pulsar zookeeper-shell get /x; do sleep 1; done; exec bin/pulsar broker;"),
        Some("pulsar-broker")
    );
}

#[test]
fn the_environment_is_read_as_the_kubelet_does() {
    let kafka = |env: Value| id_of(&json!({ "image": "bitnami/kafka", "env": env }));
    let role = |value: &str| json!({ "name": "KAFKA_CFG_PROCESS_ROLES", "value": value });
    assert_eq!(kafka(json!([role("controller,broker")])), Some("kafka-controller"));
    assert_eq!(kafka(json!([role("broker")])), Some("kafka-broker"));
    assert_eq!(kafka(json!([role("controller"), role("broker")])), Some("kafka-broker"), "the last one counts");
    assert_eq!(kafka(json!([])), None);
    assert_eq!(kafka(json!([role("")])), None);
    // The value is not known here.
    let elsewhere =
        json!({ "name": "KAFKA_CFG_PROCESS_ROLES", "valueFrom": { "configMapKeyRef": { "name": "a", "key": "b" } } });
    assert_eq!(kafka(json!([role("controller"), elsewhere])), None);
    let elastic = |env: Value| id_of(&json!({ "image": "elasticsearch:8.1.0", "env": env }));
    assert_eq!(elastic(json!([])), Some("elasticsearch-master"), "all roles by default");
    assert_eq!(
        elastic(json!([{ "name": "node.roles" }])),
        Some("elasticsearch-data"),
        "an empty list: coordinating only"
    );
    assert_eq!(elastic(json!([{ "name": "node.roles", "value": "data,ingest" }])), Some("elasticsearch-data"));
    assert_eq!(elastic(json!([{ "name": "discovery.type", "value": "single-node" }])), None);
}

#[test]
fn wrong_types_say_nothing_and_never_panic() {
    for container in [
        json!(null),
        json!(1),
        json!("zookeeper"),
        json!([]),
        json!({}),
        json!({ "image": null }),
        json!({ "image": 1 }),
        json!({ "image": "kafka", "env": {}, "command": "x", "args": 3 }),
        json!({ "image": "kafka", "env": [null, 1, "a", {}, { "name": 1 }, { "name": "KAFKA_PROCESS_ROLES", "value": 1 }] }),
        json!({ "image": "consul", "command": [null, 1, {}, ["-server"]] }),
    ] {
        assert_eq!(id_of(&container), None, "{container}");
    }
    for spec in
        [json!(null), json!({ "containers": null }), json!({ "containers": {} }), json!({ "containers": [null, 1] })]
    {
        assert!(recognise_pod(&spec).is_none(), "{spec}");
    }
}

#[test]
fn hostile_sizes_end_soon() {
    let long = "a/".repeat(500_000) + "zookeeper";
    assert_eq!(id_of(&json!({ "image": long })), None);
    let dashes = "-".repeat(1_000_000);
    assert_eq!(id_of(&json!({ "image": format!("a{dashes}b") })), None);
    let word = "-".repeat(1_000_000);
    assert_eq!(id_of(&json!({ "image": "consul", "args": [word, "-server "] })), Some("consul"));
    let words = "group_replicatio ".repeat(100_000);
    assert_eq!(id_of(&json!({ "image": "mysql", "args": [words] })), Some("mysql"));
}

#[test]
fn probes_that_ask_the_quorum_are_told_from_those_that_do_not() {
    let http = |id: &str, path: &str| {
        let fits = |handler: Handler| matches!(handler, Handler::Http(glob) if workload::glob::matches(glob, path));
        system(id).unwrap().probes().iter().find(|probe| fits(probe.handler)).map(|probe| probe.asks)
    };
    assert_eq!(http("etcd", "/livez"), Some(Asks::Member));
    assert_eq!(http("etcd", "/health"), Some(Asks::Quorum));
    assert_eq!(http("etcd", "/health?serializable=true"), Some(Asks::Member));
    // What kubeadm wrote from 1.25 to 1.30.
    assert_eq!(http("etcd", "/health?exclude=NOSPACE&serializable=true"), Some(Asks::Member));
    assert_eq!(http("etcd", "/health?exclude=NOSPACE&serializable=false"), Some(Asks::Quorum));
    assert_eq!(http("etcd", "/readyz"), Some(Asks::Quorum));
    assert_eq!(http("cockroachdb", "/health"), Some(Asks::Member));
    assert_eq!(http("cockroachdb", "/health?ready=1"), Some(Asks::Quorum));
    assert_eq!(http("rqlite", "/readyz?noleader"), Some(Asks::Member));
    assert_eq!(http("zookeeper", "/anything"), None);
    assert!(!system("cockroachdb").unwrap().liveness().unwrap().advised);
    assert!(system("zookeeper").unwrap().heap().iter().any(|fact| fact.setting == Setting::Env("ZK_HEAP_SIZE")));
}

#[test]
fn the_page_in_the_documentation_is_current() {
    let page = here("../../docs/catalogue.md");
    let expected = render(&data());
    if env::var_os("QUORATE_BLESS").is_some() {
        fs::write(&page, &expected).unwrap();
    }
    let found = fs::read_to_string(&page).unwrap_or_default();
    assert!(
        found == expected,
        "docs/catalogue.md is stale: QUORATE_BLESS=1 cargo test -p workload --test catalogue writes it anew"
    );
}

/// The page: a table to look things up, then each system with its facts and their sources.
fn render(data: &schema::Catalogue) -> String {
    let mut page = String::from(
        "# The catalogue\n\n<!-- Written from crates/workload/catalogue.toml by `QUORATE_BLESS=1 cargo test -p workload --test catalogue`. -->\n\n\
         Quorate knows these systems by the image of a regular container, and where that does not suffice by its command line\n\
         and environment. `majority`: more than half of the members must be up. `none`: its members do not vote. A number\n\
         of *groups* says that groups of that many members vote on a part of the data each, so that an even number of members\n\
         is no waste. Image patterns match the last segments of the repository, whatever the registry, the tag and the digest.\n\n\
         A workload that is not here is judged by the settings; `quorate.dev/quorum` declares what a workload is.\n\n\
         | system | id | model | groups | images |\n|---|---|---|---|---|\n",
    );
    for row in &data.system {
        let group = row.group.map_or_else(|| "-".to_owned(), |size| format!("of {size}"));
        let images: BTreeSet<_> =
            row.rule.iter().flat_map(|rule| &rule.images).map(|image| format!("`{image}`")).collect();
        let images = images.into_iter().collect::<Vec<_>>().join(" ");
        writeln!(page, "| [{}](#{}) | `{}` | {} | {group} | {images} |", row.name, row.id, row.id, model(row.model))
            .unwrap();
    }
    for row in &data.system {
        render_system(&mut page, data, row);
    }
    page
}

fn model(model: schema::Model) -> &'static str {
    match model {
        schema::Model::Majority => "majority",
        schema::Model::None => "none",
    }
}

fn render_system(page: &mut String, data: &schema::Catalogue, row: &schema::System) {
    let cite = |key: &str| {
        let source = &data.source[key];
        format!("([source]({}), {})", source.url, source.section)
    };
    let setting = |fact: &schema::Setting| {
        let name = fact.flag.as_ref().or(fact.env.as_ref()).or(fact.key.as_ref()).unwrap();
        format!("`{name}` {}", cite(&fact.source))
    };
    write!(page, "\n## <a id=\"{}\"></a>{}\n\n{} {}\n\n", row.id, row.name, row.why, cite(&row.source)).unwrap();
    let mut line = |text: String| writeln!(page, "- {text}").unwrap();
    for rule in &row.rule {
        let images: Vec<_> = rule.images.iter().map(|image| format!("`{image}`")).collect();
        let when = conditions(" when one holds:", &rule.when);
        let unless = conditions(" unless", &rule.unless);
        let source = rule.source.as_deref().map_or_else(String::new, |key| format!(" {}", cite(key)));
        line(format!("Recognised by {}{when}{unless}{source}", images.join(", ")));
    }
    for fact in &row.membership {
        line(format!("Members: {}", setting(fact)));
    }
    for fact in &row.heap {
        line(format!("Heap or cache: {}", setting(fact)));
    }
    if let Some(liveness) = &row.liveness {
        let advice = if liveness.advised { "advised" } else { "not advised" };
        line(format!("Liveness probe {advice}: {} {}", liveness.note, cite(&liveness.source)));
    }
    for probe in &row.probe {
        let asks = match probe.asks {
            schema::Asks::Member => "this member",
            schema::Asks::Quorum => "the quorum",
        };
        let handler = probe.http.as_ref().or(probe.exec.as_ref()).unwrap();
        line(format!("Probe `{handler}` asks {asks} {}", cite(&probe.source)));
    }
    for data in &row.data {
        line(format!("Data: `{}` {}", data.path, cite(&data.source)));
    }
    for port in &row.port {
        line(format!("Port {}: {} {}", port.number, port.name, cite(&port.source)));
    }
    for resource in &row.resource {
        line(format!(
            "Operator: `{}` of `{}` ({}) {}",
            resource.field,
            resource.kind,
            resource.group,
            cite(&resource.source)
        ));
    }
    for seen in &row.seen {
        line(format!("Seen: `{}` in {}", seen.image, seen.place));
    }
}

fn conditions(word: &str, conditions: &[schema::Condition]) -> String {
    let one = |condition: &schema::Condition| match condition {
        schema::Condition { word: Some(word), .. } => format!("`{word}` in the command"),
        schema::Condition { env: Some(env), is: Some(is), .. } => format!("`{env}` is `{is}`"),
        schema::Condition { env: Some(env), lacks, .. } if !lacks.is_empty() => {
            format!("`{env}` without {}", lacks.join(", "))
        }
        schema::Condition { env, .. } => format!("`{}` is set", env.as_deref().unwrap_or_default()),
    };
    if conditions.is_empty() {
        return String::new();
    }
    format!("{word} {}", conditions.iter().map(one).collect::<Vec<_>>().join("; "))
}
