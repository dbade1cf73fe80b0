# make help tells what there is. Each target installs what it needs first; a second run installs nothing.

PY := .venv/bin/python
BIN := .venv/bin
STAMPS := .tools/stamps
# What touches namespaces, mounts and loop devices. Everything else runs as who you are.
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),sudo --preserve-env=CI --preserve-env=CSI_TOOLS_CACHE --preserve-env=CRASH_EVERY --preserve-env=KILLS)
# 1: every point is tried. N: every N-th of what changes and copies volumes; `make test` has no time for all.
export CRASH_EVERY ?= 1
# How often plug-in and daemon are killed while fio writes. On a node of Kubernetes it is 20 times in any case.
export KILLS ?= 20
# What takes long to make and depends on versions alone, outside the checkout. Said once: root's home is another.
export CSI_TOOLS_CACHE ?= $(HOME)/.cache/gluster-csi

APT := $(STAMPS)/apt
VENV := $(STAMPS)/venv
APT_CLUSTER := $(STAMPS)/apt-cluster
APT_LVM := $(STAMPS)/apt-lvm
DEV := $(STAMPS)/venv-dev
SANITY := .tools/bin/csi-sanity
# An editable install is made anew when its dependencies or the wire contract change.
SOURCES := pyproject.toml hatch_build.py $(wildcard proto/csi/api/*.proto)

.DEFAULT_GOAL := help
# One thing after the other, but for the suites of `make test`: they wait some of their time, each in a pool of its own.
ifndef SIDE_BY_SIDE
.NOTPARALLEL:
# Side by side it is there already. What waits for another target then comes last, however early it is named.
BUILT := kubernetes
SUITE := kubernetes-suite
endif
.PHONY: help fmt lint types imports unit contract crash lab lab-pool lab-data lab-harm lab-lvm sanity bench demo test check install tools api faults chart crds manifests
.PHONY: kubernetes kubernetes-suite cluster cluster-down

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile

demo: $(APT) $(VENV) ## A pool on this machine, and a volume through CSI from birth to death (root)
	@$(AS_ROOT) $(PY) -m tests.demo

# ALSO: suites that need Kubernetes, where it is to be had. The crashes over simulated hosts only compute, and take what the
# others leave while they wait (nice); of the others the longest come first.
test: tools $(if $(ALSO),$(BUILT)) ## All tests, on a real pool, some suites side by side; each shows what it said when it ends (root)
	@$(MAKE) --no-print-directory --jobs=4 --output-sync=target SIDE_BY_SIDE=1 CRASH_EVERY=5 KILLS=6 crash-simulated lab-lvm contract $(ALSO) lab-data lab-harm lab-pool crash-real sanity unit

check: fmt-check lint types imports unit ## What every commit must pass: a minute or two, no root

fmt: $(DEV) ## Format the code and sort the imports
	$(BIN)/ruff check --quiet --select I --fix .
	$(BIN)/ruff format .

.PHONY: fmt-check
fmt-check: $(DEV)
	$(BIN)/ruff format --check .

lint: $(DEV) ## ruff, and the syntax of the shell files
	$(BIN)/ruff check .
	@for file in .ci/run $$(git ls-files '*.sh'); do \
	    case $$(head -n 1 $$file) in *bash*) bash -n $$file ;; *) sh -n $$file ;; esac || exit 1; \
	done

types: $(DEV) ## mypy --strict
	$(BIN)/mypy

imports: $(DEV) ## The layers, as import-linter contracts
	$(BIN)/lint-imports

unit: $(DEV) ## Tests without root, hosts or network
	$(BIN)/pytest tests/unit

contract: $(APT) $(DEV) ## Every implementation of a port against one suite (root)
	$(AS_ROOT) $(BIN)/pytest tests/contract -m "not cluster"

crds: $(DEV) ## Write deploy/crds and docs/crds.md anew from the record types
	$(PY) tools/crds.py

crash: crash-simulated crash-real ## Stop before and after every command and commit, recover, compare (root)

.PHONY: crash-simulated crash-real crash-api
crash-simulated: $(DEV) ## ... over simulated hosts
	$(if $(SIDE_BY_SIDE),nice -n 19) $(PY) -m tests.crash simulated

crash-real: $(APT) $(DEV) ## ... with kill -9, on a real pool (root)
	$(AS_ROOT) $(PY) -m tests.crash real

crash-api: $(APT_CLUSTER) $(DEV) $(BUILT) ## ... with kill -9, the state on a real API server (root)
	$(AS_ROOT) $(PY) -m tests.crash api

lab: lab-pool lab-data lab-harm ## Tests on a real pool of GlusterFS hosts in namespaces (root)

# In parts, since `make test` can do other things beside each.
LAB_DATA := $(addprefix tests/lab/,test_expansion.py test_modification.py snapshots test_vm.py)
LAB_HARM := $(addprefix tests/lab/test_,failures.py finding.py outlive.py regrouping.py)

lab-pool: $(APT) $(APT_LVM) $(DEV) ## ... the pool, its hosts and the main job
	$(AS_ROOT) $(BIN)/pytest tests/lab $(addprefix --ignore=,$(LAB_DATA) $(LAB_HARM))

lab-data: $(APT) $(APT_LVM) $(DEV) ## ... expansion, snapshots, clones, other kinds of volumes
	$(AS_ROOT) $(BIN)/pytest $(LAB_DATA)

lab-harm: $(APT) $(APT_LVM) $(DEV) ## ... hosts, links and processes that fail, state that is lost
	$(AS_ROOT) $(BIN)/pytest $(LAB_HARM)

lab-lvm: $(APT_LVM) $(DEV) ## Bricks on real LVM, in a virtual machine (root)
	$(AS_ROOT) $(PY) -m tests.lab vm --seconds 3600 -- pytest --timeout 900 -m lab tests/lvm tests/contract/lvm

sanity: $(APT) $(DEV) $(SANITY) ## csi-sanity on a real pool (root)
	$(AS_ROOT) $(PY) -m tests.sanity

.PHONY: sanity-lvm
sanity-lvm: $(APT_LVM) $(DEV) $(SANITY) ## csi-sanity on a real pool whose bricks are on LVM, in a virtual machine (root)
	$(AS_ROOT) $(PY) -m tests.lab vm --seconds 7200 -- python -m tests.sanity

api: $(APT_CLUSTER) $(DEV) $(BUILT) ## State, leadership and groups on a real API server (root)
	$(AS_ROOT) $(BIN)/pytest tests/contract tests/standby -m cluster

faults: $(APT_CLUSTER) $(DEV) kubernetes ## A leader harmed at each point of a creation, two controllers over a real pool (root)
	$(AS_ROOT) $(PY) -m tests.standby

chart: $(APT_CLUSTER) $(DEV) $(BUILT) ## The chart: lint, schemas, rights on a real API server, and the base made from it
	@tools/install.sh chart
	$(BIN)/pytest tests/chart

manifests: $(DEV) ## Make the chart's copies of deploy/crds, and the kustomize base from the chart
	@tools/install.sh chart
	$(PY) tools/manifests.py

bench: $(APT) $(APT_CLUSTER) $(APT_LVM) $(DEV) kubernetes ## The figures, as ratios to a hand-written shell (root)
	$(AS_ROOT) $(PY) -m benchmarks

cluster: $(APT_CLUSTER) $(DEV) kubernetes ## Kubernetes on this machine, one node: python -m tests.cluster --help (root)
	@$(AS_ROOT) $(PY) -m tests.cluster up

cluster-down: $(DEV) ## Remove it
	@$(AS_ROOT) $(PY) -m tests.cluster down

.PHONY: e2e
e2e: $(APT_CLUSTER) $(DEV) $(BUILT) ## End to end: image, chart, real sidecars, a pool of the laboratory (root)
	@tools/install.sh chart
	$(AS_ROOT) $(BIN)/pytest tests/e2e

.PHONY: images
images: $(APT_CLUSTER) $(DEV) ## The images of the driver and of GlusterFS, from their Dockerfiles, into the cache (root)
	@$(AS_ROOT) $(PY) -m tests.e2e.builds

.PHONY: e2e-full
e2e-full: $(APT_CLUSTER) $(DEV) kubernetes-suite ## The external storage suite of Kubernetes, all that fits (root)
	@tools/install.sh chart
	@$(AS_ROOT) $(PY) -m tests.external

.PHONY: e2e-part
e2e-part: $(APT_CLUSTER) $(DEV) $(SUITE) ## ... but those that Kubernetes calls slow (root)
	@tools/install.sh chart
	@$(AS_ROOT) $(PY) -m tests.external --without "[Slow]"

.PHONY: on-a-node
on-a-node: $(APT_CLUSTER) $(DEV) kubernetes-suite ## All of CI that needs a node of Kubernetes, two suites at a time (root)
	@tools/install.sh chart
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target SIDE_BY_SIDE=1 KILLS=9 e2e e2e-part cluster-test

.PHONY: cluster-test
cluster-test: $(APT_CLUSTER) $(DEV) $(BUILT) ## Tests of the API server and the node that the other tests use (root)
	$(AS_ROOT) $(BIN)/pytest tests/cluster

install: $(VENV) ## gluster-csi into .venv, for development

tools: $(APT) $(APT_LVM) $(DEV) $(SANITY) ## Everything that the other targets install

.PHONY: tools-cluster
tools-cluster: tools $(APT_CLUSTER) kubernetes-suite ## ... and what only Kubernetes needs

kubernetes: ## Build Kubernetes and its sidecars into the cache, what is missing (20 minutes on 2 cores)
	@tools/install.sh kubernetes

kubernetes-suite: ## ... and the test suite of Kubernetes (10 minutes more)
	@tools/install.sh kubernetes-suite

$(STAMPS):
	@mkdir -p $@

$(APT): tools/install.sh | $(STAMPS)
	@tools/install.sh apt && touch $@

$(APT_CLUSTER): tools/install.sh | $(STAMPS)
	@tools/install.sh apt-cluster && touch $(APT) $@

$(APT_LVM): tools/install.sh | $(STAMPS)
	@tools/install.sh apt-lvm && touch $(APT) $@

$(VENV): $(SOURCES) | $(STAMPS)
	@tools/install.sh venv && touch $@

$(DEV): $(SOURCES) | $(STAMPS)
	@tools/install.sh venv-dev && touch $(VENV) $@

$(SANITY): | $(STAMPS)
	@tools/install.sh sanity
