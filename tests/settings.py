"""For processes that tests start: the same settings, on the test's own database, with the
ScriptedEngine beside the real ones."""

import os

from config.settings import *  # noqa: F403
from config.settings import DATABASES, ENGINES
from tests.fakes import engine

DATABASES["default"]["NAME"] = os.environ["TEST_DATABASE_NAME"]
ENGINES = {**ENGINES, engine.KIND: engine.PATH}
