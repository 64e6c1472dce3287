"""Train one recipe with several seeds: a checkpoint each, and a record of them all."""

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

from ftreg.config.sections import RunConfig, on_day
from ftreg.errors import DivergedError, InterruptedRunError, UsageError
from ftreg.files.store import check_writable
from ftreg.records.checkpoint import Checkpoint
from ftreg.records.replicas import (
    Replicas,
    member_folder,
    members_below,
    read_replicas,
    write_replicas,
)
from ftreg.training.events import Silent, TrainEvents
from ftreg.training.midway import Judge
from ftreg.training.prepare import make_accelerator
from ftreg.training.run import train
from ftreg.training.session import refuse_together


def train_replicas(
    config: RunConfig,
    *,
    output: Path,
    strict: bool = False,
    resume: bool = False,
    judge: Judge | None = None,
    events: TrainEvents | None = None,
) -> Replicas:
    """Train a replica for each of `train.seeds`, one after the other.

    Args:
        config: the whole configuration, with `train.seeds`.
        output: the folder to write; `seed-<N>` in it are the checkpoints. It must not exist.
        strict: as for `train`.
        resume: keep the replicas that are whole, go on with the one that was interrupted, and
            train those that are missing; `train.seeds` may name more seeds than before.
        judge: as for `train`.
        events: is told of the progress.

    Raises:
        UsageError: as `train`; or the folder has replicas of other seeds.
        DivergedError: a replica diverged; those before it are kept.
        InterruptedRunError: SIGINT or SIGTERM came; what is trained so far is kept.
    """
    events = events or Silent()
    seeds = config.train.seeds or []
    if not seeds:
        raise UsageError("train.seeds names no seeds; name two or more, or use `train`")
    accelerator = make_accelerator(config)
    refuse_together(accelerator, lambda: _refuse_occupied(output, seeds, resume=resume))
    members: list[Checkpoint] = []
    try:
        for number, seed in enumerate(seeds, start=1):
            events.notice(f"training the replica of seed {seed}, {number} of {len(seeds)}")
            if members:  # one recipe: the day too that the chat template takes for today
                config = on_day(config, members[0].manifest.config.base.template_date)
            settings = config.train.model_copy(update={"seed": seed, "seeds": None})
            with _names_replica(seed, output):
                member = train(
                    config.model_copy(update={"train": settings}),
                    output=member_folder(output, seed),
                    strict=strict,
                    resume=resume,
                    judge=judge,
                    events=events,
                )
            members.append(member)
            gc.collect()  # the last model is gone before the next one comes
    finally:
        with contextlib.suppress(OSError):
            output.rmdir()  # if nothing came of it
    if accelerator.is_main_process:
        write_replicas(output, members)
    accelerator.wait_for_everyone()
    return read_replicas(output)


def _refuse_occupied(output: Path, seeds: list[int], *, resume: bool) -> None:
    if not resume:
        if members_below(output) or any(output.glob("seed-*.state")):
            raise UsageError(
                f"{output} has replicas already; continue them with --resume, or choose another "
                "--output"
            )
        check_writable(output)
        return
    wanted = {member_folder(output, seed) for seed in seeds}
    others = [folder.name for folder in members_below(output) if folder not in wanted]
    if others:
        raise UsageError(
            f"{output} has a replica that train.seeds does not name ({', '.join(others)}); name "
            "all of its seeds, or choose another --output"
        )


@contextlib.contextmanager
def _names_replica(seed: int, output: Path) -> Iterator[None]:
    """Say which replica it was that did not come to its end."""
    try:
        yield
    except InterruptedRunError as error:
        raise InterruptedRunError(
            f"training ended in the middle of the replica of seed {seed}; its state and the "
            f"replicas before it are in {output}. Continue with the same command and --resume "
            f"(--output {output})."
        ) from error
    except DivergedError as error:
        raise DivergedError(
            f"{error}\nThis was the replica of seed {seed}. Replicas share one recipe: with "
            "another, train all of them again, with another --output.",
            taken=error.taken,
            details=error.details,
        ) from error
