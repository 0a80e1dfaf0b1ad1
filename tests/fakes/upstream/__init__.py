"""A fake of the vendors' servers: a process of its own that speaks real HTTP.

`python -m tests.fakes.upstream --port 0` says where it listens and serves until SIGTERM; tests use
the fixture `upstream`. What it answers is a script: JSON in the instructions it is sent
(`script.py`). What it was sent, and how to make it misbehave: `control.py`.
"""
