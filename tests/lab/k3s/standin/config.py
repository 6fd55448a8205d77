# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line, configuration files and environment, merged by k3s' rules.

The file's values become arguments placed before the unit's own, so the command line beats
the file and both beat the environment.
"""
from __future__ import annotations

import os
import pathlib
from typing import Any

from . import log, miniyaml
from .flags import AGENT, Flag
from .log import Fatal


class Options:
    """Flag values by name; options.get("node-ip"), options.given("token")."""

    def __init__(self, flags: dict[str, Flag]):
        self.flags = flags
        self.values: dict[str, Any] = {}
        self.rest: list[str] = []

    def __getitem__(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        flag = self.flags.get(name)
        if flag is None:
            return None
        return list(flag.default) if flag.kind == "l" else flag.default

    def given(self, name: str) -> bool:
        return name in self.values

    def split(self, name: str) -> list[str]:
        """List flags that also take commas (node-ip, tls-san, disable, ...)."""
        return [part.strip() for item in self[name] for part in str(item).split(",") if part.strip()]


def _find(flags: dict[str, Flag], name: str) -> Flag | None:
    if name in flags:
        return flags[name]
    return next((flag for flag in flags.values() if flag.short and flag.short == name), None)


def _convert(flag: Flag, text: str) -> Any:
    if flag.kind == "b":
        low = text.lower()
        if low in ("true", "1", "t"):
            return True
        if low in ("false", "0", "f"):
            return False
        raise Fatal(f'Error: invalid boolean value "{text}" for -{flag.name}: parse error')
    if flag.kind == "i":
        try:
            return int(text, 0)
        except ValueError:
            raise Fatal(f'Error: invalid value "{text}" for flag -{flag.name}: parse error') from None
    return text


def _set(options: Options, flag: Flag, text: str) -> None:
    value = _convert(flag, text)
    if flag.kind == "l":
        options.values.setdefault(flag.name, []).append(value)
    else:
        options.values[flag.name] = value


def parse_arguments(flags: dict[str, Flag], arguments: list[str]) -> Options:
    options = Options(flags)
    queue = list(arguments)
    while queue:
        item = queue.pop(0)
        if item == "--":
            options.rest += queue
            break
        if not item.startswith("-") or item == "-":
            options.rest.append(item)
            continue
        name, equals, value = item.lstrip("-").partition("=")
        flag = _find(flags, name)
        if flag is None:
            print(f"Incorrect Usage: flag provided but not defined: -{name}\n", flush=True)
            raise Fatal(f"Error: flag provided but not defined: -{name}")
        if not equals:
            if flag.kind == "b":
                value = "true"
            elif queue:
                value = queue.pop(0)
            else:
                raise Fatal(f"Error: flag needs an argument: -{name}")
        _set(options, flag, value)
    for flag in flags.values():
        if flag.env and flag.name not in options.values and os.environ.get(flag.env):
            text = os.environ[flag.env]
            for part in text.split(",") if flag.kind == "l" else [text]:
                _set(options, flag, part)
    return options


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def config_files(path: pathlib.Path) -> list[pathlib.Path]:
    folder = pathlib.Path(f"{path}.d")
    found = [path] if path.is_file() else []
    if folder.is_dir():
        found += sorted(item for item in folder.iterdir() if item.suffix in (".yaml", ".yml") and item.is_file())
    return found


def read_files(path: pathlib.Path) -> dict[str, Any]:
    """The last file that has a key wins; `key+` adds to what the files before gave."""
    merged: dict[str, Any] = {}
    for item in config_files(path):
        try:
            data = miniyaml.load(item.read_text(encoding="utf-8"))
        except (miniyaml.YamlError, UnicodeDecodeError) as err:
            raise Fatal(f"Error: failed to load config file {item}: yaml: {err}") from None
        except OSError as err:
            raise Fatal(f"Error: failed to load config file {item}: open {item}: {err.strerror}") from None
        if data is None:
            continue
        if not isinstance(data, dict):
            raise Fatal(f"Error: failed to load config file {item}: yaml: unmarshal errors: cannot unmarshal into a map")
        for key, value in data.items():
            if key.endswith("+"):
                key = key[:-1]
                before = merged.get(key, [])
                before = before if isinstance(before, list) else [before]
                merged[key] = before + (value if isinstance(value, list) else [value])
            else:
                merged[key] = value
    return merged


def config_arguments(flags: dict[str, Flag], path: pathlib.Path, quiet: bool = False) -> list[str]:
    out = []
    for key, value in read_files(path).items():
        name = key.strip()
        if _find(flags, name) is None:
            if not quiet and flags is AGENT:
                # only the keys of servers and etcd-snapshot are sorted out beforehand
                out.append(f"--{name}={_text(value)}")
            elif not quiet:
                log.warning(f"Unknown flag --{name} found in config.yaml, skipping\n")
            continue
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, (dict, list)):
                raise Fatal(f"Error: failed to load config: value of {name} is not a text, number, switch or list of them")
            out.append(f"--{name}={_text(item)}")
    return out


def load(flags: dict[str, Flag], arguments: list[str], quiet: bool = False) -> Options:
    # where the file is must be known before it is read
    place = flags["config"].default
    if os.environ.get("K3S_CONFIG_FILE"):
        place = os.environ["K3S_CONFIG_FILE"]
    for index, item in enumerate(arguments):
        name, equals, value = item.lstrip("-").partition("=")
        if item.startswith("-") and name in ("config", "c"):
            place = value if equals else (arguments[index + 1:index + 2] or [place])[0]
    from_files = config_arguments(flags, pathlib.Path(place), quiet)
    options = parse_arguments(flags, from_files + list(arguments))
    if options["debug"]:
        log.set_debug(True)
    return options
