#!/usr/bin/env bash
# Builds the extension and installs it into the private tree; `build.sh with-programs` builds the
# demo and the benchmark too. cargo decides what has to be compiled again.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

if ! [ -x "$CARGO_PGRX" ] || ! [ -x "$MEETLINK_PG_BIN/pg_config" ]; then
    die "the set-up is not complete in $MEETLINK_HOME" "Run: make setup"
fi

crates_expected=160 run_logged build "meetlink, release: building and installing, about 3 minutes the first time, else seconds" \
    "Mend what the compiler says above." \
    "$CARGO_PGRX" pgrx install --release --no-default-features --features "pg$MEETLINK_PG_MAJOR" \
    --pg-config "$MEETLINK_PG_BIN/pg_config"

if [ "${1:-}" = with-programs ]; then
    run_logged build-programs "demo and benchmark, release: building, about a minute the first time, else seconds" \
        "Mend what the compiler says above." \
        cargo build --release -p meetlink-e2e --bins
fi
