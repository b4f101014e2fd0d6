"""Grammars in GBNF, as llama.cpp reads them, in the form that llguidance reads."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tersely.errors import ConfigError, require

CODED = re.compile(r"\\\\|\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})")
UNIT = re.compile(r"\\x..|\\.|.", re.DOTALL)
START = "root"


def lark(grammar: str) -> str:
    """The grammar in Lark's form, with rules of the same meaning.

    The library's own translation takes rules for words of a lexer, which are as long as can be:
    with `[a-z]* "b"` no text would ever end. Here a grammar without recursion becomes one word, and
    any other one goes character by character. Raises ConfigError that names the fault.
    """
    rules = _parsed(grammar)
    used = _used(rules)
    _check_ends(rules, used)
    plain = not any(name in _reached(rules, name) for name in used)
    names = {name: f"{'R' if plain else 'r'}{i}" for i, name in enumerate(used)}
    lines = [f"{names[name]}: {_shown(rules[name], names)}" for name in used]
    return "\n".join(["%llguidance {}", f"start: {names[START]}", *lines, ""])


def _parsed(grammar: str) -> Mapping[str, Any]:
    """What each rule says, by its name."""
    require("llguidance", extra="local")
    from llguidance.gbnf_to_lark import GbnfToLarkError, GrammarParser

    try:
        found = GrammarParser().parse(CODED.sub(_character, grammar))
        rules = {name: rule.alternatives for name, rule in found.items()}
    except (GbnfToLarkError, RecursionError) as error:
        raise ConfigError(f"the grammar can't be read: {error}") from error
    if START not in rules:
        raise ConfigError(f"the grammar has no rule {START!r}, with which an answer begins")
    return rules


def _character(coded: re.Match[str]) -> str:
    """A character spelled by its number, as the library's parser takes it."""
    digits = coded[1] or coded[2]
    if not digits:
        return coded[0]
    number = int(digits, 16)
    if number > 0x10FFFF or 0xD800 <= number < 0xE000:
        raise ConfigError(f"the grammar can't be read: {coded[0]} is no character")
    return f"\\x{number:02x}" if number < 0x80 else chr(number)


def _used(rules: Mapping[str, Any]) -> list[str]:
    """The rules that an answer can come to. Raises ConfigError when one is missing."""
    reached = _reached(rules, START)
    return [START, *sorted(reached - {START})]


def _reached(rules: Mapping[str, Any], start: str) -> set[str]:
    """The rules that a rule speaks of, and those of which they speak."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        spoken = set(_names(rules[waiting.pop()]))
        if missing := sorted(spoken - rules.keys()):
            raise ConfigError(f"the grammar has no rule {missing[0]!r}, and speaks of it")
        waiting += spoken - reached
        reached |= spoken
    return reached


def _check_ends(rules: Mapping[str, Any], used: Sequence[str]) -> None:
    """Raise ConfigError when a rule has no text that comes to an end."""
    ending: set[str] = set()
    while more := [n for n in used if n not in ending and _may_end(rules[n], ending)]:
        ending.update(more)
    if endless := [name for name in used if name not in ending]:
        raise ConfigError(f"the grammar's rule {endless[0]!r} never ends: it always needs itself")


def _may_end(node: Any, ending: Collection[str]) -> bool:
    """Whether a part of a rule has a text, by the rules of which that is known."""
    from llguidance import gbnf_to_lark as nodes

    match node:
        case nodes.RuleRefNode():
            return node.name in ending
        case nodes.RepetitionNode():
            return node.min_times == 0 or _may_end(node.node, ending)
        case nodes.AlternativeNode():
            return any(_may_end(part, ending) for part in node.alternatives)
        case _:
            return all(_may_end(part, ending) for part in node.children())


def _names(node: Any) -> Iterator[str]:
    """The rules of which a part of a rule speaks."""
    from llguidance.gbnf_to_lark import RuleRefNode

    if isinstance(node, RuleRefNode):
        yield node.name
    for part in node.children():
        yield from _names(part)


def _shown(node: Any, names: Mapping[str, str]) -> str:
    """A part of a rule in Lark's form, character by character."""
    from llguidance import gbnf_to_lark as nodes

    match node:
        case nodes.LiteralNode():
            units = (unit for unit in UNIT.findall(node.value))
            return " ".join(f"/{_escaped(unit)}/" for unit in units) or '""'
        case nodes.RegexNode():
            return f"/{_class(node.rx)}/"
        case nodes.RuleRefNode():
            return names[node.name]
        case nodes.RepetitionNode():
            most = "" if node.max_times is None else node.max_times
            return f"({_shown(node.node, names)}){{{node.min_times},{most}}}"
        case nodes.SequenceNode():
            return " ".join(_shown(part, names) for part in node.nodes) or '""'
        case _:
            return "(" + " | ".join(_shown(part, names) for part in node.alternatives) + ")"


def _escaped(unit: str) -> str:
    """One character of a text in quotes, as a regular expression."""
    if len(unit) > 1 or unit.isalnum() or unit == " ":
        return unit
    return {"\n": r"\n", "\r": r"\r"}.get(unit) or re.escape(unit).replace("/", r"\/")


def _class(found: str) -> str:
    """A class of characters; what only regular expressions give a meaning to means itself."""
    return "(?s:.)" if found == "." else re.sub("[&~]", r"\\\g<0>", found)
