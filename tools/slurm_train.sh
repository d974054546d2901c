#!/usr/bin/env bash
# Train under Slurm:
#   [GPUS=8] tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [arguments]
exec "$(dirname "$0")/slurm_run.sh" "$1" "$2" train.py "$3" \
    --work-dir="$4" "${@:5}"
