#!/usr/bin/env bash
# Train on several devices (GPUs; without GPUs, CPU processes):
#   tools/dist_train.sh CONFIG DEVICES [arguments of tools/train.py]
# On several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
exec "$(dirname "$0")/dist_run.sh" train.py "$1" "$2" "${@:3}"
