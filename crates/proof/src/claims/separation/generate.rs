//! Sets whose members are kept apart, or nearly.

use fastrand::Rng;
use serde_json::{Value, json};

use crate::claim::Subject;
use crate::make::{chance, one, put};

use super::plan::HOSTNAME;

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const RACK: &str = "example.com/rack";
const INDEX: &str = "apps.kubernetes.io/pod-index";
const NAME: &str = "statefulset.kubernetes.io/pod-name";
const REVISION: &str = "controller-revision-hash";

/// A set, or an update of one.
pub(super) fn subject(random: &mut Rng) -> Subject {
    let members = one(random, &[2, 3, 3, 3, 4, 5]).unwrap_or(3);
    let mut settings = json!({});
    if chance(random, 28) {
        settings["zones"] = if chance(random, 20) { "warn" } else { "require" }.into();
        put(random, &mut settings, "zoneKey", &[Value::Null, Value::Null, Value::Null, json!(RACK), json!(REGION)]);
    }
    if chance(random, 15) {
        settings["domains"] = json!([RACK]);
    }
    if chance(random, 3) {
        settings["require"] = "preferred".into();
    }
    let mut labels = json!({ "app": "zk" });
    put(random, &mut labels, "tier", &[Value::Null, Value::Null, json!("db")]);
    put(random, &mut labels, "version", &[Value::Null, json!("1"), json!("2")]);
    // A label that the API server writes when it binds a pod.
    if chance(random, 3) {
        labels[ZONE] = "somewhere".into();
    }
    let own = own_selector(random, &labels);
    let zones = settings["zones"].is_string();
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": { "name": "zk", "namespace": "quorum" },
        "spec": {
            "replicas": members,
            "selector": own,
            "template": { "metadata": { "labels": labels }, "spec": pod(random, members, &labels, &own, zones) },
        },
    });
    put(random, &mut object["spec"], "podManagementPolicy", &[Value::Null, json!("OrderedReady"), json!("Parallel")]);
    if chance(random, 10) {
        object["spec"]["ordinals"] = json!({ "start": 3 });
    }
    let facts =
        if chance(random, 40) { json!({ "before": before(random, members, &object, zones) }) } else { Value::Null };
    Subject { name: String::new(), objects: vec![object], settings, facts }
}

/// What the set was before, as a change of it.
fn before(random: &mut Rng, members: i64, object: &Value, zones: bool) -> Value {
    let labels = &object["spec"]["template"]["metadata"]["labels"];
    let mut template = json!({});
    let kind = random.u32(..10);
    // Another label, which a selector may rest on.
    if kind < 5 {
        let version = if labels["version"] == "1" { "0" } else { "1" };
        template["metadata"] = json!({ "labels": { "version": version } });
    }
    let mut old = labels.clone();
    if let Some(version) = template["metadata"]["labels"]["version"].as_str() {
        old["version"] = version.into();
    }
    // What kept the members apart was of the same make, or of another.
    if kind >= 3 {
        let pod = pod(random, members, &old, &object["spec"]["selector"], zones);
        let field = |name: &str| pod.get(name).cloned().unwrap_or(Value::Null);
        let mut spec = json!({});
        for name in ["affinity", "topologySpreadConstraints", "hostNetwork"] {
            spec[name] = field(name);
        }
        // Merging would mix the terms of both.
        let affinity = object["spec"]["template"]["spec"]["affinity"].as_object();
        for part in affinity.into_iter().flat_map(|affinity| affinity.keys()) {
            if spec["affinity"].is_object() && spec["affinity"][part].is_null() {
                spec["affinity"][part] = Value::Null;
            }
        }
        spec["containers"] = field("containers");
        template["spec"] = spec;
    } else {
        template["metadata"]["annotations"] = json!({ "checked": "yes" });
    }
    json!({ "spec": { "template": template } })
}

fn own_selector(random: &mut Rng, labels: &Value) -> Value {
    let with_tier = labels["tier"].is_string() && chance(random, 50);
    match random.u32(..4) {
        0 if with_tier => {
            json!({ "matchLabels": { "app": "zk" }, "matchExpressions": [{ "key": "tier", "operator": "Exists" }] })
        }
        1 => json!({ "matchExpressions": [{ "key": "app", "operator": "In", "values": ["zk"] }] }),
        _ if with_tier => json!({ "matchLabels": { "app": "zk", "tier": "db" } }),
        _ => json!({ "matchLabels": { "app": "zk" } }),
    }
}

/// A spec of pods, with something that may keep them apart.
fn pod(random: &mut Rng, members: i64, labels: &Value, own: &Value, zones: bool) -> Value {
    let mut pod = json!({ "containers": [{ "name": "zookeeper", "image": "zookeeper:3.9" }] });
    let kind = random.u32(..100);
    let count = one(random, &[1, 1, 1, 2, 3]).unwrap_or(1);
    if kind < 55 {
        let terms: Vec<Value> = (0..count).map(|_| term(random, members, labels, own)).collect();
        pod["affinity"] = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } });
    }
    if (45..88).contains(&kind) {
        let count = one(random, &[1, 1, 1, 2]).unwrap_or(1);
        let spreads: Vec<Value> = (0..count).map(|_| spread(random, members, labels, own)).collect();
        // Of one key and one action there may be one only.
        let mut kept: Vec<Value> = Vec::new();
        for spread in spreads {
            let is_same = |other: &Value| {
                other["topologyKey"] == spread["topologyKey"]
                    && other["whenUnsatisfiable"] == spread["whenUnsatisfiable"]
            };
            if !kept.iter().any(is_same) {
                kept.push(spread);
            }
        }
        pod["topologySpreadConstraints"] = kept.into();
    }
    if chance(random, 8) || (88..93).contains(&kind) {
        let wish = json!({ "weight": 10, "podAffinityTerm": term(random, members, labels, own) });
        pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([wish]);
    }
    if kind >= 92 || chance(random, 4) {
        ports(random, &mut pod);
    }
    if zones {
        // The node's own term is there more often, so that the zones decide.
        if chance(random, 50) {
            let term = json!({ "topologyKey": HOSTNAME, "labelSelector": own });
            pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!([term]);
        }
        if chance(random, 60) {
            let spread = json!({
                "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": own,
                "maxSkew": random.i64(1..=2), "minDomains": random.i64(1..=members.min(4)),
            });
            let spread = if chance(random, 15) { self::spread(random, members, labels, own) } else { spread };
            pod["topologySpreadConstraints"] = json!([spread]);
        }
        if chance(random, 10) {
            pod["nodeSelector"] = json!({ ZONE: "north" });
        }
        if chance(random, 8) {
            let term = json!({ "topologyKey": ZONE, "labelSelector": own });
            pod["affinity"]["podAffinity"] = json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term] });
        }
    }
    if chance(random, 2) {
        pod["nodeName"] = "node-1".into();
    }
    pod
}

fn ports(random: &mut Rng, pod: &mut Value) {
    let port = one(random, &[2181, 2181, 2182]).unwrap_or(2181);
    match random.u32(..6) {
        0 => pod["hostNetwork"] = true.into(),
        1 => {
            pod["hostNetwork"] = true.into();
            pod["containers"][0]["ports"] = json!([{ "containerPort": port }]);
        }
        2 => pod["containers"][0]["ports"] = json!([{ "containerPort": port }]),
        3 => {
            let mut container =
                json!({ "name": "first", "image": "busybox", "ports": [{ "containerPort": port, "hostPort": port }] });
            put(random, &mut container, "restartPolicy", &[Value::Null, json!("Always")]);
            pod["initContainers"] = json!([container]);
        }
        _ => {
            let mut open = json!({ "containerPort": 2181, "hostPort": port });
            put(random, &mut open, "protocol", &[Value::Null, json!("TCP"), json!("UDP")]);
            put(random, &mut open, "hostIP", &[Value::Null, Value::Null, json!("10.0.0.1")]);
            pod["containers"][0]["ports"] = json!([open]);
        }
    }
}

fn topology_key(random: &mut Rng) -> &'static str {
    one(random, &[HOSTNAME, HOSTNAME, HOSTNAME, HOSTNAME, HOSTNAME, HOSTNAME, ZONE, ZONE, REGION, RACK, RACK])
        .unwrap_or(HOSTNAME)
}

fn term(random: &mut Rng, members: i64, labels: &Value, own: &Value) -> Value {
    let mut term = json!({ "topologyKey": topology_key(random) });
    selector(random, members, labels, own, &mut term);
    if chance(random, 12) {
        let lists = [json!([]), json!(["quorum"]), json!(["other"]), json!(["other", "quorum"])];
        put(random, &mut term, "namespaces", &lists);
    }
    if chance(random, 12) {
        let by_name = |operator: &str, name: &str| json!({ "matchExpressions": [{ "key": "kubernetes.io/metadata.name", "operator": operator, "values": [name] }] });
        let selectors = [
            json!({}),
            json!({}),
            json!({ "matchLabels": { "kubernetes.io/metadata.name": "quorum" } }),
            by_name("In", "other"),
            by_name("NotIn", "other"),
            by_name("NotIn", "quorum"),
            json!({ "matchLabels": { "team": "a" } }),
        ];
        put(random, &mut term, "namespaceSelector", &selectors);
    }
    if term["labelSelector"].is_object() {
        if chance(random, 15) {
            term["matchLabelKeys"] = label_keys(random);
        } else if chance(random, 10) {
            term["mismatchLabelKeys"] = label_keys(random);
        }
    }
    term
}

fn spread(random: &mut Rng, members: i64, labels: &Value, own: &Value) -> Value {
    let mut spread = json!({
        "topologyKey": topology_key(random),
        "maxSkew": one(random, &[1, 1, 1, 1, 2, 3]).unwrap_or(1),
        "whenUnsatisfiable": one(random, &["DoNotSchedule", "DoNotSchedule", "DoNotSchedule", "DoNotSchedule", "ScheduleAnyway"]),
    });
    if spread["whenUnsatisfiable"] == "DoNotSchedule" {
        let sizes = [
            Value::Null,
            json!(1),
            json!(members - 1),
            json!(members),
            json!(members),
            json!(members),
            json!(members),
            json!(members + 1),
        ];
        put(random, &mut spread, "minDomains", &sizes);
    }
    for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        put(random, &mut spread, policy, &[Value::Null, Value::Null, json!("Honor"), json!("Ignore")]);
    }
    selector(random, members, labels, own, &mut spread);
    if spread["labelSelector"].is_object() && chance(random, 16) {
        spread["matchLabelKeys"] = label_keys(random);
    }
    spread
}

fn label_keys(random: &mut Rng) -> Value {
    let keys = [
        json!([REVISION]),
        json!([REVISION]),
        json!(["version"]),
        json!(["version"]),
        json!(["tier"]),
        json!(["absent"]),
        json!([INDEX]),
        json!([INDEX]),
        json!([NAME]),
        json!([NAME]),
        json!([ZONE]),
        json!(["version", REVISION]),
    ];
    one(random, &keys).unwrap_or_default()
}

/// A selector: most often one that selects the members.
fn selector(random: &mut Rng, members: i64, labels: &Value, own: &Value, of: &mut Value) {
    let selector = match random.u32(..20) {
        0..=7 => own.clone(),
        8 => json!({}),
        9 => json!({ "matchLabels": labels }),
        10 => json!({ "matchLabels": { "app": "kafka" } }),
        11 => return,
        _ => {
            let count = one(random, &[1, 1, 2]).unwrap_or(1);
            let expressions: Vec<Value> = (0..count).map(|_| expression(random, members)).collect();
            if chance(random, 50) {
                json!({ "matchLabels": { "app": "zk" }, "matchExpressions": expressions })
            } else {
                json!({ "matchExpressions": expressions })
            }
        }
    };
    of["labelSelector"] = selector;
}

fn expression(random: &mut Rng, members: i64) -> Value {
    let key = one(random, &["app", "app", "tier", "version", "version", "absent", INDEX, INDEX, NAME, NAME, REVISION])
        .unwrap_or("app");
    let operator = one(random, &["In", "In", "NotIn", "Exists", "DoesNotExist"]).unwrap_or("In");
    let mut expression = json!({ "key": key, "operator": operator });
    if matches!(operator, "In" | "NotIn") {
        let all: Vec<String> = match key {
            "app" => ["zk", "kafka"].map(str::to_owned).into(),
            "tier" => ["db", "web"].map(str::to_owned).into(),
            "version" => ["1", "2", "0"].map(str::to_owned).into(),
            INDEX => (0..members).map(|member| member.to_string()).collect(),
            NAME => (0..members).map(|member| format!("zk-{member}")).collect(),
            _ => vec!["x".to_owned()],
        };
        let mut values: Vec<String> = all.iter().filter(|_| chance(random, 60)).cloned().collect();
        if values.is_empty() {
            values.extend(all.first().cloned());
        }
        expression["values"] = values.into();
    }
    expression
}

#[cfg(test)]
mod tests {
    use super::super::Separation;
    use super::super::plan::{PREFERRED, Plan, REQUIRED, items, spec};
    use super::*;
    use crate::make::{Variety, assert_varied};

    fn pod(subject: &Subject) -> &Value {
        spec(&subject.objects[0])
    }

    fn terms(subject: &Subject) -> Vec<Value> {
        items(pod(subject), REQUIRED).cloned().collect()
    }

    fn spreads(subject: &Subject) -> Vec<Value> {
        items(pod(subject), "/topologySpreadConstraints").cloned().collect()
    }

    fn of(name: String, has: impl Fn(&Subject) -> bool + 'static) -> Variety<'static> {
        (name, Box::new(has))
    }

    /// Of each term or constraint.
    fn each(
        kind: fn(&Subject) -> Vec<Value>,
        name: String,
        has: impl Fn(&Value) -> bool + 'static,
    ) -> Variety<'static> {
        of(name, move |subject| kind(subject).iter().any(&has))
    }

    #[test]
    fn every_kind_of_set_is_generated() {
        let mut all: Vec<Variety<'static>> = Vec::new();
        for (what, kind) in [("term", terms as fn(&Subject) -> Vec<Value>), ("constraint", spreads)] {
            for operator in ["In", "NotIn", "Exists", "DoesNotExist"] {
                all.push(each(kind, format!("{what} with {operator}"), move |it| {
                    items(it, "/labelSelector/matchExpressions").any(|expression| expression["operator"] == operator)
                }));
            }
            for key in [INDEX, NAME, REVISION] {
                all.push(each(kind, format!("{what} that selects by {key}"), move |it| {
                    items(it, "/labelSelector/matchExpressions").any(|expression| expression["key"] == key)
                }));
                all.push(each(kind, format!("{what} with the label key {key}"), move |it| {
                    items(it, "/matchLabelKeys").chain(items(it, "/mismatchLabelKeys")).any(|of| of == key)
                }));
            }
            for key in [HOSTNAME, ZONE, REGION, RACK] {
                all.push(each(kind, format!("{what} on {key}"), move |it| it["topologyKey"] == key));
            }
            all.push(each(kind, format!("{what} without a selector"), |it| it["labelSelector"].is_null()));
            all.push(each(kind, format!("{what} with an empty selector"), |it| it["labelSelector"] == json!({})));
            all.push(each(kind, format!("{what} with matchLabelKeys"), |it| !it["matchLabelKeys"].is_null()));
        }
        for field in ["namespaces", "namespaceSelector", "mismatchLabelKeys"] {
            all.push(each(terms, field.to_owned(), move |term| !term[field].is_null()));
        }
        for action in ["DoNotSchedule", "ScheduleAnyway"] {
            all.push(each(spreads, action.to_owned(), move |spread| spread["whenUnsatisfiable"] == action));
        }
        for (name, least, most) in [("maxSkew: 1", 1, 1), ("a wider maxSkew", 2, i64::MAX)] {
            all.push(each(spreads, name.to_owned(), move |spread| {
                spread["maxSkew"].as_i64().is_some_and(|skew| (least..=most).contains(&skew))
            }));
        }
        let domains = |subject: &Subject, fits: fn(Option<i64>, i64) -> bool| {
            let members = subject.objects[0]["spec"]["replicas"].as_i64().unwrap();
            let mut hard = spreads(subject).into_iter().filter(|spread| spread["whenUnsatisfiable"] == "DoNotSchedule");
            hard.any(|spread| fits(spread["minDomains"].as_i64(), members))
        };
        all.push(of("no minDomains".to_owned(), move |it| domains(it, |domains, _| domains.is_none())));
        all.push(of("few minDomains".to_owned(), move |it| {
            domains(it, |domains, members| domains < Some(members) && domains.is_some())
        }));
        all.push(of("many minDomains".to_owned(), move |it| domains(it, |domains, members| domains >= Some(members))));
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            for value in [Value::Null, json!("Honor"), json!("Ignore")] {
                all.push(each(spreads, format!("{policy}: {value}"), move |spread| spread[policy] == value));
            }
        }
        for zones in [Value::Null, json!("require"), json!("warn")] {
            all.push(of(format!("zones: {zones}"), move |it| it.settings["zones"] == zones));
        }
        all.push(of("domains in the settings".to_owned(), |it| it.settings["domains"].is_array()));
        all.push(of("another zone key".to_owned(), |it| it.settings["zoneKey"].is_string()));
        all.push(of("require: preferred".to_owned(), |it| it.settings["require"] == "preferred"));
        all.push(of("a host port".to_owned(), |it| pod(it).to_string().contains("hostPort")));
        all.push(of("the host's network".to_owned(), |it| pod(it)["hostNetwork"] == true));
        all.push(of("a wish".to_owned(), |it| items(pod(it), PREFERRED).next().is_some()));
        all.push(of("a node by its name".to_owned(), |it| pod(it)["nodeName"].is_string()));
        all.push(of("a node selector".to_owned(), |it| pod(it)["nodeSelector"].is_object()));
        all.push(of("members that attract each other".to_owned(), |it| !pod(it)["affinity"]["podAffinity"].is_null()));
        all.push(of("several domains".to_owned(), |it| {
            let mut keys: Vec<Value> =
                terms(it).iter().chain(&spreads(it)).map(|one| one["topologyKey"].clone()).collect();
            keys.sort_by_key(Value::to_string);
            keys.dedup();
            keys.len() > 1
        }));
        all.push(of("an update".to_owned(), |it| it.facts["before"].is_object()));
        all.push(of("other pods that count".to_owned(), |it| {
            Plan::read(it).is_ok_and(|plan| !plan.foreign.is_empty())
        }));
        all.push(of("members all at once".to_owned(), |it| it.objects[0]["spec"]["podManagementPolicy"] == "Parallel"));
        all.push(of("ordinals that start later".to_owned(), |it| it.objects[0]["spec"]["ordinals"].is_object()));
        assert_varied(&Separation, &all);
    }
}
