# shellcheck shell=bash
# What the scripts share: words for the user, and running a long command without a flood of lines.

# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

# The tree must be readable by the OS user postgres, whatever the caller's umask is.
umask 022
cd "$MEETLINK_ROOT" || exit 1

say() { printf '%s\n' "$*"; }

# die MESSAGE HINT
die() {
    printf 'ERROR: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'HINT:  %s\n' "$2" >&2
    exit 1
}

_heartbeat=
_stop_heartbeat() {
    [ -z "$_heartbeat" ] || kill "$_heartbeat" 2>/dev/null || true
    _heartbeat=
}
trap _stop_heartbeat EXIT

# Prints a line every 15 s, for the shell that called it, until that shell is gone.
_beat() {
    local log=$1 begun=$SECONDS crates
    while kill -0 $$ 2>/dev/null; do
        # A read that times out instead of `sleep`, which would outlive this loop.
        read -rt 15 _ <> <(:) || true
        crates=$(grep -cE '^ *(Compiling|Checking) ' "$log" 2>/dev/null || true)
        if [ "${crates:-0}" -gt 0 ]; then
            say "      ... $((SECONDS - begun)) s, $crates crates${crates_expected:+ of about $crates_expected}"
        else
            say "      ... $((SECONDS - begun)) s"
        fi
    done
}

# run_logged LOGNAME WHAT HINT COMMAND...: says WHAT, keeps the command's output in a log file, and
# shows the end of it only when the command fails. crates_expected=N makes its progress tellable.
run_logged() {
    local log=$MEETLINK_HOME/log/$1.log what=$2 hint=$3 begun=$SECONDS status=0
    shift 3
    mkdir -p "${log%/*}"
    say "  $what"
    : >"$log"
    _beat "$log" &
    _heartbeat=$!
    "$@" >"$log" 2>&1 </dev/null || status=$?
    _stop_heartbeat
    wait 2>/dev/null || true
    if [ "$status" -ne 0 ]; then
        printf -- '---- the end of %s\n' "$log" >&2
        tail -n 40 "$log" >&2
        printf -- '----\n' >&2
        die "failed: ${what%%:*}" "$hint The whole output is in $log."
    fi
    [ $((SECONDS - begun)) -lt 3 ] || say "      done in $((SECONDS - begun)) s"
}
