"""`-e x=false` is a text, and so is what a survey or an INI inventory gives: each use of an option says what is meant."""
from __future__ import annotations

from collections.abc import Iterator

from jinja2 import nodes
from role_files import Expression, expressions, options

OPTIONS = options()
BOOLEANS = {name for name, spec in OPTIONS.items() if spec["type"] == "bool"}
# Text is no list of mappings: Ansible's validation of the roles refuses it, and check_inputs before that.
LISTS = {name for name, spec in OPTIONS.items() if spec["type"] == "list" and spec.get("elements") != "dict"}
MAPPINGS = {name for name, spec in OPTIONS.items() if spec["type"] == "dict"}
NUMBERS = {name for name, spec in OPTIONS.items() if spec["type"] in ("int", "float")}
ALL = list(expressions())


def parents(tree: nodes.Node) -> Iterator[tuple[nodes.Node, nodes.Node]]:
    for child in tree.iter_child_nodes():
        yield child, tree
        yield from parents(child)


def bare(expression: Expression, names: set[str], cast: str, counts: tuple[type, ...] = (nodes.Node,)) -> list[str]:
    """Where one of the names is used without the filter `cast` below one of the node types."""
    return [
        f"{expression.where}: {node.name}" for node, parent in parents(expression.tree)
        if isinstance(node, nodes.Name) and node.name in names and isinstance(parent, counts)
        and not (isinstance(parent, nodes.Filter) and parent.name == cast and parent.node is node)
        # A module reads its arguments by its own spec, and refuses what it does not know; whoever reads validate_certs does too.
        and not ((expression.argument or expression.where.endswith(".validate_certs")) and expression.text.strip() == "{{ %s }}" % node.name)
    ]


def test_each_use_of_a_boolean_says_that_it_is_one() -> None:
    assert len(BOOLEANS) > 35 and len(ALL) > 500
    assert [place for expression in ALL for place in bare(expression, BOOLEANS, "bool")] == []


def test_numbers_are_compared_and_added_as_numbers() -> None:
    kinds = (nodes.Operand, nodes.Compare, nodes.BinExpr, nodes.UnaryExpr, nodes.CondExpr)
    assert len(NUMBERS) > 20
    assert [place for expression in ALL for place in bare(expression, NUMBERS, "int", kinds)] == []


def unread(expression: Expression, names: set[str], cast: str) -> list[str]:
    """Where one of the names, also that of another host, is used otherwise than by the filter `cast`."""
    found = []
    above = {id(node): parent for node, parent in parents(expression.tree)}
    for node, _parent in parents(expression.tree):
        name = node.name if isinstance(node, nodes.Name) else node.attr if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Getitem) else ""
        if name not in names:
            continue
        user = above[id(node)]
        if isinstance(user, nodes.Filter) and user.name == "default":
            user = above[id(user)]
        # Whether it was given at all may be asked of any value.
        asked = isinstance(user, nodes.Test) and user.name == "defined" or isinstance(user, nodes.Compare) and "not in [none, '']" in expression.text
        if not asked and not (isinstance(user, nodes.Filter) and user.name == cast):
            found.append(f"{expression.where}: {name}")
    return found


def test_each_use_of_a_list_reads_the_text_that_stands_for_one() -> None:
    """`-e agent_kubelet_args=max-pods=100` became twelve letters, each an argument of the kubelet."""
    assert len(LISTS) > 40
    assert [place for expression in ALL for place in unread(expression, LISTS, "cht.k3s.as_list")] == []


def test_each_use_of_a_mapping_reads_the_text_that_stands_for_one() -> None:
    assert len(MAPPINGS) > 15
    assert [place for expression in ALL for place in unread(expression, MAPPINGS, "cht.k3s.as_dict")] == []
