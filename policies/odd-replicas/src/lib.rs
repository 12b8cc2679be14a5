#![doc = include_str!("../README.md")]

use policy::lookup::{AUTOSCALERS, Object};
use policy::quorum::{majority, tolerance};
use policy::settings::{self, choice, text};
use policy::{
    Fault, Finding, Level, Operation, Policy, Problem, Quorum, Request, Review, Settings, SettingsError, Target,
};
use serde_json::Value;
use workload::edit::Edit;
use workload::member::Set;
use workload::{Malformed, Node, Path};

policy::export!(OddReplicas);

/// The settings.
#[derive(Debug)]
pub struct OddReplicas {
    /// The most members that a voting set may have; absent means any odd number.
    pub max: Option<i32>,
    /// The fewest members that a set known to vote may have.
    pub min: i32,
    /// Whether a set may be scaled to nothing, which is a shutdown.
    pub allow_zero: bool,
    /// Whether a set may grow and shrink by one member at a time, through an even count.
    pub steps: Steps,
    /// Custom resources whose count is one of voting members.
    pub resources: Vec<CustomResource>,
}

/// What a step of one member from a sound count is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Steps {
    /// A warning.
    #[default]
    Allow,
    /// Denied like any other even count.
    Deny,
}

/// A custom resource whose count is one of voting members.
#[derive(Debug)]
pub struct CustomResource {
    /// The API group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The fields that lead to the count, with dots between: `spec.replicas`.
    pub path: String,
}

impl CustomResource {
    fn read(node: &Node<'_>) -> Result<Self, Malformed> {
        settings::object(node, |fields| {
            Ok(Self {
                group: text(&fields.get("group"))?,
                kind: text(&fields.get("kind"))?,
                path: fields.get("path").string()?.unwrap_or("spec.replicas").to_owned(),
            })
        })
    }
}

impl Policy for OddReplicas {
    const NAME: &'static str = "odd-replicas";
    const READS_RESOURCES: bool = false;
    const TARGETS: &'static [Target] = &[
        Target::STATEFUL_SETS,
        Target::STATEFUL_SET_SCALES,
        Target {
            group: "autoscaling",
            kind: "HorizontalPodAutoscaler",
            resource: "horizontalpodautoscalers",
            subresource: None,
            operations: &[Operation::Create, Operation::Update],
        },
    ];
    const MUTATES: bool = true;

    fn read(settings: &mut Settings<'_>) -> Result<Self, Malformed> {
        let mut resources = Vec::new();
        for resource in settings.get("resources").items()? {
            resources.push(CustomResource::read(&resource)?);
        }
        Ok(Self {
            max: settings.get("max").int32()?,
            min: settings.get("min").int32()?.unwrap_or(3),
            allow_zero: settings.get("allowZero").boolean()?.unwrap_or(true),
            steps: choice(&settings.get("steps"), &[("allow", Steps::Allow), ("deny", Steps::Deny)])?
                .unwrap_or_default(),
            resources,
        })
    }

    fn check(&self) -> Result<(), SettingsError> {
        if self.min < 1 {
            return Err(SettingsError::new("min", format!("Invalid value: {}: must be at least 1", self.min)));
        }
        match self.max {
            Some(max) if self.next_sound(1, true).is_none() => Err(SettingsError::new(
                "max",
                format!("Invalid value: {max}: no odd number from min ({}) to it", self.min),
            )),
            _ => Ok(()),
        }
    }

    fn also_targets(&self, request: &Request) -> bool {
        request.subresource.is_none()
            && matches!(request.operation, Operation::Create | Operation::Update)
            && self.custom_resource(&request.kind.group, &request.kind.kind).is_some()
    }

    fn judge(&self, review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
        if let Some(resource) = self.custom_resource(review.group(), review.kind()) {
            return self.judge_custom_resource(review, resource);
        }
        match review.kind() {
            "StatefulSet" => self.judge_set(review),
            _ => self.judge_autoscaler(review),
        }
    }
}

/// How many members there are, and were.
struct Count<'a> {
    /// How they decide.
    quorum: Option<&'a Quorum>,
    now: i64,
    before: Option<i64>,
    /// Where the count stands.
    path: Path,
    /// The members of other sets of the same ensemble, which are part of `now` and `before`.
    elsewhere: i64,
    /// Whether an autoscaler sets the count.
    autoscaled: bool,
}

impl Count<'_> {
    /// Whether the members are known to vote, rather than taken to.
    fn is_known(&self) -> bool {
        self.quorum.is_none_or(Quorum::is_known)
    }

    /// Whether all members vote together, so that an even number of them is one too many. Where groups of them do,
    /// any number that a group fits in is right.
    fn votes_as_one(&self) -> bool {
        self.quorum.is_none_or(|quorum| quorum.group.is_none())
    }

    /// How many of `members` may be lost at once.
    fn tolerance(&self, members: i64) -> i64 {
        self.quorum.map_or_else(|| tolerance(members), |quorum| quorum.tolerance(members))
    }

    /// The finding, with what it rests on.
    fn finding(&self, code: &'static str, reason: String) -> Finding {
        let value = Value::from(self.now - self.elsewhere);
        let finding = Finding::error(code, self.path, Problem::Invalid(value), reason);
        match self.quorum {
            Some(quorum) => finding.resting_on(quorum),
            None => finding,
        }
    }
}

impl OddReplicas {
    fn custom_resource(&self, group: &str, kind: &str) -> Option<&CustomResource> {
        self.resources.iter().find(|resource| resource.group == group && resource.kind == kind)
    }

    fn judge_set(&self, review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
        let quorum = review.quorum(&review.object)?;
        review.note(quorum.explain());
        if !quorum.votes() {
            return Ok(declared_otherwise(review, &quorum)?.into_iter().collect());
        }
        let set = Set::read(&review.object)?;
        let before = match &review.old {
            // Before, the members may not have voted; then they are judged as if they were new.
            Some(old) if review.quorum(old)?.votes() => Some(Set::read(old)?.replicas),
            _ => None,
        };
        let mut elsewhere = 0;
        for other in review.rest_of_ensemble(&review.object)? {
            elsewhere += Set::read(&Node::root(other.value())).map_or(0, |set| set.replicas);
        }
        let mut count = Count {
            quorum: Some(&quorum),
            now: set.replicas + elsewhere,
            before: before.map(|count| count + elsewhere),
            path: Path::fields("spec.replicas"),
            elsewhere,
            autoscaled: false,
        };
        let findings = self.judge_count(&count);
        if findings.is_empty() {
            return Ok(findings);
        }
        // Asked only where something is wrong: every look-up of another kind is a watch that stays open.
        count.autoscaled = is_autoscaled(review, &set.name);
        let mut findings = self.judge_count(&count);
        if count.autoscaled && set.replicas == 1 {
            // The count was left out for the autoscaler, whose bounds are judged with the autoscaler itself.
            findings.retain(|finding| finding.code == BIG_STEP_DOWN);
        }
        Ok(findings)
    }

    fn judge_custom_resource(&self, review: &Review<'_>, resource: &CustomResource) -> Result<Vec<Finding>, Fault> {
        let path = Path::parse(&resource.path);
        let count = |object: &Node<'_>| -> Result<Option<i64>, Malformed> {
            let node = object.follow(path)?;
            match node.int32()? {
                Some(count) if count < 0 => Err(Malformed::new(&node, "must not be negative")),
                count => Ok(count.map(i64::from)),
            }
        };
        let Some(now) = count(&review.object)? else {
            review.note(format!(
                "{} has no {path}, so that its operator decides how many members there are",
                resource.kind
            ));
            return Ok(Vec::new());
        };
        let before = review.old.as_ref().map(count).transpose()?.flatten();
        Ok(self.judge_count(&Count { quorum: None, now, before, path, elsewhere: 0, autoscaled: false }))
    }

    fn judge_autoscaler(&self, review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
        let spec = review.object.get("spec")?;
        let Some(name) = target_set(&spec)? else { return Ok(Vec::new()) };
        let bound = |field: &'static str| -> Result<(i64, Path), Malformed> {
            let node = spec.get(field)?;
            Ok((i64::from(node.int32()?.unwrap_or(1)), node.path()))
        };
        let ((min, _), (max, path)) = (bound("minReplicas")?, bound("maxReplicas")?);
        let set = review.cluster.get("apps/v1", "StatefulSet", name)?;
        let quorum = set.as_ref().map(|set| review.quorum(&Node::root(set))).transpose()?;
        if quorum.as_ref().is_some_and(|quorum| !quorum.votes()) {
            return Ok(Vec::new());
        }
        let mut findings = if min == max {
            self.judge_count(&Count {
                quorum: quorum.as_ref(),
                now: max,
                before: None,
                path,
                elsewhere: 0,
                autoscaled: true,
            })
        } else {
            let finding = Finding::error(
                "autoscaled-members",
                path,
                Problem::Invalid(max.into()),
                format!("may set any number of voting members from {min} to {max}, even ones and big steps too"),
            )
            .measure(max - min)
            .advise("set minReplicas and maxReplicas to the same odd number, or remove the autoscaler: members that vote do not share load");
            vec![match &quorum {
                Some(quorum) => finding.resting_on(quorum),
                None => finding,
            }]
        };
        if set.is_none() {
            for finding in &mut findings {
                finding.level = Level::Warning;
                finding.doubt = format!("StatefulSet {name} is not there yet, so that nothing is known of its members");
            }
        }
        Ok(findings)
    }

    /// The rule itself.
    fn judge_count(&self, count: &Count<'_>) -> Vec<Finding> {
        let now = count.now;
        let mut findings = Vec::new();
        if now == 0 {
            if !self.allow_zero {
                findings.push(
                    count
                        .finding("no-members", "nothing is left of the ensemble".to_owned())
                        .why("a count of 0 is a shutdown, which the settings do not allow (allowZero: false)")
                        .advise("delete the set if it is not needed, else keep its members"),
                );
            }
            return findings;
        }
        findings.extend(too_big_a_step(count));
        findings.extend(self.unsound_count(count));
        if let Some(max) = self.max.map(i64::from).filter(|max| now > *max) {
            let sound = self.highest_sound(max);
            findings.push(
                count
                    .finding("too-many-members", format!("must be at most {max}"))
                    .measure(now)
                    .why(format!("every write waits for {} of {now} members", majority(now)))
                    .advise(format!("set {} to {}", count.path, sound - count.elsewhere)),
            );
        }
        findings
    }

    /// An even count, or fewer members than a known voting set needs.
    fn unsound_count(&self, count: &Count<'_>) -> Option<Finding> {
        let now = count.now;
        let too_few = count.is_known() && now < i64::from(self.min);
        if !too_few && (now % 2 == 1 || !count.votes_as_one() || self.max.is_some_and(|max| now > i64::from(max))) {
            return None;
        }
        let sound = self.next_sound(now, count.is_known());
        let advice = |target: i64| format!("set {} to {target}: {} {}", count.path, members(target), tolerate(target));
        let finding = if too_few {
            count
                .finding(
                    "too-few-members",
                    format!("must be at least {}: {} {}", self.min, members(now), tolerate(now)),
                )
                .measure(-now)
                .why("the members decide by majority, so that losing one of so few stops them all")
        } else {
            count
                .finding(
                    "even-members",
                    format!("must be odd: {} {}, as {} {}", members(now), tolerate(now), now - 1, does(now - 1)),
                )
                .measure(-tolerance(now))
                .why(format!("the members decide by majority, so that {} of {now} must be up", majority(now)))
        };
        let finding = match sound {
            Some(sound) if count.elsewhere > 0 => finding
                .advise(format!("give the sets of the ensemble {sound} members together, which {}", tolerate(sound))),
            Some(sound) if count.autoscaled => finding.advise(format!(
                "set minReplicas and maxReplicas of its autoscaler to {sound}, which {}",
                tolerate(sound)
            )),
            Some(sound) => finding.advise(advice(sound)).fix(vec![Edit::Set { path: count.path, value: sound.into() }]),
            // Only where `max` is in the way: then down is the only way left.
            None => finding.advise(advice(self.highest_sound(now))),
        };
        let by_one =
            count.before.is_some_and(|before| (now - before).abs() == 1 && self.is_sound(before, count.is_known()));
        if by_one && self.steps == Steps::Allow {
            return Some(finding.level(Level::Warning));
        }
        Some(finding)
    }

    fn is_sound(&self, members: i64, known: bool) -> bool {
        members % 2 == 1
            && (!known || members >= i64::from(self.min))
            && self.max.is_none_or(|max| members <= i64::from(max))
    }

    /// The first sound count that is not below `members`.
    fn next_sound(&self, members: i64, known: bool) -> Option<i64> {
        let lowest = if known { members.max(self.min.into()) } else { members };
        let odd = lowest | 1;
        Some(odd).filter(|odd| self.is_sound(*odd, known) && i32::try_from(*odd).is_ok())
    }

    /// The last odd count that is not above `members` nor `max`.
    fn highest_sound(&self, members: i64) -> i64 {
        let highest = self.max.map_or(members, |max| members.min(max.into()));
        (highest - 1) | 1
    }
}

/// The code of the finding about members that leave at once.
const BIG_STEP_DOWN: &str = "big-step-down";

/// More members leave at once than the ensemble can lose.
fn too_big_a_step(count: &Count<'_>) -> Option<Finding> {
    let before = count.before?;
    let removed = before - count.now;
    let allowed = count.tolerance(before);
    if removed <= allowed {
        return None;
    }
    let advice = if allowed == 0 {
        "take the member out of the ensemble with the system's own tool first; or scale to 0, which is a shutdown, and up again".to_owned()
    } else {
        format!("remove at most {allowed} at a time, and wait until the others have settled")
    };
    Some(
        count
            .finding(
                BIG_STEP_DOWN,
                format!("removes {removed} of {before} members at once, but {} may go", at_most(allowed)),
            )
            .measure(removed)
            .why(match count.quorum.and_then(|quorum| quorum.group) {
                Some(group) => {
                    format!("data is kept by groups of {group} members, and some group may lose its majority")
                }
                None => format!(
                    "the others are then no majority of the {before} that they know: {} would be",
                    majority(before)
                ),
            })
            .advise(advice),
    )
}

/// The catalogue knows better than the set's own declaration that its members vote.
fn declared_otherwise(review: &Review<'_>, quorum: &Quorum) -> Result<Option<Finding>, Malformed> {
    let Some(system) = quorum.contradicts else { return Ok(None) };
    let declaration = review.object.dig("metadata.annotations")?.entry(policy::quorum::QUORUM)?;
    Ok(Some(
        Finding::warning(
            "declared-not-voting",
            declaration.path(),
            Problem::Invalid(declaration.value().cloned().unwrap_or_default()),
            format!("{system} votes, but the set says that its members do not"),
        )
        .advise("remove the annotation, unless these pods are no voting members"),
    ))
}

/// The name of the `StatefulSet` that the autoscaler with this spec scales.
fn target_set<'a>(spec: &Node<'a>) -> Result<Option<&'a str>, Malformed> {
    let target = spec.get("scaleTargetRef")?;
    let group = target.text_at("apiVersion")?;
    let is_set = target.string_at("kind")? == Some("StatefulSet") && group.starts_with("apps/");
    Ok(if is_set { target.string_at("name")? } else { None })
}

/// Whether an autoscaler is known to set the count of the set `name`.
fn is_autoscaled(review: &Review<'_>, name: &str) -> bool {
    let targets = |autoscaler: &Object| {
        let object = Node::root(autoscaler.value());
        object.get("spec").and_then(|spec| target_set(&spec)).is_ok_and(|target| target == Some(name))
    };
    // Nothing hangs on it but the advice: where the cluster cannot be asked, the count is judged as it stands.
    review.cluster.list(&AUTOSCALERS).is_ok_and(|autoscalers| autoscalers.iter().any(targets))
}

fn at_most(count: i64) -> String {
    if count == 0 { "none".to_owned() } else { format!("at most {count}") }
}

fn members(count: i64) -> String {
    if count == 1 { "1 member".to_owned() } else { format!("{count} members") }
}

fn does(count: i64) -> &'static str {
    if count == 1 { "does" } else { "do" }
}

fn failures(count: i64) -> String {
    match tolerance(count) {
        0 => "no failure".to_owned(),
        1 => "1 failure".to_owned(),
        failures => format!("{failures} failures"),
    }
}

fn tolerate(count: i64) -> String {
    format!("{} {}", if count == 1 { "tolerates" } else { "tolerate" }, failures(count))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_judged_as_it_says() {
        corpus::check_policy::<super::OddReplicas>();
    }
}
