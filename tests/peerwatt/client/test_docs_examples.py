"""docs/api.md and docs/client.md: every example is of the form that it says, every method's endpoint is described."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from peerwatt import wire
from peerwatt.client import Client
from peerwatt.wire import In, Page
from tests.peerwatt.client.test_client_endpoints import CALLS
from tests.repo.files import ROOT

API, CLIENT = ROOT / "docs" / "api.md", ROOT / "docs" / "client.md"
EXAMPLE = re.compile(r"<!-- ([A-Za-z]+)(?:\[([A-Za-z]+)\])? -->\n```json\n(.*?)\n```", re.DOTALL)
ENDPOINT = re.compile(r"^#### `(GET|POST|PUT|DELETE) /([^`?]*)", re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

if not API.exists() or not CLIENT.exists():  # a source distribution may come without the documentation
    pytest.skip("docs/api.md and docs/client.md are not here", allow_module_level=True)

EXAMPLES = EXAMPLE.findall(API.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "inner", "body"), EXAMPLES, ids=[f"{i}-{e[0]}" for i, e in enumerate(EXAMPLES)])
def test_examples_are_of_the_form_they_say(name: str, inner: str, body: str) -> None:
    kind: Any = Page[getattr(wire, inner)] if inner else getattr(wire, name)
    example = msgspec.json.decode(body, type=kind)
    told = json.loads(body)
    known = json.loads(msgspec.json.encode(example))
    if inner or not issubclass(kind, In):  # answers take fields they do not know: the example must have none
        assert known == told


def test_the_inputs_and_answers_that_clients_meet_are_shown() -> None:
    shown = {inner or name for name, inner, _ in EXAMPLES}
    assert {
        "OrderIn",
        "BatchIn",
        "OrderAck",
        "BatchAck",
        "Problem",
        "StatementOut",
        "TermsIn",
        "MeasurementsIn",
    } <= shown


def test_every_method_has_its_endpoint_described() -> None:
    described = [
        (method, re.compile(re.sub(r"\\\{[a-z_]+\\\}", "[^/]+", re.escape(path)))) for method, path in
        ENDPOINT.findall(API.read_text(encoding="utf-8"))
    ]  # fmt: skip
    for name, (args, kwargs, _) in CALLS.items():
        call = getattr(Client, name).describe(None, *args, **kwargs)
        path = call.path.replace("market:", "markets/spot:") if call.path.startswith("market:") else call.path
        assert any(method == call.method and pattern.fullmatch(path) for method, pattern in described), call.path


def test_python_is_python_and_every_method_is_listed() -> None:
    text = CLIENT.read_text(encoding="utf-8")
    for i, block in enumerate(PYTHON.findall(text)):
        compile(block, f"client.md, block {i}", "exec")
    listed = set(re.findall(r"^\| `([a-z_]+)\(", text, re.MULTILINE))
    assert listed == set(CALLS)
