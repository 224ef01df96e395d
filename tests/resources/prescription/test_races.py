"""Several at once, over two servers of one database: one wins, and nothing is handed out twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.resources.prescription.conftest import Clinic, given, key_of, values


def test_of_pharmacies_that_claim_at_once_one_wins(two_servers: Clinic) -> None:
    address, token = two_servers.signed()

    def claim(number: int) -> tuple[str, int, str]:
        who, server = (("pharmacy", 0), ("other-pharmacy", 1))[number % 2]
        answer = two_servers.call(who, "POST", f"{address}/$accept", given(token=token), server=server)
        return who, answer.status_code, "" if answer.status_code == 200 else key_of(answer)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(claim, range(8)))
    winners = {who for who, status, _ in answers if status == 200}
    assert len(winners) == 1
    assert {(status, key) for who, status, key in answers if who not in winners} == {(409, "HS-RX-CLAIMED")}
    assert two_servers.work(address)["owner"] == {"reference": two_servers.names[winners.pop()]}


def test_what_is_handed_out_at_once_is_never_more_than_is_prescribed(two_servers: Clinic) -> None:
    address, secret = two_servers.claimed(dispenseRequest={"quantity": {"value": 10, "unit": "tablet"}})

    def hand_out(number: int) -> int:
        parameters = given(secret=secret, quantity={"value": 3, "unit": "tablet"})
        call = two_servers.call("pharmacy", "POST", f"{address}/$dispense", parameters, server=number % 2)
        return call.status_code

    with ThreadPoolExecutor(6) as pool:
        answers = sorted(pool.map(hand_out, range(6)))
    assert answers == [201, 201, 201, 422, 422, 422]
    handed = two_servers.found(f"MedicationDispense?prescription={address}")
    assert sum(one["quantity"]["value"] for one in handed) == 9


def test_taking_back_and_claiming_at_once_end_in_one_of_two_ways(two_servers: Clinic) -> None:
    for _ in range(4):
        address, token = two_servers.signed()
        with ThreadPoolExecutor(2) as pool:
            claim = pool.submit(two_servers.call, "pharmacy", "POST", f"{address}/$accept", given(token=token), 0)
            back = pool.submit(two_servers.call, "doctor", "POST", f"{address}/$withdraw", given(reason="x"), 1)
        outcome = (claim.result().status_code, back.result().status_code, two_servers.get(address)["status"])
        assert outcome in {(200, 202, "active"), (409, 200, "cancelled")}
        if outcome[0] == 200:
            secret = values(claim.result().json())["secret"]
            two_servers.do("pharmacy", address, "answer-withdrawal", secret=secret, answer="accept")
