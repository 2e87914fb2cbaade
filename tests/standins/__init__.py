"""What stands in for the world around the daemon: AWS, name servers, processes, clients."""
