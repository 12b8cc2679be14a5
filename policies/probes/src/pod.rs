//! The containers of a pod, and which of them serves.

use workload::catalogue::{self, ContainerFacts, System};
use workload::container::{self, Container, Port, Role};
use workload::{Malformed, Node};

use crate::Kind;

/// The containers of a pod.
pub(crate) struct Pod<'a> {
    /// All of them, in the order of Kubernetes' own walk.
    pub(crate) containers: Vec<Container<'a>>,
    /// The ports that each names.
    pub(crate) ports: Vec<Vec<Port<'a>>>,
    /// Whether it is the pod of a set, whose members start, are updated and are evicted one after the other, as they get
    /// ready.
    pub(crate) in_set: bool,
    /// Whether it has no address but its node's.
    pub(crate) is_on_node: bool,
    /// Which of the containers serves; past the end where none runs on.
    main: usize,
    /// Whether the main container is of a system that votes.
    votes: bool,
    /// Whether any of the containers has a probe of each kind: then the pod as a whole has it, since it is as ready as the
    /// least ready of its containers.
    probed: [bool; 3],
}

impl<'a> Pod<'a> {
    pub(crate) fn read(spec: &Node<'a>, in_set: bool) -> Result<Self, Malformed> {
        let containers = container::containers(spec)?;
        let mut pod = Self {
            main: containers.len(),
            containers,
            ports: Vec::new(),
            in_set,
            is_on_node: spec.boolean_at("hostNetwork")? == Some(true),
            votes: false,
            probed: [false; 3],
        };
        let mut main_rank = 0;
        for (index, container) in pod.containers.iter().enumerate() {
            let ports = container.ports()?;
            if container.role == Role::Regular && runs_on(container)? && !is_idle(container)? {
                for kind in Kind::ALL {
                    pod.probed[kind as usize] |= container.node.get(kind.field())?.is_present();
                }
                let votes = system_of(container).is_some_and(|system| system.model == catalogue::Model::Majority);
                // The first of those that vote; else of those that name a port to be asked; else of all.
                let rank = if votes { 3 } else { 1 + i32::from(is_asked(&ports)) };
                if rank > main_rank {
                    (pod.main, pod.votes, main_rank) = (index, votes, rank);
                }
            }
            pod.ports.push(ports);
        }
        Ok(pod)
    }

    /// The ports that the container at `index` names.
    pub(crate) fn ports_of(&self, index: usize) -> &[Port<'a>] {
        self.ports.get(index).map_or(&[], Vec::as_slice)
    }

    /// Whether others go by what a probe of this kind says of the container at `index`, as far as anybody can tell: it is the
    /// pod's main container, and it votes, or no other answers for the pod. Outside of sets a port alone does not tell, since
    /// controllers have one for their metrics, by whatever name: there, a pod that has any probe is taken for one that
    /// somebody has thought about.
    pub(crate) fn serves(&self, index: usize, kind: Kind) -> bool {
        let is_unanswered = if self.in_set {
            !self.probed[kind as usize]
        } else {
            !self.probed.contains(&true) && is_asked(self.ports_of(index))
        };
        index == self.main && (self.votes || is_unanswered)
    }
}

/// Whether the container runs for as long as its pod does: one of `containers` may have a `restartPolicy` of its own (since
/// Kubernetes 1.34, `ContainerRestartRules`), and end.
pub(crate) fn runs_on(container: &Container<'_>) -> Result<bool, Malformed> {
    let own = container.node.text_at("restartPolicy")?;
    Ok(container.role.is_long_running() && matches!(own, "" | "Always"))
}

/// Whether it does nothing but wait until somebody enters it by `kubectl exec`, as the client beside a database does, which
/// often has the database's image.
pub(crate) fn is_idle(container: &Container<'_>) -> Result<bool, Malformed> {
    let command = container.node.strings_at("command")?;
    Ok(matches!(command.first(), Some(&("sleep" | "/bin/sleep" | "tail" | "/usr/bin/tail"))))
}

/// Whether somebody sends requests to one of these ports, as far as their names tell: who collects metrics asks what is not
/// ready too.
fn is_asked(ports: &[Port<'_>]) -> bool {
    ports.iter().any(|port| !port.name.is_some_and(|name| name.ends_with("metrics")))
}

/// The system that the container runs, where the catalogue knows it.
pub(crate) fn system_of(container: &Container<'_>) -> Option<&'static System> {
    catalogue::system_of(&ContainerFacts::read(container.node.value()?))
}
