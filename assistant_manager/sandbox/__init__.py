"""Runs model-written code where it can do no harm. Knows no rows.

`Sandbox` gives every session a kernel: a Python process that has locked itself down and keeps
variables from cell to cell. Which walls it has is a tier, chosen by trying it (`probe`). The
decision and its limits: docs/decisions/0003-sandbox-tiers.md.
"""

from assistant_manager.sandbox.pool import Files, Sandbox
from assistant_manager.sandbox.probe import probe
from assistant_manager.sandbox.values import CellResult, Limits, SandboxUnavailable, TierReport

__all__ = ["CellResult", "Files", "Limits", "Sandbox", "SandboxUnavailable", "TierReport", "probe"]
