"""What a host needs around the daemon, made from its configuration: units, addresses, a firewall."""
