#!/usr/bin/env bash
# Installs what is missing and makes the private PostgreSQL tree. Can be run at any time: it does
# only what is not done yet, and takes a fraction of a second when that is nothing.
#     setup.sh                what development and tests need
#     setup.sh for-install    what a build for a PostgreSQL of yours needs, and no more
#
# PostgreSQL's programs find their library and share folders relative to their own real path. So a
# tree with copies of the programs and symlinks to everything else is an installation of its own,
# into which we can install without touching the machine's.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

layout=1 # raise it when the shape of the tree changes: trees are then made anew
major=$MEETLINK_PG_MAJOR
sys_lib=/usr/lib/postgresql/$major
sys_share=/usr/share/postgresql/$major
sys_include=/usr/include/postgresql
did_something=
for_install=
if [ "${1:-}" = for-install ]; then for_install=1; fi

# Compilers, what cargo-pgrx links with, and the headers of the PostgreSQL that it is for: those of one
# that PG_CONFIG names are its own affair.
packages=(libclang-dev libssl-dev pkg-config gcc libc6-dev)
[ -n "$for_install" ] && [ -n "${PG_CONFIG:-}" ] || packages+=("postgresql-server-dev-$major")
[ -n "$for_install" ] ||
    packages+=("postgresql-$major" sudo strace faketime python3-venv python3-cryptography nodejs)

install_packages() {
    local missing=() package as_root=()
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            die "these Debian packages are missing: ${missing[*]}" "As root: apt-get install ${missing[*]}"
        as_root=(sudo)
        # Asked for here, while the terminal is ours: apt's own output goes to a log file.
        sudo -v || die "sudo was refused, and these Debian packages are missing: ${missing[*]}" \
            "Ask an administrator to run: apt-get install ${missing[*]}"
    fi
    run_logged apt-update "Debian's package lists: refreshing, some seconds" \
        "Is Debian's package archive reachable from here?" \
        "${as_root[@]}" apt-get -q update
    run_logged apt-install "Debian packages ${missing[*]}: installing, about a minute, once" \
        "Try it by hand: apt-get install ${missing[*]}" \
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qy install --no-install-recommends "${missing[@]}"
    did_something=1
}

check_rust() {
    local wanted have
    command -v cargo >/dev/null || die "cargo is not on the PATH" \
        "Install Rust with rustup, then open a new shell (or: . ~/.cargo/env)."
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    have=$(rustc --version | cut -d' ' -f2)
    [ "$(printf '%s\n' "$wanted" "${have%%-*}" | sort -V | head -n1)" = "$wanted" ] ||
        die "rustc $have is too old: meetlink needs $wanted or later" "rustup update"
}

make_home() {
    case $MEETLINK_HOME in
    *[[:space:]]*) die "MEETLINK_HOME has a space in it: '$MEETLINK_HOME'" "Choose a path without spaces." ;;
    esac
    mkdir -p "$MEETLINK_HOME"
    # /var/tmp is open to everybody: somebody else's folder of this name must not be trusted.
    [ -O "$MEETLINK_HOME" ] || die "$MEETLINK_HOME belongs to somebody else" \
        "Set MEETLINK_HOME to a folder of your own (readable by the OS user postgres when you are root)."
    chmod 0755 "$MEETLINK_HOME"
    touch "$MEETLINK_HOME/.meetlink-home"
    mkdir -p "$MEETLINK_HOME/bin" "$MEETLINK_HOME/log"
}

# Changes with every update, added or removed package of the system's PostgreSQL.
signature() {
    {
        echo "$layout"
        find "$sys_lib" "$sys_share" "$sys_include" \( -type f -o -type l \) ! -name 'meetlink*' \
            -printf '%p %s %T@ %l\n' | LC_ALL=C sort
    } | sha256sum
}

# make_tree DIR SIGNATURE
make_tree() {
    local tree=$1 new=$1.new lib=usr/lib/postgresql/$major share=usr/share/postgresql/$major
    rm -rf "$new"
    mkdir -p "$new/$lib" "$new/${share%/*}" "$new/usr/include"
    cp -a "$sys_lib/bin" "$new/$lib/bin"
    # Real folders with symlinks inside, so that what is put into them stays in the tree.
    cp -as "$sys_lib/lib" "$new/$lib/lib"
    cp -as "$sys_share" "$new/$share"
    cp -as "$sys_include" "$new/usr/include/postgresql"
    # A meetlink that `make install` put into the system must not shine through: cargo-pgrx would
    # write through the symlinks.
    find "$new/$lib/lib" "$new/$share/extension" -name 'meetlink*' -prune -exec rm -rf {} +
    rm -rf "$tree"
    mv "$new" "$tree"
    check_tree "$tree"
    # Last: only a tree that passed counts as made.
    echo "$2" >"$tree/.meetlink-tree"
}

check_tree() {
    local tree=$1 bin=$1/usr/lib/postgresql/$major/bin option path
    for option in --bindir --pkglibdir --sharedir --includedir-server; do
        path=$("$bin/pg_config" "$option")
        case $path in
        "$(realpath "$tree")"/*) [ -d "$path" ] || die "$path is missing" "make distclean, then try again." ;;
        *) die "$bin/pg_config $option says $path, which is outside the private tree" \
            "Is $sys_lib Debian's own PostgreSQL $major? No other layout is supported." ;;
        esac
    done
    if [ "$(id -u)" -eq 0 ]; then
        runuser -u postgres -- "$bin/postgres" --version >/dev/null 2>&1 ||
            die "the OS user postgres cannot run $bin/postgres" \
                "As root, set MEETLINK_HOME to a folder that everybody may enter, on a file system without noexec."
    fi
}

make_trees() {
    local now tree
    now=$(signature)
    for tree in "$MEETLINK_TREE" "$MEETLINK_TEST_TREE"; do
        [ "$(cat "$tree/.meetlink-tree" 2>/dev/null)" != "$now" ] || continue
        say "  private copy of PostgreSQL $("$sys_lib/bin/postgres" --version | sed 's/.*) \([0-9.]*\).*/\1/'): making $tree"
        make_tree "$tree" "$now"
        did_something=1
    done
}

# is_cargo_pgrx PROGRAM VERSION
is_cargo_pgrx() { [ -x "$1" ] && [ "$("$1" pgrx --version 2>/dev/null)" = "cargo-pgrx $2" ]; }

find_cargo_pgrx() {
    local version candidate
    # cargo-pgrx must be exactly the version of the pgrx crate.
    version=$(sed -n 's/^pgrx = "=\([0-9.]*\)".*/\1/p' Cargo.toml)
    [ -n "$version" ] || die "Cargo.toml does not pin pgrx" 'It needs a line like: pgrx = "=0.18.1"'
    ! is_cargo_pgrx "$CARGO_PGRX" "$version" || return 0
    rm -f "$CARGO_PGRX"
    for candidate in "$MEETLINK_HOME/cargo/bin/cargo-pgrx" "$(type -P cargo-pgrx || true)" \
        "${CARGO_HOME:-$HOME/.cargo}/bin/cargo-pgrx"; do
        if is_cargo_pgrx "$candidate" "$version"; then
            ln -s "$candidate" "$CARGO_PGRX"
            return 0
        fi
    done
    run_logged cargo-pgrx "cargo-pgrx $version: compiling, about 4 minutes on 2 cores, once" \
        "Is the crate registry reachable from here?" \
        env -u CARGO_TARGET_DIR cargo install --locked cargo-pgrx --version "$version" --root "$MEETLINK_HOME/cargo"
    ln -s "$MEETLINK_HOME/cargo/bin/cargo-pgrx" "$CARGO_PGRX"
    did_something=1
}

init_pgrx() {
    local config=$PGRX_HOME/config.toml
    local pg_config=$MEETLINK_TEST_TREE/usr/lib/postgresql/$major/bin/pg_config
    # Its date makes cargo generate the bindings again, so it changes only when the tree did.
    if [ "$config" -nt "$MEETLINK_TEST_TREE/.meetlink-tree" ] && grep -qF "\"$pg_config\"" "$config"; then
        return 0
    fi
    run_logged pgrx-init "pgrx: registering the private PostgreSQL" \
        "make distclean, then try again." \
        "$CARGO_PGRX" pgrx init --no-run "--pg$major" "$pg_config"
    did_something=1
}

check_rust
make_home
# Two set-ups at once must not build the same tree; the kernel drops the lock with the process.
exec 9>"$MEETLINK_HOME/.lock"
flock -n 9 || { say "  another set-up is under way: waiting for it" && flock 9; }
install_packages
[ -n "$for_install" ] || make_trees
find_cargo_pgrx
[ -n "$for_install" ] || init_pgrx
say "set-up: ready in $MEETLINK_HOME${did_something:+ (made or renewed just now)}"
