#!/usr/bin/env bash
# Installs what the benchmark compares meetlink with (tests/e2e/peers), in the versions of its
# package-lock.json, into the private folder; Node.js too, as they want a newer one than Debian's.
# Where npm cannot do that it says so and ends well: the benchmark then runs without them.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

source=tests/e2e/peers
folder=$MEETLINK_HOME/peers

skip() {
    say "  SKIPPED: graphile-worker and pg-boss beside meetlink: $1"
    exit 0
}

fill() {
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$source/package.json" "$source/package-lock.json" "$folder/"
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error
}

command -v npm >/dev/null || skip "there is no npm (as root: apt-get install npm)"
wanted=$(sha256sum "$source/package-lock.json" | cut -d' ' -f1)
mkdir -p "$MEETLINK_HOME"
# Two benchmarks at once must not fill one folder; the kernel drops the lock with the process.
exec 8>"$MEETLINK_HOME/.lock-peers"
flock 8
if [ "$(cat "$folder/.lock" 2>/dev/null)" != "$wanted" ]; then
    (run_logged peers "graphile-worker, pg-boss and Node.js from npm: installing, 250 MB, about a minute, once" \
        "Can npm reach its registry?" fill) || skip "npm could not install them"
    # Last: only a folder that was filled counts.
    echo "$wanted" >"$folder/.lock"
fi
cp "$source"/*.mjs "$folder/"
