#!/bin/bash
# One process a GPU over whole nodes; JAX finds the others by SLURM's own variables.
#
#   sbatch --nodes=4 --gpus-per-node=8 launch/cluster/slurm.sh profit_train \
#       --config=configs/profit/small.py:hhf,fed_avg_adam --config.model=MODEL --config.data_dir=DATA \
#       --mesh=clients:8,model:4 --workdir=SHARED/runs/hhf
#
# The workdir is on a file system that all nodes share. SLURM sends SIGTERM before it ends the job: the run saves its
# round and is queued again.
#SBATCH --job-name=profit
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --open-mode=append
set -euo pipefail

launcher=$1
shift
status=0
srun --ntasks-per-node="${SLURM_GPUS_ON_NODE:-1}" --gpus-per-task=1 --kill-on-bad-exit=1 \
    python -m "launch.$launcher" "$@" || status=$?
if [[ $status -eq 75 ]]; then # saved when it was told to end
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
