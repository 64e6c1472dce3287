"""What is a claim, what is evidence, and what is neither."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftreg.scoring.claims import claims, is_question, passages, sentences
from ftreg.scoring.clauses import clauses
from ftreg.scoring.courtesies import is_courtesy, without_preamble

OPENS, LOCKERS, BAGS = (
    "The museum opens at ten.",
    "Lockers need a coin.",
    "Bags stay outside.",
)
ALL_THREE = [OPENS, LOCKERS, BAGS]


@pytest.mark.parametrize(
    "cited",
    [
        "The museum opens at ten [4]. Lockers need a coin [2, 3]. Bags stay outside [1-3].",
        "The museum opens at ten. [1] Lockers need a coin. [2] Bags stay outside. [12]",
        "The museum opens at ten.[1] Lockers need a coin.[2][3] Bags stay outside.[4]",
        "The museum opens at ten[1]. Lockers need[2] a coin[3]. Bags stay outside [1][2].",
        "The museum [5] opens at ten. Lockers need a coin [1], [2]. [3] Bags stay outside.",
        "The museum opens at ten【2】. Lockers need a coin【3†source】. "
        "Bags stay outside【4:1†a.txt】.",
        "The museum opens at ten (1). Lockers need a coin (2). Bags stay outside (1, 3).",
        "The museum opens at ten^1. Lockers need a coin.^2 Bags stay outside^[3].",
        "The museum opens at ten.¹ Lockers need a coin². Bags stay outside.²³",
        "The museum opens at ten [^1]. Lockers need a coin [^note]. Bags stay outside[^3].",
        "The museum opens at ten [doc 3]. Lockers need a coin [Source 1, 2]. Bags stay outside "
        "(see page 4).",
        "The museum opens at ten [Document 2]. Lockers need a coin (ref. 5). Bags stay outside "
        "[citation needed].",
        "The museum opens at ten<sup>1</sup>. Lockers need a coin.<sup>[2]</sup> Bags stay "
        "outside.",
        "The museum opens at ten [1](https://example.org/a). Lockers need a coin "
        "[[2]](https://example.org/b_(c)). Bags stay outside.",
    ],
)
def test_citation_markers_state_nothing(cited):
    assert claims(cited) == passages(cited) == ALL_THREE


@pytest.mark.parametrize(
    ("cited", "plain"),
    [
        ("Das Museum öffnet um zehn [1]. Taschen bleiben draußen.[2]",
         ["Das Museum öffnet um zehn.", "Taschen bleiben draußen."]),
        ("Le musée ouvre à dix heures [3].", ["Le musée ouvre à dix heures."]),
        ("El museo abre a las diez [1][2].", ["El museo abre a las diez."]),
        ("博物馆十点开门[1]。包不能带入【2】。", ["博物馆十点开门。", "包不能带入。"]),
        ("美術館は十時に開きます[1]。", ["美術館は十時に開きます。"]),
    ],
)  # fmt: skip
def test_citation_markers_in_other_languages(cited, plain):
    assert claims(cited) == plain


@pytest.mark.parametrize(
    "said",
    [
        "The loop sets array[1] to row[0].",
        "It reads values[2] and writes x[3].",
        "The first name is users[0] and the last one users[1].",
        "The function returns [1, 2, 3].",
        "Each weight lies in the interval [0, 1].",
        "The room measures 30 m² and x² is a square.",
        "The area is 5 km^2, and sigma^2 is the variance.",
        "Its albums won prizes (13), medals (85).",
        "Send one (1) copy.",
        "The tag `<br>` and the field `items[1]` stay.",
        "He was born there (1961).",
    ],
)
def test_indices_powers_and_figures_are_no_citations(said):
    assert sentences(said) == [said.replace("`", "")]


@pytest.mark.parametrize(
    "courtesy",
    [
        "Great question!",
        "That's a really good question.",
        "I hope this helps!",
        "I hope this answers your question.",
        "Let me know if you have any other questions.",
        "Please feel free to ask me anything else.",
        "Don't hesitate to reach out.",
        "If you need more details, just ask.",
        "Happy to help!",
        "I'd be happy to assist you with that.",
        "Thank you for your patience.",
        "You're welcome!",
        "Have a wonderful trip!",
        "Would you like me to book a table?",
        "Is there anything else I can help you with?",
        "Sure, here is what I found:",
        "Here are the opening hours:",
        "Okay, thanks!",
        "Of course, let me explain.",
        "Gute Frage!",
        "Ich hoffe, das hilft Ihnen weiter.",
        "Wenn Sie weitere Fragen haben, melden Sie sich gerne.",
        "Möchten Sie einen Tisch reservieren?",
        "Bonne question !",
        "J'espère que cela vous aide.",
        "N'hésitez pas à me poser d'autres questions.",
        "Espero que esto te ayude.",
        "¡Claro!",
        "No dudes en preguntar.",
        "¿Quiere que reserve una mesa?",
        "Spero che questo ti sia utile.",
        "Espero que isso ajude.",
        "Ik hoop dat dit helpt.",
        "Надеюсь, это поможет.",
        "希望这对您有帮助！",
        "很高兴为您服务！",
        "还有其他问题吗？",
        "お役に立てれば幸いです。",
        "도움이 되셨기를 바랍니다.",
    ],
)  # fmt: skip
def test_courtesies_and_questions_are_no_claims(courtesy):
    assert claims(courtesy) == []
    assert claims(f"{courtesy} {OPENS}") == claims(f"{OPENS} {courtesy}") == [OPENS]
    assert claims(f"{courtesy}\n\n{OPENS}\n\n{courtesy}") == [OPENS]


@pytest.mark.parametrize(
    "statement",
    [
        "Thank-you notes hang in the hall.",
        "Hope Street is closed.",
        "If you need help, press the red button.",
        "If you have a ticket, the museum lets you in.",
        "The question was good.",
        "Here lies the founder of the museum.",
        "Sure Start is a charity.",
        "Bei der Frage der Kosten gab es Streit.",
        "Pour la première question, le jury vota deux fois.",
        "Si llueve, la piscina cierra.",
        "如果下雨，泳池关闭。",
        "もし雨が降れば、プールは閉まります。",
    ],
)
def test_a_statement_is_no_courtesy(statement):
    assert not is_courtesy(statement)
    assert claims(statement) == [statement]


@pytest.mark.parametrize(
    ("said", "claim"),
    [
        ("Based on the provided context, bags stay outside.", "bags stay outside."),
        ("According to the text, bags stay outside.", "bags stay outside."),
        ("From the information above, bags stay outside.", "bags stay outside."),
        ("As stated in the document, bags stay outside.", "bags stay outside."),
        ("The passage states that bags stay outside.", "bags stay outside."),
        ("The answer is that bags stay outside.", "bags stay outside."),
        ("The correct answer is: 14 dollars.", "14 dollars."),
        ("Final answer: 14 dollars.", "14 dollars."),
        ("In summary, bags stay outside.", "bags stay outside."),
        ("Sure! Based on the article you shared, bags stay outside.", "bags stay outside."),
        ("Laut dem Kontext: Taschen bleiben draußen.", "Taschen bleiben draußen."),
        ("Die Antwort lautet: 14 Euro.", "14 Euro."),
        ("Selon le texte fourni, les sacs restent dehors.", "les sacs restent dehors."),
        ("Según el documento, las bolsas se quedan fuera.", "las bolsas se quedan fuera."),
        ("In base al contesto fornito, le borse restano fuori.", "le borse restano fuori."),
        ("De acordo com o texto, as malas ficam fora.", "as malas ficam fora."),
        ("Согласно тексту, сумки остаются снаружи.", "сумки остаются снаружи."),
        ("根据提供的上下文，包不能带入。", "包不能带入。"),
        ("提供された情報によると、鞄は外に置きます。", "鞄は外に置きます。"),
    ],
)
def test_of_a_preamble_and_what_follows_the_latter_is_the_claim(said, claim):
    assert claims(said) == [claim]


@pytest.mark.parametrize(
    "whole",
    [
        "A, B and C are vitamins.",
        "According to Anna Roe, the pool is cold.",
        "In the old harbour, boats are repaired.",
        "Based on a novel, the film won two prizes.",
    ],
)
def test_other_beginnings_stay(whole):
    assert without_preamble(whole) == whole


@pytest.mark.parametrize(
    ("said", "claim"),
    [
        ("Yes", "Yes"), ("No.", "No."), ("Yes!", "Yes!"), ("Nope", "Nope"), ("Ja.", "Ja."),
        ("Nein", "Nein"), ("Oui.", "Oui."), ("Sí", "Sí"), ("Não.", "Não."), ("Да", "Да"),
        ("是的。", "是的。"), ("いいえ", "いいえ"),
        ("Yes, bags may be left here.", "Yes, bags may be left here."),
        ("No; bags stay outside.", "No; bags stay outside."),
        ("Nein, Taschen bleiben draußen.", "Nein, Taschen bleiben draußen."),
        ("The answer is no.", "no."),
        ("**Yes**", "Yes"),
        ("14 dollars", "14 dollars"),
        ("In the cellar", "In the cellar"),
        ("the course", "the course"),
        ("Of course.", "Of course."),
        ("Exactly!", "Exactly!"),
    ],
)  # fmt: skip
def test_a_short_answer_is_one_claim(said, claim):
    assert claims(said) == [claim]


@pytest.mark.parametrize(
    "laid_out",
    [
        "## Rules\nThe museum opens at ten.\nLockers need a coin.\nBags stay outside.",
        "Rules:\n- The museum opens at ten.\n- Lockers need a coin.\n- Bags stay outside.",
        "**Rules**\n\n1. The museum opens at ten.\n2. Lockers need a coin.\n3. Bags stay outside.",
        "Rules\n=====\nThe museum opens at ten. Lockers need a coin. Bags stay outside.",
        "The museum opens at ten.<br>Lockers need a coin.<br/>Bags stay outside.",
        "<h2>Rules:</h2><ul><li>The museum opens at ten.</li><li>Lockers need a coin.</li>"
        "<li>Bags stay outside.</li></ul>",
        "<p>The <b>museum</b> opens at ten.</p><p class='x'>Lockers need a coin.</p><!-- no -->"
        "Bags&nbsp;stay outside.",
        "The **museum** opens at *ten*. Lockers __need__ a ~~coin~~. Bags _stay outside_.",
        "The [museum](https://example.org/m) opens at ten. ![plan](p.png) Lockers need a coin. "
        "Bags stay outside.",
        "The museum opens at ten.Lockers need a coin.Bags stay outside.",
        "• The museum opens at ten. • Lockers need a coin. • Bags stay outside.",
        "1.The museum opens at ten.\n2.Lockers need a coin.\n3.Bags stay outside.",
        "* [ ] The museum opens at ten.\n* [x] Lockers need a coin.\n+ Bags stay outside.",
        "Here are the rules:\n① The museum opens at ten.\n② Lockers need a coin.\n③ Bags stay "
        "outside.\n\nSources: [1], [2]",
        "### Summary\n\n**Answer:** The museum opens at ten. Lockers need a coin. Bags stay "
        "outside. Would you like a plan?",
    ],
)
def test_headings_lists_and_markup_part_claims_and_state_nothing(laid_out):
    assert claims(laid_out) == ALL_THREE


def test_rows_of_a_table_are_claims_with_their_headings():
    table = "| Guest | Fare |\n|:---|---:|\n| Adult | 14 dollars |\n| Child | free |"
    assert claims(table) == ["Guest: Adult, Fare: 14 dollars", "Guest: Child, Fare: free"]
    assert claims("| Adult | 14 dollars |") == ["Adult, 14 dollars"]


@pytest.mark.parametrize("heading", ["Fares:", "Opening hours:", "Tarife:", "票价："])
def test_a_label_alone_states_nothing(heading):
    assert claims(heading) == []


def test_a_heading_with_nothing_below_it_is_what_the_output_says():
    assert claims("# Paris") == ["Paris"]
    assert claims("**Paris**") == ["Paris"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It costs 14 dollars.Children pay half.", ["It costs 14 dollars.", "Children pay half."]),
        ("It shuts at 18:30.Cats may stay!Dogs may not.",
         ["It shuts at 18:30.", "Cats may stay!", "Dogs may not."]),
        ("Return a random.Random instance or a pathlib.Path of the folder.",
         ["Return a random.Random instance or a pathlib.Path of the folder."]),
        ("Das Bad öffnet um sechs.Kinder zahlen nichts.",
         ["Das Bad öffnet um sechs.", "Kinder zahlen nichts."]),
        ("Use np.Array or torch.Tensor(3) there.", ["Use np.Array or torch.Tensor(3) there."]),
        ("It is in shop.models, e.g.this one, at 3.5 or v2.1.",
         ["It is in shop.models, e.g.this one, at 3.5 or v2.1."]),
        ("See https://example.org/a.B?c=d.E there.", ["See https://example.org/a.B?c=d.E there."]),
        ("The U.S.A. team met J.R.Roe.", ["The U.S.A. team met J.R.Roe."]),
        ("Mail a.Roe@example.Org now.", ["Mail a.Roe@example.Org now."]),
        ("Τι ώρα ανοίγει; Στις δέκα.", ["Τι ώρα ανοίγει;", "Στις δέκα."]),
        ('The play "Who is there?" was long.', ['The play "Who is there?" was long.']),
    ],
)  # fmt: skip
def test_a_missing_blank_parts_sentences_and_a_name_does_not(text, expected):
    assert sentences(text) == expected


JOINED = [
    ("The museum opens at ten; lockers need a coin; bags stay outside.", 3),
    ("The museum opens at ten, lockers need a coin, and bags stay outside.", 3),
    ("Entry is free, the shop sells maps, and the cafe serves soup.", 3),
    ("Trains leave hourly, buses run at night, and taxis wait outside.", 3),
    ("The council rejected the plan, but the mayor signed it.", 2),
    ("Anna founded the bakery in 1990, and she sold it in 2001.", 2),
    ("On Sundays, the library opens at nine, and the cellar stays shut.", 2),
    ("The night bus leaves at ten, the fare is 4 dollars, and luggage travels free.", 3),
    ("The captain, Anna Roe, was born in Porto, and her ship is new.", 2),
    ("Copper melts at 1085 degrees, but iron melts at 1538 degrees.", 2),
    ("Lunch starts at noon, and coffee is free; the terrace closes at six.", 3),
    ("Rooms have a balcony, the bar opens at five, and pets are welcome.", 3),
    ("The battery lasts nine hours, the screen is 13 inches wide, and the case weighs 1 kg.", 3),
    ("The road is steep; however, buses can use it.", 2),
    ("Das Museum öffnet um zehn; Taschen bleiben draußen; Kinder zahlen nichts.", 3),
    ("Le musée ouvre à dix heures ; les sacs restent dehors.", 2),
    ("El museo abre a las diez; las bolsas se quedan fuera.", 2),
    ("博物馆十点开门；包不能带入；儿童免费。", 3),
]  # fmt: skip


@pytest.mark.parametrize(("joined", "count"), JOINED)
def test_clauses_are_parted(joined, count):
    parts = clauses(joined)
    assert len(parts) == count
    assert len(claims(joined)) == count
    assert all(part in joined for part in parts)


@pytest.mark.parametrize(
    "whole",
    [
        "Write to us by 31 May, and you are refunded in full.",
        "Bags, coats, and umbrellas are not admitted.",
        "He came, looked, and left.",
        "On Sundays, the library opens at nine.",
        "If it snows, the pass is closed, and trains run late.",
        "Unless you book, the guide leaves, and the hut stays shut.",
        "She lived in Porto, a town founded by traders, and wrote novels.",
        "She loves Porto, the town she visited in 1990.",
        "She loves Porto, the town that hosts the fair.",
        "The tower, which was built in 1755, has nine floors.",
        "The shop sells maps, prints, and stamps.",
        "He owned a boat, a car, and a hut built in 1932.",
        "She said the museum opens at ten, lockers need a coin, and bags stay outside.",
        "According to the guide, the hut is old, and it has no water.",
        "The board has three members: Jane Doe, chair; Tom Roe, clerk; Ann Poe, treasurer.",
        "Bring a towel, sun cream, and a hat.",
        "The tower (it was built in 1755, and it is red) is tall.",
        '"It is red, and it is tall," reads the sign.',
        "The menu offers soup, salad, and fruit drinks with ice.",
        "The coach won the cup, hours after his team was fined.",
        "The pass is open, with an inn at the top.",
        "The line runs through Basel, Bern and has been shut since May.",
        "You may pay in cash, or you may pay by card.",
        "Hunde, Katzen und Vögel dürfen nicht hinein.",
        "Les sacs, les manteaux et les parapluies restent dehors.",
    ],
)
def test_lists_conditions_and_reports_stay_whole(whole):
    assert clauses(whole) == [whole]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" ".join([BAGS] * 20) + " " + OPENS, [BAGS, OPENS]),
        ("Bags stay outside. bags  stay outside! **Bags stay outside**", [BAGS]),
        ("It weighs 3.5 kg. It weighs 35 kg. It weighs -35 kg.",
         ["It weighs 3.5 kg.", "It weighs 35 kg.", "It weighs -35 kg."]),
        ("It costs 40 €. It costs 40 $. It costs 40 %.",
         ["It costs 40 €.", "It costs 40 $.", "It costs 40 %."]),
        ("包不能带入。包不能带入！", ["包不能带入。"]),
    ],
)  # fmt: skip
def test_equal_claims_count_once(text, expected):
    assert claims(text) == expected


@pytest.mark.parametrize(
    ("context", "evidence"),
    [
        ("May I bring a bag? Only small ones.", ["Only small ones."]),
        ("Q: Is the cellar open?\nA: On Fridays.", ["A: On Fridays."]),
        ("## Is the cellar open?\n\nOn Fridays.", ["On Fridays."]),
        ("Is the cellar open?On Fridays.", ["On Fridays."]),
        ("Ist der Keller offen? Nur freitags.", ["Nur freitags."]),
        ("¿Está abierta la bodega? Los viernes.", ["Los viernes."]),
        ("地下室开放吗？只在周五。", ["只在周五。"]),
        ("Είναι ανοιχτό το υπόγειο; Την Παρασκευή.", ["Την Παρασκευή."]),
        ("Is the cellar open?", []),
        ('She asked, "Is the cellar open?"', ['She asked, "Is the cellar open?"']),
        ("It shuts (why?) at six.", ["It shuts (why?) at six."]),
    ],
)
def test_a_question_in_the_context_is_no_evidence(context, evidence):
    assert passages(context) == evidence
    assert all(not is_question(unit) for unit in evidence)


def test_an_offer_at_the_end_leaves_what_was_stated():
    assert claims("The museum opens at ten, would you like a ticket?") == [
        "The museum opens at ten"
    ]


def test_code_between_fences_stays_as_it_is():
    fenced = "The call is:\n```python\nx = a[1]  # really?\ny = *z*\n```\nIt returns a list."
    assert claims(fenced) == ["x = a[1] # really?", "y = *z*", "It returns a list."]


@given(st.text() | st.text("[]()<>*_`|;,.?!^&#- \n1aA\ud800\ue000渡；？", max_size=60))
def test_any_text_is_cut_and_claims_are_stable(text):
    found = claims(text)
    assert len(found) == len(set(found))
    assert all(claim.strip() for claim in found)
    assert passages(text) == passages(text)


@pytest.mark.timeout(120)  # quadratic code takes hours for these
@pytest.mark.parametrize(
    "hostile",
    ["[1]" * 20_000, "[" * 50_000, "<" * 50_000, "<!--" * 15_000, "**a" * 15_000, "`a` " * 15_000,
     "&" * 50_000, "it is, " * 10_000, "| a | " * 10_000, "nine.Cars " * 5_000, " (1" * 20_000,
     "?" * 50_000, "^1" * 20_000, "\t" * 50_000 + "x", "渡轮九点开；" * 10_000, "~~a" * 15_000],
)  # fmt: skip
def test_markup_without_end_is_read_in_linear_time(hostile):
    assert all(claim.strip() for claim in claims(hostile))
    assert all(passage.strip() for passage in passages(hostile))


@pytest.mark.parametrize("said", ["You", "Here.", "Me"])
def test_a_word_that_points_is_an_answer(said):
    assert claims(said) == [said]
    assert claims("Thank you!") == claims("OK, here you") == []


@pytest.mark.parametrize(
    ("said", "claim"),
    [
        ("i ' m not sure , but i do know that it opened in 1978 .", "it opened in 1978 ."),
        ("I think the ferry sails at nine.", "the ferry sails at nine."),
        ("That is interesting! The bridge opened.", "The bridge opened."),
        ("Yeah, I agree. The bridge opened.", "The bridge opened."),
        ("I know the owner.", "I know the owner."),
    ],
)
def test_what_the_speaker_thinks_of_it_is_no_claim(said, claim):
    assert claims(said) == [claim]
