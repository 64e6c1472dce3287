"""Models and datasets of the hub, from a stand-in for it that real clients ask over HTTP."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftreg.records.layout import MANIFEST
from tests.conftest import Cli
from tests.hub_server import GATED, REVISIONS, Hub, serving

Ftreg = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub(workspace: Path, tiny_model: Path) -> Iterator[Hub]:
    older = workspace / "hub" / "older"
    older.mkdir(parents=True)
    (older / "README.md").write_text("Nothing yet.")
    rows = workspace / "hub" / "rows"
    (rows / "data").mkdir(parents=True)
    for split, count in (("train", 12), ("eval", 4)):
        lines = [
            json.dumps({"q": f"Is {split} {n} even?", "a": str(n % 2 == 0)}) for n in range(count)
        ]
        (rows / "data" / f"{split}.jsonl").write_text("\n".join(lines))
    settings = "configs:\n- config_name: default\n  data_files:\n"
    files = [f"  - {{split: {name}, path: data/{name}.jsonl}}\n" for name in ("train", "eval")]
    (rows / "README.md").write_text(f"---\n{settings}{''.join(files)}---\n")
    main, newer = REVISIONS["main"], REVISIONS["v2"]
    models = {main: older, newer: tiny_model}
    with serving({"org/model": models, "org/rows": {main: rows}}) as running:
        yield running


@pytest.fixture
def ftreg(workspace: Path, hub: Hub) -> Ftreg:
    """The program in a process of its own, since the clients read the hub's address once."""
    env = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(workspace / "hf"),
        "HF_HUB_OFFLINE": "0",
        "HF_DATASETS_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "no_proxy": "*",
    }

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ftreg", *map(str, arguments)]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    return run


@pytest.mark.slow
def test_models_and_rows_come_from_the_hub_at_a_revision(
    ftreg: Ftreg, hub: Hub, config: Path, workspace: Path
) -> None:
    asked = ("--map", "input=q", "--map", "reference=a", "--license", "MIT")
    sets = ("--train", "hf:org/rows@main:train", "--eval", "hf:org/rows@main:eval")
    done = ftreg("data", "import", "evens", *sets, *asked)
    assert done.returncode == 0, done
    card = Path("sample_datasets/evens/v1/dataset.yaml").read_text()
    assert f"org/rows@{REVISIONS['main']}" in card

    model = ("-s", "base.model=org/model", "-s", "base.revision=v2")
    done = ftreg("train", config, *model, "-o", "checkpoints/a", "--quiet")
    assert done.returncode == 0, done
    base = json.loads(Path("checkpoints/a", MANIFEST).read_text())["base"]
    assert (base["model"], base["revision"]) == ("org/model", REVISIONS["v2"])
    on = ("--dataset", "evens@1", "--scorer", "equals", "-s", "eval.max_new_tokens=4")
    done = ftreg("eval", "org/model", *on, "-s", "base.revision=v2", "--no-gate", "--quiet")
    assert done.returncode == 0, done


@pytest.mark.parametrize(
    ("model", "revision", "says"),
    [
        ("org/model", "v3", "it has no revision 'v3'"),
        ("org/none", "main", "it has none of this name, or one that is private"),
        (GATED, "main", f"it is gated: accept its terms at {{hub}}/{GATED}"),
    ],
)
def test_what_the_hub_does_not_give_is_said(
    model: str,
    revision: str,
    says: str,
    cli: Cli,
    hub: Hub,
    config: Path,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(workspace / "hf"))
    changes = ("-s", f"base.model={model}", "-s", f"base.revision={revision}")
    refused = cli("train", config, *changes, "-o", "a")
    assert refused.code == 2, refused
    assert says.format(hub=hub.url) in refused.err.replace("\n", " "), hub.asked
    # Rows of a name and a revision are looked for in the same way.
    source = f"hf:{model}@{revision}:train"
    refused = cli("data", "import", "rows", "--train", source, "--license", "MIT")
    assert refused.code == 2, refused
    says = says.replace(GATED, f"datasets/{GATED}")
    assert says.format(hub=hub.url) in refused.err.replace("\n", " "), hub.asked
