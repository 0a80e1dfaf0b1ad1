"""What people type on our own pages."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet

from assistant_manager.models import Assistant

LONGEST_MESSAGE = 256_000
"""Characters; the wire's own limit for one message."""
MOST_CHOICES = 200


class Prose(forms.CharField):
    """A text kept to the letter; one of blanks only is none."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strip=False, max_length=LONGEST_MESSAGE, **kwargs)

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return text if text and text.strip() else self.empty_value


class QuestionForm(forms.Form):
    """A question and who is to answer it, out of `assistants`."""

    assistant = forms.ModelChoiceField(queryset=Assistant.objects.none(), empty_label=None)
    text = Prose(
        label="Question",
        widget=forms.Textarea(attrs={"rows": 5, "data-submit": "ctrl-enter"}),
        error_messages={"required": "Write a question first."},
    )

    def __init__(
        self, *args: Any, assistants: QuerySet[Assistant], autofocus: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.fields["assistant"].queryset = assistants  # type: ignore[attr-defined]
        if autofocus:
            self.fields["text"].widget.attrs["autofocus"] = True


class OutputsForm(forms.Form):
    """One field for each function call that a run waits for, named by the call's id."""

    def __init__(self, *args: Any, calls: list[dict[str, Any]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for call in calls:
            self.fields[call["id"]] = forms.CharField(
                label=f"{call['function']['name']}({call['function']['arguments']})",
                required=False,
                strip=False,
                widget=forms.Textarea(attrs={"rows": 2, "class": "code"}),
            )


class ApproveForm(forms.Form):
    """A click is all it takes."""


class EditForm(forms.Form):
    text = Prose(
        label="The answer as it should be",
        widget=forms.Textarea(attrs={"rows": 12, "data-submit": "ctrl-enter"}),
        error_messages={"required": "An answer cannot be empty. Reject it instead."},
    )


class RejectForm(forms.Form):
    reason = forms.CharField(
        max_length=2000,
        help_text="Whoever asked reads this.",
        widget=forms.Textarea(attrs={"rows": 3, "data-submit": "ctrl-enter"}),
        error_messages={"required": "Say why, so that whoever asked can do something about it."},
    )


class AskAgainForm(forms.Form):
    note = forms.CharField(
        max_length=2000,
        help_text="What the assistant should do differently.",
        widget=forms.Textarea(attrs={"rows": 3, "data-submit": "ctrl-enter"}),
        error_messages={"required": "Say what should be different, or it answers the same again."},
    )
