# Two commands, each from a plain clone on a fresh machine: `make run` and `make test`.

.PHONY: run build
run: build
	./target/debug/bowshock demo

build: cmake
	cargo build

.PHONY: cmake
cmake:
	@command -v cmake >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends cmake; }
