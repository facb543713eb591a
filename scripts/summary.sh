# shellcheck shell=bash
# The summary at the end of `make test`: a line a stage, and by name whatever was not tested although
# its stage counts as passed. For scripts/test.sh.

summary=()
remarks=

# record STATUS TITLE SECONDS OUTPUT: adds a stage. cargo's own counts are summed up over the stage's
# test programs; a test that skips something counts as passed for cargo, so that it is told here.
record() {
    local counts skipped
    skipped=$(grep -oh 'SKIPPED: .*' "$4" | LC_ALL=C sort -u || true)
    counts=$(awk -v skipped="$(grep -c . <<<"$skipped" || true)" '/^test result:/ {
            for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1) }
            n++
        }
        /^SECOND TRY:/ { again++ }
        END {
            if (n) printf "%d passed, %d failed", p + again, f - again
            if (again) printf " (%d at a second try)", again
            if (skipped) printf "%s%d SKIPPED", n ? ", " : "", skipped
        }' "$4")
    summary+=("$(printf '  %-6s %-36s %5s s  %s' "$1" "$2" "$3" "$counts")")
    for line in "$(grep -h '^NOT RUN' "$4" || true)" "$(grep -h '^SECOND TRY' "$4" || true)" "$skipped"; do
        [ -z "$line" ] || remarks+=$line$'\n'
    done
}

# not_reached TITLE: adds a stage that had no turn.
not_reached() { summary+=("  -      $1 (not reached)"); }

print_summary() {
    printf '\n==> summary\n'
    printf '%s\n' "${summary[@]}"
    printf '%s' "$remarks" | fold -sw 100
}
