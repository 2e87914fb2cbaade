"""The edge: from an accepted socket to one whole request, and the usual requests answered on the spot.

It admits before it parses, keeps budgets of bytes and time, and hands what is not of the strict form to
aiohttp. `conversation` is the place to begin reading.
"""
