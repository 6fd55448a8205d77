# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From checked counties and what the cluster has of them to the objects to apply, county by county."""

from __future__ import annotations

import os
import ssl
import tempfile
import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.cht.k3s.plugins.module_utils.cht import credentials as creds
from ansible_collections.cht.k3s.plugins.module_utils.cht import rebind
from ansible_collections.cht.k3s.plugins.module_utils.cht.fits import certificate_misfit
from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import COUNTY_LABEL, DATA_MOUNT, Builder, Object, can_grow, data_folder
from ansible_collections.cht.k3s.plugins.module_utils.cht.operation import alive, describe, note_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.password import Change
from ansible_collections.cht.k3s.plugins.module_utils.cht.proof import proven
from ansible_collections.cht.k3s.plugins.module_utils.cht.quantity import larger_quantity, parse_quantity
from ansible_collections.cht.k3s.plugins.module_utils.cht.release import image_tag, is_newer, parse_release
from ansible_collections.cht.k3s.plugins.module_utils.cht.restore_mark import mark_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import County, upgrade_problem
from ansible_collections.cht.k3s.plugins.module_utils.cht.stage import Raise, raised

PEM_START = "-----BEGIN"


@dataclass
class Live:
    """What the cluster has of all counties, by namespace; empty where there is no cluster yet."""

    secrets: dict[str, Object] = field(default_factory=dict)
    deployments: dict[str, list[Object]] = field(default_factory=dict)
    claims: dict[str, dict[str, Object]] = field(default_factory=dict)
    # PersistentVolumes by name; read only when a county names some.
    volumes: dict[str, Object] = field(default_factory=dict)
    # Namespaces by name: each tells whose it is, and whether a restore of its county is half done.
    namespaces: dict[str, Object] = field(default_factory=dict)
    # host -> namespaces with an Ingress for it
    hosts: dict[str, set[str]] = field(default_factory=dict)
    # Credentials that were kept when a county was removed, by the namespace that it was in.
    kept: dict[str, Object] = field(default_factory=dict)
    # All counties that are defined, also those that this run leaves alone: name -> namespace.
    listed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def collect(
        cls,
        secrets: t.Iterable[Object],
        deployments: t.Iterable[Object],
        claims: t.Iterable[Object],
        namespaces: t.Iterable[Object] = (),
        ingresses: t.Iterable[Object] = (),
    ) -> Live:
        """Sort the items of five lists by namespace."""
        live = cls()
        live.namespaces = {item["metadata"]["name"]: item for item in namespaces}
        for item in secrets:
            if item["metadata"]["name"] == creds.SECRET_NAME:
                live.secrets[item["metadata"]["namespace"]] = item
            origin = (item["metadata"].get("labels") or {}).get(creds.KEPT_OF)
            if origin and item["metadata"]["name"] > live.kept.get(origin, {"metadata": {"name": ""}})["metadata"]["name"]:
                live.kept[origin] = item
        for item in deployments:
            live.deployments.setdefault(item["metadata"]["namespace"], []).append(item)
        for item in claims:
            live.claims.setdefault(item["metadata"]["namespace"], {})[item["metadata"]["name"]] = item
        for item in ingresses:
            for rule in item["spec"].get("rules") or []:
                live.hosts.setdefault(str(rule.get("host") or ""), set()).add(item["metadata"]["namespace"])
        return live

    def county_of(self, namespace: str) -> str:
        """Return the county that a namespace is of; empty for none."""
        return str((self.namespaces.get(namespace, {}).get("metadata", {}).get("labels") or {}).get(COUNTY_LABEL) or "")

    def images(self, namespace: str) -> dict[str, str]:
        """Return container -> image of a namespace's Deployments."""
        return {
            container["name"]: container.get("image", "")
            for deployment in self.deployments.get(namespace, [])
            for container in deployment["spec"]["template"]["spec"].get("containers", [])
        }


@dataclass
class Plan:
    """The objects of one county, or why it has none."""

    county: County
    objects: list[Object] = field(default_factory=list)
    error: str = ""
    notes: list[str] = field(default_factory=list)
    generated: bool = False
    # Objects that will change although nothing of them can be sent as a dry run.
    predicted: int = 0
    secrets: list[str] = field(default_factory=list)
    # claim -> existing volume that it is to get
    rebind: dict[str, Object] = field(default_factory=dict)
    # Claims that never got a volume, and ask for another one than they are to.
    remake: dict[str, Object] = field(default_factory=dict)
    password: Change | None = None
    # To a newer version than the one whose images it has.
    raises: Raise | None = None
    # Whether that is to be staged first.
    stage: bool = True


class PlanError(Exception):
    """A county can't be deployed as it is defined; the message says why and what to do."""


def read_pem(value: str, what: str, base_dir: str) -> str:
    """Return PEM text that is given itself or as a file."""
    if value.lstrip().startswith(PEM_START):
        return value
    path = os.path.join(base_dir, os.path.expanduser(value))
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"tls.{what} '{path}' can't be read on the controller: {error}") from error
    if PEM_START not in text:
        raise PlanError(f"tls.{what} '{path}' is not PEM: convert it with openssl")
    return text


def read_tls(county: County, base_dir: str, notes: list[str]) -> dict[str, str] | None:
    """Return the entries of the TLS Secret when the county brings its certificate, after a look at it; what browsers will say of it is noted."""
    tls = county["tls"]
    if tls["mode"] != "files":
        return None
    data = {
        "tls.crt": read_pem(tls["certificate"], "certificate", base_dir),
        "tls.key": read_pem(tls["private_key"], "private_key", base_dir),
    }
    # The ssl module reads files only; both go to a folder that only this user can enter.
    with tempfile.TemporaryDirectory(prefix="cht-tls-") as folder:
        paths = []
        for name, text in data.items():
            path = os.path.join(folder, name)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as stream:
                stream.write(text)
            paths.append(path)
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(paths[0], paths[1], password=lambda: "")
            notes.extend(filter(None, [certificate_misfit(context, paths[0], county.host)]))
        except (ssl.SSLError, ValueError) as error:
            raise PlanError(
                f"tls.certificate and tls.private_key don't fit together or the key has a passphrase: {error}"
            ) from error
    return data


# Whether its code ever saw the database can't always be told from what is left of its pods: people decide, county by county, unless there is proof.
_WAY_BACK = "raise its version in the list, or restore a backup set of the time before (restore_project)"
_UNLESS = " (or name it in cht_project_downgrade, if that version never started)"


def settle_images(county: County, wanted: dict[str, str], live: dict[str, str], on_newer: str, ran: str = "") -> tuple[dict[str, str], list[str]]:
    """Decide which images to write: the definition's, or those that run.

    In 4.x the upgrade service sets images too. A county that was upgraded through CHT's own page is newer than
    its definition; writing the definition's version would downgrade it, and a downgraded CHT loses data. C(ran) is the newest version that is known to
    have had the data: nobody takes it back.
    """
    cht = {name: image for name, image in live.items() if name in wanted and name != "upgrade-service"}
    for image in cht.values():
        problem = upgrade_problem(image_tag(image), county.tag)
        if problem:
            raise PlanError(problem)
    newer = {name: image_tag(image) for name, image in cht.items() if image != wanted[name] and is_newer(image_tag(image), county.tag)}
    if not newer:
        return {}, []
    running = ", ".join(sorted(set(newer.values())))
    if on_newer == "force" and ran and is_newer(ran, county.tag):
        raise PlanError(f"{ran} was ready on its data, and CHT can't be downgraded to {county.tag}: {_WAY_BACK}")
    releases = [parse_release(tag) for tag in newer.values()]
    # Images of 5.x on objects of 4.x are neither: nouveau would be missing, and the upgrade service would be back.
    five = county.major >= 5 or "cht-couchdb-nouveau" in live or any(release is not None and release.major >= 5 for release in releases)
    if five and on_newer != "force":
        # From 5.0 on nobody but this role sets images; what is newer was set by hand, or the list is out of date.
        lacking = "" if "cht-couchdb-nouveau" in live else "; it lacks Nouveau, as after the upgrade from CHT's own page, and gets it by that"
        raise PlanError(
            f"runs {running}, which is newer than the wanted {county.tag}, and CHT can't be downgraded: raise its version in the list{lacking}{_UNLESS}"
        )
    if on_newer == "fail":
        raise PlanError(
            f"runs {running}, newer than the wanted {county.tag}: raise its version in the list, or let cht_project_on_newer keep or force it{_UNLESS}"
        )
    if on_newer == "force":
        return {}, [f"downgraded from {running} to {county.tag} as it was asked for"]
    # All of them, not only the newer ones: an upgrade that is under way must not be mixed with another version.
    notes = [f"runs {running}, newer than the wanted {county.tag}: kept; raise its version in the list{_UNLESS}"]
    kept = {name: _from_own_registry(image, wanted[name]) for name, image in cht.items()}
    if kept != cht:
        notes.append(f"its images come from {county['images']['registry']} again, and not from where CHT's own page took them")
    return kept, notes


def _from_own_registry(live: str, wanted: str) -> str:
    """Return a running image as the county's registry has it. CHT's own page takes the names of the builds server, whatever the county's registry is."""
    tag = image_tag(live)
    if live.rpartition("/")[0] == wanted.rpartition("/")[0]:
        return live
    return f"{wanted.rpartition(':')[0]}:{tag}" if tag and "@" not in live else live


def plan_county(county: County, live: Live, on_newer: str, predict: bool, base_dir: str, change_password: bool = False) -> Plan:
    """Return what to apply for one county; what stands against it becomes the plan's error."""
    plan = Plan(county)
    namespace = county.namespace
    claims = live.claims.get(namespace, {})
    volumes = [claims[f"{service}-claim0"] for service in county.couchdb_services if f"{service}-claim0" in claims]
    try:
        _refuse_second_home(county, live)
        _refuse_half_restored(live.namespaces.get(namespace))
        plan.rebind = rebind.find(county, live.volumes, live.claims)
        _refuse_other_volumes(county, claims, live.images(namespace), set(plan.rebind))
        plan.remake = {name: item for name, item in claims.items() if item in volumes and _to_remake(county, item)}
        for name, item in plan.remake.items():
            was = f"{item['spec'].get('storageClassName', 'the default class')}, {item['spec']['resources']['requests']['storage']}"
            plan.notes.append(f"claim {name} ({was}) never got a volume, and {'would be ' if predict else 'is '}made anew")
        _refuse_smaller(county, [item for item in volumes if item["metadata"]["name"] not in plan.remake], plan.rebind)
        _refuse_other_data(county, live.deployments.get(namespace, []), set(plan.rebind))
        held = live.secrets.get(namespace) or _kept(plan, live)
        plan.notes.extend(rebind.outdated(county, live.volumes, live.claims))
        plan.notes.extend(rebind.unproven(county, plan.rebind))
        plan.notes.extend(_fixed(county, volumes))
        settled = creds.settle(county, held, bool(volumes or plan.rebind), predict, change_password)
        if settled.old_password:
            plan.password = Change(settled.user, settled.old_password, settled.password)
            plan.notes.append(f"password of CouchDB {'would be ' if predict else ''}changed")
        plan.generated = settled.generated
        plan.notes.extend(creds.weaknesses(settled, county))
        if settled.generated:
            plan.notes.append(f"credentials {'would be ' if predict else ''}generated and kept in Secret {creds.SECRET_NAME}")
        data = settled.data(namespace, county["couchdb"]["database"] if county.major >= 5 else "medic")
        plan.secrets = [value for value in (data["COUCHDB_PASSWORD"], data["COUCHDB_SECRET"], settled.old_password) if value]
        tls_data = read_tls(county, base_dir, plan.notes)
        running = live.images(namespace)
        wanted = Builder(county, data).wanted_images()
        ran = proven(live.namespaces.get(namespace), live.deployments.get(namespace, []))
        if volumes and not running and ran and is_newer(ran, county.tag):
            raise PlanError(f"{ran} was ready on the data that it kept, and CHT can't be downgraded to {county.tag}: {_WAY_BACK}")
        images, notes = settle_images(county, wanted, running, on_newer, ran)
        plan.notes.extend(notes)
        if not images:
            plan.raises = raised(image_tag(running.get("cht-api", "")), county.version, county.tag)
        for claim, volume in plan.rebind.items():
            plan.notes.append(f"claim {claim} {'would get' if predict else 'gets'} the volume {volume['metadata']['name']}")
        there = {name: item for name, item in claims.items() if name not in plan.remake}
        plan.objects = Builder(county, data, tls_data, images, there, plan.rebind).build()
    except (creds.CredentialsError, rebind.RebindError, PlanError) as error:
        plan.error = str(error)
    except ValueError as error:
        # What the cluster has is not checked as definitions are, and must not end the run for all.
        plan.error = f"has something in the cluster that can't be read: {error}"
    return plan


def _kept(plan: Plan, live: Live) -> Object | None:
    """Return the credentials that were kept of the county whose volumes are named, unless the definition brings them all."""
    if all(plan.county["credentials"][key] for key in ("password", "secret", "uuid")):
        return None
    for origin in filter(None, map(rebind.data_of, plan.rebind.values())):
        found = live.kept.get(origin[0])
        if found is not None:
            plan.notes.append(f"credentials of Secret {found['metadata']['namespace']}/{found['metadata']['name']}, kept when {origin[0]} was removed")
            return found
    return None


def _refuse_second_home(county: County, live: Live) -> None:
    """Stop a county that was renamed, or got another namespace: it would come up a second time, and empty, under the same host."""
    owner = live.county_of(county.namespace)
    if owner not in ("", county.name) and owner in live.listed:
        raise PlanError(f"namespace {county.namespace} is that of the county {owner}, which is in the list, too: each county needs its own")
    for space in sorted(live.namespaces):
        if space != county.namespace and live.county_of(space) == county.name:
            raise PlanError(
                f"is in the namespace {space} already, and would come up empty in {county.namespace}: set namespace: {space}, as it keeps the one that it "
                "has; if that one is not needed any more, remove it with its data first (remove_project)"
            )
    for space in sorted(live.hosts.get(county.host, ())):
        if space == county.namespace:
            continue
        # A county of the list that has this host gives it away in this run: two of the list never share one.
        if live.county_of(space) and space not in live.listed.values():
            raise PlanError(
                f"host {county.host} is that of the county {live.county_of(space)}, which is in the cluster, but not in the list: if it was renamed, set "
                f"namespace: {space}, and it keeps its data; else remove that one first (remove_project), or give it back its host"
            )
        if not live.county_of(space) and any(item["metadata"]["name"] == "cht-api" for item in live.deployments.get(space, [])):
            raise PlanError(
                f"host {county.host} is that of a CHT in the namespace {space}, which is none of ours: to take it over with its data, set "
                f"namespace: {space} and cht_project_adopt: true"
            )


def _refuse_half_restored(namespace: Object | None) -> None:
    """Leave a county stopped whose volumes are partly those of a backup set and partly those of today: its shards don't fit together."""
    if namespace is None:
        return
    note = note_of(namespace)
    if note.get("what") == "restore" and alive(note, time.time()):
        raise PlanError(f"another run works on it ({describe(note)}): wait for its end, then run again")
    mark = mark_of(namespace)
    if mark:
        raise PlanError(
            f"a restore of the set {mark['set']} is half done, and CouchDB must not start on volumes of two moments: "
            f"run restore_project with cht_project_restore={mark['set']} again to finish it, then run this again"
        )


def _refuse_other_volumes(county: County, claims: dict[str, Object], running: dict[str, str], given: set[str]) -> None:
    """Stop a county whose volumes don't fit its definition: CouchDB would start anew with empty ones.

    C(given) are the claims that are to get volumes which exist.
    """
    wanted = {f"{service}-claim0" for service in county.couchdb_services}
    there = {name for name in claims if name.startswith("couchdb-") and name.endswith("-claim0")}
    if there and not there & wanted:
        raise PlanError(
            f"has the volumes {', '.join(sorted(there))} of another CouchDB mode than couchdb.mode '{county['couchdb']['mode']}': "
            "CouchDB would start empty; put the mode back, or move the data first (see docs/counties.md)"
        )
    if there - wanted:
        raise PlanError(
            f"has more CouchDB volumes ({', '.join(sorted(there - wanted))}) than couchdb.nodes {county['couchdb']['nodes']}: "
            "CouchDB nodes can't be taken away"
        )
    lacking = wanted - there - given
    if lacking and any(name.startswith("cht-couchdb") for name in running):
        # Without a CouchDB that ever ran, an interrupted first run left those that are there, and this one goes on.
        # Else a volume is gone, or more nodes than before: CouchDB with one copy of each shard survives neither by itself.
        # A county of helm on k3s with one CouchDB has no claim at all, but a folder of its agent.
        raise PlanError(
            f"lacks the CouchDB volumes {', '.join(sorted(lacking))}{' while others are there' if there else ''}, and CouchDB would start empty: "
            "restore them from a backup, name the volumes that hold the data in couchdb.volumes, or put couchdb.nodes back; CouchDB does not move "
            "data onto new nodes by itself (a folder of an agent, as helm's charts use it on k3s, has to become a volume first: see docs/counties.md)"
        )


def _refuse_other_data(county: County, deployments: list[Object], given: set[str]) -> None:
    """Stop a county whose CouchDB keeps its data elsewhere than the definition says: it would start with an empty folder, and look well."""
    by_name = {item["metadata"]["name"]: item for item in deployments}
    for number, service in enumerate(county.couchdb_services, start=1):
        found = _data_of(by_name.get(f"cht-{service}"))
        if found is None:
            continue
        source, folder = found
        claim, wanted = f"{service}-claim0", data_folder(county, number)
        if source != f"claim {claim}" and claim not in given:
            raise PlanError(
                f"cht-{service} keeps its data in {source}, not in claim {claim}: CouchDB would start empty; name a volume that holds the data in "
                "couchdb.volumes (see docs/counties.md)"
            )
        if folder != wanted:
            raise PlanError(
                f"cht-{service} keeps its data in {_named(folder)} of its volume, and couchdb.data_path says {_named(wanted)}: CouchDB would start "
                f"empty; set couchdb.data_path to '{folder or '/'}'. (Was it wrong so far? remove_project without data keeps the volumes, then run this.)"
            )


def _to_remake(county: County, claim: Object) -> bool:
    """Tell whether a claim holds nothing and differs from what is wanted in what can't be changed as long as it has no volume."""
    spec, couchdb = claim.get("spec") or {}, county["couchdb"]
    if (claim.get("status") or {}).get("phase") != "Pending" or any(spec.get(key) for key in ("volumeName", "selector", "dataSource", "dataSourceRef")):
        return False
    size = spec["resources"]["requests"]["storage"]
    return spec.get("storageClassName") != couchdb["storage_class"] or parse_quantity(size) != parse_quantity(couchdb["storage"])


def _refuse_smaller(county: County, claims: list[Object], named: dict[str, Object]) -> None:
    """Refuse to ask for less than what is there, which nothing can give. A shared default may be smaller: it is for new counties."""
    wanted = county["couchdb"]["storage"]
    if not (county.own.get("couchdb") or {}).get("storage"):
        return
    sizes = {f"claim {item['metadata']['name']}": item["spec"].get("resources", {}).get("requests", {}).get("storage", wanted) for item in claims}
    sizes.update({f"volume {item['metadata']['name']}": item["spec"]["capacity"]["storage"] for item in named.values()})
    for what, size in sizes.items():
        if larger_quantity(wanted, size) != wanted:
            raise PlanError(
                f"couchdb.storage {wanted} is smaller than the {size} of {what}, and a volume can't shrink: put {size} back. For a smaller one make a new "
                "county and replicate the data into it; save this one first (backup_project)"
            )


def _fixed(county: County, claims: list[Object]) -> list[str]:
    """Return notes on claims that are smaller than the definition wants them and can't grow."""
    notes, wanted = [], county["couchdb"]["storage"]
    for claim in claims:
        there = claim["spec"].get("resources", {}).get("requests", {}).get("storage", wanted)
        if not can_grow(claim) and larger_quantity(there, wanted) != there:
            notes.append(f"claim {claim['metadata']['name']} stays at {there}, not {wanted}: without a StorageClass it can't grow")
    return notes


def _named(folder: str) -> str:
    return f"the folder {folder}" if folder else "the root"


def _data_of(deployment: Object | None) -> tuple[str, str] | None:
    """Return what the data of a live CouchDB is on, and the folder on it; None where it has none outside of its container."""
    pod = ((deployment or {}).get("spec") or {}).get("template", {}).get("spec", {})
    for container in pod.get("containers") or []:
        for mount in container.get("volumeMounts") or []:
            if mount.get("mountPath", "").rstrip("/") != DATA_MOUNT:
                continue
            volume = next((item for item in pod.get("volumes") or [] if item.get("name") == mount.get("name")), {})
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            kinds = [key for key in volume if key != "name"]
            path = (volume.get("hostPath") or {}).get("path")
            source = f"claim {claim}" if claim else f"the folder {path} of its agent (hostPath)" if path else f"a volume of the kind {', '.join(kinds) or '?'}"
            return source, str(mount.get("subPath") or "").strip("/")
    return None
