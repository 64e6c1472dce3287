"""What an import leaves behind: nothing where it failed, and the count of its rows."""

from pathlib import Path

from ftreg.data.sources.importing import import_version
from tests.conftest import Cli

MAP = {"input": "question", "reference": "answer"}
FACTS = {"license": "CC0-1.0", "description": "d", "source": "s", "prompt": {"user": "{input}"}}


def _csv(path: Path, *, good: bool = True) -> None:
    rows = "".join(f"How much is {i}?,{i}\n" for i in range(80))
    path.write_text("question,answer\n" + rows + ("" if good else ",5\n"))


def test_a_failed_import_leaves_no_folder(cli: Cli, workspace: Path) -> None:
    _csv(workspace / "bad.csv", good=False)
    asked = ("data", "import", "trivia", "--train", "bad.csv", "--map", "input=question")
    asked += ("--map", "reference=answer", "--license", "CC0-1.0", "--prompt-user", "{input}")
    asked += ("--description", "d", "--source", "s")
    assert cli(*asked).code == 2
    assert not (workspace / "sample_datasets").exists()
    _csv(workspace / "bad.csv")
    assert cli(*asked).code == 0
    _csv(workspace / "bad.csv", good=False)
    assert cli(*asked).code == 2
    assert [path.name for path in (workspace / "sample_datasets/trivia").iterdir()] == ["v1"]


def test_the_progress_of_a_csv_ends_at_its_rows(workspace: Path) -> None:
    _csv(workspace / "good.csv")
    told: list[tuple[str, int, int]] = []
    import_version(
        "trivia",
        {"train": "good.csv"},
        root=workspace / "datasets",
        mapping=MAP,
        facts=FACTS,
        advance=lambda *told_now: told.append(told_now),
    )
    assert told[-1] == ("importing train", 80, 80)
