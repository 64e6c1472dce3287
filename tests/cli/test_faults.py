"""What fails around ftreg: a changed byte, a disk, a clock, a limit; the rest: `make torture`."""

import contextlib
import json
import os
import pwd
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftreg.data import digests, load_dataset
from ftreg.errors import UsageError
from ftreg.files.cache.folder import cache_folder
from ftreg.files.cache.table import Table
from ftreg.files.cache.untouched import file_state
from ftreg.files.store import staged_folder, write_json, write_text
from ftreg.models import packaged
from ftreg.models.save import save_pretrained
from ftreg.records.evaluation.clock import next_moment
from tests.conftest import Cli, write_dataset

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def changed(path: Path, old: str, new: str) -> Iterator[None]:
    """One value of a file is another for a while."""
    text = path.read_text(encoding="utf-8")
    assert re.search(old, text), path
    path.write_text(re.sub(old, new, text, count=1), encoding="utf-8")
    yield
    path.write_text(text, encoding="utf-8")


def test_a_changed_value_in_any_record_is_refused(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    assert cli("eval", "checkpoints/a", "--no-gate").code == 0
    (folder,) = Path("evaluations").iterdir()
    name, baseline = folder.name, Path("baselines/colours.json")
    assert cli("promote", name).code == 0
    assert cli("gate", "baseline", name).code in (0, 3)
    gate, promote = ["gate", "baseline", name], ["promote", name]
    for path, old, new, command in (
        (folder / "evaluation.json", '"last_loss": .', '"last_loss": 9', gate),
        (folder / "scores.jsonl", '"score":0', '"score":1', gate),
        (folder / "outputs.jsonl", '"critical":false', '"critical":true', gate),
        (folder / "gate.json", '"margin": 0', '"margin": 1', promote),
        (baseline, '"e0": 0', '"e0": 1', gate),
        (Path("checkpoints/a/ftreg.json"), '"lr": 0.001', '"lr": 0.002', ["eval", "a"]),
    ):
        with changed(path, old, new):
            done = cli(*command)
        assert done.code == 2, (path, done)
        assert str(path) in done.err
        assert "has changed since it was written" in done.err
        assert "Traceback" not in done.err
    assert cli(*gate).code in (0, 3)


def test_what_is_trained_on_a_changed_checkpoint_has_no_such_parent(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "a").code == 0
    weights = Path("a/model.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    done = cli("train", config, "-s", "base.model=a", "-o", "b")
    assert done.code == 2, done
    assert "a/model.safetensors: the file does not match the manifest" in done.err


@pytest.mark.parametrize("template", ["{% for m in %}", "{{ 1 / 0 }}", "{{ nothing.at.all }}"])
def test_a_broken_chat_template_is_named(
    template: str, cli: Cli, config: Path, tiny_model: Path
) -> None:
    shutil.copytree(tiny_model, "base")
    Path("base/chat_template.jinja").write_text(template, encoding="utf-8")
    done = cli("train", config, "-s", "base.model=base", "-o", "a")
    assert done.code == 2, done
    assert "base: the model's chat template (chat_template.jinja" in done.err
    assert "Traceback" not in done.err


def test_no_damaged_byte_of_a_cache_is_another_row(workspace: Path) -> None:
    write_dataset(workspace / "datasets")
    dataset = load_dataset("colours@1", root=Path("datasets"))
    rows = list(dataset.split("eval"))
    (arrow,) = cache_folder("arrow").glob("*.arrow")
    whole = arrow.read_bytes()
    at = whole.index(b"Which colour")
    for damaged in (whole[:at] + b"V" + whole[at + 1 :], whole[:-30], b""):
        arrow.write_bytes(damaged)
        assert list(dataset.split("eval")) == rows
        assert arrow.read_bytes() == whole
    arrow.with_suffix(".sha256").unlink()
    assert list(dataset.split("eval")) == rows


def test_a_wrong_digest_in_memory_is_no_change_of_the_data(workspace: Path) -> None:
    folder = write_dataset(workspace / "datasets")
    dataset = load_dataset("colours@1", root=Path("datasets"))
    file = folder / "eval.jsonl"
    wrong = json.dumps([*file_state(file), "0" * 64])
    Table("digests").put_many({os.path.realpath(file): wrong.encode()})
    assert digests.remembered_digest(file) == "0" * 64
    dataset.verify("eval")
    (folder / "eval.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(UsageError, match="have changed"):
        dataset.verify("eval")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": {"a": 1}}', '{"files": {"a": {}}}'])
def test_a_damaged_record_of_a_packaged_model_is_named(text: str, workspace: Path) -> None:
    (name,) = (name for name in packaged.PACKAGED if "smollm2" in name)
    marker = packaged._folder(packaged.PACKAGED[name]) / "ftreg-model.json"
    marker.parent.mkdir(parents=True)
    marker.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"ftreg-model\.json: .* is damaged; remove .* pull"):
        packaged.packaged_folder(name)


def test_a_clock_that_went_back_leaves_the_newest_the_newest(tmp_path: Path) -> None:
    told: list[str] = []
    first = next_moment(tmp_path, notice=told.append)
    for name, created in (
        ("a", "2026-01-02T03:04:05.678+00:00"),
        ("later", "2999-01-01T00:00:00.999+00:00"),
        ("odd", "yesterday"),
        ("naive", "3000-01-01T00:00:00"),
    ):
        write_json(tmp_path / name / "evaluation.json", {"schema_version": 1, "created": created})
    write_text(tmp_path / "broken/evaluation.json", "{")
    assert not told
    assert next_moment(tmp_path, notice=told.append) == "2999-01-01T00:00:01.000+00:00"
    assert "the clock is behind the evaluation later" in told[0]
    (tmp_path / "later/evaluation.json").unlink()
    assert next_moment(tmp_path, notice=told.append) >= first
    assert len(told) == 1


class Watched:
    """The order in which files are synced and renamed; a sync may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str]] = []
        self.fails: str | None = None
        sync, rename = os.fsync, os.rename

        def fsync(file: int) -> None:
            path = os.readlink(f"/proc/self/fd/{file}")
            self.calls.append(("fsync", path))
            if path == self.fails:
                raise OSError(5, "Input/output error")
            sync(file)

        def renamed(old: Any, new: Any) -> None:
            self.calls.append(("rename", str(new)))
            rename(old, new)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "rename", renamed)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files have no names here")
def test_a_folder_is_on_disk_before_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    final = tmp_path / "new" / "deep" / "f"
    with staged_folder(final) as staging:
        (staging / "sub").mkdir()
        (staging / "sub/x").write_text("x")
    at = watched.calls.index(("rename", str(final)))
    before = [path for _, path in watched.calls[:at]]
    assert {str(staging / "sub/x"), str(staging / "sub"), str(staging)} <= set(before)
    assert before.index(str(staging / "sub/x")) < before.index(str(staging))
    assert {str(tmp_path), str(tmp_path / "new")} <= set(before)  # made on the way
    assert watched.calls[at + 1] == ("fsync", str(final.parent))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files have no names here")
def test_a_disk_that_promises_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Watched(monkeypatch).fails = str(tmp_path)
    with pytest.raises(UsageError, match="x is written, but could not be flushed to disk"):
        write_text(tmp_path / "x", "text")


def test_the_errors_of_rust_are_the_disks() -> None:
    class Full:
        def save_pretrained(self, folder: str) -> None:
            raise Exception("No space left on device (os error 28)")

    with pytest.raises(OSError, match="No space left on device") as caught:
        save_pretrained(Full(), "there")
    assert (caught.value.errno, caught.value.filename) == (28, "there")

    class Broken:
        def save_pretrained(self, folder: str) -> None:
            raise RuntimeError("what is this")

    with pytest.raises(RuntimeError, match="what is this"):
        save_pretrained(Broken(), "there")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        ImportError("libtorch.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
    ],
)
def test_no_memory_is_no_fault_of_ours(
    error: Exception, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    # A method: a function would stay in modules that are first imported meanwhile.
    monkeypatch.setattr("ftreg.records.workspace.Workspace.checkpoint", fail)
    done = cli("eval", "a")
    assert done.code == 2, done
    assert "out of memory" in done.err
    assert "Traceback" not in done.err


def limited(mebibytes: int, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    size = mebibytes << 20
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True, text=True, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)),
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="no limit of addresses")
def test_too_little_memory_to_begin_with_never_looks_like_a_regression(tmp_path: Path) -> None:
    done = limited(200, "-m", "ftreg", "gate", "baseline", "latest", cwd=tmp_path)
    assert done.returncode == 2, done
    assert "may have 200 MiB of addresses" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_torture_in_short(tmp_path: Path) -> None:
    """Every part of `make torture`, a little of each."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture", "--short"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-8000:] + done.stdout
    result = json.loads(done.stdout.splitlines()[-1])["parts"]
    assert len(result) == 12
    for name, (trials, counts, failures, skipped) in result.items():
        assert (trials > 0) != bool(skipped), (name, counts)
        assert not failures


@pytest.mark.parametrize(
    ("cache", "part"),
    [
        (None, "the cache: this user has no home folder; set FTREG_CACHE"),
        ("~nobody9/cache", "FTREG_CACHE=~nobody9/cache: this user has no home folder"),
        (os.fsdecode(b"cache-\xff"), "the path is not UTF-8; set another"),
    ],
)
def test_a_cache_that_cannot_be_is_told_of(
    cache: str | None, part: str, cli: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose user has no entry among the users."""

    def nobody(_: object) -> None:
        raise KeyError("no such user")

    write_dataset(workspace / "datasets")
    monkeypatch.delenv("FTREG_CACHE")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    if cache is not None:
        monkeypatch.setenv("FTREG_CACHE", cache)
    done = cli("data", "verify", "colours@1", "--root", "datasets")
    assert (done.code, part in done.err) == (2, True), done


INTERRUPTED_IMPORT = """\
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
from ftreg.__main__ import main
class Library:
    def find_spec(self, name, path=None, target=None):
        if name == "ftreg.cli.app":
            try:
                os.kill(os.getpid(), int(sys.argv[1]))
            except KeyboardInterrupt:
                raise SyntaxError("can't load unicodedata module")
sys.meta_path.insert(0, Library())
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_all_is_imported_is_an_interruption(number: int) -> None:
    """What Python makes of it in an import is often another error, and once was a bug in ftreg."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT, str(int(number))],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "ftreg: interrupted\n")


FEW_FILES = """\
import resource
from ftreg.__main__ import main
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
main()
"""


@pytest.mark.parametrize("closed", ["few files", "stdout", "all"])
def test_a_process_that_cannot_begin_gives_no_verdict(closed: str, workspace: Path) -> None:
    """It once ended with 1: a regression. Nor is a record opened in the place of stdout."""
    code = FEW_FILES if closed == "few files" else "from ftreg.__main__ import main; main()"
    streams = {"few files": (), "stdout": (1,), "all": (0, 1, 2)}[closed]
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluations", "list"],
        preexec_fn=lambda: [os.close(number) for number in streams],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == (2 if closed == "few files" else 0)


@pytest.mark.parametrize("ending", ["sys.exit(0)", "sys.exit(1)", "sys.exit()", "raise Panic"])
def test_code_that_ends_the_process_ends_it_with_no_verdict(
    ending: str, cli: Cli, workspace: Path
) -> None:
    """0 and 1 are a command's own; a Rust panic is no Exception of Python's."""
    module = "ends" + "".join(filter(str.isalnum, ending))
    Path(f"{module}.py").write_text(
        f"import sys\nclass Panic(BaseException): pass\ndef scorer(): {ending}\n"
    )
    Path("outputs.jsonl").write_text('{"id": "1", "input": "a", "output": "b"}\n')
    done = cli("score", "outputs.jsonl", "--scorer", f"{module}:scorer", "-o", "scores.jsonl")
    assert done.code == (70 if "Panic" in ending else 2), done
    assert not Path("scores.jsonl").exists()


@pytest.mark.parametrize(
    ("broken", "how"),
    [
        ("typer", "raise ValueError('broken')"),
        ("typer", "import sys; sys.exit(0)"),
        ("typer", "import sys; sys.exit('text')"),
        ("pathlib", "raise ValueError('broken')"),
        ("full", ""),
    ],
)
def test_what_fails_before_a_command_is_no_verdict(broken: str, how: str, tmp_path: Path) -> None:
    (tmp_path / f"{broken}.py").write_text(f"{how}\n")
    code = "import sys; sys.argv[1:] = ['--version']\nfrom ftreg.__main__ import main"
    if broken != "full":
        code += f"\nsys.path.insert(0, {str(tmp_path)!r}); sys.modules.pop({broken!r}, None)"
    with Path("/dev/full" if broken == "full" else os.devnull).open("w") as out:
        done = subprocess.run([sys.executable, "-c", f"{code}\nmain()"], stdout=out, stderr=-1)
    assert done.returncode == (2 if broken == "full" else 70), done.stderr
    assert done.stderr
