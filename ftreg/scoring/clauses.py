"""Splitting a sentence that states several things at its commas and semicolons.

There is no parser: an English clause is recognised by its subject and finite verb, from closed
lists of auxiliaries and pronouns and an open list of common verbs. In doubt a sentence is not
split, since a part may be false even if the sentence is true. Other languages are split at
semicolons only.
"""

import re
from itertools import pairwise

_BEFORE_MARK = re.compile(r"[,;:.!?](?=\s|$)")
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|[$€£¥%]")
_PART = re.compile(r"[;\uff1b]|,(?=\s)")
_LONGEST = 2_000
"""Characters of the longest sentence that is split."""
_NEAR = 80
"""Characters before a semicolon that are checked."""
_OPENING = "([{\u201c\u00ab\u300c\uff08"
_CLOSING = ")]}\u201d\u00bb\u300d\uff09"


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_AUXILIARIES = _listed("""
    am is are was were has have had do does did can could may might must shall should will would
    cannot isn't aren't wasn't weren't hasn't haven't hadn't don't doesn't didn't can't couldn't
    mustn't shouldn't won't wouldn't
""")
_PRONOUNS = _listed("i you he she it we they")
_CONTRACTED = re.compile(r"(?:i|you|he|she|it|we|they|that|there|who)'(?:s|re|m|ve|ll|d)")
_PLURALS = _listed("""
    people children men women police staff fish sheep mice feet teeth geese these those both some
    most many all others few several i you we they data media crew
""")
_DETERMINERS = _listed("""
    the a an this that these those each every my your his her its our their no any some all both
""")
_SINGULAR = _listed("a an this that each every one another he she it there")
_PREPOSITIONS = _listed("""
    of in on at by for from with without to into onto over under between among about against after
    before during until through across near per via than like as within along behind above below
    around since except including
""")
_STOPPERS = _listed("""
    that which who whom whose where when while because although though since if unless whether what
    how why as than so or nor not either neither whereas until once after before albeit
""")
_REPORTING = (
    r"says?|said|saying|claim(?:s|ed|ing)?|stat(?:es|ed|ing)|believ(?:es?|ed|ing)|thinks?|thought"
    r"|reports?|reported|argu(?:es?|ed|ing)|suggest(?:s|ed)?|den(?:y|ies|ied)|agree[sd]?|hopes?"
    r"|hoped|fears?|feared|insist(?:s|ed)?|alleg(?:es?|ed)|told|tells?|wrote|writes|ask(?:s|ed)"
    r"|announc(?:es?|ed)|predict(?:s|ed)?|expect(?:s|ed)?|wonder(?:s|ed)?|seems?|appears|add(?:s|ed)"
    r"|repl(?:ies|ied)|explain(?:s|ed)|conclud(?:es?|ed)|admit(?:s|ted)|warn(?:s|ed)|not(?:es|ed)"
    r"|recall(?:s|ed)|comment(?:s|ed)|reveal(?:s|ed)|declar(?:es|ed)|joked"
)
# With one of these, a clause may be false without the rest of its sentence.
_GUARDS = re.compile(
    rf"\b(?:{_REPORTING}|if|unless|whether|when|whenever|once|provided|providing|assuming|suppose"
    r"|otherwise|or|either|neither|nor|not only|the more|the less|in case|as long as|according"
    r"|allegedly|apparently|would|might|though|although|because|while|whereas|since)\b",
    re.IGNORECASE,
)
_SAID_AT_END = re.compile(rf"\b(?:{_REPORTING}|shows?|finds?|found)\W*$", re.IGNORECASE)
_RELATIVES = _listed("which who whose where")
_NOT_PARTED_OFF = _listed("or nor so yet for otherwise else then respectively")

# Common verbs. Those of the second list have forms that are as often nouns ("sales", "drinks").
_VERBS = _listed("""
    accept achieve add adjust admit adopt affect allow appear apply appoint approve arrive ask
    attend attract avoid become begin behave belong borrow bring build buy carry catch celebrate
    choose clean climb close collect combine come compare complete compose conclude confirm connect
    consider consist construct contain continue contribute convert cook cover create cross cure
    decide declare decline defeat define deliver depart depend describe deserve destroy develop die
    differ direct disappear discover dissolve divide draw drive earn eat employ enable encourage
    enter establish evaluate examine exceed exist expand explain explore extend face fail fall feed
    feel fill find finish fit fly follow forbid forget form found freeze gain gather get give go
    govern grow happen hear help hide hire hit hold host ignore illustrate implement import
    improve include increase indicate inform inspect install introduce invent invest invite involve
    join keep kill know lack land lay lead learn leave lend let lie like listen live locate lose
    love maintain make manage manufacture marry mean meet melt migrate move name need obtain occupy
    occur offer open operate oppose organise organize own participate pass pay perform permit place
    play prefer prepare prevent produce prohibit promise promote protect prove provide publish pull
    push put raise reach read realise realize receive recognise recognize recommend record recover
    reduce refer reflect refuse regulate reject relate release rely remain remember remove rent
    repair replace represent require rescue reserve resign resist restore retire retain retreat
    return reveal ride rise run sail save see seem sell send separate serve settle share shine ship
    show shrink shut sign sing sink sit sleep slow smell solve speak specialise specialize spend
    spread stand start stay steal stop store strike study succeed suffer suit supply support
    surround survive swim take taste teach tend throw train translate travel treat turn understand
    unite use vary visit vote wait wake walk want warn wear weigh welcome win wind wish withdraw
    work worship write yield cost last open end rank range charge accommodate feature lock refund
    board arrive dock anchor park admit cater house employ bark breed hunt graze bloom ripen flow
    erupt orbit rotate boil evaporate circulate absorb emit generate transmit measure total
    thank praise blame criticise criticize award elect drop jump count click press process expire
    renew cancel answer display replace treat cause carve taste rate train test check
    comprise span stretch border overlook adjoin adorn
""")
_NOUNISH = _listed("""
    awards drops jumps counts clicks processes displays answers treats causes
    appeals boards borders breeds catches charges claims climbs closes costs covers covets cooks
    cures deserts draws drives docks ends fails faces falls feeds features fits flies flows
    forms gains guides hits hunts imports increases lands lasts leads leaves likes locks
    measures means moves names needs offers orbits parks passes places plays prints promises
    pulls ranges ranks records reforms refunds releases rents repairs returns rides rises runs
    sails saves shares ships shows signs sinks sleeps slows smells spans spreads stands starts
    stays stops stores stretches strikes studies suits supplies supports tastes tests totals
    trains travels treats turns uses visits votes waits walks wants wins winds wishes works
    yields decreases drinks tours talks plans sales calls changes checks books rates
""")
# A word after one of these is not a verb with its subject before it.
_NO_SUBJECT = (
    _PREPOSITIONS | _DETERMINERS | _listed("be been being having not get gets")
) - _listed("that these those some all both")
_STRONG_PASTS = _listed("""
    went came took gave saw wrote began became fell rose grew knew chose broke drove ate flew spoke
    sang sank swam wore tore threw drew blew ran shook stole froze woke rode hid forgot bit
    underwent overcame withdrew arose died arrived happened occurred remained stayed lived worked
    appeared disappeared belonged existed consisted seemed lasted sailed voted resigned retired
    travelled traveled walked waited slept stood sat lay
""")
_OTHER_PASTS = _listed("""
    built bought brought caught cost cut dealt dug felt fought found got had heard held hit hung
    kept laid led left lent let lost made meant met paid put read said sent set shot shut sold
    spent spread struck stuck taught thought told understood won wound
""")


def _with_forms(verbs: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the forms in -s and the regular pasts of verbs."""
    third, past = set(), set()
    for verb in verbs:
        if verb.endswith("y") and verb[-2] not in "aeou":
            third.add(verb[:-1] + "ies")
            past.add(verb[:-1] + "ied")
        else:
            third.add(verb + ("es" if verb.endswith(("s", "x", "z", "ch", "sh", "o")) else "s"))
            past |= {verb + ("d" if verb.endswith("e") else "ed"), verb + verb[-1] + "ed"}
    return frozenset(third), frozenset(past)


_THIRD, _REGULAR_PASTS = _with_forms(_VERBS)
_THIRD = _THIRD | _NOUNISH
_PASTS = _REGULAR_PASTS | _OTHER_PASTS
_OBJECTS = _DETERMINERS | _listed("him them me us it you itself himself herself themselves")
_TIMES = _listed("at until from daily always never only usually often early late every free")
_NUMBER_WORDS = _listed("""
    one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty
    hundred thousand half
""")


_ENDING_IN_S = _listed("this his its hers has is was does as perhaps always towards besides less")


def _is_plural(word: str) -> bool:
    if word in _PLURALS:
        return True
    ends = word.endswith("s") and not word.endswith(("ss", "us", "sis", "'s"))
    return ends and word not in _ENDING_IN_S


def _is_number(word: str) -> bool:
    return word[0].isdigit() or word in "$€£¥%" or word in _NUMBER_WORDS


def _has_finite_verb(words: list[str], place: int, *, loose: bool, listed: bool) -> bool:
    """Whether the word at `place` is a finite verb with its subject before it.

    In a list of nouns, "fruit drinks with ice" is one of the nouns; elsewhere "her brother works
    in" is a clause.
    """
    word, before = words[place], words[place - 1]
    after = words[place + 1] if place + 1 < len(words) else ""
    if word in _AUXILIARIES:
        return before not in _PREPOSITIONS and not (word == "may" and _is_number(before))
    if place == 1 and before == "this" and word in _THIRD:
        return True
    if before in _NO_SUBJECT or before.endswith("'s"):
        return False
    if word in _STRONG_PASTS:
        return True
    inside = not loose and not _PREPOSITIONS.isdisjoint(set(words[:place]) - {"of"})
    says_what = after in _OBJECTS or bool(after and _is_number(after))
    if word in _VERBS and (_is_plural(before) or (_is_number(before) and _is_plural(words[0]))):
        return not inside or says_what or not _is_plural(before)
    if word in _THIRD and not (_is_plural(before) and before != words[0]):
        if word in _NOUNISH and words[0] not in _SINGULAR and (listed or not after):
            return says_what or after in _TIMES
        return not inside or says_what
    if word in _PASTS:
        active = says_what or (loose and after not in ("by", ""))
        return before in _PRONOUNS or (active and words[0] not in ("a", "an"))
    return False


def _is_ellipsis(words: list[str], place: int) -> bool:
    """Whether a verb shares the subject of the text before it: "Basel and has been"."""
    verb = words[place] in _AUXILIARIES or words[place] in _STRONG_PASTS
    return verb and words[place - 1] in ("and", "but", "then", "also")


_NO_START = (
    _STOPPERS
    | _AUXILIARIES
    | _STRONG_PASTS
    | _PASTS
    | _listed("with without despite including having to due")
)
_AFTER_PARTICIPLE = _PREPOSITIONS | _listed("up out off down")
_LEADS = _PREPOSITIONS | _listed("then here now there also today tomorrow currently finally")


def _is_clause(words: list[str], *, loose: bool = False, listed: bool = False) -> bool:
    """Whether words begin with a subject and continue with its finite verb.

    `loose` is less strict, for the text before a split.
    """
    if not words or words[0] in _NO_START:
        return False
    if words[0].endswith("ed") and words[1:2] and words[1] in _AFTER_PARTICIPLE:
        return False  # "summed up by a slogan"
    led = words[0] in _LEADS
    for place, word in enumerate(words):
        if _CONTRACTED.fullmatch(word) and (place == 0 or led):
            return True
        if place and (word in _STOPPERS - {"not", "once"} or _is_ellipsis(words, place)):
            return False  # what follows is said of the last noun, or depends on something
        if place and word in _PRONOUNS and not led and not loose:
            return False  # "the city she was born in"
        if place and _has_finite_verb(words, place, loose=loose, listed=listed):
            return True
    return False


def _words(text: str) -> list[str]:
    return [word.replace("\u2019", "'") for word in _WORD.findall(text.casefold())]


def begins_with_clause(text: str) -> bool:
    """Return whether an English text begins with a subject and its verb."""
    return _is_clause(_words(_BEFORE_MARK.split(text, maxsplit=1)[0]), loose=True)


def is_other_language(text: str) -> bool:
    """Return whether a text is certainly not English, by its script or its commonest words."""
    return _OTHER_LANGUAGE.search(text) is not None


def _outer_cuts(sentence: str) -> list[re.Match[str]]:
    """Return the commas and semicolons outside brackets and quotations."""
    depth, quoted, last, cuts = 0, False, 0, []
    for found in _PART.finditer(sentence):
        for sign in sentence[last : found.start()]:
            depth = max(0, depth + (sign in _OPENING) - (sign in _CLOSING))
            quoted ^= sign == '"'
        last = found.start()
        if not depth and not quoted:
            cuts.append(found)
    return cuts


_QUOTES = ('"', "'", "\u201c", "\u2018", "`")
_THAT = re.compile(r"\bthat\b(?!['\u2019])", re.IGNORECASE)
_CONNECTIVES = _listed("however therefore thus moreover furthermore consequently hence instead")
_WIDE = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_ENGLISH = re.compile(r"\b(?:the|of|and|is|are|with|for|was|were)\b", re.IGNORECASE)
_OTHER_LANGUAGE = re.compile(
    r"[\u0370-\u1fff\u2e80-\ud7af]|\b(?:der|das|und|ist|sind|um|nicht|le|les|est|sont|des|el|los|las"
    r"|il|gli|che|sono|n\u00e3o|s\u00e3o|het|een|zijn|jest|nie)\b",
    re.IGNORECASE,
)
_GREEK = re.compile(r"[\u0370-\u03ff]")


def _semicolon_parts(left: str, right: str, *, english: bool) -> bool:
    """Whether a semicolon separates two statements, not the items of a list."""
    right_words = _words(right)
    if not right_words or right_words[0] in _NOT_PARTED_OFF or _GREEK.search(right):
        return False
    if right_words[0] in _CONNECTIVES and len(right_words) == 1:
        return True  # "...; however, it is closed"
    if len(_words(left)) < 2 and not _WIDE.search(left):
        return False  # "Yes; dogs may come"
    if _SAID_AT_END.search(left[-40:]):
        return False
    if _is_clause(_without_and(right_words), loose=True):
        return True
    if english:
        return False
    return all(len(_words(side)) >= 3 or len(_WIDE.findall(side)) >= 4 for side in (left, right))


def _without_and(words: list[str]) -> list[str]:
    return words[1:] if words[:1] in (["and"], ["but"]) else words


def _comma_parts(left: str, right: str) -> bool:
    words = _words(right)
    if not words or words[0] in _NOT_PARTED_OFF or right.lstrip()[:1] in _QUOTES:
        return False
    if _THAT.search(left):
        return False  # "The records show that after the storm, the pier was closed"
    pieces = [_words(piece) for piece in left.split(",")]
    stated = [_is_clause(_without_and(piece), loose=True) for piece in pieces]
    if not _is_clause(_without_and(words), listed=not stated[-1]):
        return False
    if len(words) < 6 and _SAID_AT_END.search(right):
        return False
    last = _without_and(pieces[-1])[:1]
    if not stated[-1] and last and last[0] in _LEADS | _STOPPERS - _RELATIVES:
        return False  # "..., and in winter, the pool is closed"
    # "The captain, Anna Roe, was born here": the verb is alone between commas.
    return any(stated) or any(piece[:1] and piece[0] in _AUXILIARIES for piece in pieces[1:])


def clauses(sentence: str) -> list[str]:
    """Split a sentence into clauses that can each be true or false, in order.

    A list of nouns, a condition and quoted speech are not split, nor is anything doubtful.
    """
    cuts = _outer_cuts(sentence) if len(sentence) < _LONGEST else []
    if not cuts:
        return [sentence]
    english = _ENGLISH.search(sentence) is not None
    guarded = _GUARDS.search(sentence) is not None
    ends = [found.start() for found in cuts] + [len(sentence)]
    parts, start = [], 0
    for found, (here, end) in zip(cuts, pairwise(ends), strict=True):
        left, right = sentence[start:here], sentence[found.end() : end]
        if found.group() == ",":
            parted = not guarded and _comma_parts(left, right)
        else:
            parted = _semicolon_parts(left[-_NEAR:], right, english=english)
        if parted:
            parts.append(left)
            start = found.end()
    parts.append(sentence[start:])
    return [parts[0].strip(), *(_CONJUNCTION.sub("", part).strip() for part in parts[1:])]


_CONJUNCTION = re.compile(r"^\s*(?:and|but)\s+(?=\S)", re.IGNORECASE)


def is_fragment(text: str) -> bool:
    """Whether a short text is not a statement: "Yes", "No, not on Fridays", "£20 a night".

    Any text that begins with yes or no is one, because it answers a question.
    """
    found = _words(text)
    if len(found) > _LONGEST_FRAGMENT or _WIDE.search(text):
        return bool(found) and found[0] in _YES_OR_NO
    return not found or found[0] in _YES_OR_NO or not _is_clause(found, loose=True)


_LONGEST_FRAGMENT = 12
_YES_OR_NO = _listed("yes no yeah nope ja nein oui non si sí")
