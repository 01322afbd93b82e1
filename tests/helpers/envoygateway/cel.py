"""The Common Expression Language, as far as our manifests speak it.

Envoy takes expressions that are parsed already (``cel.expr.ParsedExpr``), and Envoy Gateway parses
them with cel-go. https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

import itertools
import re
from collections.abc import Iterator
from typing import Any, Final

Json = dict[str, Any]

_TOKEN: Final = re.compile(r"\s*(?:[A-Za-z_]\w*|'[^'\\]*'|&&|\|\||==|[][().,])")


class CelError(Exception):
    """An expression cannot be parsed."""


def parse(expression: str) -> Json:
    """Return an expression as the JSON form of ``cel.expr.ParsedExpr``.

    Raises:
        CelError: If it is no expression, or one that this parser does not know.
    """
    parser = _Parser(expression)
    expr = parser.disjunction()
    if parser.peek():
        raise CelError(f"{parser.peek()!r} is not expected")
    return {"expr": expr}


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_split(text))
        self._ids = itertools.count(1)

    def peek(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def disjunction(self) -> Json:
        left = self._conjunction()
        while self._takes("||"):
            left = self._call("_||_", left, self._conjunction())
        return left

    def _conjunction(self) -> Json:
        left = self._relation()
        while self._takes("&&"):
            left = self._call("_&&_", left, self._relation())
        return left

    def _relation(self) -> Json:
        left = self._member()
        if self._takes("=="):
            return self._call("_==_", left, self._member())
        if self._takes("in"):
            return self._call("@in", left, self._member())
        return left

    def _member(self) -> Json:
        operand = self._primary()
        while True:
            if self._takes("."):
                operand = self._node(select_expr={"operand": operand, "field": self._next()})
            elif self._takes("["):
                operand = self._call("_[_]", operand, self.disjunction())
                self._expect("]")
            else:
                return operand

    def _primary(self) -> Json:
        token = self._next()
        if token == "(":
            inner = self.disjunction()
            self._expect(")")
            return inner
        if token == "[":
            return self._list()
        if token in {"true", "false"}:
            return self._node(const_expr={"bool_value": token == "true"})
        if token.startswith("'"):
            return self._node(const_expr={"string_value": token[1:-1]})
        if not token.isidentifier():
            raise CelError(f"{token!r} begins no value")
        return self._node(ident_expr={"name": token})

    def _list(self) -> Json:
        elements = []
        while not self._takes("]"):
            elements.append(self.disjunction())
            if self.peek() != "]":
                self._expect(",")
        return self._node(list_expr={"elements": elements})

    def _call(self, function: str, *args: Json) -> Json:
        return self._node(call_expr={"function": function, "args": list(args)})

    def _node(self, **kind: Json) -> Json:
        return {"id": str(next(self._ids)), **kind}

    def _takes(self, token: str) -> bool:
        if self.peek() == token:
            self._next()
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._takes(token):
            raise CelError(f"expected {token!r}, found {self.peek()!r}")

    def _next(self) -> str:
        if not self._tokens:
            raise CelError("the expression ends too early")
        return self._tokens.pop(0)


def _split(text: str) -> Iterator[str]:
    text = text.strip()
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise CelError(f"{text[position:]!r} cannot be read")
        yield match[0].strip()
        position = match.end()
