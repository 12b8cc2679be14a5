//! What is found in the securityContexts of a pod and its containers.
//!
//! A container's own value precedes the pod's, `DetermineEffectiveSecurityContext` in `pkg/securitycontext/util.go`. As
//! Pod Security does, an explicit wrong value is told wherever it stands, also where no container takes it over.

use policy::{Finding, Level, Problem, Review};
use serde_json::Value;
use workload::container::{Container, Role, containers};
use workload::edit::Edit;
use workload::node::object;
use workload::texts::join;
use workload::{Malformed, Node};

use crate::controls::{self, Allowed, CONTROLS, Control, SYSCTLS, Says};
use crate::{NonRoot, Profile};

/// The pod or one of its containers: whatever has a securityContext.
struct Part<'a> {
    context: Node<'a>,
    /// `None` for the pod.
    container: Option<Container<'a>>,
    /// Whether the administrator exempts it.
    is_exempt: bool,
    /// Whether it says to run as root: `None` where it names no user.
    is_root: Option<bool>,
    /// `runAsNonRoot`.
    non_root: Option<bool>,
}

impl<'a> Part<'a> {
    fn new(context: Node<'a>, container: Option<Container<'a>>, is_windows: bool) -> Result<Self, Malformed> {
        let mut part = Self { container, is_exempt: false, is_root: None, non_root: None, context };
        let user = part.user(is_windows)?;
        part.is_root = if is_windows {
            // What the kubelet takes for root: `verifyRunAsNonRoot` in `pkg/kubelet/kuberuntime/security_context_windows.go`. The
            // names of Windows are the same in capitals.
            user.string()?.map(|name| name.eq_ignore_ascii_case("ContainerAdministrator"))
        } else {
            user.int64()?.map(|user| user == 0)
        };
        part.non_root = part.context.boolean_at("runAsNonRoot")?;
        Ok(part)
    }

    /// The user that it says to run as.
    fn user(&self, is_windows: bool) -> Result<Node<'a>, Malformed> {
        self.context.dig(if is_windows { "windowsOptions.runAsUserName" } else { "runAsUser" })
    }

    fn name(&self) -> &'a str {
        self.container.as_ref().map_or("", |container| container.name)
    }

    /// Whether somebody added it to the running pod, to look into it.
    fn is_ephemeral(&self) -> bool {
        self.container.as_ref().is_some_and(|container| container.role == Role::Ephemeral)
    }

    fn is_privileged(&self) -> Result<bool, Malformed> {
        Ok(self.context.boolean_at("privileged")? == Some(true))
    }
}

/// A pod, with what must be known to judge it.
pub(crate) struct Judgement<'a> {
    policy: &'a NonRoot,
    pod: Part<'a>,
    containers: Vec<Part<'a>>,
    is_windows: bool,
    /// Whether root in its containers is another user for the node.
    is_relaxed: bool,
    /// Whether Kubernetes refuses to change what is wrong: beyond a pod's spec also the annotations for AppArmor, and by
    /// `pods/ephemeralcontainers` everything but what is new.
    is_fixed: bool,
}

impl<'a> Judgement<'a> {
    pub(crate) fn new(policy: &'a NonRoot, review: &Review<'_>, spec: &Node<'a>) -> Result<Self, Malformed> {
        let is_windows = spec.string_at("os.name")? == Some("windows");
        let mut parts = Vec::new();
        for container in containers(spec)? {
            let is_exempt = review.is_exempt(&container);
            let mut part = Part::new(container.security_context()?, Some(container), is_windows)?;
            part.is_exempt = is_exempt;
            parts.push(part);
        }
        Ok(Self {
            policy,
            pod: Part::new(spec.get("securityContext")?, None, is_windows)?,
            containers: parts,
            is_windows,
            is_relaxed: policy.host_users_relaxes && spec.boolean_at("hostUsers")? == Some(false),
            is_fixed: matches!(review.kind(), "Pod" | "Job"),
        })
    }

    /// The pod, then its containers.
    #[inline(never)]
    fn parts(&self) -> Vec<&Part<'a>> {
        let mut parts = vec![&self.pod];
        for part in &self.containers {
            parts.push(part);
        }
        parts
    }

    /// Whether a container may run as root: `check_runAsNonRoot.go` and `check_runAsUser.go`.
    pub(crate) fn users(&self, findings: &mut Vec<Finding>) -> Result<(), Malformed> {
        if self.is_relaxed {
            return Ok(());
        }
        let is_restricted = self.policy.profile == Profile::Restricted;
        let mut lacking = Vec::new();
        let mut inheriting = 0;
        for part in self.parts() {
            if part.is_root == Some(true) {
                let says = if self.is_windows { &controls::ROOT_USER_NAME } else { &controls::ROOT_USER };
                findings.push(self.say(part, says, &part.user(self.is_windows)?));
            }
            if part.non_root == Some(false) {
                findings.push(self.say(part, &controls::ROOT_ALLOWED, &part.context.get("runAsNonRoot")?));
            }
            // Where the pod says it, right or wrong, there is nothing to be said of a container that does not.
            if part.container.is_some() && part.non_root.is_none() && self.pod.non_root.is_none() {
                inheriting += usize::from(!part.is_ephemeral());
                // The kubelet runs a container as the user that is named; one that is root is told above.
                if !part.is_exempt && (is_restricted || self.is_root(part).is_none()) {
                    lacking.push(part);
                }
            }
        }
        let says = if is_restricted { &controls::MAY_BE_ROOT_RESTRICTED } else { &controls::MAY_BE_ROOT };
        let lacking = self.without_ephemeral(lacking, says, "runAsNonRoot", findings);
        if lacking.is_empty() {
            return Ok(());
        }
        let mut finding = self.say_of(&lacking, says, "runAsNonRoot");
        if self.is_windows {
            finding = finding.advise(controls::MAY_BE_ADMINISTRATOR);
        }
        findings.push(finding.fix(self.become_non_root(&lacking, inheriting)));
        Ok(())
    }

    /// Whether a container is told to run as root: `None` where its image decides.
    fn is_root(&self, part: &Part<'_>) -> Option<bool> {
        part.is_root.or(self.pod.is_root)
    }

    /// Keeps these containers from running as root, where they do not anyway, or where the settings name a user.
    fn become_non_root(&self, lacking: &[&Part<'_>], inheriting: usize) -> Vec<Edit> {
        let mut edits = Vec::new();
        for part in lacking {
            match (self.is_root(part), self.policy.run_as_user) {
                (Some(false), _) => {}
                (None, Some(user)) if !self.is_windows => {
                    edits.push(Edit::set(part.context.path().field("runAsUser"), user));
                }
                _ => return Vec::new(),
            }
        }
        // A container that is given a user is given all of it: what the others have may be right for them.
        let inheriting = if edits.is_empty() { inheriting } else { 0 };
        self.fill(&mut edits, lacking, inheriting, "runAsNonRoot", &Value::Bool(true));
        edits
    }

    /// Sets a field that is absent: once, for the pod, if these are all the containers that take it from there.
    fn fill(
        &self,
        edits: &mut Vec<Edit>,
        lacking: &[&Part<'_>],
        inheriting: usize,
        field: &'static str,
        value: &Value,
    ) {
        if lacking.len() == inheriting {
            edits.push(Edit::set(self.pod.context.path().field(field), value.clone()));
            return;
        }
        for part in lacking {
            edits.push(Edit::set(part.context.path().field(field), value.clone()));
        }
    }

    /// The other controls whose field lies in a securityContext.
    pub(crate) fn restricted(&self, metadata: &Node<'_>, findings: &mut Vec<Finding>) -> Result<(), Malformed> {
        for part in self.parts() {
            for control in &CONTROLS {
                if control.of_pods || part.container.is_some() {
                    self.control(part, control, findings)?;
                }
            }
            // Windows has neither, and Kubernetes refuses both there.
            if part.container.is_some() && !self.is_windows {
                self.privilege_escalation(part, findings)?;
                self.capabilities(part, findings)?;
            }
        }
        if !self.is_windows {
            self.seccomp(findings)?;
        }
        let mut told = SYSCTLS.to_vec();
        for sysctl in self.pod.context.items_at("sysctls")? {
            let name = sysctl.text_at("name")?;
            if !told.contains(&name) {
                told.push(name);
                findings.push(self.say(&self.pod, &controls::SYSCTL, &sysctl.get("name")?).about(name));
            }
        }
        self.apparmor_annotations(&metadata.get("annotations")?, findings)
    }

    fn control(&self, part: &Part<'_>, control: &Control, findings: &mut Vec<Finding>) -> Result<(), Malformed> {
        let parent = if control.parent.is_empty() { part.context } else { part.context.get(control.parent)? };
        let node = parent.get(control.field)?;
        let is_allowed = match control.allowed {
            Allowed::NotTrue => node.boolean()? != Some(true),
            Allowed::OneOf(texts) => parent.is_absent() || texts.contains(&node.string()?.unwrap_or_default()),
        };
        if !is_allowed {
            findings.push(self.say(part, &control.says, &node));
        }
        Ok(())
    }

    /// `check_allowPrivilegeEscalation.go`.
    fn privilege_escalation(&self, part: &Part<'_>, findings: &mut Vec<Finding>) -> Result<(), Malformed> {
        let node = part.context.get("allowPrivilegeEscalation")?;
        if node.boolean()? == Some(false) {
            return Ok(());
        }
        let mut finding = self.say(part, &controls::PRIVILEGE_ESCALATION, &node);
        // `ValidateSecurityContext` in `pkg/apis/core/validation/validation.go` refuses it beside these two.
        let is_refused =
            part.is_privileged()? || part.context.strings_at("capabilities.add")?.contains(&"CAP_SYS_ADMIN");
        if node.is_absent() && !is_refused {
            finding.edits.push(Edit::set(node.path(), false));
        }
        findings.push(finding);
        Ok(())
    }

    /// `check_capabilities_restricted.go`.
    fn capabilities(&self, part: &Part<'_>, findings: &mut Vec<Finding>) -> Result<(), Malformed> {
        let drop = part.context.dig("capabilities.drop")?;
        if !drop.strings()?.contains(&"ALL") {
            let mut finding = self.say(part, &controls::CAPABILITIES_KEPT, &drop);
            if !part.is_privileged()? {
                finding.edits.push(Edit::append(drop.path(), "ALL"));
            }
            findings.push(finding);
        }
        let mut told = vec!["NET_BIND_SERVICE"];
        for item in part.context.items_at("capabilities.add")? {
            let name = item.string()?.unwrap_or_default();
            if !told.contains(&name) {
                told.push(name);
                // Each by itself, so that an UPDATE cannot take another one in its place.
                let subject = join(&[part.name(), name], "/");
                findings.push(self.say(part, &controls::CAPABILITY_ADDED, &item).about(subject));
            }
        }
        Ok(())
    }

    /// `check_seccompProfile_restricted.go`, as far as no profile is there.
    fn seccomp(&self, findings: &mut Vec<Finding>) -> Result<(), Malformed> {
        const FIELD: &str = "seccompProfile";
        if self.pod.context.get(FIELD)?.is_present() {
            return Ok(());
        }
        let mut lacking = Vec::new();
        let (mut inheriting, mut is_privileged) = (0, false);
        for part in &self.containers {
            if part.context.get(FIELD)?.is_absent() {
                inheriting += usize::from(!part.is_ephemeral());
                if !part.is_exempt {
                    lacking.push(part);
                    is_privileged |= part.is_privileged()?;
                }
            }
        }
        let lacking = self.without_ephemeral(lacking, &controls::NO_SECCOMP, FIELD, findings);
        if !lacking.is_empty() {
            let mut finding = self.say_of(&lacking, &controls::NO_SECCOMP, FIELD);
            if !is_privileged {
                let profile = object(&mut [("type", "RuntimeDefault".into())]);
                self.fill(&mut finding.edits, &lacking, inheriting, FIELD, &profile);
            }
            findings.push(finding);
        }
        Ok(())
    }

    /// `check_appArmorProfile.go`: what was said of a container before there was a field for it.
    fn apparmor_annotations(&self, annotations: &Node<'_>, findings: &mut Vec<Finding>) -> Result<(), Malformed> {
        for (key, profile) in annotations.string_map()? {
            let Some(name) = key.strip_prefix("container.apparmor.security.beta.kubernetes.io/") else { continue };
            if matches!(profile, "" | "runtime/default") || profile.strip_prefix("localhost/").is_some() {
                continue;
            }
            // The API server makes the field of a pod from its annotation.
            if findings.iter().any(|finding| finding.code == controls::APPARMOR.code && finding.subject == name) {
                continue;
            }
            let part = self.containers.iter().find(|part| part.name() == name).unwrap_or(&self.pod);
            findings.push(self.say(part, &controls::APPARMOR_ANNOTATION, &annotations.entry(key)?).about(name));
        }
        Ok(())
    }

    /// Whether a container that does not run as root may be unable to write to a volume of its set.
    pub(crate) fn claims(&self, set: &Node<'_>, spec: &Node<'_>, findings: &mut Vec<Finding>) -> Result<(), Malformed> {
        let group = self.pod.context.get("fsGroup")?;
        if self.is_windows || group.is_present() {
            return Ok(());
        }
        let mut claims = Vec::new();
        for claim in set.items_at("spec.volumeClaimTemplates")? {
            claims.push(claim.text_at("metadata.name")?);
        }
        for volume in spec.items_at("volumes")? {
            if volume.get("persistentVolumeClaim")?.is_present() || volume.get("ephemeral")?.is_present() {
                claims.push(volume.text_at("name")?);
            }
        }
        let mut told: Option<Finding> = None;
        for part in &self.containers {
            let Some(container) = &part.container else { continue };
            for mount in container.node.items_at("volumeMounts")? {
                let name = mount.text_at("name")?;
                if !claims.contains(&name) || mount.boolean_at("readOnly")? == Some(true) {
                    continue;
                }
                let is_non_root =
                    self.is_root(part) == Some(false) || part.non_root.or(self.pod.non_root) == Some(true);
                if !is_non_root && (part.is_exempt || self.is_relaxed) {
                    // What may be root can hand the volume over to the others.
                    return Ok(());
                }
                if is_non_root && told.is_none() {
                    told = Some(self.no_fs_group(part, name, &group)?);
                }
            }
        }
        findings.extend(told);
        Ok(())
    }

    fn no_fs_group(&self, part: &Part<'_>, volume: &str, group: &Node<'_>) -> Result<Finding, Malformed> {
        let says = &controls::NO_FS_GROUP;
        let own = part.context.get("runAsGroup")?.int64()?;
        let own = if own.is_some() { own } else { self.pod.context.get("runAsGroup")?.int64()? };
        let advice = join(&[says.advice, &own.unwrap_or(1000).to_string()], " ");
        let reason = join(&["container \"", part.name(), "\" ", says.reason, " \"", volume, "\""], "");
        Ok(self.finding(says, group, reason).level(Level::Warning).advise(advice))
    }

    /// That something is wrong with a field of this part.
    #[inline(never)]
    fn say(&self, part: &Part<'_>, says: &Says, node: &Node<'_>) -> Finding {
        let Some(container) = &part.container else {
            return self.finding(says, node, join(&["the pod ", says.reason], ""));
        };
        let reason = join(&["container \"", container.name, "\" ", says.reason], "");
        let finding = self.finding(says, node, reason);
        let finding = finding.about(container.name).in_container(container.name, container.image);
        if part.is_ephemeral() { finding.advise(controls::DEBUG) } else { finding }
    }

    /// Tells of ephemeral containers one by one: whoever adds one can do nothing about the pod, of which the others are.
    fn without_ephemeral<'p>(
        &self,
        lacking: Vec<&'p Part<'a>>,
        says: &Says,
        field: &'static str,
        findings: &mut Vec<Finding>,
    ) -> Vec<&'p Part<'a>> {
        let mut others = Vec::new();
        for part in lacking {
            if part.is_ephemeral() {
                findings.push(self.say_of(&[part], says, field).about(part.name()).advise(controls::DEBUG));
            } else {
                others.push(part);
            }
        }
        others
    }

    /// That a field is absent from these containers, and from their pod.
    fn say_of(&self, lacking: &[&Part<'_>], says: &Says, field: &'static str) -> Finding {
        let mut names = Vec::new();
        for part in lacking {
            names.push(part.name());
        }
        let (mut context, mut noun) = (self.pod.context, "containers \"");
        if let [one] = lacking {
            noun = "container \"";
            if self.containers.len() > 1 {
                context = one.context;
            }
        }
        let node = Node::at(&Value::Null, context.path().field(field));
        let (before, after) = says.reason.split_once('$').unwrap_or((says.reason, ""));
        let reason = join(&[before, noun, &join(&names, "\", \""), "\"", after], "");
        self.finding(says, &node, reason).measure(i64::try_from(lacking.len()).unwrap_or(i64::MAX))
    }

    #[inline(never)]
    fn finding(&self, says: &Says, node: &Node<'_>, reason: String) -> Finding {
        let problem = node.value().map_or(Problem::Required, |value| Problem::Invalid(value.clone()));
        let mut finding = Finding::error(says.code, node.path(), problem, reason).why(says.why).advise(says.advice);
        finding.immutable = self.is_fixed;
        finding
    }
}
