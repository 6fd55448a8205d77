"""A user's query on a module's result."""
from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.cht.k3s.plugins.filter.jmespath_search import jmespath_search

REPORT = {
    "problems": [{"level": "bad", "what": "agent-3", "text": "is not ready"}, {"level": "warn", "what": "agent-1", "text": "is full"}],
    "capacity": {"counties": 12, "by": {"cpu": 14.5, "disk": None}}, "loss": {"one_agent": {"survives": True}},
}


@pytest.mark.parametrize(("query", "found"), [
    ("capacity.counties", 12), ("problems[?level=='bad'].what", ["agent-3"]), ("loss.one_agent.survives", True),
    ("capacity.by.disk", None), ("nothing.here", None),
    ("length(problems)", 2), ("problems[?contains(text, 'full')].what | [0]", "agent-1"),
    ("max_by(problems, &level).what", "agent-1"), ("ceil(capacity.by.cpu)", 15),
])
def test_a_query_finds_its_part(query: str, found: Any) -> None:
    assert jmespath_search(REPORT, query) == found


def test_the_functions_take_what_ansible_hands_over() -> None:
    """Inside Ansible strings and lists are of kinds of their own, which the language does not know."""
    variables = {"report": REPORT, "query": "problems[?starts_with(text, 'is f')].what | sort(@) | join(',', @)"}
    found = Templar(DataLoader(), variables=variables).template(trust_as_template("{{ report | cht.k3s.jmespath_search(query) }}"))
    assert found == "agent-1"


@pytest.mark.parametrize("query", ["problems[", "nosuch(problems)", "length(capacity.counties)"])
def test_a_query_that_is_not_understood_is_said(query: str) -> None:
    with pytest.raises(AnsibleFilterError, match="is not understood: .*jmespath.org"):
        jmespath_search(REPORT, query)
