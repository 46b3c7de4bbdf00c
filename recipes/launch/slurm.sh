#!/bin/bash
# Train a stage on one or many nodes of a SLURM cluster (docs/slurm.md), from the project's directory:
#   sbatch --nodes=2 recipes/launch/slurm.sh pretrain --config recipes/configs/pretrain/gpu.yaml --output_dir DIR ...
#   bash recipes/launch/slurm.sh --dry_run --nodes 2 -- pretrain --config ...     # what that would submit
# Options on sbatch's command line override these. There is one task a GPU.
#SBATCH --job-name=nanochat
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --mem=0
#SBATCH --time=24:00:00
# Ten minutes before the time is up, SIGTERM to all tasks: training saves a checkpoint after the step it is in.
#SBATCH --signal=TERM@600
#SBATCH --requeue
#SBATCH --output=slurm-%j.out
#SBATCH --open-mode=append
set -u
python=${PYTHON:-.venv/bin/python}

fail() {
    echo "slurm: $*" >&2
    exit 2
}

[[ -f recipes/pretrain.py ]] || fail "$PWD is not the project's directory: submit from there."
command -v "$python" > /dev/null || fail "no $python here: make install, or set PYTHON to one that has the packages."
[[ -n ${SLURM_JOB_ID:-} && ${1:-} != --* ]] || exec "$python" -m recipes.launch.slurm "$@"

stage=${1:-}
output_dir=
for ((i = 2; i <= $#; i++)); do
    case ${!i} in
        --output_dir=*) output_dir=${!i#*=} ;;
        --output_dir) ((i++)) && output_dir=${!i:-} ;;
    esac
done
[[ $stage =~ ^(pretrain|midtrain|sft|dpo|grpo)$ && -f recipes/$stage.py ]] ||
    fail "unknown stage '$stage': give pretrain, midtrain, sft, dpo or grpo before its flags."
output_dir=${output_dir/#\~/$HOME}
[[ -n $output_dir ]] || fail "no --output_dir: give one on storage that all nodes share."
tasks=${SLURM_NTASKS_PER_NODE:-1}
[[ ${SLURM_GPUS_ON_NODE:-$tasks} == "$tasks" ]] ||
    fail "$tasks tasks for ${SLURM_GPUS_ON_NODE} GPUs a node: give sbatch --gpus-per-node=N --ntasks-per-node=N."

# What torchrun would set. Its agent is left out: it would kill a training that saves for longer than 30 seconds.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
export WORLD_SIZE=$SLURM_NTASKS LOCAL_WORLD_SIZE=$tasks OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}

checkpoints() { ls "$output_dir/checkpoints" 2> /dev/null; }
before=$(checkpoints)

echo "slurm: job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)), $WORLD_SIZE tasks on $SLURM_JOB_NUM_NODES node(s)"
trap 'echo "slurm: SIGTERM; waiting for the tasks to save"' TERM
srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
    bash -c 'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID; exec "$@"' task \
    "$python" "recipes/$stage.py" "${@:2}"
code=$?

# A stage that was stopped ends well, with a new checkpoint and without a finished model. One that failed ends badly, and
# would fail again; one that saved nothing new would go round for ever.
if ((code == 0)) && [[ ! -f $output_dir/config.json && $(checkpoints) != "$before" ]]; then
    # Not RUNNING any more: cancelled, or preempted, after which SLURM requeues by itself.
    if scontrol show job "$SLURM_JOB_ID" | grep -q JobState=RUNNING; then
        echo "slurm: not finished; job $SLURM_JOB_ID goes back to the queue and resumes from its checkpoint"
        scontrol requeue "$SLURM_JOB_ID"
    fi
fi
exit "$code"
