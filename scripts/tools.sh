# shellcheck shell=bash
# Tools from the Python package index, each in a folder of its own below MEETLINK_HOME. For scripts
# that have sourced lib.sh.

# from_pypi PROGRAM WHAT PACKAGE==VERSION...: installs PROGRAM unless it is there in just these
# versions; its path is then in $tool.
from_pypi() {
    local program=$1 what=$2 folder
    shift 2
    folder=$MEETLINK_HOME/py-$program
    # shellcheck disable=SC2034 # for the caller
    tool=$folder/bin/$program
    [ "$(cat "$folder/.versions" 2>/dev/null)" != "$*" ] || return 0
    command -v python3 >/dev/null || die "$what needs python3" "As root: apt-get install python3-venv"
    mkdir -p "$MEETLINK_HOME"
    # Two checks at once must not fill one folder; the kernel drops the lock with the process.
    exec 8>"$MEETLINK_HOME/.lock-tools"
    flock 8
    if [ "$(cat "$folder/.versions" 2>/dev/null)" != "$*" ]; then
        rm -rf "$folder"
        run_logged "py-$program" "$what: installing, some seconds, once" \
            "Is Debian's python3-venv installed, and can the Python package index be reached?" \
            _fill_venv "$folder" "$@"
        # Last: only a folder that was filled counts.
        echo "$*" >"$folder/.versions"
    fi
    exec 8>&-
}

_fill_venv() {
    local folder=$1
    shift
    python3 -m venv "$folder" &&
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: "$@"
}
