#!/usr/bin/env bash
# Evaluate on several devices (GPUs; without GPUs, CPU processes):
#   tools/dist_test.sh CONFIG CHECKPOINT DEVICES [arguments of tools/test.py]
# On several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
exec "$(dirname "$0")/dist_run.sh" test.py "$1" "$3" "$2" "${@:4}"
