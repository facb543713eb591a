#!/usr/bin/env bash
# Runs the #[pg_test] functions inside a server of their own; arguments go to `cargo pgrx test`
# (a part of a test's name, for one).
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

[ -x "$CARGO_PGRX" ] || die "the set-up is not complete in $MEETLINK_HOME" "Run: make setup"

# Not in the checkout, which the OS user postgres may not be able to enter; and short, because the
# socket lies in it and its path must stay under 100 characters.
dir=$(mktemp -d /tmp/meetlink-pgrx.XXXXXX)
who=()
as_server=()
if [ "$(id -u)" -eq 0 ]; then
    # PostgreSQL refuses to run as root.
    chown postgres: "$dir"
    who=(--runas postgres)
    as_server=(runuser -u postgres --)
fi

# pgrx stops its server itself, but not when it is interrupted.
tidy_up() {
    local pid_file data
    _stop_heartbeat
    for pid_file in "$dir"/*/postmaster.pid; do
        [ -e "$pid_file" ] || continue
        data=${pid_file%/*}
        (cd / && "${as_server[@]}" "$MEETLINK_PG_BIN/pg_ctl" stop -s -m immediate -D "$data") || true
    done
    rm -rf "$dir"
}
trap tidy_up EXIT

"$CARGO_PGRX" pgrx test "pg$MEETLINK_PG_MAJOR" "${who[@]}" --pgdata "$dir" "$@"
