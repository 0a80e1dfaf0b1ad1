"""Connections, where an upstream is found, and models, the names clients say."""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone
from pydantic import ValidationError as OptionsInvalid

from assistant_manager.engines import engine_class
from assistant_manager.engines.allotments import Limits
from assistant_manager.engines.base import ConnectionInfo, Engine, Key
from assistant_manager.engines.exceptions import Rejected
from assistant_manager.engines.gates import Standing
from assistant_manager.engines.options import ConnectionOptions
from assistant_manager.models.prepared import Prepared
from assistant_manager.secrets import SecretField

ANY_MODEL = "*"


class ConnectionKind(models.TextChoices):
    EMBEDDED = "embedded", "Embedded (offline, no key)"
    RESPONSES = "responses", "Responses API (OpenAI, Azure OpenAI v1)"
    CHAT = "chat", "Chat Completions (any compatible server)"
    ASSISTANTS = "assistants", "Assistants API (where it is still served)"


def check_kind(value: str) -> None:
    if value not in settings.ENGINES:
        raise ValidationError(
            f"No engine of kind “{value}” is installed; choose one of {sorted(settings.ENGINES)}."
        )


# Django's own check of URLs wants a dot in every host, which names inside a cluster do not have.
# A password in the address would be shown to people, and a query would end up in front of paths.
check_address = RegexValidator(
    r"^https?://(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(:\d{1,5})?(/[^\s?#]*)?\Z",
    "Enter an address like https://HOST/v1, without a user, a password or a query.",
)


class Connection(models.Model):
    """Where an engine finds its upstream. Two keys, as vendors issue them, so they can rotate.

    `paused_until` to `key_note` are its standing, as the drivers have last seen it; `inspection`
    is the report of the last connection test, see `inspections.py`.
    """

    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=32, validators=[check_kind])
    base_url = models.CharField(max_length=500, blank=True, validators=[check_address])
    api_version = models.CharField(max_length=32, blank=True)
    key_1 = SecretField(blank=True, default="")
    key_2 = SecretField(blank=True, default="")
    webhook_secret = SecretField(blank=True, default="")
    max_concurrent = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)]
    )
    requests_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)]
    )
    options = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    paused_until = models.DateTimeField(null=True, editable=False)
    pause_reason = models.CharField(max_length=200, blank=True, editable=False)
    key_in_use = models.PositiveSmallIntegerField(default=1, editable=False)
    key_note = models.CharField(max_length=200, blank=True, editable=False)
    inspection = models.JSONField(null=True, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def limits(self) -> Limits:
        return Limits(self.max_concurrent, self.requests_per_minute)

    @property
    def standing(self) -> Standing:
        """How the connection stands, as last written to the row."""
        return Standing(self.paused_until, self.pause_reason, self.key_in_use, self.key_note)

    @property
    def pause(self) -> str:
        """Why nothing is started here just now, in words; "" when nothing keeps runs back."""
        if self.paused_until is None or self.paused_until <= timezone.now():
            return ""
        return self.pause_reason

    @property
    def engine(self) -> type[Engine]:
        """Raises Rejected where none of this kind is installed."""
        try:
            return engine_class(self.kind)
        except (KeyError, ImportError) as error:
            raise Rejected(f"No engine of kind “{self.kind}” is installed here.") from error

    def info(self) -> ConnectionInfo:
        """The plain value an engine is handed.

        Raises SecretUnreadable for a key that cannot be decrypted, and Rejected for options that
        the engine does not know or an engine that is not installed.
        """
        keys = (Key(1, self.key_1.reveal()), Key(2, self.key_2.reveal()))
        return ConnectionInfo(
            kind=self.kind,
            id=self.pk,
            name=self.name,
            base_url=self.base_url,
            api_version=self.api_version,
            keys=tuple(key for key in keys if key.text),
            has_webhooks=bool(self.webhook_secret),
            options=self._declared(),
        )

    def _declared(self) -> ConnectionOptions:
        try:
            return self.engine.options.model_validate(self.options)
        except OptionsInvalid as error:
            wrong = ", ".join(".".join(map(str, part["loc"])) for part in error.errors())
            raise Rejected(f"The options of “{self.name}” cannot be used: {wrong}.") from error


class ModelQuerySet(models.QuerySet["Model"]):
    def resolve(self, name: str) -> Model | None:
        """The row for `name`, else the `*` default, else None."""
        return serving(name, NAMED.all(name=name))

    def that_may_serve(self, name: str) -> ModelQuerySet:
        return self.filter(name__in=[name, ANY_MODEL])


class Model(models.Model):
    """A name clients say, the connection it leads to and the name used there.

    An empty `upstream_name` passes the client's own name on.
    """

    name = models.CharField(max_length=256, unique=True, help_text="“*” stands for any other name.")
    connection = models.ForeignKey(Connection, models.PROTECT, related_name="models")
    upstream_name = models.CharField(max_length=256, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ModelQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


NAMED = Prepared(lambda name: Model.objects.that_may_serve(name).select_related("connection"))


def serving(name: str, models: Iterable[Model]) -> Model | None:
    """Of those that may serve `name`, the one that does: its own before the `*` default."""
    found = {model.name: model for model in models}
    return found.get(name) or found.get(ANY_MODEL)
