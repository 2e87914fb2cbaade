"""People in an LDAP directory: who somebody is, which groups they are in, whether a password is theirs.

Everything here blocks, and belongs on a thread. `settings` says which directory; `groups.groups_of` and
`verify.verify` ask it. python-ldap, an extra, is imported when the first connection is opened.
"""
