"""Text around a statement: courtesies, offers, lead-ins and preambles.

The tables have a block per language and a pattern per line. English first, then German, French,
Spanish, Italian, Portuguese, Dutch, Polish, Russian, Chinese, Japanese and Korean.
"""

import re

_COURTESIES = r"""
    (?:that'?s |that is |what )?(?:an? )?(?:\w+ )?(?:great|good|excellent|interesting|fair) question(?: to ask)?(?:,? let me …)?
    (?:(?:yes|yeah|oh|wow|well|lol|haha|ok|okay)[,!. ]+)*(?:(?:(?:i|we) (?:totally |completely |fully )?agree(?: with (?:you|that|this))?|i know,? right|me too|same here)|(?:that|this)(?:'s| is| was| sounds?) (?:so |very |really |pretty |quite |truly )?(?:interesting|great|cool|amazing|awesome|funny|crazy|wild|nice|neat|good to know|impressive|fascinating|wonderful))
    (?:i |we )?(?:really )?hope (?:that )?(?:this|that|it|these|the above|i|you|we|your)\b…
    (?:(?:please|just|and|so|but) )*(?:let (?:me|us) know|feel free|reach out|get in touch|stay tuned)\b…
    (?:(?:please|and|so|but) )*(?:don'?t|do not|never) hesitate\b…
    (?:please )?(?:let me|allow me to) (?:help|assist|explain|answer|think|check|see|clarify|summari[sz]e|break)\b…
    (?:and |so )?(?:if|should) (?:you|there|anything)\b.{0,100}?\b(?:let me know|feel free|(?:just|please) ask|hesitate|ask me|i'?m here|i am here|happy to|glad to)\b…
    (?:and |so )?if you have (?:any )?(?:questions|concerns|requests),? (?:please )?(?:contact|call|write|ask|reach|get|tell)\b[^\d]{0,80}
    (?:great|good|excellent|nice|wonderful) (?:choice|point|idea|news)|let'?s (?:see|take a look|have a look|find out)
    (?:i |we )?(?:hope to|look(?:ing)? forward to)\b…|you (?:asked|are asking|want to know)\b…|i (?:fully |completely )?understand your\b…
    (?:and |so )?if you have (?:any )?(?:other |further |more |additional )(?:questions|requests)\b…
    (?:i'?m|i am|i'?d be|i would be|we'?re|we are|i'?ll be|always)? ?(?:(?:more than|very|so|always) )?(?:happy|glad|pleased|delighted|here) to (?:help|assist|answer|be of|hear|provide|explain|elaborate)\b…
    (?:happy|glad|pleased) (?:that )?i (?:could|was able to) (?:help|assist)\b…
    (?:many )?(?:thanks|thank you)(?: (?:so|very) much| a lot)?(?:(?: again)?,? (?:for|in advance|and)\b…)?
    (?:you'?re|you are)(?: very| most)? welcome|my pleasure|no problem|no worries
    (?:sure|certainly|of course|absolutely|okay|ok|alright|understood)(?: thing)?
    (?:sure|certainly|of course|absolutely|okay|ok|alright|great|yes)[,!]? (?:here(?:'s| is| are| you)\b…[:…]|here you go|let me\b…)
    (?:(?:sure|certainly|of course|absolutely|okay|yes)[,!]? )?(?:i|we)(?:'ll| can| will|'d)(?: gladly| be able to| be happy to)? (?:help|answer|assist)(?: you)?(?: (?:with|in|by)\b.{0,100}| (?:your|this|that|the) question.{0,60})?
    here(?:'s| is| are) (?:an?|the|your|my|some|what)\b…[:…]
    here (?:you go|it is|they are|we go)
    (?:the )?following (?:is|are)\b…[:…]
    (?:the|these|those|this|some)\b.{0,120}\b(?:are|is|include|includes|as follows|following)[:]
    the following\b…[:]
    have a (?:\w+ )?(?:day|evening|weekend|time|trip|stay|one|night|week|journey|flight)\b…
    (?:enjoy|good luck|best of luck|all the best|safe travels|bon voyage|best wishes|kind regards|best regards|regards|sincerely|yours sincerely|cheers|take care)(?:[ ,](?:your|the|with|on|for|from)\b.{0,60})?
    (?:hi|hello|hey|dear|good (?:morning|afternoon|evening|day))(?: there| all| everyone| again)?(?:,? (?:and )?(?:welcome|thank|i hope)\b…)?
    (?:sorry|i apologi[sz]e|apologies|my apologies|i'?m sorry|i am sorry)(?: for (?:the|any|my|this)\b…)?
    (?:ask me|anything) (?:something |anything )?else|(?:please )?see below|as follows|i see|got it|as requested

    (?:das ist )?(?:eine )?(?:sehr )?(?:gute|tolle|interessante|spannende|großartige) frage
    (?:sehr )?gerne?(?: geschehen)?|bitte(?: schön| sehr)?|natürlich|klar|selbstverständlich|sicher(?:lich)?|hallo|guten (?:tag|morgen|abend)
    (?:ich )?hoff(?:e|entlich)\b.{0,60}(?:hilft|helfen|hilfreich|weiter|geholfen|beantwortet)…
    lass(?:en sie| es)? (?:mich|uns)\b.{0,20}wissen\b…
    (?:bei|für) (?:weiteren?|anderen?) fragen\b…|bei rückfragen\b…|(?:falls|wenn|sollten) (?:du|sie|ihr|es)\b.{0,40}\bfragen\b…
    (?:vielen|herzlichen|besten) dank\b…|danke(?:\b.{0,80})?
    (?:(?:natürlich|klar|gerne?|selbstverständlich)[,!]? )?hier (?:ist|sind|finden sie)\b…[:…]
    (?:mit )?(?:freundlichen|besten|herzliche|viele|liebe|beste) grüßen?\b…
    viel (?:spaß|erfolg|glück|freude)\b…|(?:einen )?schönen (?:tag|abend|aufenthalt)\b…
    (?:ich )?(?:helfe|stehe)\b.{0,40}(?:gerne?|verfügung|weiter)\b…|zögern sie nicht\b…

    (?:c'est )?(?:une )?(?:très )?(?:bonne|excellente|super) question
    bien sûr|certainement|avec plaisir|de rien|je vous en prie|bonjour|bonsoir|salut|cordialement
    (?:j'|nous )?esp(?:ère|érons|érant)\b.{0,60}(?:aide|aidera|aidé|utile|répond)…
    (?:surtout,? )?n'hésite[zs]?\b…|(?:faites|dis)-(?:le-)?moi savoir\b…|dites-moi\b…
    merci(?:\b.{0,80})?|(?:bien sûr ?[,!]? )?voici\b…[:…]
    si (?:vous|tu)\b.{0,50}\bquestions?\b…|pour toute (?:autre )?question\b…|je (?:reste|suis|me tiens) (?:à votre|ravi|là pour|heureu)…
    bonne (?:journée|soirée|chance)\b…|bon (?:voyage|séjour)\b…

    (?:es )?(?:una )?¡?(?:muy )?(?:buena|excelente|gran|interesante) pregunta
    claro(?: que sí)?|por supuesto|con (?:mucho )?gusto|de nada|hola|buenos días|buenas tardes|saludos(?: cordiales)?
    (?:yo )?esp(?:ero|eramos)\b.{0,40}(?:ayud|útil|sirv|respond)…|no dud(?:e|es|en)\b…
    (?:muchas )?gracias(?:\b.{0,80})?|(?:(?:claro|por supuesto)[,!]? ¡?)?aquí (?:est|tiene|va|te|le)…[:…]
    si (?:tienes?|necesitas?|hay)\b.{0,50}\b(?:preguntas?|dudas?|ayuda)\b…|para (?:más|cualquier) (?:preguntas?|dudas?)\b…|estoy (?:aquí|encantad|a su|a tu)…
    buen (?:viaje|día)|buena suerte|(?:házmelo|hágamelo|déjame) saber\b…|avísame\b…

    (?:è )?(?:un'|una )?(?:ottima|bella|buona|eccellente) domanda
    certo|certamente|di niente|prego|volentieri|ciao|buongiorno|buonasera|cordiali saluti
    (?:io )?sper(?:o|iamo)\b.{0,40}(?:aiut|util|serv|rispo)…|non esit(?:are|i|ate)\b…
    grazie(?:\b.{0,80})?|(?:certo[,!]? )?ecco\b…[:…]|se (?:ha|hai|avete)\b.{0,50}\bdomand[ea]\b…|per (?:altre|ulteriori|qualsiasi) domand[ea]\b…
    (?:fammi|mi faccia|fatemi) sapere\b…|sono (?:qui|a disposizione|felice|lieto)\b…|buona? (?:viaggio|giornata|fortuna)

    (?:é )?(?:uma )?(?:muito )?(?:boa|ótima|excelente) pergunta
    claro(?: que sim)?|com certeza|com prazer|de nada|olá|bom dia|boa tarde|boa (?:viagem|sorte)
    (?:eu )?esper(?:o|amos)\b.{0,40}(?:ajud|útil|respond)…|não hesite\b…
    (?:muito )?obrigad[oa](?:\b.{0,80})?|(?:claro[,!]? )?aqui (?:est|vai)…[:…]
    se (?:tiver|precisar|houver)\b.{0,50}\b(?:perguntas?|dúvidas?|ajuda)\b…|para (?:mais|qualquer) (?:perguntas?|dúvidas?)\b…|(?:me avise|avise-me|fique à vontade|estou (?:aqui|à disposição))\b…

    (?:dat is )?(?:een )?(?:goede|leuke|uitstekende|interessante) vraag
    natuurlijk|zeker|graag(?: gedaan)?|goedendag|hoi|goede reis|met vriendelijke groet(?:en)?
    (?:ik )?hoop(?:elijk)?\b.{0,40}(?:helpt|helpen|geholpen|nuttig|beantwoord)…
    laat (?:het )?(?:me|mij|ons)\b.{0,20}weten\b…|aarzel (?:dan )?niet\b…|(?:hartelijk )?(?:bedankt|dank)(?:\b.{0,80})?
    (?:natuurlijk[,!]? )?hier (?:is|zijn|vindt)\b…[:…]|(?:als|mocht|heb) (?:u|je|jij|jullie)\b.{0,50}\bvragen\b…|voor (?:meer|verdere|andere) vragen\b…|veel (?:plezier|succes)\b…

    (?:to )?(?:bardzo )?(?:dobre|świetne|ciekawe) pytanie|oczywiście|jasne|pewnie|proszę(?: bardzo)?
    mam nadzieję\b.{0,40}(?:pom|przyda)…|daj(?:cie)? (?:mi )?znać\b…|dziękuję(?:\b.{0,80})?|oto\b…[:…]
    (?:jeśli|jeżeli) (?:masz|mają|macie|będziesz)\b.{0,50}\bpyta(?:nia|ń)\b…|w razie (?:dalszych )?pytań\b…|chętnie pomogę\b…

    (?:это )?(?:очень )?(?:хороший|отличный|интересный|прекрасный) вопрос
    конечно|разумеется|пожалуйста|здравствуйте|привет|добрый день|обращайтесь\b…|удачи\b…
    (?:я )?надеюсь\b.{0,60}(?:помо|полез|ответ)…|дайте (?:мне )?знать\b…|не стесняйтесь\b…
    (?:большое )?спасибо(?:\b.{0,80})?|(?:конечно[,!]? )?вот\b…[:…]|если (?:у вас|у тебя|возникнут|останутся|будут)\b.{0,50}\bвопрос(?:ы|ов)?\b…|рада? (?:был[аи]? )?помочь\b…

    (?:这是(?:一)?个|真是个)?(?:很|非常)?好(?:的)?问题|当然(?:可以|了)?|好的|没问题|您好|你好|不客气|不用谢
    (?:我)?希望.{0,30}(?:帮|有用|解答)…|(?:如果?|要是|若)(?:您|你)?.{0,12}(?:问题|疑问|帮助)[,，]?(?:请|欢迎|可以)?(?:随时|告诉|联系|提).{0,20}|(?:非常)?(?:感谢|谢谢).{0,40}
    很(?:高兴|乐意).{0,10}(?:帮|为|能|回答)…|(?:欢迎|请)?随时.{0,10}(?:告诉|联系|提问|问|与)…
    (?:(?:好的|当然)[,!，！]?)?以下(?:是|为)…[:：]|祝(?:您|你)…

    (?:とても|大変)?(?:いい|良い|よい|素晴らしい)(?:ご)?質問(?:です)?(?:ね)?|もちろん(?:です)?|こんにちは|喜んで…
    (?:わかり|分かり|承知し|かしこまり)ました|.{0,20}(?:お役に立て|参考になれば|助けになれば)…|どういたしまして
    (?:どうも)?ありがとう…|.{0,20}(?:ご?質問|ご?不明な?点).{0,30}(?:ください|下さい|お知らせ).{0,10}|お気軽に…|(?:はい[、,])?以下(?:は|が|に|の)…[:：]

    (?:정말 )?좋은 질문(?:입니다|이에요|이네요)?|물론(?:입니다|이죠)?|감사합니다|천만에요|안녕하세요|도움이 되…
    (?:더 |다른 |추가 )?(?:궁금|질문)…(?:주세요|말씀하세요|물어보세요)
"""  # noqa: E501
"""Complete sentences that state nothing; … is the rest of the sentence."""

_GIVEN = (
    r"(?:provided|given|supplied|above|below|available|retrieved|following|attached|shared"
    r"|in question|to me|here|you(?:'ve| have)? (?:provided|gave|given|shared|sent)|in the \w+)"
)
_TEXT = (
    rf"(?:(?:the|this|that|these|your|its|all) )?(?:{_GIVEN} )*(?:\w+ )?(?:contexts?|texts?"
    r"|passages?|documents?|documentation|information|info|articles?|sources?|excerpts?|material"
    r"|paragraphs?|extracts?|details|data|content|snippets?|transcript|description|page|section"
    rf"|report|notice|facts|search results)(?: {_GIVEN})*"
)

_BEFORE_A_COMMA = rf"""
    (?:based (?:solely |only |strictly )?(?:up)?on|according to|judging (?:by|from)|going by|(?:as )?per|from|in|given|considering|as (?:\w+ )?(?:in|by|per)) {_TEXT}
    as an ai\b[^,:]{{0,40}}
    as (?:stated|mentioned|noted|described)(?: above| earlier| before)?
    (?:in )?(?:short|summary|conclusion|brief|other words|a nutshell)|to (?:summari[sz]e|conclude|sum up|answer (?:your|the) question)
    (?:sure|certainly|of course|absolutely|well|ok|okay|alright|great|hi|hello|hey)(?: there| thing)?
        (?:(?:sure|certainly|of course)[,!] )?here(?:'s| is| are) (?:the|your|an?|my) (?:\w+ ){{0,3}}(?:answer|summary|response|overview)

    (?:laut|gemäß|nach|basierend auf|auf (?:der )?(?:grundlage|basis)|entsprechend|im)[\w ]{{0,30}}? (?:text|kontext|dokument|artikel|informationen|angaben|quelle|abschnitts?|textes|dokuments|kontextes)[\w ]{{0,20}}
    (?:dem )?text zufolge|natürlich|klar|gerne|kurz gesagt|zusammengefasst

    (?:selon|d'après|sur la base d(?:e|u|es)|conformément aux?|dans|en fonction d)[\w' ]{{0,30}}?(?:texte|contexte|documents?|article|informations|passage|extrait|source)[\w ]{{0,30}}
    bien sûr|en résumé|en bref|certainement

    (?:según|de acuerdo con|conforme a|basándo(?:me|nos|se) en|con base en|en base a|en)[\w ]{{0,30}}? (?:texto|contexto|documento|artículo|información|pasaje|fragmento|fuente)[\w ]{{0,30}}
    claro|por supuesto|en resumen|en conclusión

    (?:secondo|in base a\w{{0,3}}|sulla base d\w+|stando a\w{{0,3}}|nel(?:lo|l')?)[\w' ]{{0,30}}? (?:testo|contesto|documento|articolo|informazioni|brano|fonte|passaggio)[\w ]{{0,30}}
    certo|certamente|in sintesi|in breve

    (?:de acordo com|segundo|com base (?:em|n[oa]s?)|conforme|n[oa])[\w ]{{0,30}}? (?:texto|contexto|documento|artigo|informações|informação|trecho|fonte|passagem)[\w ]{{0,30}}
    com certeza|em resumo

    (?:volgens|op basis van|gebaseerd op)[\w ]{{0,30}}? (?:tekst|context|document|artikel|informatie|passage|bron)[\w ]{{0,20}}
    natuurlijk|kortom

    (?:zgodnie z|według|na podstawie)[\w ]{{0,30}}? (?:tekst|kontekst|dokument|artykuł|informacj)\w*[\w ]{{0,20}}
    oczywiście

    (?:согласно|исходя из|на основе|на основании|судя по|в соответствии с)[\w ]{{0,30}}? (?:текст|контекст|документ|стать|информаци|источник|отрывк)\w*[\w ]{{0,20}}
    конечно|разумеется|короче говоря

    (?:根据|基于|依据|按照|从)[^,，。]{{0,12}}?(?:上下文|文本|文章|文件|文档|资料|信息|内容|段落|材料|原文)[^,，。]{{0,6}}
    (?:文中|文章|原文|文本)(?:中)?(?:提到|指出|说|写道)|答案(?:是|为)?|当然|好的|总之|简而言之

    [^、。,]{{0,12}}?(?:文脈|テキスト|文章|文書|資料|情報|本文|記事|コンテキスト)(?:によると|によれば|に基づくと|に基づいて|では)
    (?:答え|回答)は?|もちろんです|要するに

    (?:제공된|주어진)? ?(?:텍스트|문서|문맥|본문|정보)에 ?(?:따르면|의하면)
"""  # noqa: E501
"""Heads of a sentence that add nothing to it, up to a comma or colon."""

_LABELS = r"""
    (?:(?:sure|certainly|of course|okay|great)[,!]? )?here(?:'s| is| are) (?:the|your|an?|my|what|some)\b[^:,]{0,60}
    (?:i|we)(?:'ve| have)? found\b[^:,]{0,60}
    (?:(?:final|short) )?answer|response|note|please note|conclusion|a
    antwort|réponse|respuesta|risposta|resposta|antwoord|odpowiedź|ответ|答案|答|答え|回答|정답|답
"""  # noqa: E501
"""Labels of an answer, up to a colon."""

_BEFORE_A_BLANK = rf"""
    {_TEXT} (?:says|states|mentions|indicates|explains|notes|specifies|tells us|shows|reports|suggests) that
    {_TEXT} (?:says|states|indicates)(?= (?:the|there|it|an?|this|you|all)\s)|it (?:says|states|mentions|indicates) that
    it is (?:stated|mentioned|noted|said|written) (?:in {_TEXT} )?that|(?:please )?note that
    (?:it (?:is|seems|appears)(?: (?:clear|stated|likely))?|we can (?:see|infer|conclude)|i can (?:see|tell you|say)) that
    the (?:\w+ )?answer (?:to (?:your|the|this) question )?(?:is|would be)(?: that|:)?
    i ?'? ?(?:a?m not|do(?: not|n ?'? ?t)|can(?:not| ?'? ?t)|ha(?:ve not|ven ?'? ?t)|ve never|have never)\b[^.;:!?,]{{0,60}}?(?: ?,)? but
    i (?:do |also |just )?(?:know|(?:have )?heard|(?:have )?read)(?: that|(?= (?:it|he|she|they|there|we)\b))
    i (?:do |also |just )?(?:think|believe|guess|suppose)(?: that|(?= (?:it|he|she|they|there|we|the|an?|this|these|most|some|many)\b))

    die antwort (?:lautet|ist)[:,]?(?: dass)?
    la réponse est(?: que| :)?
    la respuesta es(?: que|:)?
    la risposta è(?: che|:)?
    a resposta é(?: que|:)?
    het antwoord is[:,]?(?: dat)?
    odpowiedź to
    ответ [—–-]
"""  # noqa: E501
"""Beginnings of a sentence that add nothing to it, up to a space."""


def any_of(table: str) -> str:
    """Join a table of patterns, one per line, into one pattern."""
    return "|".join(line.strip() for line in table.splitlines() if line.strip())


_COURTESY = re.compile(
    any_of(_COURTESIES).replace("[:…]", "[:\uff1a]").replace("…", ".{0,400}"),
    re.IGNORECASE,
)
_PREAMBLE = re.compile(
    rf"(?:{any_of(_LABELS)})\s?[:\uff1a]\s*"
    rf"|(?:{any_of(_BEFORE_A_COMMA)})\s?(?:[,:!](?=\s)|[\uff0c\u3001\uff1a\uff01:])\s*"
    rf"|(?:{any_of(_BEFORE_A_BLANK)})\s",
    re.IGNORECASE,
)
_OFFER = re.compile(
    r"would you like|do you want|do you need|can i (?:help|assist|do)|may i|shall i|should i"
    r"|is there anything|anything else|want me to|how (?:can|may) i (?:help|assist)"
    r"|möchte(?:n sie|st du)|soll ich|kann ich|voulez-vous|souhaitez-vous|puis-je|¿|quieres? que"
    r"|vuoi|vuole|posso|quer que|gostaria|wilt? (?:u|je)|kan ik|chcesz|хотите|需要我"
    r"|您(?:还)?(?:想|需要)|你(?:还)?(?:想|需要)",
    re.IGNORECASE,
)
_EDGES = " \t!.,;~*_\"'¡¿\u2026\u3002\uff01\uff0c\u3001\u201c\u201d\u2019)(-\u2013\u2014"


def is_courtesy(sentence: str) -> bool:
    """Return whether a sentence is a courtesy, an offer or a lead-in, and states nothing."""
    core = sentence.replace("\u2019", "'").strip(_EDGES)
    if not core or len(core) > 600:
        return False
    return _COURTESY.fullmatch(core) is not None or (
        core[-1] in ":\uff1a" and _COURTESY.fullmatch(core[:-1].rstrip()) is not None
    )


def without_preamble(sentence: str) -> str:
    """Remove "Based on the provided context," and similar from the start of a sentence.

    A sentence that has nothing else is kept.
    """
    for _ in range(4):  # "Sure! According to the text, the answer is ..."
        found = _PREAMBLE.match(sentence.replace("\u2019", "'").replace("\u00a0", " "))
        if not found or not re.search(r"\w", sentence[found.end() :]):
            break
        sentence = sentence[found.end() :].lstrip()
    return sentence


def before_offer(question: str) -> str:
    """Return the statement before an offer: "It sails at nine, would you like a ticket?"."""
    for found in re.finditer(r"[,;\u2014\u2013\uff0c]\s*(?:so |and |but )?", question):
        if _OFFER.match(question, found.end()):
            return question[: found.start()].strip()
    return ""
