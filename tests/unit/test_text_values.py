"""`-e x=false` is a text, and so is what a survey or an INI inventory gives: each use of an option says what is meant."""
from __future__ import annotations

from collections.abc import Iterator

from jinja2 import nodes
from role_files import Expression, expressions, options

OPTIONS = options()
BOOLEANS = {name for name, spec in OPTIONS.items() if spec["type"] == "bool"}
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
