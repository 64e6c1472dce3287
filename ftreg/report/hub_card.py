"""The model card of a checkpoint: a `README.md` in the format of the Hugging Face Hub."""

from collections.abc import Mapping, Sequence
from typing import Any

from ftreg.files import marked_yaml
from ftreg.gate import Verdict
from ftreg.records.evaluation.header import all_summaries
from ftreg.records.manifest import Manifest
from ftreg.report import phrases
from ftreg.report.markdown import escaped, grid


def model_card(
    name: str,
    manifest: Manifest,
    *,
    evaluation: Mapping[str, Any] | None = None,
    verdict: Verdict | None = None,
    baseline: Mapping[str, Any] | None = None,
) -> str:
    """Write the card: how the checkpoint was made, and what is known about it.

    Its head is the Hub's metadata (https://huggingface.co/docs/hub/model-cards), with the scores as
    a `model-index`. It names no licence: that depends on the licences of the base model and the
    data, which only the publisher can judge.

    Args:
        name: the checkpoint's.
        manifest: how it was made.
        evaluation: header of its newest evaluation; None if there is none.
        verdict: of that evaluation's last gate.
        baseline: header of what it was compared with, if available.
    """
    parts = [
        f"---\n{marked_yaml.dump(_metadata(name, manifest, evaluation))}---",
        f"# {escaped(name)}",
        _introduction(manifest),
        "## Training",
        grid(["", ""], _training(manifest)),
        "## Evaluation",
        *_evaluation(evaluation),
        *_verdict(verdict, evaluation, baseline),
        "## Limits",
        "The scores hold for rows like those of the dataset version, and say nothing of other "
        "uses. Fill in what the model is for, what it is not for, and its licence.",
        f"Made by ftreg from the manifest `{manifest.identity[:12]}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(
    name: str, manifest: Manifest, evaluation: Mapping[str, Any] | None
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "library_name": "peft" if manifest.lora else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["ftreg", "lora" if manifest.lora else "full-fine-tuning"],
    }
    if manifest.base.source == "hub":  # only an id of the hub is one there
        found["base_model"] = manifest.base.model
    if evaluation is not None:
        metrics = [
            {"type": scorer, "value": round(summary["mean"], 4), "name": scorer}
            for scorer, summary in all_summaries(evaluation).items()
            if summary["mean"] is not None
        ]
        dataset = evaluation["dataset"]
        found["model-index"] = [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "text-generation"},
                        "dataset": {
                            "name": dataset["version"],
                            "type": dataset["name"],
                            "split": dataset["split"],
                        },
                        "metrics": metrics,
                    }
                ],
            }
        ]
    return found


def _introduction(manifest: Manifest) -> str:
    base = manifest.base
    revision = f" at `{base.revision[:12]}`" if base.revision else ""
    how = f"LoRA adapters of rank {manifest.lora.r} for" if manifest.lora else "A fine-tuning of"
    dataset = manifest.dataset
    return (
        f"{how} {escaped(base.model)}{revision}, on {dataset.rows} rows of "
        f"{escaped(dataset.version)} (split {escaped(dataset.split)}, digest "
        f"`{dataset.digest[:12]}`)."
    )


def _training(manifest: Manifest) -> list[Sequence[str]]:
    run, optimizer = manifest.training, manifest.optimizer
    arguments = optimizer["arguments"]
    versions = manifest.environment["versions"]
    return [
        ("optimizer", str(optimizer["name"])),
        ("learning rate", phrases.rate(arguments["lr"])),
        ("weight decay", f"{arguments['weight_decay']:g} ({optimizer['decay_coupling']})"),
        ("schedule", str(manifest.schedule["name"])),
        ("steps", f"{run.steps} of {run.batch_size} examples, epochs: {run.epochs:g}"),
        ("precision", run.precision),
        ("seed", str(run.seed)),
        ("loss per token", f"{run.first_loss:.4g} at the first step, {run.last_loss:.4g} at last"),
        ("weights", manifest.weights.digest[:12]),
        ("libraries", ", ".join(f"{key} {versions[key]}" for key in sorted(versions))),
    ]


def _evaluation(header: Mapping[str, Any] | None) -> list[str]:
    if header is None:
        return ["It has not been evaluated, as far as this workspace knows."]
    dataset = header["dataset"]
    rows = [
        (scorer, phrases.points(summary["mean"]), str(summary["n"]), str(summary["missing"]))
        for scorer, summary in all_summaries(header).items()
    ]
    return [
        f"On {escaped(dataset['version'])}, split {escaped(dataset['split'])}, "
        f"{phrases.rows_evaluated(header)}; mean scores in points of 100.",
        grid(["scorer", "mean", "scored", "missing"], rows),
    ]


def _verdict(
    verdict: Verdict | None,
    header: Mapping[str, Any] | None,
    baseline: Mapping[str, Any] | None,
) -> list[str]:
    if verdict is None or header is None:
        return []
    said = f"The gate's last verdict: **{phrases.OUTCOME_WORDS[verdict.outcome]}**."
    if baseline is not None:
        said += f" {escaped(phrases.headline(verdict, baseline=baseline, candidate=header))}"
    return [said, "\n".join(f"- {escaped(reason)}" for reason in verdict.reasons)]
