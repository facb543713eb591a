#!/usr/bin/env bash
# Builds the extension for a PostgreSQL of yours and installs it there, for those who want that:
#     make install [PG_CONFIG=/path/to/pg_config]
# No server is restarted and no configuration is changed.
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

if [ "$version" != "$("$MEETLINK_PG_BIN/pg_config" --version)" ]; then
    # Other headers, other bindings: in a folder of its own, or the ordinary builds would start over.
    export PGRX_PG_CONFIG_PATH=$pg_config
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/install-$major
fi
sudo=()
if ! [ -w "$("$pg_config" --pkglibdir)" ]; then
    sudo=(--sudo)
    sudo -v || die "$("$pg_config" --pkglibdir) is not yours to write, and sudo was refused" "Run it as root."
fi
run_logged install "meetlink for $version: building and installing, some minutes the first time" \
    "Mend what is said above." \
    "$CARGO_PGRX" pgrx install --release --no-default-features --features "pg$major" --pg-config "$pg_config" "${sudo[@]}"

cat <<TEXT

Installed into $("$pg_config" --pkglibdir) and $("$pg_config" --sharedir)/extension.

Now add to postgresql.conf (keep what shared_preload_libraries has already, comma-separated):

    shared_preload_libraries = 'meetlink'
    meetlink.key_file = '/path/to/meetlink.keys'

The key file holds lines "<key id> <64 hex digits>"; one is made so, as the server's OS user:

    (umask 077; echo "k1 \$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" > /path/to/meetlink.keys)

Restart PostgreSQL, and in your database: CREATE EXTENSION meetlink;
TEXT
