"""An example of every payload, for the documentation. A test holds them to their schemas."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_SLOT = "2016-06-01T12:15:00Z"
_AT = "2016-06-01T12:14:00.012500Z"
_NEWS = {"seq": 48211, "at": _AT}
_OWN = {**_NEWS, "market": "spot", "slot": _SLOT}

EXAMPLES: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "OrderRequest": {
        "key": "house-07-000123", "market": "spot", "slot": _SLOT, "side": "buy", "e_wh": 750, "price_u": 250_000,
    },
    "OrdersRequest": {
        "key": "house-07-000124", "market": "spot",
        "orders": [
            {"slot": _SLOT, "side": "sell", "e_wh": 300, "price_u": 120_000, "ref": "roof-1"},
            {"slot": _SLOT, "side": "sell", "e_wh": 200, "price_u": 180_000, "ref": "roof-2"},
        ],
    },
    "AmendRequest": {"key": "house-07-000125", "market": "spot", "order_id": "10482", "e_wh": 500},
    "CancelRequest": {"key": "house-07-000126", "market": "spot", "order_ids": ["10482"]},
    "MeterReport": {
        "key": "house-07-m-000031",
        "readings": [{"slot": _SLOT, "import_wh": 640, "export_wh": 0, "observed_at": "2016-06-01T12:30:02Z"}],
    },
    "ReceiptRequest": {"key": "house-07-r-17", "publication": 17, "status": "received"},
    "ParticipantStatus": {"state": "online"},
    "Ack": {
        "request": "orders", "status": "done", "key": "house-07-000123", "seq": 48211, "at": _AT,
        "results": [{"order_id": "10482"}],
    },
    "EngineStatus": {
        "state": "online", "version": "0.1.0", "run": "street-2016", "markets": ["spot"], "slot_s": 900,
        "currency": "EUR", "speed": 1.0,
    },
    "MarketNews": {**_NEWS, "market": "spot", "state": "running", "reason": ""},
    "SlotNews": {**_OWN, "state": "open", "gate": "2016-06-01T12:10:00Z"},
    "PriceNews": {
        **_OWN, "version": 1, "price_u": 183_333, "price_num": 550_000, "price_den": 3, "volume_wh": 4_200,
        "orders": 42,
    },
    "BookNews": {
        **_OWN, "buy": [{"price_u": 250_000, "e_wh": 750}],
        "sell": [{"price_u": 120_000, "e_wh": 300}, {"price_u": 180_000, "e_wh": 200}],
    },
    "TradeNews": {**_OWN, "e_wh": 300, "price_u": 180_000},
    "OrderNews": {**_OWN, "order_id": "10482", "status": "filled", "filled_wh": 750, "remaining_wh": 0},
    "ResultNews": {
        **_OWN, "bought_wh": 750, "sold_wh": 0, "paid_u": 137_500, "received_u": 0,
        "fills": [{"order_id": "10482", "e_wh": 750}],
    },
    "BillNews": {
        **_NEWS, "slot": _SLOT, "version": 1,
        "lines": {
            "local_bought": 137_500, "local_sold": 0, "retail_bought": 0, "retail_sold": -8_800, "network": 22_500,
            "levies": 15_000,
        },
        "total_u": 166_200, "import_wh": 640, "export_wh": 0, "quality": "good",
    },
    "TermsNews": {
        **_NEWS, "floor_u": 90_000, "ceiling_u": None, "refused_classes": [],
        "opted_out": [{"from": "2016-06-01T22:00:00Z", "to": "2016-06-02T04:00:00Z"}],
    },
    "EnvelopeNews": {
        **_NEWS,
        "rows": [
            {"from": _SLOT, "to": "2016-06-01T14:15:00Z", "import_w": 11_000, "export_w": 4_000, "publication": 17}
        ],
        "default": {"import_w": 5_000, "export_w": 1_500},
    },
    "SetPoints": {
        "slot": _SLOT, "at": _AT, "valid_until": "2016-06-01T12:30:00Z", "set_points": {"battery": -1_500},
        "source": "market",
    },
    "Home": {
        "at": _AT, "slot": "2016-06-01T12:00:00Z", "net_w": 2_560, "net_wh": 640, "import_wh": 640, "export_wh": 0,
        "bill_u": 166_200, "bill": 0.1662, "import_limit_w": 11_000, "export_limit_w": 4_000,
    },
    "DisputeNews": {**_NEWS, "dispute_id": "3", "slot": _SLOT, "state": "open"},
    "MembershipNews": {**_NEWS, "state": "joined", "from_slot": _SLOT, "reason": ""},
    "NetworkNews": {**_NEWS, "slot": _SLOT, "loss_wh": 38, "state": {"worst_v_pu": 0.974}},
    "SettledNews": {**_NEWS, "slot": _SLOT, "version": 1, "reason": "settled", "loss_wh": 38},
    "DeviceTelemetry": {
        "device": "bench-1", "building": "house-07", "at": _AT, "mode": "observe", "link": "up", "quality": "comm-fail",
        "readings": {
            "w": {"value": -5_000, "unit": "W", "quality": "good", "source_time": _AT, "reason": ""},
            "soc": {
                "value": None, "unit": "1/1000", "quality": "comm-fail", "source_time": _AT,
                "reason": "no answer within 0.5 s",
            },
        },
    },
})  # fmt: skip
