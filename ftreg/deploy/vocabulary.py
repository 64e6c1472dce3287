"""A tokenizer in GGUF's terms: tokens, kinds, merges or scores, and the pre-tokenizer.

llama.cpp has its own tokenizers. Byte-level BPE is identified by the name of the pre-tokenizer's
expression; SentencePiece BPE by scores in the order of the merges.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from ftreg.errors import UsageError, shown
from ftreg.files.reading import LARGEST_RECORD, parse_json, read_text
from ftreg.files.store import damaged
from ftreg.models.chat_template import Chat, special_tokens

_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_OTHERS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*",
)
_SLASHED = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
WORD_CUTTERS = {
    rf"{_ENGLISH}|{_LETTERS}|\p{{N}}{{1,3}}|{_OTHERS}|{_SPACES}": "llama-bpe",
    rf"{_ENGLISH}|{_LETTERS}|\p{{N}}|{_OTHERS}|{_SPACES}": "qwen2",
    rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}|{_SLASHED}|{_SPACES}": "tekken",
    rf"{_CASED[0]}{_ENGLISH}?|{_CASED[1]}{_ENGLISH}?|\p{{N}}{{1,3}}|{_SLASHED}|{_SPACES}": "gpt-4o",
}
"""A pre-tokenizer's expression to llama.cpp's name for it."""
_SPACE = "▁"
_BYTE = 6
_UNMERGED = -1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """A tokenizer in GGUF's terms.

    `model` is `gpt2` (byte-level BPE) or `llama` (SentencePiece), `cutter` is llama.cpp's name of
    the pre-tokenizer, `kinds` are gguf's `TokenType`. It has either merges or scores.
    """

    model: str
    cutter: str
    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    scores: list[float]
    space_prefix: bool
    template: str
    ends: list[int]
    """Token ids that end an output, first the one that trained answers end with."""
    begin: int | None
    adds_begin: bool
    """Whether it is added before a chat; a template that starts with it then has it once."""
    pad: int | None
    unknown: int | None

    def describe(self, writer: gguf.GGUFWriter) -> None:
        """Write the tokenizer's keys."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.cutter)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.kinds)
        if self.model == "gpt2":
            writer.add_token_merges(self.merges)
        else:
            writer.add_token_scores(self.scores)
            writer.add_add_space_prefix(self.space_prefix)
        if self.begin is not None:
            writer.add_bos_token_id(self.begin)
        adders = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
        for add, token in zip(adders, self.ends, strict=False):
            add(token)
        for add, role in (
            (writer.add_pad_token_id, self.pad),
            (writer.add_unk_token_id, self.unknown),
        ):
            if role is not None:
                add(role)
        writer.add_add_bos_token(self.adds_begin)
        writer.add_add_eos_token(False)
        writer.add_chat_template(self.template)


def read_vocabulary(folder: Path, chat: Chat, *, rows: int, ends: list[int]) -> Vocabulary:
    """Read a tokenizer's files.

    Args:
        folder: contains `tokenizer.json`.
        chat: of the same folder; its template is included.
        rows: rows of the embedding; those beyond the last token get names that occur in no text.
        ends: token ids that end an output, first the one that trained answers end with.

    Raises:
        UsageError: llama.cpp does not support this kind of tokenizer; names what is missing.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UsageError(f"{path}: the tokenizer is missing; a GGUF needs it")
    text = read_text(path, most=LARGEST_RECORD, kind="tokenizer")
    settings = parse_json(text, place=str(path), first_line=1)
    with damaged(path, kind="tokenizer"):
        model = settings["model"]
        if model["type"] != "BPE":
            raise UsageError(
                f"{path}: the tokenizer is of type {model['type']}; GGUF export supports only BPE"
            )
        sentencepiece = bool(model.get("byte_fallback"))
        tokens, kinds = _tokens(settings, rows, place=path, sentencepiece=sentencepiece)
        merges = [item if isinstance(item, str) else " ".join(item) for item in model["merges"]]
        if not (sentencepiece or merges):
            raise UsageError(f"{path}: the tokenizer has no merges, which llama.cpp requires")
        cutter = "default" if sentencepiece else _cutter(settings, place=path)
    tokenizer = chat.tokenizer
    return Vocabulary(
        model="llama" if sentencepiece else "gpt2",
        cutter=cutter,
        tokens=tokens,
        kinds=kinds,
        merges=merges,
        scores=_scores(tokens, merges) if sentencepiece else [],
        space_prefix=sentencepiece and _prefixes_space(settings, chat),
        template=chat.source,
        ends=ends,
        begin=tokenizer.bos_token_id,
        adds_begin=_adds_begin(chat),
        pad=tokenizer.pad_token_id,
        unknown=tokenizer.unk_token_id,
    )


def _tokens(
    settings: dict[str, Any], rows: int, *, place: Path, sentencepiece: bool
) -> tuple[list[str], list[int]]:
    kinds = gguf.TokenType
    model = settings["model"]
    found: dict[int, tuple[str, int]] = {}
    for token, number in model["vocab"].items():
        byte = sentencepiece and len(token) == _BYTE and token.startswith("<0x")
        unknown = sentencepiece and token == model.get("unk_token")
        kind = kinds.BYTE if byte else kinds.UNKNOWN if unknown else kinds.NORMAL
        found[number] = (token, kind)
    for item in settings["added_tokens"]:
        kind = found.get(item["id"], ("", kinds.NORMAL))[1]
        if kind != kinds.UNKNOWN:
            kind = kinds.CONTROL if item["special"] else kinds.USER_DEFINED
        found[item["id"]] = (item["content"], kind)
    beyond = max(found, default=-1)
    if beyond >= rows:
        raise UsageError(
            f"{place}: the tokenizer has the token {beyond} ({shown(found[beyond][0])}), but the "
            f"model has only {rows} rows for tokens; it cannot answer a text with this token"
        )
    filled = [found.get(row, (f"[PAD{row}]", kinds.UNUSED)) for row in range(rows)]
    return [token for token, _ in filled], [int(kind) for _, kind in filled]


def _cutter(settings: dict[str, Any], *, place: Path) -> str:
    """Return llama.cpp's name of the pre-tokenizer."""
    step = settings["pre_tokenizer"] or {}
    steps = step["pretokenizers"] if step.get("type") == "Sequence" else [step]
    *first, last = steps
    if last.get("type") == "ByteLevel" and not last.get("add_prefix_space"):
        kinds = [each["type"] for each in first]
        own = last.get("use_regex", True)
        if own and not first:
            return "gpt-2"
        if own and kinds == ["Digits"] and first[0]["individual_digits"]:
            return "smollm"
        if not own and kinds == ["Split"] and first[0]["behavior"] == "Isolated":
            expression = first[0]["pattern"].get("Regex")
            if expression in WORD_CUTTERS and not first[0].get("invert"):
                return WORD_CUTTERS[expression]
    raise UsageError(
        f"{place}: llama.cpp does not support this tokenizer's pre-tokenizer: "
        f"{shown(json.dumps(step), most=300)}; `--to merged` writes a folder that llama.cpp's own "
        "converter may accept"
    )


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """Return a score for each token: the earlier the merge that forms it, the higher.

    llama.cpp merges the neighbours whose token has the highest score; the tokenizer merges those
    whose merge comes first.
    """
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault(pair.replace(" ", ""), rank)
    return [float(-ranks[token]) if token in ranks else _UNMERGED for token in tokens]


def _prefixes_space(settings: dict[str, Any], chat: Chat) -> bool:
    """Whether a text after a control token starts with an added space."""
    normalizer = settings.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    if any(step.get("type") == "Prepend" and step.get("prepend") == _SPACE for step in steps):
        return True
    step = settings.get("pre_tokenizer") or {}
    steps = step.get("pretokenizers", [step])
    schemes = [each.get("prepend_scheme") for each in steps if each.get("type") == "Metaspace"]
    if "first" in schemes:  # of the complete text, and a chat usually starts with a control token
        return not any(
            _rendered(chat).startswith(each) for each in special_tokens(chat.tokenizer).values()
        )
    return "always" in schemes


def _adds_begin(chat: Chat) -> bool:
    """Whether the tokenizer adds its first token itself, and chats have it."""
    begin = chat.tokenizer.bos_token_id
    own = list(chat.tokenizer.encode("a")) if begin is not None else []
    return own[:1] == [begin] and chat.encode(_rendered(chat))[:1] == [begin]


def _rendered(chat: Chat) -> str:
    return chat.render([{"role": "user", "content": "Hello"}], answer_next=True)
