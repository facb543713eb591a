# Each target does its own set-up. Nothing but `make install` touches the machine's own PostgreSQL:
# everything else works in a private folder (scripts/env.sh says where, MEETLINK_HOME moves it).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup build demo test bench torture soak check install clean distclean

# What follows a program's name on its command line.
DEMO_ARGS ?=
BENCH_ARGS ?=
TORTURE_ARGS ?=
SOAK_ARGS ?=

help:
	@echo 'make demo       see it work: a private cluster, a provider simulator, bookings and their links'
	@echo 'make test       everything: lints, unit, in-server and end-to-end tests'
	@echo 'make bench      how fast it is, beside graphile-worker and pg-boss (25 min; BENCH_ARGS=latency)'
	@echo 'make torture    kill the worker at each of its system calls, in four ways, and count meetings'
	@echo 'make soak       ten minutes of bookings with faults and kills, and what became of them'
	@echo 'make check      form, lints, and the walls between the rooms'
	@echo 'make install    build and install into your PostgreSQL (PG_CONFIG=... chooses which)'
	@echo 'make setup      only install what is missing and make the private PostgreSQL'
	@echo 'make build      only build the extension into the private PostgreSQL'
	@echo 'make clean      remove what builds made; make distclean: the private folder too'

setup:
	@scripts/setup.sh

build: setup
	@scripts/build.sh

demo: setup
	@scripts/build.sh with-programs
	@. scripts/env.sh && cargo run -q -p meetlink-e2e --release --bin demo -- $(DEMO_ARGS)

bench: setup
	@scripts/build.sh with-programs
	@scripts/peers.sh
	@. scripts/env.sh && cargo run -q -p meetlink-e2e --release --bin bench -- $(BENCH_ARGS)

torture: setup
	@scripts/build.sh
	@scripts/torture.sh $(TORTURE_ARGS)

soak: setup
	@scripts/build.sh with-programs
	@. scripts/env.sh && cargo run -q -p meetlink-e2e --release --bin soak -- $(SOAK_ARGS)

check: setup
	@scripts/check.sh

test:
	@scripts/test.sh

install: export PG_CONFIG := $(PG_CONFIG)
install:
	@scripts/setup.sh for-install
	@scripts/install.sh

clean:
	@scripts/clean.sh

distclean:
	@scripts/clean.sh all
