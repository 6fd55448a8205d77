"""vCenter and mirror."""

from __future__ import annotations

from .description import Description, Vm


def up(description: Description) -> None:
    pass


def down() -> None:
    pass


def power(description: Description, vms: list[Vm] | None = None) -> None:
    pass


def status() -> list[str]:
    return []


def vcenter(description: Description, action: str, value: str | None) -> list[str]:
    return []
