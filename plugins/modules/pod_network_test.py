#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pod_network_test
short_description: Send real packets between pods of all nodes
version_added: 1.0.0
description:
  - Makes the namespace C(pod-network-test) with a small web server on each node that is Ready, and lets a pod on each node ask all the others, by the
    pod's address and by a Service, for an answer of a few bytes and for one of many full-size packets. Then all of it is taken away.
  - Fails with the pairs of nodes between which packets are lost and with the remedies that are known, such as on hosts where VXLAN over vmxnet3 spoils
    checksums.
  - It is a test and changes nothing that lasts, so it never reports a change.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  image:
    description: An image with C(sh), C(httpd), C(wget), C(timeout) and C(md5sum).
    type: str
    default: docker.io/rancher/mirrored-library-busybox:1.37.0
  timeout:
    description: Seconds to wait for each step.
    type: int
    default: 180
attributes:
  check_mode:
    description: Does nothing.
    support: full
"""

EXAMPLES = r"""
- name: See that pods reach each other
  cht.k3s.pod_network_test:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
"""

RETURN = r"""
nodes:
  description: The nodes that were tested; with fewer than two there is nothing to test.
  returned: always
  type: list
  elements: str
  sample: [agent-1, agent-2, control-plane-1]
losses:
  description: What did not arrive.
  returned: always
  type: list
  elements: dict
  sample: [{"source": "agent-1", "target": "agent-2", "by": "Service", "size": "full"}]
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client
from ansible_collections.cht.k3s.plugins.module_utils.kube.podnetwork import PodNetworkError, PodNetworkTest, advice, told


def main() -> None:
    module = AnsibleModule(
        argument_spec=base_argument_spec(
            image={"type": "str", "default": "docker.io/rancher/mirrored-library-busybox:1.37.0"},
            timeout={"type": "int", "default": 180},
        ),
        supports_check_mode=True,
    )
    client = open_client(module)
    if client is None or module.check_mode:
        module.exit_json(changed=False, nodes=[], losses=[])
    test = PodNetworkTest(client, module.params["image"], module.params["timeout"])
    losses = []
    problem = ""
    try:
        losses = test.run()
        if losses:
            problem = f"Packets between pods are lost: {told(losses)}. {advice(losses)}"
    except PodNetworkError as error:
        problem = f"The pod network can't be tested: {error}."
    except ApiError as error:
        problem = f"The pod network can't be tested: {error.message}"
    finally:
        client.close()
    result = {"changed": False, "nodes": test.nodes, "losses": [asdict(loss) for loss in losses]}
    if problem:
        module.fail_json(msg=problem, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
