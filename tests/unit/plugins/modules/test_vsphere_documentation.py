"""The argument spec and its documentation are written twice; they must say the same."""
from __future__ import annotations

import pytest
import yaml
from ansible.module_utils.common.parameters import AnsibleFallbackNotFound

from ansible_collections.cht.k3s.plugins.doc_fragments.vsphere import ModuleDocFragment
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.argument_spec import base_argument_spec, power_argument_spec
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.options import ENVIRONMENT

MODULE = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
POWER = {**yaml.safe_load(ModuleDocFragment.VMS)["options"], **yaml.safe_load(ModuleDocFragment.POWER)["options"]}
PLUGIN = yaml.safe_load(ModuleDocFragment.PLUGIN)["options"]


def test_modules_and_plugin_have_the_same_options_from_the_same_environment():
    spec = base_argument_spec()
    assert set(spec) == set(MODULE) == set(PLUGIN) == set(ENVIRONMENT)
    for name, variable in ENVIRONMENT.items():
        assert spec[name]["fallback"][1] == [variable]
        assert f"E({variable})" in str(MODULE[name]["description"])
        assert PLUGIN[name]["env"] == [{"name": variable}]
        for key in ("type", "default", "aliases"):
            assert spec[name].get(key) == MODULE[name].get(key), (name, key)
            # Ansible would cast a plugin's options before they are templated, and take any text for false.
            mine = "raw" if (key, spec[name].get(key)) in (("type", "int"), ("type", "bool")) else spec[name].get(key)
            assert PLUGIN[name].get(key) == mine, (name, key)


@pytest.mark.parametrize("name", ["port", "validate_certs", "ca_path", "thumbprint", "timeout"])
def test_an_empty_environment_variable_is_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fallback, variables = base_argument_spec()[name]["fallback"]
    monkeypatch.setenv(ENVIRONMENT[name], "")
    with pytest.raises(AnsibleFallbackNotFound):
        fallback(*variables)
    monkeypatch.setenv(ENVIRONMENT[name], "x")
    assert fallback(*variables) == "x"


def test_the_password_is_never_logged():
    assert base_argument_spec()["password"]["no_log"] is True


def test_the_options_about_vms_and_power_are_documented_as_they_are():
    spec = power_argument_spec()
    assert set(spec) == {*MODULE, *POWER}
    for name, documented in POWER.items():
        for key in ("type", "default", "elements", "choices", "required"):
            assert spec[name].get(key) == documented.get(key), (name, key)
