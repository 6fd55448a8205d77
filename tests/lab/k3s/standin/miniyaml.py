# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A reader for the part of YAML that configuration files use (the nodes have no PyYAML).

Block maps and lists, plain and quoted scalars, flow lists and maps, comments, literal and
folded blocks. Anchors, tags and several documents are refused: k3s' files do not need them.
"""
from __future__ import annotations

import re
from typing import Any


class YamlError(ValueError):
    """The text is not YAML, or YAML beyond this reader."""


_INT = re.compile(r"^[-+]?(0|[1-9][0-9]*)$")
_OCTAL = re.compile(r"^0o?([0-7]+)$")
_FLOAT = re.compile(r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$")


def scalar(text: str) -> Any:
    text = text.strip()
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if _INT.match(text):
        return int(text)
    octal = _OCTAL.match(text)
    if octal:
        return int(octal.group(1), 8)
    if _FLOAT.match(text):
        return float(text)
    if text[0] in "&*!%@`":
        raise YamlError(f"not supported here: {text!r}")
    return text


class _Flow:
    """Flow values: [a, "b"], {a: b}, quoted scalars."""

    def __init__(self, text: str):
        self.text, self.pos = text, 0

    def skip(self) -> None:
        while self.pos < len(self.text) and self.text[self.pos] in " \t\n":
            self.pos += 1

    def peek(self) -> str:
        self.skip()
        return self.text[self.pos] if self.pos < len(self.text) else ""

    def value(self, stops: str) -> Any:
        char = self.peek()
        if char == "[":
            return self.sequence()
        if char == "{":
            return self.mapping()
        if char in "\"'" and char:
            return self.quoted()
        start = self.pos
        while self.pos < len(self.text) and self.text[self.pos] not in stops:
            if self.text[self.pos] == ":" and "k" in stops and self.text[self.pos + 1:self.pos + 2] in (" ", ""):
                break
            self.pos += 1
        return scalar(self.text[start:self.pos])

    def sequence(self) -> list:
        self.pos += 1
        out: list = []
        while True:
            if self.peek() == "]":
                self.pos += 1
                return out
            if not self.peek():
                raise YamlError("a list is not closed")
            out.append(self.value(",]"))
            if self.peek() == ",":
                self.pos += 1

    def mapping(self) -> dict:
        self.pos += 1
        out: dict = {}
        while True:
            if self.peek() == "}":
                self.pos += 1
                return out
            if not self.peek():
                raise YamlError("a map is not closed")
            key = self.value("k,}")
            if self.peek() == ":":
                self.pos += 1
                out[str(key)] = self.value(",}")
            else:
                out[str(key)] = None
            if self.peek() == ",":
                self.pos += 1

    def quoted(self) -> str:
        quote = self.text[self.pos]
        self.pos += 1
        out = []
        while self.pos < len(self.text):
            char = self.text[self.pos]
            if quote == "'" and char == "'":
                if self.text[self.pos + 1:self.pos + 2] == "'":
                    out.append("'")
                    self.pos += 2
                    continue
                self.pos += 1
                return "".join(out)
            if quote == '"' and char == "\\":
                out.append(self.escape())
                continue
            if quote == '"' and char == '"':
                self.pos += 1
                return "".join(out)
            out.append(char)
            self.pos += 1
        raise YamlError("a quote is not closed")

    def escape(self) -> str:
        code = self.text[self.pos + 1:self.pos + 2]
        widths = {"x": 2, "u": 4, "U": 8}
        if code in widths:
            digits = self.text[self.pos + 2:self.pos + 2 + widths[code]]
            self.pos += 2 + widths[code]
            return chr(int(digits, 16))
        self.pos += 2
        simple = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\", '"': '"', "/": "/", " ": " ", "e": "\x1b"}
        if code not in simple:
            raise YamlError(f"unknown escape \\{code}")
        return simple[code]


def _strip_comment(line: str) -> str:
    quote = ""
    for index, char in enumerate(line):
        if quote:
            if char == quote and not (quote == '"' and line[index - 1] == "\\"):
                quote = ""
        elif char in "\"'" and (index == 0 or line[index - 1] in " [{,:-"):
            quote = char
        elif char == "#" and (index == 0 or line[index - 1] in " \t"):
            return line[:index].rstrip()
    return line.rstrip()


class _Block:
    def __init__(self, text: str):
        self.lines: list[tuple[int, str, int]] = []
        self.raw = text.split("\n")
        for number, raw in enumerate(self.raw):
            body = _strip_comment(raw)
            if not body.strip() or body.strip() == "---" and not self.lines:
                continue
            indent = len(body) - len(body.lstrip(" "))
            if body.lstrip(" ").startswith("\t"):
                raise YamlError(f"line {number + 1}: found character that cannot start any token")
            if body.startswith(("---", "...")):
                raise YamlError(f"line {number + 1}: several documents")
            self.lines.append((indent, body.strip(), number))
        self.at = 0

    def fail(self, what: str) -> YamlError:
        number = self.lines[min(self.at, len(self.lines) - 1)][2] + 1
        return YamlError(f"line {number}: {what}")

    def node(self, indent: int) -> Any:
        if self.lines[self.at][1].startswith("- ") or self.lines[self.at][1] == "-":
            return self.sequence(indent)
        if _split_key(self.lines[self.at][1]) is None:
            return self.inline(self.lines[self.at][1], indent, True)
        return self.mapping(indent)

    def mapping(self, indent: int) -> dict:
        out: dict = {}
        while self.at < len(self.lines) and self.lines[self.at][0] == indent:
            text = self.lines[self.at][1]
            pair = _split_key(text)
            if pair is None:
                raise self.fail("could not find expected ':'")
            key, rest = pair
            if key in out:
                raise self.fail(f'key "{key}" already set in map')
            out[key] = self.after(rest, indent, True)
        if self.at < len(self.lines) and self.lines[self.at][0] > indent:
            raise self.fail("mapping values are not allowed in this context")
        return out

    def sequence(self, indent: int) -> list:
        out: list = []
        while self.at < len(self.lines) and self.lines[self.at][0] == indent:
            text = self.lines[self.at][1]
            if not (text.startswith("- ") or text == "-"):
                break
            rest = text[1:].strip()
            inner = _split_key(rest) if rest and rest[0] not in "[{\"'|>" else None
            if inner is not None or rest.startswith("- "):
                # "- key: value": the rest is a block of its own, further in
                offset = indent + len(text) - len(text[1:].lstrip())
                self.lines[self.at] = (offset, rest, self.lines[self.at][2])
                out.append(self.node(offset))
            else:
                out.append(self.after(rest, indent, False))
        return out

    def after(self, rest: str, indent: int, in_map: bool) -> Any:
        if rest and rest[0] in "|>":
            return self.literal(rest, indent)
        if rest:
            return self.inline(rest, indent, False)
        self.at += 1
        if self.at < len(self.lines):
            deeper, text, _number = self.lines[self.at]
            is_list = text.startswith("- ") or text == "-"
            if deeper > indent or (in_map and deeper == indent and is_list):
                return self.node(deeper)
        return None

    def inline(self, text: str, indent: int, whole: bool) -> Any:
        self.at += 1
        if text[0] in "[{\"'":
            while True:
                flow = _Flow(text)
                try:
                    value = flow.value("")
                    break
                except YamlError:
                    if self.at >= len(self.lines) or self.lines[self.at][0] <= indent and not whole:
                        raise
                    text += " " + self.lines[self.at][1]
                    self.at += 1
            if flow.text[flow.pos:].strip():
                raise self.fail(f"text after the value: {flow.text[flow.pos:]!r}")
            return value
        parts = [text]
        while self.at < len(self.lines) and self.lines[self.at][0] > indent and _split_key(self.lines[self.at][1]) is None:
            parts.append(self.lines[self.at][1])
            self.at += 1
        text = " ".join(parts)
        if ": " in text:
            raise self.fail("mapping values are not allowed in this context")
        return scalar(text)

    def literal(self, marker: str, indent: int) -> str:
        number = self.lines[self.at][2] + 1
        body = []
        while number < len(self.raw):
            raw = self.raw[number]
            if raw.strip() and len(raw) - len(raw.lstrip(" ")) <= indent:
                break
            body.append(raw)
            number += 1
        while self.at < len(self.lines) and self.lines[self.at][2] < number:
            self.at += 1
        width = min((len(raw) - len(raw.lstrip(" ")) for raw in body if raw.strip()), default=0)
        text = "\n".join(raw[width:] for raw in body)
        if marker[0] == ">":
            text = re.sub(r"(?<!\n)\n(?!\n)", " ", text.rstrip("\n"))
        text = text.rstrip("\n")
        return text if "-" in marker else text + "\n"


def _split_key(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    if text[0] in "\"'":
        flow = _Flow(text)
        try:
            key = flow.quoted()
        except YamlError:
            return None
        rest = text[flow.pos:].lstrip()
        if rest.startswith(":") and (len(rest) == 1 or rest[1] in " \t"):
            return key, rest[1:].strip()
        return None
    if text[0] in "[{":
        return None
    match = re.match(r"^([^:#]*(?::(?=\S)[^:#]*)*):(?:\s+(.*))?$", text)
    if not match:
        return None
    return match.group(1).strip(), (match.group(2) or "").strip()


def load(text: str) -> Any:
    block = _Block(text)
    if not block.lines:
        return None
    value = block.node(block.lines[0][0])
    if block.at < len(block.lines):
        raise block.fail("did not find expected key")
    return value
