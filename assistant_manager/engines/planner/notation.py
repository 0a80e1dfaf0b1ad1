"""Rewrites typographic signs, LaTeX and spoken operators in one plain notation.

`√(x) ≤ 3·y²`, `\\sqrt{x} \\le 3 y^{2}` and "square root of x is at most 3 times y squared" come out
alike, as operators, brackets and the few words the intents know.
"""

from __future__ import annotations

import re

from assistant_manager.engines.planner.expressions import Unreadable

_SIGNS = str.maketrans({
    "−": "-", "–": "-", "—": " , ", "×": "*", "·": "*", "⋅": "*", "∙": "*", "∗": "*", "÷": "/",
    "∕": "/", "⁄": "/", "²": "^2 ", "³": "^3 ", "⁴": "^4 ", "≤": "<=", "⩽": "<=", "≥": ">=",
    "⩾": ">=", "≠": "!=", "π": " pi ", "∞": " oo ", "√": " sqrt", "∛": " cbrt", "→": "->",
    "’": "'", "‘": "'", "“": '"', "”": '"', "½": "(1/2)", "¼": "(1/4)", "¾": "(3/4)",
    "θ": " theta ", "α": " alpha ", "β": " beta ", "φ": " phi ", "ω": " omega ", "º": "°",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u200b": "", "`": " ", "\t": " ",
})  # fmt: skip

_GROUP = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
_LIMIT = rf"(?:{_GROUP}|(\\?[A-Za-z]+|\d))"

_LATEX: tuple[tuple[str, str], ...] = (
    (r"\$\$?|\\\(|\\\)|\\\[|\\\]", " "),
    (r"\\(?:,|;|!|:|quad\b|qquad\b|displaystyle\b|limits\b)|~", " "),
    (r"\\(?:left|right|big|Big|bigg|Bigg)(?![a-zA-Z])\s*\.?", " "),
    (r"\\(?:mathrm|operatorname|text|mathbf)\s*\{(\w+)\}", r" \1 "),
    (r"\\(?:cdot|times|ast)(?![a-zA-Z])", " * "),
    (r"\\div(?![a-zA-Z])", " / "),
    (r"\\(?:leq?|leqslant)(?![a-zA-Z])", " <= "),
    (r"\\(?:geq?|geqslant)(?![a-zA-Z])", " >= "),
    (r"\\neq?(?![a-zA-Z])", " != "),
    (r"\\lt(?![a-zA-Z])", " < "),
    (r"\\gt(?![a-zA-Z])", " > "),
    (r"\\infty(?![a-zA-Z])", " oo "),
    (r"\\(?:to|rightarrow)(?![a-zA-Z])", " -> "),
    (r"\\(?:vert|mid)(?![a-zA-Z])|\\\|", "|"),
    (r"\\%", "%"),
    (r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-zA-Z])", "°"),
    (r"\\[dt]frac(?![a-zA-Z])", r"\\frac"),
    (r"\\b?mod(?![a-zA-Z])", " mod "),
    (
        r"\\begin\s*\{[pbv]?matrix\}(.*?)\\end\s*\{[pbv]?matrix\}",
        r" latexmatrix[\1] ",
    ),
)
_DERIVATIVE = re.compile(
    r"\\frac\s*\{\s*d(?:\^\{?(\d)\}?)?\s*\}\s*\{\s*d\s*([a-z])(?:\^\{?\d\}?)?\s*\}"
    r"|\bd(?:\^(\d))?\s*/\s*d([a-z])(?![a-z])(?:\^\d)?"
)
_ORDERS = {"1": "first", "2": "second", "3": "third"}
_FRACTION = re.compile(rf"\\frac\s*{_GROUP}\s*{_GROUP}")
_SHORT_FRACTION = re.compile(r"\\frac\s*(\d)\s*(\d)")
_ROOT = re.compile(rf"\\sqrt\s*(?:\[\s*(\d+)\s*\])?\s*{_GROUP}")
_INTEGRAL = re.compile(
    rf"(?:\\int(?![a-zA-Z])|∫)\s*(?:_\s*{_LIMIT}\s*\^\s*-?{_LIMIT})?(.{{1,300}}?)(?:\\?\s)?d([a-z])(?![a-z])",
    re.S,
)
_LIM = re.compile(
    r"\\?\blim\s*_?\s*[{(]\s*([a-z])\s*->\s*([^{}()]+?)\s*[})]|\\?\blim\s+([a-z])\s*->\s*(\S+)"
)

_SUM = re.compile(rf"\\sum\s*_\s*\{{\s*([a-z])\s*=\s*(-?\w+)\s*\}}\s*\^\s*{_LIMIT}")

_SPOKEN: tuple[tuple[str, str], ...] = (
    (r"\bwhat's\b|\bwhats\b", "what is"),
    (r"\b(i|you|we|they)'(?:m|d|ve|ll|re)\b", r"\1"),
    (r"\blet's\b", "let us"),
    (r"\bto the (\d+)(?:st|nd|rd|th)(?: power)?\b", r" ^ \1 "),
    (r"\b1st\b", "first"),
    (r"\b2nd\b", "second"),
    (r"\b3rd\b", "third"),
    (r"\b\d+(?:st|nd|rd|th)\b", "ordinal"),
    (r"\b([fgh])''\s*\(\s*[a-z]\s*\)", r" second derivative \1 "),
    (r"\b([fgh])''\s*\(\s*(-?\d+)\s*\)", r" second derivative \1 at (\2) "),
    (r"\b([fgh])'\s*\(\s*[a-z]\s*\)", r" derivative \1 "),
    (r"\b([fgh])'\s*\(\s*(-?\d+)\s*\)", r" derivative \1 at (\2) "),
    (r"(?<=\d)\s+factorial\b", "!"),
    (r"\bfactorial of\s+(\d+)\b", r"\1!"),
    (r"\blim\b", "limit"),
    (r"\bdivided by\b", " / "),
    (r"\b(?:multiplied by|times)\b", " * "),
    (r"(?<=[\d)])\s+over\s+(?=[\d(])", " / "),
    (r"\bplus\b", " + "),
    (r"\b(?:minus|negative)\b", " - "),
    (r"\bmod(?:ulo)?\b", " mod "),
    (r"\bsquared\b", " ^2 "),
    (r"\bcubed\b", " ^3 "),
    (r"\b(?:raised )?to the (?:power(?: of)?)\s+", " ^ "),
    (r"\braised to\s+", " ^ "),
    (r"\bis (?:equal to|equals)\b|\bis the same as\b|\bequal to\b|\bequals\b", " = "),
    (r"\bis (?:less than or equal to|at most|no more than)\b", " <= "),
    (r"\bis (?:greater than or equal to|at least|no less than)\b", " >= "),
    (r"\bis (?:less|smaller) than\b", " < "),
    (r"\bis (?:greater|more|larger|bigger) than\b", " > "),
    (r"\b(?:the )?square root of\b|\bsqrt of\b", " sqrt "),
    (r"\b(?:the )?cube root of\b", " cbrt "),
    (r"\b(?:the )?absolute value of\b|\bmodulus of\b", " abs "),
    (r"\b(?:the )?natural log(?:arithm)? of\b", " ln "),
    (r"\b(?:the )?(sine|cosine|tangent) of\b", r" \1 "),
    (r"\bsine\b", "sin"),
    (r"\bcosine\b", "cos"),
    (r"\btangent\b(?! line)", "tan"),
    (r"\bper ?cent\b", "%"),
    (r"\bdegrees\b", "°"),
    (r"\binfinity\b|\binfinite\b", " oo "),
    (r"\blog(?:arithm)? (?:to )?base (\d+|[a-z]) of\b", r" log_\1 "),
    (r"\blog_?(\d+)\s*(?=[\s(])", r" log_\1 "),
    (r"\blog_\{(\w+)\}", r" log_\1 "),
)
_UNITS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBER_WORDS = {word: value for value, word in enumerate(_UNITS.split())} | {
    word: 10 * tens for tens, word in enumerate(_TENS.split(), start=2)
}
_COMPOUND = re.compile(rf"\b({'|'.join(_TENS.split())})[ -]({'|'.join(_UNITS.split()[1:10])})\b")
_NUMBER_WORD = re.compile(rf"\b({'|'.join(sorted(_NUMBER_WORDS, key=len, reverse=True))})\b")
_SPOKEN_OPERATOR = r"(?:[-+*/^]|plus\b|minus\b|times\b|divided\b|multiplied\b|squared\b|cubed\b)"
_UNCLEAR_REACH = re.compile(
    r"\b(?:(?:square|cube) root|absolute value|modulus|log|logarithm|sine|cosine|tangent|base \w+|half|third) of"
    rf"\s+-?[\w.]+\s*{_SPOKEN_OPERATOR}",
    re.I,
)
# `1,5 and 2,5` may be two numbers or four, and so may `100,200 and 300,400`.
_TIGHT_COMMA = r"(?<![\d,])(?:\d+,\d+|\d{1,3}(?:,\d{3})+)(?![\d,])"
_NEXT_NUMBER = r"(?:\band\b|, (?=\s*-?\d))"
_UNCLEAR_COMMA = re.compile(
    rf"{_TIGHT_COMMA}.*{_NEXT_NUMBER}|{_NEXT_NUMBER}.*{_TIGHT_COMMA}"
    r"|[(\[][^()\[\]]*(?<![\d,])\d{1,3}(?:,\d{3})+(?![\d,])",
    re.S,
)


def normalise(text: str) -> str:
    """The text in plain notation. Raises Unreadable where spoken words leave the meaning open."""
    text = text.translate(_SIGNS)
    if _UNCLEAR_REACH.search(text):
        raise Unreadable("After 'of' it is not clear how far the operation goes; add brackets.")
    text = re.sub(r"\*\*", "^", text)
    text = _latex(text)
    text = _calculus(text)
    # Only words fall to lower case: a capital letter alone may be a symbol of its own.
    text = re.sub(r"[A-Za-z]{2,}", lambda match: match.group().lower(), text)
    for pattern, plain in _SPOKEN:
        text = re.sub(pattern, plain, text, flags=re.I)
    text = _COMPOUND.sub(
        lambda match: str(sum(_NUMBER_WORDS[word] for word in match.groups())), text
    )
    text = _NUMBER_WORD.sub(lambda match: str(_NUMBER_WORDS[match.group()]), text)
    text = re.sub(r"(?<=[\d)]) +x +(?=\d)|(?<=[1-9])x(?=[1-9])", " * ", text)
    outside = re.sub(r"[(\[](?:\d{1,2},)+\d{1,2}[)\]]", "()", text)
    if _UNCLEAR_COMMA.search(outside):
        raise Unreadable("A comma may stand inside a number or between two; put a space after it.")
    return re.sub(r"(?<![\d,.])(\d{1,3})((?:,\d{3})+)(?![\d,])", _ungroup, text)


def _ungroup(match: re.Match[str]) -> str:
    return match.group().replace(",", "")


def _latex(text: str) -> str:
    for pattern, plain in _LATEX:
        text = re.sub(pattern, plain, text, flags=re.S)
    text = _DERIVATIVE.sub(_derivative, text)
    text = _SHORT_FRACTION.sub(r"((\1)/(\2))", text)
    for _ in range(8):  # from the inside out; deeper nesting stays unread and is refused
        before = text
        text = _ROOT.sub(_root, text)
        text = _FRACTION.sub(r"((\1)/(\2))", text)
        if text == before:
            break
    return text


def _derivative(match: re.Match[str]) -> str:
    order = _ORDERS.get(match.group(1) or match.group(3) or "1", "unknown")
    return f" {order} derivative wrt {match.group(2) or match.group(4)} of "


def _root(match: re.Match[str]) -> str:
    degree, inside = match.groups()
    return f" sqrt({inside})" if degree in (None, "2") else f"({inside})^(1/{degree})"


def _calculus(text: str) -> str:
    text = re.sub(r"\bd([yf])/d([a-z])\b", r" first derivative wrt \2 of ", text)
    text = _INTEGRAL.sub(_integral, text)
    text = _LIM.sub(_lim, text)
    text = _SUM.sub(_sum, text)
    text = re.sub(r"(?<=[\s)\d])d([xytuvrs])\b", r" wrt \1 ", text)
    # Whatever command is left is a name (\sin, \pi, \theta).
    return re.sub(r"\\([A-Za-z]+)", r" \1 ", text)


def _integral(match: re.Match[str]) -> str:
    low_group, low, high_group, high, body, variable = match.groups()
    lower, upper = low_group or low, high_group or high
    bounds = f"from ({lower}) to ({upper}) " if lower and upper else ""
    return f" integral {bounds}wrt {variable} of ({body}) "


def _sum(match: re.Match[str]) -> str:
    index, low, high_group, high = match.groups()
    return f" summation {index} from ({low}) to ({high_group or high}) of "


def _lim(match: re.Match[str]) -> str:
    variable = match.group(1) or match.group(3)
    point = match.group(2) or match.group(4)
    side = ""
    if sided := re.fullmatch(r"(.+?)\s*\^\s*\{?([-+])\}?|(.+?\d)([-+])", point.strip()):
        point = sided.group(1) or sided.group(3)
        side = " from right" if "+" in (sided.group(2), sided.group(4)) else " from left"
    return f" limit as {variable} -> ({point}){side} of "
