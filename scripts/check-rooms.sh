#!/usr/bin/env bash
# The walls between the rooms of src/ (ARCHITECTURE.md): which word may stand in which file. Rough
# on purpose: it looks for words in code, comments left out, and says what to do about each find.
set -euo pipefail
cd "$(dirname "$0")/.."

max_lines=400
failures=0

fail() { # fail FINDINGS ADVICE
    [ -n "$1" ] || return 0
    printf '%s\n  -> %s\n' "$1" "$2"
    failures=$((failures + 1))
}

# Rust files under the given paths that exist.
rust_files() {
    local path
    for path in "$@"; do
        [ ! -e "$path" ] || find "$path" -name '*.rs'
    done | sort -u
}

# code [--no-tests] FILE: "FILE:LINE:code", comments blanked; with --no-tests also every item under
# #[cfg(test)], #[cfg(any(test, ...)] or #[cfg(feature = "pg_test")]. String and character literals
# are emptied before braces are counted.
code() {
    local tests=1
    [ "$1" != --no-tests ] || { tests=0 && shift; }
    awk -v keep_tests="$tests" '
        function count(s, c) { return gsub(c, "", s) }
        {
            line = $0
            if (in_block) { if (match(line, /\*\//)) { line = substr(line, RSTART + 2); in_block = 0 } else next }
            gsub(/\/\*[^*]*\*\//, "", line)
            bare = line
            gsub(/\\\\|\\"/, "", bare)
            gsub(/"[^"]*"/, "\"\"", bare)
            gsub(/\x27[{}"]\x27/, "", bare)
            if (match(bare, /\/\//)) {
                bare = substr(bare, 1, RSTART - 1)
                # Where the comment begins in the line itself: // outside of a string.
                quoted = 0
                for (i = 1; i < length(line); i++) {
                    c = substr(line, i, 1)
                    if (c == "\\" && quoted) { i++; continue }
                    if (c == "\"" && substr(line, i - 1, 3) != "\x27\"\x27") quoted = !quoted
                    if (!quoted && substr(line, i, 2) == "//") { line = substr(line, 1, i - 1); break }
                }
            }
            if (match(bare, /\/\*/)) { in_block = 1; bare = substr(bare, 1, RSTART - 1); sub(/\/\*.*/, "", line) }
            if (!keep_tests && !depth && line ~ /#\[cfg\(((any\()?test[,)]|feature = "pg_test")/) { pending = 1; next }
            if (pending && !depth) {
                if (bare !~ /{/) { if (bare ~ /;/) pending = 0; next }
                depth = count(bare, "{") - count(bare, "}")
                if (depth <= 0) { depth = 0; pending = 0 }
                next
            }
            if (pending) {
                depth += count(bare, "{") - count(bare, "}")
                if (depth <= 0) { depth = 0; pending = 0 }
                next
            }
            print FILENAME ":" FNR ":" line
        }' "$1"
}

# find_word [--no-tests] REGEX FILE...: where it stands in code.
find_word() {
    local tests=() regex file
    [ "$1" != --no-tests ] || { tests=(--no-tests) && shift; }
    regex=$1
    shift
    for file in "$@"; do
        code "${tests[@]}" "$file" | grep -E "^[^:]*:[0-9]+:.*$regex" || true
    done
}

# Files of modules that exist in tests only: `#[cfg(test)] mod NAME;`, with all below them.
test_modules() {
    rust_files src | while read -r file; do
        case ${file##*/} in
        mod.rs | lib.rs) folder=${file%/*} ;;
        *) folder=${file%.rs} ;;
        esac
        awk -v folder="$folder" '
            /#\[cfg\(((any\()?test[,)]|feature = "pg_test")/ { pending = 1 }
            pending && match($0, /mod [a-z0-9_]+;/) { print folder "/" substr($0, RSTART + 4, RLENGTH - 5); pending = 0 }
            /[{]/ { pending = 0 }' "$file"
    done
}

mapfile -t all < <(rust_files src)
mapfile -t test_only < <(test_modules)
# without_tests: a filter for names of files.
without_tests() {
    local file module
    while read -r file; do
        for module in "${test_only[@]}"; do
            case $file in "$module.rs" | "$module"/*) continue 2 ;; esac
        done
        printf '%s\n' "$file"
    done
}
# but REGEX: the files of src whose path does not match.
but() { printf '%s\n' "${all[@]}" | grep -vE "$1" || true; }

mapfile -t pure < <(rust_files src/domain src/domain.rs src/provider src/provider.rs)
fail "$(find_word '\<(pgrx|pg_sys)' "${pure[@]}")" \
    "src/domain and src/provider are pure: pass plain values in and out; pgrx belongs to api, store, pg and worker."

mapfile -t files < <(but '^src/net(\.rs|/)')
fail "$(find_word '\<ureq\>' "${files[@]}")" \
    "Only src/net.rs speaks HTTP: describe the request as a value of src/provider and hand it over."

mapfile -t files < <(but '^src/mail(\.rs|/)')
fail "$(find_word '\<lettre\>' "${files[@]}")" \
    "Only src/mail.rs knows letters: hand it a Letter."

mapfile -t files < <(but '^src/pg(\.rs|/)')
fail "$(find_word '\<(unsafe|pg_sys)\>' "${files[@]}")" \
    "unsafe and pg_sys live in src/pg only: give what you need a safe function there."

# In-server tests may write SQL wherever they stand.
mapfile -t files < <(but '^src/(store|pg)(\.rs|/)' | without_tests)
fail "$(find_word --no-tests '\<Spi\>' "${files[@]}")" \
    "SQL in Rust is written in src/store only (src/pg may wrap Spi): add a typed function there."

mapfile -t calm < <(rust_files src/worker src/worker.rs src/store src/store.rs src/net src/net.rs \
    src/provider src/provider.rs src/domain src/domain.rs | without_tests)
fail "$(for file in "${calm[@]}"; do
    code --no-tests "$file" | grep -E '\.(unwrap\(\)|expect\()' || true
done)" \
    "A worker must not end because of one job: return an error, or use a default that is right."

if [ -d sql ]; then
    fail "$(find sql -name '*.sql' ! -name reference_app.sql | sort | while read -r file; do
        sed 's/--.*$//' "$file" | grep -niE 'CREATE +OR +REPLACE|IF +NOT +EXISTS' | sed "s|^|$file:|" || true
    done)" \
        "An extension script must own what it makes (CVE-2022-2625): plain CREATE; in an upgrade script DROP first."
fi

for file in "${all[@]}"; do
    lines=$(wc -l <"$file")
    [ "$lines" -le $max_lines ] ||
        printf 'warning: %s has %d lines, over %d: consider splitting it by topic\n' "$file" "$lines" $max_lines
done

if [ "$failures" -gt 0 ]; then
    printf 'rooms: %d rules broken\n' "$failures"
    exit 1
fi
printf '  rooms: every wall stands (%d files)\n' "${#all[@]}"
