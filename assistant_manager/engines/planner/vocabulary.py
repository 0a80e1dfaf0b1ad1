"""The words the planner knows. A question holding any other word gets no plan.

That is what keeps "what is 2 + 2 and who is the president?" from being half answered: every
word must be one that cannot change what is asked, or one that an intent's pattern consumes.
"""

from __future__ import annotations

import re

# Said around a question; dropped wherever they stand.
_CHATTER = (
    r"(hello|hi|hey|dear assistant|good (morning|afternoon|evening)|greetings)( there)?",
    r"(thanks|thank you|cheers)( (in advance|a lot|very much|so much))?( for (your|the) help)?",
    r"please|kindly|pls|just|now|then|so|also|again|quickly|okay|ok|exactly",
    r"(can|could|would|will) you( be able to)?( please)?( help( me)?( (to|with|out))?)?",
    r"(can|could) (i|we) (get|have) (some |a little )?help( with)?",
    r"help me( (to|with|out))?( with)?|i need( some| your)? help( with| on)?|any help",
    r"do you know|tell me|show me|give me|let me know|remind me",
    r"i( would)? (need|want|like|have|am trying|try)( you)? to( know)?( how)?( to)?",
    r"i (need|want)|i wonder|i am wondering|let us|we need to|we want to|help",
    r"how (do|can|would|should) (i|you|we|one)( go about)?",
    r"(for|in|from) my (math |maths |algebra |calculus )?(homework|class|exam|test|lesson)",
    r"my (homework|teacher|exercise|textbook) (says|asks( me)?( to)?|wants me to)",
    r"(here is|this is|i have) (my|a|the) (question|problem|equation|task)",
    r"(in|by|with) (python|sympy|code)|using (python|sympy|code)( interpreter)?",
    r"for me|me|step by step",
)
_SYNONYMS = (
    (r"(greatest|highest|largest|biggest) common (divisor|factor|measure)s?|gcf|hcf|hcd", "gcd"),
    (r"(least|lowest|smallest) common (multiple|denominator)|lowest multiple", "lcm"),
    # A count of what follows is not one of them.
    (r"(<n\d+>) (numbers?|values?|integers?|terms?|fractions?|equations?|unknowns?)", r"\1 counted"),
    (r"prime (factors|factorization|factorisation|decomposition)", "primefactors"),
    (r"(factor|factorise|factorize|decompose|break down) (<n\d+>) into (its )?primes?( factors)?",
     r"ask primefactors of \2"),
    (r"with respect to|w \. r \. t \.|wrt|in (the )?variable", "wrt"),
    (r"(for|what|which|find)( the| all)? values? of (<v\d+>) (satisfy|satisfies|solves?|makes?)",
     r"valuesof \3 satisfy"),
    (r"(what|which)( all)? values? of (<v\d+>) (satisfy|satisfies|solves?|makes?)",
     r"valuesof \3 satisfy"),
    (r"for (what|which)( values? of)? (<v\d+>) (is|does|are)", r"valuesof \3 satisfy"),
    (r"(what|which) (<v\d+>) (satisfies|satisfy|solves)", r"valuesof \2 satisfy"),
    (r"what must (<v\d+>) be", r"ask \1"),
    (r"what (does|do|will) (<\w\d+>) (come to|make|give|evaluate to|work out to|equal)", r"ask \2"),
    (r"(what|how much|which) (is|are|does|do|would be|will be|=)|(what|how much)(?= <)", "ask"),
    (r"find|calculate|compute|evaluate|determine|work out|figure out|obtain|get|give|state", "ask"),
    (r"differentiate", "ask derivative of"),
    (r"(integrate|antidifferentiate)", "ask integral of"),
    (r"(definite |indefinite )?integral|anti ?derivative|anti - derivative|primitive", "integral"),
    (r"first derivative", "derivative"),
    (r"second derivative", "secondderivative"),
    (r"third derivative", "thirdderivative"),
    (r"factori[sz]e|factor( out| completely)?", "factor"),
    (r"(multiply|expand) out|expand", "expand"),
    (r"simplify|reduce", "simplify"),
    (r"roots?|zeros|zeroes|solutions?", "roots"),
    (r"determinant|det", "determinant"),
    (r"arithmetic mean|average|mean", "mean"),
    (r"standard deviation|std dev|stdev", "deviation"),
    (r"(approaches|tends to|goes to|approaching)", "->"),
    (r"from (the )?(right|above)|from (the )?right side", "from right"),
    (r"from (the )?(left|below)|from (the )?left side", "from left"),
    (r"given that|given|if|when|where|such that|provided that|knowing that", "if"),
    (r"satisfying|that satisf(y|ies)|which satisf(y|ies)|that solves?", "if"),
    (r"simultaneous(ly)?|system|pair", "system"),
    (r"solve for", "solve for"),
)  # fmt: skip
_FILLERS = (
    r"the|a|an|this|that|these|those|following|its|my|our|all|both",
    r"functions?|expressions?|values?|results?|answers?|polynomial|numbers?|formula",
    r"equations?|inequality|inequalities|quadratic|linear|matrix|matrices|problem|sum total",
    r"calculation|data|dataset|set|definite|algebraic",
)


def _compiled(phrases: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\S)(?:{'|'.join(phrases)})(?!\S)")


# "Factor: x^2 - 1"
_VERB_COLON = re.compile(
    r"(?<!\S)(ask|solve|factor|expand|simplify|of|derivative|integral|limit|mean|median|determinant)"
    r" , (?=<)"
)
_CHATTER_RE = _compiled(_CHATTER)
_FILLER_RE = _compiled(_FILLERS)
_SYNONYM_RES = tuple((_compiled((phrase,)), word) for phrase, word in _SYNONYMS)


def canonical(words: str) -> str:
    """The sentence with one word for each idea, and without the words that say nothing.

    `words` is lower case, with one space between words and signs.
    """
    words = _CHATTER_RE.sub(" ", words)
    words = _squeezed(words)
    for phrase, word in _SYNONYM_RES:
        words = phrase.sub(word, words)
    words = _squeezed(_FILLER_RE.sub(" ", words)).replace(" of of ", " of ")
    # Marks between sentences all separate alike; at the ends they say nothing.
    words = re.sub(r" *[.,;:?](?: *[.,;:?])* *", " , ", words)
    words = _VERB_COLON.sub(r"\1 ", words)
    words = re.sub(r"(?<!\S)ask(?: ask)+(?!\S)", "ask", words)
    return re.sub(r"^(?: ?,)+|(?:, ?| )+$", "", words).strip()


def _squeezed(words: str) -> str:
    return " ".join(words.split())
