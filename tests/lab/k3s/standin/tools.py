from __future__ import annotations
def run(command, rest):
    raise SystemExit(1)
