# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Versions of CHT and the tags of its images."""

from __future__ import annotations

import re
from dataclasses import dataclass

_VERSION = re.compile(r"^v?(\d+)\.(\d+)\.(\d+)(?:-(.+))?$")

# 4.0 to 4.4 have migrations that must have run before 5.x starts; 4.5.0 was the first to carry them.
FIRST_UPGRADEABLE_TO_5 = (4, 5, 0)
# The first release whose chart gives NODE_ENV and LOG_LEVEL to API and Sentinel.
FIRST_WITH_NODE_ENV = (5, 1, 0)
# Before it images are tagged VERSION-VERSION.
_FIRST_WITH_PLAIN_TAGS = (4, 2, 0)
# Before it the start script of a clustered CouchDB knows three nodes only.
_FIRST_WITH_ANY_NODES = (4, 6, 0)
# From it on cookies are Secure: over plain HTTP nobody can log in. 5.1 still goes by NODE_ENV, 5.2 has it in its image (cht-core#10754).
_FIRST_WITH_SECURE_COOKIES, _ALWAYS_SECURE_COOKIES = (5, 1, 0), (5, 2, 0)
# From it on Nouveau runs beside each node of a clustered CouchDB, before it beside the first (cht-core#11125).
_FIRST_WITH_NOUVEAU_ON_EACH_NODE = (5, 3, 0)
_FIRST_UNKNOWN = (5, 4, 0)


@dataclass(frozen=True)
class Release:
    """A version of CHT, `major.minor.patch` and what may follow a dash (a beta, a branch build)."""

    number: tuple[int, int, int]
    suffix: str

    @property
    def major(self) -> int:
        return self.number[0]

    def sort_key(self) -> tuple[tuple[int, int, int], int, list[tuple[int, int, str]]]:
        """Order releases as semantic versioning does: a release comes after its pre-releases.

        Images are also tagged VERSION-VERSION (4.1.1-4.1.1), which is a release and no pre-release.
        """
        plain = ".".join(map(str, self.number))
        released = self.suffix in ("", plain)
        parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"[.-]", self.suffix)]
        return self.number, int(released), [] if released else parts


def parse_release(text: object) -> Release | None:
    """Return the release that a version or an image tag names, None for a tag that names none (a branch)."""
    match = _VERSION.match(str(text).strip())
    if match is None:
        return None
    return Release((int(match.group(1)), int(match.group(2)), int(match.group(3))), match.group(4) or "")


def default_tag(version: str) -> str:
    """Return the tag under which the images of a version are published."""
    release = parse_release(version)
    return f"{version}-{version}" if release is not None and release.number < _FIRST_WITH_PLAIN_TAGS and not release.suffix else version


def unknown_shape(version: str) -> str | None:
    """Return why the objects of a version are not known; None when they are."""
    release = parse_release(version)
    if release is None or release.number < _FIRST_UNKNOWN:
        return None
    newest = ".".join(map(str, (_FIRST_UNKNOWN[0], _FIRST_UNKNOWN[1] - 1)))
    return f"is newer than {newest}, the newest whose Deployments this release of the collection knows: wait for one that knows it"


def has_nouveau_on_each_node(version: str) -> bool:
    """Tell whether each node of a clustered CouchDB of this version has a Nouveau of its own."""
    release = parse_release(version)
    return release is not None and release.number >= _FIRST_WITH_NOUVEAU_ON_EACH_NODE


def wants_three_nodes(version: str) -> bool:
    """Tell whether a clustered CouchDB of this version has three nodes and no other number."""
    release = parse_release(version)
    return release is not None and release.number < _FIRST_WITH_ANY_NODES


def needs_tls(version: str, node_env: str) -> bool:
    """Tell whether users of this version can log in over HTTPS only."""
    release = parse_release(version)
    if release is None or release.number < _FIRST_WITH_SECURE_COOKIES:
        return False
    return release.number >= _ALWAYS_SECURE_COOKIES or node_env == "production"


def image_tag(image: str) -> str:
    """Return the tag of an image reference, '' when it has none or is named by digest only."""
    name = image.rsplit("/", 1)[-1].split("@", 1)[0]
    return name.split(":", 1)[1] if ":" in name else ""


def is_newer(live_tag: str, wanted_tag: str) -> bool:
    """Tell whether a running tag is newer than the wanted one.

    A tag that names no release (a branch build put there by the upgrade service) can't be ordered:
    it counts as newer, since replacing it may be a downgrade, and a downgrade loses data.
    """
    if live_tag == wanted_tag:
        return False
    live, wanted = parse_release(live_tag), parse_release(wanted_tag)
    if live is None or wanted is None:
        return True
    return live.sort_key() > wanted.sort_key()
