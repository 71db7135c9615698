"""CPU time and memory of training steps with glibc's own settings, and with those that training workers get.

    python -m tests.benchmarks.training.step_allocation [--recipe gallego-b2]

glibc gives blocks of 32 MiB and more back to the kernel as soon as they are free, and a large network frees and takes
such blocks at each step: the kernel zeroes every page again. Both ways are a process of its own on one core, in turn.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping

import click

from cluster.session.profiles import KEEPS_MEMORY
from tests.benchmarks.front_end.one_core import THREADS, median_ratio
from tests.benchmarks.result import Result, hand_over, say

GENRES = 8
WARM_UP = 2
"""Steps that are not counted."""


def steps(recipe: str, clips: int, count: int) -> dict[str, float]:
    """Train on one batch of noise: CPU seconds a step, page faults a step, the most resident memory in MB."""
    import torch

    from mgc.features.front_end import build_front_end
    from mgc.features.normalization import Normalization
    from mgc.models.architecture import build_model
    from mgc.recipes.catalogue import find
    from mgc.training.batch import Batch
    from mgc.training.loop import Learner

    torch.set_num_threads(1)
    experiment = find(recipe).build().override({"training.precision": "bf16", "front_end.kind": "thumbnail"})
    shape = build_front_end(experiment.front_end).shape
    pictures = torch.randint(0, 256, (clips, *shape), dtype=torch.uint8)
    batch = Batch(pictures, torch.arange(clips) % GENRES, ["noise"] * clips)
    model = build_model(experiment.model, shape, GENRES).to(memory_format=torch.channels_last)
    normalization = Normalization((127.5,) * shape[0], (74.0,) * shape[0])
    learner = Learner(model, experiment.training, normalization, GENRES, torch.device("cpu"), [clips] * GENRES)
    seen: list[resource.struct_rusage] = []
    learner.train_epoch(
        [batch] * (WARM_UP + count),
        0,
        WARM_UP + count,
        on_step=lambda *_: seen.append(resource.getrusage(resource.RUSAGE_SELF)),
    )
    before, after = seen[WARM_UP - 1], seen[-1]
    return {
        "seconds": (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / count,
        "faults": (after.ru_minflt - before.ru_minflt) / count,
        "mb": after.ru_maxrss * 1024 / 1e6,
    }


def apart(options: list[str], settings: Mapping[str, str]) -> dict[str, float]:
    """The same in a process of its own with these variables."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.training.step_allocation", "--here", *options],
        env=os.environ | dict.fromkeys(THREADS, "1") | settings,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@click.command()
@click.option("--recipe", default="gallego-b2", show_default=True)
@click.option("--clips", default=64, show_default=True, help="Of a batch.")
@click.option("--steps", "count", default=6, show_default=True, help="That count, in each process.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--here", is_flag=True, hidden=True)
def main(recipe: str, clips: int, count: int, rounds: int, here: bool) -> None:
    """CPU seconds of a step with glibc's own settings over those with the workers'. The last line is JSON."""
    if here:
        print(json.dumps(steps(recipe, clips, count)))
        return
    ways: dict[str, Mapping[str, str]] = {"glibc's own": {}, "the workers'": KEEPS_MEMORY}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in sorted(ways, reverse=number % 2 == 1):
            seen = apart(["--recipe", recipe, "--clips", str(clips), "--steps", str(count)], ways[name])
            found[name].append(seen)
            say(f"round {number + 1}, {name}: " + ", ".join(f"{what} {value:.2f}" for what, value in seen.items()))

    def middle(name: str, what: str) -> float:
        return statistics.median(each[what] for each in found[name])

    ratio = median_ratio(*([each["seconds"] for each in found[name]] for name in ways))
    told = [
        f"{name}: {middle(name, 'seconds'):.2f} s of CPU and {middle(name, 'faults'):.0f} page faults a step, "
        f"{middle(name, 'mb'):.0f} MB at most"
        for name in ways
    ]
    detail = f"{recipe}, {clips} clips a step, bf16, one core, {rounds} rounds; {'; '.join(told)}"
    hand_over([Result("step_allocation_speedup", ratio, "none", detail)])


if __name__ == "__main__":
    main()
