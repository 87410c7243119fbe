# ruff: noqa: RUF001  # the typographic quotes and full-width marks of other languages are meant

"""Words of English, and order words of a few other languages, that the rule-made part of planning knows."""

from __future__ import annotations

from collections.abc import Iterable
from re import Pattern, compile, escape


def words(text: str) -> frozenset[str]:
    """Split a list of words."""
    return frozenset(text.split())


def any_of(phrases: Iterable[str]) -> str:
    """Return a pattern that matches one of these phrases, longest first, spaces standing for any blank."""
    ordered = sorted(phrases, key=len, reverse=True)
    return "(?:" + "|".join(escape(phrase).replace(r"\ ", r"\s+") for phrase in ordered) + ")"


VERBS = words("""
    add advise analyse analyze answer apply arrange ask assess book brainstorm build buy calculate call cancel capture
    categorise categorize change check choose cite classify clean close collect combine compare compile complete compose
    compute configure confirm convert correct count create cut debug decide define delete deploy describe design detect
    determine diagnose discuss display divide download draft draw edit email embed enroll estimate evaluate examine
    execute explain explore export extract fetch file fill filter find fix flag forecast format gather generate get
    give guess help highlight identify illustrate implement import improve inform insert inspect install interpret
    invent invite join label launch list locate look make measure merge modify monitor move name notify open optimise
    optimize order organise organize outline paraphrase pay perform pick plan play plot post predict prepare present
    print proofread propose prove provide publish query quote rank rate read recommend record refactor remind remove
    rename rent repair rephrase replace report reply request research reserve reset resolve respond retrieve return
    review rewrite run save say schedule score search segment sell send set share shorten show simplify simulate sketch
    solve sort split start state stop store submit suggest sum summarise summarize synthesise synthesize tell test
    track transcribe transfer translate turn update upload use validate verify visualise visualize watch write
""")
"""Verbs that ask for something when they begin a clause."""

NOUNISH = words("""
    answer address book call change check count cut design draft draw email estimate file filter format help highlight
    invite label look make measure merge move name order outline pay pick plan play plot post present print
    process quote rank rate read record rent repair replace reply report request research reserve reset return review
    run save say score search segment set share show sketch sort split start state stop store sum test track transfer
    turn update upload use watch
""")
"""Verbs that are nouns as often: after "and" they count only with an object behind them."""

CONSTRAINT = compile(
    r"(?i)(?:please\s+)?(?:make sure|keep (?:it|them|this|the)|ensure|avoid|(?:do not|don'?t|never|always|only)\b"
    r"|include\b|exclude\b|limit\b|assume\b|note that|remember|consider\b|be\b|stick to"
    r"|use (?:a |an |the )?(?:\w+ ){0,2}(?:hints?|style|tone|bullets?|bullet points|format|words|sentences|language|"
    r"examples?|python|english|markdown|only|simple)\b"
    r"|(?:respond|answer|reply) (?:in|with|briefly|concisely|shortly)\b)"
)
"""How a sentence begins that says how the last request is to be done."""

QUESTION = compile(
    r"(?i)(?:what|which|who|whom|whose|where|when|why|how|is|are|was|were|does|do|did|can|could|should|would|will|"
    r"may|am)"
    r"(?:'s|\b)"
)
COMMAND_SHAPE = compile(
    r"(?i)(?!(?:i|you|he|she|it|we|they|there|here|this|that|these|those|the|a|an|my|our|your|his|her|its|their|"
    r"one|all|both|some|"
    r"in|on|at|with|as|for|if|when|while|since|because|after|before|under|over|about|by|from|to|of|like|unlike|"
    r"during|into|"
    r"not|never|is|was|are|were|has|had|have|and|but|or|so|where|although|though|than|per|via|within|without|"
    r"until|through|"
    r"against|between|among|upon|also|yes|no|hello|hi|thanks|only|just|even|maybe|perhaps|both|such|quite|"
    r"\w{2,}(?:ed|ing|ly)|\w{3,}s)\b)"
    r"[a-z]{2,12}\s+(?:me|us|a|an|the|my|our)\s+\w"
)
"""Looks like a command whose verb is not in the list: "Sing a song"."""
WISH = compile(
    r"(?i)(?:i|we)(?:'d| would)? (?:need|want|like|wish|have to|also need|also want|also have to|also like)\b"
    r"|(?:could|can|would|will) you\b|let me\b|let's\b|please\b|help me\b"
)
FILLER = compile(
    r"(?i)(?:(?:please|kindly|also|and|then|next|finally|lastly|first|firstly|second|secondly|third|thirdly|now|"
    r"ok|okay|hi|"
    r"hello|plus|or|but|so|just|additionally|furthermore|moreover|afterwards|afterward|after that|after this|"
    r"after which|"
    r"separately|besides|(?:based on|using|from|given|with|in|out of|according to)\s[^,.;:!?\n]{1,60}(?=,)|"
    r"in addition|based on (?:that|this|it)|at the end|in the end|at last|(?:could|can|would|will) you(?: please)?|"
    r"i(?:'d| would)? (?:also )?(?:need|want|like)(?: you)?(?: to)?|i have to|help me(?: to)?|to|let's|let me|"
    r"step \d+)\b"
    r"[\s,:]*)+"
)
"""What may stand before the verb of a request."""

ORDER = compile(
    r"(?i)\b(?:then|next|finally|lastly|afterwards?|after (?:that|this|which|doing (?:so|that|this))|"
    r"once (?:that|this|it)(?:'s| is| has been)? (?:done|finished|ready|complete)|subsequently|"
    r"based on (?:that|this|it)|at the end|in the end|"
    r"puis|ensuite|enfin|dann|danach|anschließend|luego|después|finalmente|poi|infine|depois)\b|然后|接着|最后|その後|次に"
)
"""Words that put one request behind another."""

COUNTED = compile(
    r"(?i)(?:and\s+)?(?:(?:first|second|third|fourth|fifth)(?:ly)?|last(?:ly)?|finally|after that|next|then|"
    r"additionally|furthermore)\s*,"
)
"""What begins one of several requests that are counted."""

HELP = compile(
    r"(?i)(?:(?:please|kindly) )?(?:can|could|would|will) you (?:please |kindly )?"
    r"(?:(?:help|assist)(?: me)?(?: out)?(?: with)?|solve|answer|do|find|provide|calculate|compute|(?:give|tell) me) "
    r"(?:(?:a|the|few|couple|of|some|several|following|two|three|four|five|two-step|all|these|this|my) ){0,4}"
    r"(?:these|this|that|them|it|things?|tasks?|questions?|problems?|calculations?|conversions?|requests?|information)"
    r"(?: and \w+)?(?: for me)?[.?!:]*"
)
"""A sentence that asks for help with what is counted before or behind it."""

FOREIGN_JOINT = compile(
    r"(?i)[,\s]{1,4}(?:und\s+)?(?:dann|danach|anschließend)\s+|[,\s]{1,4}(?:et\s+)?(?:puis|ensuite)\s+"
    r"|[,\s]{1,4}(?:y\s+)?(?:luego|después)\s+|[,\s]{1,4}(?:e\s+)?(?:poi|depois)\s+|[,，、]?\s{0,3}(?:然后|接着|その後|次に)"
)

ABBREVIATION = compile(
    r"(?i)(?:^|[\s(])(?:e\.g|i\.e|dr|mr|mrs|ms|prof|vs|etc|no|art|sec|st|inc|ltd|cf|al|approx|fig|[a-z])$"
)

_DEFINITE = (
    r"\b(?:this|the|that|my|our|his|her|attached|in|of|from|these|both|diese\w*|der|die|cet\w*|l'|esta|este|el|"
    r"la)\s+(?:[\w-]+\s+){0,2}?"
)
AUDIO = compile(
    rf"(?i){_DEFINITE}(?:audio|recordings?|voice(?: ?mails?| ?notes?| ?memos?| ?messages?)?|voicemails?|"
    rf"sound (?:file|clip)|podcast|"
    r"(?:speech|wav|mp3|m4a|ogg|flac) file|speakers?|callers?|call|clip|memo|dictation|interview|meeting|lecture|"
    r"aufnahme|"
    r"enregistrement|grabación|transcripts?|transcription)\b|\bwhat (?:is|was|'s|he|she|they|i) (?:\w+ )?(?:said|"
    r"says?|spoken)\b|"
    r"\blisten to\b|\b(?:is|was) (?:said|spoken|mentioned)\b|录音|音频"
)
IMAGE = compile(
    rf"(?i){_DEFINITE}(?:images?|pictures?|photos?|photographs?|screenshots?|scans?|x-?rays?|diagrams?|drawings?|"
    rf"bild|imagen)\b"
)
TRANSCRIBE = compile(
    r"(?i)(?:transcrib\w*|transkribier\w*|transcri(?:s|vez|re)|write down (?:what|everything)|(?:type|"
    r"write) (?:up|out) (?:this|the|that|my|what)|"
    r"(?:give|get|make|produce|provide|create|prepare|send|show|(?:i )?(?:need|want))\s+(?:me\s+)?(?:a|the|"
    r"an)?\s*(?:\w+\s+)?transcri(?:pt|ption)"
    r"|(?:a |the )?transcri(?:pt|ption) of|what (?:does|did) (?:the|this|that|my) (?:\w+ )?(?:audio|recording|"
    r"voice ?\w*|speaker|caller|clip|message|memo)"
    r" says?|what (?:is|was) (?:being )?said|(?:convert|turn) (?:the|this|that|my) (?:\w+ )?(?:audio|recording|"
    r"speech|voice ?\w*|clip|call|memo)"
    r"(?: file)? (?:in)?to (?:written |plain )?(?:text|words|writing))"
)
"""How a clause begins that only wants a recording written down."""
PRONOUN = compile(
    r"(?i)\b(?:it|its|them|they|these|those|both|this(?=\s*(?:$|[.,;:!?)]|and\b|to\b|into\b|in\b|as\b|for\b|"
    r"with\b|by\b|means?\b|says?\b|is\b))|"
    r"that(?=\s*(?:$|[.,;!?)]|and\b|into\b|to\b|as\b|in\b|for\b|text\b)))\b"
)
EXPLETIVE = compile(
    r"(?i)\b(?:is|was|would|will|are|if) it (?:be )?(?:\w+ ){1,2}(?:to|that|for|if|when)\b|\bit(?:'s| is|"
    r" would be| was) "
    r"(?:\w+ )?(?:important|possible|likely|legal|common|necessary|raining|cold|hot|worth|better|best|time|safe|"
    r"true)\b"
    r"|\bit takes\b|\bwhat time is it\b|\bhow (?:far|long|much) is it\b|\bdoes it take\b|\bthat is\b,?"
)
BARE = compile(
    r"(?i)[\w-]+\s+(?:it|this|that|them|these|those)(?:\s+(?:too|as well|out|again|properly|carefully|"
    r"briefly))?[.!?]*$"
)
"""A verb and a pronoun: what it is about, and so its node, is known only from the clause before."""
EVERYTHING = compile(
    r"(?i)\b(?:the above|all of (?:the above|it|them|this|that)|everything|all (?:the )?(?:results|answers|"
    r"outputs|findings)|"
    r"both (?:of them|results|answers|outputs|parts|texts|summaries)|the (?:results|answers|outputs|findings)|"
    r"these (?:results|answers|findings|outputs)|your (?:answers|findings|results))\b"
)
RESULT = compile(
    r"(?i)\b(?:the|that|this|your) (?:result|output|answer|response|outcome|finding|reply|resulting \w+|"
    r"generated \w+|final \w+)\b"
)
MATERIAL = compile(
    r"(?i)\b(?:the (?:following|text|passage|article|document|paragraph|email|contract|clause|code|snippet|"
    r"excerpt|story)\b|below\b|"
    r"this (?:text|passage|article|document|paragraph|email|contract|clause|code|snippet|excerpt|function|letter|"
    r"note|report|story)\b|"
    r"following\b|above\b|it\b|its\b|this\b|here\b)"
)
PRODUCTS = {
    "summar": words("summary summaries abstract tldr"),
    "transcri": words("transcript transcription transcripts text"),
    "translat": words("translation translations translated"),
    "explain": words("explanation explanations"),
    "analy": words("analysis analyses"),
    "review": words("review reviews"),
    "list": words("list lists items"),
    "outline": words("outline"),
    "draft": words("draft"),
    "describ": words("description"),
    "calculat": words("calculation total sum"),
    "comput": words("computation total sum"),
    "diagnos": words("diagnosis"),
    "classif": words("classification label category"),
    "compar": words("comparison"),
    "plan": words("plan itinerary"),
    "recommend": words("recommendation recommendations"),
    "suggest": words("suggestion suggestions"),
    "assess": words("assessment"),
    "find": words("findings"),
    "embed": words("embedding embeddings vector vectors"),
}
"""What a request leaves behind, by the stem of its verb: "summarise …" makes "the summary"."""

FAMILIES: tuple[frozenset[str], ...] = (
    words("code function script program snippet class implementation query regex"),
    words("letter email message note memo reply"),
)
"""Nouns that take each other's place: "write a script … test the code"."""

TRANSFORM = compile(
    r"(?i)(?:summari[sz]e|translate|explain|review|classify|shorten|rewrite|rephrase|paraphrase|simplify|"
    r"proofread|format|"
    r"extract|list|identify|highlight|find|check|test|refactor|optimi[sz]e|debug|fix|send|save|share|print|"
    r"describe|assess|"
    r"evaluate|analy[sz]e|interpret|point out|draft|write|give|embed|index|name|flag|tell)\b"
)
PLAIN_PRODUCT = words("""
    summary translation list report overview letter email reply note abstract headline title explanation answer
    recommendation conclusion outline table memo response
""")


def compiled_verbs(more: Iterable[str] = ()) -> Pattern[str]:
    """Return the pattern of a verb at the start of a clause; `more` are verbs besides those that everyone uses."""
    return compile("(?i)" + any_of(VERBS | frozenset(more)) + r"\b(?![-'’])")
