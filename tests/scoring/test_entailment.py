"""The judge of entailment, with a tiny random network, against transformers' own forward."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.nn import functional
from transformers import MPNetConfig, MPNetModel

from ftreg.errors import UsageError
from ftreg.scoring.backends.entailment import Entailment
from ftreg.scoring.backends.entailment_model import STRIDE, WINDOW, EntailmentModel, Reading
from ftreg.scoring.protocol import Inquiry
from scripts.judge.packed import states, supporting

WORDS = [
    *["the", "ferry", "sails", "at", "nine", "ten", "dogs", "stay", "ashore"],
    *["cars", "cost", "thirty", "euros", "when", "does", "it"],
]
TEXT = "the ferry sails at nine dogs stay ashore cars cost thirty euros"
CLAIMS = ["the ferry sails at nine", "dogs stay ashore", "cars cost ten euros " * 8, "nine"]
RANK, CLASSES = 4, (3, 2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base of two layers, and adapters for it."""
    folder = tmp_path_factory.mktemp("mpnet")
    torch.manual_seed(1)
    config = MPNetConfig(
        vocab_size=40, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=514,
    )  # fmt: skip
    base = MPNetModel(config, add_pooling_layer=False)
    base.save_pretrained(folder)
    vocabulary = {word: place + 4 for place, word in enumerate(dict.fromkeys(WORDS))}
    tokenizer = Tokenizer(WordLevel({"<unk>": 3, **vocabulary}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    tensors = {}
    for name, module in base.named_modules():
        if isinstance(module, torch.nn.Linear):
            tensors[f"{name}.A"] = torch.randn(RANK, module.in_features) / 4
            tensors[f"{name}.B"] = torch.randn(module.out_features, RANK) / 4
    for head, classes in enumerate(CLASSES):
        shapes = {
            "0.weight": (8, 48),
            "0.bias": (8,),
            "2.weight": (classes, 8),
            "2.bias": (classes,),
        }
        tensors |= {f"heads.{head}.{name}": torch.randn(shape) for name, shape in shapes.items()}
    save_file(tensors, folder / "weights.safetensors")
    return folder, folder / "weights.safetensors"


def ids(folder: Path, text: str) -> list[int]:
    return Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids


def supports(model: EntailmentModel, window: list[int], claims: list[str]) -> torch.Tensor:
    (reading,) = model.read([window])
    return model.support([(reading, model.claim(claim)) for claim in claims])


def by_transformers(
    folders: tuple[Path, Path], row: list[int], seen: torch.Tensor, *, first: int, which: int
) -> list[float]:
    """What a head says of the mean state from a place on, by transformers' own forward."""
    base, weights = folders
    tensors = load_file(weights)
    model = MPNetModel.from_pretrained(base, add_pooling_layer=False).eval()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data += tensors[f"{name}.B"] @ tensors[f"{name}.A"]
    mask = torch.where(seen, 0.0, float("-inf"))[None, None]
    with torch.inference_mode():
        states = model(input_ids=torch.tensor([row]), attention_mask=mask).last_hidden_state
        own = {name.removeprefix(f"heads.{which}."): value for name, value in tensors.items()}
        mean = states[0, first:].mean(0)
        inner = functional.gelu(functional.linear(mean, own["0.weight"], own["0.bias"]))
        found: list[float] = (
            functional.linear(inner, own["2.weight"], own["2.bias"]).softmax(-1).tolist()
        )
    return found


@pytest.mark.parametrize("question", [None, "when does it cost"])
def test_a_claim_has_the_probabilities_of_a_row_whose_text_does_not_see_it(
    folders: tuple[Path, Path], question: str | None
) -> None:
    model = EntailmentModel(*folders, int8=False)
    (window,) = model.windows(TEXT, question)
    found = supports(model, window, CLAIMS)
    asked = [*ids(folders[0], question), 2, 2] if question else []
    head = [0, *asked, *ids(folders[0], TEXT), 2, 2]
    assert window == head
    for claim, mine in zip(CLAIMS, found.tolist(), strict=True):
        row = [*head, *ids(folders[0], claim), 2]
        place = torch.arange(len(row))
        seen = (place[None, :] < len(head)) | (place[:, None] >= len(head))
        theirs = by_transformers(folders, row, seen, first=len(head), which=0)
        assert mine == pytest.approx(theirs, abs=1e-5)


def test_an_answer_and_its_question_see_each_other(folders: tuple[Path, Path]) -> None:
    model = EntailmentModel(*folders, int8=False)
    question, answer = ids(folders[0], "when does it cost"), ids(folders[0], "at nine")
    row = [0, *question, 2, 2, *answer, 2]
    seen = torch.ones(len(row), len(row), dtype=torch.bool)
    theirs = by_transformers(folders, row, seen, first=len(question) + 3, which=1)
    (found,) = model.answers([("when does it cost", "at nine")])
    assert found == pytest.approx(theirs[1], abs=1e-5)


def test_training_reads_several_claims_as_judging_does(folders: tuple[Path, Path]) -> None:
    model = EntailmentModel(*folders, int8=False)
    (window,) = model.windows(TEXT, None)
    row = supporting(ids(folders[0], TEXT), [ids(folders[0], claim) for claim in CLAIMS])
    with torch.inference_mode():
        means = states(model._model, [row, row])
    found = supports(model, window, CLAIMS)
    assert torch.allclose(model._head(0, means), torch.cat([found, found]), atol=1e-5)


@pytest.mark.parametrize("int8", [False, True])
def test_a_claim_has_the_same_bits_alone_and_in_company(
    folders: tuple[Path, Path], int8: bool
) -> None:
    model = EntailmentModel(*folders, int8=int8)
    (window,) = model.windows(TEXT, None)
    together = supports(model, window, CLAIMS)
    alone = torch.cat([supports(model, window, [claim]) for claim in CLAIMS])
    assert torch.equal(together, alone)
    windows = [model.windows(text, None)[0] for text in (TEXT, "dogs", f"{TEXT} {TEXT}", "it cost")]
    company = model.support(
        [(reading, model.claim(claim)) for claim in CLAIMS for reading in model.read(windows)]
    )
    assert torch.equal(company[:: len(windows)], alone)
    pairs = [(claim, TEXT) for claim in CLAIMS]
    assert model.answers(pairs) == [model.answers([pair])[0] for pair in pairs]


def test_int8_is_near_fp32(folders: tuple[Path, Path]) -> None:
    inquiry = Inquiry(CLAIMS, TEXT)
    exact, near = (
        Entailment(base=folders[0], weights=folders[1], precision=precision, keep=False).support(
            [inquiry]
        )[0]
        for precision in ("fp32", "int8")
    )
    assert np.abs(exact - near).max() < 0.05
    assert not np.array_equal(exact, near)


def test_a_long_text_is_read_in_windows_and_the_best_counts(folders: tuple[Path, Path]) -> None:
    model = EntailmentModel(*folders, int8=False)
    text = " ".join(WORDS * 40)
    windows = model.windows(text, "when does it cost")
    tokens = len(WORDS) * 40
    assert len(windows) == -(-(tokens - WINDOW) // STRIDE) + 1
    assert all(window[:6] == windows[0][:6] for window in windows)
    each = torch.stack([supports(model, window, CLAIMS) for window in windows])
    judge = Entailment(base=folders[0], weights=folders[1], precision="fp32", keep=False)
    (found,) = judge.support([Inquiry(CLAIMS, text, "when does it cost")])
    assert found[:, 0].tolist() == each[:, :, 0].amax(0).tolist()


def test_of_a_very_long_text_a_claim_meets_the_windows_with_its_words(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = EntailmentModel(*folders, int8=False)
    filler = "does it cost " * 700
    text = f"{filler} dogs stay ashore {filler} the ferry sails at nine {filler}"
    windows = plain.windows(text, None)
    assert len(windows) > 20
    held: list[tuple[int, int]] = []
    support = EntailmentModel.support

    def noted(self: EntailmentModel, claims: list[tuple[Reading, list[int]]]) -> torch.Tensor:
        held.extend((reading.tokens, len(claim)) for reading, claim in claims)
        return support(self, claims)

    monkeypatch.setattr(EntailmentModel, "support", noted)
    judge = Entailment(base=folders[0], weights=folders[1], precision="fp32", keep=False)
    asked = ["dogs stay ashore", "the ferry sails at nine"]
    (found,) = judge.support([Inquiry(asked, text)])
    assert len(held) == 4 * len(asked)
    for claim, row in zip(asked, found, strict=True):
        first = plain.claim(claim)[0]
        having = [window for window in windows if first in window]
        mine = max(supports(plain, window, [claim])[0, 0] for window in having)
        assert row[0] >= mine - 1e-6


def test_a_text_is_read_once(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Entailment(base=folders[0], weights=folders[1], precision="fp32", keep=False)
    read: list[int] = []
    plain = EntailmentModel.read

    def counted(self: EntailmentModel, windows: list[list[int]]) -> object:
        read.extend(map(len, windows))
        return plain(self, windows)

    monkeypatch.setattr(EntailmentModel, "read", counted)
    judge.support([Inquiry(CLAIMS[:2], TEXT), Inquiry(CLAIMS[1:3], TEXT)])
    judge.support([Inquiry(CLAIMS, TEXT)])
    assert len(read) == 1


def test_what_was_judged_is_kept_on_disk(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inquiry, pair = Inquiry(CLAIMS, TEXT), ("when does it cost", "at nine")
    first = Entailment(base=folders[0], weights=folders[1], precision="fp32")
    found, answer = first.support([inquiry])[0], first.answers([pair])
    monkeypatch.setattr(EntailmentModel, "__init__", None)
    again = Entailment(base=folders[0], weights=folders[1], precision="fp32")
    assert np.array_equal(again.support([inquiry])[0], found)
    assert again.answers([pair]) == answer


def test_precision_and_weights_are_part_of_the_identity(folders: tuple[Path, Path]) -> None:
    base, weights = folders
    exact = Entailment(base=base, weights=weights, precision="fp32", keep=False).describe()
    near = Entailment(base=base, weights=weights, precision="int8", keep=False).describe()
    assert {key for key in exact if exact[key] != near[key]} == {"precision"}
    changed = {name: value * 1.5 for name, value in load_file(weights).items()}
    other = weights.with_name("other.safetensors")
    save_file(changed, other)
    found = Entailment(base=base, weights=other, precision="fp32", keep=False).describe()
    assert {key for key in exact if exact[key] != found[key]} == {"adapters"}


def test_an_unknown_precision_is_named(folders: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="did you mean fp32"):
        Entailment(base=folders[0], weights=folders[1], precision="fp23")
