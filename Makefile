# Two commands, each from a plain clone on a fresh machine: `make run` and `make test`.
# Both install what they miss (Debian, as root); everything else stays below target/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

# Where the tests find gunicorn and uvicorn.
BOWSHOCK_VENV ?= $(CURDIR)/target/venv
export BOWSHOCK_VENV

# Scenarios wait more than they work, so there are more of them at once than cores.
TEST_THREADS ?= 6

# Tests that measure, and want the machine for themselves.
ATTACKS := test(/^attacks::|^http2_attacks::/)

# Programs that building needs, that the tests need, and the Debian packages they come from.
BUILD_TOOLS := cmake:cmake
TEST_TOOLS := 7z:p7zip-full aria2c:aria2 bsdtar:libarchive-tools chromium:chromium cmake:cmake curl:curl \
	h2load:nghttp2-client nginx:nginx-light openssl:openssl \
	pebble:pebble promtool:prometheus testssl:testssl.sh unzip:unzip wget:wget
BENCH_TOOLS := cmake:cmake haproxy:haproxy nginx:nginx-light wrk:wrk
MICRO_TOOLS := cmake:cmake valgrind:valgrind
PEERS := h2o:h2o lighttpd:lighttpd varnishd:varnish

# need(program:package ...): one apt-get for all programs that are missing; their services are not started.
define need
missing=()
for tool in $(1); do command -v "$${tool%%:*}" >/dev/null || missing+=("$${tool#*:}"); done
if [ "$${#missing[@]}" -gt 0 ]; then
	echo "== installing $${missing[*]}"
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$$policy"
		chmod 755 "$$policy"
		trap 'rm -f "$$policy"' EXIT
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null
fi
endef

.PHONY: help
help: ## Print this list.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

.PHONY: run
run: build ## Build and show it: an embedded application with several workers, the proxy in front.
	./target/debug/bowshock demo

.PHONY: build
build: build-tools ## Build the program.
	cargo build

.PHONY: test
test: tools venv format lint check ## Everything that must hold: format, lints, all tests.

.PHONY: format
format: ## Is the code formatted?
	@echo "== cargo fmt --check"
	cargo fmt --check

.PHONY: lint
lint: build-tools ## Lints; a warning fails.
	@echo "== cargo clippy (the first time builds the dependencies: a minute or two)"
	cargo clippy --all-targets --all-features -- -D warnings

.PHONY: check
check: tools venv ## All tests: units, and the built program between real clients and real gunicorns.
	@echo "== cargo nextest (builds first; the longest scenario takes about a minute)"
	cargo nextest run --all-targets --no-fail-fast --test-threads $(TEST_THREADS) -E 'not $(ATTACKS)'
	@echo "== attacks, one after the other: what others wait for is measured"
	cargo nextest run --test integration --no-fail-fast --test-threads 1 -E '$(ATTACKS)'

.PHONY: bench
bench: ## CPU, memory and reloads beside the fastest servers, about ten minutes; BENCH_ARGS=--quick: one.
	@$(call need,$(BENCH_TOOLS) $(PEERS))
	cargo bench --bench beside -- $(BENCH_ARGS)

.PHONY: bench-balance
bench-balance: ## Balancing beside nginx and haproxy, about six minutes; BENCH_ARGS=--quick: one.
	@$(call need,$(BENCH_TOOLS))
	cargo bench --bench balance -- $(BENCH_ARGS)

.PHONY: bench-micro
bench-micro: ## Instructions and time of single steps, about two minutes; BENCH_ARGS="--only route": some.
	@$(call need,$(MICRO_TOOLS))
	cargo bench --bench micro --features benching -- $(BENCH_ARGS)

.PHONY: bench-cache
bench-cache: build-tools ## cache-tests, the public suite for RFC 9111, about two minutes; CACHE_TESTS=clone of it.
	benches/cache-tests/run.sh "$(CACHE_TESTS)"

.PHONY: docs
docs: ## The documentation as a site, in target/docs.
	command -v mdbook >/dev/null || cargo install --locked mdbook
	mdbook build docs

.PHONY: simulate
simulate: build-tools ## 100,000 simulated stories of queue, hold, retry, health and drain, about a minute; SEED=n: one.
	SEEDS=$${SEEDS:-100000} cargo test --profile soak --lib upstream::simulation

.PHONY: soak
soak: tools venv ## The model test for an hour (SOAK_SECONDS=n); a failure names its seed: MODEL_SEED=n runs that one.
	MODEL_SECONDS=$${SOAK_SECONDS:-3600} cargo nextest run --cargo-profile soak --test integration --no-capture \
		-E 'test(/^model::/)'

# Where `make interactive-tools` finds Jupyter and gx-it-proxy.
BOWSHOCK_INTERACTIVE_TOOLS ?= $(CURDIR)/target/interactive-tools
export BOWSHOCK_INTERACTIVE_TOOLS

.PHONY: interactive-tools
interactive-tools: build-tools $(BOWSHOCK_INTERACTIVE_TOOLS)/.installed ## Interactive tools with a real PostgreSQL, Jupyter, browser, and gx-it-proxy beside.
	@$(call need,chromium:chromium node:nodejs pg_ctlcluster:postgresql psql:postgresql-client)
	cargo nextest run --features postgres --no-fail-fast --test-threads 1 --run-ignored all \
		-E 'test(/^interactive_tools::/) + test(/tools::|tool_map::/)'

$(BOWSHOCK_INTERACTIVE_TOOLS)/.installed: integration/interactive_tools/requirements.txt
	@$(call need,npm:npm python3:python3)
	python3 -c 'import ensurepip' 2>/dev/null || { $(call need,no-such-program:python3-venv) ; }
	echo "== Jupyter and gx-it-proxy into $(@D)"
	python3 -m venv "$(@D)/venv"
	"$(@D)/venv/bin/pip" install --quiet --disable-pip-version-check --requirement $<
	npm install --silent --no-audit --no-fund --prefix "$(@D)" @galaxyproject/gx-it-proxy@0.2.3
	touch "$@"

.PHONY: tools
tools: ## Install the Debian packages that the tests need and the machine lacks.
	@$(call need,$(TEST_TOOLS))

.PHONY: build-tools
build-tools:
	@$(call need,$(BUILD_TOOLS))

.PHONY: venv
venv: $(BOWSHOCK_VENV)/.installed ## Install gunicorn, uvicorn, grpcio and requests for the tests into target/venv.

$(BOWSHOCK_VENV)/.installed: integration/requirements.txt
	@echo "== gunicorn, uvicorn, grpcio and requests into $(@D)"
	python3 -c 'import ensurepip' 2>/dev/null || { $(call need,no-such-program:python3-venv) ; }
	python3 -m venv "$(@D)"
	"$(@D)/bin/pip" install --quiet --disable-pip-version-check --requirement integration/requirements.txt
	touch "$@"
