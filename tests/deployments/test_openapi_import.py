"""An OpenAPI document becomes nodes that a real HTTP server understands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from raw_upstream import RawUpstream, Seen, Wire, raw_upstream
from typer.testing import CliRunner

from deployments.cli.app import build_app
from deployments.imports.document import read_document
from deployments.imports.openapi import Selection, import_openapi
from deployments.imports.report import Imported
from deployments.nodes.http import HttpNode
from graph.collect import collect
from graph.errors import InvalidRequest
from graph.loader import dump_yaml, load_text
from graph.model_graph import ModelGraph
from graph.node import NodeEnvironment
from graph.spec import NodeSpec
from graph.types import Call, json_payload

SHOP = Path(__file__).parent / "shop.yaml"
LEFT = {
    "HEAD /orders/{orderId}": "does not send HEAD",
    "GET /orders/{orderId}/invoice.pdf": "answers with application/pdf",
    "PUT /products/{sku}/photo": "multipart/form-data",
    "POST /loop": "from itself",
    "POST /ring": "round in circles",
    "POST /elsewhere": "another document",
    "GET /cart": "cookie parameter 'cart'",
    "GET /audit": "the scheme mutualTLS",
    "GET /audit/{range}": "array in style matrix",
    "GET /broken/{a}/{b}": "{b}",
}


@pytest.fixture(scope="module")
def imported() -> Imported:
    return import_openapi(read_document(str(SHOP)), str(SHOP))


@pytest.fixture(scope="module")
def nodes(imported: Imported) -> dict[str, NodeSpec]:
    return {spec.name: spec for spec in imported.specs}


def one(operation: Mapping[str, Any], path: str = "/x", **document: Any) -> Imported:
    """Import a document of one POST."""
    given = {"openapi": "3.0.0", "servers": [{"url": "http://h"}], "paths": {path: {"post": operation}}}
    return import_openapi(given | document, "doc")


def body(schema: Any, media: str = "application/json") -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {media: {"schema": schema}}}}


def test_every_operation_is_a_node_or_has_a_reason(imported: Imported) -> None:
    document = read_document(str(SHOP))
    operations = sum(1 for item in document["paths"].values() for key in item if key in ("get", "put", "post", "patch",
                     "delete", "head", "$ref"))  # fmt: skip
    assert operations == len(imported.made) + len(imported.left) >= 30
    assert {item.source for item in imported.left} == set(LEFT)
    for item in imported.left:
        assert LEFT[item.source] in item.reason


def test_the_nodes_are_valid_as_they_are_written(imported: Imported) -> None:
    text = "---\n".join(map(dump_yaml, imported.specs))
    loaded = load_text(text, {"http": HttpNode})  # type: ignore[dict-item]
    assert loaded.problems == ()
    assert loaded.specs == imported.specs
    assert ModelGraph(loaded.specs).problems() == ()


def test_what_is_lost_is_noted(imported: Imported) -> None:
    notes = {made.spec.name: " ".join(made.notes) for made in imported.made if made.notes}
    assert set(notes) == {"list_orders", "cancel_order", "create_customer", "search_products", "post_refunds"}
    assert "filter[total]" in notes["list_orders"]
    assert "'session' was left out" in notes["list_orders"]
    assert "deprecated" in notes["cancel_order"]
    assert "one of 2 forms" in notes["create_customer"]
    assert "taken by another operation" in notes["search_products"]
    assert "number or string" in notes["post_refunds"]


def test_names_descriptions_and_examples(nodes: dict[str, NodeSpec]) -> None:
    assert "get_orders_order_id_lines_id" in nodes  # it has no operationId
    assert "plan_operation" in nodes  # `plan` is a word of the service's own
    assert nodes["list_orders"].description == "List the orders of a customer"
    assert nodes["post_refunds"].description == "Give money back. Refunds an order, in part or in full ."
    assert nodes["get_order"].examples == ("Look up one order", "Look up one order: orderId o-17")
    assert nodes["list_orders"].endpoint == "http://127.0.0.1:8080/v2"
    assert nodes["ping"].produces == {"text"}
    assert nodes["get_order"].produces == {"json"}


def test_arguments(nodes: dict[str, NodeSpec]) -> None:
    order = nodes["create_order"].arguments
    assert set(order) == {"customer_id", "comment", "lines", "priority"}  # what is only read is not sent
    assert [name for name, argument in order.items() if argument.required] == ["customer_id", "lines"]
    assert (order["priority"].type, order["priority"].default, order["priority"].enum) == ("integer", 1, (1, 2, 3))
    assert order["lines"].description == "list of object of sku (string, required), amount (integer)"
    assert order["comment"].type == "string"
    limit = nodes["list_orders"].arguments["limit"]
    assert (limit.default, limit.required, limit.description) == (20, False, "How many at most")
    customer = nodes["create_customer"].arguments
    assert [name for name, argument in customer.items() if argument.required] == ["name"]  # in both forms of it
    assert nodes["post_refunds"].arguments["id"].default == "full"  # it can be nothing else
    assert "list of object" in nodes["add_category"].arguments["children"].description


def test_the_output_of_one_is_the_input_of_another(nodes: dict[str, NodeSpec]) -> None:
    assert "list_orders" in nodes["search"].edges.feeds  # a customer's id is what orders are listed by
    assert "get_order" in nodes["list_orders"].edges.feeds  # `id` of an Order, `orderId` of a path
    assert "get_product" in nodes["search_products"].edges.feeds
    assert "get_order" not in nodes["get_order"].edges.feeds
    assert nodes["ping"].edges.feeds == ()


def test_the_fields_of_an_answer_are_declared() -> None:
    order = {
        "description": "An order",
        "properties": {"id": {"type": "integer", "description": "Its number"}, "a.b": {"type": "string"}},
    }
    answer = {
        "type": "object",
        "properties": {
            "orders": {"type": "array", "items": {"$ref": "#/components/schemas/Order"}},
            "next": {"type": "string"},
            "secret": {"type": "string", "writeOnly": True},
            "x" * 250: {"type": "string"},
            "odd": {"oneOf": [{"properties": ["a"]}, {"type": "string"}]},
        },
    }
    responses = {"200": {"description": "", "content": {"application/json": {"schema": answer}}}}
    spec = one({"responses": responses}, components={"schemas": {"Order": order}}).specs[0]
    assert {path: (output.type, output.description) for path, output in spec.outputs.items()} == {
        "orders": ("array", ""),
        "next": ("string", ""),
        "odd": ("string", ""),
        "orders.0.id": ("integer", "Its number"),
    }


def test_an_answer_that_holds_itself_has_fields_to_some_depth() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#/components/schemas/Tree"}, "id": {"type": "string"}}}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Tree"}}}
    imported = one(
        {"responses": {"200": {"description": "", "content": content}}}, components={"schemas": {"Tree": tree}}
    )
    assert list(imported.specs[0].outputs)[:4] == ["left", "id", "left.left", "left.id"]
    assert max(path.count(".") for path in imported.specs[0].outputs) == 4


def test_secrets_are_references(imported: Imported, nodes: dict[str, NodeSpec]) -> None:
    assert nodes["stock"].params["headers"] == {"x-shop-key": "${SHOP_API_KEYINHEADER}"}
    assert nodes["stock"].params["query"]["api_key"] == "${SHOP_API_KEYINQUERY}"
    assert nodes["plan_operation"].params["headers"] == {"cookie": "sid=${SHOP_API_COOKIE}"}
    assert nodes["report"].params["headers"] == {"authorization": "Basic ${SHOP_API_BASIC}"}
    assert nodes["get_order"].api_key is None  # one of its alternatives is no security at all
    assert nodes["post_refunds"].params["headers"]["x-api-token"] == "${SHOP_API_X_API_TOKEN}"
    assert set(imported.secrets) == {
        "SHOP_API_KEYINHEADER", "SHOP_API_KEYINQUERY", "SHOP_API_COOKIE", "SHOP_API_BASIC", "SHOP_API_X_API_TOKEN"
    }  # fmt: skip


def test_a_bearer_token_is_the_api_key() -> None:
    schemes = {"securitySchemes": {"auth": {"type": "oauth2", "flows": {}}}}
    imported = one({"operationId": "go"}, security=[{"auth": []}], components=schemes, info={"title": "A b"})
    assert imported.specs[0].api_key == "${A_B_AUTH}"
    assert imported.secrets == {"A_B_AUTH": "an OAuth 2 access token"}


def test_what_may_not_be_sent_twice_is_tried_once(nodes: dict[str, NodeSpec]) -> None:
    assert (nodes["create_order"].idempotent, nodes["get_order"].idempotent) == (False, True)


async def echo(seen: Seen, wire: Wire) -> None:
    await wire.reply({"path": seen.path, "body": seen.body.decode(), "headers": seen.headers})


async def asked(nodes: Mapping[str, NodeSpec], name: str, **arguments: Any) -> Seen:
    """Call an imported node at a real server, and return what that saw."""
    async with raw_upstream(echo) as upstream:
        return await _asked(upstream, nodes[name], arguments)


async def _asked(upstream: RawUpstream, spec: NodeSpec, arguments: Mapping[str, Any]) -> Seen:
    spec = spec.model_copy(update={"endpoint": f"{upstream.url}/v2"})
    node = HttpNode(spec, NodeEnvironment(lambda text: text.replace("${", "<").replace("}", ">"), allow_private=True))
    await node.load()
    try:
        inputs = {key: json_payload(value) for key, value in arguments.items()}
        await collect(node.run(Call(inputs=inputs, operation="tool")), node=spec.name)
    finally:
        await node.aclose()
    return upstream.seen[0]


async def test_imported_nodes_are_called_for_real(nodes: dict[str, NodeSpec]) -> None:
    seen = await asked(
        nodes, "list_orders", customer_id="c 1", state=["open", "paid"], filter_since="2026-01-01", X_Trace="t"
    )
    query = parse_qs(urlsplit(seen.path).query)
    assert (seen.method, urlsplit(seen.path).path) == ("GET", "/v2/orders")
    assert query == {"customer_id": ["c 1"], "limit": ["20"], "state": ["open,paid"], "filter[since]": ["2026-01-01"]}
    assert seen.headers["x-trace"] == "t"
    seen = await asked(nodes, "create_order", customer_id="c", lines=[{"sku": "s"}])
    assert (seen.method, seen.json) == ("POST", {"customer_id": "c", "lines": [{"sku": "s"}], "priority": 1})
    seen = await asked(nodes, "update_order", orderId="a/b", customer_id="c")
    assert (seen.method, seen.path) == ("PATCH", "/v2/orders/a%2Fb")
    assert seen.headers["content-type"] == "application/merge-patch+json"


async def test_forms_texts_keys_and_nothing_at_all(nodes: dict[str, NodeSpec]) -> None:
    seen = await asked(nodes, "login", user="ada", password="a&b", scope=["r", "w"])
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    assert seen.body == b"user=ada&password=a%26b&scope=r&scope=w"
    seen = await asked(nodes, "set_note", sku="s", body="frágil")
    assert (seen.headers["content-type"], seen.body.decode()) == ("text/plain", "frágil")
    seen = await asked(nodes, "stock", sku="s")
    assert seen.headers["x-shop-key"] == "<SHOP_API_KEYINHEADER>"
    assert parse_qs(urlsplit(seen.path).query)["api_key"] == ["<SHOP_API_KEYINQUERY>"]
    seen = await asked(nodes, "ping", prompt="Is the shop open?")  # it takes no arguments, so any words will do
    assert (seen.method, seen.path) == ("GET", "/v2/ping")


async def test_an_argument_cannot_add_a_header(nodes: dict[str, NodeSpec]) -> None:
    with pytest.raises(InvalidRequest, match="X_Trace"):
        await asked(nodes, "list_orders", customer_id="c", X_Trace="a\r\nx-admin: 1")


def many(count: int) -> dict[str, Any]:
    """A document of many operations: each fifth is about another resource."""
    paths: dict[str, Any] = {}
    for index in range(count // 5):
        thing = {"$ref": f"#/components/schemas/Thing{index}"}
        answer = {"responses": {"200": {"content": {"application/json": {"schema": thing}}}}}
        one_of = {"parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]}
        paths[f"/things{index}"] = {
            "get": {"operationId": f"listThing{index}", "summary": f"List things of sort {index}", **answer},
            "post": {"operationId": f"makeThing{index}", **body(thing), **answer},
        }
        paths[f"/things{index}/{{id}}"] = one_of | {
            method: {"operationId": f"{method}Thing{index}", **answer} for method in ("get", "put", "delete")
        }
    schemas = {
        f"Thing{index}": {
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "next": {"$ref": f"#/components/schemas/Thing{(index + 1) % 100}"},
            },
        }
        for index in range(count // 5)
    }
    return {"openapi": "3.1.0", "servers": [{"url": "http://h"}], "paths": paths, "components": {"schemas": schemas}}


def test_hundreds_of_operations(tmp_path: Path) -> None:
    (tmp_path / "many.json").write_text(json.dumps(many(500)))
    result = CliRunner().invoke(
        build_app(), ["import", "openapi", str(tmp_path / "many.json"), "--out", str(tmp_path / "n"), "--json"]
    )
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (len(report["nodes"]), report["not_imported"]) == (500, [])
    assert len(list((tmp_path / "n").glob("*.yaml"))) == 500
    spec = load_text((tmp_path / "n" / "list_thing7.yaml").read_text(), {"http": HttpNode}).specs[0]  # type: ignore[dict-item]
    assert spec.edges.feeds == ("get_thing7", "put_thing7", "delete_thing7")
    checked = CliRunner().invoke(build_app(), ["validate", str(tmp_path / "n")])
    assert checked.exit_code == 0


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (Selection(include=("*Customer*",)), ["create_customer"]),
        (Selection(include=("GET /prod*", "login")), ["search", "get_product", "login"]),
        (Selection(tags=frozenset({"customers"})), ["search", "create_customer"]),
        (Selection(prefix="shop.", include=("shop.ping",)), ["shop.ping"]),
        (Selection(include=("nothing",)), []),
    ],
)
def test_a_selection(selection: Selection, names: list[str]) -> None:
    imported = import_openapi(read_document(str(SHOP)), str(SHOP), selection)
    assert [spec.name for spec in imported.specs] == names
    assert len(imported.made) + len(imported.left) + imported.unselected == 30


def test_names_that_a_framework_made() -> None:
    assert one({"operationId": "make_thing_v1_things__id__post"}, "/v1/things/{id}").left
    assert one({"operationId": "make_thing_v1_things_post"}, "/v1/things").specs[0].name == "make_thing"
    assert one({"operationId": "_x_post"}).specs[0].name == "x_post"


def test_servers() -> None:
    assert one({}, servers=[{"url": "https://a/b/"}]).specs[0].endpoint == "https://a/b"
    given = {"openapi": "3.0.0", "servers": [{"url": "/v1"}], "paths": {"/x": {"get": {}}}}
    assert import_openapi(given, "https://a/docs/api.json").specs[0].endpoint == "https://a/v1"
    assert "--server" in import_openapi(given, "api.json").left[0].reason
    assert import_openapi(given, "api.json", Selection(server="http://b/")).specs[0].endpoint == "http://b"


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ({"parameters": [{"name": "h", "in": "header", "required": True, "schema": {"$ref": "#/no"}}]}, "nowhere"),
        ({"parameters": [{"name": "o", "in": "query", "required": True, "schema": {"type": "object"}}]}, "any fields"),
        ({"parameters": [{"name": "bad name", "in": "header", "required": True}]}, "header name"),
        ({"parameters": [{"name": "Host", "in": "header", "required": True}]}, "client itself"),
        ({"parameters": [{"name": "x", "in": "moon", "required": True}]}, "path, query, header or cookie"),
        (body({"properties": {f"f{i}": {} for i in range(101)}}), "more than 100 arguments"),
        (body({"type": "array"}, "application/x-www-form-urlencoded"), "must be an object"),
        ({"security": [{"nobody": []}]}, "not declared"),
        ({"responses": {"200": {"content": {"text/event-stream": {}}}}}, "text/event-stream"),
    ],
)  # fmt: skip
def test_reasons(operation: dict[str, Any], words: str) -> None:
    imported = one(operation)
    assert imported.made == ()
    assert words in imported.left[0].reason


def test_schemas_without_end_are_cut() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(300):
        deep = {"oneOf": [deep, {"$ref": "#/components/schemas/Wide"}]}
    wide = {"anyOf": [{"$ref": "#/components/schemas/Wide"}] * 50 + [{"type": "integer"}]}
    imported = one(body({"properties": {"deep": deep}}), components={"schemas": {"Wide": wide}})
    assert set(imported.specs[0].arguments) == {"deep"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("swagger: '2.0'", "Swagger 2.0"),
        ("openapi: 2.9\npaths: {}", "openapi: 2.9"),
        ("a: b", "no key 'openapi'"),
        ("openapi: 3.0.0", "no mapping 'paths'"),
        ("[1]", "is a list"),
        ("{", "is not JSON"),
        ("a: [", "is not YAML at line"),
        ("!!python/object:os.system {}", "is not YAML"),
    ],
)
def test_what_is_no_document(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "doc").write_text(text)
    with pytest.raises(InvalidRequest, match=words):
        read_document(str(tmp_path / "doc"))


def test_the_command_reports_and_fails_where_nothing_is_imported(tmp_path: Path) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(build_app(), ["import", "openapi", *arguments])

    shown = run(str(SHOP), "--include", "ping")
    assert (shown.exit_code, "name: ping" in shown.stdout, "1 imported, 0 not" in shown.stderr) == (0, True, True)
    none = run(str(SHOP), "--include", "audit*")
    assert (none.exit_code, "mutualTLS" in none.stderr) == (1, True)
    missing = run(str(tmp_path / "missing.yaml"))
    assert (missing.exit_code, "cannot be read" in missing.stderr) == (1, True)
