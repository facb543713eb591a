#!/usr/bin/env bash
# Everything that is tested, cheapest first, stopping at the first stage that fails.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

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
summary=()
second_tries=
output=$(mktemp)

# Adds a line to the summary; cargo's own counts are summed up over the stage's test programs.
record() {
    local counts
    counts=$(awk '/^test result:/ {
            for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1) }
            n++
        }
        /^SECOND TRY:/ { again++ }
        END {
            if (n) printf "%d passed, %d failed", p + again, f - again
            if (again) printf " (%d at a second try)", again
        }' "$output")
    summary+=("$(printf '  %-6s %-36s %5s s  %s' "$1" "$2" "$3" "$counts")")
}

finish() {
    rm -f "$output"
    printf '\n==> summary\n'
    printf '%s\n' "${summary[@]}"
    grep -h '^NOT RUN' "$MEETLINK_HOME/log/test-check.log" 2>/dev/null || true
    [ -z "$second_tries" ] || printf '%s\n' "$second_tries"
}

for i in "${!commands[@]}"; do
    printf '\n==> [%d/%d] %s\n' $((i + 1)) ${#commands[@]} "${titles[i]}"
    begun=$SECONDS
    status=0
    "${commands[i]}" 2>&1 | tee "$output" || status=$?
    [ "${commands[i]}" != scripts/check.sh ] || cp "$output" "$MEETLINK_HOME/log/test-check.log"
    second_tries+=$(grep -h '^SECOND TRY' "$output" || true)
    if [ "$status" -ne 0 ]; then
        record FAILED "${titles[i]}" $((SECONDS - begun))
        for ((j = i + 1; j < ${#commands[@]}; j++)); do
            summary+=("  -      ${titles[j]} (not reached)")
        done
        finish
        exit 1
    fi
    record ok "${titles[i]}" $((SECONDS - begun))
done
finish
say "all stages passed in $SECONDS s"
