#!/usr/bin/env bash
# Evaluate on several devices (CPU processes where there is no GPU):
#   tools/dist_test.sh CONFIG CHECKPOINT DEVICES [arguments of tools/test.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
exec "$(dirname "$0")/dist_run.sh" test.py "$1" "$3" "$2" "${@:4}"
