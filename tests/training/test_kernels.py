"""Training's kernels, by `train.kernels: auto`, against plain transformers, peft and torch."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from ftreg.config.load import load_config
from ftreg.config.sections import LoraConfig
from ftreg.data import load_dataset
from ftreg.models.adapters import with_adapters
from ftreg.models.assistant_turn import AssistantTurn
from ftreg.models.attention import packed_attention, use_packed_attention
from ftreg.models.chat_template import Chat
from ftreg.training import kernel_switch as switch
from ftreg.training.batching.batches import batch_order
from ftreg.training.batching.examples import TokenisedExamples, token_pairs
from ftreg.training.events import Silent
from ftreg.training.kernels.adapted import fuse_adapters
from ftreg.training.kernels.head import find_head
from ftreg.training.kernels.head_loss import plain_head
from ftreg.training.kernels.kept_gradient import KeptGradient
from ftreg.training.kernels.tied import add_rows_to_tied_gradient
from ftreg.training.loss import Loss
from ftreg.training.packing import choose_loss
from ftreg.training.run import train
from tests.architectures import ARCHITECTURES, DEAF, LEAKING, OPT, write_model
from tests.conftest import Cli

LORA = "lora.r=2"
# Of the matrices that adapters are on, those of GPT-2 are transposed, and those of Phi-3 joined.
CASES: list[tuple[str, tuple[str, ...]]] = [
    *((name, ()) for name in ARCHITECTURES),
    *((name, (LORA,)) for name in ("llama", "gpt2", "phi3", "gemma2")),
    ("llama", ("train.packing=false",)),
    ("llama", ("train.packing=false", LORA)),
    ("llama", ("train.micro_batch_tokens=2000", "optimizer.momentum=0.9")),
    ("llama", ("lora={r: 2, target_modules: [q_proj, lm_head]}",)),
    ("qwen2", ("lora={r: 2, target_modules: [embed_tokens, v_proj]}",)),
]


@pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings")
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
@pytest.mark.parametrize(("name", "changes"), CASES, ids=lambda part: str(part))
def test_a_run_with_kernels_is_the_run_without(
    name: str,
    changes: tuple[str, ...],
    config: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Step by step, and with several micro-batches each; of the head in one chunk and in many."""
    model = write_model(tmp_path / name, ARCHITECTURES[name], spread=2, tokenizer=tiny_model)
    settings = [f"base.model={model}", "optimizer={name: sgd, lr: 0.05}", "train.epochs=2"]
    settings += ["train.micro_batch_tokens=150", *changes]
    runs = []
    for kernels, chunk in (("off", 512), ("auto", 512), ("auto", 4)):
        monkeypatch.setattr("ftreg.training.kernels.head.CHUNK", chunk)
        overrides = [*settings, f"train.kernels={kernels}"]
        made = train(
            load_config(config, overrides=overrides), output=tmp_path / f"{kernels}{chunk}"
        )
        (path,) = made.folder.glob("*.safetensors")
        lines = (made.folder / "history.jsonl").read_text().splitlines()
        shared = made.manifest.training.shared_prefix
        runs.append((load_file(path), [json.loads(line) for line in lines], shared))
    (plain_weights, plain_steps, plain_shared), *ours = runs
    assert not plain_shared
    assert plain_steps[-1]["loss"] < 0.99 * plain_steps[0]["loss"]
    for weights, steps, shared in ours:
        assert shared == (ARCHITECTURES[name].plain and "train.packing=false" not in changes)
        for step, plain in zip(steps, plain_steps, strict=True):
            assert step["loss"] == pytest.approx(plain["loss"], rel=1e-5)
            assert step["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-4)
        for key, tensor in weights.items():
            torch.testing.assert_close(tensor, plain_weights[key], rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.parametrize("changes", [(), (LORA,)])
def test_in_bf16_it_is_nearly_the_same(
    changes: tuple[str, ...], config: Path, tmp_path: Path
) -> None:
    losses = []
    for kernels in ("auto", "off"):
        overrides = ["train.precision=bf16", f"train.kernels={kernels}", *changes]
        made = train(load_config(config, overrides=overrides), output=tmp_path / kernels)
        lines = (made.folder / "history.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    "kernel", ["find_head", "use_packed_attention", "fuse_adapters", "add_rows_to_tied_gradient"]
)
def test_off_leaves_every_kernel_out(
    kernel: str, cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def used(*_: Any, **__: Any) -> None:
        raise NotImplementedError(kernel)

    monkeypatch.setattr(switch, kernel, used)
    given = ["train", config, "-s", LORA] if kernel == "fuse_adapters" else ["train", config]
    assert cli(*given, "-s", "train.kernels=off", "-o", "off").code == 0
    done = cli(*given, "-o", "auto")
    assert done.code == 70
    assert kernel in done.err


def first_loss(base: Path) -> float:
    """The mean loss per token of the first step, by transformers alone, in nats."""
    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    dataset = load_dataset("colours@1", root=Path("datasets"))
    turn = AssistantTurn(Chat(tokenizer))
    prompt = dataset.card.prompt
    pairs = token_pairs(dataset.split("train"), turn=turn, prompt=prompt, max_length=512)
    examples = list(pairs)
    (rows,) = batch_order(len(examples), batch_size=4, steps=1, seed=0)
    total, count = 0.0, 0
    for prompt, answer, _ in (examples[row] for row in rows):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0]
        wanted = torch.tensor(answer)
        total += functional.cross_entropy(
            logits[len(prompt) - 1 : -1], wanted, reduction="sum"
        ).item()
        count += len(answer)
    return total / count


@pytest.mark.parametrize("name", [*LEAKING, "opt"])
def test_a_model_that_leaks_between_packed_examples_takes_each_by_itself(
    name: str, cli: Cli, config: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """https://github.com/axolotl-ai-cloud/axolotl/issues/3572, and Megatron-Bridge#3484.

    A loss summed up hides what leaks: 0.1 % is more than the end of a prompt makes of it.
    """
    architecture = LEAKING.get(name, OPT)
    base = write_model(tmp_path / name, architecture, spread=2, tokenizer=tiny_model)
    given = ["train", config, "-s", f"base.model={base}", "-s", "train.max_steps=1"]
    done = cli(*given, *(["-s", "train.kernels=off"] if name == "opt" else []), "-o", "a")
    assert done.code == 0, done
    assert "is trained without packing (train.packing)" in " ".join(done.err.split())
    assert not json.loads(Path("a/ftreg.json").read_text())["training"]["packing"]
    loss = json.loads(Path("a/history.jsonl").read_text())["loss"]
    assert loss == pytest.approx(first_loss(base), rel=1e-5)


def test_a_mask_that_leaks_does_no_harm_where_attention_is_told_the_lengths(
    cli: Cli, config: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """OPT's own mask does not say where an example begins."""
    base = write_model(tmp_path / "opt", OPT, spread=6, tokenizer=tiny_model)
    given = ["train", config, "-s", f"base.model={base}", "-s", "train.max_steps=1"]
    done = cli(*given, "-o", "a")
    assert done.code == 0, done
    assert "is trained without" not in done.err
    assert json.loads(Path("a/ftreg.json").read_text())["training"]["shared_prefix"]
    loss = json.loads(Path("a/history.jsonl").read_text())["loss"]
    assert loss == pytest.approx(first_loss(base), rel=1e-5)


@pytest.mark.parametrize("name", DEAF)
def test_a_model_that_cannot_tell_its_attention_the_lengths_packs_by_its_own(
    name: str, cli: Cli, config: Path, tiny_model: Path, tmp_path: Path
) -> None:
    base = write_model(tmp_path / name, DEAF[name], spread=2, tokenizer=tiny_model)
    given = ["train", config, "-s", f"base.model={base}", "-s", "train.max_steps=1"]
    done = cli(*given, "-o", "a")
    assert done.code == 0, done
    assert "is trained without attention by example" in " ".join(done.err.split())
    training = json.loads(Path("a/ftreg.json").read_text())["training"]
    assert (training["packing"], training["shared_prefix"]) == (True, False)
    loss = json.loads(Path("a/history.jsonl").read_text())["loss"]
    assert loss == pytest.approx(first_loss(base), rel=1e-5)


def test_the_switch_is_part_of_the_recipe(cli: Cli, config: Path) -> None:
    """Other last bits: resuming, telling apart and reproducing know of it."""
    given = ["train", config, "-s", "train.max_steps=2"]
    assert cli(*given, "-o", "auto").code == 0
    assert cli(*given, "-s", "train.kernels=off", "-o", "off").code == 0
    found = cli("diff", "auto", "off", "--json")
    assert [row["setting"] for row in found.json["differences"]] == ["training.kernels"]
    done = cli(*given, "-s", "train.kernels=off", "-o", "auto", "--resume")
    assert done.code == 2
    assert "another recipe (train.kernels: 'auto', here 'off')" in " ".join(done.err.split())
    done = cli("reproduce", "off", "--json")
    assert done.code == 0, done
    weights = json.loads(Path("off/ftreg.json").read_text())["weights"]["digest"]
    assert weights != json.loads(Path("auto/ftreg.json").read_text())["weights"]["digest"]


@pytest.mark.parametrize(
    ("own_attention", "share_prefix"), [(True, True), (True, False), (False, False)]
)
@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize("fused", [True, False])
def test_packed_and_chunked_loss_and_gradients_equal_the_plain_ones(
    own_attention: bool,
    share_prefix: bool,
    chunk: int | None,
    fused: bool,
    tiny_model: Path,
    examples: TokenisedExamples,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = range(6)
    packed = AutoModelForCausalLM.from_pretrained(tiny_model)
    head = find_head(packed)
    assert head is not None
    if fused:
        loss_of_head = head.fuse()
        assert loss_of_head is not None
        assert add_rows_to_tied_gradient(packed, loss_of_head.kept)
    if chunk is not None:
        monkeypatch.setattr("ftreg.training.kernels.head.CHUNK", chunk)
    if own_attention:
        assert use_packed_attention(packed)
    loss_of = Loss(
        row_tokens=200, packed_attention=own_attention, share_prefix=share_prefix, head=head
    )
    batches = loss_of.lay_out(rows, examples)
    assert 1 < len(batches) < 6
    computed = sum(batch.input_ids.numel() for batch in batches)
    assert (computed < sum(map(examples.length, rows))) == share_prefix
    assert chunk is None or all(len(batch.targets) > chunk for batch in batches)
    loss = sum(loss_of(packed, batch, device=packed.device) for batch in batches)
    loss.backward()

    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    expected = torch.zeros(())
    for row in rows:
        ids = torch.tensor([list(examples.ids(row))])
        logits = plain(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        start = examples.prompt_length(row)
        expected = expected + functional.cross_entropy(
            logits[start - 1 : -1], ids[0, start:], reduction="sum"
        )
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for (name, ours), (_, theirs) in zip(
        packed.named_parameters(), plain.named_parameters(), strict=True
    ):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_a_chunk_that_is_computed_again_has_the_same_dropout(tiny_model: Path) -> None:
    config = LoraConfig(r=4, dropout=0.5, target_modules=["lm_head"])
    network = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = with_adapters(network, config)
    head = find_head(network)
    assert head is not None
    model.train()
    layer = network.get_output_embeddings()
    (up,) = (weight for name, weight in layer.named_parameters() if "lora_B" in name)
    with torch.no_grad():
        up.normal_()
    hidden, targets = torch.randn(6, 32), torch.arange(6)
    gradients = []
    for again in (True, False):
        torch.manual_seed(0)
        loss = (
            head.loss(hidden, targets)
            if again
            else functional.cross_entropy(layer(hidden), targets, reduction="sum")
        )
        torch.rand(1)
        gradients.append(torch.autograd.grad(loss, up)[0])
    torch.testing.assert_close(*gradients)


def test_a_model_with_dropout_shares_no_prefix(
    config: Path, tiny_model: Path, examples: TokenisedExamples
) -> None:
    for dropout, share in ((0.0, True), (0.1, False)):
        model = AutoModelForCausalLM.from_pretrained(tiny_model, attention_dropout=dropout).eval()
        recipe = load_config(config)
        loss = choose_loss(
            model, examples, config=recipe, accelerator=Accelerator(cpu=True), events=Silent()
        )
        assert (loss.packed_attention, loss.share_prefix) == (True, share)
        assert not model.training


@pytest.mark.parametrize("lengths", [[40, 31, 12], [520, 31, 12]], ids=["short", "one is long"])
def test_short_attention_in_bf16_is_that_of_torch(lengths: list[int]) -> None:
    """Autocast takes plain products; both are held against torch's kernel in fp32."""
    torch.manual_seed(0)
    module = torch.nn.Module()
    module.num_key_value_groups = 3
    module.is_causal = True
    shared = 8
    tokens = sum(lengths) - 2 * shared
    parts = [torch.randn(1, heads, tokens, 16, requires_grad=True) for heads in (6, 2, 2)]
    weight = torch.randn(1, tokens, 6, 16)
    found = []
    for precise in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not precise):
            output, _ = packed_attention(
                module, *parts, None, example_lengths=lengths, shared_prefix=shared, scaling=0.3
            )
        found.append([output, *torch.autograd.grad((output * weight).sum(), parts)])
    for expected, low in zip(*found, strict=True):
        assert torch.linalg.norm(low - expected) < 0.02 * torch.linalg.norm(expected)
        assert not torch.equal(low, expected)


def _tied_llama(**settings: Any) -> Any:
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    settings = {"num_attention_heads": 2, "tie_word_embeddings": True, **settings}
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**sizes, **settings))


def test_examples_that_do_not_cover_a_row_are_refused() -> None:
    parts = [torch.randn(1, 2, 50, 16) for _ in range(3)]
    for precise in (True, False):
        with (
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=not precise),
            pytest.raises((ValueError, RuntimeError), match="50"),
        ):
            packed_attention(torch.nn.Module(), *parts, None, example_lengths=[20, 20])


@pytest.mark.parametrize("padding", [None, 5])
def test_rows_added_to_a_tied_gradient_are_those_of_autograd(padding: int | None) -> None:
    model = _tied_llama(pad_token_id=padding)
    ids = torch.randint(0, 12, (1, 40))

    def gradients(passes: int) -> dict[str, torch.Tensor]:
        model.zero_grad()
        for _ in range(passes):
            model(input_ids=ids, labels=ids).loss.backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters()}

    once, twice = gradients(1), gradients(2)
    assert add_rows_to_tied_gradient(model, KeptGradient(model.get_output_embeddings().weight))
    for name, gradient in gradients(1).items():
        assert torch.equal(gradient, once[name])
    for name, gradient in gradients(2).items():
        torch.testing.assert_close(gradient, twice[name])
    with torch.no_grad():  # adds nothing
        model(input_ids=ids)
    assert torch.equal(gradients(1)["model.embed_tokens.weight"], once["model.embed_tokens.weight"])


def test_only_a_tied_and_trained_weight_gets_rows() -> None:
    untied = _tied_llama(tie_word_embeddings=False)
    assert not add_rows_to_tied_gradient(untied, KeptGradient(untied.lm_head.weight))
    frozen = _tied_llama().requires_grad_(False)
    assert not add_rows_to_tied_gradient(frozen, KeptGradient(frozen.lm_head.weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trained", [True, False])
def test_the_loss_of_a_plain_head_is_torchs_cross_entropy(
    dtype: torch.dtype, trained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows than are taken at a time, twice into the same gradient, and in the next step."""
    monkeypatch.setattr("ftreg.training.kernels.kept_gradient._ROWS", 64)
    torch.manual_seed(0)
    layer = nn.Linear(24, 200, bias=False).requires_grad_(trained)
    loss = plain_head(layer)
    assert loss is not None
    low = torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16)
    for step in range(2):
        layer.zero_grad()
        with torch.no_grad():
            layer.weight += 0.0 if not trained else 0.1 * step
        weight = layer.weight.detach().clone().requires_grad_()
        for count in (70, 5):
            hidden, targets = torch.randn(count, 24), torch.randint(0, 200, (count,))
            ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
            with low:
                found = loss(ours, targets)
                logits = functional.linear(theirs, weight).float()
            expected = functional.cross_entropy(logits, targets, reduction="sum")
            (0.3 * found).backward()
            (0.3 * expected).backward()
            assert found.dtype is torch.float32
            assert found.item() == pytest.approx(expected.item(), rel=1e-6)
            _assert_near(ours.grad, theirs.grad, dtype)
        if trained:
            _assert_near(layer.weight.grad, weight.grad, dtype)
        else:
            assert layer.weight.grad is None


def _assert_near(found: Any, expected: Any, dtype: torch.dtype) -> None:
    """bf16 rounds the gradient of the logits, of which torch has scaled it before."""
    allowed = 1e-5 if dtype is torch.float32 else 0.01
    assert found.dtype is expected.dtype
    assert torch.linalg.norm(found - expected) <= allowed * torch.linalg.norm(expected)


def test_only_a_plain_head_computes_its_own_loss() -> None:
    assert plain_head(nn.Linear(4, 8, bias=True)) is None
    assert plain_head(nn.Sequential(nn.Linear(4, 8, bias=False))) is None
    hooked: Any = nn.Linear(4, 8, bias=False)
    assert plain_head(hooked) is not None
    forward = hooked.forward
    hooked.forward = lambda hidden: 2 * forward(hidden)
    assert plain_head(hooked) is None


@pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_fused_with_their_layers_compute_the_same(
    dtype: torch.dtype, tiny_model: Path
) -> None:
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj", "lm_head"])
    ids = torch.arange(3, 40)[None]
    found = []
    for fused in (False, True):
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_pretrained(tiny_model)
        model = with_adapters(network, config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_()  # nothing, at the start
        if fused:
            fuse_adapters(model, dtype)
            assert network.get_input_embeddings().weight.dtype is torch.float32  # and the head's
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        assert all(gradient.dtype is torch.float32 for gradient in gradients.values())
        found.append((loss, gradients))
    (loss, plain), (fused_loss, ours) = found
    close = 1e-5 if dtype is torch.float32 else 0.1
    assert fused_loss.item() == pytest.approx(loss.item(), rel=close)
    for name, gradient in plain.items():
        error = torch.linalg.norm(ours[name] - gradient)
        assert error <= close * torch.linalg.norm(gradient), name


def test_logits_that_are_more_than_the_heads_are_left_to_the_model(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert find_head(model) is not None
    forward = model.forward

    def capped(**inputs: Any) -> Any:
        output = forward(**inputs)
        output.logits = 0.1 * torch.tanh(output.logits / 0.1)
        return output

    model.forward = capped
    assert find_head(model) is None

    del model.forward
    assert find_head(model) is not None
    model.config.final_logit_softcapping = 30.0  # as small as these logits are
    assert find_head(model) is None
