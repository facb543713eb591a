#!/usr/bin/env bash
# The kill sweep, twice: over the extension as it is, and, to see that the sweep can fail, over one
# that posts to Zoom again without looking (cargo feature blind_repost), in a tree of its own.
#     torture.sh [ARGUMENTS OF THE SWEEP]     both
#     torture.sh --only-blind [ARGUMENTS]     the second alone
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

only_blind=
if [ "${1:-}" = --only-blind ]; then
    only_blind=1
    shift
fi

lib=usr/lib/postgresql/$MEETLINK_PG_MAJOR
blind_tree=$MEETLINK_HOME/tree-blind
sweep() { cargo run -q -p meetlink-e2e --bin torture -- "$@"; }

[ -n "$only_blind" ] || sweep "$@"

run_logged build-blind "an extension that is wrong on purpose: building, some seconds" \
    "Mend what the compiler says above." \
    cargo build --lib --no-default-features --features "pg$MEETLINK_PG_MAJOR,blind_repost"
rm -rf "$blind_tree"
cp -a "$MEETLINK_TREE" "$blind_tree"
rm -rf "$blind_tree/templates"
cp --remove-destination "${CARGO_TARGET_DIR:-target}/debug/libmeetlink.so" "$blind_tree/$lib/lib/meetlink.so"
MEETLINK_PG_BIN=$blind_tree/$lib/bin sweep --expect-duplicates "$@"
rm -rf "$blind_tree"
