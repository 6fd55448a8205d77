# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX gets for each playbook: how dangerous it is, what is asked before a job, types of credentials, the steps of the workflow.

A new playbook that a person may start needs a row in TEMPLATES, or in NO_TEMPLATE with the reason.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Labels of the job templates. Operators may start all but those that destroy.
LOOKS, CHANGES, DESTROYS = "looks only", "changes", "destroys"
KINDS = (LOOKS, CHANGES, DESTROYS)

# Where the choices of a question come from.
COUNTIES, VERSIONS = "counties", "versions"


@dataclass(frozen=True)
class Question:
    """One variable that is asked before a job starts. Its text, type and choices are those of the roles' argument specs.

    Ask only for what belongs to one run: an answer, also an empty one, is an extra variable and beats what the inventory says.
    """

    variable: str
    required: bool = False
    choices: str = ""


@dataclass(frozen=True)
class Template:
    """The job template of a playbook. limit, tags: whether they are asked."""

    playbook: str
    kind: str
    questions: tuple[Question, ...] = ()
    limit: bool = False
    tags: bool = False


TEMPLATES: tuple[Template, ...] = (
    Template("access", CHANGES, limit=True, tags=True),
    Template("adopt", CHANGES, (Question("k3s_adopt"),)),
    Template("backup", CHANGES),
    Template("backup_project", CHANGES, (Question("cht_project_backup", choices=COUNTIES), Question("cht_project_backup_live"))),
    Template("fence_node", CHANGES, (Question("k3s_fence", required=True), Question("k3s_fence_power_off")), tags=True),
    Template("migrate_datastore", DESTROYS, (Question("k3s_confirm", required=True),)),
    Template("one_cluster", LOOKS),
    Template("preflight", LOOKS, limit=True),
    Template("prepare_vms", CHANGES, (Question("vm_prepare_power_cycle"),), limit=True),
    Template("projects", CHANGES),
    Template("provision_vms", CHANGES),
    Template("rebalance", CHANGES, (Question("cht_project_rebalance"),)),
    # It refuses as long as a volume needs the driver, so no data goes with it.
    Template("remove_csi", CHANGES),
    Template("remove_node", DESTROYS, (Question("k3s_remove", required=True),)),
    # By name and not from a list: whoever types the name means it, and it is in the list no more.
    Template("remove_project", DESTROYS, (Question("cht_project_remove", required=True), Question("cht_project_remove_data"))),
    Template("report", LOOKS),
    Template("reset", DESTROYS, (Question("k3s_confirm", required=True),)),
    Template("restore", DESTROYS, (Question("k3s_restore_from", required=True), Question("k3s_confirm", required=True))),
    Template("restore_project", DESTROYS, (
        Question("cht_project_restore", required=True), Question("cht_project_restore_confirm"), Question("cht_project_restore_stop"),
        Question("cht_project_restore_into"))),
    Template("rotate", CHANGES, tags=True),
    Template("secrets_encryption", CHANGES, (Question("k3s_confirm", required=True), Question("k3s_encryption_rotate"))),
    Template("site", CHANGES, limit=True, tags=True),
    Template("upgrade", CHANGES, (Question("k3s_version", required=True, choices=VERSIONS),)),
    Template("validate", LOOKS),
    Template("vcenter_roles", CHANGES, (
        Question("vcenter_roles_admin_username", required=True), Question("vcenter_roles_admin_password", required=True))),
    Template("watch", CHANGES),
)

# Playbooks that a person may start, but not from AWX. Name -> why.
NO_TEMPLATE = {
    "awx": "it makes the job templates, with an account that may; a job of AWX that changes AWX needs a token of its own",
    "inventory_snapshot": "it writes files on the machine where it is started, and those of a job are gone with it",
    "project_credentials": "it shows passwords, and AWX keeps the output of every job for all who may read the template",
}


@dataclass(frozen=True)
class CredentialType:
    """A kind of credential. inputs, injectors: of a type that is made; one of AWX's own has none."""

    name: str
    inputs: dict[str, Any] | None = None
    injectors: dict[str, Any] | None = None
    # Whether jobs get it; the others are for projects.
    of_jobs: bool = True


def _field(id_: str, label: str, **more: Any) -> dict[str, Any]:
    # AWX adds the type where it is missing, and the next run would find a difference.
    return {"id": id_, "label": label, "type": "string", **more}


CREDENTIAL_TYPES: dict[str, CredentialType] = {
    # AWX's own type for vCenter has no place for an authority, and sets VMWARE_VALIDATE_CERTS to what a setting of the server says, False unless
    # somebody changed it. This one has no switch: the certificate is verified.
    "vcenter": CredentialType("cht.k3s vCenter", {
        "fields": [
            _field("host", "Name of the vCenter"),
            _field("username", "User"),
            _field("password", "Password", secret=True),
            _field("ca", "Certificate authority", multiline=True,
                   help_text="PEM of the authority that signed the vCenter's certificate; empty for one that the execution environment knows."),
        ],
        "required": ["host", "username", "password"],
    }, {
        "file": {"template.ca": "{{ ca }}"},
        "env": {
            "VMWARE_HOST": "{{ host }}", "VMWARE_USER": "{{ username }}", "VMWARE_PASSWORD": "{{ password }}", "VMWARE_VALIDATE_CERTS": "True",
            # The file is written in any case, and an empty one is no authority.
            "VMWARE_CA_PATH": "{% if ca %}{{ tower.filename.ca }}{% endif %}",
        },
    }),
    "machine": CredentialType("Machine"),
    "k3s_token": CredentialType("cht.k3s token", {
        "fields": [
            _field("token", "Token of the cluster", secret=True),
            _field("new_token", "New token", secret=True, help_text="For rotate.yml; move it to the field above afterwards."),
        ],
        "required": ["token"],
    }, {"extra_vars": {"k3s_token": "{{ token }}", "k3s_new_token": "{{ new_token }}"}}),
    "vault": CredentialType("Vault"),
    "s3": CredentialType("cht.k3s S3", {
        "fields": [_field("access_key", "Access key"), _field("secret_key", "Secret key", secret=True)],
        "required": ["access_key", "secret_key"],
    }, {"env": {"AWS_ACCESS_KEY_ID": "{{ access_key }}", "AWS_SECRET_ACCESS_KEY": "{{ secret_key }}"}}),
    "source_control": CredentialType("Source Control", of_jobs=False),
}


@dataclass(frozen=True)
class Step:
    """A node of the workflow. template: a playbook, or none for an approval; always: also when the step before failed."""

    name: str
    template: str = ""
    tags: str = ""
    always: bool = False


WORKFLOW = "site"
APPROVAL_SECONDS = 86400
STEPS: tuple[Step, ...] = (
    Step("preflight", "preflight"),
    Step("approval"),
    Step("cluster", "site", "node,control_plane,cpi,agent"),
    Step("storage", "site", "csi,storageclass"),
    Step("counties", "site", "cht_project,verify"),
    Step("report", "report", always=True),
)
