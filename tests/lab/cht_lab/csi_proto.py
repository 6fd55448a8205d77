"""The messages of CSI and of kubelet's plugin registration, compiled from their definitions when they are needed."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import grpc

from . import image, paths, tools

SPEC = "github.com/container-storage-interface/spec"
FOLDER = paths.CACHE / "protos"
# The part of k8s.io/kubelet/pkg/apis/pluginregistration/v1 that both sides use.
REGISTRATION = """syntax = "proto3";
package pluginregistration;
message PluginInfo { string type = 1; string name = 2; string endpoint = 3; repeated string supported_versions = 4; }
message RegistrationStatus { bool plugin_registered = 1; string error = 2; }
message RegistrationStatusResponse {}
message InfoRequest {}
service Registration {
  rpc GetInfo(InfoRequest) returns (PluginInfo) {}
  rpc NotifyRegistrationStatus(RegistrationStatus) returns (RegistrationStatusResponse) {}
}
"""


class Messages:
    """The classes of the messages of one file."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.services = {service.full_name: service for service in module.DESCRIPTOR.services_by_name.values()}

    def method(self, service: str, name: str) -> tuple[Any, Any]:
        """The classes of a method's request and reply."""
        found = self.services[service].methods_by_name[name]
        return getattr(self.module, found.input_type.name), getattr(self.module, found.output_type.name)


def files() -> None:
    """Put the definitions into the cache: CSI's comes with the Go module that the controller is built from."""
    if (FOLDER / "lab_csi.proto").exists() and (FOLDER / "lab_registration.proto").exists():
        return
    with image.locked("protos"):
        place = tools.module("csi", SPEC)
        FOLDER.mkdir(parents=True, exist_ok=True)
        with open(f"{place}/csi.proto", encoding="utf-8") as stream:
            (FOLDER / "lab_csi.proto").write_text(stream.read(), encoding="utf-8")
        (FOLDER / "lab_registration.proto").write_text(REGISTRATION, encoding="utf-8")


@cache
def load() -> tuple[Messages, Messages]:
    """CSI's messages and those of the registration."""
    files()
    sys.path.append(str(FOLDER))
    return Messages(grpc.protos("lab_csi.proto")), Messages(grpc.protos("lab_registration.proto"))
