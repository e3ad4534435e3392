"""Post to an address that a user gave, and be led nowhere else.

The name is resolved once, every address of it is judged, and the connection goes to a judged one:
a name that changes its mind in between changes nothing. Redirects are not followed, proxies are
not asked, and one moment bounds all of it, the resolver included.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import SplitResult, urlsplit

from longtake import __version__
from longtake.core.errors import LongtakeError

SECONDS: Final = 10.0  # for the whole of it
MOST: Final = 64 << 10  # bytes of an answer that are read
_MOST_ADDRESSES = 4  # of one name that are tried
_MOST_URL = 2000  # characters
_NAME = re.compile(
    r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)

# https://www.iana.org/assignments/iana-ipv4-special-registry, iana-ipv6-special-registry
_CLOSED: Final = {
    "0.0.0.0/8": "unspecified",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "of a provider's inside",
    "127.0.0.0/8": "this machine's own",
    "168.63.129.16/32": "a cloud's own",  # public by its number, yet every guest of Azure sees it
    "169.254.0.0/16": "link-local",  # a cloud's metadata among them
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "reserved",
    "192.88.99.0/24": "reserved",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "reserved",
    "198.51.100.0/24": "reserved",
    "203.0.113.0/24": "reserved",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
    "::/128": "unspecified",
    "::1/128": "this machine's own",
    "2001::/23": "reserved",  # Teredo among them
    "2001:db8::/32": "reserved",
    "2002::/16": "a way to another one (6to4)",
    "3fff::/20": "reserved",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
}
_GLOBAL = "2000::/3"  # all other addresses of version 6 are not in use
_NAT64 = "64:ff9b::/96"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[..., Sequence[tuple[Any, ...]]]
"""Like socket.getaddrinfo."""


class Refused(LongtakeError):
    """This address may not be called."""

    exit_code = 2


class NoAnswer(LongtakeError):
    """The host gave no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    text: str
    """At most 64 KiB; less where the rest did not come in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    host: str  # in small letters, without the dot at the end
    port: int
    path: str  # with the query
    tls: bool
    allowed: bool  # by an administrator: it may be anywhere

    @property
    def header(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def check(url: str, allow: frozenset[str] | None = frozenset()) -> Target:
    """Judge what can be seen without asking anyone. `allow`: hosts that may be http, on any port
    and at private addresses; None: any host, only the writing is judged. Raises Refused."""
    parts, port = _split(url)
    host = (parts.hostname or "").removesuffix(".")
    literal = _literal(host)
    if not literal and not _NAME.fullmatch(host):
        raise Refused(f"{host or 'It'} is no name of a host.")
    tls, allowed = parts.scheme == "https", allow is None or host in allow
    if parts.scheme not in ("https", "http") or not (tls or allowed):
        raise Refused(f"{host} is called by https only. {_TO_ALLOW}")
    port = (443 if tls else 80) if port is None else port
    if (not allowed and port not in (80, 443) and port < 1024) or port == 0:
        raise Refused(f"Port {port} of {host} belongs to another service. {_TO_ALLOW}")
    if literal and not allowed:
        _judge(host, literal)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(host=host, port=port, path=path, tls=tls, allowed=allowed)


_TO_ALLOW = "An administrator can allow the host."


def _split(url: str) -> tuple[SplitResult, int | None]:
    if len(url) > _MOST_URL:
        raise Refused(f"It has {len(url)} characters; {_MOST_URL} are the most.")
    if any(not "!" <= letter <= "~" or letter == "\\" for letter in url):
        raise Refused("It has blanks, backslashes or letters outside ASCII; encode them.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Refused(f"It is no address of the web: {error}.") from None
    if "@" in parts.netloc:
        raise Refused("It has a user's name in it; leave out what stands before the @.")
    return parts, port


def _literal(host: str) -> Address | None:
    """An address written as such, also in one of the old spellings: 2130706433, 0x7f.1."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _judge(host: str, address: Address) -> None:
    """Raises Refused where the address is not public. It is not named: who may not go to the inner
    network is not told about it either."""
    if why := closed(address):
        raise Refused(f"{host} leads to an address that is {why}. {_TO_ALLOW}")


def closed(address: Address) -> str | None:
    """What kind of address it is, None where it is public."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inner(address)
        if inner is not None and (why := closed(inner)):
            return why
        if address.ipv4_mapped or address in ipaddress.ip_network(_NAT64):
            return None
    for network, why in _CLOSED.items():
        if address in ipaddress.ip_network(network):
            return why
    if address.version == 6 and address not in ipaddress.ip_network(_GLOBAL):
        return "reserved"
    return None


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The address of version 4 that this one stands for: mapped, NAT64, 6to4, ISATAP."""
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    isatap = (int(address) >> 32) & 0xFFFF_FFFF in (0x5EFE, 0x0200_5EFE)
    if isatap or address in ipaddress.ip_network(_NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


# --- the call ------------------------------------------------------------------------------------


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, allow: frozenset[str] = frozenset(),
    resolve: Resolve = socket.getaddrinfo, seconds: float = SECONDS,
) -> Answer:  # fmt: skip
    """Post and give the host's answer, whatever its status. Raises Refused before any connection
    is made, NoAnswer where no status came within `seconds`."""
    target, end = check(url, allow), time.monotonic() + seconds
    try:
        with contextlib.closing(_line(target, _addresses(target, resolve, end), end)) as line:
            return _exchange(line, target, body, headers)
    except ssl.SSLCertVerificationError as error:
        raise NoAnswer(
            f"The certificate of {target.host} is not trusted: {error.verify_message}."
        ) from None
    except TimeoutError:
        raise NoAnswer(f"{target.host} took longer than {seconds:g} s.") from None
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"{target.host}: {str(error) or type(error).__name__}.") from None


def _addresses(target: Target, resolve: Resolve, end: float) -> list[Address]:
    """Where the name leads, asked once; raises Refused where one address of it is not public."""
    found = _within(lambda: resolve(target.host, target.port, type=socket.SOCK_STREAM), _left(end))
    addresses = [ipaddress.ip_address(row[4][0]) for row in found]
    if not addresses:
        raise OSError("the name leads nowhere")
    for address in addresses:
        if not target.allowed:
            _judge(target.host, address)
    return list(dict.fromkeys(addresses))[:_MOST_ADDRESSES]


def _within(
    call: Callable[[], Sequence[tuple[Any, ...]]], seconds: float
) -> Sequence[tuple[Any, ...]]:
    """A resolver has no time-out of its own: the thread is left alone when it takes too long."""
    box: queue.SimpleQueue[Sequence[tuple[Any, ...]] | OSError] = queue.SimpleQueue()

    def run() -> None:
        try:
            box.put(call())
        except OSError as error:
            box.put(error)
        except ValueError as error:
            box.put(OSError(str(error)))

    threading.Thread(target=run, name="resolve", daemon=True).start()
    try:
        found = box.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, OSError):
        raise found
    return found


def _left(end: float) -> float:
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


class _Line(io.RawIOBase):
    """A connection whose reading and writing ends at one moment, however slowly bytes come."""

    def __init__(self, connected: socket.socket, end: float) -> None:
        self._socket, self._end = connected, end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(_left(self._end))
        return self._socket.recv_into(buffer)

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._socket.settimeout(_left(self._end))
            rest = rest[self._socket.send(rest) :]

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        self._socket.close()
        super().close()


def _line(target: Target, addresses: list[Address], end: float) -> _Line:
    connected = _connect(target.port, addresses, end)
    try:
        if target.tls:
            connected.settimeout(_left(end))
            context = ssl.create_default_context()
            connected = context.wrap_socket(connected, server_hostname=target.host)
    except (OSError, ValueError):
        connected.close()
        raise
    return _Line(connected, end)


def _connect(port: int, addresses: list[Address], end: float) -> socket.socket:
    """To the first address that takes it; each has its share of the time that is left."""
    failed: OSError = TimeoutError()
    for number, address in enumerate(addresses):
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        line = socket.socket(family, socket.SOCK_STREAM)
        try:
            line.settimeout(_left(end) / (len(addresses) - number))
            line.connect((str(address), port))
            return line
        except OSError as error:
            line.close()
            failed = error
    raise failed


def _exchange(line: _Line, target: Target, body: bytes, headers: Mapping[str, str]) -> Answer:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = cast(Any, line)
    ours = {
        "Host": target.header,
        "User-Agent": f"longtake/{__version__}",
        "Connection": "close",
    }
    connection.request("POST", target.path, body, {**headers, **ours})
    with http.client.HTTPResponse(cast(Any, line), method="POST") as response:
        response.begin()
        return Answer(status=response.status, text=_text(response))


def _text(response: http.client.HTTPResponse) -> str:
    """The status has come, so the answer counts: what is wrong with the rest only cuts it."""
    got = b""
    with contextlib.suppress(OSError, http.client.HTTPException):
        while len(got) < MOST and (block := response.read1(MOST - len(got))):
            got += block
    return got.decode("utf-8", "replace")
