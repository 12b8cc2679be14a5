//! `bench-data`: manifests to measure with, as many as are asked for, the same every time.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Into how many files the bundles go.
const FILES: usize = 100;

/// Writes bundles: each is a service, a disruption budget and a set of three voting members, all sound.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many
    #[arg(long, value_name = "N")]
    bundles: NonZeroUsize,
    /// The folder to write to; it must be empty, or not exist
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// How many of them share a namespace
    #[arg(long, value_name = "N", default_value = "10")]
    per_namespace: NonZeroUsize,
    /// How many of a hundred are broken: four members, no budget, or an anti-affinity that selects nothing, in turn
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=100))]
    broken: u8,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match fs::read_dir(&args.out) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                bail!("{} is not empty", args.out.display());
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot list {}", args.out.display())),
    }
    let bundles = Bundles {
        count: args.bundles.get(),
        per_namespace: args.per_namespace.get(),
        broken: usize::from(args.broken),
    };
    let (files, bytes) = bundles.write(&args.out)?;
    println!("{} bundles in {files} files, {bytes} bytes, in {}", args.bundles, args.out.display());
    Ok(())
}

/// What to write.
#[derive(Clone, Copy)]
pub(crate) struct Bundles {
    pub(crate) count: usize,
    pub(crate) per_namespace: usize,
    /// Of a hundred.
    pub(crate) broken: usize,
}

/// What is wrong with a bundle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    EvenMembers,
    NoBudget,
    AffinitySelectsNothing,
}

impl Bundles {
    /// Writes the files into `folder`; gives their number and how many bytes they have together.
    pub(crate) fn write(self, folder: &Path) -> Result<(usize, usize)> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let per_file = self.count.div_ceil(FILES);
        let (mut files, mut bytes) = (0, 0);
        for first in (0..self.count).step_by(per_file) {
            let text: String = (first..self.count.min(first + per_file)).map(|number| self.bundle(number)).collect();
            let file = folder.join(format!("bundles-{files:03}.yaml"));
            fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
            files += 1;
            bytes += text.len();
        }
        Ok((files, bytes))
    }

    fn flaw(self, number: usize) -> Option<Flaw> {
        // Spread evenly: number x broken passes a further hundred as often as a bundle must be broken.
        let passed = |number: usize| number * self.broken / 100;
        let nth = passed(number);
        (passed(number + 1) > nth).then(|| [Flaw::EvenMembers, Flaw::NoBudget, Flaw::AffinitySelectsNothing][nth % 3])
    }

    /// The YAML of one bundle.
    pub(crate) fn bundle(self, number: usize) -> String {
        let flaw = self.flaw(number);
        let name = format!("zk-{number}");
        let namespace = format!("team-{}", number / self.per_namespace);
        let replicas = if flaw == Some(Flaw::EvenMembers) { 4 } else { 3 };
        let selected = if flaw == Some(Flaw::AffinitySelectsNothing) { "zookeeper" } else { &name };
        let mut text = String::with_capacity(2700);
        let mut add = |template: &str| {
            let filled = template
                .replace("{name}", &name)
                .replace("{namespace}", &namespace)
                .replace("{replicas}", &replicas.to_string())
                .replace("{selected}", selected);
            // Writing to a String cannot fail.
            let _ = write!(text, "{filled}");
        };
        add(SERVICE);
        if flaw != Some(Flaw::NoBudget) {
            add(BUDGET);
        }
        add(SET);
        text
    }
}

const SERVICE: &str = "---
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: {namespace}
  labels:
    app.kubernetes.io/name: zookeeper
    app.kubernetes.io/instance: {name}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    app.kubernetes.io/instance: {name}
  ports:
  - name: client
    port: 2181
  - name: server
    port: 2888
  - name: leader-election
    port: 3888
";

const BUDGET: &str = "---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {name}
  namespace: {namespace}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      app.kubernetes.io/instance: {name}
";

const SET: &str = r#"---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {name}
  namespace: {namespace}
  labels:
    app.kubernetes.io/name: zookeeper
    app.kubernetes.io/instance: {name}
spec:
  replicas: {replicas}
  serviceName: {name}
  podManagementPolicy: Parallel
  selector:
    matchLabels:
      app.kubernetes.io/instance: {name}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: zookeeper
        app.kubernetes.io/instance: {name}
    spec:
      terminationGracePeriodSeconds: 60
      securityContext:
        runAsNonRoot: true
        runAsUser: 1000
        fsGroup: 1000
        seccompProfile:
          type: RuntimeDefault
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                app.kubernetes.io/instance: {selected}
      containers:
      - name: zookeeper
        image: zookeeper:3.9.3
        ports:
        - name: client
          containerPort: 2181
        - name: server
          containerPort: 2888
        - name: leader-election
          containerPort: 3888
        env:
        - name: ZOO_SERVERS
          value: server.1={name}-0.{name}:2888:3888;2181 server.2={name}-1.{name}:2888:3888;2181 server.3={name}-2.{name}:2888:3888;2181
        resources:
          requests:
            cpu: 500m
            memory: 1Gi
          limits:
            memory: 1Gi
        readinessProbe:
          exec:
            command: ["sh", "-c", "echo ruok | nc localhost 2181 | grep imok"]
          timeoutSeconds: 5
        livenessProbe:
          tcpSocket:
            port: client
          timeoutSeconds: 5
        securityContext:
          allowPrivilegeEscalation: false
          capabilities:
            drop: ["ALL"]
        volumeMounts:
        - name: data
          mountPath: /data
  volumeClaimTemplates:
  - metadata:
      name: data
    spec:
      accessModes: ["ReadWriteOnce"]
      resources:
        requests:
          storage: 10Gi
"#;
