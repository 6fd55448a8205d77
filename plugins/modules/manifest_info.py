#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: manifest_info
short_description: Read Kubernetes manifests from the web, a mirror or a file
version_added: 1.0.0
description:
  - Fetches or reads manifests, compares them with pinned digests, and returns their objects. Changes nothing.
  - A download without a digest is refused, and the message names the digest found. A file is the user's own choice and needs none.
  - Proxies are taken from the environment.
author:
  - CHT k3s maintainers (@cht-k3s)
options:
  sources:
    description: The manifests to read, in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      url:
        description: Where to fetch the manifest.
        type: str
      path:
        description: A file on the host that the module runs on; takes the place of O(sources[].url).
        type: path
      sha256:
        description: The digest that the manifest must have. A download needs one; for a file it may be an empty string.
        type: str
        default: ""
      variable:
        description: Name of the variable that holds O(sources[].sha256), for messages.
        type: str
        default: ""
  timeout:
    description: Seconds to wait for each download.
    type: int
    default: 30
  validate_certs:
    description: Whether the server's certificate is verified.
    type: bool
    default: true
  ca_path:
    description: File with the certificate authorities to trust; the system's when left out.
    type: path
requirements:
  - PyYAML
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
"""

EXAMPLES = r"""
- name: Read a manifest from a mirror
  cht.k3s.manifest_info:
    sources:
      - url: https://mirror.example.org/csi/v3.3.1/manifests/vanilla/vsphere-csi-driver.yaml
        sha256: 87e8ff7e3f63aad08d2ca5650b35ee60e65ec83b6cc98b3f2c95637f3eb426ed
  register: manifest
"""

RETURN = r"""
documents:
  description: The objects of all manifests.
  returned: success
  type: list
  elements: dict
  sample:
    - apiVersion: v1
      kind: Namespace
      metadata:
        name: vmware-system-csi
sources:
  description: What was read, with the digest found, and whether it was compared with one.
  returned: success
  type: list
  elements: dict
  sample:
    - place: https://mirror.example.org/csi/v3.3.1/manifests/vanilla/namespace.yaml
      sha256: 3585db4e4ff02c86d515c5be94ca67443c25733a4013246ca1ad8ba8cf7b885f
      pinned: true
"""

from typing import Any
from urllib.error import HTTPError, URLError

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

from ansible_collections.cht.k3s.plugins.module_utils.manifest.source import ManifestError, check_digest, documents, unpinned

_LIMIT = 5_000_000


def read(source: dict[str, Any], timeout: int, validate_certs: bool, ca_path: str | None) -> tuple[str, bytes]:
    """The place and the content of a manifest."""
    if source["path"]:
        try:
            with open(source["path"], "rb") as stream:
                return source["path"], stream.read(_LIMIT)
        except OSError as error:
            raise ManifestError(f"The manifest {source['path']} can't be read: {error.strerror}.") from error
    place = source["url"]
    if not place:
        raise ManifestError("A source has neither url nor path.")
    try:
        with open_url(place, timeout=timeout, validate_certs=validate_certs, ca_path=ca_path, http_agent="cht.k3s") as answer:
            return place, answer.read(_LIMIT)
    except HTTPError as error:
        hint = "Check the version, or the mirror's folders, which have to be those of the original" if error.code == 404 else "Check the server or mirror"
        raise ManifestError(f"The manifest {place} can't be fetched: {error.code} {error.reason}. {hint}; or give a local file.") from error
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ManifestError(f"The manifest {place} can't be fetched: {reason}. Check the network and proxy, use a mirror, or give a local file.") from error


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "sources": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "url": {"type": "str"}, "path": {"type": "path"}, "sha256": {"type": "str", "default": ""}, "variable": {"type": "str", "default": ""},
                },
            },
            "timeout": {"type": "int", "default": 30},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    found: list[dict[str, Any]] = []
    seen: list[dict[str, Any]] = []
    try:
        for source in module.params["sources"]:
            place, content = read(source, module.params["timeout"], module.params["validate_certs"], module.params["ca_path"])
            digest = check_digest(content, source["sha256"], place, source["variable"])
            found.extend(documents(content, place))
            seen.append({"place": place, "sha256": digest, "pinned": bool(source["sha256"])})
            if not source["sha256"] and not source["path"]:
                raise ManifestError(unpinned(place, digest, source["variable"]))
    except ManifestError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, documents=found, sources=seen)


if __name__ == "__main__":
    main()
