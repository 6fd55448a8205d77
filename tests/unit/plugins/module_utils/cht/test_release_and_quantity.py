# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions, tags and quantities."""

from __future__ import annotations

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht.quantity import larger_quantity, parse_quantity
from ansible_collections.cht.k3s.plugins.module_utils.cht.release import image_tag, is_newer, parse_release


@pytest.mark.parametrize(
    ("text", "number"), [("4Gi", 4 * 2**30), ("1500m", 1.5), ("2", 2), (2, 2), ("0.5Gi", 2**29), ("10k", 10_000)]
)
def test_quantities_are_read_exactly(text: object, number: float) -> None:
    assert parse_quantity(text) == number


@pytest.mark.parametrize("text", ["4GB", "four", "", "-1Gi", "4 Gi", "Gi", None])
def test_what_is_no_quantity_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity(text)


def test_the_larger_quantity_keeps_its_own_text() -> None:
    assert larger_quantity("1Gi", "1024Mi") == "1Gi"
    assert larger_quantity("1Gi", "1025Mi") == "1025Mi"


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("public.ecr.aws/medic/cht-api:4.22.0", "4.22.0"),
        ("registry:5000/cht-api", ""),
        ("registry:5000/cht-api:5.0.0@sha256:abc", "5.0.0"),
        ("cht-api@sha256:abc", ""),
    ],
)
def test_tag_of_an_image(image: str, tag: str) -> None:
    assert image_tag(image) == tag


@pytest.mark.parametrize(
    ("live", "wanted", "newer"),
    [
        ("4.22.0", "4.22.0", False),
        ("4.22.0", "4.21.9", True),
        ("4.9.0", "4.10.0", False),
        ("4.10.0", "4.9.0", True),
        ("5.0.0", "4.22.0", True),
        ("4.22.0-beta.1", "4.22.0", False),
        ("4.22.0", "4.22.0-beta.1", True),
        ("4.22.0-beta.10", "4.22.0-beta.9", True),
        ("4.1.1-4.1.1", "4.1.1", False),
        ("some-branch", "4.22.0", True),
        ("", "4.22.0", True),
    ],
)
def test_a_newer_tag_is_recognised_and_an_unknown_one_counts_as_newer(live: str, wanted: str, newer: bool) -> None:
    assert is_newer(live, wanted) is newer


def test_a_branch_is_no_release() -> None:
    assert parse_release("master") is None
    assert parse_release("4.22") is None
    assert parse_release("v4.22.1").number == (4, 22, 1)
