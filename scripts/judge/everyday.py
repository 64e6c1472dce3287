"""Rule-made everyday facts: short notices with claims that are entailed, neutral or contradicted.

No human-labelled set has enough of the changes that a release gate must detect: a reversed
relation, two swapped names, "some" changed to "all", a condition or a question read as a fact. Each
function of `KINDS` makes one such case: the sentence of a notice, and labelled claims.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

E, N, C = "entailment", "neutral", "contradiction"
_W = str.split
PEOPLE = _W(
    "Alice Bob Farida Chen Diego Elena Faisal Greta Hamid Ines Jonas Keiko Liam Maria Nadia Omar "
    "Priya Quentin Rosa Sven Tomas Ulla Vera Wanda Xavier Yusuf Zoe Anton Bianca Carlos Dalia Emil"
)
BODIES = [
    f"the {name}"
    for name in _W(
        "council committee board bakery museum school hospital airline bank club union ministry "
        "court library theatre company agency factory university embassy restaurant hotel"
    )
]
THINGS = [
    f"the {name}"
    for name in _W(
        "proposal budget plan report contract bridge house boat painting recipe application offer "
        "complaint petition car farm shop garden letter song design licence bill motion"
    )
]
PLACES = [
    f"the {name}"
    for name in _W(
        "museum pool library shop park gallery castle tower office canteen station clinic market "
        "harbour garden gym cinema zoo archive workshop café bakery playground kiosk"
    )
]
ANIMALS = _W(
    "dogs cats bicycles children cars trailers guests students visitors prams scooters tents"
)
DAYS = _W("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _W("January February March April May June July August September October November December")
GOODS = [
    "an adult ticket",
    "a child ticket",
    "a day pass",
    "a locker",
    "a pet cabin",
    "a single room",
    "a double room",
    "breakfast",
    "a parking space",
    "a bicycle",
    "a guided tour",
    "the audio guide",
    "a towel",
    "a membership",
    "a replacement card",
    "a deckchair",
    "a family ticket",
    "dinner",
    "a late check-out",
    "an extra bed",
    "a boat trip",
    "a haircut",
    "a swimming lesson",
]
Label = str
Claims = list[tuple[str, Label]]


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence of a notice, claims about it, and short answers with their questions."""

    sentence: str
    claims: Sequence[tuple[str, Label]]
    answers: Sequence[tuple[str, str, Label]] = ()


def _up(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    return _up(text.rstrip(".")) + "."


def _two(pick: random.Random, items: Sequence[str]) -> list[str]:
    return pick.sample(items, 2)


def _amount(pick: random.Random) -> str:
    sign, word = pick.choice([("£", "pounds"), ("€", "euros"), ("$", "dollars")])
    value = pick.choice([pick.randint(2, 99), pick.randint(1, 40) * 5, pick.randint(1, 19) + 0.5])
    number = f"{value:.2f}" if isinstance(value, float) else str(value)
    return pick.choice([f"{sign}{number}", f"{number} {word}", f"{sign}{number}"])


def _time(pick: random.Random) -> str:
    return f"{pick.randint(6, 22)}:{pick.choice(['00', '15', '30', '45', '05', '20'])}"


def _date(pick: random.Random) -> str:
    return f"{pick.randint(1, 28)} {pick.choice(MONTHS)}"


def _another(pick: random.Random, make: Callable[[random.Random], str], than: str) -> str:
    while (found := make(pick)) == than:
        pass
    return found


RELATIONS = (
    ("before", "after"),
    ("over", "under"),
    ("at least", "at most"),
    ("more than", "less than"),
    ("more than", "fewer than"),
    ("above", "below"),
    ("inside", "outside"),
    ("with", "without"),
    ("until", "from"),
    ("minimum", "maximum"),
    ("first", "last"),
    ("early", "late"),
    ("earlier than", "later than"),
    ("left", "right"),
    ("up", "down"),
    ("including", "excluding"),
    ("north", "south"),
    ("east", "west"),
    ("largest", "smallest"),
    ("oldest", "youngest"),
    ("highest", "lowest"),
    ("longest", "shortest"),
    ("fastest", "slowest"),
    ("front", "back"),
    ("cheapest", "most expensive"),
    ("always", "never"),
    ("everybody", "nobody"),
    ("top", "bottom"),
    ("morning", "evening"),
    ("summer", "winter"),
    ("spring", "autumn"),
    ("hot", "cold"),
    ("arrivals", "departures"),
    ("buyers", "sellers"),
    ("men", "women"),
    ("boys", "girls"),
    ("entrance", "exit"),
    ("upper", "lower"),
    ("outbound", "return"),
    ("indoor", "outdoor"),
)
_RELATION_FRAMES = {
    "before": [
        "book {} {date} to get the discount",
        "visitors must leave {} {time}",
        "payment is due {} delivery",
        "the bar opens {} the concert",
        "take the tablet {} meals",
        "register {} {date}",
        "call us {} {time}",
        "the contract was signed {} the election",
    ],
    "over": [
        "children {} {n} travel free",
        "orders {} {amount} are sent free of charge",
        "drivers {} {n} pay a surcharge",
        "boats {} {n} metres need a permit",
        "people {} {n} get a reduction",
        "bags {} {n} kg are not weighed",
    ],
    "at least": [
        "you need {} {n} signatures",
        "the group must have {} {n} members",
        "keep {} {n} metres away",
        "each room sleeps {} {n} people",
        "stay {} {n} nights",
        "the tank holds {} {n} litres",
    ],
    "more than": [
        "{} {n} people attended",
        "the repair took {} {n} days",
        "it costs {} {amount}",
        "the village has {} {n} inhabitants",
        "the trip takes {} {n} hours",
    ],
    "above": [
        "the temperature stayed {} {n} degrees",
        "the cabin lies {} the village",
        "store the cheese {} {n} degrees",
    ],
    "inside": ["smoking is allowed {} the station", "bicycles must be kept {} the building"],
    "with": [
        "the room comes {} a balcony",
        "the soup is served {} bread",
        "the flat is let {} furniture",
    ],
    "until": [
        "the pool is open {} {time}",
        "tickets are on sale {} {date}",
        "parking is free {} {time}",
    ],
    "minimum": ["the {} age is {n}", "the {} stay is {n} nights", "the {} speed is {n} km/h"],
    "first": [
        "the {} train leaves at {time}",
        "{person} came {} in the race",
        "the {} Sunday of the month is free",
    ],
    "left": ["turn {} at the bank", "the lockers are on the {} of the door"],
    "largest": ["it is the {} harbour of the island", "the hall is the {} in the country"],
    "oldest": ["{person} is the {} of the four", "the chapel is the {} building here"],
    "highest": ["{person} got the {} mark", "the pass is the {} in the region"],
    "longest": ["the tunnel is the {} on the line"],
    "fastest": ["{person} was the {} swimmer of the day"],
    "cheapest": ["the bus is the {} way to the airport"],
    "always": ["the gate is {} locked", "{person} {} eats meat"],
    "everybody": ["{} passed the test", "{} has to sign the form"],
    "morning": ["the market is held in the {}", "trains are full in the {}"],
    "summer": ["the road is closed in {}", "the ferry runs in {} only"],
    "spring": ["the course starts in {}"],
    "including": ["the fare is {amount} {} luggage", "it is open daily, {} holidays"],
    "north": ["the farm lies {} of the river", "the storm moved {}"],
    "east": ["the border is {} of the town"],
    "front": ["the {} door is locked at night", "use the {} entrance"],
    "top": ["the keys are in the {} drawer"],
    "upper": ["the {} deck is closed"],
    "outbound": ["the {} flight was delayed"],
    "hot": ["only {} drinks are sold"],
    "entrance": ["the {} is on the square"],
    "early": ["the bus came {}"],
    "earlier than": ["the guests came {} expected"],
    "up": ["prices went {} last year", "the lift was going {}"],
    "men": ["the {} won the relay"],
    "boys": ["most {} preferred tennis"],
    "buyers": ["{} pay the fee"],
    "arrivals": ["{} are on the ground floor"],
    "indoor": ["the {} pool is heated"],
}


def _fill(pick: random.Random, frame: str) -> str:
    return (
        frame.replace("{}", "\0")
        .format(
            date=_date(pick),
            time=_time(pick),
            n=pick.choice([3, 5, 6, 7, 12, 14, 16, 18, 20, 25, 40]),
            amount=_amount(pick),
            person=pick.choice(PEOPLE),
        )
        .replace("\0", "{}")
    )


def relation(pick: random.Random) -> Fact:
    """Make a fact about a relation, with claims that use its opposite in the same words."""
    pair = pick.choice([pair for pair in RELATIONS if pair[0] in _RELATION_FRAMES])
    frame = _fill(pick, pick.choice(_RELATION_FRAMES[pair[0]]))
    mine, other = pick.sample(pair, 2)
    sentence = _sentence(frame.format(mine))
    return Fact(sentence, [(sentence, E), (_sentence(frame.format(other)), C)])


_UP, _DOWN = ["increased", "rose", "went up", "grew"], ["decreased", "fell", "went down", "dropped"]
_TREND = [
    "sales",
    "prices",
    "rents",
    "profits",
    "costs",
    "temperatures",
    "membership",
    "traffic",
    "unemployment",
    "exports",
    "visitor numbers",
    "wages",
    "water levels",
    "emissions",
    "demand",
]


def trend(pick: random.Random) -> Fact:
    """Make a fact about something that rose or fell."""
    up, down = pick.sample([_UP, _DOWN], 2)
    what, when = pick.choice(_TREND), pick.choice(["in spring", "last year", "in May", "this week"])
    amount = pick.choice(["", f" by {pick.randint(2, 60)} percent", " slightly", " sharply"])
    said = pick.choice(up)
    claims = [(f"{what} {word}{amount} {when}", E) for word in pick.sample(up, 2)]
    claims += [(f"{what} {word}{amount} {when}", C) for word in pick.sample(down, 2)]
    return Fact(_sentence(f"{what} {said}{amount} {when}"), [(_sentence(t), k) for t, k in claims])


_ACTIONS = (
    ("visited", "was visited by"),
    ("hired", "was hired by"),
    ("sued", "was sued by"),
    ("defeated", "was defeated by"),
    ("called", "was called by"),
    ("trained", "was trained by"),
    ("followed", "was followed by"),
    ("invited", "was invited by"),
    ("thanked", "was thanked by"),
    ("paid", "was paid by"),
    ("helped", "was helped by"),
    ("elected", "was elected by"),
    ("criticised", "was criticised by"),
    ("rescued", "was rescued by"),
    ("teaches", "is taught by"),
    ("employs", "is employed by"),
    ("owes", None),
    ("manages", "is managed by"),
    ("supports", "is supported by"),
    ("warned", "was warned by"),
    ("photographed", "was photographed by"),
)
_CONVERSE = (
    ("sold {x} to", "bought {x} from"),
    ("lent {x} to", "borrowed {x} from"),
    ("gave {x} to", "received {x} from"),
    ("is older than", "is younger than"),
    ("is taller than", "is shorter than"),
    ("is the mother of", None),
    ("lives above", "lives below"),
    ("arrived before", "arrived after"),
    ("earns more than", "earns less than"),
    ("runs faster than", "runs slower than"),
    ("is the boss of", "works for"),
    ("beat", "lost to"),
    ("rents {x} to", "rents {x} from"),
    ("sits in front of", "sits behind"),
    ("taught {x} to", "learnt {x} from"),
)
_SYMMETRIC = (
    "is married to",
    "lives next to",
    "met",
    "is a cousin of",
    "is as tall as",
    "agrees with",
)


def agents(pick: random.Random) -> Fact:
    """Make a fact about who did what to whom: passive and converse hold, swapped names do not."""
    one, two = _two(pick, PEOPLE if pick.random() < 0.7 else BODIES)
    tail = pick.choice(["", "", " last week", " in Paris", " yesterday", " in 2019"])
    kind = pick.random()
    if kind < 0.5:
        verb, passive = pick.choice(_ACTIONS)
        extra = f" {pick.randint(2, 90)} euros" if verb == "owes" else ""
        said = f"{one} {verb} {two}{extra}{tail if not extra else ''}"
        claims: Claims = [(f"{two} {verb} {one}{extra}{tail if not extra else ''}", C), (said, E)]
        if passive:
            claims += [(f"{two} {passive} {one}{tail}", E), (f"{one} {passive} {two}{tail}", C)]
            if pick.random() < 0.5:
                said = f"{two} {passive} {one}{tail}"
                claims.append((f"{one} {verb} {two}{tail}", E))
    elif kind < 0.85:
        verb, back = pick.choice(_CONVERSE)
        thing = pick.choice(_W("Spanish chess")) if "t {x}" in verb and "taught" in verb else None
        thing = thing or pick.choice(THINGS)
        verb, back = verb.format(x=thing), back and back.format(x=thing)
        said = f"{one} {verb} {two}"
        claims = [(f"{two} {verb} {one}", C), (said, E)]
        if back:
            claims += [(f"{two} {back} {one}", E), (f"{one} {back} {two}", C)]
    else:
        verb = pick.choice(_SYMMETRIC)
        said = f"{one} {verb} {two}"
        claims = [(f"{two} {verb} {one}", E), (said, E)]
    pick.shuffle(claims)
    return Fact(_sentence(said), [(_sentence(text), label) for text, label in claims[:4]])


_DONE = (
    ("rejected", "accepted"),
    ("approved", "turned down"),
    ("built", "pulled down"),
    ("bought", "sold"),
    ("designed", None),
    ("wrote", None),
    ("owns", None),
    ("found", "lost"),
    ("repaired", "broke"),
    ("signed", None),
    ("opened", "closed"),
    ("cancelled", None),
    ("won", "lost"),
    ("painted", None),
)
_PARTICIPLE = {
    "wrote": "was written",
    "owns": "is owned",
    "found": "was found",
    "broke": "was broken",
    "turned down": "was turned down",
    "pulled down": "was pulled down",
}
_SAME = {
    "rejected": "turned down",
    "approved": "gave its approval to",
    "built": "constructed",
    "bought": "purchased",
    "owns": "is the owner of",
    "repaired": "fixed",
    "designed": "drew up",
    "cancelled": "called off",
    "wrote": "is the author of",
}


def deed(pick: random.Random) -> Fact:
    """Make a fact about an action on a thing: passive, a synonym, the opposite, another agent."""
    doer, other = _two(pick, [*PEOPLE, *BODIES])
    thing, verb = pick.choice(THINGS), pick.choice(_DONE)
    did, opposite = verb
    passive = _PARTICIPLE.get(did, f"was {did}")
    active, turned = f"{doer} {did} {thing}", f"{thing} {passive} by {doer}"
    said, again = pick.sample([active, turned], 2)
    claims: Claims = [
        (again, E),
        (f"{other} {did} {thing}", N),
        (f"{thing} {passive} by {other}", N),
    ]
    if did in _SAME:
        claims.append((f"{doer} {_SAME[did]} {thing}", E))
    if opposite:
        claims.append((f"{doer} {opposite} {thing}", C))
    if did == "owns":
        claims.append((f"{thing} belongs to {doer}", E))
    pick.shuffle(claims)
    return Fact(_sentence(said), [(_sentence(text), label) for text, label in claims[:4]])


_QUANTITY = {
    "all of the": {
        "some of the": E,
        "most of the": E,
        "none of the": C,
        "not all of the": C,
        "every one of the": E,
    },
    "most of the": {
        "all of the": N,
        "some of the": E,
        "none of the": C,
        "few of the": C,
        "only some of the": E,
    },
    "some of the": {
        "all of the": N,
        "none of the": C,
        "a number of the": E,
        "most of the": N,
        "at least one of the": E,
    },
    "none of the": {"some of the": C, "all of the": C, "not one of the": E, "most of the": C},
    "few of the": {"most of the": C, "all of the": C, "not many of the": E, "many of the": C},
    "not all of the": {"all of the": C, "every one of the": C},
    "half of the": {
        "all of the": C,
        "none of the": C,
        "50 percent of the": E,
        "a quarter of the": C,
    },
    "both of the": {"neither of the": C, "each of the two": E},
}
_GROUPS = [
    "tests",
    "students",
    "shops",
    "trains",
    "rooms",
    "apples",
    "members",
    "letters",
    "patients",
    "flights",
    "lamps",
    "houses",
    "players",
    "tickets",
]
_PREDICATES = [
    "failed",
    "were late",
    "have been sold",
    "were empty",
    "passed",
    "arrived on time",
    "were damaged",
    "are red",
    "are free",
    "got lost",
    "were checked",
]


def quantity(pick: random.Random) -> Fact:
    """Make a fact about a quantity: all, some, none."""
    how, others = pick.choice(list(_QUANTITY.items()))
    group, what = pick.choice(_GROUPS), pick.choice(_PREDICATES)
    chosen = pick.sample(list(others.items()), min(3, len(others)))
    claims = [(f"{other} {group} {what}", label) for other, label in chosen]
    said = f"{how} {group} {what}"
    return Fact(_sentence(said), [(_sentence(t), label) for t, label in [*claims, (said, E)]])


_STATES = (
    ("open", "closed"),
    ("included", "not included"),
    ("available", "unavailable"),
    ("allowed", "forbidden"),
    ("permitted", "prohibited"),
    ("possible", "impossible"),
    ("free of charge", "not free of charge"),
    ("required", "not required"),
    ("valid", "invalid"),
    ("refundable", "not refundable"),
    ("safe", "unsafe"),
    ("compulsory", "optional"),
    ("occupied", "vacant"),
    ("finished", "unfinished"),
    ("legal", "illegal"),
    ("broken", "working"),
    ("locked", "unlocked"),
    ("awake", "asleep"),
    ("married", "unmarried"),
    ("dry", "wet"),
    ("public", "private"),
    ("empty", "full"),
    ("dead", "alive"),
    ("true", "false"),
)
_PLURAL_STATES = ("allowed", "permitted", "forbidden", "prohibited")


def state(pick: random.Random) -> Fact:
    """Make a fact about a state, with negations, its opposite, and yes/no answers."""
    good, bad = pick.sample(pick.choice(_STATES), 2)
    plural = good in _PLURAL_STATES or bad in _PLURAL_STATES
    what = pick.choice(ANIMALS if plural else PLACES)
    be = "are" if plural else "is"
    when = pick.choice(["", "", f" on {pick.choice(DAYS)}s", " in winter", f" after {_time(pick)}"])

    def denied(word: str) -> str:
        plain = word.removeprefix("not ")
        return f"{what} {be} {plain}{when}" if plain != word else f"{what} {be} not {word}{when}"

    same = [f"{what} {be} {good}{when}", denied(bad)]
    opposite = [f"{what} {be} {bad}{when}", denied(good)]
    if good in ("forbidden", "prohibited"):
        same.append(f"no {what} are allowed{when}")
    if good in ("allowed", "permitted"):
        opposite.append(f"no {what} are allowed{when}")
        same.append(
            f"{what} may be brought{when}" if what not in ("guests", "children") else same[0]
        )
    said = pick.choice(same)
    claims = [(text, E) for text in same] + [(text, C) for text in opposite]
    pick.shuffle(claims)
    ask = f"{_up(be)} {what} {good.removeprefix('not ')}{when}?"
    yes = not good.startswith("not ")
    answers = [(ask, "Yes" if yes else "No", E), (ask, "No" if yes else "Yes", C)]
    return Fact(_sentence(said), [(_sentence(text), k) for text, k in claims[:4]], answers)


_CONDITIONS = """
    {who} may enter {place} only with a permit
        N {who} may enter {place}
        E {who} need a permit to enter {place}
        C {who} may enter {place} without a permit
    if it rains, {place} stays closed
        N {place} stays closed
        E {place} stays closed when it rains
        N it rains
    {place} is open daily except on {day}s
        C {place} is open on {day}s
        E {place} is closed on {day}s
        C {place} is open every day
    only members may use {place}
        E members may use {place}
        C everyone may use {place}
        E non-members may not use {place}
    residents get a discount at {place}
        N everyone gets a discount at {place}
        E there is a discount for residents at {place}
        C residents pay the full price at {place}
    {person} will sell {thing} unless the price rises
        N {person} has sold {thing}
        N {person} will certainly sell {thing}
    {person} plans to buy {thing}
        N {person} has bought {thing}
        E {person} intends to buy {thing}
    {person} might buy {thing}
        N {person} will buy {thing}
        E it is possible that {person} buys {thing}
    {person} refused to sign {thing}
        C {person} signed {thing}
        E {person} did not sign {thing}
    {person} forgot to sign {thing}
        C {person} signed {thing}
        E {person} did not sign {thing}
    {person} managed to repair {thing}
        E {person} repaired {thing}
        C {person} failed to repair {thing}
    {person} says that {place} is dangerous
        N {place} is dangerous
        E according to {person}, {place} is dangerous
    {person} denied having sold {thing}
        N {person} sold {thing}
        C {person} admitted having sold {thing}
    guide dogs may enter {place}, other dogs may not
        C all dogs may enter {place}
        E guide dogs may enter {place}
        C pet dogs may enter {place}
    {place} will open in {month} if the works are finished
        N {place} is open
        N the works are finished
    {person} would have won without the fall
        C {person} won
        E {person} did not win
    {person} almost missed the train
        C {person} missed the train
        E {person} caught the train
"""
_LABELS = {"E": E, "N": N, "C": C}


def _conditions() -> list[tuple[str, Claims]]:
    """Read the table: a sentence, and below it indented claims after their labels."""
    cases: list[tuple[str, Claims]] = []
    for line in _CONDITIONS.strip("\n").splitlines():
        if line.startswith(" " * 8):
            label, _, claim = line.strip().partition(" ")
            cases[-1][1].append((claim, _LABELS[label]))
        else:
            cases.append((line.strip(), []))
    return cases


def condition(pick: random.Random) -> Fact:
    """Make a fact with a condition, a restriction or an exception, which claims may drop."""
    named = {
        key: pick.choice(words)
        for key, words in (
            ("who", ANIMALS),
            ("place", PLACES),
            ("day", DAYS),
            ("person", PEOPLE),
            ("thing", THINGS),
            ("month", MONTHS),
        )
    }
    said, claims = pick.choice(_conditions())
    made = [(_sentence(text.format(**named)), label) for text, label in claims]
    return Fact(_sentence(said.format(**named)), made)


def asked(pick: random.Random) -> Fact:
    """Make a text with a question: alone it states nothing, with a reply it may."""
    who, place, good = pick.choice(ANIMALS), pick.choice(PLACES), pick.choice(GOODS)
    cases: list[tuple[str, str, str]] = [
        (
            f"Can I take {who} into {place}?",
            f"{who} may be taken into {place}",
            f"{who} may not be taken into {place}",
        ),
        (f"Is {good} included?", f"{good} is included", f"{good} is not included"),
        (
            f"Are {who} allowed in {place}?",
            f"{who} are allowed in {place}",
            f"{who} are not allowed in {place}",
        ),
        (
            f"Is {place} open on {pick.choice(DAYS)}s?",
            f"{place} is open then",
            f"{place} is closed then",
        ),
        (f"Do I have to pay for {good}?", f"{good} has to be paid for", f"{good} is free"),
    ]
    ask, holds, denies = pick.choice(cases)
    reply, yes, no = pick.choice(
        [
            ("Yes.", E, C),
            ("Yes, of course.", E, C),
            ("No.", C, E),
            ("No, sorry.", C, E),
            ("Please ask at the desk.", N, N),
            ("", N, N),
            ("It depends.", N, N),
            ("Only on request.", N, N),
            ("Unfortunately not.", C, E),
            ("Certainly.", E, C),
            ("That has not been decided.", N, N),
        ]
    )
    return Fact(f"{ask} {reply}".strip(), [(_sentence(holds), yes), (_sentence(denies), no)])


def price(pick: random.Random) -> Fact:
    """Make a fact about the prices of two things, as sentences and short answers."""
    one, two = _two(pick, GOODS)
    here = _amount(pick)
    there = _another(pick, _amount, here)
    said = pick.choice(
        [
            "{a} costs {x} and {b} {y}",
            "{a} is {x}, {b} is {y}",
            "we charge {x} for {a} and {y} for {b}",
        ]
    )
    said = said.format(a=one, x=here, b=two, y=there)
    claims = [
        (f"{one} costs {here}", E),
        (f"{two} costs {there}", E),
        (f"{one} costs {there}", C),
        (f"you pay {here} for {two}", C),
    ]
    pick.shuffle(claims)
    ask = pick.choice(["How much is {}?", "What does {} cost?", "What is the price of {}?"])
    answers = [
        (ask.format(one), here, E),
        (ask.format(one), there, C),
        (ask.format(two), there, E),
        (ask.format(two), here, C),
    ]
    return Fact(_sentence(said), [(_sentence(t), k) for t, k in claims[:3]], answers)


def moment(pick: random.Random) -> Fact:
    """Make a fact about the dates of two events, with a day or month changed in claims."""
    one, two = _two(
        pick,
        [
            "the night boat",
            "the first bus",
            "the concert",
            "the meeting",
            "lunch",
            "the tour",
            "the film",
            "the train to Lyon",
            "the exam",
            "the market",
        ],
    )
    make = pick.choice([_time, _date])
    here = make(pick)
    there = _another(pick, make, here)
    on = "at" if make is _time else "on"
    verb, ask = pick.choice(
        [
            ("starts", "When does {} start?"),
            ("begins", "When does {} begin?"),
            ("is", "When is {}?"),
        ]
    )
    said = f"{one} {verb} {on} {here}, and {two} {verb} {on} {there}"
    claims = [
        (f"{one} {verb} {on} {here}", E),
        (f"{one} {verb} {on} {there}", C),
        (f"{two} {verb} {on} {there}", E),
        (f"{two} {verb} {on} {_another(pick, make, there)}", C),
    ]
    pick.shuffle(claims)
    answers = [
        (ask.format(one), f"{_up(on)} {here}", E),
        (ask.format(one), there, C),
        (ask.format(two), there, E),
        (ask.format(two), f"{_up(on)} {here}", C),
    ]
    return Fact(_sentence(said), [(_sentence(t), k) for t, k in claims[:3]], answers)


_CAN = [("sleep", "sleeps"), ("carry", "carries"), ("seat", "seats"), ("hold", "holds")]
_HAS = [
    ("the ferry", "passengers"),
    ("the hall", "guests"),
    ("the bus", "people"),
    ("the firm", "employees"),
    ("the village", "inhabitants"),
    ("the school", "pupils"),
    ("the tank", "litres"),
]


def count(pick: random.Random) -> Fact:
    """Make a fact about a number: the same, another number, another scale."""
    what, of = pick.choice(_HAS)
    value = pick.choice(
        [pick.randint(2, 99), pick.randint(1, 99) * 100, pick.randint(1, 90) * 1000]
    )
    wrong = pick.choice([value * 10, value + pick.randint(1, 9), value * 1000, value * 2])
    verb = "has" if of in ("employees", "inhabitants", "pupils") else pick.choice(_CAN)[1]
    said = f"{what} {verb} {value} {of}"
    claims = [
        (said, E),
        (f"{what} {verb} {wrong} {of}", C),
        (f"there are {value} {of}", E if verb == "has" else N),
    ]
    return Fact(
        _sentence(said), [(_sentence(t), k) for t, k in claims[: 3 if verb == "has" else 2]]
    )


KINDS = (
    relation,
    relation,
    trend,
    agents,
    agents,
    deed,
    quantity,
    state,
    state,
    condition,
    asked,
    price,
    moment,
    count,
)


@dataclass(frozen=True, slots=True)
class Notice:
    """A text of several facts with claims about one of them, or a question and its answers."""

    text: str
    claims: Sequence[tuple[str, Label]]
    question: str | None = None
    kind: str = ""


def notices(count_: int, *, seed: int) -> Iterator[Notice]:
    """Yield `count_` notices; the claims are about one fact, which other facts surround."""
    pick = random.Random(seed)
    while count_:
        made = pick.choice(KINDS)
        fact = made(pick)
        around = [
            pick.choice(KINDS)(pick).sentence for _ in range(pick.choice([0, 0, 0, 1, 1, 2, 3, 5]))
        ]
        around.insert(pick.randint(0, len(around)), fact.sentence)
        text = " ".join(around)
        if fact.answers and pick.random() < 0.6:
            question = pick.choice(fact.answers)[0]
            claims = [(answer, k) for ask, answer, k in fact.answers if ask == question]
            yield Notice(text, claims, question, made.__name__)
        else:
            yield Notice(text, fact.claims, None, made.__name__)
        count_ -= 1
