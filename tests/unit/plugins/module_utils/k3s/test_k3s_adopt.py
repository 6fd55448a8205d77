# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand installs as k3s' install script leaves them: known as such everywhere, adopted with one restart, and nothing for site.yml to do afterwards."""
from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.cht.k3s.plugins.filter.adoption_report import adoption_report
from ansible_collections.cht.k3s.plugins.module_utils.k3s import journal, settings, snapshots, state, values, yamltext
from ansible_collections.cht.k3s.plugins.module_utils.k3s.adopt import Adopter, differences
from ansible_collections.cht.k3s.plugins.module_utils.k3s.datastore import ETCD_WAL, MOVING, SQLITE
from ansible_collections.cht.k3s.plugins.module_utils.k3s.files import GOOD_CONFIG_PATH, HEADER, render_registries
from ansible_collections.cht.k3s.plugins.module_utils.k3s.join import Joiner, Wanted
from ansible_collections.cht.k3s.plugins.module_utils.k3s.migrate import Migrator
from ansible_collections.cht.k3s.plugins.module_utils.k3s.node import Preparer
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, Result, UnitState
from ansible_collections.cht.k3s.plugins.module_utils.k3s.uninstall import Remover
from ansible_collections.cht.k3s.plugins.module_utils.k3s.unit import render_unit
from k3s_fakes import VERSION, FakeSystem, make_node

BINARY = "/usr/local/bin/k3s"
UNIT = "/etc/systemd/system/k3s.service"
AGENT_UNIT = "/etc/systemd/system/k3s-agent.service"
CONFIG = "/etc/rancher/k3s/config.yaml"
TOKEN = "/etc/rancher/k3s/token"
MADE = "K10" + "ab" * 32 + "::server:made-by-k3s\n"
URL = "https://198.18.0.11:6443"
SERVER = {
    "node-ip": "198.18.0.11", "cluster-cidr": "10.42.0.0/16", "service-cidr": "10.43.0.0/16", "tls-san": ["198.18.0.11"],
    "etcd-snapshot-schedule-cron": "0 */12 * * *", "etcd-snapshot-retention": 5,
}


def by_script(system: FakeSystem, role: str, flags: list[str], environment: str = "") -> None:
    """What k3s' install script leaves: flags in quotes, a line each, an empty line at the end, variables in a file of mode 0600."""
    unit, service = (UNIT, "k3s") if role == "server" else (AGENT_UNIT, "k3s-agent")
    words = "".join(f"\t'{flag}' \\\n" for flag in flags)
    system.put(unit, f"[Service]\nType=notify\nEnvironmentFile=-{unit}.env\nExecStart={BINARY} \\\n    {role} \\\n{words}\n")
    system.put(unit + ".env", environment)
    system.put(BINARY, mode=0o755)
    for name in ("kubectl", "crictl", "ctr"):
        system.put(f"/usr/local/bin/{name}")
    if role == "server":
        system.put(state.SERVER_TOKEN, MADE)
        system.put(ETCD_WAL + "/0.wal" if "--cluster-init" in flags else SQLITE)
    else:
        system.put(state.KUBELET_CERTIFICATE)
    system.units[service] = UnitState(loaded=True, active="active", enabled="enabled", pid=7, started_at=system.clock - 90)


@pytest.fixture
def node(system, api):
    """One that runs already; its API has it."""
    system.version = VERSION
    found = make_node("control-plane-1", voter=None, provider="k3s://control-plane-1")
    found["status"]["addresses"] = [{"type": "InternalIP", "address": "198.18.0.11"}, {"type": "Hostname", "address": "control-plane-1"}]
    api.objects["control-plane-1"] = found
    api.get = lambda path: {}
    return system


def adopter(system, role="server", config=None, check_mode=False) -> Adopter:
    return Adopter(system, role, BINARY, 10, check_mode, config or {})


def site(system, role="server", config=None, **options) -> dict:
    """What site.yml does with this node."""
    if role == "agent":
        options.setdefault("servers", [URL])
        options.setdefault("token", MADE.strip())
    return Joiner(system, Wanted(role=role, version=VERSION, config=config or {}, **options)).present()


def files(system) -> dict[str, str]:
    """All files of the machine with their text."""
    return {str(path): path.read_text(encoding="utf-8") for path in sorted(Path(system.root).rglob("*")) if path.is_file()}


# -- known as foreign ------------------------------------------------------------------------------------


def plain_server(system):
    by_script(system, "server", [])


def usual_agent(system):
    by_script(system, "agent", [], f"K3S_TOKEN='word'\nK3S_URL='{URL}'\n")


def agent_of_a_file(system):
    by_script(system, "agent", [])
    system.put(CONFIG, f"server: {URL}\ntoken: word\n")


def variables_elsewhere(system):
    by_script(system, "agent", [])
    system.put(CONFIG, HEADER + f"server: {URL}\n")
    system.put("/etc/default/k3s-agent", "K3S_TOKEN=word\n")


def flags(system):
    by_script(system, "server", ["--cluster-init"])


def data_alone(system):
    system.put(ETCD_WAL + "/0.wal")


def another_name(system):
    system.put("/etc/systemd/system/k3s-moh.service", f"[Service]\nExecStart={BINARY} \\\n    server \\\n")


def variables_in_the_unit(system):
    system.put(UNIT, f"[Service]\nEnvironment=K3S_TOKEN=word K3S_DEBUG=true\nExecStart={BINARY} \\\n    server \\\n")


def a_drop_in(system):
    """As `systemctl edit k3s` makes it, beside a node of ours; a proxy alone is nobody's business."""
    system.put(UNIT, render_unit("server", BINARY))
    system.put(CONFIG, HEADER + "cluster-init: true\n")
    system.put(UNIT + ".d/proxy.conf", "[Service]\nEnvironment=HTTPS_PROXY=http://198.18.0.2:3128\n")
    assert state.foreign(system) == {}
    system.put(UNIT + ".d/override.conf", f"[Service]\nExecStart=\nExecStart={BINARY} server --disable=traefik\n")


@pytest.mark.parametrize(("install", "role", "sign"), [
    (variables_in_the_unit, "server", f"{UNIT} sets K3S_DEBUG, K3S_TOKEN"),
    (a_drop_in, "server", f"{UNIT}.d/override.conf passes arguments to it"),
    (plain_server, "server", f"{CONFIG} is not there, so it runs with k3s' defaults"),
    (usual_agent, "agent", f"{AGENT_UNIT}.env sets K3S_TOKEN, K3S_URL"),
    (agent_of_a_file, "agent", f"{CONFIG} was not written by this collection"),
    (variables_elsewhere, "agent", "/etc/default/k3s-agent sets K3S_TOKEN"),
    (flags, "server", f"{UNIT} passes arguments to it"),
    (data_alone, "server", f"/var/lib/rancher/k3s holds its data, and there is neither a unit nor {CONFIG}"),
    (another_name, "server", "/etc/systemd/system/k3s-moh.service runs it under another name"),
])
def test_a_hand_install_is_refused_before_anything_is_changed(node, install, role, sign):
    install(node)
    before = files(node)
    for action in (lambda: Preparer(node).run(["overlay"], {}, True, "1G"), lambda: site(node, role, cluster_init=role == "server")):
        with pytest.raises(NodeError, match="adopt.yml.*Nothing was changed") as refused:
            action()
        assert sign in str(refused.value) and "word" not in str(refused.value)
        assert str(refused.value).count(CONFIG) == sign.count(CONFIG), "a file that is not there is named only where it is the sign"
    assert not node.commands() and files(node) == before
    assert not state.inspect_server(node, BINARY)["adopted"] and not adopter(node, role).report()["adopted"]


def test_a_machine_without_k3s_and_one_of_ours_are_not_foreign(node):
    assert state.foreign(node) == {}
    node.put(CONFIG, "debug: true\n")
    assert state.foreign(node) == {}, "nothing runs with it"
    node.put(UNIT, render_unit("server", BINARY))
    node.put(CONFIG, HEADER)
    node.put(SQLITE)
    assert state.foreign(node) == {}
    node.remove(CONFIG)
    node.put(GOOD_CONFIG_PATH, HEADER)
    assert state.foreign(node) == {}, "one that was deleted is written again"


def test_a_bare_machine_is_not_called_managed(node):
    report = adopter(node, config=SERVER).report()
    assert not report["installed"] and not report["adopted"] and report["differences"] == []
    assert adoption_report({"a": report}) == ["a: has no k3s; site.yml would install it"]
    assert adopter(node, config=SERVER).move() == {"changed": False}


def test_ranges_are_compared_with_the_defaults_where_no_file_says_them(node):
    node.put(UNIT, render_unit("server", BINARY))
    node.put(SQLITE)
    node.put(CONFIG, HEADER)
    with pytest.raises(NodeError, match="cluster-cidr is 10.42.0.0/16 here, and 10.200.0.0/16 is wanted"):
        site(node, config={"cluster-cidr": "10.200.0.0/16"})


# -- adopted --------------------------------------------------------------------------------------------


def restarts(system) -> int:
    return len(system.commands("restart"))


@pytest.mark.parametrize(("flags", "config"), [
    ([], ""),
    (["--cluster-init", "--disable=traefik,servicelb", "--tls-san", "k3s.example.org"], ""),
    (["--cluster-init"], 'disable: [servicelb, "traefik"]  # ours\ntls-san: k3s.example.org\nwrite-kubeconfig-mode: "0644"\netcd-snapshot-retention: "5"\n'),
    (["--cluster-init"], "cluster-cidr:\n- 10.42.0.0/16\ndisable:\n  - traefik\n  - servicelb\nkubelet-arg: [\"feature-gates=A=true,B=false\", 'v=2']\n"),
])
def test_one_restart_and_site_has_nothing_to_do(node, api, flags, config):
    by_script(node, "server", flags)
    if config:
        node.put(CONFIG, config)
    if "--cluster-init" in flags:
        api.objects["control-plane-1"] = {**make_node("control-plane-1", provider="k3s://control-plane-1"), "status": {
            **make_node("control-plane-1")["status"], "addresses": [{"type": "InternalIP", "address": "198.18.0.11"}]}}
    wanted = dict(SERVER)
    if "traefik" in str(flags) + config:
        wanted["disable"] = ["traefik", "servicelb"]
    if "k3s.example.org" in str(flags) + config:
        wanted["tls-san"] = ["198.18.0.11", "k3s.example.org"]
    if "kubelet" in config:
        wanted["kubelet-arg"] = ["v=2", "feature-gates=A=true,B=false"]
    if "0644" in config:
        wanted["write-kubeconfig-mode"] = "0644"
    assert adopter(node, config=wanted).report()["differences"] == []
    assert adopter(node, config=wanted).move()["changed"] and restarts(node) == 1
    node.age()
    node.units["k3s"].started_at = node.clock
    assert adopter(node, config=wanted).move() == {"changed": False}
    result = site(node, config=wanted)
    assert not result["changed"] and restarts(node) == 1, result["actions"]
    assert node.read(TOKEN) == MADE and node.mode(TOKEN) == 0o600 and f"token-file: {TOKEN}" in node.read(CONFIG)


def test_of_a_token_and_a_file_with_one_k3s_takes_the_file(node, api):
    by_script(node, "agent", ["--token-file=/etc/moh-token"], f"K3S_TOKEN='stale'\nK3S_URL='{URL}'\n")
    node.put("/etc/moh-token", "made-by-k3s\n")
    assert adopter(node, "agent", {"node-ip": "198.18.0.11", "node-name": "control-plane-1"}).move()["changed"]
    assert node.read(TOKEN) == "made-by-k3s\n"


def test_an_agent_with_an_environment_file_is_restarted_once(node, api):
    by_script(node, "agent", [], f"K3S_TOKEN='made-by-k3s'\nK3S_URL='{URL}'\nNO_PROXY='.svc'\n")
    node.put("/etc/default/k3s-agent", "# ours\nK3S_NODE_NAME=control-plane-1\nTZ=UTC\n", 0o644)
    wanted = {"node-ip": "198.18.0.11", "node-name": "control-plane-1"}
    assert adopter(node, "agent", wanted).move()["changed"]
    assert node.read("/etc/default/k3s-agent") == "# ours\nTZ=UTC\n" and node.mode("/etc/default/k3s-agent") == 0o644
    node.age()
    node.units["k3s-agent"].started_at = node.clock
    result = site(node, "agent", wanted, environment={"NO_PROXY": ".svc"})
    assert not result["changed"] and restarts(node) == 1, result["actions"]


def test_what_differs_stays_until_site(node):
    """An adoption changes nothing that runs: not a component, not the encryption, not a name of the certificate."""
    by_script(node, "server", ["--tls-san=old.example.org"])
    wanted = {**SERVER, "disable": ["local-storage"], "secrets-encryption": True}
    rows = {row["key"]: row for row in adopter(node, config=wanted).report()["differences"]}
    assert sorted(rows) == ["disable", "secrets-encryption", "tls-san"] and rows["tls-san"]["found"] == ["old.example.org"]
    adopter(node, config=wanted).move()
    text = node.read(CONFIG)
    assert "local-storage" not in text and "secrets-encryption" not in text and "- old.example.org\n" in text and '- "198.18.0.11"\n' in text


def test_what_k3s_does_anyway_is_no_difference():
    assert differences({}, {**SERVER, "flannel-backend": "vxlan", "tls-san-security": True, "docker": False}, {
        "status": {"addresses": [{"type": "InternalIP", "address": "198.18.0.11"}]}}) == []
    assert [row["key"] for row in differences({}, {"node-ip": "198.18.0.12", "tls-san-security": False})] == ["node-ip", "tls-san-security"]


def test_the_provider_id_of_the_node_may_be_said(node, api):
    api.objects["control-plane-1"]["spec"]["providerID"] = "vsphere://420e"
    by_script(node, "agent", ["--kubelet-arg=cloud-provider=external"], f"K3S_TOKEN=word\nK3S_URL={URL}\n")
    wanted = {"kubelet-arg": ["cloud-provider=external", "provider-id=vsphere://420e"]}
    assert adopter(node, "agent", wanted).report()["differences"] == []
    adopter(node, "agent", wanted).move()
    assert "provider-id=vsphere://420e" in node.read(CONFIG)


def test_without_a_cloud_provider_no_provider_id_is_asked_for():
    node = {"provider_id": "vsphere://420e", "cloud_provider": "none"}
    assert settings.agent_config({}, node) == {} and settings.server_config({}, node, {}) == {}


def test_data_whose_settings_are_lost_gets_those_of_the_inventory(node, api):
    data_alone(node)
    node.put(state.SERVER_TOKEN, MADE)
    node.put(BINARY, mode=0o755)
    assert adopter(node, config=SERVER).move()["changed"] and not node.commands()
    node.on_start = lambda: api.objects.update({"control-plane-1": make_node("control-plane-1")})
    assert "start k3s.service" in " ".join(site(node, config=SERVER, release_url="http://mirror")["actions"])


@pytest.mark.parametrize(("install", "message"), [(another_name, "rename the unit"), (usual_agent, "it is the other kind of node than its group")])
def test_what_adoption_cannot_take_is_said(node, install, message):
    install(node)
    with pytest.raises(NodeError, match=message + ".*Nothing was changed"):
        adopter(node).move()


def test_an_agent_that_joined_elsewhere_is_reported(node):
    by_script(node, "agent", [], "K3S_TOKEN=word\nK3S_URL=https://old.example.org:6443\n")
    rows = adopter(node, "agent").report(servers=[URL])["differences"]
    assert rows == [{"key": "server", "found": "https://old.example.org:6443", "wanted": URL}]


def test_mirrors_that_come_are_reported(node):
    usual_agent(node)
    rows = adopter(node, "agent").report(registries={"mirrors": {}})["differences"]
    assert rows == [{"key": "/etc/rancher/k3s/registries.yaml", "found": None, "wanted": "k3s_registries"}]


def test_sqlite_is_named(node):
    plain_server(node)
    report = adopter(node, config=SERVER).report()
    assert report["datastore"] == "sqlite" and "playbooks/migrate_datastore.yml makes etcd of it" in "\n".join(adoption_report({"a": report}))


# -- by meaning ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other", "equal"), [
    ("node-ip: 1.2.3.4\n", "node-ip:\n- 1.2.3.4\n", True), ("disable: a,b\n", "disable: [b, a]\n", True), ("docker: true\n", 'docker: "true"\n', True),
    ("etcd-snapshot-retention: 7\n", 'etcd-snapshot-retention: "7"\n', True), ("a: x\nb: y\n", "b: y\na: x\n", True), ("", "docker: false\n", True),
    ("", "cluster-cidr: 10.42.0.0/16\n", True), ("cluster-cidr: a,b\n", "cluster-cidr: b,a\n", False), ("disable: a\n", "disable: b\n", False),
    ("kubelet-arg: [v=2, v=4]\n", "kubelet-arg: [v=4, v=2]\n", False), ("kubelet-arg: x=a,y=b\n", "kubelet-arg: [x=a, y=b]\n", False),
    ("a:\n  b: c\n", "a:\n  b: c\n", False), ("cluster-init: true\n", "", False), ("debug: yes\n", "debug: true\n", True),
])
def test_settings_are_compared_by_what_they_say(one, other, equal):
    assert values.same_config(one, other) == equal


MIRRORS = """# ours
mirrors:
  docker.io:
    endpoint:
    - "https://mirror.example.org:5000"   # near
    - https://registry-1.docker.io
  "*": {}
configs:
    mirror.example.org:5000:
        tls:
            insecure_skip_verify: true
        auth:
            username: u
            password: 'a: b # c'
"""


@pytest.mark.parametrize(("text", "equal"), [
    (MIRRORS, True), (MIRRORS.replace("true", '"true"'), True), (MIRRORS.replace("    - ", "      - "), True), (MIRRORS.replace("near", "far"), True),
    (MIRRORS.replace("https://mirror", "https://other"), False), (MIRRORS.replace("  username", "user"), False), ("mirrors: {a: b}\n", False),
    (MIRRORS.replace('"*": {}', '"*":'), False), ("", False), ("- a\nb: c\n", False), ("a:\n    b: c\n  d: e\n", False),
])
def test_mirrors_are_compared_by_what_they_say(text, equal):
    content = yaml.safe_load(MIRRORS)
    assert values.same_tree(text, render_registries(content, {})) == equal


@pytest.mark.parametrize("text", [MIRRORS, "a:\n- b: c\n  d: [e, f]\n-\n  g: h\n- i\nj:\nk: l\n"])
def test_what_is_read_is_what_yaml_says(text):
    def strings(value):
        if isinstance(value, dict):
            return {key: strings(item) for key, item in value.items()}
        if isinstance(value, list):
            return [strings(item) for item in value]
        return "" if value is None else str(value).lower() if isinstance(value, bool) else value

    assert yamltext.load(text) == strings(yaml.safe_load(text))


def test_another_form_of_a_file_restarts_nothing(node):
    node.put(UNIT, render_unit("server", BINARY), 0o644)
    node.put(UNIT + ".env", "")
    node.put(SQLITE)
    node.put(CONFIG, HEADER + "disable: traefik,servicelb\nnode-ip:\n- 198.18.0.11\n")
    node.put(GOOD_CONFIG_PATH, node.read(CONFIG))
    node.put("/etc/rancher/k3s/registries.yaml", HEADER + MIRRORS)
    for path in (BINARY, "/usr/local/bin/kubectl", "/usr/local/bin/crictl", "/usr/local/bin/ctr"):
        node.put(path)
    node.units["k3s"] = UnitState(loaded=True, active="active", enabled="enabled", pid=7, started_at=node.clock)
    text = node.read(CONFIG)
    result = site(node, config={"node-ip": "198.18.0.11", "disable": ["servicelb", "traefik"]}, registries=yaml.safe_load(MIRRORS))
    assert not result["changed"] and node.read(CONFIG) == text, result["actions"]


def test_a_provider_id_that_goes_restarts_nothing(node):
    """Earlier runs wrote one without a cloud provider; the Node has its ID for ever."""
    node.put(UNIT, render_unit("server", BINARY), 0o644)
    node.put(UNIT + ".env", "")
    node.put(SQLITE)
    node.put(CONFIG, HEADER + "kubelet-arg:\n  - provider-id=vsphere://420e\n  - max-pods=200\n")
    for path in (BINARY, "/usr/local/bin/kubectl", "/usr/local/bin/crictl", "/usr/local/bin/ctr"):
        node.put(path)
    node.units["k3s"] = UnitState(loaded=True, active="active", enabled="enabled", pid=7, started_at=node.clock)
    result = site(node, config={"kubelet-arg": ["max-pods=200"]})
    assert result["actions"] == [f"file {CONFIG}"] and "provider-id" not in node.read(CONFIG) and not node.commands()
    assert not site(node, config={"kubelet-arg": ["max-pods=200"]})["changed"]


# -- taken off again -------------------------------------------------------------------------------------


def test_nothing_of_an_adopted_node_is_left(node, api):
    by_script(node, "agent", [], f"K3S_TOKEN=word\nK3S_URL={URL}\n")
    node.put("/etc/default/k3s-agent", "K3S_DEBUG=true\nTZ=UTC\n")
    left = ["/usr/local/bin/k3s-killall.sh", "/usr/local/bin/k3s-agent-uninstall.sh", "/usr/local/bin/k3s-uninstall.sh", "/var/log/pods/a/0.log",
            "/var/log/containers/a.log", "/var/lib/cni/networks/cbr0/10.42.0.7"]
    for path in left:
        node.put(path)
    adopter(node, "agent").move()
    assert "word" in node.read(AGENT_UNIT + ".env.before-adoption") and node.exists("/etc/default/k3s-agent.before-adoption")
    predicted = Remover(node, BINARY, check_mode=True).absent()["actions"]
    assert predicted.index(f"remove {AGENT_UNIT}.env.before-adoption") < min(predicted.index(f"remove {path}") for path in (left[0], "/var/lib/cni", BINARY))
    assert Remover(node, BINARY).absent()["actions"] == predicted
    assert [path for path in files(node) if "k3s" in path or "/var/" in path] == [node.path("/etc/default/k3s-agent")]
    assert not any("word" in text for text in files(node).values()) and not Remover(node, BINARY).absent()["changed"]


def test_the_token_goes_before_anything_can_fail(node, api):
    by_script(node, "agent", [], f"K3S_TOKEN=word\nK3S_URL={URL}\n")
    adopter(node, "agent").move()
    node.systemctl = lambda *argv, timeout=0: Result(1, "", "no")
    with pytest.raises(NodeError, match="Nothing of k3s was removed yet"):
        Remover(node, BINARY).absent()
    assert not node.exists(AGENT_UNIT + ".env.before-adoption") and node.exists(AGENT_UNIT)


def test_logs_and_leases_of_others_stay_on_a_machine_without_k3s(node):
    node.put("/var/lib/cni/networks/podman/10.88.0.2")
    assert not Remover(node, BINARY).absent()["changed"] and node.exists("/var/lib/cni/networks/podman/10.88.0.2")


def test_chains_of_flannel_go(node):
    rules = ["*filter", ":INPUT ACCEPT [0:0]", ":FLANNEL-FWD - [0:0]", "-A FORWARD -m comment --comment \"flanneld forward\" -j FLANNEL-FWD",
             "-A INPUT -m comment --comment \"kube-vip of ours\" -j ACCEPT", ":KUBE-SERVICES - [0:0]", "COMMIT"]
    node.put(BINARY)
    loaded = {}
    node.run = lambda argv, timeout=60, env=None: Result(0, "\n".join(rules), "") if argv == ["iptables-save"] else Result(1, "", "")
    node.restore_rules = lambda family, text: loaded.update({family: text})
    Remover(node, BINARY).absent()
    assert loaded == {"iptables": "\n".join([rules[0], rules[1], rules[4], rules[6]]) + "\n"}


# -- SQLite ----------------------------------------------------------------------------------------------


ONCE = "/run/systemd/system/k3s.service.d/10-cht-k3s-once.conf"


@pytest.fixture
def sqlite_server(node, api):
    """An adopted server on SQLite; `api.moves` says whether k3s moves its data at the next start with cluster-init."""
    node.put(UNIT, render_unit("server", BINARY))
    node.put(CONFIG, HEADER + f"server: https://old:6443\ntoken-file: {TOKEN}\ndebug: true\n")
    node.put(GOOD_CONFIG_PATH, node.read(CONFIG))
    node.put(BINARY, mode=0o755)
    node.put(SQLITE, "rows\r\n")
    node.put(SQLITE + "-wal", "more rows")
    node.put(state.SERVER_TOKEN, MADE)
    node.units["k3s"] = UnitState(loaded=True, active="active", enabled="enabled", pid=7, started_at=node.clock - 90)
    node.free = lambda path: 1 << 30
    api.moves = "all"

    def start():
        moving = "cluster-init: true" in node.read(CONFIG) and node.exists(SQLITE)
        # What ends in between must not start by itself, with half of the data.
        assert moving == node.exists(ONCE) == node.exists(MOVING) and node.units["k3s"].enabled == ("disabled" if moving else "enabled")
        if "cluster-init: true" in node.read(CONFIG) and not node.listdir(ETCD_WAL):
            node.put(ETCD_WAL + "/0.wal", api.moves)
            if api.moves == "all":
                node.rename(SQLITE, SQLITE + ".migrated")
                api.objects["control-plane-1"] = make_node("control-plane-1")
            else:
                node.units["k3s"].active = "activating"

    node.on_start = start
    return node


def migrate(system, check_mode=False) -> dict:
    return Migrator(system, BINARY, 30, check_mode).to_etcd()


def test_the_data_moves_to_etcd_once(sqlite_server):
    before = files(sqlite_server)
    assert migrate(sqlite_server, check_mode=True) == {"changed": True} and files(sqlite_server) == before
    result = migrate(sqlite_server)
    assert [call[0] for call in sqlite_server.commands("stop", "start", "restart")] == ["stop", "start"]
    copied = open(sqlite_server.path(result["copy"] + "/state.db"), "rb").read()
    assert copied == b"rows\r\n" and sqlite_server.read(result["copy"] + "/state.db-wal") == "more rows"
    assert sqlite_server.read(result["copy"] + "/token") == MADE and sqlite_server.mode(result["copy"]) == 0o700
    text = sqlite_server.read(CONFIG)
    assert text == HEADER + f"cluster-init: true\ntoken-file: {TOKEN}\ndebug: true\n" and sqlite_server.read(GOOD_CONFIG_PATH) == text
    assert sqlite_server.units["k3s"].enabled == "enabled" and not sqlite_server.exists(ONCE)
    assert not sqlite_server.exists(MOVING) and migrate(sqlite_server) == {"changed": False}


def test_what_does_not_arrive_stays_in_sqlite(sqlite_server, api):
    """Half of the data in etcd would be all of it at the next start."""
    api.moves = "half"
    text = sqlite_server.read(CONFIG)
    with pytest.raises(NodeError, match="The data was not moved: .*It runs on SQLite again, with all its data"):
        migrate(sqlite_server)
    assert sqlite_server.read(CONFIG) == text and not sqlite_server.listdir(ETCD_WAL) and sqlite_server.read(SQLITE) == "rows\n"
    assert not sqlite_server.exists(MOVING) and sqlite_server.units["k3s"].active == "active"
    api.moves = "all"
    sqlite_server.clock += 1
    assert migrate(sqlite_server)["changed"]


def test_an_interrupted_move_is_begun_anew(sqlite_server, api):
    """The run ended while k3s was copying, and k3s itself as well."""
    sqlite_server.put(MOVING, "/somewhere\n")
    sqlite_server.put(ETCD_WAL + "/0.wal", "half")
    sqlite_server.put(CONFIG, HEADER + f"cluster-init: true\ntoken-file: {TOKEN}\n")
    sqlite_server.units["k3s"] = UnitState(loaded=True, active="activating", enabled="disabled")
    with pytest.raises(NodeError, match="migrate_datastore.yml again.*Nothing was changed"):
        site(sqlite_server)
    assert migrate(sqlite_server)["changed"] and sqlite_server.read(ETCD_WAL + "/0.wal") == "all" and not sqlite_server.exists(SQLITE)
    assert [name for name in sqlite_server.listdir("/var/lib/rancher/k3s/server/db") if name.startswith("etcd-unfinished-")]
    sqlite_server.put(MOVING, "/somewhere\n")
    assert migrate(sqlite_server) == {"changed": True} and migrate(sqlite_server) == {"changed": False}


def by_hand_again(system, api):
    system.put(UNIT, f"[Service]\nExecStart={BINARY} server --debug\n")


def unwell(system, api):
    api.objects["control-plane-1"]["status"]["conditions"][0]["status"] = "Unknown"


def full(system, api):
    system.free = lambda path: 10


def external(system, api):
    system.put(CONFIG, HEADER + "datastore-endpoint: mysql://x\n")
    system.put("/var/lib/rancher/k3s/server/tls/server-ca.crt")


def empty(system, api):
    system.remove(SQLITE)


@pytest.mark.parametrize(("fault", "message"), [
    (by_hand_again, "by other means"), (unwell, "not well"), (full, "Make room"), (external, "datastore-endpoint"), (empty, "no data"),
])
def test_what_cannot_move_is_said_before_k3s_is_stopped(sqlite_server, api, fault, message):
    fault(sqlite_server, api)
    before = files(sqlite_server)
    with pytest.raises(NodeError, match=message + ".*Nothing was changed"):
        migrate(sqlite_server)
    assert files(sqlite_server) == before and not sqlite_server.commands()


def test_no_snapshot_is_asked_of_sqlite(sqlite_server):
    with pytest.raises(NodeError, match="in SQLite .*, of which k3s makes no snapshots. playbooks/migrate_datastore.yml"):
        snapshots.save(sqlite_server, BINARY, "x", 10)
    assert not sqlite_server.calls


def test_a_server_that_cannot_join_sqlite_is_told_why():
    line = ('level=fatal msg="Error: preparing server: failed to bootstrap cluster data: failed to check if bootstrap data has been initialized: '
            'https://198.18.0.11:6443/v1-k3s/server-bootstrap: 400 Bad Request: etcd disabled"')
    cause = journal.find_cause([line])
    assert cause.id == "sqlite" and cause.final and "migrate_datastore.yml" in cause.remedy


def test_what_the_variables_leave_open_is_no_difference_and_stays(node):
    """The storage class of local volumes, and more snapshots than a new cluster keeps."""
    by_script(node, "server", ["--etcd-snapshot-retention=20"])
    open_now = {"disable": ["local-storage"], "etcd-snapshot-retention": 5}
    one = Adopter(node, "server", BINARY, 10, undecided=open_now)
    assert not {"disable", "etcd-snapshot-retention"} & {row["key"] for row in one.report()["differences"]}
    one.move()
    before = node.read(CONFIG)
    node.age()
    node.units["k3s"].started_at = node.clock
    assert "retention: 20" in before.replace('"', "") and "disable" not in before
    assert not site(node, undecided=open_now)["changed"] and node.read(CONFIG) == before


@pytest.mark.parametrize("install", [variables_in_the_unit, a_drop_in])
def test_settings_that_an_adoption_would_lose_are_refused(node, install):
    install(node)
    before = files(node)
    with pytest.raises(NodeError, match="cannot take them from: /etc/systemd/system/k3s.service.*systemctl daemon-reload.*Nothing was changed"):
        adopter(node).move()
    assert files(node) == before and not node.commands()
