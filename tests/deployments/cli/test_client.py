"""The client of the native surface: server-sent events, and errors."""

import pytest

from deployments.client import RECONNECTS, Client, ServerEvent, ServiceError, parse_events


@pytest.fixture
def client(service):
    with Client(service.url, sleep=lambda _: None) as client:
        yield client


def test_events_are_read_as_the_specification_says():
    body = b"id: 7\nevent: planned\ndata: [1,\ndata:2]\n\n: keep-alive\n\ndata: text\n\nid: 8\ndata: x\n"
    pieces = [body[:20], body[20:]]
    assert list(parse_events(pieces)) == [ServerEvent("7", "planned", [1, 2]), ServerEvent("7", "message", "text")]


def test_only_line_ends_end_lines():
    text = "a\u2028b\u0085c"
    body = f'data: {{"text": "{text}"}}\n\n'.encode()
    assert list(parse_events([body])) == [ServerEvent("", "message", {"text": text})]


def test_a_cut_stream_is_taken_up_after_the_last_event(client, service):
    service.cut_after = [3, 1]
    events = list(client.events("r1"))
    assert [event.id for event in events] == [str(n) for n in range(1, len(service.events) + 1)]


def test_a_stream_that_stays_dead_is_given_up(client, service):
    service.cut_after = [2] + [0] * 50
    seen = []
    with pytest.raises(ServiceError) as caught:
        seen.extend(client.events("r1"))
    assert caught.value.code == "stream_broken"
    assert len(service.seen) == 1 + 1 + RECONNECTS - 1


def test_events_are_not_asked_for_again_when_they_are_refused(client, service):
    service.refuse = (404, {"error": {"message": "no such run", "type": "x", "param": "id", "code": "run_not_found"}})
    with pytest.raises(ServiceError) as caught:
        list(client.events("r1"))
    error = caught.value
    assert (error.message, error.status, error.code, error.param) == ("no such run", 404, "run_not_found", "id")
    assert len(service.seen) == 1


def test_events_that_come_twice_are_given_once(client, service):
    service.events[1:1] = []
    service.cut_after = [4]
    client._stream = (lambda stream: lambda path, last: stream(path, str(int(last) - 2) if last else ""))(
        client._stream
    )
    assert len(list(client.events("r1"))) == len(service.events)


def test_names_are_quoted(client, service):
    with pytest.raises(ServiceError):
        client.node("a/../b?x")
    assert service.seen[-1][1] == "/v1/nodes/a%2F..%2Fb%3Fx"


@pytest.mark.parametrize("body", ["[1]", '{"data": 3}', '"x"'])
def test_lists_that_are_none_are_told(client, service, body):
    service.refuse = (200, body)
    with pytest.raises(ServiceError, match="service answered"):
        client.nodes()


def test_a_silent_service_is_unreachable():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, timeout_s=0.05) as client, pytest.raises(ServiceError, match="in time") as caught:
            client.nodes()
        assert caught.value.unreachable
