"""A whole outside bidder over MQTT, without peerwatt: sells 500 Wh in every slot at no less than 0.12 per kWh.

    export MQTT_HOST=127.0.0.1 MQTT_USER=house-07 MQTT_PASSWORD=...    # the user is the participant's id
    python examples/bidder_mqtt.py

It needs aiomqtt alone. Requests carry a key of their own: sent again, after a broken connection or a new start, they
are carried out once. The broker keeps what comes while we are away (clean_session=False).
"""

import asyncio
import json
import os

import aiomqtt

HOST, PORT, ME = os.environ["MQTT_HOST"], int(os.environ.get("MQTT_PORT", "1883")), os.environ["MQTT_USER"]
MINE = f"peerwatt/v1/participants/{ME}"
E_WH, PRICE_U = 500, 120_000  # 0.12 per kWh in micro-currency


async def trade(client: aiomqtt.Client) -> None:
    for topic in ("peerwatt/v1/markets/+/slots/+", f"{MINE}/acks", f"{MINE}/results"):
        await client.subscribe(topic, qos=1)
    async for message in client.messages:
        topic, news = str(message.topic), json.loads(message.payload or "{}")
        if topic.startswith(MINE):
            print(topic.rpartition("/")[2], news)
        elif news.get("state") == "open":
            order = {"market": news["market"], "slot": news["slot"], "side": "sell", "e_wh": E_WH, "price_u": PRICE_U}
            key = f"{ME}/{news['market']}/{news['slot']}/{E_WH}@{PRICE_U}"
            await client.publish(f"{MINE}/orders", json.dumps({"key": key, **order}), qos=1)


async def main() -> None:
    account = {"username": ME, "password": os.environ["MQTT_PASSWORD"], "identifier": f"{ME}-example"}
    while True:
        try:
            async with aiomqtt.Client(HOST, PORT, clean_session=False, **account) as client:
                await trade(client)
        except aiomqtt.MqttError as error:
            print(f"{error}; again in 2 s")
            await asyncio.sleep(2)


asyncio.run(main())
