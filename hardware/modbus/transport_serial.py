"""A serial port as an asyncio transport: raw bytes, eight data bits, set by termios. Linux only."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import termios

from hardware.address import Address, SerialFormat


class SerialPort(asyncio.Transport):
    """An open serial port whose bytes go to ``protocol``."""

    def __init__(self, fd: int, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._fd = fd
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._unsent = b""
        self._loop.add_reader(fd, self._readable)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; what the port does not take at once follows when it can."""
        if self._fd < 0:
            return
        self._unsent += bytes(data)
        self._writable()

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self._fd < 0

    def close(self) -> None:
        """Close at once; what has not left is thrown away."""
        self._close(None)

    def abort(self) -> None:
        """Close at once."""
        self._close(None)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 4096)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._close(error)
            return
        if data:
            self._protocol.data_received(data)
        else:
            self._close(OSError(errno.EIO, "the port is gone"))

    def _writable(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._fd, self._unsent) :]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._close(error)
            return
        if self._unsent:
            self._loop.add_writer(self._fd, self._writable)
        else:
            self._loop.remove_writer(self._fd)

    def _close(self, error: Exception | None) -> None:
        if self._fd < 0:
            return
        fd, self._fd, self._unsent = self._fd, -1, b""
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        os.close(fd)
        self._loop.call_soon(self._protocol.connection_lost, error)


def open_serial(address: Address, protocol: asyncio.Protocol) -> SerialPort:
    """Open and set the port of an ``rtu`` address; nobody else can open it meanwhile (but root).

    Raises
    ------
    OSError
        If it is not there, not allowed, or no serial port.
    """
    assert address.serial is not None
    fd = os.open(address.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _set(fd, address.serial)
        fcntl.ioctl(fd, termios.TIOCEXCL)
        termios.tcflush(fd, termios.TCIOFLUSH)
        return SerialPort(fd, protocol)
    except termios.error as error:
        os.close(fd)
        raise OSError(error.args[0], f"{address.path} is no serial port: {error.args[1]}") from error
    except BaseException:
        os.close(fd)
        raise


def _set(fd: int, serial: SerialFormat) -> None:
    control = termios.CREAD | termios.CLOCAL | termios.CS8
    if serial.stop == 2:
        control |= termios.CSTOPB
    if serial.parity != "N":
        control |= termios.PARENB | (termios.PARODD if serial.parity == "O" else 0)
    speed: int = getattr(termios, f"B{serial.baud}")
    special = termios.tcgetattr(fd)[6]
    special[termios.VMIN], special[termios.VTIME] = 1, 0
    # TCSADRAIN, for which the C library does not insist that a pseudo terminal has a parity bit.
    termios.tcsetattr(fd, termios.TCSADRAIN, [0, 0, control, 0, speed, speed, special])
