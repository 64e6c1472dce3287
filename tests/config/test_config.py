"""The configuration, through `ftreg optim show` and `load_config`."""

from pathlib import Path

import pytest

from ftreg.config import load_config
from ftreg.errors import UsageError
from tests.conftest import Cli

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    "name", ["adafactor", "adagrad", "adam", "adamw", "lion", "muon", "schedule_free_adamw"]
)
def test_shipped_configs_are_valid_and_say_what_they_are_about(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml")
    assert config.optimizer.name == name
    assert config.dataset.version == "ferry-desk@2"


def test_shipped_lion_keeps_the_published_ratios_to_adamw() -> None:
    adamw = load_config(CONFIGS / "adamw.yaml").optimizer
    lion = load_config(CONFIGS / "lion.yaml").optimizer
    assert 3 <= adamw.lr / lion.lr <= 10
    assert 3 <= lion.weight_decay / adamw.weight_decay <= 10


def _errors(text: str, folder: Path, *overrides: str) -> str:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_config(path, overrides=overrides)
    return str(caught.value).replace(f"{folder}/", "")


GOOD = "dataset: {version: a@1}\noptimizer:\n  name: lion\n  lr: 1e-4\n"


@pytest.mark.parametrize(
    ("addition", "expected"),
    [
        (
            "  lerning_rate: 1\n",
            "run.yaml:5: optimizer.lerning_rate is not a setting of lion; "
            "did you mean optimizer.lr?",
        ),
        (
            "  wieght_decay: 1\n",
            "run.yaml:5: optimizer.wieght_decay is not a setting of lion; "
            "did you mean optimizer.weight_decay?",
        ),
        ("  momentum: 0.9\n", "run.yaml:5: optimizer.momentum is not a setting of lion"),
        ("  betas: [0.9, 1.5]\n", "run.yaml:5: optimizer.betas.1: input should be less than 1"),
        ("  weight_decay: lots\n", "run.yaml:5: optimizer.weight_decay: input should be a valid"),
        (
            "trian: {}\n",
            "run.yaml:5: trian is not a setting of the configuration; did you mean train?",
        ),
        ("train:\n  seed: 1.5\n", "run.yaml:6: train.seed: input should be a valid integer"),
        ("lora:\n  rank: 4\n", "run.yaml:6: lora.rank is not a setting of lora"),
        ("gate:\n  margin: 0\n", "run.yaml:6: gate.margin: a margin of 0 can never be passed"),
        (
            "  lr: 1e-4\n",
            "run.yaml:5: duplicate key lr (first on line 4)",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(addition: str, expected: str, tmp_path: Path) -> None:
    assert expected in _errors(GOOD + addition, tmp_path)


@pytest.mark.parametrize("lr", ["0", "-1e-4", ".nan", ".inf", "true", '"1e-4"'])
def test_lr_has_to_be_a_number_above_zero(lr: str, tmp_path: Path) -> None:
    message = _errors(GOOD.replace("1e-4", lr), tmp_path)
    assert message.startswith("run.yaml:4: optimizer.lr: ")


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    message = _errors(GOOD.replace("1e-4", "0") + "  nesterov: true\ntrain: {sede: 1}\n", tmp_path)
    assert len(message.splitlines()) == 3


def test_unknown_optimizer_names_the_nearest(tmp_path: Path) -> None:
    message = _errors(GOOD.replace("lion", "adamv"), tmp_path)
    assert message.startswith("run.yaml:3: 'adamv' is not an optimizer; did you mean adam")


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(GOOD, encoding="utf-8")
    assert load_config(tmp_path / "run.yaml").optimizer.lr == 1e-4


def test_extends_merges_and_overrides_win(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("train: {seed: 1, epochs: 2}\n", encoding="utf-8")
    (tmp_path / "run.yaml").write_text(
        "extends: base.yaml\n" + GOOD + "train: {seed: 5}\n", encoding="utf-8"
    )
    config = load_config(tmp_path / "run.yaml", overrides=["train.batch_size=2"])
    assert (config.train.seed, config.train.epochs, config.train.batch_size) == (5, 2.0, 2)


def test_another_optimizer_does_not_inherit_the_first_ones_lr(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "run.yaml").write_text(
        "extends: base.yaml\noptimizer: {name: adamw}\n", encoding="utf-8"
    )
    with pytest.raises(UsageError, match=r"run\.yaml:2: optimizer\.lr is missing"):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize("link", [False, True], ids=["path", "link"])
def test_extends_stays_inside_the_project(
    link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull request must not have a file of the machine's printed into a public log."""
    secret, project = tmp_path / "secret.yaml", tmp_path / "project"
    secret.write_text("hunter2: 1\n", encoding="utf-8")
    (project / "configs").mkdir(parents=True)
    (project / ".git").mkdir()
    (project / "base.yaml").write_text(GOOD, encoding="utf-8")
    run = project / "configs" / "run.yaml"
    run.write_text("extends: ../base.yaml\n", encoding="utf-8")
    assert load_config(run)
    if link:
        (project / "theirs.yaml").symlink_to(secret)
    name = "../theirs.yaml" if link else str(secret)
    run.write_text(f"extends: {name}\n", encoding="utf-8")
    with pytest.raises(UsageError, match="outside the working folder") as refused:
        load_config(run)
    assert "hunter2" not in str(refused.value)
    monkeypatch.setenv("FTREG_EXTENDS_ANYWHERE", "1")
    with pytest.raises(UsageError, match="hunter2 is not a setting"):
        load_config(run)


def test_a_link_to_another_file_is_told_of_by_no_line_of_it(tmp_path: Path) -> None:
    """`configs/run.yaml` of a pull request may lead to /etc/shadow, whose lines are YAML's keys."""
    (tmp_path / "shadow").write_text("root:$6$hunter2:20228:0:99999:7:::\nbin:*:2::\n")
    (tmp_path / "run.yaml").symlink_to("shadow")
    with pytest.raises(UsageError, match=r"not shown.* is not a setting") as refused:
        load_config(tmp_path / "run.yaml")
    assert "hunter2" not in str(refused.value)
    (tmp_path / "shadow").write_text("root:$6$hunter2:20228:::\n" * 2)
    with pytest.raises(UsageError, match="duplicate key") as refused:
        load_config(tmp_path / "run.yaml")
    assert "hunter2" not in str(refused.value)


def test_extends_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"cycle: a\.yaml -> b\.yaml -> a\.yaml"):
        load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "line"), [("a: [1,\n", 2), ("a: 1\n  b: 2\n", 2), ("- 1\n", 1), ("a: \x00", 1)]
)
def test_broken_yaml_is_named(text: str, line: int, tmp_path: Path) -> None:
    assert _errors(text, tmp_path).startswith(f"run.yaml:{line}: ")


def test_commands_end_with_2_on_a_wrong_configuration(cli: Cli, config: Path) -> None:
    done = cli("train", config, "-s", "optimizer.lerning_rate=1", "-o", "out")
    assert done.code == 2
    assert "-s optimizer.lerning_rate" in done.err
    assert "Traceback" not in done.err
    assert not Path("out").exists()
    assert cli("train", "nowhere.yaml").code == 2
