#!/usr/bin/env bash
# Removes what builds made; `clean.sh all` removes the whole private folder too, with a cargo-pgrx
# that took minutes to compile.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

cargo clean
if ! [ -e "$MEETLINK_HOME/.meetlink-home" ]; then
    say "nothing to remove in $MEETLINK_HOME"
elif [ "${1:-}" = all ]; then
    rm -rf "$MEETLINK_HOME"
    say "removed $MEETLINK_HOME"
else
    rm -rf "$MEETLINK_TREE" "$MEETLINK_TEST_TREE" "$PGRX_HOME" "$PGRX_HOME-install" \
        "$MEETLINK_HOME/log"
    say "removed the private PostgreSQL in $MEETLINK_HOME"
fi
