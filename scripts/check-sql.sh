#!/usr/bin/env bash
# The install script, as a reviewer of extensions reads it: pgspot for search_path and takeovers, and
# check-sql.py for what pgspot does not know. `check-sql.sh FOLDER` looks at another folder.
set -euo pipefail
here=$PWD
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tools.sh
. scripts/tools.sh

folder=sql/install
[ $# -eq 0 ] || folder=$(cd "$here" && realpath "$1")
from_pypi pgspot "pgspot" pgspot==0.9.4 pglast==7.21

script=$(mktemp --suffix .sql)
trap 'rm -f "$script"; _stop_heartbeat' EXIT
# In the order of src/lib.rs, which is that of the numbers. @extschema@ stays as it is: pgspot knows it.
cat "$folder"/*.sql >"$script"

say "  pgspot, and rules of our own, over $(cat "$folder"/*.sql | wc -l) lines of SQL"
findings=$("$tool" "$script") || {
    printf '%s\n' "$findings" >&2
    die "pgspot has findings (line numbers count through all files of $folder)" \
        "$tool --explain PS001 explains a code. Operators and types are safe below SET LOCAL search_path = pg_catalog, pg_temp; names of ours are qualified."
}
"${tool%/*}/python" scripts/check-sql.py "$folder"/*.sql ||
    die "the install script has findings" "Each line above says what is missing."
