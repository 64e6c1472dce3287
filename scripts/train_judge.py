"""Train the judge of the embedded backend: adapters on all-mpnet-base-v2, and two heads.

    python scripts/train_judge.py --data FOLDER --out FILE [--share 1.0]

`--data` has the labelled rows (train, dev, claims and qa as .jsonl) and `judge/context-once`, the
adapters from which training starts. Rule-made rows (`scripts/judge/`) are added, and functions with
their docstrings from pinned wheels. One epoch; the seed determines the rows and their order.
"""

import argparse
import json
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from judge.altered import SENTENCE, alterations, altered
from judge.everyday import notices
from judge.packed import ANSWERS, CLASSES, SUPPORTS, Row, answering, states, supporting
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel

from ftreg.data.builders import build_splits
from ftreg.models.packaged import packaged_folder
from ftreg.scoring.values import spelled
from ftreg.scoring.words import split_identifiers

CODE = Path(__file__).parent / "judge" / "code.yaml"
RANK, SEED = 32, 16
TOKENS, CLAIM, TEXT = 3072, 96, 208
LOWEST = 4
"""The lowest layer whose adapters are trained; those below are frozen."""
RATES = {"adapters": 2e-4, "heads": 5e-4}
WARM_UP = 0.03
LABELS = {"entailment": 0, "neutral": 1, "contradiction": 2, "not_entailment": 3}
WRONG = LABELS["not_entailment"]
SHARES = {
    "mnli": 0.25, "snli": 0.1, "cf_snli": 0.25, "fever": 0.12, "joci": 0.04, "breaking": 0.1,
    "conj": 0.1, "med": 0.3, "scitail": 0.25, "hans": 0.3, "qnli": 0.4, "negation_nli": 0.35,
    "fm2": 0.2, "fever_symmetric": 0.4, "folio": 0.15, "scone": 0.2, "strategyqa": 0.25,
    "boolq_dev": 0.4, "condaqa": 0.5, "pubmedqa": 0.25, "tweetqa": 0.4,
    "squad2": 0.5, "onestopqa": 0.4, "shifts_new_wiki": 0.3, "shifts_amazon": 0.3,
    "shifts_reddit": 0.3, "cosmosqa": 0.15, "covidqa": 0.2, "timeqa": 0.2, "fairytaleqa": 0.25,
    "xquad": 0.3,
    "medquad": 0.2, "nonanswer": 0.5, "truthfulqa_info": 0.35, "xstest": 0.5, "conala": 0.3,
    "nl2bash": 0.3, "nl2bash_judged": 0.3, "tldr": 0.3, "spider": 0.3,
}  # fmt: skip
"""Share of a source's texts used for training; sources not listed are used in full."""
EVERYDAY, ALTERED, FUNCTIONS = 3600, 1700, 1000
UNLICENSED = frozenset(f"{name}_contrast" for name in ("boolq", "drop", "quoref", "ropes"))
"""Sources without a licence file, which are left out."""
SHORT = 9
"""Most words of an answer that is judged as one statement with its question."""


@dataclass(frozen=True, slots=True)
class Item:
    """A text with claims, or (head `ANSWERS`) a question with answers, one row each."""

    text: str
    claims: tuple[tuple[str, int], ...]
    head: int
    source: str
    question: str | None = None


def statement(question: str, answer: str) -> str:
    """Return an answer's claim: the answer, after its question if the answer is short."""
    return f"{question} {answer}" if len(answer.split()) <= SHORT else answer


def read(data: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of `NAME.jsonl` in the folder."""
    with (data / f"{name}.jsonl").open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def labelled(rows: Iterable[dict[str, Any]]) -> Iterator[Item]:
    """Yield the human-labelled rows; those with the same text and question are one item."""
    groups: dict[tuple[str, str, str, int], list[tuple[str, int]]] = defaultdict(list)
    for row in rows:
        source = row["source"]
        if "premise" in row:
            head = ANSWERS if source == "qnli" else SUPPORTS
            label = LABELS[row["label"]]
            claim = (row["hypothesis"], int(label == 0) if head == ANSWERS else label)
            groups[source, row["premise"], "", head].append(claim)
        elif row["context"]:
            text = split_identifiers(row["context"]) if row["kind"] == "code" else row["context"]
            ask = "" if row["kind"] == "code" else row["question"]
            claim = (row["answer"], 0 if row["label"] == "right" else WRONG)
            groups[source, text, ask, SUPPORTS].append(claim)
        else:
            claim = (row["answer"], int(row["label"] == "right"))
            groups[source, row["question"], "", ANSWERS].append(claim)
    for (source, text, ask, head), claims in groups.items():
        yield Item(text, tuple(claims[:6]), head, source, ask or None)


def by_rule(texts: Sequence[str]) -> Iterator[Item]:
    """Yield rule-made items, and questions with answers of the wrong kind."""
    made = [*notices(EVERYDAY, seed=SEED), *altered(texts, ALTERED, seed=SEED)]
    pick = random.Random(SEED)
    asked = [notice for notice in made if notice.question]
    for notice in made:
        claims = tuple((claim, LABELS[label]) for claim, label in notice.claims)
        yield Item(notice.text, claims, SUPPORTS, f"made {notice.kind}", notice.question)
    for notice in pick.sample(asked, min(900, len(asked))):
        assert notice.question
        other = pick.choice([o for o in asked if o.kind != notice.kind])
        answers = [(notice.claims[0][0], 1), (other.claims[0][0], 0), (notice.question, 0)]
        yield Item(notice.question, tuple(answers), ANSWERS, "made answers")


def functions() -> Iterator[Item]:
    """Yield functions with their docstring, a neighbour's, and one with a single change."""
    with tempfile.TemporaryDirectory() as folder:
        written = build_splits(CODE, Path(folder))["train"]
        rows = [json.loads(line) for line in written.read_text("utf-8").splitlines()]
    near: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        near[row["tags"]["module"]].append(row["reference"])
    pick = random.Random(SEED)
    for row in rows[:FUNCTIONS]:
        own, code = row["reference"], split_identifiers(row["input"])
        others = [text for text in near[row["tags"]["module"]] if text != own]
        other = pick.choice(others or [pick.choice(rows)["reference"]])
        wrong = [claim for claim, label in alterations(own, own, pick) if label != "entailment"]
        claims = [(own, 0), (other, WRONG), *((claim, WRONG) for claim in wrong[:1])]
        claims = [(split_identifiers(claim), label) for claim, label in claims]
        yield Item(code, tuple(claims), SUPPORTS, "functions")
        if pick.random() < 0.4:
            yield Item(code, ((claims[0][0], 1), (claims[1][0], 0)), ANSWERS, "functions")


class Adapted(nn.Module):
    """A linear layer W with low-rank adapters: W x + B (A x)."""

    def __init__(self, linear: nn.Linear, *, trained: bool) -> None:
        super().__init__()
        self.linear = linear
        down = torch.randn(RANK, linear.in_features) / linear.in_features**0.5
        self.A = nn.Parameter(down, requires_grad=trained)
        self.B = nn.Parameter(torch.zeros(linear.out_features, RANK), requires_grad=trained)

    @property
    def weight(self) -> Tensor:
        """The layer's own weight W, without adapters."""
        return self.linear.weight

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, in the dtype of its frozen weights."""
        low = nn.functional.linear(x, self.A.to(x.dtype))
        return self.linear(x) + nn.functional.linear(low, self.B.to(x.dtype))


class Judge(nn.Module):
    """The network with adapters and heads; frozen linear weights are bf16, norms fp32."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(
            folder, add_pooling_layer=False, use_safetensors=True
        )
        self.encoder.requires_grad_(False)
        for name, module in list(self.encoder.named_modules()):
            if isinstance(module, nn.Linear):
                module.to(torch.bfloat16)
                parent, _, leaf = name.rpartition(".")
                adapted = Adapted(module, trained=int(name.split(".")[2]) >= LOWEST)
                setattr(self.encoder.get_submodule(parent), leaf, adapted)
        width = self.encoder.config.hidden_size
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, count))
            for count in CLASSES
        )

    def load(self, path: Path) -> None:
        """Load adapters and heads from a safetensors file."""
        names = {name.removeprefix("enc."): value for name, value in load_file(path).items()}
        own = {
            name if name.startswith("heads") else f"encoder.{name}": value.float()
            for name, value in names.items()
        }
        unknown = self.load_state_dict(own, strict=False).unexpected_keys
        assert not unknown, unknown

    def save(self, path: Path) -> None:
        """Save adapters and heads to a safetensors file, in bf16."""
        kept = {
            name.removeprefix("encoder."): value.detach().bfloat16().contiguous()
            for name, value in self.state_dict().items()
            if name.endswith((".A", ".B")) or name.startswith("heads")
        }
        save_file(kept, path)

    def forward(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Return both heads' logits, shapes (claims of all rows, 3) and (..., 2)."""
        pooled = states(self.encoder, rows)
        return self.heads[0](pooled), self.heads[1](pooled)


class Packer:
    """Converts items to rows."""

    def __init__(self, folder: Path, others: Sequence[str]) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.others = others
        self.pick = random.Random(SEED)

    def ids(self, text: str, most: int) -> list[int]:
        """Return at most `most` token ids of a text, with values spelled as the judge expects."""
        return self.tokenizer.encode(spelled(text), add_special_tokens=False).ids[:most]

    def rows(self, item: Item) -> list[tuple[Row, int, tuple[int, ...]]]:
        """Return rows with their head and labels; a short text may be mixed with other texts."""
        if item.head == ANSWERS:
            question = self.ids(item.text, TEXT)
            return [
                (answering(question, self.ids(claim, CLAIM)), ANSWERS, (label,))
                for claim, label in item.claims
            ]
        text, ask = item.text, item.question
        if len(text.split()) < 60 and self.pick.random() < 0.25:
            around = self.pick.sample(self.others, self.pick.randint(1, 4))
            around.insert(self.pick.randint(0, len(around)), text)
            text = " ".join(around)
        claims = [statement(ask, claim) if ask else claim for claim, _ in item.claims]
        shown = ask if ask and self.pick.random() < 0.85 else None
        if not ask and item.source != "functions" and self.pick.random() < 0.1:
            shown = self.pick.choice(self.others)[:100]
        ids = self.ids(text, TEXT)
        if shown:
            ids = [*self.ids(shown, 64), 2, 2, *ids]
        own = [self.ids(claim, CLAIM) for claim in claims]
        return [(supporting(ids, own), SUPPORTS, tuple(label for _, label in item.claims))]


def batches(rows: Sequence[tuple[Row, int, Any]], pick: random.Random) -> list[list[int]]:
    """Return batches of indices of rows of similar length, at most `TOKENS` with padding."""
    order = list(range(len(rows)))
    pick.shuffle(order)
    found: list[list[int]] = []
    for start in range(0, len(order), 4096):
        batch: list[int] = []
        for place in sorted(order[start : start + 4096], key=lambda place: len(rows[place][0])):
            if batch and len(rows[place][0]) * (len(batch) + 1) > TOKENS:
                found.append(batch)
                batch = []
            batch.append(place)
        found.append(batch)
    pick.shuffle(found)
    return found


def losses(logits: tuple[Tensor, Tensor], labels: Tensor, heads: Tensor) -> Tensor:
    """Return each claim's cross-entropy, shape (claims,).

    `not_entailment` is neutral or contradiction.
    """
    support = logits[0].float().log_softmax(-1)
    rest = support[:, 1:].logsumexp(-1)
    own = support.gather(1, labels.clamp(max=2)[:, None])[:, 0]
    of_support = -torch.where(labels == WRONG, rest, own)
    of_answer = -logits[1].float().log_softmax(-1).gather(1, labels.clamp(max=1)[:, None])[:, 0]
    return torch.where(heads == SUPPORTS, of_support, of_answer)


def labels_of(batch: Sequence[tuple[Row, int, tuple[int, ...]]]) -> tuple[Tensor, Tensor]:
    """Return the label and the head of each claim of a batch, shape (claims,) each."""
    labels = [label for _, _, own in batch for label in own]
    heads = [head for _, head, own in batch for _ in own]
    return torch.tensor(labels), torch.tensor(heads)


@torch.inference_mode()
def examine(judge: Judge, packer: Packer, items: Sequence[Item]) -> dict[str, str]:
    """Return the accuracy (supported or not, answers or not) by source, as text."""
    made = [(item.source, *row) for item in items for row in packer.rows(item)]
    rows = [(row, head, labels) for _, row, head, labels in made]
    right: dict[str, list[bool]] = defaultdict(list)
    for places in batches(rows, random.Random(0)):
        logits = judge([rows[place][0] for place in places])
        labels, heads = labels_of([rows[place] for place in places])
        said = logits[0].softmax(-1)[:, 0] > 0.5
        found = torch.where(
            heads == SUPPORTS, said == (labels == 0), logits[1].argmax(-1) == labels
        )
        sources = [made[place][0] for place in places for _ in made[place][3]]
        for source, good in zip(sources, found.tolist(), strict=True):
            right[source].append(good)
    return {name: f"{sum(v) / len(v):.3f} of {len(v)}" for name, v in sorted(right.items())}


def held(item: Item) -> bool:
    """Whether an item is held out: 2 % of the texts."""
    return sum(map(ord, item.text[:60])) % 50 == 0


def main() -> None:
    """Train, write the weights, and print the accuracy by source."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled rows")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--base", type=Path, help="all-mpnet-base-v2; the packaged one if left out")
    parser.add_argument("--share", type=float, default=1.0, help="share of the items to take")
    parser.add_argument("--examine", action="store_true", help="do not train: examine --out")
    arguments = parser.parse_args()
    folder = arguments.base or packaged_folder("all-mpnet-base-v2")
    torch.manual_seed(SEED)
    rows = [
        row
        for name in ("train", "claims", "qa")
        for row in read(arguments.data, name)
        if row["source"] not in UNLICENSED
    ]
    people = list(labelled(rows))
    dev = [*labelled(read(arguments.data, "dev")), *(item for item in people if held(item))]
    pick = random.Random(SEED)
    people = [
        item for item in people if not held(item) and pick.random() < SHARES.get(item.source, 1)
    ]
    texts = sorted(
        {i.text for i in people if i.head == SUPPORTS and len(SENTENCE.split(i.text)) > 1}
    )
    pick.shuffle(texts)
    made = [*by_rule(texts), *functions()]
    items = [*people, *(item for item in made if not held(item))]
    dev += [item for item in made if held(item)]
    pick.shuffle(items)
    items = items[: int(len(items) * arguments.share)]
    short = [text for item in people if 8 < len((text := item.text).split()) < 40]
    packer = Packer(folder, short)
    judge = Judge(folder)
    if arguments.examine:
        judge.load(arguments.out)
    else:
        judge.load(arguments.data / "judge" / "context-once.safetensors")
        train(judge, [row for item in items for row in packer.rows(item)], arguments.out)
    for name, share in examine(judge, packer, pick.sample(dev, min(len(dev), 2500))).items():
        print(f"{name:24} {share}", flush=True)


def train(judge: Judge, rows: Sequence[tuple[Row, int, tuple[int, ...]]], out: Path) -> None:
    """Train for one epoch; saves the weights every 100 steps and at the end."""
    plan = batches(rows, random.Random(SEED))
    claims = sum(len(labels) for _, _, labels in rows)
    print(f"{len(rows)} rows, {claims} claims, {len(plan)} steps", flush=True)
    adapters = [p for p in judge.encoder.parameters() if p.requires_grad]
    groups = [
        {"params": adapters, "rate": RATES["adapters"]},
        {"params": list(judge.heads.parameters()), "rate": RATES["heads"]},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.01, fused=True)
    started, seen, smooth = time.monotonic(), 0, 0.0
    for step, places in enumerate(plan):
        done = step / len(plan)
        factor = min(1.0, done / WARM_UP) * (1 - done)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        batch = [rows[place] for place in places]
        labels, heads = labels_of(batch)
        loss = losses(judge([row for row, _, _ in batch]), labels, heads).mean()
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += len(labels)
        smooth = loss.item() if not step else 0.98 * smooth + 0.02 * loss.item()
        if step % 20 == 0:
            rate = seen / (time.monotonic() - started)
            print(f"step {step} loss {smooth:.3f}, {seen} claims, {rate:.1f}/s", flush=True)
        if step % 100 == 99:
            judge.save(out)
    judge.save(out)


if __name__ == "__main__":
    main()
