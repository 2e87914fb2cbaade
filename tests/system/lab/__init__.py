"""The laboratory of the system tests: network namespaces, a real name server, gateways, machines."""
