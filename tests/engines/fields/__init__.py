"""What docs/engines.md says of each field of Assistants v2, found out by asking.

`asked.py`: what a row of the table asks for. `seen.py`: asking it through the API and an engine, and
what is to be seen then, here and at the fake upstream. The module of each engine: by which signs
its cell of a row is known.
"""
