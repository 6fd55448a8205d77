# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""UUIDs in the forms that vCenter, the node's firmware tables and Kubernetes write them."""
from __future__ import annotations

import re
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError

_HEX = re.compile(r"[^0-9a-f]")


def dashed(digits: str) -> str:
    """32 hexadecimal digits as a UUID; anything else gives an empty string."""
    if len(digits) != 32:
        return ""
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def from_product_serial(serial: str) -> str:
    """'VMware-42 0e 3f 71 ...' -> UUID. Without the prefix it is not a VMware serial."""
    text = serial.strip()
    if not text.startswith("VMware-"):
        return ""
    return dashed(_HEX.sub("", text[len("VMware-") :].lower()))


def swapped(uuid: str) -> str:
    """The first three groups with their bytes in reverse order, as SMBIOS 2.6 shows them."""
    groups = uuid.split("-")
    if len(groups) != 5:
        return ""
    turned = ["".join(reversed(re.findall("..", group))) for group in groups[:3]]
    return "-".join([*turned, *groups[3:]])


def same_machine(bios_uuid: str, product_serial: str, product_uuid: str) -> bool:
    """Whether the firmware tables of a node show vCenter's BIOS UUID. The serial decides where there is one."""
    wanted = bios_uuid.lower()
    serial = from_product_serial(product_serial)
    if serial:
        return serial == wanted
    found = product_uuid.strip().lower()
    return bool(found) and found in (wanted, swapped(wanted))


def provider_id(uuid: str) -> str:
    """What the kubelet has to be told."""
    return f"vsphere://{uuid}"


def represent(query: str, record: dict[str, Any], source: str) -> dict[str, Any]:
    """One VM as vsphere_vm_uuid returns it."""
    uuid = record[f"vsphere_{source}_uuid"]
    if not uuid:
        raise VsphereError(
            "uuid",
            f"vCenter shows no {source} UUID for {record['vsphere_path']}.",
            "The VM may be inaccessible or the account may not read its configuration; look at it in vCenter.",
        )
    return {
        "query": query,
        "name": record["vsphere_name"],
        "uuid": uuid,
        "bios_uuid": record["vsphere_bios_uuid"],
        "instance_uuid": record["vsphere_instance_uuid"],
        "provider_id": provider_id(uuid),
        "moid": record["vsphere_moid"],
        "path": record["vsphere_path"],
        "datacenter": record["vsphere_datacenter"],
        "cluster": record["vsphere_cluster"],
    }
