# shellcheck shell=bash
# Where the private PostgreSQL tree and its tools are. Source it to run cargo by hand:
#     . scripts/env.sh && cargo test -p meetlink-e2e
# It only sets variables: nothing is installed, nothing exits.

MEETLINK_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# The checkout may lie under /root, where the OS user postgres cannot look: so not in the checkout.
: "${MEETLINK_HOME:=/var/tmp/meetlink-$(id -u)-$(printf %s "$MEETLINK_ROOT" | sha256sum | cut -c1-8)}"
case $MEETLINK_HOME in
/*) ;;
*) MEETLINK_HOME=$PWD/$MEETLINK_HOME ;;
esac

MEETLINK_PG_MAJOR=15
# Two trees: in-server tests install a debug build with test functions, which must never be what
# the demo and the end-to-end tests load.
MEETLINK_TREE=$MEETLINK_HOME/tree
MEETLINK_TEST_TREE=$MEETLINK_HOME/tree-test
MEETLINK_PG_BIN=$MEETLINK_TREE/usr/lib/postgresql/$MEETLINK_PG_MAJOR/bin

# pgrx keeps its configuration in ~/.pgrx unless told otherwise: that one belongs to the user.
PGRX_HOME=$MEETLINK_HOME/pgrx
CARGO_PGRX=$MEETLINK_HOME/bin/cargo-pgrx
unset PGRX_PG_CONFIG_PATH PGRX_PG_CONFIG_AS_ENV
case :$PATH: in
*:"$MEETLINK_HOME/bin":*) ;;
*) PATH=$MEETLINK_HOME/bin:$PATH ;;
esac

# pgrx's tests connect as $USER, which containers often leave unset.
: "${USER:=$(id -un)}"

export MEETLINK_ROOT MEETLINK_HOME MEETLINK_PG_MAJOR MEETLINK_TREE MEETLINK_TEST_TREE
export MEETLINK_PG_BIN PGRX_HOME CARGO_PGRX PATH USER
