"""Read amounts: digits or words, with their scale and what they count."""
# ruff: noqa: RUF001 - signs of many scripts

from __future__ import annotations

from decimal import Decimal

import regex

from tersely.protect import MEASURE

Amount = tuple[Decimal | str, str]
"""A value, and what it counts or is measured in, "" where that is not said."""

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
SCALES = {
    "hundred": Decimal(100),
    "thousand": Decimal(1000),
    "million": Decimal(10**6),
    "billion": Decimal(10**9),
    "trillion": Decimal(10**12),
}
VALUES = {
    **{word: Decimal(i) for i, word in enumerate(_SMALL.split())},
    **{word: Decimal(10 * i) for i, word in enumerate(_TENS.split(), 2)},
}

_SCALE = "|".join(SCALES)
_WORD = "|".join([*VALUES, *SCALES])
_UNIT = rf"(?P<unit>[\s-]?(?:{MEASURE}))?"

DIGITS = regex.compile(
    r"(?P<sign>(?<!\w)[-+−])?(?P<money>[$€£¥₹]\s?)?(?<!\d[.,])(?P<digits>\d{1,40}(?:[.,:]\d{1,40}){0,12}+)"
    rf"(?:[\s-](?P<scale>{_SCALE})\b)?{_UNIT}"
)
SPELLED = regex.compile(
    rf"(?i)\b(?P<words>(?:{_WORD})(?:(?:[\s-]|\sand\s)(?:{_WORD}))*+)\b(?:(?-i:{_UNIT}))"
)

GROUPED = regex.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
DECIMAL = regex.compile(r"\d+(?:\.\d+)?")

SAME = {
    "percent": "%",
    "$": "dollar",
    "usd": "dollar",
    "€": "euro",
    "eur": "euro",
    "£": "pound",
    "gbp": "pound",
    "sec": "s",
    "second": "s",
    "minute": "min",
    "hour": "h",
    "hr": "h",
    "yr": "year",
    "inche": "inch",
}


def amount_of(match: regex.Match[str]) -> Amount | None:
    """The amount that digits tell. What is no plain number is kept as it is written."""
    digits = match["digits"]
    if GROUPED.fullmatch(digits):
        digits = digits.replace(",", "")
    if not DECIMAL.fullmatch(digits):
        return digits, _unit(match)
    value = Decimal(digits) * SCALES.get(match["scale"] or "", Decimal(1))
    return (-value if match["sign"] in ("-", "−") else value).normalize(), _unit(match)


def spelled_amount(match: regex.Match[str]) -> Amount | None:
    """The amount that words tell; "one" by itself is no amount."""
    words = [w for w in regex.split(r"[\s-]+", match["words"].lower()) if w != "and"]
    if words == ["one"] and not match["unit"]:
        return None
    total = part = Decimal(0)
    for word in words:
        if word in VALUES:
            part += VALUES[word]
        elif word == "hundred":
            part = max(part, Decimal(1)) * SCALES[word]
        else:
            total, part = total + max(part, Decimal(1)) * SCALES[word], Decimal(0)
    return (total + part).normalize(), _unit(match)


def _unit(match: regex.Match[str]) -> str:
    """What is counted, each in one writing."""
    said = (match["unit"] or "").strip(" \t\n-") or (match.groupdict().get("money") or "").strip()
    if len(said) > 2:
        said = said.lower()
        said = said.removesuffix("s") if len(said) > 3 else said
    if said in SCALES or said == "in":  # a scale alone; "5 in" is rarely in inches
        return ""
    return SAME.get(said.lower(), said)
