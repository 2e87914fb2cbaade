"""The old, blocking shape of a provider: one object per question, which knows about whom it is asked.

A class of this shape may block (files, NSS, LDAP): `blocking` makes and asks it on a thread, within the time
that any provider has. New providers that need not block are better off with `provider.Provider`.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from imds_proxy.provider import MACHINES, PEOPLE, ProviderSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# Not an ABC, though methods are marked as abstract: the registry refuses a class that lacks one, in words,
# while a site's tests may go on making objects of half a class.


class BaseProvider:
    """Base of providers of the old shape."""

    settings_model: ClassVar[type[ProviderSettings] | None] = None
    """What checks the settings at start; None: nobody does, and `config` is what YAML makes of them."""
    serves: ClassVar[frozenset[str]] = frozenset({MACHINES, PEOPLE})
    """Whose callers it can tell apart."""

    def __init__(self, user: str, config: Mapping[str, Any], logger: logging.Logger | None = None) -> None:
        """`user` is a person's login name, or the address of a machine as text.

        `config` has the settings without type, module and class. With a `settings_model` it has what the
        model made of them: its fields by key, defaults included, and unchanged what it lets pass.
        """
        self.user = user
        self.config = config
        self.logger = logger or logging.getLogger(type(self).__module__)

    @classmethod
    def wanted_domains(cls, config: Mapping[str, Any]) -> Sequence[str] | None:
        """Return the domains whose host names the class needs, None if it needs no names.

        With domains the caller's names are confirmed in DNS before the class is asked, once for each name,
        which the object then has as `client_fqdn`. All answers must be the same.
        """
        del config
        return None

    def get_login_names(self) -> Iterable[str]:
        """Return all login names by which this class knows the user, for `deny`: its own spellings.

        Asked only where login names are denied. Errors as in `get_accounts_and_roles`.
        """
        return (self.user,)

    @abstractmethod
    def get_accounts_and_roles(self) -> Mapping[str, Iterable[tuple[str, str]]] | None:
        """Return {account: {(role, reason), ...}, ...}; empty or None is a no.

        May raise Refusal, or the builtin PermissionError, to say no with a reason. Any other exception is
        trouble, never a yes.
        """
        raise NotImplementedError
