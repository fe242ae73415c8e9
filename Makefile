# What one does with Tidegate. `make` alone lists it.

.DEFAULT_GOAL := help
SHELL := /bin/bash
FUZZ_SECONDS ?= 60
# Further flags for cargo test, as TEST_FLAGS=--no-fail-fast.
TEST_FLAGS ?=

.PHONY: help dev build test bench lint fmt fuzz

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The dev profile is optimised a little and links in seconds; the release profile's whole-program optimisation takes minutes.
dev: ## run everything on this machine over a Kafka inside the process
	@echo "make dev: builds tidegate (the first time takes minutes: librdkafka and OpenSSL are compiled), then runs it"
	cargo run --quiet -- dev

build: ## build the optimised binary, target/release/tidegate
	cargo build --release

test: ## install what the tests need (once), then run them all
	@echo "make test: tests/bed/install.sh installs the real clients, Kafka and Kubernetes that the tests speak to"
	tests/bed/install.sh log kube
	@echo "make test: a minute of random bytes for the decoder, then every suite"
	FUZZ_SECONDS=60 tests/fuzz/run.sh
	cargo test $(TEST_FLAGS) --lib --bins --tests

bench: ## measure the log plane beside redis-server
	@echo "make bench: tests/bed/install.sh installs what is measured against"
	tests/bed/install.sh
	cargo bench --bench log

lint: ## check the format, and clippy without warnings
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

fmt: ## format the code
	cargo fmt

fuzz: ## feed the decoder random bytes for FUZZ_SECONDS (60)
	FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run.sh
