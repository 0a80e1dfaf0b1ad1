"""The form of a connection. A stored secret never travels to a browser again."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.template.loader import render_to_string
from pydantic import ValidationError as OptionsInvalid

from assistant_manager.engines import engine_class
from assistant_manager.engines.options import ConnectionOptions
from assistant_manager.models import Connection, ConnectionKind
from assistant_manager.secrets import Secret

KEYS = ("key_1", "key_2")
SECRETS = (*KEYS, "webhook_secret")
NEEDS_ADDRESS = (ConnectionKind.CHAT, ConnectionKind.ASSISTANTS)
AUTHENTICATION = "authentication"
"""An option like others, but one that everybody has to choose."""


class ConnectionForm(forms.ModelForm):
    """An empty secret keeps what is stored; a tick removes it."""

    kind = forms.ChoiceField()
    authentication = forms.ChoiceField(
        required=False,
        choices=[("key", "Keys"), ("entra_id", "Microsoft Entra ID, as this machine's identity")],
        help_text="With Entra ID no key is needed; Azure has to know this machine.",
    )
    key_1 = forms.CharField(required=False, widget=forms.PasswordInput)
    key_2 = forms.CharField(required=False, widget=forms.PasswordInput)
    webhook_secret = forms.CharField(required=False, widget=forms.PasswordInput)
    remove_key_1 = forms.BooleanField(required=False, label="Remove key 1")
    remove_key_2 = forms.BooleanField(required=False, label="Remove key 2")
    remove_webhook_secret = forms.BooleanField(required=False, label="Remove the webhook secret")

    class Meta:
        model = Connection
        fields = [
            *("name", "kind", "base_url", "api_version", *SECRETS),
            *("max_concurrent", "requests_per_minute", "options"),
        ]
        labels = {
            "base_url": "Base URL",
            "api_version": "API version",
            "max_concurrent": "Answers at once",
            "requests_per_minute": "New answers a minute",
        }
        help_texts = {
            "base_url": "Responses: empty for OpenAI; https://RESOURCE.openai.azure.com/openai/v1/ "
            "for Azure. Chat Completions and Assistants: always needed, usually ending in /v1.",
            "api_version": "Only for Azure's dated versions, such as 2025-04-01-preview; the base "
            "URL is then https://RESOURCE.openai.azure.com. Otherwise empty.",
            "max_concurrent": "Further questions wait. Empty: no limit of ours.",
            "requests_per_minute": "What the upstream says of its own limits counts in any case.",
        }
        widgets = {
            "options": forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField code"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["kind"].choices = installed_kinds()  # type: ignore[attr-defined]
        self.fields["kind"].initial = ConnectionKind.RESPONSES
        options = dict(self.instance.options or {})
        self.initial[AUTHENTICATION] = options.pop(AUTHENTICATION, "key")
        self.initial["options"] = options
        for name in SECRETS:
            self._describe(name)

    def _describe(self, name: str) -> None:
        field, stored = self.fields[name], getattr(self.instance, name)
        # Passwords of people have no business in here, whatever a browser offers.
        field.widget.attrs["autocomplete"] = "new-password"
        if stored:
            field.help_text = f"Stored: {stored.hint}. Leave empty to keep it."
        elif name in KEYS:
            field.help_text = "None stored. A key, or env:NAME to read it from the environment."
        else:
            field.help_text = "None stored. The vendor shows it once, as whsec_…; or env:NAME."
        self.initial[name] = ""

    @property
    def changes_the_way_in(self) -> bool:
        """Whether what was last seen of the upstream says nothing any more."""
        names = {*KEYS, *(f"remove_{key}" for key in KEYS), "kind", "base_url", AUTHENTICATION}
        return bool(names & set(self.changed_data))

    # --- checks -------------------------------------------------------------------------

    def _secret(self, name: str) -> Secret:
        typed: str = self.cleaned_data[name].strip()
        if typed:
            return Secret(typed)
        if self.data.get(self.add_prefix(f"remove_{name}")):
            return Secret("")
        stored: Secret = getattr(self.instance, name)
        return stored

    def clean_key_1(self) -> Secret:
        return self._secret("key_1")

    def clean_key_2(self) -> Secret:
        return self._secret("key_2")

    def clean_webhook_secret(self) -> Secret:
        secret = self._secret("webhook_secret")
        if secret and not secret.stored.startswith(("whsec_", "env:")):
            raise ValidationError("The vendor's secrets begin with whsec_.")
        return secret

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        kind = data.get("kind", "")
        dated = str(data.get("api_version", "")).startswith("20")
        if "base_url" in data and not data["base_url"] and (kind in NEEDS_ADDRESS or dated):
            self.add_error("base_url", "This kind of connection needs an address.")
        if kind and "options" in data:
            data["options"] = self._options(kind, data)
        return data

    def _options(self, kind: str, data: dict[str, Any]) -> Any:
        """What was typed, with the choice of authentication put back; the engine checks it."""
        typed = data["options"] or {}
        if not isinstance(typed, dict):
            self.add_error("options", 'An object is needed, such as {"timeout_seconds": 60}.')
            return typed
        chosen = data.get(AUTHENTICATION) or "key"
        options = typed if chosen == "key" else {**typed, AUTHENTICATION: chosen}
        try:
            engine_class(kind).options.model_validate(options)
        except OptionsInvalid as error:
            for part in error.errors():
                where = ".".join(map(str, part["loc"])) or "options"
                self.add_error("options", f"{where}: {part['msg']}")
        return options


def installed_kinds() -> list[tuple[str, str]]:
    """Kind and label, the engines of other people last."""
    labels = {kind: label for kind, label in ConnectionKind.choices if kind in settings.ENGINES}
    return [*labels.items(), *((kind, kind) for kind in settings.ENGINES if kind not in labels)]


def declarations() -> str:
    """HTML: what the connections of each installed kind may declare under Options."""
    kinds = [(label, _fields(engine_class(kind).options)) for kind, label in installed_kinds()]
    return render_to_string("admin/assistant_manager/connection/options.html", {"kinds": kinds})


def _fields(options: type[ConnectionOptions]) -> list[tuple[str, Any, str]]:
    """Name, default and meaning."""
    return [
        (name, field.get_default(call_default_factory=True), field.description or "")
        for name, field in options.model_fields.items()
        if name != AUTHENTICATION
    ]
