#!/usr/bin/env bash
# Builds the extension for a PostgreSQL of yours and installs it there, for those who want that:
#     make install [PG_CONFIG=/path/to/pg_config]
# No server is restarted and no configuration is changed; one that runs may go on meanwhile.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

pg_config=$(type -P "${PG_CONFIG:-/usr/lib/postgresql/$MEETLINK_PG_MAJOR/bin/pg_config}") ||
    die "there is no program ${PG_CONFIG:-pg_config}" "make install PG_CONFIG=/path/to/pg_config"
version=$("$pg_config" --version)
major=${version#PostgreSQL }
major=${major%%[^0-9]*}
grep -q "^pg$major = " Cargo.toml || die "$version is not supported" \
    "Supported: $(sed -n 's/^pg\([0-9]*\) = .*/\1/p' Cargo.toml | xargs)"

libdir=$("$pg_config" --pkglibdir)
extensions=$("$pg_config" --sharedir)/extension
as_root=()
if ! [ -w "$libdir" ] || ! [ -w "$extensions" ]; then
    as_root=(sudo)
    # Asked for here, while the terminal is ours: the build is long.
    sudo -v || die "$libdir or $extensions is not yours to write, and sudo was refused" "Run it as root."
fi

if ! [ -e "$PGRX_HOME/config.toml" ] ||
    [ "$version" != "$("$MEETLINK_PG_BIN/pg_config" --version 2>/dev/null)" ]; then
    headers=$("$pg_config" --includedir-server)
    [ -e "$headers/postgres.h" ] || die "$version has no headers in $headers" \
        "Install them: on Debian, apt-get install postgresql-server-dev-$major"
    # Other headers, other bindings: in a folder of its own, or the ordinary builds would start over.
    export PGRX_PG_CONFIG_PATH=$pg_config
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/install-$major
    # cargo-pgrx wants to have been told of a PostgreSQL, whichever it is used for.
    export PGRX_HOME=$PGRX_HOME-install
    grep -qF "\"$pg_config\"" "$PGRX_HOME/config.toml" 2>/dev/null ||
        run_logged pgrx-init "pgrx: registering $pg_config" "Is it a pg_config of PostgreSQL's own?" \
            "$CARGO_PGRX" pgrx init --no-run "--pg$major" "$pg_config"
fi
package=$(realpath -m "${CARGO_TARGET_DIR:-target}")/package
rm -rf "$package"
run_logged install "meetlink for $version: building, some minutes the first time" \
    "Mend what is said above." \
    "$CARGO_PGRX" pgrx package --no-default-features --features "pg$major" --pg-config "$pg_config" \
    --out-dir "$package"

# Not by `cargo pgrx install`: it removes the library, or writes into it, and a running server has it
# mapped. A new file takes the old one's name instead, and what is mapped stays as it was.
#
# The library first, then scripts, then the control file: each when what it refers to is there.
mapfile -t files < <(cd "$package" && printf '%s\n' ".$libdir/meetlink.so" \
    ".$extensions"/meetlink--*.sql ".$extensions/meetlink.control")
files=("${files[@]#.}")
# PostgreSQL looks for names that end in .control or .sql: nothing sees these.
new=.new.$$
trap '_stop_heartbeat; "${as_root[@]}" rm -f -- "${files[@]/%/$new}"' EXIT
for file in "${files[@]}"; do
    mode=0644
    [ "$file" != "$libdir/meetlink.so" ] || mode=0755
    "${as_root[@]}" install -m "$mode" -- "$package$file" "$file$new"
done
# All of them are there, and on the disk, before the first takes its place.
"${as_root[@]}" sync -- "${files[@]/%/$new}"
for file in "${files[@]}"; do
    "${as_root[@]}" mv -fT -- "$file$new" "$file"
done

cat <<TEXT

Installed into $libdir
and $extensions.
A server that runs goes on with what it has loaded until it is restarted.

The first time: add to postgresql.conf, and keep what shared_preload_libraries has already
(it is one list, comma-separated; of two lines the last one counts):

    shared_preload_libraries = 'meetlink'
    meetlink.key_file = '/path/to/meetlink.keys'

The key file holds lines "<key id> <64 hex digits>"; one is made so, as the server's OS user:

    (umask 077; echo "k1 \$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" > /path/to/meetlink.keys)

Restart PostgreSQL, and in your database: CREATE EXTENSION meetlink;

An upgrade: restart PostgreSQL, and in each database: ALTER EXTENSION meetlink UPDATE;
TEXT
