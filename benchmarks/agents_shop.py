"""Visits to the shop of tau2-bench: made by rule, with its tools' answers from its database."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

VISITS = 30
"""Conversations of each of the two kinds."""

ROWS = 60
"""Orders on a page of a list."""

Steps = list[Any]
"""What the user says, and calls: (name, arguments, answer)."""


def visits(tables: Any) -> Iterator[tuple[str, Steps]]:
    """Exchanges of an item, and orders that are looked for in a list, each with its name."""
    chance = random.Random(5)
    delivered = [one for one in tables["orders"].values() if one["status"] == "delivered"]
    for at, order in enumerate(chance.sample(delivered, VISITS)):
        yield f"exchange {at}", exchange(tables, order, chance)
        yield f"list {at}", searched(tables, at, chance)


def exchange(tables: Any, order: Any, chance: random.Random) -> Steps:
    """A customer exchanges an item for one with other options, which a product's page lists."""
    user = tables["users"][order["user_id"]]
    item = order["items"][0]
    product = tables["products"][item["product_id"]]
    others = [one for one in product["variants"].values() if one["item_id"] != item["item_id"]]
    other = chance.choice([one for one in others if one["available"]] or others)
    named, wished = user["name"], ", ".join(f"{k} {v}" for k, v in other["options"].items())
    who = {"first_name": named["first_name"], "last_name": named["last_name"]}
    who["zip"] = user["address"]["zip"]
    return [
        f"Hi, I am {named['first_name']} {named['last_name']}, zip code {who['zip']}. I'd like to "
        f"exchange the {item['name']} of my order {order['order_id']} for one with {wished}.",
        ("find_user_id_by_name_zip", who, user["user_id"]),
        ("get_user_details", {"user_id": user["user_id"]}, json.dumps(user)),
        ("get_order_details", {"order_id": order["order_id"]}, json.dumps(order)),
        ("get_product_details", {"product_id": item["product_id"]}, json.dumps(product)),
        (
            "exchange_delivered_order_items",
            {
                "order_id": order["order_id"],
                "item_ids": [item["item_id"]],
                "new_item_ids": [other["item_id"]],
                "payment_method_id": chance.choice(list(user["payment_methods"])),
            },
            json.dumps({**order, "status": "exchange requested"}),
        ),
    ]


def searched(tables: Any, page: int, chance: random.Random) -> Steps:
    """A clerk looks for one order in a list and follows it up; asks for it by id or address."""
    orders = list(tables["orders"].values())
    start = page * 31 % (len(orders) - ROWS)
    some = orders[start : start + ROWS]
    order = chance.choice(some)
    user = tables["users"][order["user_id"]]
    item = chance.choice(order["items"])
    where = order["address"]
    asked = (
        f"What became of order {order['order_id']}?"
        if page % 2
        else f"Who ordered to {where['address1']}, {where['address2']}, {where['zip']}?"
    )
    return [
        f"List page {page} of all orders. {asked}",
        ("list_orders", {"page": page}, json.dumps({"count": ROWS, "orders": some}, indent=2)),
        ("get_user_details", {"user_id": order["user_id"]}, json.dumps(user)),
        f"Cancel it if you can, and tell me what else there is of the {item['name']}.",
        (
            "cancel_pending_order",
            {"order_id": order["order_id"], "reason": "no longer needed"},
            json.dumps({"error": f"{order['order_id']} is {order['status']}"}),
        ),
        (
            "get_product_details",
            {"product_id": item["product_id"]},
            json.dumps(tables["products"][item["product_id"]]),
        ),
        (
            "modify_pending_order_payment",
            {
                "order_id": order["order_id"],
                "payment_method_id": order["payment_history"][0]["payment_method_id"],
            },
            json.dumps(order),
        ),
        ("get_item_details", {"item_id": item["item_id"]}, json.dumps(item)),
    ]
