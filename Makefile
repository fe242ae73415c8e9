# What one does with Tidegate. `make` alone lists it.

.DEFAULT_GOAL := help
SHELL := /bin/bash
FUZZ_SECONDS ?= 60
SEEDS ?= 300
OUTAGE_BYTES ?= 10737418240
# Where a long run of the fault harness keeps what is done, so that it can be interrupted.
FAULTS_STATE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tidegate-testbed/faults-$(shell git rev-parse --short HEAD 2>/dev/null)
# Further flags for cargo test, as TEST_FLAGS=--no-fail-fast.
TEST_FLAGS ?=
# Suites side by side, which mostly wait, and those that have the machine to themselves (tests/run.sh).
LEFT := config layering terminal spool node agents proxies control
RIGHT := traffic
ALONE := log faults fairness gateway

.PHONY: help dev build bed test matrix bench bench-discovery bench-relay bench-gateway bench-control gateway-loss gateway-tables scale-haproxy \
	scale-proxies faults outage lint fmt fuzz

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The dev profile compiles in minutes, OpenSSL and librdkafka included; the release profile's whole-program optimisation takes longer.
dev: ## run everything on this machine over a Kafka inside the process
	@echo "make dev: builds tidegate (the first time takes minutes: librdkafka and OpenSSL are compiled), then runs it"
	cargo run --quiet -- dev

build: ## build the optimised binary, target/release/tidegate
	cargo build --release

bed: ## install what the tests need, once; it takes minutes, mostly for Kubernetes
	@echo "make bed: tests/bed/install.sh installs the real clients, Kafka and Kubernetes that the tests speak to"
	tests/bed/install.sh log kube gateways gateway

test: bed ## install what the tests need (once), then run the suites that prove the log plane, discovery, gateways, deploys, and what they share
	@echo "make test: random bytes for what reads Redis and HTTP, damage for the spool, then every proved suite"
	tests/fuzz/run.sh all 30
	tests/run.sh "$(TEST_FLAGS)" "$(LEFT)" "$(RIGHT)" "$(ALONE)"

faults: ## play SEEDS (300) random scenarios of the fault harness, going on where it was interrupted; then the whole sweeps of deploys
	@echo "make faults: what is done stands in $(FAULTS_STATE); remove it to begin anew"
	tests/bed/install.sh
	TIDEGATE_FAULT_SEEDS=$(SEEDS) TIDEGATE_FAULT_STATE=$(FAULTS_STATE) cargo test --test faults whatever_happens -- --nocapture
	@echo "make faults: every strategy with a controller killed, with each fault of the API server, and with whatever people do, at every write"
	tests/bed/install.sh kube
	TIDEGATE_DEPLOY_SWEEP=all cargo test --test control -- at_every_write at_exactly_one_write --nocapture

outage: ## spool and drain OUTAGE_BYTES (10 GiB) under load; needs twice that on disk
	tests/bed/install.sh
	TIDEGATE_OUTAGE_BYTES=$(OUTAGE_BYTES) cargo test --release --test faults an_outage_with_volume -- --nocapture

matrix: ## every Redis client, appender and shipper; writes tests/clients/MATRIX.md
	@echo "make matrix: tests/bed/install.sh matrix installs the clients; the first time takes minutes"
	tests/bed/install.sh matrix
	TIDEGATE_MATRIX=all cargo test --test log matrix:: -- --nocapture

bench: ## measure the log plane beside redis-server
	@echo "make bench: tests/bed/install.sh installs what is measured against"
	tests/bed/install.sh
	cargo bench --bench log

scale-proxies: ## 3 000 pools with 60 000 endpoints in nginx with Lua and in Envoy: memory, the time of one change, reloads
	tests/bed/install.sh kube gateways
	TIDEGATE_SCALE_POOLS=3000 cargo test --test proxies scale:: -- --nocapture --test-threads 1

bench-discovery: ## measure the traffic plane, from a change at the API server to waiting clients
	cargo bench --bench discovery -- --part all

scale-haproxy: ## 3 000 pools of 20 endpoints in one HAProxy: memory, the time of one change
	tests/bed/install.sh gateways
	TIDEGATE_SCALE=1 cargo test --test agents scale:: -- --nocapture

bench-relay: ## measure two hubs with 5 000 simulated nodes
	tests/bed/install.sh kube
	cargo bench --bench relay

bench-gateway: ## measure the gateway beside nginx, HAProxy and Envoy
	@echo "make bench-gateway: tests/bed/install.sh installs what is measured against"
	tests/bed/install.sh gateway gateways
	cargo bench --bench gateway -- --part all

bench-control: ## measure deploys: 3 000 Apps that are settled, 200 deploys at once
	tests/bed/install.sh kube
	cargo bench --bench control -- --apps 3000 --deploys 200

gateway-loss: ## a minute each: swapped pools, back ends that end and are killed, under 200 connections of mixed traffic
	tests/bed/install.sh kube gateway
	TIDEGATE_LOSS_SECONDS=60 cargo test --test gateway loss:: -- --nocapture --test-threads 1

gateway-tables: ## outliers, breakers, rate limits, slow start, panic, splits and hashes as measured through the gateway
	tests/bed/install.sh gateway
	cargo test --test gateway measured:: -- --nocapture --test-threads 1

lint: ## check the format, and clippy without warnings
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

fmt: ## format the code
	cargo fmt

fuzz: ## feed random bytes to what reads Redis and HTTP, and damage spools, for FUZZ_SECONDS (60) each
	tests/fuzz/run.sh all $(FUZZ_SECONDS)
