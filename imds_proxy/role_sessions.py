"""From a grant to the role session that STS is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imds_proxy import naming
from imds_proxy.errors import Refusal
from imds_proxy.model import RoleSession

if TYPE_CHECKING:
    from imds_proxy.model import Account, Grant, IPAddress

_LONGEST_TAG_VALUE = 256


@dataclass(frozen=True, slots=True)
class RoleSessions:
    """What all role sessions of one configuration have in common."""

    signer: str
    endpoint: str
    partition: str
    duration: int
    """Seconds."""
    is_shared: bool
    """One session per grant, named after the gateway, instead of one per machine."""
    gateway: str
    """The gateway's host name."""

    def session_for(
        self, grant: Grant, account: Account, names: tuple[str, ...], address: IPAddress
    ) -> RoleSession:
        """Return the session in which the caller at `address` with these confirmed names gets the grant.

        Named after the first confirmed name, so that CloudTrail says which machine it was, or after the
        address; after the grant's network, if it has one. Raises Refusal when IAM has no role of that name,
        when a tag would not fit, and when the network is another's.
        """
        caller, origin = names[0] if names else str(address), str(address)
        if grant.network is not None:
            if address not in grant.network:
                raise Refusal(f"the grant is for callers in {grant.network}, {address} is not one")
            caller = origin = str(grant.network)
        name, shown = naming.names_of_machine(caller)
        if self.is_shared:
            name = naming.shared_session_name(self.gateway)
        return self._session(grant, account, session_name=name, caller=shown, address=origin)

    def session_of_person(
        self, grant: Grant, account: Account, user: str, address: IPAddress | None
    ) -> RoleSession:
        """Return the session in which the person who logged in as `user` gets the grant.

        Named after the user, also where machines share sessions: CloudTrail has to say who it was. Raises
        Refusal when IAM has no role of that name, or a tag would not fit.
        """
        name, shown = naming.names_of_person(user)
        origin = "local" if address is None else str(address)
        session = self._session(grant, account, session_name=name, caller=shown, address=origin)
        return replace(session, is_person=True)

    def session_of_address(
        self, grant: Grant, account: Account, user: str, address: IPAddress
    ) -> RoleSession:
        """Return the session in which the library's user gets the grant that is a machine's address.

        Raises Refusal as the others do.
        """
        session = self._session(
            grant, account, session_name=naming.session_name(user), caller=user, address=str(address)
        )
        return replace(session, is_person=True)

    def _session(
        self, grant: Grant, account: Account, *, session_name: str, caller: str, address: str
    ) -> RoleSession:
        if not naming.is_role_name(grant.role):
            raise Refusal(f"{grant.role!r} is no role name that IAM would accept")
        return RoleSession(
            signer=self.signer,
            partition=self.partition,
            endpoint=self.endpoint,
            account_id=account.id,
            role_arn=naming.role_arn(self.partition, account.id, account.path, grant.role),
            session_name=session_name,
            duration=self.duration,
            tags=tuple((key, _fill_in(value, caller, address)) for key, value in account.session_tags),
            policy=account.policy,
            external_id=account.external_id,
            source_identity=session_name if account.has_source_identity else None,
        )


def _fill_in(value: str, name: str, address: str) -> str:
    filled = value.replace("{name}", name).replace("{address}", address)
    if len(filled) > _LONGEST_TAG_VALUE:
        raise Refusal(f"a session tag of {len(filled)} characters, {_LONGEST_TAG_VALUE} at most")
    return filled
