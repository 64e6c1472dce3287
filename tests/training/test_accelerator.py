"""The path of an accelerator, as far as a CPU can prove it; `make bench-gpu` measures the rest.

Fake tensors say that they are on CUDA, and have shapes and no values: what would mix devices
fails, and so does what waits for a value.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from ftreg.config.load import load_config
from ftreg.errors import UsageError
from ftreg.models import attention_by_length as by_length
from ftreg.models.attention import packed_attention, told_lengths
from ftreg.models.attention_by_length import RowLayout, attention_by_length
from ftreg.training import loop as training_loop
from ftreg.training import pass_size
from ftreg.training.batching.examples import TokenisedExamples, record_batches
from ftreg.training.equal_bits import equal_bits
from ftreg.training.loop import Loop
from ftreg.training.loss import Loss
from ftreg.training.pass_size import PassSize, choose_pass_size, tokens_that_fit
from tests.conftest import Cli
from tests.training.test_resume import POISONED, manifest, poison

CUDA = torch.device("cuda", 0)


def by_mask(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int]
) -> torch.Tensor:
    """Attention of a row by torch's kernel and a block-diagonal causal mask."""
    of_token = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    causal = torch.ones(len(of_token), len(of_token), dtype=torch.bool).tril()
    mask = causal & (of_token[:, None] == of_token)
    output = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True
    )
    return output.transpose(1, 2)


@pytest.mark.parametrize(
    "lengths", [[9, 7, 7, 4, 3, 1], [1], [5, 50, 2, 2, 50], [64] + 20 * [1], [3] * 5], ids=str
)
def test_attention_by_lengths_is_that_by_the_mask(lengths: list[int]) -> None:
    """Output and gradients in float64, with heads that share keys."""
    torch.manual_seed(0)
    parts = [
        torch.randn(1, heads, sum(lengths), 8, dtype=torch.float64, requires_grad=True)
        for heads in (6, 2, 2)
    ]
    layout = RowLayout.of(lengths, torch.device("cpu"))
    found, _ = packed_attention(
        torch.nn.Module(), *parts, None, example_lengths=layout, scaling=0.3
    )
    wanted = by_mask(*parts, lengths)
    torch.testing.assert_close(found, wanted)
    weight = torch.randn_like(wanted)
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), parts),
        torch.autograd.grad((wanted * weight).sum(), parts),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    padding = sum(len(block.padded) for block in layout.blocks)
    assert padding <= 2 * sum(lengths) + len(lengths)


def varlen_by_mask(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    _: torch.Tensor,
    longest: int,
    __: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> torch.Tensor:
    """What torch's `varlen_attn` promises, on a CPU."""
    assert window_size == (-1, 0)
    assert enable_gqa
    lengths = ends.diff().tolist()
    assert longest == max(lengths)
    parts = [part.transpose(0, 1)[None] for part in (query, key, value)]
    factor = (query.shape[-1] ** -0.5 if scale is None else scale) / 0.3
    return by_mask(parts[0] * factor, *parts[1:], lengths)[0]


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the kernel on whatever device, with nothing known from before."""
    by_length._varlen_is_right.cache_clear()
    monkeypatch.setattr(
        by_length,
        "takes_lengths",
        lambda *shape, dtype, device: by_length._varlen_is_right(*shape, dtype, device),
    )


@pytest.mark.usefixtures("trusting")
def test_the_kernel_is_told_the_examples_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_by_mask)
    torch.manual_seed(0)
    parts = [torch.randn(1, heads, 12, 8).bfloat16() for heads in (4, 2, 2)]
    layout = RowLayout.of([7, 4, 1], torch.device("cpu"))
    found = attention_by_length(*parts, layout=layout, scaling=0.3, dropout=0.0)
    torch.testing.assert_close(found, by_mask(*parts, [7, 4, 1]))
    assert by_length._varlen_is_right.cache_info().currsize == 1


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("fault", ["raises", "sees all", "no gradient"])
def test_a_kernel_that_is_wrong_is_not_taken(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a build without it, an old GPU, a width that it does not know."""

    def wrong(query: torch.Tensor, *rest: Any, **settings: Any) -> torch.Tensor:
        if fault == "raises":
            raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")
        right = varlen_by_mask(query, *rest, **settings)
        return right.detach() + 0 * query if fault == "no gradient" else right.flip(0)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", wrong)
    torch.manual_seed(0)
    parts = [torch.randn(1, heads, 12, 8).bfloat16() for heads in (4, 2, 2)]
    layout = RowLayout.of([7, 4, 1], torch.device("cpu"))
    found = attention_by_length(*parts, layout=layout, scaling=0.3, dropout=0.0)
    torch.testing.assert_close(found, by_mask(*parts, [7, 4, 1]), rtol=0.02, atol=0.02)


def test_each_kind_of_device_is_told_lengths_in_its_own_way() -> None:
    cpu = told_lengths((5, 3), shared_prefix=2, device=torch.device("cpu"))
    assert cpu == {"example_lengths": (5, 3), "shared_prefix": 2}
    there = told_lengths((5, 3), shared_prefix=0, device=torch.device("meta"))
    layout = there.pop("example_lengths")
    assert there == {}
    assert layout.lengths == (5, 3)
    assert layout.ends.device.type == "meta"
    assert not by_length.takes_lengths(4, 2, 64, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert not by_length.takes_lengths(4, 2, 64, dtype=torch.float32, device=CUDA)


@pytest.mark.slow
def test_a_step_on_a_device_waits_for_it_once_and_mixes_nothing() -> None:
    """With torch's kernel in bf16, and by padding in fp32, with the head in chunks."""
    pytest.importorskip("torch._C._acc")
    script = Path(__file__).with_name("fake_accelerator.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    cases = json.loads(done.stdout)
    assert len(cases) == 2
    for found in cases:
        assert (found["steps"], found["read"], found["waits"]) == (2, 2, [])
        assert found["implementation"] == "fused"
        assert found["computed"] > 1000


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "lion"])
def test_a_broken_step_is_left_out_on_the_device(
    optimizer: str, cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found when the step is over, it leaves what is left on a CPU; Lion's must be waited for."""
    given = ["train", config, "-s", f"optimizer={{name: {optimizer}, lr: 0.001}}"]
    poison(monkeypatch, step=4)
    assert cli(*given, "-s", "train.epochs=2", "-o", "here").code == 1
    monkeypatch.setattr(training_loop, "works_behind", lambda device: True)
    done = cli(*given, "-s", "train.epochs=2", "-o", "there")
    assert done.code == 1, done
    failures = [json.loads(Path(f"{o}.failed/failure.json").read_text()) for o in ("here", "there")]
    assert failures[1]["parameters"] == [POISONED]
    for failure in failures:
        del failure["message"]
    assert failures[0] == failures[1]
    for file in ("model", "optimizer"):
        here, there = (
            load_file(f"{output}.state/step-00000003/{file}.safetensors")
            for output in ("here", "there")
        )
        assert here.keys() == there.keys()
        for name, tensor in here.items():
            assert torch.equal(tensor, there[name]), name


@pytest.mark.parametrize("optimizer", ["adamw", "lion"])
def test_the_path_of_a_device_takes_the_same_steps(
    optimizer: str, cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["train", config, "-s", f"optimizer={{name: {optimizer}, lr: 0.001}}"]
    assert cli(*given, "-o", "here").code == 0
    monkeypatch.setattr(training_loop, "works_behind", lambda device: True)
    assert cli(*given, "-o", "there").code == 0
    assert digest_of("there") == digest_of("here")


def digest_of(folder: str) -> Any:
    """Digest of a checkpoint's weights."""
    return manifest(folder)["weights"]["digest"]


def memory_for(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a device have memory for so many tokens in a pass with a gradient."""
    real = Loss.__call__

    def call(self: Loss, model: Any, batch: Any, *, device: torch.device) -> torch.Tensor:
        found = real(self, model, batch, device=device)
        if torch.is_grad_enabled() and batch.input_ids.shape[1] > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return found

    monkeypatch.setattr(Loss, "__call__", call)


def test_a_step_that_does_not_fit_is_computed_in_smaller_passes(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same batch and the same loss; a run that is resumed takes up the smaller size."""
    given = ["train", config, "-s", "train.epochs=2"]
    small = [*given, "-s", "train.micro_batch_tokens=200"]
    assert cli(*small, "-o", "small").code == 0
    memory_for(200, monkeypatch)
    done = cli(*given, "-s", "train.micro_batch_tokens=800", "-o", "whole")
    assert done.code == 0, done
    said = " ".join(done.err.split())
    assert "step 1 does not fit into the device's memory" in said
    assert "a pass has at most 200 tokens" in said
    training = manifest("whole")["training"]
    assert training["halvings"] == [{"step": 1, "tokens": 400}, {"step": 1, "tokens": 200}]
    assert training["micro_batch_tokens"] == 800
    assert digest_of("whole") == digest_of("small")
    with monkeypatch.context() as patched:
        poison(patched, step=4)
        assert cli(*given, "-s", "train.micro_batch_tokens=800", "-o", "a").code == 1
    done = cli(*given, "-s", "train.micro_batch_tokens=800", "-o", "a", "--resume")
    assert done.code == 0, done
    assert "does not fit" not in done.err
    assert digest_of("a") == digest_of("whole")
    assert manifest("a")["training"]["halvings"] == training["halvings"]


def test_an_example_that_does_not_fit_alone_is_said(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_for(10, monkeypatch)
    done = cli("train", config, "-o", "a")
    assert done.code == 2, done
    assert "out of memory" in done.err
    assert "train.gradient_checkpointing" in done.err


def test_the_tokens_of_a_pass_grow_to_what_fits() -> None:
    gib = 1 << 30
    assert tokens_that_fit(100 * gib, per_token=2**20, most=1 << 16) == 1 << 16
    assert tokens_that_fit(10 * gib, per_token=2**20, most=1 << 16) == 8192
    assert tokens_that_fit(10 * gib - 1, per_token=2**20, most=1 << 16) == 4096
    assert tokens_that_fit(100 * gib, per_token=2**20, most=5000) == 8192
    assert tokens_that_fit(-gib, per_token=2**20, most=1 << 16) == 2048


@pytest.mark.parametrize(
    ("settings", "device", "loss", "tokens"),
    [
        ([], "cuda", Loss(row_tokens=2048, packed_attention=True), 16384),
        ([], "cuda", Loss(row_tokens=2048), 2048),
        ([], "cpu", Loss(row_tokens=2048, packed_attention=True), 2048),
        (["train.micro_batch_tokens=99"], "cuda", Loss(row_tokens=99, packed_attention=True), 99),
    ],
    ids=["measured", "masked", "cpu", "configured"],
)
def test_who_chooses_the_tokens_of_a_pass(
    settings: list[str],
    device: str,
    loss: Loss,
    tokens: int,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pass_size, "_bytes_of_a_token", lambda *given, **named: 2.0**20)
    monkeypatch.setattr(pass_size, "_free", lambda device: 1 << 35)
    examples = TokenisedExamples(record_batches([([1, 2], [*range(5000)])]))
    accelerator: Any = SimpleNamespace(device=torch.device(device), is_fsdp2=False, num_processes=1)
    overrides = ["train.batch_size=3", *settings]
    found = choose_pass_size(
        torch.nn.Linear(2, 2),
        examples,
        loss,
        config=load_config(config, overrides=overrides),
        accelerator=accelerator,
    )
    assert found == PassSize(tokens)


def test_the_tokens_that_were_chosen_are_in_the_recipe(cli: Cli, config: Path) -> None:
    """So that it is made again with them, and a run goes on with them, whatever is free then."""
    assert cli("train", config, "-o", "a").code == 0
    written = manifest("a")
    assert written["training"]["micro_batch_tokens"] == 2048
    assert written["config"]["train"]["micro_batch_tokens"] == 2048
    done = cli("train", config, "-o", "a", "--resume")
    assert done.code == 0, done
    assert "is already complete" in done.err


def test_equal_bits_are_asked_of_a_device_and_of_it_alone(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    wanted = load_config(config)
    free = load_config(config, overrides=["train.deterministic=false"])
    for settings, device in ((wanted, torch.device("cpu")), (free, CUDA)):
        with equal_bits(settings, device):
            assert not torch.are_deterministic_algorithms_enabled()
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with equal_bits(wanted, CUDA):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(UsageError, match=r"train\.deterministic: false"), equal_bits(wanted, CUDA):
        raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with pytest.raises(UsageError, match="':0:0'"), equal_bits(wanted, CUDA):
        pass


def test_a_run_without_equal_bits_says_so_wherever_they_are_promised(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["train", config, "-s", "train.epochs=2", "-s", "train.save_steps=2"]
    assert cli(*given, "-o", "equal").code == 0
    assert manifest("equal")["training"]["deterministic"] is True
    for place in ("describe", "session"):
        monkeypatch.setattr(f"ftreg.training.{place}.has_equal_bits", lambda *given: False)
    with monkeypatch.context() as patched:
        poison(patched, step=4)
        assert cli(*given, "-o", "other").code == 1
    done = cli(*given, "-o", "other", "--resume")
    assert "will differ from an uninterrupted run: train.deterministic is false" in " ".join(
        done.err.split()
    )
    assert manifest("other")["training"]["deterministic"] is False
    found = cli("diff", "equal", "other", "--json")
    assert [row["setting"] for row in found.json["differences"]] == ["training.deterministic"]
    real = Loop._accumulate
    monkeypatch.setattr(Loop, "_accumulate", lambda self, rows: real(self, rows[:1]))
    done = cli("reproduce", "other", "--json")
    assert done.code == 3, done
    assert done.json["outcome"] == "undecided"
    assert "the bits differ each time" in " ".join(done.err.split())


@pytest.mark.slow
def test_the_benchmark_survives_a_part_that_fails(tmp_path: Path) -> None:
    """Rehearsed on a CPU; what it is measured beside is an extra."""
    root = Path(__file__).parents[2]
    output = tmp_path / "found.json"
    given = ["--tiny", "--part", "trl-compiled", "--part", "train", "--output", output]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    (tmp_path / "trl.py").write_text("raise ImportError('no trl here')")
    done = subprocess.run(
        [sys.executable, root / "scripts" / "bench_gpu.py", *given],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parts = json.loads(output.read_text())["parts"]
    assert list(parts) == ["train", "trl-compiled"]
    assert "no trl here" in parts["trl-compiled"]["error"]
    assert parts["train"]["8"]["tokens_per_second"] > 0
