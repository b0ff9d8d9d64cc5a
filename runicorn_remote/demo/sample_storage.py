"""A storage with a few runs in it, written by the real runicorn SDK.

The SDK keeps an active run, reads the environment and writes to the configuration directory of the
user, so it runs in a process of its own: `python -m runicorn_remote.demo.sample_storage DIRECTORY`.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT = 120.0
_STEPS = 60


@dataclass(frozen=True)
class Training:
    """One pretended training. It fails after `fails_at` steps, if that is given."""

    path: str
    learning_rate: float
    fails_at: int | None = None


TRAININGS = (
    Training("vision/resnet18", 0.03),
    Training("vision/resnet18", 0.3),
    Training("vision/vit", 2.0, fails_at=35),
)


def create(root: Path, environment: Mapping[str, str]) -> int:
    """Write the sample runs into `root`, in a process with just that environment; how many there are.

    Raises `RuntimeError` with what the process said if it failed.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(root)],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"runicorn wrote no sample runs within {_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        raise RuntimeError(f"runicorn wrote no sample runs:\n{done.stdout.strip()}")
    return len(TRAININGS)


def _train(root: str, training: Training, noise: random.Random) -> None:
    import runicorn

    run = runicorn.init(path=training.path, storage=root, alias=f"lr-{training.learning_rate}")
    run.log_config(extra={"learning_rate": training.learning_rate, "batch_size": 128, "steps": _STEPS})
    run.set_primary_metric("accuracy", mode="max")
    loss = accuracy = 0.0
    for step in range(1, _STEPS + 1):
        if step == training.fails_at:
            run.log_text("FloatingPointError: the loss is not a number")
            run.finish("failed")
            return
        learned = 1 - math.exp(-4 * training.learning_rate * step / 10)
        if training.fails_at is not None:
            learned -= math.exp(step / 10) / 10
        loss = 2.3 - 2.2 * learned + noise.uniform(0, 0.05)
        accuracy = max(0.1, 0.1 + 0.85 * learned + noise.uniform(-0.01, 0.01))
        run.log({"loss": loss, "accuracy": accuracy}, step=step)
    run.log_text(f"Trained {_STEPS} steps, accuracy {accuracy:.3f}")
    run.summary({"final_loss": loss, "final_accuracy": accuracy})
    run.finish()


def main() -> None:
    # The same curves each time.
    noise = random.Random(7)  # noqa: S311
    for training in TRAININGS:
        _train(sys.argv[1], training, noise)


if __name__ == "__main__":
    main()
