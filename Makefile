# The one entry point. `make` alone lists what there is; each verb calls cargo or `cargo xtask`.

# Where Cargo builds; it may be moved by the variable that Cargo itself reads.
TARGET := $(or $(CARGO_TARGET_DIR),target)
GUEST := wasm32-wasip1
POLICIES := $(patsubst policies/%/Cargo.toml,%,$(wildcard policies/*/Cargo.toml))
GUESTS := $(addprefix --package ,$(POLICIES))
CHECKER := $(TARGET)/release/quorate
XTASK := $(TARGET)/release/xtask
ENSEMBLES := test-data/ensembles
ACTIONLINT ?= actionlint
# The checker embeds the modules that are built here, so that its build script builds none.
export QUORATE_MODULES := $(abspath $(TARGET))/policies

# Commands are asked for with what of all the workspace, and --release, everywhere: another choice has other features, and
# the engine is built again for those.
CARGO_NATIVE = --release --workspace --locked

say = @printf '\n== %s\n' '$(1)'

.DEFAULT_GOAL := help
.PHONY: help run test lint build modules reproducible bench e2e prove chart mutants generate dist image push push-trial clean toolchain
.PHONY: xtask

help: ## list the verbs
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

run: build ## build all, and check a broken and a sound ZooKeeper
	$(call say,$(ENSEMBLES)/zookeeper-broken.yaml: expected to be refused)
	@$(CHECKER) check $(ENSEMBLES)/zookeeper-broken.yaml; code=$$?; \
	if [ $$code -ne 1 ]; then echo "make run: the checker must refuse this with exit code 1, but it ended with $$code" >&2; exit 1; fi
	$(call say,$(ENSEMBLES)/zookeeper-sound.yaml: expected to pass)
	@$(CHECKER) check $(ENSEMBLES)/zookeeper-sound.yaml
	$(call say,As expected: the first is refused$(comma) the second passes. Now try your own: $(CHECKER) check FILE...)

test: modules ## all tests, native and Wasm
	$(call say,running all tests; the first time this builds them)
	cargo test $(CARGO_NATIVE)

lint: modules ## formatting, clippy for both targets, documentation, generated files
	$(call say,formatting)
	cargo fmt --all --check
	$(call say,clippy for this machine)
	cargo clippy $(CARGO_NATIVE) --all-targets -- -D warnings
	$(call say,clippy for the guests)
	cargo clippy --profile guest --locked --target $(GUEST) $(GUESTS) -- -D warnings
	$(call say,documentation)
	RUSTDOCFLAGS='-D warnings' cargo doc $(CARGO_NATIVE) --no-deps --lib
	$(call say,generated files)
	@$(XTASK) generate --check
	$(call say,the packages for Artifact Hub)
	@$(XTASK) artifacthub --lint
	$(call say,one version everywhere)
	@$(XTASK) versions
	$(call say,the workflows)
	@if command -v "$(ACTIONLINT)" >/dev/null; then "$(ACTIONLINT)" && echo 'nothing to say'; \
	else echo 'DID NOT RUN with actionlint: not found; set ACTIONLINT, or put it on PATH'; fi

build: modules ## the modules, in target/policies, and the checker, target/release/quorate
	$(call say,building the checker; the first time this takes some minutes: it holds a Wasm engine)
	cargo build $(CARGO_NATIVE) --bin quorate

modules: toolchain xtask ## the modules alone
	$(call say,building the modules for $(GUEST))
	@$(XTASK) modules
	@$(XTASK) policies-yml

reproducible: modules ## build the modules in two folders with two homes of Cargo, and compare the bytes
	$(call say,building the modules twice more; each time begins with nothing)
	@$(XTASK) reproducible $(ARGS)

bench: build ## measure the checker and the modules
	@$(XTASK) bench

# ARGS="--require" fails where a program is absent; what else there is: crates/e2e --help. With another argument only that part is run.
e2e: build ## compare with kwctl, with policy-server, and with a control plane that asks it, where they are installed
	@$(if $(filter-out --require,$(ARGS)),true,$(XTASK) e2e $(ARGS))
	$(call say,the whole way: a control plane asks the policy-server)
	cargo build $(CARGO_NATIVE) --bin e2e
	@$(TARGET)/release/e2e $(ARGS)

# N generated objects of each claim instead of its own number; SEED: what they follow from; CLAIMS: only these.
prove: modules ## put what the rules claim to a real Kubernetes control plane (QUORATE_CLUSTER_BIN)
	$(call say,building the proof)
	cargo build $(CARGO_NATIVE) --bin proof
	@$(TARGET)/release/proof $(if $(N),--count $(N)) $(if $(SEED),--seed $(SEED)) $(CLAIMS)

chart: xtask ## try the Helm chart with helm, where it is installed; ARGS="--require --kubeconfig FILE" tries it in a cluster
	@$(XTASK) chart $(ARGS)
	$(call say,what was rendered$(comma) read as the types of Kubewarden)
	QUORATE_RENDERED="$(abspath $(TARGET))/chart" cargo test $(CARGO_NATIVE) --test crd

mutants: ## whether the cases notice each change of a rule (needs cargo-mutants)
	@cargo mutants --version >/dev/null || { echo 'cargo install --locked cargo-mutants' >&2; exit 1; }
	cargo mutants $(GUESTS)

generate: xtask ## write what is derived from other files
	@$(XTASK) generate

dist: modules ## what a release holds, in target/dist; ARGS=--require fails when something is absent
	$(call say,putting a release together; the checker may be built anew for it)
	@$(XTASK) dist $(ARGS)

image: modules ## the container image of the checker, where podman, docker or buildah is (or CONTAINER names it)
	@$(XTASK) image $(ARGS)

push: xtask ## push the modules and the chart of target/dist: make push REGISTRY=HOST/PATH (needs kwctl, helm)
	@test -n "$(REGISTRY)" || { echo 'make push REGISTRY=HOST/PATH, such as ghcr.io/quorate/quorate' >&2; exit 2; }
	@$(XTASK) push "$(REGISTRY)" $(ARGS)

push-trial: dist ## try that with a registry on loopback (needs kwctl, helm, docker-registry)
	@$(XTASK) push-trial $(TRIAL_ARGS)

clean: ## remove what was built
	cargo clean

# A fresh machine may have rustup without this compiler, or the compiler without this target.
toolchain:
	@rustc --version >/dev/null 2>&1 || rustup toolchain install --profile minimal --component clippy --component rustfmt \
		"$$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)"
	@test -d "$$(rustc --print target-libdir --target $(GUEST))" || rustup target add $(GUEST)

xtask: toolchain
	$(call say,building the chores of this workspace: crates/xtask)
	cargo build $(CARGO_NATIVE) --bin xtask

comma := ,
