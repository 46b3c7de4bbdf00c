"""The sandboxed process: it contains itself, then runs the program. `run_python` starts it; nothing imports it.

It reads the request as JSON from stdin. When it is contained, it writes the names of the active layers to the pipe
`begun`, which is closed before the program begins. After the program's last line it writes the secret to the pipe
`verdict`, or `memory` if memory ran out.
"""

import builtins
import ctypes
import json
import os
import resource
import signal
import struct
import sys
import types
from contextlib import suppress

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Contain this process, run the program, and write the secret if it ran to its end."""
    request = json.load(sys.stdin)
    secret, verdict = request["secret"].encode(), request["verdict"]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    layers = contain(request["home"], request["readable"], request["limits"])
    with open(os.__file__):  # fails here if the layers deny imports, which would make every program fail
        os.write(request["begun"], f"{' '.join(layers)}\n".encode())
    os.close(request["begun"])

    sys.argv = ["program"]
    sys.path[:] = [request["home"], *sys.path[1:], *request["packages"]]
    builtins.exit = builtins.quit = sys.exit  # normally defined by `site`, which is not loaded
    streams = sys.stdout, sys.stderr
    program = sys.modules["program"] = types.ModuleType("program")
    try:
        exec(compile(request["code"], "<program>", "exec"), program.__dict__)
    except MemoryError:
        os.write(verdict, b"memory")
        raise
    for stream in streams:
        with suppress(OSError, ValueError):  # closed by the program
            stream.flush()
    os.write(verdict, secret)
    os._exit(0)  # without waiting for its threads and exit handlers


def contain(home: str, readable: list[str], limits: dict[str, float]) -> list[str]:
    """Permanently give up everything that a program does not need. Returns the names of the active layers."""
    layers = ["limits"]
    limit_resources(limits)
    if sys.platform == "linux":
        drop_privileges()
        layers += ["landlock"] if restrict_files(home, readable) else []
        layers += ["seccomp"] if restrict_system_calls() else []
    if not {"landlock", "seccomp"}.issubset(layers):
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # no new processes or threads, except for root
        restrict_python(home)
        layers.append("audit")
    return layers


def limit_resources(limits: dict[str, float]) -> None:
    """Set the soft and hard limits that the kernel enforces."""
    seconds = limits["cpu_seconds"]
    bounds = {
        resource.RLIMIT_CPU: (seconds, seconds + 1),  # SIGXCPU, then SIGKILL
        resource.RLIMIT_AS: (limits["memory"],) * 2,
        resource.RLIMIT_FSIZE: (limits["file_size"],) * 2,
        resource.RLIMIT_NOFILE: (limits["open_files"],) * 2,
        resource.RLIMIT_CORE: (0, 0),
    }
    for which, bound in bounds.items():
        with suppress(ValueError, OSError):  # macOS does not limit address space; or a lower limit is set already
            resource.setrlimit(which, bound)


# Without seccomp or landlock: Python's audit hooks

FORBIDDEN = (
    "ctypes.", "fcntl.", "os.chflags", "os.chmod", "os.chown", "os.exec", "os.fork", "os.kill", "os.posix_spawn",
    "os.setxattr", "os.spawn", "os.startfile", "os.system", "os.utime", "pty.", "signal.pthread_kill", "socket.",
    "subprocess.",
)  # fmt: skip
CHANGES = {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def restrict_python(home: str) -> None:
    """Deny the same to Python's own calls: enough against mistakes, not against an attack."""

    def deny(event: str, arguments: tuple) -> None:
        if event == "open":
            changed = arguments[:1] if arguments[2] & WRITING else ()
        else:
            changed = arguments[:2] if event in CHANGES else ()
        paths = [os.path.realpath(os.fsdecode(each)) for each in changed if isinstance(each, str | bytes)]
        if event.startswith(FORBIDDEN) or any(not path.startswith((home, os.devnull)) for path in paths):
            raise PermissionError(f"not permitted here: {event}")

    sys.addaudithook(deny)


# Linux

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
SECCOMP_MODE_FILTER = 2


def drop_privileges() -> None:
    """Die with the thread that started this process, drop root's capabilities, and never gain privileges."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.capset(struct.pack("Ii", 0x20080522, 0), bytes(24))  # version 3; effective, permitted, inheritable: none
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


# Landlock: https://docs.kernel.org/userspace-api/landlock.html. The numbers are the same on all architectures.

LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
ACCESS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # number of access rights in each version of the interface; later 16
WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
TCP = 0b11  # bind, connect; from version 4
SCOPES = 0b11  # abstract sockets and signals reach only processes in the same sandbox; from version 6


def restrict_files(home: str, readable: list[str]) -> bool:
    """Allow everything below `home`, reading below `readable`, nothing elsewhere. Returns whether it is enforced."""
    version = libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    everything = (1 << ACCESS_RIGHTS.get(version, 16)) - 1
    versions = {1: everything, 4: TCP, 6: SCOPES}
    handled = b"".join(struct.pack("Q", bits) for first, bits in versions.items() if version >= first)
    ruleset = libc.syscall(LANDLOCK_CREATE_RULESET, handled, len(handled), 0)
    rights = dict.fromkeys(readable, READ_FILE | READ_DIR)
    rights |= {os.devnull: READ_FILE | WRITE_FILE, home: everything}
    for path, allowed in rights.items():
        with suppress(FileNotFoundError):
            beneath = os.open(path, os.O_PATH)
            allowed &= ~READ_DIR if not os.path.isdir(path) else everything
            libc.syscall(LANDLOCK_ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, beneath), 0)
            os.close(beneath)
    restricted = libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return restricted


# Seccomp: https://docs.kernel.org/userspace-api/seccomp_filter.html

MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # AUDIT_ARCH number; column of the table below
DENIED = {  # numbers of the system calls on x86-64 and ARM64; None if it does not exist there
    "network": {
        "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
        "io_uring_setup": (425, 425),
    },
    "processes": {
        "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
        "unshare": (272, 97), "setns": (308, 268),
    },
    "signals": {
        "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
        "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    },
    "other processes": {
        "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
        "pidfd_getfd": (438, 438), "setpriority": (141, 140), "ioprio_set": (251, 30),
        "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
        "sched_setattr": (314, 274),
    },
    "files, where Landlock does not look": {
        "truncate": (76, 45), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
        "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54),
        "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
        "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466),
        "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
        "inotify_init": (253, None), "inotify_init1": (294, 26), "fanotify_init": (300, 262),
    },
    "memory that limits do not count, that stays, or that others share": {
        "memfd_create": (319, 279), "memfd_secret": (447, 447), "add_key": (248, 217), "keyctl": (250, 219),
        "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
        "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
        "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    },
    "the kernel's inner workings, and these restrictions": {
        "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "prctl": (157, 167),
        "personality": (135, 92), "syslog": (103, 116),
    },
}  # fmt: skip
CLONE, CLONE3, KILL, TGKILL, PRLIMIT = (56, 220), (435, 435), (62, 129), (234, 131), (302, 261)
SOCKETPAIR, FCNTL, IOCTL = (53, 199), (72, 25), (16, 29)
CLONE_THREAD = 0x10000
AF_UNIX, SOCK_STREAM, SOCKET_TYPE = 1, 1, 0xF  # unlike datagram sockets, streams cannot send to other addresses
F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, FIOSETOWN, SIOCSPGRP = 8, 10, 15, 1024, 0x8901, 0x8902
ALL_BITS = 0xFFFFFFFF
X32 = 0x40000000  # bit that marks the system calls of x86-64's x32 ABI
EPERM, ENOSYS = 1, 38

LOAD, AND, EQUALS, AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06  # classic BPF instructions on 32-bit words
NUMBER, MACHINE, FIRST_ARGUMENT = 0, 4, 16  # byte offsets in struct seccomp_data; an argument's low half comes first
KILL_PROCESS, ERROR, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000


def restrict_system_calls() -> bool:
    """Deny the calls in `DENIED`, new processes, and signals to others. Returns whether the kernel enforces it."""
    machine = os.uname().machine
    if machine not in MACHINES:
        return False
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in build_filter(*MACHINES[machine]))
    instructions = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HP", len(program) // 8, ctypes.addressof(instructions))
    return libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, described, 0, 0) == 0


def build_filter(machine: int, column: int) -> list[tuple[int, int, int, int]]:
    """BPF instructions: (operation, instructions to skip if true, to skip if false, operand)."""
    denied = [numbers[column] for group in DENIED.values() for numbers in group.values()]
    instructions = [
        (LOAD, 0, 0, MACHINE),
        (EQUALS, 1, 0, machine),
        (RETURN, 0, 0, KILL_PROCESS),  # a call by the numbers of another architecture
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, ERROR | EPERM),
    ]
    for number in filter(None, denied):
        instructions += [(EQUALS, 0, 1, number), (RETURN, 0, 0, ERROR | EPERM)]
    instructions += [(EQUALS, 0, 1, CLONE3[column]), (RETURN, 0, 0, ERROR | ENOSYS)]  # libc then falls back to clone
    only, never = (1, 0), (0, 1)  # allow only this value, or all but this: instructions to skip if equal, and if not
    for numbers, argument, bits, rule, value in (
        (CLONE, 0, CLONE_THREAD, only, CLONE_THREAD),
        (KILL, 0, ALL_BITS, only, os.getpid()),
        (TGKILL, 0, ALL_BITS, only, os.getpid()),
        (PRLIMIT, 0, ALL_BITS, only, 0),  # 0 is the calling process
        (SOCKETPAIR, 0, ALL_BITS, only, AF_UNIX),
        (SOCKETPAIR, 1, SOCKET_TYPE, only, SOCK_STREAM),
        # These make the kernel send signals to any process, or keep others from opening a file.
        *((FCNTL, 1, ALL_BITS, never, command) for command in (F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE)),
        *((IOCTL, 1, ALL_BITS, never, command) for command in (FIOSETOWN, SIOCSPGRP)),
    ):
        instructions += [
            (EQUALS, 0, 5, numbers[column]),
            (LOAD, 0, 0, FIRST_ARGUMENT + 8 * argument),
            (AND, 0, 0, bits),
            (EQUALS, *rule, value),
            (RETURN, 0, 0, ERROR | EPERM),
            (LOAD, 0, 0, NUMBER),
        ]
    return [*instructions, (RETURN, 0, 0, ALLOW)]


if __name__ == "__main__":
    main()
