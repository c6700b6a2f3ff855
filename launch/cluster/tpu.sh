#!/bin/bash
# A TPU slice: the same command on every host of it; JAX finds the others by the slice's own metadata.
#
#   launch/cluster/tpu.sh NAME ZONE profit_train --config=configs/profit/paper.py:hhf,fed_avg_adam \
#       --config.model=/shared/model --config.data_dir=/shared/data --mesh=clients:8,model:4 \
#       --workdir=/shared/runs/hhf
#
# The hosts have the project in ~/profit_jax, installed with the extra `tpu` (BUILD.md), and share the folder /shared.
set -euo pipefail

name=$1 zone=$2 launcher=$3
shift 3
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
    --command="cd ~/profit_jax && python -m launch.$launcher $(printf '%q ' "$@")"
