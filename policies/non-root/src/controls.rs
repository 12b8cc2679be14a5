//! The controls of the Restricted standard that look at one field, and everything that the rule can say.
//!
//! The controls are those of `k8s.io/pod-security-admission/policy/check_*.go`, each in its latest version.

/// What is said of one thing that is wrong: of the pod, or of a container, which is named before the reason.
pub(crate) struct Says {
    pub(crate) code: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) why: &'static str,
    pub(crate) advice: &'static str,
}

/// A field of a securityContext that must not have every value.
pub(crate) struct Control {
    /// The object that the field is in, in the securityContext; empty where it is the securityContext itself.
    pub(crate) parent: &'static str,
    pub(crate) field: &'static str,
    /// Whether a pod's securityContext has it too.
    pub(crate) of_pods: bool,
    pub(crate) allowed: Allowed,
    pub(crate) says: Says,
}

/// The values that will do.
pub(crate) enum Allowed {
    /// Everything but `true`; absence too.
    NotTrue,
    /// One of these texts, where the object that it is in is there; an absent one is empty.
    OneOf(&'static [&'static str]),
}

const OUT: &str = "root that breaks out of its container is root on the node";

/// What to do about a container that somebody adds to a running pod.
pub(crate) const DEBUG: &str = "add it by kubectl debug --profile=restricted";

pub(crate) const ROOT_USER: Says = Says {
    code: "root-user",
    reason: "must not run as user 0, which is root",
    why: OUT,
    advice: "set it to a user that the image can run as, such as 1000",
};
pub(crate) const ROOT_USER_NAME: Says = Says {
    reason: "must not run as ContainerAdministrator, which is root on Windows",
    why: "",
    advice: "set it to ContainerUser",
    ..ROOT_USER
};
pub(crate) const ROOT_ALLOWED: Says =
    Says { code: "root-allowed", reason: "must not let its image run as root", why: OUT, advice: "set it to true" };
/// `$` stands for the containers.
pub(crate) const MAY_BE_ROOT: Says = Says {
    code: "may-be-root",
    reason: "must keep $ from running as root",
    why: OUT,
    advice: "set runAsUser to one that the image can run as, such as 1000; or runAsNonRoot: true if it has a numeric user",
};
pub(crate) const MAY_BE_ROOT_RESTRICTED: Says = Says {
    advice: "set runAsNonRoot: true, and runAsUser too unless the image has a numeric user other than root",
    ..MAY_BE_ROOT
};
/// What to do where nothing but Windows is asked.
pub(crate) const MAY_BE_ADMINISTRATOR: &str = "set runAsNonRoot: true, and windowsOptions.runAsUserName: ContainerUser";

pub(crate) const PRIVILEGE_ESCALATION: Says = Says {
    code: "privilege-escalation",
    reason: "must not let its processes gain privileges",
    why: "",
    advice: "set it to false",
};
pub(crate) const CAPABILITIES_KEPT: Says =
    Says { code: "capabilities-kept", reason: "must drop all capabilities", why: "", advice: "add ALL to it" };
pub(crate) const CAPABILITY_ADDED: Says = Says {
    code: "capability-added",
    reason: "must add no capability but NET_BIND_SERVICE",
    why: "",
    advice: "remove it",
};
/// `$` stands for the containers.
pub(crate) const NO_SECCOMP: Says = Says {
    code: "no-seccomp",
    reason: "must limit the system calls of $",
    why: "",
    advice: "set seccompProfile: {type: RuntimeDefault}",
};
pub(crate) const APPARMOR: Says = Says {
    code: "apparmor",
    reason: "must not do without an AppArmor profile",
    why: "",
    advice: "set it to RuntimeDefault",
};
pub(crate) const APPARMOR_ANNOTATION: Says =
    Says { code: "apparmor-annotation", advice: "remove it, or set it to runtime/default", ..APPARMOR };
pub(crate) const SYSCTL: Says = Says {
    code: "sysctl",
    reason: "must not set this sysctl, which is not known to be safe for other pods and the node",
    why: "",
    advice: "remove it",
};
/// The volume follows the reason, a group the advice.
pub(crate) const NO_FS_GROUP: Says = Says {
    code: "no-fs-group",
    reason: "may be unable to write to its volume",
    why: "a new volume belongs to root, and fsGroup is what makes it writable for others",
    advice: "set it to a group of the container's user, such as",
};

const PROFILES: Allowed = Allowed::OneOf(&["RuntimeDefault", "Localhost"]);

/// A control of an SELinux option that may not be set at all.
const fn no_selinux(field: &'static str, code: &'static str, reason: &'static str) -> Control {
    Control {
        parent: "seLinuxOptions",
        field,
        of_pods: true,
        allowed: Allowed::OneOf(&[""]),
        says: Says { code, reason, why: "", advice: "remove it" },
    }
}

/// In the order in which they are told.
pub(crate) const CONTROLS: [Control; 8] = [
    Control {
        parent: "",
        field: "privileged",
        of_pods: false,
        allowed: Allowed::NotTrue,
        says: Says {
            code: "privileged",
            reason: "must not be privileged, which is root on the node",
            why: "",
            advice: "remove it, and add what capability is needed",
        },
    },
    Control {
        parent: "windowsOptions",
        field: "hostProcess",
        of_pods: true,
        allowed: Allowed::NotTrue,
        says: Says { code: "host-process", reason: "must not run on the node itself", why: "", advice: "remove it" },
    },
    Control {
        parent: "seLinuxOptions",
        field: "type",
        of_pods: true,
        allowed: Allowed::OneOf(&["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"]),
        says: Says {
            code: "selinux-type",
            reason: "must have an SELinux type that confines containers",
            why: "",
            advice: "remove it, or set it to container_t, container_init_t, container_kvm_t or container_engine_t",
        },
    },
    no_selinux("user", "selinux-user", "must not have an SELinux user of its own"),
    no_selinux("role", "selinux-role", "must not have an SELinux role of its own"),
    Control {
        parent: "seccompProfile",
        field: "type",
        of_pods: true,
        allowed: PROFILES,
        says: Says {
            code: "seccomp",
            reason: "must not make all system calls",
            why: "",
            advice: "set it to RuntimeDefault",
        },
    },
    Control { parent: "appArmorProfile", field: "type", of_pods: true, allowed: PROFILES, says: APPARMOR },
    Control {
        parent: "",
        field: "procMount",
        of_pods: false,
        allowed: Allowed::OneOf(&["", "Default"]),
        says: Says { code: "proc-mount", reason: "must keep what hides parts of /proc", why: "", advice: "remove it" },
    },
];

/// The sysctls that a pod may set: `sysctlsAllowedV1Dot37` in `check_sysctls.go`.
pub(crate) const SYSCTLS: [&str; 14] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_notsent_lowat",
];
