from __future__ import annotations

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.vsphere import uuids
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError

BIOS = "420e3f11-8a5c-4d01-9b77-c0de00000011"
SERIAL = "VMware-42 0e 3f 11 8a 5c 4d 01-9b 77 c0 de 00 00 00 11"
SWAPPED = "113f0e42-5c8a-014d-9b77-c0de00000011"
OTHER = "420e3f12-8a5c-4d01-9b77-c0de00000011"


def test_a_serial_gives_the_bios_uuid():
    assert uuids.from_product_serial(SERIAL + "\n") == BIOS


@pytest.mark.parametrize("serial", ["", "0123456789", "VMware-42 0e", "42 0e 3f 11 8a 5c 4d 01-9b 77 c0 de 00 00 00 11"])
def test_anything_else_is_no_serial(serial):
    assert uuids.from_product_serial(serial) == ""


def test_swapping_turns_the_first_three_groups():
    assert uuids.swapped(BIOS) == SWAPPED
    assert uuids.swapped(SWAPPED) == BIOS
    assert uuids.swapped("nonsense") == ""


@pytest.mark.parametrize(
    ("serial", "product_uuid", "same"),
    [
        (SERIAL, "", True),
        (SERIAL, SWAPPED, True),
        ("", BIOS.upper(), True),
        ("", SWAPPED, True),
        ("", OTHER, False),
        ("", "", False),
        # The serial decides where there is one, whatever the other field says.
        (SERIAL.replace("11-9b", "12-9b").replace("3f 11", "3f 12"), BIOS, False),
    ],
)
def test_a_machine_is_recognised_by_serial_or_by_uuid_in_either_order(serial, product_uuid, same):
    assert uuids.same_machine(BIOS.upper(), serial, product_uuid) is same


def record(**more):
    return {
        "vsphere_name": "agent-1",
        "vsphere_path": "/dc/vm/agent-1",
        "vsphere_moid": "vm-1",
        "vsphere_datacenter": "dc",
        "vsphere_cluster": "c",
        "vsphere_bios_uuid": BIOS,
        "vsphere_instance_uuid": OTHER,
        **more,
    }


def test_the_bios_uuid_makes_the_provider_id_unless_asked_otherwise():
    assert uuids.represent("agent-1", record(), "bios")["provider_id"] == f"vsphere://{BIOS}"
    assert uuids.represent("agent-1", record(), "instance")["provider_id"] == f"vsphere://{OTHER}"


def test_a_vm_without_uuid_is_an_error_that_names_it():
    with pytest.raises(VsphereError, match="/dc/vm/agent-1"):
        uuids.represent("agent-1", record(vsphere_bios_uuid=""), "bios")
