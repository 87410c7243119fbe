"""Made-up APIs, as many as wanted: distinct one-sentence descriptions, and requests that one of them should take."""

from __future__ import annotations

from collections.abc import Iterator

VERBS = (
    ("create", "set up"), ("delete", "get rid of"), ("search", "look through"), ("summarise", "sum up"),
    ("translate", "put into another language"), ("schedule", "find a time for"), ("export", "download"),
    ("import", "upload"), ("compare", "tell the difference between"), ("monitor", "keep an eye on"),
    ("forecast", "predict"), ("classify", "sort"), ("validate", "check"), ("approve", "sign off"),
    ("encrypt", "protect"), ("archive", "put away"), ("merge", "combine"), ("share", "give my team"),
    ("convert", "turn"), ("price", "tell me what to charge for"), ("refund", "pay back"), ("route", "send on"),
    ("audit", "go over"), ("tag", "label"), ("rank", "order by importance"), ("extract", "pull out"),
    ("annotate", "comment on"), ("deduplicate", "remove the doubles from"), ("visualise", "draw"),
    ("benchmark", "measure"), ("recommend", "suggest"), ("reserve", "book"), ("track", "follow"),
    ("repair", "fix"), ("anonymise", "take the names out of"), ("renew", "extend"),
)  # fmt: skip
OBJECTS = tuple(
    "invoices|purchase orders|support tickets|calendar events|flight bookings|hotel rooms|customer reviews|"
    "contracts|medical records|lab results|X-ray images|prescriptions|insurance claims|bank transfers|"
    "stock prices|currency rates|tax returns|payslips|job applications|interview notes|lesson plans|"
    "exam papers|research papers|patents|court rulings|news articles|podcast episodes|song lyrics|playlists|"
    "film subtitles|photo albums|floor plans|land registers|weather reports|earthquake alerts|satellite images|"
    "crop yields|soil samples|recipes|restaurant menus|grocery lists|parcel shipments|container manifests|"
    "truck routes|train timetables|bicycle rentals|parking spaces|charging stations|electricity meters|"
    "solar panels|water leaks|machine sensors|spare parts|assembly drawings|safety incidents|source code|"
    "pull requests|build logs|database tables|server metrics|access keys|phishing mails|network packets|"
    "domain names|web pages|search keywords|advertising campaigns|newsletters|survey answers|chat transcripts|"
    "phone calls|voice memos|gift cards|loyalty points|auction bids|museum tickets|football scores|chess games|"
    "workout plans|sleep diaries|pet vaccinations|wedding guests|charity donations|voting registers|"
    "building permits|visa applications|birth certificates|translations|dictionaries|legal citations|"
    "chemical formulas|protein structures|gene sequences|clinical trials|telescope images|mathematical proofs".split(
        "|"
    )
)
VENDORS = tuple(
    f"{first}{last}"
    for first in (
        "Acorn Birch Cobalt Delta Ember Falcon Granite Harbor Indigo Juniper Kestrel Lumen Maple Nimbus".split()
    )
    for last in "Desk Flow Base Works Pilot Cloud Ledger Hub".split()
)
PLACES = tuple(
    "Japan|Brazil|Norway|Kenya|Canada|India|Spain|Poland|Mexico|Egypt|Vietnam|Chile|Turkey|Ireland|Nepal|Ghana|Peru|"
    "Greece|Finland|Morocco|Texas|Bavaria|Ontario|Tuscany|Hokkaido".split("|")
)
USERS = tuple(
    "accountants|nurses|teachers|lawyers|farmers|students|journalists|pharmacists|architects|pilots|hotel managers|"
    "web shops|start-ups|city councils|charities|banks|libraries|laboratories|factories|families".split("|")
)
FIELDS = (VERBS, OBJECTS, VENDORS, PLACES, USERS)
STRIDE = 15_485_863
"""A prime that divides no field's length, so that stepping by it visits every combination once, spread out."""


def parts(index: int) -> tuple[tuple[str, str], str, str, str, str]:
    """Return the verb (and a paraphrase), object, vendor, place and users of API number `index`."""
    rest = index * STRIDE
    picked = []
    for field in FIELDS:
        rest, at = divmod(rest, len(field))
        picked.append(field[at])
    return tuple(picked)  # type: ignore[return-value]


def name(index: int) -> str:
    """Return a node's name."""
    return f"api-{index:07d}"


def descriptions(count: int, start: int = 0) -> Iterator[str]:
    """Yield so many descriptions, all different."""
    for index in range(start, start + count):
        (verb, _), thing, vendor, place, users = parts(index)
        yield f"{verb.capitalize()} {thing} in {vendor}, for {users} in {place}."


def request(index: int) -> str:
    """Return what somebody who needs API number `index` may write."""
    (_, verb), thing, vendor, place, users = parts(index)
    forms = (
        f"Can you {verb} our {thing} with {vendor}? We are {users} from {place}.",
        f"I need to {verb} {thing}, the account is at {vendor} in {place}",
        f"{verb} the {vendor} {thing} of {users} in {place}, please",
    )
    return forms[index % len(forms)]
