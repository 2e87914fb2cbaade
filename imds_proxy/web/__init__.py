"""The aiohttp shell: guards, the metadata service, documents, the status pages."""
