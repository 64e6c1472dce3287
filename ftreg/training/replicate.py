"""Train one recipe with several seeds: a checkpoint each, and a record of all of them."""

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
        config: the complete configuration, with `train.seeds`.
        output: the folder to write, with a checkpoint `seed-<N>` per seed. It must not exist.
        strict: as for `train`.
        resume: keep the complete replicas, continue the interrupted one, and train the missing
            ones; `train.seeds` may name more seeds than before.
        judge: as for `train`.
        events: receives progress.

    Raises:
        UsageError: as `train`; or the folder has replicas with other seeds.
        DivergedError: a replica diverged; those before it are kept.
        InterruptedRunError: SIGINT, SIGTERM or SIGHUP arrived; training so far is kept.
    """
    events = events or Silent()
    seeds = config.train.seeds or []
    if not seeds:
        raise UsageError("train.seeds is empty; name two or more seeds, or use `train`")
    accelerator = make_accelerator(config)
    refuse_together(accelerator, lambda: _refuse_occupied(output, seeds, resume=resume))
    members: list[Checkpoint] = []
    try:
        for number, seed in enumerate(seeds, start=1):
            events.notice(f"training the replica with seed {seed}, {number} of {len(seeds)}")
            if members:  # one recipe, including the chat template's date
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
            gc.collect()  # free the last model before the next is loaded
    finally:
        with contextlib.suppress(OSError):
            output.rmdir()  # if it is empty
    if accelerator.is_main_process:
        write_replicas(output, members)
    accelerator.wait_for_everyone()
    return read_replicas(output)


def _refuse_occupied(output: Path, seeds: list[int], *, resume: bool) -> None:
    if not resume:
        if members_below(output) or any(output.glob("seed-*.state")):
            raise UsageError(
                f"{output} already has replicas; continue them with --resume, or choose another "
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
    """Name the replica that did not finish."""
    try:
        yield
    except InterruptedRunError as error:
        raise InterruptedRunError(
            f"training stopped during the replica with seed {seed}; its state and the replicas "
            f"before it are in {output}. Continue with the same command and --resume (--output "
            f"{output})."
        ) from error
    except DivergedError as error:
        raise DivergedError(
            f"{error}\nThis was the replica of seed {seed}. Replicas share one recipe: to "
            "change it, train all of them again with another --output.",
            taken=error.taken,
            details=error.details,
        ) from error
