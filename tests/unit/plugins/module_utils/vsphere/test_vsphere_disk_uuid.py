from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace as Thing

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.vsphere import disk_uuid, hostvars, power
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError


def test_an_existing_key_keeps_its_spelling():
    assert disk_uuid.setting([Thing(key="x", value="1"), Thing(key="disk.enableUUID", value="FALSE")]) == ("disk.enableUUID", "FALSE")
    assert disk_uuid.setting(None) == ("disk.EnableUUID", None)


def vm(moid, power="on", marked=False):
    return {
        "vsphere_name": moid, "vsphere_moid": moid, "vsphere_path": f"/dc/vm/{moid}", "vsphere_power_state": power,
        "vsphere_restart_required": marked, "vsphere_tools_status": "running",
    }


def test_the_result_tells_who_still_needs_a_power_cycle():
    found = {"a": vm("a"), "b": vm("b", "off"), "c": vm("c"), "d": vm("d")}
    config = {name: disk_uuid.Config(value="TRUE" if name == "d" else None) for name in found}
    result = disk_uuid._result(["a", "b", "c", "d"], found, config, {"a", "b", "c"}, {"c"})
    assert [item["restart_required"] for item in result["vms"]] == [True, False, False, False]
    assert [item["changed"] for item in result["vms"]] == [True, True, True, False]
    assert result["changed"] and result["restart_required"]
    assert "/dc/vm/a: disk.EnableUUID = None" in result["diff"]["before"]
    assert "/dc/vm/a: disk.EnableUUID = TRUE" in result["diff"]["after"]
    assert "/dc/vm/d: disk.EnableUUID = TRUE" in result["diff"]["before"]


BOOT = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)


class Vm:
    """A VM of a vCenter: an extraConfig and a power switch."""

    def __init__(self, world, moid):
        self.world, self.moid, self.options, self.on, self.boot = world, moid, {}, True, BOOT

    def ReconfigVM_Task(self, spec):
        for option in spec.extraConfig:
            self.options.pop(option.key, None)
            if option.value:
                self.options[option.key] = option.value
        self.world.log.append((self.moid, sorted(option.key for option in spec.extraConfig)))

    def ShutdownGuest(self):
        if self.moid not in self.world.deaf:
            self.on, self.boot = False, None

    def PowerOffVM_Task(self):
        self.on, self.boot = False, None

    def PowerOnVM_Task(self, _host):
        self.world.log.append((self.moid, "on"))
        self.on, self.boot = True, BOOT + timedelta(seconds=5)

    @property
    def values(self):
        return {
            "config.extraConfig": [Thing(key=key, value=value) for key, value in self.options.items()],
            "runtime.bootTime": self.boot,
            "runtime.powerState": "poweredOn" if self.on else "poweredOff",
            "guest.toolsRunningStatus": "guestToolsRunning",
        }


class World:
    """As much of vCenter as vsphere_disk_uuid asks for."""

    options = Thing(address="vc")

    def __init__(self, monkeypatch, *names):
        self.log, self.deaf = [], set()
        self.vms = {name: Vm(self, name) for name in names}
        monkeypatch.setattr(disk_uuid, "find_vms", self.find)
        for module in (disk_uuid, power):
            monkeypatch.setattr(module, "read_objects", lambda _s, _k, moids, _p: [Thing(moid=moid, values=self.vms[moid].values) for moid in moids])
            monkeypatch.setattr(module, "run_tasks", lambda _s, _w, starts, _t: [start() for _path, start in starts])
            monkeypatch.setattr(module, "vim", Thing(vm=Thing(ConfigSpec=Thing), option=Thing(OptionValue=Thing)))
        monkeypatch.setattr(power, "_POLL", 0.001)

    def find(self, _session, names, *_more):
        found = {}
        for name in names:
            get = self.vms[name].values.get
            marked = hostvars.restart_required(get("config.extraConfig"), get("runtime.bootTime"), get("runtime.powerState"))
            found[name] = vm(name, "on" if self.vms[name].on else "off", marked)
        return found

    def run(self, call):
        return call()

    def reference(self, _kind, moid):
        return self.vms[moid]

    def ensure(self, power_cycle="never", check_mode=False):
        self.log.clear()
        params = {"vms": list(self.vms), "search_by": "name", "datacenters": [], "power_cycle": power_cycle, "timeout": 1, "power_timeout": 0.01}
        result = disk_uuid.ensure_disk_uuid(self, params, check_mode)
        return result["changed"], [(item["power_cycled"], item["restart_required"]) for item in result["vms"]]


def test_a_power_cycle_that_was_not_allowed_is_made_up_for(monkeypatch):
    """The setting alone does nothing to a VM that runs; a later run has to know."""
    world = World(monkeypatch, "a")
    assert world.ensure() == (True, [(False, True)])
    assert world.log == [("a", ["cht.k3s.diskUuidSetInBoot", "disk.EnableUUID"])], "one task, so that a run can't end between the two"
    assert world.ensure() == (False, [(False, True)]) and world.log == []
    assert world.ensure("graceful", check_mode=True) == (True, [(True, False)]) and world.log == []
    assert world.ensure("graceful") == (True, [(True, False)])
    assert world.log == [("a", ["cht.k3s.diskUuidSetInBoot"]), ("a", "on")] and world.vms["a"].options == {"disk.EnableUUID": "TRUE"}
    assert world.ensure("graceful") == world.ensure() == (False, [(False, False)])


def test_a_guest_that_did_not_shut_down_in_time_is_cycled_by_the_next_run(monkeypatch):
    world = World(monkeypatch, "a", "b")
    world.deaf.add("a")
    with pytest.raises(VsphereError, match="/dc/vm/a did not power off"):
        world.ensure("graceful")
    assert world.vms["b"].on and world.ensure() == (False, [(False, True), (False, True)])
    world.deaf.clear()
    assert world.ensure("graceful") == (True, [(True, False), (True, False)])
    assert world.ensure("graceful") == (False, [(False, False), (False, False)])


def test_a_power_cycle_by_hand_counts_too(monkeypatch):
    world = World(monkeypatch, "a", "b")
    world.ensure()
    world.vms["a"].boot = BOOT + timedelta(hours=1)
    world.vms["b"].PowerOffVM_Task()
    assert world.ensure("graceful") == (False, [(False, False), (False, False)])


def test_a_vm_that_is_off_needs_no_mark(monkeypatch):
    world = World(monkeypatch, "a")
    world.vms["a"].PowerOffVM_Task()
    assert world.ensure("graceful") == (True, [(False, False)]) and world.vms["a"].options == {"disk.EnableUUID": "TRUE"}


@pytest.mark.parametrize(("mark", "boot", "state", "required"), [
    ("", BOOT, "poweredOn", False),
    (BOOT.isoformat(), BOOT, "poweredOn", True),
    # Moved to a host whose clock is off by some seconds.
    (BOOT.isoformat(), BOOT + timedelta(seconds=7), "poweredOn", True),
    (BOOT.isoformat(), BOOT + timedelta(minutes=5), "poweredOn", False),
    (BOOT.isoformat(), None, "poweredOff", False),
    (BOOT.isoformat(), None, "suspended", True),
    ("unknown", BOOT, "poweredOn", True),
    (BOOT.isoformat(), None, "poweredOn", True),
    ("2026-03-01T12:00:00", BOOT, "poweredOn", True),
])
def test_in_doubt_a_marked_vm_still_has_to_be_powered_off_and_on(mark, boot, state, required):
    options = [Thing(key="other", value="x"), Thing(key="CHT.k3s.diskUuidSetInBoot", value=mark)]
    assert hostvars.restart_required(options, boot, state) is required
