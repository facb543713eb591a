#!/usr/bin/env bash
# Everything that is tested, cheapest first, stopping at the first stage that fails.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/summary.sh
. scripts/summary.sh

unit_tests() {
    # A #[pg_test] is a test of this binary too, named pg_...; it has its turn in the next stage.
    # Left out by name, so that it is not counted, and by variable, so that it never starts a server.
    PGRX_TEST_SKIP=1 cargo test --lib --no-default-features --features "pg$MEETLINK_PG_MAJOR" -- --skip ::pg_
}
simulator_tests() { cargo test -p meetlink-simulator; }
# The short kill sweep is one of the end-to-end tests; this shows that it would notice.
wrong_on_purpose() { scripts/torture.sh --only-blind; }

titles=("set-up" "form, lints and rooms" "unit tests, without a server" "tests inside a server"
    "provider simulator" "release build" "end-to-end tests on real clusters"
    "kill sweep of an extension that is wrong")
commands=(scripts/setup.sh scripts/check.sh unit_tests scripts/test-in-server.sh
    simulator_tests scripts/build.sh scripts/end-to-end.sh wrong_on_purpose)
output=$(mktemp)

finish() {
    rm -f "$output"
    print_summary
}

for i in "${!commands[@]}"; do
    printf '\n==> [%d/%d] %s\n' $((i + 1)) ${#commands[@]} "${titles[i]}"
    begun=$SECONDS
    status=0
    "${commands[i]}" 2>&1 | tee "$output" || status=$?
    if [ "$status" -ne 0 ]; then
        record FAILED "${titles[i]}" $((SECONDS - begun)) "$output"
        for ((j = i + 1; j < ${#commands[@]}; j++)); do not_reached "${titles[j]}"; done
        finish
        exit 1
    fi
    record ok "${titles[i]}" $((SECONDS - begun)) "$output"
done
finish
say "all stages passed in $SECONDS s"
