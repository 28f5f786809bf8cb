"""Responses that browsers, proxies and client libraries rely on."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from r1_gateway.server import GatewayServer
from scripted_pod import Conversation, ScriptedPod

OpenGateway = Callable[..., Awaitable[GatewayServer]]
NewPod = Callable[..., Awaitable[ScriptedPod]]
BODY = b'{"model":"m"}'
ORIGIN = b"origin: https://chat.example\r\n"


async def send(server: GatewayServer, request: bytes) -> tuple[int, dict[str, list[str]], bytes]:
    """One request; status, header values by name, and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    line, _, rest = request.partition(b"\r\n")
    writer.write(line + b"\r\nconnection: close\r\n" + rest)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers: dict[str, list[str]] = {}
    for text in lines:
        name, _, value = text.partition(": ")
        headers.setdefault(name.lower(), []).append(value)
    return int(status.split()[1]), headers, body


def post(*lines: bytes, target: bytes = b"/v1/completions", body: bytes = BODY) -> bytes:
    extra = b"".join(lines)
    return b"POST %s HTTP/1.1\r\nhost: m\r\n%scontent-length: %d\r\n\r\n%s" % (
        target,
        extra,
        len(body),
        body,
    )


def get(target: bytes, *lines: bytes, method: bytes = b"GET") -> bytes:
    return b"%s %s HTTP/1.1\r\nhost: m\r\n%s\r\n" % (method, target, b"".join(lines))


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        post(b"transfer-encoding: gzip\r\n"),
        get(b"/v1/models", b"x: " + b"y" * (1 << 19) + b"\r\n"),
        get(b"m:80", method=b"CONNECT"),
    ],
)
async def test_a_framing_error_has_a_request_id(
    open_gateway: OpenGateway, new_pod: NewPod, request_: bytes
) -> None:
    server = await open_gateway(await new_pod())
    status, headers, _ = await send(server, request_)
    assert status >= 400
    assert len(headers["x-request-id"]) == 1
    status, headers, _ = await send(
        server, request_.replace(b"\r\n", b"\r\nx-request-id: me\r\n", 1)
    )
    if b"NONSENSE" not in request_:
        assert headers["x-request-id"] == ["me"]


@pytest.mark.parametrize("name", [b"qwen%3A7b", b"qwen%3a7b", b"qwen:7b"])
async def test_model_names_may_be_percent_encoded(
    open_gateway: OpenGateway, new_pod: NewPod, name: bytes
) -> None:
    server = await open_gateway(await new_pod(), models=["qwen:7b", "größe/x"])
    status, _, body = await send(server, get(b"/v1/models/" + name))
    assert (status, json.loads(body)["id"]) == (200, "qwen:7b")
    for slash in (b"%2f", b"%2F", b"/"):
        target = b"/v1/models/gr%C3%B6%c3%9fe" + slash + b"x"
        status, _, body = await send(server, get(target))
        assert (status, json.loads(body)["id"]) == (200, "größe/x")
    for target in (b"/v1/models", b"/v1/models/", b"/v1/models?x=1"):
        status, _, body = await send(server, get(target))
        assert {"qwen:7b", "m"} <= {entry["id"] for entry in json.loads(body)["data"]}
    for odd in (b"%ff", b"%", b"%zz", b"%00", b"qwen%253A7b"):
        status, _, body = await send(server, get(b"/v1/models/" + odd))
        assert (status, json.loads(body)["error"]["code"]) == (404, "model_not_found")


async def test_401_and_405_name_the_scheme_and_the_methods(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(await new_pod(), keys={})
    status, headers, _ = await send(server, get(b"/v1/completions"))
    assert (status, headers["allow"]) == (405, ["POST, OPTIONS"])
    status, headers, _ = await send(server, get(b"/v1/models", method=b"DELETE"))
    assert (status, headers["allow"]) == (405, ["GET, OPTIONS"])
    for request in (post(), get(b"/v1/models")):
        status, headers, _ = await send(server, request)
        assert (status, headers["www-authenticate"]) == (401, ["Bearer"])


@pytest.mark.parametrize("scheme", [b"http://", b"HTTPS://"])
async def test_a_whole_url_as_target_is_a_path_to_the_pod(
    open_gateway: OpenGateway, new_pod: NewPod, scheme: bytes
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod)
    status, _, _ = await send(server, post(target=scheme + b"any.example:80/v1/completions?a=b"))
    assert status == 200
    assert pod.requests[0].target == "/v1/completions?a=b"
    assert (await send(server, get(scheme + b"any.example")))[0] == 404
    assert (await send(server, get(scheme + b"any.example?x")))[0] == 404


async def test_a_cors_preflight_allows_a_page_of_another_origin(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def like_vllm(conversation: Conversation) -> None:
        conversation.answer(b"{}", "200 OK", "Access-Control-Allow-Origin: *")

    pod = await new_pod(like_vllm)
    server = await open_gateway(pod, keys={})
    wanted = b"access-control-request-method: POST\r\n"
    names = b"access-control-request-headers: authorization,content-type,x-stainless-os\r\n"
    for target, method in ((b"/v1/chat/completions", "POST"), (b"/v1/models", "GET")):
        request = get(target, ORIGIN, wanted, names, method=b"OPTIONS")
        status, headers, body = await send(server, request)
        assert (status, body) == (204, b"")
        assert headers["access-control-allow-origin"] == ["*"]
        assert headers["access-control-allow-methods"] == [f"{method}, OPTIONS"]
        assert headers["access-control-allow-headers"] == [
            "authorization,content-type,x-stainless-os"
        ]
    status, headers, _ = await send(server, post(ORIGIN))
    assert (status, headers["access-control-allow-origin"]) == (401, ["*"])
    server.gateway.keys = None
    for request, expected in ((post(ORIGIN), 200), (get(b"/v1/models", ORIGIN), 200)):
        status, headers, _ = await send(server, request)
        assert (status, headers["access-control-allow-origin"]) == (expected, ["*"])
        if request.startswith(b"POST"):
            assert "x-request-id" in headers["access-control-expose-headers"][0]
    status, headers, _ = await send(server, post())
    assert "access-control-allow-origin" not in headers
    assert (await send(server, get(b"/v1/models", ORIGIN, method=b"OPTIONS")))[0] == 405
    odd = b"access-control-request-headers: a;\x0bb\r\n"
    assert (await send(server, get(b"/v1/models", ORIGIN, wanted, odd, method=b"OPTIONS")))[0] in (
        204,
        400,
    )


@pytest.mark.parametrize("coding", [b"gzip", b"br, identity", b"GZIP"])
async def test_a_compressed_body_is_a_415(
    open_gateway: OpenGateway, new_pod: NewPod, coding: bytes
) -> None:
    server = await open_gateway(await new_pod())
    status, headers, body = await send(server, post(b"content-encoding: %s\r\n" % coding))
    assert (status, json.loads(body)["error"]["code"]) == (415, "content_encoding")
    assert headers["accept-encoding"] == ["identity"]
    assert (await send(server, post(b"content-encoding: identity\r\n")))[0] == 200


async def test_a_length_with_thousands_of_zeros_is_a_number(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def padded(conversation: Conversation) -> None:
        length = b"0" * 5000 + b"2"
        conversation.write(b"HTTP/1.1 200 OK\r\ncontent-length: %s\r\n\r\n{}" % length)

    server = await open_gateway(await new_pod(padded))
    request = post().replace(b"content-length: ", b"content-length: " + b"0" * 5000)
    status, _, body = await send(server, request)
    assert (status, body) == (200, b"{}")


async def test_values_of_a_body_reach_the_engine_unchanged(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod)
    body = b'{"seed":123456789012345678901234567890,"model":"default/m","t":1.10,"x":"\\u00e9"}'
    assert (await send(server, post(body=body)))[0] == 200
    received = pod.requests[0].body
    assert json.loads(received)["model"] == "m"
    for part in (b"123456789012345678901234567890", b"1.10", b'"\\u00e9"'):
        assert part in received


async def test_only_the_content_type_makes_an_answer_a_stream(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def mentions_streams(conversation: Conversation) -> None:
        conversation.write(
            b"HTTP/1.1 200 OK\r\nx-accepts: text/event-stream\r\ncontent-type: application/json\r\n"
            b"content-length: 100\r\n\r\n{"
        )
        conversation.die()

    server = await open_gateway(await new_pod(mentions_streams))
    assert (await send(server, post()))[0] == 502  # a plain answer is held until it is complete


async def test_event_streams_disable_buffering_in_proxies(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def stream(conversation: Conversation) -> None:
        given = conversation.request.headers.get("x-cache")
        conversation.start_stream(*([f"cache-control: {given}"] if given else []))
        conversation.end_stream()

    server = await open_gateway(await new_pod(stream))
    body = b'{"model":"m","stream":true}'
    _, headers, _ = await send(server, post(body=body))
    assert headers["x-accel-buffering"] == ["no"]
    assert headers["cache-control"] == ["no-cache"]
    _, headers, _ = await send(server, post(b"x-cache: no-store\r\n", body=body))
    assert headers["cache-control"] == ["no-store"]
    _, headers, _ = await send(server, get(b"/v1/models"))
    assert "x-accel-buffering" not in headers
