"""Write the jobs of an experiment as plain sbatch scripts, for clusters where nothing but sbatch may be used.

    submit.sh                    submits the others with their dependencies
    01_plan_Dataset201.sbatch    a job
    02_train_Dataset201.sbatch   a job array: one element per training

Each runs its step as `compare run` does, in `step_process`: locked, and only what is left of it. What remains in the
shell is the choice of the element of an array, and the requeue of a training at its time limit.
"""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_transformers.comparison.experiment.model import Slurm
from nnunet_transformers.comparison.running.slurm import JobGroup, dependencies, extra_options, gpu_request, grouped
from nnunet_transformers.comparison.running.slurm_job import SECONDS_TO_SAVE
from nnunet_transformers.comparison.running.step import Step

SUBMIT = "submit.sh"


def print_scripts(
    steps: Sequence[Step],
    settings: Slurm,
    *,
    environment: Mapping[str, str] | None = None,
    workdir: Path | None = None,
) -> dict[str, str]:
    """The scripts that do what is not done yet.

    Args:
        environment: variables the steps need, `nnUNet_raw`, `nnUNet_preprocessed` and `nnUNet_results` among them.
        workdir: where the commands run; the current folder if none is given.

    Returns:
        File name → text. Empty if nothing is left to do.
    """
    groups = grouped(steps, settings)
    if not groups:
        return {}
    width = max(2, len(str(len(groups))))
    names = {group: f"{number:0{width}}_{group.name}.sbatch" for number, group in enumerate(groups, start=1)}
    workdir = Path(workdir or Path.cwd()).resolve()
    scripts = {name: _script(group, settings, environment or {}, workdir) for group, name in names.items()}
    return {SUBMIT: _submit(names), **scripts}


def _script(group: JobGroup, settings: Slurm, environment: Mapping[str, str], workdir: Path) -> str:
    trains = any(step.fold for step in group.steps)
    parts = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in _options(group, settings, requeued=trains)),
        "",
        *settings.setup,  # before -u: the scripts of modules and environments do not survive it
        "set -euo pipefail",
        f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"',
        *(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
        "# Worker processes of nnU-Net, which would count the cores of the whole node.",
        f'export nnUNet_n_proc_DA="${{nnUNet_n_proc_DA:-{min(settings.cpus, 12)}}}"',
        f'export nnUNet_def_n_proc="${{nnUNet_def_n_proc:-{min(settings.cpus, 12)}}}"',
        f"cd {shlex.quote(str(workdir))}",
        "",
        *_choice(group.steps),
        "",
        _TRAINING.replace("@GRACE@", str(SECONDS_TO_SAVE // 4)) if trains else _PLAIN,
    ]
    return "\n".join(parts)


def _options(group: JobGroup, settings: Slurm, *, requeued: bool) -> list[str]:
    """The options of sbatch, a line each."""
    options = [f"--job-name={group.name}"]
    if len(group.steps) > 1:
        options.append(f"--array=0-{len(group.steps) - 1}")
    options += [f"--time={_clock(group.minutes)}", "--nodes=1", "--ntasks=1", f"--cpus-per-task={settings.cpus}"]
    if settings.memory_gb is not None:
        options.append(f"--mem={math.ceil(settings.memory_gb * 1024)}M")
    if group.gpu and settings.gpus_per_task:
        options.append(f"--gres={gpu_request(settings.gpus_per_task)}")
    options += [f"--{name}={value}" for name in ("partition", "account") if (value := getattr(settings, name))]
    options += ["--requeue", "--open-mode=append"]
    if requeued:
        options.append(f"--signal=B:USR1@{SECONDS_TO_SAVE}")
    for name, value in extra_options(settings.extra).items():
        options.append(f"--{name}" if value is True else f"--{name}={shlex.quote(str(value))}")
    return options


def _choice(steps: Sequence[Step]) -> list[str]:
    """Shell lines that set name, log, step and, of a training, fold: by the index where there are several steps."""
    blocks = [_assignments(step) for step in steps]
    if len(blocks) == 1:
        return blocks[0]
    lines = ['case "$SLURM_ARRAY_TASK_ID" in']
    for index, block in enumerate(blocks):
        lines += [f"{index})", *(f"    {line}" for line in block), "    ;;"]
    return [*lines, "esac"]


def _assignments(step: Step) -> list[str]:
    return [
        f"name={shlex.quote(step.name)}",
        f"log={shlex.quote(str(step.log.resolve()))}",
        f"step=({shlex.join(step.process)})",
        *([f"fold={shlex.quote(str(step.fold.folder.resolve()))}"] if step.fold else []),
    ]


def _submit(names: Mapping[JobGroup, str]) -> str:
    """The script that submits the others; a job's number is kept in the array `job`, under the job's position."""
    place = {
        step.name: (number, index) for number, group in enumerate(names, 1) for index, step in enumerate(group.steps)
    }
    sizes = {number: len(group.steps) for number, group in enumerate(names, start=1)}
    lines = []
    for number, (group, file) in enumerate(names.items(), start=1):
        needs, after = (_jobs([place[name] for name in names], sizes) for names in (group.needs, group.after))
        waits = dependencies(needs, after)
        dependency = f'--kill-on-invalid-dep=yes --dependency="{waits}" ' if waits else ""
        lines.append(f"job[{number}]=$(submit {dependency}{shlex.quote(file)})")
    n_steps = sum(sizes.values())
    what = f"Submits {n_steps} step{'s' * (n_steps > 1)} as {len(names)} job{'s' * (len(names) > 1)} or job arrays"
    return _SUBMIT.replace("@WHAT@", what).replace("@JOBS@", "\n".join(lines))


def _jobs(places: Sequence[tuple[int, int]], sizes: Mapping[int, int]) -> list[str]:
    """Jobs to wait for: a whole array by its number, an element of it with its index."""
    needed: dict[int, list[int]] = {}
    for number, index in places:
        needed.setdefault(number, []).append(index)
    jobs = []
    for number, indices in needed.items():
        if len(indices) == sizes[number]:
            jobs.append(f"${{job[{number}]}}")
        else:
            jobs += [f"${{job[{number}]}}_{index}" for index in indices]
    return jobs


def _clock(minutes: int) -> str:
    """A time limit as SLURM reads it: days-hours:minutes:seconds."""
    return f"{minutes // 1440}-{minutes // 60 % 24:02d}:{minutes % 60:02d}:00"


_PLAIN = """\
mkdir -p "$(dirname "$log")"
echo "$name (output in $log)"
exec "${step[@]}" >>"$log" 2>&1
"""

_TRAINING = """\
# A checkpoint is a zip archive: whole if its directory, which comes last, can be read.
is_complete() { python3 -m zipfile -l "$1" >/dev/null 2>&1; }
newest() { stat -c %Y "$fold"/checkpoint_*.pth 2>/dev/null | sort -n | tail -n 1 || true; }
newest_at_start=$(newest)

# SLURM sends USR1 before the time limit. The training is ended and the job requeued; it goes on from its checkpoint.
# Without a new checkpoint it would not come further the next time: then the job fails.
out_of_time() {
    trap '' USR1
    for _ in {1..@GRACE@}; do # a checkpoint may be half-written
        half=0
        for checkpoint in "$fold"/checkpoint_*.pth; do
            if [[ -e $checkpoint ]] && ! is_complete "$checkpoint"; then half=1; fi
        done
        if ((half == 0)); then break; fi
        sleep 1
    done
    kill -TERM -- "-$child" || true
    wait "$child" || true
    if [[ $(newest) == "$newest_at_start" ]]; then
        echo "$name: out of time, and not requeued: this run wrote no checkpoint to go on from. Give it more hours." |
            tee -a "$log"
        exit 1
    fi
    echo "$name: out of time, requeued"
    scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
    sleep 60 # SLURM ends this script meanwhile
    exit 1
}
trap out_of_time USR1

mkdir -p "$(dirname "$log")"
echo "$name (output in $log)"
set -m # gives the training a process group of its own, with its workers
"${step[@]}" >>"$log" 2>&1 &
child=$!
wait "$child"
"""

_SUBMIT = """\
#!/bin/bash
# @WHAT@.
# A job starts when those it needs have succeeded; if one fails, SLURM cancels what needs it. The selection and the
# report only wait for the others to end. Submit again when the cause is mended: a finished training ends at once, one
# that was begun goes on.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"

if [[ -s jobs.txt ]] && [[ -n $(squeue --noheader --jobs="$(paste -sd, jobs.txt)" 2>/dev/null) ]]; then
    echo "Jobs of the last submission are still in the queue: $(paste -sd' ' jobs.txt). Nothing was submitted." >&2
    exit 2
fi
: >jobs.txt

submit() { # prints the number of the job
    local id
    id=$(sbatch --parsable --output="$here/%x-%j.out" "$@")
    echo "${id%%;*}" | tee -a jobs.txt
}

@JOBS@

echo "Submitted: $(paste -sd' ' jobs.txt). To see them: squeue --jobs=$(paste -sd, jobs.txt)"
"""
