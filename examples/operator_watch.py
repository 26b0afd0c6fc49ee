"""A grid or market operator's window: prices, congestion and settlements as they come, and the end of the audit chain.

export PEERWATT_URL=http://127.0.0.1:8000 PEERWATT_KEY=pw_...    # a key with the role grid, operator or admin
python examples/operator_watch.py
"""

import asyncio

from peerwatt.client import ApiProblem, AsyncClient


async def congested(client: AsyncClient) -> list[str]:
    """Elements beyond or near a limit in the last slot; none where the scenario has no network."""
    try:
        return [
            f"{c.element} {c.value_ppm / 1e4:.1f} % ({c.band})" async for c in client.congestion() if c.band != "green"
        ]
    except ApiProblem as problem:
        return [] if problem.status in (403, 404) else [str(problem)]


async def main() -> None:
    async with AsyncClient.from_env() as client:
        async for market in client.markets():
            print(f"{market.market}: {market.rule}, {market.state}")
        async for event in client.stream("price", "market", "settled", "network"):
            data = event.data
            if event.is_snapshot:
                head = await client.audit_head()
                print(f"journal at record {head.seq}, {head.digest[:16]}...")
            elif event.topic == "price":
                price = "no price" if data["price_u"] is None else f"{data['price_u'] / 1e6:.4f}/kWh"
                print(f"{data['market']} {data['slot']}  {data['volume_wh'] / 1000:.3f} kWh at {price}")
            elif event.topic == "market":
                print(f"{data['market']} is {data['state']}: {data['reason']}")
            elif event.topic == "settled":
                print(f"{data['slot']}  settled, version {data['version']} ({data['reason']})")
            else:
                where = ", ".join(await congested(client)) or "no congestion"
                print(f"{data['slot']}  losses {data['loss_wh']} Wh, {where}")


if __name__ == "__main__":
    asyncio.run(main())
