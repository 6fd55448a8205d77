# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run over all counties: read what is there, build, apply, and say what became of each."""

from __future__ import annotations

import contextlib
import copy
import time
import typing as t
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ansible_collections.cht.k3s.plugins.module_utils.cht import healthcheck, proof, stage
from ansible_collections.cht.k3s.plugins.module_utils.cht.adopt import HELM_MANAGERS, hand_over, made_by_helm
from ansible_collections.cht.k3s.plugins.module_utils.cht.credentials import hideable
from ansible_collections.cht.k3s.plugins.module_utils.cht.findings import shortened
from ansible_collections.cht.k3s.plugins.module_utils.cht.fits import misfits
from ansible_collections.cht.k3s.plugins.module_utils.cht.inside import InsideError, api_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.move import moving_to
from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import MANAGED_LABELS, SERVICE_LABEL, SETTINGS_NAME, UPGRADE_ACCOUNT, VIEWER_NAME
from ansible_collections.cht.k3s.plugins.module_utils.cht.operation import alive, note_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.password import PasswordError, change
from ansible_collections.cht.k3s.plugins.module_utils.cht.pause import PAUSED
from ansible_collections.cht.k3s.plugins.module_utils.cht.plan import Live as LiveCounties
from ansible_collections.cht.k3s.plugins.module_utils.cht.plan import Plan, plan_county
from ansible_collections.cht.k3s.plugins.module_utils.cht.rebind import data_of, point
from ansible_collections.cht.k3s.plugins.module_utils.cht.roll import Roller
from ansible_collections.cht.k3s.plugins.module_utils.cht.rollout import Progress, judge, ungrown
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import County, Problem
from ansible_collections.cht.k3s.plugins.module_utils.cht.stage import STAGED, Stage
from ansible_collections.cht.k3s.plugins.module_utils.cht.table import table
from ansible_collections.cht.k3s.plugins.module_utils.cht.wait import by_namespace
from ansible_collections.cht.k3s.plugins.module_utils.kube import compare
from ansible_collections.cht.k3s.plugins.module_utils.kube.apply import TAKE_OVER, Item, Live, Outcome, apply_groups
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client, Unreachable
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import (
    CLAIMS,
    CLASSES,
    CONFIGMAPS,
    DEPLOYMENTS,
    INGRESSES,
    INGRESS_CLASSES,
    LIMIT_RANGES,
    NAMESPACES,
    NETWORK_POLICIES,
    NODES,
    PODS,
    QUOTAS,
    ROLES,
    ROLE_BINDINGS,
    SECRETS,
    SERVICES,
    SERVICE_ACCOUNTS,
    VOLUMES,
    Resource,
)

Result = dict[str, t.Any]


# CHT's upgrade service sets images under the name that the API server gives to who gives none (its client sends no User-Agent), later ones
# as node-fetch. What is newer is kept before it comes to this.
_UPGRADE_MANAGERS = ("unknown", "node-fetch")

# What a county of 4.x has and one of 5.x must not keep: a service account that may change its Deployments, and what uses it.
# The Deployment goes last: as long as it is there, an interrupted clean-up is gone on with.
_RETIRED_IN_5: tuple[tuple[Resource, str], ...] = (
    (ROLE_BINDINGS, "deployment-manager-cht"),
    (ROLES, "deployment-manager"),
    (SERVICE_ACCOUNTS, UPGRADE_ACCOUNT),
    (SERVICES, "upgrade-service"),
    (DEPLOYMENTS, "upgrade-service"),
)
# Chart 5.0.0 made Nouveau a Deployment of its own; since 5.0.1 it is a container beside CouchDB, and both would work on one index.
_NOUVEAU_APART = "cht-couchdb-nouveau"
# Seconds that a claim without a volume has to go.
_GONE_AFTER = 30.0
# What a county only has when it is asked for.
_OPTIONAL: tuple[tuple[Resource, frozenset[str]], ...] = (
    (QUOTAS, frozenset({"cht"})),
    (LIMIT_RANGES, frozenset({"cht"})),
    (CONFIGMAPS, frozenset({SETTINGS_NAME})),
    (ROLE_BINDINGS, frozenset({VIEWER_NAME})),
    (ROLES, frozenset({VIEWER_NAME})),
    (NETWORK_POLICIES, frozenset({"own-namespace-only", "ingress-to-api"})),
)


@dataclass(frozen=True)
class Settings:
    """How to run; the module's options."""

    check_mode: bool
    with_diff: bool
    on_newer: str
    adopt: bool
    base_dir: str
    field_manager: str
    force_conflicts: bool
    parallel: int
    # Counties to deal with; all when None. The others are not even in the result.
    only: frozenset[str] | None = None
    # Leave counties alone that run and whose pods would restart: they are for the waves.
    hold_restarts: bool = False
    # Counties whose password may differ from the Secret's: CouchDB is told first.
    change_password: frozenset[str] = frozenset()
    # Counties that go back to the version of the list, though a newer one is set.
    downgrade: frozenset[str] = frozenset()
    # Seconds that a CouchDB node has to become ready before the next one is changed.
    node_timeout: float = 600.0
    # Percent of the cluster's counties that the list may lack.
    shrink: int = 100
    # Counties that may be away while API indexes; C(all) stands for all.
    unstaged: frozenset[str] = frozenset()


class ListError(Exception):
    """The list is hardly the one that is meant; the message says why and what to do."""


def problems_message(problems: list[Problem]) -> str:
    """Return every problem of every county as one message."""
    counties = len({problem.county for problem in problems})
    lines = "\n".join(f"- {problem}" for problem in problems)
    return f"{len(problems)} problems in {counties} definitions; nothing was changed:\n{lines}"


def deploy(
    client: Client | None, counties: list[County], problems: list[Problem], settings: Settings, hide: t.Callable[[list[str]], object]
) -> Result:
    """Apply all counties; `hide` is told every secret value before it can be in any output."""
    listed = {county.name: county.namespace for county in counties}
    names = {*listed, *(problem.county for problem in problems)}
    if settings.only is not None:
        counties = [county for county in counties if county.name in settings.only]
        problems = [problem for problem in problems if problem.county in settings.only]
    live = Live(client, settings.parallel) if client is not None else None
    state = LiveCounties()
    if live is not None:
        # Namespaces and Ingresses are among what is applied, so their lists are no requests more.
        with ThreadPoolExecutor(max_workers=5) as pool:
            lists = list(pool.map(live.list, (SECRETS, DEPLOYMENTS, CLAIMS, NAMESPACES, INGRESSES, *(resource for resource, dummy in _OPTIONAL))))
        state = LiveCounties.collect(*lists[:5])
        state.listed = listed
        if settings.only is None:
            _refuse_short_list(names, state, settings.shrink)
        if any(county["couchdb"]["volumes"] for county in counties):
            state.volumes = {item["metadata"]["name"]: item for item in live.list(VOLUMES)}
    plans = [
        plan_county(
            county, state, "force" if county.name in settings.downgrade else settings.on_newer, settings.check_mode, settings.base_dir,
            county.name in settings.change_password,
        )
        for county in counties
    ]
    public = [text for county in counties for text in (county.name, county.namespace, county.host)]
    for plan in plans:
        hide(hideable(plan.secrets, public))
    if client is not None and not settings.check_mode:
        # Before anything changes: then Kubernetes forgets what was ready.
        proof.note(client, [space for plan in plans if (space := state.namespaces.get(plan.county.namespace))], state.deployments)
    hold_restarts = settings.hold_restarts and client is not None and not settings.check_mode
    runs = _running(plans, state)
    _want_staged(client, [plan for plan in plans if plan.county.name in runs], settings, hold_restarts)
    running = runs if hold_restarts else set()
    resting = _resting(plans, state) - running if hold_restarts else set()
    careful = running | resting
    held: set[str] = set()
    taken: dict[str, str] = {}
    if client is not None:
        for plan in plans:
            _adopt(client, plan, state, settings, plan.county.name in careful, held)
            _rebind(client, plan, settings, taken)
            _remake(client, plan, settings, live)
        if settings.check_mode and live is not None:
            _note_misfits(plans, state, live)
            _tell_password(client, plan, settings, plan.county.name in careful, held)

    def hold(items: list[Item]) -> set[str]:
        for item in items:
            if item.result == "pending" and item.kind == "Deployment" and item.live is not None:
                # One at rest is started at once, as it was: that is how a backup that was killed is healed. What is new to it is for its wave.
                if item.group in running or item.group in resting and not _only_stopped(item.body, item.live, settings.field_manager):
                    held.add(item.group)
        return held

    wanted = {plan.county.name: [item for item in plan.objects if item["kind"] == "Deployment"] for plan in plans if not plan.error}
    roller = Roller(client, state.deployments, wanted, settings.node_timeout) if client is not None else None
    outcome = apply_groups(
        client,
        [{"name": plan.county.name, "objects": plan.objects} for plan in plans if not plan.error],
        check_mode=settings.check_mode,
        field_manager=settings.field_manager,
        force_conflicts=settings.force_conflicts,
        take_over=(*TAKE_OVER, *_UPGRADE_MANAGERS, *(HELM_MANAGERS if settings.adopt else ())),
        parallel=settings.parallel,
        live=live,
        hold=hold,
        arrange=roller.arrange if roller is not None else None,
    )
    removed = _restart_hanging(client, plans, state, settings) if client is not None else {}
    deployments = state.deployments
    if client is not None and live is not None:
        going = [plan for plan in plans if plan.county.name not in held]
        for name, count in _retire(client, going, state, live, outcome, settings.check_mode, _left_pods(client, going, settings.check_mode)).items():
            removed[name] = removed.get(name, 0) + count
        if outcome.changed and not settings.check_mode:
            # Without an answer the table shows what is known; why there is none stands with the counties that it kept from being done.
            with contextlib.suppress(ApiError):
                deployments = by_namespace(client.items(DEPLOYMENTS.collection(), {"labelSelector": SERVICE_LABEL}))
    return _report(plans, problems, outcome, deployments, removed, held, settings, runs, state)


def _refuse_short_list(names: set[str], state: LiveCounties, shrink: int) -> None:
    """Stop where most counties of the cluster are not in the list: an empty folder, or another cluster's list. None of them would be removed, or changed."""
    there = {owner for space in state.namespaces if (owner := state.county_of(space))}
    lacking = sorted(there - names)
    if len(lacking) * 100 > shrink * len(there):
        raise ListError(
            f"The list has {len(names)} counties, and {len(lacking)} of the {len(there)} that the cluster has are not among them: {shortened(lacking)}. "
            f"Correct cht_project_dir or cht_projects, or say that these are meant: cht_project_expect={len(names)}. Nothing was changed."
        )


def _running(plans: list[Plan], state: LiveCounties) -> set[str]:
    """Counties that have something to lose by a restart: they run, or ran as they are until an outage.

    A county that never came up in its present state has nothing to lose; changing it at once is how it is repaired.
    """
    return {plan.county.name for plan in plans if ran(state.deployments.get(plan.county.namespace, []))}


def _want_staged(client: Client | None, plans: list[Plan], settings: Settings, held: bool) -> None:
    """Refuse to raise the version of a county that runs before its new views are indexed, unless somebody accepted that it is away meanwhile.

    Those that are held for their wave are staged there.
    """

    def decide(plan: Plan) -> None:
        wanted = plan.raises
        if plan.error or wanted is None or client is None:
            return
        if plan.county.name in settings.unstaged or "all" in settings.unstaged:
            plan.stage = False
            plan.notes.append(f"not staged, as it was asked for: {_absence(client, plan, settings)}")
        elif wanted.obstacle:
            plan.error = f"{wanted.obstacle}: {_absence(client, plan, settings)}. Name it in cht_project_unstaged to upgrade it all the same"
        elif settings.check_mode:
            plan.notes.append(f"{wanted.wanted} would be staged first")
        elif not held:
            found = _stage_of(client, plan)
            if found.state != STAGED:
                plan.error = (
                    f"{wanted.wanted} is not staged{f' ({found.text})' if found.text else ''}: {_absence(client, plan, settings)}. Waves stage it first "
                    "(cht_project_wait, and cht_project_wave_size above 0), or name the county in cht_project_unstaged"
                )

    if any(plan.raises is not None for plan in plans):
        with ThreadPoolExecutor(max_workers=settings.parallel) as pool:
            list(pool.map(decide, plans))


def _stage_of(client: Client, plan: Plan) -> Stage:
    try:
        return stage.look(api_of(client, plan.county.namespace), plan.county.version)
    except InsideError as error:
        return Stage(stage.SILENT, str(error))


def _absence(client: Client, plan: Plan, settings: Settings) -> str:
    if settings.check_mode or settings.hold_restarts:
        return stage.absence(None)
    try:
        return stage.absence(api_of(client, plan.county.namespace))
    except InsideError:
        return stage.absence(None)


def _resting(plans: list[Plan], state: LiveCounties) -> set[str]:
    """Counties that a backup, restore or move has, or left stopped: they come up again, so they have as much to lose as those that run."""
    found = set()
    for plan in plans:
        space = state.namespaces.get(plan.county.namespace)
        if space is not None and at_rest(space, state.deployments.get(plan.county.namespace, [])):
            found.add(plan.county.name)
    return found


def at_rest(namespace: dict[str, t.Any], deployments: list[dict[str, t.Any]]) -> bool:
    """Tell whether all that is stopped of a county was stopped by us, for a while."""
    if alive(note_of(namespace), time.time()):
        return True
    down = [item for item in deployments if item["spec"].get("replicas", 1) == 0]
    return bool(down) and (bool(moving_to(namespace)) or all((item["metadata"].get("annotations") or {}).get(PAUSED) for item in down))


def _only_stopped(wanted: dict[str, t.Any], live: dict[str, t.Any], manager: str) -> bool:
    """Tell whether a Deployment is what it should be but for the number of its pods."""
    wanted, live = copy.deepcopy(wanted), copy.deepcopy(live)
    wanted["spec"].pop("replicas", None)
    fields = compare.owned(live, manager) or {}
    (fields.get("f:spec") or {}).pop("f:replicas", None)
    return compare.same(wanted, live, manager)


def ran(deployments: list[dict[str, t.Any]]) -> bool:
    """Tell whether API and CouchDB of a county were ready at some time since their Deployments are what they are.

    Kubernetes keeps that as the reason of a condition until the next change, whatever becomes of the pods. The others don't count: a county
    whose upgrade service never came up, for its image can't be had, works for its users all the same.
    """
    vital = [item for item in deployments if item["metadata"].get("name") == "cht-api" or _is_database(item)]
    return any(_is_database(item) for item in vital) and len(vital) > sum(map(_is_database, vital)) and all(
        item["spec"].get("replicas", 1) != 0
        and any(
            condition.get("type") == "Progressing" and condition.get("reason") == "NewReplicaSetAvailable"
            for condition in (item.get("status") or {}).get("conditions") or []
        )
        and ((item.get("status") or {}).get("observedGeneration") or 0) >= (item["metadata"].get("generation") or 0)
        for item in vital
    )


def _is_database(deployment: dict[str, t.Any]) -> bool:
    return str(deployment["metadata"].get("name")).startswith("cht-couchdb")


def _adopt(client: Client, plan: Plan, state: LiveCounties, settings: Settings, running: bool, held: set[str]) -> None:
    """Take over what helm deployed, or refuse the county when that was not asked for."""
    wanted = {item["metadata"]["name"] for item in plan.objects if item["kind"] == "Deployment"}
    found = [
        item
        for item in state.deployments.get(plan.county.namespace, [])
        if item["metadata"]["name"] in wanted and made_by_helm(item, settings.field_manager)
    ]
    if plan.error or not found:
        return
    if not settings.adopt:
        plan.error = (
            "was deployed by helm: cht_project_adopt takes such counties over, with their claims and credentials; "
            "all pods of the county restart once, and helm must not be used on it any more"
        )
        return
    if running:
        held.add(plan.county.name)
        return
    plan.notes.append(f"{len(found)} Deployments of helm {'would be ' if settings.check_mode else ''}taken over")
    if settings.check_mode:
        # A dry run can't see the first of the two steps, and would be refused.
        names = {item["metadata"]["name"] for item in found}
        plan.objects = [item for item in plan.objects if item["kind"] != "Deployment" or item["metadata"]["name"] not in names]
        plan.predicted = len(found)
        return
    try:
        for item in found:
            hand_over(client, DEPLOYMENTS, item, settings.field_manager)
    except ApiError as error:
        plan.error = f"can't be taken over from helm: {error.message}"


def _tell_password(client: Client, plan: Plan, settings: Settings, running: bool, held: set[str]) -> None:
    """Tell CouchDB its new password before the Secret has it."""
    if plan.error or plan.password is None or settings.check_mode:
        return
    if running:
        held.add(plan.county.name)
        return
    try:
        change(client, plan.county.namespace, plan.county.couchdb_services[0], plan.password)
    except PasswordError as error:
        plan.error = str(error)


def _rebind(client: Client, plan: Plan, settings: Settings, taken: dict[str, str]) -> None:
    """Make existing volumes point to the claims that are about to be created."""
    if plan.error:
        return
    for claim, volume in plan.rebind.items():
        name, namespace = volume["metadata"]["name"], plan.county.namespace
        if taken.setdefault(name, plan.county.name) != plan.county.name:
            plan.error = f"couchdb.volumes: {name} is also that of '{taken[name]}'"
            return
        if settings.check_mode:
            continue
        try:
            point(client, volume, namespace, claim, data_of(volume))
        except ApiError as error:
            plan.error = f"the volume {name} can't be bound to claim {claim}: {error.message}"
            return


def _remake(client: Client, plan: Plan, settings: Settings, live: Live | None) -> None:
    """Take away claims that never got a volume, so that others take their place; one that gets its volume at this moment stays."""
    if plan.error or not plan.remake:
        return
    if settings.check_mode:
        # A dry run can't see that the old one is gone, and would be refused.
        plan.objects = [item for item in plan.objects if item["kind"] != CLAIMS.kind or item["metadata"]["name"] not in plan.remake]
        plan.predicted += len(plan.remake)
        return
    for name, item in plan.remake.items():
        path, metadata = CLAIMS.path(name, plan.county.namespace), item["metadata"]
        try:
            client.json("DELETE", path, body={"preconditions": {key: metadata[key] for key in ("uid", "resourceVersion")}})
            deadline = time.monotonic() + _GONE_AFTER
            while client.find(path) is not None and time.monotonic() < deadline:
                time.sleep(0.5)
        except ApiError as error:
            plan.error = f"claim {name}, which never got a volume, can't be made anew: {error.message}"
            return
        if live is not None:
            live.forget(CLAIMS, plan.county.namespace, name)


def _note_misfits(plans: list[Plan], state: LiveCounties, live: Live) -> None:
    """Note what counties name and the cluster does not have."""
    classes, nodes, ingress_classes = ({item["metadata"]["name"] for item in live.list(kind)} for kind in (CLASSES, NODES, INGRESS_CLASSES))
    # placement.nodes are host names, which a Node has as a label.
    nodes |= {(item["metadata"].get("labels") or {}).get("kubernetes.io/hostname", "") for item in live.list(NODES)} - {""}
    secrets = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in live.list(SECRETS)}
    for plan in plans:
        claims = set(state.claims.get(plan.county.namespace, {})) - set(plan.remake)
        plan.notes.extend([] if plan.error else misfits(plan.county, claims, classes, nodes, ingress_classes, secrets))


def _left_pods(client: Client, plans: list[Plan], check_mode: bool) -> dict[str, list[tuple[Resource, str]]]:
    """Return the pods of each county that have failed for good, as on an agent that was lost, full or shut down; their successors run elsewhere.

    Kubernetes keeps them for people to look at, and the upgrade from CHT's own page fails on them (cht-core#9332).
    """
    found: dict[str, list[tuple[Resource, str]]] = {}
    names = {plan.county.namespace: plan for plan in plans if not plan.error}
    # What can't be listed now is found by the next run.
    with contextlib.suppress(ApiError):
        for pod in client.items(PODS.collection(), {"labelSelector": SERVICE_LABEL, "fieldSelector": "status.phase=Failed"}):
            metadata, plan = pod["metadata"], names.get(pod["metadata"]["namespace"])
            # Without a controller nobody makes another one: somebody else's.
            if plan is not None and metadata.get("ownerReferences") and not metadata.get("deletionTimestamp"):
                found.setdefault(plan.county.name, []).append((PODS, metadata["name"]))
                reason = (pod.get("status") or {}).get("reason") or "Failed"
                plan.notes.append(f"pod {metadata['name']} ({reason}), which an agent left behind, {'would be ' if check_mode else ''}removed")
    return found


def _restart_hanging(client: Client, plans: list[Plan], state: LiveCounties, settings: Settings) -> dict[str, int]:
    """Restart health checks of haproxy that hang, by their pods; return how many of which county."""
    restarted: dict[str, int] = {}
    for plan in plans:
        namespace = plan.county.namespace
        if plan.error or not healthcheck.suspicious(state.deployments.get(namespace, [])):
            continue
        pod = healthcheck.hanging(client, namespace)
        if not pod:
            continue
        plan.notes.append(f"{healthcheck.TEXT}: {'would be ' if settings.check_mode else ''}restarted")
        # What can't be done now is found again by the next run.
        with contextlib.suppress(ApiError):
            if not settings.check_mode:
                client.json("DELETE", PODS.path(pod, namespace), body={})
            restarted[plan.county.name] = 1
    return restarted


def _retire(
    client: Client, plans: list[Plan], state: LiveCounties, live: Live, outcome: Outcome, check_mode: bool, left: dict[str, list[tuple[Resource, str]]]
) -> dict[str, int]:
    """Remove what counties no longer have, as they went to 5.x or an option was taken back, and what agents left; return how many of which county."""
    removed: dict[str, int] = {}
    surplus = _surplus(plans, live)
    for plan in plans:
        name, namespace = plan.county.name, plan.county.namespace
        if plan.error or name in outcome.group_errors:
            continue
        gone = [*surplus.get(name, []), *left.get(name, [])]
        if plan.county.major >= 5 and "upgrade-service" in state.images(namespace):
            gone = [*gone, *_RETIRED_IN_5]
        if plan.county.major >= 5 and any(item["metadata"]["name"] == _NOUVEAU_APART for item in state.deployments.get(namespace, [])):
            gone = [*gone, (DEPLOYMENTS, _NOUVEAU_APART)]
        for resource, item in gone:
            try:
                path = resource.path(item, namespace)
                if client.find(path) is None:
                    continue
                if not check_mode:
                    client.json("DELETE", path, body={"propagationPolicy": "Background"})
                removed[name] = removed.get(name, 0) + 1
            except ApiError as error:
                text = f"{resource.kind} {namespace}/{item}, which is not wanted any more, can't be removed: {error.message}"
                outcome.group_errors.setdefault(name, []).append(text)
                if isinstance(error, Unreachable):
                    return removed
                break  # the next run finds the rest by what is still there
    return removed


def _surplus(plans: list[Plan], live: Live) -> dict[str, list[tuple[Resource, str]]]:
    """Return objects of ours that a county has and is not to have; what somebody else made under another name or without our label stays."""
    found: dict[str, list[tuple[Resource, str]]] = {}
    for resource, names in _OPTIONAL:
        there = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in live.list(resource) if _is_ours(item)}
        for plan in plans:
            wanted = {item["metadata"]["name"] for item in plan.objects if item["kind"] == resource.kind}
            found.setdefault(plan.county.name, []).extend((resource, name) for name in sorted(names - wanted) if (plan.county.namespace, name) in there)
    return found


def _is_ours(item: dict[str, t.Any]) -> bool:
    labels = item["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in MANAGED_LABELS.items())


def _report(
    plans: list[Plan],
    problems: list[Problem],
    outcome: Outcome,
    deployments: dict[str, list[dict[str, t.Any]]],
    removed: dict[str, int],
    held: set[str],
    settings: Settings,
    runs: set[str],
    state: LiveCounties,
) -> Result:
    rows = [_invalid_row(name, problems) for name in dict.fromkeys(problem.county for problem in problems)]
    counts: dict[str, Counter[str]] = {}
    for item in outcome.items:
        counts.setdefault(item.group, Counter())[item.result] += 1
    for name, count in removed.items():
        counts[name]["removed"] = count
    for plan in plans:
        wanted = [item["metadata"]["name"] for item in plan.objects if item["kind"] == "Deployment"]
        progress = judge([item for item in deployments.get(plan.county.namespace, []) if item["metadata"]["name"] in wanted], total=len(wanted))
        growing = _growing(plan, state)
        plan.notes.extend(growing)
        row = _row(plan, counts.get(plan.county.name, Counter()), outcome.group_errors.get(plan.county.name, []), progress, settings)
        raises = plan.raises if plan.county.name in runs and row["state"] != "failed" else None
        row.update(upgrade_from=raises.live if raises is not None else "", stage=raises is not None and plan.stage)
        if plan.county.name in held and row["state"] != "failed":
            row.update(state="waiting", remark="; ".join(["its pods restart when its wave comes", *plan.notes]))
        row["growing"] = bool(growing)
        rows.append(row)
    result: Result = {
        "changed": outcome.changed or bool(removed) or any(plan.predicted for plan in plans),
        "counties": rows,
        "waiting": [
            row["name"] for row in rows if row["state"] != "failed" and row["name"] not in held and (row["ready"] < row["total"] or row.get("growing"))
        ],
        "held": [row["name"] for row in rows if row["name"] in held and row["state"] != "failed"],
        "objects": [entry for entry in outcome.objects() if entry["result"] not in ("unchanged", "skipped", "held")],
        "table": table(rows),
        "summary": {
            **{name: outcome.count(name) for name in ("created", "updated", "unchanged", "failed", "skipped")},
            "requests": outcome.requests,
        },
    }
    if settings.with_diff:
        result["diff"] = outcome.diff()
    return result


def _growing(plan: Plan, state: LiveCounties) -> list[str]:
    """Return which claims that are there are smaller than they are to be; CSI grows them after they ask for it, or does not."""
    there = state.claims.get(plan.county.namespace, {})
    wanted = {item["metadata"]["name"]: item["spec"]["resources"]["requests"]["storage"] for item in plan.objects if item["kind"] == CLAIMS.kind}
    return [text for name, size in wanted.items() if name in there and (text := ungrown(there[name], size))]


def _invalid_row(name: str, problems: list[Problem]) -> Result:
    errors = [problem.message for problem in problems if problem.county == name]
    row: Result = {"name": name, "namespace": "", "host": "", "version": "", "upgrade_from": "", "stage": False, "state": "failed"}
    return {**row, "ready": 0, "total": 0, "created": 0, "updated": 0, "removed": 0, "notes": [], "errors": errors, "remark": "; ".join(errors)}


def _row(plan: Plan, counts: Counter[str], errors: list[str], progress: Progress, settings: Settings) -> Result:
    errors = [plan.error] if plan.error else [_with_advice(error) for error in errors]
    created, updated, removed = counts["created"], counts["updated"] + plan.predicted, counts["removed"]
    state = "failed" if errors else "changed" if created or updated or removed else "unchanged"
    would = "would be " if settings.check_mode else ""
    done = [f"{count} objects {would}{verb}" for count, verb in ((created, "created"), (updated, "updated"), (removed, "removed")) if count]
    county = plan.county
    return {
        "name": county.name,
        "namespace": county.namespace,
        "host": county.host,
        "version": county.version,
        "state": state,
        "ready": progress.ready,
        "total": progress.total,
        "created": created,
        "updated": updated,
        "removed": removed,
        "notes": plan.notes,
        "errors": errors,
        "remark": "; ".join(errors or [*done, *plan.notes]),
    }


def _with_advice(error: str) -> str:
    if " belongs to helm" in error:
        return f"{error} (this county was deployed by helm: cht_project_adopt takes such counties over)"
    return error
