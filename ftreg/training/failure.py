"""Save diagnostics of a run that diverged."""

from pathlib import Path
from typing import Any

from ftreg.errors import DivergedError, UsageError
from ftreg.files import marked_yaml
from ftreg.files.store import staged_folder, write_json, write_jsonl, write_text
from ftreg.training.events import StepRecord
from ftreg.training.health import refuse_broken
from ftreg.training.prepare import PreparedRun
from ftreg.training.session import Session
from ftreg.training.write import resolved

FAILURE_SCHEMA = 1


def keep_failure(
    error: DivergedError, *, run: PreparedRun, session: Session, output: Path
) -> DivergedError:
    """Write `<output>.failed/` and keep the last healthy state; return what to raise.

    `failure.json` has the step, its loss, gradient norm and learning rate, the ids of its examples
    (each with its own loss if the step was not taken), the parameters that are not finite, and the
    last healthy training state. If the step was not taken, the weights in memory are healthy, and
    are saved as that state now.
    """
    step = error.details.get("step")
    healthy = session.history[-1].step if session.history else 0
    if not error.taken and session.history:
        _save_if_sound(session, run)
    states = session.states()
    kept = states[-1] if states else None
    advice = _advice(run)
    if run.accelerator.is_main_process:
        folder = _write_if_possible(
            output,
            {
                "schema_version": FAILURE_SCHEMA,
                "message": str(error),
                "steps_taken": healthy,
                **_with_ids(error.details, run),
                "last_healthy_state": kept.name if kept else None,
                "try": advice,
            },
            history=[*session.history, *_failed_step(error, session)],
            run=run,
        )
        lines = [str(error) + ".", folder]
        if kept is not None:
            lines.append(
                f"The last healthy state is {kept}: continue from it with --resume, "
                "-s optimizer.lr=... and --allow-change optimizer.lr."
            )
        lines += [f"Try: {advice[0]}", *(f"  {text}" for text in advice[1:])]
        return DivergedError("\n".join(lines), taken=error.taken, details={"step": step})
    return error


def _save_if_sound(session: Session, run: PreparedRun) -> None:
    try:
        refuse_broken(run.trained, run.optimizer)
        session.save()
    except (DivergedError, UsageError):
        # The original failure is reported; the previous state stays the last healthy one.
        return


def _with_ids(details: dict[str, Any], run: PreparedRun) -> dict[str, Any]:
    rows = details.get("rows", [])
    known = {key: value for key, value in details.items() if key not in ("rows", "example_losses")}
    ids = [run.split[row].id for row in rows]
    losses = details.get("example_losses") or [None] * len(ids)
    return known | {
        "examples": [{"id": name, "loss": loss} for name, loss in zip(ids, losses, strict=True)]
    }


def _failed_step(error: DivergedError, session: Session) -> list[StepRecord]:
    """Return the failed step as a line of the history, including values that are not finite."""
    details = error.details
    if "step" not in details:
        return []
    last = session.history[-1] if session.history else None
    validation = details.get("validation_loss")
    return [
        StepRecord(
            step=details["step"],
            loss=float(details["loss"]),
            lr=details["lr"],
            grad_norm=float(details["grad_norm"]),
            step_size=float("nan") if error.taken else 0.0,
            examples=last.examples if last else 0,
            tokens=last.tokens if last else 0,
            loss_tokens=last.loss_tokens if last else 0,
            tokens_per_second=0.0,
            validation_loss=None if validation is None else float(validation),
        )
    ]


def _advice(run: PreparedRun) -> list[str]:
    config = run.config
    found = [f"a lower optimizer.lr (now {config.optimizer.lr:g})"]
    if config.schedule.warmup < 0.1:
        found.append(f"a longer schedule.warmup (now {config.schedule.warmup:g})")
    if config.train.max_grad_norm is None:
        found.append("train.max_grad_norm: 1.0, which clips the gradient")
    if run.accelerator.mixed_precision == "bf16":
        found.append("train.precision: fp32, if the loss overflows in bf16")
    return found


def _write_if_possible(
    output: Path, content: dict[str, Any], *, history: list[StepRecord], run: PreparedRun
) -> str:
    """Write the folder and say where; a full disk must not hide the divergence."""
    try:
        return f"Details are in {_write(output, content, history=history, run=run)}."
    except UsageError as error:
        return f"Details could not be written: {error}."


def _write(
    output: Path, content: dict[str, Any], *, history: list[StepRecord], run: PreparedRun
) -> Path:
    """Write the folder, `<output>.failed/` or, if that is taken, `.failed-2` and so on."""
    folder = output.with_name(f"{output.name}.failed")
    number = 1
    while folder.exists():
        number += 1
        folder = output.with_name(f"{output.name}.failed-{number}")
    with staged_folder(folder) as staging:
        write_text(staging / "config.yaml", marked_yaml.dump(resolved(run.config)))
        write_jsonl(staging / "history.jsonl", (record.to_dict() for record in history))
        write_json(staging / "failure.json", content)
    return folder
