"""A served artefact is evaluated, and held against its own checkpoint: what does the form cost?"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli, rows_of, write_dataset
from tests.deployable import write_base
from tests.gguf_surgery import operate

pytest.importorskip("xllamacpp")

SETTINGS = """\
base: {model: base}
dataset: {version: colours@1, root: datasets}
optimizer: {name: adamw, lr: 1e-3}
train: {batch_size: 4, precision: fp32, threads: 1}
eval:
  max_new_tokens: 8
  scorers: [{name: "tests.fakes:length_scorer", options: {limit: 40}}]
gate: {margin: 0.35, min_examples: 4, max_missing: 0.6, constant: ["tests.fakes:length_scorer"]}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the evaluated checkpoint `first`, and GGUF files of it."""
    from typer.testing import CliRunner

    from ftreg.cli.app import app

    root = tmp_path_factory.mktemp("artefacts")
    write_dataset(root / "datasets", evaluation=rows_of(30))
    write_base(root / "base", "llama")
    (root / "run.yaml").write_text(SETTINGS, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("FTREG_CACHE", str(root / "cache"))
        for arguments in (
            ("train", "run.yaml", "-o", "checkpoints/first", "-q"),
            ("export", "first", "--to", "gguf:f32", "-o", "first-f32.gguf", "-q"),
            ("export", "first", "--to", "gguf:q8_0", "-o", "first-q8_0.gguf", "-q"),
            ("eval", "first", "--no-gate", "--no-report", "-q"),
        ):
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code == 0, done.output
    return root


@pytest.fixture
def place(made: Path, cli: Cli, workspace: Path) -> Path:
    """A copy of that workspace."""
    shutil.copytree(made, workspace, dirs_exist_ok=True)
    return workspace


def newest() -> Path:
    return sorted(Path("evaluations").iterdir(), key=lambda path: path.stat().st_mtime_ns)[-1]


def outputs(evaluation: Path) -> list[Any]:
    lines = (evaluation / "outputs.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["output"] for line in lines]


def test_an_artefact_is_served_and_gated_against_its_checkpoint(
    place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which nothing on this machine is for
    first = newest()
    assert cli("promote", first.name).code == 0
    found = cli("eval", "first-f32.gguf", "--no-report", "-q", "--json")
    assert found.code == 0, found
    assert found.json["outcome"] == "pass"
    assert "first-f32.gguf may replace first" in (newest() / "report.md").read_text("utf-8")
    header = json.loads((newest() / "evaluation.json").read_text("utf-8"))
    record = json.loads(Path("first-f32.gguf.ftreg.json").read_text("utf-8"))
    artefact = header["generation"]["artefact"]
    assert header["generation"]["engine"] == "llama.cpp"
    assert header["generation"]["precision"] == "f32"
    assert artefact["digest"] == record["files"]["first-f32.gguf"]
    assert artefact["paired_by"] == "manifest"
    assert header["checkpoint"]["identity"] == record["checkpoint"] == artefact["checkpoint"]
    assert header["noise"]["repeats"] == 2
    # In fp32 the two engines write the same for most prompts, and these are not all alike.
    pairs = list(zip(outputs(first), outputs(newest()), strict=True))
    assert sum(one == other for one, other in pairs) > 0.7 * len(pairs)
    assert len({one for one, _ in pairs}) > 1


def test_what_was_released_with_a_checkpoint_is_in_the_history(place: Path, cli: Cli) -> None:
    first = newest().name
    assert cli("eval", "first-q8_0.gguf", "--no-gate", "--no-report", "-q").code == 0
    served = newest().name
    early = cli("promote", first, "--artefact", served)
    assert early.code == 2
    assert "has not passed its gate" in early.err
    assert cli("gate", first, served).code == 0
    done = cli("promote", first, "--artefact", served, "--json")
    assert done.code == 0, done
    record = json.loads(Path("first-q8_0.gguf.ftreg.json").read_text("utf-8"))
    assert done.json["artefact"]["digest"] == record["files"]["first-q8_0.gguf"]
    assert "released as first-q8_0.gguf" in " ".join(cli("baseline", "colours").out.split())
    (entry,) = cli("baseline", "colours", "--json").json["history"]
    assert entry["artefact"] == done.json["artefact"]
    assert cli("promote", first, "--artefact", first).code == 2


def test_the_margin_of_another_form_is_its_own(place: Path, cli: Cli) -> None:
    first = newest().name
    assert cli("eval", "first-q8_0.gguf", "--no-gate", "--no-report", "-q").code == 0
    policy = place / "policy.yaml"
    text = "margin: 0.35\nartefact_margin: 0.001\nmin_examples: 4\nmax_missing: 0.6\n"
    policy.write_text(text + "constant: ['tests.fakes:length_scorer']\n", "utf-8")
    found = cli("gate", first, newest().name, "--policy", policy, "--json")
    assert found.code == 3, found
    (row,) = [row for row in found.json["rows"] if row["cohort"] == "all"]
    assert row["margin"] == 0.001


def test_forms_are_drawn_over_their_size(place: Path, cli: Cli) -> None:
    ids = [newest().name]
    for form in ("f32", "q8_0"):
        assert cli("eval", f"first-{form}.gguf", "--no-gate", "--no-report", "-q").code == 0
        ids.append(newest().name)
    compared = cli("compare", *ids, "-o", "forms.html")
    assert compared.code == 0
    page = Path("forms.html").read_text("utf-8")
    picture = page[page.index('<section id="forms"') :]
    points = re.findall(r'cx="([\d.]+)" cy="[\d.]+" r="4.5"/>\s*<text[^>]*>(\w+)</text>', picture)
    assert [label for _, label in points] == ["q8_0", "f32"]
    places = [float(x) for x, _ in points]
    sizes = [Path(f"first-{label}.gguf").stat().st_size for _, label in points]
    # The axis begins at no bytes, 44 from the left.
    assert (places[0] - 44) / (places[1] - 44) == pytest.approx(sizes[0] / sizes[1], rel=0.01)
    for label in ("q8_0", "f32"):
        assert f"first-{label}.gguf" in compared.out
        assert re.search(rf"{label}: [\d.]+ MB, [\d,]+ tokens/s, [+\-−]?[\d.]+ \[", picture), page
    alone = cli("compare", ids[0], ids[0])
    assert alone.code == 2


def test_another_form_is_held_against_no_anchor_and_its_verdict_verifies(
    place: Path, cli: Cli
) -> None:
    assert cli("promote", "latest", "--anchor").code == 0
    assert cli("eval", "first-q8_0.gguf", "--no-gate", "--no-report", "-q").code == 0
    policy = place / "policy.yaml"
    policy.write_text("margin: 0.35\nartefact_margin: 0.3\nmin_examples: 4\n", "utf-8")
    gated = cli("gate", "baseline", "latest", "--policy", policy, "--attest", "v.json", "--json")
    assert gated.code in (0, 1, 3), gated
    assert {row["against"] for row in gated.json["rows"]} == {"baseline"}
    assert json.loads(Path("v.json").read_text("utf-8"))["predicate"]["anchor"] is None
    verified = cli("verify", "v.json", "--json")
    assert verified.code == 0, verified
    assert verified.json["recomputed"]


def test_only_one_and_the_same_checkpoint_is_compared_across_engines(place: Path, cli: Cli) -> None:
    first = newest().name
    config = (place / "run.yaml").read_text("utf-8").replace("1e-3", "1e-2")
    (place / "run.yaml").write_text(config, "utf-8")
    assert cli("train", "run.yaml", "-o", "checkpoints/second", "-q").code == 0
    assert cli("export", "second", "-o", "second.gguf", "-q").code == 0
    assert cli("eval", "second.gguf", "--no-gate", "--no-report", "-q").code == 0
    found = cli("gate", first, newest().name)
    assert found.code == 3
    assert (
        "generation.engine: transformers in the baseline, llama.cpp in the candidate" in found.err
    )
    wrong = cli("eval", "second.gguf", "--of", "first", "--no-gate", "-q")
    assert wrong.code == 2
    assert "according to its manifest this is an artefact of the checkpoint" in wrong.err


def test_a_file_that_says_nothing_is_taken_at_its_word(place: Path, cli: Cli) -> None:
    unsaid = dict.fromkeys(("ftreg.checkpoint", "ftreg.weights"))
    operate(place / "first-q8_0.gguf", place / "elsewhere.gguf", keys=unsaid)
    lost = cli("eval", "elsewhere.gguf", "--no-gate", "-q")
    assert lost.code == 2
    assert "--of CHECKPOINT" in lost.err
    found = cli("eval", "elsewhere.gguf", "--of", "first", "--no-gate", "--no-report", "-q")
    assert found.code == 0
    assert "checkpoints/first is assumed" in found.err
    header = json.loads((newest() / "evaluation.json").read_text("utf-8"))
    assert header["generation"]["artefact"]["paired_by"] == "said"
    assert cli("eval", "none.gguf", "-q").code == 2
    assert cli("eval", "first", "--of", "first", "-q").code == 2


def test_a_changed_file_is_refused_and_a_quantization_of_it_is_not(place: Path, cli: Cli) -> None:
    source = place / "first-f32.gguf"
    operate(source, place / "derived.gguf")  # as llama-quantize leaves the metadata
    found = cli("eval", "derived.gguf", "--no-gate", "--no-report", "-q")
    assert found.code == 0, found
    header = json.loads((newest() / "evaluation.json").read_text("utf-8"))
    assert header["generation"]["artefact"]["paired_by"] == "metadata"
    operate(place / "derived.gguf", source.with_name("changed"), keys={"general.file_type": 1})
    source.write_bytes(source.with_name("changed").read_bytes())
    changed = cli("eval", source.name, "--no-gate", "-q")
    assert changed.code == 2
    assert "has changed since it was exported" in changed.err


def test_an_artefact_needs_its_engine(place: Path, cli: Cli) -> None:
    wrong = cli("eval", "first", "-s", "eval.engine.artefact=first-f32.gguf", "--no-gate")
    assert wrong.code == 2
    assert "artefact is required with the engine llama.cpp" in wrong.err
    assert cli("eval", "first", "-s", "eval.engine=llama.cpp", "--no-gate").code == 2
