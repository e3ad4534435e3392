"""Posting to foreign addresses: nothing inside is reached, and no answer takes for ever."""

from __future__ import annotations

import contextlib
import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.service.outbound import MOST, Answer, NoAnswer, Refused, check, closed, post

Serve = Callable[[socket.socket], None]


class Listener:
    """A real one, that counts who connects."""

    def __init__(self, serve: Serve, address: str = "127.0.0.1", tls: Any = None) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.create_server((address, 0), family=family)
        self.port = int(self.socket.getsockname()[1])
        self.connections = 0
        self.said = b""
        self._serve, self._tls = serve, tls
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self.socket.accept()
                self.connections += 1
                with contextlib.suppress(OSError), line:
                    line.settimeout(5)
                    if self._tls:
                        line = self._tls.wrap_socket(line, server_side=True)
                    with line:
                        self.said = b""
                        while not self.said.endswith(b"\r\n\r\n{}"):
                            if not (block := line.recv(65536)):
                                break
                            self.said += block
                        self._serve(line)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self._thread.join(5)


def says(text: bytes) -> Serve:
    return lambda line: line.sendall(text)


OK = says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere")


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    open_: list[Listener] = []

    def make(*args: Any, **more: Any) -> Listener:
        open_.append(Listener(*args, **more))
        return open_[-1]

    yield make
    for listener in open_:
        listener.close()


def leads_to(*answers: list[str]) -> Callable[..., list[tuple[Any, ...]]]:
    """A resolver with another answer each time; the last one stays."""
    left = list(answers)

    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        resolve.asked += 1  # type: ignore[attr-defined]
        found = left.pop(0) if len(left) > 1 else left[0]
        return [(0, 0, 0, "", (address, port)) for address in found]

    resolve.asked = 0  # type: ignore[attr-defined]
    return resolve


def send(url: str, **more: Any) -> Answer:
    return post(url, b"{}", {"Content-Type": "application/json"}, **more)


INSIDE = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16", "198.18.0.1", "224.0.0.1",
    "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
    "fec0::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1",
    "2002:7f00:1::", "2002:0a00:0001::1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::10.0.0.1", "2001:0:7f00:1::80ff:fffe", "2001:db8::1", "2a00:1::5efe:10.0.0.1",
    "3fff::1", "5f00::1", "100::1",
]  # fmt: skip
SPELLINGS = ["2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.1", "0",
             "127.0.0.1.", "[::1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "[::]",
             "localhost"]  # fmt: skip


def test_nothing_inside_is_reached(listen) -> None:
    here, six = listen(OK), None
    with contextlib.suppress(OSError):
        six = listen(OK, "::1")
    for listener in filter(None, (here, six)):
        for spelling in SPELLINGS:
            with pytest.raises(Refused):
                send(f"https://{spelling}:{listener.port}/")
        for address in INSIDE:
            for found in ([address], ["93.184.216.34", address], [address, "93.184.216.34"]):
                with pytest.raises(Refused) as refused:
                    send(f"https://name.example:{listener.port}/", resolve=leads_to(found))
                assert address not in str(refused.value)
    assert here.connections == 0
    assert six is None or six.connections == 0


def test_what_is_public_may_be_reached() -> None:
    for address in ("93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1",
                    "64:ff9b::1.1.1.1", "172.32.0.1", "100.128.0.1"):  # fmt: skip
        assert closed(ipaddress.ip_address(address)) is None, address


@given(st.ip_addresses())
def test_no_address_is_more_open_than_the_library_says(address) -> None:
    """It may be less: the library calls some reserved networks global."""
    six = isinstance(address, ipaddress.IPv6Address)
    inner = address.ipv4_mapped if six else None
    nat64 = six and address in ipaddress.ip_network("64:ff9b::/96")
    if closed(address) is None and not inner and not nat64:
        assert address.is_global
        assert not address.is_multicast
    if not six:
        for form in (f"::ffff:{address}", f"64:ff9b::{address}"):
            assert closed(ipaddress.ip_address(form)) == closed(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "file:///etc/passwd", "//example.com/", "",
        "https://", "https:///x", "https://ann:word@example.com/", "https://example.com@10.0.0.1/",
        "https://example.com:22/", "https://example.com:25/", "https://example.com:0/",
        "https://example.com:99999/", "https://example.com:x/", "https://exa mple.com/",
        "https://example.com/\r\nHost: x", "https://example.com\\@10.0.0.1/", "https://a..b/",
        "https://①②⑦.⓪.⓪.①/", "https://[::1/", "https://[fe80::1%25eth0]/", "https://-x/",
        "https://example.com/" + "a" * 2000, "javascript:alert(1)",
    ],
)  # fmt: skip
def test_only_plain_addresses_of_the_web_are_taken(url) -> None:
    never = leads_to([])
    with pytest.raises(Refused):
        send(url, resolve=never)
    assert never.asked == 0


def test_an_allowed_host_is_reached_where_it_is(listen) -> None:
    here = listen(OK)
    allow = frozenset({"n8n.lan", "127.0.0.1"})
    answer = send(
        f"http://N8N.lan:{here.port}/hook?a=1#x", allow=allow, resolve=leads_to(["127.0.0.1"])
    )
    assert answer == Answer(status=200, text="there")
    head = here.said.decode()
    assert head.startswith("POST /hook?a=1 HTTP/1.1\r\n")
    assert f"\r\nHost: n8n.lan:{here.port}\r\n" in head
    assert head.endswith("\r\n\r\n{}")
    assert send(f"http://127.0.0.1:{here.port}", allow=allow).status == 200
    assert check("http://n8n.lan:25/", allow).port == 25
    with pytest.raises(Refused):
        send(f"http://other.lan:{here.port}/", allow=allow, resolve=leads_to(["127.0.0.1"]))
    with pytest.raises(Refused):
        send(f"https://n8n.lan.evil:{here.port}/", allow=allow, resolve=leads_to(["127.0.0.1"]))


def test_a_redirect_is_an_answer_and_no_proxy_is_asked(listen, monkeypatch) -> None:
    inside = listen(OK)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{inside.port}")
    to = f"http://127.0.0.1:{inside.port}/".encode()
    for status in (301, 302, 303, 307, 308):
        text = b"HTTP/1.1 %d Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, to)
        outside = listen(says(text))
        url = f"http://allowed:{outside.port}/"
        found = send(url, allow=frozenset({"allowed"}), resolve=leads_to(["127.0.0.1"]))
        assert found.status == status
        assert outside.connections == 1
    assert inside.connections == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """Of name.example, signed by itself; key and certificate in one file."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=name.example", "-addext",
         "subjectAltName=DNS:name.example", "-keyout", folder / "key", "-out", folder / "cert"],
        check=True, capture_output=True,
    )  # fmt: skip
    both = folder / "both.pem"
    both.write_bytes((folder / "key").read_bytes() + (folder / "cert").read_bytes())
    return both


def test_a_name_that_changes_its_mind_is_followed_only_once(
    listen, certificate, monkeypatch
) -> None:
    """Public when it is judged, inside ever after: the connection goes to what was judged."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    names: list[str] = []
    context.sni_callback = lambda _line, name, _context: names.append(str(name))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    public, inside = listen(OK, tls=context), listen(OK)
    went: list[tuple[str, int]] = []
    connect = socket.socket.connect

    def reroute(line: socket.socket, address: tuple[str, int]) -> None:
        went.append(address)
        known = {("93.184.216.34", 8443): public.port, ("127.0.0.1", 8443): inside.port}
        connect(line, ("127.0.0.1", known[address]))

    monkeypatch.setattr(socket.socket, "connect", reroute)
    flips = leads_to(["93.184.216.34"], ["127.0.0.1"])
    assert send("https://name.example:8443/", resolve=flips).text == "there"
    assert went == [("93.184.216.34", 8443)]
    assert names == ["name.example"]
    assert flips.asked == 1
    with pytest.raises(Refused):  # the second time it leads inside from the start
        send("https://name.example:8443/", resolve=flips)
    with pytest.raises(NoAnswer, match=r"certificate of other\.example"):
        send("https://other.example:8443/", resolve=leads_to(["93.184.216.34"]))
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(NoAnswer, match=r"certificate of name\.example"):
        send("https://name.example:8443/", resolve=leads_to(["93.184.216.34"]))
    assert inside.connections == 0


def _drip(text: bytes) -> Serve:
    def serve(line: socket.socket) -> None:
        for byte in text:
            line.sendall(bytes([byte]))
            time.sleep(0.05)

    return serve


def _endless(line: socket.socket) -> None:
    line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        line.sendall(b"x" * 65536)


def _headers(line: socket.socket) -> None:
    line.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        line.sendall(b"x: y\r\n" * 1000)


def _continue(line: socket.socket) -> None:
    while True:
        line.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def test_slow_and_endless_answers_are_cut(listen) -> None:
    more: dict[str, Any] = {"allow": frozenset({"127.0.0.1"}), "seconds": 0.5}

    def go(serve: Serve) -> Answer:
        began = time.monotonic()
        try:
            return send(f"http://127.0.0.1:{listen(serve).port}/", **more)
        finally:
            assert time.monotonic() - began < 8

    for bad in (lambda line: time.sleep(1), _drip(b"HTTP/1.1 200 OK\r\n" * 9), _continue):
        with pytest.raises(NoAnswer, match=r"longer than 0\.5 s"):
            go(bad)
    for bad in (_headers, says(b""), says(b"hello\r\n\r\n"), says(b"HTTP/1.1 9 x\r\n\r\n")):
        with pytest.raises(NoAnswer):
            go(bad)
    assert go(_endless) == Answer(status=200, text="x" * MOST)
    chunked = b"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nzz\r\n"
    assert go(says(chunked)) == Answer(status=500, text="hi")
    slow = go(lambda line: (line.sendall(b"HTTP/1.1 201 x\r\n\r\nsome"), _drip(b"." * 40)(line)))
    assert slow.status == 201  # the status has come: what is late is the rest
    assert slow.text.startswith("some.")
    with pytest.raises(NoAnswer, match="refused"):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        send(f"http://127.0.0.1:{port}/", **more)


def test_a_slow_or_failing_resolver_is_not_waited_for(listen) -> None:
    done = threading.Event()

    def slow(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        done.wait(5)
        return []

    with pytest.raises(NoAnswer, match="longer than"):
        send("https://name.example/", resolve=slow, seconds=0.2)
    done.set()

    def fails(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(NoAnswer, match="not known"):
        send("https://name.example/", resolve=fails)
    with pytest.raises(NoAnswer, match="nowhere"):
        send("https://name.example/", resolve=leads_to([]))


def test_the_next_address_is_tried(listen) -> None:
    here = listen(OK, "127.0.0.1")
    more = {"allow": frozenset({"n8n.lan"}), "resolve": leads_to(["127.0.0.2", "127.0.0.1"])}
    assert send(f"http://n8n.lan:{here.port}/", **more).status == 200
