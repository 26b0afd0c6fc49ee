"""Where SunSpec puts things, copied by hand from the specification's model tables, nothing from files of ours.

Offsets count registers from a model's identifier. Base register 40000 holds ``SunS``; the models begin at 40002.
"""

from __future__ import annotations

from typing import Final

BASE: Final = 40_000
SUNS: Final = (0x5375, 0x6E53)
CHAIN: Final = BASE + 2
END: Final = 0xFFFF

# Lengths of the models that do not vary in length, as the specification prints them (without identifier and length).
LENGTHS: Final = {1: (65, 66), 103: (50,), 120: (26,), 121: (30,), 122: (44,), 123: (24,), 124: (24,), 701: (153,)}
LENGTHS_700: Final = {702: (50,), 703: (17,), 704: (65,), 713: (7,), 715: (7,), 802: (62,)}

# Model 1, common
MN, MD, VR, SN = 2, 18, 42, 50
# Model 103, three-phase inverter, integers and scale factors
A, A_A, A_SF = 2, 3, 6
V_A, V_SF = 10, 13
W, W_SF = 14, 15
HZ, HZ_SF = 16, 17
VA, VA_SF = 18, 19
STATE = 38
# Model 123, immediate controls
CONN_RVRT, CONN = 3, 4
LIM_PCT, LIM_RVRT, LIM_ENA, LIM_SF = 5, 7, 9, 23
# Model 704, controls of a distributed resource; timers and remainders are two registers
LIM_704_ENA, LIM_704_PCT, LIM_704_PCT_RVRT, LIM_704_ENA_RVRT = 14, 15, 16, 17
LIM_704_TMS, LIM_704_REM, LIM_704_SF = 18, 20, 54
WSET_ENA, WSET_MOD, WSET, WSET_RVRT, WSET_PCT, WSET_PCT_RVRT, WSET_ENA_RVRT = 22, 23, 24, 26, 28, 29, 30
WSET_TMS, WSET_REM = 31, 33

NAMES_704: Final = {
    LIM_704_ENA: "enable",
    LIM_704_PCT: "limit",
    LIM_704_PCT_RVRT: "fallback",
    LIM_704_ENA_RVRT: "fallback enable",
    LIM_704_TMS: "timer",
    LIM_704_TMS + 1: "timer",
}

EXPECTED_MODELS: Final = (
    1,
    103,
    120,
    121,
    122,
    123,
    124,
    160,
    701,
    702,
    703,
    704,
    705,
    706,
    711,
    712,
    713,
    714,
    715,
    802,
)


def signed(word: int) -> int:
    """A register as a signed number."""
    return word - 0x1_0000 if word >= 0x8000 else word


def wide(high: int, low: int) -> int:
    """Two registers as one unsigned number."""
    return high << 16 | low
