//! What is asked of one container: which probes it has, what each may be, and how they go together.

use policy::{Finding, Level, Problem};
use workload::catalogue::{Asks, Handler, Liveness, System};
use workload::container::{Container, Role};
use workload::texts::join;
use workload::{Malformed, Node, Path};

use crate::pod::{Pod, is_idle, runs_on, system_of};
use crate::probe::Probe;
use crate::{BUDGET, Kind, Probes, Want};

/// Judges one container.
pub(crate) struct Judge<'j, 'a> {
    pub(crate) settings: &'j Probes,
    pub(crate) pod: &'j Pod<'a>,
    /// Which of the pod's containers it is.
    pub(crate) index: usize,
    pub(crate) container: &'j Container<'a>,
    /// What is said of all of them.
    pub(crate) told: &'j mut Vec<Finding>,
}

/// One thing to say of the container. Its texts are in parts; the reason goes on after the container's name.
pub(crate) struct Said<'s> {
    pub(crate) code: &'static str,
    pub(crate) level: Level,
    /// What of the container it is about, beside its name; may be empty.
    pub(crate) about: &'s str,
    pub(crate) path: Path,
    pub(crate) problem: Problem,
    /// How bad it is: more is worse.
    pub(crate) measure: i64,
    pub(crate) reason: &'s [&'s str],
    pub(crate) why: &'s [&'s str],
    pub(crate) advice: &'s [&'s str],
}

impl<'a> Judge<'_, 'a> {
    pub(crate) fn judge(&mut self) -> Result<(), Malformed> {
        if !self.container.role.is_long_running() {
            return self.judge_what_ends();
        }
        if !runs_on(self.container)? {
            return Ok(());
        }
        let system = system_of(self.container);
        let vendor = system.and_then(System::liveness);
        let advises_against = vendor.is_some_and(|vendor| !vendor.advised);
        let is_idle = is_idle(self.container)?;
        let mut probes = [None, None, None];
        for (kind, place) in Kind::ALL.into_iter().zip(&mut probes) {
            let node = self.container.node.get(kind.field())?;
            let (want, by_exception) = self.settings.want(kind, self.container);
            let is_unwise = kind == Kind::Liveness && advises_against;
            if node.is_absent() {
                if (!is_unwise || by_exception) && (!is_idle || want == Want::Required) {
                    self.miss(kind, want, node.path(), system);
                }
            } else if want == Want::Forbidden {
                self.say(Said {
                    code: "forbidden-probe",
                    level: Level::Error,
                    about: kind.field(),
                    path: node.path(),
                    problem: Problem::Forbidden,
                    measure: 0,
                    reason: &[" must have none, by the settings"],
                    why: &[],
                    advice: &["remove it"],
                });
            } else {
                let probe = Probe::read(kind, node, self)?;
                if probe.is_counted {
                    self.judge_numbers(&probe);
                }
                *place = Some(probe);
            }
        }
        let [liveness, readiness, startup] = probes;
        let Some(liveness) = liveness else { return Ok(()) };
        let asks = match system {
            Some(system) => liveness.asks(system)?,
            None => None,
        };
        if let (Some((Asks::Quorum, field)), Some(system)) = (asks, system) {
            self.asks_quorum(field, system, vendor);
        } else if advises_against && self.settings.want(Kind::Liveness, self.container).0 != Want::Required {
            self.not_advised(liveness.node, system, vendor);
        } else if let (None, Some(readiness)) = (asks, readiness) {
            self.compare(&liveness, &readiness);
        }
        if let Some(startup) = startup {
            self.compare_with_startup(&liveness, &startup);
        }
        Ok(())
    }

    /// A plain init container or an ephemeral one, on which Kubernetes allows no probe: `validateInitContainers` and
    /// `validateEphemeralContainers` in `pkg/apis/core/validation/validation.go`.
    fn judge_what_ends(&mut self) -> Result<(), Malformed> {
        let (what, advice) = match self.container.role {
            Role::Init => (" ends before the pod runs", "remove it, or set restartPolicy: Always if this is a sidecar"),
            _ => (" is ephemeral", "remove it"),
        };
        for kind in Kind::ALL {
            let probe = self.container.node.get(kind.field())?;
            if probe.is_present() {
                self.tell_refusal(kind, "", probe.path(), Problem::Forbidden, &[what], advice);
            }
        }
        Ok(())
    }

    /// There is no probe of this kind.
    fn miss(&mut self, kind: Kind, want: Want, path: Path, system: Option<&System>) {
        let level = match want {
            Want::Required => Level::Error,
            Want::Serving if self.pod.serves(self.index, kind) => Level::Error,
            Want::Serving | Want::Advised => Level::Warning,
            Want::Optional | Want::Forbidden => return,
        };
        let ports = self.pod.ports_of(self.index);
        let tcp = ports.iter().find(|port| port.protocol == "TCP");
        let port = tcp.map(|port| match (port.name, port.container_port) {
            (Some(name), _) => name.to_owned(),
            (None, number) => i64::from(number.unwrap_or_default()).to_string(),
        });
        let (code, reason, why) = match kind {
            Kind::Liveness => ("missing-liveness", " is not restarted when it hangs", ""),
            Kind::Readiness if self.pod.in_set => (
                "missing-readiness",
                " counts as ready as soon as it runs",
                "an update or a drain then takes the next member before this one has rejoined",
            ),
            Kind::Readiness => (
                "missing-readiness",
                " counts as ready as soon as it runs",
                "an update goes on, and Services send it requests, before it can answer",
            ),
            Kind::Startup => ("missing-startup", " has no time of its own to start", ""),
        };
        let advice = match (kind, system.and_then(System::liveness), system.and_then(joined), &port) {
            (Kind::Liveness, Some(vendor), ..) => ["add one; ", vendor.note, ""],
            (Kind::Liveness, ..) => ["add one that asks this container alone, and nothing that it depends on", "", ""],
            (Kind::Readiness, _, Some(path), _) => {
                ["add one that succeeds once it has joined the others, such as an httpGet of ", path, ""]
            }
            (Kind::Readiness, _, None, Some(port)) => {
                ["add one that succeeds once it can serve, such as tcpSocket: {port: ", port, "}"]
            }
            (Kind::Readiness, ..) => ["add one that succeeds once it can serve", "", ""],
            (Kind::Startup, ..) => ["add one that lasts as long as its slowest start", "", ""],
        };
        self.say(Said {
            code,
            level,
            about: "",
            path,
            problem: Problem::Required,
            // A warning that becomes an error has got worse.
            measure: i64::from(level == Level::Error),
            reason: &[reason],
            why: &[why],
            advice: &advice,
        });
    }

    /// The numbers of a probe, by themselves and against the settings.
    fn judge_numbers(&mut self, probe: &Probe<'a>) {
        let kind = probe.kind;
        if probe.timeout > probe.period {
            let (timeout, period) = (probe.timeout.to_string(), probe.period.to_string());
            self.say(Said {
                code: "timeout-above-period",
                level: self.settings.timeout_above_period,
                about: kind.field(),
                path: probe.node.path().field("timeoutSeconds"),
                problem: Problem::Invalid(probe.timeout.into()),
                measure: probe.timeout - probe.period,
                reason: &[" is to be asked every ", &period, " s"],
                why: &["a probe waits for the one before, so that a failure is noticed later than the numbers say"],
                advice: &["raise periodSeconds to ", &timeout, ", or lower timeoutSeconds"],
            });
        }
        let settings = self.settings;
        for bound in &settings.bounds {
            if bound.kind != kind {
                continue;
            }
            let number = match bound.field {
                "initialDelaySeconds" => probe.delay,
                "periodSeconds" => probe.period,
                "timeoutSeconds" => probe.timeout,
                "failureThreshold" => probe.failures,
                BUDGET => probe.budget(),
                _ => probe.successes,
            };
            let below = bound.min.map_or(0, |min| i64::from(min) - number);
            let above = bound.max.map_or(0, |max| number - i64::from(max));
            let (measure, limit, most) =
                if below > 0 { (below, number + below, "at least ") } else { (above, number - above, "at most ") };
            if measure <= 0 {
                continue;
            }
            let limit = limit.to_string();
            let (path, what) = if bound.field == BUDGET {
                (probe.node.path(), "periodSeconds times failureThreshold ")
            } else {
                (probe.node.path().field(bound.field), "")
            };
            self.say(Said {
                code: "out-of-bounds",
                level: Level::Error,
                about: &join(&[kind.field(), bound.field], "."),
                path,
                problem: Problem::Invalid(number.into()),
                measure,
                reason: &[": ", what, "must be ", most, &limit],
                why: &[],
                advice: &[],
            });
        }
    }

    /// Liveness asks for the majority, and is answered for the cluster.
    fn asks_quorum(&mut self, field: Node<'_>, system: &System, vendor: Option<&Liveness>) {
        self.say(Said {
            code: "liveness-asks-quorum",
            level: Level::Error,
            about: "",
            path: field.path(),
            problem: Problem::Invalid(field.value().cloned().unwrap_or_default()),
            measure: 0,
            reason: &[": ", system.name, " answers this for the whole cluster"],
            why: &["once the majority is lost, the members that are left are restarted again and again"],
            advice: &[vendor.filter(|vendor| vendor.advised).map_or(
                "ask this member alone, such as whether its port answers; for readiness it is right",
                |vendor| vendor.note,
            )],
        });
    }

    /// The vendor advises against a liveness probe, and there is one.
    fn not_advised(&mut self, probe: Node<'_>, system: Option<&System>, vendor: Option<&Liveness>) {
        self.say(Said {
            code: "liveness-not-advised",
            level: Level::Warning,
            about: "",
            path: probe.path(),
            problem: Problem::Invalid(probe.value().cloned().unwrap_or_default()),
            measure: 0,
            reason: &[": ", system.map_or("", |system| system.name), " is better without"],
            why: &[],
            advice: &["remove it: ", vendor.map_or("", |vendor| vendor.note)],
        });
    }

    /// The same question decides whether a container is sent work and whether it is restarted.
    fn compare(&mut self, liveness: &Probe<'_>, readiness: &Probe<'_>) {
        let fails_later = liveness.timeout > readiness.timeout || liveness.budget() > readiness.budget();
        if fails_later || !liveness.asks_as(readiness) {
            return;
        }
        let enough = readiness.budget().checked_div(liveness.period).map_or(0, |failures| failures + 1).to_string();
        self.say(Said {
            code: "identical-probes",
            level: Level::Warning,
            about: "",
            path: liveness.node.path(),
            problem: Problem::Invalid(liveness.node.value().cloned().unwrap_or_default()),
            measure: 0,
            reason: &[" is restarted as soon as it is not ready"],
            why: &["the same question decides both, so that a slow moment becomes a restart"],
            advice: &["raise its failureThreshold to ", &enough, " or more, or ask less than readinessProbe does"],
        });
    }

    /// A startup probe is there to give more time than the liveness probe would.
    fn compare_with_startup(&mut self, liveness: &Probe<'_>, startup: &Probe<'_>) {
        let (given, without) = (startup.delay + startup.budget(), liveness.delay + liveness.budget());
        if given >= without || !(startup.is_counted && liveness.is_counted) {
            return;
        }
        let missing = without - startup.delay + startup.period - 1;
        let enough = missing.checked_div(startup.period).unwrap_or_default().to_string();
        let (given, without) = (given.to_string(), without.to_string());
        self.say(Said {
            code: "short-startup",
            level: Level::Warning,
            about: "",
            path: startup.node.path(),
            problem: Problem::Invalid(startup.node.value().cloned().unwrap_or_default()),
            measure: 0,
            reason: &[" has ", &given, " s to start, but ", &without, " s without it"],
            why: &["it is there to give a slow start more time than livenessProbe does"],
            advice: &["raise its failureThreshold to ", &enough, " or more"],
        });
    }

    /// Kubernetes refuses this value.
    #[inline(never)]
    pub(crate) fn refuse(&mut self, kind: Kind, field: &str, node: Node<'_>, must: &str) {
        let problem = node.value().map_or(Problem::Required, |value| Problem::Invalid(value.clone()));
        self.tell_refusal(kind, field, node.path(), problem, &[": ", must], "");
    }

    #[inline(never)]
    pub(crate) fn tell_refusal(
        &mut self,
        kind: Kind,
        field: &str,
        path: Path,
        problem: Problem,
        reason: &[&str],
        advice: &str,
    ) {
        self.say(Said {
            code: "refused-probe",
            level: Level::Error,
            about: &join(&[kind.field(), field], " "),
            path,
            problem,
            measure: 0,
            reason,
            why: &["Kubernetes refuses the object"],
            advice: &[advice],
        });
    }

    #[inline(never)]
    pub(crate) fn say(&mut self, said: Said<'_>) {
        let Container { name, image, .. } = *self.container;
        let subject = if said.about.is_empty() { name.to_owned() } else { join(&[name, said.about], " ") };
        let reason = join(&["container \"", name, "\"", &join(said.reason, "")], "");
        let finding = Finding::error(said.code, said.path, said.problem, reason)
            .level(said.level)
            .about(subject)
            .in_container(name, image)
            .measure(said.measure)
            .why(join(said.why, ""))
            .advise(join(said.advice, ""));
        self.told.push(finding);
    }
}

/// What a member of the system answers well once it has joined the others, where the catalogue knows it: what asks the
/// quorum is wrong for liveness, and right for readiness.
fn joined(system: &System) -> Option<&'static str> {
    for fact in system.probes() {
        if let (Asks::Quorum, Handler::Http(glob)) = (fact.asks, fact.handler) {
            let path = glob.strip_suffix('*').unwrap_or(glob);
            // A glob that leaves a value open is no path.
            return Some(path).filter(|path| !path.ends_with('='));
        }
    }
    None
}
