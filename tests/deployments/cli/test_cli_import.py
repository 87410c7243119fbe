"""`import … --apply`: what was imported is put into a running service, targets of hints first."""

import json

DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Things"},
    "servers": [{"url": "https://things.example"}],
    "paths": {
        "/things": {
            "get": {
                "operationId": "listThings",
                "responses": {"200": {"content": {"application/json": {"schema": {"properties": {"id": {}}}}}}},
            }
        },
        "/things/{id}": {
            "delete": {"operationId": "deleteThing", "parameters": [{"name": "id", "in": "path", "required": True}]}
        },
        "/photo": {"head": {}},
    },
}


def test_apply_puts_the_nodes(modelyard, service, tmp_path):
    (tmp_path / "things.json").write_text(json.dumps(DOCUMENT))
    result = modelyard("import", "openapi", tmp_path / "things.json", "--apply", "--json")
    assert result.exit_code == 0, result.output
    puts = [path.partition("?")[0].rpartition("/")[2] for method, path, _ in service.seen if method == "PUT"]
    assert puts == ["delete_thing", "list_things"]
    report = json.loads(result.stdout)
    assert [item["name"] for item in report["added"]] == puts
    assert [item["source"] for item in report["not_imported"]] == ["HEAD /photo"]


def test_a_token_that_is_not_set_is_told_as_the_commands_own(modelyard, monkeypatch):
    monkeypatch.delenv("TOOLS_TOKEN", raising=False)
    result = modelyard("import", "mcp", "http://127.0.0.1:9/mcp", "--secret", "TOOLS_TOKEN")
    assert result.exit_code == 1
    assert "TOOLS_TOKEN: is not set here" in result.stderr and "node" not in result.stderr
