"""What schemathesis cannot read off a schema, so that all that it tells of is a fault.

Loaded by tests/schemathesis/main.rs.
"""

import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

# Members whose rule JSON Schema has no words for, and the rule.
UNSAID = {
    "cursor": "opaque: only what a page before it gave out",
    "reason": "one line that is not blank, counted in bytes of UTF-8 where WeChat counts so",
    "resolution": "one line that is not blank",
    "title": "one line that is not blank",
    "note": "not blank, counted in bytes",
    "cause": "not blank, counted in bytes",
    "hash": "not blank, counted in bytes",
    "letters": "either these or a filter",
    "filter": "either this or letters; its members are those of the list",
    "patch": "with a patch a reason is needed",
    "paid_by_hand": "given for a case about a refund that is still owed, and for no other",
    "not_owed": "as paid_by_hand, and not together with it",
    "out_refund_no": "a refund that WeChat has of this order",
    "receipt": "given with record_payment, and with nothing else",
    "amount_fen": "given with some actions only; at most what is left of the order",
    "channel": "jsapi needs an openid in the token",
}


@schemathesis.check
def valid_data_is_taken(ctx, response, case):
    """`positive_data_acceptance`, but for refusals that name nothing beside what is unsaid."""
    if response.status_code == 422:
        wrong = {error["field"] for error in response.json().get("errors", [])}
        # 1.0 is an integer to JSON Schema. To us no float is one, least of all near money.
        body = case.body if isinstance(case.body, dict) else {}
        wrong -= {member for member, value in body.items() if isinstance(value, float)}
        # Nothing is left when the price is not the session's, or the key was used for another body.
        if wrong <= UNSAID.keys():
            return None
    return positive_data_acceptance(ctx, response, case)
