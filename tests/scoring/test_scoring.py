import json
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftreg.errors import UsageError
from ftreg.records.thought_tags import answer_of
from ftreg.scoring import Sample, Score, get_scorer
from ftreg.scoring.answers import normalize
from ftreg.scoring.backends.embedded import EmbeddedBackend, Weights, load_weights
from ftreg.scoring.backends.evidence import common_subsequence
from ftreg.scoring.claims import MAX_WORDS, claims, is_code, passages, sentences
from ftreg.scoring.equals import parse_number
from ftreg.scoring.facts import names, numbers
from ftreg.scoring.protocol import BackendError, Inquiry, Relation
from ftreg.scoring.words import content_words, words
from tests.scoring_fakes import (
    HashedWords,
    NotFinite,
    NotFiniteWords,
    PlainScorer,
    SharedWords,
    embedded,
)

NAMES = ("faithfulness", "answer_relevancy", "completeness", "equals")
CONTEXT = (
    "The Harbour Bridge was opened in 1932 by Premier Jack Lang. "
    "It carries eight lanes of road traffic and two railway tracks. "
    "The steel arch is 503 metres long and was built by Dorman Long."
)
CODE = '''def get_user_names(users, active_only=True):
    """Return the sorted names of users."""
    result = [u.name for u in users if u.is_active or not active_only]  # skip the inactive
    return sorted(result)
'''

text = st.text(max_size=120)
prose = st.lists(
    st.sampled_from(
        ["The bridge opened in 1932.", "It has 8 lanes!", "Not so.", "Jack Lang spoke?", "a b", ""]
    ),
    max_size=4,
).map(" ".join)


@pytest.fixture(scope="module")
def backend():
    return embedded()


def one(scorer, **fields):
    fields = {"id": "1", "input": "", "output": ""} | fields
    return scorer.score([Sample(**fields)])[0]


# Making scorers


@pytest.mark.parametrize("name", NAMES)
def test_every_scorer_describes_itself_as_json(name, backend):
    scorer = get_scorer(name, backend=backend)
    identity = json.loads(json.dumps(scorer.describe()))
    assert (identity["name"], identity["version"]) == (scorer.name, scorer.version)
    assert isinstance(scorer.version, int)
    if name != "equals":
        assert identity["backend"]["model"] == {"name": "hashed-words", "digest": "0"}


def test_the_description_changes_with_options_and_coefficients(backend):
    assert get_scorer("equals").describe() != get_scorer("equals", mode="exact").describe()
    other = dict(load_weights())
    for relation, entry in other.items():
        other[relation] = Weights(0.5, entry.weights)
    changed = EmbeddedBackend(SharedWords(), HashedWords(), weights=other)
    assert changed.describe() != backend.describe()


def test_ground_truth_match_is_equals():
    assert get_scorer("ground_truth_match").describe() == get_scorer("equals").describe()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("faithfulnes", {}, "did you mean faithfulness"),
        ("equals", {"tolerence": 1.0}, "did you mean tolerance"),
        ("equals", {"mode": "exat"}, "did you mean exact"),
        ("equals", {"tolerance": -1.0}, "tolerance"),
        ("equals", {"tolerance": "wide"}, "tolerance"),
        ("equals", {"separator": ""}, "separator"),
        ("equals", {"backend": "embeded"}, "did you mean embedded"),
        ("faithfulness", {"backend": "embeded"}, "did you mean embedded"),
        ("answer_relevancy", {"source": "input"}, "no option 'source'"),
        ("no.such.module:factory", {}, "cannot import"),
        ("tests.scoring_fakes:plain_factory", {"wrod": "x"}, "did you mean word"),
        ("tests.scoring_fakes:WIDTH", {}, "not a scorer"),
    ],
)
def test_mistakes_name_the_way_out(name, options, message):
    with pytest.raises(UsageError, match=message):
        get_scorer(name, **options)


def test_sources_are_checked(backend):
    with pytest.raises(UsageError, match="did you mean context"):
        get_scorer("faithfulness", backend=backend, source="contxt")
    with pytest.raises(UsageError, match="did you mean reference"):
        get_scorer("completeness", backend=backend, source="refrence")


def test_a_scorer_of_the_users_own():
    scorer = get_scorer("tests.scoring_fakes:plain_factory", word="yes")
    assert isinstance(scorer, PlainScorer)
    assert scorer.word == "yes"


def test_importing_and_equals_load_no_model_library():
    program = (
        "import sys; from ftreg.scoring import Sample, get_scorer;"
        "get_scorer('equals').score([Sample(id='1', input='', output='a', reference='a')]);"
        "print([m for m in ('torch', 'transformers', 'scipy', 'sentence_transformers', 'evaluate')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# What every scorer promises


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(text | prose, text | prose, text | prose, text | prose), max_size=5))
def test_any_text_gives_a_value_or_a_reason(name, backend, rows):
    samples = [
        Sample(id=str(place), input=a, output=b, reference=c, context=d)
        for place, (a, b, c, d) in enumerate(rows)
    ]
    scores = get_scorer(name, backend=backend).score(samples)
    assert len(scores) == len(samples)
    for score in scores:
        assert isinstance(score, Score)  # which refuses NaN and values outside [0, 1]
        json.dumps(score.evidence, allow_nan=False)
        for entry in score.evidence:
            assert 0 <= entry["support"] <= 1


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(prose, prose, prose), min_size=2, max_size=6), st.randoms())
def test_batch_and_order_do_not_matter(name, rows, order):
    samples = [
        Sample(id=str(place), input=a, output=b, reference=c, context=c)
        for place, (a, b, c) in enumerate(rows)
    ]
    together = get_scorer(name, backend=embedded()).score(samples)
    shuffled = list(range(len(samples)))
    order.shuffle(shuffled)
    scorer = get_scorer(name, backend=embedded())
    alone = {place: scorer.score([samples[place]])[0] for place in shuffled}
    assert together == [alone[place] for place in range(len(samples))]


@pytest.mark.parametrize("name", ["faithfulness", "answer_relevancy", "completeness"])
def test_a_failing_model_gives_null_and_no_lesser_score(name):
    scorer = get_scorer(name, backend=embedded(NotFinite()))
    score = one(scorer, input="What is it?", output="It is so.", reference="So.", context="So.")
    assert score.value is None
    assert "not finite" in score.reason


def test_each_text_is_encoded_once():
    embedder = HashedWords()
    shared_backend = embedded(embedder)
    sample = Sample(id="1", input=CONTEXT, output=CONTEXT, reference=CONTEXT, context=CONTEXT)
    for name in ("faithfulness", "completeness", "faithfulness"):
        get_scorer(name, backend=shared_backend).score([sample, sample])
    encoded = [text for call in embedder.calls for text in call]
    assert len(encoded) == len(set(encoded))
    assert set(sentences(CONTEXT)) == set(encoded)
    before = len(embedder.word_calls)
    assert get_scorer("completeness", backend=shared_backend).score([sample])[0].value == 1.0
    assert len(embedder.word_calls) == before == 1


def test_words_that_are_not_finite_give_null_too():
    scorer = get_scorer("completeness", backend=embedded(NotFiniteWords()))
    score = one(scorer, output="It is so.", reference="The bridge is red.")
    assert score.value is None
    assert "not finite" in score.reason


# Faithfulness


@pytest.fixture(scope="module")
def faithful(backend):
    return get_scorer("faithfulness", backend=backend)


@pytest.mark.parametrize("sentence", sentences(CONTEXT))
def test_a_sentence_of_the_context_is_faithful(faithful, sentence):
    assert one(faithful, output=sentence, context=CONTEXT).value == 1.0


@pytest.mark.parametrize(
    ("true", "false", "check"),
    [
        ("The Harbour Bridge was opened in 1932 by Premier Jack Lang.", "1932>1952", "number"),
        ("The Harbour Bridge was opened in 1932 by Premier Jack Lang.", "Lang>Smith", "name"),
        ("It carries eight lanes of road traffic and two railway tracks.", "eight>9", "number"),
        ("The steel arch is 503 metres long and was built by Dorman Long.", "metres>feet", "unit"),
    ],
)
def test_an_altered_fact_is_unfaithful_and_named(faithful, true, false, check):
    altered = true.replace(*false.split(">"))
    score = one(faithful, output=altered, context=CONTEXT)
    assert score.value <= 0.5
    assert score.evidence[0]["checks"] == [check]
    assert score.evidence[0]["best"] == true
    assert score.evidence[0]["claim"] == altered


def test_a_number_of_the_context_in_the_wrong_place_is_unfaithful(faithful):
    context = "Foot passengers check in 30 minutes before departure, drivers 45 minutes before it."
    for true, false in (("30", "45"), ("45", "30")):
        score = one(faithful, output=context.replace(true, false), context=context)
        assert score.value < 0.4
        assert score.evidence[0]["checks"] == ["number"]
    one_of_them = one(faithful, output="Drivers check in 45 minutes before.", context=context)
    assert "number" not in one_of_them.evidence[0]["checks"]


@pytest.mark.parametrize("output", [*sentences(CONTEXT), CONTEXT, "It opened in 1952.", "So what."])
def test_a_true_sentence_from_elsewhere_does_not_help(faithful, output):
    longer = output + " Water boils at 100 degrees."
    before = one(faithful, output=output, context=CONTEXT).value
    assert one(faithful, output=longer, context=CONTEXT).value <= before


def test_faithfulness_without_context_or_claims_is_null(faithful):
    assert "context" in one(faithful, output="It is so.").reason
    assert "context" in one(faithful, output="It is so.", context=" \n").reason
    for output in ("", "Sure!", "...", "Thank you."):
        assert one(faithful, output=output, context=CONTEXT).reason == "no claims in the output"


def test_the_input_can_be_the_context(backend):
    scorer = get_scorer("faithfulness", backend=backend, source="input")
    near = one(scorer, input=CODE, output="Return the sorted names of the users.").value
    far = one(scorer, input=CODE, output="Delete a file from the disk.").value
    assert near > far + 0.3


# Completeness


@settings(max_examples=40, deadline=None)
@given(st.one_of(text, prose, st.just(CONTEXT), st.just(CODE)))
def test_a_reference_covers_itself(backend, reference):
    score = one(get_scorer("completeness", backend=backend), output=reference, reference=reference)
    assert score.value in (None, 1.0)
    if claims(answer_of(reference)):
        assert score.value == 1.0


def test_completeness_grows_with_what_is_covered(backend):
    scorer = get_scorer("completeness", backend=backend)
    parts = sentences(CONTEXT)
    values = [
        one(scorer, output=" ".join(parts[:count]), reference=CONTEXT).value for count in (1, 2, 3)
    ]
    assert values == sorted(values)
    assert values[0] < values[1] < values[2] == 1.0


def test_words_of_one_phrase_cover_more_than_as_many_that_stand_about(backend):
    scorer = get_scorer("completeness", backend=backend)
    reference = "ferry island harbour captain storm lighthouse anchor whale compass sail"
    words = reference.split()
    phrase = one(scorer, output=" ".join(words[:5]), reference=reference).value
    scattered = one(scorer, output=" ".join(words[::2]), reference=reference).value
    assert 0 < scattered < phrase < 0.5


def test_a_key_point_without_its_small_words_is_covered(backend):
    scorer = get_scorer("completeness", backend=backend)
    assert one(scorer, output="Bridge: 8 lanes.", reference="The bridge has 8 lanes.").value > 0.95


def test_another_number_covers_markedly_less(backend):
    scorer = get_scorer("completeness", backend=backend)
    for output in ("The bridge has 9 lanes.", "The bridge has nine lanes."):
        assert one(scorer, output=output, reference="The bridge has eight lanes.").value < 0.7


@settings(max_examples=30, deadline=None)
@given(prose, text)
def test_more_text_leaves_no_less_of_the_wording(backend, output, more):
    ask = [Inquiry(sentences(CONTEXT), said) for said in (output, f"{output}\n\n{more}")]
    less, grown = backend.evidence(Relation.COVERED, ask)
    if not isinstance(less, BackendError):
        for one_point, same_point in zip(less, grown, strict=True):
            assert all(np.array(same_point.features) >= np.array(one_point.features))


def test_the_best_reference_counts(backend):
    scorer = get_scorer("completeness", backend=backend)
    first, second, _ = sentences(CONTEXT)
    assert one(scorer, output=second, reference=[first, second]).value == 1.0
    assert one(scorer, output=second, reference=[first]).value < 0.7


def test_completeness_of_nothing(backend):
    scorer = get_scorer("completeness", backend=backend)
    assert one(scorer, output="", reference=CONTEXT).value == 0.0
    assert one(scorer, output="It is so.").value is None
    assert one(scorer, output="It is so.", reference=[]).value is None
    assert one(scorer, output="It is so.", reference="Sure!").value is None
    from_context = get_scorer("completeness", backend=backend, source="context")
    assert one(from_context, output=CONTEXT, context=CONTEXT).value == 1.0
    assert "context" in one(from_context, output=CONTEXT, reference=CONTEXT).reason


# Answer relevancy


def test_another_questions_answer_is_less_relevant(backend):
    scorer = get_scorer("answer_relevancy", backend=backend)
    pairs = {
        "Who opened the Harbour Bridge?": "The Harbour Bridge was opened by Jack Lang.",
        "How long is the steel arch?": "The steel arch is 503 metres long.",
        "When was the museum founded?": "The museum was founded in 1870.",
    }
    for question in pairs:
        own = one(scorer, input=question, output=pairs[question]).value
        others = [
            one(scorer, input=question, output=answer).value
            for other, answer in pairs.items()
            if other != question
        ]
        assert own > max(others)
        assert own > one(scorer, input=question, output=question).value


def test_relevancy_of_nothing(backend):
    scorer = get_scorer("answer_relevancy", backend=backend)
    assert one(scorer, input="Who?", output="").value == 0.0
    assert one(scorer, input=" ", output="It is so.").value is None


# Equals


@given(text)
def test_everything_equals_itself(value):
    for mode in ("exact", "normalized", "contains", "overlap"):
        assert one(get_scorer("equals", mode=mode), output=value, reference=value).value == 1.0


@pytest.mark.parametrize(
    ("options", "output", "reference", "value"),
    [
        ({}, "The  Eiffel-Tower!", "eiffel tower", 1.0),
        ({}, "The Eiffel Tower.", "eiffel tower", 1.0),
        ({}, "\uff21\uff22\uff23", "abc", 1.0),
        ({}, "Straße", "STRASSE", 1.0),
        ({}, "1,000", "1000", 1.0),
        ({}, "3.5", "35", 0.0),
        ({}, "-5", "5", 0.0),
        ({}, "C#", "C", 0.0),
        ({}, "", "x", 0.0),
        ({}, "", "", 1.0),
        ({}, "", "?!", 0.0),
        ({}, "b", ["a", "b"], 1.0),
        ({}, "b", "x | b", 0.0),
        ({"separator": "|"}, "b", "x | b", 1.0),
        ({"mode": "exact"}, "A", "a", 0.0),
        ({"mode": "contains"}, "It was Paris, I think.", "paris", 1.0),
        ({"mode": "contains"}, "comparison", "paris", 0.0),
        ({"mode": "overlap"}, "a big red dog", "red dog", 0.8),
        ({"mode": "numeric"}, "The answer is 1,250.50", "1250.5", 1.0),
        ({"mode": "numeric"}, "41", "42", 0.0),
        ({"mode": "numeric", "tolerance": 1}, "41", "42", 1.0),
        ({"mode": "numeric", "relative_tolerance": 0.1}, "95", "100", 1.0),
        ({"mode": "numeric"}, "none", "42", 0.0),
        ({"mode": "regex"}, "abcc", "abc+", 1.0),
        ({"mode": "regex"}, "xabcc", "abc+", 0.0),
        ({"mode": "regex", "ignore_case": True}, "ABC", "abc", 1.0),
        ({"mode": "json"}, '{"b": 1.0, "a": [1, 2]}', '{"a": [1, 2], "b": 1}', 1.0),
        ({"mode": "json"}, '{"a": true}', '{"a": 1}', 0.0),
        ({"mode": "json"}, "[2, 1]", "[1, 2]", 0.0),
        ({"mode": "json"}, "not json", "{}", 0.0),
        ({"mode": "json"}, "[NaN]", "[1]", 0.0),
        ({"mode": "json"}, "1" * 5_000, "1" * 5_000, 1.0),
        ({"mode": "json"}, "1" * 5_000, "1" * 4_999, 0.0),
        ({"mode": "json"}, "[" * 900 + "]" * 900, "[" * 900 + "]" * 900, 1.0),
        ({"mode": "json"}, "[" * 99_999, "1", 0.0),
        ({"mode": "regex"}, " a ", r"\ a\ ", 1.0),
    ],
)
def test_equals(options, output, reference, value):
    assert one(get_scorer("equals", **options), output=output, reference=reference).value == value


@pytest.mark.parametrize(
    ("mode", "reference"),
    [
        ("normalized", None),
        ("normalized", []),
        ("numeric", "none"),
        ("numeric", "1e999"),
        ("regex", "("),
        ("regex", "a{99999999999999}"),
        ("regex", "(" * 5_000 + ")" * 5_000),
        ("json", "{"),
        ("json", "[NaN]"),
        ("json", "[" * 99_999 + "]" * 99_999),
    ],
)
def test_equals_is_null_where_the_reference_is_of_no_use(mode, reference):
    score = one(get_scorer("equals", mode=mode), output="1", reference=reference)
    assert score.value is None
    assert "reference" in score.reason or "pattern" in score.reason


def test_normalize_and_parse_number():
    assert normalize("  The U.S.A. — a “Land” ") == "usa land"
    assert normalize("The") == "the"
    assert parse_number("from -3 to $1,250.5 (40 %)") == 40.0
    assert parse_number("no number.") is None


# Words, claims and facts


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("Dr. Smith paid $3.50. He left.", ["Dr. Smith paid $3.50.", "He left."]),
        ("At 5 p.m. on Monday. Then", ["At 5 p.m. on Monday.", "Then"]),
        ("J. R. Tolkien wrote it... and left.", ["J. R. Tolkien wrote it... and left."]),
        ("See Fig. 3 and no. 5. No. It is.", ["See Fig. 3 and no. 5.", "No.", "It is."]),
        ("- one\n- two\n\nA wrapped\nline.", ["one", "two", "A wrapped line."]),
        ("one is so . two is not . ", ["one is so .", "two is not ."]),
        ("文です。次の文\uff01", ["文です。", "次の文\uff01"]),
        ("It cost 31. 8 million. So.", ["It cost 31. 8 million.", "So."]),
        ("... !! ?", []),
        ("", []),
    ],
)
def test_sentences(given_text, expected):
    assert sentences(given_text) == expected


def test_claims_leave_out_what_states_nothing():
    assert claims("Sure! Here is the summary: thanks. The bridge opened.") == ["The bridge opened."]


def test_a_summary_of_code_is_held_against_its_name_and_the_whole_of_it():
    code = "def removeLastItem(stack):\n    top = stack[-1]\n    del stack[-1]\n    return top"
    nameless = code.split("\n", 1)[1]
    told, other = "Removes the last item of 7 stacks.", "Counts how often a key was read."
    backend = embedded()
    for text in (code, nameless):
        own, neighbour = backend.judge(Relation.SUPPORTED, [Inquiry([told, other], text)])[0]
        assert own.support > neighbour.support
        assert own.checks == ()
    (named,) = backend.evidence(Relation.SUPPORTED, [Inquiry([told], code)])[0]
    (line,) = backend.evidence(Relation.SUPPORTED, [Inquiry(["del stack[-1]"], code)])[0]
    assert named.features[2] == 1.0
    assert line.verbatim


def test_code_is_cut_by_lines_and_comments():
    assert is_code(CODE)
    assert not is_code(CONTEXT)
    assert "skip the inactive" in passages(CODE)
    assert "Return the sorted names of users." in passages(CODE)
    assert "return sorted(result)" in passages(CODE)
    assert content_words("getUserName") == content_words("get_user_name")


@pytest.mark.timeout(120)  # quadratic code takes hours for these
@pytest.mark.parametrize(
    "hostile",
    ["word " * 10_000, "A sentence, of 3.4 words. " * 3_000, "." * 99_999 + "x", "a." * 50_000,
     "x.\"'" * 30_000, " " * 100_000, "1," * 50_000, "a_" * 50_000, "not " * 20_000, "A" * 100_000,
     "\n" * 50_000 + "x", "{" * 50_000, "(" * 50_000, "# " * 30_000],
)  # fmt: skip
def test_long_texts_are_cut_in_linear_time(hostile, faithful):
    units = passages(hostile)
    assert all(len(unit.split()) <= MAX_WORDS for unit in units)
    one(faithful, output=hostile[:50_000], context=CONTEXT)


def test_words():
    assert words("Twelve of 1,250.5, the 3rd: getUserName") == [
        "12", "of", "1250.5", "the", "3", "get", "user", "name",
    ]  # fmt: skip
    assert content_words("visited") == content_words("visits") == content_words("visiting")


def test_facts():
    assert numbers("One of the 15, 000 first 2,500") == {"15000", "2500"}
    assert numbers("5 km and 3 kilometres, $20, 40%") == {
        "5 kilometers", "3 kilometers", "20 dollars", "40 percent",
    }  # fmt: skip
    assert names("Yesterday Jack Lang spoke. Then he left for Rome") == {"jack", "lang", "rom"}


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_common_subsequence_agrees_with_the_table(left, right):
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left, 1):
        for j, b in enumerate(right, 1):
            table[i][j] = (
                table[i - 1][j - 1] + 1 if a == b else max(table[i - 1][j], table[i][j - 1])
            )
    assert common_subsequence(left, right) == table[-1][-1]


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5), st.floats(-9, 4))
def test_more_evidence_is_never_less_support(features, intercept):
    weights = Weights(intercept, (1.0, 0.5, 0.0, 2.0, 3.0))
    low = weights.support(features)
    assert 0 < low <= weights.support([min(1.0, value + 0.1) for value in features]) < 1


# With the packaged model


@pytest.fixture(scope="module")
def packaged():
    from ftreg.scoring.backends.embedded import shared

    return shared()


@pytest.mark.slow
def test_the_packaged_model_is_loaded_once_and_named(packaged):
    identity = get_scorer("faithfulness").describe()["backend"]
    assert identity["model"]["name"] == "all-minilm-l6-v2"
    assert len(identity["model"]["digest"]) == 64
    assert get_scorer("completeness").backend is packaged


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_packaged_scores_do_not_depend_on_company_or_order(name, packaged):
    parts = [
        *sentences(CONTEXT),
        CODE,
        "Water boils.",
        "When was it opened?",
        "",
        "Ünïcödé ☃ \ud800",
    ]
    samples = [
        Sample(id=f"{a}-{b}", input=one_part, output=other, reference=one_part, context=one_part)
        for a, one_part in enumerate(parts)
        for b, other in enumerate(parts)
    ]
    embedder = packaged._embedder.embedder
    together = get_scorer(name, backend=embedded(embedder)).score(samples)
    order = list(range(len(samples)))
    random.Random(0).shuffle(order)
    alone = {
        place: get_scorer(name, backend=embedded(embedder)).score([samples[place]])[0]
        for place in order
    }
    assert together == [alone[place] for place in range(len(samples))]


@pytest.mark.slow
def test_packaged_scores_tell_good_from_bad(packaged):
    faithful = get_scorer("faithfulness")
    relevant = get_scorer("answer_relevancy")
    complete = get_scorer("completeness")
    first = sentences(CONTEXT)[0]
    assert one(faithful, output=first, context=CONTEXT).value >= 0.8
    for altered in (first.replace("1932", "1952"), first.replace("was", "was not")):
        assert one(faithful, output=altered, context=CONTEXT).value < 0.4
    near = one(faithful, output="Return the names of the users, sorted.", context=CODE).value
    assert near > one(faithful, output="Delete a file from the disk.", context=CODE).value + 0.2
    question, answer = (
        "Who opened the Harbour Bridge?",
        "The Harbour Bridge was opened by Jack Lang.",
    )
    own = one(relevant, input=question, output=answer).value
    assert own > one(relevant, input=question, output="Water boils at 100 degrees.").value + 0.2
    assert own > one(relevant, input=question, output=question).value
    said_otherwise = "A premier called Jack Lang opened the bridge in 1932."
    assert (
        one(complete, output=said_otherwise, reference=first).value
        > one(complete, output="Water boils at 100 degrees.", reference=first).value + 0.3
    )
    assert one(complete, output=CONTEXT, reference=CONTEXT).value == 1.0


@pytest.mark.slow
def test_packaged_words_are_whole_and_those_it_does_not_know_are_near_nothing(packaged):
    model = packaged._embedder.embedder
    known, unknown = model.words(["Unbelievably, it's 1932!", "\u1200\u1201\u1202"])
    assert known.words == ("unbelievably", "it", "s", "1932")
    np.testing.assert_allclose(np.linalg.norm(known.vectors, axis=1), 1, atol=1e-5)
    assert not unknown.vectors.any()
    complete = get_scorer("completeness")
    ethiopic = "\u1230\u120b\u121d \u12d3\u1208\u121d", "\u1260\u122a \u12a8\u1270\u121b"
    assert one(complete, output=ethiopic[0], reference=ethiopic[0]).value == 1.0
    assert one(complete, output=ethiopic[0], reference=ethiopic[1]).value < 0.2
    assert model.words([]) == []


@pytest.mark.slow
def test_a_folder_without_a_model_is_refused(tmp_path):
    from ftreg.scoring.backends.minilm import MiniLM

    with pytest.raises(UsageError, match=r"modules\.json"):
        MiniLM(tmp_path)
