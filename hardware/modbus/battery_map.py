"""The holding registers of peerwatt's plain battery, shared by its emulator and its client.

==========  ======  ========  =======================================================================================
register    type    access    meaning
==========  ======  ========  =======================================================================================
0-1         int32   write     power set-point [W], positive charges; written as a pair
2-3         uint32  read      energy stored [Wh]
4-5         uint32  read      energy charged since the start, at the AC terminals [Wh]
6-7         uint32  read      energy discharged since the start, at the AC terminals [Wh]
8           uint16  write     seconds to advance: writing N lets N seconds of simulated time pass before the reply
9           uint16  read      status: 1 ready, 2 fault
10-11       uint32  read      simulated seconds that have passed since the start
12-13       ASCII   read      ``PWB1``: this map, version 1
14-21       ASCII   read      serial number, 16 characters, padded with blanks
==========  ======  ========  =======================================================================================

Register 8 is the zero-latency profile: the device has no clock of its own, so that a paced run and a virtual one see
the same physics. Registers 10-11 tell whether an advance was carried out when its reply was lost.
"""

from __future__ import annotations

SET_POINT = 0
STORED = 2
CHARGED = 4
DISCHARGED = 6
ADVANCE = 8
STATUS = 9
SECONDS = 10
MARK = 12
SERIAL = 14
END = 22

MARK_TEXT = "PWB1"
SERIAL_CHARS = 2 * (END - SERIAL)


def text_words(text: str, n_words: int) -> list[int]:
    """ASCII in registers, two characters each, padded with blanks."""
    data = text.ljust(2 * n_words)[: 2 * n_words].encode("ascii", "replace")
    return [data[i] * 256 + data[i + 1] for i in range(0, len(data), 2)]


def words_text(words: list[int]) -> str:
    """The text in registers, without its padding."""
    data = b"".join(word.to_bytes(2, "big") for word in words)
    return data.decode("ascii", "replace").rstrip()
