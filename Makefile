# Every command a developer needs. `make help` prints the list.
#
# Always with --workspace, also for one test or program: another choice of packages unites the features of dependencies in another way, and
# cargo would compile all of them anew.

CARGO ?= cargo
BASE ?= 2f09632

.DEFAULT_GOAL := help
.PHONY: help check lints test e2e test-all cluster-up cluster-down cluster-shell demo demo-postfix demo-relay demo-drill e2e-matrix bench bench-engine bench-cluster bench-mta bench-relay bench-actuation bench-socketmap bench-replies image image-check manifests crds schemas fmt style-counts links book deny clean

help: ## Print this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What compiles test programs, runs them side by side and says what each took; `--help` prints its options.
# By a test of its package, so that dependencies are compiled once, with the features that tests unite.
SUITES = $(CARGO) test --workspace --locked --no-run --quiet --test cluster && $${CARGO_TARGET_DIR:-target}/debug/suites

check: lints ## Check format and lints, and run the tests that start nothing; `make fmt` formats
	@$(SUITES) check

lints:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

test: lints ## These, and all that takes a real API server or a real Postfix; programs of Go are built the first time
	@$(SUITES) test

e2e: ## The suites on a real node: kubelet, containerd, kube-proxy, CoreDNS; takes root, or E2E_KUBECONFIG for a cluster you have
	@$(SUITES) e2e --capacity 2

test-all: lints ## All of it with more mail, longer outages and the image that users get, and what is exhaustive; takes root and hours (e2e/README.md says how many)
	E2E_EXHAUSTIVE=1 SOCKETMAP_FUZZ_INPUTS=1000000 REPLY_FUZZ_INPUTS=1000000 RELAY_FUZZ_SESSIONS=1000000 PROPTEST_CASES=4000 MAIL_FAILOVER_IMAGE_PROFILE=dist $(SHELL) -c '$(SUITES) all --capacity 2'
	@$(MAKE) e2e-matrix
	image/check

cluster-up: ## Start a cluster with one node on this machine, apart from everything else; takes root
	@$(CARGO) build --quiet --workspace --bin cluster --locked
	@$${CARGO_TARGET_DIR:-target}/debug/cluster up

cluster-shell: ## A shell inside, with kubectl and helm
	@$${CARGO_TARGET_DIR:-target}/debug/cluster shell

cluster-down: ## End it and remove all of it
	@$${CARGO_TARGET_DIR:-target}/debug/cluster down

demo: ## Watch a failover and a failback happen, on this machine, in half a minute
	@$(CARGO) build --workspace --bins --locked
	@$${CARGO_TARGET_DIR:-target}/debug/demo

demo-postfix: ## The same with a real Postfix in the middle and the agent beside it; takes root
	@$(CARGO) build --workspace --bins --locked
	@$${CARGO_TARGET_DIR:-target}/debug/demo-postfix

demo-relay: ## An application with one host name sends through an outage of every kind, and sees none; in a minute
	@$(CARGO) build --workspace --bins --locked
	@$${CARGO_TARGET_DIR:-target}/debug/demo-relay

demo-drill: ## Drills refuse a primary that works, the operator dies in one, and the application sees nothing; in two minutes
	@$(CARGO) build --workspace --bins --locked
	@$${CARGO_TARGET_DIR:-target}/debug/demo-drill

e2e-matrix: ## Break the primary at every point of a session in every way, under load, with real Postfix; takes root
	@$(CARGO) build --workspace --bins --locked
	@$${CARGO_TARGET_DIR:-target}/debug/matrix

# The program is of another package than the benches that start it: a test of that package has cargo build it, with the same features.
BENCH = $(CARGO) bench --workspace --locked
PROGRAM = $(BENCH) --no-run --quiet --test reports

bench: bench-engine bench-socketmap ## Measure false alarms, failover times and what it all costs, beside HAProxy
	@$(PROGRAM) --bench failover --bench mass_failover --bench steady_state
	$(BENCH) --no-fail-fast --bench failover --bench mass_failover --bench steady_state

bench-engine: ## The part of it that needs no control plane: false alarms, and what the engine costs
	$(BENCH) --bench engine --bench engine_memory

bench-mta: ## Postfix with the agent, beside a list of relays and HAProxy, in one run; BENCH_QUICK=1 for a short one; takes root
	@$(PROGRAM) --bench mta
	$(BENCH) --bench mta

bench-relay: ## An application straight to its provider, by HAProxy, the relay, Postfix and smtprelay, in one run; BENCH_QUICK=1 for a short one; takes root
	@$(PROGRAM) --bench relay
	$(BENCH) --bench relay

bench-actuation: ## From a decision to a zone by RFC 2136, to one by an API, and to a webhook's receiver, with the goals beside; BENCH_QUICK=1 for a short one
	@$(PROGRAM) --bench actuation
	$(BENCH) --bench actuation

bench-cluster: ## Failovers, cost and starts on a real node, beside HAProxy; BENCH_QUICK=1 for a short one; takes root
	MAIL_FAILOVER_IMAGE_PROFILE=$${MAIL_FAILOVER_IMAGE_PROFILE:-dist} $(CARGO) bench --profile dev --workspace --locked --bench cluster

bench-socketmap: ## What Postfix's queries to the agent cost, beside an echo and a table of Postfix's own
	$(BENCH) --bench socketmap

bench-replies: ## How well and how fast replies are understood; REPLIES=FILE for a table of yours
	$(CARGO) bench --locked -p mail-failover-replies --bench replies

image: ## Build the operator's image with your cargo and docker, podman or buildah; IMAGE=name:tag, ARCHIVE=file.tar
	@image/build "$(IMAGE)" "$(ARCHIVE)"

image-check: ## Build it, and prove what is promised of it: small, static, labelled, reproducible
	@image/check

manifests: crds ## Generate what the chart has of the code, config/ from the chart, and the page of its values
	UPDATE_MANIFESTS=1 $(CARGO) test --workspace --locked --quiet --test manifests
	UPDATE_MANIFESTS=1 $(CARGO) test --workspace --locked --quiet --test chart --test health

crds: ## Generate crds/ from the code
	@$(CARGO) build --workspace --locked --quiet --bin mail-failover
	$${CARGO_TARGET_DIR:-target}/debug/mail-failover crds --output crds

schemas: ## Generate schemas/ from the code
	UPDATE_SCHEMAS=1 $(CARGO) test --workspace --locked --quiet --test agent_schema

style-counts: ## Count how the code reads, in the work tree and at BASE=revision
	@tools/style-counts $(BASE) WORK

links: ## Check the relative links of every Markdown page, and that its prose is wrapped at 100 columns
	@tools/check-links
	@tools/style-counts --list wide

book: links ## Build the pages as a book, target/book/index.html; builds mdBook first if it is not in the cache
	@tools/book "$$(tools/cargo-program mdbook 0.5.4 --no-default-features --features search)"

deny: ## Check dependencies' licences, sources and bans; advisories with ADVISORY_DB=FOLDER, a clone of the RustSec database
	@ADVISORY_DB="$(ADVISORY_DB)" tools/deny "$$(tools/cargo-program cargo-deny 0.20.2)"

fmt: ## Format the code
	$(CARGO) fmt --all

clean: ## Remove what was built here; the control plane's programs stay in the cache
	$(CARGO) clean
