#!/usr/bin/env bash
# Runs cache-tests, the public suite for RFC 9111, against the release build, and counts what passes.
# Usage: benches/cache-tests/run.sh CLONE   (a clone of http-tests/cache-tests, after `npm ci` in it; Node.js 20)
set -euo pipefail
clone=$(cd "${1:?where is the clone of cache-tests?}" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
cargo build --release --quiet --manifest-path "$here/../../Cargo.toml"
folder=$(mktemp -d)
started=()
finish() {
	kill "${started[@]}" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$folder"
}
trap finish EXIT

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
origin=$(port) proxy=$(port)
cat >"$folder/bowshock.toml" <<TOML
[admin]
listen = "unix:$folder/admin"

[log]
access = "off"

[[listen]]
address = "127.0.0.1:$proxy"

[cache.tests]
memory = "64m"

[[site]]
routes = { "/" = { proxy = "origin", cache = "tests" } }

[upstream.origin]
servers = ["127.0.0.1:$origin"]
TOML

cd "$clone"
export npm_package_config_protocol=http npm_package_config_port="$origin" npm_package_config_base= \
	npm_package_config_id= npm_package_config_pidfile="$folder/origin.pid"
node test-engine/server/server.mjs >"$folder/origin.log" 2>&1 &
started+=($!)
"$here/../../target/release/bowshock" run -c "$folder/bowshock.toml" 2>"$folder/bowshock.log" &
started+=($!)
for listening in "$origin" "$proxy"; do
	for _ in $(seq 100); do
		(: >"/dev/tcp/127.0.0.1/$listening") 2>/dev/null && break
		sleep 0.1
	done
done
echo "cache-tests: about a minute" >&2
npm_config_base="http://127.0.0.1:$proxy" timeout 600 node --no-warnings test-engine/cli.mjs >"$folder/results.json"
node "$here/count.mjs" "$clone" "$folder/results.json"
