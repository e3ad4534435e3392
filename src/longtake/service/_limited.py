"""What runs inside the throw-away child of `sandbox`: it binds its own hands, then works.

As a script with `LIMITS ARGV...` it sets the limits and becomes ARGV; `-m` with a file's name
describes that file, and with `still WIDTH SECONDS NAME` it gives a small picture of it. Only the
standard library is imported at the top: nothing of a stranger's file has been touched when the
limits are set. A limit that the platform lacks is left out.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import struct
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

# --- limits of the process -----------------------------------------------------------------------

_GRACE = 2  # s of processor time between the signal that may be handled and the one that may not


def _limit(limits: dict[str, int]) -> None:
    """Hard limits of the kernel, handed down to whatever this process becomes."""
    if os.name != "posix":
        return
    import resource

    seconds = limits["seconds"]
    wanted = {
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_FSIZE": (limits["written"], limits["written"]),
        "RLIMIT_NOFILE": (limits["files"], limits["files"]),
        "RLIMIT_CPU": (seconds, seconds + _GRACE),
        "RLIMIT_AS": (limits["memory"], limits["memory"]),
    }
    if not limits["threads"]:  # counts all of this user's: only "no more" means something
        wanted["RLIMIT_NPROC"] = (0, 0)
    for name, (soft, hard) in wanted.items():
        number = getattr(resource, name, None)
        if number is not None:
            with contextlib.suppress(OSError, ValueError):  # the limit above is lower already
                resource.setrlimit(number, (soft, hard))


# --- Linux: what the standard library has no words for -------------------------------------------

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x08000000, 0x10000000, 0x40000000
_SIGKILL = 9


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _detach(libc: ctypes.CDLL) -> None:
    """No network and no shared memory of others, where that is permitted.

    A user that has no name in the new namespace loses every capability at the next exec.
    """
    own = _CLONE_NEWNET | _CLONE_NEWIPC
    if not (_needs_no_privilege() and libc.unshare(_CLONE_NEWUSER | own) == 0):
        libc.unshare(own)


def _needs_no_privilege() -> bool:
    """Whether root reaches the folder, Python and this package as any owner would."""
    if os.geteuid() != 0:
        return True
    python = Path(sys.executable)
    needed = (Path.cwd() / "file", python, python.resolve(), Path(__file__).resolve())
    abouts = [folder.stat() for place in needed for folder in place.parents]
    return all(about.st_uid == 0 or about.st_mode & 0o001 for about in abouts)


def _die_with(parent: int, libc: ctypes.CDLL) -> None:
    libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before the line above
        os._exit(1)


# --- Linux: system calls that are refused --------------------------------------------------------

_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
_X32 = 0x40000000  # from here on the same calls come again, by other numbers
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050001, 0x80000000  # refuse: EPERM
_UNKNOWN = 0x00050026  # ENOSYS: libc then takes the older call
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _MACHINE, _FIRST = 0, 4, 16  # offsets in struct seccomp_data
_CLONE_THREAD = 0x00010000

_CALLS = {  # name: (x86_64, aarch64)
    "socket": (41, 198), "connect": (42, 203), "fork": (57, None), "vfork": (58, None),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "io_uring_setup": (425, 425), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "unshare": (272, 97), "setns": (308, 268),
    "mount": (165, 40), "shmget": (29, 194), "setpriority": (141, 140), "setpgid": (109, 154),
    "setsid": (112, 157), "sched_setaffinity": (203, 122), "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119), "sched_setattr": (314, 274), "ioprio_set": (251, 30),
    "migrate_pages": (256, 238), "move_pages": (279, 239), "process_madvise": (440, 440),
}  # fmt: skip
_PROGRAMS = {"execve": (59, 221), "execveat": (322, 281)}
_ON_SELF_ONLY = {"tgkill": (234, 131), "prlimit64": (302, 261)}  # abort() and getrlimit need them
_CLONE, _CLONE3, _PRCTL = (56, 220), (435, 435), (157, 167)


def _filter(libc: ctypes.CDLL, *, threads: bool, programs: bool) -> None:
    """Refuse processes, sockets and whatever reaches into others; seccomp(2).

    `threads`: further threads may be started. `programs`: this process may become another program.
    """
    column = list(_MACHINES).index(platform.machine()) if platform.machine() in _MACHINES else None
    if column is None or sys.byteorder != "little":
        return
    code = b"".join(_instructions(column, threads=threads, programs=programs))
    kept = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("@HP", len(code) // 8, ctypes.addressof(kept))
    libc.prctl(_PR_SET_SECCOMP, 2, ctypes.c_char_p(head), 0, 0)


def _instructions(column: int, *, threads: bool, programs: bool) -> Iterator[bytes]:
    yield _step(_LOAD, _MACHINE)
    yield _step(_EQUAL, list(_MACHINES.values())[column], 1, 0)
    yield _step(_RETURN, _KILL)
    yield _step(_LOAD, _NUMBER)
    yield _step(_AT_LEAST, _X32, 0, 1)
    yield _step(_RETURN, _REFUSE)
    for numbers in (_CALLS if programs else _CALLS | _PROGRAMS).values():
        number = numbers[column]
        if number is not None:
            yield _step(_EQUAL, number, 0, 1) + _step(_RETURN, _REFUSE)
    yield _step(_EQUAL, _CLONE3[column], 0, 1) + _step(_RETURN, _UNKNOWN)
    yield from _if(_CLONE[column], _step(_ANY_BIT, _CLONE_THREAD if threads else 0, 1, 0))
    yield from _if(_PRCTL[column], _step(_EQUAL, _PR_SET_PDEATHSIG, 0, 1))
    for numbers in _ON_SELF_ONLY.values():
        own = _step(_EQUAL, os.getpid(), 2, 0) + _step(_EQUAL, 0, 1, 0)
        yield from _if(numbers[column], own)
    yield _step(_RETURN, _ALLOW)


def _if(number: int, test: bytes) -> Iterator[bytes]:
    """Refuse the call unless the test of its first argument jumps over the refusal."""
    body = _step(_LOAD, _FIRST) + test + _step(_RETURN, _REFUSE) + _step(_RETURN, _ALLOW)
    yield _step(_EQUAL, number, 0, len(body) // 8) + body


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction: struct sock_filter."""
    return struct.pack("=HBBI", code, if_true, if_false, value)


# --- Linux: files that may be opened -------------------------------------------------------------

_RULESET, _ADD_RULE, _RESTRICT = 444, 445, 446  # system calls; the same on every machine
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # version: how many rights on files it knows
_NEWEST = max(_RIGHTS)


def _close_files(libc: ctypes.CDLL, path: Path) -> None:
    """From here on only `path` and Python's own libraries can be opened, to read; landlock(7)."""
    version = libc.syscall(_RULESET, None, 0, 1)
    if version < 1:
        return
    rights = (1 << _RIGHTS[min(version, _NEWEST)]) - 1
    ports = 3 if version >= 4 else 0  # bind and connect of TCP
    scopes = 3 if version >= 6 else 0  # signals and abstract sockets
    wanted = struct.pack("=QQQ", rights, ports, scopes)
    wanted = wanted[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = libc.syscall(_RULESET, ctypes.c_char_p(wanted), len(wanted), 0)
    if rules < 0:
        return
    for place in (str(path), *sys.path):
        with contextlib.suppress(OSError):  # not there: then nobody opens it
            handle = os.open(place, getattr(os, "O_PATH", 0))
            may = _READ_FILE | (_READ_FOLDER if os.path.isdir(place) else 0)
            libc.syscall(_ADD_RULE, rules, 1, ctypes.c_char_p(struct.pack("=Qi", may, handle)), 0)
            os.close(handle)
    libc.syscall(_RESTRICT, rules, 0)
    os.close(rules)


# --- the programs ---------------------------------------------------------------------------------


def _become(limits: dict[str, int], argv: list[str]) -> None:
    """Give up what the limits say, then be another program; the limits stay."""
    libc = _libc()
    if libc is not None:
        _detach(libc)
        _die_with(limits["parent"], libc)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _filter(libc, threads=bool(limits["threads"]), programs=True)
    _limit(limits)
    os.execv(argv[0], argv)


def _describe(path: Path) -> bytes:
    """What `probe` says of the file, or why it refuses it: a line of JSON."""
    from longtake.core.plain import to_plain
    from longtake.media.probe import probe

    return _answer(path, lambda: _line({"info": to_plain(probe(path))}))


def _still(path: Path, width: int, at: Fraction | None) -> bytes:
    """A line of JSON with the size of the picture, then its pixels; or why there is none."""
    from longtake.media.thumbnail import picture

    def work() -> bytes:
        pixels = picture(path, width, at)
        return _line({"height": pixels.shape[0], "width": pixels.shape[1]}) + pixels.tobytes()

    return _answer(path, work)


def _answer(path: Path, work: Callable[[], bytes]) -> bytes:
    """What the work gives, done with both hands bound."""
    from longtake.core.errors import BadInput

    libc = _libc()
    if libc is not None:
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        _close_files(libc, path)
        _filter(libc, threads=False, programs=False)
    try:
        return work()
    except BadInput as error:
        return _line({"refused": error.detail})
    except MemoryError:
        return _line({"memory": True})


def _line(said: dict[str, object]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def main(argv: list[str]) -> None:
    if argv[0].startswith("{") and len(argv) > 1:
        _become(json.loads(argv[0]), argv[1:])
    elif len(argv) == 1:
        sys.stdout.buffer.write(_describe(Path(argv[0])))
    else:
        _, width, at, name = argv
        moment = Fraction(at) if at else None
        sys.stdout.buffer.write(_still(Path(name), int(width), moment))


if __name__ == "__main__":
    main(sys.argv[1:])
