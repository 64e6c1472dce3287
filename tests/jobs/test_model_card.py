"""The model card of a checkpoint."""

import json
from pathlib import Path

import pytest
import yaml

from tests.conftest import Cli


@pytest.fixture
def checkpoint(cli: Cli, talking_config: Path) -> Path:
    assert cli("train", talking_config, "-o", "checkpoints/a").code == 0
    return Path("checkpoints/a")


def test_a_card_has_the_recipe_and_the_last_verdict(cli: Cli, checkpoint: Path) -> None:
    assert cli("checkpoints", "card", "a", "-o", "none.md").code == 0
    assert "has not been evaluated" in Path("none.md").read_text()
    assert cli("eval", "a", "--bootstrap").code == 0
    assert cli("promote", "latest", "--force", "--why", "first").code == 0
    done = cli("eval", "a", "--json")
    assert done.json["outcome"] in ("pass", "undecided")
    told = cli("checkpoints", "card", "a")
    assert told.code == 0
    assert told.out.split() == [str(checkpoint / "README.md")]
    text = (checkpoint / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["library_name"] == "transformers"
    assert "base_model" not in metadata  # a folder is no id of the hub
    (result,) = metadata["model-index"][0]["results"]
    header = json.loads(
        (Path("evaluations") / done.json["candidate"] / "evaluation.json").read_text()
    )
    found = {item["type"]: item["value"] for item in result["metrics"]}
    assert found == {
        name: round(summary["mean"], 4)
        for name, summary in header["summary"].items()
        if summary["mean"] is not None
    }
    assert "| optimizer | adamw |" in body
    assert {"pass": "Pass", "undecided": "Undecided"}[done.json["outcome"]].lower() in body.lower()
    # A checkpoint with its card is still the checkpoint that it was, and the card can be renewed.
    assert cli("checkpoints", "show", "a").code == 0
    assert cli("checkpoints", "card", "a").code == 0


def test_a_card_replaces_nobody_s_own(cli: Cli, checkpoint: Path) -> None:
    (checkpoint / "README.md").write_text("# Ours\n")
    done = cli("checkpoints", "card", "a")
    assert done.code == 2
    assert "was not written by ftreg" in " ".join(done.err.split())
    assert (checkpoint / "README.md").read_text() == "# Ours\n"
    assert cli("checkpoints", "card", "b").code == 2
