"""A whole outside bidder over HTTP: buys 500 Wh in every slot at no more than 0.25 per kWh, and says what it got.

    export PEERWATT_URL=http://127.0.0.1:8000 PEERWATT_KEY=pw_...
    python examples/bidder_http.py

Started again, it sends the same requests with the same idempotency keys: nothing is bought twice.
"""

from peerwatt.client import ApiProblem, Client

E_WH, PRICE_U = 500, 250_000  # 0.25 per kWh in micro-currency

with Client.from_env() as client:
    me = client.me().participants[0]
    market = next(client.markets()).market
    print(f"{me} bids in {market}")

    def bid(slot: str) -> None:
        try:
            ack = client.buy(
                market, slot, e_wh=E_WH, price_u=PRICE_U, participant=me, key=f"{me}/{slot}/{E_WH}@{PRICE_U}"
            )
            print(f"{slot}  order {ack.order_id} is taken")
        except ApiProblem as problem:
            print(f"{slot}  refused: {problem}")

    for event in client.stream("slot", "result", market=market):  # comes back by itself after a restart of the server
        if event.is_snapshot:  # at the start, or when too much was missed: look at everything anew
            for slot in client.slots(market, state="open"):
                bid(slot.slot)
        elif event.topic == "slot" and event.data["state"] == "open":
            bid(event.data["slot"])
        elif event.topic == "result" and event.data["participant"] == me:
            got = event.data
            print(f"{got['slot']}  bought {got['bought_wh']} Wh for {got['paid_u'] / 1e6:.4f}")
