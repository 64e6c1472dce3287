"""Refusals and echoes, in the languages that people ask in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftreg.scoring.nonanswers import echoes, is_refusal

REFUSALS = """
I don't know.
I do not know the answer to that question.
I'm sorry, but I cannot tell you when the pool opens.
As an AI language model, I do not have information about the opening hours.
I am an AI assistant and cannot help with that request.
I cannot answer that.
I can't help you with this. Please contact the town hall.
I do not have access to live data.
I'm afraid I have no information on parking.
Unfortunately, the context does not mention the price.
The document doesn't say.
The provided text contains no information about the cellar.
There is no information about the cellar in the passage.
There is not enough context to answer this question.
It is not possible to tell from the text.
The answer is not given in the document.
Sorry, I can't help with that.
I'm not sure.
I'd rather not comment. I can't share personal data.
That information is not available.
No information is available on the fare.
No idea, sorry.
N/A
Unknown
It's hard to say.
I don't know, sorry. Is there anything else I can help you with?
I'm sorry, but I cannot provide instructions for that. It is illegal and harmful.
Ich weiß es leider nicht.
Das weiß ich nicht.
Es tut mir leid, aber diese Frage kann ich nicht beantworten.
Dazu habe ich keine Informationen.
Der Text enthält dazu keine Angaben.
Als KI-Sprachmodell kann ich darüber keine Auskunft geben.
Keine Ahnung.
Je ne sais pas.
Désolé, je ne peux pas répondre à cette question.
Le texte ne précise pas le prix.
Je n'ai aucune information à ce sujet.
En tant qu'IA, je ne dispose pas de ces données.
No lo sé.
Lo siento, pero no puedo ayudarte con eso.
No tengo información sobre el precio.
El texto no menciona el precio.
Non lo so.
Mi dispiace, ma non posso rispondere.
Il testo non indica il prezzo.
Não sei.
Desculpe, mas não posso ajudar com isso.
O texto não informa o preço.
Dat weet ik niet.
Helaas kan ik deze vraag niet beantwoorden.
Nie wiem.
Niestety nie mam informacji na ten temat.
Я не знаю.
К сожалению, я не могу ответить на этот вопрос.
В тексте нет информации о цене.
我不知道。
很抱歉，我无法回答这个问题。
对不起，我不能提供这方面的信息。
文中没有提到价格。
根据提供的信息，无法确定。
わかりません。
申し訳ありませんが、お答えできません。
本文には書かれていません。
모르겠습니다.
죄송하지만 답변할 수 없습니다.
لا أعرف.
عذرًا، لا يمكنني الإجابة عن هذا السؤال.
Δεν γνωρίζω.
Δυστυχώς, δεν έχω πληροφορίες για αυτό.
मुझे नहीं पता।
Nu știu.
Din păcate, nu pot răspunde la această întrebare.
ฉันไม่ทราบ
Bilmiyorum.
Üzgünüm, bu soruyu yanıtlayamam.
Tôi không biết.
Xin lỗi, tôi không có thông tin về giá vé.
""".strip().splitlines()

ANSWERS = """
I don't know the exact hour, but the pool usually opens at six.
I'm not sure. It opens at six.
I do not know. The sign on the door says six.
I don't know which gate it is. Please use gate 3.
I don't know his age. If you have a ticket, the tour is free.
He said he did not know.
She did not know the answer.
No dogs are allowed.
The pool does not open on Mondays.
There is no information desk in the hall.
I'm sorry to say that the pool is shut.
I'm sorry, but dogs are not allowed in the hall.
Unfortunately, the last train leaves at eight.
The contract does not specify a date.
Nobody knows who built it, but it dates from 1200.
It is not possible to bring a bike.
You cannot take your dog.
We do not have any rooms with a view.
I cannot recommend this hotel.
As an AI language model, I recommend the train at seven.
Unknown Pleasures
N'Djamena
Native American
National Park
None of them.
Not before nine.
No.
Yes.
It depends on the season: six in summer, eight in winter.
Ich weiß, dass Hunde nicht mitdürfen.
Hunde können nicht mitfahren.
Les chiens ne sont pas admis.
Je ne sais pas exactement, mais la piscine ouvre à six heures.
No se admiten perros.
La piscina no abre los lunes.
Non sono ammessi cani.
Não são permitidos cães.
Я знаю, что собаки не допускаются.
Собак не пускают.
狗不能入场。
泳池没有早班。
犬は入れません。
Köpekler giremez.
Không, chó không được phép.
Câinii nu sunt admiși.

""".strip().splitlines()


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal(text):
    assert is_refusal(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_is_no_refusal(text):
    assert not is_refusal(text)


@pytest.mark.parametrize("text", [*REFUSALS[:6], "Je ne sais pas.", "我不知道。"])
def test_a_refusal_with_an_answer_beside_it_answers(text):
    assert not is_refusal(f"{text} The pool opens at six in the morning.")
    assert is_refusal(f"Great question! {text} I hope this helps!")


OPENS = "When does the pool open?"


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (OPENS, OPENS),
        (OPENS, "when does the pool open"),
        (OPENS, f"{OPENS} {OPENS}"),
        (OPENS, f"You asked: {OPENS}"),
        (OPENS, "You want to know when the pool opens."),
        (OPENS, "The question is: when does the pool open?"),
        (OPENS, "The pool opens."),
        ("What is the capital of Peru?", "The capital of Peru is"),
        ("Are dogs allowed in the hall?", "Are dogs allowed in the hall."),
        ("Are dogs allowed in the hall?", "Your question: Are dogs allowed in the hall?"),
        ("Wann öffnet das Schwimmbad?", "Wann öffnet das Schwimmbad?"),
        ("Wann öffnet das Schwimmbad?", "Sie fragen: Wann öffnet das Schwimmbad?"),
        ("À quelle heure ouvre la piscine ?", "À quelle heure ouvre la piscine ?"),
        ("¿Cuándo abre la piscina?", "¿Cuándo abre la piscina?"),
        ("泳池几点开门？", "泳池几点开门？"),
        ("泳池几点开门？", "您问的是：泳池几点开门？"),
        ("プールは何時に開きますか？", "プールは何時に開きますか"),
    ],
)
def test_an_echo(question, text):
    assert echoes(question, text)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (OPENS, "Which pool do you mean, the indoor or the outdoor one?"),
        (OPENS, "At six."),
        (OPENS, "The pool opens at six."),
        (OPENS, f"{OPENS} At six."),
        (OPENS, "I don't know."),
        (OPENS, ""),
        ("", "At six."),
        ("Are dogs allowed in the hall?", "Dogs are allowed in the hall."),
        ("Are dogs allowed in the hall?", "Yes"),
        ("Can I bring my dog?", "Do you mean a guide dog?"),
        ("Who won, Anna or Bob?", "Bob won."),
        ("What is the capital of Peru?", "Lima is the capital of Peru."),
        ("Which of the two is older, the tower or the hall?", "the tower"),
        ("Wann öffnet das Schwimmbad?", "Um sechs."),
        ("¿Cuándo abre la piscina?", "Abre a las seis."),
        ("泳池几点开门？", "泳池六点开门。"),
        ("プールは何時に開きますか？", "六時です。"),
    ],
)
def test_what_adds_something_is_no_echo(question, text):
    assert not echoes(question, text)


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_has_a_verdict(question, text):
    assert isinstance(is_refusal(text), bool)
    assert isinstance(echoes(question, text), bool)
    assert not (is_refusal(text) and not text.strip())
