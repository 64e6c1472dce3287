"""Non-answers: refusals and "I do not know" in the main languages, and echoes of a question.

A text is a refusal if each of its sentences declines to answer, or only suggests where to ask; with
a single statement of fact it is an answer.
"""

import re

from ftreg.scoring.claims import is_question, sentences
from ftreg.scoring.courtesies import any_of, is_courtesy, without_preamble
from ftreg.scoring.words import stem, words

_NOT = r"(?:can'?t|cannot|can not|could not|couldn'?t|won'?t|will not|am unable to|'?m unable to|am not able to|'?m not able to|was(?: not|n'?t) able to|was unable to|am not allowed to|'?m not allowed to|must decline to|have to decline to|prefer not to|'d rather not|would rather not|am not comfortable|'?m not comfortable)"  # noqa: E501
_DO_NOT = r"(?:do not|don'?t|did not|didn'?t)"
_SOURCE = r"(?:the|this|that|these|your|my) (?:(?:\w+ ){0,2})(?:contexts?|texts?|passages?|documents?|documentation|information|articles?|sources?|excerpts?|paragraphs?|details|data|material|content|snippets?|transcript|page|knowledge base|records)(?: (?:provided|given|above|below|available|you (?:provided|gave|shared)))*"  # noqa: E501

_REFUSALS = rf"""
    (?:i|we)(?: |(?=')){_NOT} (?:answer|tell|say|provide|help|assist|give|determine|share|discuss|comply|fulfil|offer|access|verify|confirm|speculate|comment|respond|advise|engage|support|write|generate|create|do that|do this|be sure|be certain|locate|identify|disclose|reveal|recommend any|make)\b
    (?:i|we)(?: |(?=')){_NOT} (?:find|see|be of) (?:any |an |the |that |this |it\b|such |specific |relevant |help|assistance)
    (?:i|we) {_DO_NOT} (?:actually |really |currently |yet )?know\b
    (?:i|we) (?:actually |really |currently )?{_DO_NOT} (?:currently |actually |yet )?have (?:(?:any|an|the|that|this|enough|sufficient|specific|personal|direct|real-?time|reliable|up-to-date|exact|precise|the ability to|access to) )*(?:information|access|answer|data|details|knowledge|idea|clue|opinions?|beliefs?|ability|capability|context|preferences|records?|it|that|to answer|feelings)\b
    (?:i|we) {_DO_NOT} (?:understand|see|find) (?:the|your|this|that|any|an)\b.*\b(?:question|request|information|answer|mention)
    (?:i|we) have no (?:idea|information|clue|answer|data|knowledge|comment|access|way of knowing|record|details|opinion)\b
    (?:i'?m|i am|we'?re|we are) (?:\w+ )?(?:not sure|unsure|not certain|uncertain|not aware|unaware|not familiar|not qualified|not in a position|only able)\b
    (?:i|we) (?:would )?need (?:more|further|additional|some more) (?:information|context|details|data)\b
    (?:i'?m|i am) (?:just |only )?an? (?:ai|artificial intelligence|(?:large )?language model|chatbot|\w+ assistant)\b.{{0,40}}\b(?:and|so|which)\b.{{0,20}}(?:\bnot|cannot|n'?t|unable)\b
    (?:i'?m|i am) (?:\w+ )?(?:sorry|afraid)(?:,? i)?(?: can'?t| cannot)?
    {_SOURCE} (?:does not|doesn'?t|do not|don'?t|did not|fails? to)(?: (?:explicitly|directly|specifically|actually))? (?:say|mention|state|specify|contain|provide|include|give|indicate|tell|answer|address|discuss|cover|offer|have|reveal|disclose|clarify|explain)\b
    {_SOURCE} (?:provides?|gives?|contains?|has|have|includes?|offers?) (?:no|not enough|insufficient|too little|little) (?:answer|information|details?|mention|data|clue|indication)\b
    (?:this|that|it|the answer|this information|that information|the information|the question|this question) (?:is|was|has)(?: not|n'?t)(?: (?:been|explicitly|directly|specifically|clearly))* (?:given|stated|mentioned|specified|provided|known|clear|available|answered|answerable|disclosed|indicated|found|contained|in the)\b
    (?:this|the|that|your) question (?:can'?t|cannot|can not|could not) be (?:answered|determined)\b
    (?:this|it|that|the answer) (?:can'?t|cannot|could not) be (?:determined|answered|known|inferred|said)\b
    there (?:is|'?s|are|was) (?:no|not enough|insufficient|not any|not sufficient) (?:(?:specific|further|relevant|such|direct|enough|clear|sufficient) )*(?:information|details?|mention|answer|data|indication|context|evidence)(?: (?:about|on|of|regarding|available|provided|given|in|to|that|here|for|as to|whether|concerning)\b|$)
    there (?:isn'?t|aren'?t|wasn'?t) (?:any|enough|sufficient) (?:\w+ )?(?:information|details|mention|data)\b
    (?:it(?:'?s| is) )?(?:not possible|impossible) to (?:tell|say|determine|answer|know|infer)\b
    (?:it(?:'?s| is| remains) )?(?:unclear|not clear|unknown|uncertain|hard to say|hard to tell|difficult to say|not known)(?: (?:from|based on|whether|what|when|who|why|how|if|in|to)\b.*)?$
    (?:nobody|no one|no-one) (?:really )?knows(?: for (?:sure|certain))?$|(?:we|you|one) (?:may|might|will|can) never know\b
    (?:not|never) (?:explicitly |specifically |directly )?(?:stated|mentioned|specified|given|available|provided|known|disclosed|applicable|answerable|found|clear|sure)(?: (?:in|by|from|here)\b.*)?$
    (?:no|insufficient|not enough) (?:(?:relevant|specific|further) )?(?:answer|information|info|data|details|idea|clue|comment|mention|context|evidence)(?: (?:is |was )?(?:found|available|given|provided|to answer|in|about|on|regarding)\b.*)?(?:,? (?:sorry|i'?m afraid))?$
    (?:n/?a|unknown|unanswerable|no comment|idk|dunno|none given|beats me|can'?t say|cannot say|no idea|i wish i knew|who knows|don'?t know|do not know|i (?:can'?t|cannot))$
    (?:maybe|perhaps|possibly|it depends|that depends|could be)$

    (?:(?:das|ich|wir) )*(?:weiß|wissen|weiss) (?:(?:das|es|ich|wir|leider) )*(?:\w+ )?nicht\b|keine ahnung$|keine angabe$|unbekannt$|nicht bekannt$
    (?:das |ich |wir |dazu |darüber |diese frage |leider |es )*(?:kann|können|darf|konnte)\b.{{0,80}}\b(?:nicht|keine?n?)\b.{{0,60}}\b(?:beantworten|sagen|helfen|geben|nennen|mitteilen|finden|bestimmen|beurteilen|machen|antworten|weiterhelfen)
    (?:darüber |dazu |ich |mir |wir |leider )*(?:habe|haben|liegen|besitze)\b.{{0,60}}\bkeine?n? (?:\w+ )?(?:informationen|information|angaben|daten|ahnung|antwort|zugriff|zugang|kenntnis)
    (?:laut |im |in |der |die |das |dem )*(?:bereitgestellten? |gegebenen? |vorliegenden? )?(?:text|kontext|dokument|artikel|abschnitt|passage|unterlagen)\b.{{0,40}}\b(?:nicht|keine?n?)\b.{{0,40}}(?:erwähn|angegeb|genannt|gesagt|hervor|information|angabe|antwort|enth)
    (?:es )?gibt (?:\w+ )?(?:dazu |darüber )?keine (?:information|angabe|antwort)|nicht (?:angegeben|erwähnt|genannt)

    je ne (?:le |la )?sais pas\b|(?:je|nous|on) (?:ne|n') ?(?:\w+ )?(?:peux|puis|pouvons|peut|suis|sommes|dispose|disposons|ai|avons|possède|connais|trouve)\b.{{0,20}}\b(?:pas|aucune?)\b
    (?:le |la |les |ce |cette |il |ni )?(?:texte|contexte|documents?|passage|article|extrait)\b.{{0,30}}\b(?:ne|n')\b ?.{{0,20}}(?:pas|aucune?|rien|ni)\b
    il n'y a (?:pas|aucune)\b.{{0,20}}(?:information|réponse|détail|mention)|(?:cela |ce |la réponse )?n'est pas (?:précisé|mentionné|indiqué|connu|clair)|aucune (?:idée|information|réponse)|(?:non|pas) (?:précisé|mentionné|indiqué)e?|inconnue?$|impossible (?:de|à) (?:dire|savoir|répondre|déterminer)

    (?:yo )?no (?:lo |la )?sé\b|(?:yo |nosotros )?no (?:(?:le|te|se|les|lo) )?(?:puedo|podemos|puede|tengo|tenemos|dispongo|dispone|hay|encuentro|conozco|estoy segur|dispongo)\b.{{0,60}}\b(?:responder|contestar|decir|decirle|decirte|ayudar\w*|proporcionar\w*|dar\w*|información|acceso|respuesta|datos|idea|determinar|saber|segur[oa]|mención|compartir|ofrecer\w*|contestar\w*)
    (?:el |la |los |este |esta )?(?:texto|contexto|documento|pasaje|artículo|fragmento)\b.{{0,20}}\bno (?:\w+ )?(?:menciona|dice|indica|especifica|contiene|proporciona|ofrece|da|incluye|responde)
    no (?:se (?:menciona|indica|especifica|dice|sabe)|está (?:claro|especificado|indicado)|especificado|mencionado|disponible)|desconocido$|ni idea$|no sabría decir|sin (?:información|respuesta|datos)|es imposible (?:saber|decir|determinar)

    (?:io )?non (?:lo )?so\b|(?:io )?non (?:(?:le|ti|vi|lo|la) )?(?:posso|possiamo|sono in grado|ho|abbiamo|dispongo|c'è|ci sono|è possibile|riesco|trovo|conosco)\b.{{0,60}}\b(?:rispond\w+|dir\w+|aiut\w+|forni\w+|dar\w+|informazion[ei]|accesso|risposta|dati|idea|stabilire|determinare|sapere|condivid\w+|menzion\w*)
    (?:il |la |lo |questo |nel )?(?:testo|contesto|documento|brano|articolo|passaggio)\b.{{0,20}}\bnon (?:\w+ )?(?:menziona|dice|indica|specifica|contiene|fornisce|riporta|precisa|risponde|offre)
    non (?:è (?:specificato|indicato|menzionato|noto|chiaro)|specificato|indicato|menzionato|disponibile|si sa)|sconosciut[oa]$|nessuna (?:idea|informazione|risposta)

    (?:eu )?não (?:o )?sei\b|(?:eu )?não (?:(?:lhe|te|o) )?(?:posso|podemos|consigo|tenho|temos|disponho|há|é possível|encontro|encontrei|conheço)\b.{{0,60}}\b(?:respond\w+|dizer\w*|ajud\w+|fornec\w+|dar\w*|informaç\w+|acesso|resposta|dados|ideia|determinar|saber|certeza|compartilhar|menç\w+)
    (?:o |a |os |este |esse )?(?:texto|contexto|documento|trecho|artigo|passagem)\b.{{0,20}}\bnão (?:\w+ )?(?:menciona|diz|indica|especifica|contém|fornece|informa|responde|oferece)
    não (?:é (?:especificado|mencionado|informado|claro)|está claro|especificado|mencionado|informado|disponível|se sabe)|desconhecid[oa]$|nenhuma (?:ideia|informação|resposta)|sem (?:informação|resposta)

    (?:(?:dat|ik) )*weet (?:(?:dat|het|ik) )*niet\b|(?:dat |ik |wij |deze vraag |helaas )*(?:kan|kunnen|mag)\b.{{0,60}}\b(?:niet|geen)\b.{{0,60}}\b(?:beantwoorden|zeggen|helpen|geven|vertellen|vinden|bepalen|antwoorden|verstrekken)
    (?:ik |wij |we |daar )*(?:heb|hebben|beschik)\b.{{0,40}}\b(?:geen|niet over)\b.{{0,20}}(?:informatie|toegang|antwoord|gegevens|idee)|(?:de |het )?(?:tekst|context|document|artikel|passage)\b.{{0,40}}\b(?:niet|geen)\b.{{0,40}}(?:vermeld|genoemd|gezegd|zegt|noemt|informatie|antwoord|vermeldt)|geen idee$|onbekend$|niet (?:vermeld|bekend|genoemd)

    (?:ja )?(?:tego )?nie wiem\b|(?:niestety )?nie (?:mogę|możemy|mam|mamy|jestem w stanie|potrafię|posiadam|znam|ma)\b.{{0,60}}(?:odpowie|powiedzie|pomóc|poda|udzieli|informacj|dostęp|danych|pojęcia|określi|odpowied)|(?:w )?(?:tekst|kontekst|dokument|artykuł)\w*\b.{{0,20}}\bnie (?:\w+ )?(?:wspomina|podaje|zawiera|mówi|określa|ma|wynika)|nie (?:podano|wiadomo|określono)|nieznan[eya]$|brak (?:informacji|danych|odpowiedzi)
    (?:к сожалению,? )?(?:я )?(?:этого )?не (?:знаю|могу|уверен|располагаю|имею|нашёл|нашел|нашла|в состоянии|обладаю)\b|(?:к сожалению,? )?у меня нет (?:\w+ )?(?:информации|данных|доступа|ответа|сведений)|(?:в )?(?:(?:этом|данном|предоставленном) )?(?:текст|контекст|документ|стать|отрывк)\w*\b.{{0,40}}\b(?:не (?:указ|говор|упомин|сказ|содерж|сообща|привод|отвеча)|нет (?:информации|ответа|данных|упоминан))|(?:это )?не(?:известно| указано| упоминается| ясно)|нет (?:информации|данных|ответа)|понятия не имею|неизвестно$
    (?:eu )?nu (?:știu|stiu)\b|(?:din păcate,? )?(?:eu )?nu (?:(?:vă|îți|te|vă) )?(?:pot|putem|am|avem|dețin|cunosc|găsesc|sunt sigur)\b.{{0,60}}(?:răspun|spun|ajut|ofer|furniz|informaț|acces|date|idee|determin|da )|(?:textul|contextul|documentul|pasajul|articolul)\b.{{0,20}}\bnu (?:\w+ )?(?:menționează|spune|precizează|conține|oferă|indică|specifică)|nu (?:se (?:menționează|știe|precizează|specifică)|este (?:menționat|specificat|clar|precizat))|necunoscut$|nicio idee$
    (?:bunu |maalesef,? |üzgünüm,? |ben )*(?:bilmiyorum|bilemiyorum|bilmiyoruz|emin değilim)\b|.{{0,100}}\b(?:cevap veremem|yanıtlayamam|cevaplayamam|söyleyemem|yardımcı olamam|veremem|bilgim yok|bilgiye sahip değilim|bilgi (?:yok|bulunmuyor|bulunmamaktadır|verilmemiş(?:tir)?)|erişimim yok|fikrim yok|belirtilmemiş(?:tir)?|söylenmiyor|bahsedilmiyor|bilinmiyor)$
    (?:rất tiếc,? |xin lỗi,? )*(?:tôi |mình |chúng tôi )(?:rất tiếc,? )?(?:không|chưa) (?:biết|thể|có|chắc|rõ|tìm thấy)\b|không (?:biết|rõ|có thông tin|được (?:đề cập|nêu|nhắc đến)|có câu trả lời|thể (?:xác định|trả lời))|(?:văn bản|ngữ cảnh|đoạn văn|tài liệu|bài viết)\b.{{0,30}}\bkhông (?:đề cập|nói|nêu|cung cấp|chứa|có)
    (?:δυστυχώς,? |συγγνώμη,? |λυπάμαι,? (?:αλλά )?)*(?:εγώ )?(?:δεν|δε) (?:το )?(?:ξέρω|γνωρίζω|μπορώ|έχω|είμαι σίγουρ|διαθέτω|βρίσκω|βρήκα)|(?:το |στο |η )?(?:κείμενο|πλαίσιο|έγγραφο|άρθρο|απόσπασμα)\b.{{0,20}}(?:δεν|δε) (?:\w+ )?(?:αναφέρ|λέει|περιέχει|παρέχει|διευκριν|δίνει)|δεν (?:αναφέρεται|υπάρχ\w+ (?:πληροφορί|απάντηση)|είναι (?:γνωστό|σαφές)|προσδιορίζεται)|άγνωστο$|καμία ιδέα$
    (?:للأسف[،,]? |عذرا[،,]? |عذرًا[،,]? |آسف[،,]? |أنا )*(?:لا (?:أعرف|أعلم|أدري|أستطيع|يمكنني|أملك|أمتلك|تتوفر لدي|نعرف)|ليس(?:ت)? لدي|لست متأكد|لم أجد)|(?:لا |لم )(?:يذكر|يُذكر|تذكر|يحدد|يحتوي|توجد معلومات|يوجد (?:جواب|معلومات)|يوضح)|(?:النص|السياق|المستند|الوثيقة|المقال)\b.{{0,20}}(?:لا|لم) |غير (?:معروف|مذكور|محدد)
    (?:क्षमा करें[,।]? |माफ़? ?कीजिए[,।]? |खेद है[,।]? (?:कि )?)*(?:मुझे|मैं|मेरे पास|हमें)(?=\s).{{0,100}}(?:नहीं (?:पता|मालूम|जानत|है|हूँ|हूं|दे सकत|बता सकत|कर सकत)|पता नहीं|जानकारी नहीं)|(?:पता|मालूम) नहीं|(?:इस |दिए गए )?(?:पाठ|संदर्भ|दस्तावेज़?|लेख|गद्यांश)(?=\s).{{0,80}}नहीं|अज्ञात$|कोई जानकारी नहीं
    (?:ขออภัย|ขอโทษ|เสียใจ)?.{{0,12}}(?:ฉัน|ผม|ดิฉัน|เรา)?(?:ไม่(?:ทราบ|รู้|สามารถ(?:ตอบ|บอก|ให้|ช่วย|ระบุ)|มีข้อมูล|แน่ใจ|พบข้อมูล))|(?:ข้อความ|บริบท|เอกสาร|บทความ).{{0,20}}ไม่(?:ได้)?(?:ระบุ|กล่าวถึง|บอก|มี|ให้)|ไม่(?:ได้)?(?:ระบุ|กล่าวถึง)|ไม่มี(?:คำตอบ|ข้อมูล)
    (?:很?抱歉|对不起|不好意思|非常抱歉|很遗憾)?[,，。]?(?:但|但是)?(?:作为.{{0,12}}[,，])?(?:我|我们)?(?:也|并|目前|暂时|还)*(?:不(?:知道|清楚|了解|确定|能|会)|无法|没有|没法|未能|不太?(?:清楚|确定))(?:(?:回答|告诉|提供|确定|帮助|得知|找到|判断|给出|知道|获取|访问|获得|答案|相关|关于|足够|这|该|任何|您|你|有关|权限|信息|具体).*)?$
    (?:根据.{{0,16}}[,，])?(?:文中|文章|文本|上下文|原文|文档|资料|材料|提供的信息|该段落|段落)(?:里|中)?(?:并)?(?:没有|未|无|不)(?:有|提及|提到|说明|指出|给出|包含|提供|涉及|明确)|未(?:提及|提到|说明|知)$|未知$|(?:无法|不能)(?:确定|回答|得知|判断|从)|没有(?:相关|足够)?(?:的)?(?:信息|答案|资料)|不详$
    (?:申し訳(?:ありません|ございません)が?|すみません(?:が)?|ごめんなさい|残念ながら|あいにく)?[、,。]?.{{0,60}}(?:分かりません|わかりません|知りません|存じません|答えられません|お答えできません|回答できません|お伝えできません|提供できません|お手伝いできません|できかねます|不明です|情報(?:は|が)(?:ありません|ございません|含まれていません|見つかりません)|記載(?:されて)?(?:いません|がありません|はありません)|書かれていません|言及(?:されて)?(?:いません|がありません)|わからない|分からない|知らない)(?:でした)?$|不明$|未詳$
    (?:죄송(?:합니다|하지만)(?:만)?[,.]? ?)?.{{0,60}}(?:모릅니다|모르겠습니다|모르겠어요|알 수 없습니다|알지 못합니다|답변할 수 없습니다|답할 수 없습니다|제공할 수 없습니다|도와드릴 수 없습니다|정보가 없습니다|언급되지 않았습니다|나와 있지 않습니다)$|알 수 없음$
"""  # noqa: E501
"""How a sentence begins that declines to answer; a line or two per language, English first."""

_APOLOGIES = r"""
    (?:well|hmm+|oh|so|but|and|however|yet),?\s
    (?:i'?m|i am|we'?re|we are) (?:(?:so|very|really|deeply|truly) )?(?:sorry|afraid)(?: to say)?(?: that)?(?:[,;.]? ?but|,)?\s
    (?:i |we |my )?apolog(?:i[sz]e|ies)\b[^,;]{0,60}[,;]? ?(?:but|and|as)\s|sorry[,;]? (?:but )?
    (?:unfortunately|regrettably|sadly|honestly|frankly|to be honest|at (?:this|the) (?:time|moment)),?\s
    as an? (?:\w+ ){0,4}(?:ai|model|assistant|chatbot|bot)\b[^,]{0,40},\s
    (?:i think|i believe|i guess|i must (?:admit|say|clarify)|it seems|it appears)(?: that)?\s
    (?:based on|according to|from|given|in) [^,]{3,80},\s
    (?:leider|tut mir leid|es tut mir leid|entschuldigung|verzeihung|bedaure),?(?: aber)?\s
    (?:désolée?|je suis désolée?|malheureusement|pardon|excusez-moi),?(?: mais)?\s
    (?:lo siento|lo lamento|desafortunadamente|lamentablemente|perdón|disculpe),?(?: pero)?\s
    (?:mi dispiace|purtroppo|scusi?),?(?: ma)?\s|(?:desculpe|sinto muito|lamento|infelizmente),?(?: mas)?\s
    (?:sorry|helaas|het spijt me),?(?: maar)?\s|(?:przepraszam|przykro mi|niestety),?(?: ale)?\s
    (?:извините|простите|к сожалению|сожалею),?(?: но)?\s|(?:îmi pare rău|din păcate|scuze),?(?: dar)?\s
    als ki\b[-\w ]{0,30}? (?=habe|kann|darf|bin|verfüge|weiß)
    (?:als|en tant qu(?:e(?= )|(?='))|como|in quanto|как|jako)[ '][^,]{0,40}(?:ki|ia|ai|ии|si|sprachmodell|taalmodel|modèle|modelo|modello|модель)\b[^,]{0,40},\s
"""  # noqa: E501
_APOLOGY = re.compile(any_of(_APOLOGIES), re.IGNORECASE)
# What is said beside a refusal and answers nothing either.
_ADVICES = r"""
    please (?:ask|check|consult|contact|visit|refer|see|provide|clarify|try|call|specify|share|rephrase|look|search|reach|seek|let|give|tell|be|remember|talk|speak|do not|don't)\b
    it(?:'?s| is) (?:\w+ )?(?:important|crucial|essential|not (?:\w+ ){0,2}(?:appropriate|ethical|legal|okay|respectful))
    you (?:can|could|may|might|should|will need to)(?: want to| wish to| try to)? (?:ask|check|consult|contact|visit|call|look|refer|search|find (?:it|this|that|more|out|the answer)|reach|try|see|seek)\b
    (?:i|we)(?:'d| would)? (?:recommend|suggest|advise|encourage|urge)\b
    (?:try|consult|contact|ask|check|visit|consider|refer|see|call|reach out)\b.{0,80}\b(?:a|an|the|your|their|our|with)\b
    if you (?:have (?:(?:any|other|more|further|additional) )*(?:questions|concerns|details)|(?:can |could )?(?:provide|share|give)|are (?:feeling|experiencing|struggling|in need))\b
    (?:i|we)(?:'d| would| can|'ll| will) (?:be )?(?:happy|glad|try|help|do my best|assist)\b|let'?s focus\b
    i (?:strive|aim|am (?:designed|programmed|here|trained))\b|(?:my|the) (?:knowledge|training|purpose|goal|role)\b|my apologies
    (?:violence|harm|such (?:a |an )?(?:request|actions?|behaviou?r|content))\b|bitte|wenden sie|fragen sie|veuillez|consultez
    consulte|por favor|le recomiendo|si prega|consulti|vraag|proszę|пожалуйста|обратитесь|请|建议|您可以(?:咨询|查|联系|参考)|你可以(?:咨询|查|联系|参考)
    .{0,40}(?:お問い合わせ|ご確認|お尋ね)ください
"""  # noqa: E501
_ADVICE = re.compile(
    r"(?:(?:but|and|so) |(?:however|instead|additionally|furthermore|therefore),? )*"
    rf"(?:{any_of(_ADVICES)})",
    re.IGNORECASE,
)
# What is said of a request that is refused, and only beside the refusal.
_MORAL = re.compile(
    r"\b(?:(?:un)?ethical|illegal|unlawful|harm(?:ful)?|dangerous|crimes?|consequences|violence"
    r"|respect(?:ful)?|inappropriate|offensive|dignity|discrimination|privacy)\b",
    re.IGNORECASE,
)
_TURN = re.compile(
    r"(?:,|;|\u2014| -) ?(?:but|however|though|although|yet|aber|mais|pero|ma|mas|maar|ale|но|dar"
    r"|but rather)\b,? |[\uff0c,](?:但是|但|不过|不過)|(?:が|けど)、|: (?=\S)",
    re.IGNORECASE,
)
_REFUSAL = re.compile(any_of(_REFUSALS), re.IGNORECASE)
_LONGEST = 600


def _declines(sentence: str) -> bool:
    """Whether one sentence declines to answer, and everything after a "but" in it does too."""
    core = sentence.replace("\u2019", "'").strip(" \t!.,;~*_\"'\u2026\u3002\uff01\u201c\u201d()।")
    for _ in range(4):
        found = _APOLOGY.match(core)
        if not found:
            break
        core = core[found.end() :]
    found = _REFUSAL.match(core[:_LONGEST])
    if found is None:
        return False
    turn = _TURN.search(core, found.end())
    return turn is None or _says_nothing(core[turn.end() :])


def _says_nothing(sentence: str) -> bool:
    return (
        is_question(sentence)
        or is_courtesy(sentence)
        or _ADVICE.match(sentence.replace("\u2019", "'").lstrip(" \"'*")) is not None
        or _declines(sentence)
    )


def is_refusal(text: str) -> bool:
    """Return whether a text declines to answer, or says that the answer is not known.

    "I'm sorry, but I cannot tell you." does; "I do not know the fare, but it sails at nine." and
    "He said he did not know." do not: they state a fact. 19 languages.
    """
    found = [unit for unit in sentences(text) if not is_courtesy(unit)]
    declined = [_declines(unit) or _declines(without_preamble(unit)) for unit in found]
    return any(declined) and all(
        declines or _says_nothing(unit) or (any(declined[:place]) and _MORAL.search(unit))
        for place, (unit, declines) in enumerate(zip(found, declined, strict=True))
    )


_FRAMES = r"""
    (?:you(?:'re| are)? (?:asked|ask|asking|want(?:ed)? to know|would like to know|wonder(?:ed|ing)?)(?: me| about| if| whether)?|(?:the |your )?question(?: is| was|:)?|regarding (?:the|your) question|(?:this|that) is about|(?:in (?:response|reply|answer) to|as (?:to|for)|concerning) (?:the|your) question|(?:du|sie) (?:fragst|fragen|möchtest wissen|möchten wissen)|(?:die |ihre |deine )?frage(?: ist| lautet)?|(?:vous (?:demandez|voulez savoir)|(?:la |votre )?question(?: est)?)|(?:usted )?(?:pregunta|preguntas|quiere saber)|(?:la |su |tu )?pregunta(?: es)?|(?:la )?domanda(?: è)?|(?:a )?pergunta(?: é)?|vraag|вопрос|(?:你|您)(?:问的?是|想知道(?:的是)?)|问题(?:是)?|質問(?:は)?|ご質問は?)
"""  # noqa: E501
_FRAME = re.compile(
    rf"\s*(?:so |well |ok(?:ay)?,? )?(?:{any_of(_FRAMES)})\s*[:,\uff1a\uff0c、]?\s*",
    re.IGNORECASE,
)
_ASKING_LIST = """
    who whom whose what which when where why how does do did is are was were has have had can could
    may might must shall should will would the a an of in on at to for by with and it there this
    that be been
"""
_ASKING = frozenset(_ASKING_LIST.split())
_INVERTED_LIST = """
    do does did is are was were has have had can could may might must shall should will would
"""
_INVERTED = frozenset(_INVERTED_LIST.split())
_OF_A_CHOICE_LIST = """
    or oder ou o oppure lub albo или 还是 sau veya hay
"""
_OF_A_CHOICE = frozenset(_OF_A_CHOICE_LIST.split())


def _common(left: list[str], right: list[str]) -> int:
    """Return the length of the longest common subsequence of two short lists."""
    row = [0] * (len(right) + 1)
    for word in left:
        before = 0
        for place, other in enumerate(right, 1):
            before, row[place] = (
                row[place],
                (before + 1 if word == other else max(row[place], row[place - 1])),
            )
    return row[-1]


def _forms(word: str) -> frozenset[str]:
    return frozenset((word, stem(word)))


_MOST_WORDS = 400


def echoes(question: str, text: str) -> bool:
    """Return whether a text only repeats a question, and adds nothing to it.

    A question back that names what is unclear is not an echo, nor is "Dogs are allowed." after "Are
    dogs allowed?".
    """
    asked, said, framed = words(question)[:_MOST_WORDS], list[str](), False
    for unit in sentences(text):
        found = _FRAME.match(unit)
        framed = framed or bool(found and found.group().strip())
        said += words(unit[found.end() :] if found else unit)
    del said[3 * _MOST_WORDS :]
    if not asked or not said:
        return False
    known = {form for word in asked for form in _forms(word)}
    if any(not _forms(word) & known and word not in _ASKING for word in said):
        return False
    once = said[: max(len(asked), len(said) // max(1, round(len(said) / len(asked))))]
    alike = _common(asked, once) >= 0.8 * max(len(asked), len(once))
    if asked[0] in _INVERTED and not framed:  # turned round, it affirms
        return alike and (said[0] == asked[0] or text.rstrip().endswith(("?", "\uff1f")))
    told = {word for word in asked if word not in _ASKING}
    covered = {word for word in told if _forms(word) & {form for s in said for form in _forms(s)}}
    return alike or (
        bool(told) and not _OF_A_CHOICE & set(asked) and len(covered) > 0.8 * len(told)
    )
