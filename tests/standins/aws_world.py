"""The accounts, roles, users and objects of the AWS stand-in, kept by moto in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
from moto.iam.models import iam_backends
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.s3.models import s3_backends
from moto.sts.models import sts_backends

from tests.standins.strict_sts import Role, Signer

if TYPE_CHECKING:
    from collections.abc import Mapping

PARTITION = "aws"
MAIN_ACCOUNT = "000123456789"
OTHER_ACCOUNT = "210987654321"
GATEWAY_USER = "gateway"


@dataclass(frozen=True)
class RoleSpecification:
    """A role to create. Unless told otherwise it trusts the gateway's user, with `external_id` if set."""

    name: str
    account: str = MAIN_ACCOUNT
    path: str = "/"
    max_session_duration: int = 3600
    external_id: str | None = None
    trust_policy: dict[str, object] | None = None


@dataclass(frozen=True)
class UserSpecification:
    """A user to create, with these policies and no other."""

    name: str
    account: str
    policies: list[dict[str, object]]


_GATEWAY = UserSpecification(
    GATEWAY_USER,
    MAIN_ACCOUNT,
    [
        {
            "Version": "2012-10-17",
            "Statement": {
                "Effect": "Allow",
                "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity", "iam:GetRole"],
                "Resource": "*",
            },
        }
    ],
)
_TRUSTS_EVERYBODY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:*"}],
}


class World:
    """moto with a server of its own on loopback: signatures and the users' and roles' policies are enforced.

    There is one user, the gateway's, in the main account, until a test adds others. Each role may read its
    own folder of its account's bucket: `s3://objects-ACCOUNT/ROLE/hello.txt` holds `hello from ACCOUNT/ROLE`.
    """

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        self._trust_policies: dict[str, str] = {}
        self._source_identities: dict[str, str] = {}
        self.access_key_id, self.secret_access_key = self.add_user(_GATEWAY)
        requests.post(f"{self.url}/moto-api/reset-auth", data=b"0", timeout=10).raise_for_status()

    def add_user(self, wanted: UserSpecification) -> tuple[str, str]:
        """Create a user; return the id and the secret of its access key."""
        iam = iam_backends[wanted.account][PARTITION]
        if wanted.name in iam.users:
            for key in list(iam.users[wanted.name].access_keys):
                iam.delete_access_key(key.access_key_id, wanted.name)
            del iam.users[wanted.name]
        iam.create_user("us-east-1", wanted.name)
        for number, policy in enumerate(wanted.policies):
            iam.put_user_policy(wanted.name, f"policy-{number}", json.dumps(policy))
        key = iam.create_access_key(wanted.name)
        return str(key.access_key_id), str(key.secret_access_key)

    @property
    def gateway_arn(self) -> str:
        """The ARN of the gateway's user."""
        return f"arn:aws:iam::{MAIN_ACCOUNT}:user/{GATEWAY_USER}"

    def add_role(self, wanted: RoleSpecification) -> str:
        """Create a role with its object, in the place of one so named if there is one; return its ARN."""
        iam = iam_backends[wanted.account][PARTITION]
        self.remove_role(wanted.account, wanted.name)
        created = iam.create_role(
            role_name=wanted.name,
            # The front, which knows conditions, judges by the real one: moto would refuse what they allow.
            assume_role_policy_document=json.dumps(_TRUSTS_EVERYBODY),
            path=wanted.path,
            permissions_boundary=None,
            description="",
            tags=[],
            max_session_duration=str(wanted.max_session_duration),
        )
        trust_policy = wanted.trust_policy or self._trust_policy(wanted.external_id)
        self._trust_policies[str(created.arn)] = json.dumps(trust_policy)
        bucket = self._bucket(wanted.account)
        readable = f"arn:aws:s3:::{bucket}/{wanted.name}/*"
        allowed = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": readable}
        iam.put_role_policy(wanted.name, "own-folder", _document(allowed))
        body = f"hello from {wanted.account}/{wanted.name}".encode()
        s3_backends[wanted.account][PARTITION].put_object(bucket, f"{wanted.name}/hello.txt", body)
        return str(created.arn)

    def _trust_policy(self, external_id: str | None) -> dict[str, object]:
        trusted = {"Effect": "Allow", "Principal": {"AWS": self.gateway_arn}}
        assume: dict[str, object] = {**trusted, "Action": "sts:AssumeRole"}
        if external_id is not None:
            assume["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
        extras = {**trusted, "Action": ["sts:TagSession", "sts:SetSourceIdentity"]}
        return {"Version": "2012-10-17", "Statement": [assume, extras]}

    @staticmethod
    def _bucket(account: str) -> str:
        name = f"objects-{account}"
        s3 = s3_backends[account][PARTITION]
        if name not in s3.buckets:
            s3.create_bucket(name, "us-east-1")
        return name

    def remove_role(self, account: str, name: str) -> None:
        """Take a role away; one that does not exist is fine."""
        roles = iam_backends[account][PARTITION].roles
        for role_id in [role_id for role_id, role in roles.items() if role.name == name]:
            del roles[role_id]

    def role(self, arn: str, account: str | None) -> Role | None:
        """Return the role with this ARN, or None."""
        if account is None:
            return None
        for role in iam_backends[account][PARTITION].get_roles():
            if role.arn == arn:
                return Role(
                    arn=str(role.arn),
                    trust_policy=self._trust_policies[arn],
                    max_session_duration=int(role.max_session_duration or 3600),
                )
        return None

    def set_source_identity(self, access_key_id: str, source_identity: str | None) -> None:
        """Remember what the session with this key carries, which moto does not."""
        if source_identity is not None:
            self._source_identities[access_key_id] = source_identity

    def signer(self, access_key_id: str) -> Signer | None:
        """Return who owns an access key, or None for a key that nobody was given."""
        for account, backends in list(iam_backends.items()):
            for user in backends[PARTITION].users.values():
                if any(key.access_key_id == access_key_id for key in user.access_keys):
                    return Signer(str(user.arn), account, policies=tuple(user.policies.values()))
        for account, sessions in list(sts_backends.items()):
            session: Any = sessions[PARTITION].get_assumed_role_from_access_key(access_key_id)
            if session is not None:
                roles: Any = iam_backends[account][PARTITION].get_roles()
                policies = [role.policies.values() for role in roles if role.arn == session.role_arn]
                return Signer(
                    str(session.arn),
                    account,
                    is_session=True,
                    policies=tuple(policies[0]) if policies else (),
                    source_identity=self._source_identities.get(access_key_id),
                    role_arn=str(session.role_arn),
                )
        return None


def _document(statement: Mapping[str, object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
