"""Whatever comes in, the emulator answers with a PDU of the standard, stays in step, and stores nothing by accident."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.emulator.faults import FaultBoard
from hardware.emulator.mbap import BadFrame, MbapReader, mbap_frame
from hardware.emulator.pdu import execute
from hardware.emulator.rtu import RtuReader, rtu_frame
from hardware.emulator.server_core import Units
from tests.hardware.emulator.wire_rig import Toy

NAMES = {0: "peer", 1: "watt", 2: "1", 0x90: "z" * 300}
functions = st.sampled_from([1, 3, 4, 6, 16, 22, 23, 43, 99])
near = st.sampled_from([b"", b"\x9c\x40", b"\x9c\xff", b"\x9d\x07", b"\x0e\x01", b"\x0e\x03", b"\xff\xff"])
pdus = st.builds(
    lambda function, head, rest: bytes((function,)) + head + rest, functions, near, st.binary(max_size=260)
)


@settings(max_examples=400, deadline=None)
@given(pdus)
def test_any_request_has_an_answer_of_the_standard(pdu):
    device = Toy(identification=NAMES)
    answer = execute(device, pdu)
    assert 2 <= len(answer) <= 253
    if answer[0] & 0x80:
        assert answer[0] == (pdu[0] | 0x80) and answer[1] in {1, 2, 3}
        assert not device.written or pdu[0] == 23  # a write that is followed by a read which is refused
    else:
        assert answer[0] == pdu[0]
        if pdu[0] in {3, 4, 23}:
            assert answer[1] == len(answer) - 2
    assert len(device.words) == 200 and all(0 <= word <= 0xFFFF for word in device.words)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_stream_is_read_or_refused(chunks):
    units = Units([Toy()], FaultBoard(), "exception", lambda: 0.0)
    reader, line = MbapReader(), RtuReader()
    try:
        for chunk in chunks:
            for request in reader.feed(chunk):
                assert request.raw == mbap_frame(request.transaction, request.unit, request.pdu)
                assert units.quick(request) or units.plan(request)
    except BadFrame:
        pass
    for chunk in chunks:
        for request in line.feed(chunk) + line.silence()[0]:
            assert request.raw == rtu_frame(request.unit, request.pdu)
    assert not line.waiting


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.binary(min_size=1, max_size=40)), max_size=8), st.data())
def test_requests_come_out_as_they_went_in_however_they_are_cut(requests, data):
    stream = b"".join(mbap_frame(n, unit, pdu) for n, (unit, pdu) in enumerate(requests))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader, found = MbapReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert [(one.transaction, one.unit, one.pdu) for one in found] == [(n, *one) for n, one in enumerate(requests)]
