"""Support as entailment, by any cross-encoder that tells entailment from the rest.

As SummaC does (Laban et al. 2022, arXiv 2111.09525): the text is cut, each piece is a premise, and
a point's support is the largest p(entailment) over the pieces. A piece is a sentence or a few in a
row, since a claim may rest on two; so a context of any length fits, whatever the model reads.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from ftreg.errors import UsageError, first_line
from ftreg.models.pretrained import weights_digest
from ftreg.scoring.claims import passages
from ftreg.scoring.protocol import BackendError, Inquiry, Relation, Support
from ftreg.scoring.words import without_surrogates
from ftreg.services.hub import why_not_given

_VERSION = 1
_BATCH = 32
_LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)
_FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]  # all that is needed, and no pickle
_ENOUGH_FOR_ANY_MODEL = 1 << 20

_Pair = tuple[str, str]


class NliBackend:
    """Judges points by the probability that the text entails them.

    Args:
        model: a folder, or a Hugging Face hub id, of a sequence-classification model in
            safetensors, one of whose labels is `entailment`.
        window: most sentences of a piece of text.

    Raises:
        UsageError: no such model, no such label, weights that do not fit, or a window below 1.
    """

    relations = (Relation.SUPPORTED, Relation.COVERED)

    def __init__(self, model: str, window: int) -> None:
        if not isinstance(model, str | Path) or not str(model).strip():
            raise UsageError(f"nli: model must be a folder or a hub id, found {model!r}")
        if isinstance(window, bool) or not isinstance(window, int) or window < 1:
            raise UsageError(f"nli: window must be a whole number from 1 on, found {window!r}")
        self._window = window
        self._name = str(model)
        folder = _folder(self._name)
        self._digest = weights_digest(folder)
        self._tokenizer, self._model = _load(folder)
        self._entailment = _entailment_of(folder, self._model.config)
        self._longest = _longest(self._tokenizer, self._model.config)

    def describe(self) -> dict[str, Any]:
        """Return name, version, the model's identity and how texts are cut."""
        return {
            "name": "nli",
            "version": _VERSION,
            "model": {"name": self._name, "digest": self._digest},
            "window": self._window,
        }

    def judge(
        self, relation: Relation, inquiries: Sequence[Inquiry]
    ) -> list[list[Support] | BackendError]:
        """Return the entailment of each point of each inquiry, in order."""
        pieces = [_pieces(inquiry.text, self._window) for inquiry in inquiries]
        wanted = {
            (piece, point)
            for inquiry, own in zip(inquiries, pieces, strict=True)
            for piece in own
            for point in inquiry.statements
        }
        found = self._entailments(sorted(wanted))
        return [
            _findings(inquiry, own, found) for inquiry, own in zip(inquiries, pieces, strict=True)
        ]

    def _entailments(self, pairs: Sequence[_Pair]) -> dict[_Pair, float]:
        """Return p(entailment) of each (premise, hypothesis); pairs that are too long are left out.

        Only pairs of one token count share a batch, so that nothing is padded and a probability
        does not depend on what it is batched with, bar the last bits, which are rounded off.
        """
        groups: dict[int, list[tuple[_Pair, dict[str, Any]]]] = {}
        for pair in pairs:
            read = self._tokenizer(*map(without_surrogates, pair), return_tensors="pt")
            length = read["input_ids"].shape[1]
            if length <= self._longest:
                groups.setdefault(length, []).append((pair, read))
        found: dict[_Pair, float] = {}
        with torch.inference_mode():
            for group in groups.values():
                for start in range(0, len(group), _BATCH):
                    batch = group[start : start + _BATCH]
                    inputs = {
                        key: torch.cat([read[key] for _, read in batch]) for key in batch[0][1]
                    }
                    logits = self._model(**inputs).logits.float()
                    chances = logits.softmax(-1)[:, self._entailment].tolist()
                    found.update(zip((pair for pair, _ in batch), chances, strict=True))
        return found


def _findings(
    inquiry: Inquiry, pieces: Mapping[str, bool], found: Mapping[_Pair, float]
) -> list[Support] | BackendError:
    if not pieces:
        return BackendError("the text to judge by is empty")
    supports = []
    for point in inquiry.statements:
        if any(alone and (piece, point) not in found for piece, alone in pieces.items()):
            return BackendError("a point and a sentence are together longer than the model reads")
        # Rounded before they are compared, so that the same piece wins in any company.
        chances = {
            piece: round(found[piece, point], 5) for piece in pieces if (piece, point) in found
        }
        if not all(0 <= chance <= 1 for chance in chances.values()):  # false for NaN
            return BackendError("the model returned a number that is not finite")
        best = max(chances, key=chances.__getitem__)
        supports.append(Support(chances[best], best))
    return supports


def _pieces(text: str, window: int) -> dict[str, bool]:
    """Return every run of up to `window` sentences, and whether it is one sentence alone."""
    sentences = passages(text)
    runs = [
        " ".join(sentences[start : start + length])
        for length in range(2, window + 1)
        for start in range(len(sentences) - length + 1)
    ]
    return dict.fromkeys(runs, False) | dict.fromkeys(sentences, True)


def _folder(model: str) -> Path:
    folder = Path(os.path.expanduser(model))
    if folder.is_dir():
        return folder
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise UsageError(
            f"nli: model: {model} is neither a folder nor a hub id of the form org/name"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=_FILES))
    except Exception as error:  # the hub client raises a family of errors of three libraries
        way_out = "\n  Give a folder where there is no network."
        why = why_not_given(error, model, revision=None, network=way_out)
        raise UsageError(f"nli: model: cannot get {model} from the hub: {why}") from error


def _load(folder: Path) -> tuple[Any, Any]:
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, found = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except _LOADING_ERRORS as error:
        raise UsageError(f"nli: {folder}: cannot load the model: {first_line(error)}") from error
    # A head that the file lacks would be filled with random numbers, and score at random.
    missing = sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]]))
    if missing:
        raise UsageError(
            f"nli: {folder}: not a trained classifier: the weights lack {missing[0]}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}"
        )
    return tokenizer, model.eval()


def _entailment_of(folder: Path, config: Any) -> int:
    labels = {int(index): str(name) for index, name in config.id2label.items()}
    found = [index for index, name in labels.items() if name.strip().casefold() == "entailment"]
    if len(found) != 1:
        raise UsageError(
            f"nli: {folder}: the labels of this model are {', '.join(labels.values())}; exactly "
            "one must be called entailment (id2label in config.json)"
        )
    return found[0]


def _longest(tokenizer: Any, config: Any) -> int:
    """Return the most tokens of a pair; RoBERTa's positions begin after the padding index."""
    positions = getattr(config, "max_position_embeddings", None) or _ENOUGH_FOR_ANY_MODEL
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= (config.pad_token_id or 0) + 1
    return int(min(tokenizer.model_max_length, positions))


def make_nli(*, model: str, window: int = 2) -> NliBackend:
    """Make a backend from the options of a configuration; see `NliBackend`."""
    return NliBackend(model, window)
