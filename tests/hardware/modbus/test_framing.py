"""Frames and what is taken for an answer: nothing but the answer, whatever comes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DeviceError
from hardware.driver import Frame, Span
from hardware.modbus.line_pdu import answer_length, problem_of, read_pdu, words_of, write_pdu
from hardware.modbus.transport_framing import MbapFramer, RtuFramer, crc16, has_crc, with_crc
from tests.hardware.modbus.servers import words


@pytest.mark.parametrize(
    "span",
    [Span(0, 0), Span(0, 126), Span(-1, 1), Span(65536, 1), Span(65535, 2), Span(0, 1, 1), Span(0, 1, 6)],
    ids=str,
)
def test_a_read_that_no_device_can_be_asked_is_refused(span: Span) -> None:
    with pytest.raises(DeviceError, match="cannot be read") as refused:
        read_pdu(span)
    assert refused.value.local


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0, (70000,)),
        Frame(0, (-5,)),
        Frame(0, (1, 65536), 16),
        Frame(0, (0,) * 124),
        Frame(0, ()),
        Frame(0, (1, 2), 6),
        Frame(65535, (1, 2)),
        Frame(-1, (1,)),
        Frame(0, (True,)),
        Frame(0, (1.0,)),  # type: ignore[arg-type]
        Frame(0, (1,), 5),
    ],
    ids=lambda frame: str(frame)[:50],
)
def test_a_write_that_does_not_fit_is_refused_as_one_error(frame: Frame) -> None:
    with pytest.raises(DeviceError, match="cannot be written") as refused:
        write_pdu(frame)
    assert refused.value.local


def test_requests_are_those_of_the_standard() -> None:
    # The examples of sections 6.3, 6.6 and 6.12 of the protocol specification.
    assert read_pdu(Span(0x6B, 3)).hex() == "03006b0003"
    assert write_pdu(Frame(1, (3,), 6)).hex() == "0600010003"
    assert write_pdu(Frame(1, (0x0A, 0x0102))).hex() == "100001000204000a0102"
    answer = bytes.fromhex("0306022b00000064")
    assert problem_of(read_pdu(Span(0x6B, 3)), answer) == "" and words_of(answer) == (0x022B, 0, 0x64)


@pytest.mark.parametrize(
    ("request_pdu", "answer", "problem"),
    [
        ("0300000001", "8302", "exception 2"),
        ("0300000001", "836f", "no meaning known"),
        ("0300000001", "0402000a", "function 4 instead of 3"),
        ("0300000001", "9002", "function 144"),
        ("0300000001", "0302000a00", "5 bytes instead of 4"),
        ("0300000001", "0304000a", "byte count of 4"),
        ("0300000001", "", "function none"),
        ("0600010003", "0600010004", "acknowledged as"),
        ("100001000204000a0102", "1000010001", "acknowledged as"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_says_why(request_pdu: str, answer: str, problem: str) -> None:
    assert problem in problem_of(bytes.fromhex(request_pdu), bytes.fromhex(answer))


def test_checksums_are_those_of_the_standard() -> None:
    assert crc16(b"123456789") == 0x4B37  # the check value of CRC-16/MODBUS
    assert with_crc(bytes.fromhex("01030000000a")).hex() == "01030000000ac5cd"
    assert not has_crc(b"") and not has_crc(bytes.fromhex("01030000000ac5cc"))


def _answer(span: Span) -> bytes:
    return struct.pack(f">BB{span.count}H", span.function, 2 * span.count, *words(span))


def _mbap(tid: int, unit: int, pdu: bytes) -> bytes:
    return struct.pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu


def test_transaction_ids_go_round_and_leave_out_zero() -> None:
    framer = MbapFramer(next_id=65535)
    ids = []
    for _ in range(3):
        ids.append(int.from_bytes(framer.begin(1, b"\3\0\0\0\1")[:2], "big"))
        framer.end()
    assert ids == [65535, 1, 2]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_an_answer_is_found_among_others_however_it_is_cut(data: st.DataObject) -> None:
    span, unit = Span(100, 5), 7
    framer = MbapFramer(next_id=500)
    framer.begin(unit, read_pdu(span))
    other = st.tuples(st.integers(0, 65535), st.integers(0, 255), st.integers(1, 60)).filter(
        lambda o: o[:2] != (500, 7)
    )
    before = data.draw(st.lists(other, max_size=4))
    stream = b"".join(_mbap(tid, u, _answer(Span(9, n))) for tid, u, n in before) + _mbap(500, unit, _answer(span))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    found = [framer.feed(stream[a:b]) for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    answers = [each for each in found if each is not None]
    assert answers == [(_answer(span), _mbap(500, unit, _answer(span)))]
    assert framer.dropped == len(before) and not framer.damage


@given(st.lists(st.binary(max_size=300), max_size=8), st.sampled_from([Span(0, 1), Span(40000, 70), Span(5, 2, 4)]))
@settings(max_examples=150, deadline=None)
def test_random_bytes_never_raise_and_never_become_a_sample(chunks: list[bytes], span: Span) -> None:
    request = read_pdu(span)
    mbap, rtu = MbapFramer(next_id=0x1234), RtuFramer()
    for framer in (mbap, rtu):
        framer.begin(3, request)
        for chunk in chunks:
            found = framer.feed(chunk)
            if found is not None:  # then the bytes were a frame with our id and unit, or our checksum
                assert found[1] in b"".join(chunks)
                if isinstance(framer, MbapFramer):
                    assert found[1][:4] == b"\x12\x34\0\0" and found[1][6] == 3
                else:
                    assert has_crc(found[1])
                problem_of(request, found[0])
        framer.end()


@given(st.binary(max_size=250), st.integers(0, 65535))
@settings(max_examples=150, deadline=None)
def test_any_answer_is_either_a_problem_or_as_many_words_as_asked(body: bytes, count: int) -> None:
    span = Span(0, 1 + count % 125)
    answer = bytes((3, 2 * span.count)) + body
    if not problem_of(read_pdu(span), answer):
        assert len(words_of(answer)) == span.count


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400 Bad Request\r\n", b"\0\1\0\0\xff\xff\1\3", b"\0\1\0\0\0\0\1\3"],
    ids=["http", "long", "short"],
)
def test_what_is_no_header_damages_the_connection(garbage: bytes) -> None:
    framer = MbapFramer()
    framer.begin(1, read_pdu(Span(0, 1)))
    assert framer.feed(garbage) is None
    assert "no Modbus header" in framer.damage


def test_half_a_frame_left_behind_damages_the_connection() -> None:
    framer = MbapFramer()
    framer.begin(1, read_pdu(Span(0, 1)))
    assert framer.feed(_mbap(1, 1, _answer(Span(0, 1)))[:8]) is None
    framer.end()
    assert framer.damage == "a frame was left incomplete"


def _serial(unit: int, pdu: bytes) -> bytes:
    return with_crc(bytes((unit,)) + pdu)


@given(st.binary(max_size=20), st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_a_serial_answer_is_found_behind_noise_and_in_pieces(noise: bytes, size: int) -> None:
    span = Span(100, 3)
    framer = RtuFramer()
    framer.begin(9, read_pdu(span))
    stream = noise + _serial(9, _answer(span))
    found = [framer.feed(stream[n : n + size]) for n in range(0, len(stream), size)]
    assert [each for each in found if each] == [(_answer(span), _serial(9, _answer(span)))]


@pytest.mark.parametrize(
    "reply",
    [
        _serial(8, _answer(Span(100, 3))),
        _serial(9, _answer(Span(100, 4))),
        _serial(9, _answer(Span(100, 3, 4))),
        _serial(9, _answer(Span(100, 3)))[:-1] + b"\0",
        _serial(9, _answer(Span(100, 3)))[:-1],
    ],
    ids=["unit", "length", "function", "checksum", "truncated"],
)
def test_what_is_not_the_serial_answer_is_not_taken(reply: bytes) -> None:
    framer = RtuFramer()
    framer.begin(9, read_pdu(Span(100, 3)))
    assert framer.feed(reply) is None
    framer.end()
    assert framer.feed(_serial(9, _answer(Span(100, 3)))) is None  # nor anything after it was given up
    assert framer.dropped == 1


def test_an_echo_never_acknowledges_a_write() -> None:
    framer = RtuFramer()
    asked = framer.begin(9, read_pdu(Span(100, 3)))
    assert framer.feed(asked) is None
    assert framer.feed(_serial(9, _answer(Span(100, 3)))) is not None
    assert framer.echoes
    framer.end()
    write = framer.begin(9, write_pdu(Frame(5, (1,), 6)))  # whose true answer is the same bytes
    assert framer.feed(b"\0" + write) is None
    assert framer.feed(write) == (write[1:-2], write)
    framer.end()


def test_lengths_of_answers() -> None:
    assert answer_length(read_pdu(Span(0, 10))) == 22
    assert answer_length(write_pdu(Frame(0, (1, 2)))) == 5
