"""What the embedded engine says beside results: plain statements of what it can and cannot do."""

from __future__ import annotations

from collections.abc import Sequence

ABILITIES = """\
I can work out, for example:

- equations, systems and inequalities: `Solve 3x + 11 = 14`
- derivatives, integrals and limits: `Integrate x^2 from 0 to 3`
- `factor`, `expand` and `simplify`
- arithmetic, percentages, common divisors and multiples, prime numbers
- averages and other statistics of a list, determinants

For anything else, a connection to a language model has to be set up."""

TOOLS_OFF = (
    "This run was started with tools switched off (`tool_choice` is `none`). The offline engine "
    "works results out only by running code, so it gives none."
)
NO_CODE_INTERPRETER = (
    "This assistant does not have the code interpreter tool. The offline engine works results "
    "out only by running code, so it gives none. Add the `code_interpreter` tool to the assistant "
    "and ask again."
)
NO_FILE_SEARCH = "The offline engine cannot search files yet, so it cannot do what this run asks."


def refusal(reason: str, *, has_files: bool) -> str:
    """For a question that has no plan; `reason` may be empty."""
    parts = [
        "I am the offline engine: I work out questions of mathematics, and I answer only what I "
        "understand completely. I cannot answer this one."
    ]
    if reason:
        parts.append(reason)
    if has_files:
        parts.append("Searching files is not available in the offline engine yet.")
    return "\n\n".join([*parts, ABILITIES])


def preface(note: str | None, *, planned_from_note: bool) -> str:
    """What comes before a result that a reviewer asked for; empty when none did."""
    if note is None:
        return ""
    if planned_from_note:
        return f"A reviewer asked for another try, with this question:\n\n{_quoted(note)}\n\n"
    return (
        f"A reviewer asked for another try:\n\n{_quoted(note)}\n\nThe offline engine cannot follow "
        "advice in words. It worked the same question out again, in the same way:\n\n"
    )


def function_outputs(outputs: Sequence[tuple[str, str]], note: str | None) -> str:
    """Quotes what the functions returned; it is data and nothing in it is followed."""
    quoted = "\n\n".join(f"`{name}` returned:\n\n{_block(output)}" for name, output in outputs)
    answer = f"The offline engine does not interpret what functions return. {quoted}"
    if note is None:
        return answer
    return f"A reviewer asked for another try:\n\n{_quoted(note)}\n\n{answer}"


def failed(stderr: str) -> str:
    """For a program that raised; only the last line of its traceback is told."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    told = f"\n\n{_block(lines[-1])}" if lines else ""
    return f"I could not work this out: the program ended without a result.{told}"


def stopped(limit: str | None) -> str:
    return f"I could not work this out: the program was stopped ({limit or 'it met a limit'})."


def too_long(characters: int) -> str:
    return (
        f"The result is {characters:,} characters long, too long for an answer. The output of the "
        "code holds it."
    )


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.strip().splitlines())


def _block(text: str) -> str:
    """A Markdown code block by indentation, which no text inside can close."""
    return "\n".join(f"    {line}" for line in text.splitlines()) or "    (nothing)"
