"""The documents, to the byte."""

from __future__ import annotations

import gc
import json

import pytest

from imds_proxy.model import Credentials, RoleSession
from imds_proxy.web import documents

RECEIVED = 1795441234.9
"""2026-11-23T13:40:34.9Z"""

SESSION = RoleSession(
    signer="AKIAEXAMPLE",
    partition="aws-cn",
    endpoint="",
    account_id="000123456789",
    role_arn="arn:aws-cn:iam::000123456789:role/machines/ber/roleprefix-tuvfoo",
    session_name="x",
    duration=3600,
)


def make_credentials(**changes: object) -> Credentials:
    """Return credentials that live for an hour."""
    values: dict[str, object] = {
        "access_key": "ASIAEXAMPLE",
        "secret_key": "se/cr+et",
        "session_token": "to//ken==",
        "expiry": RECEIVED + 3600,
        "received": RECEIVED,
        "account_id": "000123456789",
    }
    return Credentials(**{**values, **changes})  # type: ignore[arg-type]  # a test's own mixture


def test_credentials_to_the_byte() -> None:
    """Seven keys in EC2's order, two spaces, ` : `, times in UTC without fractions, no newline at the end."""
    assert documents.render_credentials(make_credentials()) == (
        b"{\n"
        b'  "Code" : "Success",\n'
        b'  "LastUpdated" : "2026-11-23T13:40:34Z",\n'
        b'  "Type" : "AWS-HMAC",\n'
        b'  "AccessKeyId" : "ASIAEXAMPLE",\n'
        b'  "SecretAccessKey" : "se/cr+et",\n'
        b'  "Token" : "to//ken==",\n'
        b'  "Expiration" : "2026-11-23T14:40:34Z"\n'
        b"}"
    )


def test_text_that_needs_quoting() -> None:
    """Whatever STS gave, the document is JSON that reads back as the same."""
    odd = 'a"b\\c\n\u00e4\U0001f511'
    document = json.loads(documents.render_credentials(make_credentials(session_token=odd)))
    assert document["Token"] == odd


def test_the_extended_document_ends_with_the_account() -> None:
    """As the other one, and AccountId at its end; both pages are made once."""
    credentials = make_credentials()
    plain = json.loads(documents.render_credentials(credentials))
    extended = json.loads(documents.render_credentials(credentials, is_extended=True))
    assert list(extended.items()) == [*plain.items(), ("AccountId", credentials.account_id)]
    pages = documents.CredentialPages()
    assert pages.page_of(credentials, is_extended=True) is pages.page_of(credentials, is_extended=True)
    assert pages.page_of(credentials, is_extended=True).body != pages.page_of(credentials).body


def test_last_updated_is_not_in_the_future() -> None:
    """Fractions of a second are cut, not rounded: s3cmd minds a time that is not over yet."""
    assert b'"2026-11-23T13:40:34Z"' in documents.render_credentials(
        make_credentials(received=RECEIVED + 0.09)
    )


def test_profile() -> None:
    """`iam/info` says an ARN that ends in the role's name, without the role's path, in its partition."""
    text = documents.render_profile(SESSION, RECEIVED).decode()
    values = json.loads(text)
    assert list(values) == ["Code", "LastUpdated", "InstanceProfileArn", "InstanceProfileId"]
    assert text.startswith('{\n  "Code" : "Success",\n  "LastUpdated" : "2026-11-23T13:40:34Z",\n')
    assert values["InstanceProfileArn"] == "arn:aws-cn:iam::000123456789:instance-profile/roleprefix-tuvfoo"
    assert len(values["InstanceProfileId"]) == 21
    assert values["InstanceProfileId"].startswith("AIPA")


@pytest.mark.parametrize("account_id", [None, "000123456789"])
def test_identity(account_id: str | None) -> None:
    """Without a role there is no account; what is not known is null, and the key is there."""
    values = json.loads(
        documents.render_identity(
            account_id=account_id,
            region="eu-central-1",
            zone="eu-central-1a",
            image_id="ami-0",
            instance_id=None,
            instance_type="bare.metal",
            address="fd77::5",
            pending=RECEIVED,
        )
    )
    assert values["accountId"] == account_id
    assert (values["imageId"], values["instanceId"], values["instanceType"]) == ("ami-0", None, "bare.metal")
    assert values["privateIp"] == "fd77::5"
    assert values["pendingTime"] == "2026-11-23T13:40:34Z"
    assert len(values) == 15


def test_the_number_of_pages_is_bounded() -> None:
    """Too many credentials: the page made longest ago goes, and is made again when it is asked for."""
    pages = documents.CredentialPages()
    first, *others = (make_credentials() for _ in range(documents.MOST_PAGES + 1))
    page = pages.page_of(first)
    for credentials in others:
        pages.page_of(credentials)
    assert pages.size == documents.MOST_PAGES
    assert pages.page_of(others[-1]) is pages.page_of(others[-1])
    again = pages.page_of(first)
    assert again is not page
    assert again == page


def test_pages_end_with_their_credentials() -> None:
    """A page is made once and dropped together with its credentials: nothing keeps dead secrets."""
    pages = documents.CredentialPages()
    credentials = make_credentials()
    assert pages.page_of(credentials) is pages.page_of(credentials)
    assert pages.page_of(make_credentials()).body == pages.page_of(credentials).body
    gc.collect()
    assert len(pages._plain) == 1
    del credentials
    gc.collect()
    assert len(pages._plain) == 0
