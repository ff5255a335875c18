# The same words for people and for CI. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help run test test-programs browser lighthouse bench lint fmt soak apps release

KUBE := target/release/kube
# What the tests from outside take from npm.
CLIENTS := $(patsubst %,tests/%/node_modules/.package-lock.json,e2e/node browser)
PEERS := tests/bench/node/node_modules/.package-lock.json
# Where `make bench` writes its report.
PAGE ?= docs/benchmarks.md
# How long `make soak` treats the binary badly.
MINUTES ?= 30

help: ## lists the words
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: release ## builds everything and starts KUBE in development mode; ARGS="--config my.toml" adds flags
	@exec $(KUBE) run $(ARGS)

test: ## runs every test: units, modules, and the release binary from outside with real clients and browsers
	@scripts/install-test-tools
	@$(MAKE) --no-print-directory --jobs=3 release test-programs $(CLIENTS)
	@scripts/test

# Beside the release build, whose last minutes have one thread.
test-programs: apps
	KUBE_BIN=$(CURDIR)/$(KUBE) cargo test --workspace --locked --no-run

bench: release $(PEERS) ## measures CPU beside nginx, the sync server of automerge-repo, samod, NSD and Knot, answers checked; about an hour; ARGS="--help"
	@scripts/install-test-tools curl openssl nginx wrk h2load nsd knotd dnsperf /usr/bin/python3
	cargo run --profile bench --locked --package kube-bench -- --page $(PAGE) $(ARGS)

lint: apps ## checks formatting, clippy, documentation and dependencies, all without a warning
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	scripts/check-dependencies

fmt: ## formats the sources
	cargo fmt --all

soak: release ## fuzzes every parser, compares DNS with NSD, then kills the binary and harms its disk and clock for MINUTES (30); ARGS="--help"
	@scripts/install-test-tools nsd dig
	@scripts/fuzz
	cargo run --profile bench --locked --package kube-dns-compare
	cargo run --profile bench --locked --package kube-dns-compare -- --signed
	cargo run --profile bench --locked --package kube-soak -- --minutes $(MINUTES) $(ARGS)

release: apps ## builds the bundled apps and target/release/kube
	cargo build --release --locked --package kube

# Apps with a package.json are built, when something in them changed; apps of plain files are embedded as they are.
PACKAGES := $(dir $(wildcard static-apps/*/package.json))
apps: $(PACKAGES:%=%node_modules/.built)

.SECONDEXPANSION:
static-apps/%/node_modules/.built: $$(shell find static-apps/% static-apps/kit -type f \
		-not -path '*/node_modules/*' -not -path '*/dist/*')
	cd static-apps/$* && npm ci --no-audit --no-fund && npm run build
	@touch $@

browser: ## runs those of the tests that need Chromium
	@scripts/install-test-tools chromium certutil
	@$(MAKE) --no-print-directory release $(CLIENTS)
	KUBE_BIN=$(CURDIR)/$(KUBE) npm test --prefix tests/browser

lighthouse: ## measures the bundled apps with Lighthouse, as a desktop and as a phone, RUNS (3) times each
	@scripts/install-test-tools chromium certutil
	@$(MAKE) --no-print-directory release $(CLIENTS)
	@KUBE_BIN=$(CURDIR)/$(KUBE) scripts/lighthouse

# No install script is needed or run.
$(CLIENTS) $(PEERS): tests/%/node_modules/.package-lock.json: tests/%/package-lock.json
	cd tests/$* && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@
