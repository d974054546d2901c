#!/usr/bin/env bash
# Evaluate under Slurm:
#   [GPUS=8] tools/slurm_test.sh PARTITION JOB CONFIG CHECKPOINT [arguments]
exec "$(dirname "$0")/slurm_run.sh" "$1" "$2" test.py "$3" "$4" "${@:5}"
