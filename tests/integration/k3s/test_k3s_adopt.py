"""A cluster that was built by hand: site.yml refuses it, adopt.yml reports and moves it, and nothing about it changes meaning."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.lab import Lab, Run

BINARY = "http://198.18.0.2:8080/k3s/v1.35.4%2Bk3s1/k3s"
WORD = "typed-by-hand"
# What the installer of k3s writes.
UNIT = r"""[Unit]
Description=Lightweight Kubernetes
Documentation=https://k3s.io
Wants=network-online.target
After=network-online.target

[Install]
WantedBy=multi-user.target

[Service]
Type=notify
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
EnvironmentFile=-/etc/systemd/system/{service}.service.env
KillMode=process
Delegate=yes
User=root
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/local/bin/k3s \
    {arguments}
"""
SERVER = r"""server \
    '--cluster-init' \
    '--docker' \
    '--token' \
    'typed-by-hand' \
    '--cluster-cidr=198.19.0.0/17' \
    '--service-cidr=198.19.128.0/17' \
    '--node-ip=198.18.0.11' \
    '--disable' \
    'local-storage,metrics-server' \
    '--kube-apiserver-arg=default-watch-cache-size=50' \
    '--kubelet-arg=fail-cgroupv1=false' \
"""
AGENT = r"""agent \
    '--docker' \
    '--node-label' \
    'room=cellar' \
    '--kubelet-arg=fail-cgroupv1=false' \
"""
VARIABLES = ("-e", "k3s_cloud_provider=none", "-e", "k3s_container_runtime=docker")
# The unit has no argument at all.
PLAIN = "{role} \\\n"
LABELLED = PLAIN + "".join(f"\t{word} \\\n" for word in (
    "'--node-label'", "'room=cellar'", "'--node-label=floor=2'", "'--kubelet-arg=fail-cgroupv1=false'", "'--kubelet-arg=max-pods=100'"))
# Without cluster-init: it is on SQLite, as the one line of its own docs leaves it.
BEGUN = """tls-san: k3s.example.org
disable: [servicelb, "traefik"]  # by hand
kubelet-arg: fail-cgroupv1=false
"""
INLINE = """server: https://198.18.0.11:6443
token: '{token}'
node-label: [room=cellar, "floor=2"]  # where it stands
kubelet-arg: ["fail-cgroupv1=false", "max-pods=100"]
"""
# What such a cluster has, said by the inventory.
AS_IT_RUNS = ("-e", json.dumps({
    "k3s_cloud_provider": "none", "k3s_cluster_cidr": "10.42.0.0/16", "k3s_service_cidr": "10.43.0.0/16", "k3s_registries": {},
    "control_plane_disable": ["traefik", "servicelb"], "control_plane_tls_san": ["k3s.example.org"], "control_plane_secrets_encryption": False,
    "agent_labels": {"room": "cellar", "floor": "2"},
    "agent_kubelet_args": ["fail-cgroupv1=false", "max-pods=100"],
}))
UNITS = {"control-plane-1": "k3s", "agent-1": "k3s-agent", "agent-2": "k3s-agent"}


def install(lab: Lab, node: str, service: str, arguments: str, environment: str = "") -> None:
    """What a person does on a machine."""
    unit = UNIT.format(service=service, arguments=arguments)
    lab("ssh", node, f"""sudo sh -ec '
        curl -sf -o /usr/local/bin/k3s {BINARY} || python3 -c "import urllib.request; urllib.request.urlretrieve(\\"{BINARY}\\", \\"/usr/local/bin/k3s\\")"
        chmod 755 /usr/local/bin/k3s
        for command in kubectl crictl ctr; do [ -e /usr/local/bin/$command ] || ln -sf k3s /usr/local/bin/$command; done
        cat > /etc/systemd/system/{service}.service.env && chmod 600 /etc/systemd/system/{service}.service.env' <<'END'
{environment}
END""")
    lab("ssh", node, f"sudo sh -c 'cat > /etc/systemd/system/{service}.service' <<'END'\n{unit}END\n")
    lab("ssh", node, f"sudo systemctl daemon-reload && sudo systemctl enable -q {service} && sudo timeout 240 systemctl start {service}", timeout=300)


def uid(lab: Lab) -> str:
    return lab.kubectl("get", "namespace", "kube-system")["metadata"]["uid"]


def pids(lab: Lab) -> list[str]:
    return [lab("ssh", node, f"systemctl show -p MainPID {unit}").strip() for node, unit in
            (("control-plane-1", "k3s"), ("agent-1", "k3s-agent"), ("agent-2", "k3s-agent"))]


def wipe(lab: Lab) -> None:
    for node in UNITS:
        if lab("ssh", node, "ls /usr/local/bin/k3s 2>/dev/null || true").strip():
            lab("vm", "wipe", node, timeout=120)


def configure(lab: Lab, node: str, text: str) -> None:
    lab("ssh", node, f"sudo mkdir -p /etc/rancher/k3s && sudo tee /etc/rancher/k3s/config.yaml >/dev/null <<'END'\n{text}END\n")


def starts(lab: Lab) -> dict[str, int]:
    """How often each node's service was started so far."""
    return {node: int(lab("ssh", node, f"sudo journalctl -u {unit} -o cat | grep -c '^Starting ' || true")) for node, unit in UNITS.items()}


# -- one whose units have no argument at all ----------------------------------------------------------


@pytest.fixture(scope="module")
def plain(life_lab: Lab) -> Lab:
    wipe(life_lab)
    configure(life_lab, "control-plane-1", BEGUN)
    install(life_lab, "control-plane-1", "k3s", PLAIN.format(role="server"))
    token = life_lab("ssh", "control-plane-1", "sudo cat /var/lib/rancher/k3s/server/node-token").strip()
    install(life_lab, "agent-1", "k3s-agent", LABELLED.format(role="agent"), f"K3S_TOKEN='{token}'\nK3S_URL='https://198.18.0.11:6443'")
    configure(life_lab, "agent-2", INLINE.format(token=token))
    install(life_lab, "agent-2", "k3s-agent", PLAIN.format(role="agent"))
    for node in UNITS:
        life_lab("ssh", node, "sudo touch /var/tmp/installed")
    return life_lab


def test_a_plain_hand_install_is_refused_by_every_role(plain: Lab) -> None:
    before = starts(plain)
    for tags in ("node", "control_plane", "agent", "preflight,preflight_hosts"):
        run = plain.playbook("--tags", tags, *AS_IT_RUNS, name=f"life-plain-{tags.split(',', maxsplit=1)[0]}").expect(1)
        assert "adopt.yml" in run.output and run.changed == []
    for node in UNITS:
        touched = plain("ssh", node, "sudo find /etc /usr/local /var/lib/rancher/k3s/server/token -newer /var/tmp/installed -type f 2>/dev/null || true")
        assert touched.strip() == "", node
    assert starts(plain) == before


def test_its_report_knows_what_k3s_does_anyway(plain: Lab) -> None:
    run = plain.playbook(*AS_IT_RUNS, playbook="playbooks/adopt.yml", name="life-plain-report").expect()
    text = " ".join(run.output.replace("''", "'").split())
    assert run.changed == [] and "datastore: SQLite" in text and "managed by this collection" not in text and "site.yml would set" not in text
    assert "control-plane-1: by other means, in /etc/rancher/k3s/config.yaml" in text


def test_a_plain_cluster_is_adopted_with_one_restart_of_each_node(plain: Lab) -> None:
    identity, before = uid(plain), starts(plain)
    plain.playbook(*AS_IT_RUNS, "-e", "k3s_adopt=true", playbook="playbooks/adopt.yml", name="life-plain-adopted").expect()
    once = {node: count + 1 for node, count in before.items()}
    assert starts(plain) == once
    assert plain.playbook(*AS_IT_RUNS, "-e", "k3s_adopt=true", playbook="playbooks/adopt.yml", name="life-plain-adopted-again").expect().changed == []
    managed = plain.playbook("--tags", "control_plane,agent", *AS_IT_RUNS, name="life-plain-managed").expect()
    assert managed.changed == [] and starts(plain) == once and uid(plain) == identity
    plain.playbook("--tags", "node", *AS_IT_RUNS, name="life-plain-prepared").expect()
    assert starts(plain) == once
    assert {node["spec"]["providerID"] for node in plain.kubectl("get", "nodes")["items"]} == {f"k3s://{node}" for node in UNITS}


def test_its_data_moves_from_sqlite_to_etcd_also_after_an_interruption(plain: Lab, tmp_path: Path) -> None:
    identity = uid(plain)
    plain.kubectl("create", "configmap", "kept", "--from-literal=word=kept")

    def migrate(name: str, *argv: str, **options: object) -> Run:
        return plain.playbook(*AS_IT_RUNS, *argv, playbook="playbooks/migrate_datastore.yml", name=f"life-migrate-{name}", **options)

    run = plain.playbook(*AS_IT_RUNS, "-e", f"k3s_backup_dir={tmp_path}", playbook="playbooks/backup.yml", name="life-backup-sqlite").expect(1)
    assert "SQLite" in run.output and "migrate_datastore.yml" in run.output
    before = starts(plain)
    assert "Give its name" in " ".join(migrate("unconfirmed").expect(1).output.split()) and starts(plain) == before
    assert migrate("cut", "-e", "k3s_confirm=lab", interrupt_after="Move its data to etcd", pause=3).code != 0
    plain("ssh", "control-plane-1", "sudo pkill -KILL -f [k]3s_datastore || true")
    migrate("moved", "-e", "k3s_confirm=lab").expect()
    assert uid(plain) == identity and plain.kubectl("get", "configmap", "kept")["data"] == {"word": "kept"}
    files = plain("ssh", "control-plane-1", "sudo sh -c 'ls -d /var/lib/rancher/k3s/server/db/*'").split()
    assert {"etcd", "state.db.migrated"} <= {file.rsplit("/", 1)[1] for file in files} and not any(file.endswith("/state.db") for file in files), files
    assert plain("ssh", "control-plane-1", "systemctl is-enabled k3s; systemctl is-active k3s").split() == ["enabled", "active"]
    before = starts(plain)
    assert migrate("again", "-e", "k3s_confirm=lab").expect().changed == []
    run = plain.playbook("--tags", "control_plane,agent", *AS_IT_RUNS, name="life-migrate-managed").expect()
    assert run.changed == [] and starts(plain) == before
    plain.playbook(*AS_IT_RUNS, "-e", f"k3s_backup_dir={tmp_path}", playbook="playbooks/backup.yml", name="life-backup-etcd").expect()


def test_nothing_of_an_adopted_cluster_is_left(plain: Lab) -> None:
    for node in UNITS:
        plain("ssh", node, "sudo sh -c 'mkdir -p /var/lib/cni /var/log/pods && touch /usr/local/bin/k3s-killall.sh /usr/local/bin/k3s-uninstall.sh'")
    plain.playbook("-e", "k3s_confirm=lab", playbook="playbooks/reset.yml", name="life-plain-reset").expect()
    for node in UNITS:
        left = plain("ssh", node, "sudo sh -c 'ls -d /etc/systemd/system/k3s*.service* /usr/local/bin/k3s* /etc/rancher/k3s /var/lib/rancher/k3s /var/lib/cni"
                     " /var/log/pods /var/log/containers 2>/dev/null; iptables-save 2>/dev/null | grep -i flannel' || true").split()
        assert [path for path in left if not path.endswith(".service.d")] == [], node


# -- one with docker and arguments ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_hand(life_lab: Lab) -> Lab:
    wipe(life_lab)
    install(life_lab, "control-plane-1", "k3s", SERVER)
    for node in ("agent-1", "agent-2"):
        install(life_lab, node, "k3s-agent", AGENT, f"K3S_TOKEN='{WORD}'\nK3S_URL='https://198.18.0.11:6443'\nNO_PROXY='.svc'")
    life_lab("ssh", "agent-2", "sudo mkdir -p /etc/rancher/k3s && echo 'mirrors: {}' | sudo tee /etc/rancher/k3s/registries.yaml")
    return life_lab


def test_site_refuses_a_cluster_that_is_not_adopted(by_hand: Lab) -> None:
    before = pids(by_hand)
    for tags in ("node", "control_plane", "agent"):
        run = by_hand.playbook("--tags", tags, *VARIABLES, name=f"life-refused-{tags}").expect(1)
        assert "adopt.yml" in run.output and run.changed == []
    assert pids(by_hand) == before


def test_the_report_names_every_difference_and_changes_nothing(by_hand: Lab) -> None:
    before = pids(by_hand)
    run = by_hand.playbook(playbook="playbooks/adopt.yml", name="life-report").expect()
    assert run.changed == [] and pids(by_hand) == before
    for text in ("control-plane-1: by other means, in /etc/systemd/system/k3s.service; docker; k3s://control-plane-1",
                 "agent-1: by other means, in /etc/systemd/system/k3s-agent.service, /etc/systemd/system/k3s-agent.service.env; docker",
                 "k3s://control-plane-1 of the running node stays", "Set k3s_container_runtime to docker",
                 "node-label: has room=cellar; site.yml would set nothing (agent-1, agent-2)",
                 "secrets-encryption: has nothing; stays so under site.yml; playbooks/secrets_encryption.yml encrypts",
                 "environment NO_PROXY: has .svc; site.yml would set nothing (agent-1, agent-2)",
                 "/etc/rancher/k3s/registries.yaml: has mirrors or logins of its own; site.yml would set k3s_registries (agent-2)"):
        assert text in " ".join(run.output.replace("''", "'").split()), text
    assert "disable: " not in run.output, "a cluster that exists keeps its parts where the variables say nothing"
    assert WORD not in run.output


def test_adopting_moves_the_settings_and_nothing_else(by_hand: Lab) -> None:
    identity = uid(by_hand)
    run = by_hand.playbook("-e", "k3s_adopt=true", playbook="playbooks/adopt.yml", name="life-adopted").expect()
    assert len([line for line in run.changed if "Move the settings" in line]) == 3
    assert WORD not in run.output
    config = by_hand("ssh", "control-plane-1", "sudo cat /etc/rancher/k3s/config.yaml; cat /etc/systemd/system/k3s.service; sudo cat /etc/rancher/k3s/token")
    for text in ("cluster-init: true", "docker: true", "- metrics-server", "ExecStart=/usr/local/bin/k3s server\n", WORD):
        assert text in config
    agent = by_hand("ssh", "agent-1", "sudo cat /etc/systemd/system/k3s-agent.service.env /etc/rancher/k3s/config.yaml")
    assert "K3S_" not in agent and "NO_PROXY" in agent and "room=cellar" in agent
    assert by_hand("ssh", "agent-2", "sudo cat /etc/rancher/k3s/registries.yaml.before-adoption").strip() == "mirrors: {}"
    nodes = by_hand.kubectl("get", "nodes")["items"]
    assert sorted(node["spec"]["providerID"] for node in nodes) == ["k3s://agent-1", "k3s://agent-2", "k3s://control-plane-1"]
    assert uid(by_hand) == identity
    again = by_hand.playbook("-e", "k3s_adopt=true", playbook="playbooks/adopt.yml", name="life-adopted-again").expect()
    assert again.changed == []


def test_another_runtime_is_refused_until_the_node_is_drained(by_hand: Lab) -> None:
    run = by_hand.playbook("--tags", "agent", "--limit", "agent-1,localhost", "-e", "k3s_cloud_provider=none", name="life-runtime").expect(1)
    assert "this node runs with the other one" in run.output and "kubectl drain agent-1" in run.output
    by_hand("kubectl", "drain", "agent-1", "--ignore-daemonsets", "--delete-emptydir-data", "--force", timeout=200)
    by_hand.playbook("--tags", "agent", "--limit", "agent-1,localhost", "-e", "k3s_cloud_provider=none", name="life-runtime-drained").expect()
    by_hand("kubectl", "uncordon", "agent-1")
    assert "docker" not in by_hand("ssh", "agent-1", "sudo cat /etc/rancher/k3s/config.yaml")


def test_after_that_site_manages_it(by_hand: Lab) -> None:
    by_hand("kubectl", "drain", "agent-2", "--ignore-daemonsets", "--delete-emptydir-data", "--force", timeout=200)
    by_hand("kubectl", "drain", "control-plane-1", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s", timeout=200)
    identity = uid(by_hand)
    argv = ("--tags", "node,control_plane,agent", "-e", "k3s_cloud_provider=none", "-e", "control_plane_secrets_encryption=false")
    by_hand.playbook(*argv, name="life-managed").expect()
    for node in ("control-plane-1", "agent-2"):
        by_hand("kubectl", "uncordon", node)
    assert by_hand.playbook(*argv, name="life-managed-again").expect().changed == []
    assert uid(by_hand) == identity
