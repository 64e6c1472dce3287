"""A language model as the judge, behind any endpoint that speaks OpenAI's chat API.

A point gets a verdict, 1 or 0, so that a score is a share: supported claims over claims (as in
FActScore, Min et al. 2023, arXiv 2305.14251, and RAGAS, Es et al. 2023, arXiv 2309.15217). One
request asks for all points of an output; the answer is validated, and what cannot be had is null.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import Any

from pydantic import ValidationError

from ftreg.files.cache.table import Table
from ftreg.files.store import canonical_json, digest
from ftreg.records.thought_tags import answer_of
from ftreg.scoring.backends.judge_prompt import PROMPT_VERSION, Part, Question, Strict
from ftreg.scoring.protocol import BackendError, Inquiry, Relation, Support
from ftreg.services.chat.client import ChatClient, ChatError
from ftreg.services.chat.endpoint import Endpoint
from ftreg.services.chat.wire import Usage

_VERSION = 3
_ASKED = 2
"""How often a question is asked whose answer is not of the form that was asked for."""
_FENCED = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)
_FENCE = re.compile(r"^[ \t]*```(?:json)?[ \t]*\n(.*?)\n[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)
_THOUGHTS_END = re.compile(r"</think>", re.IGNORECASE)

_NO_ANSWER = {
    "length": "the judge's answer was cut off; raise the option max_tokens",
    "content_filter": "the content filter of the judge's server held its answer back",
}
"""Why there is no answer, by the reason that a server gives for its end."""
_ONLY_THOUGHTS = "it has thoughts but no answer"

_TASKS = {
    Relation.SUPPORTED: (
        "SOURCE",
        "For each numbered claim, say whether the source supports it: true only if everything "
        "that the claim says follows from the source alone; false if any part of it is "
        "contradicted, or is not said there, however true it may be elsewhere.",
    ),
    Relation.COVERED: (
        "OUTPUT",
        "For each numbered key point, say whether the output conveys it: true only if a reader of "
        "the output alone learns all of the key point, in whatever words; false if a part is "
        "missing or is stated otherwise.",
    ),
    Relation.RELEVANT: (
        "REQUEST",
        "For each numbered statement, say whether it helps to answer the request: true if it "
        "answers the request or a part of it, be it right or wrong; false if it speaks of "
        "something else, or only says the request again.",
    ),
}
_FORM = (
    '{"verdicts": [{"point": 1, "explanation": "one sentence", "quote": "the words of the text '
    'that decide, copied exactly, or empty", "verdict": true}, ...]}\n'
    "with one entry for each of the numbered points, in order."
)


Check = Callable[[Question, Any], str | None]
"""Looks at a well-formed answer, and returns what is wrong with it, or None."""


class Verdicts(Strict):
    """The findings on all points of one inquiry."""

    class Verdict(Strict):
        """The finding on one point."""

        point: int
        explanation: str
        quote: str
        verdict: bool

    verdicts: list[Verdict]


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """A valid answer, and what it took: tokens, and whether it came from the cache.

    `left_out` names what the request lacked since the server refuses it.
    """

    answer: Strict
    usage: Usage
    cached: bool
    left_out: tuple[str, ...] = ()

    def cost(self) -> dict[str, Any]:
        """Return the cost as evidence, JSON-ready."""
        lacked = {"left_out": list(self.left_out)} if self.left_out else {}
        return {**self.usage.model_dump(), "cached": self.cached, **lacked}


class JudgeBackend:
    """Judges points by asking a language model.

    Args:
        options: endpoint, model and limits.

    Raises:
        UsageError: nobody answers at the endpoint, or it refuses the key or the model.
    """

    def __init__(self, options: Endpoint) -> None:
        self._options = options
        self._client = ChatClient(options)
        self._client.look()
        self._refused = self._client.left_out
        self._answers = Table("judge", canonical_json(self.describe()))

    def describe(self) -> dict[str, Any]:
        """Return name, version, endpoint, model and limit: all that may change a verdict.

        Limit or temperature is None where the endpoint refused it when it was asked for first.
        """
        return {
            "name": "judge",
            "version": _VERSION,
            "base_url": self._options.base_url,
            "model": self._options.model,
            "max_tokens": None if "max_tokens" in self._refused else self._options.max_tokens,
            "temperature": None if "temperature" in self._refused else 0,
            "prompt": PROMPT_VERSION,
        }

    def judge(
        self, relation: Relation, inquiries: Sequence[Inquiry]
    ) -> list[list[Support] | BackendError]:
        """Return a verdict for each point of each inquiry, in order."""
        label, task = _TASKS[relation]
        questions = [
            Question(
                task,
                _FORM,
                [
                    Part(label, inquiry.text),
                    *(Part(f"POINT {n}", text) for n, text in enumerate(inquiry.statements, 1)),
                ],
                Verdicts,
                {"verdicts": dict.fromkeys(("minItems", "maxItems"), len(inquiry.points))},
            )
            for inquiry in inquiries
        ]
        return [
            found if isinstance(found, BackendError) else _supports(relation, inquiry, found)
            for inquiry, found in zip(
                inquiries, self.ask(questions, check=_one_verdict_each), strict=True
            )
        ]

    def ask(
        self, questions: Sequence[Question], *, check: Check
    ) -> list[JudgedAnswer | BackendError]:
        """Return an answer to each question, in order, several at a time.

        Args:
            questions: what to ask.
            check: says what is wrong with a well-formed answer to a question, or None.
        """
        if not questions:
            return []

        def one(question: Question) -> JudgedAnswer | BackendError:
            return self._one(question, check)

        workers = min(self._options.concurrency, len(questions))
        with ThreadPool(workers) as pool:  # its threads end with the process; an executor's do not
            return list(pool.imap(one, questions))

    def _one(self, question: Question, check: Check) -> JudgedAnswer | BackendError:
        key = digest(question.identity())
        kept = self._answers.get_many([key]).get(key)
        if kept is not None:
            answer = _read(question, kept.decode(), check)
            if isinstance(answer, Strict):
                return JudgedAnswer(answer, Usage(), cached=True)
        spent = Usage()
        fault = ""
        for _ in range(_ASKED):
            try:
                reply = self._client.ask(question.messages(), question.schemas())
            except ChatError as error:
                return _failed(str(error), spent + (error.usage or Usage()))
            spent += reply.usage or Usage()
            if reply.finish in _NO_ANSWER:
                return _failed(_NO_ANSWER[reply.finish], spent)
            answer = _read(question, reply.text, check)
            if isinstance(answer, Strict):
                self._answers.put_many({key: reply.text.encode()})
                return JudgedAnswer(answer, spent, cached=False, left_out=reply.left_out)
            only_thoughts = reply.thought and not reply.text.strip()
            fault = _ONLY_THOUGHTS if only_thoughts else answer
        return _failed(f"the judge's answer is of no use: {fault}", spent)


def _failed(reason: str, spent: Usage) -> BackendError:
    """Return a failure, with the tokens that it took nevertheless."""
    took = spent.prompt_tokens or spent.completion_tokens
    return BackendError(reason, {"judge": {**spent.model_dump(), "cached": False}} if took else {})


def make_judge(
    *,
    base_url: str,
    model: str,
    api_key_env: str | None = None,
    timeout: float = 60.0,
    max_retries: int = 5,
    concurrency: int = 4,
    max_tokens: int = 2048,
) -> JudgeBackend:
    """Make a judge from the options of a configuration.

    Args:
        base_url: where `/chat/completions` lies below, `https://host/v1`.
        model: the name that the server knows the model by.
        api_key_env: the name of the environment variable that holds the key; None sends none.
        timeout: seconds that one attempt may take.
        max_retries: attempts after the first, on 408, 429, 5xx, timeouts and cut connections.
        concurrency: requests under way at once.
        max_tokens: most tokens of one answer.

    Raises:
        UsageError: an option does not fit, or nobody answers at the endpoint.
    """
    return JudgeBackend(
        Endpoint(base_url, model, api_key_env, timeout, max_retries, concurrency, max_tokens)
    )


def _read(question: Question, text: str, check: Check) -> Strict | str:
    """Return the answer that a text is, or what is wrong with it.

    The text must be the object and nothing else, bar thoughts before it, and prose around a code
    fence: an object that is merely quoted from an output is not the judge's.
    """
    if not text.strip():
        return "it is empty"
    if not answer_of(text).strip():
        return _ONLY_THOUGHTS
    faults = []
    for bare in _objects(question, text):
        try:
            answer = question.answer.model_validate_json(bare)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            faults.append(f"{place}: {first['msg']}" if place else first["msg"])
            continue
        fault = check(question, answer)
        if fault is None:
            return answer
        faults.append(fault)
    return faults[-1]


def _objects(question: Question, text: str) -> Iterator[str]:
    """Yield what may be the answer's object.

    The text itself comes first, since a quote in it may well have a tag of thoughts; these end at
    their first closing tag, or at their last if they speak of tags.
    """
    first_end = _THOUGHTS_END.split(text, maxsplit=1)[-1]
    for answer in dict.fromkeys(part.strip() for part in (text, first_end, answer_of(text))):
        fenced = _FENCED.match(answer)
        yield fenced.group(1) if fenced else answer
        fences = _FENCE.findall(answer)
        if not fenced and len(fences) == 1:
            inner = _plain(fences[0])
            if not any(inner in _plain(part.text) for part in question.parts):
                yield fences[0]


def _one_verdict_each(question: Question, answer: Any) -> str | None:
    expected = list(range(1, len(question.parts)))
    found = sorted(verdict.point for verdict in answer.verdicts)
    return None if found == expected else f"verdicts on the points {found}, not on {expected}"


def _supports(relation: Relation, inquiry: Inquiry, finding: JudgedAnswer) -> list[Support]:
    assert isinstance(finding.answer, Verdicts)
    verdicts = sorted(finding.answer.verdicts, key=lambda verdict: verdict.point)
    text = _plain(inquiry.text)
    supports = []
    for place, verdict in enumerate(verdicts):
        quote = verdict.quote.strip()
        found = bool(quote) and _plain(quote) in text
        # Said of a verdict, not held against it: a judge may quote loosely and judge well.
        made_up = relation is not Relation.RELEVANT and bool(quote) and not found
        details = {"explanation": verdict.explanation}
        supports.append(
            Support(
                float(verdict.verdict),
                quote if found else None,
                ("quote",) if made_up else (),
                {**details, "judge": finding.cost()} if place == 0 else details,
            )
        )
    return supports


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
