"""Entailment as support, on cross-encoders that a test makes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ftreg.errors import UsageError
from ftreg.scoring import Sample, Score, get_scorer
from ftreg.scoring.claims import passages
from tests.conftest import Cli

LABELS = ("CONTRADICTION", "Entailment", "neutral")
CONTEXT = "The bridge is red. It has eight lanes. The arch is long."
WORDS = (
    "the",
    "bridge",
    "is",
    "red",
    "it",
    "has",
    "eight",
    "lanes",
    "arch",
    "long",
    "gold",
    ".",
    "so",
)


def make_classifier(folder: Path, *, labels: tuple[str, ...] = LABELS, positions: int = 64) -> Any:
    """A one-layer BERT with random weights over a handful of words; returned to be altered."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: index for index, word in enumerate([*special, *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=positions,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1,
            num_attention_heads=2, intermediate_size=32, max_position_embeddings=positions,
            id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)},
            num_labels=len(labels), initializer_range=0.5,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.eval(), tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "nli"


def one(folder: Path, name: str = "faithfulness", *, window: int = 2, **fields: Any) -> Score:
    scorer = get_scorer(name, backend="nli", model=str(folder), window=window)
    return scorer.score([Sample(**({"id": "1", "input": "", "output": ""} | fields))])[0]


def set_outcome(model: Any, folder: Path, logits: list[float]) -> None:
    """Give the classifier these logits whatever it reads."""
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor(logits))
    model.save_pretrained(folder)


@pytest.mark.parametrize("label", range(3))
def test_support_is_the_probability_of_the_label_called_entailment(
    label: int, folder: Path
) -> None:
    labels = ["neutral", "contradiction"]
    labels.insert(label, "entailment")
    model, _ = make_classifier(folder, labels=tuple(labels))
    logits = [0.0, 1.0, 3.0]
    set_outcome(model, folder, logits)
    expected = torch.tensor(logits).softmax(-1)[label].item()
    score = one(folder, output="It is red. It has lanes.", context=CONTEXT)
    assert score.value == pytest.approx(expected, abs=1e-5)
    assert [entry["support"] for entry in score.evidence] == [score.value] * 2


def test_support_is_the_largest_over_sentences_and_runs_of_them(folder: Path) -> None:
    model, tokenizer = make_classifier(folder)
    claim = "The bridge has lanes."
    a, b, c = passages(CONTEXT)

    def entailment(premise: str) -> float:
        read = tokenizer(premise, claim, return_tensors="pt")
        with torch.inference_mode():
            return model(**read).logits.softmax(-1)[0, 1].item()

    pieces = {1: [a, b, c], 2: [a, b, c, f"{a} {b}", f"{b} {c}"]}
    pieces[3] = [*pieces[2], f"{a} {b} {c}"]
    for window, texts in pieces.items():
        best = max(texts, key=entailment)
        score = one(folder, window=window, output=claim, context=CONTEXT)
        assert score.value == pytest.approx(entailment(best), abs=2e-5)
        assert score.evidence[0]["best"] == best


def test_faithfulness_is_the_mean_and_does_not_depend_on_the_company(folder: Path) -> None:
    make_classifier(folder)
    claims = ["It is red.", "The arch is gold.", "So it has eight lanes."]
    alone = [one(folder, output=claim, context=CONTEXT).value for claim in claims]
    assert len(set(alone)) == 3
    together = one(folder, output=" ".join(claims), context=CONTEXT)
    assert [entry["support"] for entry in together.evidence] == alone
    assert together.value == pytest.approx(sum(alone) / 3, abs=1e-6)


def test_completeness_holds_key_points_against_the_output(folder: Path) -> None:
    model, tokenizer = make_classifier(folder)
    score = one(folder, "completeness", output="The arch is long.", reference="It is red.")
    read = tokenizer("The arch is long.", "It is red.", return_tensors="pt")
    with torch.inference_mode():
        expected = model(**read).logits.softmax(-1)[0, 1].item()
    assert score.value == pytest.approx(expected, abs=2e-5)


def test_a_long_context_is_read_whole_and_a_long_sentence_is_not_cut(folder: Path) -> None:
    make_classifier(folder, positions=24)
    filler = " ".join(f"The arch is long {'so ' * n}." for n in range(5))
    long = one(folder, output="It is red.", context=f"{filler} {CONTEXT}")
    assert long.value is not None
    assert long.value >= one(folder, output="It is red.", context=CONTEXT).value
    endless = one(folder, output="It is red.", context=f"{CONTEXT} The arch is {'so ' * 40}long.")
    assert endless.value is None
    assert "longer than the model reads" in (endless.reason or "")


def test_a_model_that_has_gone_wrong_gives_null(folder: Path) -> None:
    model, _ = make_classifier(folder)
    set_outcome(model, folder, [float("nan")] * 3)
    score = one(folder, output="It is red.", context=CONTEXT)
    assert score.value is None
    assert "not finite" in (score.reason or "")


def test_the_description_names_the_weights(folder: Path, tmp_path: Path) -> None:
    make_classifier(folder)
    described = get_scorer("faithfulness", backend="nli", model=str(folder)).describe()
    assert json.loads(json.dumps(described))["backend"]["name"] == "nli"
    model, _ = make_classifier(folder)
    set_outcome(model, folder, [0.0, 0.0, 0.0])
    assert get_scorer("faithfulness", backend="nli", model=str(folder)).describe() != described


def test_mistakes_name_the_way_out(folder: Path, tmp_path: Path) -> None:
    make_classifier(tmp_path / "sentiment", labels=("good", "bad"))
    make_classifier(folder)
    (tmp_path / "empty").mkdir()
    for options, message in (
        ({"model": str(tmp_path / "sentiment")}, "good, bad; exactly one must be called"),
        ({"model": str(tmp_path / "no" / "such")}, "neither a folder nor a hub id"),
        ({"model": str(tmp_path / "empty")}, "safetensors"),
        ({"model": 3}, "model"),
        ({"model": str(folder), "window": 0}, "window"),
        ({"model": str(folder), "windwo": 2}, "did you mean window"),
        ({}, "backend nli needs the option 'model'"),
    ):
        with pytest.raises(UsageError, match=message):
            get_scorer("faithfulness", backend="nli", **options)
    with pytest.raises(UsageError, match=r"answer_relevancy: the backend nli cannot judge"):
        get_scorer("answer_relevancy", backend="nli", model=str(folder))


def test_an_untrained_head_is_refused(folder: Path) -> None:
    from transformers import BertModel

    make_classifier(folder)
    config = json.loads((folder / "config.json").read_text())
    BertModel.from_pretrained(folder).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="not a trained classifier"):
        get_scorer("faithfulness", backend="nli", model=str(folder))


def test_score_through_the_command_line(folder: Path, cli: Cli) -> None:
    make_classifier(folder)
    row = {"id": "a", "output": "It is red.", "context": CONTEXT}
    Path("in.jsonl").write_text(json.dumps(row) + "\n")
    options = json.dumps({"model": str(folder)})
    scorer = f"{{name: faithfulness, backend: nli, options: {options}}}"
    done = cli("score", "in.jsonl", "--scorer", scorer)
    assert done.code == 0, done
    assert done.json["score"] == done.json["evidence"][0]["support"]
    assert done.json["evidence"][0]["best"] in CONTEXT
