"""Local sockets for this user alone: a folder of mode 0700 with a lock, and the kernel's word for who calls."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
from pathlib import Path

from core import ServiceError


def is_ours(writer: asyncio.StreamWriter) -> bool:
    """Whether the caller is this user, or root; the kernel says so."""
    peer: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in {os.getuid(), 0}


def own_folder(folder: Path, who: str) -> int:
    """Make the folder for this user alone and take the lock of ``who`` in it, which ends with the process.

    Raises
    ------
    ServiceError
        If the folder cannot be used or is open to others, or if another one holds the lock.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise ServiceError(
                f"{folder} is open to others", remedy="name a folder of this user alone (chmod 700) as socket_dir"
            )
        lock = os.open(folder / f"{who}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServiceError(f"{folder} cannot be used: {error.strerror}", remedy="name another socket_dir") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise ServiceError(f"a {who} already answers in {folder}", remedy="stop that one first") from error
    return lock
