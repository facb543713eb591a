#!/usr/bin/env bash
# The end-to-end tests. Every program runs, whatever fails. A test that failed is tried once more,
# alone: on a machine that others use too, a deadline may pass for no fault of ours. It is named
# then, in the summary as well. What may never fail, by chance neither, has no second try.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# Meetings counted after a crash, secrets searched for, rights.
never_by_chance='crash*|torture*|canary*|security_*|privileges*|restored*|standby_durable*|rotation_rights*'

log=$(mktemp)
trap 'rm -f "$log"' EXIT

status=0
cargo test -p meetlink-e2e --no-fail-fast 2>&1 | tee "$log" || status=$?
[ "$status" -ne 0 ] || exit 0

# "PROGRAM TEST" for each that failed; cargo names the program before its tests.
failed=$(awk '/^ *Running (tests|unittests)/ { n = split($2, path, "/"); program = path[n]; sub(/\.rs$/, "", program) }
    /^test .* \.\.\. FAILED$/ { print program, $2 }' "$log")
if [ -z "$failed" ]; then
    echo "no test failed, yet cargo did: see above"
    exit "$status"
fi

again=0
while read -r program name; do
    # shellcheck disable=SC2254 # a list of patterns
    if eval "case $program in $never_by_chance) true ;; *) false ;; esac"; then
        echo "FAILED: $program: $name (has no second try)"
        exit 1
    fi
    printf '\nonce more, alone: %s: %s\n' "$program" "$name"
    if ! cargo test -q -p meetlink-e2e --test "$program" -- --exact "$name" < /dev/null > "$log.again" 2>&1; then
        cat "$log.again"
        rm -f "$log.again"
        echo "FAILED twice: $program: $name"
        exit 1
    fi
    grep -o 'SKIPPED: .*' "$log.again" || true
    rm -f "$log.again"
    echo "SECOND TRY: $program: $name failed among others and passed alone"
    again=$((again + 1))
done <<< "$failed"

# Every failure is accounted for: a program that died has no line for its tests.
counted=$(awk '/^test result:/ { for (i = 2; i <= NF; i++) if ($i ~ /^failed/) f += $(i-1) } END { print f + 0 }' "$log")
died=$(grep -c 'process didn.t exit successfully.*(signal' "$log" || true)
if [ "$counted" -ne "$again" ] || [ "$died" -ne 0 ]; then
    echo "FAILED: $counted failures and $died programs that died, of which $again passed at a second try"
    exit 1
fi
