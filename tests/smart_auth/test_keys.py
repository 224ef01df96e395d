"""The server's signing keys: made once, replaced in good time, sealed at rest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from joserfc.jwk import KeySet

from smart_auth.keys import KEYS, LEAD_S, LONGEST_TOKEN_S, PUBLISHED_MAX_AGE_S, Keys
from smart_auth.store import AuthStore
from smart_auth.vault import Vault, VaultError
from tests.smart_auth.conftest import World, header_of


@pytest.fixture
def store(mongodb_uri: str, mongodb_database: str) -> Any:
    there = AuthStore.connect(mongodb_uri, mongodb_database)
    yield there
    there.close()


@pytest.fixture
def vault() -> Vault:
    return Vault((Fernet.generate_key().decode(),))


def opened(store: AuthStore, vault: Vault, **more: Any) -> Keys:
    keys = Keys(store, vault, **more)
    keys.open()
    return keys


def shift(store: AuthStore, **by_s: int) -> None:
    """Let time pass, by changing the stored times."""
    for row in list(store.rows(KEYS).find()):
        moved = {name: row[name] - timedelta(seconds=seconds) for name, seconds in by_s.items() if row[name]}
        store.rows(KEYS).update_one({"_id": row["_id"]}, {"$set": moved})


def test_workers_that_start_at_once_agree_on_one_key_of_each_kind(store: AuthStore, vault: Vault) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened_keys = list(pool.map(lambda _: opened(store, vault), range(4)))
    for keys in opened_keys:
        keys.refresh()
    assert store.rows(KEYS).count_documents({}) == 2
    for algorithm in ("RS256", "ES256"):
        assert len({keys.signing(algorithm).kid for keys in opened_keys}) == 1


def test_the_key_set_holds_public_rsa_and_elliptic_keys_with_their_use(world: World) -> None:
    answer = world.http.get("/auth/jwks", headers={"Origin": "https://app.example.org"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == f"public, max-age={PUBLISHED_MAX_AGE_S}"
    rows = answer.json()["keys"]
    assert {(row["kty"], row["alg"], row["use"]) for row in rows} == {("RSA", "RS256", "sig"), ("EC", "ES256", "sig")}
    assert all("d" not in row and "p" not in row and row["kid"] for row in rows)
    assert KeySet.import_key_set(answer.json())


def test_a_new_key_is_published_before_it_signs_and_the_old_one_after(store: AuthStore, vault: Vault) -> None:
    assert LEAD_S >= PUBLISHED_MAX_AGE_S
    keys = opened(store, vault)
    old = keys.signing("ES256")
    keys.rotate("ES256")
    assert keys.signing("ES256").kid == old.kid
    published = {row["kid"] for row in keys.published()["keys"] if row["alg"] == "ES256"}
    assert len(published) == 2

    shift(store, signs_from=LEAD_S)
    keys._stamp = ()
    keys.refresh()
    new = keys.signing("ES256")
    assert new.kid != old.kid
    assert keys.stored(old.kid, "ES256") is not None, "what it signed is still good"
    shift(store, published_until=LEAD_S + LONGEST_TOKEN_S)
    keys.refresh()
    assert keys.stored(old.kid, "ES256") is None
    assert {row["kid"] for row in keys.published()["keys"] if row["alg"] == "ES256"} == {new.kid}


def test_another_worker_learns_of_a_new_key(store: AuthStore, vault: Vault) -> None:
    one, other = opened(store, vault), opened(store, vault)
    one.rotate("RS256", lead_s=0)
    assert other.refresh()
    assert other.signing("RS256").kid == one.signing("RS256").kid
    assert not other.refresh()


def test_workers_that_find_at_once_that_a_key_is_due_make_one_new_key(store: AuthStore, vault: Vault) -> None:
    opened(store, vault)
    shift(store, created_at=91 * 86_400)
    workers = [opened(store, vault, rotate_days=90) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda keys: keys.rotate_when_due(), workers))
    generations = sorted((row["algorithm"], row["generation"]) for row in store.rows(KEYS).find())
    assert generations == [("ES256", 1), ("ES256", 2), ("RS256", 1), ("RS256", 2)]


def test_a_key_that_has_signed_for_long_enough_is_replaced_and_old_ones_are_removed(
    store: AuthStore, vault: Vault
) -> None:
    keys = opened(store, vault, rotate_days=90)
    keys.rotate_when_due()
    assert store.rows(KEYS).count_documents({}) == 2
    shift(store, created_at=91 * 86_400)
    keys._stamp = ()
    keys._known = {}
    keys.refresh()
    keys.rotate_when_due()
    assert store.rows(KEYS).count_documents({}) == 4
    long_ago = datetime.now(UTC) - timedelta(days=3)
    store.rows(KEYS).update_one({"generation": 1, "algorithm": "ES256"}, {"$set": {"published_until": long_ago}})
    keys.rotate_when_due()
    assert store.rows(KEYS).count_documents({}) == 3


def test_tokens_of_a_key_that_others_know_end_with_it(make_world: Any) -> None:
    world: World = make_world()
    client, _ = world.client()
    answer, _ = world.signed_in(client, "openid user/*.rs")
    assert world.reads(answer["access_token"]) == 200
    world.auth.keys.rotate("ES256", lead_s=0, drop_older=True)
    world.auth.bearer.forget()
    assert world.reads(answer["access_token"]) == 401
    again, _ = world.signed_in(client, "openid user/*.rs")
    assert world.reads(again["access_token"]) == 200
    assert header_of(again["access_token"])["kid"] != header_of(answer["access_token"])["kid"]


def test_a_token_remembered_by_a_worker_ends_with_its_key_too(make_world: Any) -> None:
    world: World = make_world()
    answer, _ = world.signed_in(world.client()[0], "openid user/*.rs")
    assert world.reads(answer["access_token"]) == 200
    worker = world.worker()
    worker.keys.rotate("ES256", lead_s=0, drop_older=True)
    assert world.reads(answer["access_token"]) == 200, "this worker has not heard yet"
    world.auth._refresh_keys()
    assert world.reads(answer["access_token"]) == 401


def test_keys_cannot_be_read_without_the_vaults_key(store: AuthStore, vault: Vault) -> None:
    opened(store, vault)
    with pytest.raises(VaultError, match="cannot be opened"):
        opened(store, Vault((Fernet.generate_key().decode(),)))


def test_a_vault_with_a_new_key_before_the_old_one_reads_what_the_old_one_sealed(
    store: AuthStore,
) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    kid = opened(store, Vault((old,))).signing("RS256").kid
    assert opened(store, Vault((new, old))).signing("RS256").kid == kid
