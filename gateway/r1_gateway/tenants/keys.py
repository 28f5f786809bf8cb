"""Callers by API key, from the keys file (in the cluster, a Secret).

The file holds SHA-256 digests, never keys, so that reading it gives no access::

    {"tenants": {"search": {"weight": 2, "maxClass": "Q1", "defaultClass": "Q2", "models": ["chat"],
                            "limits": {"requestsPerMinute": 600, "tokensPerMinute": 200000,
                                       "tokensPerDay": 50000000, "tokensPerMonth": 1000000000}}},
     "keys": {"<sha256 of the key, hex>": {"tenant": "search", "name": "ci", "maxClass": "Q3"}},
     "prices": {"*": {"input": 0.27, "output": 1.1}},
     "jwt": {"issuer": "https://login.example.com", "audience": "r1", "tenantClaim": "team",
             "jwksUrl": "https://login.example.com/.well-known/jwks.json"}}

Every field but a key's ``tenant`` is optional.  A key may narrow its tenant's class and models.
``prices`` are per million tokens, by model.  ``jwt`` accepts tokens of an issuer as keys
(:mod:`~r1_gateway.tenants.jwt_tokens`).  A file with digests at its top level has the keys only.

An invalid entry is rejected by name and has no effect beyond itself: the entry's earlier version
stays in force, and all others are applied.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from r1_common.contracts.priority_classes import PriorityClass, UnknownClass, parse_class
from r1_common.untrusted_json import convert_errors
from r1_gateway.tenants.caller import Caller
from r1_gateway.tenants.jwt_tokens import JwtSettings
from r1_gateway.tenants.limits import FIELDS, NO_LIMITS, TenantLimits
from r1_gateway.tenants.prices import Price, Prices

Parsed = TypeVar("Parsed")

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,63}")
_SECTIONS = {"tenants", "keys", "prices", "jwt"}
_RIGHTS = {"defaultClass", "maxClass", "models"}
_TENANT_FIELDS = _RIGHTS | {"weight", "limits"}
_KEY_FIELDS = _RIGHTS | {"tenant", "name"}
LARGEST_LIMIT = 10**15
WEIGHTS = (0.01, 1000.0)
DIGEST_SHOWN = 8
"""Digits of a digest in messages and as a key's name."""


class InvalidKeys(ValueError):
    """The keys file or an entry cannot be used; the message names the entry and the fix."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Callers by the SHA-256 digest of their key; tenants by name; prices."""

    by_digest: Mapping[str, Caller] = field(default_factory=dict)
    tenants: Mapping[str, Caller] = field(default_factory=dict)
    """Each declared tenant's rights, without a key."""
    prices: Prices = field(default_factory=Prices)
    jwt: JwtSettings | None = None
    problems: tuple[str, ...] = ()
    """A message for each rejected entry."""

    def find(self, authorization: bytes | None) -> Caller | None:
        """The caller of an ``Authorization: Bearer ...`` header value, or None."""
        token = bearer_token(authorization)
        return None if token is None else self.by_digest.get(hashlib.sha256(token).hexdigest())


def bearer_token(authorization: bytes | None) -> bytes | None:
    """The token of an ``Authorization: Bearer ...`` header value, or None."""
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(b" ")
    token = token.strip()
    return token if token and scheme.lower() == b"bearer" else None


def parse_keys(document: object, earlier: KeyRing | None = None) -> KeyRing:
    """Read the keys file's JSON; ``earlier`` replaces the entries that are invalid now.

    Raises:
        InvalidKeys: the document has no entries that could be told apart.
    """
    if not isinstance(document, dict):
        raise InvalidKeys("the keys file must be a JSON object {tenants, keys, prices}")
    if not (document.keys() & _SECTIONS):
        document = {"keys": document}
    if unknown := set(document) - _SECTIONS:
        raise InvalidKeys(f"unknown field {_shown(min(map(str, unknown)))}")
    before = earlier or KeyRing()
    problems: list[str] = []
    tenants = _each(document, "tenants", _tenant, before.tenants, problems)
    declared = document.get("tenants", {})
    keys = _each(
        document,
        "keys",
        lambda digest, entry: _key(digest, entry, tenants, declared),
        before.by_digest,
        problems,
    )
    prices = _each(document, "prices", _price, before.prices.by_model, problems)
    tokens = _each(
        {"jwt": {"jwt": document["jwt"]} if "jwt" in document else {}},
        "jwt",
        _jwt,
        {} if before.jwt is None else {"jwt": before.jwt},
        problems,
    )
    keys = {digest.lower(): caller for digest, caller in keys.items()}
    return KeyRing(keys, tenants, Prices(prices), tokens.get("jwt"), tuple(problems))


def _each(
    document: Mapping[str, object],
    section: str,
    parse: Callable[[str, object], Parsed],
    earlier: Mapping[str, Parsed],
    problems: list[str],
) -> dict[str, Parsed]:
    """Entries of a section; an invalid one is reported and keeps its earlier version."""
    entries = document.get(section, {})
    if not isinstance(entries, dict):
        raise InvalidKeys(f"{section} must be a JSON object")
    found: dict[str, Parsed] = {}
    for name, entry in entries.items():
        try:
            with convert_errors(InvalidKeys, f"the entry {_shown(name)}"):
                found[name] = parse(name, entry)
        except InvalidKeys as error:
            old = earlier.get(name.lower() if section == "keys" else name)
            effect = "the entry has no effect"
            if old is not None:
                found[name] = old
                effect = "keeping the earlier version"
            problems.append(f"{error}; {effect}")
    return found


def _tenant(name: str, entry: object) -> Caller:
    where = f"tenant {_shown(name)}"
    if not _NAME.fullmatch(name):
        raise InvalidKeys(
            f"{where}: the name must have 1 to 63 characters and no control character"
        )
    fields = _fields(entry, _TENANT_FIELDS, where)
    return Caller(
        name,
        default_class=_class(fields, "defaultClass", where),
        max_class=_class(fields, "maxClass", where) or PriorityClass.Q1,
        weight=_weight(fields.get("weight", 1), where),
        limits=_limits(fields.get("limits"), where),
        models=_models(fields.get("models"), where),
    )


def _key(
    digest: str,
    entry: object,
    tenants: Mapping[str, Caller],
    declared: Mapping[str, object],
) -> Caller:
    where = f"key {digest[:DIGEST_SHOWN]}..."
    if not _DIGEST.fullmatch(digest.lower()):
        raise InvalidKeys(
            f"{where}: the name must be the SHA-256 of the key, 64 hexadecimal digits "
            "(printf %s KEY | sha256sum)"
        )
    fields = _fields(entry, _KEY_FIELDS, where)
    name = fields.get("tenant")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidKeys(f"{where}: tenant must be a non-empty string of at most 63 characters")
    key_id = fields.get("name", digest[:DIGEST_SHOWN].lower())
    if not isinstance(key_id, str) or not _NAME.fullmatch(key_id):
        raise InvalidKeys(f"{where}: name must be a non-empty string of at most 63 characters")
    if name in declared and name not in tenants:  # else the key would have no limits
        raise InvalidKeys(f"{where}: its tenant {_shown(name)} is invalid")
    tenant = tenants.get(name) or Caller(name)
    models = _models(fields.get("models"), where)
    if models is None or tenant.models is None:
        models = models if tenant.models is None else tenant.models
    else:
        models &= tenant.models
    return replace(
        tenant,
        key_id=key_id,
        default_class=_class(fields, "defaultClass", where) or tenant.default_class,
        max_class=max(_class(fields, "maxClass", where) or PriorityClass.Q1, tenant.max_class),
        models=models,
    )


def _fields(entry: object, allowed: set[str], where: str) -> Mapping[str, object]:
    if not isinstance(entry, dict):
        raise InvalidKeys(f"{where}: must be an object with {', '.join(sorted(allowed))}")
    if unknown := set(entry) - allowed:
        raise InvalidKeys(
            f"{where}: unknown field {_shown(min(unknown))}: use {', '.join(sorted(allowed))}"
        )
    return entry


def _class(fields: Mapping[str, object], name: str, where: str) -> PriorityClass | None:
    value = fields.get(name)
    if value is None:
        return None
    try:
        with convert_errors(UnknownClass, "a name of a class"):
            return parse_class(str(value))
    except UnknownClass as error:
        raise InvalidKeys(f"{where}: {name}: {error}") from None


def _weight(value: object, where: str) -> float:
    low, high = WEIGHTS
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidKeys(f"{where}: weight must be a number from {low:g} to {high:g}")
    return float(value)


def _models(value: object, where: str) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise InvalidKeys(f"{where}: models must be a list of model names")
    return frozenset(value)


def _limits(value: object, where: str) -> TenantLimits:
    if value is None:
        return NO_LIMITS
    fields = _fields(value, set(FIELDS), f"{where}: limits")
    for name, limit in fields.items():
        whole = isinstance(limit, int) and not isinstance(limit, bool)
        if limit is not None and not (whole and 0 < int(str(limit)) <= LARGEST_LIMIT):
            raise InvalidKeys(
                f"{where}: limits.{name} must be a whole number from 1 to {LARGEST_LIMIT}"
            )
    limits = TenantLimits(**{FIELDS[name]: limit for name, limit in fields.items()})  # type: ignore[arg-type]
    return NO_LIMITS if limits == NO_LIMITS else limits


def _jwt(name: str, entry: object) -> JwtSettings:
    fields = _fields(entry, {"issuer", "audience", "jwksUrl", "tenantClaim"}, name)
    values = {key: fields.get(key) for key in ("issuer", "audience", "jwksUrl")}
    claim = fields.get("tenantClaim", "tenant")
    for key, value in {**values, "tenantClaim": claim}.items():
        if not isinstance(value, str) or not value:
            raise InvalidKeys(f"{name}: {key} must be a non-empty string")
    url = str(values["jwksUrl"])
    if not url.startswith(("https://", "http://")):
        raise InvalidKeys(f"{name}: jwksUrl must begin with https:// or http://")
    return JwtSettings(str(values["issuer"]), str(values["audience"]), url, str(claim))


def _price(model: str, entry: object) -> Price:
    where = f"price of {_shown(model)}"
    fields = _fields(entry, {"input", "output"}, where)
    values = [fields.get(name, 0) for name in ("input", "output")]
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:  # type: ignore[arg-type, operator]
            raise InvalidKeys(
                f"{where}: input and output must be prices per million tokens, from 0"
            )
    return Price(float(values[0]), float(values[1]))  # type: ignore[arg-type]


def _shown(name: str) -> str:
    """A name in a message; a digest, or a key by mistake, is shortened."""
    return repr(name if len(name) < 16 else name[:DIGEST_SHOWN] + "...")
