"""Values are judged as the roles will see them: decrypted and filled in, on localhost as on every host."""
from __future__ import annotations

import typing as t
from unittest import mock

import pytest
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.cht.k3s.plugins.action import check_inputs
from ansible_collections.cht.k3s.plugins.action.check_inputs import ActionModule


class Encrypted:
    """What `!vault` gives on core 2.18: no text, and iterated it is the secret's letters."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        if not self.text:
            raise AnsibleError("no vault secret would decrypt it")
        return self.text

    def __iter__(self) -> t.Iterator[str]:
        return iter(self.text)


def problems(monkeypatch: pytest.MonkeyPatch, on_localhost: dict[str, t.Any], on_a: dict[str, t.Any]) -> list[str]:
    monkeypatch.setattr(ActionBase, "run", lambda self, tmp=None, task_vars=None: {})
    monkeypatch.setattr(ActionBase, "validate_argument_spec", lambda self, argument_spec: (None, {"groups": True}))
    templar = mock.Mock(template=lambda value: False if value == "{{ false }}" else value)
    action = ActionModule(mock.Mock(args={}), mock.Mock(), mock.Mock(), mock.Mock(), templar, mock.Mock())
    groups = {"all": ["a"], "control_plane": ["a"]}
    return action.run(task_vars={"hostvars": {"a": on_a}, "groups": groups, **on_localhost})["problems"]


def test_inline_vault_is_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"k3s_token": Encrypted("abc"), "cpi_vcenters": [{"hostname": "vc", "username": "u", "password": Encrypted("abc")}], "k3s_drain": Encrypted("no")}
    assert problems(monkeypatch, given, given) == []
    wrong = problems(monkeypatch, {}, {"k3s_drain": Encrypted("enabled"), "k3s_token": Encrypted("")})
    assert len(wrong) == 2 and "variable k3s_drain: " in wrong[0] and "bool" in wrong[0]
    assert wrong[1] == "variable k3s_token: it is encrypted and can't be read: no vault secret would decrypt it (on a)"


def test_a_name_that_can_not_be_resolved_is_said_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_inputs, "display", mock.Mock())
    monkeypatch.setattr(check_inputs, "resolve", lambda names: {name: [] for name in names})
    given = {"k3s_server_url": "https://k3s.example.org:6443"}
    assert problems(monkeypatch, given, given) == []
    (said,), _more = check_inputs.display.warning.call_args
    assert "can't resolve k3s_server_url k3s.example.org." in said


def test_localhost_has_its_templates_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(monkeypatch, {"k3s_drain": "{{ false }}"}, {}) == []


@pytest.mark.parametrize(("accepted", "refused"), [({}, 1), ({"k3s_accept_overlap": "false"}, 1), ({"k3s_accept_overlap": True}, 0)])
def test_a_cluster_that_exists_goes_on_with_ranges_that_overlap(monkeypatch: pytest.MonkeyPatch, accepted: dict[str, t.Any], refused: int) -> None:
    """They can't be changed any more, so a check that is right for a new cluster must not stop every run of an old one."""
    monkeypatch.setattr(check_inputs, "display", mock.Mock())
    given = {"k3s_cluster_cidr": "10.43.0.0/16", **accepted}
    found = problems(monkeypatch, given, given)
    assert len(found) == refused and check_inputs.display.warning.call_count == 1 - refused
    assert not found or "overlap" in found[0] and "k3s_accept_overlap: true" in found[0]
