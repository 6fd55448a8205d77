"""The floor's first half: pyvmomi alone, one PropertyCollector pass over the given properties, nothing made of them."""
from __future__ import annotations

import json
import ssl
import sys

from pyVmomi import SoapStubAdapter, vim, vmodl

settings = json.loads(sys.argv[1])
stub = SoapStubAdapter(
    host=settings["hostname"],
    port=settings["port"],
    path="/sdk",
    version="vim.version.version15",
    sslContext=ssl.create_default_context(cafile=settings["ca_path"]),
)
content = vim.ServiceInstance("ServiceInstance", stub).RetrieveContent()
content.sessionManager.Login(settings["username"], settings["password"], None)
collector = vmodl.query.PropertyCollector
view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
traversal = collector.TraversalSpec(name="view", path="view", skip=False, type=vim.view.ContainerView)
spec = collector.FilterSpec(
    objectSet=[collector.ObjectSpec(obj=view, skip=True, selectSet=[traversal])],
    propSet=[collector.PropertySpec(type=vim.VirtualMachine, pathSet=settings["properties"], all=False)],
)
count = 0
page = content.propertyCollector.RetrievePropertiesEx([spec], collector.RetrieveOptions(maxObjects=1000))
while page is not None:
    count += len(page.objects)
    page = content.propertyCollector.ContinueRetrievePropertiesEx(page.token) if page.token else None
content.sessionManager.Logout()
sys.stdout.write(f"{count}\n")
