"""Templates that a hospital may change: found, checked before the first report, and rendered.

A template sees typed facts and filters, nothing else; identifiers (`ids`) are out of its reach.
"""

from __future__ import annotations

import hashlib
import types
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    TemplateError,
    TemplateSyntaxError,
    nodes,
    select_autoescape,
)
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lungmesh.mesh.errors import SettingsError

# What a template may name at its top: its type by name.
Scope = Mapping[str, type]
_HIDDEN = "ids"
_hints = cache(get_type_hints)


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox in which no identifier can be read."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute or item, never the identifiers."""
        return super().getattr(obj, _allowed(attribute))

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an item or attribute, never the identifiers."""
        return super().getitem(obj, _allowed(argument))


def _allowed(name: Any) -> Any:
    if name == _HIDDEN:
        raise SecurityError("identifiers stay out of the words")
    return name


class Templates:
    """The packaged templates, and a folder whose files stand in for those of the same name.

    Parameters
    ----------
    scopes
        Every template by name, with what it may name.
    filters
        The filters of each set of templates (a language, or "" for those of none).
    folder
        The hospital's own; None: the packaged ones alone.

    Raises SettingsError, which names file, line and fault, for one that is unknown or broken.
    """

    def __init__(
        self,
        scopes: Mapping[str, Scope],
        filters: Mapping[str, Mapping[str, Callable[..., Any]]],
        folder: Path | None = None,
    ) -> None:
        loader: BaseLoader = PackageLoader("lungmesh.report", "templates")
        own = [] if folder is None else _own(folder, scopes)
        if folder is not None:
            loader = ChoiceLoader([FileSystemLoader(folder), loader])
        self._environments = {name: _environment(loader, own) for name, own in filters.items()}
        digest = hashlib.sha256()
        for name, scope in scopes.items():
            source = _Checked(self._environment(name), name, scope).source
            if name in own:
                digest.update(f"{name}\0{source}\0".encode())
        # Of the hospital's own; empty where the packaged ones speak.
        self.digest = digest.hexdigest() if own else ""

    def render(self, name: str, **facts: Any) -> str:
        """Return what a template says of facts."""
        return self._environment(name).get_template(name).render(facts)

    def _environment(self, name: str) -> _Environment:
        return self._environments[name.rpartition("/")[0]]


def _environment(loader: BaseLoader, filters: Mapping[str, Callable[..., Any]]) -> _Environment:
    environment = _Environment(
        loader=loader,
        undefined=StrictUndefined,
        autoescape=select_autoescape(["html"]),
        # A line of a template is a sentence, whatever a header holds.
        finalize=lambda value: " ".join(value.splitlines()) if type(value) is str else value,
        auto_reload=False,
    )
    environment.filters.update(filters)
    return environment


def _own(folder: Path, scopes: Mapping[str, Scope]) -> list[str]:
    """Return the names of a folder's templates; files that begin with a dot are none."""
    if not folder.is_dir():
        raise SettingsError(f"templates: {folder} is no folder")
    found = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    names = [p.as_posix() for p in found if not any(part.startswith(".") for part in p.parts)]
    unknown = [name for name in names if name not in scopes]
    if unknown:
        raise SettingsError(
            f"templates: {folder / unknown[0]} is unknown; there are: {', '.join(scopes)}"
        )
    return names


class _Checked:
    """One template, proved before it is used.

    Every name, field, filter and test is looked up, in branches that no exam may reach for years
    too; then it is rendered with all facts there and with none.
    """

    def __init__(self, environment: _Environment, name: str, scope: Scope) -> None:
        self._environment = environment
        assert environment.loader is not None  # noqa: S101
        self.source, where, _ = environment.loader.get_source(environment, name)
        self._where = where or name
        try:
            tree = environment.parse(self.source, name, where)
            self._names(tree, scope)
            self._fields(tree, dict(scope))
            for whole in (True, False):
                facts = {key: specimen(kind, whole) for key, kind in scope.items()}
                environment.get_template(name).render(facts)
        except TemplateSyntaxError as error:
            raise self._bad(error.lineno, error.message or "") from error
        except (
            TemplateError,
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise self._bad(_line(error), str(error)) from error

    def _bad(self, line: int, fault: str) -> SettingsError:
        return SettingsError(f"templates: {self._where}, line {line}: {fault}")

    def _names(self, tree: nodes.Template, scope: Scope) -> None:
        names = list(tree.find_all(nodes.Name))
        bound = (name.name for name in names if name.ctx != "load")
        known = {"loop", *scope, *self._environment.globals, *bound}
        for name in names:
            if name.name not in known:
                there = ", ".join(scope)
                raise self._bad(name.lineno, f"'{name.name}' is undefined; there are: {there}")
        for filtered in tree.find_all(nodes.Filter):
            if filtered.name not in self._environment.filters:
                raise self._bad(filtered.lineno, f"no filter named '{filtered.name}'")
        for test in tree.find_all(nodes.Test):
            if test.name not in self._environment.tests:
                raise self._bad(test.lineno, f"no test named '{test.name}'")

    def _fields(self, node: nodes.Node, known: dict[str, Any]) -> None:
        """Look up every field of a node that comes from a typed fact."""
        if isinstance(node, nodes.For):
            self._fields(node.iter, known)
            inner = {**known, **_bound(node.target, _item(self._kind(node.iter, known)))}
            for child in node.body:
                self._fields(child, inner)
            for child in node.else_:
                self._fields(child, known)
            return
        if isinstance(node, nodes.Assign):
            self._fields(node.node, known)
            known.update(_bound(node.target, self._kind(node.node, known)))
            return
        if isinstance(node, nodes.Macro):
            known = {**known, **{argument.name: Any for argument in node.args}}
        if isinstance(node, nodes.Getattr):
            self._kind(node, known)
        for child in node.iter_child_nodes():
            self._fields(child, known)

    def _kind(self, node: nodes.Node, known: Mapping[str, Any]) -> Any:
        """Return the type of an expression; Any where that is not told."""
        if isinstance(node, nodes.Name):
            return known.get(node.name, Any)
        if isinstance(node, nodes.Filter) and node.node is not None:
            kind = self._kind(node.node, known)
            return kind if node.name in _SAME else _item(kind) if node.name in _ONE else Any
        if isinstance(node, nodes.Getitem):
            kind = self._kind(node.node, known)
            return kind if isinstance(node.arg, nodes.Slice) else _item(kind)
        if not isinstance(node, nodes.Getattr):
            return Any
        kind = _plain(self._kind(node.node, known))
        if not is_dataclass(kind) or not isinstance(kind, type):
            return Any
        _allowed(node.attr)
        there = _members(kind)
        if node.attr not in there:
            names = ", ".join(there)
            raise self._bad(
                node.lineno,
                f"'{kind.__name__.lower()}' has no '{node.attr}'; there are: {names}",
            )
        return there[node.attr]


# Filters that give the same list, or one of its items.
_SAME = {"list", "sort", "selectattr", "rejectattr", "select", "reject", "reverse", "unique"}
_ONE = {"first", "last", "max", "min"}


def _members(kind: type) -> dict[str, Any]:
    """Return a fact's fields and properties with their types, without identifiers."""
    hints = _hints(kind)
    out = {field.name: hints[field.name] for field in fields(kind) if field.name != _HIDDEN}
    for name, member in vars(kind).items():
        if isinstance(member, property) and member.fget:
            out[name] = get_type_hints(member.fget)["return"]
    return out


def _bound(target: nodes.Node, kind: Any) -> dict[str, Any]:
    if isinstance(target, nodes.Name):
        return {target.name: kind}
    return {name.name: Any for name in target.find_all(nodes.Name)}


def _plain(kind: Any) -> Any:
    """Return a type without its None."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(part for part in get_args(kind) if part is not type(None))
    return kind


def _item(kind: Any) -> Any:
    kind = _plain(kind)
    return get_args(kind)[0] if get_origin(kind) is tuple else Any


def specimen(kind: Any, whole: bool) -> Any:
    """Return a made-up fact of a type: whole with all its parts, or as empty as it can be."""
    if get_origin(kind) in (Union, types.UnionType):
        return specimen(_plain(kind), whole) if whole else None
    if get_origin(kind) is tuple:
        parts = [part for part in get_args(kind) if part is not ...]
        fixed = ... not in get_args(kind)
        return tuple(specimen(part, whole) for part in parts) if whole or fixed else ()
    if get_origin(kind) is dict:
        return defaultdict(int, {"specimen": "specimen"} if whole else {})
    if is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        made = {f.name: specimen(hints[f.name], whole) for f in fields(kind)}
        return kind(**made)
    return {bool: whole, int: int(whole), float: 1.5 * whole, str: "specimen" * whole}[kind]


def _line(error: BaseException) -> int:
    """Return the line of the template that an error was raised in."""
    line, trace = 1, error.__traceback__
    while trace is not None:
        # Jinja marks the frames that it has traced back to a template.
        if "__jinja_exception__" in trace.tb_frame.f_globals:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
