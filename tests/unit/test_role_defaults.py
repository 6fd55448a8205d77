"""Every default of every role: what it does to a cluster that exists. One that is right for a new cluster must not change an old one.

A default that says nothing ('' or an empty list, false, 0) leaves k3s, Kubernetes or the machine as it is. All others are named here with what
happens where another value runs already; a new default is not accepted until somebody has thought about that.
"""
from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

# How a run itself goes, or where the controller and the tests of a run look: nothing of the cluster.
RUN = """
awx_organization awx_project awx_inventory awx_execution_environment awx_image_pull awx_galaxy_credentials awx_timezone awx_operators awx_readers
agent_serial agent_upgrade_serial agent_wait
cht_project_shrink cht_project_on_invalid cht_project_on_newer cht_project_parallel cht_project_node_timeout cht_project_stage_timeout
cht_project_wait cht_project_wait_timeout cht_project_wait_report_every
cht_project_health cht_project_wave_size cht_project_wave_max_failures cht_project_wave_timeout cht_project_remove_timeout cht_project_rebalance
cht_project_rebalance_timeout cht_project_report_backup_days cht_project_report_snapshot_days cht_project_report_fail_on
cht_project_backup_keep cht_project_backup_namespace cht_project_backup_timeout
cpi_manifest_url cpi_manifest_checksum cpi_test_login cpi_timeout cpi_expect_all_nodes
csi_manifest_url csi_manifest_checksum csi_test_login csi_verify csi_timeout csi_check_cluster_id csi_snapshot_manifest_url csi_smoke_test_class
csi_smoke_test_image
k3s_cluster_name k3s_release_url k3s_server_group k3s_drain k3s_drain_timeout k3s_backup_s3_encrypt k3s_join_timeout k3s_renew_within_days
k3s_fence_timeout k3s_fence_auto k3s_fence_after k3s_fence_share
preflight_hardware_version preflight_minimum preflight_disk_paths preflight_free_disk_gb preflight_clock_offset preflight_ports preflight_between
preflight_download_url preflight_timeout
reverse_proxy_counties
vcenter_roles_hostname vcenter_roles_port vcenter_roles_ca_path vcenter_roles_validate_certs
verify_schemes verify_timeout verify_pod_network_image
vm_power_timeout vm_prepare_power_cycle vm_prepare_power_timeout vm_prepare_power_on vm_prepare_hardware_version
vsphere_hostname vsphere_port vsphere_proxy_host vsphere_proxy_port vsphere_username vsphere_password vsphere_validate_certs vsphere_ca_path vsphere_thumbprint
vsphere_timeout vsphere_snapshot_dir
""".split()

# Another value that runs is kept, or refused before anything changes. Name -> the test that shows it.
KEPT = {
    "control_plane_secrets_encryption": "test_encryption_stays_as_the_cluster_has_it",
    "k3s_version": "test_another_release_is_refused",
    "k3s_cluster_cidr": "test_ranges_are_compared_with_the_defaults_where_no_file_says_them",
    "k3s_service_cidr": "test_ranges_are_compared_with_the_defaults_where_no_file_says_them",
    "k3s_container_runtime": "test_the_runtime_is_changed_on_an_empty_node_only",
    "k3s_cloud_provider": "test_a_node_of_another_cloud_provider_is_refused_before_its_restart",
    "k3s_provider_id": "test_a_node_of_another_cloud_provider_is_refused_before_its_restart",
    "k3s_snapshot_name": "test_old_snapshots_of_a_name_go_and_others_stay",
    "k3s_snapshot_keep": "test_old_snapshots_of_a_name_go_and_others_stay",
    "storageclass_classes": "test_what_can_not_change_is_explained",
    "storageclass_force_conflicts": "test_what_can_not_change_is_explained",
    **dict.fromkeys(("vm_sizes", "vm_library_type", "vm_user", "vm_hardware_version", "vm_anti_affinity", "vm_anti_affinity_rule"),
                    "test_missing_vms_are_made_and_existing_ones_never_touched"),
    **dict.fromkeys(("traefik_trusted_proxies", "traefik_read_timeout", "traefik_idle_timeout"), "test_what_somebody_set_in_traefik_is_a_conflict"),
}

# It changes a cluster that is adopted, or one whose collection is updated, and may: why. (adopt.yml reports it before.)
CHANGED = {
    "k3s_node_ip": "the address that Ansible uses; adopt.yml shows another one",
    "k3s_supervisor_port": "no other is supported, adopt.yml refuses it",
    **dict.fromkeys(("cpi_version", "cpi_image", "csi_version", "csi_images", "csi_snapshotter_version", "csi_snapshot_image"),
                    "goes with k3s_version, which users pin; docs/cpi_csi.md tells what an update moves"),
    "cpi_vcenters": "the vCenter of the inventory; another cluster ID or account is found by the roles' own checks",
    "csi_vcenters": "the vCenter of the inventory; another cluster ID or account is found by the roles' own checks",
    **dict.fromkeys(("cpi_log_level", "csi_cluster_distribution", "csi_kubelet_root", "csi_max_snapshots", "csi_max_volumes"), "the manifests' own value"),
    **dict.fromkeys(("csi_snapshot_class", "csi_snapshot_deletion_policy"), "only where csi_snapshots is switched on"),
    "traefik_client_address": "Traefik runs on each node and sees who asks; without it ten wrong passwords of one user block all counties. In the changelog",
    "storageclass_demote": "one default class; no claim that exists changes",
    **dict.fromkeys(("node_kernel_modules", "node_sysctls", "node_time_sync"), "what k3s wants of every machine"),
    **dict.fromkeys(("node_firewall", "node_firewall_public", "node_firewall_controller"), "ports are opened where a firewall runs, none is closed"),
    "node_flannel_tx_checksum": "leaves flannel's devices as the kernel has them",
    "node_hardening_sysctls": "only where node_kernel_hardening is switched on",
    "node_journal_size": "older lines of the journal go where it is larger; the README says so",
    **dict.fromkeys(("node_docker_packages", "node_docker_log_size", "node_docker_log_files"), "only with docker as the runtime"),
    **dict.fromkeys(("control_plane_audit_days", "control_plane_audit_files", "control_plane_audit_size_mb"),
                    "only where control_plane_audit_log is switched on"),
    **dict.fromkeys((
        "reverse_proxy_upstreams", "reverse_proxy_upstream_port", "reverse_proxy_install", "reverse_proxy_nginx", "reverse_proxy_config",
        "reverse_proxy_user", "reverse_proxy_service", "reverse_proxy_http_port", "reverse_proxy_https_port", "reverse_proxy_webroot",
        "reverse_proxy_log_dir", "reverse_proxy_state_dir", "reverse_proxy_pid_file", "reverse_proxy_max_body_size", "reverse_proxy_timeout"),
        "an nginx that serves sites of its own is refused (test_sites_that_somebody_set_up_are_not_switched_off)"),
}


def defaults() -> dict[str, object]:
    """Name -> default, of the argument specs and the files of defaults."""
    found: dict[str, object] = {}
    for spec in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(spec.read_text(encoding="utf-8"))["argument_specs"].values():
            found.update({name: option["default"] for name, option in (entry.get("options") or {}).items() if "default" in option})
    for file in (ROOT / "roles").glob("*/defaults/main.yml"):
        found.update(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    return found


def says_something(value: object) -> bool:
    return value not in (None, "", 0, False, [], {})


def test_every_default_is_judged_once() -> None:
    judged = [*RUN, *KEPT, *CHANGED]
    speaking = {name for name, value in defaults().items() if says_something(value)}
    assert sorted(speaking - set(judged)) == [], "say what this default does to a cluster that exists"
    assert sorted(set(judged) - speaking) == [], "there is no such default any more"
    assert len(judged) == len(set(judged))


@pytest.mark.parametrize("name", sorted(KEPT))
def test_what_is_kept_or_refused_has_its_test(name: str) -> None:
    pattern = re.compile(rf"^def {KEPT[name]}\(", re.MULTILINE)
    assert any(pattern.search(file.read_text(encoding="utf-8")) for file in (ROOT / "tests").rglob("test_*.py")), KEPT[name]


def test_defaults_that_only_a_new_cluster_may_get_are_no_defaults_of_the_role() -> None:
    """They are in module_utils/k3s/settings.py, NEW_CLUSTER: Ansible can't tell a default from what somebody said."""
    assert not {"control_plane_disable", "control_plane_snapshot_cron", "control_plane_snapshot_retention"} & set(defaults())
