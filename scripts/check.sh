#!/usr/bin/env bash
# Form, lints, and the walls between the rooms.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

not_run=()

if cargo fmt --version >/dev/null 2>&1; then
    say "  cargo fmt"
    cargo fmt --all --check || die "these files are not formatted" "Run: cargo fmt --all"
else
    not_run+=(rustfmt)
fi

if cargo clippy --version >/dev/null 2>&1; then
    # Twice: test functions behind the feature can make dead code of the library look used.
    say "  cargo clippy, the library as it ships"
    cargo clippy -p meetlink --lib -- -D warnings || die "clippy has findings" "Mend them; each names its rule."
    say "  cargo clippy, everything with its tests"
    cargo clippy --workspace --all-targets --features meetlink/pg_test -- -D warnings ||
        die "clippy has findings" "Mend them; each names its rule."
else
    not_run+=(clippy)
fi

scripts/check-rooms.sh
scripts/check-sql.sh
scripts/check-deps.sh

[ ${#not_run[@]} -eq 0 ] ||
    say "NOT RUN, as this Rust has no: ${not_run[*]} (rustup component add ${not_run[*]})"
