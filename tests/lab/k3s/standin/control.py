# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kube-apiserver, kube-controller-manager and kube-scheduler with the flags k3s gives them."""
from __future__ import annotations

import pathlib

from . import front, lab, proc

CIPHERS = ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,"
           "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305")


def merge(defaults: dict[str, str], given: list[str]) -> list[str]:
    """k3s' rule for component arguments: name=value replaces, += appends to and -= goes before the default."""
    args = dict(defaults)
    repeated: dict[str, list[str]] = {}
    for item in given:
        name, _sep, value = str(item).lstrip("-").partition("=")
        if name.endswith("+"):
            name = name[:-1]
            args[name] = f"{args[name]},{value}" if args.get(name) else value
        elif name.endswith("-"):
            name = name[:-1]
            args[name] = f"{value},{args[name]}" if args.get(name) else value
        else:
            repeated.setdefault(name, []).append(value)
    for name, values in repeated.items():
        args[name] = values[-1]
    out = [f"--{name}={value}" for name, value in sorted(args.items())]
    for name, values in repeated.items():
        out += [f"--{name}={value}" for value in values[:-1]]
    return out


def start_apiserver(tls: pathlib.Path, options, ip: str, service_cidr: str, domain: str, encryption: pathlib.Path | None, datastore: str) -> None:
    port = options["https-listen-port"]
    defaults = {
        "advertise-address": options["advertise-address"] or ip,
        "allow-privileged": "true",
        "anonymous-auth": "false",
        "api-audiences": f"https://kubernetes.default.svc.{domain},k3s",
        "authorization-mode": "Node,RBAC",
        "bind-address": front.API_ADDRESS,
        "cert-dir": str(tls / "temporary-certs"),
        "client-ca-file": f"{tls}/client-ca.crt",
        "enable-admission-plugins": "NodeRestriction",
        "enable-aggregator-routing": "true",
        "etcd-cafile": f"{tls}/etcd/server-ca.crt",
        "etcd-certfile": f"{tls}/etcd/client.crt",
        "etcd-keyfile": f"{tls}/etcd/client.key",
        "etcd-servers": "https://127.0.0.1:2379",
        "kubelet-certificate-authority": f"{tls}/server-ca.crt",
        "kubelet-client-certificate": f"{tls}/client-kube-apiserver.crt",
        "kubelet-client-key": f"{tls}/client-kube-apiserver.key",
        "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
        "permit-port-sharing": "true",
        "profiling": "false",
        "proxy-client-cert-file": f"{tls}/client-auth-proxy.crt",
        "proxy-client-key-file": f"{tls}/client-auth-proxy.key",
        "requestheader-allowed-names": "system:auth-proxy",
        "requestheader-client-ca-file": f"{tls}/request-header-ca.crt",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "secure-port": str(port),
        "service-account-issuer": f"https://kubernetes.default.svc.{domain}",
        "service-account-key-file": f"{tls}/service.key",
        "service-account-signing-key-file": f"{tls}/service.current.key",
        "service-cluster-ip-range": service_cidr,
        "service-node-port-range": options["service-node-port-range"],
        "storage-backend": "etcd3",
        "tls-cert-file": f"{tls}/serving-kube-apiserver.crt",
        "tls-cipher-suites": CIPHERS,
        "tls-private-key-file": f"{tls}/serving-kube-apiserver.key",
    }
    if datastore:
        defaults["etcd-servers"] = datastore
        for name in ("etcd-cafile", "etcd-certfile", "etcd-keyfile"):
            del defaults[name]
    if encryption is not None:
        defaults["encryption-provider-config"] = str(encryption)
        defaults["encryption-provider-config-automatic-reload"] = "true"
    argv = [lab.program("kube-apiserver"), *merge(defaults, options["kube-apiserver-arg"])]
    proc.Child("kube-apiserver", argv, env={"GOGC": "60"})


def start_controller_manager(tls: pathlib.Path, cred: pathlib.Path, options, cluster_cidr: str, service_cidr: str) -> None:
    defaults = {
        "allocate-node-cidrs": "true",
        "authentication-kubeconfig": f"{cred}/controller.kubeconfig",
        "authorization-kubeconfig": f"{cred}/controller.kubeconfig",
        "bind-address": "127.0.0.1",
        "cluster-cidr": cluster_cidr,
        "cluster-signing-kube-apiserver-client-cert-file": f"{tls}/client-ca.crt",
        "cluster-signing-kube-apiserver-client-key-file": f"{tls}/client-ca.key",
        "cluster-signing-kubelet-client-cert-file": f"{tls}/client-ca.crt",
        "cluster-signing-kubelet-client-key-file": f"{tls}/client-ca.key",
        "cluster-signing-kubelet-serving-cert-file": f"{tls}/server-ca.crt",
        "cluster-signing-kubelet-serving-key-file": f"{tls}/server-ca.key",
        "cluster-signing-legacy-unknown-cert-file": f"{tls}/server-ca.crt",
        "cluster-signing-legacy-unknown-key-file": f"{tls}/server-ca.key",
        "controllers": "*,tokencleaner",
        "kubeconfig": f"{cred}/controller.kubeconfig",
        "profiling": "false",
        "root-ca-file": f"{tls}/server-ca.crt",
        "secure-port": "10257",
        "service-account-private-key-file": f"{tls}/service.current.key",
        "service-cluster-ip-range": service_cidr,
        "use-service-account-credentials": "true",
    }
    argv = [lab.program("kube-controller-manager"), *merge(defaults, options["kube-controller-manager-arg"])]
    proc.Child("kube-controller-manager", argv, env={"GOGC": "60"}, restart=True)


def start_scheduler(cred: pathlib.Path, options) -> None:
    defaults = {
        "authentication-kubeconfig": f"{cred}/scheduler.kubeconfig",
        "authorization-kubeconfig": f"{cred}/scheduler.kubeconfig",
        "bind-address": "127.0.0.1",
        "kubeconfig": f"{cred}/scheduler.kubeconfig",
        "profiling": "false",
        "secure-port": "10259",
    }
    argv = [lab.program("kube-scheduler"), *merge(defaults, options["kube-scheduler-arg"])]
    proc.Child("kube-scheduler", argv, env={"GOGC": "60"}, restart=True)
