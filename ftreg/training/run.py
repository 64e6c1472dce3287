"""Fine-tune a base model as configured, and write the checkpoint."""

import contextlib
import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftreg.config.sections import RunConfig, on_day
from ftreg.data import load_dataset
from ftreg.errors import DivergedError, InterruptedRunError, UsageError
from ftreg.files.store import check_writable
from ftreg.models.pretrained import find_base
from ftreg.process import is_out_of_memory
from ftreg.records.checkpoint import Checkpoint, read_checkpoint
from ftreg.records.layout import MANIFEST
from ftreg.records.manifest import KeptByRecord, TrackerRecord
from ftreg.records.recipe import recipe_differences
from ftreg.records.span_facts import train_asked, train_found
from ftreg.services.telemetry import traced
from ftreg.training.describe import manifest_records, order_of, tracker_facts
from ftreg.training.equal_bits import equal_bits
from ftreg.training.events import Silent, TrainEvents
from ftreg.training.failure import keep_failure
from ftreg.training.health import refuse_broken
from ftreg.training.kernel_switch import without_kernels
from ftreg.training.loop import Loop, Progress
from ftreg.training.midway import (
    Judge,
    judge_midway,
    keep_newest_midway,
    midway_folder,
    step_kept,
)
from ftreg.training.optim.modes import evaluation_weights
from ftreg.training.pass_size import LEAST, with_pass_size
from ftreg.training.prepare import PreparedRun, make_accelerator, prepare_run
from ftreg.training.session import Session
from ftreg.training.state.resume import settings_that_count
from ftreg.training.state.saved import state_folder
from ftreg.training.stopping import Stop, stop_on_signal
from ftreg.training.trackers import Trackers, start_trackers
from ftreg.training.validation import best_step, parted_after, without_improvement
from ftreg.training.write import resolved, write_checkpoint, write_kept


@traced("ftreg.train", asked=train_asked, found=train_found)
def train(
    config: RunConfig,
    *,
    output: Path,
    strict: bool = False,
    resume: bool = False,
    allow_change: Sequence[str] = (),
    judge: Judge | None = None,
    events: TrainEvents | None = None,
) -> Checkpoint:
    """Train and save a checkpoint.

    Args:
        config: the complete configuration, without `train.seeds`.
        output: the checkpoint folder to write; it must not exist. The checkpoints of
            `train.checkpoint_steps` go into `<output>.steps/`.
        strict: refuse to train with settings that are advised against
            (`ftreg.training.optim.advice`).
        resume: continue from the newest intact state in `<output>.state/`, or start if there is
            none; a checkpoint that is already complete is returned.
        allow_change: settings that may differ from the state's, and take effect from there on.
        judge: scores checkpoints; required by `train.keep_by`.
        events: receives progress.

    Raises:
        UsageError: configuration, data, model and state do not fit together, memory is too small,
            or something cannot be written; what was written before is kept.
        DivergedError: a loss, gradient or weight is not finite; the history and details are in
            `<output>.failed/`, and the last healthy state is kept.
        InterruptedRunError: a signal (SIGINT, SIGTERM, SIGHUP) arrived; the state is saved.
    """
    events = events or Silent()
    if config.train.seeds is not None:
        raise UsageError("train.seeds asks for replicas; `train_replicas` makes them")
    if resume and (output / MANIFEST).is_file():
        return _complete(output, config, events)
    check_writable(output)
    accelerator = make_accelerator(config)
    if config.train.keep_by is not None:
        if judge is None:
            raise UsageError("train.keep_by: `ftreg train` makes the scorer; here, give a judge")
        if accelerator.num_processes > 1:
            raise UsageError(
                "train.keep_by: a scorer chooses where one process trains; here, keep by the "
                "validation loss (train.keep_by: null), or train in one process"
            )
    with (
        _told_when_out_of_memory(config),
        equal_bits(config, accelerator.device),
        Session.open(output, accelerator=accelerator, resume=resume, events=events) as session,
    ):
        config = on_day(config, session.template_date)
        config = with_pass_size(config, session.pass_tokens)
        run = prepare_run(config, accelerator, strict=strict, events=events)
        done = session.begin(run, allowed=allow_change)
        return _carry_out(run, session, done, judge=judge, events=events)


def _carry_out(
    run: PreparedRun, session: Session, done: Progress, *, judge: Judge | None, events: TrainEvents
) -> Checkpoint:
    """Take the remaining steps, with trackers and signal handlers, and write the checkpoint."""
    with start_trackers(
        run.accelerator,
        run.config,
        session.output,
        tracker_facts(run),
        notice=events.notice,
        done=done.steps,
    ) as trackers:
        with stop_on_signal(events.notice) as stop:
            _take_steps(run, session, done, stop=stop, trackers=trackers, events=events)
            if judge is None or run.config.train.keep_by is None:
                checkpoint = _finish(run, session, events, trackers.runs)
                trackers.finish(checkpoint.manifest)
                return checkpoint
        # Everything is saved by now, so a signal may end the choice at once.
        chosen = _choose(run, session, judge=judge, events=events)
        with stop_on_signal(events.notice):
            checkpoint = _finish(run, session, events, trackers.runs, kept_by=chosen)
            trackers.finish(checkpoint.manifest)
            return checkpoint


def _take_steps(
    run: PreparedRun,
    session: Session,
    done: Progress,
    *,
    stop: Stop,
    trackers: Trackers,
    events: TrainEvents,
) -> None:
    """Take the remaining steps; none if only the choice of a checkpoint remains.

    Raises:
        DivergedError: a value is not finite; details are written.
        InterruptedRunError: a signal arrived; the state is saved.
    """
    chooses, begun = run.config.train.keep_by is not None, len(session.history)
    left = chooses and bool(session.history) and _is_enough(run, session, events)
    events.start(run.total_steps, done.steps)
    try:
        for record in () if left else _loop(run, done, events).steps():
            session.step(record)
            trackers.step(record)
            if record.step == run.total_steps or _is_enough(run, session, events):
                break
            _write_midway(run, session, trackers.runs)
            _between_steps(run, session, stopping=stop.name)
        with evaluation_weights(run.optimizer):
            refuse_broken(run.trained, run.optimizer)
        if chooses:
            _write_midway(run, session, trackers.runs, last=True)
            if len(session.history) > begun:
                _between_steps(run, session, stopping=stop.name, last=True)
    except DivergedError as error:
        raise keep_failure(error, run=run, session=session, output=session.output) from error


def _choose(
    run: PreparedRun, session: Session, *, judge: Judge, events: TrainEvents
) -> KeptByRecord:
    """Score the checkpoints of the run.

    Raises:
        InterruptedRunError: a signal arrived.
        UsageError: a checkpoint cannot be scored.
    """
    last = session.history[-1].step
    way_out = f"Continue with the same command and --resume (--output {session.output})."
    try:
        return judge_midway(run, session.output, last=last, judge=judge, events=events)
    except KeyboardInterrupt as error:
        raise InterruptedRunError(
            "interrupted while the checkpoints were scored; all steps are taken, and outputs that "
            f"were written are kept. {way_out}"
        ) from error
    except UsageError as error:
        raise UsageError(f"{error}\nAll steps are taken, and their state is kept. {way_out}") from (
            error
        )


def _loop(run: PreparedRun, done: Progress, events: TrainEvents) -> Loop:
    """Return the loop over the remaining steps."""
    return Loop(
        accelerator=run.accelerator,
        model=run.model,
        optimizer=run.optimizer,
        schedule=run.schedule,
        examples=run.examples,
        order=itertools.islice(order_of(run), done.steps, None),
        loss=run.loss,
        pass_size=run.pass_size,
        notice=events.notice,
        max_grad_norm=run.config.train.max_grad_norm,
        seed=run.config.train.seed,
        validation=run.validation,
        done=done,
    )


def _is_enough(run: PreparedRun, session: Session, events: TrainEvents) -> bool:
    """Whether to stop early after this step, because its validation loss exhausts the patience."""
    patience, history = run.config.train.patience, session.history
    if patience is None or history[-1].validation_loss is None:
        return False
    if without_improvement(history) < patience:
        return False
    best = best_step(history)
    assert best is not None
    events.notice(
        f"stopping early, after step {history[-1].step} of {run.total_steps}: "
        f"{patience} validations in a row without a lower loss than that of step {best.step}"
    )
    return True


def _write_midway(
    run: PreparedRun, session: Session, tracked: Mapping[str, TrackerRecord], *, last: bool = False
) -> None:
    """Write the checkpoint of this step, if it is due and no earlier session has written it."""
    settings, step = run.config.train, session.history[-1].step
    every = settings.checkpoint_steps
    if every is None or (step % every and not last):
        return
    folder = midway_folder(session.output, step)
    if step not in session.midway:
        with evaluation_weights(run.optimizer):
            refuse_broken(run.trained, run.optimizer)
            _write(run, session, folder, tracked, kept_step=step, midway=True)
    if run.accelerator.is_main_process:
        keep_newest_midway(session.output, settings.checkpoint_total_limit)


def _between_steps(
    run: PreparedRun, session: Session, *, stopping: str | None, last: bool = False
) -> None:
    every, record = run.config.train.save_steps, session.history[-1]
    name = session.agree(stopping)
    if name is not None:
        state = session.save()
        raise InterruptedRunError(
            f"{name}: training ended after step {record.step} of {run.total_steps}; "
            f"its state is in {state}. Continue with the same command and --resume"
            f" (--output {session.output})."
        )
    if last or (every is not None and record.step % every == 0):
        session.save()


def _finish(
    run: PreparedRun,
    session: Session,
    events: TrainEvents,
    tracked: Mapping[str, TrackerRecord],
    *,
    kept_by: KeptByRecord | None = None,
) -> Checkpoint:
    run.accelerator.wait_for_everyone()
    events.phase("writing the checkpoint")
    if step := parted_after(session.history):
        last = run.config.train.keep == "last"
        events.notice(
            f"since step {step} the validation loss has risen while the training loss fell"
            + ("; train.keep: best would keep the weights of that step" if last else "")
        )
    if kept_by is not None:
        checkpoint = _write_kept(run, session, tracked, kept_by=kept_by)
    else:
        with evaluation_weights(run.optimizer):
            kept = session.restore_kept()
            checkpoint = _write(run, session, session.output, tracked, kept_step=kept, midway=False)
    session.remove()
    return checkpoint


def _write_kept(
    run: PreparedRun,
    session: Session,
    tracked: Mapping[str, TrackerRecord],
    *,
    kept_by: KeptByRecord,
) -> Checkpoint:
    step = step_kept(kept_by)
    records = _records(run, session, kept_step=step, kept_by=kept_by, midway=False)
    return write_kept(
        session.output,
        read_checkpoint(midway_folder(session.output, step)),
        config=run.config,
        records=records | {"trackers": tracked},
        history=session.history,
    )


def _write(
    run: PreparedRun,
    session: Session,
    folder: Path,
    tracked: Mapping[str, TrackerRecord],
    *,
    kept_step: int,
    midway: bool,
) -> Checkpoint:
    records = _records(run, session, kept_step=kept_step, midway=midway)
    with without_kernels(run.loss, run.base_network):
        return write_checkpoint(
            folder,
            model=run.accelerator.unwrap_model(run.model),
            tokenizer=run.tokenizer,
            config=run.config,
            records=records | {"trackers": tracked},
            history=session.history,
            accelerator=run.accelerator,
        )


def _records(
    run: PreparedRun,
    session: Session,
    *,
    kept_step: int,
    kept_by: KeptByRecord | None = None,
    midway: bool,
) -> dict[str, Any]:
    return manifest_records(
        run,
        session.history,
        seconds=session.seconds,
        loss_spikes=session.loss_spikes,
        resumed=session.resumed,
        environment=session.environment,
        kept_step=kept_step,
        kept_by=kept_by,
        midway=midway,
    )


def _complete(output: Path, config: RunConfig, events: TrainEvents) -> Checkpoint:
    """Return a complete checkpoint instead of training again, if its recipe is this one."""
    checkpoint = read_checkpoint(output)
    recorded = checkpoint.manifest.config
    config = on_day(config, recorded.base.template_date)
    config = with_pass_size(config, recorded.train.micro_batch_tokens)
    old, new = (settings_that_count(resolved(which)) for which in (recorded, config))
    # Base model and dataset are identified by their digests, not their locations.
    old |= {"base": checkpoint.manifest.base.digest, "data": checkpoint.manifest.dataset.digest}
    dataset = load_dataset(config.dataset.version, root=Path(config.dataset.root))
    new |= {"base": find_base(config.base).digest, "data": dataset.card.digest}
    differences = recipe_differences(old, new)
    if differences:
        key, before, after = differences[0]
        raise UsageError(
            f"{output} is complete, and was made by another recipe ({key}: {before!r}, here "
            f"{after!r}); choose another --output"
        )
    # The run may have been killed just before it deleted its states.
    shutil.rmtree(state_folder(output), ignore_errors=True)
    events.notice(f"{output} is already complete; there is nothing to resume")
    return checkpoint


@contextlib.contextmanager
def _told_when_out_of_memory(config: RunConfig) -> Iterator[None]:
    """Explain what to change if a step runs out of memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UsageError(
            "out of memory. Lower train.micro_batch_tokens (now "
            f"{config.train.micro_batch_tokens or LEAST}; the result stays the same), set "
            "train.gradient_checkpointing: true (so it does here), take precision bf16, or train "
            "adapters (lora: {r: 16}). A state that was saved before is kept: --resume goes on "
            "from it."
        ) from error
