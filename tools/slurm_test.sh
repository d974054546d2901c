#!/usr/bin/env bash
# Evaluate under Slurm:
#   [GPUS=8] tools/slurm_test.sh PARTITION JOB CONFIG CHECKPOINT [arguments]
if [ $# -lt 4 ]; then
    echo 'error: usage: tools/slurm_test.sh PARTITION JOB CONFIG CHECKPOINT [arguments]' >&2
    exit 2
fi
exec "$(dirname "$0")/slurm_run.sh" "$1" "$2" test.py "$3" "$4" "${@:5}"
