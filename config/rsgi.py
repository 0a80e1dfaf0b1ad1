"""The web entry point of our own server, granian with `--interface rsgi`."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)

from assistant_manager.serving import Application  # noqa: E402 - needs the line above

application = Application()
