"""The packaged model, from training to a gated Q8_0 file."""

import json
from pathlib import Path

import pytest

from tests.conftest import Cli, rows_of, write_dataset

pytestmark = pytest.mark.slow

SETTINGS = """\
base: {model: smollm2-135m-instruct}
dataset: {version: colours@1, root: datasets}
optimizer: {name: adamw, lr: 1e-5}
lora: {r: 4, target_modules: [q_proj, v_proj]}
train: {batch_size: 4, precision: fp32, threads: 1}
eval:
  max_new_tokens: 6
  repeats: 1
  scorers: [{name: "tests.fakes:length_scorer", options: {limit: 40}}]
gate: {margin: 0.5, min_examples: 6, constant: ["tests.fakes:length_scorer"]}
"""


def test_the_packaged_model_is_gated_as_q8_0(
    cli: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xllamacpp")
    monkeypatch.delenv("FTREG_CACHE")  # where the packaged model is
    write_dataset(workspace / "datasets", train=rows_of(4, "t"), evaluation=rows_of(12))
    (workspace / "run.yaml").write_text(SETTINGS, "utf-8")
    for arguments in (
        ("train", "run.yaml", "-o", "checkpoints/first", "-q"),
        ("eval", "first", "--no-gate", "--no-report", "-q"),
        ("export", "first", "--to", "gguf:q8_0", "-o", "first-q8_0.gguf", "-q"),
    ):
        done = cli(*arguments)
        assert done.code == 0, done
    alike = cli("parity", "first", "first-q8_0.gguf", "-q", "--json")
    assert alike.code == 0, alike
    assert alike.json["nats"] < 0.3
    (first,) = Path("evaluations").iterdir()
    gated = cli("eval", "first-q8_0.gguf", "--against", first.name, "--no-report", "-q", "--json")
    assert gated.code == 0, gated
    (served,) = set(Path("evaluations").iterdir()) - {first}
    texts = [
        [json.loads(line)["output"] for line in (folder / "outputs.jsonl").read_text().splitlines()]
        for folder in (first, served)
    ]
    # Eight bits change few of these short answers, and the weights are those of English.
    assert sum(one == other for one, other in zip(*texts, strict=True)) >= 6
    assert cli("promote", first.name, "--artefact", served.name).code == 0
